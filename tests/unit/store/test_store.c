/* store/store.h: opening and its refusals, threads, deadlines, locks. */
#include "fixture.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"

#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* ── Opening ─────────────────────────────────────────────────────────────────────────────────── */

static void expect_refused(struct fixture *f, enum error_class class, const char *text)
{
    struct error err = {0};
    struct store *store = POISON;
    assert_fails(store_open(nullptr, &f->options, &store, &err), class);
    assert_error_contains(text);
    assert_ptr_equal(store, POISON);
}

static void write_file(const char *path, const char *text, size_t len, mode_t mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, len), (ssize_t)len);
    close(fd);
    assert_int_equal(chmod(path, mode), 0);
}

static void test_locations(void **state)
{
    struct fixture *f = *state;
    char text[160];
    static const char *const wrong[] = {
        "", "sqlite:", nullptr, "postgresql://localhost/postern", "memory:", ":memory:", "/tmp/"};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        f->options.location = wrong[i];
        expect_refused(f, ERROR_INVALID, "expected");
    }
    (void)snprintf(text, sizeof(text), "%s/none/a.db", f->folder);
    f->options.location = text;
    expect_refused(f, ERROR_NOT_FOUND, "none");
    (void)snprintf(text, sizeof(text), "sqlite:%s", f->path);
    f->options.location = text;
    fixture_open_now(f);
    assert_int_equal(access(f->path, F_OK), 0);
}

static void test_path_too_long(void **state)
{
    struct fixture *f = *state;
    char path[5000];
    for (size_t i = 0; i < sizeof(path); i++)
        path[i] = i % 2 ? '/' : 'a';
    path[sizeof(path) - 1] = '\0';
    f->options.location = path;
    expect_refused(f, ERROR_INVALID, "too long");
}

static mode_t mode_of(const char *path)
{
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    return info.st_mode & 07777;
}

static void test_modes(void **state)
{
    struct fixture *f = *state;
    char other[160];
    fixture_open(f);
    assert_int_equal(mode_of(f->path), 0600);
    (void)snprintf(other, sizeof(other), "%s-wal", f->path);
    assert_int_equal(mode_of(other), 0600);
    (void)snprintf(other, sizeof(other), "%s-shm", f->path);
    assert_int_equal(mode_of(other), 0600);
    (void)snprintf(other, sizeof(other), "%s.lock", f->path);
    assert_int_equal(mode_of(other), 0600);
    fixture_close(f);
    /* Readable for a group, as a volume may make it: ours alone again. */
    assert_int_equal(chmod(f->path, 0664), 0);
    fixture_open(f);
    assert_int_equal(mode_of(f->path), 0600);
    fixture_close(f);
    assert_int_equal(chmod(f->path, 0602), 0);
    expect_refused(f, ERROR_DENIED, "writable for everyone");
    assert_int_equal(chmod(f->path, 0600), 0);
    assert_int_equal(chmod(f->folder, 0703), 0);
    expect_refused(f, ERROR_DENIED, "chmod o-w");
}

static void test_not_a_file(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(symlink("/dev/null", f->path), 0);
    expect_refused(f, ERROR_INVALID, "not a regular file");
    assert_int_equal(unlink(f->path), 0);
    assert_int_equal(mkdir(f->path, 0700), 0);
    expect_refused(f, ERROR_INVALID, "not a regular file");
}

static void test_not_a_database(void **state)
{
    struct fixture *f = *state;
    char text[4096];
    for (size_t i = 0; i < sizeof(text); i++)
        text[i] = 'x';
    write_file(f->path, text, sizeof(text), 0600);
    expect_refused(f, ERROR_INTERNAL, "not a SQLite database");
    expect_refused(f, ERROR_INTERNAL, f->path);
}

static bool read_all(struct tx *tx, void *, struct error *err)
{
    return tx_exec(tx, "SELECT sum(length(name)) + sum(size) FROM item", SQL_NONE, err);
}

static bool fill(struct tx *tx, void *, struct error *err)
{
    return tx_exec(tx,
                   "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)"
                   " INSERT INTO item (name, size) SELECT 'item ' || i, i FROM n",
                   SQL_NONE, err);
}

static void test_damaged(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    char junk[4096];
    fixture_open_now(f);
    assert_ok(fixture_run(f, fill, nullptr, &err));
    fixture_close(f);
    for (size_t i = 0; i < sizeof(junk); i++)
        junk[i] = (char)(i * 7);
    int fd = open(f->path, O_WRONLY | O_CLOEXEC);
    struct stat info;
    assert_int_equal(fstat(fd, &info), 0);
    for (off_t at = 3 * 4096; at + 4096 <= info.st_size; at += 4096)
        assert_int_equal(pwrite(fd, junk, sizeof(junk), at), sizeof(junk));
    close(fd);
    bool opened = store_open(nullptr, &f->options, &f->store, &err);
    if (opened) {
        f->now = true;
        opened = fixture_run(f, read_all, nullptr, &err);
    }
    assert_fails(opened, ERROR_INTERNAL);
    assert_error_contains("damaged");
    assert_error_contains(f->path);
}

static bool put_marker(struct tx *tx, void *arg, struct error *err)
{
    return tx_exec(tx, "INSERT INTO item (name, value) VALUES ('a', $1)",
                   SQL_PARAMS(sql_blob(slice_str(arg))), err);
}

/* What is deleted is overwritten, in the database itself. */
static void test_deleted_is_gone(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    CLEANUP(buf_done) struct buf file;
    static const char marker[] = "a value that was replaced";
    for (int round = 0; round < 2; round++) {
        fixture_open_now(f);
        if (round == 0)
            assert_ok(fixture_run(f, put_marker, (void *)(uintptr_t)marker, &err));
        else
            assert_ok(fixture_exec(f, "DELETE FROM item", &err));
        fixture_close(f); /* brings the log into the database */
        buf_init(&file, 1024 * 1024);
        assert_ok(file_read(f->path, &file, &err));
        bool found = memmem(file.data, file.len, marker, sizeof(marker) - 1) != nullptr;
        assert_int_equal(found, round == 0);
        buf_done(&file);
    }
}

static void test_no_right(void **state)
{
    struct fixture *f = *state;
    if (geteuid() != 0) {
        print_message("skipped: needs root, to become somebody else\n");
        skip();
    }
    fixture_open_now(f);
    fixture_close(f);
    assert_int_equal(chmod(f->folder, 0755), 0);
    /* As nobody, in a child: root may do anything. */
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct error err = {0};
        struct store *store;
        bool ok = setresuid(65534, 65534, 65534) == 0 &&
                  !store_open(nullptr, &f->options, &store, &err) && err.class == ERROR_DENIED;
        if (!ok)
            (void)fprintf(stderr, "%s\n", err.message);
        _exit(ok ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

/* ── Other processes ─────────────────────────────────────────────────────────────────────────── */

static void test_second_store(void **state)
{
    struct fixture *f = *state;
    fixture_open(f);
    expect_refused(f, ERROR_CONFLICT, "in use by another process");
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct error err = {0};
        struct store *store;
        _exit(!store_open(nullptr, &f->options, &store, &err) && err.class == ERROR_CONFLICT ? 0
                                                                                             : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    fixture_close(f);
    fixture_open(f);
}

/* Another program with SQLite's own means, such as a person at sqlite3. */
static sqlite3 *stranger(struct fixture *f, const char *sql)
{
    sqlite3 *db;
    assert_int_equal(sqlite3_open_v2(f->path, &db, SQLITE_OPEN_READWRITE, nullptr), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, nullptr, nullptr, nullptr), SQLITE_OK);
    return db;
}

/* A child that runs `sql` with its own connection, says so, and keeps it for `ms`. */
static pid_t other_process(struct fixture *f, const char *sql, unsigned ms)
{
    int ready[2];
    char byte;
    assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        sqlite3 *db;
        bool ok = sqlite3_open_v2(f->path, &db, SQLITE_OPEN_READWRITE, nullptr) == SQLITE_OK &&
                  sqlite3_exec(db, sql, nullptr, nullptr, nullptr) == SQLITE_OK &&
                  write(ready[1], "+", 1) == 1;
        usleep(ms * 1000);
        _exit(ok ? 0 : 1); /* its transaction ends with it */
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    close(ready[1]);
    return child;
}

static void end_process(pid_t child)
{
    int status;
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, &status, 0), child);
}

static char name_a[] = "a", name_b[] = "b";

static bool put_one(struct tx *tx, void *arg, struct error *err)
{
    const char *name = arg;
    return tx_exec(tx, "INSERT INTO item (name) VALUES ($1)", SQL_PARAMS(sql_text(name)), err);
}

static bool count_items(struct tx *tx, void *arg, struct error *err)
{
    int64_t *ret = arg;
    CLEANUP(rows_done) struct rows rows = {0};
    return tx_query_one(tx, "SELECT count(*) FROM item", SQL_NONE, &rows, err) &&
           rows_int(&rows, 0, 0, INT32_MAX, ret, err);
}

static void test_locked(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    int64_t count = -1;
    fixture_open(f);
    pid_t child = other_process(f, "BEGIN IMMEDIATE", 60'000);
    uint64_t start = clock_boot_ms();
    assert_fails(fixture_run_for(f, true, put_one, name_a, 150, &err), ERROR_UNAVAILABLE);
    assert_error_contains("locked by another program");
    assert_error_contains(f->path);
    assert_true(clock_boot_ms() - start >= 140);
    /* Reading goes on. */
    assert_ok(fixture_read(f, count_items, &count, &err));
    assert_int_equal(count, 0);
    end_process(child);
    assert_ok(fixture_run(f, put_one, name_a, &err));
}

static void test_lock_that_ends(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    fixture_open(f);
    pid_t child = other_process(f, "BEGIN IMMEDIATE", 200);
    assert_ok(fixture_run(f, put_one, name_a, &err));
    end_process(child);
    assert_int_equal(fixture_count(f, "SELECT count(*) FROM item"), 1);
}

static void test_locked_at_open(void **state)
{
    struct fixture *f = *state;
    fixture_open(f);
    fixture_close(f);
    pid_t child = other_process(f, "PRAGMA locking_mode=EXCLUSIVE; BEGIN EXCLUSIVE", 60'000);
    f->options.timeout_ms = 100;
    expect_refused(f, ERROR_UNAVAILABLE, "locked by another program");
    end_process(child);
    f->options.timeout_ms = 0;
    fixture_open(f);
}

/* Somebody reads for long: writes go on, and the reader keeps its picture. */
static void test_concurrent_reader(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    fixture_open(f);
    assert_ok(fixture_run(f, put_one, name_a, &err));
    sqlite3 *db = stranger(f, "BEGIN; SELECT * FROM item");
    assert_ok(fixture_run(f, put_one, name_b, &err));
    assert_int_equal(fixture_count(f, "SELECT count(*) FROM item"), 2);
    sqlite3_stmt *statement;
    assert_int_equal(sqlite3_prepare_v2(db, "SELECT count(*) FROM item", -1, &statement, nullptr),
                     SQLITE_OK);
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    assert_int_equal(sqlite3_column_int(statement, 0), 1);
    sqlite3_finalize(statement);
    sqlite3_close(db);
}

/* ── Threads ─────────────────────────────────────────────────────────────────────────────────── */

/* A transaction that waits until it is told to go on. */
struct gate {
    atomic_bool entered;
    atomic_bool open;
    struct loop *loop;
    int ended; /* transactions whose done was called */
    int wanted;
    enum error_class last;
    struct store *store; /* what `done` tries to use */
    enum error_class resubmitted;
};

static bool wait_at_gate(struct tx *tx, void *arg, struct error *err)
{
    struct gate *gate = arg;
    if (!tx_exec(tx, "INSERT INTO item (name) VALUES ('gate')", SQL_NONE, err))
        return false;
    gate->entered = true;
    while (!gate->open)
        usleep(500);
    return true;
}

static bool nothing(struct tx *, void *, struct error *)
{
    return true;
}

static void count_done(void *arg, bool ok, const struct error *err)
{
    struct gate *gate = arg;
    gate->last = ok ? ERROR_NONE : err->class;
    if (++gate->ended == gate->wanted)
        loop_stop(gate->loop);
}

static void wait_entered(struct gate *gate)
{
    while (!gate->entered)
        usleep(500);
}

/* A read does not wait for a write, and does not see it before its commit. */
static void test_read_beside_write(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    int64_t count = -1;
    struct gate gate = {.loop = f->loop, .wanted = 1};
    fixture_open(f);
    assert_ok(store_transact(f->store, wait_at_gate, count_done, &gate, 0, &err));
    wait_entered(&gate);
    assert_ok(fixture_read(f, count_items, &count, &err));
    assert_int_equal(count, 0);
    assert_int_equal(gate.ended, 0);
    gate.open = true;
    loop_run(f->loop);
    assert_int_equal(gate.last, ERROR_NONE);
    assert_ok(fixture_read(f, count_items, &count, &err));
    assert_int_equal(count, 1);
}

static void test_read_only(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    fixture_open(f);
    assert_fails(fixture_read(f, put_one, name_a, &err), ERROR_INTERNAL);
    assert_error_contains("only reads");
    assert_int_equal(fixture_count(f, "SELECT count(*) FROM item"), 0);
}

static void test_deadline_in_queue(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    struct gate gate = {.loop = f->loop, .wanted = 2};
    fixture_open(f);
    assert_ok(store_transact(f->store, wait_at_gate, count_done, &gate, 0, &err));
    wait_entered(&gate);
    assert_ok(store_transact(f->store, wait_at_gate, count_done, &gate, 20, &err));
    usleep(40'000);
    gate.open = true;
    loop_run(f->loop);
    assert_int_equal(gate.last, ERROR_TIMEOUT);
    assert_int_equal(fixture_count(f, "SELECT count(*) FROM item"), 1);
}

static bool endless(struct tx *tx, void *, struct error *err)
{
    return put_one(tx, name_a, err) &&
           tx_exec(tx,
                   "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
                   " SELECT sum(i) FROM n",
                   SQL_NONE, err);
}

static void test_deadline_in_statement(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    fixture_open(f);
    assert_fails(fixture_run_for(f, true, endless, nullptr, 50, &err), ERROR_TIMEOUT);
    assert_int_equal(fixture_count(f, "SELECT count(*) FROM item"), 0);
}

static bool dawdle(struct tx *tx, void *, struct error *err)
{
    usleep(50'000);
    return put_one(tx, name_a, err);
}

static void test_deadline_before_commit(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    fixture_open(f);
    assert_fails(fixture_run_for(f, true, dawdle, nullptr, 20, &err), ERROR_TIMEOUT);
    assert_error_contains("before its commit");
    assert_int_equal(fixture_count(f, "SELECT count(*) FROM item"), 0);
}

static void test_queue_full(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    struct gate gate = {.loop = f->loop, .wanted = (int)STORE_QUEUE_MAX + 1};
    fixture_open(f);
    assert_ok(store_transact(f->store, wait_at_gate, count_done, &gate, 60'000, &err));
    wait_entered(&gate);
    for (size_t i = 0; i < STORE_QUEUE_MAX; i++)
        assert_ok(store_transact(f->store, nothing, count_done, &gate, 60'000, &err));
    assert_fails(store_transact(f->store, nothing, count_done, &gate, 60'000, &err),
                 ERROR_EXHAUSTED);
    gate.open = true;
    loop_run(f->loop);
    assert_int_equal(gate.ended, STORE_QUEUE_MAX + 1);
    assert_int_equal(gate.last, ERROR_NONE);
}

static void done_resubmits(void *arg, bool ok, const struct error *err)
{
    struct gate *gate = arg;
    struct error again = {0};
    gate->last = ok ? ERROR_NONE : err->class;
    gate->ended++;
    if (!store_read(gate->store, nothing, count_done, gate, 0, &again))
        gate->resubmitted = again.class;
}

/* The running transaction ends as it does, the waiting one is cancelled, each is told. */
static void test_free_with_work(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    struct gate gate = {.loop = f->loop};
    fixture_open(f);
    gate.store = f->store;
    gate.open = true;
    assert_ok(store_transact(f->store, wait_at_gate, count_done, &gate, 0, &err));
    wait_entered(&gate);
    gate.open = false;
    assert_ok(store_transact(f->store, put_one, done_resubmits, &gate, 0, &err));
    gate.open = true;
    fixture_close(f);
    assert_int_equal(gate.ended, 2);
    fixture_open(f);
    assert_in_range(fixture_count(f, "SELECT count(*) FROM item"), 1, 2);
    if (gate.last == ERROR_CANCELLED)
        assert_int_equal(gate.resubmitted, ERROR_CONFLICT);
}

static void free_in_done(void *arg, bool ok, const struct error *err)
{
    struct fixture *f = arg;
    assert_true(ok);
    assert_null(err);
    f->store = store_free(f->store);
    loop_stop(f->loop);
}

static void test_free_in_done(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    fixture_open(f);
    assert_ok(store_transact(f->store, nothing, free_in_done, f, 0, &err));
    loop_run(f->loop);
    assert_null(f->store);
}

static void test_now_or_queued(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    assert_null(store_free(nullptr));
    fixture_open(f);
    assert_fails(store_transact_now(f->store, nothing, nullptr, 0, &err), ERROR_INTERNAL);
    fixture_close(f);
    fixture_open_now(f);
    assert_fails(store_transact(f->store, nothing, count_done, nullptr, 0, &err), ERROR_INTERNAL);
    assert_fails(store_read(f->store, nothing, count_done, nullptr, 0, &err), ERROR_INTERNAL);
    assert_ok(store_transact_now(f->store, nothing, nullptr, 0, &err));
}

/* Many of both kinds at once, for ThreadSanitizer; every read sees a whole transaction. */
struct traffic {
    struct loop *loop;
    int left;
    int failed;
};

static bool put_pair(struct tx *tx, void *, struct error *err)
{
    return tx_exec(tx, "INSERT INTO part SELECT id, 'x' FROM item", SQL_NONE, err) &&
           tx_exec(tx, "INSERT INTO part SELECT id, 'y' FROM item", SQL_NONE, err);
}

static bool get_pairs(struct tx *tx, void *, struct error *err)
{
    int64_t count;
    CLEANUP(rows_done) struct rows rows = {0};
    return tx_query_one(tx, "SELECT count(*) % 2 FROM part", SQL_NONE, &rows, err) &&
           rows_int(&rows, 0, 0, 0, &count, err);
}

static void traffic_done(void *arg, bool ok, const struct error *)
{
    struct traffic *traffic = arg;
    traffic->failed += !ok;
    if (--traffic->left == 0)
        loop_stop(traffic->loop);
}

static void test_traffic(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    struct traffic traffic = {.loop = f->loop, .left = 400};
    fixture_open(f);
    assert_ok(fixture_run(f, put_one, name_a, &err));
    for (int i = 0; i < 200; i++) {
        assert_ok(store_transact(f->store, put_pair, traffic_done, &traffic, 60'000, &err));
        assert_ok(store_read(f->store, get_pairs, traffic_done, &traffic, 60'000, &err));
    }
    loop_run(f->loop);
    assert_int_equal(traffic.failed, 0);
    assert_int_equal(fixture_count(f, "SELECT count(*) FROM part"), 400);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_locations),
        TEST(test_path_too_long),
        TEST(test_modes),
        TEST(test_not_a_file),
        TEST(test_not_a_database),
        TEST(test_damaged),
        TEST(test_deleted_is_gone),
        TEST(test_no_right),
        TEST(test_second_store),
        TEST(test_locked),
        TEST(test_lock_that_ends),
        TEST(test_locked_at_open),
        TEST(test_concurrent_reader),
        TEST(test_read_beside_write),
        TEST(test_read_only),
        TEST(test_deadline_in_queue),
        TEST(test_deadline_in_statement),
        TEST(test_deadline_before_commit),
        TEST(test_queue_full),
        TEST(test_free_with_work),
        TEST(test_free_in_done),
        TEST(test_now_or_queued),
        TEST(test_traffic),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
