#include "pods.h"

#include "base/clock.h"
#include "base/counter.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "callers.h"
#include "cgroup.h"
#include "keyring/name.h"
#include "rpc/health.h"
#include "rpc/reflection.h"
#include "rpc/server.h"

#include "postern/v1/pod.rpc.h"

#include <unistd.h>

COUNTER(released, "postern_node_secrets_released_total", "Secrets that were handed to a pod.");
COUNTER(withheld, "postern_node_secrets_refused_total", "Reads of secrets that were refused.");
COUNTER(strangers, "postern_node_pods_unknown_total", "Calls of processes that are in no pod.");

COUNTER(crowded, "postern_node_pods_crowded_total",
        "Connections that were closed because their pod has too many.");

/* What a pod can make us hold, together with CALLERS_PER_POD_MAX: requests that never become whole
 * and answers that nobody reads. */
constexpr size_t CALLS_MAX = 16;               /* of one connection at once; a sidecar has a few */
constexpr size_t MESSAGE_MAX = 128 * 1024;     /* a value of 64 KiB and what is around it */
constexpr size_t UNREAD_MAX = 512 * 1024;      /* answers of one connection */
constexpr size_t UNREAD_CALL_MAX = 128 * 1024; /* … of one call: states, of which the last counts */
/* Who calls or connects without end must not fill the log. */
constexpr uint64_t LOG_PAUSE_MS = 1'000;

struct mapping {
    char *cgroup;
    char *spiffe_id;
};

struct attached {
    struct pods *pods;
    struct rpc_call *call; /* null once answered */
    char *cgroup;          /* where the caller was when it attached */
    char *spiffe_id;
    bool stale; /* the last state did not fit into its queue */
    struct attached *next, **link;
};

struct pods {
    struct loop *loop;
    struct agent *agent;
    struct rpc_server *server;
    struct rpc_health *health;
    struct mapping *mappings;
    size_t mapping_count;
    struct attached *attached;
    size_t attached_count;
    struct task push;
    struct timer clock; /* a change by time alone */
    struct callers callers;
    uint64_t stranger_logged, crowd_logged; /* boot clock */
    bool draining;
};

/* ---- Who calls ---- */

static const struct mapping *find_mapping(const struct pods *pods, const char *cgroup)
{
    for (size_t i = 0; i < pods->mapping_count; i++) {
        if (cgroup_within(cgroup, pods->mappings[i].cgroup))
            return &pods->mappings[i];
    }
    return nullptr;
}

static bool unknown(struct error *err)
{
    return error_set_reason(err, ERROR_DENIED, "POD_UNKNOWN",
                            "this process is in no pod that the node knows");
}

/* Whether a line of this kind is due. */
static bool log_due(uint64_t *last)
{
    uint64_t now = clock_boot_ms();
    if (*last != 0 && now - *last < LOG_PAUSE_MS)
        return false;
    *last = now;
    return true;
}

static void log_stranger(struct pods *pods, pid_t pid, const char *cgroup)
{
    char shown[256];
    counter_add(&strangers, 1);
    if (!log_due(&pods->stranger_logged))
        return;
    text_show(slice_str(cgroup), shown, sizeof(shown));
    log_at(LOG_WARNING, "pods", "process %d in cgroup %s is in no pod of the configuration",
           (int)pid, shown);
}

static bool peer_cgroup(const struct rpc_peer *peer, char *cgroup, pid_t *ret_pid,
                        struct error *err)
{
    int pidfd = -1;
    if (!peer)
        return error_set(err, ERROR_CANCELLED, "the connection is gone");
    if (!rpc_peer_pidfd(peer, &pidfd, err))
        return error_prefix(err, "identify the caller");
    bool ok = cgroup_of_pidfd(pidfd, cgroup, ret_pid, err);
    close(pidfd);
    return ok || error_prefix(err, "identify the caller");
}

/* The caller's mapping, now. `cgroup` has CGROUP_PATH_SIZE bytes. */
static const struct mapping *identify(struct pods *pods, const struct rpc_call *call, char *cgroup,
                                      struct error *err)
{
    pid_t pid = 0;
    if (!peer_cgroup(rpc_call_peer(call), cgroup, &pid, err)) {
        if (log_due(&pods->stranger_logged))
            log_failure(LOG_WARNING, "pods", err, "a call is refused");
        /* What we know of its cgroup is not for the peer. */
        if (err->class != ERROR_UNAVAILABLE && err->class != ERROR_EXHAUSTED)
            unknown(err);
        return nullptr;
    }
    const struct mapping *mapping = find_mapping(pods, cgroup);
    if (!mapping) {
        log_stranger(pods, pid, cgroup);
        unknown(err);
    }
    return mapping;
}

/* ---- Who is connected ---- */

static const char *pod_of(void *arg, const char *cgroup)
{
    const struct mapping *mapping = find_mapping(arg, cgroup);
    return mapping ? mapping->cgroup : nullptr;
}

static bool accept_peer(void *arg, const struct rpc_peer *peer)
{
    struct pods *pods = arg;
    char shown[256];
    struct error err;
    CLEANUP(mem_free_at) char *cgroup = mem_new(CGROUP_PATH_SIZE, 1);
    if (!cgroup)
        return false;
    if (!peer_cgroup(peer, cgroup, nullptr, &err))
        cgroup[0] = '\0'; /* each of its calls is told why */
    if (callers_add(&pods->callers, peer, cgroup, pod_of(pods, cgroup), &err))
        return true;
    counter_add(&crowded, 1);
    text_show(slice_str(cgroup), shown, sizeof(shown));
    if (log_due(&pods->crowd_logged))
        log_failure(LOG_WARNING, "pods", &err, "a connection of cgroup %s is refused", shown);
    return false;
}

static void peer_gone(void *arg, const struct rpc_peer *peer)
{
    struct pods *pods = arg;
    callers_remove(&pods->callers, peer);
}

/* ---- State ---- */

/* A Timestamp, where there is a time. */
static Google__Protobuf__Timestamp *timestamp(int64_t ms, Google__Protobuf__Timestamp *room)
{
    if (ms <= 0)
        return nullptr;
    *room = (Google__Protobuf__Timestamp)GOOGLE__PROTOBUF__TIMESTAMP__INIT;
    room->seconds = ms / 1000;
    room->nanos = (int32_t)(ms % 1000) * 1'000'000;
    return room;
}

static void send_state(struct attached *attached)
{
    const struct agent *agent = attached->pods->agent;
    const struct held *held = agent_held(agent);
    Google__Protobuf__Timestamp at[4];
    Postern__V1__NodeStatus node = POSTERN__V1__NODE_STATUS__INIT;
    Postern__V1__AttachResponse state = POSTERN__V1__ATTACH_RESPONSE__INIT;
    struct error err;
    if (!attached->call)
        return;
    node.connected = true;
    node.agent_id = (char *)held->agent_id;
    node.verdict = held->verdict;
    node.n_reasons = held->reasons.count;
    node.reasons = held->reasons.text;
    node.appraised_at = timestamp(held->appraised_at, &at[0]);
    node.appraisal_expires_at = timestamp(held->expires_at, &at[1]);
    node.last_authority_contact = timestamp(held->contact_at, &at[2]);
    state.spiffe_id = attached->spiffe_id;
    state.node = &node;
    state.degraded_since = timestamp(held_degraded_since(held, agent_now(agent)), &at[3]);
    attached->stale = !pod_service_attach_send_response(attached->call, &state, &err);
}

static void arm_clock(struct pods *pods)
{
    int64_t now = agent_now(pods->agent);
    int64_t next = held_next_change(agent_held(pods->agent), now);
    constexpr int64_t HOUR_MS = 3'600'000; /* clocks are set: look again */
    timer_stop(&pods->clock);
    if (next == INT64_MAX || pods->draining)
        return;
    int64_t wait = next - now < HOUR_MS ? next - now : HOUR_MS;
    timer_start(&pods->clock, (uint64_t)wait + 1);
}

static void push(void *arg)
{
    struct pods *pods = arg;
    for (struct attached *attached = pods->attached; attached; attached = attached->next)
        send_state(attached);
    arm_clock(pods);
}

void pods_changed(struct pods *pods)
{
    loop_post(pods->loop, &pods->push);
}

/* ---- Attach ---- */

static struct attached *attached_free(struct attached *attached)
{
    if (!attached)
        return nullptr;
    if (attached->link) {
        *attached->link = attached->next;
        if (attached->next)
            attached->next->link = attached->link;
        attached->pods->attached_count--;
    }
    mem_free(attached->cgroup);
    mem_free(attached->spiffe_id);
    return mem_free(attached);
}
DEFINE_CLEANUP(attached_free, struct attached)

/* Answers, once; `closed` frees. */
static void detach(struct attached *attached, const struct error *why)
{
    struct rpc_call *call = TAKE(attached->call);
    if (call)
        rpc_fail(call, why);
}

static void on_cancelled(void *arg, struct rpc_call *call, const struct error *why)
{
    (void)call;
    detach(arg, why);
}

static void on_writable(void *arg, struct rpc_call *call)
{
    struct attached *attached = arg;
    (void)call;
    if (attached->stale)
        send_state(attached);
}

static void on_closed(void *arg, struct rpc_call *call, const struct error *err)
{
    struct attached *attached = arg;
    struct error gone;
    (void)call;
    (void)err;
    error_set(&gone, ERROR_CANCELLED, "the connection is gone");
    detach(attached, &gone);
    attached_free(attached);
}

static size_t count_of(const struct pods *pods, const struct mapping *mapping)
{
    size_t count = 0;
    for (const struct attached *at = pods->attached; at; at = at->next) {
        if (at->call && cgroup_within(at->cgroup, mapping->cgroup))
            count++;
    }
    return count;
}

static bool attach_call(struct pods *pods, struct rpc_call *call, struct error *err)
{
    static const struct rpc_call_events events = {
        .writable = on_writable, .cancelled = on_cancelled, .closed = on_closed};
    CLEANUP(mem_free_at) char *cgroup = mem_new(CGROUP_PATH_SIZE, 1);
    CLEANUP(attached_free_at) struct attached *attached = mem_new(1, sizeof(*attached));
    if (!cgroup || !attached)
        return error_set_memory(err);
    const struct mapping *mapping = identify(pods, call, cgroup, err);
    if (!mapping)
        return false;
    if (pods->draining)
        return error_set(err, ERROR_UNAVAILABLE, "the node agent is stopping");
    if (pods->attached_count >= ATTACHED_MAX || count_of(pods, mapping) >= ATTACHED_PER_POD_MAX)
        return error_set(err, ERROR_EXHAUSTED, "too many sidecars are attached");
    attached->pods = pods;
    attached->cgroup = mem_strdup(cgroup);
    attached->spiffe_id = mem_strdup(mapping->spiffe_id);
    if (!attached->cgroup || !attached->spiffe_id)
        return error_set_memory(err);
    attached->call = call;
    attached->next = pods->attached;
    attached->link = &pods->attached;
    if (attached->next)
        attached->next->link = &attached->next;
    pods->attached = attached;
    pods->attached_count++;
    rpc_call_on(call, &events, attached);
    send_state(TAKE(attached));
    return true;
}

static void attach(void *arg, struct rpc_call *call, const Postern__V1__AttachRequest *request)
{
    struct error err;
    (void)request;
    if (!attach_call(arg, call, &err))
        rpc_fail(call, &err);
}

/* ---- FetchSecret ---- */

static bool release(struct pods *pods, const struct rpc_call *call, const char *name,
                    const struct held_secret **ret, struct error *err)
{
    CLEANUP(mem_free_at) char *cgroup = mem_new(CGROUP_PATH_SIZE, 1);
    if (!cgroup)
        return error_set_memory(err);
    const struct mapping *mapping = identify(pods, call, cgroup, err);
    return mapping && secret_name_check(name, err) &&
           held_release(agent_held(pods->agent), mapping->spiffe_id, name, agent_now(pods->agent),
                        ret, err);
}

static void fetch_secret(void *arg, struct rpc_call *call,
                         const Postern__V1__FetchSecretRequest *request)
{
    struct pods *pods = arg;
    const struct held_secret *secret = nullptr;
    struct error err;
    if (!release(pods, call, request->name, &secret, &err)) {
        counter_add(&withheld, 1);
        rpc_fail(call, &err);
        return;
    }
    Google__Protobuf__Timestamp at;
    Postern__V1__FetchSecretResponse response = POSTERN__V1__FETCH_SECRET_RESPONSE__INIT;
    const struct packet *packet = &secret->packet;
    response.name = secret->head.name;
    /* Packed from where it lies: no copy of ours. */
    response.value =
        (ProtobufCBinaryData){.data = secret_data(packet->value), .len = secret_len(packet->value)};
    response.epoch = packet->epoch;
    response.version = packet->version;
    response.degraded_since =
        timestamp(held_degraded_since(agent_held(pods->agent), agent_now(pods->agent)), &at);
    counter_add(&released, 1);
    pod_service_fetch_secret_reply(call, &response);
}

/* ---- The mapping ---- */

static void mappings_free(struct mapping *mappings, size_t count)
{
    for (size_t i = 0; mappings && i < count; i++) {
        mem_free(mappings[i].cgroup);
        mem_free(mappings[i].spiffe_id);
    }
    mem_free(mappings);
}

bool pods_map(struct pods *pods, Postern__V1__PodMapping *const *mappings, size_t count,
              struct error *err)
{
    struct mapping *copy = mem_new(count, sizeof(*copy));
    bool ok = copy != nullptr;
    for (size_t i = 0; ok && i < count; i++) {
        copy[i].cgroup = mem_strdup(mappings[i]->cgroup);
        copy[i].spiffe_id = mem_strdup(mappings[i]->spiffe_id);
        ok = copy[i].cgroup && copy[i].spiffe_id;
    }
    if (!ok) {
        mappings_free(copy, count);
        return error_set_memory(err);
    }
    mappings_free(pods->mappings, pods->mapping_count);
    pods->mappings = copy;
    pods->mapping_count = count;
    callers_map(&pods->callers, pod_of, pods);
    for (struct attached *at = pods->attached; at; at = at->next) {
        const struct mapping *mapping = find_mapping(pods, at->cgroup);
        struct error why;
        if (mapping && strcmp(mapping->spiffe_id, at->spiffe_id) == 0)
            continue;
        unknown(&why);
        detach(at, &why);
    }
    return true;
}

/* ---- The server ---- */

static const struct pod_service_handlers handlers = {
    .attach = attach,
    .fetch_secret = fetch_secret,
};

static bool make_folder(const char *socket, struct error *err)
{
    char folder[ADDRESS_PATH_MAX + 1];
    const char *end = strrchr(socket, '/');
    size_t len = (size_t)(end - socket);
    if (len == 0)
        return true;
    mem_copy(folder, socket, len);
    folder[len] = '\0';
    return folder_make(folder, 0755, err);
}

static bool serve(struct pods *pods, const char *socket, struct error *err)
{
    /* The socket is for every pod that has it mounted; who calls, the kernel says. */
    struct rpc_listen_options listen = {.mode = 0666, .group = LISTENER_GROUP_KEEP};
    const struct rpc_server_options options = {
        .limits = {.message = MESSAGE_MAX,
                   .send_queue = UNREAD_CALL_MAX,
                   .connection_queue = UNREAD_MAX,
                   .concurrent_calls = CALLS_MAX},
        .accept = accept_peer,
        .gone = peer_gone,
        .accept_arg = pods,
    };
    listen.address.kind = ADDRESS_UNIX;
    mem_copy(listen.address.host, socket, strlen(socket));
    return make_folder(socket, err) && rpc_server_new(pods->loop, &options, &pods->server, err) &&
           rpc_health_new(pods->server, &pods->health, err) &&
           rpc_health_set(pods->health, "", true, err) &&
           rpc_health_set(pods->health, pod_service_definition.name, true, err) &&
           pod_service_register(pods->server, &handlers, pods, err) &&
           rpc_reflection_add(pods->server, err) &&
           rpc_server_listen(pods->server, &listen, nullptr, err);
}

bool pods_new(struct loop *loop, const char *socket, struct agent *agent, struct pods **ret,
              struct error *err)
{
    struct pods *pods = mem_new(1, sizeof(*pods));
    if (!pods)
        return error_set_memory(err);
    pods->loop = loop;
    pods->agent = agent;
    pods->push = (struct task){.run = push, .arg = pods};
    timer_init(&pods->clock, loop, push, pods);
    if (!serve(pods, socket, err)) {
        pods_free(pods);
        return false;
    }
    *ret = pods;
    return true;
}

struct pods *pods_free(struct pods *pods)
{
    struct error why;
    if (!pods)
        return nullptr;
    timer_stop(&pods->clock);
    loop_unpost(pods->loop, &pods->push);
    error_set(&why, ERROR_UNAVAILABLE, "the node agent is stopping");
    for (struct attached *at = pods->attached; at; at = at->next)
        detach(at, &why);
    rpc_server_free(pods->server);
    while (pods->attached)
        attached_free(pods->attached);
    rpc_health_free(pods->health);
    callers_done(&pods->callers);
    mappings_free(pods->mappings, pods->mapping_count);
    return mem_free(pods);
}

void pods_drain(struct pods *pods, uint64_t deadline, void (*drained)(void *arg), void *arg)
{
    struct error why;
    pods->draining = true;
    timer_stop(&pods->clock);
    error_set(&why, ERROR_UNAVAILABLE, "the node agent is stopping");
    for (struct attached *at = pods->attached; at; at = at->next)
        detach(at, &why);
    rpc_health_stop(pods->health);
    rpc_server_drain(pods->server, deadline, drained, arg);
}
