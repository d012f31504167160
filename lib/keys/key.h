/*
 * struct key: a private or public key, opened by URI through OSSL_STORE.
 *
 *     file:/var/lib/postern/ca.key     a PEM or DER private key (PKCS#8)
 *
 * A key never changes; it is reference-counted, and may be used from any thread.
 */
#pragma once

#include "base/buf.h"

#include <openssl/types.h>

struct key;

enum key_kind {
    KEY_OTHER = 0, /* none that we sign with; can't be opened */
    KEY_P256,      /* ECDSA with SHA-256 */
    KEY_P384,      /* ECDSA with SHA-384 */
    KEY_ML_DSA_65, /* FIPS 204, pure, empty context */
};

constexpr size_t KEY_FILE_MAX = 64 * 1024;     /* a hostile file would fill memory */
constexpr size_t KEY_SIGNATURE_MAX = 4 * 1024; /* ML-DSA-65 has 3309 bytes */

/* Opens the first private key at `uri`. A key file that group or others can read is DENIED.
 * NOT_FOUND, INVALID (bad URI, no key in it, a kind that we don't use), DENIED. */
[[nodiscard]] bool key_open(const char *uri, struct key **ret, struct error *err);
[[nodiscard]] bool key_generate(enum key_kind kind, struct key **ret, struct error *err);
/* A public key from its SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7), DER. INVALID. */
[[nodiscard]] bool key_from_public(struct slice spki, struct key **ret, struct error *err);

/* Writes the private key as PKCS#8 PEM, mode 0600, whole or not at all. */
[[nodiscard]] bool key_save(const struct key *key, const char *path, struct error *err);
/* Appends the SubjectPublicKeyInfo, DER. */
[[nodiscard]] bool key_public(const struct key *key, struct buf *ret, struct error *err);

enum key_kind key_kind(const struct key *key);
/* "P-256", "P-384", "ML-DSA-65". */
const char *key_kind_name(enum key_kind kind);
/* libcrypto's key, borrowed. */
EVP_PKEY *key_evp(const struct key *key);

/* Appends the signature over `bytes` (ECDSA: DER, RFC 3279 section 2.2.3). */
[[nodiscard]] bool key_sign(const struct key *key, struct slice bytes, struct buf *ret,
                            struct error *err);
/* DENIED if the signature does not match. */
[[nodiscard]] bool key_verify(const struct key *key, struct slice bytes, struct slice signature,
                              struct error *err);

struct key *key_ref(struct key *key);
/* NULL is fine; returns NULL. */
struct key *key_unref(struct key *key);
DEFINE_CLEANUP(key_unref, struct key)
