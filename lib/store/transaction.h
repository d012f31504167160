/* The inside of struct tx, and the life of a transaction. Inside lib/store only. */
#pragma once

#include "store/connection.h"
#include "store/store.h"

struct tx {
    struct connection *connection;
    bool writes;
    uint64_t changed;
    bool failed; /* a statement did: nothing is committed */
    struct error failure;
    unsigned cursors; /* open ones */
};

/* Runs a transaction, repeating it on contention, until `deadline` (boot clock, ms). */
[[nodiscard]] bool transaction_run(struct connection *connection, bool writes, store_run *run,
                                   void *arg, uint64_t deadline, struct error *err);
