/*
 * Hashes and key derivation by TPM algorithm identifiers (TPM 2.0 Library, Part 1 §11.4.10; Part 2
 * §6.3). Functions of values only; any thread.
 */
#pragma once

#include "base/secret.h"

#include <openssl/evp.h>
#include <tss2/tss2_tpm2_types.h>

/* Digest size in bytes of SHA-1, SHA-256, SHA-384 and SHA-512; 0 for everything else. */
size_t tpm_hash_size(TPMI_ALG_HASH alg);

/* The same hash for OpenSSL (static, never freed); NULL for everything else. */
const EVP_MD *tpm_hash_md(TPMI_ALG_HASH alg);

/* H(parts[0] ‖ parts[1] ‖ …), nothing between them. INVALID for an unknown algorithm. */
[[nodiscard]] bool tpm_hash(TPMI_ALG_HASH alg, const struct slice *parts, size_t count,
                            TPM2B_DIGEST *ret, struct error *err);

/* KDFa, Part 1 §11.4.10.2 (SP 800-108 counter mode with HMAC): `bits` (a multiple of 8, at most
 * 512) under `key`. The label is hashed with exactly one NUL. */
[[nodiscard]] bool tpm_kdfa(TPMI_ALG_HASH alg, struct slice key, const char *label,
                            struct slice context_u, struct slice context_v, size_t bits,
                            struct secret **ret, struct error *err);

/* KDFe, Part 1 §11.4.10.3 (SP 800-56A concatenation): z is the x coordinate of the shared point,
 * party_u and party_v the x coordinates of the two public points, all three padded to the curve's
 * size. */
[[nodiscard]] bool tpm_kdfe(TPMI_ALG_HASH alg, struct slice z, const char *label,
                            struct slice party_u, struct slice party_v, size_t bits,
                            struct secret **ret, struct error *err);
