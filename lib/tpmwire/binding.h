/*
 * extraData of the structures in an attestation: what binds quote, certifications and counter to
 * each other, to one challenge, to one hello and to one TLS connection (docs/protocol.md,
 * "Attest"). Shared by node and verifier. Sans-I/O; any thread.
 */
#pragma once

#include "base/crypt.h"

#include <tss2/tss2_tpm2_types.h>

constexpr size_t BINDING_NONCE_SIZE = 32;

enum binding_kind {
    BINDING_QUOTE,   /* "postern quote v1" */
    BINDING_CERTIFY, /* "postern certify v1": WRAP and REQ */
    BINDING_COUNTER, /* "postern counter v1" */
};

/* All borrowed for the call. */
struct binding {
    struct slice nonce;    /* BINDING_NONCE_SIZE */
    struct slice agent_id; /* as in the challenge */
    const TPM2B_NAME *ak;
    const TPM2B_NAME *wrap;
    const TPM2B_NAME *req;
    const TPM2B_NAME *counter; /* with WRITTEN set */
    struct slice csr;          /* DER; hashed here */
    struct slice hello;        /* E1 as sent; hashed here */
    struct slice exporter;     /* CHANNEL_BINDING_SIZE */
};

/* SHA-256(tag ‖ N ‖ agent_id ‖ Name(AK) ‖ Name(WRAP) ‖ Name(REQ) ‖ Name(counter) ‖ SHA-256(CSR) ‖
 * SHA-256(E1) ‖ exporter), each part after its length as u32. INVALID for an empty part or a nonce
 * or exporter of the wrong size. */
[[nodiscard]] bool binding_digest(enum binding_kind kind, const struct binding *binding,
                                  uint8_t ret[static SHA256_SIZE], struct error *err);
