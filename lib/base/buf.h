/*
 * struct buf: owned, growing bytes with a hard maximum; and the writers of binary formats.
 *
 * Appending never fails at the call: a write beyond the maximum (or without memory) marks the
 * buffer as failed, later writes do nothing, and buf_ok tells once at the end. A failed buffer
 * gives an empty slice, so forgetting to ask can't send half a message.
 * Key material does not belong here (base/secret.h); what may carry secrets on their way through, such
 * as packed messages, goes into a buffer that wipes.
 */
#pragma once

#include "base/error.h"
#include "base/slice.h"

struct buf {
    uint8_t *data;
    size_t len; /* bytes in use */
    size_t cap; /* bytes allocated */
    size_t max; /* hard maximum, bytes */
    bool failed;
    bool starved; /* … for want of memory, not because of max */
    bool wipe;    /* clear bytes before they are freed or moved away from: none is beyond `len` */
};

/* An empty buffer; nothing is allocated before the first write. */
void buf_init(struct buf *buf, size_t max);
/* The same for bytes that may carry secrets: no copy stays behind in freed memory. */
void buf_init_wiping(struct buf *buf, size_t max);
/* Frees the bytes; the buffer is empty and usable again. For CLEANUP. */
void buf_done(struct buf *buf);
/* Forgets the contents and the failure, keeps the allocation. */
void buf_clear(struct buf *buf);
/* Drops the first n bytes (n ≤ len), keeping the rest. */
void buf_consume(struct buf *buf, size_t n);

/* EXHAUSTED if any write since buf_init or buf_clear went beyond the maximum or memory. */
[[nodiscard]] bool buf_ok(const struct buf *buf, struct error *err);
/* What is in it, borrowed until the next write; empty if it failed. */
struct slice buf_slice(const struct buf *buf);

/* `bytes` must not lie in the buffer itself, which may move. */
void buf_put(struct buf *buf, struct slice bytes);
void buf_put_u8(struct buf *buf, uint8_t value);
void buf_put_u16(struct buf *buf, uint16_t value); /* big-endian, as all the following */
void buf_put_u32(struct buf *buf, uint32_t value);
void buf_put_u64(struct buf *buf, uint64_t value);
/* A u32 length, then the bytes: the injective form for everything that is hashed or signed. */
void buf_put_prefixed(struct buf *buf, struct slice bytes);
PRINTF_LIKE(2, 3)
void buf_put_format(struct buf *buf, const char *format, ...);
/* Appends n bytes and returns where they start, for the caller to fill; NULL if the buffer failed. */
[[nodiscard]] uint8_t *buf_extend(struct buf *buf, size_t n);

/* The counterpart: reads big-endian values from a slice. Reading past the end marks the reader as
 * failed and gives zeros and empty slices from then on; ask once with reader_ok or reader_end. */
struct reader {
    struct slice rest;
    bool failed;
};

static inline struct reader reader(struct slice bytes)
{
    return (struct reader){.rest = bytes};
}

uint8_t reader_u8(struct reader *r);
uint16_t reader_u16(struct reader *r);
uint32_t reader_u32(struct reader *r);
uint64_t reader_u64(struct reader *r);
struct slice reader_take(struct reader *r, size_t n);
/* True if nothing failed so far. */
[[nodiscard]] bool reader_ok(const struct reader *r);
/* True if nothing failed and nothing is left over. */
[[nodiscard]] bool reader_end(const struct reader *r);
