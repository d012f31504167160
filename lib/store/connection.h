/*
 * struct connection: one session with the database. Inside lib/store only: the seam at which another
 * database is put beside SQLite. Everything above it (tx.c, migrate.c, store.c) names no database.
 * Threading: one thread at a time; it may move between threads when no transaction is open.
 * Errors: as in tx.h, with the database's path.
 */
#pragma once

#include "store/tx.h"

struct connection;
struct statement; /* prepared, in the connection's cache */

/* Opens the database file, which exists. `deadline` (boot clock, ms) bounds waiting for locks. */
[[nodiscard]] bool connection_open(const char *path, uint64_t deadline, struct connection **ret,
                                   struct error *err);
/* Rolls back what is open. NULL is fine; returns NULL. */
struct connection *connection_free(struct connection *connection);
DEFINE_CLEANUP(connection_free, struct connection)

/* Begins a transaction; one that writes has the write lock from here on. Until its end, statements
 * that still run at `deadline` (boot clock, ms) fail with TIMEOUT. */
[[nodiscard]] bool connection_begin(struct connection *connection, bool writes, uint64_t deadline,
                                    struct error *err);
/* Ends all statements, then the transaction. A commit that failed is rolled back. */
[[nodiscard]] bool connection_commit(struct connection *connection, struct error *err);
void connection_rollback(struct connection *connection);

/* Whether this error of the connection is contention, so that the whole transaction may succeed when
 * it is repeated. */
bool connection_contended(const struct error *err);
/* Sleeps before a repetition. */
void connection_pause(unsigned ms);

/* Runs a script of statements: the connection's schema, not the callers' ordinary work. */
[[nodiscard]] bool connection_script(struct connection *connection, const char *sql,
                                     struct error *err);
/* Switches enforcement of foreign keys, outside a transaction. */
[[nodiscard]] bool connection_enforce_references(struct connection *connection, bool on,
                                                 struct error *err);
/* CONFLICT if a foreign key of any row refers to nothing. */
[[nodiscard]] bool connection_check_references(struct connection *connection, struct error *err);
/* Whether the table exists, and how many tables there are at all. */
[[nodiscard]] bool connection_tables(struct connection *connection, const char *name,
                                     bool *ret_exists, int64_t *ret_all, struct error *err);

/* Takes the prepared statement for `sql` and binds the parameters, which stay borrowed until
 * statement_release. */
[[nodiscard]] bool statement_take(struct connection *connection, const char *sql,
                                  struct sql_params params, struct statement **ret,
                                  struct error *err);
/* Moves to the next row; false in *ret_row at the end. */
[[nodiscard]] bool statement_step(struct statement *statement, bool *ret_row, struct error *err);
/* Whether it may change the database. */
bool statement_writes(const struct statement *statement);
/* Rows that it changed, after its end; 0 for one that only reads. */
uint64_t statement_changed(const struct statement *statement);
void statement_release(struct statement *statement);

int statement_columns(const struct statement *statement);
const char *statement_column_name(const struct statement *statement, int column);
/* The value of the current row, borrowed until the next step. A type that sql_type lacks (REAL) and
 * memory are errors. */
[[nodiscard]] bool statement_column(const struct statement *statement, int column,
                                    struct sql_value *ret, struct error *err);
