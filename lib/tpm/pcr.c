/* Reading PCRs: a TPM gives at most eight digests at a time, of the selected ones in order. */
#include "tpm/internal.h"

/* The PCRs of `selection` that `out` says were read, into their places in `values`; what is left to
 * read goes out of `left`. False if the TPM answered what it was not asked. */
static bool take_values(const TPML_PCR_SELECTION *out, const TPML_DIGEST *digests,
                        struct pcr_selection *left, struct pcr_values *values)
{
    size_t place = 0;
    uint32_t next = 0;
    for (size_t b = 0; b < values->selection.count; b++) {
        const struct pcr_bank *bank = &values->selection.bank[b];
        uint32_t got = 0;
        for (uint32_t o = 0; o < out->count; o++) {
            const TPMS_PCR_SELECTION *given = &out->pcrSelections[o];
            if (given->hash == bank->alg && given->sizeofSelect == 3)
                got = (uint32_t)given->pcrSelect[0] | (uint32_t)given->pcrSelect[1] << 8 |
                      (uint32_t)given->pcrSelect[2] << 16;
        }
        for (unsigned pcr = 0; pcr < PCR_COUNT; pcr++) {
            uint32_t bit = 1u << pcr;
            if ((bank->mask & bit) == 0)
                continue;
            if ((got & left->bank[b].mask & bit) != 0) {
                if (next >= digests->count)
                    return false;
                values->value[place] = digests->digests[next++];
                left->bank[b].mask &= ~bit;
            }
            place++;
        }
    }
    return next > 0 && next == digests->count;
}

/* One pass over all of the selection; *ret_moved says that a PCR was extended meanwhile. */
static bool read_all(struct tpm *tpm, const struct pcr_selection *selection, struct pcr_values *ret,
                     bool *ret_moved, struct error *err)
{
    struct pcr_selection left = *selection;
    uint32_t first_count = 0;
    *ret = (struct pcr_values){.selection = *selection, .count = pcr_selection_size(selection)};
    for (bool first = true; pcr_selection_size(&left) > 0; first = false) {
        TPML_PCR_SELECTION want = {0};
        pcr_selection_to_tpml(&left, &want);
        uint32_t count = 0;
        TPML_PCR_SELECTION *out = nullptr;
        TPML_DIGEST *digests = nullptr;
        TSS2_RC rc = Esys_PCR_Read(tpm->esys, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &want,
                                   &count, &out, &digests);
        if (rc != TSS2_RC_SUCCESS)
            return tpm_fail(tpm, rc, err, "read PCRs");
        bool taken = take_values(out, digests, &left, ret);
        Esys_Free(out);
        Esys_Free(digests);
        if (!taken) {
            char text[PCR_TEXT_MAX];
            return error_set(err, ERROR_INVALID, "the TPM does not have all PCRs of %s",
                             pcr_selection_format(selection, text));
        }
        if (first)
            first_count = count;
        *ret_moved = count != first_count;
        if (*ret_moved)
            return true;
    }
    return true;
}

bool tpm_pcr_read(struct tpm *tpm, const struct pcr_selection *selection, struct pcr_values *ret,
                  struct error *err)
{
    if (!tpm_ready(tpm, err))
        return false;
    struct pcr_values values;
    for (unsigned tries = 0; tries < TPM_PCR_TRIES_MAX; tries++) {
        bool moved = false;
        if (!read_all(tpm, selection, &values, &moved, err))
            return false;
        if (!moved) {
            *ret = values;
            return true;
        }
    }
    return error_set(err, ERROR_UNAVAILABLE, "PCRs kept changing while they were read, %u times",
                     TPM_PCR_TRIES_MAX);
}
