#include "attest_service.h"

#include "access.h"
#include "authority.h"
#include "conversation.h"
#include "quota.h"
#include "watch.h"

#include "base/clock.h"
#include "base/counter.h"
#include "base/log.h"
#include "base/mem.h"
#include "rpc/peer.h"

COUNTER(attest_affirmed, "postern_attest_affirmed_total", "Appraisals that affirm or warn.");
COUNTER(attest_contraindicated, "postern_attest_contraindicated_total",
        "Appraisals of genuine evidence that no policy allows.");
COUNTER(attest_pending, "postern_attest_pending_total", "Appraisals of nodes not admitted.");
COUNTER(attest_refused, "postern_attest_refused_total",
        "Attest streams that ended without an appraisal.");

enum step {
    WAIT_HELLO,
    CHALLENGING, /* a job runs */
    WAIT_EVIDENCE,
    APPRAISING, /* a job runs */
    SIGNING,    /* a job runs */
    ANSWERED,
};

struct attest_stream {
    struct attest_service *service;
    struct rpc_call *call;
    struct conversation *conversation;
    struct quota *quota; /* what it takes a place of */
    struct quota_key holder;
    struct timer timer;
    enum step step;
    bool gone;   /* nobody waits any more: the job that runs is the last */
    bool closed; /* the call's last event came */
};

struct attest_service {
    struct authority *authority;
    struct quota strangers, nodes; /* streams at once */
    uint64_t hello_ms, stream_ms;
    struct attest_waiter *waiters;
    struct timer timer; /* of the waiters */
};

/* ---- Who waits for an appraisal ---- */

static void end_waiters(struct attest_service *service, const char *agent_id, uint64_t now,
                        const struct error *why)
{
    for (struct attest_waiter **at = &service->waiters; *at;) {
        struct attest_waiter *waiter = *at;
        bool ends = agent_id ? strcmp(waiter->agent_id, agent_id) == 0 : waiter->deadline <= now;
        if (!ends) {
            at = &waiter->next;
            continue;
        }
        *at = waiter->next;
        waiter->done(waiter, why);
        at = &service->waiters; /* `done` may have changed the list */
    }
}

static void arm_waiters(struct attest_service *service)
{
    uint64_t first = UINT64_MAX;
    for (const struct attest_waiter *waiter = service->waiters; waiter; waiter = waiter->next)
        first = waiter->deadline < first ? waiter->deadline : first;
    timer_stop(&service->timer);
    if (service->waiters)
        timer_start_at(&service->timer, first);
}

static void on_waiters_due(void *arg)
{
    struct attest_service *service = arg;
    struct error late;
    error_set_reason(&late, ERROR_TIMEOUT, "NODE_SILENT",
                     "the node was asked for evidence and sent none in time");
    end_waiters(service, nullptr, clock_boot_ms(), &late);
    arm_waiters(service);
}

void attest_wait(struct attest_service *service, struct attest_waiter *waiter)
{
    waiter->next = service->waiters;
    service->waiters = waiter;
    arm_waiters(service);
}

void attest_wait_not(struct attest_service *service, struct attest_waiter *waiter)
{
    for (struct attest_waiter **at = &service->waiters; *at; at = &(*at)->next) {
        if (*at == waiter) {
            *at = waiter->next;
            break;
        }
    }
    arm_waiters(service);
}

/* ---- The end of a stream ---- */

static void stream_release(struct attest_stream *stream)
{
    if (!stream->closed || stream->step != ANSWERED)
        return;
    quota_give(stream->quota, &stream->holder);
    conversation_free(stream->conversation);
    mem_free(stream);
}

static bool is_busy(const struct attest_stream *stream)
{
    return stream->step == CHALLENGING || stream->step == APPRAISING || stream->step == SIGNING;
}

/* Answers with a failure; the stream may be gone afterwards. */
static void stream_fail(struct attest_stream *stream, const struct error *why)
{
    counter_add(&attest_refused, 1);
    timer_stop(&stream->timer);
    stream->step = ANSWERED;
    rpc_fail(stream->call, why);
    stream_release(stream);
}

static void stream_finish(struct attest_stream *stream)
{
    timer_stop(&stream->timer);
    stream->step = ANSWERED;
    rpc_finish(stream->call);
    stream_release(stream);
}

/* After a job: false if that was all, because it failed or nobody waits. */
static bool job_over(struct attest_stream *stream, bool ok, const struct error *err)
{
    if (ok && !stream->gone)
        return true;
    struct error gone;
    error_set(&gone, ERROR_CANCELLED, "the node went away");
    stream_fail(stream, ok ? &gone : err);
    return false;
}

/* ---- Jobs, on other threads ---- */

static bool run_challenge(struct tx *tx, void *arg, struct error *err)
{
    const struct attest_stream *stream = arg;
    return conversation_challenge(stream->conversation, tx, err);
}

static bool run_appraise(struct tx *tx, void *arg, struct error *err)
{
    const struct attest_stream *stream = arg;
    return conversation_appraise(stream->conversation, tx, err);
}

static bool run_sign(void *arg, struct error *err)
{
    const struct attest_stream *stream = arg;
    return conversation_sign(stream->conversation, err);
}

/* ---- E3 and E4 ---- */

static void log_appraisal(const struct conversation *conversation)
{
    const char *agent_id = conversation->id.agent_id;
    const struct appraisal *appraisal = &conversation->appraisal;
    const struct attest_reason *reason = appraisal->reason_count ? &appraisal->reasons[0] : nullptr;
    switch (appraisal->verdict) {
    case POSTERN__V1__VERDICT__VERDICT_AFFIRMING:
    case POSTERN__V1__VERDICT__VERDICT_WARNING:
        counter_add(&attest_affirmed, 1);
        log_at(reason ? LOG_WARNING : LOG_INFO, "attest", "node %s is affirmed%s%s%s%s", agent_id,
               conversation->first_admission ? " and admitted" : "",
               conversation->due != GENERATION_NOT_DUE ? ", offered a node key" : "",
               reason ? ", but " : "", reason ? reason->detail : "");
        return;
    case POSTERN__V1__VERDICT__VERDICT_PENDING:
        counter_add(&attest_pending, 1);
        log_at(LOG_INFO, "attest", "node %s is genuine and waits for its admission", agent_id);
        return;
    default:
        counter_add(&attest_contraindicated, 1);
        log_at(LOG_WARNING, "attest", "node %s is contraindicated: %s: %s", agent_id,
               reason ? reason->name : "", reason ? reason->detail : "");
    }
}

static void on_signed(void *arg, bool ok, const struct error *err)
{
    struct attest_stream *stream = arg;
    struct answer answer;
    struct error failed;
    if (!job_over(stream, ok, err))
        return;
    conversation_answer(stream->conversation, &answer);
    if (!node_service_attest_send_response(stream->call, &answer.response, &failed)) {
        stream_fail(stream, &failed);
        return;
    }
    stream_finish(stream);
}

static void on_appraised(void *arg, bool ok, const struct error *err)
{
    struct attest_stream *stream = arg;
    struct attest_service *service = stream->service;
    struct conversation *conversation = stream->conversation;
    struct error failed;
    if (ok && !conversation->refused) {
        char agent_id[AGENT_ID_SIZE];
        mem_copy(agent_id, conversation->id.agent_id, sizeof(agent_id));
        log_appraisal(conversation);
        watch_hub_node_changed(service->authority->hub, agent_id);
        end_waiters(service, agent_id, 0, nullptr);
        arm_waiters(service);
    }
    if (!job_over(stream, ok, err))
        return;
    if (conversation->refused) {
        log_failure(LOG_WARNING, "attest", &conversation->refusal, "node %s",
                    conversation->id.agent_id);
        stream_fail(stream, &conversation->refusal);
        return;
    }
    stream->step = SIGNING;
    if (!identity_submit(service->authority->identity, run_sign, on_signed, stream, 0, &failed))
        stream_fail(stream, &failed);
}

static void take_evidence(struct attest_stream *stream, struct slice evidence)
{
    struct error err;
    stream->step = APPRAISING;
    if (!conversation_evidence(stream->conversation, evidence, &err) ||
        !store_transact(stream->service->authority->store, run_appraise, on_appraised, stream, 0,
                        &err))
        stream_fail(stream, &err);
}

/* ---- E1 and E2 ---- */

static void on_challenged(void *arg, bool ok, const struct error *err)
{
    struct attest_stream *stream = arg;
    struct error failed;
    if (!job_over(stream, ok, err))
        return;
    Postern__V1__AttestResponse response = POSTERN__V1__ATTEST_RESPONSE__INIT;
    response.part_case = POSTERN__V1__ATTEST_RESPONSE__PART_CHALLENGE;
    const struct buf *challenge = &stream->conversation->challenge_bytes;
    response.challenge = (ProtobufCBinaryData){challenge->len, challenge->data};
    stream->step = WAIT_EVIDENCE;
    if (!node_service_attest_send_response(stream->call, &response, &failed))
        stream_fail(stream, &failed);
}

static void take_hello(struct attest_stream *stream, struct slice hello)
{
    struct error err;
    stream->step = CHALLENGING;
    timer_start(&stream->timer, stream->service->stream_ms);
    if (!conversation_hello(stream->conversation, hello, &err) ||
        !store_transact(stream->service->authority->store, run_challenge, on_challenged, stream, 0,
                        &err))
        stream_fail(stream, &err);
}

/* ---- Events of the stream ---- */

void attest_message(void *arg, struct rpc_call *call, const Postern__V1__AttestRequest *message)
{
    (void)arg;
    struct attest_stream *stream = rpc_call_arg(call);
    struct error err;
    if (!stream || stream->step == ANSWERED)
        return;
    if (stream->step == WAIT_HELLO &&
        message->part_case == POSTERN__V1__ATTEST_REQUEST__PART_HELLO) {
        take_hello(stream, slice(message->hello.data, message->hello.len));
    } else if (stream->step == WAIT_EVIDENCE &&
               message->part_case == POSTERN__V1__ATTEST_REQUEST__PART_EVIDENCE) {
        take_evidence(stream, slice(message->evidence.data, message->evidence.len));
    } else if (is_busy(stream)) {
        stream->gone = true; /* out of turn; the job that runs still has the conversation */
    } else {
        error_set_field(&err, "part", "expected %s",
                        stream->step == WAIT_HELLO ? "hello" : "evidence");
        stream_fail(stream, &err);
    }
}

static void on_half_closed(void *arg, struct rpc_call *call)
{
    (void)call;
    struct attest_stream *stream = arg;
    struct error err;
    if (stream->step != WAIT_HELLO && stream->step != WAIT_EVIDENCE && stream->step != CHALLENGING)
        return;
    error_set(&err, ERROR_INVALID, "the stream ended before the evidence");
    if (is_busy(stream))
        stream->gone = true;
    else
        stream_fail(stream, &err);
}

static void on_cancelled(void *arg, struct rpc_call *call, const struct error *why)
{
    (void)call;
    struct attest_stream *stream = arg;
    if (is_busy(stream))
        stream->gone = true;
    else if (stream->step != ANSWERED)
        stream_fail(stream, why);
}

static void on_closed(void *arg, struct rpc_call *call, const struct error *err)
{
    (void)call;
    (void)err;
    struct attest_stream *stream = arg;
    stream->closed = true;
    stream_release(stream);
}

static void on_late(void *arg)
{
    struct attest_stream *stream = arg;
    struct error err;
    error_set_reason(&err, ERROR_TIMEOUT, "ATTEST_TOO_SLOW", "expected %s in time",
                     stream->step == WAIT_HELLO ? "hello" : "evidence");
    if (is_busy(stream))
        stream->gone = true;
    else
        stream_fail(stream, &err);
}

/* Takes a place among the streams. Strangers have their own, and each address a share of them. */
static bool take_place(struct attest_stream *stream, const struct rpc_peer *peer, struct error *err)
{
    struct attest_service *service = stream->service;
    struct caller caller;
    access_caller(service->authority, stream->call, &caller);
    bool known = caller.kind == CALLER_NODE;
    stream->quota = known ? &service->nodes : &service->strangers;
    stream->holder = known ? quota_key_of_agent(caller.name) : quota_key_of_address(peer->address);
    if (service->nodes.held + service->strangers.held >= ATTEST_STREAMS_MAX)
        return error_set_reason(err, ERROR_EXHAUSTED, "QUOTA",
                                "%zu nodes attest at this moment; try again", ATTEST_STREAMS_MAX);
    return quota_take(stream->quota, &stream->holder, err);
}

static bool stream_new(struct authority *authority, struct rpc_call *call,
                       struct attest_stream **ret, struct error *err)
{
    struct attest_service *service = authority->attest;
    const struct rpc_peer *peer = rpc_call_peer(call);
    if (!peer || !peer->secure)
        return error_set(err, ERROR_UNAUTHENTICATED,
                         "evidence is bound to a TLS connection, and this is none");
    CLEANUP(mem_free_at) struct attest_stream *stream = mem_new(1, sizeof(*stream));
    if (!stream)
        return error_set_memory(err);
    stream->service = service;
    stream->call = call;
    if (!take_place(stream, peer, err))
        return false;
    if (!conversation_new(authority->identity, authority->policies, authority->svid_lifetime_ms,
                          peer->binding, &stream->conversation, err)) {
        quota_give(stream->quota, &stream->holder);
        return false;
    }
    timer_init(&stream->timer, authority->loop, on_late, stream);
    timer_start(&stream->timer, service->hello_ms);
    *ret = TAKE(stream);
    return true;
}

void attest_begin(void *arg, struct rpc_call *call)
{
    static const struct rpc_call_events events = {
        .half_closed = on_half_closed,
        .cancelled = on_cancelled,
        .closed = on_closed,
    };
    struct attest_stream *stream;
    struct error err;
    if (!stream_new(arg, call, &stream, &err)) {
        counter_add(&attest_refused, 1);
        rpc_fail(call, &err);
        return;
    }
    rpc_call_on(call, &events, stream);
}

/* ---- The service ---- */

bool attest_service_new(struct authority *authority, struct attest_service **ret, struct error *err)
{
    CLEANUP(attest_service_free_at) struct attest_service *service = mem_new(1, sizeof(*service));
    if (!service)
        return error_set_memory(err);
    service->authority = authority;
    timer_init(&service->timer, authority->loop, on_waiters_due, service);
    attest_service_hurry(service, ATTEST_HELLO_MS, ATTEST_STREAM_MS);
    if (!quota_init(&service->strangers, "attestations by strangers", ATTEST_STRANGERS_MAX,
                    ATTEST_PER_ADDRESS_MAX, err) ||
        !quota_init(&service->nodes, "attestations by nodes", ATTEST_STREAMS_MAX,
                    ATTEST_PER_NODE_MAX, err))
        return false;
    *ret = TAKE(service);
    return true;
}

void attest_service_hurry(struct attest_service *service, uint64_t hello_ms, uint64_t stream_ms)
{
    service->hello_ms = hello_ms;
    service->stream_ms = stream_ms;
}

struct attest_service *attest_service_free(struct attest_service *service)
{
    if (!service)
        return nullptr;
    struct error gone;
    error_set(&gone, ERROR_CANCELLED, "the authority stops");
    while (service->waiters)
        end_waiters(service, nullptr, UINT64_MAX, &gone);
    timer_stop(&service->timer);
    quota_done(&service->strangers);
    quota_done(&service->nodes);
    return mem_free(service);
}
