#include "store/migrate.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/crypt.h"
#include "store/transaction.h"

constexpr size_t NAME_MAX_BYTES = 128;

static const char history_table[] = "schema_migrations";

static const char history_schema[] = "CREATE TABLE schema_migrations ("
                                     " version INTEGER PRIMARY KEY NOT NULL,"
                                     " name TEXT NOT NULL,"
                                     " sha256 BLOB NOT NULL,"
                                     " applied_at INTEGER NOT NULL" /* Unix ms */
                                     ") STRICT";

struct history {
    const struct store_migration *migrations;
    size_t count;
    size_t done; /* of them are in the database */
};

static bool migration_hash(const struct store_migration *migration, uint8_t ret[static SHA256_SIZE],
                           struct error *err)
{
    return sha256(slice_str(migration->sql), ret, err);
}

/* One recorded migration against the program's own of that number. */
static bool history_row(const struct history *history, const struct rows *rows, struct error *err)
{
    int64_t version;
    struct slice name;
    struct slice hash;
    uint8_t expected[SHA256_SIZE];
    size_t next = history->done;
    if (!rows_int(rows, 0, 1, INT32_MAX, &version, err) ||
        !rows_text(rows, 1, NAME_MAX_BYTES, &name, err) ||
        !rows_blob(rows, 2, SHA256_SIZE, SHA256_SIZE, &hash, err)) {
        return false;
    }
    if (version != (int64_t)next + 1) {
        return error_set(err, ERROR_CONFLICT,
                         "the schema's history lacks version %zu: restore a backup", next + 1);
    }
    if (next >= history->count) {
        return error_set(err, ERROR_CONFLICT,
                         "the database has schema version %lld (\"%s\"), this program knows %zu: "
                         "run the newer program, or restore the backup made before the upgrade",
                         (long long)version, (const char *)name.data, history->count);
    }
    const struct store_migration *mine = &history->migrations[next];
    if (!slice_is(name, mine->name)) {
        return error_set(err, ERROR_CONFLICT,
                         "schema version %lld of the database is \"%s\", this program's is \"%s\": "
                         "it belongs to another program or branch",
                         (long long)version, (const char *)name.data, mine->name);
    }
    if (!migration_hash(mine, expected, err))
        return false;
    if (!slice_equal(hash, slice(expected, sizeof(expected)))) {
        return error_set(err, ERROR_CONFLICT,
                         "migration \"%s\" was edited after it was applied to this database: run "
                         "the program that made it",
                         mine->name);
    }
    return true;
}

/* Reads how far the database is; a new one gets its history. */
static bool history_read(struct tx *tx, void *arg, struct error *err)
{
    struct history *history = arg;
    bool exists;
    int64_t tables;
    history->done = 0;
    if (!connection_tables(tx->connection, history_table, &exists, &tables, err))
        return false;
    if (!exists) {
        return tables == 0
                   ? connection_script(tx->connection, history_schema, err)
                   : error_set(err, ERROR_CONFLICT,
                               "the database was made by another program: choose another path");
    }
    CLEANUP(rows_done) struct rows rows = {0};
    if (!tx_query(tx, "SELECT version, name, sha256 FROM schema_migrations ORDER BY version",
                  SQL_NONE, &rows, err)) {
        return false;
    }
    for (bool more;;) {
        if (!rows_next(&rows, &more, err))
            return false;
        if (!more)
            return true;
        if (!history_row(history, &rows, err))
            return false;
        history->done++;
    }
}

/* Applies the next migration. No other process can have done so since: PATH.lock. */
static bool history_apply(struct tx *tx, void *arg, struct error *err)
{
    const struct history *history = arg;
    const struct store_migration *next = &history->migrations[history->done];
    uint8_t hash[SHA256_SIZE];
    return migration_hash(next, hash, err) && connection_script(tx->connection, next->sql, err) &&
           connection_check_references(tx->connection, err) &&
           tx_exec(tx,
                   "INSERT INTO schema_migrations (version, name, sha256, applied_at)"
                   " VALUES ($1, $2, $3, $4)",
                   SQL_PARAMS(sql_int((int64_t)history->done + 1), sql_text(next->name),
                              sql_blob(slice(hash, sizeof(hash))), sql_int(clock_wall_ms())),
                   err);
}

static bool history_apply_all(struct connection *connection, struct history *history,
                              uint64_t deadline, struct error *err)
{
    for (; history->done < history->count; history->done++)
        if (!transaction_run(connection, true, history_apply, history, deadline, err))
            return error_prefix(err, "migration \"%s\"", history->migrations[history->done].name);
    return true;
}

bool migrate(struct connection *connection, const struct store_migration *migrations, size_t count,
             uint64_t deadline, struct error *err)
{
    struct history history = {.migrations = migrations, .count = count};
    if (!transaction_run(connection, true, history_read, &history, deadline, err))
        return false;
    if (history.done == count)
        return true;
    /* Rebuilding a table drops the old one, which would take the rows with it that refer to it. */
    return connection_enforce_references(connection, false, err) &&
           history_apply_all(connection, &history, deadline, err) &&
           connection_enforce_references(connection, true, err);
}
