#include "admin_nodes.h"

#include "access.h"
#include "attest_service.h"
#include "authority.h"
#include "conversation.h"
#include "explanation.h"
#include "secrets.h"
#include "watch.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"

#include "postern/v1/admin.rpc.h"

constexpr size_t YAML_MAX = 256 * 1024; /* 96 rules of some 150 bytes */

/* One call on its way through the database. */
struct admin_call {
    struct authority *authority;
    struct rpc_call *call;
    const struct admin_method *method;
    struct policies *policies; /* referenced */
    struct caller caller;
    int64_t now_ms;
    /* Of the request. */
    char agent_id[AGENT_ID_SIZE];
    char policy[POLICY_NAME_SIZE];
    int64_t expires_at_ms;
    char token[JOIN_TOKEN_SIZE];
    char pcrs_text[PCR_TEXT_MAX], seal_text[PCR_TEXT_MAX];
    /* For the answer. */
    struct node_view *nodes, **nodes_end;
    size_t node_count;
    struct explanation explanation;
    struct buf yaml;
    struct attest_waiter waiter;
};

struct admin_method {
    bool writes;
    bool (*run)(struct tx *tx, struct admin_call *call, struct error *err);
    void (*answer)(struct admin_call *call);
};

/* ---- A call's life ---- */

static void drop_nodes(struct admin_call *call)
{
    while (call->nodes) {
        struct node_view *next = call->nodes->next;
        node_view_free(call->nodes);
        call->nodes = next;
    }
    call->nodes_end = &call->nodes;
    call->node_count = 0;
}

static void admin_call_free(struct admin_call *call)
{
    drop_nodes(call);
    explanation_done(&call->explanation);
    buf_done(&call->yaml);
    policies_unref(call->policies);
    mem_wipe(call->token, sizeof(call->token));
    mem_free(call);
}

static void fail_call(struct admin_call *call, const struct error *why)
{
    rpc_fail(call->call, why);
    admin_call_free(call);
}

static struct admin_call *begin(struct authority *authority, struct rpc_call *rpc,
                                const struct admin_method *method)
{
    struct admin_call *call = mem_new(1, sizeof(*call));
    if (!call) {
        struct error err;
        error_set_memory(&err);
        rpc_fail(rpc, &err);
        return nullptr;
    }
    call->authority = authority;
    call->call = rpc;
    call->method = method;
    call->policies = policies_ref(authority->policies);
    call->now_ms = clock_wall_ms();
    call->nodes_end = &call->nodes;
    buf_init(&call->yaml, YAML_MAX);
    access_caller(authority, rpc, &call->caller);
    return call;
}

/* May run again on a fresh transaction: what an earlier try left is dropped. */
static bool run_call(struct tx *tx, void *arg, struct error *err)
{
    struct admin_call *call = arg;
    drop_nodes(call);
    explanation_done(&call->explanation);
    buf_clear(&call->yaml);
    return call->method->run(tx, call, err);
}

static void on_done(void *arg, bool ok, const struct error *err)
{
    struct admin_call *call = arg;
    if (!ok) {
        fail_call(call, err);
        return;
    }
    for (struct node_view *view = call->nodes; view; view = view->next)
        view->message.connected = watch_hub_connected(call->authority->hub, view->agent_id);
    call->method->answer(call);
    admin_call_free(call);
}

static void submit(struct admin_call *call)
{
    struct error err;
    struct store *store = call->authority->store;
    bool ok = call->method->writes ? store_transact(store, run_call, on_done, call, 0, &err)
                                   : store_read(store, run_call, on_done, call, 0, &err);
    if (!ok)
        fail_call(call, &err);
}

/* Goes on with a request whose fields were taken, or answers with why not. */
static void submit_or_fail(struct admin_call *call, bool taken, const struct error *err)
{
    if (taken)
        submit(call);
    else
        fail_call(call, err);
}

/* ---- What requests name ---- */

static bool take_agent_id(struct admin_call *call, const char *text, struct error *err)
{
    if (strlen(text) != AGENT_ID_SIZE - 1 || strspn(text, "0123456789abcdef") != AGENT_ID_SIZE - 1)
        return error_set_field(err, "agent_id",
                               "expected 32 lower-case hex digits, as posternctl node list prints "
                               "them");
    mem_copy(call->agent_id, text, AGENT_ID_SIZE);
    return true;
}

static bool take_policy(struct admin_call *call, const char *name, struct error *err)
{
    char shown[POLICY_NAME_SIZE];
    if (!policies_attestation(call->policies, name)) {
        text_show(slice_str(name), shown, sizeof(shown));
        return error_set_reason(err, ERROR_NOT_FOUND, "POLICY_UNKNOWN",
                                "there is no attestation policy \"%s\" in force; after a file was "
                                "added, the authority reads it on SIGHUP",
                                shown);
    }
    mem_copy(call->policy, name, strlen(name) + 1);
    return true;
}

static bool take_text(const char *field, const char *text, char *ret, size_t size,
                      struct error *err)
{
    if (strlen(text) >= size)
        return error_set_field(err, field, "at most %zu characters", size - 1);
    mem_copy(ret, text, strlen(text) + 1);
    return true;
}

/* ---- What answers show ---- */

static bool show_record(void *arg, const struct node_record *record, struct error *err)
{
    struct admin_call *call = arg;
    struct node_view *view;
    if (!node_view_new(record, &view, err))
        return false;
    *call->nodes_end = view;
    call->nodes_end = &view->next;
    call->node_count++;
    return true;
}

static bool show_node(struct tx *tx, struct admin_call *call, struct error *err)
{
    CLEANUP(node_record_done) struct node_record record;
    node_record_init(&record);
    return nodes_get(tx, call->agent_id, &record, err) && show_record(call, &record, err);
}

/* ---- ListNodes ---- */

/* Those that nobody has admitted come with one reason each: strangers decide how many there are, and a
 * thousand such rows must not push the list over what one message may have. ExplainNode has all. */
static bool list_record(void *arg, const struct node_record *record, struct error *err)
{
    struct admin_call *call = arg;
    struct node_view **last = call->nodes_end;
    if (!show_record(arg, record, err))
        return false;
    bool admitted = record->admission == POSTERN__V1__ADMISSION__ADMISSION_ADMITTED;
    if (!admitted && (*last)->message.n_reasons > 1)
        (*last)->message.n_reasons = 1;
    return true;
}

static bool run_list(struct tx *tx, struct admin_call *call, struct error *err)
{
    return nodes_each(tx, list_record, call, err);
}

static void answer_list(struct admin_call *call)
{
    Postern__V1__ListNodesResponse response = POSTERN__V1__LIST_NODES_RESPONSE__INIT;
    CLEANUP(mem_free_at) Postern__V1__Node **pointers =
        mem_new(call->node_count + 1, sizeof(*pointers));
    if (!pointers) {
        struct error err;
        error_set_memory(&err);
        rpc_fail(call->call, &err);
        return;
    }
    for (struct node_view *view = call->nodes; view; view = view->next)
        pointers[response.n_nodes++] = &view->message;
    response.nodes = pointers;
    admin_service_list_nodes_reply(call->call, &response);
}

static void list_nodes(void *arg, struct rpc_call *rpc,
                       const Postern__V1__ListNodesRequest *request)
{
    static const struct admin_method method = {.run = run_list, .answer = answer_list};
    (void)request;
    struct admin_call *call = begin(arg, rpc, &method);
    if (call)
        submit(call);
}

/* ---- ApproveNode, DenyNode, AcceptClear ---- */

static void log_word(const struct admin_call *call, const char *what)
{
    log_at(LOG_INFO, "admin", "operator %s %s node %s", call->caller.name, what, call->agent_id);
}

static bool run_approve(struct tx *tx, struct admin_call *call, struct error *err)
{
    return nodes_approve(tx, call->agent_id, call->policy, err) && show_node(tx, call, err);
}

static void answer_approve(struct admin_call *call)
{
    Postern__V1__ApproveNodeResponse response = POSTERN__V1__APPROVE_NODE_RESPONSE__INIT;
    struct error not_connected;
    response.node = &call->nodes->message;
    log_word(call, "approved");
    watch_hub_node_changed(call->authority->hub, call->agent_id);
    /* One that is connected has another policy now; others come by themselves. */
    if (!watch_hub_attest_now(call->authority->hub, call->agent_id, "another policy",
                              &not_connected))
        log_failure(LOG_DEBUG, "admin", &not_connected, "approve");
    admin_service_approve_node_reply(call->call, &response);
}

static void approve_node(void *arg, struct rpc_call *rpc,
                         const Postern__V1__ApproveNodeRequest *request)
{
    static const struct admin_method method = {true, run_approve, answer_approve};
    struct error err;
    struct admin_call *call = begin(arg, rpc, &method);
    if (!call)
        return;
    submit_or_fail(call,
                   take_agent_id(call, request->agent_id, &err) &&
                       take_policy(call, request->policy, &err),
                   &err);
}

static bool run_deny(struct tx *tx, struct admin_call *call, struct error *err)
{
    return nodes_deny(tx, call->agent_id, err) && show_node(tx, call, err);
}

static void answer_deny(struct admin_call *call)
{
    Postern__V1__DenyNodeResponse response = POSTERN__V1__DENY_NODE_RESPONSE__INIT;
    response.node = &call->nodes->message;
    log_word(call, "denied");
    watch_hub_node_changed(call->authority->hub, call->agent_id);
    admin_service_deny_node_reply(call->call, &response);
}

static void deny_node(void *arg, struct rpc_call *rpc, const Postern__V1__DenyNodeRequest *request)
{
    static const struct admin_method method = {true, run_deny, answer_deny};
    struct error err;
    struct admin_call *call = begin(arg, rpc, &method);
    if (!call)
        return;
    submit_or_fail(call, take_agent_id(call, request->agent_id, &err), &err);
}

static bool run_accept_clear(struct tx *tx, struct admin_call *call, struct error *err)
{
    return nodes_accept_clear(tx, call->agent_id, err) && show_node(tx, call, err);
}

static void answer_accept_clear(struct admin_call *call)
{
    Postern__V1__AcceptClearResponse response = POSTERN__V1__ACCEPT_CLEAR_RESPONSE__INIT;
    response.node = &call->nodes->message;
    log_word(call, "accepted that the TPM was cleared of");
    admin_service_accept_clear_reply(call->call, &response);
}

static void accept_clear(void *arg, struct rpc_call *rpc,
                         const Postern__V1__AcceptClearRequest *request)
{
    static const struct admin_method method = {true, run_accept_clear, answer_accept_clear};
    struct error err;
    struct admin_call *call = begin(arg, rpc, &method);
    if (!call)
        return;
    submit_or_fail(call, take_agent_id(call, request->agent_id, &err), &err);
}

/* ---- CreateJoinToken ---- */

static bool make_token(struct admin_call *call, struct error *err)
{
    uint8_t random[JOIN_TOKEN_SECRET_SIZE];
    CLEANUP(buf_done) struct buf text;
    buf_init(&text, sizeof(call->token));
    if (!random_bytes(random, sizeof(random), err))
        return false;
    buf_put(&text, slice_str("join-"));
    base64url_encode(SLICE_OF(random), &text);
    mem_wipe(random, sizeof(random));
    if (!buf_ok(&text, err))
        return false;
    mem_copy(call->token, text.data, text.len);
    mem_wipe(text.data, text.len);
    return true;
}

static bool run_token(struct tx *tx, struct admin_call *call, struct error *err)
{
    return tokens_make(tx, call->token, call->policy, call->caller.name, call->now_ms,
                       call->expires_at_ms, err);
}

static void answer_token(struct admin_call *call)
{
    Postern__V1__CreateJoinTokenResponse response = POSTERN__V1__CREATE_JOIN_TOKEN_RESPONSE__INIT;
    Google__Protobuf__Timestamp expires_at;
    timestamp_from_ms(call->expires_at_ms, &expires_at);
    response.token = call->token;
    response.expires_at = &expires_at;
    log_at(LOG_INFO, "admin", "operator %s made a join token for policy %s", call->caller.name,
           call->policy);
    admin_service_create_join_token_reply(call->call, &response);
}

static bool take_lifetime(struct admin_call *call, uint64_t lifetime_ms, struct error *err)
{
    if (lifetime_ms > JOIN_TOKEN_LIFETIME_MAX_MS)
        return error_set_field(err, "lifetime_ms", "a join token lives a day at most");
    call->expires_at_ms =
        call->now_ms + (int64_t)(lifetime_ms ? lifetime_ms : JOIN_TOKEN_LIFETIME_MS);
    return true;
}

static void create_join_token(void *arg, struct rpc_call *rpc,
                              const Postern__V1__CreateJoinTokenRequest *request)
{
    static const struct admin_method method = {true, run_token, answer_token};
    struct error err;
    struct admin_call *call = begin(arg, rpc, &method);
    if (!call)
        return;
    if (take_policy(call, request->policy, &err) &&
        take_lifetime(call, request->lifetime_ms, &err) && make_token(call, &err))
        submit(call);
    else
        fail_call(call, &err);
}

/* ---- AttestNow ---- */

static void answer_attest_now(struct admin_call *call)
{
    Postern__V1__AttestNowResponse response = POSTERN__V1__ATTEST_NOW_RESPONSE__INIT;
    response.node = &call->nodes->message;
    admin_service_attest_now_reply(call->call, &response);
}

static void on_attested(struct attest_waiter *waiter, const struct error *err)
{
    struct admin_call *call = CONTAINER_OF(waiter, struct admin_call, waiter);
    if (err)
        fail_call(call, err);
    else
        submit(call);
}

static void attest_now(void *arg, struct rpc_call *rpc,
                       const Postern__V1__AttestNowRequest *request)
{
    static const struct admin_method method = {.run = show_node, .answer = answer_attest_now};
    struct error err;
    struct admin_call *call = begin(arg, rpc, &method);
    if (!call)
        return;
    if (!take_agent_id(call, request->agent_id, &err) ||
        !watch_hub_attest_now(call->authority->hub, call->agent_id, "operator", &err)) {
        fail_call(call, &err);
        return;
    }
    mem_copy(call->waiter.agent_id, call->agent_id, AGENT_ID_SIZE);
    call->waiter.deadline = clock_boot_ms() + ADMIN_ATTEST_WAIT_MS;
    call->waiter.done = on_attested;
    attest_wait(call->authority->attest, &call->waiter);
}

/* ---- RecordPolicy, ExplainNode ---- */

static bool last_values(struct tx *tx, struct admin_call *call, struct pcr_values *ret,
                        struct error *err)
{
    CLEANUP(buf_done) struct buf hello, challenge, evidence;
    buf_init(&hello, ATTEST_HELLO_MAX);
    buf_init(&challenge, ATTEST_CHALLENGE_MAX);
    buf_init(&evidence, ATTEST_EVIDENCE_MAX);
    return nodes_evidence(tx, call->agent_id, &hello, &challenge, &evidence, err) &&
           evidence_values(buf_slice(&evidence), ret, err);
}

static bool run_record(struct tx *tx, struct admin_call *call, struct error *err)
{
    struct pcr_values values;
    struct pcr_selection pcrs, seal;
    bool has_pcrs = call->pcrs_text[0] != '\0', has_seal = call->seal_text[0] != '\0';
    if (has_pcrs && !pcr_selection_parse(call->pcrs_text, &pcrs, err))
        return error_at_field(err, "pcrs");
    if (has_seal && !pcr_selection_parse(call->seal_text, &seal, err))
        return error_at_field(err, "seal");
    return show_node(tx, call, err) && values_are_proven(call->nodes, err) &&
           last_values(tx, call, &values, err) &&
           attest_record_policy(call->policy, &values, has_pcrs ? &pcrs : nullptr,
                                has_seal ? &seal : nullptr, &call->yaml, err);
}

static void answer_record(struct admin_call *call)
{
    Postern__V1__RecordPolicyResponse response = POSTERN__V1__RECORD_POLICY_RESPONSE__INIT;
    struct error err;
    buf_put_u8(&call->yaml, 0);
    if (!buf_ok(&call->yaml, &err)) {
        rpc_fail(call->call, &err);
        return;
    }
    response.yaml = (char *)call->yaml.data;
    admin_service_record_policy_reply(call->call, &response);
}

static void record_policy(void *arg, struct rpc_call *rpc,
                          const Postern__V1__RecordPolicyRequest *request)
{
    static const struct admin_method method = {.run = run_record, .answer = answer_record};
    struct error err;
    struct admin_call *call = begin(arg, rpc, &method);
    if (!call)
        return;
    submit_or_fail(
        call,
        take_agent_id(call, request->agent_id, &err) &&
            take_text("name", request->name, call->policy, sizeof(call->policy), &err) &&
            take_text("pcrs", request->pcrs, call->pcrs_text, sizeof(call->pcrs_text), &err) &&
            take_text("seal", request->seal, call->seal_text, sizeof(call->seal_text), &err),
        &err);
}

static bool run_explain(struct tx *tx, struct admin_call *call, struct error *err)
{
    struct pcr_values values;
    if (!show_node(tx, call, err) || !last_values(tx, call, &values, err))
        return false;
    /* By the policy asked for; else its own, as that is now; else a token's. */
    const Postern__V1__AppraisalBody *body = (const Postern__V1__AppraisalBody *)call->nodes->body;
    const char *name = call->policy[0]          ? call->policy
                       : call->nodes->policy[0] ? call->nodes->policy
                                                : body->policy;
    return explanation_make(policies_attestation(call->policies, name), &values, call->nodes,
                            &call->explanation, err);
}

static void answer_explain(struct admin_call *call)
{
    Postern__V1__ExplainNodeResponse response = POSTERN__V1__EXPLAIN_NODE_RESPONSE__INIT;
    response.node = &call->nodes->message;
    response.n_differences = call->explanation.difference_count;
    response.differences = call->explanation.difference_pointers;
    response.n_checks = call->explanation.check_count;
    response.checks = call->explanation.check_pointers;
    admin_service_explain_node_reply(call->call, &response);
}

static void explain_node(void *arg, struct rpc_call *rpc,
                         const Postern__V1__ExplainNodeRequest *request)
{
    static const struct admin_method method = {.run = run_explain, .answer = answer_explain};
    struct error err;
    struct admin_call *call = begin(arg, rpc, &method);
    if (!call)
        return;
    submit_or_fail(call,
                   take_agent_id(call, request->agent_id, &err) &&
                       (request->policy[0] == '\0' || take_policy(call, request->policy, &err)),
                   &err);
}

/* ---- The service ---- */

static const struct admin_service_handlers handlers = {
    .list_nodes = list_nodes,
    .approve_node = approve_node,
    .deny_node = deny_node,
    .create_join_token = create_join_token,
    .accept_clear = accept_clear,
    .attest_now = attest_now,
    .record_policy = record_policy,
    .explain_node = explain_node,
    .put_secret = secrets_put,
    .list_secrets = secrets_list,
};

bool admin_register(struct authority *authority, struct error *err)
{
    return admin_service_register(authority->server, &handlers, authority, err);
}
