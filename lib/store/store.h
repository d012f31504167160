/*
 * struct store: the authority's database behind one interface. SQLite today; the interface promises
 * nothing that PostgreSQL could not keep. It knows nothing of what is stored: statements and
 * migrations are the caller's, and what happens inside a transaction is store/tx.h.
 *
 * Nothing of the database ever runs on the loop. A store has two threads, each with a connection, a
 * bounded queue and deadlines: writes go one after another through the first, reads through the
 * second, beside them. A read that starts after a write's `done` sees that write; between a read and
 * a write that are both queued there is no order.
 *
 * Durability (SQLite): WAL with synchronous=FULL, so a commit that was reported survives kill -9 and
 * power loss. Foreign keys are enforced, deleted content is overwritten, a schema can't call
 * functions with effects. The file has mode 0600, its folder must not be writable for everyone, and
 * PATH.lock is held while the store is open: a second process is refused at open (replicas need
 * PostgreSQL). Programs that only read, such as sqlite3 -readonly, may run beside it.
 *
 * Ownership: the store owns its threads and connections; `arg` stays the caller's and must live until
 * `done` was called. Threading: all functions belong to the loop's thread; only `run` is on another.
 * Limits: STORE_QUEUE_MAX, STORE_ATTEMPTS_MAX here; those of a statement in store/tx.h.
 */
#pragma once

#include "base/error.h"
#include "store/tx.h"

struct loop;
struct store;

constexpr size_t STORE_QUEUE_MAX = 1024;   /* waiting transactions of each kind; a flood of requests
                                          * is refused, not queued until memory is out */
constexpr unsigned STORE_ATTEMPTS_MAX = 6; /* of one transaction; contention can't livelock */
constexpr uint64_t STORE_DEADLINE_MS = 10'000; /* where the options name none */
constexpr uint64_t STORE_DEADLINE_MAX_MS = 600'000;

/* One step of the schema: a script of statements, applied once, in one transaction. Once released
 * neither name nor script may change (the database holds their hash). A script holds no transaction
 * control, ATTACH or PRAGMA. Foreign keys are checked when it is through, not while it runs, and their
 * actions (cascades) don't happen: so it can rebuild a table that others refer to. */
struct store_migration {
    const char *name; /* "0001-nodes" */
    const char *sql;
};

struct store_options {
    const char *location; /* a file's path, or "sqlite:PATH"; made (with its PATH.lock) if absent,
                           * in a folder that exists */
    const struct store_migration *migrations; /* in order; borrowed during store_open */
    size_t migration_count;
    uint64_t timeout_ms; /* of store_open itself and of transactions that name none;
                          * 0: STORE_DEADLINE_MS */
};

/*
 * Opens (or makes) the database and brings its schema up to date, on the calling thread, within
 * timeout_ms. With loop = NULL the store has no threads and serves store_transact_now only: for
 * `init` and tools. `loop` must outlive the store.
 * Errors, all naming the path:
 *   INVALID      a location of another kind, or not a regular file
 *   NOT_FOUND    the folder does not exist
 *   DENIED       no right to it, read-only, or others may write to it
 *   CONFLICT     another process has the store open; the database is newer than the migrations
 *                given, holds an edited one, or was made by something else
 *   UNAVAILABLE  locked by another program, or an I/O error
 *   EXHAUSTED    disk full, memory
 *   INTERNAL     not a database, or damaged; a migration that fails
 */
[[nodiscard]] bool store_open(struct loop *loop, const struct store_options *options,
                              struct store **ret, struct error *err);

/* Waits for the running transactions, whose outcome stands; the waiting ones get CANCELLED. Each
 * `done` that is still due is called inside this call (asking for another transaction there is
 * CONFLICT). Closes the database and releases PATH.lock. A program that drains waits for its `done`s
 * first. It may be called from a `done`. NULL is fine; returns NULL. */
struct store *store_free(struct store *store);
DEFINE_CLEANUP(store_free, struct store)

/* The body of a transaction, on a database thread. True commits, false (with *err set) rolls back.
 * It may run several times, each time on a database without its earlier tries, so what it does
 * outside the transaction must be idempotent: set outputs in `arg`, never add to them. It must not
 * touch the loop, nor block on anything but the database. */
typedef bool store_run(struct tx *tx, void *arg, struct error *err);

/* The outcome, on the loop, exactly once for each accepted transaction. err is NULL if ok. */
typedef void store_done(void *arg, bool ok, const struct error *err);

/*
 * Queues a transaction that may write. It sees and keeps the database as if it ran alone
 * (serializable). Contention is retried as a whole, at most STORE_ATTEMPTS_MAX times, before the
 * deadline, `timeout_ms` after this call (at most STORE_DEADLINE_MAX_MS; 0: the store's own).
 * False (and `done` is not called): EXHAUSTED, queue full or out of memory; CONFLICT, the store is
 * being freed; INTERNAL, it was opened without a loop.
 * What `done` gets, besides errors that `run` made:
 *   TIMEOUT      the deadline passed in the queue or in `run`
 *   UNAVAILABLE  still locked when the deadline or the attempts were over; an I/O error. After an I/O
 *                error at commit the effects are normally gone, but may be back after a crash, so a
 *                caller that repeats must bear to find its work done
 *   EXHAUSTED    disk full
 *   CANCELLED    store_free came first
 *   INTERNAL     damage; a cursor that `run` left open
 *   and what a failed statement said (tx.h), even where `run` returned true
 */
[[nodiscard]] bool store_transact(struct store *store, store_run *run, store_done *done, void *arg,
                                  uint64_t timeout_ms, struct error *err);

/* The same for a transaction that only reads: one snapshot, never waiting for a writer. A statement
 * that would write is INTERNAL. */
[[nodiscard]] bool store_read(struct store *store, store_run *run, store_done *done, void *arg,
                              uint64_t timeout_ms, struct error *err);

/* Runs a writing transaction on the calling thread; only for a store opened without a loop (INTERNAL
 * otherwise). Errors as for store_transact. */
[[nodiscard]] bool store_transact_now(struct store *store, store_run *run, void *arg,
                                      uint64_t timeout_ms, struct error *err);
