#include "store/place.h"

#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* A file system that is mounted read-only is a missing right here, not our defect. */
static bool fail_errno(struct error *err, const char *what, const char *path)
{
    int number = errno;
    error_set_errno(err, number, "%s %s", what, path);
    if (number == EROFS || number == EPERM)
        err->class = ERROR_DENIED;
    return false;
}

/* "sqlite:PATH" or PATH. A colon in the first part of a path is taken for a scheme, so that
 * "postgresql://…" does not become a file of that name. */
static bool location_path(const char *location, const char **ret, struct error *err)
{
    static const char scheme[] = "sqlite:";
    const char *path = location ? location : "";
    if (strncmp(path, scheme, sizeof(scheme) - 1) == 0) {
        path += sizeof(scheme) - 1;
    } else {
        size_t first = strcspn(path, "/:");
        if (path[first] == ':') {
            return error_set(err, ERROR_INVALID,
                             "\"%s\" names no SQLite file: expected a path or sqlite:PATH "
                             "(for a path with a colon write ./PATH)",
                             path);
        }
    }
    size_t len = strlen(path);
    if (len == 0 || path[len - 1] == '/')
        return error_set(err, ERROR_INVALID, "database \"%s\": expected the path of a file", path);
    /* SQLite adds "-journal" to it. */
    if (len + sizeof("-journal") > PATH_MAX) {
        return error_set(err, ERROR_INVALID, "the path of the database is too long (%zu bytes)",
                         len);
    }
    *ret = path;
    return true;
}

static bool folder_of(const char *path, char ret[static PATH_MAX])
{
    char copy[PATH_MAX];
    return snprintf(copy, sizeof(copy), "%s", path) < (int)sizeof(copy) &&
           snprintf(ret, PATH_MAX, "%s", dirname(copy)) < PATH_MAX;
}

/* Whoever may rename in the folder may exchange the database. */
static bool folder_check(const char *path, struct error *err)
{
    char folder[PATH_MAX];
    struct stat info;
    if (!folder_of(path, folder))
        return error_set(err, ERROR_INVALID, "the path of the database is too long");
    if (stat(folder, &info) < 0)
        return fail_errno(err, "folder of the database", folder);
    if ((info.st_mode & S_IWOTH) != 0) {
        return error_set(err, ERROR_DENIED,
                         "folder %s of the database is writable for everyone: chmod o-w it, or put "
                         "the database into a folder of its own",
                         folder);
    }
    return true;
}

static bool folder_sync(const char *path, struct error *err)
{
    char folder[PATH_MAX];
    int fd = folder_of(path, folder) ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    bool ok = fd >= 0 && fsync(fd) == 0;
    if (!ok)
        fail_errno(err, "cannot make durable the folder of", path);
    if (fd >= 0)
        close(fd);
    return ok;
}

static bool lock_take(const char *path, int *ret_fd, struct error *err)
{
    char name[PATH_MAX + sizeof(".lock")];
    snprintf(name, sizeof(name), "%s.lock", path);
    int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return fail_errno(err, "cannot open", name);
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
        *ret_fd = fd;
        return true;
    }
    if (errno == EWOULDBLOCK) {
        error_set(err, ERROR_CONFLICT,
                  "database %s is in use by another process, which holds %s: stop that one first "
                  "(a SQLite file has one authority)",
                  path, name);
    } else {
        fail_errno(err, "cannot lock", name);
    }
    close(fd);
    return false;
}

/* The file exists with mode 0600 afterwards. It must not be opened and closed here when it is in use
 * in this process, which would drop SQLite's own locks: PATH.lock, taken before, excludes that. */
static bool file_prepare(const char *path, struct error *err)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd >= 0) {
        /* The umask may have taken rights away: then SQLite will say so. */
        close(fd);
        return folder_sync(path, err);
    }
    struct stat info;
    if (errno != EEXIST || lstat(path, &info) < 0)
        return fail_errno(err, "cannot make the database", path);
    if (!S_ISREG(info.st_mode))
        return error_set(err, ERROR_INVALID, "database %s is not a regular file", path);
    if ((info.st_mode & S_IWOTH) != 0) {
        return error_set(err, ERROR_DENIED,
                         "database %s is writable for everyone: see who wrote to it, then chmod "
                         "0600 it",
                         path);
    }
    /* A volume that is mounted for a group gives the group its rights anew each time. */
    if ((info.st_mode & 077) != 0 && chmod(path, 0600) < 0)
        return fail_errno(err, "cannot set mode 0600 of", path);
    return true;
}

bool place_open(const char *location, struct place *ret, struct error *err)
{
    const char *path = "";
    if (!location_path(location, &path, err) || !folder_check(path, err))
        return false;
    CLEANUP(place_done) struct place place = {.path = mem_strdup(path), .lock_fd = -1};
    if (place.path == nullptr)
        return error_set_memory(err);
    if (!lock_take(path, &place.lock_fd, err) || !file_prepare(path, err))
        return false;
    ret->path = TAKE(place.path);
    ret->lock_fd = place.lock_fd;
    place.lock_fd = -1;
    return true;
}

void place_done(struct place *place)
{
    place->path = mem_free(place->path);
    if (place->lock_fd >= 0) {
        close(place->lock_fd);
        place->lock_fd = -1;
    }
}
