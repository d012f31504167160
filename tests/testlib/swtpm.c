#include "testlib/swtpm.h"

#include "base/buf.h"
#include "base/file.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

constexpr int ANSWER_MS = 10000;
constexpr unsigned START_TRIES = 500; /* of 10 ms */
constexpr size_t ANSWER_MAX = 4096;
constexpr size_t STATE_MAX = 1 << 20;

/* ── Processes ───────────────────────────────────────────────────────────────────────────────── */

/* Starts a program with its output in `log`; it gets SIGKILL when the thread that started it
 * ends, so that no test leaves a TPM running. */
static pid_t spawn(const char *const argv[], const char *log, const char *config_home)
{
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    int out = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    int in = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (out < 0 || in < 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0 ||
        prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent)
        _exit(126);
    /* Whatever configuration the machine has for swtpm is not ours. */
    if (config_home != nullptr)
        (void)setenv("XDG_CONFIG_HOME", config_home, 1);
    /* swtpm serves until it is told to stop; nothing of the test's may be held open by it. */
    (void)close_range(3, ~0u, 0);
    execvp(argv[0], (char *const *)argv);
    _exit(127);
}

static bool run(const char *const argv[], const char *log, const char *config_home,
                struct error *err)
{
    pid_t pid = spawn(argv, log, config_home);
    int status = 0;
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return error_set_errno(err, errno, "run %s", argv[0]);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return error_set(err, ERROR_INTERNAL, "%s ended with status 0x%x: see %s", argv[0],
                         (unsigned)status, log);
    return true;
}

/* ── Commands ────────────────────────────────────────────────────────────────────────────────── */

static int connect_unix(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path)
        return -1;
    mem_copy(address.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        (void)close(fd);
        fd = -1;
    }
    return fd;
}

static bool receive(int fd, uint8_t *to, size_t len)
{
    for (size_t got = 0; got < len;) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        if (poll(&wait, 1, ANSWER_MS) != 1)
            return false;
        ssize_t n = read(fd, to + got, len - got);
        if (n <= 0)
            return false;
        got += (size_t)n;
    }
    return true;
}

bool swtpm_command(const char *socket_path, const uint8_t *command, size_t len, uint8_t *ret,
                   size_t room, size_t *ret_len, struct error *err)
{
    int fd = connect_unix(socket_path);
    if (fd < 0)
        return error_set_errno(err, errno, "connect to the TPM at %s", socket_path);
    size_t size = 0;
    bool ok = write(fd, command, len) == (ssize_t)len && room >= 10 && receive(fd, ret, 10);
    if (ok) {
        struct reader r = reader(slice(ret + 2, 4));
        size = reader_u32(&r);
        ok = size >= 10 && size <= room && receive(fd, ret + 10, size - 10);
    }
    (void)close(fd);
    if (!ok)
        return error_set(err, ERROR_UNAVAILABLE, "the TPM at %s gave no whole answer", socket_path);
    *ret_len = size;
    return true;
}

/* Sends tag ‖ size ‖ code ‖ body; gives what follows the response's header. */
static bool command(const struct swtpm *tpm, uint16_t tag, uint32_t code, struct slice body,
                    uint8_t answer[static ANSWER_MAX], struct slice *ret, struct error *err)
{
    CLEANUP(buf_done) struct buf bytes;
    buf_init(&bytes, ANSWER_MAX);
    buf_put_u16(&bytes, tag);
    buf_put_u32(&bytes, (uint32_t)(10 + body.len));
    buf_put_u32(&bytes, code);
    buf_put(&bytes, body);
    size_t len = 0;
    if (!buf_ok(&bytes, err) ||
        !swtpm_command(tpm->socket, bytes.data, bytes.len, answer, ANSWER_MAX, &len, err))
        return false;
    struct reader r = reader(slice(answer, len));
    (void)reader_u16(&r);
    (void)reader_u32(&r);
    uint32_t rc = reader_u32(&r);
    if (rc != 0)
        return error_set_native(err, ERROR_INTERNAL, ERROR_DOMAIN_TPM, rc, nullptr,
                                "TPM command 0x%x: 0x%x", code, rc);
    *ret = r.rest;
    return true;
}

bool swtpm_extend(const struct swtpm *tpm, unsigned pcr, const char *text, struct error *err)
{
    static const struct {
        uint16_t alg;
        const char *name;
    } banks[] = {{0x000b, "SHA256"}, {0x000c, "SHA384"}};
    CLEANUP(buf_done) struct buf body;
    buf_init(&body, 256);
    buf_put_u32(&body, pcr);
    buf_put_u32(&body, 9); /* the authorization area: an empty password */
    buf_put_u32(&body, 0x40000009);
    buf_put_u16(&body, 0);
    buf_put_u8(&body, 0);
    buf_put_u16(&body, 0);
    buf_put_u32(&body, ARRAY_LEN(banks));
    for (size_t i = 0; i < ARRAY_LEN(banks); i++) {
        uint8_t digest[EVP_MAX_MD_SIZE];
        size_t len = 0;
        if (EVP_Q_digest(nullptr, banks[i].name, nullptr, text, strlen(text), digest, &len) != 1)
            return error_set_openssl(err, ERROR_INTERNAL, "hash");
        buf_put_u16(&body, banks[i].alg);
        buf_put(&body, slice(digest, len));
    }
    uint8_t answer[ANSWER_MAX];
    struct slice rest = {0};
    return command(tpm, 0x8002, 0x182, buf_slice(&body), answer, &rest, err);
}

bool swtpm_extend_boot(const struct swtpm *tpm, struct error *err)
{
    for (unsigned pcr = 0; pcr <= 9; pcr++) {
        char text[32];
        (void)snprintf(text, sizeof text, "boot state of PCR %u", pcr);
        if (!swtpm_extend(tpm, pcr, text, err))
            return false;
    }
    return true;
}

/* How many handles of a kind there are: TPM2_GetCapability(TPM_CAP_HANDLES). */
static bool count_handles(const struct swtpm *tpm, uint32_t first, unsigned *ret, struct error *err)
{
    CLEANUP(buf_done) struct buf body;
    buf_init(&body, 16);
    buf_put_u32(&body, 1);
    buf_put_u32(&body, first);
    buf_put_u32(&body, 64);
    uint8_t answer[ANSWER_MAX];
    struct slice rest = {0};
    if (!command(tpm, 0x8001, 0x17a, buf_slice(&body), answer, &rest, err))
        return false;
    struct reader r = reader(rest);
    (void)reader_u8(&r);
    (void)reader_u32(&r);
    *ret = reader_u32(&r);
    return reader_ok(&r) || error_set(err, ERROR_INTERNAL, "short answer to GetCapability");
}

bool swtpm_loaded(const struct swtpm *tpm, struct swtpm_loaded *ret, struct error *err)
{
    unsigned saved = 0;
    if (!count_handles(tpm, 0x80000000, &ret->objects, err) ||
        !count_handles(tpm, 0x02000000, &ret->sessions, err) ||
        !count_handles(tpm, 0x03000000, &saved, err))
        return false;
    ret->sessions += saved;
    return true;
}

/* ── Life ────────────────────────────────────────────────────────────────────────────────────── */

static bool place(const char *folder, struct swtpm *ret, struct error *err)
{
    *ret = (struct swtpm){0};
    if (folder[0] != '/' || strlen(folder) + sizeof "/tpm" > SWTPM_PATH_MAX - sizeof ".ctrl")
        return error_set(err, ERROR_INVALID, "no place for a TPM: \"%s\"", folder);
    (void)snprintf(ret->folder, sizeof ret->folder, "%s", folder);
    (void)snprintf(ret->socket, sizeof ret->socket, "%.80s/tpm", folder);
    (void)snprintf(ret->tcti, sizeof ret->tcti, "swtpm:path=%s", ret->socket);
    (void)snprintf(ret->root_pem, sizeof ret->root_pem, "%s/ca/swtpm-localca-rootca-cert.pem",
                   folder);
    return true;
}

static bool write_text(const char *folder, const char *name, const char *text, struct error *err)
{
    char path[SWTPM_PATH_MAX + 64];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    return file_write_atomic(path, slice_str(text), 0600, err);
}

static bool write_configuration(const char *folder, struct error *err)
{
    char text[1024];
    (void)snprintf(text, sizeof text,
                   "statedir = %s/ca\nsigningkey = %s/ca/signkey.pem\n"
                   "issuercert = %s/ca/issuercert.pem\ncertserial = %s/ca/certserial\n",
                   folder, folder, folder, folder);
    if (!write_text(folder, "localca.conf", text, err) ||
        !write_text(folder, "localca.options",
                    "--platform-manufacturer Postern\n--platform-version 1\n"
                    "--platform-model test\n",
                    err))
        return false;
    (void)snprintf(text, sizeof text,
                   "create_certs_tool = swtpm_localca\ncreate_certs_tool_config = "
                   "%s/localca.conf\ncreate_certs_tool_options = %s/localca.options\n",
                   folder, folder);
    return write_text(folder, "setup.conf", text, err);
}

bool swtpm_make(const char *folder, struct swtpm *ret, struct error *err)
{
    struct swtpm tpm;
    char state[SWTPM_PATH_MAX + 16];
    char ca[SWTPM_PATH_MAX + 16];
    char log[SWTPM_PATH_MAX + 16];
    char conf[SWTPM_PATH_MAX + 16];
    if (!place(folder, &tpm, err))
        return false;
    (void)snprintf(state, sizeof state, "%s/state", folder);
    (void)snprintf(ca, sizeof ca, "%s/ca", folder);
    (void)snprintf(log, sizeof log, "%s/swtpm.log", folder);
    (void)snprintf(conf, sizeof conf, "%s/setup.conf", folder);
    const char *const argv[] = {"swtpm_setup",      "--tpm2",       "--tpm-state", state,
                                "--create-ek-cert", "--lock-nvram", "--pcr-banks", "sha256,sha384",
                                "--config",         conf,           nullptr};
    if (!folder_make(state, 0700, err) || !folder_make(ca, 0700, err) ||
        !write_configuration(folder, err) || !run(argv, log, folder, err))
        return false;
    *ret = tpm;
    return true;
}

bool swtpm_copy(const struct swtpm *from, const char *folder, struct swtpm *ret, struct error *err)
{
    static const char *const files[] = {"state/tpm2-00.permall", "ca/swtpm-localca-rootca-cert.pem",
                                        "ca/issuercert.pem"};
    struct swtpm tpm;
    char path[SWTPM_PATH_MAX + 64];
    if (!place(folder, &tpm, err))
        return false;
    static const char *const folders[] = {"state", "ca"};
    for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
        (void)snprintf(path, sizeof path, "%s/%s", folder, folders[i]);
        if (!folder_make(path, 0700, err))
            return false;
    }
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        CLEANUP(buf_done) struct buf bytes;
        buf_init(&bytes, STATE_MAX);
        (void)snprintf(path, sizeof path, "%s/%s", from->folder, files[i]);
        if (!file_read(path, &bytes, err))
            return false;
        (void)snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        if (!file_write_atomic(path, buf_slice(&bytes), 0600, err))
            return false;
    }
    *ret = tpm;
    return true;
}

/* Ready when it answers a harmless command (TPM2_GetCapability by count_handles). */
static bool wait_until_it_answers(struct swtpm *tpm, struct error *err)
{
    for (unsigned i = 0; i < START_TRIES; i++) {
        struct swtpm_loaded loaded;
        if (swtpm_loaded(tpm, &loaded, err))
            return true;
        int status = 0;
        if (waitpid(tpm->pid, &status, WNOHANG) == tpm->pid) {
            tpm->pid = 0;
            return error_set(err, ERROR_INTERNAL, "swtpm ended with status 0x%x: see %s/swtpm.log",
                             (unsigned)status, tpm->folder);
        }
        struct timespec pause = {.tv_nsec = 10000000};
        nanosleep(&pause, nullptr);
    }
    return false;
}

bool swtpm_start(struct swtpm *tpm, struct error *err)
{
    char state[SWTPM_PATH_MAX + 16];
    char server[SWTPM_PATH_MAX + 32];
    char control[SWTPM_PATH_MAX + 32];
    char log[SWTPM_PATH_MAX + 16];
    (void)snprintf(state, sizeof state, "dir=%s/state", tpm->folder);
    (void)snprintf(server, sizeof server, "type=unixio,path=%s", tpm->socket);
    (void)snprintf(control, sizeof control, "type=unixio,path=%s.ctrl", tpm->socket);
    (void)snprintf(log, sizeof log, "%s/swtpm.log", tpm->folder);
    const char *const argv[] = {"swtpm",
                                "socket",
                                "--tpm2",
                                "--tpmstate",
                                state,
                                "--server",
                                server,
                                "--ctrl",
                                control,
                                "--flags",
                                "not-need-init,startup-clear",
                                nullptr};
    pid_t pid = spawn(argv, log, nullptr);
    if (pid < 0)
        return error_set_errno(err, errno, "start swtpm");
    tpm->pid = pid;
    if (wait_until_it_answers(tpm, err))
        return true;
    swtpm_kill(tpm);
    return false;
}

bool swtpm_stop(struct swtpm *tpm, bool orderly, struct error *err)
{
    uint8_t answer[ANSWER_MAX];
    struct slice rest = {0};
    static const uint8_t clear[] = {0, 0};
    if (orderly && !command(tpm, 0x8001, 0x145, SLICE_OF(clear), answer, &rest, err))
        return false;
    swtpm_kill(tpm);
    return true;
}

void swtpm_kill(struct swtpm *tpm)
{
    if (tpm->pid <= 0)
        return;
    (void)kill(tpm->pid, SIGKILL);
    (void)waitpid(tpm->pid, nullptr, 0);
    tpm->pid = 0;
    (void)unlink(tpm->socket);
    char control[SWTPM_PATH_MAX + 16];
    (void)snprintf(control, sizeof control, "%s.ctrl", tpm->socket);
    (void)unlink(control);
}
