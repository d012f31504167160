/* posternctl attest: what the nodes' TPMs show. */
#include "agent.h"
#include "groups.h"
#include "table.h"

#include "base/text.h"
#include "pb/message.h"

#include <inttypes.h>
#include <stdio.h>

constexpr uint64_t ATTEST_NOW_TIMEOUT_MS =
    75'000; /* the authority itself waits 60 s for the node */

/* Foreign text that is many lines by right: controls other than line breaks are shown, not obeyed. */
static void print_lines(const char *text)
{
    while (text[0] != '\0') {
        size_t len = strcspn(text, "\n");
        char shown[4096];
        (void)text_show(slice(text, len), shown, sizeof(shown));
        printf("%s\n", shown);
        text += len + (text[len] == '\n');
    }
}

static bool attest_record(struct session *session, const struct arguments *arguments,
                          struct error *err)
{
    char agent_id[AGENT_ID_DIGITS + 1];
    if (!agent_resolve(session, arguments->operand, agent_id, err))
        return false;
    Postern__V1__RecordPolicyRequest request = POSTERN__V1__RECORD_POLICY_REQUEST__INIT;
    const char *pcrs = arguments_value(arguments, "pcrs", 0);
    const char *seal = arguments_value(arguments, "seal", 0);
    request.agent_id = agent_id;
    request.name = (char *)(uintptr_t)arguments_value(arguments, "name", 0);
    if (pcrs)
        request.pcrs = (char *)(uintptr_t)pcrs;
    if (seal)
        request.seal = (char *)(uintptr_t)seal;
    CLEANUP(pb_free_at) Postern__V1__RecordPolicyResponse *response = nullptr;
    if (!admin_service_record_policy_sync(session_client(session), session_options(session),
                                          &request, &response, err))
        return false;
    if (session_json(session))
        return session_print_json(&response->base, err);
    print_lines(response->yaml);
    return true;
}

/* One difference: each allowed value in a row of its own. */
static void difference_row(struct table *table, const Postern__V1__PcrDifference *difference)
{
    char pcr[32];
    (void)snprintf(pcr, sizeof(pcr), "%s:%" PRIu32, difference->bank, difference->index);
    const char *first = difference->n_expected > 0 ? difference->expected[0] : "-";
    TABLE_ROW(table, pcr, "expected", first, difference->holds);
    for (size_t i = 1; i < difference->n_expected; i++)
        TABLE_ROW(table, nullptr, "or", difference->expected[i], nullptr);
    TABLE_ROW(table, nullptr, "found", or_dash(difference->found), nullptr);
}

static bool print_differences(const Postern__V1__ExplainNodeResponse *response, struct error *err)
{
    static const char *const titles[] = {"PCR", "", "VALUE", "HOLDS"};
    if (response->n_differences == 0) {
        printf("\nno PCR differs from the policy\n");
        return true;
    }
    CLEANUP(table_done) struct table table;
    table_init(&table, titles, ARRAY_LEN(titles));
    for (size_t i = 0; i < response->n_differences; i++)
        difference_row(&table, response->differences[i]);
    printf("\n");
    return table_print(&table, err);
}

static bool attest_explain(struct session *session, const struct arguments *arguments,
                           struct error *err)
{
    char agent_id[AGENT_ID_DIGITS + 1];
    if (!agent_resolve(session, arguments->operand, agent_id, err))
        return false;
    Postern__V1__ExplainNodeRequest request = POSTERN__V1__EXPLAIN_NODE_REQUEST__INIT;
    const char *policy = arguments_value(arguments, "policy", 0);
    request.agent_id = agent_id;
    if (policy)
        request.policy = (char *)(uintptr_t)policy;
    CLEANUP(pb_free_at) Postern__V1__ExplainNodeResponse *response = nullptr;
    if (!admin_service_explain_node_sync(session_client(session), session_options(session),
                                         &request, &response, err))
        return false;
    if (session_json(session))
        return session_print_json(&response->base, err);
    if (response->node)
        agent_print(response->node);
    if (!print_differences(response, err))
        return false;
    static const char *const titles[] = {"CHECK", "NAME", "FOUND"};
    CLEANUP(table_done) struct table table;
    table_init(&table, titles, ARRAY_LEN(titles));
    for (size_t i = 0; i < response->n_checks; i++) {
        char number[16];
        (void)snprintf(number, sizeof(number), "%" PRIu32, response->checks[i]->check);
        const char *detail = response->checks[i]->detail;
        TABLE_ROW(&table, number, response->checks[i]->name, detail[0] ? detail : "holds");
    }
    printf("\n");
    return table_print(&table, err);
}

static bool status_of_one(struct session *session, const char *operand, struct error *err)
{
    char agent_id[AGENT_ID_DIGITS + 1];
    CLEANUP(pb_free_at) Postern__V1__ListNodesResponse *list = nullptr;
    if (!agent_resolve(session, operand, agent_id, err) || !agent_list(session, &list, err))
        return false;
    for (size_t i = 0; i < list->n_nodes; i++) {
        const Postern__V1__Node *node = list->nodes[i];
        if (strcmp(node->agent_id, agent_id) != 0)
            continue;
        if (session_json(session))
            return session_print_json(&node->base, err);
        agent_print(node);
        return true;
    }
    return error_set(err, ERROR_NOT_FOUND, "there is no node %s: posternctl node list shows all",
                     agent_id);
}

static bool status_of_all(struct session *session, struct error *err)
{
    CLEANUP(pb_free_at) Postern__V1__ListNodesResponse *list = nullptr;
    if (!agent_list(session, &list, err))
        return false;
    if (session_json(session))
        return session_print_json(&list->base, err);
    static const char *const titles[] = {"AGENT",      "HOST",       "VERDICT", "APPRAISED",
                                         "GOOD UNTIL", "GENERATION", "BECAUSE"};
    CLEANUP(table_done) struct table table;
    table_init(&table, titles, ARRAY_LEN(titles));
    for (size_t i = 0; i < list->n_nodes; i++) {
        const Postern__V1__Node *node = list->nodes[i];
        char appraised[WHEN_SIZE];
        char until[WHEN_SIZE];
        char generation[24];
        (void)snprintf(generation, sizeof(generation), "%" PRIu64, node->generation);
        TABLE_ROW(&table, node->agent_id, or_dash(node->host_name), verdict_text(node->verdict),
                  when_text(node->appraised_at, appraised),
                  when_text(node->appraisal_expires_at, until), generation,
                  node->n_reasons > 0 ? node->reasons[0]->detail : "-");
    }
    return table_print(&table, err);
}

static bool attest_status(struct session *session, const struct arguments *arguments,
                          struct error *err)
{
    return arguments->operand ? status_of_one(session, arguments->operand, err)
                              : status_of_all(session, err);
}

static bool attest_now(struct session *session, const struct arguments *arguments,
                       struct error *err)
{
    char agent_id[AGENT_ID_DIGITS + 1];
    if (!agent_resolve(session, arguments->operand, agent_id, err))
        return false;
    Postern__V1__AttestNowRequest request = POSTERN__V1__ATTEST_NOW_REQUEST__INIT;
    request.agent_id = agent_id;
    struct rpc_call_options options = *session_options(session);
    options.timeout_ms = ATTEST_NOW_TIMEOUT_MS;
    CLEANUP(pb_free_at) Postern__V1__AttestNowResponse *response = nullptr;
    if (!admin_service_attest_now_sync(session_client(session), &options, &request, &response, err))
        return false;
    if (session_json(session))
        return session_print_json(&response->base, err);
    if (response->node)
        agent_print(response->node);
    return true;
}

static const struct option record_options[] = {
    {.name = "name", .value = "NAME", .summary = "of the policy", .required = true},
    {.name = "pcrs",
     .value = "PCRS",
     .summary = "what to pin, such as sha256:0,2,4,7; all that were quoted if not given"},
    {.name = "seal",
     .value = "PCRS",
     .summary = "what seals the node key; those of --pcrs that may, if not given"},
    {},
};

static const struct option explain_options[] = {
    {.name = "policy",
     .value = "NAME",
     .summary = "hold it against this one; its own if not given"},
    {},
};

static const struct command commands[] = {
    {.name = "record",
     .operand = "AGENT",
     .summary = "Print a policy that the node's last evidence fulfils.",
     .notes = "Record from a node that is known to be good, look at it, and put it into the\n"
              "authority's policies/attestation/. A tampered node is rebooted, not recorded.\n",
     .options = record_options,
     .check = agent_check,
     .run = attest_record},
    {.name = "explain",
     .operand = "AGENT",
     .summary = "Say why the node's last appraisal came out as it did.",
     .options = explain_options,
     .check = agent_check,
     .run = attest_explain},
    {.name = "status",
     .operand = "[AGENT]",
     .summary = "Show the last appraisals, or all about one node.",
     .check = agent_check,
     .run = attest_status},
    {.name = "now",
     .operand = "AGENT",
     .summary = "Ask a connected node for fresh evidence and show what came of it.",
     .check = agent_check,
     .run = attest_now},
    {},
};

const struct command_group attest_group = {
    .name = "attest",
    .summary = "what the nodes' TPMs show",
    .commands = commands,
};
