/*
 * struct authority_keys: whose word counts. What the authority signs carries two signatures by two
 * keys (docs/protocol.md, "Signatures"); the keys come with it, certified by the pinned trust anchor
 * as spiffe://TRUST-DOMAIN/postern/authority/packets. Nothing of a signed message is believed before
 * this has been asked.
 *
 * Ownership: owns the anchors. Threading: never changes once made; any.
 */
#pragma once

#include "base/buf.h"

#include "postern/v1/node.pb-c.h"

struct authority_keys;

/* Each costs two signature checks; there are two signers. */
constexpr size_t SIGNER_CERTIFICATES_MAX = 4;

/* The trust anchor, PEM: the P-384 and the ML-DSA-65 CA certificate of one trust domain, which the
 * first one's URI names. INVALID. */
[[nodiscard]] bool authority_keys_new(struct slice anchor_pem, struct authority_keys **ret,
                                      struct error *err);
struct authority_keys *authority_keys_free(struct authority_keys *keys);
DEFINE_CLEANUP(authority_keys_free, struct authority_keys)

/* "example.org"; borrowed. */
const char *authority_keys_trust_domain(const struct authority_keys *keys);

/* What was signed, and by whom it says it was; all borrowed. */
struct signed_message {
    const char *tag; /* "postern appraisal v1" */
    const struct slice *parts;
    size_t part_count;
    Postern__V1__Signature *const *signatures;
    size_t signature_count;
    const ProtobufCBinaryData *certificates; /* DER */
    size_t certificate_count;
};

/* Exactly one P-384 and one ML-DSA-65 key of the authority signed the prefixed parts tag, parts[0], …
 * Certificates are judged at `now` (Unix milliseconds). UNAUTHENTICATED says what is missing. */
[[nodiscard]] bool signatures_verify(const struct authority_keys *keys,
                                     const struct signed_message *message, int64_t now,
                                     struct error *err);
