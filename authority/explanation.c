#include "explanation.h"

#include "attest/checks.h"
#include "base/mem.h"
#include "base/text.h"
#include "pb/message.h"
#include "tpmwire/hash.h"

/* Checks that tie the PCR values to the quote. */
constexpr unsigned CHECK_QUOTE_SELECTION = 15;
constexpr unsigned CHECK_PCR_DIGEST = 16;

static bool take_bank(const Postern__V1__PcrBank *bank, struct pcr_values *values,
                      struct error *err)
{
    if (!bank->selection || bank->selection->bank > UINT16_MAX ||
        bank->selection->mask >> PCR_COUNT != 0 || values->selection.count == PCR_BANKS_MAX)
        return error_set_field(err, "pcrs", "a bank that is none");
    TPMI_ALG_HASH alg = (TPMI_ALG_HASH)bank->selection->bank;
    size_t size = tpm_hash_size(alg);
    if (size == 0 || bank->n_values != (size_t)__builtin_popcount(bank->selection->mask))
        return error_set_field(err, "pcrs", "a bank without its values");
    values->selection.bank[values->selection.count++] =
        (struct pcr_bank){alg, bank->selection->mask};
    for (size_t i = 0; i < bank->n_values; i++) {
        if (bank->values[i].len != size)
            return error_set_field(err, "pcrs", "a digest of another size than its bank's");
        TPM2B_DIGEST *value = &values->value[values->count++];
        value->size = (uint16_t)size;
        mem_copy(value->buffer, bank->values[i].data, size);
    }
    return true;
}

bool evidence_values(struct slice bytes, struct pcr_values *ret, struct error *err)
{
    CLEANUP(pb_free_at) ProtobufCMessage *message = nullptr;
    struct pcr_values values = {0};
    if (!pb_unpack(&postern__v1__evidence__descriptor, bytes, nullptr, &message, err))
        return false;
    const Postern__V1__Evidence *evidence = (const Postern__V1__Evidence *)message;
    for (size_t i = 0; i < evidence->n_pcrs; i++) {
        if (!take_bank(evidence->pcrs[i], &values, err))
            return false;
    }
    *ret = values;
    return true;
}

static bool add_differences(const struct attest_policy *policy, const struct pcr_values *values,
                            struct explanation *explanation, struct error *err)
{
    struct attest_difference found[ATTEST_POLICY_RULES_MAX];
    size_t count = attest_differences(policy, values, found);
    explanation->differences = mem_new(count + 1, sizeof(explanation->differences[0]));
    explanation->difference_pointers = mem_new(count + 1, sizeof(void *));
    explanation->found = mem_new(count + 1, sizeof(explanation->found[0]));
    if (!explanation->differences || !explanation->difference_pointers || !explanation->found)
        return error_set_memory(err);
    for (size_t i = 0; i < count; i++) {
        const Postern__V1__PcrRule *rule = found[i].rule;
        Postern__V1__PcrDifference *difference = &explanation->differences[i];
        postern__v1__pcr_difference__init(difference);
        difference->bank = rule->bank;
        difference->index = rule->index;
        difference->n_expected = rule->n_allowed;
        difference->expected = rule->allowed;
        if (found[i].found)
            hex_encode(slice(found[i].found->buffer, found[i].found->size), explanation->found[i]);
        difference->found = explanation->found[i];
        difference->holds = (char *)attest_pcr_meaning(rule->index);
        explanation->difference_pointers[i] = difference;
    }
    explanation->difference_count = count;
    return true;
}

static const Postern__V1__Reason *reason_of(const struct node_view *view, unsigned check)
{
    for (size_t i = 0; i < view->message.n_reasons; i++) {
        if (view->message.reasons[i]->check == check)
            return view->message.reasons[i];
    }
    return nullptr;
}

/* All of the table: what a check found, or nothing where it passed. */
static void add_checks(const struct node_view *view, struct explanation *explanation)
{
    for (size_t i = 0; i < attest_check_count; i++) {
        const Postern__V1__Reason *reason = reason_of(view, attest_checks[i].number);
        Postern__V1__Reason *check = &explanation->checks[i];
        if (reason) {
            *check = *reason;
        } else {
            postern__v1__reason__init(check);
            check->check = attest_checks[i].number;
            check->name = (char *)attest_checks[i].name;
        }
        explanation->check_pointers[i] = check;
    }
    explanation->check_count = attest_check_count;
}

bool explanation_make(const struct attest_policy *policy, const struct pcr_values *values,
                      const struct node_view *view, struct explanation *ret, struct error *err)
{
    if (policy && !add_differences(policy, values, ret, err))
        return false;
    add_checks(view, ret);
    return true;
}

void explanation_done(struct explanation *explanation)
{
    explanation->differences = mem_free(explanation->differences);
    explanation->difference_pointers = mem_free((void *)explanation->difference_pointers);
    explanation->found = mem_free(explanation->found);
}

bool values_are_proven(const struct node_view *view, struct error *err)
{
    if (reason_of(view, CHECK_QUOTE_SELECTION) || reason_of(view, CHECK_PCR_DIGEST))
        return error_set_reason(err, ERROR_CONFLICT, "EVIDENCE_UNPROVEN",
                                "the last quote of node %s does not cover the PCR values that came "
                                "with it; no policy can be made of them",
                                view->agent_id);
    return true;
}
