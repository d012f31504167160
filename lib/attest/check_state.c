/* Checks against what is known and allowed: clock, firmware, PCR policy, counter. Numbers 19 to 23
 * and 36 to 39. */
#include "checks.h"

#include "base/text.h"
#include "tpmwire/nv.h"
#include "tpmwire/public.h"
#include "tpmwire/signature.h"
#include "tpmwire/words.h"

#include <inttypes.h>

/* ---- Clock (Part 1, section 36) ---- */

/* TPM2_Clear makes new storage keys, so an accepted clear excuses only a TPM that shows one: the
 * operator's word can't be kept and used for anything else. */
static bool was_cleared(const struct attest_view *view)
{
    const struct attest_record *record = view->in->record;
    return record->clear_accepted &&
           !name_equal(&record->wrap_name, &view->in->identity->wrap_name);
}

enum attest_outcome check_reset_count(struct attest_view *view, struct error *why)
{
    const struct attest_record *record = view->in->record;
    const TPMS_CLOCK_INFO *now = &view->quote.attested.clockInfo;
    if (!record->has_clock || was_cleared(view) || now->resetCount > record->reset_count ||
        (now->resetCount == record->reset_count && now->restartCount >= record->restart_count))
        return ATTEST_PASS;
    error_set(why, ERROR_DENIED,
              "the TPM's counts went down, from %u.%u to %u.%u: it was cleared, or this is another "
              "state of it; if you cleared it: posternctl node accept-clear %s",
              record->reset_count, record->restart_count, now->resetCount, now->restartCount,
              view->in->identity->agent_id);
    return ATTEST_FAIL;
}

enum attest_outcome check_clock(struct attest_view *view, struct error *why)
{
    const struct attest_record *record = view->in->record;
    const TPMS_CLOCK_INFO *now = &view->quote.attested.clockInfo;
    bool same_counts = record->has_clock && now->resetCount == record->reset_count &&
                       now->restartCount == record->restart_count;
    if (!same_counts || was_cleared(view) || now->clock > record->clock_ms)
        return ATTEST_PASS;
    error_set(why, ERROR_DENIED,
              "the TPM's clock did not advance: %" PRIu64 " ms after %" PRIu64 " ms", now->clock,
              record->clock_ms);
    return ATTEST_FAIL;
}

/* An unclean stop clears `safe` until the clock has caught up with what was saved: no lie, so it
 * must not refuse. It is here so that the table says so, and a test holds it to that. */
enum attest_outcome check_unsafe_clock(struct attest_view *view, struct error *why)
{
    (void)view;
    (void)why;
    return ATTEST_PASS;
}

enum attest_outcome check_firmware(struct attest_view *view, struct error *why)
{
    uint64_t found = view->quote.attested.firmwareVersion;
    if (!view->in->policy || found >= view->in->policy->firmware_floor)
        return ATTEST_PASS;
    error_set(why, ERROR_DENIED,
              "the TPM's firmware is %016" PRIx64 ", the policy asks for %016" PRIx64, found,
              view->in->policy->firmware_floor);
    return ATTEST_FAIL;
}

/* ---- PCR policy ---- */

enum attest_outcome check_pcr_policy(struct attest_view *view, struct error *why)
{
    const struct attest_policy *policy = view->in->policy;
    for (size_t i = 0; policy && i < policy->message->n_pcrs; i++) {
        const Postern__V1__PcrRule *rule = policy->message->pcrs[i];
        const TPM2B_DIGEST *value =
            pcr_values_get(&view->values, attest_rule_bank(rule), rule->index);
        if (value && attest_rule_allows(rule, value))
            continue;
        char found[2 * sizeof(value->buffer) + 1] = "nothing";
        if (value)
            hex_encode(slice(value->buffer, value->size), found);
        error_set(why, ERROR_DENIED, "%s PCR %u is %s, which policy \"%s\" does not allow",
                  rule->bank, rule->index, found, policy->message->name);
        return policy->report_only ? ATTEST_WARN : ATTEST_FAIL;
    }
    return ATTEST_PASS;
}

/* The evidence's hash and the policy's go into every appraisal; a test holds it to that. */
enum attest_outcome check_recorded(struct attest_view *view, struct error *why)
{
    (void)view;
    (void)why;
    return ATTEST_PASS;
}

/* ---- Counter ---- */

/* A node may define any number of counters. One that shows another than its generation is bound to
 * could leave that one as it is, and with it every generation that was to be retired. */
static bool is_another_counter(const struct attest_view *view)
{
    const struct attest_record *record = view->in->record;
    return record->has_generation && !was_cleared(view) &&
           !name_equal(&record->counter_name, &view->in->identity->counter_name);
}

enum attest_outcome check_counter_value(struct attest_view *view, struct error *why)
{
    const struct attest_record *record = view->in->record;
    if (is_another_counter(view)) {
        error_set(why, ERROR_DENIED,
                  "the counter is another than the one that the confirmed generation is bound to");
        return ATTEST_FAIL;
    }
    bool fresh = was_cleared(view) && view->counter >= record->limit;
    if (!record->has_generation || fresh || view->counter == record->limit)
        return ATTEST_PASS;
    if (record->limit > 0 && view->counter == record->limit - 1) {
        error_set(why, ERROR_CONFLICT,
                  "the counter is %" PRIu64 ", one below its limit: a retirement is unfinished",
                  view->counter);
        return ATTEST_WARN;
    }
    if (view->counter > record->limit)
        error_set_reason(why, ERROR_CONFLICT, "NODE_WITHHELD",
                         "the counter is %" PRIu64 ", beyond its limit %" PRIu64
                         ": the fuse was blown, or somebody else incremented it",
                         view->counter, record->limit);
    else
        error_set(why, ERROR_DENIED,
                  "the counter is %" PRIu64 " and its limit %" PRIu64 ": a counter can't go back",
                  view->counter, record->limit);
    return ATTEST_FAIL;
}

enum attest_outcome check_counter_area(struct attest_view *view, struct error *why)
{
    const struct attest_identity *id = view->in->identity;
    const struct attest_signed *part = &view->certify_counter;
    const TPMS_NV_CERTIFY_INFO *nv = &part->attested.attested.nv;
    TPMT_SIGNATURE signature;
    if (!nv_counter_check(&id->counter.nvPublic, true, why) ||
        !attested_check(&part->attested, part->used, part->bytes.len, why) ||
        !tpm_signature_parse(part->signature, &signature, why) ||
        !tpm_signature_verify(&id->ak.publicArea, &signature, part->bytes, why) ||
        !attest_bound(view, part, false, true, why))
        return ATTEST_FAIL;
    if (!name_equal(&nv->indexName, &id->counter_name))
        error_set(why, ERROR_DENIED, "the AK certified another NV index");
    else if (nv->offset != 0 || nv->nvContents.size != NV_COUNTER_SIZE)
        error_set(why, ERROR_DENIED, "the AK certified %u bytes at offset %u of the counter",
                  nv->nvContents.size, nv->offset);
    else
        return ATTEST_PASS;
    return ATTEST_FAIL;
}
