/*
 * Import blobs: a sealed data object made outside the TPM for TPM2_Import under a storage key
 * (TPM 2.0 Library, Part 1 §23.3, Part 3 §13.3). Its policy and what it is for: docs/protocol.md,
 * "The node key". Sans-I/O; any thread.
 *
 *   unique    = SHA-256(seedValue ‖ secret)
 *   seed      = RSA: random, by OAEP with label "DUPLICATE"; ECC: KDFe(Z.x, "DUPLICATE",
 *               ephemeral.x, parent.x), every coordinate in the curve's size
 *   encrypted = AES-CFB, IV 0, of TPM2B_SENSITIVE with its size, by KDFa(seed, "STORAGE", Name)
 *   duplicate = HMAC(encrypted ‖ Name) as TPM2B_DIGEST ‖ encrypted, by KDFa(seed, "INTEGRITY")
 *
 * All but unique by the parent's nameAlg; no inner wrapper; each label with its NUL once.
 */
#pragma once

#include "tpmwire/share.h"

/* adminWithPolicy | noDA, nothing else: without adminWithPolicy ObjectChangeAuth would pass with
 * the empty password. */
constexpr TPMA_OBJECT IMPORT_BLOB_ATTRIBUTES = 0x480;
constexpr size_t IMPORT_SECRET_SIZE = 32;
constexpr size_t IMPORT_SEED_VALUE_SIZE = 32;
constexpr size_t IMPORT_BLOB_WIRE_MAX = 1024; /* bytes of each part */

/* Wraps `secret` (IMPORT_SECRET_SIZE bytes) as a KEYEDHASH object, nameAlg SHA-256, with `policy`
 * (SHA-256) as its authPolicy, for `parent`: a restricted decryption key, ECC or RSA. Appends
 * objectPublic (TPM2B_PUBLIC), duplicate (TPM2B_PRIVATE) and inSymSeed (TPM2B_ENCRYPTED_SECRET),
 * each with its size; no inner wrapper. INVALID if the parent is no storage key; on failure nothing
 * is appended. */
[[nodiscard]] bool import_blob_make(const TPMT_PUBLIC *parent, const struct secret *secret,
                                    const TPM2B_DIGEST *policy, struct buf *ret_public,
                                    struct buf *ret_duplicate, struct buf *ret_seed,
                                    struct error *err);

/* The same with the caller's randomness; seed_value obfuscates `unique`. */
[[nodiscard]] bool import_blob_make_with(const TPMT_PUBLIC *parent, const struct secret *secret,
                                         const TPM2B_DIGEST *policy,
                                         const uint8_t seed_value[static IMPORT_SEED_VALUE_SIZE],
                                         const struct share_random *random, struct buf *ret_public,
                                         struct buf *ret_duplicate, struct buf *ret_seed,
                                         struct error *err);

/* For TPM2_Import: the three parts from the wire. INVALID if malformed or oversize, or if the
 * public area has other attributes than IMPORT_BLOB_ATTRIBUTES, another type or no policy. */
[[nodiscard]] bool import_blob_parse(struct slice object_public, struct slice duplicate,
                                     struct slice seed, TPM2B_PUBLIC *ret_public,
                                     TPM2B_PRIVATE *ret_duplicate, TPM2B_ENCRYPTED_SECRET *ret_seed,
                                     struct error *err);
