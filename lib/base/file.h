/*
 * Files that must be whole or absent. Paths are NUL-terminated; errors carry the path and errno.
 */
#pragma once

#include "base/buf.h"
#include "base/secret.h"

/* Appends the file's bytes to `ret`; EXHAUSTED if they exceed ret's maximum. */
[[nodiscard]] bool file_read(const char *path, struct buf *ret, struct error *err);
/* As file_read, into secret memory; at most SECRET_MAX bytes. An empty file is INVALID. */
[[nodiscard]] bool file_read_secret(const char *path, struct secret **ret, struct error *err);

/* Replaces (or makes) the file: a temporary one beside it with `mode`, written, fsynced, renamed,
 * the folder fsynced. After a crash either the old or the new contents are there, whole, and the
 * next write removes what the crash left. Waits for another writer of the same file. `mode` counts
 * whatever the umask is; a symbolic link at `path` is replaced, not followed. */
[[nodiscard]] bool file_write_atomic(const char *path, struct slice bytes, unsigned mode,
                                     struct error *err);
/* Makes one folder with `mode`, whatever the umask is; it is fine if it exists already and is a
 * folder (its mode stays). `path` has no "/" at its end. CONFLICT if something else is there. */
[[nodiscard]] bool folder_make(const char *path, unsigned mode, struct error *err);
