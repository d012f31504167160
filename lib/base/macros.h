/* Attributes and ownership: the few macros that every file may use. */
#pragma once

#include <stddef.h>

#define PRINTF_LIKE(text, first) [[gnu::format(printf, text, first)]]

/* CLEANUP(buf_done) struct buf b = {…};  the destructor runs when the scope ends. It is called with
 * the variable's address, so embedded objects name their x_done directly; pointers name the
 * function that DEFINE_CLEANUP makes of their x_free. */
#define CLEANUP(function) [[gnu::cleanup(function)]]

/* DEFINE_CLEANUP(secret_free, struct secret) defines secret_free_at(struct secret **), for
 * CLEANUP(secret_free_at) struct secret *s = nullptr; */
#define DEFINE_CLEANUP(free_function, type)                                                        \
    [[maybe_unused]] static inline void free_function##_at(type **object)                          \
    {                                                                                              \
        *object = free_function(*object);                                                          \
    }

/* Hands ownership over: the variable becomes null, so that its CLEANUP does nothing. */
#define TAKE(pointer)                                                                              \
    ({                                                                                             \
        typeof(pointer) *take_from = &(pointer);                                                   \
        typeof(pointer) taken = *take_from;                                                        \
        *take_from = nullptr;                                                                      \
        taken;                                                                                     \
    })

#define ARRAY_LEN(array) (sizeof(array) / sizeof((array)[0]))

#define CONTAINER_OF(member_pointer, type, member)                                                 \
    ((type *)(void *)((char *)(member_pointer) - offsetof(type, member)))
