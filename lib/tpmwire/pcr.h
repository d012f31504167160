/*
 * PCR selections and composite digests (TPM 2.0 Library, Part 1 §17; Part 2 §10.6.2, §10.9.7).
 *
 * A selection is a list of banks in an order that counts: digests are over the banks in that order
 * and, within a bank, over ascending PCR numbers. Text form: "sha256:0,2,4,7+sha384:0".
 * Sans-I/O, nothing allocated; any thread.
 */
#pragma once

#include "base/buf.h"

#include <tss2/tss2_tpm2_types.h>

constexpr unsigned PCR_COUNT = 24;  /* PC Client platforms: PCR 0–23, three bytes of mask */
constexpr size_t PCR_BANKS_MAX = 4; /* SHA-1, SHA-256, SHA-384, SHA-512 */
constexpr size_t PCR_VALUES_MAX = PCR_BANKS_MAX * PCR_COUNT;
constexpr size_t PCR_TEXT_MAX = 320; /* characters of the longest text form, with the NUL */

struct pcr_bank {
    TPMI_ALG_HASH alg;
    uint32_t mask; /* bit n: PCR n; the upper 8 bits are clear */
};

struct pcr_selection {
    size_t count;
    struct pcr_bank bank[PCR_BANKS_MAX]; /* each algorithm at most once */
};

/* Values in selection order. */
struct pcr_values {
    struct pcr_selection selection;
    size_t count; /* pcr_selection_size(selection) */
    TPM2B_DIGEST value[PCR_VALUES_MAX];
};

/* INVALID for unknown or repeated banks, repeated, unordered or absent PCRs, anything else. */
[[nodiscard]] bool pcr_selection_parse(const char *text, struct pcr_selection *ret,
                                       struct error *err);
/* The text form; ret has PCR_TEXT_MAX characters. An empty bank prints as "sha256:". Returns ret. */
char *pcr_selection_format(const struct pcr_selection *selection, char ret[static PCR_TEXT_MAX]);

void pcr_selection_to_tpml(const struct pcr_selection *selection, TPML_PCR_SELECTION *ret);
/* INVALID for unknown or repeated banks and for a sizeofSelect that isn't 3. A bank without PCRs
 * (a TPM clears the bits of a bank that is not active) is kept as it is. */
[[nodiscard]] bool pcr_selection_from_tpml(const TPML_PCR_SELECTION *list,
                                           struct pcr_selection *ret, struct error *err);

/* The same banks in the same order with the same PCRs. */
[[nodiscard]] bool pcr_selection_equal(const struct pcr_selection *a,
                                       const struct pcr_selection *b);
/* Every PCR of `part` is in `whole`; the order of banks is free. */
[[nodiscard]] bool pcr_selection_within(const struct pcr_selection *part,
                                        const struct pcr_selection *whole);
/* How many PCRs are selected, over all banks. */
size_t pcr_selection_size(const struct pcr_selection *selection);

/* The value of one PCR, borrowed; NULL if the selection lacks it. */
const TPM2B_DIGEST *pcr_values_get(const struct pcr_values *values, TPMI_ALG_HASH bank,
                                   unsigned pcr);

/* H(the values of `selection` in its order), which may be a part of what `values` holds: pcrDigest
 * of a quote, where alg is the signing scheme's hash, and of a policy, where it is the policy's.
 * INVALID if a value is missing or has another size than its bank's digests. */
[[nodiscard]] bool pcr_composite_digest(TPMI_ALG_HASH alg, const struct pcr_selection *selection,
                                        const struct pcr_values *values, TPM2B_DIGEST *ret,
                                        struct error *err);
