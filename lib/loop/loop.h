/*
 * struct loop: the event loop of one thread, and its timers, posted tasks and signals.
 *
 * lib/loop is the only user of libuv and the only place with sockets and threads. Everything that
 * belongs to a loop (timers, streams, listeners, workers) is used on the loop's thread alone; from
 * another thread the one thing allowed is loop_post.
 *
 * Callbacks may free the object they come from, stop the loop, and start anything new: nothing of
 * the object is touched after its callback returned. No callback runs inside the call that asked
 * for it; the exceptions say so (worker_free, loop_free).
 */
#pragma once

#include "base/error.h"

struct loop;

/* A loop for the calling thread. The first one makes the process ignore SIGPIPE. Free by
 * loop_free. Errors: EXHAUSTED (memory, file descriptors). */
[[nodiscard]] bool loop_new(struct loop **ret, struct error *err);

/* Runs callbacks until loop_stop; may be called again afterwards. */
void loop_run(struct loop *loop);
/* Makes loop_run return after the current round of callbacks. Before loop_run it makes the next
 * one return at once. */
void loop_stop(struct loop *loop);

/* Not inside a callback of the loop, and after worker_free and listener_free of what is on it (a
 * listener that is left aborts the process). Closes the streams that are still open, with their
 * `closed`, runs the tasks that were posted, forgets timers and signals. NULL is fine; returns
 * NULL. */
struct loop *loop_free(struct loop *loop);
DEFINE_CLEANUP(loop_free, struct loop)

/* A task: embedded in what it belongs to, so that posting allocates nothing and can't fail. */
struct task {
    void (*run)(void *arg);
    void *arg;
    struct task *next; /* private, under the loop's lock, as the next */
    uint64_t sequence; /* 0: not posted */
};

/* Runs task->run(task->arg) once on the loop's thread, in the order of posting. A task that is
 * posted already stays where it is; it may be posted again from its own run on. It must stay
 * alive, and unchanged, until it ran. Thread-safe. */
void loop_post(struct loop *loop, struct task *task);
/* Takes a posted task back (before its owner dies); no effect if it isn't posted. The loop's thread
 * only. */
void loop_unpost(struct loop *loop, struct task *task);

/* A one-shot timer, embedded in what it belongs to; it costs a heap operation, no allocation, no
 * system call. All members are private. */
struct timer {
    struct loop *loop;
    void (*fire)(void *arg);
    void *arg;
    uint64_t due;                           /* boot clock, ms */
    uint64_t order;                         /* among equals, first started fires first */
    struct timer *child, *sibling, *before; /* pairing heap */
    bool running;
};

/* A stopped timer. */
void timer_init(struct timer *timer, struct loop *loop, void (*fire)(void *arg), void *arg);
/* Fires once when the boot clock (clock_boot_ms) reaches `due`, at once if that has passed, never
 * inside this call. A running timer is restarted. */
void timer_start_at(struct timer *timer, uint64_t due);
/* … `delay` milliseconds from now. */
void timer_start(struct timer *timer, uint64_t delay);
/* After this it does not fire, and its memory may go. Fine on a stopped one. */
void timer_stop(struct timer *timer);

/* Calls `caught` on the loop for every delivery of the signal `number` (SIGTERM, SIGINT, SIGHUP)
 * until loop_free. One callback a signal: a second call for the same number replaces the first.
 * Errors: EXHAUSTED, INVALID (a signal that can't be caught). */
[[nodiscard]] bool loop_on_signal(struct loop *loop, int number,
                                  void (*caught)(void *arg, int number), void *arg,
                                  struct error *err);
