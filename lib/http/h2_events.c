/* What nghttp2 calls: header blocks, bodies, the ends of streams, and the counting of frames that an
 * attacker would send. */
#include "base/counter.h"
#include "base/mem.h"
#include "http/h2_session.h"

COUNTER(count_resets, "postern_http2_reset_flood_total",
        "HTTP/2 connections closed because the peer reset streams too often.");
COUNTER(count_idle_frames, "postern_http2_control_flood_total",
        "HTTP/2 connections closed for too many SETTINGS, PING, PRIORITY or WINDOW_UPDATE frames.");
COUNTER(count_empty_data, "postern_http2_empty_data_flood_total",
        "HTTP/2 connections closed for too many empty DATA frames.");
COUNTER(count_backlog, "postern_http2_backlog_total",
        "HTTP/2 connections closed because the peer did not read our answers.");
COUNTER(count_header_list, "postern_http2_header_list_total",
        "HTTP/2 header lists over the limit.");
COUNTER(count_refused, "postern_http2_streams_refused_total",
        "HTTP/2 streams refused because too many were open.");

constexpr uint64_t TOKEN =
    1'000; /* buckets count in thousandths, so that milliseconds refill them */

void h2_rates_init(struct h2 *h2)
{
    h2->resets = (struct h2_rate){H2_RESET_BURST * TOKEN, h2->now};
    h2->idle_frames = (struct h2_rate){H2_IDLE_FRAME_BURST * TOKEN, h2->now};
}

static void rate_give(struct h2_rate *rate, uint64_t tokens, uint64_t burst)
{
    rate->tokens = rate->tokens + tokens < burst * TOKEN ? rate->tokens + tokens : burst * TOKEN;
}

static bool rate_take(struct h2_rate *rate, uint64_t now, uint64_t burst, uint64_t per_second)
{
    uint64_t passed = now > rate->at ? now - rate->at : 0;
    rate->at = now;
    if (passed > TOKEN * burst) /* more than refills any bucket; keeps the product small */
        passed = TOKEN * burst;
    rate_give(rate, passed * per_second, burst); /* ms × tokens/s = thousandths */
    if (rate->tokens < TOKEN)
        return false;
    rate->tokens -= TOKEN;
    return true;
}

/* Ends the connection: the peer went over a limit. */
static int calm_down(struct h2 *h2, struct counter *counter, const char *what)
{
    counter_add(counter, 1);
    h2->failed = true;
    error_set_native(&h2->error, ERROR_EXHAUSTED, ERROR_DOMAIN_HTTP2, H2_ENHANCE_YOUR_CALM, nullptr,
                     "the peer sent too many %s", what);
    h2_terminate(h2, H2_ENHANCE_YOUR_CALM);
    return NGHTTP2_ERR_CALLBACK_FAILURE;
}

/* The connection can't go on without memory. */
static int give_up(struct h2 *h2)
{
    h2->failed = true;
    error_set_memory(&h2->error);
    return NGHTTP2_ERR_CALLBACK_FAILURE;
}

static int count_reset(struct h2 *h2)
{
    if (rate_take(&h2->resets, h2->now, H2_RESET_BURST, H2_RESET_PER_SECOND))
        return 0;
    return calm_down(h2, &count_resets, "stream resets");
}

/* Every frame takes one from the bucket, also those that nghttp2 ignores or refuses; this gives two
 * back. */
static void useful_frame(struct h2 *h2)
{
    rate_give(&h2->idle_frames, 2 * TOKEN, H2_IDLE_FRAME_BURST);
}

static int on_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *header, void *arg)
{
    struct h2 *h2 = arg;
    if (nghttp2_session_get_outbound_queue_size(session) > H2_BACKLOG_MAX)
        return calm_down(h2, &count_backlog, "frames without reading our answers");
    if (rate_take(&h2->idle_frames, h2->now, H2_IDLE_FRAME_BURST, H2_IDLE_FRAME_PER_SECOND))
        return 0;
    if (header->type == NGHTTP2_DATA)
        return calm_down(h2, &count_empty_data, "empty DATA frames");
    return calm_down(h2, &count_idle_frames, "frames that carry nothing");
}

/* ---- Header blocks ---- */

void h2_block_clear(struct h2 *h2)
{
    for (size_t i = 0; i < h2->block_count; i++) {
        nghttp2_rcbuf_decref(h2->block_refs[2 * i]);
        nghttp2_rcbuf_decref(h2->block_refs[2 * i + 1]);
    }
    h2->block_count = 0;
    h2->block_size = 0;
    h2->block_too_large = h2->block_has_status = h2->block_status_final = false;
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    (void)session;
    (void)frame;
    h2_block_clear(arg);
    return 0;
}

static bool block_grow(struct h2 *h2)
{
    size_t room = h2->block_room ? 2 * h2->block_room : 16;
    void *block = mem_resize(h2->block, room * sizeof(*h2->block));
    if (!block)
        return false;
    h2->block = block;
    void *refs = mem_resize(h2->block_refs, 2 * room * sizeof(*h2->block_refs));
    if (!refs)
        return false;
    h2->block_refs = refs;
    h2->block_room = room;
    return true;
}

static struct slice rcbuf_slice(nghttp2_rcbuf *rcbuf)
{
    nghttp2_vec vec = nghttp2_rcbuf_get_buf(rcbuf);
    return slice(vec.base, vec.len);
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, nghttp2_rcbuf *name,
                     nghttp2_rcbuf *value, uint8_t flags, void *arg)
{
    struct h2 *h2 = arg;
    (void)session;
    (void)frame;
    (void)flags;
    struct h2_header header = {rcbuf_slice(name), rcbuf_slice(value)};
    h2->block_size += header.name.len + header.value.len + 32;
    if (h2->block_size > h2->options.header_list) {
        h2->block_too_large = true; /* decoded further for HPACK's state, but not kept */
        return 0;
    }
    if (h2->block_count == h2->block_room && !block_grow(h2))
        return give_up(h2);
    if (slice_is(header.name, ":status")) {
        h2->block_has_status = true;
        h2->block_status_final = header.value.len == 3 && header.value.data[0] != '1';
    }
    nghttp2_rcbuf_incref(name);
    nghttp2_rcbuf_incref(value);
    h2->block_refs[2 * h2->block_count] = name;
    h2->block_refs[2 * h2->block_count + 1] = value;
    h2->block[h2->block_count++] = header;
    return 0;
}

static void new_request(struct h2 *h2, int32_t id, bool end)
{
    struct h2_stream *stream = h2->options.events->request(
        h2->options.arg, id, h2->block, h2->block_count, h2->block_too_large, end);
    if (!stream)
        return;
    stream->id = id;
    stream->open = true;
    /* It fails only for an unknown stream, and this one has just come. */
    (void)nghttp2_session_set_stream_user_data(h2->session, id, stream);
}

static void headers_done(struct h2 *h2, const nghttp2_frame *frame)
{
    const struct h2_events *events = h2->options.events;
    int32_t id = frame->hd.stream_id;
    bool end = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    if (h2->block_too_large)
        counter_add(&count_header_list, 1);
    if (frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
        new_request(h2, id, end);
        h2_block_clear(h2);
        return;
    }
    struct h2_stream *stream = nghttp2_session_get_stream_user_data(h2->session, id);
    bool response = h2->block_has_status;
    if (stream && response && h2->block_status_final && events->response)
        events->response(h2->options.arg, stream, h2->block, h2->block_count, h2->block_too_large,
                         end);
    if (stream && !response && events->trailers)
        events->trailers(h2->options.arg, stream, h2->block, h2->block_count, h2->block_too_large);
    h2_block_clear(h2);
}

/* ---- Received frames ---- */

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg_h2)
{
    struct h2 *h2 = arg_h2;
    (void)session;
    const struct h2_events *events = h2->options.events;
    void *arg = h2->options.arg;
    struct h2_stream *stream;
    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
        useful_frame(h2);
        headers_done(h2, frame);
        return 0;
    case NGHTTP2_DATA:
        if (frame->hd.length > frame->data.padlen || (frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
            useful_frame(h2);
        stream = nghttp2_session_get_stream_user_data(h2->session, frame->hd.stream_id);
        if (stream && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) && events->ended)
            events->ended(arg, stream);
        return 0;
    case NGHTTP2_RST_STREAM:
        return h2->options.server ? count_reset(h2) : 0;
    case NGHTTP2_SETTINGS:
        if (!(frame->hd.flags & NGHTTP2_FLAG_ACK) && events->settings)
            events->settings(arg);
        break;
    case NGHTTP2_PING:
        if ((frame->hd.flags & NGHTTP2_FLAG_ACK) && h2->pings > 0) { /* asked for, so free */
            h2->pings--;
            rate_give(&h2->idle_frames, TOKEN, H2_IDLE_FRAME_BURST);
        }
        if ((frame->hd.flags & NGHTTP2_FLAG_ACK) && events->pong) {
            struct reader r = reader(slice(frame->ping.opaque_data, 8));
            events->pong(arg, reader_u64(&r));
        }
        break;
    case NGHTTP2_GOAWAY:
        h2->goaway_received = true;
        if (events->goaway)
            events->goaway(arg, frame->goaway.last_stream_id, frame->goaway.error_code,
                           slice(frame->goaway.opaque_data, frame->goaway.opaque_data_len));
        break;
    default:
        break;
    }
    return 0;
}

static int on_invalid_frame(nghttp2_session *session, const nghttp2_frame *frame, int code,
                            void *arg)
{
    (void)session;
    (void)frame;
    (void)arg;
    if (code == NGHTTP2_ERR_REFUSED_STREAM)
        counter_add(&count_refused, 1);
    return 0;
}

static int on_data_chunk(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data,
                         size_t len, void *arg)
{
    struct h2 *h2 = arg;
    (void)flags;
    struct h2_stream *stream = nghttp2_session_get_stream_user_data(session, id);
    if (nghttp2_session_consume_connection(session, len) != 0)
        return give_up(h2);
    if (stream && h2->options.events->data)
        h2->options.events->data(h2->options.arg, stream, slice(data, len));
    else if (nghttp2_session_consume_stream(session, id, len) == NGHTTP2_ERR_NOMEM)
        return give_up(h2);
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *arg)
{
    struct h2 *h2 = arg;
    struct h2_stream *stream = nghttp2_session_get_stream_user_data(session, id);
    if (!stream)
        return 0;
    (void)nghttp2_session_set_stream_user_data(session, id, nullptr);
    stream->open = false;
    if (!h2->options.server)
        h2->streams--;
    if (h2->options.events->closed)
        h2->options.events->closed(h2->options.arg, stream, code);
    return 0;
}

/* ---- Sending ---- */

/* NOLINTNEXTLINE(readability-non-const-parameter): the type is nghttp2's */
nghttp2_ssize h2_pull(nghttp2_session *session, int32_t id, uint8_t *buf, size_t length,
                      uint32_t *flags, nghttp2_data_source *source, void *arg)
{
    struct h2 *h2 = arg;
    struct h2_stream *stream = source->ptr;
    (void)session;
    (void)id;
    (void)buf;
    size_t queued = h2_queued(stream);
    size_t n = queued < length ? queued : length;
    if (n == 0 && !stream->ending) {
        stream->deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    if (n > 0)
        *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (n == queued && stream->ending) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        if (stream->trailers) {
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            h2->options.events->trailers_due(h2->options.arg, stream);
        }
    }
    return (nghttp2_ssize)n;
}

/* A DATA frame from the stream's queue into the output: the body's only copy on its way out. */
static int on_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *header,
                        size_t length, nghttp2_data_source *source, void *arg)
{
    struct h2 *h2 = arg;
    struct h2_stream *stream = source->ptr;
    (void)session;
    (void)frame;
    if (h2->out->len >= h2->most)
        return NGHTTP2_ERR_WOULDBLOCK;
    buf_put(h2->out, slice(header, 9)); /* nothing is padded */
    buf_put(h2->out, slice(stream->queue.data + stream->sent, length));
    stream->sent += length;
    useful_frame(h2);
    return 0;
}

static int on_frame_sent(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct h2 *h2 = arg;
    int32_t id = frame->hd.stream_id;
    bool end = (frame->hd.type == NGHTTP2_DATA || frame->hd.type == NGHTTP2_HEADERS) &&
               (frame->hd.flags & NGHTTP2_FLAG_END_STREAM);
    /* gRPC: the status was sent before the client ended its side, so it need not go on. */
    if (end && h2->options.server && nghttp2_session_get_stream_remote_close(session, id) == 0 &&
        nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, id, NGHTTP2_NO_ERROR) != 0)
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    if (frame->hd.type == NGHTTP2_RST_STREAM && h2->options.server && !h2->failed &&
        frame->rst_stream.error_code != H2_NO_ERROR && frame->rst_stream.error_code != H2_CANCEL &&
        frame->rst_stream.error_code != H2_REFUSED_STREAM && count_reset(h2) != 0)
        return 0; /* the GOAWAY that count_reset queued goes out next */
    struct h2_stream *stream = nghttp2_session_get_stream_user_data(session, id);
    if (frame->hd.type == NGHTTP2_DATA && stream && stream->high && !stream->ending &&
        h2_queued(stream) <= h2->options.low_water) {
        stream->high = false;
        if (h2->options.events->writable)
            h2->options.events->writable(h2->options.arg, stream);
    }
    return 0;
}

void h2_set_callbacks(nghttp2_session_callbacks *callbacks)
{
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback2(callbacks, on_header);
    nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks, on_begin_frame);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks, on_invalid_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data_chunk);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    nghttp2_session_callbacks_set_send_data_callback(callbacks, on_send_data);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_sent);
}
