/*
 * TPM signatures (TPMT_SIGNATURE, TPM 2.0 Library, Part 2 §11.3.4) and their verification with the
 * signer's public area. Sans-I/O; any thread.
 */
#pragma once

#include "base/buf.h"

#include <tss2/tss2_tpm2_types.h>

constexpr size_t TPM_SIGNATURE_WIRE_MAX = 520; /* bytes: RSA-4096 is 518 */

/* TPMT_SIGNATURE, nothing after it: ECDSA, RSASSA or RSAPSS with SHA-256 or SHA-384. INVALID for
 * everything else. */
[[nodiscard]] bool tpm_signature_parse(struct slice wire, TPMT_SIGNATURE *ret, struct error *err);

/* Appends TPMT_SIGNATURE. */
[[nodiscard]] bool tpm_signature_marshal(const TPMT_SIGNATURE *signature, struct buf *ret,
                                         struct error *err);

/* Verifies the signature over H(bytes). INVALID if scheme or hash do not fit the key (a key with a
 * scheme of its own signs with no other) or the key is none that public_area_key takes or has no
 * `sign` attribute; DENIED if the signature is wrong. */
[[nodiscard]] bool tpm_signature_verify(const TPMT_PUBLIC *key, const TPMT_SIGNATURE *signature,
                                        struct slice bytes, struct error *err);
