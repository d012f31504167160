/* A store in a folder of its own, for the tests of lib/store. */
#pragma once

#include "testlib/testlib.h"

#include "loop/loop.h"
#include "store/store.h"

#include <stdio.h>

struct fixture {
    char folder[64];
    char path[128]; /* of the database */
    struct store_options options;
    struct loop *loop;
    struct store *store; /* NULL until fixture_open or fixture_open_now */
    bool now;            /* it has no threads */
};

/* An empty folder, options for one with the tables below, no store. For cmocka's setup/teardown. */
int fixture_setup(void **state);
int fixture_teardown(void **state);

/* Opens it with threads, or for store_transact_now. */
void fixture_open(struct fixture *f);
void fixture_open_now(struct fixture *f);
/* Closes it. */
void fixture_close(struct fixture *f);

/* Runs a transaction, waiting for its end on the loop if there is one. */
bool fixture_run(struct fixture *f, store_run *run, void *arg, struct error *err);
bool fixture_read(struct fixture *f, store_run *run, void *arg, struct error *err);
bool fixture_run_for(struct fixture *f, bool writes, store_run *run, void *arg, uint64_t timeout_ms,
                     struct error *err);

/* A statement without parameters in a transaction of its own. */
bool fixture_exec(struct fixture *f, const char *sql, struct error *err);
/* The integer that a query without parameters gives; asserts that it does. */
int64_t fixture_count(struct fixture *f, const char *sql);

/* The migrations of the options:
 *   item (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, value BLOB, size INTEGER >= 0)
 *   part (item REFERENCES item ON DELETE CASCADE, text TEXT) */
extern const struct store_migration fixture_migrations[2];

/* Numbers from a printed seed: xorshift. */
uint64_t fixture_seed(void);
uint64_t fixture_random(uint64_t *state);
