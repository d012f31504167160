/* The disk says no: full for real on a small tmpfs, and by a layer below SQLite that fails writes and
 * fsyncs on demand. And memory says no: every allocation fails once, SQLite's own included. */
#include "fixture.h"

#include "base/mem.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

/* ── A file system that fails ────────────────────────────────────────────────────────────────── */

static struct {
    sqlite3_vfs vfs;
    sqlite3_vfs *real;
    /* How many of the next calls on the write-ahead log fail, and with what. */
    atomic_int writes;
    atomic_int syncs;
    int code;
} faulty;

struct faulty_file {
    sqlite3_file base;
    sqlite3_io_methods methods; /* the real ones but for two */
    bool log;
    /* the real file follows */
};

static sqlite3_file *real_of(sqlite3_file *file)
{
    return (sqlite3_file *)((struct faulty_file *)file + 1);
}

static bool fails(sqlite3_file *file, atomic_int *left)
{
    if (!((struct faulty_file *)file)->log || *left <= 0)
        return false;
    --*left;
    return true;
}

#define REAL(file, method, ...)                                                                    \
    real_of(file)->pMethods->method(real_of(file) __VA_OPT__(, ) __VA_ARGS__)

static int file_close(sqlite3_file *file)
{
    return REAL(file, xClose);
}
static int file_read(sqlite3_file *file, void *to, int n, sqlite3_int64 at)
{
    return REAL(file, xRead, to, n, at);
}
static int file_write(sqlite3_file *file, const void *from, int n, sqlite3_int64 at)
{
    return fails(file, &faulty.writes) ? faulty.code : REAL(file, xWrite, from, n, at);
}
static int file_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    return REAL(file, xTruncate, size);
}
static int file_sync(sqlite3_file *file, int flags)
{
    return fails(file, &faulty.syncs) ? faulty.code : REAL(file, xSync, flags);
}
static int file_size(sqlite3_file *file, sqlite3_int64 *ret)
{
    return REAL(file, xFileSize, ret);
}
static int file_lock(sqlite3_file *file, int level)
{
    return REAL(file, xLock, level);
}
static int file_unlock(sqlite3_file *file, int level)
{
    return REAL(file, xUnlock, level);
}
static int file_check(sqlite3_file *file, int *ret)
{
    return REAL(file, xCheckReservedLock, ret);
}
static int file_control(sqlite3_file *file, int op, void *arg)
{
    return REAL(file, xFileControl, op, arg);
}
static int file_sector(sqlite3_file *file)
{
    return REAL(file, xSectorSize);
}
static int file_device(sqlite3_file *file)
{
    return REAL(file, xDeviceCharacteristics);
}
static int shm_map(sqlite3_file *file, int page, int size, int extend, void volatile **ret)
{
    return REAL(file, xShmMap, page, size, extend, ret);
}
static int shm_lock(sqlite3_file *file, int offset, int n, int flags)
{
    return REAL(file, xShmLock, offset, n, flags);
}
static void shm_barrier(sqlite3_file *file)
{
    REAL(file, xShmBarrier);
}
static int shm_unmap(sqlite3_file *file, int drop)
{
    return REAL(file, xShmUnmap, drop);
}

static int faulty_open(sqlite3_vfs *, const char *name, sqlite3_file *file, int flags, int *ret)
{
    struct faulty_file *mine = (struct faulty_file *)file;
    int code = faulty.real->xOpen(faulty.real, name, real_of(file), flags, ret);
    if (code != SQLITE_OK || real_of(file)->pMethods == nullptr) {
        file->pMethods = nullptr;
        return code;
    }
    mine->log = (flags & SQLITE_OPEN_WAL) != 0;
    mine->methods = (sqlite3_io_methods){.iVersion = 2,
                                         .xClose = file_close,
                                         .xRead = file_read,
                                         .xWrite = file_write,
                                         .xTruncate = file_truncate,
                                         .xSync = file_sync,
                                         .xFileSize = file_size,
                                         .xLock = file_lock,
                                         .xUnlock = file_unlock,
                                         .xCheckReservedLock = file_check,
                                         .xFileControl = file_control,
                                         .xSectorSize = file_sector,
                                         .xDeviceCharacteristics = file_device,
                                         .xShmMap = shm_map,
                                         .xShmLock = shm_lock,
                                         .xShmBarrier = shm_barrier,
                                         .xShmUnmap = shm_unmap};
    file->pMethods = &mine->methods;
    return SQLITE_OK;
}

static int faulty_install(void **)
{
    faulty.real = sqlite3_vfs_find(nullptr);
    assert_non_null(faulty.real);
    faulty.vfs = *faulty.real;
    faulty.vfs.zName = "faulty";
    faulty.vfs.szOsFile = (int)sizeof(struct faulty_file) + faulty.real->szOsFile;
    faulty.vfs.xOpen = faulty_open;
    return sqlite3_vfs_register(&faulty.vfs, 1);
}

static int faulty_remove(void **)
{
    return sqlite3_vfs_unregister(&faulty.vfs);
}

/* ── What comes of it ────────────────────────────────────────────────────────────────────────── */

struct body {
    int runs;
};

static bool put(struct tx *tx, void *arg, struct error *err)
{
    struct body *body = arg;
    body->runs++;
    return tx_exec(tx, "INSERT INTO item (name) VALUES ('a')", SQL_NONE, err);
}

static void test_busy_is_repeated(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    struct body body = {0};
    fixture_open(f);
    faulty.code = SQLITE_BUSY;
    faulty.writes = 2;
    assert_ok(fixture_run(f, put, &body, &err));
    assert_int_equal(body.runs, 3);
    assert_int_equal(fixture_count(f, "SELECT count(*) FROM item"), 1);
}

static void test_busy_for_ever(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    struct body body = {0};
    fixture_open(f);
    faulty.code = SQLITE_BUSY;
    faulty.writes = 1000;
    assert_fails(fixture_run(f, put, &body, &err), ERROR_UNAVAILABLE);
    faulty.writes = 0;
    assert_int_equal(body.runs, STORE_ATTEMPTS_MAX);
    assert_int_equal(fixture_count(f, "SELECT count(*) FROM item"), 0);
}

static void expect_fault(struct fixture *f, atomic_int *what, int code, enum error_class class,
                         const char *text)
{
    struct error err = {0};
    struct body body = {0};
    faulty.code = code;
    *what = 1;
    assert_fails(fixture_run(f, put, &body, &err), class);
    assert_int_equal(*what, 0); /* it was hit */
    assert_error_contains(text);
    assert_error_contains(f->path);
    assert_int_equal(err.domain, ERROR_DOMAIN_SQLITE);
    assert_int_equal(err.code, code);
    assert_int_equal(body.runs, 1);
    /* Nothing of it is seen, and the next one is as if nothing had been. */
    assert_int_equal(fixture_count(f, "SELECT count(*) FROM item"), 0);
    assert_ok(fixture_run(f, put, &body, &err));
    assert_int_equal(fixture_count(f, "SELECT count(*) FROM item"), 1);
    assert_ok(fixture_exec(f, "DELETE FROM item", &err));
}

static void test_io_errors(void **state)
{
    struct fixture *f = *state;
    fixture_open(f);
    expect_fault(f, &faulty.syncs, SQLITE_IOERR_FSYNC, ERROR_UNAVAILABLE, "I/O");
    expect_fault(f, &faulty.writes, SQLITE_IOERR_WRITE, ERROR_UNAVAILABLE, "I/O");
    expect_fault(f, &faulty.writes, SQLITE_FULL, ERROR_EXHAUSTED, "disk is full");
    expect_fault(f, &faulty.writes, SQLITE_READONLY, ERROR_DENIED, "can't be written");
    expect_fault(f, &faulty.writes, SQLITE_NOMEM, ERROR_EXHAUSTED, "out of memory");
    expect_fault(f, &faulty.writes, SQLITE_CORRUPT, ERROR_INTERNAL, "damaged");
}

/* A commit that was reported is in the synced part of the log: what an fsync error leaves behind is
 * not. Opened anew, all that was acknowledged is there. */
static void test_after_fsync_error(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    struct body body = {0};
    fixture_open(f);
    assert_ok(fixture_exec(f, "INSERT INTO item (name) VALUES ('first')", &err));
    faulty.code = SQLITE_IOERR_FSYNC;
    faulty.syncs = 1;
    assert_fails(fixture_run(f, put, &body, &err), ERROR_UNAVAILABLE);
    assert_ok(fixture_exec(f, "INSERT INTO item (name) VALUES ('second')", &err));
    fixture_close(f);
    fixture_open(f);
    assert_int_equal(fixture_count(f, "SELECT count(*) FROM item WHERE name = 'first'"), 1);
    assert_int_equal(fixture_count(f, "SELECT count(*) FROM item WHERE name = 'second'"), 1);
    assert_int_equal(fixture_count(f, "SELECT count(*) FROM item"), 2);
}

/* ── A disk that is full ─────────────────────────────────────────────────────────────────────── */

static bool put_large(struct tx *tx, void *arg, struct error *err)
{
    static const uint8_t value[64 * 1024];
    char name[24];
    int *number = arg;
    (void)snprintf(name, sizeof(name), "large %d", *number);
    return tx_exec(tx, "INSERT INTO item (name, value) VALUES ($1, $2)",
                   SQL_PARAMS(sql_text(name), sql_blob(SLICE_OF(value))), err);
}

static void test_disk_full(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    int stored = 0;
    if (mount("tmpfs", f->folder, "tmpfs", 0, "size=1m,mode=0700") < 0) {
        print_message("skipped: mount is not permitted (%s)\n", strerror(errno));
        skip();
    }
    fixture_open(f);
    while (stored < 100 && fixture_run(f, put_large, &stored, &err))
        stored++;
    struct error full = err;
    int64_t count = fixture_count(f, "SELECT count(*) FROM item");
    /* With room again it goes on, in the same store and in a new one. */
    bool grown = mount("tmpfs", f->folder, "tmpfs", MS_REMOUNT, "size=16m,mode=0700") == 0;
    bool went_on = fixture_run(f, put_large, &stored, &err);
    fixture_close(f);
    fixture_open(f);
    int64_t after = fixture_count(f, "SELECT count(*) FROM item");
    fixture_close(f);
    assert_int_equal(umount2(f->folder, MNT_DETACH), 0);
    err = full;
    assert_fails(false, ERROR_EXHAUSTED);
    assert_error_contains("free space");
    assert_error_contains(f->path);
    assert_true(stored > 0 && stored < 100);
    assert_int_equal(count, stored);
    assert_true(grown);
    assert_true(went_on);
    assert_int_equal(after, stored + 1);
}

static void test_no_room_at_all(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    if (mount("tmpfs", f->folder, "tmpfs", 0, "size=16k,mode=0700") < 0) {
        print_message("skipped: mount is not permitted (%s)\n", strerror(errno));
        skip();
    }
    bool ok = store_open(nullptr, &f->options, &f->store, &err);
    assert_int_equal(umount2(f->folder, MNT_DETACH), 0);
    assert_fails(ok, ERROR_EXHAUSTED);
    assert_error_contains(f->path);
}

/* ── Memory ──────────────────────────────────────────────────────────────────────────────────── */

static bool work(struct tx *tx, void *, struct error *err)
{
    struct slice text;
    CLEANUP(rows_done) struct rows rows = {0};
    return tx_exec(tx, "DELETE FROM item", SQL_NONE, err) &&
           tx_exec(tx, "INSERT INTO item (name, value) VALUES ($1, $2)",
                   SQL_PARAMS(sql_text("größe"), sql_blob(slice("abc", 3))), err) &&
           tx_query_one(tx, "SELECT name FROM item ORDER BY name", SQL_NONE, &rows, err) &&
           rows_text(&rows, 0, 100, &text, err);
}

static bool open_and_work(void *arg, struct error *err)
{
    struct fixture *f = arg;
    CLEANUP(store_free_at) struct store *store = nullptr;
    return store_open(nullptr, &f->options, &store, err) &&
           store_transact_now(store, work, nullptr, 0, err);
}

static bool open_with_threads(void *arg, struct error *err)
{
    struct fixture *f = arg;
    CLEANUP(store_free_at) struct store *store = nullptr;
    return store_open(f->loop, &f->options, &store, err);
}

static void note_done(void *arg, bool, const struct error *)
{
    loop_stop(arg);
}

static bool submit(void *arg, struct error *err)
{
    struct fixture *f = arg;
    if (!store_transact(f->store, work, note_done, f->loop, 0, err))
        return false;
    loop_run(f->loop);
    return true;
}

/* `done` has another argument than `run` would want: none of them looks at it. */
static void test_own_allocations(void **state)
{
    struct fixture *f = *state;
    testlib_allocation_sweep(open_and_work, f);
    testlib_allocation_sweep(open_with_threads, f);
    fixture_open(f);
    testlib_allocation_sweep(submit, f);
}

/* SQLite's allocator by base/mem, which can be made to fail. Sizes are kept in front. */
static void *sqlite_malloc(int n)
{
    max_align_t *block = mem_new(1, (size_t)n + sizeof(max_align_t));
    if (block == nullptr)
        return nullptr;
    *(int *)block = n;
    return block + 1;
}

static void sqlite_free(void *object)
{
    mem_free(object ? (max_align_t *)object - 1 : nullptr);
}

static void *sqlite_realloc(void *old, int n)
{
    max_align_t *block = mem_resize((max_align_t *)old - 1, (size_t)n + sizeof(max_align_t));
    if (block == nullptr)
        return nullptr;
    *(int *)block = n;
    return block + 1;
}

static int sqlite_size(void *object)
{
    return *(int *)((max_align_t *)object - 1);
}

static int sqlite_round(int n)
{
    return (n + 7) & ~7;
}

static int sqlite_init(void *)
{
    return SQLITE_OK;
}

static void sqlite_end(void *)
{
}

/* SQLite lives through the loss of some allocations (caches), so success in the middle is right; what
 * is not: another class, a crash, a leak, or a database that is worse afterwards. */
static void test_sqlite_allocations(void **state)
{
    static const sqlite3_mem_methods methods = {sqlite_malloc, sqlite_free,  sqlite_realloc,
                                                sqlite_size,   sqlite_round, sqlite_init,
                                                sqlite_end,    nullptr};
    sqlite3_mem_methods before;
    struct fixture *f = *state;
    struct error err = {0};
    assert_int_equal(sqlite3_shutdown(), SQLITE_OK);
    assert_int_equal(sqlite3_config(SQLITE_CONFIG_GETMALLOC, &before), SQLITE_OK);
    assert_int_equal(sqlite3_config(SQLITE_CONFIG_MALLOC, &methods), SQLITE_OK);
    assert_int_equal(sqlite3_initialize(), SQLITE_OK);
    assert_ok(open_and_work(f, &err));
    (void)mem_fail_after(0);
    assert_ok(open_and_work(f, &err));
    uint64_t total = mem_fail_after(0);
    unsigned failed = 0;
    for (uint64_t n = 1; n <= total; n++) {
        err = (struct error){0};
        (void)mem_fail_after(n);
        bool ok = open_and_work(f, &err);
        (void)mem_fail_after(0);
        if (!ok && err.class != ERROR_EXHAUSTED)
            fail_msg("allocation %llu: %s: %s", (unsigned long long)n, error_class_name(err.class),
                     err.message);
        failed += !ok;
    }
    print_message("%llu allocations failed once each, %u of them showed\n",
                  (unsigned long long)total, failed);
    assert_true(failed > 100);
    assert_ok(open_and_work(f, &err));
    assert_int_equal(sqlite3_shutdown(), SQLITE_OK);
    assert_int_equal(sqlite3_config(SQLITE_CONFIG_MALLOC, &before), SQLITE_OK);
    assert_int_equal(sqlite3_initialize(), SQLITE_OK);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest faults[] = {
        TEST(test_busy_is_repeated),
        TEST(test_busy_for_ever),
        TEST(test_io_errors),
        TEST(test_after_fsync_error),
    };
    const struct CMUnitTest limits[] = {
        TEST(test_disk_full),
        TEST(test_no_room_at_all),
        TEST(test_own_allocations),
        TEST(test_sqlite_allocations),
    };
    int failed = cmocka_run_group_tests(faults, faulty_install, faulty_remove);
    return failed + cmocka_run_group_tests(limits, nullptr, nullptr);
}
