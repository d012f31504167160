/*
 * The node key in the TPM (design: secrets.md, "The node key"). The authority made it; the TPM
 * opens it under the sealed boot state while the counter is at most the generation's limit.
 */
#pragma once

#include "tpm/counter.h"

/* TPM2_Import under WRAP: `object_public` TPM2B_PUBLIC, `duplicate` TPM2B_PRIVATE, `seed`
 * TPM2B_ENCRYPTED_SECRET as the authority sent them; appends the TPM2B_PRIVATE that only this TPM
 * can load. DENIED if it was made for another TPM's WRAP. */
[[nodiscard]] bool node_key_import(struct tpm *tpm, struct slice object_public,
                                   struct slice duplicate, struct slice seed, struct buf *ret,
                                   struct error *err);

/* Borrowed for the call. */
struct node_key_sealed {
    struct slice object_public;       /* TPM2B_PUBLIC */
    struct slice object_private;      /* TPM2B_PRIVATE of node_key_import */
    const struct pcr_selection *seal; /* the PCRs that it is sealed to */
    uint64_t limit;                   /* opens while counter ≤ limit */
};

/* Loads and unseals with PolicyPCR (empty digest) → PolicyNV → PolicyCommandCode, in this order.
 * DENIED with code TPM_CODE_POLICY_FAIL: a sealed PCR differs from what the authority sealed to;
 * with TPM_CODE_POLICY: the counter is beyond the limit, this generation is retired; with another
 * code: the blob is of another TPM. UNAVAILABLE if PCRs kept moving for TPM_PCR_TRIES_MAX sessions. */
[[nodiscard]] bool node_key_unseal(struct tpm *tpm, const struct node_key_sealed *key,
                                   const struct tpm_counter *counter, struct secret **ret,
                                   struct error *err);
