#include "rpc/server.h"

#include "base/clock.h"
#include "base/counter.h"
#include "base/mem.h"
#include "rpc/transport.h"

COUNTER(count_denied, "postern_rpc_calls_denied_total",
        "Calls that the server's authorization refused.");
COUNTER(count_refused, "postern_rpc_connections_refused_total",
        "Connections that the server closed at once: over a limit, or not accepted.");

constexpr size_t SERVER_SERVICES_MAX = 32; /* of ours */
/* A connection with its TLS handshake and HTTP/2 preface: descriptors held by silence. */
constexpr uint64_t SERVER_OPEN_MS = 20'000;

struct entry {
    const struct rpc_service *service;
    const void *handlers;
    void *arg;
};

struct connection {
    struct rpc_server *server;
    struct rpc_transport *transport;
    const struct rpc_peer *peer; /* null until accepted */
    struct connection *next, *previous;
};

struct server_listener {
    struct rpc_server *server;
    struct listener *listener;
    struct tls_context *tls;
    struct server_listener *next;
};

struct rpc_server {
    struct loop *loop;
    struct rpc_server_options options;
    struct entry services[SERVER_SERVICES_MAX];
    size_t service_count;
    struct server_listener *listeners;
    struct connection *connections;
    size_t connection_count;

    bool draining;
    struct timer drain_timer;
    struct task drain_task;
    void (*drained)(void *arg);
    void *drained_arg;
};

static void server_drained(void *arg)
{
    struct rpc_server *server = arg;
    timer_stop(&server->drain_timer);
    void (*drained)(void *) = server->drained;
    server->drained = nullptr;
    if (drained)
        drained(server->drained_arg);
}

/* ---- Connections ---- */

static void connection_remove(struct connection *connection)
{
    struct rpc_server *server = connection->server;
    if (connection->previous)
        connection->previous->next = connection->next;
    else
        server->connections = connection->next;
    if (connection->next)
        connection->next->previous = connection->previous;
    server->connection_count--;
    if (connection->peer && server->options.gone)
        server->options.gone(server->options.accept_arg, connection->peer);
    if (server->draining && server->connection_count == 0)
        loop_post(server->loop, &server->drain_task);
    mem_free(connection);
}

static void connection_over(void *arg, const struct error *why)
{
    (void)why;
    connection_remove(arg);
}

static bool connection_opened(void *arg, const struct rpc_peer *peer, struct error *err)
{
    struct connection *connection = arg;
    const struct rpc_server_options *options = &connection->server->options;
    if (options->accept && !options->accept(options->accept_arg, peer)) {
        counter_add(&count_refused, 1);
        return error_set(err, ERROR_DENIED, "the connection is not accepted");
    }
    connection->peer = peer;
    return true;
}

static const struct rpc_transport_events rpc_transport_events = {
    .opened = connection_opened,
    .over = connection_over,
};

static void conn_wake(void *arg)
{
    struct connection *connection = arg;
    if (connection->transport)
        rpc_transport_wake(connection->transport);
}

static void conn_ready(void *arg)
{
    struct connection *connection = arg;
    if (connection->transport)
        rpc_transport_ready(connection->transport);
}

static const struct rpc_method *find_method(const struct rpc_server *server, const char *path,
                                            const struct entry **ret_entry)
{
    const char *slash = strchr(path + 1, '/');
    struct slice name = slice(path + 1, (size_t)(slash - path - 1));
    for (size_t i = 0; i < server->service_count; i++) {
        const struct rpc_service *service = server->services[i].service;
        if (!slice_is(name, service->name))
            continue;
        for (size_t m = 0; m < service->method_count; m++) {
            if (strcmp(service->methods[m].name, slash + 1) == 0) {
                *ret_entry = &server->services[i];
                return &service->methods[m];
            }
        }
    }
    return nullptr;
}

static bool conn_route(void *arg, struct rpc_call *call, const struct rpc_method **ret_method,
                       const void **ret_handlers, void **ret_arg, struct error *err)
{
    const struct connection *connection = arg;
    const struct rpc_server *server = connection->server;
    const struct rpc_server_options *options = &server->options;
    const struct entry *entry;
    if (options->authorize && !options->authorize(options->authorize_arg, call, err)) {
        counter_add(&count_denied, 1);
        return false;
    }
    const struct rpc_method *method = find_method(server, rpc_call_path(call), &entry);
    if (!method)
        return error_set(err, ERROR_UNIMPLEMENTED, "there is no method %s here",
                         rpc_call_path(call));
    *ret_method = method;
    *ret_handlers = entry->handlers;
    *ret_arg = entry->arg;
    return true;
}

static const struct rpc_conn_events conn_events = {
    .route = conn_route,
    .wake = conn_wake,
    .ready = conn_ready,
};

static void accepted(void *arg, struct stream *stream)
{
    struct server_listener *listener = arg;
    struct rpc_server *server = listener->server;
    struct error err;
    struct connection *connection = mem_new(1, sizeof(*connection));
    struct rpc_conn_options conn = {.server = true,
                                    .limits = server->options.limits,
                                    .events = &conn_events,
                                    .arg = connection};
    struct rpc_transport_options options = {.loop = server->loop,
                                            .tls = listener->tls,
                                            .conn = &conn,
                                            .open_by = clock_boot_ms() + SERVER_OPEN_MS,
                                            .events = &rpc_transport_events,
                                            .arg = connection};
    if (!connection || server->connection_count >= server->options.limits.connections) {
        counter_add(&count_refused, 1);
        mem_free(connection);
        stream_close(stream);
        return;
    }
    connection->server = server;
    /* Out of memory, or not accepted: the client sees its connection closed. */
    if (!rpc_transport_accept(&options, stream, &connection->transport, &err)) {
        mem_free(connection);
        return;
    }
    connection->next = server->connections;
    if (server->connections)
        server->connections->previous = connection;
    server->connections = connection;
    server->connection_count++;
}

/* ---- Interface ---- */

static void drain_deadline(void *arg)
{
    struct rpc_server *server = arg;
    struct error why;
    error_set(&why, ERROR_UNAVAILABLE, "the server has shut down");
    for (struct connection *c = server->connections; c; c = c->next)
        rpc_transport_close(c->transport, &why);
}

bool rpc_server_new(struct loop *loop, const struct rpc_server_options *options,
                    struct rpc_server **ret, struct error *err)
{
    struct rpc_server *server = mem_new(1, sizeof(*server));
    if (!server)
        return error_set_memory(err);
    server->loop = loop;
    if (options)
        server->options = *options;
    rpc_limits_resolve(&server->options.limits);
    timer_init(&server->drain_timer, loop, drain_deadline, server);
    server->drain_task = (struct task){.run = server_drained, .arg = server};
    *ret = server;
    return true;
}

bool rpc_server_add(struct rpc_server *server, const struct rpc_service *service,
                    const void *handlers, void *arg, struct error *err)
{
    for (size_t i = 0; i < server->service_count; i++)
        if (strcmp(server->services[i].service->name, service->name) == 0)
            return error_set(err, ERROR_EXISTS, "the service %s is there already", service->name);
    if (server->service_count == SERVER_SERVICES_MAX)
        return error_set(err, ERROR_EXHAUSTED, "more than %zu services", SERVER_SERVICES_MAX);
    server->services[server->service_count++] = (struct entry){service, handlers, arg};
    return true;
}

const struct rpc_service *rpc_server_service(const struct rpc_server *server, size_t index)
{
    return index < server->service_count ? server->services[index].service : nullptr;
}

static void close_listeners(struct rpc_server *server)
{
    while (server->listeners) {
        struct server_listener *listener = server->listeners;
        server->listeners = listener->next;
        listener_free(listener->listener);
        tls_context_unref(listener->tls);
        mem_free(listener);
    }
}

struct rpc_server *rpc_server_free(struct rpc_server *server)
{
    struct error why;
    if (!server)
        return nullptr;
    close_listeners(server);
    error_set(&why, ERROR_UNAVAILABLE, "the server was closed");
    while (server->connections) {
        rpc_transport_drop(server->connections->transport, &why);
        connection_remove(server->connections);
    }
    timer_stop(&server->drain_timer);
    loop_unpost(server->loop, &server->drain_task);
    return mem_free(server);
}

bool rpc_server_listen(struct rpc_server *server, const struct rpc_listen_options *options,
                       struct address *ret_address, struct error *err)
{
    struct listener_options listen = {.address = options->address,
                                      .max_streams = server->options.limits.connections,
                                      .mode = options->mode,
                                      .group = options->group};
    struct server_listener *listener = mem_new(1, sizeof(*listener));
    if (!listener)
        return error_set_memory(err);
    listener->server = server;
    if (!listener_new(server->loop, &listen, accepted, listener, &listener->listener, err)) {
        mem_free(listener);
        return false;
    }
    if (options->tls)
        listener->tls = tls_context_ref(options->tls);
    listener->next = server->listeners;
    server->listeners = listener;
    if (ret_address)
        listener_address(listener->listener, ret_address);
    return true;
}

void rpc_server_set_tls(struct rpc_server *server, struct tls_context *tls)
{
    for (struct server_listener *l = server->listeners; l; l = l->next) {
        if (!l->tls)
            continue;
        tls_context_unref(l->tls);
        l->tls = tls_context_ref(tls);
    }
}

void rpc_server_drain(struct rpc_server *server, uint64_t deadline, void (*drained)(void *arg),
                      void *arg)
{
    struct error why;
    if (server->draining)
        return;
    server->draining = true;
    server->drained = drained;
    server->drained_arg = arg;
    close_listeners(server);
    error_set(&why, ERROR_UNAVAILABLE, "the server is shutting down");
    for (struct connection *c = server->connections; c; c = c->next) {
        struct rpc_conn *conn = rpc_transport_conn(c->transport);
        if (conn)
            rpc_conn_drain(conn, clock_boot_ms());
        else
            rpc_transport_close(c->transport, &why); /* still in its handshake */
        rpc_transport_wake(c->transport);
    }
    timer_start_at(&server->drain_timer, deadline);
    if (server->connection_count == 0)
        loop_post(server->loop, &server->drain_task);
}

size_t rpc_server_connections(const struct rpc_server *server)
{
    return server->connection_count;
}
