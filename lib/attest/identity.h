/*
 * struct attest_identity: which TPM says hello, and with which keys. What E1 claims, taken apart;
 * nothing of it is believed before the checks.
 *
 * A plain value. Threading: any.
 */
#pragma once

#include "base/error.h"

#include "postern/v1/node.pb-c.h"

#include <tss2/tss2_tpm2_types.h>

constexpr size_t AGENT_ID_SIZE = 33; /* 32 hex digits and a NUL */

struct attest_identity {
    char agent_id[AGENT_ID_SIZE]; /* first 16 bytes of SHA-256(Name(EK)), in hex */
    TPM2B_PUBLIC ek, ak, wrap, req;
    TPM2B_NV_PUBLIC counter;
    TPM2B_NAME ek_name, ak_name, wrap_name, req_name, counter_name;
};

/* INVALID, with the field, for anything malformed or oversize. */
[[nodiscard]] bool attest_identity_parse(const Postern__V1__Hello *hello,
                                         struct attest_identity *ret, struct error *err);
