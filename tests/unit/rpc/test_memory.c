/* Every allocation of a call's life fails once: nothing leaks, crashes or hangs, and who is told is
 * told that memory was out. */
#include "unit/rpc/pair.h"

#include "testlib/testlib.h"

#include "base/mem.h"

/* What a call of this kind sends and hears, in a pair of its own. The failed allocation may show as
 * an error of the pair, of a connection, or of a call. */
struct life {
    enum echo_method method;
    const char *text;
};

static bool was_memory(const struct error *err)
{
    return err->class == ERROR_EXHAUSTED;
}

/* The call's own end, seen from the client. Where the server ran out of memory it resets the stream
 * or ends the connection; both come out as other classes. */
static bool told(const struct pair *pair, const struct heard *heard, struct error *err)
{
    if (pair->broken && was_memory(&pair->error)) {
        *err = pair->error;
        return false;
    }
    if (heard->error.class == ERROR_NONE && heard->done)
        return true;
    *err = heard->error;
    if (!was_memory(err)) {
        /* Reset by a server without memory: it can't say more. */
        assert_true(err->class == ERROR_INTERNAL || err->class == ERROR_UNAVAILABLE ||
                    err->class == ERROR_CANCELLED || err->class == ERROR_NONE);
        error_set_memory(err);
    }
    return false;
}

static bool live(void *arg, struct error *err)
{
    const struct life *life = arg;
    struct pair pair = {0};
    struct heard heard = {0};
    static uint8_t payload[3000];
    const struct rpc_metadatum item = {"x-test", slice_str("value")};
    struct rpc_call_options options = {.timeout_ms = 1000, .metadata = &item, .metadata_count = 1};
    pair.chunk = 1000; /* so that messages are put together from pieces */
    error_set_reason(&pair.echo.fail, ERROR_CONFLICT, "WHY", "because");
    bool ok = pair_open(&pair, err);
    if (ok) {
        pair_run(&pair);
        Postern__Test__Note request = note(life->text);
        request.count = 3;
        request.payload = (ProtobufCBinaryData){sizeof(payload), payload};
        bool streams = life->method == ECHO_UP || life->method == ECHO_BOTH;
        struct rpc_call *call =
            pair_call(&pair, life->method, &options, streams ? nullptr : &request, &heard);
        struct error send;
        bool sent = call && streams;
        for (int i = 0; i < 2 && sent; i++)
            sent = rpc_send(call, &request.base, &send);
        if (sent)
            rpc_call_close_send(call);
        else if (call && streams)
            rpc_call_cancel(call);
        if (!pair.broken)
            pair_run(&pair);
        if (!pair.broken)
            pair_tick(&pair, 2000); /* whatever hangs ends at its deadline */
    }
    pair_close(&pair);
    if (ok) {
        assert_int_equal(heard.done, 1);
        /* The status comes through; without memory for its details the reason is missing. */
        if (strcmp(life->text, "fail") == 0 && heard.error.class == ERROR_CONFLICT &&
            heard.error.reason[0])
            heard.error = (struct error){0};
        else if (heard.error.class == ERROR_CONFLICT)
            error_set_memory(&heard.error);
        if (heard.error.class == ERROR_TIMEOUT)
            error_set_memory(&heard.error);
        ok = told(&pair, &heard, err);
    }
    return ok;
}

static void sweep(enum echo_method method, const char *text)
{
    struct life life = {method, text};
    testlib_allocation_sweep(live, &life);
}

static void test_unary(void **state)
{
    (void)state;
    sweep(ECHO_UNARY, "x");
}

static void test_metadata(void **state)
{
    (void)state;
    sweep(ECHO_UNARY, "meta");
}

static void test_failure(void **state)
{
    (void)state;
    sweep(ECHO_UNARY, "fail");
}

static void test_down(void **state)
{
    (void)state;
    sweep(ECHO_DOWN, "x");
}

static void test_up(void **state)
{
    (void)state;
    sweep(ECHO_UP, "x");
}

static void test_both(void **state)
{
    (void)state;
    sweep(ECHO_BOTH, "x");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unary),   cmocka_unit_test(test_metadata),
        cmocka_unit_test(test_failure), cmocka_unit_test(test_down),
        cmocka_unit_test(test_up),      cmocka_unit_test(test_both),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
