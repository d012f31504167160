/*
 * What the TPM says about itself to the authority: E3 of design attestation.md. Qualifying data
 * (extraData) is at most 64 bytes; the binding digest has 32.
 */
#pragma once

#include "tpm/counter.h"
#include "tpm/key.h"

/* A structure and the AK's signature over it. */
struct tpm_attested {
    struct buf attest;    /* TPMS_ATTEST, as signed */
    struct buf signature; /* TPMT_SIGNATURE */
};

void tpm_attested_init(struct tpm_attested *attested);
/* For CLEANUP. */
void tpm_attested_done(struct tpm_attested *attested);

/* TPM2_ActivateCredential (Part 3, 12.5): the secret that the authority sealed to this EK and the
 * Name of this AK. `blob` is a TPM2B_ID_OBJECT, `encrypted_secret` a TPM2B_ENCRYPTED_SECRET, both
 * foreign. DENIED if they were made for another TPM or AK. */
[[nodiscard]] bool tpm_activate(struct tpm *tpm, struct slice blob, struct slice encrypted_secret,
                                struct secret **ret, struct error *err);

/* TPM2_Quote by the AK, and the values that it covers: their digest is the one signed. If a PCR moved
 * between the two, both are taken again, at most TPM_PCR_TRIES_MAX times, then UNAVAILABLE. */
[[nodiscard]] bool tpm_quote(struct tpm *tpm, const struct pcr_selection *selection,
                             struct slice extra_data, struct tpm_attested *ret,
                             struct pcr_values *ret_pcrs, struct error *err);

/* TPM2_Certify of WRAP or REQ by the AK. */
[[nodiscard]] bool tpm_certify(struct tpm *tpm, enum tpm_key key, struct slice extra_data,
                               struct tpm_attested *ret, struct error *err);

/* TPM2_NV_Certify of the counter's 8 bytes at offset 0 by the AK. */
[[nodiscard]] bool tpm_counter_certify(struct tpm *tpm, const struct tpm_counter *counter,
                                       struct slice extra_data, struct tpm_attested *ret,
                                       struct error *err);
