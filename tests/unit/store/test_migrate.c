/* The history of the schema: what is applied once, and which databases are refused. */
#include "fixture.h"

#include <sqlite3.h>

static void expect_refused(struct fixture *f, enum error_class class, const char *text)
{
    struct error err = {0};
    struct store *store = POISON;
    assert_fails(store_open(nullptr, &f->options, &store, &err), class);
    assert_error_contains(text);
    assert_error_contains(f->path);
    assert_ptr_equal(store, POISON);
}

static void use(struct fixture *f, const struct store_migration *migrations, size_t count)
{
    f->options.migrations = migrations;
    f->options.migration_count = count;
}

static void test_in_steps(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    use(f, fixture_migrations, 0);
    fixture_open_now(f);
    fixture_close(f);
    use(f, fixture_migrations, 1);
    fixture_open_now(f);
    assert_ok(fixture_exec(f, "INSERT INTO item (id, name) VALUES (1, 'a')", &err));
    assert_fails(fixture_exec(f, "INSERT INTO part (item) VALUES (1)", &err), ERROR_INTERNAL);
    fixture_close(f);
    use(f, fixture_migrations, 2);
    for (int i = 0; i < 2; i++) {
        fixture_open_now(f);
        assert_int_equal(fixture_count(f, "SELECT count(*) FROM item"), 1);
        assert_int_equal(fixture_count(f, "SELECT max(version) FROM schema_migrations"), 2);
        /* References are enforced with and without something to apply. */
        err = (struct error){0};
        assert_fails(fixture_exec(f, "INSERT INTO part (item) VALUES (99)", &err), ERROR_CONFLICT);
        fixture_close(f);
    }
}

static void test_newer_database(void **state)
{
    struct fixture *f = *state;
    fixture_open_now(f);
    fixture_close(f);
    use(f, fixture_migrations, 1);
    expect_refused(f, ERROR_CONFLICT, "schema version 2 (\"0002-part\"), this program knows 1");
}

static void test_edited(void **state)
{
    struct fixture *f = *state;
    struct store_migration mine[2] = {fixture_migrations[0], fixture_migrations[1]};
    fixture_open_now(f);
    fixture_close(f);
    mine[0].sql = "CREATE TABLE item (id INTEGER)";
    use(f, mine, 2);
    expect_refused(f, ERROR_CONFLICT, "\"0001-item\" was edited");
    mine[0] = fixture_migrations[0];
    mine[1].name = "0002-other";
    expect_refused(f, ERROR_CONFLICT, "is \"0002-part\", this program's is \"0002-other\"");
}

static void raw(struct fixture *f, const char *sql)
{
    sqlite3 *db;
    assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, nullptr, nullptr, nullptr), SQLITE_OK);
    sqlite3_close(db);
}

static void test_foreign_database(void **state)
{
    struct fixture *f = *state;
    raw(f, "CREATE TABLE bookmarks (url)");
    expect_refused(f, ERROR_CONFLICT, "made by another program");
}

static void test_hole_in_history(void **state)
{
    struct fixture *f = *state;
    fixture_open_now(f);
    fixture_close(f);
    raw(f, "DELETE FROM schema_migrations WHERE version = 1");
    expect_refused(f, ERROR_CONFLICT, "lacks version 1");
    raw(f, "UPDATE schema_migrations SET version = 1, sha256 = x'00'");
    expect_refused(f, ERROR_INTERNAL, "sha256 has 1 bytes");
}

/* The failing one leaves nothing behind, the ones before it stay. */
static void test_failing(void **state)
{
    static const struct {
        const char *sql;
        enum error_class class;
        const char *text;
    } cases[] = {
        {"CREATE TABLE x (i); SELEKT", ERROR_INTERNAL, "migration \"0003-bad\""},
        {"CREATE TABLE x (i); COMMIT", ERROR_INTERNAL, "not authorized"},
        {"CREATE TABLE x (i); ATTACH ':memory:' AS y", ERROR_INTERNAL, "not authorized"},
        {"CREATE TABLE x (i); PRAGMA synchronous=OFF", ERROR_INTERNAL, "not authorized"},
        {"CREATE TABLE x (i); INSERT INTO part (item) VALUES (99)", ERROR_CONFLICT,
         "refer to one that is not there"},
        {"CREATE TABLE x (i); INSERT INTO item (id, name) VALUES (1, 'a'), (1, 'b')", ERROR_EXISTS,
         "item.id"},
    };
    struct fixture *f = *state;
    struct store_migration mine[3] = {
        fixture_migrations[0], fixture_migrations[1], {"0003-bad", ""}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        mine[2].sql = cases[i].sql;
        use(f, mine, 3);
        expect_refused(f, cases[i].class, cases[i].text);
        use(f, mine, 2);
        fixture_open_now(f);
        assert_int_equal(fixture_count(f, "SELECT count(*) FROM sqlite_schema WHERE name = 'x'"),
                         0);
        fixture_close(f);
    }
}

/* A table that others refer to is rebuilt, and they keep their rows. */
static void test_rebuild(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    const struct store_migration mine[3] = {
        fixture_migrations[0],
        fixture_migrations[1],
        {"0003-rebuild", "CREATE TABLE item2 (id INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT;"
                         "INSERT INTO item2 SELECT id, name FROM item;"
                         "DROP TABLE item;"
                         "ALTER TABLE item2 RENAME TO item;"},
    };
    fixture_open_now(f);
    assert_ok(fixture_exec(f, "INSERT INTO item (id, name) VALUES (1, 'a')", &err));
    assert_ok(fixture_exec(f, "INSERT INTO part (item) VALUES (1)", &err));
    fixture_close(f);
    use(f, mine, 3);
    fixture_open_now(f);
    assert_int_equal(fixture_count(f, "SELECT count(*) FROM part JOIN item ON item = id"), 1);
    /* Enforcement is back afterwards, cascade included. */
    assert_fails(fixture_exec(f, "INSERT INTO part (item) VALUES (2)", &err), ERROR_CONFLICT);
    assert_ok(fixture_exec(f, "DELETE FROM item", &err));
    assert_int_equal(fixture_count(f, "SELECT count(*) FROM part"), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_in_steps),         TEST(test_newer_database),  TEST(test_edited),
        TEST(test_foreign_database), TEST(test_hole_in_history), TEST(test_failing),
        TEST(test_rebuild),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
