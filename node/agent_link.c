/* The authority: Attest, and the Watch stream under the SVID that it gave. */
#include "agent_internal.h"

#include "base/clock.h"
#include "base/counter.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "keys/key.h"
#include "tls/tls.h"

COUNTER(appraisals, "postern_node_appraisals_total", "Appraisals that the authority gave.");
COUNTER(appraisals_bad, "postern_node_appraisals_refused_total",
        "Appraisals after which the node may hold nothing.");
COUNTER(attests_failed, "postern_node_attests_failed_total", "Attestations without an appraisal.");
COUNTER(heads_refused, "postern_node_heads_refused_total",
        "Heads that were not signed, or went back.");

constexpr uint64_t HOUR_MS = 3'600'000;
constexpr uint64_t RECONNECT_FIRST_MS = 500;
constexpr uint64_t RECONNECT_MAX_MS = 15'000;

/* ---- Clients ---- */

static void on_link_state(void *arg, enum rpc_client_state state, const struct error *why)
{
    struct agent *agent = arg;
    if (agent->closing || state != RPC_CLIENT_BACKOFF)
        return;
    if (agent->held.lost_since == 0) {
        log_failure(LOG_WARNING, "authority", why,
                    "out of reach; pods are served from what is held");
        held_lost(&agent->held, clock_wall_ms());
        agent_tell(agent);
    }
}

static bool make_tls(const struct agent *agent, struct slice certificates, struct key *key,
                     struct tls_context **ret, struct error *err)
{
    const struct tls_config config = {
        .role = TLS_CLIENT,
        .certificates = certificates,
        .key = key,
        .trust = buf_slice(&agent->trust_pem),
        .trust_name = agent->trust_anchor,
        .server_name = agent->server_name,
        .alpn = "h2",
    };
    return tls_context_new(&config, ret, err);
}

static bool make_client(struct agent *agent, struct tls_context *tls, bool watches,
                        struct rpc_client **ret, struct error *err)
{
    const struct rpc_client_options options = {
        .tls = tls,
        .authority = agent->server_name,
        .backoff_first_ms = RECONNECT_FIRST_MS,
        .backoff_max_ms = RECONNECT_MAX_MS,
        .state = watches ? on_link_state : nullptr,
        .state_arg = agent,
    };
    return rpc_client_new(agent->loop, &agent->authority, &options, ret, err);
}

static void on_silence(void *arg)
{
    struct agent *agent = arg;
    log_at(LOG_WARNING, "authority", "nothing was heard for %u s: connecting anew",
           (unsigned)(WATCH_SILENCE_MS / 1000));
    agent_watch_stop(agent);
    rpc_client_disconnect(agent->client);
    held_lost(&agent->held, clock_wall_ms());
    agent_tell(agent);
    agent_touch(agent);
}

/* New connections carry the new SVID; the stream is opened anew on one of them. */
static bool take_svid(struct agent *agent, const struct attestation_result *result,
                      struct error *err)
{
    CLEANUP(tls_context_unref_at) struct tls_context *tls = nullptr;
    if (!make_tls(agent, buf_slice(&result->svid), result->key, &tls, err))
        return error_prefix(err, "SVID");
    agent_watch_stop(agent);
    if (!agent->client)
        return make_client(agent, tls, true, &agent->client, err);
    rpc_client_set_tls(agent->client, tls);
    rpc_client_reconnect(agent->client);
    return true;
}

/* ---- Attest ---- */

/* Whether a join token is of use: the node was never admitted, or is so no more. */
static bool wants_token(const struct agent *agent)
{
    return agent->token.path && (agent->held.affirmed_at == 0 ||
                                 agent->held.verdict == POSTERN__V1__VERDICT__VERDICT_PENDING);
}

/* The join token, or an empty text. The caller wipes. */
static void read_token(struct agent *agent, char ret[static JOIN_TOKEN_MAX + 1])
{
    struct error err;
    ret[0] = '\0';
    if (wants_token(agent) && !join_token_read(&agent->token, ret, &err))
        log_failure(LOG_WARNING, "agent", &err, "no join token");
}

/* A third of the appraisal's life, a tenth earlier or later by the node's name. */
static uint64_t period(const struct agent *agent, const Postern__V1__AppraisalBody *body)
{
    uint8_t digest[SHA256_SIZE] = {128};
    struct error ignored;
    int64_t life = body->expires_at_ms - body->appraised_at_ms;
    uint64_t third = life <= 3 * (int64_t)ATTEST_PAUSE_MS ? ATTEST_PAUSE_MS : (uint64_t)life / 3;
    if (third > 24 * HOUR_MS)
        third = 24 * HOUR_MS;
    (void)sha256(slice_str(agent->held.agent_id), digest, &ignored);
    return third * 9 / 10 + third * digest[0] / (5 * 255);
}

static void log_reasons(const Postern__V1__AppraisalBody *body, enum log_level level)
{
    size_t count = body->n_reasons < HELD_REASONS_MAX ? body->n_reasons : HELD_REASONS_MAX;
    for (size_t i = 0; i < count; i++) {
        char name[64], detail[512];
        text_show(slice_str(body->reasons[i]->name), name, sizeof(name));
        text_show(slice_str(body->reasons[i]->detail), detail, sizeof(detail));
        log_at(level, "attest", "  %s: %s", name, detail);
    }
}

static void affirmed(struct agent *agent, struct attestation_result *result)
{
    struct error err;
    char until[TIME_TEXT_SIZE];
    bool warning = agent->held.verdict == POSTERN__V1__VERDICT__VERDICT_WARNING;
    log_at(warning ? LOG_WARNING : LOG_INFO, "attest", "%s under policy %s until %s",
           warning ? "affirmed with warnings" : "affirmed", result->body->policy,
           time_format(result->body->expires_at_ms, until));
    log_reasons(result->body, LOG_WARNING);
    timekeeper_set(&agent->time, result->body->time->authority_ms, result->challenged_boot_ms);
    agent->attest_at = clock_boot_ms() + period(agent, result->body);
    agent->attest_backoff = 0;
    agent->link_after = 0;
    agent->affirmed = take_svid(agent, result, &err);
    if (!agent->affirmed) {
        log_failure(LOG_ERROR, "attest", &err, "the SVID is of no use");
        agent->attest_at = agent_back_off(agent, &agent->attest_backoff);
        return;
    }
    if (agent->wiped && agent->current.number == 0 && !agent_reopen_slots(agent, &err))
        log_failure(LOG_ERROR, "slots", &err, "cannot look at the slots again");
    agent->wiped = false;
    if (result->offer.number != 0)
        generation_move(&agent->offer, &result->offer);
}

static void refused(struct agent *agent, const Postern__V1__AppraisalBody *body)
{
    bool pending = agent->held.verdict == POSTERN__V1__VERDICT__VERDICT_PENDING;
    counter_add(&appraisals_bad, 1);
    if (pending)
        log_at(LOG_WARNING, "attest", "pending: the authority has not admitted node %s",
               agent->held.agent_id);
    else
        log_at(LOG_ERROR, "attest", "contraindicated: the authority refuses this node's state");
    log_reasons(body, pending ? LOG_WARNING : LOG_ERROR);
    agent->affirmed = false;
    agent_watch_stop(agent);
    if (agent->client)
        rpc_client_disconnect(agent->client);
    agent_wipe(agent);
    /* As the authority asks, and no sooner; but see agent_attest_now. */
    uint64_t asked = body->retry_after_ms < HOUR_MS ? body->retry_after_ms : HOUR_MS;
    if (asked > 0)
        agent->attest_at = clock_boot_ms() + (asked < ATTEST_PAUSE_MS ? ATTEST_PAUSE_MS : asked);
    else
        agent->attest_at = agent_back_off(agent, &agent->attest_backoff);
}

/* Nothing is taken back; the plan raises the counter, and then attests at once. Should that fail it
 * is tried again after a while. */
static void unfinished(struct agent *agent, const Postern__V1__AppraisalBody *body)
{
    log_at(LOG_WARNING, "attest", "a retirement is unfinished: the counter is raised");
    log_reasons(body, LOG_WARNING);
    agent->attest_at = agent_back_off(agent, &agent->attest_backoff);
}

/* As early as is decent, at the latest when it is due anyway. */
static void attest_soon(struct agent *agent)
{
    uint64_t soonest = agent->attested_at + ATTEST_PAUSE_MS, now = clock_boot_ms();
    uint64_t due = soonest > now ? soonest : now;
    agent->attest_again = agent->step == PLAN_ATTEST;
    if (!agent->attest_again && due < agent->attest_at)
        agent->attest_at = due;
}

void agent_attest_now(struct agent *agent)
{
    attest_soon(agent);
    agent_touch(agent);
}

/* Writing the token file is all that an operator has to do. */
static void on_token_look(void *arg)
{
    struct agent *agent = arg;
    if (!wants_token(agent))
        return;
    if (join_token_changed(&agent->token)) {
        log_at(LOG_INFO, "attest", "%s has changed", agent->token.path);
        agent_attest_now(agent);
    }
    timer_start(&agent->token_look, TOKEN_LOOK_MS);
}

static void on_attested(void *arg, struct attestation_result *result, const struct error *err)
{
    struct agent *agent = arg;
    struct error why;
    if (agent->closing)
        return;
    rpc_client_disconnect(agent->attest_client);
    if (!result) {
        counter_add(&attests_failed, 1);
        log_failure(LOG_WARNING, "attest", err, "no appraisal");
        agent->attest_at = agent_back_off(agent, &agent->attest_backoff);
        if (!agent->watch || !agent->synced)
            held_lost(&agent->held, clock_wall_ms());
    } else {
        struct moment moment = agent_moment(agent);
        counter_add(&appraisals, 1);
        mem_copy(agent->held.agent_id, result->agent_id, sizeof(agent->held.agent_id));
        held_reached(&agent->held, moment.wall_ms);
        if (!held_appraise(&agent->held, result->body, result->body_bytes, &moment, &why)) {
            log_failure(LOG_ERROR, "attest", &why, "the appraisal can't be kept");
            agent->attest_at = agent_back_off(agent, &agent->attest_backoff);
        }
        agent->unfinished = appraisal_unfinished(result->body);
        if (agent->unfinished)
            unfinished(agent, result->body);
        else if (!appraisal_releases(result->body))
            refused(agent, result->body);
        else if (agent->held.affirmed_at == result->body->appraised_at_ms)
            affirmed(agent, result);
    }
    if (wants_token(agent))
        timer_start(&agent->token_look, TOKEN_LOOK_MS);
    agent_tell(agent);
    agent_step_done(agent);
    if (agent->attest_again)
        attest_soon(agent);
}

void agent_attest(struct agent *agent)
{
    char token[JOIN_TOKEN_MAX + 1];
    struct error err;
    read_token(agent, token);
    const struct attestation_settings settings = {
        .device = agent->device,
        .client = agent->attest_client,
        .keys = agent->keys,
        .join_token = token,
        .generation = agent->current.number,
    };
    agent->attested_at = clock_boot_ms();
    agent->attest_again = false;
    bool ok = attestation_start(&settings, on_attested, agent, &agent->attestation, &err);
    mem_wipe(token, sizeof(token));
    if (!ok)
        on_attested(agent, nullptr, &err);
}

/* ---- Watch ---- */

void agent_link_failed(struct agent *agent, const struct error *why, const char *what)
{
    log_failure(LOG_WARNING, "authority", why, "%s", what);
    agent->link_after = agent_back_off(agent, &agent->link_backoff);
    switch (why->class) {
    case ERROR_UNAUTHENTICATED:
    case ERROR_DENIED:
    case ERROR_CONFLICT:
    case ERROR_NOT_FOUND:
        /* It knows us no longer as we are: a fresh appraisal says how it stands. */
        if (agent->link_after < agent->attest_at)
            agent->attest_at = agent->link_after;
        break;
    default:
        break;
    }
    agent_touch(agent);
}

static void take_head(struct agent *agent, const Postern__V1__SecretHead *message)
{
    struct error err;
    bool changed = false;
    CLEANUP(head_done) struct head head;
    head_init(&head);
    bool ok = head_read(agent->keys, message, agent_now(agent), &head, &err);
    char name[64] = "";
    bool gone = ok && head.gone;
    uint64_t version = ok ? head.version : 0;
    if (ok)
        text_show(slice_str(head.name), name, sizeof(name));
    if (!ok || !held_put_head(&agent->held, &head, &changed, &err)) {
        counter_add(&heads_refused, 1);
        log_failure(LOG_ERROR, "authority", &err, "a head is refused; what is held stays");
        return;
    }
    if (!changed)
        return;
    if (gone)
        log_at(LOG_INFO, "authority", "secret \"%s\" is gone: erased", name);
    else
        log_at(LOG_INFO, "authority", "secret \"%s\" is at version %llu", name,
               (unsigned long long)version);
    agent->erased |= gone; /* it leaves the slots, too */
    agent_tell(agent);
}

static void on_change(void *arg, struct rpc_call *call, const Postern__V1__WatchResponse *message)
{
    struct agent *agent = arg;
    (void)call;
    bool was_lost = agent->held.lost_since != 0;
    held_reached(&agent->held, clock_wall_ms());
    timer_start(&agent->watch_silence, WATCH_SILENCE_MS);
    agent->link_backoff = 0;
    switch (message->change_case) {
    case POSTERN__V1__WATCH_RESPONSE__CHANGE_SECRET:
        take_head(agent, message->secret);
        break;
    case POSTERN__V1__WATCH_RESPONSE__CHANGE_SYNCED:
        agent->synced = true;
        break;
    case POSTERN__V1__WATCH_RESPONSE__CHANGE_ATTEST:
        log_at(LOG_INFO, "authority", "asks for fresh evidence: %s", message->attest->why);
        attest_soon(agent);
        break;
    case POSTERN__V1__WATCH_RESPONSE__CHANGE_TIME:
        timekeeper_hear(&agent->time, message->time->now_ms, clock_boot_ms());
        break;
    default:
        break; /* of a newer authority */
    }
    if (was_lost) {
        log_at(LOG_INFO, "authority", "within reach again");
        agent_tell(agent);
    }
    agent_touch(agent);
}

static void on_watch_closed(void *arg, struct rpc_call *call, const struct error *err)
{
    struct agent *agent = arg;
    struct error ended;
    (void)call;
    agent->watch = nullptr;
    agent->synced = false;
    timer_stop(&agent->watch_silence);
    if (agent->closing)
        return;
    if (!err) {
        error_set(&ended, ERROR_UNAVAILABLE, "the authority ended the stream");
        err = &ended;
    }
    if (err->class == ERROR_UNAVAILABLE || err->class == ERROR_TIMEOUT)
        held_lost(&agent->held, clock_wall_ms());
    agent_link_failed(agent, err, "watch");
    agent_tell(agent);
}

void agent_watch_stop(struct agent *agent)
{
    agent->watch = rpc_call_drop(agent->watch);
    agent->synced = false;
    timer_stop(&agent->watch_silence);
}

void agent_watch(struct agent *agent)
{
    static const struct rpc_call_events events = {.closed = on_watch_closed};
    Postern__V1__WatchRequest request = POSTERN__V1__WATCH_REQUEST__INIT;
    const struct held *held = &agent->held;
    CLEANUP(mem_free_at) Postern__V1__HeldVersion *version = mem_new(held->count, sizeof(*version));
    CLEANUP(mem_free_at) Postern__V1__HeldVersion **versions =
        mem_new(held->count, sizeof(*versions));
    if (!version || !versions) {
        struct error err;
        error_set_memory(&err);
        agent_link_failed(agent, &err, "watch");
        agent_step_done(agent);
        return;
    }
    for (size_t i = 0; i < held->count; i++) {
        const struct held_secret *secret = &held->secrets[i];
        version[i] = (Postern__V1__HeldVersion)POSTERN__V1__HELD_VERSION__INIT;
        version[i].name = secret->head.name;
        version[i].epoch = secret->head.epoch;
        version[i].version = secret->packet.version;
        version[i].seq = secret->head.seq;
        versions[i] = &version[i];
    }
    request.generation = agent->current.number;
    request.n_held = held->count;
    request.held = versions;
    const struct rpc_call_options options = {.wait_for_ready = true};
    timer_start(&agent->watch_silence, WATCH_SILENCE_MS);
    agent->watch = node_service_watch(agent->client, &options, &request, on_change, &events, agent);
    agent_step_done(agent);
}

/* ---- Life ---- */

bool agent_link_new(struct agent *agent, struct error *err)
{
    CLEANUP(tls_context_unref_at) struct tls_context *tls = nullptr;
    timer_init(&agent->watch_silence, agent->loop, on_silence, agent);
    timer_init(&agent->token_look, agent->loop, on_token_look, agent);
    return make_tls(agent, (struct slice){0}, nullptr, &tls, err) &&
           make_client(agent, tls, false, &agent->attest_client, err);
}
