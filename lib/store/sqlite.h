/* What sqlite.c and sqlite_statement.c share. Inside lib/store only, and the only place that sees
 * SQLite's header. */
#pragma once

#include "store/connection.h"

#include <sqlite3.h>

/* What a statement that is being compiled may do. */
enum guard {
    GUARD_STATEMENT, /* rows in and out */
    GUARD_SCRIPT,    /* the schema too */
    GUARD_OWN,       /* this library's own commands */
};

/* One prepared statement and the order of its parameters. */
struct statement {
    struct connection *connection;
    sqlite3_stmt *handle; /* NULL: the place is free */
    bool taken;
    uint64_t used;                /* the connection's count when it was taken last */
    size_t param_count;           /* parameters that the caller must give */
    uint8_t order[TX_PARAMS_MAX]; /* SQLite's parameter i + 1 is the caller's $order[i] */
};

struct connection {
    sqlite3 *db;
    char *path;
    enum guard guard;
    uint64_t deadline; /* boot clock, ms, of the running transaction; 0: none */
    uint64_t uses;
    struct statement statements[TX_CACHE_MAX];
};

/* Sets the error for a result code: "database PATH: WHAT: what it means". Returns false. */
bool sqlite_fail(const struct connection *connection, int code, const char *what,
                 struct error *err);

/* Resets all statements, taken or not. */
void statements_end(struct connection *connection);
/* Finalizes them. */
void statements_drop(struct connection *connection);
