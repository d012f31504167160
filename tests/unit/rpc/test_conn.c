/* The core, server against client, in memory. Numbers are those of the design's list for gRPC. */
#include "unit/rpc/pair.h"

#include "testlib/testlib.h"

#include "base/mem.h"

static int open_pair(void **state)
{
    struct error err = {0};
    struct pair *pair = mem_new(1, sizeof(*pair));
    assert_non_null(pair);
    assert_ok(pair_open(pair, &err));
    pair_run(pair);
    assert_true(pair->ready);
    *state = pair;
    return 0;
}

static int close_pair(void **state)
{
    struct pair *pair = *state;
    if (pair->echo.held) {
        rpc_finish(pair->echo.held);
        pair->echo.held = nullptr;
    }
    pair_close(pair);
    assert_null(mem_free(pair));
    return 0;
}

static struct heard unary(struct pair *pair, const Postern__Test__Note *request)
{
    struct heard heard = {0};
    (void)pair_call(pair, ECHO_UNARY, nullptr, request, &heard);
    pair_run(pair);
    return heard;
}

static void test_unary(void **state)
{
    struct pair *pair = *state;
    Postern__Test__Note request = note("hello");
    struct heard heard = unary(pair, &request);
    assert_int_equal(heard.done, 1);
    assert_int_equal(heard.error.class, ERROR_NONE);
    assert_string_equal(heard.text, "hello");
    assert_int_equal(pair->echo.served, 1);
    assert_int_equal(pair->echo.closed, 1);
    assert_int_equal(pair->echo.close_class, ERROR_NONE);
    assert_int_equal(pair->echo.cancelled, 0);
    assert_int_equal(rpc_conn_calls(pair->client), 0);
    assert_int_equal(rpc_conn_calls(pair->server), 0);
}

/* 7: an empty message is a message. */
static void test_empty_message(void **state)
{
    Postern__Test__Note request = note("");
    struct heard heard = unary(*state, &request);
    assert_int_equal(heard.error.class, ERROR_NONE);
    assert_int_equal(heard.messages, 1);
}

/* 7: the prefix does not care about DATA frames, nor the frames about reads. */
static void test_byte_by_byte(void **state)
{
    struct pair *pair = *state;
    static uint8_t payload[40'000];
    pair->chunk = 1;
    Postern__Test__Note request = note("bytes");
    request.payload = (ProtobufCBinaryData){sizeof(payload), payload};
    struct heard heard = unary(pair, &request);
    assert_int_equal(heard.error.class, ERROR_NONE);
    assert_int_equal(heard.size, sizeof(payload));
    struct heard both = {0};
    struct error err = {0};
    struct rpc_call *call = pair_call(pair, ECHO_BOTH, nullptr, nullptr, &both);
    for (int i = 0; i < 3; i++)
        assert_ok(rpc_send(call, &request.base, &err));
    rpc_call_close_send(call);
    pair_run(pair);
    assert_int_equal(both.messages, 3);
    assert_int_equal(both.done, 1);
    assert_int_equal(both.error.class, ERROR_NONE);
}

static void test_down(void **state)
{
    struct pair *pair = *state;
    struct heard heard = {0};
    Postern__Test__Note request = note("again");
    request.count = 5;
    (void)pair_call(pair, ECHO_DOWN, nullptr, &request, &heard);
    pair_run(pair);
    assert_int_equal(heard.messages, 5);
    assert_int_equal(heard.headers, 1);
    assert_int_equal(heard.done, 1);
    assert_int_equal(heard.error.class, ERROR_NONE);
    request.count = 0; /* a stream of nothing: Trailers-Only with OK */
    (void)pair_call(pair, ECHO_DOWN, nullptr, &request, &heard);
    pair_run(pair);
    assert_int_equal(heard.messages, 5);
    assert_int_equal(heard.done, 2);
    assert_int_equal(heard.error.class, ERROR_NONE);
}

static void test_up(void **state)
{
    struct pair *pair = *state;
    struct heard heard = {0};
    struct error err = {0};
    Postern__Test__Note request = note("up");
    struct rpc_call *call = pair_call(pair, ECHO_UP, nullptr, nullptr, &heard);
    for (int i = 0; i < 4; i++) {
        assert_ok(rpc_send(call, &request.base, &err));
        pair_run(pair);
    }
    assert_int_equal(heard.done, 0);
    rpc_call_close_send(call);
    pair_run(pair);
    assert_int_equal(heard.done, 1);
    assert_string_equal(heard.text, "sum");
    assert_int_equal(pair->echo.messages, 4);
    assert_int_equal(pair->echo.half_closed, 1);
    assert_int_equal(pair->echo.close_class, ERROR_NONE);
}

static void test_both(void **state)
{
    struct pair *pair = *state;
    struct heard heard = {0};
    struct error err = {0};
    struct rpc_call *call = pair_call(pair, ECHO_BOTH, nullptr, nullptr, &heard);
    for (unsigned i = 1; i <= 3; i++) { /* ping pong */
        Postern__Test__Note request = note("ping");
        assert_ok(rpc_send(call, &request.base, &err));
        pair_run(pair);
        assert_int_equal(heard.messages, i);
    }
    rpc_call_close_send(call);
    pair_run(pair);
    assert_int_equal(heard.done, 1);
    assert_int_equal(heard.error.class, ERROR_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_unary, open_pair, close_pair),
        cmocka_unit_test_setup_teardown(test_empty_message, open_pair, close_pair),
        cmocka_unit_test_setup_teardown(test_byte_by_byte, open_pair, close_pair),
        cmocka_unit_test_setup_teardown(test_down, open_pair, close_pair),
        cmocka_unit_test_setup_teardown(test_up, open_pair, close_pair),
        cmocka_unit_test_setup_teardown(test_both, open_pair, close_pair),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
