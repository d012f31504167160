#include "base/mem.h"

#include <openssl/crypto.h>
#include <stdatomic.h>
#include <stdckdint.h>
#include <stdlib.h>
#include <string.h>

/* Allocations since the last mem_fail_after, and which of them is to fail (0: none). */
static atomic_uint_fast64_t mem_made;
static atomic_uint_fast64_t mem_failing;

static bool mem_may(void)
{
    uint64_t number = atomic_fetch_add_explicit(&mem_made, 1, memory_order_relaxed) + 1;

    return number != atomic_load_explicit(&mem_failing, memory_order_relaxed);
}

void *mem_new(size_t count, size_t size)
{
    size_t bytes;

    if (ckd_mul(&bytes, count, size) || !mem_may())
        return nullptr;
    /* calloc(1, 0) may return NULL, which callers would take for a failure. */
    return calloc(1, bytes > 0 ? bytes : 1);
}

void *mem_resize(void *old, size_t size)
{
    if (!mem_may())
        return nullptr;
    return realloc(old, size > 0 ? size : 1);
}

char *mem_strdup(const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = mem_new(size, 1);

    if (copy)
        mem_copy(copy, text, size);
    return copy;
}

void *mem_free(void *object)
{
    free(object);
    return nullptr;
}

void mem_copy(void *restrict to, const void *restrict from, size_t n)
{
    if (n > 0)
        memcpy(to, from, n);
}

void mem_move(void *to, const void *from, size_t n)
{
    if (n > 0)
        memmove(to, from, n);
}

void mem_wipe(void *object, size_t n)
{
    if (n > 0)
        OPENSSL_cleanse(object, n);
}

bool mem_equal_secret(const void *a, const void *b, size_t n)
{
    return n == 0 || CRYPTO_memcmp(a, b, n) == 0;
}

uint64_t mem_fail_after(uint64_t n)
{
    atomic_store_explicit(&mem_failing, n, memory_order_relaxed);
    return atomic_exchange_explicit(&mem_made, 0, memory_order_relaxed);
}
