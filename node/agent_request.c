/* Fetch and Confirm: a body, REQ's signature over it, the call. */
#include "agent_internal.h"

#include "base/clock.h"
#include "base/counter.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"

COUNTER(packets_taken, "postern_node_packets_total", "Packets that were opened.");
COUNTER(packets_refused, "postern_node_packets_refused_total",
        "Packets with a wrong signature, for somebody else, or not newer.");

struct held_secret *agent_wanted(struct agent *agent, uint64_t now, uint64_t *ret_later)
{
    for (size_t i = 0; i < agent->held.count; i++) {
        struct held_secret *secret = &agent->held.secrets[i];
        if (!held_secret_wants(secret, agent->current.number))
            continue;
        if (secret->fetch_after <= now)
            return secret;
        if (secret->fetch_after < *ret_later)
            *ret_later = secret->fetch_after;
    }
    return nullptr;
}

struct held_secret *agent_unconfirmed(struct agent *agent)
{
    for (size_t i = 0; i < agent->held.count; i++) {
        struct held_secret *secret = &agent->held.secrets[i];
        if (secret->durable && !secret->confirmed &&
            !held_secret_wants(secret, agent->current.number))
            return secret;
    }
    return nullptr;
}

static struct requester requester_of(const struct agent *agent)
{
    return (struct requester){
        .agent_id = agent->held.agent_id,
        .generation = agent->current.number,
        .time_ms = timekeeper_authority(&agent->time, clock_boot_ms()),
    };
}

/* Asks the TPM to sign agent->body as a request of `method`. */
static void begin_sign(struct agent *agent, const char *method, device_done *done)
{
    struct error err;
    buf_clear(&agent->to_sign);
    device_sign_done(&agent->sign);
    device_sign_init(&agent->sign);
    if (!request_to_sign(method, buf_slice(&agent->body), &agent->to_sign, &err)) {
        done(agent, false, &err);
        return;
    }
    agent->sign.message = buf_slice(&agent->to_sign);
    if (!device_sign(agent->device, &agent->sign, done, agent, &err))
        done(agent, false, &err);
}

static ProtobufCBinaryData data_of(const struct buf *buf)
{
    return (ProtobufCBinaryData){.data = buf->data, .len = buf->len};
}

/* Remembers which secret the step is about: it may go meanwhile. */
static bool remember(struct agent *agent, const struct held_secret *secret)
{
    struct error err;
    mem_free(agent->name);
    agent->name = mem_strdup(secret->head.name);
    agent->epoch = secret->packet.epoch;
    agent->version = secret->packet.version;
    if (agent->name)
        return true;
    error_set_memory(&err);
    agent_link_failed(agent, &err, "request");
    agent_step_done(agent);
    return false;
}

static void request_failed(struct agent *agent, const struct error *err, const char *what)
{
    agent_link_failed(agent, err, what);
    agent_step_done(agent);
}

/* ---- Fetch ---- */

/* This name waits; the others go on. */
static void name_failed(struct agent *agent, const struct error *err)
{
    char name[64];
    struct held_secret *secret = held_find(&agent->held, agent->name);
    text_show(slice_str(agent->name), name, sizeof(name));
    log_failure(LOG_ERROR, "fetch", err, "secret \"%s\"", name);
    if (secret)
        secret->fetch_after = clock_boot_ms() + NAME_PAUSE_MS;
}

static bool take_packets(struct agent *agent, const Postern__V1__FetchResponse *response,
                         struct error *err)
{
    const struct packet_expected expected = {
        .keys = agent->keys,
        .node_key = agent->current.key,
        .agent_id = agent->held.agent_id,
        .generation = agent->current.number,
        .name = agent->name,
        .nonce = slice(agent->nonce, sizeof(agent->nonce)),
        .now = agent_now(agent),
    };
    for (size_t i = 0; i < response->n_packets; i++) {
        CLEANUP(packet_done) struct packet packet;
        packet_init(&packet);
        if (!packet_open(&expected, response->packets[i], response->signer_certificates,
                         response->n_signer_certificates, &packet, err) ||
            !held_put_packet(&agent->held, agent->name, &packet, err)) {
            counter_add(&packets_refused, 1);
            return false;
        }
        counter_add(&packets_taken, 1);
    }
    const struct held_secret *secret = held_find(&agent->held, agent->name);
    if (secret && held_secret_wants(secret, agent->current.number))
        return error_set(err, ERROR_NOT_FOUND, "the version that the head names did not come");
    return true;
}

static void on_fetched(void *arg, const Postern__V1__FetchResponse *response,
                       const struct error *err)
{
    struct agent *agent = arg;
    struct error why;
    agent->request = nullptr;
    if (agent->closing)
        return;
    if (err && err->class == ERROR_NOT_FOUND) {
        name_failed(agent, err);
    } else if (err) {
        request_failed(agent, err, "fetch");
        return;
    } else {
        agent->link_backoff = 0;
        if (!take_packets(agent, response, &why))
            name_failed(agent, &why);
        agent_tell(agent);
    }
    agent_step_done(agent);
}

static void on_fetch_signed(void *arg, bool ok, const struct error *err)
{
    struct agent *agent = arg;
    if (agent->closing)
        return;
    if (!ok) {
        request_failed(agent, err, "sign a request");
        return;
    }
    Postern__V1__FetchRequest request = POSTERN__V1__FETCH_REQUEST__INIT;
    const struct rpc_call_options options = {.timeout_ms = REQUEST_TIMEOUT_MS};
    request.body = data_of(&agent->body);
    request.signature = data_of(&agent->sign.signature);
    struct rpc_call *call =
        node_service_fetch(agent->client, &options, &request, on_fetched, agent);
    if (call)
        agent->request = call;
}

void agent_fetch(struct agent *agent)
{
    struct error err;
    uint64_t later = 0;
    const struct held_secret *secret = agent_wanted(agent, clock_boot_ms(), &later);
    const struct requester requester = requester_of(agent);
    if (!remember(agent, secret))
        return;
    /* What is under another node key has to come again. */
    const struct packet *held = &secret->packet;
    if (!held->value || held->generation != agent->current.number)
        held = nullptr;
    buf_clear(&agent->body);
    if (!request_fetch(&requester, agent->name, held, agent->nonce, &agent->body, &err)) {
        request_failed(agent, &err, "fetch");
        return;
    }
    begin_sign(agent, "Fetch", on_fetch_signed);
}

/* ---- Confirm ---- */

static void on_confirmed(void *arg, const Postern__V1__ConfirmResponse *response,
                         const struct error *err)
{
    struct agent *agent = arg;
    (void)response;
    agent->request = nullptr;
    if (agent->closing)
        return;
    if (err) {
        request_failed(agent, err,
                       agent->step == PLAN_CONFIRM_GENERATION ? "confirm the generation"
                                                              : "confirm a version");
        return;
    }
    agent->link_backoff = 0;
    if (agent->step == PLAN_CONFIRM_GENERATION) {
        agent->confirmed = true;
        log_at(LOG_DEBUG, "agent", "generation %llu is confirmed",
               (unsigned long long)agent->current.number);
    } else {
        struct held_secret *secret = held_find(&agent->held, agent->name);
        if (secret && secret->packet.epoch == agent->epoch &&
            secret->packet.version == agent->version)
            secret->confirmed = true;
    }
    agent_step_done(agent);
}

static void on_confirm_signed(void *arg, bool ok, const struct error *err)
{
    struct agent *agent = arg;
    if (agent->closing)
        return;
    if (!ok) {
        request_failed(agent, err, "sign a request");
        return;
    }
    Postern__V1__ConfirmRequest request = POSTERN__V1__CONFIRM_REQUEST__INIT;
    const struct rpc_call_options options = {.timeout_ms = REQUEST_TIMEOUT_MS};
    request.body = data_of(&agent->body);
    request.signature = data_of(&agent->sign.signature);
    struct rpc_call *call =
        node_service_confirm(agent->client, &options, &request, on_confirmed, agent);
    if (call)
        agent->request = call;
}

void agent_confirm(struct agent *agent, bool generation)
{
    struct error err;
    const struct requester requester = requester_of(agent);
    const struct held_secret *secret = generation ? nullptr : agent_unconfirmed(agent);
    if (secret && !remember(agent, secret))
        return;
    buf_clear(&agent->body);
    bool ok = secret ? request_confirm_version(&requester, secret, &agent->body, &err)
                     : request_confirm_generation(&requester, &agent->body, &err);
    if (!ok) {
        request_failed(agent, &err, "confirm");
        return;
    }
    begin_sign(agent, "Confirm", on_confirm_signed);
}
