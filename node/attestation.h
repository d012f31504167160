/*
 * struct attestation: one Attest stream, E1 to E4, from the node's side (docs/protocol.md).
 *
 * The authority is known by its TLS certificate under the pinned trust anchor; what it says at the
 * end is believed only after both its signatures, and only if it is about this very evidence.
 *
 * Ownership: borrows device, client and keys. While the device works for it, it can't be freed:
 * device_free comes first. Threading: the loop's thread.
 */
#pragma once

#include "device.h"
#include "keys/key.h"
#include "rpc/client.h"
#include "signatures.h"
#include "timekeeper.h"

/* The whole stream. The nonce is good for 60 s, and a busy TPM is waited for twice. */
constexpr uint64_t ATTEST_TIMEOUT_MS = 90'000;
constexpr size_t HELLO_MAX = 64 * 1024;    /* the authority takes no more */
constexpr size_t EVIDENCE_MAX = 64 * 1024; /* the same */
constexpr size_t SVID_CERTIFICATES_MAX = 8;
constexpr size_t SVID_PEM_MAX = 128 * 1024;

struct attestation_settings {
    struct device *device;
    struct rpc_client *client; /* without client certificate */
    const struct authority_keys *keys;
    const char *join_token; /* copied; null: none */
    uint64_t generation;    /* that the node can open now; 0: none */
};

/* What came of it. Valid during the callback, which may move parts out. */
struct attestation_result {
    char agent_id[33];
    Postern__V1__AppraisalBody *body; /* verified */
    struct slice body_bytes;
    uint64_t challenged_boot_ms; /* when the challenge came: body->time is not later */
    struct key *key;             /* of the SVID */
    struct buf svid;             /* PEM, leaf first; empty unless the appraisal releases */
    struct generation offer;     /* verified; number 0: none is due */
};

struct attestation;

/* Calls `done` once, not from within: with a result, or with why there is none. UNAVAILABLE and
 * TIMEOUT: the authority or the TPM is away; UNAUTHENTICATED: the authority could not be believed, or
 * did not believe us (reason EVIDENCE_NOT_AUTHENTIC). Free it afterwards by attestation_free, not in
 * `done`. */
[[nodiscard]] bool attestation_start(const struct attestation_settings *settings,
                                     void (*done)(void *arg, struct attestation_result *result,
                                                  const struct error *err),
                                     void *arg, struct attestation **ret, struct error *err);
/* Takes null; returns null. */
struct attestation *attestation_free(struct attestation *attestation);
