/* store/tx.h: statements, parameters, columns, and what a failed one does to its transaction. */
#include "fixture.h"

#include "base/mem.h"
#include "base/text.h"

#include <string.h>

/* Most tests are one transaction: the body, and what it shall end with. */
static void expect(void **state, store_run *run, enum error_class class, const char *text)
{
    struct fixture *f = *state;
    struct error err = {0};
    fixture_open_now(f);
    if (class == ERROR_NONE) {
        assert_ok(fixture_run(f, run, nullptr, &err));
    } else {
        assert_fails(fixture_run(f, run, nullptr, &err), class);
        assert_error_contains(text);
    }
}

/* ── Parameters and columns ──────────────────────────────────────────────────────────────────── */

static bool all_types(struct tx *tx, void *, struct error *err)
{
    static const uint8_t blob[] = {0, 1, 2, 0xff};
    int64_t id;
    struct slice name, value;
    /* Out of order, and $1 twice. */
    if (!tx_exec(tx, "INSERT INTO item (id, name, value, size) VALUES ($3, $2, $4, $1 + $1)",
                 SQL_PARAMS(sql_int(21), sql_text("größe"), sql_int(INT64_MIN),
                            sql_blob(slice(blob, sizeof(blob)))),
                 err))
        return false;
    assert_int_equal(tx_changed(tx), 1);
    CLEANUP(rows_done) struct rows rows = {0};
    if (!tx_query_one(tx, "SELECT id, name, value, size, NULL FROM item WHERE name = $1",
                      SQL_PARAMS(sql_text_slice(slice("größe…", 7))), &rows, err) ||
        !rows_int(&rows, 0, INT64_MIN, 0, &id, err) || !rows_text(&rows, 1, 7, &name, err) ||
        !rows_blob(&rows, 2, 4, 4, &value, err))
        return false;
    assert_true(id == INT64_MIN);
    assert_true(slice_is(name, "größe"));
    assert_int_equal(name.data[name.len], 0);
    assert_true(slice_equal(value, slice(blob, sizeof(blob))));
    assert_true(rows_int(&rows, 3, 42, 42, &id, err));
    assert_true(rows_null(&rows, 4));
    assert_false(rows_null(&rows, 3));
    return true;
}

static void test_types(void **state)
{
    expect(state, all_types, ERROR_NONE, nullptr);
}

static bool empty_values(struct tx *tx, void *, struct error *err)
{
    struct slice text, blob;
    CLEANUP(rows_done) struct rows rows = {0};
    if (!tx_exec(tx, "INSERT INTO item (name, value, size) VALUES ($1, $2, $3)",
                 SQL_PARAMS(sql_text(""), sql_blob(slice(nullptr, 0)), sql_null()), err) ||
        !tx_query_one(tx, "SELECT name, value, size FROM item", SQL_NONE, &rows, err) ||
        !rows_text(&rows, 0, 0, &text, err) || !rows_blob(&rows, 1, 0, 0, &blob, err))
        return false;
    assert_int_equal(text.len, 0);
    assert_int_equal(blob.len, 0);
    assert_true(rows_null(&rows, 2));
    return true;
}

static void test_empty_is_not_null(void **state)
{
    expect(state, empty_values, ERROR_NONE, nullptr);
}

static bool many_rows(struct tx *tx, void *, struct error *err)
{
    for (int i = 0; i < 100; i++) {
        char name[16];
        (void)snprintf(name, sizeof(name), "n%03d", i);
        if (!tx_exec(tx, "INSERT INTO item (id, name) VALUES ($1, $2)",
                     SQL_PARAMS(sql_int(i), sql_text(name)), err))
            return false;
    }
    /* A cursor in a cursor, with the same text. */
    int64_t seen = 0;
    CLEANUP(rows_done) struct rows outer = {0};
    if (!tx_query(tx, "SELECT id FROM item ORDER BY id LIMIT 10", SQL_NONE, &outer, err))
        return false;
    for (bool more;;) {
        int64_t first;
        if (!rows_next(&outer, &more, err))
            return false;
        if (!more)
            break;
        assert_true(rows_int(&outer, 0, seen, seen, &first, err));
        seen++;
        CLEANUP(rows_done) struct rows inner = {0};
        if (!tx_query(tx, "SELECT id FROM item ORDER BY id LIMIT 10", SQL_NONE, &inner, err) ||
            !rows_next(&inner, &more, err))
            return false;
        assert_true(more);
        assert_true(rows_int(&inner, 0, 0, 0, &first, err));
    }
    assert_int_equal(seen, 10);
    assert_true(
        tx_exec(tx, "UPDATE item SET size = 1 WHERE id < $1", SQL_PARAMS(sql_int(30)), err));
    assert_int_equal(tx_changed(tx), 30);
    assert_true(tx_exec(tx, "SELECT id FROM item", SQL_NONE, err));
    assert_int_equal(tx_changed(tx), 0);
    assert_true(tx_exec(tx, "DELETE FROM item WHERE id = 1000", SQL_NONE, err));
    assert_int_equal(tx_changed(tx), 0);
    return true;
}

static void test_many_rows(void **state)
{
    expect(state, many_rows, ERROR_NONE, nullptr);
}

static bool returning(struct tx *tx, void *, struct error *err)
{
    int64_t id;
    CLEANUP(rows_done) struct rows rows = {0};
    return tx_query_one(tx, "INSERT INTO item (id, name) VALUES (9, 'a') RETURNING id", SQL_NONE,
                        &rows, err) &&
           rows_int(&rows, 0, 9, 9, &id, err);
}

static void test_returning(void **state)
{
    expect(state, returning, ERROR_NONE, nullptr);
    assert_int_equal(fixture_count(*state, "SELECT count(*) FROM item"), 1);
}

static bool column_refusals(struct tx *tx, void *, struct error *final)
{
    struct error err = {0};
    struct rows rows = {0};
    int64_t number = 77;
    struct slice bytes = slice(POISON, 1);
    bool more = true;
    assert_false(rows_int(&rows, 0, 0, 0, &number, &err)); /* no cursor at all */
    assert_fails(rows_next(&rows, &more, &err), ERROR_INTERNAL);
    assert_fails(tx_query_one(tx, "SELECT id FROM item", SQL_NONE, &rows, &err), ERROR_NOT_FOUND);
    assert_null(rows.statement);
    if (!tx_query_one(tx,
                      "SELECT 5 AS five, 'text' AS word, x'0102' AS bytes, NULL AS missing,"
                      " 1.5 AS half, CAST(x'61ff' AS TEXT) AS broken,"
                      " CAST(x'610062' AS TEXT) AS zero",
                      SQL_NONE, &rows, final))
        return false;
    assert_fails(rows_int(&rows, 0, 6, 9, &number, &err), ERROR_INTERNAL);
    assert_error_contains("five is 5: expected 6 to 9");
    assert_fails(rows_int(&rows, 0, 0, 4, &number, &err), ERROR_INTERNAL);
    assert_fails(rows_int(&rows, 1, 0, 9, &number, &err), ERROR_INTERNAL);
    assert_error_contains("word is text: expected an integer");
    assert_fails(rows_int(&rows, 3, 0, 9, &number, &err), ERROR_INTERNAL);
    assert_error_contains("missing is NULL");
    assert_fails(rows_int(&rows, 4, 0, 9, &number, &err), ERROR_INTERNAL);
    assert_error_contains("half is a floating-point number");
    assert_fails(rows_int(&rows, 7, 0, 9, &number, &err), ERROR_INTERNAL);
    assert_fails(rows_int(&rows, -1, 0, 9, &number, &err), ERROR_INTERNAL);
    assert_fails(rows_text(&rows, 1, 3, &bytes, &err), ERROR_INTERNAL);
    assert_error_contains("word has 4 bytes: expected 0 to 3");
    assert_fails(rows_text(&rows, 2, 9, &bytes, &err), ERROR_INTERNAL);
    assert_fails(rows_text(&rows, 5, 9, &bytes, &err), ERROR_INTERNAL);
    assert_error_contains("broken is not UTF-8");
    assert_fails(rows_text(&rows, 6, 9, &bytes, &err), ERROR_INTERNAL);
    assert_fails(rows_blob(&rows, 2, 3, 9, &bytes, &err), ERROR_INTERNAL);
    assert_fails(rows_blob(&rows, 2, 0, 1, &bytes, &err), ERROR_INTERNAL);
    assert_fails(rows_blob(&rows, 1, 0, 9, &bytes, &err), ERROR_INTERNAL);
    assert_fails(rows_blob(&rows, 3, 0, 9, &bytes, &err), ERROR_INTERNAL);
    assert_int_equal(number, 77);
    assert_ptr_equal(bytes.data, POISON);
    /* At its end there is no row, and no second beginning. */
    assert_true(rows_next(&rows, &more, &err));
    assert_false(more);
    assert_fails(rows_int(&rows, 0, 0, 9, &number, &err), ERROR_INTERNAL);
    assert_fails(rows_next(&rows, &more, &err), ERROR_INTERNAL);
    rows_done(&rows);
    rows_done(&rows);
    return true;
}

static void test_column_refusals(void **state)
{
    expect(state, column_refusals, ERROR_NONE, nullptr);
}

/* ── Statements that are refused ─────────────────────────────────────────────────────────────── */

static struct sql_params some_params;

static bool one_statement(struct tx *tx, void *arg, struct error *err)
{
    return tx_exec(tx, arg, some_params, err);
}

static void test_wrong_statements(void **state)
{
    static const struct {
        const char *sql;
        size_t params;
        enum error_class class;
    } cases[] = {
        {"SELEKT 1", 0, ERROR_INTERNAL},
        {"", 0, ERROR_INTERNAL},
        {"-- nothing", 0, ERROR_INTERNAL},
        {"SELECT 1; SELECT 2", 0, ERROR_INTERNAL},
        {"SELECT $1", 0, ERROR_INTERNAL},
        {"SELECT 1", 1, ERROR_INTERNAL},
        {"SELECT $1, $3", 2, ERROR_INTERNAL},
        {"SELECT $2", 1, ERROR_INTERNAL},
        {"SELECT ?", 1, ERROR_INTERNAL},
        {"SELECT ?1", 1, ERROR_INTERNAL},
        {"SELECT :name", 1, ERROR_INTERNAL},
        {"SELECT $name", 1, ERROR_INTERNAL},
        {"SELECT $0", 1, ERROR_INTERNAL},
        {"SELECT $33", 1, ERROR_INTERNAL},
        {"SELECT \"no such column\" FROM item", 0, ERROR_INTERNAL},
        {"COMMIT", 0, ERROR_INTERNAL},
        {"ROLLBACK", 0, ERROR_INTERNAL},
        {"BEGIN", 0, ERROR_INTERNAL},
        {"SAVEPOINT s", 0, ERROR_INTERNAL},
        {"ATTACH ':memory:' AS other", 0, ERROR_INTERNAL},
        {"PRAGMA foreign_keys = OFF", 0, ERROR_INTERNAL},
        {"PRAGMA user_version", 0, ERROR_INTERNAL},
        {"VACUUM", 0, ERROR_INTERNAL},
        {"CREATE TABLE t (x)", 0, ERROR_INTERNAL},
        {"CREATE TEMP TABLE t (x)", 0, ERROR_INTERNAL},
        {"DROP TABLE item", 0, ERROR_INTERNAL},
        {"ALTER TABLE item ADD COLUMN x", 0, ERROR_INTERNAL},
        {"UPDATE sqlite_schema SET sql = ''", 0, ERROR_INTERNAL},
        {"SELECT load_extension('x')", 0, ERROR_INTERNAL},
        {"INSERT INTO item (name, size) VALUES ('a', 'no number')", 0, ERROR_INTERNAL},
        {"INSERT INTO item (name, size) VALUES ('a', -1)", 0, ERROR_CONFLICT},
        {"INSERT INTO item (id) VALUES (1)", 0, ERROR_CONFLICT},
        {"INSERT INTO part (item) VALUES (12345)", 0, ERROR_CONFLICT},
        {"INSERT INTO item (id, name) VALUES (1, 'a'), (1, 'b')", 0, ERROR_EXISTS},
        {"INSERT INTO item (id, name) VALUES (1, 'a'), (2, 'a')", 0, ERROR_EXISTS},
        {"SELECT zeroblob(10000000)", 0, ERROR_EXHAUSTED},
    };
    struct fixture *f = *state;
    static const struct sql_value values[4] = {{0}};
    fixture_open_now(f);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct error err = {0};
        some_params = (struct sql_params){values, cases[i].params};
        bool ok = fixture_run(f, one_statement, (void *)(uintptr_t)cases[i].sql, &err);
        if (ok || err.class != cases[i].class)
            fail_msg("%s: ok %d, %s: %s", cases[i].sql, ok, error_class_name(err.class),
                     err.message);
    }
    /* And nothing of it happened; each transaction was ended. */
    assert_int_equal(fixture_count(f, "SELECT count(*) FROM item"), 0);
}

static void test_native_code_and_path(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    fixture_open_now(f);
    assert_ok(fixture_exec(f, "INSERT INTO item (id, name) VALUES (1, 'a')", &err));
    assert_fails(fixture_exec(f, "INSERT INTO item (id, name) VALUES (2, 'a')", &err),
                 ERROR_EXISTS);
    assert_int_equal(err.domain, ERROR_DOMAIN_SQLITE);
    assert_int_equal(err.code, 2067); /* SQLITE_CONSTRAINT_UNIQUE */
    assert_error_contains("item.name");
    assert_error_contains(f->path);
}

static void test_wrong_values(void **state)
{
    struct fixture *f = *state;
    uint8_t *large = mem_new(1, TX_VALUE_MAX + 1);
    struct error err = {0};
    assert_non_null(large);
    memset(large, 'x', TX_VALUE_MAX + 1);
    fixture_open_now(f);
    const struct {
        struct sql_value value;
        enum error_class class;
    } cases[] = {
        {sql_text_slice(slice("a\0b", 3)), ERROR_INVALID},
        {sql_text("\xff"), ERROR_INVALID},
        {sql_text_slice(slice(large, TX_VALUE_MAX + 1)), ERROR_INVALID},
        {sql_blob(slice(large, TX_VALUE_MAX + 1)), ERROR_INVALID},
        {sql_blob(slice(large, TX_VALUE_MAX)), ERROR_NONE},
        {sql_text_slice(slice(large, TX_VALUE_MAX)), ERROR_NONE},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        some_params = SQL_PARAMS(cases[i].value);
        err = (struct error){0};
        bool ok = fixture_run(f, one_statement, (void *)(uintptr_t)"SELECT length($1)", &err);
        assert_int_equal(ok, cases[i].class == ERROR_NONE);
        assert_int_equal(err.class, cases[i].class);
    }
    mem_free(large);
}

/* ── A failed statement dooms its transaction ────────────────────────────────────────────────── */

static bool doomed(struct tx *tx, void *, struct error *final)
{
    struct error err = {0};
    struct rows rows = {0};
    (void) final;
    assert_ok(tx_exec(tx, "INSERT INTO item (id, name) VALUES (1, 'a')", SQL_NONE, &err));
    assert_fails(tx_exec(tx, "INSERT INTO item (id, name) VALUES (1, 'b')", SQL_NONE, &err),
                 ERROR_EXISTS);
    err = (struct error){0};
    assert_fails(tx_exec(tx, "INSERT INTO item (id, name) VALUES (2, 'b')", SQL_NONE, &err),
                 ERROR_EXISTS);
    assert_fails(tx_query(tx, "SELECT 1", SQL_NONE, &rows, &err), ERROR_EXISTS);
    return true;
}

static void test_doomed(void **state)
{
    expect(state, doomed, ERROR_EXISTS, "item.id");
    assert_int_equal(fixture_count(*state, "SELECT count(*) FROM item"), 0);
}

static bool cursor_of_doomed(struct tx *tx, void *, struct error *err)
{
    struct error inner = {0};
    bool more;
    CLEANUP(rows_done) struct rows rows = {0};
    if (!tx_exec(tx, "INSERT INTO item (id, name) VALUES (1, 'a'), (2, 'b')", SQL_NONE, err) ||
        !tx_query_one(tx, "SELECT id FROM item", SQL_NONE, &rows, err))
        return false;
    testlib_assert_fails(tx_exec(tx, "SELEKT", SQL_NONE, &inner), &inner, ERROR_INTERNAL, "exec",
                         __FILE__, __LINE__);
    return rows_next(&rows, &more, err);
}

static void test_cursor_of_doomed(void **state)
{
    expect(state, cursor_of_doomed, ERROR_INTERNAL, "SELEKT");
}

static bool leave_cursor(struct tx *tx, void *, struct error *err)
{
    struct rows rows = {0};
    return tx_exec(tx, "INSERT INTO item (name) VALUES ('a')", SQL_NONE, err) &&
           tx_query_one(tx, "SELECT id FROM item", SQL_NONE, &rows, err);
}

static void test_cursor_left_open(void **state)
{
    expect(state, leave_cursor, ERROR_INTERNAL, "left 1 cursors open");
    assert_int_equal(fixture_count(*state, "SELECT count(*) FROM item"), 0);
}

static bool too_many_cursors(struct tx *tx, void *, struct error *err)
{
    struct rows rows[TX_CACHE_MAX + 1] = {0};
    bool ok = true;
    size_t open = 0;
    while (ok && open <= TX_CACHE_MAX) {
        ok = tx_query(tx, "SELECT 1", SQL_NONE, &rows[open], err);
        open += ok;
    }
    assert_int_equal(open, TX_CACHE_MAX);
    for (size_t i = 0; i < open; i++)
        rows_done(&rows[i]);
    return ok;
}

static void test_too_many_cursors(void **state)
{
    expect(state, too_many_cursors, ERROR_EXHAUSTED, "cursors open at once");
}

static bool false_without_error(struct tx *tx, void *, struct error *err)
{
    (void)tx;
    (void)err;
    return false;
}

static void test_failure_without_error(void **state)
{
    expect(state, false_without_error, ERROR_INTERNAL, "without saying why");
}

/* More different statements than the cache holds, twice. */
static bool full_cache(struct tx *tx, void *, struct error *err)
{
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < (int)TX_CACHE_MAX + 20; i++) {
            char sql[48];
            int64_t value;
            CLEANUP(rows_done) struct rows rows = {0};
            (void)snprintf(sql, sizeof(sql), "SELECT %d + $1", i);
            if (!tx_query_one(tx, sql, SQL_PARAMS(sql_int(round)), &rows, err) ||
                !rows_int(&rows, 0, i + round, i + round, &value, err))
                return false;
        }
    }
    return true;
}

static void test_full_cache(void **state)
{
    expect(state, full_cache, ERROR_NONE, nullptr);
}

static bool cascade(struct tx *tx, void *, struct error *err)
{
    return tx_exec(tx, "INSERT INTO item (id, name) VALUES (1, 'a')", SQL_NONE, err) &&
           tx_exec(tx, "INSERT INTO part (item, text) VALUES (1, 'x')", SQL_NONE, err) &&
           tx_exec(tx, "DELETE FROM item", SQL_NONE, err);
}

static void test_cascade(void **state)
{
    expect(state, cascade, ERROR_NONE, nullptr);
    assert_int_equal(fixture_count(*state, "SELECT count(*) FROM part"), 0);
}

/* ── Sizes at random: what goes in comes out ─────────────────────────────────────────────────── */

struct sizes {
    uint64_t random;
    uint8_t *bytes;
    size_t size;
};

static size_t random_size(uint64_t *random)
{
    static const size_t edges[] = {0, 1, 4095, 4096, 4097, 65536, 1024 * 1024, TX_VALUE_MAX};
    uint64_t n = fixture_random(random);
    if (n % 40 == 0)
        return edges[ARRAY_LEN(edges) - 1 - (n >> 8) % 2];
    if (n % 4 == 0)
        return edges[(n >> 8) % (ARRAY_LEN(edges) - 2)];
    return (n >> 8) % (n % 3 == 0 ? 100'000 : 300);
}

static bool put_and_get(struct tx *tx, void *arg, struct error *err)
{
    struct sizes *s = arg;
    size_t text_len = random_size(&s->random);
    size_t blob_len = random_size(&s->random);
    bool fits = text_len + blob_len + 64 <= 2 * TX_VALUE_MAX;
    uint8_t *text = s->bytes;
    uint8_t *blob = s->bytes + TX_VALUE_MAX;
    struct slice got;
    for (size_t i = 0; i < text_len; i++)
        text[i] = (uint8_t)(' ' + fixture_random(&s->random) % 90);
    for (size_t i = 0; i < blob_len; i++)
        blob[i] = (uint8_t)fixture_random(&s->random);
    CLEANUP(rows_done) struct rows rows = {0};
    if (!tx_exec(tx, "DELETE FROM item", SQL_NONE, err))
        return false;
    bool ok = tx_exec(
        tx, "INSERT INTO item (name, value) VALUES ($1, $2)",
        SQL_PARAMS(sql_text_slice(slice(text, text_len)), sql_blob(slice(blob, blob_len))), err);
    if (!fits && !ok && err->class == ERROR_EXHAUSTED)
        return false;
    if (!ok || !tx_query_one(tx, "SELECT name, value FROM item", SQL_NONE, &rows, err) ||
        !rows_text(&rows, 0, TX_VALUE_MAX, &got, err))
        return false;
    assert_true(slice_equal(got, slice(text, text_len)));
    if (!rows_blob(&rows, 1, 0, TX_VALUE_MAX, &got, err))
        return false;
    assert_true(slice_equal(got, slice(blob, blob_len)));
    return true;
}

static void test_random_sizes(void **state)
{
    struct fixture *f = *state;
    struct sizes s = {.random = fixture_seed(), .bytes = mem_new(2, TX_VALUE_MAX)};
    assert_non_null(s.bytes);
    fixture_open_now(f);
    for (int i = 0; i < 200; i++) {
        struct error err = {0};
        if (!fixture_run(f, put_and_get, &s, &err) && err.class != ERROR_EXHAUSTED)
            fail_msg("round %d: %s", i, err.message);
    }
    mem_free(s.bytes);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_types),
        TEST(test_empty_is_not_null),
        TEST(test_many_rows),
        TEST(test_returning),
        TEST(test_column_refusals),
        TEST(test_wrong_statements),
        TEST(test_native_code_and_path),
        TEST(test_wrong_values),
        TEST(test_doomed),
        TEST(test_cursor_of_doomed),
        TEST(test_cursor_left_open),
        TEST(test_too_many_cursors),
        TEST(test_failure_without_error),
        TEST(test_full_cache),
        TEST(test_cascade),
        TEST(test_random_sizes),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
