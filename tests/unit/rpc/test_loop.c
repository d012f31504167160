/* Server and client on a real loop, over TCP and Unix sockets. */
#include "unit/rpc/echo.h"

#include "testlib/testlib.h"

#include "base/clock.h"
#include "base/mem.h"
#include "loop/loop.h"
#include "pb/message.h"
#include "rpc/client.h"
#include "rpc/server.h"

#include <stdio.h>
#include <unistd.h>

struct world {
    struct loop *loop;
    struct rpc_server *server;
    struct rpc_client *client;
    struct address address;
    struct echo echo;
    char folder[64];
    struct timer guard;
    /* What `until` waits for: the counter that it points at to reach a number. */
    const unsigned *counter;
    unsigned target;
    enum rpc_client_state states[32];
    unsigned state_count;
    struct error state_error;
    unsigned drained;
    /* What the server knew of its last caller. */
    struct stream_peer credentials;
    bool local, pidfd_ok, allowed;
    /* Of the hooks for connections. */
    const struct rpc_peer *peer;
    unsigned accepted, refused, gone;
    bool closed;
};

static bool authorize(void *arg, const struct rpc_call *call, struct error *err)
{
    struct world *world = arg;
    const struct rpc_peer *peer = rpc_call_peer(call);
    int fd;
    world->local = peer->local;
    world->credentials = peer->credentials;
    world->pidfd_ok = rpc_peer_pidfd(peer, &fd, err);
    if (world->pidfd_ok)
        close(fd);
    if (!world->allowed)
        return error_set_reason(err, ERROR_DENIED, "NOT_FOR_YOU", "%s is not for you",
                                rpc_call_path(call));
    return true;
}

static void state_changed(void *arg, enum rpc_client_state state, const struct error *why)
{
    struct world *world = arg;
    if (world->state_count < ARRAY_LEN(world->states))
        world->states[world->state_count] = state;
    world->state_count++;
    if (why)
        world->state_error = *why;
}

static void too_late(void *arg)
{
    struct world *world = arg;
    loop_stop(world->loop);
}

/* One round of the loop at a time, until *counter ≥ target. */
static void step(void *arg)
{
    struct world *world = arg;
    loop_stop(world->loop);
}

static void until(struct world *world, const unsigned *counter, unsigned target)
{
    uint64_t end = clock_boot_ms() + 10'000;
    while (*counter < target && clock_boot_ms() < end) {
        struct timer tick;
        timer_init(&tick, world->loop, step, world);
        timer_start(&tick, 1);
        loop_run(world->loop);
        timer_stop(&tick);
    }
    assert_true(*counter >= target);
}

static void listen_at(struct world *world, const char *text)
{
    struct error err = {0};
    struct rpc_listen_options listen = {.mode = 0600, .group = LISTENER_GROUP_KEEP};
    assert_ok(address_parse(text, &listen.address, &err));
    assert_ok(rpc_server_listen(world->server, &listen, &world->address, &err));
}

static void make_server(struct world *world)
{
    struct error err = {0};
    struct rpc_server_options options = {.authorize = authorize, .authorize_arg = world};
    assert_ok(rpc_server_new(world->loop, &options, &world->server, &err));
    assert_ok(rpc_server_add(world->server, &echo_service, &echo_handlers, &world->echo, &err));
    assert_fails(rpc_server_add(world->server, &echo_service, &echo_handlers, nullptr, &err),
                 ERROR_EXISTS);
}

static void make_client(struct world *world)
{
    struct error err = {0};
    struct rpc_client_options options = {
        .state = state_changed, .state_arg = world, .backoff_first_ms = 20, .backoff_max_ms = 50};
    assert_ok(rpc_client_new(world->loop, &world->address, &options, &world->client, &err));
}

static int open_world(void **state)
{
    struct error err = {0};
    struct world *world = mem_new(1, sizeof(*world));
    assert_non_null(world);
    world->allowed = true;
    testlib_folder(world->folder);
    assert_ok(loop_new(&world->loop, &err));
    timer_init(&world->guard, world->loop, too_late, world);
    make_server(world);
    listen_at(world, "127.0.0.1:0");
    make_client(world);
    *state = world;
    return 0;
}

static int close_world(void **state)
{
    struct world *world = *state;
    if (world->echo.held)
        rpc_finish(world->echo.held);
    rpc_client_free(world->client);
    rpc_server_free(world->server);
    loop_free(world->loop);
    testlib_folder_remove(world->folder);
    mem_free(world);
    return 0;
}

static struct heard call(struct world *world, enum echo_method method,
                         const struct rpc_call_options *options, const Postern__Test__Note *request)
{
    struct heard heard = {0};
    (void)rpc_client_call(world->client, &echo_service.methods[method], options, &request->base,
                          nullptr, &heard_events, &heard);
    until(world, &heard.done, 1);
    return heard;
}

static void test_tcp(void **state)
{
    struct world *world = *state;
    Postern__Test__Note request = note("hello");
    struct heard heard = call(world, ECHO_UNARY, nullptr, &request);
    assert_int_equal(heard.error.class, ERROR_NONE);
    assert_string_equal(heard.text, "hello");
    assert_false(world->local);
    assert_false(world->pidfd_ok);
    request.count = 1000;
    heard = call(world, ECHO_DOWN, nullptr, &request);
    assert_int_equal(heard.messages, 1000);
    assert_int_equal(heard.error.class, ERROR_NONE);
    assert_int_equal(rpc_server_connections(world->server), 1);
    assert_int_equal(rpc_client_state(world->client), RPC_CLIENT_READY);
    assert_int_equal(world->state_count, 2); /* connecting, ready */
}

static void test_unix(void **state)
{
    struct world *world = *state;
    char path[128];
    (void)snprintf(path, sizeof(path), "unix:%s/rpc.sock", world->folder);
    listen_at(world, path);
    rpc_client_free(world->client);
    make_client(world);
    Postern__Test__Note request = note("big");
    request.count = 1'000'000;
    struct heard heard = call(world, ECHO_UNARY, nullptr, &request);
    assert_int_equal(heard.error.class, ERROR_NONE);
    assert_int_equal(heard.size, 1'000'000);
    assert_true(world->local);
    assert_int_equal(world->credentials.pid, getpid());
    assert_int_equal(world->credentials.uid, getuid());
}

static void test_sync(void **state)
{
    struct world *world = *state;
    struct error err = {0};
    ProtobufCMessage *message = POISON;
    Postern__Test__Note request = note("sync");
    assert_ok(rpc_client_call_sync(world->client, &echo_service.methods[ECHO_UNARY], nullptr,
                                   &request.base, &message, &err));
    assert_string_equal(((Postern__Test__Note *)message)->text, "sync");
    pb_free(message);
    message = POISON;
    world->allowed = false;
    assert_fails(rpc_client_call_sync(world->client, &echo_service.methods[ECHO_UNARY], nullptr,
                                      &request.base, &message, &err),
                 ERROR_DENIED);
    assert_string_equal(err.reason, "NOT_FOR_YOU");
    assert_ptr_equal(message, POISON);
    assert_int_equal(world->echo.served, 1);
}

/* Nobody listens: calls fail at once with the reason, or wait for it to come back. */
static void test_unavailable(void **state)
{
    struct world *world = *state;
    struct error err = {0};
    world->server = rpc_server_free(world->server);
    Postern__Test__Note request = note("x");
    struct heard heard = call(world, ECHO_UNARY, nullptr, &request);
    assert_int_equal(heard.error.class, ERROR_UNAVAILABLE);
    err = heard.error;
    assert_error_contains("cannot reach 127.0.0.1:");
    assert_int_equal(rpc_client_state(world->client), RPC_CLIENT_BACKOFF);

    struct heard waiting = {0};
    struct rpc_call_options patient = {.wait_for_ready = true};
    (void)rpc_client_call(world->client, &echo_service.methods[ECHO_UNARY], &patient, &request.base,
                          nullptr, nullptr, &waiting);
    heard = call(world, ECHO_UNARY, nullptr, &request); /* the impatient one fails */
    assert_int_equal(heard.error.class, ERROR_UNAVAILABLE);
    assert_int_equal(waiting.done, 0);
    char text[ADDRESS_TEXT_SIZE];
    make_server(world);
    listen_at(world, address_format(&world->address, text));
    until(world, &waiting.done, 1);
    assert_int_equal(waiting.error.class, ERROR_NONE);
}

/* A deadline while there is no connection. */
static void test_deadline_without_connection(void **state)
{
    struct world *world = *state;
    world->server = rpc_server_free(world->server);
    Postern__Test__Note request = note("x");
    struct rpc_call_options options = {.wait_for_ready = true, .timeout_ms = 60};
    uint64_t before = clock_boot_ms();
    struct heard heard = call(world, ECHO_UNARY, &options, &request);
    assert_int_equal(heard.error.class, ERROR_TIMEOUT);
    assert_in_range(clock_boot_ms() - before, 50, 5'000);
}

static void test_deadline(void **state)
{
    struct world *world = *state;
    Postern__Test__Note request = note("hold");
    struct rpc_call_options options = {.timeout_ms = 50};
    struct heard heard = call(world, ECHO_UNARY, &options, &request);
    assert_int_equal(heard.error.class, ERROR_TIMEOUT);
    until(world, &world->echo.closed, 1);
    assert_int_equal(world->echo.cancelled, 1);
}

/* 21: the connection is lost in the middle: UNAVAILABLE here, CANCELLED there; and it comes back. */
static void test_loss(void **state)
{
    struct world *world = *state;
    Postern__Test__Note request = note("hold");
    struct heard heard = {0};
    (void)rpc_client_call(world->client, &echo_service.methods[ECHO_UNARY], nullptr, &request.base,
                          nullptr, nullptr, &heard);
    until(world, &world->echo.served, 1);
    rpc_client_disconnect(world->client);
    assert_int_equal(heard.done, 0); /* not from within */
    until(world, &heard.done, 1);
    assert_int_equal(heard.error.class, ERROR_UNAVAILABLE);
    until(world, &world->echo.closed, 1);
    assert_int_equal(world->echo.cancel_class, ERROR_CANCELLED);
    struct rpc_call_options patient = {.wait_for_ready = true};
    request = note("again");
    heard = call(world, ECHO_UNARY, &patient, &request);
    assert_int_equal(heard.error.class, ERROR_NONE);
}

static void test_cancel_while_waiting(void **state)
{
    struct world *world = *state;
    struct heard heard = {0};
    Postern__Test__Note request = note("x");
    struct rpc_call *one = rpc_client_call(world->client, &echo_service.methods[ECHO_UNARY],
                                           nullptr, &request.base, nullptr, nullptr, &heard);
    struct heard dropped = {0};
    struct rpc_call *two = rpc_client_call(world->client, &echo_service.methods[ECHO_UNARY],
                                           nullptr, &request.base, nullptr, nullptr, &dropped);
    rpc_call_cancel(one);
    rpc_call_drop(two);
    assert_int_equal(heard.done, 0);
    until(world, &heard.done, 1);
    assert_int_equal(heard.error.class, ERROR_CANCELLED);
    heard = call(world, ECHO_UNARY, nullptr, &request);
    assert_int_equal(heard.error.class, ERROR_NONE);
    assert_int_equal(dropped.done, 0);
    assert_int_equal(world->echo.served, 1);
}

static void drained(void *arg)
{
    ((struct world *)arg)->drained++;
}

/* 16: GOAWAY in two steps: running calls end well, new ones are refused. */
static void test_drain(void **state)
{
    struct world *world = *state;
    struct heard heard = {0};
    Postern__Test__Note request = note("hold");
    (void)rpc_client_call(world->client, &echo_service.methods[ECHO_UNARY], nullptr, &request.base,
                          nullptr, nullptr, &heard);
    until(world, &world->echo.served, 1);
    rpc_server_drain(world->server, clock_boot_ms() + 5'000, drained, world);
    while (rpc_client_state(world->client) == RPC_CLIENT_READY) {
        unsigned once = world->state_count;
        until(world, &world->state_count, once + 1);
    }
    assert_int_equal(world->drained, 0);
    request = note("late");
    struct heard late = call(world, ECHO_UNARY, nullptr, &request);
    assert_int_equal(late.error.class, ERROR_UNAVAILABLE);
    assert_int_equal(heard.done, 0);
    Postern__Test__Note answer = note("in time");
    struct rpc_call *held = TAKE(world->echo.held);
    rpc_reply(held, &answer.base);
    until(world, &heard.done, 1);
    assert_string_equal(heard.text, "in time");
    until(world, &world->drained, 1);
    assert_int_equal(rpc_server_connections(world->server), 0);
}

static void test_drain_deadline(void **state)
{
    struct world *world = *state;
    struct heard heard = {0};
    Postern__Test__Note request = note("hold");
    (void)rpc_client_call(world->client, &echo_service.methods[ECHO_UNARY], nullptr, &request.base,
                          nullptr, nullptr, &heard);
    until(world, &world->echo.served, 1);
    rpc_server_drain(world->server, clock_boot_ms() + 50, drained, world);
    until(world, &heard.done, 1);
    assert_int_equal(heard.error.class, ERROR_UNAVAILABLE);
    until(world, &world->drained, 1);
    assert_int_equal(world->echo.cancelled, 1);
}

/* More calls than the server takes at once wait in line. */
static void test_room(void **state)
{
    struct world *world = *state;
    static struct heard heard[400];
    Postern__Test__Note request = note("x");
    memset(heard, 0, sizeof(heard));
    for (size_t i = 0; i < ARRAY_LEN(heard); i++)
        (void)rpc_client_call(world->client, &echo_service.methods[ECHO_UNARY], nullptr,
                              &request.base, nullptr, nullptr, &heard[i]);
    for (size_t i = 0; i < ARRAY_LEN(heard); i++) {
        until(world, &heard[i].done, 1);
        assert_int_equal(heard[i].error.class, ERROR_NONE);
    }
}

/* The connection is replaced without hurting the call that runs on it. */
static void test_reconnect(void **state)
{
    struct world *world = *state;
    struct heard heard = {0};
    Postern__Test__Note request = note("hold");
    (void)rpc_client_call(world->client, &echo_service.methods[ECHO_UNARY], nullptr, &request.base,
                          nullptr, nullptr, &heard);
    until(world, &world->echo.served, 1);
    rpc_client_reconnect(world->client);
    request = note("new");
    struct rpc_call_options patient = {.wait_for_ready = true};
    struct heard other = call(world, ECHO_UNARY, &patient, &request);
    assert_int_equal(other.error.class, ERROR_NONE);
    assert_int_equal(heard.done, 0);
    Postern__Test__Note answer = note("old");
    struct rpc_call *held = TAKE(world->echo.held);
    rpc_reply(held, &answer.base);
    until(world, &heard.done, 1);
    assert_string_equal(heard.text, "old");
}

/* A handler that answers after its server is gone does no harm. */
static void test_late_answer(void **state)
{
    struct world *world = *state;
    struct heard heard = {0};
    Postern__Test__Note request = note("hold");
    (void)rpc_client_call(world->client, &echo_service.methods[ECHO_UNARY], nullptr, &request.base,
                          nullptr, nullptr, &heard);
    until(world, &world->echo.served, 1);
    struct rpc_call *held = rpc_call_ref(world->echo.held);
    world->server = rpc_server_free(world->server);
    assert_int_equal(world->echo.cancelled, 1);
    assert_int_equal(world->echo.closed, 1);
    assert_true(rpc_call_is_dead(held));
    assert_null(rpc_call_peer(held));
    rpc_reply(held, &request.base);
    rpc_call_unref(held);
    until(world, &heard.done, 1);
    assert_int_equal(heard.error.class, ERROR_UNAVAILABLE);
}

static unsigned silent_accepted;

static void keep_silent(void *arg, struct stream *stream)
{
    struct stream **kept = arg;
    *kept = stream;
    silent_accepted++;
}

/* A server that accepts and then says nothing: the attempt ends, and says why. */
static void test_silent_server(void **state)
{
    struct world *world = *state;
    struct error err = {0};
    struct listener *listener = nullptr;
    struct stream *kept = nullptr;
    struct listener_options options = {.max_streams = 4};
    struct rpc_client_options client = {
        .connect_timeout_ms = 50, .state = state_changed, .state_arg = world};
    assert_ok(address_parse("127.0.0.1:0", &options.address, &err));
    assert_ok(listener_new(world->loop, &options, keep_silent, &kept, &listener, &err));
    listener_address(listener, &world->address);
    rpc_client_free(world->client);
    assert_ok(rpc_client_new(world->loop, &world->address, &client, &world->client, &err));
    silent_accepted = 0;
    Postern__Test__Note request = note("x");
    struct heard heard = call(world, ECHO_UNARY, nullptr, &request);
    assert_int_equal(silent_accepted, 1);
    assert_int_equal(heard.error.class, ERROR_UNAVAILABLE);
    assert_int_equal(world->state_error.class, ERROR_TIMEOUT);
    err = heard.error;
    assert_error_contains("did not open the connection in time");
    stream_close(kept);
    listener_free(listener);
}

/* Calls that wait are counted; the one too many hears it at once. */
static void test_waiting_limit(void **state)
{
    struct world *world = *state;
    static struct heard many;
    struct heard last = {0};
    Postern__Test__Note request = note("x");
    struct rpc_call_options patient = {.wait_for_ready = true};
    world->server = rpc_server_free(world->server);
    many = (struct heard){0};
    for (size_t i = 0; i < RPC_CLIENT_WAITING_MAX; i++)
        assert_non_null(rpc_client_call(world->client, &echo_service.methods[ECHO_UNARY], &patient,
                                        &request.base, nullptr, nullptr, &many));
    assert_null(rpc_client_call(world->client, &echo_service.methods[ECHO_UNARY], &patient,
                                &request.base, nullptr, nullptr, &last));
    assert_int_equal(last.done, 1);
    assert_int_equal(last.error.class, ERROR_EXHAUSTED);
    struct heard stream = {0};
    assert_null(rpc_client_call(world->client, &echo_service.methods[ECHO_BOTH], &patient, nullptr,
                                nullptr, &heard_events, &stream));
    assert_int_equal(stream.error.class, ERROR_EXHAUSTED);
    world->client = rpc_client_free(world->client);
    assert_int_equal(many.done, RPC_CLIENT_WAITING_MAX);
    assert_int_equal(many.error.class, ERROR_CANCELLED);
}

/* A connection beyond the limit waits in the kernel's queue until another ends. */
static void test_connection_limit(void **state)
{
    struct world *world = *state;
    struct error err = {0};
    struct rpc_server_options options = {.limits = {.connections = 1}};
    struct rpc_client *second = nullptr;
    rpc_server_free(world->server);
    assert_ok(rpc_server_new(world->loop, &options, &world->server, &err));
    assert_ok(rpc_server_add(world->server, &echo_service, &echo_handlers, &world->echo, &err));
    listen_at(world, "127.0.0.1:0");
    rpc_client_free(world->client);
    make_client(world);
    Postern__Test__Note request = note("x");
    struct heard heard = call(world, ECHO_UNARY, nullptr, &request), other = {0};
    assert_int_equal(heard.error.class, ERROR_NONE);
    assert_ok(rpc_client_new(world->loop, &world->address, nullptr, &second, &err));
    (void)rpc_client_call(second, &echo_service.methods[ECHO_UNARY], nullptr, &request.base,
                          nullptr, nullptr, &other);
    heard = call(world, ECHO_UNARY, nullptr, &request);
    assert_int_equal(heard.error.class, ERROR_NONE);
    assert_int_equal(other.done, 0);
    assert_int_equal(rpc_server_connections(world->server), 1);
    rpc_client_disconnect(world->client);
    until(world, &other.done, 1);
    assert_int_equal(other.error.class, ERROR_NONE);
    rpc_client_free(second);
}

static bool accept_peer(void *arg, const struct rpc_peer *peer)
{
    struct world *world = arg;
    assert_true(peer->local);
    assert_int_equal(peer->credentials.pid, getpid());
    world->accepted += !world->closed;
    world->refused += world->closed;
    world->peer = peer;
    return !world->closed;
}

static void peer_gone(void *arg, const struct rpc_peer *peer)
{
    struct world *world = arg;
    assert_ptr_equal(peer, world->peer);
    world->gone++;
}

/* A program that says which connections stand is told of the end of each, and of no other. */
static void test_accept(void **state)
{
    struct world *world = *state;
    struct error err = {0};
    char text[128];
    const struct rpc_server_options options = {
        .accept = accept_peer, .gone = peer_gone, .accept_arg = world};
    Postern__Test__Note request = note("x");
    rpc_client_free(world->client);
    rpc_server_free(world->server);
    assert_ok(rpc_server_new(world->loop, &options, &world->server, &err));
    assert_ok(rpc_server_add(world->server, &echo_service, &echo_handlers, &world->echo, &err));
    (void)snprintf(text, sizeof(text), "unix:%s/s", world->folder);
    listen_at(world, text);
    make_client(world);
    assert_int_equal(call(world, ECHO_UNARY, nullptr, &request).error.class, ERROR_NONE);
    assert_int_equal(world->accepted, 1);
    rpc_client_disconnect(world->client);
    until(world, &world->gone, 1);
    /* Refused: the client sees no more than a connection that is lost; nothing is served. */
    unsigned served = world->echo.served;
    world->closed = true;
    assert_int_equal(call(world, ECHO_UNARY, nullptr, &request).error.class, ERROR_UNAVAILABLE);
    until(world, &world->refused, 1);
    assert_int_equal(world->echo.served, served);
    assert_int_equal(world->gone, 1);
    assert_int_equal(rpc_server_connections(world->server), 0);
    /* The server's own end counts, too. */
    world->closed = false;
    const struct rpc_call_options patient = {.wait_for_ready = true};
    assert_int_equal(call(world, ECHO_UNARY, &patient, &request).error.class, ERROR_NONE);
    world->server = rpc_server_free(world->server);
    assert_int_equal(world->gone, 2);
    assert_int_equal(world->accepted, 2);
}

static void test_service_limit(void **state)
{
    struct world *world = *state;
    struct error err = {0};
    static struct rpc_service services[64];
    static char names[64][8];
    size_t n = 0;
    for (; n < ARRAY_LEN(services); n++) {
        (void)snprintf(names[n], sizeof(names[n]), "s%zu", n);
        services[n].name = names[n];
        if (!rpc_server_add(world->server, &services[n], nullptr, nullptr, &err))
            break;
    }
    assert_int_equal(n, 31); /* and echo */
    assert_int_equal(err.class, ERROR_EXHAUSTED);
    assert_ptr_equal(rpc_server_service(world->server, 0), &echo_service);
    assert_null(rpc_server_service(world->server, 32));
}

#define WORLD(test) cmocka_unit_test_setup_teardown(test, open_world, close_world)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WORLD(test_tcp),
        WORLD(test_unix),
        WORLD(test_sync),
        WORLD(test_unavailable),
        WORLD(test_deadline_without_connection),
        WORLD(test_deadline),
        WORLD(test_loss),
        WORLD(test_cancel_while_waiting),
        WORLD(test_drain),
        WORLD(test_drain_deadline),
        WORLD(test_room),
        WORLD(test_reconnect),
        WORLD(test_late_answer),
        WORLD(test_silent_server),
        WORLD(test_waiting_limit),
        WORLD(test_connection_limit),
        WORLD(test_accept),
        WORLD(test_service_limit),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
