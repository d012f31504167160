/*
 * Generations of node keys (design: secrets.md, "The node key"): who is due a new one, under which
 * limit, and what became of it. Inside transactions, on the database's thread.
 *
 *   OFFERED ──confirm──▶ CONFIRMED ──counter certified at the limit of the next──▶ RETIRED
 *      └──another boot state or WRAP before it was confirmed──▶ RETIRED (never used)
 *
 * At most one is OFFERED at a time, and it is offered again, the same bytes, until it is confirmed.
 * Retired ones lose their key.
 */
#pragma once

#include "identity.h"
#include "nodes.h"

/* Why a generation is due. */
enum generation_due {
    GENERATION_NOT_DUE = 0,
    GENERATION_FIRST,      /* none was ever confirmed */
    GENERATION_WANTED,     /* generation_want */
    GENERATION_BOOT_STATE, /* the sealed PCRs or the seal selection changed, and are affirmed */
    GENERATION_LOST,       /* the node has none that it can open */
    GENERATION_CLEARED,    /* WRAP is another: the TPM was cleared */
};

/* What a new generation is made for; borrowed. */
struct generation_case {
    const struct node_record *record; /* as it was before this appraisal; agent_id alone if new */
    const struct attest_identity *identity;
    const struct attest_policy *policy;
    const struct pcr_values *pcrs; /* quoted, and affirmed */
    uint64_t held;                 /* newest that the node can open, as it says; 0 for none */
    uint64_t counter;              /* certified now: the one of `identity` */
    bool counter_normal; /* at the confirmed limit, so that something new may be offered */
    int64_t now_ms;
};

/* Decides and, where due, makes (or finds the one already offered), stores it and appends its
 * GenerationBody. Nothing is appended where none is due. Also marks as RETIRED what the certified
 * counter has put out of reach. DENIED, reason COUNTER_CHANGED: the counter is another than the
 * confirmed generation's, and no clear was accepted. */
[[nodiscard]] bool generation_offer(struct tx *tx, const struct kek *kek,
                                    const struct generation_case *in, struct buf *ret_body,
                                    enum generation_due *ret_due, struct error *err);

/* The key of a generation that is offered or confirmed. NOT_FOUND (reason GENERATION_UNKNOWN);
 * CONFLICT (reason GENERATION_RETIRED). */
[[nodiscard]] bool generation_key(struct tx *tx, const struct kek *kek, const char *agent_id,
                                  uint64_t generation, struct secret **ret, struct error *err);

/* The node has it on disk. Idempotent; NOT_FOUND and CONFLICT as above. */
[[nodiscard]] bool generation_confirm(struct tx *tx, const char *agent_id, uint64_t generation,
                                      int64_t now_ms, struct error *err);

/* A version that this node holds was retired: its next appraisal offers a new generation, with which
 * the old ones become unreadable. */
[[nodiscard]] bool generation_want(struct tx *tx, const char *agent_id, struct error *err);

/* The generation that is offered now, 0 for none. */
[[nodiscard]] bool generation_offered(struct tx *tx, const char *agent_id, uint64_t *ret,
                                      struct error *err);
