/*
 * Where in a message something is: "secrets[3].labels[app].value". A chain of steps on the stack,
 * innermost first, rendered only when there is an error to tell. Internal to lib/pb.
 */
#pragma once

#include "base/error.h"
#include "base/slice.h"

enum path_kind { PATH_NAME, PATH_NUMBER, PATH_INDEX, PATH_KEY };

struct path {
    const struct path *parent; /* NULL at the outermost message */
    enum path_kind kind;
    const char *name; /* PATH_NAME: of a field, static */
    uint64_t number;  /* PATH_NUMBER: of a field without a name; PATH_INDEX: from 0 */
    struct slice key; /* PATH_KEY: of a map, as text */
};

/* Renders `path` (NULL: "") into ret, which has ERROR_FIELD_MAX characters; what is too long ends
 * in "...". Returns ret. */
char *path_render(const struct path *path, char ret[static ERROR_FIELD_MAX]);

/* error_set_field at `path`, whose rendering also precedes the message: "PATH: FORMATTED". */
PRINTF_LIKE(3, 4)
bool path_refuse(struct error *err, const struct path *path, const char *format, ...);

/* The first characters of foreign text, for an error: valid UTF-8 without control characters.
 * Returns ret. */
constexpr size_t PATH_EXCERPT_SIZE = 48;
char *path_excerpt(struct slice text, char ret[static PATH_EXCERPT_SIZE]);
