#include "base/file.h"

#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

constexpr size_t FILE_CHUNK = 16 * 1024; /* bytes of one read(2) */
constexpr int FILE_TRIES = 1000;         /* how often another writer may come first */

static void file_close_at(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* Follows symbolic links: Kubernetes mounts ConfigMaps and Secrets as links. */
static bool file_open(const char *path, int *ret_fd, struct error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

    if (fd < 0)
        return error_set_errno(err, errno, "open %s", path);
    *ret_fd = fd;
    return true;
}

/* Reads up to `size` bytes, fewer only at the end of the file. */
static bool file_fill(int fd, const char *path, uint8_t *to, size_t size, size_t *ret_len,
                      struct error *err)
{
    size_t len = 0;

    while (len < size) {
        ssize_t n = read(fd, to + len, size - len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set_errno(err, errno, "read %s", path);
        if (n == 0)
            break;
        len += (size_t)n;
    }
    *ret_len = len;
    return true;
}

bool file_read(const char *path, struct buf *ret, struct error *err)
{
    CLEANUP(file_close_at) int fd = -1;
    size_t before = ret->len;
    uint8_t chunk[FILE_CHUNK];
    size_t n;

    if (!file_open(path, &fd, err))
        return false;
    do {
        if (!file_fill(fd, path, chunk, sizeof(chunk), &n, err)) {
            ret->len = before;
            return false;
        }
        buf_put(ret, slice(chunk, n));
        if (!buf_ok(ret, err)) {
            ret->len = before;
            return error_prefix(err, "read %s", path);
        }
    } while (n == sizeof(chunk));
    return true;
}

/* How much to make room for: a regular file's size; of others (pipes, /proc) it is not known. */
static size_t file_size_hint(int fd)
{
    struct stat st;

    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0 &&
        (uint64_t)st.st_size < SECRET_MAX)
        return (size_t)st.st_size;
    return SECRET_MAX;
}

bool file_read_secret(const char *path, struct secret **ret, struct error *err)
{
    CLEANUP(secret_free_at) struct secret *made = nullptr;
    CLEANUP(file_close_at) int fd = -1;
    size_t len, more, size;
    uint8_t probe;

    if (!file_open(path, &fd, err))
        return false;
    size = file_size_hint(fd);
    if (!secret_new(size, &made, err))
        return error_prefix(err, "read %s", path);
    if (!file_fill(fd, path, secret_data(made), size, &len, err) ||
        !file_fill(fd, path, &probe, 1, &more, err))
        return false;
    mem_wipe(&probe, sizeof(probe));
    if (more > 0 && size < SECRET_MAX)
        return error_set(err, ERROR_UNAVAILABLE, "read %s: it changed meanwhile", path);
    if (more > 0)
        return error_set(err, ERROR_EXHAUSTED, "read %s: more than the limit of %zu bytes", path,
                         SECRET_MAX);
    if (len == 0)
        return error_set(err, ERROR_INVALID, "read %s: the file is empty", path);
    secret_shorten(made, len);
    *ret = TAKE(made);
    return true;
}

struct file_target {
    char folder[PATH_MAX];
    char name[NAME_MAX + 1];
    char temporary[NAME_MAX + 1]; /* beside it */
    int folder_fd;
};

static void file_target_done(struct file_target *target)
{
    file_close_at(&target->folder_fd);
}

/* Splits into folder and name (a path that ends in "/", "." or ".." names none) and opens the
 * folder. */
static bool file_target_open(const char *path, struct file_target *target, struct error *err)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    size_t folder_len = slash && slash != path ? (size_t)(slash - path) : 1; /* "/" of "/name" */
    size_t name_len = strlen(name);

    if (name_len == 0 || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return error_set(err, ERROR_INVALID, "the path names no file or folder");
    if (folder_len >= sizeof(target->folder) || name_len + strlen("..new") > NAME_MAX)
        return error_set_errno(err, ENAMETOOLONG, "the path");
    mem_copy(target->folder, slash ? path : ".", folder_len);
    mem_copy(target->name, name, name_len + 1);
    snprintf(target->temporary, sizeof(target->temporary), ".%s.new", name);
    target->folder_fd = open(target->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (target->folder_fd < 0)
        return error_set_errno(err, errno, "open folder %s", target->folder);
    return true;
}

static bool file_temporary_error(const struct file_target *target, const char *what,
                                 struct error *err)
{
    return error_set_errno(err, errno, "%s %s/%s", what, target->folder, target->temporary);
}

/* Locks `fd` and tells whether the temporary name still stands for it. */
static bool file_temporary_lock(const struct file_target *target, int fd, bool *ret_named,
                                struct error *err)
{
    struct stat opened, named;
    int status;

    do
        status = flock(fd, LOCK_EX);
    while (status != 0 && errno == EINTR);
    if (status != 0 || fstat(fd, &opened) != 0)
        return file_temporary_error(target, "lock", err);
    *ret_named = fstatat(target->folder_fd, target->temporary, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
                 opened.st_dev == named.st_dev && opened.st_ino == named.st_ino;
    return true;
}

/* The temporary name is taken: waits for the writer who has it, and removes what a crash left. */
static bool file_temporary_clear(const struct file_target *target, struct error *err)
{
    CLEANUP(file_close_at) int fd = openat(target->folder_fd, target->temporary,
                                           O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    bool named;

    if (fd < 0 && errno == ENOENT)
        return true;
    if (fd < 0)
        return file_temporary_error(target, "open", err);
    if (!file_temporary_lock(target, fd, &named, err))
        return false;
    if (named && unlinkat(target->folder_fd, target->temporary, 0) != 0 && errno != ENOENT)
        return file_temporary_error(target, "remove", err);
    return true;
}

/*
 * Makes the temporary file and locks it. Its name is fixed, so that what a crash left behind is
 * removed by the next write instead of piling up with old secrets in it; the lock keeps a second
 * writer from taking ours for such. It is always made anew, never written over: an existing one
 * could be a link, or open in another's hands.
 */
static bool file_temporary_make(const struct file_target *target, int *ret_fd, struct error *err)
{
    for (int tries = 0; tries < FILE_TRIES; tries++) {
        CLEANUP(file_close_at) int fd =
            openat(target->folder_fd, target->temporary,
                   O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        bool named;

        if (fd < 0 && errno != EEXIST)
            return file_temporary_error(target, "make", err);
        if (fd < 0) {
            if (!file_temporary_clear(target, err))
                return false;
            continue;
        }
        if (!file_temporary_lock(target, fd, &named, err))
            return false;
        if (named) {
            *ret_fd = fd;
            fd = -1;
            return true;
        }
    }
    return error_set(err, ERROR_UNAVAILABLE, "make %s/%s: others are writing the same file",
                     target->folder, target->temporary);
}

static bool file_temporary_fill(const struct file_target *target, int fd, struct slice bytes,
                                unsigned mode, struct error *err)
{
    while (bytes.len > 0) {
        ssize_t n = write(fd, bytes.data, bytes.len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return file_temporary_error(target, "write", err);
        bytes = slice(bytes.data + n, bytes.len - (size_t)n);
    }
    if (fchmod(fd, mode) != 0) /* not by open, where the umask would have its say */
        return file_temporary_error(target, "set the mode of", err);
    if (fsync(fd) != 0)
        return file_temporary_error(target, "sync", err);
    return true;
}

bool file_write_atomic(const char *path, struct slice bytes, unsigned mode, struct error *err)
{
    CLEANUP(file_target_done) struct file_target target = {.folder_fd = -1};
    CLEANUP(file_close_at) int fd = -1;

    if (!file_target_open(path, &target, err) || !file_temporary_make(&target, &fd, err))
        return error_prefix(err, "write %s", path);
    if (!file_temporary_fill(&target, fd, bytes, mode, err))
        goto fail;
    if (renameat(target.folder_fd, target.temporary, target.folder_fd, target.name) != 0) {
        error_set_errno(err, errno, "rename %s", target.temporary);
        goto fail;
    }
    if (fsync(target.folder_fd) != 0) {
        error_set_errno(err, errno, "sync folder %s", target.folder);
        return error_prefix(err, "write %s", path);
    }
    return true;
fail:
    unlinkat(target.folder_fd, target.temporary, 0); /* while it is locked, so it is ours */
    return error_prefix(err, "write %s", path);
}

static bool folder_exists(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

bool folder_make(const char *path, unsigned mode, struct error *err)
{
    CLEANUP(file_target_done) struct file_target target = {.folder_fd = -1};
    CLEANUP(file_close_at) int fd = -1;

    if (folder_exists(path))
        return true;
    if (!file_target_open(path, &target, err))
        return error_prefix(err, "make folder %s", path);
    if (mkdirat(target.folder_fd, target.name, 0700) != 0) {
        if (errno != EEXIST)
            return error_set_errno(err, errno, "make folder %s", path);
        if (folder_exists(path)) /* another process was faster */
            return true;
        return error_set(err, ERROR_CONFLICT, "make folder %s: it exists and is no folder", path);
    }
    fd = openat(target.folder_fd, target.name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    /* The mode as asked for, whatever the umask; and what will be in it shall survive a crash. */
    if (fd < 0 || fchmod(fd, mode) != 0 || fsync(target.folder_fd) != 0)
        return error_set_errno(err, errno, "make folder %s", path);
    return true;
}
