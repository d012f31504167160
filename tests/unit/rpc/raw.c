#include "unit/rpc/raw.h"

#include "testlib/testlib.h"

#include <stdio.h>

static bool route(void *arg, struct rpc_call *call, const struct rpc_method **ret_method,
                  const void **ret_handlers, void **ret_arg, struct error *err)
{
    struct raw *raw = arg;
    for (size_t i = 0; i < echo_service.method_count; i++) {
        if (strcmp(echo_service.methods[i].path, rpc_call_path(call)) != 0)
            continue;
        *ret_method = &echo_service.methods[i];
        *ret_handlers = &echo_handlers;
        *ret_arg = &raw->echo;
        return true;
    }
    return error_set(err, ERROR_UNIMPLEMENTED, "there is no method %s", rpc_call_path(call));
}

static const struct rpc_conn_events conn_events = {.route = route};

static void copy_block(char *to, size_t size, const struct h2_header *headers, size_t count)
{
    size_t at = 0;
    to[0] = 0;
    for (size_t i = 0; i < count && at < size; i++)
        at += (size_t)snprintf(to + at, size - at, "%.*s: %.*s\n", (int)headers[i].name.len,
                               (const char *)headers[i].name.data, (int)headers[i].value.len,
                               (const char *)headers[i].value.data);
}

static struct h2_stream *on_request(void *arg, int32_t id, const struct h2_header *headers,
                                    size_t count, bool too_large, bool end)
{
    struct raw *raw = arg;
    (void)too_large;
    (void)end;
    copy_block(raw->headers, sizeof(raw->headers), headers, count);
    h2_stream_done(&raw->stream);
    h2_stream_init(&raw->stream, (size_t)16 * 1024 * 1024);
    raw->stream.id = id;
    if (raw->respond)
        raw->respond(raw);
    return &raw->stream;
}

static void on_response(void *arg, struct h2_stream *stream, const struct h2_header *headers,
                        size_t count, bool too_large, bool end)
{
    struct raw *raw = arg;
    (void)stream;
    (void)too_large;
    (void)end;
    copy_block(raw->headers, sizeof(raw->headers), headers, count);
}

static void on_trailers(void *arg, struct h2_stream *stream, const struct h2_header *headers,
                        size_t count, bool too_large)
{
    struct raw *raw = arg;
    (void)stream;
    (void)too_large;
    copy_block(raw->trailers, sizeof(raw->trailers), headers, count);
}

static void on_data(void *arg, struct h2_stream *stream, struct slice bytes)
{
    struct raw *raw = arg;
    buf_put(&raw->body, bytes);
    h2_consume(raw->h2, stream, bytes.len);
}

static void on_closed(void *arg, struct h2_stream *stream, uint32_t code)
{
    struct raw *raw = arg;
    (void)stream;
    raw->closed++;
    raw->closed_code = code;
}

static void on_goaway(void *arg, int32_t last_id, uint32_t code, struct slice debug)
{
    struct raw *raw = arg;
    (void)last_id;
    (void)debug;
    raw->goaways++;
    raw->goaway_code = code;
}

static const struct h2_events h2_events = {
    .request = on_request,
    .response = on_response,
    .trailers = on_trailers,
    .data = on_data,
    .closed = on_closed,
    .goaway = on_goaway,
};

void raw_open(struct raw *raw, bool conn_is_server, const struct rpc_limits *limits)
{
    struct error err = {0};
    struct rpc_conn_options conn = {.server = conn_is_server,
                                    .events = &conn_events,
                                    .arg = raw,
                                    .scheme = "http",
                                    .authority = "test"};
    struct h2_options h2 = {.server = !conn_is_server,
                            .max_streams = 100,
                            .window = 65'535,
                            .header_list = 64 * 1024,
                            .low_water = 0,
                            .events = &h2_events,
                            .arg = raw};
    if (limits)
        conn.limits = *limits;
    raw->conn_is_server = conn_is_server;
    raw->now = 1'000'000;
    buf_init(&raw->body, (size_t)16 * 1024 * 1024);
    h2_stream_init(&raw->stream, (size_t)16 * 1024 * 1024);
    assert_ok(h2_new(&h2, raw->now, &raw->h2, &err));
    assert_ok(rpc_conn_new(&conn, raw->now, &raw->conn, &err));
    raw_run(raw);
}

void raw_close(struct raw *raw)
{
    rpc_conn_free(raw->conn);
    h2_free(raw->h2);
    h2_stream_done(&raw->stream);
    buf_done(&raw->body);
}

void raw_run(struct raw *raw)
{
    for (unsigned i = 0; i < 10'000 && !raw->broken; i++) {
        CLEANUP(buf_done) struct buf out, in;
        struct error err = {0};
        buf_init(&out, (size_t)16 * 1024 * 1024);
        buf_init(&in, (size_t)16 * 1024 * 1024);
        assert_ok(h2_output(raw->h2, (size_t)1024 * 1024, raw->now, &out, &err));
        if (out.len > 0 && !rpc_conn_receive(raw->conn, buf_slice(&out), raw->now, &err)) {
            raw->broken = true;
            raw->error = err;
        }
        if (rpc_conn_next(raw->conn) <= raw->now)
            rpc_conn_tick(raw->conn, raw->now);
        assert_ok(rpc_conn_output(raw->conn, (size_t)1024 * 1024, raw->now, &in, &err));
        if (in.len > 0 && !h2_receive(raw->h2, buf_slice(&in), raw->now, &err)) {
            raw->broken = true;
            raw->error = err;
        }
        if (out.len == 0 && in.len == 0)
            return;
    }
}

static void add(struct h2_header *list, size_t *count, const char *name, const char *value)
{
    list[(*count)++] = (struct h2_header){slice_str(name), slice_str(value)};
}

static const char *pick(const char *const *extra, const char *name, const char *otherwise)
{
    for (; extra && *extra; extra += 2)
        if (strcmp(extra[0], name) == 0)
            return extra[1];
    return otherwise;
}

void raw_request(struct raw *raw, const char *path, const char *const *extra, struct slice body,
                 bool end)
{
    struct h2_header list[64];
    struct error err = {0};
    size_t count = 0;
    const char *type = pick(extra, "content-type", "application/grpc");
    h2_stream_done(&raw->stream);
    h2_stream_init(&raw->stream, (size_t)16 * 1024 * 1024);
    buf_clear(&raw->body);
    raw->headers[0] = raw->trailers[0] = 0;
    raw->closed = 0;
    add(list, &count, ":method", pick(extra, ":method", "POST"));
    add(list, &count, ":scheme", "http");
    add(list, &count, ":path", path);
    add(list, &count, ":authority", "test");
    if (type[0])
        add(list, &count, "content-type", type);
    add(list, &count, "te", "trailers");
    for (const char *const *e = extra; e && *e; e += 2)
        if (e[0][0] != ':' && strcmp(e[0], "content-type") != 0)
            add(list, &count, e[0], e[1]);
    assert_ok(h2_request(raw->h2, &raw->stream, list, count, end && body.len == 0, &err));
    buf_put(h2_queue(&raw->stream), body);
    h2_push(raw->h2, &raw->stream);
    if (end && body.len > 0)
        h2_end(raw->h2, &raw->stream, false);
}

void raw_respond(struct raw *raw, const char *const *headers, bool end)
{
    struct h2_header list[64];
    struct error err = {0};
    size_t count = 0;
    for (; headers && *headers; headers += 2)
        add(list, &count, headers[0], headers[1]);
    assert_ok(h2_respond(raw->h2, &raw->stream, list, count, end, &err));
}

const char *raw_header(const char *block, const char *name)
{
    static char value[1024];
    size_t len = strlen(name);
    value[0] = 0;
    for (const char *line = block; line && *line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, name, len) == 0 && line[len] == ':')
            (void)snprintf(value, sizeof(value), "%.*s", (int)strcspn(line + len + 2, "\n"),
                           line + len + 2);
    }
    return value;
}

size_t raw_message(const Postern__Test__Note *message, uint8_t flag, uint8_t *ret, size_t size)
{
    size_t packed = protobuf_c_message_get_packed_size(&message->base);
    assert_true(packed + 5 <= size);
    ret[0] = flag;
    for (size_t i = 0; i < 4; i++)
        ret[1 + i] = (uint8_t)(packed >> (8 * (3 - i)));
    return 5 + protobuf_c_message_pack(&message->base, ret + 5);
}
