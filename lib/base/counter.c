#include "base/counter.h"

/* Only ever pushed to; constructors of a library loaded later may race with counter_each. */
static _Atomic(struct counter *) counter_first;

void counter_register(struct counter *counter)
{
    struct counter *first = atomic_load_explicit(&counter_first, memory_order_relaxed);

    do {
        counter->next = first;
    } while (!atomic_compare_exchange_weak_explicit(&counter_first, &first, counter,
                                                    memory_order_release, memory_order_relaxed));
}

void counter_each(void (*visit)(void *arg, const char *name, const char *help, uint64_t value),
                  void *arg)
{
    const struct counter *counter = atomic_load_explicit(&counter_first, memory_order_acquire);

    for (; counter; counter = counter->next)
        visit(arg, counter->name, counter->help,
              atomic_load_explicit(&counter->value, memory_order_relaxed));
}
