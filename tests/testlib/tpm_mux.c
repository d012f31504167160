#include "testlib/tpm_mux.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"
#include "testlib/swtpm.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

constexpr size_t COMMAND_MAX = 4096;
constexpr size_t QUEUE_MAX = 32;
constexpr size_t FAULTS_MAX = 8;
constexpr size_t RECORDS_MAX = 1024;
constexpr size_t WATCHED_MAX = 64;
constexpr uint32_t CUT = UINT32_MAX;

struct client {
    int fd;
    pid_t pid;
};

struct fault {
    struct tpm_mux_fault what;
    unsigned seen;
};

struct tpm_mux {
    char path[SWTPM_PATH_MAX];
    char swtpm[SWTPM_PATH_MAX];
    uint64_t hold_ms;
    FILE *record_to;
    int listener, control, stop;

    struct client queue[QUEUE_MAX]; /* in order of arrival */
    size_t waiting;
    int speaking;         /* the connection that is served until it closes; 0: none */
    pid_t owner;          /* 0: none */
    uint64_t owner_until; /* clock_boot_ms; meaningful while the owner has no connection */

    pthread_t thread;
    bool started;

    pthread_mutex_t lock; /* of what follows */
    struct fault fault[FAULTS_MAX];
    size_t faults;
    struct tpm_mux_record record[RECORDS_MAX];
    unsigned records; /* all, kept or not */
    uint8_t watched[WATCHED_MAX];
    size_t watched_len;
    unsigned seen;
};

static const struct {
    const char *name;
    uint32_t code;
} command_names[] = {
    {"NV_UndefineSpace", 0x122},
    {"NV_DefineSpace", 0x12a},
    {"CreatePrimary", 0x131},
    {"NV_Increment", 0x134},
    {"PCR_Extend", 0x182},
    {"Shutdown", 0x145},
    {"Certify", 0x148},
    {"PolicyNV", 0x149},
    {"NV_Read", 0x14e},
    {"PolicySecret", 0x151},
    {"ActivateCredential", 0x147},
    {"Import", 0x156},
    {"Load", 0x157},
    {"Quote", 0x158},
    {"Sign", 0x15d},
    {"Unseal", 0x15e},
    {"FlushContext", 0x165},
    {"NV_ReadPublic", 0x169},
    {"PolicyCommandCode", 0x16c},
    {"ReadPublic", 0x173},
    {"StartAuthSession", 0x176},
    {"GetCapability", 0x17a},
    {"PCR_Read", 0x17e},
    {"PolicyPCR", 0x17f},
    {"ReadClock", 0x181},
    {"NV_Certify", 0x184},
    {"GetRandom", 0x17b},
};

uint32_t tpm_mux_command_code(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(command_names); i++) {
        if (strcmp(command_names[i].name, name) == 0)
            return command_names[i].code;
    }
    return 0;
}

const char *tpm_mux_command_name(uint32_t command, char room[static 16])
{
    for (size_t i = 0; i < ARRAY_LEN(command_names); i++) {
        if (command_names[i].code == command)
            return command_names[i].name;
    }
    (void)snprintf(room, 16, "0x%x", command);
    return room;
}

/* ── Sockets ─────────────────────────────────────────────────────────────────────────────────── */

static bool address_of(const char *path, const char *suffix, struct sockaddr_un *ret)
{
    *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
    int n = snprintf(ret->sun_path, sizeof ret->sun_path, "%s%s", path, suffix);
    return n > 0 && (size_t)n < sizeof ret->sun_path;
}

static int listen_unix(const char *path, const char *suffix, struct error *err)
{
    struct sockaddr_un address;
    if (!address_of(path, suffix, &address)) {
        (void)error_set(err, ERROR_INVALID, "the path %s is too long", path);
        return -1;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    (void)unlink(address.sun_path);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(fd, QUEUE_MAX) != 0) {
        (void)error_set_errno(err, errno, "listen on %s", address.sun_path);
        if (fd >= 0)
            (void)close(fd);
        return -1;
    }
    return fd;
}

static bool read_whole(int fd, uint8_t *to, size_t len)
{
    for (size_t got = 0; got < len;) {
        ssize_t n = read(fd, to + got, len - got);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        got += (size_t)n;
    }
    return true;
}

static bool write_whole(int fd, const uint8_t *from, size_t len)
{
    for (size_t put = 0; put < len;) {
        ssize_t n = send(fd, from + put, len - put, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        put += (size_t)n;
    }
    return true;
}

/* Header and body of one command; 0 when the client is done or sends rubbish. */
static size_t read_command(int fd, uint8_t to[static COMMAND_MAX])
{
    if (!read_whole(fd, to, 10))
        return 0;
    struct reader r = reader(slice(to + 2, 4));
    size_t size = reader_u32(&r);
    return size >= 10 && size <= COMMAND_MAX && read_whole(fd, to + 10, size - 10) ? size : 0;
}

/* ── Faults and record ───────────────────────────────────────────────────────────────────────── */

bool tpm_mux_inject(struct tpm_mux *mux, const struct tpm_mux_fault *fault, struct error *err)
{
    bool room = false;
    (void)pthread_mutex_lock(&mux->lock);
    if (mux->faults < FAULTS_MAX) {
        mux->fault[mux->faults++] = (struct fault){.what = *fault};
        room = true;
    }
    (void)pthread_mutex_unlock(&mux->lock);
    return room || error_set(err, ERROR_EXHAUSTED, "more than %zu faults", FAULTS_MAX);
}

void tpm_mux_clear(struct tpm_mux *mux)
{
    (void)pthread_mutex_lock(&mux->lock);
    mux->faults = 0;
    mux->records = 0;
    (void)pthread_mutex_unlock(&mux->lock);
}

unsigned tpm_mux_count(struct tpm_mux *mux, uint32_t command)
{
    (void)pthread_mutex_lock(&mux->lock);
    unsigned count = command == 0 ? mux->records : 0;
    for (unsigned i = 0; command != 0 && i < mux->records && i < RECORDS_MAX; i++)
        count += mux->record[i].command == command;
    (void)pthread_mutex_unlock(&mux->lock);
    return count;
}

bool tpm_mux_record(struct tpm_mux *mux, unsigned n, struct tpm_mux_record *ret)
{
    (void)pthread_mutex_lock(&mux->lock);
    bool there = n < mux->records && n < RECORDS_MAX;
    if (there)
        *ret = mux->record[n];
    (void)pthread_mutex_unlock(&mux->lock);
    return there;
}

void tpm_mux_watch(struct tpm_mux *mux, struct slice bytes)
{
    (void)pthread_mutex_lock(&mux->lock);
    mux->watched_len = bytes.len < WATCHED_MAX ? bytes.len : WATCHED_MAX;
    mem_copy(mux->watched, bytes.data, mux->watched_len);
    mux->seen = 0;
    (void)pthread_mutex_unlock(&mux->lock);
}

unsigned tpm_mux_seen(struct tpm_mux *mux)
{
    (void)pthread_mutex_lock(&mux->lock);
    unsigned seen = mux->seen;
    (void)pthread_mutex_unlock(&mux->lock);
    return seen;
}

static void watch(struct tpm_mux *mux, const uint8_t *bytes, size_t len)
{
    (void)pthread_mutex_lock(&mux->lock);
    if (mux->watched_len > 0 && memmem(bytes, len, mux->watched, mux->watched_len) != nullptr)
        mux->seen++;
    (void)pthread_mutex_unlock(&mux->lock);
}

static void record(struct tpm_mux *mux, struct tpm_mux_record what)
{
    (void)pthread_mutex_lock(&mux->lock);
    if (mux->records < RECORDS_MAX)
        mux->record[mux->records] = what;
    mux->records++;
    (void)pthread_mutex_unlock(&mux->lock);
    if (mux->record_to != nullptr) {
        char room[16];
        (void)fprintf(mux->record_to, "%d %s 0x%x%s\n", (int)what.client,
                      tpm_mux_command_name(what.command, room), what.code,
                      what.struck ? " fault" : "");
        (void)fflush(mux->record_to);
    }
}

/* The fault that strikes this command; every fault that it fits counts it. */
static bool fault_for(struct tpm_mux *mux, uint32_t command, struct tpm_mux_fault *ret)
{
    bool struck = false;
    (void)pthread_mutex_lock(&mux->lock);
    for (size_t i = 0; i < mux->faults; i++) {
        struct fault *fault = &mux->fault[i];
        if (fault->what.command != 0 && fault->what.command != command)
            continue;
        unsigned n = fault->seen++;
        if (!struck && n >= fault->what.skip &&
            (fault->what.count == 0 || n - fault->what.skip < fault->what.count)) {
            *ret = fault->what;
            struck = true;
        }
    }
    (void)pthread_mutex_unlock(&mux->lock);
    return struck;
}

/* ── One command ─────────────────────────────────────────────────────────────────────────────── */

static uint32_t response_code(const uint8_t *response)
{
    struct reader r = reader(slice(response + 6, 4));
    return reader_u32(&r);
}

static size_t respond(uint32_t code, uint8_t to[static COMMAND_MAX])
{
    const uint8_t head[] = {0x80, 0x01, 0, 0, 0, 10};
    mem_copy(to, head, sizeof head);
    for (size_t i = 0; i < 4; i++)
        to[6 + i] = (uint8_t)(code >> (24 - 8 * i));
    return 10;
}

static void wait_ms(const struct tpm_mux *mux, uint32_t ms)
{
    struct pollfd stop = {.fd = mux->stop, .events = POLLIN};
    (void)poll(&stop, 1, (int)ms);
}

static void extend(const struct tpm_mux *mux, uint32_t pcr)
{
    struct swtpm tpm = {0};
    mem_copy(tpm.socket, mux->swtpm, sizeof tpm.socket);
    struct error err = {0};
    if (!swtpm_extend(&tpm, pcr, "by somebody else", &err))
        (void)fprintf(stderr, "tpm-mux: %s\n", err.message);
}

/* Serves one command; false when the client's connection is to be closed. */
static bool serve_command(struct tpm_mux *mux, const struct client *client)
{
    uint8_t bytes[COMMAND_MAX];
    uint8_t answer[COMMAND_MAX];
    size_t len = read_command(client->fd, bytes);
    if (len == 0)
        return false;
    watch(mux, bytes, len);
    struct tpm_mux_record what = {.client = client->pid, .command = response_code(bytes)};
    struct tpm_mux_fault fault = {0};
    what.struck = fault_for(mux, what.command, &fault);
    enum tpm_mux_action action = fault.action;
    bool forward = !what.struck || (action != TPM_MUX_RESPOND && action != TPM_MUX_CUT_BEFORE);
    bool cut = what.struck && (action == TPM_MUX_CUT_BEFORE || action == TPM_MUX_CUT_AFTER);
    size_t answer_len = 0;
    if (what.struck && action == TPM_MUX_DELAY)
        wait_ms(mux, fault.value);
    if (what.struck && action == TPM_MUX_EXTEND)
        extend(mux, fault.value);
    if (forward) {
        struct error err = {0};
        if (!swtpm_command(mux->swtpm, bytes, len, answer, sizeof answer, &answer_len, &err)) {
            (void)fprintf(stderr, "tpm-mux: %s\n", err.message);
            cut = true;
        }
    } else if (!cut) {
        answer_len = respond(fault.value, answer);
    }
    if (what.struck && action == TPM_MUX_GARBLE && answer_len > 0)
        answer[answer_len - 1] ^= 1;
    watch(mux, answer, answer_len);
    what.code = cut ? CUT : response_code(answer);
    record(mux, what);
    return !cut && write_whole(client->fd, answer, answer_len);
}

/* ── The queue ───────────────────────────────────────────────────────────────────────────────── */

static void drop(struct tpm_mux *mux, size_t i)
{
    if (mux->queue[i].fd == mux->speaking)
        mux->speaking = 0;
    (void)close(mux->queue[i].fd);
    mux->waiting--;
    mem_move(&mux->queue[i], &mux->queue[i + 1], (mux->waiting - i) * sizeof mux->queue[0]);
}

static void accept_client(struct tpm_mux *mux)
{
    int fd = accept4(mux->listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0)
        return;
    struct ucred peer = {0};
    socklen_t len = sizeof peer;
    if (mux->waiting == QUEUE_MAX || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) != 0) {
        (void)close(fd);
        return;
    }
    mux->queue[mux->waiting++] = (struct client){.fd = fd, .pid = peer.pid};
}

static bool owner_expired(const struct tpm_mux *mux)
{
    if (mux->speaking != 0)
        return false;
    return clock_boot_ms() >= mux->owner_until || (kill(mux->owner, 0) != 0 && errno == ESRCH);
}

static bool may_speak(const struct tpm_mux *mux, const struct client *client)
{
    return mux->speaking != 0 ? client->fd == mux->speaking
                              : mux->owner == 0 || client->pid == mux->owner;
}

/* Serves those who may speak now: the owner, or, with none, who came first. */
static void serve_queue(struct tpm_mux *mux)
{
    if (mux->owner != 0 && owner_expired(mux))
        mux->owner = 0;
    for (size_t i = 0; i < mux->waiting;) {
        struct pollfd in = {.fd = mux->queue[i].fd, .events = POLLIN};
        if (!may_speak(mux, &mux->queue[i]) || poll(&in, 1, 0) != 1) {
            i++;
            continue;
        }
        pid_t pid = mux->queue[i].pid;
        if (serve_command(mux, &mux->queue[i])) {
            mux->speaking = mux->queue[i].fd;
            mux->owner = pid;
            mux->owner_until = clock_boot_ms() + mux->hold_ms;
            i++;
        } else {
            drop(mux, i);
            mux->owner_until = clock_boot_ms() + mux->hold_ms;
        }
    }
}

/* The control channel is bytes to and fro; a command there is short and answered at once. */
static void serve_control(struct tpm_mux *mux)
{
    int fd = accept4(mux->control, nullptr, nullptr, SOCK_CLOEXEC);
    struct sockaddr_un address;
    int up = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && up >= 0 && address_of(mux->swtpm, ".ctrl", &address) &&
        connect(up, (struct sockaddr *)&address, sizeof address) == 0) {
        struct pollfd both[] = {{.fd = fd, .events = POLLIN}, {.fd = up, .events = POLLIN}};
        for (bool open = true; open && poll(both, 2, 2000) > 0;) {
            for (size_t i = 0; i < 2 && open; i++) {
                uint8_t bytes[COMMAND_MAX];
                if (both[i].revents == 0)
                    continue;
                ssize_t n = read(both[i].fd, bytes, sizeof bytes);
                open = n > 0 && write_whole(both[1 - i].fd, bytes, (size_t)n);
            }
        }
    }
    if (fd >= 0)
        (void)close(fd);
    if (up >= 0)
        (void)close(up);
}

void tpm_mux_serve(struct tpm_mux *mux)
{
    for (;;) {
        struct pollfd fds[3 + QUEUE_MAX] = {{.fd = mux->stop, .events = POLLIN},
                                            {.fd = mux->listener, .events = POLLIN},
                                            {.fd = mux->control, .events = POLLIN}};
        nfds_t count = 3;
        /* Those who must wait are looked at when the owner's time is over. */
        for (size_t i = 0; i < mux->waiting; i++) {
            if (may_speak(mux, &mux->queue[i]))
                fds[count++] = (struct pollfd){.fd = mux->queue[i].fd, .events = POLLIN};
        }
        int timeout = mux->owner != 0 && mux->waiting > 0 ? 5 : 200;
        (void)poll(fds, count, timeout);
        if (fds[0].revents != 0)
            return;
        if (fds[1].revents != 0)
            accept_client(mux);
        if (fds[2].revents != 0)
            serve_control(mux);
        serve_queue(mux);
    }
}

/* ── Life ────────────────────────────────────────────────────────────────────────────────────── */

bool tpm_mux_new(const char *path, const char *swtpm, uint64_t hold_ms, FILE *record_to,
                 struct tpm_mux **ret, struct error *err)
{
    if (strlen(path) >= SWTPM_PATH_MAX || strlen(swtpm) >= SWTPM_PATH_MAX)
        return error_set(err, ERROR_INVALID, "paths of at most %zu characters, please",
                         SWTPM_PATH_MAX - 1);
    struct tpm_mux *mux = mem_new(1, sizeof *mux);
    if (mux == nullptr)
        return error_set_memory(err);
    mem_copy(mux->path, path, strlen(path) + 1);
    mem_copy(mux->swtpm, swtpm, strlen(swtpm) + 1);
    mux->hold_ms = hold_ms;
    mux->record_to = record_to;
    mux->control = -1;
    (void)pthread_mutex_init(&mux->lock, nullptr);
    mux->stop = eventfd(0, EFD_CLOEXEC);
    mux->listener = listen_unix(path, "", err);
    if (mux->listener >= 0)
        mux->control = listen_unix(path, ".ctrl", err);
    if (mux->control < 0) {
        (void)tpm_mux_free(mux);
        return false;
    }
    *ret = mux;
    return true;
}

struct tpm_mux *tpm_mux_free(struct tpm_mux *mux)
{
    if (mux == nullptr)
        return nullptr;
    while (mux->waiting > 0)
        drop(mux, 0);
    const int fds[] = {mux->listener, mux->control, mux->stop};
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        if (fds[i] >= 0)
            (void)close(fds[i]);
    }
    static const char *const suffixes[] = {"", ".ctrl"};
    for (size_t i = 0; i < ARRAY_LEN(suffixes); i++) {
        struct sockaddr_un address;
        if (address_of(mux->path, suffixes[i], &address))
            (void)unlink(address.sun_path);
    }
    (void)pthread_mutex_destroy(&mux->lock);
    return mem_free(mux);
}

void tpm_mux_stop(struct tpm_mux *mux)
{
    const uint64_t one = 1;
    (void)!write(mux->stop, &one, sizeof one);
}

static void *serve_thread(void *arg)
{
    tpm_mux_serve(arg);
    return nullptr;
}

bool tpm_mux_start(struct tpm_mux *mux, struct error *err)
{
    int number = pthread_create(&mux->thread, nullptr, serve_thread, mux);
    if (number != 0)
        return error_set_errno(err, number, "start the multiplexer's thread");
    mux->started = true;
    return true;
}

void tpm_mux_join(struct tpm_mux *mux)
{
    if (!mux->started)
        return;
    tpm_mux_stop(mux);
    (void)pthread_join(mux->thread, nullptr);
    mux->started = false;
}
