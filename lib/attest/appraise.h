/*
 * The appraisal: evidence and what is recorded of a node go in, a verdict with its reasons comes
 * out. No device, no database, no clock; the checks are a table (checks.h, docs/attestation.md).
 *
 * Ownership: struct attest_case borrows everything; struct appraisal is a plain value.
 * Threading: any.
 */
#pragma once

#include "attest/ek.h"
#include "attest/identity.h"
#include "attest/policy.h"

constexpr int64_t ATTEST_NONCE_LIFETIME_MS = 60'000;
constexpr size_t ATTEST_REASONS_MAX = 32; /* one a check */
constexpr size_t ATTEST_DETAIL_MAX = 256;

/* From worst to best: a verdict is the worst outcome of its checks, and the zero value refuses. */
enum attest_outcome {
    ATTEST_FAIL = 0,
    ATTEST_PEND, /* genuine, but nobody has admitted it */
    ATTEST_WARN,
    ATTEST_PASS,
};

/* What the authority knows of this agent_id. All zeros: never seen. */
struct attest_record {
    bool known;
    bool admitted;      /* by an operator or a token, in an earlier appraisal */
    bool denied;        /* by an operator; no token helps */
    TPM2B_NAME ek_name; /* as first seen */
    TPM2B_NAME ak_name; /* size 0, or the AK that was proven to live beside this EK */
    uint32_t reset_count;
    uint32_t restart_count;
    uint64_t clock_ms;
    bool has_clock;       /* the three above are from an earlier quote */
    TPM2B_NAME wrap_name; /* size 0, or of the last recorded appraisal: changes with TPM2_Clear */
    bool clear_accepted;  /* an operator knows that this TPM was cleared */
    bool has_generation;  /* `limit` is that of the newest generation that the node confirmed */
    uint64_t limit;
    TPM2B_NAME counter_name; /* … and the counter that it is bound to */
};

/* The state of the challenge's nonce, as its row in the database has it. */
struct attest_nonce {
    bool unused;   /* and consumed by asking */
    bool of_agent; /* made for this agent_id */
    int64_t age_ms;
};

struct attest_case {
    /* As they travelled, for the evidence's hash; and taken apart. */
    struct slice hello_bytes, challenge_bytes, evidence_bytes;
    const Postern__V1__Hello *hello;
    const Postern__V1__Challenge *challenge;
    const Postern__V1__Evidence *evidence;
    const struct attest_identity *identity; /* of `hello` */

    struct slice exporter;           /* RFC 9266, of the connection that carried them: 32 bytes */
    const struct secret *credential; /* what ActivateCredential gives; null if none was asked for */
    struct attest_nonce nonce;
    const struct attest_record *record;
    bool token_valid;                   /* a join token for `policy` came with the hello */
    const struct attest_policy *policy; /* null while nobody has said which */
    const struct ek_roots *roots;       /* may be null */
    const uint8_t (*pins)[SHA256_SIZE];
    size_t pin_count;
    int64_t now_ms; /* Unix time */
};

struct attest_reason {
    unsigned check; /* its number */
    const char *name;
    enum attest_outcome outcome;
    bool unauthentic; /* for this alone the evidence is not authentic */
    char detail[ATTEST_DETAIL_MAX];
};

struct appraisal {
    Postern__V1__Verdict verdict;
    /* Whether this AK, in the TPM with this EK, made the evidence for this very challenge and
     * connection. Only then may anything be recorded: a stranger's lie must not change what is known
     * of the node that it names. */
    bool authentic;
    struct attest_reason reasons[ATTEST_REASONS_MAX]; /* what is not PASS, in the table's order */
    size_t reason_count;

    uint8_t evidence_hash[SHA256_SIZE];
    Postern__V1__EkTrust ek_trust; /* how the EK was trusted; UNSPECIFIED if it was not */
    uint32_t reset_count;
    uint32_t restart_count;
    uint64_t clock_ms;
    uint64_t firmware_version;
    uint64_t counter; /* as certified */
    struct pcr_values pcrs;
};

/* One line of the table of checks (docs/attestation.md), for people. */
struct attest_line {
    unsigned number;
    const char *name; /* "pcr-policy" */
    const char *what; /* what holds where it passes */
    bool authentic;   /* a failure makes the evidence not authentic */
};
/* The index-th from 0, in the table's order; its texts are static. False beyond the last. */
[[nodiscard]] bool attest_table(size_t index, struct attest_line *ret);

/* The PCR values that evidence shows, which nothing has compared with its quote yet. INVALID, with the
 * field. */
[[nodiscard]] bool attest_evidence_values(const Postern__V1__Evidence *evidence,
                                          struct pcr_values *ret, struct error *err);

/* Runs every check. False where the evidence can't be read at all (INVALID, with the field), and where
 * judging it failed for reasons of our own (EXHAUSTED, INTERNAL); evidence that lies is an appraisal
 * that says so. */
[[nodiscard]] bool attest_appraise(const struct attest_case *in, struct appraisal *ret,
                                   struct error *err);
