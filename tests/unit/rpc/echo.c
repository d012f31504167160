#include "unit/rpc/echo.h"

#include "base/mem.h"

#include <stdio.h>

const struct echo_handlers echo_handlers;

Postern__Test__Note note(const char *text)
{
    Postern__Test__Note message = POSTERN__TEST__NOTE__INIT;
    message.text = (char *)(uintptr_t)text;
    return message;
}

/* ---- Server ---- */

static void on_half_closed(void *arg, struct rpc_call *call)
{
    struct echo *echo = arg;
    echo->half_closed++;
    Postern__Test__Note answer = note("sum");
    answer.count = echo->messages;
    if (strstr(rpc_call_path(call), "/Up"))
        rpc_reply(call, &answer.base);
    else
        rpc_finish(call);
}

static void flood(struct echo *echo, struct rpc_call *call)
{
    static uint8_t payload[10'000];
    struct error err;
    Postern__Test__Note message = note("flood");
    message.payload = (ProtobufCBinaryData){sizeof(payload), payload};
    while (rpc_call_queued(call) < 100'000)
        if (rpc_send(call, &message.base, &err))
            echo->sent++;
        else
            break;
}

static void on_writable(void *arg, struct rpc_call *call)
{
    struct echo *echo = arg;
    echo->writable++;
    if (echo->flooding && echo->writable < 20)
        flood(echo, call);
    else if (echo->flooding)
        rpc_finish(call);
}

static void on_cancelled(void *arg, struct rpc_call *call, const struct error *why)
{
    struct echo *echo = arg;
    echo->cancelled++;
    echo->cancel_class = why->class;
    if (echo->held == call)
        echo->held = nullptr;
    rpc_fail(call, why);
}

static void on_closed(void *arg, struct rpc_call *call, const struct error *err)
{
    struct echo *echo = arg;
    (void)call;
    echo->closed++;
    echo->close_class = err ? err->class : ERROR_NONE;
}

static const struct rpc_call_events server_events = {
    .half_closed = on_half_closed,
    .writable = on_writable,
    .cancelled = on_cancelled,
    .closed = on_closed,
};

static void begin(struct echo *echo, struct rpc_call *call)
{
    struct slice value;
    rpc_call_on(call, &server_events, echo);
    if (rpc_call_metadata(call, "x-test", 0, &value))
        (void)snprintf(echo->metadata, sizeof(echo->metadata), "%.*s", (int)value.len,
                       (const char *)value.data);
}

static void answer_with_metadata(struct rpc_call *call)
{
    struct error err;
    Postern__Test__Note answer = note("meta");
    struct rpc_metadatum head = {"x-head", slice_str("h")};
    struct rpc_metadatum tail = {"x-tail-bin", slice("\0\xff", 2)};
    if (rpc_call_add_header(call, &head, &err) && rpc_call_add_trailer(call, &tail, &err))
        rpc_reply(call, &answer.base);
    else
        rpc_fail(call, &err);
}

static void answer_big(struct rpc_call *call, size_t size)
{
    Postern__Test__Note answer = note("big");
    answer.payload = (ProtobufCBinaryData){size, mem_new(1, size)};
    rpc_reply(call, &answer.base);
    mem_free(answer.payload.data);
}

static bool answer_special(struct echo *echo, struct rpc_call *call,
                           const Postern__Test__Note *request)
{
    if (strcmp(request->text, "hold") == 0)
        echo->held = call;
    else if (strcmp(request->text, "fail") == 0)
        rpc_fail(call, &echo->fail);
    else if (strcmp(request->text, "meta") == 0)
        answer_with_metadata(call);
    else if (strcmp(request->text, "big") == 0)
        answer_big(call, request->count);
    else if (strcmp(request->text, "flood") == 0)
        flood(echo, call);
    else
        return false;
    echo->flooding = strcmp(request->text, "flood") == 0;
    return true;
}

static bool serve_unary(const void *handlers, void *arg, struct rpc_call *call,
                        const ProtobufCMessage *request)
{
    struct echo *echo = arg;
    const Postern__Test__Note *message = (const Postern__Test__Note *)request;
    (void)handlers;
    echo->served++;
    echo->last_size = message->payload.len;
    begin(echo, call);
    if (!answer_special(echo, call, message))
        rpc_reply(call, request);
    return true;
}

static bool serve_down(const void *handlers, void *arg, struct rpc_call *call,
                       const ProtobufCMessage *request)
{
    struct echo *echo = arg;
    struct error err;
    const Postern__Test__Note *message = (const Postern__Test__Note *)request;
    (void)handlers;
    echo->served++;
    begin(echo, call);
    if (answer_special(echo, call, message))
        return true;
    for (uint32_t i = 0; i < message->count; i++)
        if (!rpc_send(call, request, &err)) {
            rpc_fail(call, &err);
            return true;
        }
    rpc_finish(call);
    return true;
}

static bool serve_stream(const void *handlers, void *arg, struct rpc_call *call,
                         const ProtobufCMessage *request)
{
    struct echo *echo = arg;
    (void)handlers;
    (void)request;
    echo->served++;
    begin(echo, call);
    return true;
}

static bool serve_missing(const void *handlers, void *arg, struct rpc_call *call,
                          const ProtobufCMessage *request)
{
    (void)handlers;
    (void)arg;
    (void)call;
    (void)request;
    return false;
}

static void up_message(const void *handlers, void *arg, struct rpc_call *call,
                       const ProtobufCMessage *message)
{
    struct echo *echo = arg;
    (void)handlers;
    echo->messages++;
    echo->last_size = ((const Postern__Test__Note *)message)->payload.len;
    if (echo->pause) {
        echo->held = call;
        rpc_call_pause(call);
    }
}

static void both_message(const void *handlers, void *arg, struct rpc_call *call,
                         const ProtobufCMessage *message)
{
    struct echo *echo = arg;
    struct error err;
    (void)handlers;
    echo->messages++;
    const Postern__Test__Note *request = (const Postern__Test__Note *)message;
    if (!answer_special(echo, call, request) && !rpc_send(call, message, &err))
        rpc_fail(call, &err);
}

/* ---- Client ---- */

static void hear(struct heard *heard, const Postern__Test__Note *message)
{
    heard->messages++;
    heard->size = message->payload.len;
    (void)snprintf(heard->text, sizeof(heard->text), "%s", message->text);
}

static void deliver_one(rpc_function *typed, void *arg, struct rpc_call *call,
                        const ProtobufCMessage *message, const struct error *err)
{
    struct heard *heard = arg;
    (void)typed;
    (void)call;
    heard->done++;
    if (err)
        heard->error = *err;
    if (message)
        hear(heard, (const Postern__Test__Note *)message);
}

static void deliver_many(rpc_function *typed, void *arg, struct rpc_call *call,
                         const ProtobufCMessage *message, const struct error *err)
{
    struct heard *heard = arg;
    (void)typed;
    (void)err;
    hear(heard, (const Postern__Test__Note *)message);
    if (heard->pause)
        rpc_call_pause(call);
}

static void heard_headers(void *arg, struct rpc_call *call)
{
    (void)call;
    ((struct heard *)arg)->headers++;
}

static void heard_writable(void *arg, struct rpc_call *call)
{
    (void)call;
    ((struct heard *)arg)->writable++;
}

static void heard_closed(void *arg, struct rpc_call *call, const struct error *err)
{
    struct heard *heard = arg;
    (void)call;
    heard->done++;
    if (err)
        heard->error = *err;
}

const struct rpc_call_events heard_events = {
    .headers = heard_headers,
    .writable = heard_writable,
    .closed = heard_closed,
};

#define TYPES                                                                                      \
    .request = &postern__test__note__descriptor, .response = &postern__test__note__descriptor
#define PATH "/postern.test.Echo/"

static const struct rpc_method methods[] = {
    [ECHO_UNARY] = {.name = "Unary",
                    .path = PATH "Unary",
                    .kind = RPC_UNARY,
                    TYPES,
                    .serve = serve_unary,
                    .deliver = deliver_one},
    [ECHO_DOWN] = {.name = "Down",
                   .path = PATH "Down",
                   .kind = RPC_SERVER_STREAM,
                   TYPES,
                   .serve = serve_down,
                   .deliver = deliver_many},
    [ECHO_UP] = {.name = "Up",
                 .path = PATH "Up",
                 .kind = RPC_CLIENT_STREAM,
                 TYPES,
                 .serve = serve_stream,
                 .serve_message = up_message,
                 .deliver = deliver_one},
    [ECHO_BOTH] = {.name = "Both",
                   .path = PATH "Both",
                   .kind = RPC_BIDI,
                   TYPES,
                   .serve = serve_stream,
                   .serve_message = both_message,
                   .deliver = deliver_many},
    [ECHO_MISSING] = {.name = "Missing",
                      .path = PATH "Missing",
                      .kind = RPC_UNARY,
                      TYPES,
                      .serve = serve_missing,
                      .deliver = deliver_one},
};

const struct rpc_service echo_service = {
    .name = "postern.test.Echo",
    .methods = methods,
    .method_count = ARRAY_LEN(methods),
};
