/* file: URIs (RFC 8089) of keys: lib/keys' own. */
#pragma once

#include "base/error.h"

/* The path of a file: URI, borrowed from it; NULL for another scheme. */
const char *file_uri_path(const char *uri);

/* What the file must be before anything reads it: an absolute path, a regular file of at most `max`
 * bytes and, if it is `secret`, without any right for group and others. INVALID, NOT_FOUND, DENIED,
 * EXHAUSTED. */
[[nodiscard]] bool file_uri_check(const char *path, bool secret, size_t max, struct error *err);
