/*
 * Secret sharing with a TPM's decryption key (TPM 2.0 Library, Part 1 §B.10 for RSA-OAEP, §C.6 for
 * one-pass ECDH), and the outer wrap under the shared seed (§22.4, §23.3, §24): the common ground
 * of credentials and import blobs. Sans-I/O; any thread.
 */
#pragma once

#include "base/buf.h"
#include "base/secret.h"

#include <tss2/tss2_tpm2_types.h>

constexpr size_t SHARE_RANDOM_MAX = 64; /* bytes: more than a digest or P-384 scalar */

/* The randomness that a share consumes. Drawn by share_random; tests pass in their own, to check
 * recorded vectors. Wiped by whoever holds it. */
struct share_random {
    uint8_t seed[SHARE_RANDOM_MAX];   /* RSA: the seed that is sent, digest-sized */
    uint8_t oaep[SHARE_RANDOM_MAX];   /* RSA: OAEP's own seed, digest-sized */
    uint8_t scalar[SHARE_RANDOM_MAX]; /* ECC: the ephemeral private key, big-endian, curve-sized */
};

/* Draws what share_make needs for `key`: the scalar lies in [1, order). */
[[nodiscard]] bool share_random(const TPMT_PUBLIC *key, struct share_random *ret,
                                struct error *err);

/* Agrees on a seed with `key`, an RSA or ECC decryption key with a symmetric algorithm (EK, storage
 * key); `label` is "IDENTITY" or "DUPLICATE" and used with exactly one NUL. ret_secret is what
 * the TPM gets: TPM2B_ENCRYPTED_SECRET. INVALID if the key is no such key. */
[[nodiscard]] bool share_make(const TPMT_PUBLIC *key, const char *label,
                              const struct share_random *random, struct secret **ret_seed,
                              TPM2B_ENCRYPTED_SECRET *ret_secret, struct error *err);

/* integrity HMAC (TPM2B_DIGEST) ‖ CFB(plain) under keys from the seed, bound to `name`. Appends
 * without a size before it. Hash and symmetric algorithm are those of `key`. */
[[nodiscard]] bool share_wrap(const TPMT_PUBLIC *key, const struct secret *seed,
                              const TPM2B_NAME *name, struct slice plain, struct buf *ret,
                              struct error *err);
