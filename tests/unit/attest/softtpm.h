/*
 * A TPM that lies on demand: its keys are OpenSSL's, and it signs whatever it is told to. For tests of
 * the verifier, which need evidence that no TPM would make.
 */
#pragma once

#include "base/buf.h"

#include <openssl/evp.h>
#include <tss2/tss2_tpm2_types.h>

/* One set of keys for all tests of a process: they are slow to make. */
struct softtpm {
    EVP_PKEY *ek, *ak, *wrap, *req; /* ECC P-256 */
    EVP_PKEY *other;                /* of nobody */
    EVP_PKEY *rsa, *rsa_weak;       /* 2048 and 1024 bits */
    EVP_PKEY *p384;
};

void softtpm_make(struct softtpm *ret);
void softtpm_done(struct softtpm *tpm);

/* The key of `area`'s template goes into its `unique`, by hand where tpmwire refuses the key. */
void softtpm_area_key(TPMT_PUBLIC *area, EVP_PKEY *key);

/* Appends TPMS_ATTEST with whatever magic it has. */
void softtpm_marshal(const TPMS_ATTEST *attested, struct buf *ret);

/* Signs H(bytes) and appends a TPMT_SIGNATURE that says `scheme` and `hash`. */
void softtpm_sign(EVP_PKEY *key, TPM2_ALG_ID scheme, TPMI_ALG_HASH hash, struct slice bytes,
                  struct buf *ret);
