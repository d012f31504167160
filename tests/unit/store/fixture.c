#include "fixture.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"

#include <stdlib.h>

const struct store_migration fixture_migrations[2] = {
    {"0001-item", "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,"
                  " value BLOB, size INTEGER CHECK (size >= 0)) STRICT;"
                  "CREATE INDEX item_size ON item (size);"},
    {"0002-part", "CREATE TABLE part (item INTEGER NOT NULL REFERENCES item (id)"
                  " ON DELETE CASCADE, text TEXT) STRICT"},
};

int fixture_setup(void **state)
{
    struct fixture *f = mem_new(1, sizeof(*f));
    struct error err = {0};
    assert_non_null(f);
    testlib_folder(f->folder);
    (void)snprintf(f->path, sizeof(f->path), "%s/authority.db", f->folder);
    f->options = (struct store_options){.location = f->path,
                                        .migrations = fixture_migrations,
                                        .migration_count = ARRAY_LEN(fixture_migrations)};
    assert_ok(loop_new(&f->loop, &err));
    *state = f;
    return 0;
}

int fixture_teardown(void **state)
{
    struct fixture *f = *state;
    store_free(f->store);
    loop_free(f->loop);
    testlib_folder_remove(f->folder);
    mem_free(f);
    return 0;
}

void fixture_open(struct fixture *f)
{
    struct error err = {0};
    f->now = false;
    assert_ok(store_open(f->loop, &f->options, &f->store, &err));
}

void fixture_open_now(struct fixture *f)
{
    struct error err = {0};
    f->now = true;
    assert_ok(store_open(nullptr, &f->options, &f->store, &err));
}

void fixture_close(struct fixture *f)
{
    f->store = store_free(f->store);
}

/* `run` and `done` get the same argument, so both travel in one. */
struct trip {
    struct loop *loop;
    store_run *run;
    void *arg;
    bool ok;
    struct error err;
};

static bool trip_run(struct tx *tx, void *arg, struct error *err)
{
    struct trip *trip = arg;
    return trip->run(tx, trip->arg, err);
}

static void trip_done(void *arg, bool ok, const struct error *err)
{
    struct trip *trip = arg;
    trip->ok = ok;
    if (!ok)
        trip->err = *err;
    else
        assert_null(err);
    loop_stop(trip->loop);
}

bool fixture_run_for(struct fixture *f, bool writes, store_run *run, void *arg, uint64_t timeout_ms,
                     struct error *err)
{
    struct trip trip = {.loop = f->loop, .run = run, .arg = arg};
    bool queued = writes ? store_transact(f->store, trip_run, trip_done, &trip, timeout_ms, err)
                         : store_read(f->store, trip_run, trip_done, &trip, timeout_ms, err);
    if (!queued)
        return false;
    loop_run(f->loop);
    if (!trip.ok)
        *err = trip.err;
    return trip.ok;
}

bool fixture_run(struct fixture *f, store_run *run, void *arg, struct error *err)
{
    if (f->now)
        return store_transact_now(f->store, run, arg, 0, err);
    return fixture_run_for(f, true, run, arg, 0, err);
}

bool fixture_read(struct fixture *f, store_run *run, void *arg, struct error *err)
{
    return fixture_run_for(f, false, run, arg, 0, err);
}

static bool exec_run(struct tx *tx, void *arg, struct error *err)
{
    return tx_exec(tx, arg, SQL_NONE, err);
}

bool fixture_exec(struct fixture *f, const char *sql, struct error *err)
{
    return fixture_run(f, exec_run, (void *)(uintptr_t)sql, err);
}

struct count {
    const char *sql;
    int64_t value;
};

static bool count_run(struct tx *tx, void *arg, struct error *err)
{
    struct count *count = arg;
    CLEANUP(rows_done) struct rows rows = {0};
    return tx_query_one(tx, count->sql, SQL_NONE, &rows, err) &&
           rows_int(&rows, 0, INT64_MIN, INT64_MAX, &count->value, err);
}

int64_t fixture_count(struct fixture *f, const char *sql)
{
    struct count count = {.sql = sql};
    struct error err = {0};
    assert_ok(fixture_run(f, count_run, &count, &err));
    return count.value;
}

uint64_t fixture_seed(void)
{
    const char *given = getenv("POSTERN_TEST_SEED");
    uint64_t seed = (uint64_t)clock_wall_ms() | 1;
    struct error err = {0};
    if (given != nullptr)
        assert_ok(parse_u64(given, 1, UINT64_MAX, &seed, &err));
    print_message("seed: POSTERN_TEST_SEED=%llu\n", (unsigned long long)seed);
    return seed;
}

uint64_t fixture_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}
