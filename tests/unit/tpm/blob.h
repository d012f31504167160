/* A node key as the authority makes it, imported. */
#pragma once

#include "unit/tpm/fixture.h"

struct blob {
    struct pcr_selection seal;
    uint64_t limit;
    struct secret *key;       /* what is inside */
    struct buf object_public; /* TPM2B_PUBLIC */
    struct buf duplicate;
    struct buf seed;
    struct buf object_private; /* after import */
};

/* Sealed to the PCRs as they are now, under the TPM's WRAP and counter, which opens while
 * counter ≤ its present value + `more`. A batch is open. */
void blob_make(struct tpm *tpm, const struct tpm_counter *counter, const char *seal, uint64_t more,
               struct blob *ret);
void blob_import(struct tpm *tpm, struct blob *blob);
void blob_done(struct blob *blob);
struct node_key_sealed blob_sealed(const struct blob *blob);
