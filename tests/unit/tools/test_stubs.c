/* Generated stubs, called: server and client on one loop, over a Unix socket. */
#include "testlib/testlib.h"

#include "base/clock.h"
#include "base/mem.h"
#include "loop/loop.h"
#include "no-package.rpc.h"
#include "pb/message.h"
#include "peer/v2.rpc.h"
#include "rpc/client.h"
#include "rpc/server.h"

#include <stdio.h>

typedef Postern__TestPeer__V2__Ask Ask;
typedef Postern__TestPeer__V2__Answer Answer;
typedef Postern__TestPeer__V2__Odd Odd;
typedef Postern__TestPeer__V2__Odd__LowerCase LowerCase;
typedef Postern__TestPeer__V2__Odd__Inner2Deep Inner2Deep;

struct world {
    struct loop *loop;
    struct rpc_server *server;
    struct rpc_client *client;
    char folder[64];
    uint32_t asked; /* server: messages of a stream */
    /* What the client heard. */
    unsigned answers, ends;
    uint64_t last_count;
    char text[64];
    struct error error;
};

static char *text_of(const char *text)
{
    return (char *)(uintptr_t)text;
}

static Ask ask(const char *text)
{
    Ask message = POSTERN__TEST_PEER__V2__ASK__INIT;
    message.text = text_of(text);
    return message;
}

/* ---- Server ---- */

static void serve_unary(void *arg, struct rpc_call *call, const Ask *request)
{
    (void)arg;
    Answer answer = POSTERN__TEST_PEER__V2__ANSWER__INIT;
    answer.text = request->text;
    peer_v2_unary_reply(call, &answer);
}

static void serve_down(void *arg, struct rpc_call *call, const Ask *request)
{
    (void)arg;
    for (uint32_t i = 0; i < request->count; i++) {
        struct error err = {0};
        Answer answer = POSTERN__TEST_PEER__V2__ANSWER__INIT;
        answer.text = request->text;
        answer.count = i;
        assert_ok(peer_v2_down_send_response(call, &answer, &err));
    }
    rpc_finish(call);
}

static void up_half_closed(void *arg, struct rpc_call *call)
{
    struct world *world = arg;
    Answer answer = POSTERN__TEST_PEER__V2__ANSWER__INIT;
    answer.count = world->asked;
    peer_v2_up_reply(call, &answer);
}

static void serve_up(void *arg, struct rpc_call *call)
{
    struct world *world = arg;
    static const struct rpc_call_events events = {.half_closed = up_half_closed};
    world->asked = 0;
    rpc_call_on(call, &events, arg);
}

static void serve_up_message(void *arg, struct rpc_call *call, const Ask *message)
{
    struct world *world = arg;
    (void)call;
    assert_string_equal(message->text, "up");
    world->asked++;
}

static void both_half_closed(void *arg, struct rpc_call *call)
{
    (void)arg;
    rpc_finish(call);
}

static void serve_both(void *arg, struct rpc_call *call)
{
    static const struct rpc_call_events events = {.half_closed = both_half_closed};
    rpc_call_on(call, &events, arg);
}

static void serve_both_message(void *arg, struct rpc_call *call, const Ask *message)
{
    struct error err = {0};
    (void)arg;
    Answer answer = POSTERN__TEST_PEER__V2__ANSWER__INIT;
    answer.text = message->text;
    answer.count = message->count;
    assert_ok(peer_v2_both_send_response(call, &answer, &err));
}

static void serve_int8(void *arg, struct rpc_call *call,
                       const Postern__TestPeer__V2__Odd__Inner2Deep__XMLV3 *request)
{
    (void)arg;
    char text[16];
    (void)snprintf(text, sizeof(text), "%d", request->number);
    LowerCase answer = POSTERN__TEST_PEER__V2__ODD__LOWER_CASE__INIT;
    answer.text = text;
    oddnames2b__v2_int8_reply(call, &answer);
}

static void serve_spare(void *arg, struct rpc_call *call, const LowerCase *request)
{
    struct error err = {0};
    (void)arg;
    (void)request;
    Odd answer = POSTERN__TEST_PEER__V2__ODD__INIT;
    assert_ok(oddnames2b__v2_spare___part__send_response(call, &answer, &err));
    rpc_finish(call);
}

static void serve_code(void *arg, struct rpc_call *call)
{
    serve_both(arg, call);
}

static void serve_code_message(void *arg, struct rpc_call *call, const LowerCase *message)
{
    struct error err = {0};
    (void)arg;
    assert_string_equal(message->text, "code");
    Inner2Deep answer = POSTERN__TEST_PEER__V2__ODD__INNER2_DEEP__INIT;
    assert_ok(oddnames2b__v2_get_2_fa__code_send_response(call, &answer, &err));
}

static void serve_lone(void *arg, struct rpc_call *call, const Ask *request)
{
    (void)arg;
    Own answer = __OWN__INIT;
    answer.text = request->text;
    lone_ask_reply(call, &answer);
}

static const struct peer_v2_handlers peer_handlers = {
    .unary = serve_unary,
    .down = serve_down,
    .up = serve_up,
    .up_message = serve_up_message,
    .both = serve_both,
    .both_message = serve_both_message,
    .missing_up = serve_up, /* half of a pair is as good as none */
    .missing_both_message = serve_both_message,
};
static const struct oddnames2b__v2_handlers odd_handlers = {
    .int8 = serve_int8,
    .spare___part_ = serve_spare,
    .get_2_fa__code = serve_code,
    .get_2_fa__code_message = serve_code_message,
};
static const struct lone_handlers lone_handlers = {.ask = serve_lone};

/* ---- Client ---- */

static void tick(void *arg)
{
    loop_stop(arg);
}

static void until_end(struct world *world)
{
    uint64_t deadline = clock_boot_ms() + 10'000;
    while (world->ends == 0 && clock_boot_ms() < deadline) {
        struct timer timer;
        timer_init(&timer, world->loop, tick, world->loop);
        timer_start(&timer, 1);
        loop_run(world->loop);
        timer_stop(&timer);
    }
    assert_int_equal(world->ends, 1);
    world->ends = 0;
}

static void ended(struct world *world, const struct error *err)
{
    world->ends++;
    world->error = err ? *err : (struct error){0};
}

static void on_done(void *arg, const Answer *response, const struct error *err)
{
    struct world *world = arg;
    assert_int_equal(response == nullptr, err != nullptr);
    if (response) {
        world->answers++;
        world->last_count = response->count;
        (void)snprintf(world->text, sizeof(world->text), "%s", response->text);
    }
    ended(world, err);
}

static void on_answer(void *arg, struct rpc_call *call, const Answer *message)
{
    struct world *world = arg;
    (void)call;
    world->answers++;
    world->last_count = message->count;
}

static void on_odd(void *arg, struct rpc_call *call, const Odd *message)
{
    struct world *world = arg;
    (void)call;
    assert_null(message->inner);
    world->answers++;
}

static void on_deep(void *arg, struct rpc_call *call, const Inner2Deep *message)
{
    struct world *world = arg;
    assert_null(message->deep);
    world->answers++;
    rpc_call_close_send(call);
}

static void on_closed(void *arg, struct rpc_call *call, const struct error *err)
{
    (void)call;
    ended(arg, err);
}

static const struct rpc_call_events events = {.closed = on_closed};

static int open_world(void **state)
{
    struct error err = {0};
    struct world *world = mem_new(1, sizeof(*world));
    assert_non_null(world);
    testlib_folder(world->folder);
    struct rpc_listen_options listen = {.mode = 0600, .group = LISTENER_GROUP_KEEP};
    char text[128];
    (void)snprintf(text, sizeof(text), "unix:%s/s", world->folder);
    assert_ok(address_parse(text, &listen.address, &err));
    assert_ok(loop_new(&world->loop, &err));
    assert_ok(rpc_server_new(world->loop, nullptr, &world->server, &err));
    assert_ok(peer_v2_register(world->server, &peer_handlers, world, &err));
    assert_fails(peer_v2_register(world->server, &peer_handlers, world, &err), ERROR_EXISTS);
    assert_ok(oddnames2b__v2_register(world->server, &odd_handlers, world, &err));
    assert_ok(lone_register(world->server, &lone_handlers, world, &err));
    assert_ok(rpc_server_listen(world->server, &listen, nullptr, &err));
    assert_ok(rpc_client_new(world->loop, &listen.address, nullptr, &world->client, &err));
    *state = world;
    return 0;
}

static int close_world(void **state)
{
    struct world *world = *state;
    rpc_client_free(world->client);
    rpc_server_free(world->server);
    loop_free(world->loop);
    testlib_folder_remove(world->folder);
    mem_free(world);
    return 0;
}

static void test_unary(void **state)
{
    struct world *world = *state;
    Ask request = ask("one");
    assert_non_null(peer_v2_unary(world->client, nullptr, &request, on_done, world));
    until_end(world);
    assert_int_equal(world->error.class, ERROR_NONE);
    assert_string_equal(world->text, "one");
}

static void test_sync(void **state)
{
    struct world *world = *state;
    struct error err = {0};
    Ask request = ask("sync");
    CLEANUP(pb_free_at) Answer *answer = POISON;
    assert_ok(peer_v2_unary_sync(world->client, nullptr, &request, &answer, &err));
    assert_string_equal(answer->text, "sync");

    Answer *none = POISON;
    assert_fails(peer_v2_missing_sync(world->client, nullptr, &request, &none, &err),
                 ERROR_UNIMPLEMENTED);
    assert_ptr_equal(none, POISON);
}

static void test_down(void **state)
{
    struct world *world = *state;
    Ask request = ask("down");
    request.count = 20;
    assert_non_null(peer_v2_down(world->client, nullptr, &request, on_answer, &events, world));
    until_end(world);
    assert_int_equal(world->error.class, ERROR_NONE);
    assert_int_equal(world->answers, 20);
    assert_int_equal(world->last_count, 19);
}

static void test_up(void **state)
{
    struct world *world = *state;
    struct error err = {0};
    struct rpc_call *call = peer_v2_up(world->client, nullptr, on_done, nullptr, world);
    assert_non_null(call);
    Ask request = ask("up");
    for (int i = 0; i < 20; i++)
        assert_ok(peer_v2_up_send_request(call, &request, &err));
    rpc_call_close_send(call);
    until_end(world);
    assert_int_equal(world->error.class, ERROR_NONE);
    assert_int_equal(world->answers, 1);
    assert_int_equal(world->last_count, 20);
}

static void test_both(void **state)
{
    struct world *world = *state;
    struct error err = {0};
    struct rpc_call *call = peer_v2_both(world->client, nullptr, on_answer, &events, world);
    assert_non_null(call);
    Ask request = ask("both");
    for (request.count = 0; request.count < 20; request.count++)
        assert_ok(peer_v2_both_send_request(call, &request, &err));
    rpc_call_close_send(call);
    until_end(world);
    assert_int_equal(world->error.class, ERROR_NONE);
    assert_int_equal(world->answers, 20);
    assert_int_equal(world->last_count, 19);
}

/* Without handlers, or with one of two: every kind is UNIMPLEMENTED, and names its path. */
static void test_missing(void **state)
{
    struct world *world = *state;
    Ask request = ask("x");
    assert_non_null(peer_v2_missing(world->client, nullptr, &request, on_done, world));
    until_end(world);
    assert_int_equal(world->error.class, ERROR_UNIMPLEMENTED);
    assert_non_null(
        peer_v2_missing_down(world->client, nullptr, &request, on_answer, &events, world));
    until_end(world);
    assert_int_equal(world->error.class, ERROR_UNIMPLEMENTED);
    assert_non_null(peer_v2_missing_up(world->client, nullptr, on_done, nullptr, world));
    until_end(world);
    assert_int_equal(world->error.class, ERROR_UNIMPLEMENTED);
    assert_non_null(peer_v2_missing_both(world->client, nullptr, on_answer, &events, world));
    until_end(world);
    assert_int_equal(world->error.class, ERROR_UNIMPLEMENTED);
    assert_int_equal(world->answers, 0);
}

static void test_odd_names(void **state)
{
    struct world *world = *state;
    struct error err = {0};
    Postern__TestPeer__V2__Odd__Inner2Deep__XMLV3 deep =
        POSTERN__TEST_PEER__V2__ODD__INNER2_DEEP__XML_V3__INIT;
    deep.number = -7;
    CLEANUP(pb_free_at) LowerCase *answer = nullptr;
    assert_ok(oddnames2b__v2_int8_sync(world->client, nullptr, &deep, &answer, &err));
    assert_string_equal(answer->text, "-7");

    LowerCase request = POSTERN__TEST_PEER__V2__ODD__LOWER_CASE__INIT;
    assert_non_null(
        oddnames2b__v2_spare___part_(world->client, nullptr, &request, on_odd, &events, world));
    until_end(world);
    assert_int_equal(world->answers, 1);

    request.text = text_of("code");
    struct rpc_call *call =
        oddnames2b__v2_get_2_fa__code(world->client, nullptr, on_deep, &events, world);
    assert_ok(oddnames2b__v2_get_2_fa__code_send_request(call, &request, &err));
    until_end(world);
    assert_int_equal(world->answers, 2);
}

static void test_no_package(void **state)
{
    struct world *world = *state;
    struct error err = {0};
    Ask request = ask("lone");
    CLEANUP(pb_free_at) Own *answer = nullptr;
    assert_ok(lone_ask_sync(world->client, nullptr, &request, &answer, &err));
    assert_string_equal(answer->text, "lone");
    assert_string_equal(lone_definition.methods[0].path, "/Lone/Ask");

    /* Another service of the same method, and not registered. */
    Own own = __OWN__INIT;
    Own *none = POISON;
    assert_fails(lone2_ask_sync(world->client, nullptr, &own, &none, &err), ERROR_UNIMPLEMENTED);
    assert_ptr_equal(none, POISON);
}

static void test_definitions(void **state)
{
    (void)state;
    assert_string_equal(peer_v2_definition.name, "postern.test_peer.v2.Peer");
    assert_int_equal(peer_v2_definition.method_count, 8);
    assert_string_equal(oddnames2b__v2_definition.name, "postern.test_peer.v2.ODDNames2b_");
    static const struct {
        const char *path;
        enum rpc_kind kind;
    } expected[] = {
        {"/postern.test_peer.v2.ODDNames2b_/INT8", RPC_UNARY},
        {"/postern.test_peer.v2.ODDNames2b_/Spare__Part_", RPC_SERVER_STREAM},
        {"/postern.test_peer.v2.ODDNames2b_/type_Of", RPC_CLIENT_STREAM},
        {"/postern.test_peer.v2.ODDNames2b_/get_2FA_Code", RPC_BIDI},
        {"/postern.test_peer.v2.ODDNames2b_/HTTPGet2", RPC_UNARY},
        {"/postern.test_peer.v2.ODDNames2b_/Message", RPC_UNARY},
    };
    assert_int_equal(oddnames2b__v2_definition.method_count, ARRAY_LEN(expected));
    for (size_t i = 0; i < ARRAY_LEN(expected); i++) {
        const struct rpc_method *method = &oddnames2b__v2_definition.methods[i];
        assert_string_equal(method->path, expected[i].path);
        assert_int_equal(method->kind, expected[i].kind);
        assert_string_equal(method->name, strrchr(method->path, '/') + 1);
    }
    assert_true(*peer_v2_definition.files_len > 0);
    assert_ptr_equal(peer_v2_definition.files, oddnames2b__v2_definition.files);
}

#define WORLD(test) cmocka_unit_test_setup_teardown(test, open_world, close_world)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WORLD(test_unary),     WORLD(test_sync),       WORLD(test_down),
        WORLD(test_up),        WORLD(test_both),       WORLD(test_missing),
        WORLD(test_odd_names), WORLD(test_no_package), cmocka_unit_test(test_definitions),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
