#include "base/buf.h"

#include "base/mem.h"

#include <stdckdint.h>
#include <stdio.h>

constexpr size_t BUF_FIRST = 128; /* bytes of the first allocation */

void buf_init(struct buf *buf, size_t max)
{
    *buf = (struct buf){.max = max};
}

void buf_init_wiping(struct buf *buf, size_t max)
{
    *buf = (struct buf){.max = max, .wipe = true};
}

void buf_done(struct buf *buf)
{
    if (buf->wipe)
        mem_wipe(buf->data, buf->len);
    mem_free(buf->data);
    *buf = (struct buf){.max = buf->max, .wipe = buf->wipe};
}

void buf_clear(struct buf *buf)
{
    if (buf->wipe)
        mem_wipe(buf->data, buf->len);
    buf->len = 0;
    buf->failed = buf->starved = false;
}

void buf_consume(struct buf *buf, size_t n)
{
    if (n > buf->len)
        n = buf->len;
    if (n == 0)
        return;
    buf->len -= n;
    mem_move(buf->data, buf->data + n, buf->len);
    if (buf->wipe)
        mem_wipe(buf->data + buf->len, n);
}

/* Moves the bytes into an allocation of `cap`; NULL leaves the buffer as it was. realloc would leave
 * a copy behind. */
static uint8_t *buf_move(struct buf *buf, size_t cap)
{
    if (!buf->wipe)
        return mem_resize(buf->data, cap);
    uint8_t *data = mem_new(1, cap);
    if (!data)
        return nullptr;
    mem_copy(data, buf->data, buf->len);
    mem_wipe(buf->data, buf->len);
    mem_free(buf->data);
    return data;
}

bool buf_ok(const struct buf *buf, struct error *err)
{
    if (!buf->failed)
        return true;
    if (buf->starved)
        return error_set_memory(err);
    return error_set(err, ERROR_EXHAUSTED, "more than the limit of %zu bytes", buf->max);
}

struct slice buf_slice(const struct buf *buf)
{
    return buf->failed ? slice(nullptr, 0) : slice(buf->data, buf->len);
}

/* Makes room for n more bytes, which count, and `spare` behind them, which do not. */
static bool buf_reserve(struct buf *buf, size_t n, size_t spare)
{
    size_t need, cap;
    uint8_t *data;

    if (buf->failed)
        return false;
    if (n > buf->max - buf->len || ckd_add(&need, buf->len + n, spare)) {
        buf->failed = true;
        return false;
    }
    if (buf->data && need <= buf->cap)
        return true;
    /* Doubling keeps appending linear; never past the maximum, unless `need` itself is. */
    cap = buf->cap > SIZE_MAX / 2 ? SIZE_MAX : buf->cap * 2;
    if (cap < BUF_FIRST)
        cap = BUF_FIRST;
    if (cap > buf->max)
        cap = buf->max;
    if (cap < need)
        cap = need;
    data = buf_move(buf, cap);
    if (!data) {
        buf->failed = buf->starved = true;
        return false;
    }
    buf->data = data;
    buf->cap = cap;
    return true;
}

uint8_t *buf_extend(struct buf *buf, size_t n)
{
    uint8_t *at;

    if (!buf_reserve(buf, n, 0))
        return nullptr;
    at = buf->data + buf->len;
    buf->len += n;
    return at;
}

void buf_put(struct buf *buf, struct slice bytes)
{
    uint8_t *at = buf_extend(buf, bytes.len);

    if (at)
        mem_copy(at, bytes.data, bytes.len);
}

static void buf_put_number(struct buf *buf, uint64_t value, size_t size)
{
    uint8_t *at = buf_extend(buf, size);

    if (!at)
        return;
    for (size_t i = size; i > 0; i--) {
        at[i - 1] = (uint8_t)value;
        value >>= 8;
    }
}

void buf_put_u8(struct buf *buf, uint8_t value)
{
    buf_put_number(buf, value, sizeof(value));
}

void buf_put_u16(struct buf *buf, uint16_t value)
{
    buf_put_number(buf, value, sizeof(value));
}

void buf_put_u32(struct buf *buf, uint32_t value)
{
    buf_put_number(buf, value, sizeof(value));
}

void buf_put_u64(struct buf *buf, uint64_t value)
{
    buf_put_number(buf, value, sizeof(value));
}

void buf_put_prefixed(struct buf *buf, struct slice bytes)
{
    if (bytes.len > UINT32_MAX) {
        buf->failed = true;
        return;
    }
    buf_put_u32(buf, (uint32_t)bytes.len);
    buf_put(buf, bytes);
}

void buf_put_format(struct buf *buf, const char *format, ...)
{
    va_list args;
    int len;

    va_start(args, format);
    len = vsnprintf(nullptr, 0, format, args);
    va_end(args);
    if (len < 0) {
        buf->failed = true;
        return;
    }
    if (!buf_reserve(buf, (size_t)len, 1)) /* vsnprintf writes its NUL behind the text */
        return;
    va_start(args, format);
    vsnprintf((char *)buf->data + buf->len, (size_t)len + 1, format, args);
    va_end(args);
    buf->len += (size_t)len;
}

struct slice reader_take(struct reader *r, size_t n)
{
    struct slice taken = {0};

    if (r->failed || n > r->rest.len) {
        r->failed = true;
        return taken;
    }
    if (n == 0)
        return taken;
    taken = slice(r->rest.data, n);
    r->rest = slice(r->rest.data + n, r->rest.len - n);
    return taken;
}

static uint64_t reader_number(struct reader *r, size_t size)
{
    struct slice bytes = reader_take(r, size);
    uint64_t value = 0;

    for (size_t i = 0; i < bytes.len; i++)
        value = value << 8 | bytes.data[i];
    return value;
}

uint8_t reader_u8(struct reader *r)
{
    return (uint8_t)reader_number(r, sizeof(uint8_t));
}

uint16_t reader_u16(struct reader *r)
{
    return (uint16_t)reader_number(r, sizeof(uint16_t));
}

uint32_t reader_u32(struct reader *r)
{
    return (uint32_t)reader_number(r, sizeof(uint32_t));
}

uint64_t reader_u64(struct reader *r)
{
    return reader_number(r, sizeof(uint64_t));
}

bool reader_ok(const struct reader *r)
{
    return !r->failed;
}

bool reader_end(const struct reader *r)
{
    return !r->failed && r->rest.len == 0;
}
