#include "http/h2_session.h"

#include "base/counter.h"
#include "base/mem.h"

COUNTER(count_broken, "postern_http2_broken_total",
        "HTTP/2 connections ended because the peer broke the protocol.");
COUNTER(count_continuations, "postern_http2_continuation_flood_total",
        "HTTP/2 connections closed for header blocks of too many CONTINUATION frames.");
COUNTER(
    count_acks, "postern_http2_ack_flood_total",
    "HTTP/2 connections closed because SETTINGS and PING frames came faster than answers went.");

/* nghttp2 allocates where everything else does, so that the allocation sweep reaches it. */
static void *h2_malloc(size_t size, void *arg)
{
    (void)arg;
    return mem_resize(nullptr, size);
}

static void *h2_calloc(size_t count, size_t size, void *arg)
{
    (void)arg;
    return mem_new(count, size);
}

static void *h2_realloc(void *old, size_t size, void *arg)
{
    (void)arg;
    return mem_resize(old, size);
}

static void h2_free_memory(void *object, void *arg)
{
    (void)arg;
    mem_free(object);
}

static bool set_nghttp2(struct error *err, int code, const char *what)
{
    if (code == NGHTTP2_ERR_NOMEM)
        return error_set_memory(err);
    return error_set_native(err, ERROR_INVALID, ERROR_DOMAIN_HTTP2, code, nghttp2_strerror(code),
                            "%s", what);
}

static bool session_new(struct h2 *h2, nghttp2_session_callbacks *callbacks, nghttp2_option *option)
{
    nghttp2_mem mem = {
        .malloc = h2_malloc, .calloc = h2_calloc, .realloc = h2_realloc, .free = h2_free_memory};
    h2_set_callbacks(callbacks);
    nghttp2_option_set_no_auto_window_update(option, 1);
    nghttp2_option_set_max_outbound_ack(option, H2_ACK_BACKLOG_MAX);
    nghttp2_option_set_max_settings(option, H2_SETTINGS_MAX);
    nghttp2_option_set_max_continuations(option, H2_CONTINUATIONS_MAX);
    /* Closed streams are of no use to us, and nghttp2 would keep up to 100 of them. */
    nghttp2_option_set_no_closed_streams(option, 1);
    /* Metadata with spaces around it is odd, but no reason to drop it. */
    nghttp2_option_set_no_rfc9113_leading_and_trailing_ws_validation(option, 1);
    /* Ours counts with the caller's clock and comes first; nghttp2's own is the second line. */
    nghttp2_option_set_stream_reset_rate_limit(option, 4 * H2_RESET_BURST, 4 * H2_RESET_PER_SECOND);
    auto make = h2->options.server ? nghttp2_session_server_new3 : nghttp2_session_client_new3;
    return make(&h2->session, callbacks, h2, option, &mem) == 0;
}

static bool session_start(struct h2 *h2)
{
    const struct h2_options *options = &h2->options;
    nghttp2_settings_entry entries[4];
    size_t n = 0;
    if (options->server)
        entries[n++] =
            (nghttp2_settings_entry){NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, options->max_streams};
    else
        entries[n++] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_ENABLE_PUSH, 0};
    entries[n++] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, options->window};
    entries[n++] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE,
                                            (uint32_t)options->header_list};
    return nghttp2_submit_settings(h2->session, NGHTTP2_FLAG_NONE, entries, n) == 0 &&
           nghttp2_session_set_local_window_size(h2->session, NGHTTP2_FLAG_NONE, 0,
                                                 (int32_t)H2_CONNECTION_WINDOW) == 0;
}

bool h2_new(const struct h2_options *options, uint64_t now, struct h2 **ret, struct error *err)
{
    CLEANUP(h2_free_at) struct h2 *h2 = mem_new(1, sizeof(*h2));
    nghttp2_session_callbacks *callbacks = nullptr;
    nghttp2_option *option = nullptr;
    bool ok = false;
    if (!h2)
        return error_set_memory(err);
    h2->options = *options;
    h2->now = now;
    h2_rates_init(h2);
    if (nghttp2_session_callbacks_new(&callbacks) == 0 && nghttp2_option_new(&option) == 0)
        ok = session_new(h2, callbacks, option) && session_start(h2);
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_option_del(option);
    if (!ok)
        return error_set_memory(err);
    *ret = TAKE(h2);
    return true;
}

struct h2 *h2_free(struct h2 *h2)
{
    if (!h2)
        return nullptr;
    nghttp2_session_del(h2->session);
    h2_block_clear(h2);
    mem_free(h2->block);
    mem_free(h2->block_refs);
    return mem_free(h2);
}

/* nghttp2 itself found the peer at fault. */
static bool receive_failed(struct h2 *h2, int code, struct error *err)
{
    bool flood = code == NGHTTP2_ERR_FLOODED || code == NGHTTP2_ERR_TOO_MANY_CONTINUATIONS;
    h2->failed = true;
    if (code == NGHTTP2_ERR_NOMEM)
        return error_set_memory(err);
    counter_add(code == NGHTTP2_ERR_FLOODED                  ? &count_acks
                : code == NGHTTP2_ERR_TOO_MANY_CONTINUATIONS ? &count_continuations
                                                             : &count_broken,
                1);
    /* Most of these queue their own GOAWAY; terminating twice is harmless. */
    h2_terminate(h2, flood ? H2_ENHANCE_YOUR_CALM : H2_PROTOCOL_ERROR);
    set_nghttp2(err, code, "bad HTTP/2 from the peer");
    err->class = flood ? ERROR_EXHAUSTED : ERROR_INVALID;
    return false;
}

bool h2_receive(struct h2 *h2, struct slice bytes, uint64_t now, struct error *err)
{
    h2->now = now;
    if (h2->failed) {
        if (!h2->error.class)
            return error_set(err, ERROR_INVALID, "the connection has failed already");
        *err = h2->error; /* the limit was found while sending */
        return false;
    }
    nghttp2_ssize n = nghttp2_session_mem_recv2(h2->session, bytes.data, bytes.len);
    if (h2->failed) {
        *err = h2->error;
        return false;
    }
    if (n < 0)
        return receive_failed(h2, (int)n, err);
    return true;
}

bool h2_output(struct h2 *h2, size_t most, uint64_t now, struct buf *ret, struct error *err)
{
    bool ok = true;
    h2->now = now;
    h2->out = ret;
    h2->most = ret->len + most;
    while (ret->len < h2->most) {
        const uint8_t *data;
        nghttp2_ssize n = nghttp2_session_mem_send2(h2->session, &data);
        if (n < 0)
            ok = set_nghttp2(err, (int)n, "cannot write HTTP/2");
        if (n <= 0)
            break;
        buf_put(ret, slice(data, (size_t)n));
    }
    h2->out = nullptr;
    return ok && buf_ok(ret, err);
}

bool h2_done(const struct h2 *h2)
{
    return !nghttp2_session_want_read(h2->session) && !nghttp2_session_want_write(h2->session);
}

void h2_stream_init(struct h2_stream *stream, size_t queue_max)
{
    *stream = (struct h2_stream){0};
    buf_init_wiping(&stream->queue, queue_max);
}

void h2_stream_done(struct h2_stream *stream)
{
    buf_done(&stream->queue);
}

constexpr size_t H2_HEADERS_SENT_MAX = 128; /* of ours: our own mistake, not a peer's */

/* nghttp2's form of a header list; it copies names and values on submission. */
static bool to_nv(const struct h2_header *headers, size_t count, nghttp2_nv nv[], struct error *err)
{
    if (count > H2_HEADERS_SENT_MAX)
        return error_set(err, ERROR_EXHAUSTED, "more than %zu headers to send",
                         H2_HEADERS_SENT_MAX);
    for (size_t i = 0; i < count; i++)
        nv[i] = (nghttp2_nv){.name = (uint8_t *)(uintptr_t)headers[i].name.data,
                             .namelen = headers[i].name.len,
                             .value = (uint8_t *)(uintptr_t)headers[i].value.data,
                             .valuelen = headers[i].value.len};
    return true;
}

bool h2_request(struct h2 *h2, struct h2_stream *stream, const struct h2_header *headers,
                size_t count, bool end, struct error *err)
{
    nghttp2_nv nv[H2_HEADERS_SENT_MAX];
    nghttp2_data_provider2 provider = {.source.ptr = stream, .read_callback = h2_pull};
    if (!to_nv(headers, count, nv, err))
        return false;
    if (h2->goaway_received || h2->failed)
        return error_set(err, ERROR_UNAVAILABLE, "the server takes no more calls here");
    int32_t id =
        nghttp2_submit_request2(h2->session, nullptr, nv, count, end ? nullptr : &provider, stream);
    if (id == NGHTTP2_ERR_STREAM_ID_NOT_AVAILABLE)
        return error_set(err, ERROR_UNAVAILABLE, "the connection has used up its stream ids");
    if (id < 0)
        return set_nghttp2(err, id, "cannot send a request");
    stream->id = id;
    stream->open = true;
    stream->body = !end;
    h2->streams++;
    return true;
}

bool h2_respond(struct h2 *h2, struct h2_stream *stream, const struct h2_header *headers,
                size_t count, bool end, struct error *err)
{
    nghttp2_nv nv[H2_HEADERS_SENT_MAX];
    nghttp2_data_provider2 provider = {.source.ptr = stream, .read_callback = h2_pull};
    if (!to_nv(headers, count, nv, err))
        return false;
    int rv =
        nghttp2_submit_response2(h2->session, stream->id, nv, count, end ? nullptr : &provider);
    if (rv != 0)
        return set_nghttp2(err, rv, "cannot send a response");
    stream->body = !end;
    return true;
}

bool h2_refuse(struct h2 *h2, int32_t id, const struct h2_header *headers, size_t count,
               struct error *err)
{
    nghttp2_nv nv[H2_HEADERS_SENT_MAX];
    if (!to_nv(headers, count, nv, err))
        return false;
    int rv = nghttp2_submit_response2(h2->session, id, nv, count, nullptr);
    return rv == 0 || set_nghttp2(err, rv, "cannot send a response");
}

bool h2_trailers(struct h2 *h2, struct h2_stream *stream, const struct h2_header *headers,
                 size_t count, struct error *err)
{
    nghttp2_nv nv[H2_HEADERS_SENT_MAX];
    if (!to_nv(headers, count, nv, err))
        return false;
    int rv = nghttp2_submit_trailer(h2->session, stream->id, nv, count);
    return rv == 0 || set_nghttp2(err, rv, "cannot send trailers");
}

static void stream_resume(struct h2 *h2, struct h2_stream *stream)
{
    if (!stream->deferred)
        return;
    stream->deferred = false;
    /* It fails only for a stream that is gone, whose bytes nobody wants. */
    (void)nghttp2_session_resume_data(h2->session, stream->id);
}

struct buf *h2_queue(struct h2_stream *stream)
{
    if (stream->sent == stream->queue.len) {
        buf_clear(&stream->queue);
        stream->sent = 0;
    } else if (stream->sent >= stream->queue.len / 2) {
        buf_consume(&stream->queue, stream->sent);
        stream->sent = 0;
    }
    return &stream->queue;
}

void h2_push(struct h2 *h2, struct h2_stream *stream)
{
    if (h2_queued(stream) > h2->options.low_water)
        stream->high = true;
    stream_resume(h2, stream);
}

size_t h2_queued(const struct h2_stream *stream)
{
    return stream->queue.len - stream->sent;
}

void h2_end(struct h2 *h2, struct h2_stream *stream, bool trailers)
{
    stream->ending = true;
    stream->trailers = trailers;
    stream_resume(h2, stream);
}

void h2_reset(struct h2 *h2, int32_t id, enum h2_code code)
{
    /* Out of memory: the stream stays open until the connection ends, which its owner, whose other
     * allocations fail too, brings about. */
    (void)nghttp2_submit_rst_stream(h2->session, NGHTTP2_FLAG_NONE, id, code);
}

void h2_consume(struct h2 *h2, struct h2_stream *stream, size_t n)
{
    if (n > 0 && stream->open)
        (void)nghttp2_session_consume_stream(h2->session, stream->id, n);
}

void h2_goaway_notice(struct h2 *h2)
{
    (void)nghttp2_submit_shutdown_notice(h2->session);
}

void h2_goaway(struct h2 *h2)
{
    (void)nghttp2_submit_goaway(h2->session, NGHTTP2_FLAG_NONE,
                                nghttp2_session_get_last_proc_stream_id(h2->session), H2_NO_ERROR,
                                nullptr, 0);
}

void h2_terminate(struct h2 *h2, enum h2_code code)
{
    (void)nghttp2_session_terminate_session(h2->session, code);
}

void h2_ping(struct h2 *h2, uint64_t opaque)
{
    uint8_t bytes[8];
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(opaque >> (8 * (7 - i)));
    if (nghttp2_submit_ping(h2->session, NGHTTP2_FLAG_NONE, bytes) == 0)
        h2->pings++;
}

bool h2_has_room(const struct h2 *h2)
{
    return !h2->goaway_received && !h2->failed &&
           nghttp2_session_check_request_allowed(h2->session) &&
           h2->streams < nghttp2_session_get_remote_settings(
                             h2->session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
}

const char *h2_code_name(uint32_t code)
{
    return nghttp2_http2_strerror(code);
}
