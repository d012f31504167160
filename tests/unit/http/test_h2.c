/* The HTTP/2 core: server against client in memory, and floods of frames made by hand. */
#include "testlib/testlib.h"

#include "base/counter.h"
#include "base/mem.h"
#include "http/h2.h"

#include <stdio.h>

/* One side and what it heard. */
struct side {
    struct h2 *h2;
    struct h2_stream stream;
    unsigned requests, responses, trailers, ended, writable, closed, goaways, settings, pongs;
    uint32_t closed_code, goaway_code;
    uint64_t pong;
    bool too_large;
    size_t headers, body;
    bool hold;    /* don't give the peer its window back */
    bool respond; /* answer each request at once */
};

struct two {
    struct side server, client;
    uint64_t now;
    size_t chunk;
};

static struct h2_stream *on_request(void *arg, int32_t id, const struct h2_header *headers,
                                    size_t count, bool too_large, bool end)
{
    static const struct h2_header ok[] = {
        {{(const uint8_t *)":status", 7}, {(const uint8_t *)"200", 3}}};
    struct side *side = arg;
    struct error err;
    (void)headers;
    side->requests++;
    side->headers = count;
    side->too_large = too_large;
    side->ended += end;
    if (side->respond) {
        (void)h2_refuse(side->h2, id, ok, 1, &err);
        return nullptr;
    }
    h2_stream_done(&side->stream);
    h2_stream_init(&side->stream, (size_t)1024 * 1024);
    side->stream.id = id;
    return &side->stream;
}

static void on_response(void *arg, struct h2_stream *stream, const struct h2_header *headers,
                        size_t count, bool too_large, bool end)
{
    struct side *side = arg;
    (void)stream;
    (void)headers;
    side->responses++;
    side->headers = count;
    side->too_large = too_large;
    side->ended += end;
}

static void on_trailers(void *arg, struct h2_stream *stream, const struct h2_header *headers,
                        size_t count, bool too_large)
{
    struct side *side = arg;
    (void)stream;
    (void)headers;
    (void)too_large;
    side->trailers += (unsigned)count;
}

static void on_data(void *arg, struct h2_stream *stream, struct slice bytes)
{
    struct side *side = arg;
    side->body += bytes.len;
    if (!side->hold)
        h2_consume(side->h2, stream, bytes.len);
}

static void on_ended(void *arg, struct h2_stream *stream)
{
    (void)stream;
    ((struct side *)arg)->ended++;
}

static void on_writable(void *arg, struct h2_stream *stream)
{
    (void)stream;
    ((struct side *)arg)->writable++;
}

static void on_trailers_due(void *arg, struct h2_stream *stream)
{
    struct side *side = arg;
    struct error err;
    struct h2_header trailer = {slice_str("x-end"), slice_str("1")};
    if (!h2_trailers(side->h2, stream, &trailer, 1, &err))
        h2_reset(side->h2, stream->id, H2_INTERNAL_ERROR);
}

static void on_closed(void *arg, struct h2_stream *stream, uint32_t code)
{
    struct side *side = arg;
    (void)stream;
    side->closed++;
    side->closed_code = code;
}

static void on_goaway(void *arg, int32_t last_id, uint32_t code, struct slice debug)
{
    struct side *side = arg;
    (void)last_id;
    (void)debug;
    side->goaways++;
    side->goaway_code = code;
}

static void on_settings(void *arg)
{
    ((struct side *)arg)->settings++;
}

static void on_pong(void *arg, uint64_t opaque)
{
    struct side *side = arg;
    side->pongs++;
    side->pong = opaque;
}

static const struct h2_events events = {
    .request = on_request,
    .response = on_response,
    .trailers = on_trailers,
    .data = on_data,
    .ended = on_ended,
    .writable = on_writable,
    .trailers_due = on_trailers_due,
    .closed = on_closed,
    .goaway = on_goaway,
    .settings = on_settings,
    .pong = on_pong,
};

static bool side_open(struct side *side, bool server, struct error *err)
{
    struct h2_options options = {.server = server,
                                 .max_streams = 10,
                                 .window = 65'535,
                                 .header_list = 1024,
                                 .low_water = 1000,
                                 .events = &events,
                                 .arg = side};
    h2_stream_init(&side->stream, (size_t)1024 * 1024);
    return h2_new(&options, 0, &side->h2, err);
}

static bool feed(struct two *two, struct side *to, struct slice bytes, struct error *err)
{
    size_t step = two->chunk ? two->chunk : bytes.len;
    for (size_t at = 0; at < bytes.len; at += step) {
        size_t n = bytes.len - at < step ? bytes.len - at : step;
        if (!h2_receive(to->h2, slice(bytes.data + at, n), two->now, err))
            return false;
    }
    return true;
}

static bool run(struct two *two, struct error *err)
{
    for (;;) {
        CLEANUP(buf_done) struct buf up, down;
        buf_init(&up, (size_t)8 * 1024 * 1024);
        buf_init(&down, (size_t)8 * 1024 * 1024);
        if (!h2_output(two->client.h2, (size_t)1024 * 1024, two->now, &up, err) ||
            !feed(two, &two->server, buf_slice(&up), err) ||
            !h2_output(two->server.h2, (size_t)1024 * 1024, two->now, &down, err) ||
            !feed(two, &two->client, buf_slice(&down), err))
            return false;
        if (up.len == 0 && down.len == 0)
            return true;
    }
}

static bool two_open(struct two *two, struct error *err)
{
    return side_open(&two->server, true, err) && side_open(&two->client, false, err) &&
           run(two, err);
}

static void two_close(struct two *two)
{
    h2_free(two->client.h2);
    h2_free(two->server.h2);
    h2_stream_done(&two->client.stream);
    h2_stream_done(&two->server.stream);
}

static int open_two(void **state)
{
    static struct two two;
    struct error err = {0};
    two = (struct two){0};
    assert_ok(two_open(&two, &err));
    *state = &two;
    return 0;
}

static int close_two(void **state)
{
    two_close(*state);
    return 0;
}

static bool request(struct two *two, bool end, struct error *err)
{
    const struct h2_header headers[] = {{slice_str(":method"), slice_str("POST")},
                                        {slice_str(":scheme"), slice_str("http")},
                                        {slice_str(":path"), slice_str("/")},
                                        {slice_str(":authority"), slice_str("x")}};
    h2_stream_done(&two->client.stream);
    h2_stream_init(&two->client.stream, (size_t)1024 * 1024);
    return h2_request(two->client.h2, &two->client.stream, headers, ARRAY_LEN(headers), end, err);
}

static void push(struct side *side, size_t n)
{
    static uint8_t bytes[1024 * 1024];
    struct error err = {0};
    buf_put(h2_queue(&side->stream), slice(bytes, n));
    assert_ok(buf_ok(&side->stream.queue, &err));
    h2_push(side->h2, &side->stream);
}

static bool respond(struct two *two, struct error *err)
{
    struct h2_header status = {slice_str(":status"), slice_str("200")};
    return h2_respond(two->server.h2, &two->server.stream, &status, 1, false, err);
}

static void test_exchange(void **state)
{
    struct two *two = *state;
    struct error err = {0};
    for (size_t chunk = 0; chunk < 2; chunk++) { /* whole, then byte by byte */
        two->chunk = chunk;
        two->server.body = two->client.body = 0;
        assert_ok(request(two, false, &err));
        push(&two->client, 100'000);
        h2_end(two->client.h2, &two->client.stream, false);
        assert_ok(run(two, &err));
        assert_int_equal(two->server.headers, 4);
        assert_int_equal(two->server.body, 100'000);
        assert_ok(respond(two, &err));
        push(&two->server, 200'000);
        h2_end(two->server.h2, &two->server.stream, true);
        assert_ok(run(two, &err));
        assert_int_equal(two->client.body, 200'000);
        assert_int_equal(two->client.trailers, chunk + 1);
        assert_int_equal(two->server.ended, chunk + 1);
        assert_int_equal(two->client.closed, chunk + 1);
        assert_int_equal(two->server.closed, chunk + 1);
        assert_int_equal(two->client.closed_code, H2_NO_ERROR);
    }
    assert_true(two->server.settings >= 1);
    assert_true(two->client.settings >= 1);
    h2_ping(two->client.h2, 0x0102030405060708);
    assert_ok(run(two, &err));
    assert_true(two->client.pong == 0x0102030405060708);
}

/* Bytes that the owner has not consumed are not renewed: the sender stops at one window. */
static void test_window(void **state)
{
    struct two *two = *state;
    struct error err = {0};
    two->server.hold = true;
    assert_ok(request(two, false, &err));
    push(&two->client, 200'000);
    assert_ok(run(two, &err));
    assert_int_equal(two->server.body, 65'535);
    assert_int_equal(h2_queued(&two->client.stream), 200'000 - 65'535);
    assert_int_equal(two->client.writable, 0);
    two->server.hold = false;
    h2_consume(two->server.h2, &two->server.stream, 65'535);
    assert_ok(run(two, &err));
    assert_int_equal(two->server.body, 200'000);
    assert_int_equal(two->client.writable, 1);
}

/* h2_output stops near what was asked for, and goes on from there. */
static void test_output_bound(void **state)
{
    struct two *two = *state;
    struct error err = {0};
    struct buf out;
    assert_ok(request(two, false, &err));
    push(&two->client, 60'000);
    size_t total = 0;
    for (int i = 0; i < 100; i++) {
        buf_init(&out, 100'000);
        assert_ok(h2_output(two->client.h2, 10'000, 0, &out, &err));
        assert_true(out.len <= 10'000 + 16'384 + 9);
        total += out.len;
        bool more = out.len > 0;
        assert_ok(h2_receive(two->server.h2, buf_slice(&out), 0, &err));
        buf_done(&out);
        if (!more)
            break;
    }
    assert_true(total > 60'000);
    assert_int_equal(two->server.body, 60'000);
}

static void test_header_list(void **state)
{
    struct two *two = *state;
    struct error err = {0};
    static char big[2000];
    memset(big, 'a', sizeof(big) - 1);
    struct h2_header headers[] = {{slice_str(":method"), slice_str("POST")},
                                  {slice_str(":scheme"), slice_str("http")},
                                  {slice_str(":path"), slice_str("/")},
                                  {slice_str(":authority"), slice_str("x")},
                                  {slice_str("x-big"), slice_str(big)}};
    two->server.respond = true;
    assert_ok(
        h2_request(two->client.h2, &two->client.stream, headers, ARRAY_LEN(headers), true, &err));
    assert_ok(run(two, &err));
    assert_true(two->server.too_large);
    assert_int_equal(two->client.responses, 1);
    struct h2_header many[200];
    for (size_t i = 0; i < ARRAY_LEN(many); i++)
        many[i] = headers[4];
    assert_fails(h2_request(two->client.h2, &two->client.stream, many, ARRAY_LEN(many), true, &err),
                 ERROR_EXHAUSTED);
}

static void test_queue_full(void **state)
{
    struct error err = {0};
    struct h2_stream stream;
    (void)state;
    h2_stream_init(&stream, 10);
    buf_put(h2_queue(&stream), slice("0123456789", 10));
    stream.sent = 5;
    struct buf *queue = h2_queue(&stream); /* what was sent makes room */
    assert_int_equal(queue->len, 5);
    buf_put(queue, slice("abcdef", 6));
    assert_fails(buf_ok(queue, &err), ERROR_EXHAUSTED);
    h2_stream_done(&stream);
}

static void test_goaway(void **state)
{
    struct two *two = *state;
    struct error err = {0};
    assert_ok(request(two, false, &err));
    assert_ok(run(two, &err));
    assert_true(h2_has_room(two->client.h2));
    h2_goaway_notice(two->server.h2);
    h2_goaway(two->server.h2);
    assert_ok(run(two, &err));
    assert_int_equal(two->client.goaways, 2);
    assert_false(h2_has_room(two->client.h2));
    assert_false(h2_done(two->client.h2));
    struct h2_stream other;
    struct h2_header path = {slice_str(":path"), slice_str("/")};
    h2_stream_init(&other, 10);
    assert_fails(h2_request(two->client.h2, &other, &path, 1, true, &err), ERROR_UNAVAILABLE);
    assert_ok(respond(two, &err));
    h2_end(two->server.h2, &two->server.stream, true);
    h2_end(two->client.h2, &two->client.stream, false);
    assert_ok(run(two, &err));
    assert_true(h2_done(two->client.h2));
    assert_true(h2_done(two->server.h2));
}

/* ---- By hand: a server and frames ---- */

enum { DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH, PING, GOAWAY, WINDOW_UPDATE, CONT };

struct hand {
    struct two two;
    struct buf bytes; /* to be fed */
};

static void put_frame(struct buf *to, unsigned type, unsigned flags, uint32_t id,
                      struct slice payload)
{
    buf_put_u8(to, (uint8_t)(payload.len >> 16));
    buf_put_u16(to, (uint16_t)payload.len);
    buf_put_u8(to, (uint8_t)type);
    buf_put_u8(to, (uint8_t)flags);
    buf_put_u32(to, id);
    buf_put(to, payload);
}

/* :method POST, :scheme http, :path / from HPACK's static table, :authority "x". */
static const uint8_t request_block[] = {0x83, 0x86, 0x84, 0x41, 0x01, 'x'};

static int open_hand(void **state)
{
    static struct hand hand;
    struct error err = {0};
    hand = (struct hand){0};
    assert_ok(side_open(&hand.two.server, true, &err));
    assert_ok(side_open(&hand.two.client, false, &err));
    buf_init(&hand.bytes, (size_t)8 * 1024 * 1024);
    buf_put(&hand.bytes, slice_str("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
    put_frame(&hand.bytes, SETTINGS, 0, 0, (struct slice){0});
    *state = &hand;
    return 0;
}

static int close_hand(void **state)
{
    struct hand *hand = *state;
    two_close(&hand->two);
    buf_done(&hand->bytes);
    return 0;
}

/* Feeds what is there and throws the server's answers away. */
static bool feed_hand(struct hand *hand, bool read_answers, struct error *err)
{
    struct buf out;
    bool ok = h2_receive(hand->two.server.h2, buf_slice(&hand->bytes), hand->two.now, err);
    buf_clear(&hand->bytes);
    buf_init(&out, (size_t)8 * 1024 * 1024);
    if (read_answers)
        assert_true(h2_output(hand->two.server.h2, (size_t)1024 * 1024, hand->two.now, &out,
                              &(struct error){0}));
    buf_done(&out);
    return ok;
}

static uint64_t counted;

static void find_counter(void *arg, const char *name, const char *help, uint64_t value)
{
    (void)help;
    if (strcmp(name, arg) == 0)
        counted = value;
}

static uint64_t counter_value(const char *name)
{
    counted = UINT64_MAX;
    counter_each(find_counter, (void *)(uintptr_t)name);
    assert_true(counted != UINT64_MAX);
    return counted;
}

/* Sends `frame` until the server has had enough; it must be between low and high of them, and be
 * counted by that name. */
static void flood(struct hand *hand, void (*frame)(struct hand *hand, uint32_t i), unsigned low,
                  unsigned high, const char *counter)
{
    struct error err = {0};
    uint64_t before = counter_value(counter);
    assert_ok(feed_hand(hand, true, &err));
    unsigned n = 0;
    for (; n <= high; n++) {
        frame(hand, n);
        if (!feed_hand(hand, true, &err))
            break;
    }
    assert_in_range(n, low, high);
    assert_int_equal(err.class, ERROR_EXHAUSTED);
    assert_int_equal(err.domain, ERROR_DOMAIN_HTTP2);
    assert_true(counter_value(counter) == before + 1);
    assert_false(feed_hand(hand, true, &err)); /* and it stays so */
}

static void settings_frame(struct hand *hand, uint32_t i)
{
    (void)i;
    put_frame(&hand->bytes, SETTINGS, 0, 0, (struct slice){0});
}

static void priority_frame(struct hand *hand, uint32_t i)
{
    put_frame(&hand->bytes, PRIORITY, 0, 2 * i + 1, slice("\0\0\0\0\1", 5));
}

static void window_frame(struct hand *hand, uint32_t i)
{
    (void)i;
    put_frame(&hand->bytes, WINDOW_UPDATE, 0, 0, slice("\0\0\0\1", 4));
}

static void unknown_frame(struct hand *hand, uint32_t i)
{
    (void)i;
    put_frame(&hand->bytes, PING, 0, 0, slice("12345678", 8));
}

static void empty_data_frame(struct hand *hand, uint32_t i)
{
    if (i == 0)
        put_frame(&hand->bytes, HEADERS, 4, 1, SLICE_OF(request_block));
    put_frame(&hand->bytes, DATA, 0, 1, (struct slice){0});
}

static void reset_frames(struct hand *hand, uint32_t i)
{
    put_frame(&hand->bytes, HEADERS, 4, 2 * i + 1, SLICE_OF(request_block));
    put_frame(&hand->bytes, RST_STREAM, 0, 2 * i + 1, slice("\0\0\0\x8", 4));
}

/* "Made you reset": a frame that forces us to reset the stream. */
static void made_you_reset(struct hand *hand, uint32_t i)
{
    put_frame(&hand->bytes, HEADERS, 4, 2 * i + 1, SLICE_OF(request_block));
    put_frame(&hand->bytes, WINDOW_UPDATE, 0, 2 * i + 1, slice("\x7f\xff\xff\xff", 4));
}

#define IDLE H2_IDLE_FRAME_BURST - 10, H2_IDLE_FRAME_BURST + 10
#define CONTROL "postern_http2_control_flood_total"

static void test_settings_flood(void **state)
{
    flood(*state, settings_frame, IDLE, CONTROL);
}

static void test_priority_flood(void **state)
{
    flood(*state, priority_frame, IDLE, CONTROL);
}

static void test_window_flood(void **state)
{
    flood(*state, window_frame, IDLE, CONTROL);
}

static void test_ping_flood(void **state)
{
    flood(*state, unknown_frame, IDLE, CONTROL);
}

static void test_empty_data_flood(void **state)
{
    flood(*state, empty_data_frame, IDLE, "postern_http2_empty_data_flood_total");
}

static void test_reset_flood(void **state)
{
    flood(*state, reset_frames, H2_RESET_BURST - 2, H2_RESET_BURST + 2,
          "postern_http2_reset_flood_total");
}

static void test_made_you_reset(void **state)
{
    struct hand *hand = *state;
    hand->two.server.respond = false;
    flood(hand, made_you_reset, H2_RESET_BURST - 2, H2_RESET_BURST + 4,
          "postern_http2_reset_flood_total");
}

/* Answers pile up because nobody reads them. */
static void test_backlog(void **state)
{
    struct hand *hand = *state;
    struct error err = {0};
    assert_ok(feed_hand(hand, true, &err));
    unsigned n = 0;
    for (; n < 10'000; n++) {
        hand->two.now += 100; /* no flood by pace */
        put_frame(&hand->bytes, PING, 0, 0, slice("12345678", 8));
        if (!feed_hand(hand, false, &err))
            break;
    }
    assert_in_range(n, H2_ACK_BACKLOG_MAX - 2, H2_BACKLOG_MAX + 2);
}

/* The same with answers of other kinds: responses that the peer's window of nothing holds back. */
static void test_backlog_of_answers(void **state)
{
    struct hand *hand = *state;
    struct error err = {0};
    uint64_t before = counter_value("postern_http2_backlog_total");
    assert_ok(feed_hand(hand, true, &err));
    unsigned n = 0;
    hand->two.server.respond = true;
    for (; n < 10'000; n++) {
        hand->two.now += 100; /* no flood by pace */
        put_frame(&hand->bytes, HEADERS, 5, 2 * n + 1, SLICE_OF(request_block));
        put_frame(&hand->bytes, WINDOW_UPDATE, 0, 2 * n + 1, slice("\x7f\xff\xff\xff", 4));
        if (!feed_hand(hand, false, &err))
            break;
    }
    assert_true(n <= H2_BACKLOG_MAX + 20);
    assert_int_equal(err.class, ERROR_EXHAUSTED);
    assert_true(counter_value("postern_http2_backlog_total") == before + 1);
}

static void test_continuation_flood(void **state)
{
    struct hand *hand = *state;
    struct error err = {0};
    put_frame(&hand->bytes, HEADERS, 0, 1, SLICE_OF(request_block));
    for (size_t i = 0; i <= H2_CONTINUATIONS_MAX; i++)
        put_frame(&hand->bytes, CONT, 0, 1, (struct slice){0});
    uint64_t before = counter_value("postern_http2_continuation_flood_total");
    assert_fails(feed_hand(hand, true, &err), ERROR_EXHAUSTED);
    assert_int_equal(hand->two.server.requests, 0);
    assert_true(counter_value("postern_http2_continuation_flood_total") == before + 1);
}

static void test_settings_entries(void **state)
{
    struct hand *hand = *state;
    struct error err = {0};
    static const uint8_t entries[6 * (H2_SETTINGS_MAX + 1)] = {0, 9};
    put_frame(&hand->bytes, SETTINGS, 0, 0, SLICE_OF(entries));
    bool ok = feed_hand(hand, true, &err);
    assert_true(!ok || h2_done(hand->two.server.h2));
}

static void open_streams(struct hand *hand, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        put_frame(&hand->bytes, HEADERS, 4, 2 * i + 1, SLICE_OF(request_block));
}

/* More streams than allowed are refused, and counted, while the peer may not know the limit … */
static void test_concurrent(void **state)
{
    struct hand *hand = *state;
    struct error err = {0};
    uint64_t before = counter_value("postern_http2_streams_refused_total");
    open_streams(hand, 13);
    assert_ok(feed_hand(hand, true, &err));
    assert_int_equal(hand->two.server.requests, 10);
    assert_true(counter_value("postern_http2_streams_refused_total") == before + 3);
    assert_false(h2_done(hand->two.server.h2));
}

/* … and end the connection of one that has acknowledged it. */
static void test_concurrent_known(void **state)
{
    struct hand *hand = *state;
    struct error err = {0};
    assert_ok(feed_hand(hand, true, &err)); /* our SETTINGS go out */
    put_frame(&hand->bytes, SETTINGS, 1, 0, (struct slice){0});
    open_streams(hand, 13);
    (void)feed_hand(hand, true, &err);
    assert_int_equal(hand->two.server.requests, 10);
    assert_true(h2_done(hand->two.server.h2));
}

/* 14: padding counts, and is given back. */
static void test_padding(void **state)
{
    struct hand *hand = *state;
    struct error err = {0};
    static uint8_t padded[16'000] = {255};
    put_frame(&hand->bytes, HEADERS, 4, 1, SLICE_OF(request_block));
    assert_ok(feed_hand(hand, true, &err));
    for (int i = 0; i < 100; i++) { /* far more than one window */
        put_frame(&hand->bytes, DATA, 8, 1, SLICE_OF(padded));
        assert_ok(feed_hand(hand, true, &err));
    }
    assert_int_equal(hand->two.server.body, 100 * (16'000 - 256));
}

static void test_nonsense(void **state)
{
    struct hand *hand = *state;
    struct error err = {0};
    buf_clear(&hand->bytes);
    buf_put(&hand->bytes, slice_str("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
    assert_fails(feed_hand(hand, true, &err), ERROR_INVALID);
    assert_error_contains("HTTP/2");
    assert_fails(h2_receive(hand->two.server.h2, slice_str("x"), 0, &err), ERROR_INVALID);
}

/* ---- Memory ---- */

static bool exchange(void *arg, struct error *err)
{
    struct two two = {0};
    (void)arg;
    bool ok = two_open(&two, err) && request(&two, true, err) && run(&two, err);
    if (ok && two.server.requests == 1) {
        ok = respond(&two, err);
        if (ok)
            h2_end(two.server.h2, &two.server.stream, true);
        ok = ok && run(&two, err);
    }
    if (ok && two.client.trailers != 1) /* a side without memory reset the stream */
        ok = error_set_memory(err);
    two_close(&two);
    return ok;
}

static void test_memory(void **state)
{
    (void)state;
    testlib_allocation_sweep(exchange, nullptr);
}

#define TWO(test) cmocka_unit_test_setup_teardown(test, open_two, close_two)
#define HAND(test) cmocka_unit_test_setup_teardown(test, open_hand, close_hand)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TWO(test_exchange),
        TWO(test_window),
        TWO(test_output_bound),
        TWO(test_header_list),
        cmocka_unit_test(test_queue_full),
        TWO(test_goaway),
        HAND(test_settings_flood),
        HAND(test_priority_flood),
        HAND(test_window_flood),
        HAND(test_ping_flood),
        HAND(test_empty_data_flood),
        HAND(test_reset_flood),
        HAND(test_made_you_reset),
        HAND(test_backlog),
        HAND(test_backlog_of_answers),
        HAND(test_continuation_flood),
        HAND(test_settings_entries),
        HAND(test_concurrent),
        HAND(test_concurrent_known),
        HAND(test_padding),
        HAND(test_nonsense),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
