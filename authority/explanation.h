/*
 * struct explanation: a node's last evidence, looked at again for a person: which PCR differs, which
 * check said what, which policy it would fulfil. Plain work on stored bytes; any thread.
 */
#pragma once

#include "node_view.h"

#include "attest/explain.h"

struct explanation {
    Postern__V1__PcrDifference *differences; /* `difference_count` of them */
    Postern__V1__PcrDifference **difference_pointers;
    char (*found)[2 * sizeof(((TPM2B_DIGEST *)nullptr)->buffer) + 1];
    size_t difference_count;
    Postern__V1__Reason checks[ATTEST_REASONS_MAX];
    Postern__V1__Reason *check_pointers[ATTEST_REASONS_MAX];
    size_t check_count;
};

/* The values that an Evidence message shows. INVALID if they can't be PCR values. */
[[nodiscard]] bool evidence_values(struct slice evidence, struct pcr_values *ret,
                                   struct error *err);

/* Fills a zeroed explanation, which borrows from `policy` (null: no differences) and `view`. */
[[nodiscard]] bool explanation_make(const struct attest_policy *policy,
                                    const struct pcr_values *values, const struct node_view *view,
                                    struct explanation *ret, struct error *err);
/* For CLEANUP; fine on zeros. */
void explanation_done(struct explanation *explanation);

/* CONFLICT, reason EVIDENCE_UNPROVEN, if the last appraisal has a reason among checks 9 to 18: then the
 * PCR values are only the node's word, and no policy may be made of them. */
[[nodiscard]] bool values_are_proven(const struct node_view *view, struct error *err);
