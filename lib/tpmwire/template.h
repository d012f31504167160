/*
 * The shapes of keys: endorsement keys after the TCG EK Credential Profile (L-1, L-2 and the high
 * range), and the keys that Postern makes. A template is a public area without the key; it is what
 * lib/tpm gives to TPM2_CreatePrimary and what the verifier holds a public area against.
 * Sans-I/O, nothing allocated; any thread.
 */
#pragma once

#include "base/error.h"

#include <tss2/tss2_tpm2_types.h>

enum template_id {
    TEMPLATE_EK_L1_RSA_2048, /* PolicyA, SHA-256, AES-128 */
    TEMPLATE_EK_L2_ECC_P256,
    TEMPLATE_EK_H1_RSA_2048, /* PolicyB, SHA-256, AES-128 */
    TEMPLATE_EK_H2_ECC_P256,
    TEMPLATE_EK_H3_ECC_P384, /* PolicyB, SHA-384, AES-256 */
    TEMPLATE_EK_H6_RSA_3072,
    TEMPLATE_EK_H7_RSA_4096,
    TEMPLATE_AK_ECC_P256,   /* a primary for endorsement; restricted, sign; ECDSA SHA-256 */
    TEMPLATE_AK_RSA_2048,   /* the same with RSASSA SHA-256 */
    TEMPLATE_WRAP_ECC_P256, /* storage: restricted, decrypt; AES-128-CFB, which all hardware has */
    TEMPLATE_WRAP_RSA_2048,
    TEMPLATE_REQ_ECC_P256, /* unrestricted, sign; ECDSA SHA-256 */
    TEMPLATE_COUNT,
};

/* "EK L-1 (RSA 2048)", "AK (ECC P-256)", … */
const char *template_name(enum template_id id);

/* The inPublic for TPM2_CreatePrimary or TPM2_Create; `unique` is as the profile says (zero bytes
 * for L-1 and L-2, else empty). */
void template_fill(enum template_id id, TPMT_PUBLIC *ret);

/* INVALID, saying in words what differs, unless `area` is this template with a key in it. The key
 * itself is not looked at: public_area_key does. */
[[nodiscard]] bool template_match(const TPMT_PUBLIC *area, enum template_id id, struct error *err);

/* Finds which of the EK templates `area` is; INVALID if none. */
[[nodiscard]] bool template_find_ek(const TPMT_PUBLIC *area, enum template_id *ret,
                                    struct error *err);
