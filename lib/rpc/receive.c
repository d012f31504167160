/* Messages out of DATA: the 5-byte prefix (PROTOCOL-HTTP2.md, "Length-Prefixed-Message"), limits,
 * unpacking, delivery, and giving the window back. */
#include "base/counter.h"
#include "base/mem.h"
#include "pb/message.h"
#include "rpc/core.h"

COUNTER(count_oversized, "postern_rpc_messages_oversized_total",
        "Messages refused because they are over the message limit.");

void call_refuse(struct rpc_call *call, const struct error *why)
{
    if (call->dead || call->over)
        return;
    call_drop_input(call);
    if (call->server) {
        struct error end = *why;
        if (call->served && !call->answered)
            call_cancelled(call, &end);
        call_set_failure(call, &end);
        call->dead = true;
        if (h2_queued(&call->stream) == 0)
            call_send_status(call);
        else
            h2_reset(call->conn->h2, call->stream.id, H2_CANCEL);
        return;
    }
    call_set_failure(call, why);
    call->dead = true;
    call->conn->next_deadline = 0; /* its end does not wait for the transport */
    h2_reset(call->conn->h2, call->stream.id, H2_CANCEL);
}

/* A peer's message that does not unpack. A field that is at fault is the caller's bad input; bytes
 * that are no message at all are INTERNAL, as every gRPC stack has it. */
static void unpack_failed(struct rpc_call *call, struct error *err)
{
    char c = err->field[0];
    bool named = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
    if (err->class == ERROR_INVALID && !(call->server && named)) {
        err->class = ERROR_INTERNAL;
        error_prefix(err, "cannot read the message");
    }
    call_refuse(call, err);
}

static void deliver(struct rpc_call *call, struct slice bytes)
{
    const struct rpc_method *method = call->method;
    const ProtobufCMessageDescriptor *type = call->server ? method->request : method->response;
    CLEANUP(pb_free_at) ProtobufCMessage *message = nullptr;
    struct pb_limits limits = pb_limits_rpc;
    struct error err;
    limits.size = call->limits.message;
    if (!call->streams_in && call->message) {
        error_set(&err, ERROR_UNIMPLEMENTED, "more than one message in a call that takes one");
        call_refuse(call, &err);
        return;
    }
    if (!pb_unpack(type, bytes, &limits, &message, &err)) {
        unpack_failed(call, &err);
        return;
    }
    if (!call->streams_in)
        call->message = TAKE(message);
    else if (call->server)
        method->serve_message(call->handlers, call->handlers_arg, call, message);
    else
        method->deliver(call->typed, call->arg, call, message, nullptr);
}

/* The prefix is whole: is the message welcome? Checked before anything is allocated for it. */
static bool prefix_ok(struct rpc_call *call)
{
    struct reader r = reader(slice(call->prefix, sizeof(call->prefix)));
    struct error err;
    uint8_t flag = reader_u8(&r);
    call->size = reader_u32(&r);
    if (flag != 0) {
        error_set(&err, ERROR_INTERNAL, "%s",
                  flag == 1 ? "a message is marked as compressed, without an encoding"
                            : "a message has an unknown flag");
        call_refuse(call, &err);
        return false;
    }
    if (call->size > call->limits.message) {
        counter_add(&count_oversized, 1);
        error_set_reason(&err, ERROR_EXHAUSTED, "MESSAGE_TOO_LARGE",
                         "a message of %u bytes is over the limit of %zu", call->size,
                         call->limits.message);
        call_refuse(call, &err);
        return false;
    }
    return true;
}

/* Takes what belongs to the prefix. True when it is whole. */
static bool read_prefix(struct rpc_call *call, struct slice *bytes)
{
    size_t n = RPC_PREFIX_SIZE - call->prefix_len;
    if (n > bytes->len)
        n = bytes->len;
    mem_copy(call->prefix + call->prefix_len, bytes->data, n);
    call->prefix_len = (uint8_t)(call->prefix_len + n);
    *bytes = slice(bytes->data + n, bytes->len - n);
    return call->prefix_len == RPC_PREFIX_SIZE;
}

/* Takes what belongs to the message, and delivers it when it is whole. */
static void read_message(struct rpc_call *call, struct slice *bytes)
{
    struct error err;
    size_t missing = call->size - call->partial.len;
    size_t n = missing < bytes->len ? missing : bytes->len;
    struct slice part = slice(bytes->data, n);
    *bytes = slice(bytes->data + n, bytes->len - n);
    if (n == missing && call->partial.len == 0) { /* the usual case: no copy */
        call->prefix_len = 0;
        deliver(call, part);
        return;
    }
    call->partial.max = call->size;
    buf_put(&call->partial, part); /* grows with what came, not with what was declared */
    if (!buf_ok(&call->partial, &err)) {
        call_refuse(call, &err);
        return;
    }
    if (n == missing) {
        call->prefix_len = 0;
        deliver(call, buf_slice(&call->partial));
        buf_done(&call->partial);
    }
}

/* One prefix or message, as far as it came. False when the call is refused. */
static bool read_step(struct rpc_call *call, struct slice *bytes)
{
    if (call->prefix_len < RPC_PREFIX_SIZE) {
        if (!read_prefix(call, bytes))
            return true;
        if (!prefix_ok(call))
            return false;
    }
    read_message(call, bytes);
    return true;
}

/* True when nothing that the peer sends matters any more. */
static bool is_deaf(const struct rpc_call *call)
{
    return call->dead || call->over || call->answered;
}

/* Reads until the bytes are used up, the call is paused, or nobody listens. Credits the peer with
 * what was read and returns what is left. */
static struct slice read_bytes(struct rpc_call *call, struct slice bytes)
{
    size_t before = bytes.len;
    call->reading = true;
    while (bytes.len > 0 && !is_deaf(call) && !call->paused && read_step(call, &bytes))
        ;
    call->reading = false;
    if (is_deaf(call))
        bytes.len = 0;
    if (call->conn)
        h2_consume(call->conn->h2, &call->stream, before - bytes.len);
    return bytes;
}

/* Keeps what can't be read now. The peer's window bounds it: it is not credited. */
static void keep(struct rpc_call *call, struct slice bytes)
{
    struct error err;
    buf_put(&call->backlog, bytes);
    if (!buf_ok(&call->backlog, &err))
        call_refuse(call, &err);
}

void call_receive(struct rpc_call *call, struct slice bytes)
{
    if (!is_deaf(call) && (call->paused || call->backlog.len > 0)) {
        keep(call, bytes);
        return;
    }
    struct slice left = read_bytes(call, bytes);
    if (left.len > 0)
        keep(call, left);
}

static void serve_one(struct rpc_call *call)
{
    struct error err;
    if (!call->message) {
        error_set(&err, ERROR_UNIMPLEMENTED, "no message in a call that takes one");
        call_refuse(call, &err);
        return;
    }
    CLEANUP(pb_free_at) ProtobufCMessage *message = TAKE(call->message);
    call_serve(call, message);
}

/* The peer has ended its side and all of it is read. */
static void input_ended(struct rpc_call *call)
{
    struct error err;
    if (call->prefix_len > 0 && !call->failure) {
        error_set(&err, ERROR_INTERNAL, "the last message was cut short");
        if (call->server) {
            call_refuse(call, &err);
            return;
        }
        call_set_failure(call, &err);
    }
    if (!call->server) {
        if (call->status_in)
            call_finish(call);
    } else if (!call->half_told) {
        call->half_told = true;
        if (!call->streams_in)
            serve_one(call);
        else if (call->events && call->events->half_closed)
            call->events->half_closed(call->arg, call);
    }
}

void call_advance(struct rpc_call *call)
{
    if (call->reading || call->over)
        return;
    while (call->backlog.len > 0 && !call->paused && !is_deaf(call)) {
        CLEANUP(buf_done) struct buf bytes = call->backlog;
        buf_init_wiping(&call->backlog, bytes.max);
        struct slice left = read_bytes(call, buf_slice(&bytes));
        if (left.len > 0)
            keep(call, left);
    }
    if (call->ended_in && !call->paused && !is_deaf(call))
        input_ended(call);
}
