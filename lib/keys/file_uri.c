#include "keys/file_uri.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

const char *file_uri_path(const char *uri)
{
    if (strncmp(uri, "file:", 5) != 0)
        return nullptr;
    /* RFC 8089 section 2: no authority, or an empty one before the path. */
    const char *path = uri + 5;
    return strncmp(path, "///", 3) == 0 ? path + 2 : path;
}

bool file_uri_check(const char *path, bool secret, size_t max, struct error *err)
{
    struct stat st;
    if (path[0] != '/' || path[1] == '/')
        return error_set(err, ERROR_INVALID, "expected an absolute path: file:/path/to/key");
    if (stat(path, &st) != 0)
        return error_set_errno(err, errno, "%s", path);
    if (!S_ISREG(st.st_mode))
        return error_set(err, ERROR_INVALID, "%s is not a file", path);
    if ((size_t)st.st_size > max)
        return error_set(err, ERROR_EXHAUSTED, "%s has more than %zu bytes", path, max);
    if (secret && (st.st_mode & 0077) != 0)
        return error_set(err, ERROR_DENIED,
                         "%s can be read or written by others (mode %04o): chmod 600 it, and think "
                         "about replacing the key",
                         path, (unsigned)st.st_mode & 07777);
    return true;
}
