#include "rpc/conn.h"

#include "base/mem.h"
#include "rpc/core.h"
#include "rpc/status.h"

/* ---- The connection's list of calls ---- */

static void conn_link(struct rpc_conn *conn, struct rpc_call *call)
{
    call->conn = conn;
    call->previous = nullptr;
    call->next = conn->calls;
    if (conn->calls)
        conn->calls->previous = call;
    conn->calls = call;
    conn->call_count++;
    if (call->deadline < conn->next_deadline)
        conn->next_deadline = call->deadline;
}

/* Takes the call out and drops the connection's reference. */
static void conn_unlink(struct rpc_conn *conn, struct rpc_call *call)
{
    if (call->previous)
        call->previous->next = call->next;
    else
        conn->calls = call->next;
    if (call->next)
        call->next->previous = call->previous;
    call->next = call->previous = nullptr;
    call->conn = nullptr;
    conn->call_count--;
    rpc_call_unref(call);
}

static struct rpc_call *call_of(struct h2_stream *stream)
{
    return CONTAINER_OF(stream, struct rpc_call, stream);
}

static size_t conn_queued(const struct rpc_conn *conn)
{
    size_t queued = 0;
    for (const struct rpc_call *call = conn->calls; call; call = call->next)
        queued += h2_queued(&call->stream);
    return queued;
}

/* The sum is made only when the bound, which messages raise and nothing lowers, is at the limit. */
bool conn_may_queue(struct rpc_conn *conn)
{
    size_t limit = conn->options.limits.connection_queue;
    if (conn->queued_most >= limit)
        conn->queued_most = conn_queued(conn);
    return conn->queued_most < limit;
}

/* Server: those that were refused a message may try again. */
static void feed_starved(struct rpc_conn *conn)
{
    if (!conn->starving || conn_queued(conn) > conn->options.limits.connection_queue / 2)
        return;
    conn->starving = false;
    for (struct rpc_call *call = conn->calls; call; call = call->next) {
        if (!call->starved)
            continue;
        call->starved = false;
        if (!call->dead && call->events && call->events->writable)
            call->events->writable(call->arg, call);
    }
}

/* ---- Events of HTTP/2, server ---- */

/* What is wrong with the request, if anything; else the call knows its method. */
static bool accept_request(struct rpc_conn *conn, struct rpc_call *call,
                           const struct h2_header *headers, size_t count, bool too_large,
                           unsigned *ret_http, struct error *err)
{
    char path[RPC_PATH_MAX];
    *ret_http = 0;
    if (too_large)
        return error_set(err, ERROR_EXHAUSTED, "the header list is over the limit of %zu bytes",
                         conn->options.limits.header_list);
    bool ok = headers_read_request(call, headers, count, conn->now, path, ret_http, err) &&
              conn->options.events->route(conn->options.arg, call, &call->method, &call->handlers,
                                          &call->handlers_arg, err);
    call->path = ok ? call->method->path : "";
    return ok;
}

static struct h2_stream *on_request(void *arg, int32_t id, const struct h2_header *headers,
                                    size_t count, bool too_large, bool end)
{
    struct rpc_conn *conn = arg;
    struct rpc_call *call = call_alloc(&conn->options.limits);
    struct error err;
    unsigned http;
    if (!call) {
        h2_reset(conn->h2, id, H2_REFUSED_STREAM);
        return nullptr;
    }
    call->server = true;
    call->conn = conn;
    if (!accept_request(conn, call, headers, count, too_large, &http, &err)) {
        headers_refuse(conn, id, http, &err);
        rpc_call_unref(call);
        return nullptr;
    }
    call->streams_in = call->method->kind == RPC_CLIENT_STREAM || call->method->kind == RPC_BIDI;
    call->streams_out = call->method->kind == RPC_SERVER_STREAM || call->method->kind == RPC_BIDI;
    call->stream.id = id;
    call->stream.open = true;
    conn_link(conn, call);
    if (call->streams_in)
        call_serve(call, nullptr);
    call->ended_in = end;
    if (end)
        call_advance(call);
    return &call->stream;
}

/* ---- Events of HTTP/2, both ---- */

static void on_data(void *arg, struct h2_stream *stream, struct slice bytes)
{
    (void)arg;
    call_receive(call_of(stream), bytes);
}

static void on_ended(void *arg, struct h2_stream *stream)
{
    struct rpc_call *call = call_of(stream);
    (void)arg;
    call->ended_in = true;
    if (!call->server && !call->status_in)
        headers_read_trailers(call, nullptr, 0); /* none came */
    call_advance(call);
}

static void on_trailers(void *arg, struct h2_stream *stream, const struct h2_header *headers,
                        size_t count, bool too_large)
{
    struct rpc_call *call = call_of(stream);
    struct error err;
    (void)arg;
    call->ended_in = true;
    if (!call->server && too_large) {
        error_set(&err, ERROR_EXHAUSTED, "the trailers are over the limit of %zu bytes",
                  call->limits.header_list);
        call_set_failure(call, &err);
        call->status_in = true;
    } else if (!call->server && !call->status_in) {
        headers_read_trailers(call, headers, count);
    }
    call_advance(call);
}

static void on_response(void *arg, struct h2_stream *stream, const struct h2_header *headers,
                        size_t count, bool too_large, bool end)
{
    struct rpc_call *call = call_of(stream);
    struct error err;
    bool ok;
    (void)arg;
    if (call->dead)
        return;
    if (too_large)
        ok = error_set(&err, ERROR_EXHAUSTED, "the headers are over the limit of %zu bytes",
                       call->limits.header_list);
    else
        ok = headers_read_response(call, headers, count, end, &err);
    if (!ok) {
        call_refuse(call, &err);
        call_finish(call);
        return;
    }
    if (!call->status_in && call->events && call->events->headers)
        call->events->headers(call->arg, call);
    call->ended_in = end;
    if (end)
        call_advance(call);
}

static void on_writable(void *arg, struct h2_stream *stream)
{
    struct rpc_call *call = call_of(stream);
    (void)arg;
    if (!call->dead && call->events && call->events->writable)
        call->events->writable(call->arg, call);
}

static void on_trailers_due(void *arg, struct h2_stream *stream)
{
    struct rpc_conn *conn = arg;
    struct rpc_call *call = call_of(stream);
    struct error err;
    if (!headers_send_trailers(call, &err))
        h2_reset(conn->h2, stream->id, H2_INTERNAL_ERROR);
}

/* Client: the stream ended before a status came. */
static void status_from_close(struct rpc_call *call, uint32_t code)
{
    int status = status_from_reset(code);
    struct error err;
    error_set_native(&err, error_class_from_grpc(status), ERROR_DOMAIN_HTTP2, (int64_t)code,
                     nullptr, "the server reset the call: %s", h2_code_name(code));
    call_set_failure(call, &err);
}

static void on_closed(void *arg, struct h2_stream *stream, uint32_t code)
{
    struct rpc_conn *conn = arg;
    struct rpc_call *call = call_of(stream);
    if (call->server) {
        call->delivered = call->delivered && code == H2_NO_ERROR;
        call_finish(call);
    } else if (call->status_in && call->paused && !call->dead) {
        return; /* its end waits behind what is unread: rpc_call_resume */
    } else {
        if (!call->status_in)
            status_from_close(call, code);
        call_finish(call);
    }
    conn_unlink(conn, call);
    if (conn->options.events->room)
        conn->options.events->room(conn->options.arg);
}

static void on_goaway(void *arg, int32_t last_id, uint32_t code, struct slice debug)
{
    struct rpc_conn *conn = arg;
    (void)last_id;
    (void)code;
    (void)debug;
    conn->draining = true;
    if (conn->options.events->draining)
        conn->options.events->draining(conn->options.arg);
}

static void on_settings(void *arg)
{
    struct rpc_conn *conn = arg;
    bool first = !conn->ready;
    conn->ready = true;
    if (first && conn->options.events->ready)
        conn->options.events->ready(conn->options.arg);
    if (conn->options.events->room)
        conn->options.events->room(conn->options.arg);
}

static void on_pong(void *arg, uint64_t opaque)
{
    struct rpc_conn *conn = arg;
    (void)opaque;
    if (conn->goaway_at != UINT64_MAX)
        conn->goaway_at = 0; /* what the client sent before it knew has arrived */
}

static const struct h2_events server_events = {
    .request = on_request,
    .trailers = on_trailers,
    .data = on_data,
    .ended = on_ended,
    .writable = on_writable,
    .trailers_due = on_trailers_due,
    .closed = on_closed,
    .settings = on_settings,
    .pong = on_pong,
};

static const struct h2_events client_events = {
    .response = on_response,
    .trailers = on_trailers,
    .data = on_data,
    .ended = on_ended,
    .writable = on_writable,
    .closed = on_closed,
    .goaway = on_goaway,
    .settings = on_settings,
};

/* ---- The connection ---- */

bool rpc_conn_new(const struct rpc_conn_options *options, uint64_t now, struct rpc_conn **ret,
                  struct error *err)
{
    CLEANUP(rpc_conn_free_at) struct rpc_conn *conn = mem_new(1, sizeof(*conn));
    if (!conn)
        return error_set_memory(err);
    conn->options = *options;
    rpc_limits_resolve(&conn->options.limits);
    conn->now = now;
    conn->next_deadline = conn->goaway_at = UINT64_MAX;
    struct h2_options h2 = {
        .server = options->server,
        .max_streams = conn->options.limits.concurrent_calls,
        .window = conn->options.limits.window,
        .header_list = conn->options.limits.header_list,
        .low_water = RPC_LOW_WATER,
        .events = options->server ? &server_events : &client_events,
        .arg = conn,
    };
    if (!h2_new(&h2, now, &conn->h2, err))
        return false;
    *ret = TAKE(conn);
    return true;
}

struct rpc_conn *rpc_conn_free(struct rpc_conn *conn)
{
    struct error why;
    if (!conn)
        return nullptr;
    error_set(&why, ERROR_UNAVAILABLE, "the connection was closed");
    rpc_conn_lost(conn, &why);
    h2_free(conn->h2);
    return mem_free(conn);
}

bool rpc_conn_receive(struct rpc_conn *conn, struct slice bytes, uint64_t now, struct error *err)
{
    conn->now = now;
    conn->inside = true;
    bool ok = h2_receive(conn->h2, bytes, now, err);
    conn->inside = false;
    return ok;
}

bool rpc_conn_output(struct rpc_conn *conn, size_t most, uint64_t now, struct buf *ret,
                     struct error *err)
{
    conn->now = now;
    conn->inside = true;
    feed_starved(conn);
    bool ok = h2_output(conn->h2, most, now, ret, err);
    conn->inside = false;
    conn->woken = false;
    return ok;
}

bool rpc_conn_done(const struct rpc_conn *conn)
{
    return h2_done(conn->h2);
}

uint64_t rpc_conn_next(const struct rpc_conn *conn)
{
    return conn->next_deadline < conn->goaway_at ? conn->next_deadline : conn->goaway_at;
}

static void expire(struct rpc_conn *conn, struct rpc_call *call)
{
    struct error why;
    if (!call->dead) {
        error_set(&why, ERROR_TIMEOUT, "the call's deadline has passed");
        call_refuse(call, &why);
    }
    if (call->server)
        return;
    call_finish(call);
    if (!call->stream.open)
        conn_unlink(conn, call);
}

/* What is due for one call, which may be gone then. Returns its next deadline. */
static uint64_t tick_call(struct rpc_conn *conn, struct rpc_call *call, uint64_t now)
{
    if (call->over) {
        if (!call->stream.open)
            conn_unlink(conn, call);
        return UINT64_MAX;
    }
    if (call->dead ? !call->server : call->deadline <= now) {
        expire(conn, call);
        return UINT64_MAX;
    }
    if (call->deadline <= now) { /* answered, but the client does not read */
        call->deadline = UINT64_MAX;
        h2_reset(conn->h2, call->stream.id, H2_CANCEL);
    }
    return call->deadline;
}

void rpc_conn_tick(struct rpc_conn *conn, uint64_t now)
{
    struct rpc_call *next;
    conn->now = now;
    conn->inside = true;
    if (conn->next_deadline <= now) {
        conn->next_deadline = UINT64_MAX;
        for (struct rpc_call *call = conn->calls; call; call = next) {
            next = call->next;
            uint64_t due = tick_call(conn, call, now);
            if (due < conn->next_deadline)
                conn->next_deadline = due;
        }
    }
    if (conn->goaway_at <= now) {
        conn->goaway_at = UINT64_MAX;
        h2_goaway(conn->h2);
    }
    conn->inside = false;
}

void rpc_conn_lost(struct rpc_conn *conn, const struct error *why)
{
    conn->lost = true;
    conn->inside = true;
    while (conn->calls) {
        struct rpc_call *call = conn->calls;
        struct error err = *why;
        call->stream.open = false;
        call->delivered = false;
        if (!call->server && err.class != ERROR_CANCELLED)
            err.class = ERROR_UNAVAILABLE;
        if (!call->server)
            call_set_failure(call, &err);
        call_finish(call);
        conn_unlink(conn, call);
    }
    conn->inside = false;
}

void rpc_conn_drain(struct rpc_conn *conn, uint64_t now)
{
    if (conn->draining)
        return;
    conn->draining = true;
    conn->now = now;
    if (!conn->options.server) {
        h2_goaway(conn->h2); /* nothing to announce: over when the last call has ended */
        return;
    }
    h2_goaway_notice(conn->h2);
    h2_ping(conn->h2, 0);
    conn->goaway_at = now + RPC_GOAWAY_STEP_MS;
}

size_t rpc_conn_calls(const struct rpc_conn *conn)
{
    return conn->call_count;
}

bool rpc_conn_has_room(const struct rpc_conn *conn)
{
    return conn->ready && !conn->draining && !conn->lost && h2_has_room(conn->h2);
}

void rpc_conn_start(struct rpc_conn *conn, struct rpc_call *call, uint64_t now)
{
    struct error err;
    conn->now = now;
    rpc_call_ref(call);
    conn_link(conn, call);
    if (headers_send_request(call, now, &err)) {
        if (h2_queued(&call->stream) > 0)
            h2_push(conn->h2, &call->stream);
    } else {
        call_set_failure(call, &err);
        call->dead = true;
        conn->next_deadline = 0; /* the end is delivered by the next tick, not from within */
    }
    call_wake(call);
}
