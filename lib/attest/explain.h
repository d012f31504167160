/*
 * A policy from a node that is known good, and how a node differs from its policy.
 * Threading: any.
 */
#pragma once

#include "attest/policy.h"

struct attest_difference {
    const Postern__V1__PcrRule *rule; /* of the policy */
    const TPM2B_DIGEST *found;        /* null: not among the values */
};

/* The rules that `values` breaks, in the policy's order. *ret has room for
 * ATTEST_POLICY_RULES_MAX. */
size_t attest_differences(const struct attest_policy *policy, const struct pcr_values *values,
                          struct attest_difference *ret);

/* What firmware and boot loader measure into this PCR, in words (TCG PC Client PFP 1.06, 3.3.4; UAPI
 * PCR registry). Static. */
const char *attest_pcr_meaning(unsigned pcr);

/* Appends a policy as YAML that `values` fulfils. `pcrs` null: all of `values` that may be pinned.
 * `seal` null: those of them that may seal. INVALID (field pcrs or seal) for what `values` lacks or
 * no policy may have. */
[[nodiscard]] bool attest_record_policy(const char *name, const struct pcr_values *values,
                                        const struct pcr_selection *pcrs,
                                        const struct pcr_selection *seal, struct buf *ret,
                                        struct error *err);
