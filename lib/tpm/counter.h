/*
 * The generation counter: an 8-byte NV index that only rises (design: secrets.md, "Counter" and
 * "Retire"). Read and write need its authValue, 32 bytes that live on the node's disk.
 */
#pragma once

#include "tpm/tpm.h"

/* Each step wears NV. Nobody who plays by the rules asks for more at a time; a forged or absurd
 * limit must not grind the index down. */
constexpr uint64_t TPM_COUNTER_RAISE_MAX = 64;

struct tpm_counter {
    uint32_t index;            /* 0x01800000 to 0x01BFFFFF: the owner's part of NV */
    const struct secret *auth; /* borrowed; 32 bytes */
};

/* Makes the index if it is absent (owner auth), and increments it once if it was never written.
 * Calling it again changes nothing. CONFLICT if the index holds something of another shape than
 * tpmwire's template: it is somebody else's, and is left alone. */
[[nodiscard]] bool tpm_counter_make(struct tpm *tpm, const struct tpm_counter *counter,
                                    struct error *err);

/* Appends the TPM2B_NV_PUBLIC as the TPM has it. NOT_FOUND if there is none. */
[[nodiscard]] bool tpm_counter_public(struct tpm *tpm, const struct tpm_counter *counter,
                                      struct buf *ret, struct error *err);

[[nodiscard]] bool tpm_counter_read(struct tpm *tpm, const struct tpm_counter *counter,
                                    uint64_t *ret, struct error *err);

/* Increments while the counter is below `target`, and gives its value then: idempotent, so a caller
 * that does not know how far it got calls it again. INVALID, with nothing done, if target is more
 * than TPM_COUNTER_RAISE_MAX away. */
[[nodiscard]] bool tpm_counter_raise(struct tpm *tpm, const struct tpm_counter *counter,
                                     uint64_t target, uint64_t *ret, struct error *err);
