#include "cgroup.h"

#include "base/file.h"
#include "base/mem.h"
#include "base/text.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char deleted[] = " (deleted)";

static bool ends_with(const char *text, const char *end)
{
    size_t len = strlen(text), end_len = strlen(end);
    return len >= end_len && strcmp(text + len - end_len, end) == 0;
}

static bool is_dots(struct slice segment)
{
    return slice_is(segment, ".") || slice_is(segment, "..");
}

bool cgroup_path_check(const char *path, struct error *err)
{
    char shown[64];
    text_show(slice_str(path), shown, sizeof(shown));
    if (path[0] != '/' || path[1] == '\0')
        return error_set(err, ERROR_INVALID,
                         "expected a path below the root such as /pods/billing, found \"%s\"",
                         shown);
    if (strlen(path) >= CGROUP_PATH_SIZE)
        return error_set(err, ERROR_INVALID, "a path of more than %zu bytes", CGROUP_PATH_SIZE - 1);
    for (const char *at = path; *at;) {
        const char *segment = at + 1;
        size_t len = strcspn(segment, "/");
        if (len == 0 || is_dots(slice(segment, len)))
            return error_set(err, ERROR_INVALID, "\"%s\" has an empty segment, \".\" or \"..\"",
                             shown);
        at = segment + len;
    }
    for (const char *at = path; *at; at++) {
        if ((unsigned char)*at < 0x20 || *at == 0x7f)
            return error_set(err, ERROR_INVALID, "\"%s\" has control characters", shown);
    }
    if (ends_with(path, deleted))
        return error_set(err, ERROR_INVALID, "\"%s\" is a cgroup that was deleted", shown);
    return true;
}

bool cgroup_within(const char *path, const char *root)
{
    size_t len = strlen(root);
    return strncmp(path, root, len) == 0 && (path[len] == '\0' || path[len] == '/');
}

/* Takes the next line, without its end, from `rest`. */
static struct slice next_line(struct slice *rest)
{
    const uint8_t *end = rest->len > 0 ? memchr(rest->data, '\n', rest->len) : nullptr;
    size_t len = end ? (size_t)(end - rest->data) : rest->len;
    struct slice line = slice(rest->data, len);
    size_t used = len + (end ? 1 : 0);
    *rest = slice(rest->data + used, rest->len - used);
    return line;
}

static bool begins_with(struct slice line, const char *prefix)
{
    size_t len = strlen(prefix);
    return line.len >= len && memcmp(line.data, prefix, len) == 0;
}

bool cgroup_parse(struct slice file, char ret[static CGROUP_PATH_SIZE], struct error *err)
{
    static const char prefix[] = "0::";
    struct slice path = {0};
    bool found = false;
    while (file.len > 0) {
        struct slice line = next_line(&file);
        if (!begins_with(line, prefix))
            continue;
        if (found)
            return error_set(err, ERROR_INVALID, "two lines for cgroup v2");
        found = true;
        path = slice(line.data + strlen(prefix), line.len - strlen(prefix));
    }
    if (!found)
        return error_set(err, ERROR_UNAVAILABLE,
                         "the process has no cgroup v2: mount it (also beside v1, as "
                         "/sys/fs/cgroup/unified)");
    CLEANUP(mem_free_at) char *text = mem_new(CGROUP_PATH_SIZE, 1);
    if (!text)
        return error_set_memory(err);
    if (path.len >= CGROUP_PATH_SIZE || (path.len > 0 && memchr(path.data, 0, path.len)))
        return error_set(err, ERROR_INVALID, "the path is too long or has a NUL");
    mem_copy(text, path.data, path.len);
    if (begins_with(path, "/../") || slice_is(path, "/.."))
        return error_set(err, ERROR_INVALID,
                         "the process is outside of the agent's cgroup namespace: run the agent "
                         "in the host's");
    if (!cgroup_path_check(text, err))
        return false;
    mem_copy(ret, text, path.len + 1);
    return true;
}

bool pidfd_parse(struct slice fdinfo, pid_t *ret, struct error *err)
{
    static const char prefix[] = "Pid:\t";
    while (fdinfo.len > 0) {
        struct slice line = next_line(&fdinfo);
        if (!begins_with(line, prefix))
            continue;
        char digits[16];
        uint64_t pid = 0;
        size_t len = line.len - strlen(prefix);
        if (len >= sizeof(digits))
            break;
        mem_copy(digits, line.data + strlen(prefix), len);
        digits[len] = '\0';
        struct error why;
        /* -1: it was reaped; 0: it is in a pid namespace beside or above ours. */
        if (!parse_u64(digits, 1, INT_MAX, &pid, &why))
            break;
        *ret = (pid_t)pid;
        return true;
    }
    return error_set(err, ERROR_NOT_FOUND,
                     "the process is gone, or in another pid namespace: the agent needs the "
                     "host's (hostPID)");
}

static bool read_proc(const char *path, struct buf *ret, struct error *err)
{
    buf_init(ret, CGROUP_FILE_MAX);
    return file_read(path, ret, err);
}

bool cgroup_of_pidfd(int pidfd, char ret[static CGROUP_PATH_SIZE], pid_t *ret_pid,
                     struct error *err)
{
    char path[64];
    pid_t pid = 0;
    CLEANUP(buf_done) struct buf fdinfo = {0};
    CLEANUP(buf_done) struct buf cgroup = {0};
    (void)snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", pidfd);
    if (!read_proc(path, &fdinfo, err) || !pidfd_parse(buf_slice(&fdinfo), &pid, err)) {
        if (err->class == ERROR_NOT_FOUND)
            err->class = ERROR_UNAUTHENTICATED;
        return false;
    }
    (void)snprintf(path, sizeof(path), "/proc/%d/cgroup", (int)pid);
    struct error why;
    bool read = read_proc(path, &cgroup, &why);
    /* A pid is given to nobody else before its process is reaped, and this fails from then on. */
    if (syscall(SYS_pidfd_send_signal, pidfd, 0, nullptr, 0) != 0 && errno != EPERM)
        return error_set(err, ERROR_UNAUTHENTICATED, "process %d has ended", (int)pid);
    if (!read) {
        *err = why;
        return false;
    }
    if (!cgroup_parse(buf_slice(&cgroup), ret, err))
        return error_prefix(err, "process %d", (int)pid);
    if (ret_pid)
        *ret_pid = pid;
    return true;
}
