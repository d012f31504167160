/* Prepared statements of SQLite: a bounded cache, least recently used out first; the mapping of $1,
 * $2 …; binding and columns. */
#include "store/sqlite.h"

#include "base/text.h"

#include <string.h>

static void statement_drop(struct statement *statement)
{
    sqlite3_finalize(statement->handle);
    *statement = (struct statement){0};
}

void statements_drop(struct connection *connection)
{
    for (size_t i = 0; i < TX_CACHE_MAX; i++)
        statement_drop(&connection->statements[i]);
}

void statements_end(struct connection *connection)
{
    for (size_t i = 0; i < TX_CACHE_MAX; i++)
        if (connection->statements[i].taken)
            statement_release(&connection->statements[i]);
}

void statement_release(struct statement *statement)
{
    /* The result repeats the last step's. */
    sqlite3_reset(statement->handle);
    /* What was bound is borrowed, and may be gone soon. */
    sqlite3_clear_bindings(statement->handle);
    statement->taken = false;
}

/* ── Preparing ───────────────────────────────────────────────────────────────────────────────── */

/* SQLite numbers "$N" by first appearance; we by N, and every number up to the highest is there. */
static bool read_order(struct statement *statement, struct error *err)
{
    uint64_t seen = 0;
    int count = sqlite3_bind_parameter_count(statement->handle);
    for (int i = 0; i < count; i++) {
        const char *name = sqlite3_bind_parameter_name(statement->handle, i + 1);
        uint64_t number;
        struct error ignored;
        if (name == nullptr || name[0] != '$' ||
            !parse_u64(name + 1, 1, TX_PARAMS_MAX, &number, &ignored)) {
            return error_set(err, ERROR_INTERNAL,
                             "placeholder \"%s\" of a statement: expected $1 to $%zu",
                             name ? name : "?", TX_PARAMS_MAX);
        }
        statement->order[i] = (uint8_t)number;
        seen |= UINT64_C(1) << number;
    }
    /* As many different numbers as there are parameters, without a gap. */
    statement->param_count = (size_t)count;
    if (seen != (UINT64_C(1) << (count + 1)) - 2)
        return error_set(err, ERROR_INTERNAL, "a statement's placeholders leave out a number");
    return true;
}

static bool statement_prepare(struct connection *connection, const char *sql,
                              struct statement *statement, struct error *err)
{
    const char *tail;
    *statement = (struct statement){.connection = connection};
    int code = sqlite3_prepare_v3(connection->db, sql, -1, SQLITE_PREPARE_PERSISTENT,
                                  &statement->handle, &tail);
    if (code != SQLITE_OK)
        return sqlite_fail(connection, code, "statement refused", err);
    if (statement->handle == nullptr || tail[strspn(tail, " \t\n;")] != '\0')
        error_set(err, ERROR_INTERNAL, "expected exactly one statement");
    else if (read_order(statement, err))
        return true;
    statement_drop(statement);
    return false;
}

/* The place for `sql`: one that has it and isn't taken, else a free one, else the one whose last use
 * is the longest ago. Callers pass constants, so the texts mostly differ in their first bytes. */
static struct statement *find_place(struct connection *connection, const char *sql)
{
    struct statement *best = nullptr;
    for (size_t i = 0; i < TX_CACHE_MAX; i++) {
        struct statement *statement = &connection->statements[i];
        if (statement->taken)
            continue;
        if (statement->handle != nullptr && strcmp(sqlite3_sql(statement->handle), sql) == 0)
            return statement;
        if (best == nullptr || statement->used < best->used)
            best = statement;
    }
    if (best != nullptr && best->handle != nullptr)
        statement_drop(best);
    return best;
}

/* ── Binding and stepping ────────────────────────────────────────────────────────────────────── */

static int bind(sqlite3_stmt *handle, int place, const struct sql_value *value)
{
    /* A null pointer would be NULL, where empty text or bytes are meant. */
    const void *data = value->bytes.len > 0 ? (const void *)value->bytes.data : "";
    switch (value->type) {
    case SQL_NULL:
        return sqlite3_bind_null(handle, place);
    case SQL_INT:
        return sqlite3_bind_int64(handle, place, value->integer);
    case SQL_TEXT:
        return sqlite3_bind_text64(handle, place, data, value->bytes.len, SQLITE_STATIC,
                                   SQLITE_UTF8);
    case SQL_BLOB:
        return sqlite3_bind_blob64(handle, place, data, value->bytes.len, SQLITE_STATIC);
    }
    return SQLITE_MISUSE;
}

static bool bind_all(struct statement *statement, struct sql_params params, struct error *err)
{
    if (params.count != statement->param_count) {
        return error_set(err, ERROR_INTERNAL, "a statement has %zu placeholders, %zu values given",
                         statement->param_count, params.count);
    }
    for (size_t i = 0; i < params.count; i++) {
        int code = bind(statement->handle, (int)i + 1, &params.values[statement->order[i] - 1]);
        if (code != SQLITE_OK)
            return sqlite_fail(statement->connection, code, "parameter refused", err);
    }
    return true;
}

bool statement_take(struct connection *connection, const char *sql, struct sql_params params,
                    struct statement **ret, struct error *err)
{
    struct statement *statement = find_place(connection, sql);
    if (statement == nullptr)
        return error_set(err, ERROR_EXHAUSTED, "more than %zu cursors open at once", TX_CACHE_MAX);
    if (statement->handle == nullptr && !statement_prepare(connection, sql, statement, err))
        return false;
    statement->taken = true;
    statement->used = ++connection->uses;
    if (!bind_all(statement, params, err)) {
        statement_release(statement);
        return false;
    }
    *ret = statement;
    return true;
}

bool statement_step(struct statement *statement, bool *ret_row, struct error *err)
{
    int code = sqlite3_step(statement->handle);
    if (code != SQLITE_ROW && code != SQLITE_DONE)
        return sqlite_fail(statement->connection, code, "statement failed", err);
    *ret_row = code == SQLITE_ROW;
    return true;
}

bool statement_writes(const struct statement *statement)
{
    return sqlite3_stmt_readonly(statement->handle) == 0;
}

uint64_t statement_changed(const struct statement *statement)
{
    return statement_writes(statement) ? (uint64_t)sqlite3_changes64(statement->connection->db) : 0;
}

/* ── Columns ─────────────────────────────────────────────────────────────────────────────────── */

int statement_columns(const struct statement *statement)
{
    return sqlite3_data_count(statement->handle);
}

const char *statement_column_name(const struct statement *statement, int column)
{
    const char *name = sqlite3_column_name(statement->handle, column);
    return name ? name : "?"; /* out of memory */
}

bool statement_column(const struct statement *statement, int column, struct sql_value *ret,
                      struct error *err)
{
    sqlite3_stmt *handle = statement->handle;
    const void *data = nullptr;
    struct sql_value value = {0};
    switch (sqlite3_column_type(handle, column)) {
    case SQLITE_NULL:
        *ret = sql_null();
        return true;
    case SQLITE_INTEGER:
        *ret = sql_int(sqlite3_column_int64(handle, column));
        return true;
    case SQLITE_TEXT:
        data = sqlite3_column_text(handle, column);
        value.type = SQL_TEXT;
        break;
    case SQLITE_BLOB:
        data = sqlite3_column_blob(handle, column);
        value.type = SQL_BLOB;
        break;
    default:
        return error_set(err, ERROR_INTERNAL,
                         "column %s is a floating-point number, which is never stored",
                         statement_column_name(statement, column));
    }
    value.bytes = slice(data, (size_t)sqlite3_column_bytes(handle, column));
    /* An empty blob has no address; anything else without one is out of memory. */
    if (data == nullptr && (value.type == SQL_TEXT || value.bytes.len > 0))
        return error_set_memory(err);
    *ret = value;
    return true;
}
