/*
 * The verifier's table of checks. Private to lib/attest and its tests: a test switches one entry off
 * and sees the evidence pass that lies in just this.
 */
#pragma once

#include "attest/appraise.h"
#include "tpmwire/attested.h"

/* A structure that the AK signed, taken apart but not yet believed. */
struct attest_signed {
    struct slice bytes;     /* as signed */
    struct slice signature; /* TPMT_SIGNATURE */
    TPMS_ATTEST attested;
    size_t used; /* bytes of the structure; fewer than all if something trails */
};

/* What the checks look at. */
struct attest_view {
    const struct attest_case *in;
    struct attest_signed quote, certify_wrap, certify_req, certify_counter;
    struct pcr_selection asked;  /* the challenge's */
    struct pcr_selection quoted; /* the one inside the signed structure */
    struct pcr_values values;
    uint64_t counter;
    Postern__V1__EkTrust ek_trust; /* set by check 1 */
    bool impostor;                 /* set by check 4: the agent is recorded with another EK */
};

struct attest_check {
    /* As in struct attest_line. */
    unsigned number;
    const char *name;
    const char *what;
    bool authentic;
    /* Sets `why` unless it passes. */
    enum attest_outcome (*run)(struct attest_view *view, struct error *why);
};

extern const struct attest_check attest_checks[];
extern const size_t attest_check_count;

/* attest_appraise without the checks whose numbers are set in `disabled`. For tests alone. */
[[nodiscard]] bool attest_appraise_without(const struct attest_case *in, uint64_t disabled,
                                           struct appraisal *ret, struct error *err);

/* What went wrong is no fault of the evidence: no memory, a library's failure. A node must not be
 * contraindicated for it, for it would erase what it holds. */
[[nodiscard]] bool attest_is_ours(const struct error *why);

/* Binding of the four signed structures to this conversation (tpmwire/binding.h). */
[[nodiscard]] bool attest_bound(const struct attest_view *view, const struct attest_signed *part,
                                bool quote, bool counter, struct error *why);

/* check_key.c */
enum attest_outcome check_ek_trusted(struct attest_view *view, struct error *why);
enum attest_outcome check_ek_certificate_key(struct attest_view *view, struct error *why);
enum attest_outcome check_ek_template(struct attest_view *view, struct error *why);
enum attest_outcome check_admitted(struct attest_view *view, struct error *why);
enum attest_outcome check_ak_name(struct attest_view *view, struct error *why);
enum attest_outcome check_ak_attributes(struct attest_view *view, struct error *why);
enum attest_outcome check_ak_algorithm(struct attest_view *view, struct error *why);
enum attest_outcome check_ak_credential(struct attest_view *view, struct error *why);
enum attest_outcome check_certified_keys(struct attest_view *view, struct error *why);
/* check_quote.c */
enum attest_outcome check_ak_primary(struct attest_view *view, struct error *why);
enum attest_outcome check_quote_structure(struct attest_view *view, struct error *why);
enum attest_outcome check_quote_signature(struct attest_view *view, struct error *why);
enum attest_outcome check_quote_binding(struct attest_view *view, struct error *why);
enum attest_outcome check_nonce(struct attest_view *view, struct error *why);
enum attest_outcome check_quote_selection(struct attest_view *view, struct error *why);
enum attest_outcome check_pcr_digest(struct attest_view *view, struct error *why);
enum attest_outcome check_pcr_banks(struct attest_view *view, struct error *why);
enum attest_outcome check_qualified_signers(struct attest_view *view, struct error *why);
/* check_state.c */
enum attest_outcome check_reset_count(struct attest_view *view, struct error *why);
enum attest_outcome check_clock(struct attest_view *view, struct error *why);
enum attest_outcome check_unsafe_clock(struct attest_view *view, struct error *why);
enum attest_outcome check_firmware(struct attest_view *view, struct error *why);
enum attest_outcome check_pcr_policy(struct attest_view *view, struct error *why);
enum attest_outcome check_recorded(struct attest_view *view, struct error *why);
enum attest_outcome check_counter_value(struct attest_view *view, struct error *why);
enum attest_outcome check_counter_area(struct attest_view *view, struct error *why);
