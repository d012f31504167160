/*
 * The node's keys. All four are primaries: the TPM derives them from its hierarchy seeds and the
 * templates of tpmwire each time, so there is no blob to lose and the same TPM always gives the
 * same keys, until its owner clears it.
 */
#pragma once

#include "tpm/tpm.h"

enum tpm_key {
    TPM_KEY_EK,   /* endorsement: which TPM this is; salts sessions */
    TPM_KEY_AK,   /* endorsement: signs quotes and certifies */
    TPM_KEY_WRAP, /* storage: parent of the imported node key */
    TPM_KEY_REQ,  /* storage: signs requests */
    TPM_KEY_COUNT,
};

/* Appends the key's TPM2B_PUBLIC. The EK is RSA-2048 (L-1) if its certificate is in NV, else the
 * ECC one whose certificate is, else ECC P-256 (L-2). */
[[nodiscard]] bool tpm_key_public(struct tpm *tpm, enum tpm_key key, struct buf *ret,
                                  struct error *err);

/* A TPM can claim any number of certificates in NV; more than this is not a chain. */
constexpr size_t EK_CHAIN_MAX = 8;

struct ek_certificates {
    struct buf der;                   /* owns all bytes */
    struct slice leaf;                /* DER; empty where NV has none: that is no error */
    struct slice chain[EK_CHAIN_MAX]; /* DER, as stored from NV index 0x01C00100 on */
    size_t chain_count;
};

void ek_certificates_init(struct ek_certificates *certificates);
/* For CLEANUP; frees the bytes. */
void ek_certificates_done(struct ek_certificates *certificates);

/* The EK's certificate (TCG EK Credential Profile 2.5, 2.2.1.4) and its issuers from NV. `ret` is
 * initialised; what is padding behind a certificate is left out. */
[[nodiscard]] bool tpm_ek_certificates(struct tpm *tpm, struct ek_certificates *ret,
                                       struct error *err);

/* Signs SHA-256(message) with REQ; appends the TPMT_SIGNATURE. */
[[nodiscard]] bool tpm_sign(struct tpm *tpm, struct slice message, struct buf *ret,
                            struct error *err);
