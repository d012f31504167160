/*
 * struct conversation: one node's attestation, from hello to appraisal, without the stream that
 * carries it. Its steps happen on different threads, one after another; it belongs to whoever runs
 * the step.
 *
 *   conversation_hello      loop       reads E1
 *   conversation_challenge  database   makes E2
 *   conversation_evidence   loop       reads E3
 *   conversation_appraise   database   consumes the nonce, judges, records
 *   conversation_sign       signer     signs E4's parts
 *   conversation_answer     loop       puts E4 together
 *
 * The steps on the database's thread may run several times before one is committed, and so begin by
 * forgetting what an earlier try left.
 */
#pragma once

#include "generation.h"
#include "identity.h"
#include "nodes.h"
#include "policies.h"

#include "rpc/call.h"

constexpr uint64_t ATTEST_RETRY_PENDING_MS = 15'000;
constexpr uint64_t ATTEST_RETRY_REFUSED_MS = 60'000; /* a boot state does not change by itself */

struct conversation {
    struct identity *identity;
    struct policies *policies; /* referenced: judged by what was asked by */
    uint64_t svid_lifetime_ms;
    uint8_t exporter[CHANNEL_BINDING_SIZE];

    struct buf hello_bytes, challenge_bytes, evidence_bytes;
    ProtobufCMessage *hello, *challenge, *evidence;
    struct attest_identity id;
    uint8_t nonce[32];
    struct secret *credential;     /* what only the TPM with EK and AK can answer; may be null */
    char policy[POLICY_NAME_SIZE]; /* that the challenge was made for; empty for none */
    int64_t now_ms;                /* when the last message came: Unix time */

    /* Of the appraisal. */
    bool refused; /* `refusal` is the answer; only the nonce was consumed */
    struct error refusal;
    struct appraisal appraisal;
    bool first_admission;
    int64_t expires_at_ms;
    struct buf body, generation_body;
    enum generation_due due;

    /* Of the signer. */
    struct dual_signature signatures, generation_signatures;
    struct buf svid;
};

/* References the policies. EXHAUSTED. */
[[nodiscard]] bool conversation_new(struct identity *identity, struct policies *policies,
                                    uint64_t svid_lifetime_ms,
                                    const uint8_t exporter[static CHANNEL_BINDING_SIZE],
                                    struct conversation **ret, struct error *err);
/* On the loop's thread. Takes null; returns null. */
struct conversation *conversation_free(struct conversation *conversation);
DEFINE_CLEANUP(conversation_free, struct conversation)

/* INVALID with the field; EXHAUSTED beyond ATTEST_HELLO_MAX. */
[[nodiscard]] bool conversation_hello(struct conversation *conversation, struct slice bytes,
                                      struct error *err);
/* Inside a transaction that writes. CONFLICT, reason POLICY_UNKNOWN: the policy that the node or its
 * token is bound to is not there. */
[[nodiscard]] bool conversation_challenge(struct conversation *conversation, struct tx *tx,
                                          struct error *err);
/* INVALID with the field; EXHAUSTED beyond ATTEST_EVIDENCE_MAX. */
[[nodiscard]] bool conversation_evidence(struct conversation *conversation, struct slice bytes,
                                         struct error *err);
/* Inside a transaction that writes. True where the nonce was consumed: then `refused` says whether more
 * was recorded. */
[[nodiscard]] bool conversation_appraise(struct conversation *conversation, struct tx *tx,
                                         struct error *err);
/* In a job of identity_submit. */
[[nodiscard]] bool conversation_sign(struct conversation *conversation, struct error *err);

/* E4, whose parts are borrowed from the conversation. */
struct answer {
    Postern__V1__AttestResponse response;
    Postern__V1__Appraisal appraisal;
    Postern__V1__Generation generation;
    ProtobufCBinaryData signers[SIGNER_COUNT], svid;
};
void conversation_answer(struct conversation *conversation, struct answer *ret);

/* Whether the appraisal lets the node have anything. */
bool conversation_affirms(const struct conversation *conversation);
