#include "rpc/client.h"

#include "base/clock.h"
#include "base/crypt.h"
#include "base/mem.h"
#include "pb/message.h"
#include "rpc/core.h"
#include "rpc/transport.h"

/* One connection: the current one, or an older one whose calls still run. */
struct link {
    struct rpc_client *client;
    struct rpc_transport *transport;
    struct link *next; /* among the older ones */
};

struct rpc_client {
    struct loop *loop;
    struct address address;
    struct rpc_client_options options;
    char authority[ADDRESS_TEXT_SIZE];
    char *own_authority; /* options.authority, copied */

    enum rpc_client_state state;
    struct link *current;
    struct link *older;
    struct rpc_call *first, *last; /* waiting for a connection, or for room on it */
    size_t waiting;

    uint64_t attempt_at;    /* when the last attempt began */
    uint64_t next_attempt;  /* in BACKOFF; UINT64_MAX */
    uint64_t next_deadline; /* no waiting call's is before it */
    uint64_t backoff;       /* of the next failure, ms */
    struct error last_error;
    struct timer timer;
    struct task settle; /* delivers the ends of waiting calls */
    bool closing;
};

static void connect_now(struct rpc_client *client);
static void arm(struct rpc_client *client);

static void set_state(struct rpc_client *client, enum rpc_client_state state,
                      const struct error *why)
{
    if (client->state == state)
        return;
    client->state = state;
    if (client->options.state)
        client->options.state(client->options.state_arg, state, why);
}

/* ---- Waiting calls ---- */

static void waiting_remove(struct rpc_client *client, struct rpc_call *call)
{
    if (call->previous)
        call->previous->next = call->next;
    else
        client->first = call->next;
    if (call->next)
        call->next->previous = call->previous;
    else
        client->last = call->previous;
    call->next = call->previous = nullptr;
    call->withdraw = nullptr;
    client->waiting--;
}

static void withdraw(void *arg, struct rpc_call *call)
{
    struct rpc_client *client = arg;
    (void)call; /* it is marked as dead; its end must not come from within */
    loop_post(client->loop, &client->settle);
}

static void waiting_add(struct rpc_client *client, struct rpc_call *call)
{
    call->previous = client->last;
    if (client->last)
        client->last->next = call;
    else
        client->first = call;
    client->last = call;
    client->waiting++;
    call->withdraw = withdraw;
    call->withdraw_arg = client;
    if (call->deadline < client->next_deadline)
        client->next_deadline = call->deadline;
}

/* Marks a waiting call as failed; `settle` delivers it. */
static void fail_waiting(struct rpc_client *client, struct rpc_call *call, const struct error *why)
{
    call_set_failure(call, why);
    call->dead = true;
    loop_post(client->loop, &client->settle);
}

static void settle(void *arg)
{
    struct rpc_client *client = arg;
    struct error timeout;
    uint64_t now = clock_boot_ms();
    struct rpc_call *ended = nullptr;
    client->next_deadline = UINT64_MAX;
    for (struct rpc_call *call = client->first, *next; call; call = next) {
        next = call->next;
        if (!call->dead && call->deadline <= now) {
            error_set(&timeout, ERROR_TIMEOUT,
                      "the deadline passed before there was a connection%s%s",
                      client->last_error.class ? ": " : "", client->last_error.message);
            call_set_failure(call, &timeout);
            call->dead = true;
        }
        if (call->dead) {
            waiting_remove(client, call);
            call->next = ended;
            ended = call;
        } else if (call->deadline < client->next_deadline) {
            client->next_deadline = call->deadline;
        }
    }
    while (ended) { /* callbacks may do anything with the client but free it */
        struct rpc_call *call = ended;
        ended = call->next;
        call->next = nullptr;
        call_finish(call);
    }
    arm(client);
}

/* ---- The timer ---- */

static void arm(struct rpc_client *client)
{
    uint64_t due =
        client->next_attempt < client->next_deadline ? client->next_attempt : client->next_deadline;
    if (due == UINT64_MAX)
        timer_stop(&client->timer);
    else
        timer_start_at(&client->timer, due);
}

static void on_timer(void *arg)
{
    struct rpc_client *client = arg;
    settle(client); /* calls that failed already need no connection */
    if (client->next_attempt <= clock_boot_ms()) {
        client->next_attempt = UINT64_MAX;
        if (client->waiting > 0 || client->options.keep_connected)
            connect_now(client);
        else
            set_state(client, RPC_CLIENT_IDLE, nullptr);
    }
    arm(client);
}

/* ± 20 %, so that clients of a server that comes back don't come at once. */
static uint64_t jitter(uint64_t ms)
{
    uint32_t random = UINT32_MAX / 2;
    struct error ignored;
    (void)random_bytes(&random, sizeof(random), &ignored);
    return ms * 4 / 5 + ms * 2 / 5 * random / UINT32_MAX;
}

static void next_attempt_at(struct rpc_client *client, uint64_t pause)
{
    client->next_attempt = client->attempt_at + jitter(pause);
    arm(client);
}

/* ---- Connections ---- */

static bool link_has_room(const struct link *link)
{
    const struct rpc_conn *conn = link ? rpc_transport_conn(link->transport) : nullptr;
    return conn && rpc_conn_has_room(conn);
}

/* Starts waiting calls for which there is room. */
static void pump(struct rpc_client *client)
{
    while (client->first && client->state == RPC_CLIENT_READY && link_has_room(client->current)) {
        struct rpc_call *call = client->first;
        while (call && call->dead) /* its end is on the way */
            call = call->next;
        if (!call)
            return;
        waiting_remove(client, call);
        rpc_conn_start(rpc_transport_conn(client->current->transport), call, clock_boot_ms());
    }
}

static void link_free(struct link *link)
{
    struct rpc_client *client = link->client;
    for (struct link **at = &client->older; *at; at = &(*at)->next) {
        if (*at == link) {
            *at = link->next;
            break;
        }
    }
    if (client->current == link)
        client->current = nullptr;
    mem_free(link);
}

/* An attempt failed: calls that don't want to wait fail with it. */
static void attempt_failed(struct rpc_client *client, const struct error *why)
{
    struct error err = *why;
    char name[ADDRESS_TEXT_SIZE];
    err.class = ERROR_UNAVAILABLE;
    error_prefix(&err, "cannot reach %s", address_format(&client->address, name));
    client->last_error = err;
    for (struct rpc_call *call = client->first; call; call = call->next)
        if (!call->wait_for_ready && !call->dead)
            fail_waiting(client, call, &err);
    next_attempt_at(client, client->backoff);
    client->backoff = client->backoff * 8 / 5;
    if (client->backoff > client->options.backoff_max_ms)
        client->backoff = client->options.backoff_max_ms;
    err = *why; /* the program hears the true class */
    error_prefix(&err, "cannot reach %s", name);
    set_state(client, RPC_CLIENT_BACKOFF, &err);
}

/* The connection stood and is gone. A server that closes at once is not asked again at once. */
static void connection_lost(struct rpc_client *client, const struct error *why)
{
    bool wanted = client->waiting > 0 || client->options.keep_connected;
    uint64_t soonest = client->attempt_at + client->options.backoff_first_ms;
    client->last_error = *why;
    if (wanted && soonest > clock_boot_ms()) {
        next_attempt_at(client, client->options.backoff_first_ms);
        set_state(client, RPC_CLIENT_BACKOFF, why);
        return;
    }
    set_state(client, RPC_CLIENT_IDLE, why);
    if (wanted && client->state == RPC_CLIENT_IDLE)
        connect_now(client);
}

static void link_over(void *arg, const struct error *why)
{
    struct link *link = arg;
    struct rpc_client *client = link->client;
    bool current = client->current == link;
    link_free(link);
    if (!current || client->closing)
        return;
    if (client->state == RPC_CLIENT_CONNECTING)
        attempt_failed(client, why);
    else if (client->state == RPC_CLIENT_READY)
        connection_lost(client, why);
}

static bool link_opened(void *arg, const struct rpc_peer *peer, struct error *err)
{
    (void)arg; /* the peer's SETTINGS, conn_ready, say that it speaks HTTP/2 */
    (void)peer;
    (void)err;
    return true;
}

static const struct rpc_transport_events rpc_transport_events = {
    .opened = link_opened,
    .over = link_over,
};

static void conn_wake(void *arg)
{
    rpc_transport_wake(((struct link *)arg)->transport);
}

static void conn_ready(void *arg)
{
    struct link *link = arg;
    struct rpc_client *client = link->client;
    rpc_transport_ready(link->transport);
    if (client->current != link)
        return;
    client->backoff = client->options.backoff_first_ms;
    client->last_error = (struct error){0};
    set_state(client, RPC_CLIENT_READY, nullptr);
}

static void conn_room(void *arg)
{
    struct link *link = arg;
    if (link->client->current == link)
        pump(link->client);
}

/* The current connection takes no more calls: the next one gets them, and this one ends when its
 * calls have. */
static void retire(struct rpc_client *client, struct link *link, const struct error *why)
{
    if (client->current != link)
        return;
    client->current = nullptr;
    link->next = client->older;
    client->older = link;
    if (client->state == RPC_CLIENT_READY)
        connection_lost(client, why);
}

static void conn_draining(void *arg)
{
    struct link *link = arg;
    struct error why;
    error_set(&why, ERROR_UNAVAILABLE, "the server is shutting the connection down");
    retire(link->client, link, &why);
}

static const struct rpc_conn_events conn_events = {
    .wake = conn_wake,
    .ready = conn_ready,
    .room = conn_room,
    .draining = conn_draining,
};

static void connect_now(struct rpc_client *client)
{
    struct error err;
    struct link *link = mem_new(1, sizeof(*link));
    struct rpc_conn_options conn = {
        .limits = client->options.limits,
        .events = &conn_events,
        .arg = link,
        .scheme = client->options.tls ? "https" : "http",
        .authority = client->own_authority ? client->own_authority : client->authority,
    };
    struct rpc_transport_options options = {
        .loop = client->loop,
        .tls = client->options.tls,
        .conn = &conn,
        .open_by = clock_boot_ms() + client->options.connect_timeout_ms,
        .events = &rpc_transport_events,
        .arg = link,
    };
    client->attempt_at = clock_boot_ms();
    client->next_attempt = UINT64_MAX;
    set_state(client, RPC_CLIENT_CONNECTING, nullptr);
    if (!link) {
        error_set_memory(&err);
        attempt_failed(client, &err);
        return;
    }
    link->client = client;
    if (!rpc_transport_connect(&options, &client->address, &link->transport, &err)) {
        mem_free(link);
        attempt_failed(client, &err);
        return;
    }
    client->current = link;
}

/* ---- Calls ---- */

/* The call could not even be made. */
static struct rpc_call *refuse(const struct rpc_method *method, rpc_function *typed,
                               const struct rpc_call_events *events, void *arg,
                               const struct error *why)
{
    bool streams = method->kind == RPC_SERVER_STREAM || method->kind == RPC_BIDI;
    if (!streams)
        method->deliver(typed, arg, nullptr, nullptr, why);
    else if (events && events->closed)
        events->closed(arg, nullptr, why);
    return nullptr;
}

struct rpc_call *rpc_client_call(struct rpc_client *client, const struct rpc_method *method,
                                 const struct rpc_call_options *options,
                                 const ProtobufCMessage *request, rpc_function *typed,
                                 const struct rpc_call_events *events, void *arg)
{
    struct rpc_call *call;
    struct error err;
    uint64_t now = clock_boot_ms();
    if (client->waiting >= RPC_CLIENT_WAITING_MAX || client->closing) {
        error_set(&err, ERROR_EXHAUSTED, "%zu calls wait for a connection already",
                  client->waiting);
        return refuse(method, typed, events, arg, &err);
    }
    if (!rpc_call_new(method, options, &client->options.limits, request, typed, events, arg, now,
                      &call, &err))
        return refuse(method, typed, events, arg, &err);
    call->wait_for_ready = options && options->wait_for_ready;
    if (client->state == RPC_CLIENT_READY && !client->first && link_has_room(client->current)) {
        rpc_conn_start(rpc_transport_conn(client->current->transport), call, now);
        return call;
    }
    waiting_add(client, call);
    if (client->state == RPC_CLIENT_BACKOFF && !call->wait_for_ready)
        fail_waiting(client, call, &client->last_error);
    else if (client->state == RPC_CLIENT_IDLE)
        connect_now(client);
    arm(client);
    return call;
}

struct sync {
    struct loop *loop;
    const struct rpc_method *method;
    bool done;
    ProtobufCMessage *message;
    struct error error;
};

static void sync_deliver(rpc_function *typed, void *arg, struct rpc_call *call,
                         const ProtobufCMessage *message, const struct error *err)
{
    struct sync *sync = arg;
    (void)typed;
    (void)message;
    sync->done = true;
    if (call)
        call->method = sync->method; /* outlives the caller's stack */
    if (err)
        sync->error = *err;
    else
        sync->message = TAKE(call->message); /* which is `message` */
    loop_stop(sync->loop);
}

bool rpc_client_call_sync(struct rpc_client *client, const struct rpc_method *method,
                          const struct rpc_call_options *options, const ProtobufCMessage *request,
                          ProtobufCMessage **ret, struct error *err)
{
    struct sync sync = {.loop = client->loop, .method = method};
    struct rpc_method own = *method;
    own.deliver = sync_deliver;
    (void)rpc_client_call(client, &own, options, request, nullptr, nullptr, &sync);
    while (!sync.done)
        loop_run(client->loop);
    if (!sync.message) {
        *err = sync.error;
        return false;
    }
    *ret = sync.message;
    return true;
}

/* ---- Interface ---- */

bool rpc_client_new(struct loop *loop, const struct address *address,
                    const struct rpc_client_options *options, struct rpc_client **ret,
                    struct error *err)
{
    struct rpc_client *client = mem_new(1, sizeof(*client));
    if (!client)
        return error_set_memory(err);
    client->loop = loop;
    client->address = *address;
    if (options)
        client->options = *options;
    rpc_limits_resolve(&client->options.limits);
    if (!client->options.backoff_first_ms)
        client->options.backoff_first_ms = RPC_BACKOFF_FIRST_MS;
    if (!client->options.backoff_max_ms)
        client->options.backoff_max_ms = RPC_BACKOFF_MAX_MS;
    if (!client->options.connect_timeout_ms)
        client->options.connect_timeout_ms = RPC_CONNECT_TIMEOUT_MS;
    client->backoff = client->options.backoff_first_ms;
    client->next_attempt = client->next_deadline = UINT64_MAX;
    timer_init(&client->timer, loop, on_timer, client);
    client->settle = (struct task){.run = settle, .arg = client};
    if (client->options.authority) {
        client->own_authority = mem_strdup(client->options.authority);
        if (!client->own_authority) {
            mem_free(client);
            return error_set_memory(err);
        }
    } else if (address->kind == ADDRESS_UNIX) {
        mem_copy(client->authority, "localhost", sizeof("localhost"));
    } else {
        (void)address_format(address, client->authority);
    }
    if (client->options.tls)
        tls_context_ref(client->options.tls);
    *ret = client;
    if (client->options.keep_connected)
        connect_now(client);
    return true;
}

struct rpc_client *rpc_client_free(struct rpc_client *client)
{
    struct error why;
    if (!client)
        return nullptr;
    client->closing = true;
    error_set(&why, ERROR_CANCELLED, "the client was closed");
    if (client->current)
        rpc_transport_drop(client->current->transport, &why);
    mem_free(client->current);
    while (client->older) {
        struct link *link = client->older;
        client->older = link->next;
        rpc_transport_drop(link->transport, &why);
        mem_free(link);
    }
    while (client->first) {
        struct rpc_call *call = client->first;
        waiting_remove(client, call);
        rpc_call_end(call, &why);
    }
    timer_stop(&client->timer);
    loop_unpost(client->loop, &client->settle);
    tls_context_unref(client->options.tls);
    mem_free(client->own_authority);
    return mem_free(client);
}

enum rpc_client_state rpc_client_state(const struct rpc_client *client)
{
    return client->state;
}

void rpc_client_set_tls(struct rpc_client *client, struct tls_context *tls)
{
    tls_context_unref(client->options.tls);
    client->options.tls = tls ? tls_context_ref(tls) : nullptr;
}

void rpc_client_reconnect(struct rpc_client *client)
{
    struct link *link = client->current;
    struct error why;
    if (!link || client->state != RPC_CLIENT_READY)
        return;
    error_set(&why, ERROR_UNAVAILABLE, "the connection is being replaced");
    rpc_conn_drain(rpc_transport_conn(link->transport), clock_boot_ms());
    rpc_transport_wake(link->transport);
    retire(client, link, &why);
}

void rpc_client_disconnect(struct rpc_client *client)
{
    struct error why;
    error_set(&why, ERROR_UNAVAILABLE, "the connection was closed by the program");
    if (client->current)
        rpc_transport_close(client->current->transport, &why);
}

void rpc_client_connect_now(struct rpc_client *client)
{
    if (!client->current)
        connect_now(client);
}

const struct rpc_peer *rpc_client_peer(const struct rpc_client *client)
{
    return client->current ? rpc_transport_peer(client->current->transport) : nullptr;
}
