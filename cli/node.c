/* posternctl node: which machines may join. */
#include "agent.h"
#include "groups.h"
#include "table.h"

#include "base/text.h"
#include "pb/message.h"

#include <stdio.h>

static bool node_list(struct session *session, const struct arguments *arguments, struct error *err)
{
    (void)arguments;
    CLEANUP(pb_free_at) Postern__V1__ListNodesResponse *list = nullptr;
    if (!agent_list(session, &list, err))
        return false;
    if (session_json(session))
        return session_print_json(&list->base, err);
    static const char *const titles[] = {"AGENT",   "HOST",      "ADMISSION", "POLICY",
                                         "VERDICT", "CONNECTED", "LAST SEEN"};
    CLEANUP(table_done) struct table table;
    table_init(&table, titles, ARRAY_LEN(titles));
    for (size_t i = 0; i < list->n_nodes; i++) {
        const Postern__V1__Node *node = list->nodes[i];
        char seen[WHEN_SIZE];
        TABLE_ROW(&table, node->agent_id, or_dash(node->host_name), admission_text(node->admission),
                  or_dash(node->policy), verdict_text(node->verdict),
                  node->connected ? "yes" : "no", when_text(node->last_seen_at, seen));
    }
    return table_print(&table, err);
}

static bool node_approve(struct session *session, const struct arguments *arguments,
                         struct error *err)
{
    char agent_id[AGENT_ID_DIGITS + 1];
    if (!agent_resolve(session, arguments->operand, agent_id, err))
        return false;
    Postern__V1__ApproveNodeRequest request = POSTERN__V1__APPROVE_NODE_REQUEST__INIT;
    request.agent_id = agent_id;
    request.policy = (char *)(uintptr_t)arguments_value(arguments, "policy", 0);
    CLEANUP(pb_free_at) Postern__V1__ApproveNodeResponse *response = nullptr;
    if (!admin_service_approve_node_sync(session_client(session), session_options(session),
                                         &request, &response, err))
        return false;
    if (session_json(session))
        return session_print_json(&response->base, err);
    printf("%s is admitted under %s\n", agent_id, request.policy);
    return true;
}

static bool node_deny(struct session *session, const struct arguments *arguments, struct error *err)
{
    char agent_id[AGENT_ID_DIGITS + 1];
    if (!agent_resolve(session, arguments->operand, agent_id, err))
        return false;
    Postern__V1__DenyNodeRequest request = POSTERN__V1__DENY_NODE_REQUEST__INIT;
    request.agent_id = agent_id;
    CLEANUP(pb_free_at) Postern__V1__DenyNodeResponse *response = nullptr;
    if (!admin_service_deny_node_sync(session_client(session), session_options(session), &request,
                                      &response, err))
        return false;
    if (session_json(session))
        return session_print_json(&response->base, err);
    printf("%s is denied: nothing more is released to it\n", agent_id);
    return true;
}

static bool node_accept_clear(struct session *session, const struct arguments *arguments,
                              struct error *err)
{
    char agent_id[AGENT_ID_DIGITS + 1];
    if (!agent_resolve(session, arguments->operand, agent_id, err))
        return false;
    Postern__V1__AcceptClearRequest request = POSTERN__V1__ACCEPT_CLEAR_REQUEST__INIT;
    request.agent_id = agent_id;
    CLEANUP(pb_free_at) Postern__V1__AcceptClearResponse *response = nullptr;
    if (!admin_service_accept_clear_sync(session_client(session), session_options(session),
                                         &request, &response, err))
        return false;
    if (session_json(session))
        return session_print_json(&response->base, err);
    printf("%s may come back once with a cleared TPM\n", agent_id);
    return true;
}

/* 0: not given, the authority's own. */
static bool token_lifetime(const struct arguments *arguments, uint64_t *ret, struct error *err)
{
    const char *text = arguments_value(arguments, "lifetime", 0);
    uint64_t ms = 0;
    if (text && (!parse_duration_ms(text, &ms, err) || ms == 0))
        return error_set(err, ERROR_INVALID,
                         "--lifetime: expected a duration such as 30s, 10m or 24h, found \"%s\"",
                         text);
    *ret = ms;
    return true;
}

static bool token_check(const struct arguments *arguments, struct error *err)
{
    uint64_t ms;
    return token_lifetime(arguments, &ms, err);
}

/* The token alone on standard output, so that a file or a variable can take it. */
static bool node_token(struct session *session, const struct arguments *arguments,
                       struct error *err)
{
    Postern__V1__CreateJoinTokenRequest request = POSTERN__V1__CREATE_JOIN_TOKEN_REQUEST__INIT;
    if (!token_lifetime(arguments, &request.lifetime_ms, err))
        return false;
    request.policy = (char *)(uintptr_t)arguments_value(arguments, "policy", 0);
    CLEANUP(pb_free_at) Postern__V1__CreateJoinTokenResponse *response = nullptr;
    if (!admin_service_create_join_token_sync(session_client(session), session_options(session),
                                              &request, &response, err))
        return false;
    if (session_json(session))
        return session_print_json(&response->base, err);
    char when[WHEN_SIZE];
    printf("%s\n", response->token);
    (void)fprintf(stderr, "good for one node until %s\n", when_text(response->expires_at, when));
    return true;
}

static const struct option policy_options[] = {
    {.name = "policy", .value = "NAME", .summary = "what it is held against", .required = true},
    {},
};

static const struct option token_options[] = {
    {.name = "policy",
     .value = "NAME",
     .summary = "what the node is held against",
     .required = true},
    {.name = "lifetime", .value = "TIME", .summary = "10m if not given; at most 24h"},
    {},
};

static const struct command commands[] = {
    {.name = "list", .summary = "All nodes that ever proved their TPM.", .run = node_list},
    {.name = "approve",
     .operand = "AGENT",
     .summary = "Admit a pending node under an attestation policy.",
     .options = policy_options,
     .check = agent_check,
     .run = node_approve},
    {.name = "deny",
     .operand = "AGENT",
     .summary = "Remove a node: nothing more is released to it.",
     .check = agent_check,
     .run = node_deny},
    {.name = "token",
     .summary = "Make a join token: it admits one node, once.",
     .notes = "The token is printed alone on standard output: > /etc/postern/join-token\n",
     .options = token_options,
     .check = token_check,
     .run = node_token},
    {.name = "accept-clear",
     .operand = "AGENT",
     .summary = "Accept that this node's TPM was cleared: its counts may go down, once.",
     .check = agent_check,
     .run = node_accept_clear},
    {},
};

const struct command_group node_group = {
    .name = "node",
    .summary = "which machines may join",
    .commands = commands,
};
