#include "app.h"

#include "base/clock.h"
#include "base/counter.h"
#include "base/log.h"
#include "base/mem.h"
#include "keyring/name.h"
#include "rpc/health.h"
#include "rpc/reflection.h"
#include "rpc/server.h"

#include "postern/v1/pod.rpc.h"
#include "postern/v1/secret.rpc.h"
#include "postern/v1/status.rpc.h"

/* The node agent answers from memory; longer means that it hangs. */
constexpr uint64_t FETCH_TIMEOUT_MS = 5'000;
/* Room for every counter of the process in one status; more would be a defect of ours. */
constexpr size_t COUNTERS_MAX = 128;

COUNTER(secrets_read, "postern_secrets_read_total", "Secrets that were handed to the app.");
COUNTER(secrets_refused, "postern_secrets_refused_total", "Reads of secrets that failed.");

struct app {
    struct rpc_server *server;
    struct rpc_health *health;
    struct node_link *link;
};

/* ---- SecretService ---- */

/* One Get on its way to the node agent and back. */
struct fetch {
    struct rpc_call *call; /* the app's */
    struct rpc_call *node; /* ours to the agent */
};

static void on_fetched(void *arg, const Postern__V1__FetchSecretResponse *response,
                       const struct error *err)
{
    struct fetch *fetch = arg;
    struct rpc_call *call = fetch->call;
    mem_free(fetch);
    if (err) {
        counter_add(&secrets_refused, 1);
        rpc_fail(call, err);
        return;
    }
    counter_add(&secrets_read, 1);
    Postern__V1__GetSecretResponse answer = POSTERN__V1__GET_SECRET_RESPONSE__INIT;
    answer.name = response->name;
    answer.value = response->value;
    answer.epoch = response->epoch;
    answer.version = response->version;
    answer.degraded_since = response->degraded_since;
    secret_service_get_reply(call, &answer);
}

static void on_get_cancelled(void *arg, struct rpc_call *call, const struct error *why)
{
    struct fetch *fetch = arg;
    rpc_call_drop(fetch->node);
    mem_free(fetch);
    rpc_fail(call, why);
}

static void get_secret(void *arg, struct rpc_call *call,
                       const Postern__V1__GetSecretRequest *request)
{
    static const struct rpc_call_events events = {.cancelled = on_get_cancelled};
    struct app *app = arg;
    struct error err;
    if (!secret_name_check(request->name, &err)) {
        counter_add(&secrets_refused, 1);
        rpc_fail(call, &err);
        return;
    }
    struct fetch *fetch = mem_new(1, sizeof(*fetch));
    if (!fetch) {
        error_set_memory(&err);
        rpc_fail(call, &err);
        return;
    }
    fetch->call = call;
    rpc_call_on(call, &events, fetch);
    Postern__V1__FetchSecretRequest forward = POSTERN__V1__FETCH_SECRET_REQUEST__INIT;
    forward.name = request->name;
    const struct rpc_call_options options = {.timeout_ms = FETCH_TIMEOUT_MS};
    struct rpc_call *node = pod_service_fetch_secret(node_link_client(app->link), &options,
                                                     &forward, on_fetched, fetch);
    /* Null: it failed from within, and `fetch` is gone already. */
    if (node)
        fetch->node = node;
}

/* ---- StatusService ---- */

typedef Postern__V1__GetStatusResponse__CountersEntry CounterEntry;

struct counter_list {
    CounterEntry entries[COUNTERS_MAX];
    CounterEntry *pointers[COUNTERS_MAX];
    size_t count;
};

static void add_counter(void *arg, const char *name, const char *help, uint64_t value)
{
    (void)help;
    struct counter_list *list = arg;
    if (list->count == COUNTERS_MAX)
        return;
    CounterEntry *entry = &list->entries[list->count];
    *entry = (CounterEntry)POSTERN__V1__GET_STATUS_RESPONSE__COUNTERS_ENTRY__INIT;
    entry->key = (char *)name;
    entry->value = value;
    list->pointers[list->count++] = entry;
}

static void get_status(void *arg, struct rpc_call *call,
                       const Postern__V1__GetStatusRequest *request)
{
    (void)request;
    struct app *app = arg;
    const Postern__V1__AttachResponse *state = node_link_state(app->link);
    Postern__V1__GetStatusResponse status = POSTERN__V1__GET_STATUS_RESPONSE__INIT;
    status.version = (char[]){POSTERN_VERSION};

    Postern__V1__NodeStatus node = POSTERN__V1__NODE_STATUS__INIT;
    if (state) {
        status.spiffe_id = state->spiffe_id;
        if (state->node)
            node = *state->node;
        node.connected = node_link_connected(app->link);
        status.node = &node;
        status.degraded_since = state->degraded_since;
    }
    Google__Protobuf__Timestamp lost = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
    int64_t lost_since = node_link_lost_since(app->link);
    if (lost_since != 0 && !status.degraded_since) {
        lost.seconds = lost_since / 1000;
        lost.nanos = (int32_t)(lost_since % 1000) * 1'000'000;
        status.degraded_since = &lost;
    }

    struct counter_list counters = {0};
    counter_each(add_counter, &counters);
    status.n_counters = counters.count;
    status.counters = counters.pointers;
    status_service_get_reply(call, &status);
}

/* ---- Health ---- */

/* The server as a whole serves as long as it runs; secrets only while the node agent is there. A name
 * that was set once is only changed later, which can't fail. */
static bool show_health(struct app *app, struct error *err)
{
    bool connected = node_link_connected(app->link);
    return rpc_health_set(app->health, "", true, err) &&
           rpc_health_set(app->health, status_service_definition.name, true, err) &&
           rpc_health_set(app->health, secret_service_definition.name, connected, err);
}

static void on_link_changed(void *arg)
{
    struct error err;
    if (!show_health(arg, &err))
        log_failure(LOG_ERROR, "app", &err, "show health");
}

/* ---- The server ---- */

static const struct secret_service_handlers secret_handlers = {.get = get_secret};
static const struct status_service_handlers status_handlers = {.get = get_status};

static bool listen_all(struct app *app, const Postern__V1__SidecarConfig *config, struct error *err)
{
    /* Whoever may enter the socket's folder is the pod. */
    struct rpc_listen_options socket = {.mode = 0666, .group = LISTENER_GROUP_KEEP};
    socket.address.kind = ADDRESS_UNIX;
    mem_copy(socket.address.host, config->app_socket, strlen(config->app_socket));
    if (!rpc_server_listen(app->server, &socket, nullptr, err))
        return false;
    if (config->app_listen[0] == '\0')
        return true;
    struct rpc_listen_options tcp = {0};
    return address_parse(config->app_listen, &tcp.address, err) &&
           rpc_server_listen(app->server, &tcp, nullptr, err);
}

bool app_new(struct loop *loop, const Postern__V1__SidecarConfig *config, struct node_link *link,
             struct app **ret, struct error *err)
{
    struct app *app = mem_new(1, sizeof(*app));
    if (!app)
        return error_set_memory(err);
    app->link = link;
    const struct rpc_server_options options = {0};
    if (!rpc_server_new(loop, &options, &app->server, err) ||
        !rpc_health_new(app->server, &app->health, err) || !rpc_reflection_add(app->server, err) ||
        !secret_service_register(app->server, &secret_handlers, app, err) ||
        !status_service_register(app->server, &status_handlers, app, err) ||
        !show_health(app, err) || !listen_all(app, config, err)) {
        app_free(app);
        return false;
    }
    node_link_on_change(link, on_link_changed, app);
    *ret = app;
    return true;
}

struct app *app_free(struct app *app)
{
    if (!app)
        return nullptr;
    node_link_on_change(app->link, nullptr, nullptr);
    rpc_server_free(app->server);
    rpc_health_free(app->health);
    return mem_free(app);
}

void app_drain(struct app *app, uint64_t deadline, void (*drained)(void *arg), void *arg)
{
    rpc_health_stop(app->health);
    rpc_server_drain(app->server, deadline, drained, arg);
}
