#include "attest/appraise.h"

#include "checks.h"

#include "base/mem.h"
#include "base/text.h"

#include "tpmwire/attested.h"
#include "tpmwire/hash.h"

/* ---- Taking the evidence apart ---- */

static bool read_signed(const char *field, const Postern__V1__Attested *message,
                        TPMI_ST_ATTEST type, struct attest_signed *ret, struct error *err)
{
    if (!message)
        return error_set_field(err, field, "it is missing");
    ret->bytes = slice(message->attest.data, message->attest.len);
    ret->signature = slice(message->signature.data, message->signature.len);
    return attested_read(ret->bytes, type, &ret->attested, &ret->used, err) ||
           error_at_field(err, field);
}

static bool has_bank(const struct pcr_selection *selection, uint32_t bank)
{
    for (size_t i = 0; i < selection->count; i++) {
        if (selection->bank[i].alg == bank)
            return true;
    }
    return false;
}

/* Each bank once: with one twice, a value could be counted where another is looked up. */
static bool read_selection(const char *field, Postern__V1__PcrSelection *const *banks, size_t count,
                           struct pcr_selection *ret, struct error *err)
{
    if (count == 0 || count > PCR_BANKS_MAX)
        return error_set_field(err, field, "expected 1 to %zu banks, found %zu", PCR_BANKS_MAX,
                               count);
    for (size_t i = 0; i < count; i++) {
        if (tpm_hash_size((TPMI_ALG_HASH)banks[i]->bank) == 0 || banks[i]->bank > UINT16_MAX ||
            banks[i]->mask >> PCR_COUNT != 0)
            return error_set_field(err, field, "bank 0x%x with mask 0x%x is none that we know",
                                   banks[i]->bank, banks[i]->mask);
        if (has_bank(ret, banks[i]->bank))
            return error_set_field(err, field, "bank 0x%x is there twice", banks[i]->bank);
        ret->bank[ret->count++] = (struct pcr_bank){(TPMI_ALG_HASH)banks[i]->bank, banks[i]->mask};
    }
    return true;
}

static bool read_digests(const Postern__V1__PcrBank *bank, const struct pcr_bank *selected,
                         struct pcr_values *ret, struct error *err)
{
    size_t size = tpm_hash_size(selected->alg);
    if (bank->n_values != (size_t)__builtin_popcount(selected->mask))
        return error_set_field(err, "pcrs", "%zu values for mask 0x%x", bank->n_values,
                               selected->mask);
    for (size_t i = 0; i < bank->n_values; i++) {
        TPM2B_DIGEST *value = &ret->value[ret->count++];
        if (bank->values[i].len != size)
            return error_set_field(err, "pcrs", "a digest of %zu bytes in a bank of %zu",
                                   bank->values[i].len, size);
        value->size = (uint16_t)size;
        mem_copy(value->buffer, bank->values[i].data, size);
    }
    return true;
}

bool attest_evidence_values(const Postern__V1__Evidence *evidence, struct pcr_values *ret,
                            struct error *err)
{
    Postern__V1__PcrSelection *banks[PCR_BANKS_MAX] = {nullptr};
    struct pcr_values values = {0};
    if (evidence->n_pcrs > PCR_BANKS_MAX)
        return error_set_field(err, "pcrs", "expected at most %zu banks, found %zu", PCR_BANKS_MAX,
                               evidence->n_pcrs);
    for (size_t i = 0; i < evidence->n_pcrs; i++) {
        if (!evidence->pcrs[i]->selection)
            return error_set_field(err, "pcrs", "a bank without its selection");
        banks[i] = evidence->pcrs[i]->selection;
    }
    if (!read_selection("pcrs", banks, evidence->n_pcrs, &values.selection, err))
        return false;
    for (size_t i = 0; i < evidence->n_pcrs; i++) {
        if (!read_digests(evidence->pcrs[i], &values.selection.bank[i], &values, err))
            return false;
    }
    *ret = values;
    return true;
}

static bool read_view(const struct attest_case *in, struct attest_view *view, struct error *err)
{
    const Postern__V1__Evidence *evidence = in->evidence;
    view->in = in;
    if (!read_signed("quote", evidence->quote, TPM2_ST_ATTEST_QUOTE, &view->quote, err) ||
        !read_signed("certify_wrap", evidence->certify_wrap, TPM2_ST_ATTEST_CERTIFY,
                     &view->certify_wrap, err) ||
        !read_signed("certify_req", evidence->certify_req, TPM2_ST_ATTEST_CERTIFY,
                     &view->certify_req, err) ||
        !read_signed("certify_counter", evidence->certify_counter, TPM2_ST_ATTEST_NV,
                     &view->certify_counter, err) ||
        !read_selection("selection", in->challenge->selection, in->challenge->n_selection,
                        &view->asked, err) ||
        !attest_evidence_values(evidence, &view->values, err))
        return false;
    if (!pcr_selection_from_tpml(&view->quote.attested.attested.quote.pcrSelect, &view->quoted,
                                 err))
        return error_at_field(err, "quote");
    const TPM2B_MAX_NV_BUFFER *contents = &view->certify_counter.attested.attested.nv.nvContents;
    struct reader number = reader(slice(contents->buffer, contents->size));
    view->counter = reader_u64(&number);
    return true;
}

static bool hash_evidence(const struct attest_case *in, uint8_t ret[static SHA256_SIZE],
                          struct error *err)
{
    CLEANUP(buf_done) struct buf all;
    buf_init(&all, in->hello_bytes.len + in->challenge_bytes.len + in->evidence_bytes.len + 16);
    buf_put_prefixed(&all, in->hello_bytes);
    buf_put_prefixed(&all, in->challenge_bytes);
    buf_put_prefixed(&all, in->evidence_bytes);
    return buf_ok(&all, err) && sha256(buf_slice(&all), ret, err);
}

/* ---- The verdict ---- */

static void add_reason(struct appraisal *appraisal, const struct attest_check *check,
                       enum attest_outcome outcome, bool unauthentic, const struct error *why)
{
    struct attest_reason *reason = &appraisal->reasons[appraisal->reason_count++];
    *reason = (struct attest_reason){.check = check->number,
                                     .name = check->name,
                                     .outcome = outcome,
                                     .unauthentic = unauthentic};
    text_show(slice_str(why->message), reason->detail, sizeof(reason->detail));
}

static Postern__V1__Verdict verdict_of(enum attest_outcome worst)
{
    switch (worst) {
    case ATTEST_PASS:
        return POSTERN__V1__VERDICT__VERDICT_AFFIRMING;
    case ATTEST_WARN:
        return POSTERN__V1__VERDICT__VERDICT_WARNING;
    case ATTEST_PEND:
        return POSTERN__V1__VERDICT__VERDICT_PENDING;
    case ATTEST_FAIL:
        break;
    }
    return POSTERN__V1__VERDICT__VERDICT_CONTRAINDICATED;
}

bool attest_is_ours(const struct error *why)
{
    return why->class == ERROR_EXHAUSTED || why->class == ERROR_INTERNAL;
}

bool attest_appraise_without(const struct attest_case *in, uint64_t disabled, struct appraisal *ret,
                             struct error *err)
{
    CLEANUP(mem_free_at) struct attest_view *view = mem_new(1, sizeof(*view));
    CLEANUP(mem_free_at) struct appraisal *appraisal = mem_new(1, sizeof(*appraisal));
    if (!view || !appraisal)
        return error_set_memory(err);
    if (!read_view(in, view, err) || !hash_evidence(in, appraisal->evidence_hash, err))
        return false;

    enum attest_outcome worst = ATTEST_PASS;
    appraisal->authentic = true;
    for (size_t i = 0; i < attest_check_count; i++) {
        const struct attest_check *check = &attest_checks[i];
        struct error why = {0};
        if (disabled & UINT64_C(1) << check->number)
            continue;
        enum attest_outcome outcome = check->run(view, &why);
        if (outcome == ATTEST_PASS)
            continue;
        if (attest_is_ours(&why)) {
            *err = why;
            return error_prefix(err, "check %u, %s", check->number, check->name);
        }
        bool unauthentic = check->authentic || view->impostor;
        add_reason(appraisal, check, outcome, unauthentic, &why);
        if (outcome < worst)
            worst = outcome;
        if (unauthentic)
            appraisal->authentic = false;
    }
    appraisal->verdict = verdict_of(worst);
    appraisal->ek_trust = view->ek_trust;
    appraisal->reset_count = view->quote.attested.clockInfo.resetCount;
    appraisal->restart_count = view->quote.attested.clockInfo.restartCount;
    appraisal->clock_ms = view->quote.attested.clockInfo.clock;
    appraisal->firmware_version = view->quote.attested.firmwareVersion;
    appraisal->counter = view->counter;
    appraisal->pcrs = view->values;
    *ret = *appraisal;
    return true;
}

bool attest_appraise(const struct attest_case *in, struct appraisal *ret, struct error *err)
{
    return attest_appraise_without(in, 0, ret, err);
}
