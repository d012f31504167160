/*
 * struct slice: borrowed bytes. It owns nothing and never outlives what it points at.
 * A slice of length 0 may have any pointer, NULL included.
 */
#pragma once

#include "base/macros.h"

#include <stdint.h>
#include <string.h>

struct slice {
    const uint8_t *data;
    size_t len; /* bytes */
};

static inline struct slice slice(const void *data, size_t len)
{
    return (struct slice){(const uint8_t *)data, len};
}

/* The bytes of a C string, without its NUL; NULL gives the empty slice. */
static inline struct slice slice_str(const char *text)
{
    return slice(text, text ? strlen(text) : 0);
}

/* The bytes of an array or struct variable. */
#define SLICE_OF(variable) slice(&(variable), sizeof(variable))

/* Equal length and bytes; not in constant time (mem_equal_secret for secrets). */
static inline bool slice_equal(struct slice a, struct slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static inline bool slice_is(struct slice a, const char *text)
{
    return slice_equal(a, slice_str(text));
}
