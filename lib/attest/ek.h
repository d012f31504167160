/*
 * Is this EK a genuine TPM's? Certificates after the TCG EK Credential Profile 2.5, pinned keys.
 *
 * Ownership: struct ek_roots owns its certificates. Threading: read-only after ek_roots_new; any.
 * Limits: EK_ROOTS_MAX certificates.
 */
#pragma once

#include "base/crypt.h"

#include <tss2/tss2_tpm2_types.h>

constexpr size_t EK_ROOTS_MAX = 1024;                /* all vendors together are some hundred */
constexpr size_t EK_ROOTS_PEM_MAX = 4 * 1024 * 1024; /* EK_ROOTS_MAX certificates of 4 KiB */
constexpr size_t EK_CHAIN_PARTS_MAX = 8; /* what a node may send: each costs a signature to check */
constexpr size_t EK_CERTIFICATE_MAX = 8192; /* bytes of DER */

struct ek_roots;

/* From PEM: roots, and intermediates of vendors whose TPMs don't carry them. INVALID: no
 * certificate, or one that can't be read (which one is said); EXHAUSTED beyond EK_ROOTS_MAX. */
[[nodiscard]] bool ek_roots_new(struct slice pem, struct ek_roots **ret, struct error *err);
struct ek_roots *ek_roots_free(struct ek_roots *roots);
DEFINE_CLEANUP(ek_roots_free, struct ek_roots)

/* The certificate chains to one of the roots (self-signed ones) at Unix time `now_ms`, by way of
 * `chain` where needed, every step worth 112 bits at least, and is an EK's (EKU 2.23.133.8.1, no CA).
 * DENIED says what is wrong. */
[[nodiscard]] bool ek_certificate_verify(const struct ek_roots *roots, struct slice leaf,
                                         const struct slice *chain, size_t chain_count,
                                         int64_t now_ms, struct error *err);

/* The certificate is for this key. DENIED if not. */
[[nodiscard]] bool ek_certificate_fits(struct slice leaf, const TPMT_PUBLIC *ek, struct error *err);

/* SHA-256 of the key's SubjectPublicKeyInfo: what an inventory lists. */
[[nodiscard]] bool ek_pin(const TPMT_PUBLIC *ek, uint8_t ret[static SHA256_SIZE],
                          struct error *err);
