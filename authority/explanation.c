#include "explanation.h"

#include "attest/appraise.h"
#include "base/mem.h"
#include "base/text.h"
#include "pb/message.h"

/* Checks that tie the PCR values to a quote by the TPM: where one of them found something, the values
 * are only the node's word. */
constexpr unsigned CHECK_QUOTE_FIRST = 9;
constexpr unsigned CHECK_QUOTE_LAST = 18;

bool evidence_values(struct slice bytes, struct pcr_values *ret, struct error *err)
{
    CLEANUP(pb_free_at) ProtobufCMessage *message = nullptr;
    return pb_unpack(&postern__v1__evidence__descriptor, bytes, nullptr, &message, err) &&
           attest_evidence_values((const Postern__V1__Evidence *)message, ret, err);
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
    struct attest_line line;
    size_t count = 0;
    for (; count < ARRAY_LEN(explanation->checks) && attest_table(count, &line); count++) {
        const Postern__V1__Reason *reason = reason_of(view, line.number);
        Postern__V1__Reason *check = &explanation->checks[count];
        if (reason) {
            *check = *reason;
        } else {
            postern__v1__reason__init(check);
            check->check = line.number;
            check->name = (char *)line.name;
        }
        explanation->check_pointers[count] = check;
    }
    explanation->check_count = count;
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
    for (size_t i = 0; i < view->message.n_reasons; i++) {
        const Postern__V1__Reason *reason = view->message.reasons[i];
        if (reason->check >= CHECK_QUOTE_FIRST && reason->check <= CHECK_QUOTE_LAST)
            return error_set_reason(err, ERROR_CONFLICT, "EVIDENCE_UNPROVEN",
                                    "the PCR values of node %s are only its word: check %u, %s, "
                                    "refused its last evidence (%s); let it attest again, then "
                                    "record",
                                    view->agent_id, reason->check, reason->name, reason->detail);
    }
    return true;
}
