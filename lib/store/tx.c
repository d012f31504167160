#include "store/transaction.h"

#include "base/clock.h"
#include "base/text.h"

/* Dooms the transaction: the first failure stays its failure. */
static bool tx_fail(struct tx *tx, const struct error *err)
{
    if (!tx->failed) {
        tx->failed = true;
        tx->failure = *err;
    }
    return false;
}

/* What one database takes and another refuses is refused for both. */
static bool params_check(struct sql_params params, struct error *err)
{
    for (size_t i = 0; i < params.count; i++) {
        const struct sql_value *value = &params.values[i];
        if (value->type != SQL_TEXT && value->type != SQL_BLOB)
            continue;
        if (value->bytes.len > TX_VALUE_MAX) {
            return error_set(err, ERROR_INVALID, "$%zu has %zu bytes: at most %zu can be stored",
                             i + 1, value->bytes.len, TX_VALUE_MAX);
        }
        if (value->type == SQL_TEXT && !utf8_valid(value->bytes))
            return error_set(err, ERROR_INVALID, "$%zu is not UTF-8, or has a NUL", i + 1);
    }
    return true;
}

static bool tx_take(struct tx *tx, const char *sql, struct sql_params params,
                    struct statement **ret, struct error *err)
{
    if (tx->failed) {
        *err = tx->failure;
        return false;
    }
    struct statement *statement;
    if (!params_check(params, err) || !statement_take(tx->connection, sql, params, &statement, err))
        return tx_fail(tx, err);
    if (statement_writes(statement) && !tx->writes) {
        statement_release(statement);
        error_set(err, ERROR_INTERNAL, "a statement would write in a transaction that only reads");
        return tx_fail(tx, err);
    }
    *ret = statement;
    return true;
}

bool tx_exec(struct tx *tx, const char *sql, struct sql_params params, struct error *err)
{
    struct statement *statement;
    if (!tx_take(tx, sql, params, &statement, err))
        return false;
    bool ok = true;
    for (bool row = true; ok && row;)
        ok = statement_step(statement, &row, err);
    if (ok)
        tx->changed = statement_changed(statement);
    else
        tx_fail(tx, err);
    statement_release(statement);
    return ok;
}

uint64_t tx_changed(const struct tx *tx)
{
    return tx->changed;
}

bool tx_query(struct tx *tx, const char *sql, struct sql_params params, struct rows *ret,
              struct error *err)
{
    struct statement *statement;
    if (!tx_take(tx, sql, params, &statement, err))
        return false;
    tx->cursors++;
    *ret = (struct rows){.tx = tx, .statement = statement};
    return true;
}

bool tx_query_one(struct tx *tx, const char *sql, struct sql_params params, struct rows *ret,
                  struct error *err)
{
    struct rows rows;
    bool found = false;
    if (!tx_query(tx, sql, params, &rows, err))
        return false;
    bool ok = rows_next(&rows, &found, err);
    if (ok && !found)
        ok = error_set(err, ERROR_NOT_FOUND, "no such row");
    if (!ok) {
        rows_done(&rows);
        return false;
    }
    *ret = rows;
    return true;
}

bool rows_next(struct rows *rows, bool *ret_more, struct error *err)
{
    struct tx *tx = rows->tx;
    if (tx == nullptr || rows->statement == nullptr)
        return error_set(err, ERROR_INTERNAL, "a cursor is read after its end");
    if (tx->failed) {
        *err = tx->failure;
        return false;
    }
    bool more;
    rows->at_row = false;
    if (!statement_step(rows->statement, &more, err))
        return tx_fail(tx, err);
    if (more) {
        rows->at_row = true;
    } else {
        /* SQLite would begin anew at the next step. */
        rows_done(rows);
    }
    *ret_more = more;
    return true;
}

void rows_done(struct rows *rows)
{
    if (rows->statement != nullptr) {
        statement_release(rows->statement);
        rows->tx->cursors--;
    }
    *rows = (struct rows){0};
}

static const char *type_name(enum sql_type type)
{
    static const char *const names[] = {
        [SQL_NULL] = "NULL", [SQL_INT] = "an integer", [SQL_TEXT] = "text", [SQL_BLOB] = "bytes"};
    return names[type];
}

/* The value, if it is of this type. */
static bool rows_value(const struct rows *rows, int column, enum sql_type type,
                       struct sql_value *ret, struct error *err)
{
    if (!rows->at_row)
        return error_set(err, ERROR_INTERNAL, "a column is read without a row");
    int columns = statement_columns(rows->statement);
    if (column < 0 || column >= columns)
        return error_set(err, ERROR_INTERNAL, "column %d of %d does not exist", column, columns);
    struct sql_value value = {0};
    if (!statement_column(rows->statement, column, &value, err))
        return false;
    if (value.type != type) {
        return error_set(err, ERROR_INTERNAL, "column %s is %s: expected %s",
                         statement_column_name(rows->statement, column), type_name(value.type),
                         type_name(type));
    }
    *ret = value;
    return true;
}

bool rows_int(const struct rows *rows, int column, int64_t min, int64_t max, int64_t *ret,
              struct error *err)
{
    struct sql_value value = {0};
    if (!rows_value(rows, column, SQL_INT, &value, err))
        return false;
    if (value.integer < min || value.integer > max) {
        return error_set(err, ERROR_INTERNAL, "column %s is %lld: expected %lld to %lld",
                         statement_column_name(rows->statement, column), (long long)value.integer,
                         (long long)min, (long long)max);
    }
    *ret = value.integer;
    return true;
}

static bool rows_bytes(const struct rows *rows, int column, enum sql_type type, size_t min,
                       size_t max, struct slice *ret, struct error *err)
{
    struct sql_value value = {0};
    if (!rows_value(rows, column, type, &value, err))
        return false;
    if (value.bytes.len < min || value.bytes.len > max) {
        return error_set(err, ERROR_INTERNAL, "column %s has %zu bytes: expected %zu to %zu",
                         statement_column_name(rows->statement, column), value.bytes.len, min, max);
    }
    *ret = value.bytes;
    return true;
}

bool rows_text(const struct rows *rows, int column, size_t max, struct slice *ret,
               struct error *err)
{
    struct slice text = {0};
    if (!rows_bytes(rows, column, SQL_TEXT, 0, max, &text, err))
        return false;
    if (!utf8_valid(text)) {
        return error_set(err, ERROR_INTERNAL, "column %s is not UTF-8, or has a NUL",
                         statement_column_name(rows->statement, column));
    }
    *ret = text;
    return true;
}

bool rows_blob(const struct rows *rows, int column, size_t min, size_t max, struct slice *ret,
               struct error *err)
{
    return rows_bytes(rows, column, SQL_BLOB, min, max, ret, err);
}

bool rows_null(const struct rows *rows, int column)
{
    struct sql_value value = {0};
    struct error ignored;
    return rows_value(rows, column, SQL_NULL, &value, &ignored);
}

/* What `run` did becomes the end of the transaction. */
static bool tx_end(struct tx *tx, bool ok, uint64_t deadline, struct error *err)
{
    if (ok && tx->failed) {
        *err = tx->failure;
        ok = false;
    } else if (ok && tx->cursors > 0) {
        ok = error_set(err, ERROR_INTERNAL, "a transaction left %u cursors open", tx->cursors);
    } else if (ok && clock_boot_ms() >= deadline) {
        ok = error_set(err, ERROR_TIMEOUT, "the transaction's deadline passed before its commit");
    } else if (!ok && err->class == ERROR_NONE) {
        error_set(err, ERROR_INTERNAL, "a transaction failed without saying why");
    }
    if (!ok) {
        connection_rollback(tx->connection);
        return false;
    }
    return connection_commit(tx->connection, err);
}

static bool attempt(struct connection *connection, bool writes, store_run *run, void *arg,
                    uint64_t deadline, bool *ret_contended, struct error *err)
{
    if (!connection_begin(connection, writes, deadline, err)) {
        *ret_contended = connection_contended(err);
        return false;
    }
    struct tx tx = {.connection = connection, .writes = writes};
    bool said = run(&tx, arg, err);
    if (tx_end(&tx, said, deadline, err))
        return true;
    /* `run` may have put an error of its own in place of the statement's. */
    *ret_contended = connection_contended(tx.failed ? &tx.failure : err);
    return false;
}

bool transaction_run(struct connection *connection, bool writes, store_run *run, void *arg,
                     uint64_t deadline, struct error *err)
{
    constexpr unsigned pause_ms = 5; /* times the number of attempts so far */
    for (unsigned tries = 1;; tries++) {
        struct error failure = {0};
        bool contended = false;
        if (attempt(connection, writes, run, arg, deadline, &contended, &failure))
            return true;
        if (!contended || tries == STORE_ATTEMPTS_MAX || clock_boot_ms() >= deadline) {
            *err = failure;
            return false;
        }
        connection_pause(tries * pause_ms);
    }
}
