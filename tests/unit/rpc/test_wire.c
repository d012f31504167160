/* What a strange peer says, and what it gets: rpc.md's points against a plain HTTP/2 client and
 * server. */
#include "unit/rpc/raw.h"

#include "testlib/testlib.h"

#define ECHO "/postern.test.Echo/"

static int open_server(void **state)
{
    static struct raw raw;
    raw = (struct raw){0};
    raw_open(&raw, true, nullptr);
    *state = &raw;
    return 0;
}

static int open_client(void **state)
{
    static struct raw raw;
    raw = (struct raw){0};
    raw_open(&raw, false, nullptr);
    *state = &raw;
    return 0;
}

static int close_raw(void **state)
{
    struct raw *raw = *state;
    if (raw->echo.held)
        rpc_finish(raw->echo.held);
    raw_close(raw);
    return 0;
}

/* A unary request with these headers; the status that came, or "" with the HTTP status. */
static const char *ask(struct raw *raw, const char *path, const char *const *extra,
                       const char *text)
{
    uint8_t bytes[256];
    Postern__Test__Note message = note(text);
    size_t n = raw_message(&message, 0, bytes, sizeof(bytes));
    raw_request(raw, path, extra, slice(bytes, n), true);
    raw_run(raw);
    const char *status = raw_header(raw->trailers, "grpc-status");
    return status[0] ? status : raw_header(raw->headers, "grpc-status");
}

static void test_plain(void **state)
{
    struct raw *raw = *state;
    assert_string_equal(ask(raw, ECHO "Unary", nullptr, "hi"), "0");
    assert_string_equal(raw_header(raw->headers, ":status"), "200");
    assert_string_equal(raw_header(raw->headers, "content-type"), "application/grpc");
    assert_string_equal(raw->trailers, "grpc-status: 0\n");
    assert_int_equal(raw->body.len, 5 + 4);
    assert_memory_equal(raw->body.data, "\0\0\0\0\x04\x0a\x02hi", 9);
    assert_int_equal(raw->closed_code, H2_NO_ERROR);
}

/* 1 */
static void test_method_and_path(void **state)
{
    struct raw *raw = *state;
    const char *get[] = {":method", "GET", nullptr};
    assert_string_equal(ask(raw, ECHO "Unary", get, "x"), "");
    assert_string_equal(raw_header(raw->headers, ":status"), "405");
    static const char *const paths[] = {"/",     "/x", "//x", "/x/", "/postern.test.Echo/Nothing",
                                        "/a/b/c"};
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        assert_string_equal(ask(raw, paths[i], nullptr, "x"), "12");
        assert_string_equal(raw_header(raw->headers, ":status"), "200");
        assert_string_equal(raw->trailers, ""); /* Trailers-Only */
    }
    assert_int_equal(raw->echo.served, 0);
}

/* 2 */
static void test_content_type(void **state)
{
    struct raw *raw = *state;
    static const char *const good[] = {"application/grpc", "application/grpc+proto",
                                       "application/grpc;charset=x"};
    static const char *const bad[] = {"application/grpcx", "application/json", "", "application/"};
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        const char *type[] = {"content-type", good[i], nullptr};
        assert_string_equal(ask(raw, ECHO "Unary", type, "x"), "0");
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        const char *type[] = {"content-type", bad[i], nullptr};
        assert_string_equal(ask(raw, ECHO "Unary", type, "x"), "");
        assert_string_equal(raw_header(raw->headers, ":status"), "415");
    }
}

/* 3 */
static void test_connection_header(void **state)
{
    struct raw *raw = *state;
    const char *extra[] = {"connection", "close", nullptr};
    (void)ask(raw, ECHO "Unary", extra, "x");
    assert_int_equal(raw->closed, 1);
    assert_int_equal(raw->closed_code, H2_PROTOCOL_ERROR);
    assert_int_equal(raw->echo.served, 0);
    assert_string_equal(ask(raw, ECHO "Unary", nullptr, "x"), "0"); /* only the stream */
}

/* 4 */
static void test_timeout(void **state)
{
    struct raw *raw = *state;
    static const char *const bad[] = {"", "S", "123456789S", "5", "5x", "-5S", "5SS", "1.5S"};
    static const char *const good[] = {"5S", "99999999H", "1M"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        const char *extra[] = {"grpc-timeout", bad[i], nullptr};
        assert_string_equal(ask(raw, ECHO "Unary", extra, "x"), "13");
    }
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        const char *extra[] = {"grpc-timeout", good[i], nullptr};
        assert_string_equal(ask(raw, ECHO "Unary", extra, "x"), "0");
    }
    const char *extra[] = {"grpc-timeout", "100m", nullptr};
    assert_string_equal(ask(raw, ECHO "Unary", extra, "hold"), "");
    raw->now += 100;
    raw_run(raw);
    assert_string_equal(raw_header(raw->headers, "grpc-status"), "4");
    assert_int_equal(raw->echo.cancelled, 1);
    assert_int_equal(raw->closed, 1);
}

/* 5: odd values never fail a call. */
static void test_odd_metadata(void **state)
{
    struct raw *raw = *state;
    const char *extra[] = {"x-test",   "  a\x80 b  ",   "x-b-bin", "!!!not base64", "x-b-bin",
                           "AAE=,AAE", "grpc-tags-bin", "AA",      nullptr};
    assert_string_equal(ask(raw, ECHO "Unary", extra, "x"), "0");
    assert_string_equal(raw->echo.metadata, "a\x80 b");
}

/* 6 */
static void test_header_list(void **state)
{
    struct raw *raw = *state;
    static char long_value[9000];
    memset(long_value, 'a', sizeof(long_value) - 1);
    const char *extra[] = {"x-long", long_value, nullptr};
    assert_string_equal(ask(raw, ECHO "Unary", extra, "x"), "8");
    long_value[7000] = 0;
    assert_string_equal(ask(raw, ECHO "Unary", extra, "x"), "0");
}

/* 7 to 10: what messages may look like. */
static void test_messages(void **state)
{
    struct raw *raw = *state;
    uint8_t bytes[64];
    const struct {
        const char *bytes;
        size_t len;
        const char *status;
    } cases[] = {
        {"\0\0\0\0\0", 5, "0"},             /* an empty message */
        {"", 0, "12"},                      /* none */
        {"\0\0\0\0\0\0\0\0\0\0", 10, "12"}, /* two */
        {"\1\0\0\0\0", 5, "13"},            /* compressed without an encoding */
        {"\2\0\0\0\0", 5, "13"},            /* an unknown flag */
        {"\0\0\0\0\2\x0a", 6, "13"},        /* cut short */
        {"\0\0\0", 3, "13"},                /* in the prefix */
        {"\0\0\0\0\1\xff", 6, "13"},        /* no message */
        {"\0\0\0\0\3\x0a\1\xff", 8, "3"},   /* a field that is not UTF-8 */
        {"\0\0\0\0\3\x0a\1\0", 8, "3"},     /* … with a NUL */
        {"\0\xff\xff\xff\xff", 5, "8"},     /* 4 GiB declared */
        {"\0\0\x40\0\1", 5, "8"},           /* one byte over the limit */
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        raw_request(raw, ECHO "Unary", nullptr, slice(cases[i].bytes, cases[i].len), true);
        raw_run(raw);
        const char *status = raw_header(raw->headers, "grpc-status");
        if (!status[0])
            status = raw_header(raw->trailers, "grpc-status");
        assert_string_equal(status, cases[i].status);
    }
    assert_int_equal(raw->echo.served, 1);
    /* 7: END_STREAM on an empty DATA frame of its own, later. */
    Postern__Test__Note message = note("late end");
    size_t n = raw_message(&message, 0, bytes, sizeof(bytes));
    raw_request(raw, ECHO "Unary", nullptr, slice(bytes, n), false);
    raw_run(raw);
    assert_int_equal(raw->echo.served, 1);
    h2_end(raw->h2, &raw->stream, false);
    raw_run(raw);
    assert_string_equal(raw_header(raw->trailers, "grpc-status"), "0");
}

/* The field that is at fault is named in the details. */
static void test_bad_field(void **state)
{
    struct raw *raw = *state;
    raw_request(raw, ECHO "Unary", nullptr, slice("\0\0\0\0\3\x0a\1\xff", 8), true);
    raw_run(raw);
    assert_string_equal(raw_header(raw->headers, "grpc-status"), "3");
    assert_true(raw_header(raw->headers, "grpc-status-details-bin")[0] != 0);
}

/* 9 */
static void test_encoding(void **state)
{
    struct raw *raw = *state;
    const char *zstd[] = {"grpc-encoding", "zstd", nullptr};
    const char *identity[] = {"grpc-encoding", "identity", nullptr};
    assert_string_equal(ask(raw, ECHO "Unary", zstd, "x"), "12");
    assert_string_equal(raw_header(raw->headers, "grpc-accept-encoding"), "identity");
    assert_string_equal(ask(raw, ECHO "Unary", identity, "x"), "0");
}

/* 12: an answer before the client's end is followed by RST_STREAM(NO_ERROR). */
static void test_early_answer(void **state)
{
    struct raw *raw = *state;
    uint8_t bytes[64];
    error_set(&raw->echo.fail, ERROR_DENIED, "enough");
    Postern__Test__Note message = note("fail");
    size_t n = raw_message(&message, 0, bytes, sizeof(bytes));
    raw_request(raw, ECHO "Both", nullptr, slice(bytes, n), false);
    raw_run(raw);
    assert_string_equal(raw_header(raw->headers, "grpc-status"), "7");
    assert_int_equal(raw->closed, 1);
    assert_int_equal(raw->closed_code, H2_NO_ERROR);
}

static void test_cancelled_by_reset(void **state)
{
    struct raw *raw = *state;
    (void)ask(raw, ECHO "Unary", nullptr, "hold");
    assert_int_equal(raw->echo.served, 1);
    h2_reset(raw->h2, raw->stream.id, H2_CANCEL);
    raw_run(raw);
    assert_int_equal(raw->echo.cancelled, 1);
    assert_int_equal(raw->echo.closed, 1);
}

/* 15: rapid reset. */
static void test_rapid_reset(void **state)
{
    struct raw *raw = *state;
    unsigned n = 0;
    for (; n < 10 * H2_RESET_BURST && !raw->broken; n++) {
        raw_request(raw, ECHO "Both", nullptr, (struct slice){0}, false);
        raw_run(raw);
        h2_reset(raw->h2, raw->stream.id, H2_CANCEL);
        raw_run(raw);
    }
    assert_true(raw->broken);
    assert_int_equal(raw->error.class, ERROR_EXHAUSTED);
    assert_in_range(n, H2_RESET_BURST, H2_RESET_BURST + 2);
    assert_int_equal(raw->goaway_code, H2_ENHANCE_YOUR_CALM);
    assert_int_equal(raw->echo.cancelled, n - 1); /* the last one's is the connection's end */
}

/* … but an honest pace of cancellations goes on for ever. */
static void test_slow_reset(void **state)
{
    struct raw *raw = *state;
    for (unsigned n = 0; n < 3 * H2_RESET_BURST; n++) {
        raw->now += 1000 / H2_RESET_PER_SECOND;
        raw_request(raw, ECHO "Both", nullptr, (struct slice){0}, false);
        raw_run(raw);
        h2_reset(raw->h2, raw->stream.id, H2_CANCEL);
        raw_run(raw);
    }
    assert_false(raw->broken);
}

static void test_ping_flood(void **state)
{
    struct raw *raw = *state;
    unsigned n = 0;
    for (; n < 10 * H2_IDLE_FRAME_BURST && !raw->broken; n++) {
        h2_ping(raw->h2, n);
        raw_run(raw);
    }
    assert_true(raw->broken);
    assert_int_equal(raw->error.class, ERROR_EXHAUSTED);
    assert_in_range(n, H2_IDLE_FRAME_BURST - 5, H2_IDLE_FRAME_BURST + 5);
    assert_int_equal(raw->goaway_code, H2_ENHANCE_YOUR_CALM);
}

/* ---- The client against a strange server ---- */

static struct heard call(struct raw *raw, enum echo_method method)
{
    struct heard heard = {0};
    struct error err = {0};
    struct rpc_call *made;
    struct rpc_limits limits = {0};
    Postern__Test__Note message = note("x");
    rpc_limits_resolve(&limits);
    assert_ok(rpc_call_new(&echo_service.methods[method], nullptr, &limits, &message.base, nullptr,
                           &heard_events, &heard, raw->now, &made, &err));
    rpc_conn_start(raw->conn, made, raw->now);
    raw_run(raw);
    assert_int_equal(heard.done, 1);
    assert_int_equal(rpc_conn_calls(raw->conn), 0);
    return heard;
}

static const char *const *canned;
static uint32_t canned_code;
static struct slice canned_body;

static void respond_canned(struct raw *raw)
{
    raw_respond(raw, canned, true);
}

static void respond_reset(struct raw *raw)
{
    h2_reset(raw->h2, raw->stream.id, canned_code);
}

static void test_request_headers(void **state)
{
    struct raw *raw = *state;
    static const char *const ok[] = {":status",          "200",         "content-type",
                                     "application/grpc", "grpc-status", "5",
                                     "grpc-message",     "not%20there", nullptr};
    canned = ok;
    raw->respond = respond_canned;
    struct heard heard = call(raw, ECHO_UNARY);
    assert_string_equal(raw_header(raw->headers, ":method"), "POST");
    assert_string_equal(raw_header(raw->headers, ":path"), ECHO "Unary");
    assert_string_equal(raw_header(raw->headers, "te"), "trailers");
    assert_string_equal(raw_header(raw->headers, "content-type"), "application/grpc");
    assert_int_equal(heard.error.class, ERROR_NOT_FOUND);
    assert_string_equal(heard.error.message, "not there");
}

/* 19 */
static void test_http_statuses(void **state)
{
    struct raw *raw = *state;
    static const struct {
        const char *http;
        int grpc;
    } cases[] = {{"400", 13}, {"431", 13}, {"401", 16}, {"403", 7}, {"404", 12}, {"429", 14},
                 {"502", 14}, {"503", 14}, {"504", 14}, {"500", 2}, {"302", 2},  {"204", 2}};
    raw->respond = respond_canned;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *headers[] = {":status", cases[i].http, nullptr};
        canned = headers;
        struct heard heard = call(raw, ECHO_UNARY);
        assert_int_equal(heard.error.code, cases[i].grpc);
        heard = call(raw, ECHO_DOWN);
        assert_int_equal(heard.error.code, cases[i].grpc);
    }
}

/* 18 */
static void test_resets(void **state)
{
    struct raw *raw = *state;
    static const struct {
        uint32_t http2;
        enum error_class class;
    } cases[] = {{H2_CANCEL, ERROR_CANCELLED},
                 {H2_REFUSED_STREAM, ERROR_UNAVAILABLE},
                 {H2_ENHANCE_YOUR_CALM, ERROR_EXHAUSTED},
                 {H2_INADEQUATE_SECURITY, ERROR_DENIED},
                 {H2_PROTOCOL_ERROR, ERROR_INTERNAL},
                 {H2_NO_ERROR, ERROR_INTERNAL}};
    raw->respond = respond_reset;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        canned_code = cases[i].http2;
        struct heard heard = call(raw, ECHO_UNARY);
        assert_int_equal(heard.error.class, cases[i].class);
    }
}

static void respond_body(struct raw *raw)
{
    static const char *const ok[] = {":status", "200", "content-type", "application/grpc", nullptr};
    raw_respond(raw, canned ? canned : ok, false);
    buf_put(h2_queue(&raw->stream), canned_body);
    h2_end(raw->h2, &raw->stream, false);
}

/* Answers that end without a status, are no gRPC, or compressed. */
static void test_strange_answers(void **state)
{
    struct raw *raw = *state;
    static const char *const html[] = {":status", "200", "content-type", "text/html", nullptr};
    static const char *const gzip[] = {":status",       "200",  "content-type", "application/grpc",
                                       "grpc-encoding", "gzip", nullptr};
    raw->respond = respond_body;
    canned = nullptr;
    assert_int_equal(call(raw, ECHO_UNARY).error.code, 2);
    canned = html;
    assert_int_equal(call(raw, ECHO_UNARY).error.code, 2);
    canned = gzip;
    assert_int_equal(call(raw, ECHO_UNARY).error.code, 13);
    canned = nullptr;
    canned_body = slice("\0\0\0\0\1\xff", 6);
    assert_int_equal(call(raw, ECHO_UNARY).error.class, ERROR_INTERNAL);
    canned_body = slice("\0\0\0\0\0\0\0\0\0\0", 10); /* two where one is due */
    assert_int_equal(call(raw, ECHO_UNARY).error.class, ERROR_UNIMPLEMENTED);
}

#define SERVER(test) cmocka_unit_test_setup_teardown(test, open_server, close_raw)
#define CLIENT(test) cmocka_unit_test_setup_teardown(test, open_client, close_raw)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SERVER(test_plain),           SERVER(test_method_and_path),
        SERVER(test_content_type),    SERVER(test_connection_header),
        SERVER(test_timeout),         SERVER(test_odd_metadata),
        SERVER(test_header_list),     SERVER(test_messages),
        SERVER(test_bad_field),       SERVER(test_encoding),
        SERVER(test_early_answer),    SERVER(test_cancelled_by_reset),
        SERVER(test_rapid_reset),     SERVER(test_slow_reset),
        SERVER(test_ping_flood),      CLIENT(test_request_headers),
        CLIENT(test_http_statuses),   CLIENT(test_resets),
        CLIENT(test_strange_answers),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
