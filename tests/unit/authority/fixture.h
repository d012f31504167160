/* A database of the authority's in a temporary folder, and a node that is only claimed: areas and
 * values as a TPM would give them, without one. */
#pragma once

#include "testlib/testlib.h"

#include "generation.h"
#include "nodes.h"
#include "schema.h"

#include "base/mem.h"

struct fixture {
    char folder[64];
    struct store *store;
    struct kek *kek;
    int64_t now_ms;
};

int fixture_up(void **state);
int fixture_down(void **state);

/* Runs a transaction on this thread. */
bool transact(struct fixture *f, store_run *run, void *arg, struct error *err);

/* What a node says of itself. `seed` makes it another one. */
struct claim {
    struct attest_identity id;
    struct buf req;
    Postern__V1__Hello hello;
    struct attest_record known;
    struct attest_case in;
    struct appraisal appraisal;
    struct buf body;
    struct node_update update;
};
void claim_make(const struct fixture *f, unsigned seed, Postern__V1__Verdict verdict,
                struct claim *ret);
void claim_done(struct claim *claim);
/* Records it in a transaction of its own. */
void claim_record(struct fixture *f, struct claim *claim);
