/*
 * What is recorded of nodes: rows of `node`, `nonce` and `join_token`. Everything here runs inside a
 * transaction, on the database's thread, and returns plain values.
 *
 * Limits: NODES_PENDING_MAX rows of strangers, NONCES_MAX open challenges; the oldest makes room.
 */
#pragma once

#include "attest/appraise.h"
#include "base/buf.h"
#include "store/tx.h"

#include "postern/v1/admin.pb-c.h"

constexpr int64_t NODES_PENDING_MAX = 1000; /* a farm of software TPMs would fill the disk */
constexpr int64_t NODES_LIST_MAX = 10'000;  /* of one answer: a response has 4 MiB */
constexpr int64_t NONCES_MAX =
    10'000; /* open challenges: hellos without an answer fill the table, which must refuse nobody */
constexpr int64_t JOIN_TOKENS_MAX = 10'000; /* unspent and unexpired: a script gone wrong */
/* What travels in an attestation, and is kept of the last. Strangers send it, so each has its limit:
 * memory while it is judged, the disk afterwards. */
constexpr size_t ATTEST_HELLO_MAX = 64 * 1024; /* four keys, a counter, a chain of certificates */
constexpr size_t ATTEST_CHALLENGE_MAX = 4 * 1024;
constexpr size_t ATTEST_EVIDENCE_MAX =
    256 * 1024;                        /* four structures, 96 digests, a CSR; logs later */
constexpr size_t HOST_NAME_SIZE = 254; /* DNS: 253 characters and a NUL; longer is cut */
constexpr size_t POLICY_NAME_SIZE = 64;
constexpr size_t JOIN_TOKEN_SECRET_SIZE = 24;  /* bytes of randomness */
constexpr size_t JOIN_TOKEN_SIZE = 5 + 32 + 1; /* "join-", base64url of them, NUL */
constexpr size_t JOIN_TOKEN_MAX = 128;         /* of what a node sends as one */
constexpr uint64_t JOIN_TOKEN_LIFETIME_MS = 600'000;
constexpr uint64_t JOIN_TOKEN_LIFETIME_MAX_MS = 86'400'000;
constexpr size_t APPRAISAL_BODY_MAX = 64 * 1024; /* 32 reasons of 256 bytes, and some */
constexpr uint64_t NODE_NUMBER_MAX = INT64_MAX;  /* counts and clocks that a row can hold */

/* One row. A plain value; `appraisal` belongs to it. */
struct node_record {
    char agent_id[AGENT_ID_SIZE];
    char host_name[HOST_NAME_SIZE];
    Postern__V1__Admission admission;
    char policy[POLICY_NAME_SIZE]; /* empty: none yet */
    TPM2B_NAME ek_name, ak_name;   /* a pair that was proven */
    TPM2B_NAME wrap_name;          /* as req */
    TPM2B_PUBLIC req;              /* its requests are signed with it */
    bool
        trusted; /* req, counts, clock and counter are of an appraisal that was not contraindicated */
    Postern__V1__EkTrust ek_trust;
    Postern__V1__Verdict verdict; /* of the last appraisal */
    int64_t appraised_at_ms, expires_at_ms, last_seen_ms;
    uint32_t reset_count, restart_count;
    uint64_t clock_ms;
    uint64_t firmware_version;
    uint64_t counter;      /* last certified */
    bool clear_accepted;   /* an operator knows that the TPM was cleared */
    bool wants_generation; /* a retired version is to be made unreadable */
    struct buf appraisal;  /* the last AppraisalBody */
    /* From `generation`, zeros without one. */
    uint64_t generation;     /* newest confirmed */
    uint64_t limit;          /* … its limit */
    TPM2B_NAME counter_name; /* … and the counter that its limit counts */
};

void node_record_init(struct node_record *record);
/* For CLEANUP. */
void node_record_done(struct node_record *record);

/* Reads one. NOT_FOUND, reason NODE_UNKNOWN. `ret` is initialised. */
[[nodiscard]] bool nodes_get(struct tx *tx, const char *agent_id, struct node_record *ret,
                             struct error *err);
/* Calls `visit` for each, by agent_id; false from it ends with its error. */
[[nodiscard]] bool nodes_each(struct tx *tx,
                              bool (*visit)(void *arg, const struct node_record *record,
                                            struct error *err),
                              void *arg, struct error *err);

/* Whether anything may be released to this node at Unix time `now_ms`: admitted (DENIED,
 * NODE_NOT_ADMITTED), affirmed or warned about (CONFLICT, NODE_CONTRAINDICATED), and that not expired
 * (CONFLICT, APPRAISAL_EXPIRED), with its counter at the confirmed generation's limit (UNAVAILABLE,
 * RETIREMENT_UNFINISHED: it has to increment and attest). */
[[nodiscard]] bool node_may_receive(const struct node_record *record, int64_t now_ms,
                                    struct error *err);

/* ---- Challenges ---- */

/* Makes a row for a fresh nonce, and drops those that are too old; beyond NONCES_MAX the oldest makes
 * room, which whoever sent that many hellos within a minute left behind. */
[[nodiscard]] bool nonces_make(struct tx *tx, struct slice nonce, const char *agent_id,
                               int64_t now_ms, struct error *err);
/* Consumes it, whatever it says. */
[[nodiscard]] bool nonces_take(struct tx *tx, struct slice nonce, const char *agent_id,
                               int64_t now_ms, struct attest_nonce *ret, int64_t *ret_made_ms,
                               struct error *err);

/* ---- Join tokens ---- */

/* Stores the hash of `token` alone. */
[[nodiscard]] bool tokens_make(struct tx *tx, const char *token, const char *policy,
                               const char *who, int64_t now_ms, int64_t expires_at_ms,
                               struct error *err);
/* Whether `token` admits this agent now: unspent and in time, or spent by this very agent. Then
 * `ret_policy` (POLICY_NAME_SIZE) says under what. */
[[nodiscard]] bool tokens_look(struct tx *tx, const char *token, const char *agent_id,
                               int64_t now_ms, bool *ret_valid, char *ret_policy,
                               struct error *err);
/* In the transaction that stores the first affirming appraisal. */
[[nodiscard]] bool tokens_spend(struct tx *tx, const char *token, const char *agent_id,
                                int64_t now_ms, struct error *err);

/* ---- What an appraisal and an operator change ---- */

/* What travelled, and what came of it; borrowed. */
struct node_update {
    const struct attest_case *in;
    const struct appraisal *appraisal;
    struct slice body;                /* the AppraisalBody */
    Postern__V1__Admission admission; /* from now on */
    const char *policy;               /* null: none */
    int64_t now_ms;
    int64_t expires_at_ms;
};

/* attest_record as the appraisal wants it; all zeros for a null `record`. */
void node_attest_record(const struct node_record *record, struct attest_record *ret);

/* Records an authentic appraisal: makes the row (dropping the oldest pending one beyond
 * NODES_PENDING_MAX) or updates it. What a contraindicated one says of clock, keys and counter is not
 * taken over: it must not move what the next is measured by. */
[[nodiscard]] bool nodes_record(struct tx *tx, const struct node_update *update, struct error *err);
/* Operators' words. NOT_FOUND. */
[[nodiscard]] bool nodes_approve(struct tx *tx, const char *agent_id, const char *policy,
                                 struct error *err);
/* … and its generations lose their keys. */
[[nodiscard]] bool nodes_deny(struct tx *tx, const char *agent_id, struct error *err);
/* Consumed by the next appraisal that affirms. */
[[nodiscard]] bool nodes_accept_clear(struct tx *tx, const char *agent_id, struct error *err);

/* The last evidence, for record and explain: appends hello, challenge, evidence. */
[[nodiscard]] bool nodes_evidence(struct tx *tx, const char *agent_id, struct buf *ret_hello,
                                  struct buf *ret_challenge, struct buf *ret_evidence,
                                  struct error *err);
