/* How calls end: status and details, deadlines, cancellation, loss, flow control, lifetime. */
#include "unit/rpc/pair.h"

#include "testlib/testlib.h"

#include "base/mem.h"

static struct pair *make_pair(const struct rpc_limits *server, const struct rpc_limits *client)
{
    struct error err = {0};
    struct pair *pair = mem_new(1, sizeof(*pair));
    assert_non_null(pair);
    pair->server_limits = server;
    pair->client_limits = client;
    assert_ok(pair_open(pair, &err));
    pair_run(pair);
    return pair;
}

static int open_pair(void **state)
{
    *state = make_pair(nullptr, nullptr);
    return 0;
}

static void drop_pair(struct pair *pair)
{
    pair_close(pair);
    if (pair->echo.held)
        rpc_finish(pair->echo.held);
    mem_free(pair);
}

static int close_pair(void **state)
{
    drop_pair(*state);
    return 0;
}

static struct heard unary(struct pair *pair, const struct rpc_call_options *options,
                          const Postern__Test__Note *request)
{
    struct heard heard = {0};
    (void)pair_call(pair, ECHO_UNARY, options, request, &heard);
    pair_run(pair);
    return heard;
}

/* 11, 13: a failure arrives with class, reason and message, also what ASCII can't say. */
static void test_status(void **state)
{
    struct pair *pair = *state;
    Postern__Test__Note request = note("fail");
    error_set_reason(&pair->echo.fail, ERROR_CONFLICT, "NODE_CONTRAINDICATED",
                     "gesperrt: 100 %% \"müde\" \xf0\x9f\x94\x92");
    struct heard heard = unary(pair, nullptr, &request);
    assert_int_equal(heard.done, 1);
    assert_int_equal(heard.messages, 0);
    assert_int_equal(heard.error.class, ERROR_CONFLICT);
    assert_int_equal(heard.error.domain, ERROR_DOMAIN_GRPC);
    assert_int_equal(heard.error.code, 9);
    assert_string_equal(heard.error.reason, "NODE_CONTRAINDICATED");
    assert_string_equal(heard.error.message, pair->echo.fail.message);
    assert_int_equal(pair->echo.close_class, ERROR_NONE); /* it was delivered */
    error_set_field(&pair->echo.fail, "secrets[3].name", "too long");
    heard = unary(pair, nullptr, &request);
    assert_int_equal(heard.error.class, ERROR_INVALID);
    assert_string_equal(heard.error.field, "secrets[3].name");
}

static void test_unimplemented(void **state)
{
    struct pair *pair = *state;
    struct heard heard = {0};
    Postern__Test__Note request = note("x");
    (void)pair_call(pair, ECHO_MISSING, nullptr, &request, &heard);
    pair_run(pair);
    assert_int_equal(heard.error.class, ERROR_UNIMPLEMENTED);
    assert_int_equal(rpc_conn_calls(pair->server), 0);
}

/* The authorization comes before the method is looked up. */
static void test_denied(void **state)
{
    struct pair *pair = *state;
    pair->deny = true;
    Postern__Test__Note request = note("x");
    struct heard heard = unary(pair, nullptr, &request);
    assert_int_equal(heard.error.class, ERROR_DENIED);
    assert_string_equal(heard.error.reason, "NOT_YOU");
    assert_int_equal(pair->echo.served, 0);
}

/* 4: at the deadline both sides end, each by its own clock. */
static void test_deadline(void **state)
{
    struct pair *pair = *state;
    struct heard heard = {0};
    struct rpc_call_options options = {.timeout_ms = 500};
    Postern__Test__Note request = note("hold");
    (void)pair_call(pair, ECHO_UNARY, &options, &request, &heard);
    pair_run(pair);
    assert_non_null(pair->echo.held);
    assert_true(rpc_call_deadline(pair->echo.held) == pair->now + 500);
    assert_true(rpc_conn_next(pair->client) <= pair->now + 500);
    assert_true(rpc_conn_next(pair->server) <= pair->now + 500);
    pair_tick(pair, 499);
    assert_int_equal(heard.done, 0);
    pair_tick(pair, 1);
    assert_int_equal(heard.done, 1);
    assert_int_equal(heard.error.class, ERROR_TIMEOUT);
    assert_int_equal(pair->echo.cancelled, 1);
    assert_int_equal(pair->echo.cancel_class, ERROR_TIMEOUT);
    assert_int_equal(pair->echo.closed, 1);
    assert_int_equal(pair->echo.close_class, ERROR_TIMEOUT);
    assert_true(rpc_conn_next(pair->client) == UINT64_MAX);
    assert_true(rpc_conn_next(pair->server) == UINT64_MAX);
}

/* The server's own clock ends it where the client's is slow; the status says so. */
static void test_deadline_at_server(void **state)
{
    struct pair *pair = *state;
    struct heard heard = {0};
    struct rpc_call_options options = {.timeout_ms = 500};
    Postern__Test__Note request = note("hold");
    (void)pair_call(pair, ECHO_DOWN, &options, &request, &heard);
    pair_run(pair);
    rpc_conn_tick(pair->server, pair->now + 500);
    pair_run(pair);
    assert_int_equal(heard.done, 1);
    assert_int_equal(heard.error.class, ERROR_TIMEOUT);
    assert_int_equal(heard.error.domain, ERROR_DOMAIN_GRPC);
}

/* The client's deadline does not wait for a transport that is stuck. */
static void test_deadline_stuck(void **state)
{
    struct pair *pair = *state;
    struct heard heard = {0};
    struct rpc_call_options options = {.timeout_ms = 500};
    Postern__Test__Note request = note("x");
    (void)pair_call(pair, ECHO_UNARY, &options, &request, &heard);
    rpc_conn_tick(pair->client, pair->now + 500);
    assert_int_equal(heard.done, 1);
    assert_int_equal(heard.error.class, ERROR_TIMEOUT);
    pair_run(pair);
    assert_int_equal(rpc_conn_calls(pair->client), 0);
}

static void test_cancel(void **state)
{
    struct pair *pair = *state;
    struct heard heard = {0};
    Postern__Test__Note request = note("hold");
    struct rpc_call *call = pair_call(pair, ECHO_UNARY, nullptr, &request, &heard);
    pair_run(pair);
    rpc_call_cancel(call);
    assert_int_equal(heard.done, 0); /* never from within */
    pair_run(pair);
    assert_int_equal(heard.done, 1);
    assert_int_equal(heard.error.class, ERROR_CANCELLED);
    assert_int_equal(pair->echo.cancelled, 1);
    assert_int_equal(pair->echo.cancel_class, ERROR_CANCELLED);
    assert_int_equal(pair->echo.closed, 1);
    assert_null(pair->echo.held);
}

/* Before a byte was sent. */
static void test_cancel_at_once(void **state)
{
    struct pair *pair = *state;
    struct heard heard = {0};
    Postern__Test__Note request = note("x");
    rpc_call_cancel(pair_call(pair, ECHO_UNARY, nullptr, &request, &heard));
    pair_run(pair);
    assert_int_equal(heard.done, 1);
    assert_int_equal(heard.error.class, ERROR_CANCELLED);
    assert_int_equal(pair->echo.served, 0);
    assert_int_equal(rpc_conn_calls(pair->client), 0);
    heard = unary(pair, nullptr, &request); /* the connection is as good as new */
    assert_int_equal(heard.error.class, ERROR_NONE);
}

static void test_drop(void **state)
{
    struct pair *pair = *state;
    struct heard heard = {0};
    struct error err = {0};
    struct rpc_call *call = pair_call(pair, ECHO_BOTH, nullptr, nullptr, &heard);
    Postern__Test__Note request = note("x");
    assert_ok(rpc_send(call, &request.base, &err));
    pair_run(pair);
    assert_int_equal(heard.messages, 1);
    assert_null(rpc_call_drop(call));
    assert_null(rpc_call_drop(nullptr));
    pair_run(pair);
    assert_int_equal(heard.done, 0);
    assert_int_equal(pair->echo.closed, 1);
}

/* A handler that fails a stream in the middle: what was sent arrives, then the status (12: and the
 * client need not go on sending). */
static void test_fail_stream(void **state)
{
    struct pair *pair = *state;
    struct heard heard = {0};
    struct error err = {0};
    error_set(&pair->echo.fail, ERROR_NOT_FOUND, "no such thing");
    struct rpc_call *call = pair_call(pair, ECHO_BOTH, nullptr, nullptr, &heard);
    Postern__Test__Note request = note("one");
    assert_ok(rpc_send(call, &request.base, &err));
    request = note("fail");
    assert_ok(rpc_send(call, &request.base, &err));
    request = note("two");
    assert_ok(rpc_send(call, &request.base, &err));
    rpc_call_ref(call);
    pair_run(pair);
    assert_int_equal(heard.messages, 1);
    assert_int_equal(heard.done, 1);
    assert_int_equal(heard.error.class, ERROR_NOT_FOUND);
    assert_true(rpc_call_is_dead(call));
    assert_fails(rpc_send(call, &request.base, &err), ERROR_CANCELLED);
    rpc_call_close_send(call);
    rpc_call_cancel(call);
    rpc_call_unref(call);
    assert_int_equal(rpc_conn_calls(pair->client), 0);
    assert_int_equal(rpc_conn_calls(pair->server), 0);
}

/* 21 */
static void test_lost(void **state)
{
    struct pair *pair = *state;
    struct heard heard = {0}, stream = {0};
    struct error why = {0};
    Postern__Test__Note request = note("hold");
    (void)pair_call(pair, ECHO_UNARY, nullptr, &request, &heard);
    (void)pair_call(pair, ECHO_BOTH, nullptr, nullptr, &stream);
    pair_run(pair);
    error_set(&why, ERROR_UNAVAILABLE, "cable cut");
    rpc_conn_lost(pair->client, &why);
    assert_int_equal(heard.error.class, ERROR_UNAVAILABLE);
    assert_string_equal(heard.error.message, "cable cut");
    assert_int_equal(stream.error.class, ERROR_UNAVAILABLE);
    assert_int_equal(heard.done + stream.done, 2);
    rpc_conn_lost(pair->server, &why);
    assert_int_equal(pair->echo.cancelled, 2);
    assert_int_equal(pair->echo.cancel_class, ERROR_CANCELLED);
    assert_int_equal(pair->echo.closed, 2);
}

/* 5: both ways, text and binary. */
static void test_metadata(void **state)
{
    struct pair *pair = *state;
    struct heard heard = {0};
    struct slice value = {0};
    const struct rpc_metadatum items[] = {{"x-test", slice_str("a b")},
                                          {"x-bytes-bin", slice("\0\1\xfe", 3)}};
    struct rpc_call_options options = {.metadata = items, .metadata_count = 2};
    Postern__Test__Note request = note("meta");
    struct rpc_call *call = pair_call(pair, ECHO_UNARY, &options, &request, &heard);
    rpc_call_ref(call);
    pair_run(pair);
    assert_int_equal(heard.error.class, ERROR_NONE);
    assert_string_equal(pair->echo.metadata, "a b");
    assert_true(rpc_call_metadata(call, "x-head", 0, &value));
    assert_true(slice_is(value, "h"));
    assert_false(rpc_call_metadata(call, "x-head", 1, &value));
    assert_true(rpc_call_metadata(call, "x-tail-bin", 0, &value));
    assert_true(slice_equal(value, slice("\0\xff", 2)));
    assert_false(rpc_call_metadata(call, "grpc-status", 0, &value));
    assert_false(rpc_call_metadata(call, "content-type", 0, &value));
    rpc_call_unref(call);
}

static void test_bad_metadata(void **state)
{
    struct pair *pair = *state;
    static const char *const keys[] = {"Upper", "grpc-x", "te", ":path", "", "sp ace"};
    Postern__Test__Note request = note("x");
    for (size_t i = 0; i <= ARRAY_LEN(keys); i++) {
        struct heard heard = {0};
        bool last = i == ARRAY_LEN(keys);
        struct rpc_metadatum item = {last ? "x" : keys[i], slice_str(last ? "new\nline" : "v")};
        struct rpc_call_options options = {.metadata = &item, .metadata_count = 1};
        assert_null(pair_call(pair, ECHO_UNARY, &options, &request, &heard));
        assert_int_equal(heard.error.class, ERROR_INVALID);
    }
}

/* 8: both limits, ours and the peer's; before the memory is there. */
static void test_message_limit(void **state)
{
    static const struct rpc_limits small = {.message = 1000};
    struct pair *pair = make_pair(&small, nullptr);
    static uint8_t payload[990];
    (void)state;
    Postern__Test__Note request = note("");
    request.payload = (ProtobufCBinaryData){sizeof(payload), payload};
    struct heard heard = unary(pair, nullptr, &request); /* 993 bytes */
    assert_int_equal(heard.error.class, ERROR_NONE);
    assert_int_equal(heard.size, 990);
    request.text = (char *)(uintptr_t)"12345678";
    heard = unary(pair, nullptr, &request); /* 1003 */
    assert_int_equal(heard.error.class, ERROR_EXHAUSTED);
    assert_int_equal(pair->echo.served, 1);
    request = note("big"); /* the server's own answer */
    request.count = 1001;
    heard = unary(pair, nullptr, &request);
    assert_int_equal(heard.error.class, ERROR_EXHAUSTED);
    drop_pair(pair);

    pair = make_pair(nullptr, &small); /* an answer over the client's limit */
    heard = unary(pair, nullptr, &request);
    assert_int_equal(heard.error.class, ERROR_EXHAUSTED);
    pair_run(pair);
    assert_int_equal(rpc_conn_calls(pair->client), 0);
    assert_int_equal(rpc_conn_calls(pair->server), 0);
    drop_pair(pair);
}

/* 14: a reader that pauses stops its writer, and no other; nothing is lost. */
static void test_slow_reader(void **state)
{
    struct pair *pair = *state;
    struct heard heard = {.pause = true}, other = {0};
    Postern__Test__Note request = note("flood");
    struct rpc_call *call = pair_call(pair, ECHO_DOWN, nullptr, &request, &heard);
    pair_run(pair);
    assert_int_equal(heard.messages, 1);
    assert_in_range(pair->echo.writable, 0, 3);
    request = note("x");
    other = unary(pair, nullptr, &request);
    assert_int_equal(other.error.class, ERROR_NONE);
    for (unsigned i = 0; i < 1000 && !heard.done; i++) {
        rpc_call_resume(call);
        pair_run(pair);
    }
    assert_int_equal(heard.done, 1);
    assert_int_equal(heard.error.class, ERROR_NONE);
    assert_int_equal(pair->echo.writable, 20);
    assert_int_equal(heard.messages, pair->echo.sent);
    assert_true(heard.messages > 50);
}

/* An answer that nobody reads does not outlive the call's deadline. */
static void test_deadline_unread(void **state)
{
    struct pair *pair = *state;
    struct heard heard = {.pause = true};
    struct rpc_call_options options = {.timeout_ms = 500};
    static uint8_t payload[50'000];
    Postern__Test__Note request = note("n");
    request.count = 20;
    request.payload = (ProtobufCBinaryData){sizeof(payload), payload};
    (void)pair_call(pair, ECHO_DOWN, &options, &request, &heard);
    pair_run(pair);
    assert_int_equal(pair->echo.closed, 0); /* answered, and most of it waits */
    rpc_conn_tick(pair->server, pair->now + 500);
    pair_run(pair);
    assert_int_equal(pair->echo.closed, 1);
    assert_int_equal(pair->echo.cancelled, 0);
    assert_int_not_equal(pair->echo.close_class, ERROR_NONE);
    assert_int_equal(rpc_conn_calls(pair->server), 0);
    pair_tick(pair, 500);
    assert_int_equal(heard.done, 1);
    assert_int_not_equal(heard.error.class, ERROR_NONE);
}

/* The same upwards: the server pauses, the client's queue fills and says so. */
static void test_slow_server(void **state)
{
    static const struct rpc_limits small = {.send_queue = 200'000};
    struct pair *pair = make_pair(nullptr, &small);
    struct heard heard = {0};
    struct error err = {0};
    static uint8_t payload[50'000];
    unsigned sent = 0;
    (void)state;
    pair->echo.pause = true;
    struct rpc_call *call = pair_call(pair, ECHO_UP, nullptr, nullptr, &heard);
    Postern__Test__Note request = note("up");
    request.payload = (ProtobufCBinaryData){sizeof(payload), payload};
    while (rpc_send(call, &request.base, &err)) {
        pair_run(pair);
        assert_true(++sent < 100);
    }
    assert_int_equal(err.class, ERROR_EXHAUSTED);
    assert_int_equal(pair->echo.messages, 1);
    assert_int_equal(heard.writable, 0);
    rpc_call_close_send(call);
    for (unsigned i = 0; i < 1000 && !heard.done; i++) {
        assert_non_null(pair->echo.held);
        rpc_call_resume(pair->echo.held);
        pair_run(pair);
    }
    pair->echo.held = nullptr;
    assert_int_equal(pair->echo.messages, sent);
    assert_int_equal(heard.error.class, ERROR_NONE);
    drop_pair(pair);
}

/* Answers that wait on one connection are bounded together; who was refused hears of room. */
static void test_connection_queue(void **state)
{
    static const struct rpc_limits server = {.connection_queue = 300'000};
    static const struct rpc_limits client = {.window = 1'000};
    struct pair *pair = make_pair(&server, &client);
    struct heard unread = {0}, refused = {0}, flooded = {0};
    static uint8_t payload[50'000];
    Postern__Test__Note request = note("n");
    (void)state;
    request.count = 6;
    request.payload = (ProtobufCBinaryData){sizeof(payload), payload};
    struct rpc_call *call = pair_call(pair, ECHO_DOWN, nullptr, &request, &unread);
    rpc_call_pause(call);
    pair_run(pair);
    assert_int_equal(unread.messages, 0);
    /* There is room for one more message, of whichever size. */
    (void)pair_call(pair, ECHO_DOWN, nullptr, &request, &refused);
    pair_run(pair);
    assert_int_equal(refused.done, 1);
    assert_int_equal(refused.messages, 1);
    assert_int_equal(refused.error.class, ERROR_EXHAUSTED);
    request = note("flood");
    (void)pair_call(pair, ECHO_DOWN, nullptr, &request, &flooded);
    pair_run(pair);
    assert_int_equal(flooded.messages, 1);
    assert_int_equal(pair->echo.writable, 0);
    rpc_call_resume(call);
    pair_run(pair);
    assert_int_equal(unread.messages, 6);
    assert_int_equal(unread.error.class, ERROR_NONE);
    assert_int_equal(flooded.done, 1);
    assert_int_equal(flooded.error.class, ERROR_NONE);
    assert_int_equal(flooded.messages, pair->echo.sent);
    assert_true(flooded.messages > 50);
    drop_pair(pair);
}

static void test_writable(void **state)
{
    struct pair *pair = *state;
    struct heard heard = {0};
    struct error err = {0};
    static uint8_t payload[100'000];
    struct rpc_call *call = pair_call(pair, ECHO_BOTH, nullptr, nullptr, &heard);
    Postern__Test__Note request = note("x");
    request.payload = (ProtobufCBinaryData){sizeof(payload), payload};
    assert_ok(rpc_send(call, &request.base, &err));
    assert_true(rpc_call_queued(call) > sizeof(payload));
    pair_run(pair);
    assert_string_equal(heard.error.message, "");
    assert_int_equal(heard.writable, 1);
    assert_int_equal(rpc_call_queued(call), 0);
    rpc_call_close_send(call);
    pair_run(pair);
    assert_int_equal(heard.done, 1);
    assert_int_equal(heard.error.class, ERROR_NONE);
}

/* The end waits behind what the caller has not read. */
static void test_end_behind_pause(void **state)
{
    struct pair *pair = *state;
    struct heard heard = {.pause = true};
    Postern__Test__Note request = note("n");
    request.count = 3;
    struct rpc_call *call = pair_call(pair, ECHO_DOWN, nullptr, &request, &heard);
    pair_run(pair);
    assert_int_equal(rpc_conn_calls(pair->server), 0);
    assert_int_equal(heard.messages, 1);
    assert_int_equal(heard.done, 0);
    rpc_call_resume(call);
    rpc_call_resume(call);
    assert_int_equal(heard.messages, 3);
    assert_int_equal(heard.done, 0);
    rpc_call_resume(call);
    assert_int_equal(heard.done, 1);
    assert_int_equal(heard.error.class, ERROR_NONE);
    pair_run(pair);
    assert_int_equal(rpc_conn_calls(pair->client), 0);
    heard = (struct heard){.pause = true}; /* and a cancellation does not wait */
    call = pair_call(pair, ECHO_DOWN, nullptr, &request, &heard);
    pair_run(pair);
    rpc_call_cancel(call);
    pair_run(pair);
    assert_int_equal(heard.messages, 1);
    assert_int_equal(heard.error.class, ERROR_CANCELLED);
    assert_int_equal(rpc_conn_calls(pair->client), 0);
}

/* 16 */
static void test_goaway(void **state)
{
    struct pair *pair = *state;
    struct heard heard = {0}, late = {0};
    Postern__Test__Note request = note("hold");
    (void)pair_call(pair, ECHO_UNARY, nullptr, &request, &heard);
    pair_run(pair);
    rpc_conn_drain(pair->server, pair->now);
    pair_run(pair);
    assert_true(pair->draining);
    assert_false(rpc_conn_has_room(pair->client));
    request = note("late");
    (void)pair_call(pair, ECHO_UNARY, nullptr, &request, &late);
    pair_run(pair);
    assert_int_equal(late.error.class, ERROR_UNAVAILABLE);
    assert_false(rpc_conn_done(pair->server));
    struct rpc_call *held = TAKE(pair->echo.held);
    rpc_reply(held, &request.base);
    pair_run(pair);
    assert_int_equal(heard.error.class, ERROR_NONE);
    assert_true(rpc_conn_done(pair->server));
    assert_true(rpc_conn_done(pair->client));
}

/* Answering what is dead, and answering twice. */
static void test_answers(void **state)
{
    struct pair *pair = *state;
    struct heard heard = {0};
    struct error err = {0};
    Postern__Test__Note request = note("hold");
    (void)pair_call(pair, ECHO_UNARY, nullptr, &request, &heard);
    pair_run(pair);
    struct rpc_call *held = rpc_call_ref(TAKE(pair->echo.held));
    rpc_reply(held, &request.base);
    rpc_reply(held, &request.base);
    rpc_finish(held);
    rpc_fail(held, &err);
    pair_run(pair);
    assert_int_equal(heard.messages, 1);
    assert_int_equal(heard.error.class, ERROR_NONE);
    assert_fails(rpc_send(held, &request.base, &err), ERROR_CANCELLED);
    struct rpc_metadatum item = {"x", slice_str("y")};
    assert_fails(rpc_call_add_header(held, &item, &err), ERROR_CONFLICT);
    assert_fails(rpc_call_add_trailer(held, &item, &err), ERROR_CONFLICT);
    rpc_call_unref(held);
    (void)pair_call(pair, ECHO_UNARY, nullptr, &request, &heard); /* OK without a message */
    pair_run(pair);
    held = TAKE(pair->echo.held);
    rpc_finish(held);
    pair_run(pair);
    assert_int_equal(heard.error.class, ERROR_UNIMPLEMENTED);
}

static void test_wrong_type(void **state)
{
    struct pair *pair = *state;
    struct heard heard = {0};
    struct error err = {0};
    ProtobufCMessage wrong = {.descriptor = nullptr};
    struct rpc_call *call = pair_call(pair, ECHO_BOTH, nullptr, nullptr, &heard);
    assert_fails(rpc_send(call, &wrong, &err), ERROR_INTERNAL);
    assert_fails(rpc_send(call, nullptr, &err), ERROR_INTERNAL);
    assert_int_equal(rpc_call_queued(call), 0);
    rpc_call_drop(call);
}

#define PAIR(test) cmocka_unit_test_setup_teardown(test, open_pair, close_pair)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PAIR(test_status),
        PAIR(test_unimplemented),
        PAIR(test_denied),
        PAIR(test_deadline),
        PAIR(test_deadline_at_server),
        PAIR(test_deadline_stuck),
        PAIR(test_cancel),
        PAIR(test_cancel_at_once),
        PAIR(test_drop),
        PAIR(test_fail_stream),
        PAIR(test_lost),
        PAIR(test_metadata),
        PAIR(test_bad_metadata),
        cmocka_unit_test(test_message_limit),
        PAIR(test_slow_reader),
        PAIR(test_deadline_unread),
        cmocka_unit_test(test_slow_server),
        cmocka_unit_test(test_connection_queue),
        PAIR(test_writable),
        PAIR(test_end_behind_pause),
        PAIR(test_goaway),
        PAIR(test_answers),
        PAIR(test_wrong_type),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
