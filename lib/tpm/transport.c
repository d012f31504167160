#include "tpm/transport.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"
#include "tpm/swtpm.h"
#include "tpm/tpm.h"

#include <time.h>
#include <tss2/tss2_tctildr.h>

constexpr uint64_t TRANSPORT_MAGIC = 0x504f535445524e31; /* "POSTERN1" */
constexpr size_t HEADER_SIZE = 10;                       /* tag, size, code: Part 1, 18.2 */
constexpr uint64_t PAUSE_MAX_MS = 50; /* between repetitions: a self-test takes many of these */

static struct transport *transport_of(TSS2_TCTI_CONTEXT *context)
{
    return (struct transport *)(void *)context;
}

/* Milliseconds that are left, as a TCTI timeout; 0 when the deadline has come. */
static int32_t time_left(const struct transport *transport)
{
    uint64_t now = clock_boot_ms();
    uint64_t left = transport->deadline_ms > now ? transport->deadline_ms - now : 0;
    return left > INT32_MAX ? INT32_MAX : (int32_t)left;
}

static void forget(struct transport *transport)
{
    mem_wipe(transport->command, transport->command_len);
    mem_wipe(transport->response, transport->response_len);
    transport->command_len = 0;
    transport->response_len = 0;
}

static TSS2_RC give_up(struct transport *transport, enum transport_state state, TSS2_RC rc)
{
    transport->state = state;
    forget(transport);
    return rc;
}

static TSS2_RC send_command(struct transport *transport)
{
    if (time_left(transport) == 0)
        return give_up(transport, TRANSPORT_LATE, TSS2_TCTI_RC_NO_CONNECTION);
    TSS2_RC rc = Tss2_Tcti_Transmit(transport->inner, transport->command_len, transport->command);
    return rc == TSS2_RC_SUCCESS ? rc : give_up(transport, TRANSPORT_LOST, rc);
}

static TSS2_RC transport_transmit(TSS2_TCTI_CONTEXT *context, size_t size, const uint8_t *command)
{
    struct transport *transport = transport_of(context);
    if (transport->state != TRANSPORT_OK)
        return TSS2_TCTI_RC_NO_CONNECTION;
    if (size < HEADER_SIZE || size > sizeof transport->command)
        return TSS2_TCTI_RC_BAD_VALUE;
    mem_copy(transport->command, command, size);
    transport->command_len = size;
    return send_command(transport);
}

static bool wants_repetition(struct slice response)
{
    struct reader r = reader(response);
    (void)reader_u16(&r);
    (void)reader_u32(&r);
    uint32_t code = reader_u32(&r);
    return reader_ok(&r) &&
           (code == TPM2_RC_RETRY || code == TPM2_RC_YIELDED || code == TPM2_RC_TESTING);
}

static void pause_ms(uint64_t ms)
{
    struct timespec span = {.tv_nsec = (long)ms * 1000000};
    nanosleep(&span, nullptr);
}

/* One answer to the command that was sent, whatever it says. */
static TSS2_RC receive_once(struct transport *transport)
{
    int32_t left = time_left(transport);
    if (left == 0)
        return give_up(transport, TRANSPORT_LATE, TSS2_TCTI_RC_NO_CONNECTION);
    size_t size = sizeof transport->response;
    TSS2_RC rc = Tss2_Tcti_Receive(transport->inner, &size, transport->response, left);
    if (rc == TSS2_RC_SUCCESS) {
        transport->response_len = size;
        return rc;
    }
    /* TCTIs name their own timeout in different ways; our clock tells it from a broken link. And
     * ESYS would take TRY_AGAIN for an invitation to ask for ever. */
    enum transport_state state = time_left(transport) == 0 ? TRANSPORT_LATE : TRANSPORT_LOST;
    return give_up(transport, state, TSS2_TCTI_RC_NO_CONNECTION);
}

/* The answer that is not "try again". */
static TSS2_RC receive_answer(struct transport *transport)
{
    uint64_t pause = 1;
    for (unsigned repeats = 0;; repeats++) {
        TSS2_RC rc = receive_once(transport);
        if (rc != TSS2_RC_SUCCESS)
            return rc;
        if (!wants_repetition(slice(transport->response, transport->response_len))) {
            mem_wipe(transport->command, transport->command_len);
            transport->command_len = 0;
            return TSS2_RC_SUCCESS;
        }
        if (repeats == TPM_RETRIES_MAX)
            return give_up(transport, TRANSPORT_RETRYING, TSS2_TCTI_RC_NO_CONNECTION);
        pause_ms(pause);
        pause = pause * 2 < PAUSE_MAX_MS ? pause * 2 : PAUSE_MAX_MS;
        transport->response_len = 0;
        rc = send_command(transport);
        if (rc != TSS2_RC_SUCCESS)
            return rc;
    }
}

/* ESYS first asks for the size, with a NULL buffer, then for the bytes. */
static TSS2_RC transport_receive(TSS2_TCTI_CONTEXT *context, size_t *size, uint8_t *response,
                                 [[maybe_unused]] int32_t timeout)
{
    struct transport *transport = transport_of(context);
    if (transport->state != TRANSPORT_OK)
        return TSS2_TCTI_RC_NO_CONNECTION;
    if (transport->response_len == 0) {
        if (transport->command_len == 0)
            return TSS2_TCTI_RC_BAD_SEQUENCE;
        TSS2_RC rc = receive_answer(transport);
        if (rc != TSS2_RC_SUCCESS)
            return rc;
    }
    size_t room = *size;
    *size = transport->response_len;
    if (response == nullptr)
        return TSS2_RC_SUCCESS;
    if (room < transport->response_len)
        return TSS2_TCTI_RC_INSUFFICIENT_BUFFER;
    mem_copy(response, transport->response, transport->response_len);
    mem_wipe(transport->response, transport->response_len);
    transport->response_len = 0;
    return TSS2_RC_SUCCESS;
}

static TSS2_RC transport_cancel([[maybe_unused]] TSS2_TCTI_CONTEXT *context)
{
    return TSS2_TCTI_RC_NOT_IMPLEMENTED;
}

static TSS2_RC transport_poll_handles([[maybe_unused]] TSS2_TCTI_CONTEXT *context,
                                      [[maybe_unused]] TSS2_TCTI_POLL_HANDLE *handles,
                                      [[maybe_unused]] size_t *count)
{
    return TSS2_TCTI_RC_NOT_IMPLEMENTED;
}

static TSS2_RC transport_locality([[maybe_unused]] TSS2_TCTI_CONTEXT *context,
                                  [[maybe_unused]] uint8_t locality)
{
    return TSS2_TCTI_RC_NOT_IMPLEMENTED;
}

const char *transport_swtpm_path(const char *conf)
{
    static const char start[] = "swtpm:path=";
    return strncmp(conf, start, sizeof start - 1) == 0 ? conf + sizeof start - 1 : nullptr;
}

TSS2_RC transport_open(struct transport *transport, const char *conf, uint64_t deadline_ms)
{
    *transport = (struct transport){.deadline_ms = deadline_ms};
    transport->common.v1.magic = TRANSPORT_MAGIC;
    transport->common.v1.version = 2;
    transport->common.v1.transmit = transport_transmit;
    transport->common.v1.receive = transport_receive;
    transport->common.v1.cancel = transport_cancel;
    transport->common.v1.getPollHandles = transport_poll_handles;
    transport->common.v1.setLocality = transport_locality;
    const char *path = transport_swtpm_path(conf);
    transport->is_swtpm = path != nullptr;
    return path != nullptr ? swtpm_connect(path, &transport->inner)
                           : Tss2_TctiLdr_Initialize(conf, &transport->inner);
}

void transport_disconnect(struct transport *transport)
{
    if (transport->is_swtpm)
        swtpm_close(transport->inner);
    else if (transport->inner != nullptr)
        Tss2_TctiLdr_Finalize(&transport->inner);
    transport->inner = nullptr;
    forget(transport);
}
