/*
 * The test server, on our side:  rpc-peer-server FOLDER TCP TLS STRICT CLASSICAL
 *
 * Serves postern.test_peer.v2.Peer, health and reflection on FOLDER/peer.sock and on four addresses:
 * plaintext; mutual TLS with the default groups; with post-quantum groups alone; with classical ones
 * alone. SIGTERM drains. server.py and server.js do the same with other makers' gRPC.
 */
#include "certificates.h"

#include "base/clock.h"
#include "base/mem.h"
#include "loop/loop.h"
#include "pb/message.h"
#include "peer/v2.rpc.h"
#include "rpc/health.h"
#include "rpc/reflection.h"
#include "rpc/server.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

typedef Postern__TestPeer__V2__Ask Ask;
typedef Postern__TestPeer__V2__Answer Answer;

constexpr size_t QUEUE_ENOUGH = 512 * 1024; /* then wait until the client reads */
constexpr uint64_t DRAIN_MS = 10'000;

struct server {
    struct loop *loop;
    struct rpc_server *rpc;
    struct rpc_health *health;
    uint64_t cancelled;
};

/* A call that is not answered at once. */
struct asked {
    struct server *server;
    struct rpc_call *call;
    Ask *ask; /* null for streams of requests */
    struct timer timer;
    uint64_t count, bytes; /* questions that came, or answers that went */
    bool answered;
};

static uint64_t remaining_ms(const struct rpc_call *call)
{
    uint64_t deadline = rpc_call_deadline(call);
    return deadline == UINT64_MAX ? 0 : deadline - clock_boot_ms();
}

/* What the question asks for instead of an answer; false if nothing. */
static bool failure(const Ask *ask, struct error *ret)
{
    if (ask->status == 0)
        return false;
    error_set_reason(ret, error_class_from_grpc(ask->status), ask->reason, "%s", ask->text);
    error_at_field(ret, ask->field);
    return true;
}

static void answer_init(Answer *answer, struct asked *asked, const Ask *ask)
{
    static uint8_t zeros[8 << 20];
    *answer = (Answer)POSTERN__TEST_PEER__V2__ANSWER__INIT;
    answer->text = ask->text;
    answer->payload = ask->payload;
    if (ask->size)
        answer->payload = (ProtobufCBinaryData){ask->size, zeros};
    answer->count = asked->count;
    answer->bytes = asked->bytes;
    answer->process = getpid();
    answer->cancelled = asked->server->cancelled;
    answer->remaining_ms = remaining_ms(asked->call);
}

/* Sends metadata back: "x-ask" as header "x-head", "x-ask-bin" as trailer "x-tail-bin". */
static bool echo_metadata(struct rpc_call *call, struct error *err)
{
    struct slice value;
    for (size_t i = 0; rpc_call_metadata(call, "x-ask", i, &value); i++) {
        if (!rpc_call_add_header(call, &(struct rpc_metadatum){"x-head", value}, err))
            return false;
    }
    for (size_t i = 0; rpc_call_metadata(call, "x-ask-bin", i, &value); i++) {
        if (!rpc_call_add_trailer(call, &(struct rpc_metadatum){"x-tail-bin", value}, err))
            return false;
    }
    return true;
}

/* ---- Calls that take their time ---- */

static void on_cancelled(void *arg, struct rpc_call *call, const struct error *why)
{
    struct asked *asked = arg;
    timer_stop(&asked->timer);
    if (!asked->answered) {
        asked->answered = true;
        asked->server->cancelled++;
        rpc_fail(call, why);
    }
}

static void on_closed(void *arg, struct rpc_call *call, const struct error *err)
{
    struct asked *asked = arg;
    (void)call;
    (void)err;
    timer_stop(&asked->timer);
    pb_free((ProtobufCMessage *)asked->ask);
    mem_free(asked);
}

static void asked_fail(struct asked *asked, const struct error *why)
{
    if (!asked->answered) {
        asked->answered = true;
        rpc_fail(asked->call, why);
    }
}

static bool ask_clone(const Ask *ask, Ask **ret, struct error *err)
{
    CLEANUP(buf_done) struct buf bytes;
    buf_init(&bytes, (size_t)8 << 20);
    ProtobufCMessage *message;
    if (!pb_pack(&ask->base, bytes.max, &bytes, err) ||
        !pb_unpack(ask->base.descriptor, buf_slice(&bytes), nullptr, &message, err))
        return false;
    *ret = (Ask *)message;
    return true;
}

/* Takes the call over; null if it could not, and the call is answered. */
static struct asked *asked_new(struct server *server, struct rpc_call *call, const Ask *ask,
                               const struct rpc_call_events *events, void (*fire)(void *arg))
{
    struct error err = {0};
    struct asked *asked = mem_new(1, sizeof(*asked));
    if (!asked || !echo_metadata(call, &err) || (ask && !ask_clone(ask, &asked->ask, &err))) {
        mem_free(asked);
        error_set_memory(&err);
        rpc_fail(call, &err);
        return nullptr;
    }
    asked->server = server;
    asked->call = call;
    timer_init(&asked->timer, server->loop, fire, asked);
    rpc_call_on(call, events, asked);
    return asked;
}

/* ---- Unary ---- */

static void unary_answer(void *arg)
{
    struct asked *asked = arg;
    struct error why;
    Answer answer;
    if (failure(asked->ask, &why)) {
        asked_fail(asked, &why);
        return;
    }
    answer_init(&answer, asked, asked->ask);
    asked->answered = true;
    peer_v2_unary_reply(asked->call, &answer);
}

static void serve_unary(void *arg, struct rpc_call *call, const Ask *ask)
{
    static const struct rpc_call_events events = {.cancelled = on_cancelled, .closed = on_closed};
    struct server *server = arg;
    struct error err;
    bool serving = strcmp(ask->text, "health on") == 0;
    if ((serving || strcmp(ask->text, "health off") == 0) &&
        !rpc_health_set(server->health, "toggled", serving, &err)) {
        rpc_fail(call, &err);
        return;
    }
    struct asked *asked = asked_new(server, call, ask, &events, unary_answer);
    if (!asked || ask->hold)
        return;
    if (ask->delay_ms)
        timer_start(&asked->timer, ask->delay_ms);
    else
        unary_answer(asked);
}

/* ---- A stream of answers ---- */

static void down_answer(void *arg)
{
    struct asked *asked = arg;
    struct error err;
    while (!asked->answered && asked->count < asked->ask->count) {
        if (rpc_call_queued(asked->call) > QUEUE_ENOUGH)
            return;
        Answer answer;
        answer_init(&answer, asked, asked->ask);
        if (!peer_v2_down_send_response(asked->call, &answer, &err)) {
            asked_fail(asked, &err);
            return;
        }
        asked->count++;
        if (asked->ask->delay_ms && asked->count < asked->ask->count) {
            timer_start(&asked->timer, asked->ask->delay_ms);
            return;
        }
    }
    if (asked->answered || asked->ask->hold)
        return;
    if (failure(asked->ask, &err)) {
        asked_fail(asked, &err);
        return;
    }
    asked->answered = true;
    rpc_finish(asked->call);
}

static void on_down_writable(void *arg, struct rpc_call *call)
{
    struct asked *asked = arg;
    (void)call;
    if (!asked->ask->delay_ms)
        down_answer(asked);
}

static void serve_down(void *arg, struct rpc_call *call, const Ask *ask)
{
    static const struct rpc_call_events events = {
        .writable = on_down_writable, .cancelled = on_cancelled, .closed = on_closed};
    struct asked *asked = asked_new(arg, call, ask, &events, down_answer);
    if (!asked)
        return;
    if (ask->delay_ms)
        timer_start(&asked->timer, ask->delay_ms);
    else
        down_answer(asked);
}

/* ---- A stream of questions ---- */

static void on_up_end(void *arg, struct rpc_call *call)
{
    struct asked *asked = arg;
    Ask none = POSTERN__TEST_PEER__V2__ASK__INIT;
    Answer answer;
    if (asked->answered)
        return;
    answer_init(&answer, asked, &none);
    asked->answered = true;
    peer_v2_up_reply(call, &answer);
}

static void serve_up(void *arg, struct rpc_call *call)
{
    static const struct rpc_call_events events = {
        .half_closed = on_up_end, .cancelled = on_cancelled, .closed = on_closed};
    (void)asked_new(arg, call, nullptr, &events, nullptr);
}

/* True if this question is the last, by its own will. */
static bool ends_here(struct asked *asked, const Ask *ask)
{
    struct error why;
    asked->count++;
    asked->bytes += ask->payload.len;
    if (asked->count < ask->after || !failure(ask, &why))
        return false;
    asked_fail(asked, &why);
    return true;
}

static void serve_up_message(void *arg, struct rpc_call *call, const Ask *ask)
{
    struct asked *asked = rpc_call_arg(call);
    (void)arg;
    if (asked && !asked->answered)
        (void)ends_here(asked, ask);
}

/* ---- Both ---- */

static void on_both_end(void *arg, struct rpc_call *call)
{
    struct asked *asked = arg;
    if (asked->answered)
        return;
    asked->answered = true;
    rpc_finish(call);
}

static void on_both_writable(void *arg, struct rpc_call *call)
{
    (void)arg;
    rpc_call_resume(call);
}

static void serve_both(void *arg, struct rpc_call *call)
{
    static const struct rpc_call_events events = {.half_closed = on_both_end,
                                                  .writable = on_both_writable,
                                                  .cancelled = on_cancelled,
                                                  .closed = on_closed};
    (void)asked_new(arg, call, nullptr, &events, nullptr);
}

static void serve_both_message(void *arg, struct rpc_call *call, const Ask *ask)
{
    struct asked *asked = rpc_call_arg(call);
    struct error err;
    Answer answer;
    (void)arg;
    if (!asked || asked->answered || ends_here(asked, ask))
        return;
    answer_init(&answer, asked, ask);
    if (!peer_v2_both_send_response(call, &answer, &err))
        asked_fail(asked, &err);
    else if (rpc_call_queued(call) > QUEUE_ENOUGH)
        rpc_call_pause(call);
}

static const struct peer_v2_handlers handlers = {
    .unary = serve_unary,
    .down = serve_down,
    .up = serve_up,
    .up_message = serve_up_message,
    .both = serve_both,
    .both_message = serve_both_message,
};

/* ---- The process ---- */

static void on_drained(void *arg)
{
    struct server *server = arg;
    loop_stop(server->loop);
}

static void on_signal(void *arg, int number)
{
    struct server *server = arg;
    (void)number;
    rpc_health_stop(server->health);
    rpc_server_drain(server->rpc, clock_boot_ms() + DRAIN_MS, on_drained, server);
}

static bool listen_on(struct server *server, const char *address, struct tls_context *tls,
                      struct error *err)
{
    struct rpc_listen_options listen = {.tls = tls, .mode = 0600, .group = LISTENER_GROUP_KEEP};
    return address_parse(address, &listen.address, err) &&
           rpc_server_listen(server->rpc, &listen, nullptr, err);
}

static bool listen_on_all(struct server *server, char **argv, struct error *err)
{
    static const char *const groups[] = {nullptr, TLS_GROUPS_STRICT_PQ, "X25519:P-256"};
    char path[512];
    (void)snprintf(path, sizeof(path), "unix:%s/peer.sock", argv[1]);
    if (!listen_on(server, path, nullptr, err) || !listen_on(server, argv[2], nullptr, err))
        return false;
    for (size_t i = 0; i < ARRAY_LEN(groups); i++) {
        CLEANUP(tls_context_unref_at) struct tls_context *tls = nullptr;
        if (!certificates_open(argv[1], TLS_SERVER, groups[i], &tls, err) ||
            !listen_on(server, argv[3 + i], tls, err))
            return false;
    }
    return true;
}

static bool run(char **argv, struct error *err)
{
    struct server server = {0};
    CLEANUP(loop_free_at) struct loop *loop = nullptr;
    CLEANUP(rpc_health_free_at) struct rpc_health *health = nullptr;
    CLEANUP(rpc_server_free_at) struct rpc_server *rpc = nullptr;
    if (!loop_new(&loop, err) || !rpc_server_new(loop, nullptr, &rpc, err) ||
        !rpc_health_new(rpc, &health, err))
        return false;
    server = (struct server){.loop = loop, .rpc = rpc, .health = health};
    if (!rpc_reflection_add(rpc, err) || !peer_v2_register(rpc, &handlers, &server, err) ||
        !rpc_health_set(health, "", true, err) || !rpc_health_set(health, "toggled", true, err) ||
        !loop_on_signal(loop, SIGTERM, on_signal, &server, err) ||
        !listen_on_all(&server, argv, err))
        return false;
    puts("serving");
    (void)fflush(stdout);
    loop_run(loop);
    return true;
}

int main(int argc, char **argv)
{
    struct error err = {0};
    if (argc != 6) {
        fprintf(stderr, "usage: %s FOLDER TCP TLS STRICT CLASSICAL\n", argv[0]);
        return 2;
    }
    if (run(argv, &err))
        return 0;
    fprintf(stderr, "%s\n", err.message);
    return 1;
}
