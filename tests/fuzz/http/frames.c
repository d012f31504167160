/*
 * HTTP/2 frames for the gRPC cores. The first byte says to which side (bit 0: the client) and in how
 * large pieces (bits 1 to 7; 0: whole); the rest is what the peer sends after its preface and an
 * empty SETTINGS. Whatever comes, each call ends exactly once, and no call survives its connection.
 */
#include "fuzz/fuzz.h"

#include "rpc/conn.h"
#include "unit/rpc/echo.h"

struct target {
    struct rpc_conn *conn;
    struct echo echo;
    struct heard heard[4];
    size_t calls;
    uint64_t now;
};

static bool route(void *arg, struct rpc_call *call, const struct rpc_method **ret_method,
                  const void **ret_handlers, void **ret_arg, struct error *err)
{
    struct target *target = arg;
    for (size_t i = 0; i < echo_service.method_count; i++) {
        if (strcmp(echo_service.methods[i].path, rpc_call_path(call)) != 0)
            continue;
        *ret_method = &echo_service.methods[i];
        *ret_handlers = &echo_handlers;
        *ret_arg = &target->echo;
        return true;
    }
    return error_set(err, ERROR_UNIMPLEMENTED, "no such method");
}

static const struct rpc_conn_events events = {.route = route};
/* Small, so that limits are within the fuzzer's reach. */
static const struct rpc_limits limits = {.message = 2000, .send_queue = 4000, .header_list = 1000};

static void start(struct target *target, enum echo_method method)
{
    struct error err;
    struct rpc_limits resolved = limits;
    struct rpc_call_options options = {.timeout_ms = 100'000};
    Postern__Test__Note request = note("x");
    struct heard *heard = &target->heard[target->calls++];
    bool streams = method == ECHO_UP || method == ECHO_BOTH;
    rpc_limits_resolve(&resolved);
    FUZZ_CHECK(rpc_call_new(&echo_service.methods[method], &options, &resolved,
                            streams ? nullptr : &request.base, nullptr, &heard_events, heard,
                            target->now, &heard->call, &err));
    rpc_conn_start(target->conn, heard->call, target->now);
    if (streams)
        FUZZ_CHECK(rpc_send(heard->call, &request.base, &err));
    heard->pause = method == ECHO_DOWN;
}

/* The outer program: sends what is due, now and then answers and reads on. */
static void turn(struct target *target)
{
    struct error err;
    CLEANUP(buf_done) struct buf out;
    buf_init(&out, (size_t)4 * 1024 * 1024);
    target->now += 10;
    rpc_conn_tick(target->conn, target->now);
    FUZZ_CHECK(rpc_conn_output(target->conn, 100'000, target->now, &out, &err));
    for (size_t i = 0; i < target->calls; i++)
        if (!target->heard[i].done && target->heard[i].pause)
            rpc_call_resume(target->heard[i].call);
    if (target->echo.held) {
        struct rpc_call *held = target->echo.held;
        target->echo.held = nullptr;
        rpc_finish(held);
    }
}

static void feed(struct target *target, struct slice bytes, size_t piece)
{
    struct error err;
    for (size_t at = 0; at < bytes.len; at += piece) {
        size_t n = bytes.len - at < piece ? bytes.len - at : piece;
        bool ok = rpc_conn_receive(target->conn, slice(bytes.data + at, n), target->now, &err);
        turn(target);
        if (!ok || rpc_conn_done(target->conn))
            return;
    }
}

enum fuzz_verdict fuzz_one(struct slice input)
{
    struct target target = {.now = 1'000'000};
    struct error err;
    unsigned messages = 0;
    if (input.len < 1)
        return FUZZ_REFUSED;
    bool server = (input.data[0] & 1) == 0;
    size_t piece = input.data[0] >> 1 ? input.data[0] >> 1 : input.len;
    struct rpc_conn_options options = {.server = server,
                                       .limits = limits,
                                       .events = &events,
                                       .arg = &target,
                                       .scheme = "http",
                                       .authority = "x"};
    struct slice rest = slice(input.data + 1, input.len - 1);
    FUZZ_CHECK(rpc_conn_new(&options, target.now, &target.conn, &err));
    if (server)
        feed(&target, slice_str("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 24);
    feed(&target, slice("\0\0\0\4\0\0\0\0\0", 9), 9);
    if (!server)
        for (enum echo_method m = ECHO_UNARY; m <= ECHO_BOTH; m++)
            start(&target, m);
    turn(&target);
    feed(&target, rest, piece);
    error_set(&err, ERROR_UNAVAILABLE, "the end");
    rpc_conn_lost(target.conn, &err);
    FUZZ_CHECK(rpc_conn_calls(target.conn) == 0);
    rpc_conn_free(target.conn);
    if (target.echo.held)
        rpc_finish(target.echo.held);
    for (size_t i = 0; i < target.calls; i++) {
        FUZZ_CHECK(target.heard[i].done == 1);
        messages += target.heard[i].messages;
    }
    FUZZ_CHECK(target.echo.closed == target.echo.served);
    return target.echo.served > 0 || messages > 0 ? FUZZ_ACCEPTED : FUZZ_REFUSED;
}
