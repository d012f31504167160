/*
 * struct attest_policy: an AttestationPolicy, checked and ready to appraise with.
 *
 * Ownership: reference-counted, and it owns its copy of the message: who keeps one across a reload of
 * the policies takes a reference. Threading: any, references included; it never changes.
 */
#pragma once

#include "base/crypt.h"
#include "tpmwire/pcr.h"

#include "postern/v1/policy.pb-c.h"

/* PCRs that move while a machine runs: a key sealed to one is lost at its next event. */
constexpr uint32_t ATTEST_UNSEALABLE = 0x0081f42a; /* 1, 3, 5, 10, 12 to 16, 23 */
/* PCRs that firmware changes without meaning harm: no policy may pin them. */
constexpr uint32_t ATTEST_UNPINNABLE = 0x0000002a; /* 1, 3, 5 */
constexpr size_t ATTEST_POLICY_RULES_MAX = PCR_VALUES_MAX;
constexpr size_t ATTEST_POLICY_ALLOWED_MAX = 64; /* values for one PCR */

struct attest_policy {
    const Postern__V1__AttestationPolicy *message; /* its own */
    struct pcr_selection pinned;                   /* those with a rule */
    struct pcr_selection
        quoted; /* what every quote must cover: those, and in the same banks all that
                                  * a policy may want to pin next */
    struct pcr_selection seal;
    uint32_t ek_trust; /* bit EkTrust of each that is accepted */
    uint64_t firmware_floor;
    uint64_t lifetime_ms;
    bool report_only;
    uint8_t hash[SHA256_SIZE]; /* of the message's canonical encoding */
};

/* Copies the message and checks all that its types can't say. INVALID with the field and what was
 * expected. One reference is the caller's. */
[[nodiscard]] bool attest_policy_new(const Postern__V1__AttestationPolicy *message,
                                     const struct attest_policy **ret, struct error *err);
/* Returns `policy`. */
const struct attest_policy *attest_policy_ref(const struct attest_policy *policy);
/* NULL is fine; returns NULL. */
const struct attest_policy *attest_policy_unref(const struct attest_policy *policy);
DEFINE_CLEANUP(attest_policy_unref, const struct attest_policy)

/* PCRs that are quoted whatever the policy pins, so that an operator can record a wider one: 0 to 9, 11
 * and 14. */
constexpr uint32_t ATTEST_QUOTED = 0x4bff;
/* What is quoted where no policy is known yet (a node that is pending): these, of SHA-256. */
void attest_default_selection(struct pcr_selection *ret);

/* Whether this rule allows the value. */
[[nodiscard]] bool attest_rule_allows(const Postern__V1__PcrRule *rule, const TPM2B_DIGEST *value);
/* The bank of a rule that was compiled. */
TPMI_ALG_HASH attest_rule_bank(const Postern__V1__PcrRule *rule);
