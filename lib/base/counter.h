/*
 * Counters: what happened how often, by name. A module defines its own at file scope,
 *     COUNTER(http_rapid_reset, "postern_http_rapid_reset_total", "Connections closed for …");
 *     counter_add(&http_rapid_reset, 1);
 * and whoever exports them walks all with counter_each. Names are Prometheus counter names.
 * Threading: any; relaxed atomics.
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

struct counter {
    const char *name; /* static */
    const char *help; /* static, one sentence */
    atomic_uint_fast64_t value;
    struct counter *next;
};

/* Links the counter into the process's list, before main. */
void counter_register(struct counter *counter);

#define COUNTER(variable, metric_name, help_text)                                                  \
    static struct counter variable = {.name = (metric_name), .help = (help_text)};                 \
    [[gnu::constructor]] static void variable##_register(void)                                     \
    {                                                                                              \
        counter_register(&variable);                                                               \
    }                                                                                              \
    static_assert(true)

static inline void counter_add(struct counter *counter, uint64_t n)
{
    atomic_fetch_add_explicit(&counter->value, n, memory_order_relaxed);
}

/* Calls `visit` for each counter of the process. */
void counter_each(void (*visit)(void *arg, const char *name, const char *help, uint64_t value),
                  void *arg);
