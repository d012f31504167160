#include "store/store.h"

#include "base/clock.h"
#include "base/mem.h"
#include "loop/worker.h"
#include "store/connection.h"
#include "store/migrate.h"
#include "store/place.h"
#include "store/transaction.h"

/* One connection and the thread that uses it. */
struct lane {
    bool writes;
    struct connection *connection;
    struct worker *worker; /* NULL without a loop */
};

struct store {
    struct place place;
    uint64_t timeout_ms;
    bool closing;
    struct lane writer;
    struct lane reader; /* has no connection without a loop */
};

/* A transaction in a lane's queue. */
struct job {
    struct lane *lane;
    store_run *run;
    store_done *done;
    void *arg;
    uint64_t deadline; /* boot clock, ms */
};

static uint64_t deadline_at(const struct store *store, uint64_t timeout_ms)
{
    uint64_t ms = timeout_ms != 0 ? timeout_ms : store->timeout_ms;
    return clock_boot_ms() + (ms < STORE_DEADLINE_MAX_MS ? ms : STORE_DEADLINE_MAX_MS);
}

/* ── Opening and closing ─────────────────────────────────────────────────────────────────────── */

static bool lanes_open(struct store *store, struct loop *loop, uint64_t deadline, struct error *err)
{
    if (loop == nullptr)
        return true;
    return connection_open(store->place.path, deadline, &store->reader.connection, err) &&
           worker_new(loop, "store-write", STORE_QUEUE_MAX, &store->writer.worker, err) &&
           worker_new(loop, "store-read", STORE_QUEUE_MAX, &store->reader.worker, err);
}

bool store_open(struct loop *loop, const struct store_options *options, struct store **ret,
                struct error *err)
{
    CLEANUP(store_free_at) struct store *store = mem_new(1, sizeof(*store));
    if (store == nullptr)
        return error_set_memory(err);
    store->place.lock_fd = -1;
    store->writer.writes = true;
    store->timeout_ms = options->timeout_ms != 0 ? options->timeout_ms : STORE_DEADLINE_MS;
    uint64_t deadline = deadline_at(store, 0);
    if (!place_open(options->location, &store->place, err) ||
        !connection_open(store->place.path, deadline, &store->writer.connection, err)) {
        return false;
    }
    if (!migrate(store->writer.connection, options->migrations, options->migration_count, deadline,
                 err)) {
        /* SQLite's errors name the path already. */
        return err->domain != ERROR_DOMAIN_NONE
                   ? false
                   : error_prefix(err, "database %s", store->place.path);
    }
    if (!lanes_open(store, loop, deadline, err))
        return false;
    *ret = TAKE(store);
    return true;
}

struct store *store_free(struct store *store)
{
    if (store != nullptr) {
        store->closing = true;
        worker_free(store->writer.worker);
        worker_free(store->reader.worker);
        /* The writer last: it is the one that takes the log into the database. */
        connection_free(store->reader.connection);
        connection_free(store->writer.connection);
        place_done(&store->place);
        mem_free(store);
    }
    return nullptr;
}

/* ── Transactions ────────────────────────────────────────────────────────────────────────────── */

static bool job_run(void *arg, struct error *err)
{
    const struct job *job = arg;
    return transaction_run(job->lane->connection, job->lane->writes, job->run, job->arg,
                           job->deadline, err);
}

static void job_done(void *arg, bool ok, const struct error *err)
{
    struct job *job = arg;
    store_done *done = job->done;
    void *its_arg = job->arg;
    mem_free(job); /* `done` may free the store */
    done(its_arg, ok, err);
}

static bool lane_submit(struct store *store, struct lane *lane, store_run *run, store_done *done,
                        void *arg, uint64_t timeout_ms, struct error *err)
{
    if (store->closing)
        return error_set(err, ERROR_CONFLICT, "the store is being closed");
    if (lane->worker == nullptr)
        return error_set(err, ERROR_INTERNAL, "the store was opened without a loop");
    struct job *job = mem_new(1, sizeof(*job));
    if (job == nullptr)
        return error_set_memory(err);
    *job = (struct job){.lane = lane,
                        .run = run,
                        .done = done,
                        .arg = arg,
                        .deadline = deadline_at(store, timeout_ms)};
    if (!worker_submit(lane->worker, job_run, job_done, job, job->deadline, err)) {
        mem_free(job);
        return error_prefix(err, "database %s", store->place.path);
    }
    return true;
}

bool store_transact(struct store *store, store_run *run, store_done *done, void *arg,
                    uint64_t timeout_ms, struct error *err)
{
    return lane_submit(store, &store->writer, run, done, arg, timeout_ms, err);
}

bool store_read(struct store *store, store_run *run, store_done *done, void *arg,
                uint64_t timeout_ms, struct error *err)
{
    return lane_submit(store, &store->reader, run, done, arg, timeout_ms, err);
}

bool store_transact_now(struct store *store, store_run *run, void *arg, uint64_t timeout_ms,
                        struct error *err)
{
    if (store->writer.worker != nullptr) {
        return error_set(err, ERROR_INTERNAL,
                         "a transaction on the loop's thread would block the loop");
    }
    return transaction_run(store->writer.connection, true, run, arg, deadline_at(store, timeout_ms),
                           err);
}
