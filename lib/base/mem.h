/*
 * The heap. All of Postern allocates here, so that a test can make the n-th allocation fail and see
 * that nothing leaks or crashes (mem_fail_after), and so that lint can forbid everything else.
 *
 * Memory is zeroed when it is handed out. Key material does not belong here: base/secret.h.
 * Threading: any thread; mem_fail_after counts per process and is for tests alone.
 */
#pragma once

#include "base/macros.h"

#include <stdint.h>

/* `count` × `size` zeroed bytes, or NULL when memory is out or the product overflows. Never returns
 * NULL for zero bytes. Freed by mem_free. */
[[nodiscard]] void *mem_new(size_t count, size_t size);

/* Resizes `old` (which may be NULL) to `size` bytes; grown bytes are not zeroed. NULL leaves `old`
 * as it was. */
[[nodiscard]] void *mem_resize(void *old, size_t size);

/* A copy of the NUL-terminated `text`; NULL when memory is out. */
[[nodiscard]] char *mem_strdup(const char *text);

/* Frees; NULL is fine. Returns NULL, so that `p = mem_free(p);` leaves no dangling pointer. */
void *mem_free(void *object);

/* Copies and clears, with lengths in bytes; n = 0 is fine with any pointers. */
void mem_copy(void *restrict to, const void *restrict from, size_t n);
void mem_move(void *to, const void *from, size_t n);

/* Clears so that the compiler can't drop it. */
void mem_wipe(void *object, size_t n);

/* Constant-time comparison of n bytes. */
[[nodiscard]] bool mem_equal_secret(const void *a, const void *b, size_t n);

/* For tests: the n-th allocation from now on (1 = the next) fails, once; 0 switches it off. Returns
 * how many allocations were made since the last call. */
uint64_t mem_fail_after(uint64_t n);

/* mem_free for char * and other plain pointers under CLEANUP. By copies, because the variable's type
 * is not void *, and C forbids to read it as one. */
static inline void mem_free_at(void *pointer_to_pointer)
{
    void *object;

    mem_copy(&object, pointer_to_pointer, sizeof(object));
    object = mem_free(object);
    mem_copy(pointer_to_pointer, &object, sizeof(object));
}
