/*
 * The file with the join token: what is in it, and whether it was written since.
 * Threading: the loop's thread; a look costs one system call.
 */
#pragma once

#include "base/error.h"

#include <sys/stat.h>

constexpr size_t JOIN_TOKEN_MAX = 511; /* bytes; a token has some sixty */

struct join_token_file {
    char *path; /* null: none is configured */
    /* As it was last read or found changed; all zero: it was not there. */
    dev_t device;
    ino_t inode;
    off_t size;
    struct timespec modified;
};

/* `ret` gets the token without white space at its end, or nothing if there is none: then `err` says
 * why, and it returns false. The caller wipes. NOT_FOUND, DENIED: the file; INVALID: no text. */
[[nodiscard]] bool join_token_read(struct join_token_file *file,
                                   char ret[static JOIN_TOKEN_MAX + 1], struct error *err);
/* Whether the file was written, replaced, made or removed since the last look or read. */
bool join_token_changed(struct join_token_file *file);
