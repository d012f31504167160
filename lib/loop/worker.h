/*
 * struct worker: one thread behind a bounded queue, for work that blocks (TPM, database, signer).
 *
 * Jobs run one after another, in the order of submission, on the worker's thread; their ends are
 * told on the loop's thread. Used on the loop's thread alone, except that `run` runs on its own.
 * Limits: the queue's length, given by worker_new.
 */
#pragma once

#include "loop/loop.h"

struct worker;

/* `name` (at most 15 bytes are shown by the kernel) is borrowed. `queue_max` is the number of jobs
 * that may wait, without the running one: callers faster than the device would pile up memory and
 * stale work. Errors: EXHAUSTED. */
[[nodiscard]] bool worker_new(struct loop *loop, const char *name, size_t queue_max,
                              struct worker **ret, struct error *err);

/*
 * Runs `run(arg, err)` on the worker's thread, then `done(arg, ok, err)` on the loop's, exactly
 * once if this succeeded: with what `run` returned (err is NULL if true), or without having run
 * with TIMEOUT (the deadline, boot clock in ms, passed first; 0 for none) or CANCELLED
 * (worker_free). `arg` must live until `done`, and between the two calls is the worker's.
 * Errors: EXHAUSTED (queue full, memory), with `done` never called.
 */
[[nodiscard]] bool worker_submit(struct worker *worker, bool (*run)(void *arg, struct error *err),
                                 void (*done)(void *arg, bool ok, const struct error *err),
                                 void *arg, uint64_t deadline, struct error *err);

/* Waits for the running job, cancels the waiting ones, ends the thread. Every `done` that was still
 * due is called inside this call (submitting from there is CONFLICT). It may be called from a
 * `done` of the same worker. NULL is fine; returns NULL. */
struct worker *worker_free(struct worker *worker);
DEFINE_CLEANUP(worker_free, struct worker)
