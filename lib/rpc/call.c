/* What programs do with a call, and how calls end. */
#include "base/counter.h"
#include "base/mem.h"
#include "pb/message.h"
#include "rpc/core.h"

COUNTER(count_queue_full, "postern_rpc_send_queue_full_total",
        "Messages not queued because the peer of their call does not read.");

void rpc_limits_resolve(struct rpc_limits *limits)
{
    if (!limits->message)
        limits->message = RPC_MESSAGE_DEFAULT;
    if (!limits->send_queue)
        limits->send_queue = RPC_SEND_QUEUE_DEFAULT;
    if (!limits->connection_queue)
        limits->connection_queue = RPC_CONNECTION_QUEUE_DEFAULT;
    if (!limits->header_list)
        limits->header_list = RPC_HEADER_LIST_DEFAULT;
    if (!limits->concurrent_calls)
        limits->concurrent_calls = RPC_CONCURRENT_CALLS_DEFAULT;
    if (!limits->connections)
        limits->connections = RPC_CONNECTIONS_DEFAULT;
    if (!limits->window)
        limits->window = RPC_WINDOW_DEFAULT;
}

struct rpc_call *call_alloc(const struct rpc_limits *limits)
{
    struct rpc_call *call = mem_new(1, sizeof(*call));
    if (!call)
        return nullptr;
    call->limits = *limits;
    call->refs = 1;
    call->deadline = UINT64_MAX;
    call->path = "";
    /* What was sent is moved out late, so the buffer may hold twice what is queued. */
    h2_stream_init(&call->stream, 2 * (limits->send_queue + limits->message + RPC_PREFIX_SIZE));
    buf_init_wiping(&call->partial, limits->message);
    buf_init_wiping(&call->backlog, limits->window);
    metadata_init(&call->in);
    metadata_init(&call->out_headers);
    metadata_init(&call->out_trailers);
    return call;
}

struct rpc_call *rpc_call_ref(struct rpc_call *call)
{
    call->refs++;
    return call;
}

struct rpc_call *rpc_call_unref(struct rpc_call *call)
{
    if (!call || --call->refs > 0)
        return nullptr;
    h2_stream_done(&call->stream);
    call_drop_input(call);
    metadata_done(&call->in);
    metadata_done(&call->out_headers);
    metadata_done(&call->out_trailers);
    if (call->failure != &call_out_of_memory)
        mem_free((void *)(uintptr_t)call->failure);
    return mem_free(call);
}

const struct error call_out_of_memory = {.class = ERROR_EXHAUSTED, .message = "out of memory"};

void call_set_failure(struct rpc_call *call, const struct error *why)
{
    if (call->failure)
        return;
    struct error *copy = mem_new(1, sizeof(*copy));
    if (copy)
        *copy = *why;
    call->failure = copy ? copy : &call_out_of_memory;
}

void call_drop_input(struct rpc_call *call)
{
    buf_done(&call->partial);
    buf_done(&call->backlog);
    call->message = pb_free(call->message);
    call->prefix_len = 0;
}

void call_wake(struct rpc_call *call)
{
    struct rpc_conn *conn = call->conn;
    if (!conn || conn->inside || conn->woken)
        return;
    conn->woken = true;
    if (conn->options.events->wake)
        conn->options.events->wake(conn->options.arg);
}

/* The connection's next tick comes at once: it delivers ends that must not come from within. */
static void tick_soon(struct rpc_call *call)
{
    if (call->conn)
        call->conn->next_deadline = 0;
    call_wake(call);
}

/* ---- Ends ---- */

static void tell_closed(struct rpc_call *call, const struct error *err)
{
    if (call->events && call->events->closed)
        call->events->closed(call->arg, call, err);
}

void call_cancelled(struct rpc_call *call, const struct error *why)
{
    if (call->dead || call->answered)
        return;
    call->dead = true;
    call_drop_input(call);
    call_set_failure(call, why);
    if (call->served && call->events && call->events->cancelled)
        call->events->cancelled(call->arg, call, why);
}

static void finish_server(struct rpc_call *call)
{
    struct error gone;
    error_set(&gone, ERROR_CANCELLED, "the client has cancelled the call or is gone");
    call_cancelled(call, call->failure ? call->failure : &gone);
    call->over = true;
    call->dead = true;
    /* A failure that the handler sent is a success here; one that cut it off is not. */
    tell_closed(call, call->answered && call->delivered ? nullptr
                      : call->failure                   ? call->failure
                                                        : &gone);
}

static void finish_client(struct rpc_call *call)
{
    struct error missing;
    call->over = true;
    call->dead = true;
    if (!call->failure && !call->streams_in && !call->message) {
        error_set(&missing, ERROR_UNIMPLEMENTED, "the server answered OK without a message");
        call_set_failure(call, &missing);
    }
    if (call->failure)
        call->message = pb_free(call->message);
    if (!call->dropped && !call->streams_in)
        call->method->deliver(call->typed, call->arg, call, call->message, call->failure);
    else if (!call->dropped)
        tell_closed(call, call->failure);
    call_drop_input(call);
    /* What is left of the stream interests nobody: the server may have ended it before us. */
    if (call->conn && call->stream.open && !call->stream.ending)
        h2_reset(call->conn->h2, call->stream.id, H2_CANCEL);
    rpc_call_unref(call);
}

void call_finish(struct rpc_call *call)
{
    if (call->over)
        return;
    if (call->server)
        finish_server(call);
    else
        finish_client(call);
}

/* ---- Sending ---- */

/* Server: the connection as a whole. */
static bool check_connection(struct rpc_call *call, struct error *err)
{
    struct rpc_conn *conn = call->conn;
    if (!call->server || conn_may_queue(conn))
        return true;
    counter_add(&count_queue_full, 1);
    call->starved = conn->starving = true;
    return error_set(err, ERROR_EXHAUSTED,
                     "%zu bytes of this connection's answers wait for a peer that does not read",
                     conn->queued_most);
}

static bool queue_message(struct rpc_call *call, const ProtobufCMessage *message, struct error *err)
{
    const ProtobufCMessageDescriptor *type =
        call->server ? call->method->response : call->method->request;
    if (!message || message->descriptor != type)
        return error_set(err, ERROR_INTERNAL, "a message of another type than %s", type->name);
    if (h2_queued(&call->stream) >= call->limits.send_queue) {
        counter_add(&count_queue_full, 1);
        return error_set(err, ERROR_EXHAUSTED, "%zu bytes wait for a peer that does not read",
                         h2_queued(&call->stream));
    }
    if (!check_connection(call, err))
        return false;
    struct buf *queue = h2_queue(&call->stream);
    size_t before = queue->len;
    buf_put(queue, slice("\0\0\0\0", RPC_PREFIX_SIZE)); /* not compressed; the length follows */
    if (!pb_pack(message, call->limits.message, queue, err) || !buf_ok(queue, err)) {
        queue->len = before;
        queue->failed = false;
        return false;
    }
    size_t size = queue->len - before - RPC_PREFIX_SIZE;
    for (size_t i = 0; i < 4; i++)
        queue->data[before + 1 + i] = (uint8_t)(size >> (8 * (3 - i)));
    if (call->server)
        call->conn->queued_most += RPC_PREFIX_SIZE + size;
    return true;
}

bool rpc_send(struct rpc_call *call, const ProtobufCMessage *message, struct error *err)
{
    if (call->dead || call->answered || call->send_closed || (call->server && !call->conn))
        return error_set(err, ERROR_CANCELLED, "the call has ended");
    if (!queue_message(call, message, err))
        return false;
    if (call->server && !call->headers_out && !headers_send_response(call, false, err))
        return false;
    if (call->conn)
        h2_push(call->conn->h2, &call->stream);
    call_wake(call);
    return true;
}

size_t rpc_call_queued(const struct rpc_call *call)
{
    return h2_queued(&call->stream);
}

void call_send_status(struct rpc_call *call)
{
    struct error err;
    bool ok = true;
    call->delivered = true;
    if (call->headers_out)
        h2_end(call->conn->h2, &call->stream, true);
    else
        ok = headers_send_response(call, true, &err);
    if (!ok)
        h2_reset(call->conn->h2, call->stream.id, H2_INTERNAL_ERROR);
    call_wake(call);
}

/* Server: the handler's one answer; `why` null is OK. */
static void answer(struct rpc_call *call, const struct error *why)
{
    if (!call->server || call->answered)
        return;
    call->answered = true;
    if (!call->dead && call->conn) {
        if (why)
            call_set_failure(call, why);
        call->dead = true;
        call_drop_input(call);
        call_send_status(call);
    }
    if (call->served)
        rpc_call_unref(call);
}

void rpc_reply(struct rpc_call *call, const ProtobufCMessage *response)
{
    struct error err;
    if (call->dead || call->answered || rpc_send(call, response, &err))
        answer(call, nullptr);
    else
        answer(call, &err);
}

void rpc_finish(struct rpc_call *call)
{
    answer(call, nullptr);
}

void rpc_fail(struct rpc_call *call, const struct error *why)
{
    answer(call, why);
}

void call_serve(struct rpc_call *call, const ProtobufCMessage *request)
{
    struct error err;
    call->served = true;
    rpc_call_ref(call);
    if (call->method->serve(call->handlers, call->handlers_arg, call, request))
        return;
    error_set(&err, ERROR_UNIMPLEMENTED, "%s is not implemented here", call->method->path);
    answer(call, &err);
}

/* ---- Client ---- */

void rpc_call_close_send(struct rpc_call *call)
{
    if (call->server || call->send_closed || call->dead)
        return;
    call->send_closed = true;
    if (call->conn)
        h2_end(call->conn->h2, &call->stream, false);
    else
        call->stream.ending = true;
    call_wake(call);
}

void rpc_call_cancel(struct rpc_call *call)
{
    struct error why;
    if (call->server || call->over || call->cancelling)
        return;
    call->cancelling = true;
    error_set(&why, ERROR_CANCELLED, "the caller has cancelled the call");
    call_set_failure(call, &why);
    call->dead = true;
    if (call->conn && call->stream.open)
        h2_reset(call->conn->h2, call->stream.id, H2_CANCEL);
    if (call->conn)
        tick_soon(call);
    else if (call->withdraw)
        call->withdraw(call->withdraw_arg, call);
}

struct rpc_call *rpc_call_drop(struct rpc_call *call)
{
    if (!call)
        return nullptr;
    call->dropped = true;
    call->events = nullptr;
    rpc_call_cancel(call);
    return nullptr;
}

bool rpc_call_new(const struct rpc_method *method, const struct rpc_call_options *options,
                  const struct rpc_limits *limits, const ProtobufCMessage *request,
                  rpc_function *typed, const struct rpc_call_events *events, void *arg,
                  uint64_t now, struct rpc_call **ret, struct error *err)
{
    CLEANUP(rpc_call_unref_at) struct rpc_call *call = call_alloc(limits);
    if (!call)
        return error_set_memory(err);
    call->method = method;
    call->path = method->path;
    call->typed = typed;
    call->events = events;
    call->arg = arg;
    call->streams_in = method->kind == RPC_SERVER_STREAM || method->kind == RPC_BIDI;
    call->streams_out = method->kind == RPC_CLIENT_STREAM || method->kind == RPC_BIDI;
    for (size_t i = 0; options && i < options->metadata_count; i++)
        if (!metadata_add(&call->out_headers, &options->metadata[i], err))
            return false;
    if (options && options->timeout_ms > 0 && options->timeout_ms < UINT64_MAX - now)
        call->deadline = now + options->timeout_ms;
    if (!call->streams_out) {
        if (!queue_message(call, request, err))
            return false;
        call->send_closed = call->stream.ending = true;
    }
    *ret = TAKE(call);
    return true;
}

void rpc_call_end(struct rpc_call *call, const struct error *why)
{
    call_set_failure(call, why);
    call_finish(call);
}

/* ---- Receiving, and what is known of a call ---- */

void rpc_call_on(struct rpc_call *call, const struct rpc_call_events *events, void *arg)
{
    if (!call->server)
        return;
    call->events = events;
    call->arg = arg;
}

void *rpc_call_arg(const struct rpc_call *call)
{
    return call->arg;
}

void rpc_call_pause(struct rpc_call *call)
{
    call->paused = true;
}

void rpc_call_resume(struct rpc_call *call)
{
    if (!call->paused)
        return;
    call->paused = false;
    rpc_call_ref(call);
    call_advance(call);
    if (call->over && !call->stream.open)
        tick_soon(call); /* which lets go of it */
    call_wake(call);     /* the window, if it was renewed */
    rpc_call_unref(call);
}

bool rpc_call_metadata(const struct rpc_call *call, const char *key, size_t index,
                       struct slice *ret_value)
{
    return metadata_find(&call->in, key, index, ret_value);
}

bool rpc_call_add_header(struct rpc_call *call, const struct rpc_metadatum *item, struct error *err)
{
    if (!call->server || call->headers_out || call->answered)
        return error_set(err, ERROR_CONFLICT, "the headers were sent already");
    return metadata_add(&call->out_headers, item, err);
}

bool rpc_call_add_trailer(struct rpc_call *call, const struct rpc_metadatum *item,
                          struct error *err)
{
    if (!call->server || call->answered)
        return error_set(err, ERROR_CONFLICT, "the call was answered already");
    return metadata_add(&call->out_trailers, item, err);
}

const char *rpc_call_path(const struct rpc_call *call)
{
    return call->path;
}

uint64_t rpc_call_deadline(const struct rpc_call *call)
{
    return call->deadline;
}

bool rpc_call_is_dead(const struct rpc_call *call)
{
    return call->dead;
}

const struct rpc_peer *rpc_call_peer(const struct rpc_call *call)
{
    return call->conn ? call->conn->options.peer : nullptr;
}
