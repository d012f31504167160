/* The connection to SQLite: how it is opened, what it may do, and what its errors mean. Prepared
 * statements are in sqlite_statement.c. */
#include "store/sqlite.h"

#include "base/clock.h"
#include "base/mem.h"

#include <errno.h>
#include <string.h>

/* ── Errors ──────────────────────────────────────────────────────────────────────────────────── */

/* What a result code means to a caller, and what to do about it. The extended code is looked for
 * first, then the primary one (its low byte). */
static const struct {
    int code;
    enum error_class class;
    const char *advice; /* NULL: SQLite's own text says it better */
} meanings[] = {
    {SQLITE_CONSTRAINT_UNIQUE, ERROR_EXISTS, nullptr},
    {SQLITE_CONSTRAINT_PRIMARYKEY, ERROR_EXISTS, nullptr},
    {SQLITE_CONSTRAINT_ROWID, ERROR_EXISTS, nullptr},
    {SQLITE_CONSTRAINT_DATATYPE, ERROR_INTERNAL, nullptr},
    {SQLITE_CONSTRAINT, ERROR_CONFLICT, nullptr},
    {SQLITE_BUSY, ERROR_UNAVAILABLE,
     "it is locked by another program (fuser names it): end that one, or try again later"},
    {SQLITE_LOCKED, ERROR_UNAVAILABLE, nullptr},
    {SQLITE_PROTOCOL, ERROR_UNAVAILABLE, nullptr},
    {SQLITE_FULL, ERROR_EXHAUSTED, "its disk is full: free space there or enlarge the volume"},
    {SQLITE_IOERR_NOMEM, ERROR_EXHAUSTED, "out of memory"},
    {SQLITE_NOMEM, ERROR_EXHAUSTED, "out of memory"},
    {SQLITE_TOOBIG, ERROR_EXHAUSTED, nullptr},
    {SQLITE_IOERR, ERROR_UNAVAILABLE, nullptr},
    {SQLITE_READONLY, ERROR_DENIED,
     "it can't be written: check the rights of the file and of its folder, and how the volume is "
     "mounted"},
    {SQLITE_CANTOPEN, ERROR_DENIED,
     "it can't be opened: check the rights of the file and of its folder"},
    {SQLITE_CORRUPT, ERROR_INTERNAL, "it is damaged: restore it from a backup"},
    {SQLITE_NOTADB, ERROR_INTERNAL,
     "it is not a SQLite database: check the path, or restore it from a backup"},
    {SQLITE_INTERRUPT, ERROR_TIMEOUT, "the transaction's deadline passed"},
};

static size_t meaning_of(int code)
{
    for (size_t i = 0; i < ARRAY_LEN(meanings); i++)
        if (meanings[i].code == code)
            return i;
    return ARRAY_LEN(meanings);
}

bool sqlite_fail(const struct connection *connection, int code, const char *what, struct error *err)
{
    sqlite3 *db = connection->db;
    if (db != nullptr && (sqlite3_extended_errcode(db) & 0xff) == (code & 0xff))
        code = sqlite3_extended_errcode(db);
    const char *text = db != nullptr ? sqlite3_errmsg(db) : sqlite3_errstr(code);
    size_t i = meaning_of(code);
    if (i == ARRAY_LEN(meanings))
        i = meaning_of(code & 0xff);
    if ((code & 0xff) == SQLITE_IOERR && db != nullptr) {
        /* Where space is reserved and not written, or a quota ends, SQLite says no more than this. */
        int number = sqlite3_system_errno(db);
        if (number == ENOSPC || number == EDQUOT)
            i = meaning_of(SQLITE_FULL);
    }
    enum error_class class = i < ARRAY_LEN(meanings) ? meanings[i].class : ERROR_INTERNAL;
    if (i < ARRAY_LEN(meanings) && meanings[i].advice != nullptr)
        text = meanings[i].advice;
    return error_set_native(err, class, ERROR_DOMAIN_SQLITE, code, text, "database %s: %s",
                            connection->path, what);
}

bool connection_contended(const struct error *err)
{
    return err->domain == ERROR_DOMAIN_SQLITE &&
           ((err->code & 0xff) == SQLITE_BUSY || (err->code & 0xff) == SQLITE_LOCKED);
}

void connection_pause(unsigned ms)
{
    sqlite3_sleep((int)ms);
}

/* ── What it may do ──────────────────────────────────────────────────────────────────────────── */

/* Called while a statement is compiled. Ordinary ones are rows in and out; a script makes the schema
 * but can't leave its transaction or its file, nor change how the connection works. */
static int authorize(void *arg, int action, const char *, const char *, const char *, const char *)
{
    const struct connection *connection = arg;
    switch (connection->guard) {
    case GUARD_OWN:
        return SQLITE_OK;
    case GUARD_SCRIPT:
        switch (action) {
        case SQLITE_TRANSACTION:
        case SQLITE_SAVEPOINT:
        case SQLITE_ATTACH:
        case SQLITE_DETACH:
        case SQLITE_PRAGMA:
            return SQLITE_DENY;
        default:
            return SQLITE_OK;
        }
    case GUARD_STATEMENT:
        break;
    }
    switch (action) {
    case SQLITE_SELECT:
    case SQLITE_READ:
    case SQLITE_INSERT:
    case SQLITE_UPDATE:
    case SQLITE_DELETE:
    case SQLITE_FUNCTION:
    case SQLITE_RECURSIVE:
        return SQLITE_OK;
    default:
        return SQLITE_DENY;
    }
}

/* Called every thousand steps of the virtual machine; non-zero ends the statement. */
static int overdue(void *arg)
{
    const struct connection *connection = arg;
    return connection->deadline != 0 && clock_boot_ms() >= connection->deadline;
}

/* ── Opening ─────────────────────────────────────────────────────────────────────────────────── */

static bool command(struct connection *connection, const char *sql, const char *what,
                    struct error *err)
{
    enum guard guard = connection->guard;
    connection->guard = GUARD_OWN;
    int code = sqlite3_exec(connection->db, sql, nullptr, nullptr, nullptr);
    connection->guard = guard;
    return code == SQLITE_OK || sqlite_fail(connection, code, what, err);
}

/* Waits for locks until the deadline and no longer. */
static void wait_until(struct connection *connection, uint64_t deadline)
{
    uint64_t now = clock_boot_ms();
    uint64_t left = deadline > now ? deadline - now : 0;
    sqlite3_busy_timeout(connection->db, left > INT32_MAX ? INT32_MAX : (int)left);
}

static bool set_limits(struct connection *connection, struct error *err)
{
    static const struct {
        int option;
        int value;
    } switches[] = {
        {SQLITE_DBCONFIG_DEFENSIVE, 1},      /* no writes to the schema's own table */
        {SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0}, /* a planted view or trigger calls nothing */
        {SQLITE_DBCONFIG_ENABLE_FKEY, 1},    {SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0},
        {SQLITE_DBCONFIG_DQS_DDL, 0}, /* "name" is a column, never text by mistake */
        {SQLITE_DBCONFIG_DQS_DML, 0},
    };
    sqlite3 *db = connection->db;
    for (size_t i = 0; i < ARRAY_LEN(switches); i++) {
        int code = sqlite3_db_config(db, switches[i].option, switches[i].value, nullptr);
        if (code != SQLITE_OK)
            return sqlite_fail(connection, code, "cannot be set up", err);
    }
    sqlite3_limit(db, SQLITE_LIMIT_LENGTH, (int)(2 * TX_VALUE_MAX));
    sqlite3_limit(db, SQLITE_LIMIT_VARIABLE_NUMBER, (int)TX_PARAMS_MAX);
    sqlite3_limit(db, SQLITE_LIMIT_ATTACHED, 0);
    return true;
}

/* The first read of the file, so what is wrong with it shows here. */
static bool set_durability(struct connection *connection, struct error *err)
{
    sqlite3_stmt *statement = nullptr;
    int code =
        sqlite3_prepare_v2(connection->db, "PRAGMA journal_mode=WAL", -1, &statement, nullptr);
    if (code == SQLITE_OK)
        code = sqlite3_step(statement);
    bool ok = true;
    if (code != SQLITE_ROW) {
        ok = sqlite_fail(connection, code, "cannot open", err);
    } else {
        const char *mode = (const char *)sqlite3_column_text(statement, 0);
        if (mode == nullptr || strcmp(mode, "wal") != 0) {
            ok = error_set(err, ERROR_DENIED,
                           "database %s: its file system has no shared memory, which the write-"
                           "ahead log needs: put it on a local one",
                           connection->path);
        }
    }
    sqlite3_finalize(statement);
    return ok && command(connection,
                         "PRAGMA synchronous=FULL;"
                         "PRAGMA cell_size_check=ON;"
                         "PRAGMA secure_delete=ON;"
                         "PRAGMA temp_store=MEMORY;"           /* no copies in another folder */
                         "PRAGMA mmap_size=0;"                 /* an I/O error is no SIGBUS */
                         "PRAGMA journal_size_limit=67108864", /* a burst's log shrinks again */
                         "cannot be set up", err);
}

bool connection_open(const char *path, uint64_t deadline, struct connection **ret,
                     struct error *err)
{
    CLEANUP(connection_free_at) struct connection *connection = mem_new(1, sizeof(*connection));
    if (connection == nullptr || (connection->path = mem_strdup(path)) == nullptr)
        return error_set_memory(err);
    connection->guard = GUARD_OWN;
    int code = sqlite3_open_v2(path, &connection->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX,
                               nullptr);
    if (code != SQLITE_OK)
        return sqlite_fail(connection, code, "cannot open", err);
    sqlite3_extended_result_codes(connection->db, 1);
    wait_until(connection, deadline);
    if (!set_limits(connection, err))
        return false;
    if (sqlite3_db_readonly(connection->db, "main") != 0)
        return sqlite_fail(connection, SQLITE_READONLY, "cannot open", err);
    if (!set_durability(connection, err))
        return false;
    sqlite3_progress_handler(connection->db, 1000, overdue, connection);
    code = sqlite3_set_authorizer(connection->db, authorize, connection);
    if (code != SQLITE_OK)
        return sqlite_fail(connection, code, "cannot be set up", err);
    connection->guard = GUARD_STATEMENT;
    *ret = TAKE(connection);
    return true;
}

struct connection *connection_free(struct connection *connection)
{
    if (connection != nullptr) {
        statements_drop(connection);
        sqlite3_close(connection->db);
        mem_free(connection->path);
        mem_free(connection);
    }
    return nullptr;
}

/* ── Transactions ────────────────────────────────────────────────────────────────────────────── */

bool connection_begin(struct connection *connection, bool writes, uint64_t deadline,
                      struct error *err)
{
    wait_until(connection, deadline);
    if (!command(connection, writes ? "BEGIN IMMEDIATE" : "BEGIN", "cannot begin", err))
        return false;
    connection->deadline = deadline;
    return true;
}

bool connection_commit(struct connection *connection, struct error *err)
{
    connection->deadline = 0; /* a commit is not cut short */
    statements_end(connection);
    if (command(connection, "COMMIT", "cannot commit", err))
        return true;
    connection_rollback(connection);
    return false;
}

void connection_rollback(struct connection *connection)
{
    struct error ignored;
    connection->deadline = 0;
    statements_end(connection);
    /* After some failures SQLite has done it already. */
    if (sqlite3_get_autocommit(connection->db) == 0 &&
        !command(connection, "ROLLBACK", "cannot roll back", &ignored)) {
        return; /* the next BEGIN fails, and says so */
    }
}

/* ── The schema ──────────────────────────────────────────────────────────────────────────────── */

bool connection_script(struct connection *connection, const char *sql, struct error *err)
{
    connection->guard = GUARD_SCRIPT;
    int code = sqlite3_exec(connection->db, sql, nullptr, nullptr, nullptr);
    connection->guard = GUARD_STATEMENT;
    return code == SQLITE_OK || sqlite_fail(connection, code, "cannot change the schema", err);
}

bool connection_enforce_references(struct connection *connection, bool on, struct error *err)
{
    return command(connection, on ? "PRAGMA foreign_keys=ON" : "PRAGMA foreign_keys=OFF",
                   "cannot be set up", err);
}

/* The integers of the first row of one of our own statements; none if there is no row. */
static bool first_row(struct connection *connection, const char *sql, const char *text,
                      int64_t *ret, int count, bool *ret_row, struct error *err)
{
    sqlite3_stmt *statement = nullptr;
    enum guard guard = connection->guard;
    connection->guard = GUARD_OWN;
    int code = sqlite3_prepare_v2(connection->db, sql, -1, &statement, nullptr);
    if (code == SQLITE_OK && text != nullptr)
        code = sqlite3_bind_text(statement, 1, text, -1, SQLITE_STATIC);
    if (code == SQLITE_OK)
        code = sqlite3_step(statement);
    connection->guard = guard;
    bool ok = code == SQLITE_ROW || code == SQLITE_DONE;
    if (ok) {
        *ret_row = code == SQLITE_ROW;
        for (int i = 0; *ret_row && i < count; i++)
            ret[i] = sqlite3_column_int64(statement, i);
    } else {
        sqlite_fail(connection, code, "cannot read the schema", err);
    }
    sqlite3_finalize(statement);
    return ok;
}

bool connection_check_references(struct connection *connection, struct error *err)
{
    bool dangling;
    if (!first_row(connection, "PRAGMA foreign_key_check", nullptr, nullptr, 0, &dangling, err))
        return false;
    return !dangling ||
           error_set(err, ERROR_CONFLICT, "a row would refer to one that is not there");
}

bool connection_tables(struct connection *connection, const char *name, bool *ret_exists,
                       int64_t *ret_all, struct error *err)
{
    int64_t counts[2];
    bool row;
    if (!first_row(connection,
                   "SELECT count(*) FILTER (WHERE name = $1), count(*) FROM sqlite_schema "
                   "WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'",
                   name, counts, 2, &row, err)) {
        return false;
    }
    *ret_exists = row && counts[0] > 0;
    *ret_all = row ? counts[1] : 0;
    return true;
}
