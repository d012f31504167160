/*
 * struct tx: statements inside one transaction of a store (store/store.h).
 *
 * The text of a statement is the same for every database: placeholders are $1, $2 … and each of
 * the parameters given is used (in any order, repeated if you like); one statement a call; SELECT,
 * INSERT, UPDATE and DELETE alone (the schema belongs to migrations). It is a constant of the
 * program, never put together from foreign bytes. Prepared statements are kept (TX_CACHE_MAX).
 *
 * A statement that fails dooms its transaction, as in PostgreSQL: later ones fail with the same
 * error, and nothing is committed, whatever `run` returns. What may already be there is asked for in
 * SQL: INSERT … ON CONFLICT DO NOTHING, and tx_changed.
 *
 * Errors of statements:
 *   EXISTS       a unique or primary key is taken
 *   CONFLICT     a foreign key, CHECK or NOT NULL is violated
 *   INVALID      a text parameter is no UTF-8 or has a NUL; a value beyond TX_VALUE_MAX
 *   UNAVAILABLE  locked, or an I/O error: store.c repeats the transaction if it helps
 *   TIMEOUT      the transaction's deadline passed
 *   EXHAUSTED    disk full, memory, a limit
 *   INTERNAL     wrong SQL, wrong parameters, a write in store_read; damage
 * with domain SQLITE and the extended result code where SQLite said it.
 * Threading: the database thread, inside `run`. Nothing here outlives `run`.
 */
#pragma once

#include "base/error.h"
#include "base/slice.h"

constexpr size_t TX_VALUE_MAX = 4 * 1024 * 1024; /* bytes of a text or blob: the largest message of
                                                  * a peer; a row has at most twice that */
constexpr size_t TX_PARAMS_MAX = 32;             /* placeholders of one statement */
constexpr size_t TX_CACHE_MAX = 64;              /* prepared statements of a connection */

enum sql_type { SQL_NULL, SQL_INT, SQL_TEXT, SQL_BLOB };

/* One parameter; text and blobs are borrowed during the call, or until rows_done. */
struct sql_value {
    enum sql_type type;
    int64_t integer;    /* SQL_INT */
    struct slice bytes; /* SQL_TEXT, SQL_BLOB */
};

static inline struct sql_value sql_null(void)
{
    return (struct sql_value){.type = SQL_NULL};
}

static inline struct sql_value sql_int(int64_t integer)
{
    return (struct sql_value){.type = SQL_INT, .integer = integer};
}

static inline struct sql_value sql_text(const char *text)
{
    return (struct sql_value){.type = SQL_TEXT, .bytes = slice_str(text)};
}

static inline struct sql_value sql_text_slice(struct slice text)
{
    return (struct sql_value){.type = SQL_TEXT, .bytes = text};
}

static inline struct sql_value sql_blob(struct slice bytes)
{
    return (struct sql_value){.type = SQL_BLOB, .bytes = bytes};
}

/* tx_exec(tx, "INSERT INTO t VALUES ($1, $2)", SQL_PARAMS(sql_int(7), sql_text(name)), err) */
struct sql_params {
    const struct sql_value *values;
    size_t count;
};
#define SQL_PARAMS(...)                                                                            \
    ((struct sql_params){(const struct sql_value[]){__VA_ARGS__},                                  \
                         sizeof((const struct sql_value[]){__VA_ARGS__}) /                         \
                             sizeof(struct sql_value)})
#define SQL_NONE ((struct sql_params){nullptr, 0})

struct tx;

/* Runs a statement to its end; rows, if it makes any, are dropped. */
[[nodiscard]] bool tx_exec(struct tx *tx, const char *sql, struct sql_params params,
                           struct error *err);
/* Rows inserted, updated or deleted by the last tx_exec (triggers and cascades not counted). */
uint64_t tx_changed(const struct tx *tx);

/* A cursor; the fields are private. At most one row is in memory. */
struct rows {
    struct tx *tx;
    struct statement *statement;
    bool at_row;
};

/* Starts a query (or a statement with RETURNING), before its first row.
 *     CLEANUP(rows_done) struct rows rows = {0};
 *     if (!tx_query(tx, "SELECT …", SQL_PARAMS(…), &rows, err)) return false;
 *     for (bool more;;) {
 *         if (!rows_next(&rows, &more, err)) return false;
 *         if (!more) break;
 *         …
 *     } */
[[nodiscard]] bool tx_query(struct tx *tx, const char *sql, struct sql_params params,
                            struct rows *ret, struct error *err);
/* The same for what has one row (by a key, or LIMIT 1), and at it already: NOT_FOUND without one, and
 * the transaction goes on. */
[[nodiscard]] bool tx_query_one(struct tx *tx, const char *sql, struct sql_params params,
                                struct rows *ret, struct error *err);

/* Moves to the next row; what was borrowed from the one before is gone. *ret_more is false at the
 * end. */
[[nodiscard]] bool rows_next(struct rows *rows, bool *ret_more, struct error *err);
/* Ends the cursor, at any point; again and on {0} it does nothing. For CLEANUP. */
void rows_done(struct rows *rows);

/* Columns of the current row, from 0. A value of another type, out of bounds, or NULL is INTERNAL
 * (the database holds what the program never wrote) and names the column. */
[[nodiscard]] bool rows_int(const struct rows *rows, int column, int64_t min, int64_t max,
                            int64_t *ret, struct error *err);
/* At most max bytes of UTF-8 without NUL, borrowed until the next row; one NUL follows them, so
 * ret->data is a C string too. */
[[nodiscard]] bool rows_text(const struct rows *rows, int column, size_t max, struct slice *ret,
                             struct error *err);
/* min to max bytes, borrowed until the next row. */
[[nodiscard]] bool rows_blob(const struct rows *rows, int column, size_t min, size_t max,
                             struct slice *ret, struct error *err);
/* Whether the value is NULL: ask before reading a column that may be. */
bool rows_null(const struct rows *rows, int column);
