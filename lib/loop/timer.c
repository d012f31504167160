/* Timers: a pairing heap through the timers themselves (Fredman, Sedgewick, Sleator, Tarjan 1986),
 * under one timer of libuv. Starting is O(1), stopping and firing O(log n) amortised. */
#include "base/clock.h"
#include "loop/internal.h"

static bool before(const struct timer *a, const struct timer *b)
{
    return a->due != b->due ? a->due < b->due : a->order < b->order;
}

/* Both are roots (no sibling), either may be NULL. The later one becomes the first child. */
static struct timer *meld(struct timer *a, struct timer *b)
{
    if (!a || !b)
        return a ? a : b;
    if (before(b, a)) {
        struct timer *swap = a;
        a = b;
        b = swap;
    }
    b->sibling = a->child;
    if (b->sibling)
        b->sibling->before = b;
    b->before = a;
    a->child = b;
    return a;
}

/* Melds a list of siblings into one heap: in pairs from the left, then the pairs from the right. */
static struct timer *meld_siblings(struct timer *first)
{
    struct timer *pairs = nullptr; /* the last pair first, linked by `before` */
    while (first) {
        struct timer *a = first;
        struct timer *b = a->sibling;
        first = b ? b->sibling : nullptr;
        a->sibling = a->before = nullptr;
        if (b)
            b->sibling = b->before = nullptr;
        a = meld(a, b);
        a->before = pairs;
        pairs = a;
    }
    struct timer *root = nullptr;
    while (pairs) {
        struct timer *next = pairs->before;
        pairs->before = nullptr;
        root = meld(root, pairs);
        pairs = next;
    }
    return root;
}

static void heap_remove(struct loop *loop, struct timer *timer)
{
    struct timer *children = meld_siblings(timer->child);
    if (timer == loop->timers) {
        loop->timers = children;
    } else {
        /* `before` is the parent for a first child, else the sibling on the left. */
        if (timer->before->child == timer)
            timer->before->child = timer->sibling;
        else
            timer->before->sibling = timer->sibling;
        if (timer->sibling)
            timer->sibling->before = timer->before;
        loop->timers = meld(loop->timers, children);
    }
    timer->child = timer->sibling = timer->before = nullptr;
    timer->running = false;
}

/* libuv counts CLOCK_MONOTONIC: after a suspend `tick` comes late, never early for long. */
static void arm(struct loop *loop)
{
    uint64_t due = loop->timers ? loop->timers->due : UINT64_MAX;
    if (due >= loop->armed)
        return;
    uint64_t now = clock_boot_ms();
    uv_update_time(&loop->uv);
    /* Fails only for a closing handle, and `tick` closes when the loop ends. */
    (void)uv_timer_start(&loop->tick, timer_tick, due > now ? due - now : 0, 0);
    loop->armed = due;
}

void timer_tick(uv_timer_t *tick)
{
    struct loop *loop = tick->data;
    loop->armed = UINT64_MAX;
    uint64_t now = clock_boot_ms();
    /* What a callback starts waits for the next round, so that a timer which restarts itself with
     * no delay leaves the others, and the sockets, their turn. */
    uint64_t order = loop->timer_order;
    while (loop->timers && loop->timers->due <= now && loop->timers->order <= order) {
        struct timer *timer = loop->timers;
        heap_remove(loop, timer);
        timer->fire(timer->arg); /* may free the timer */
    }
    arm(loop);
}

void timer_init(struct timer *timer, struct loop *loop, void (*fire)(void *arg), void *arg)
{
    *timer = (struct timer){.loop = loop, .fire = fire, .arg = arg};
}

void timer_start_at(struct timer *timer, uint64_t due)
{
    struct loop *loop = timer->loop;
    timer_stop(timer);
    timer->due = due;
    timer->order = ++loop->timer_order;
    timer->running = true;
    loop->timers = meld(loop->timers, timer);
    arm(loop);
}

void timer_start(struct timer *timer, uint64_t delay)
{
    uint64_t now = clock_boot_ms();
    timer_start_at(timer, delay > UINT64_MAX - 1 - now ? UINT64_MAX - 1 : now + delay);
}

void timer_stop(struct timer *timer)
{
    if (timer->running)
        heap_remove(timer->loop, timer);
}

void timer_forget_all(struct loop *loop)
{
    while (loop->timers)
        heap_remove(loop, loop->timers);
}
