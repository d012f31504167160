#include "tpm/swtpm.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <tss2/tss2_tpm2_types.h>
#include <unistd.h>

constexpr uint64_t SWTPM_MAGIC = 0x504f53545357544d; /* "POSTSWTM" */
constexpr size_t HEADER_SIZE = 10;

struct swtpm_context {
    TSS2_TCTI_CONTEXT_COMMON_V2 common; /* first: callers hold a pointer to it */
    int fd;
};

static struct swtpm_context *context_of(TSS2_TCTI_CONTEXT *context)
{
    return (struct swtpm_context *)(void *)context;
}

/* A command fits the socket's buffer, and there is one under way at a time: no waiting. */
static TSS2_RC swtpm_transmit(TSS2_TCTI_CONTEXT *context, size_t size, const uint8_t *command)
{
    ssize_t sent = 0;
    do {
        sent = send(context_of(context)->fd, command, size, MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return sent == (ssize_t)size ? TSS2_RC_SUCCESS : TSS2_TCTI_RC_IO_ERROR;
}

/* Reads `len` bytes by `deadline_ms`. */
static TSS2_RC read_whole(int fd, uint8_t *to, size_t len, uint64_t deadline_ms)
{
    for (size_t got = 0; got < len;) {
        uint64_t now = clock_boot_ms();
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        if (now >= deadline_ms || poll(&wait, 1, (int)(deadline_ms - now)) == 0)
            return TSS2_TCTI_RC_NO_CONNECTION;
        ssize_t n = recv(fd, to + got, len - got, 0);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n <= 0)
            return TSS2_TCTI_RC_IO_ERROR;
        got += (size_t)n;
    }
    return TSS2_RC_SUCCESS;
}

/* `timeout` is in milliseconds and not negative: transport.c is the only caller. */
static TSS2_RC swtpm_receive(TSS2_TCTI_CONTEXT *context, size_t *size, uint8_t *response,
                             int32_t timeout)
{
    int fd = context_of(context)->fd;
    uint64_t deadline_ms = clock_boot_ms() + (uint64_t)timeout;
    if (*size < HEADER_SIZE)
        return TSS2_TCTI_RC_INSUFFICIENT_BUFFER;
    TSS2_RC rc = read_whole(fd, response, HEADER_SIZE, deadline_ms);
    if (rc != TSS2_RC_SUCCESS)
        return rc;
    struct reader r = reader(slice(response + 2, 4));
    size_t whole = reader_u32(&r);
    if (whole < HEADER_SIZE || whole > *size)
        return TSS2_TCTI_RC_MALFORMED_RESPONSE;
    *size = whole;
    return read_whole(fd, response + HEADER_SIZE, whole - HEADER_SIZE, deadline_ms);
}

TSS2_RC swtpm_connect(const char *path, TSS2_TCTI_CONTEXT **ret)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t len = strlen(path);
    if (len >= sizeof address.sun_path)
        return TSS2_TCTI_RC_BAD_VALUE;
    mem_copy(address.sun_path, path, len + 1);
    struct swtpm_context *context = mem_new(1, sizeof *context);
    if (context == nullptr)
        return TSS2_TCTI_RC_MEMORY;
    context->common.v1.version = 2;
    context->common.v1.magic = SWTPM_MAGIC;
    context->common.v1.transmit = swtpm_transmit;
    context->common.v1.receive = swtpm_receive;
    /* Not blocking, so that a full queue is refused at once instead of after who knows how long. */
    context->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (context->fd < 0 || connect(context->fd, (struct sockaddr *)&address, sizeof address) != 0) {
        swtpm_close((TSS2_TCTI_CONTEXT *)(void *)context);
        return TSS2_TCTI_RC_NO_CONNECTION;
    }
    *ret = (TSS2_TCTI_CONTEXT *)(void *)context;
    return TSS2_RC_SUCCESS;
}

void swtpm_close(TSS2_TCTI_CONTEXT *context)
{
    struct swtpm_context *mine = context_of(context);
    if (mine == nullptr)
        return;
    if (mine->fd >= 0)
        (void)close(mine->fd);
    mem_free(mine);
}
