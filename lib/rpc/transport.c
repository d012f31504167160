#include "rpc/transport.h"

#include "base/clock.h"
#include "base/mem.h"

/* Taken from rpc_conn at a time: bounds the memory of a connection whose peer reads slowly. */
constexpr size_t TRANSPORT_OUTPUT_MAX = 256 * 1024;
/* One DATA frame may lie across that bound, and control frames beside it. */
constexpr size_t TRANSPORT_BUFFER_MAX = 4 * TRANSPORT_OUTPUT_MAX;
/* To send the last words to a peer that may not read them. */
constexpr uint64_t TRANSPORT_LINGER_MS = 1'000;

struct rpc_transport {
    struct loop *loop;
    struct stream *stream;
    struct tls_session *tls;
    struct rpc_conn *conn;
    struct rpc_conn_options conn_options;
    struct rpc_peer peer;
    struct timer timer;
    struct task flush;
    uint64_t open_by; /* UINT64_MAX once met */
    const struct rpc_transport_events *events;
    void *arg;
    bool inside;    /* a callback of the stream or the timer is running */
    bool lingering; /* what is left is to write what is queued, until `open_by` */
    bool doomed;    /* rpc_transport_close */
    bool over;
    struct error why;
};

static void rpc_transport_free(struct rpc_transport *transport)
{
    rpc_conn_free(transport->conn);
    tls_session_free(transport->tls);
    mem_free(transport);
}

/* The end. The memory goes when the stream says that it is closed. */
static void finish(struct rpc_transport *t, const struct error *why)
{
    if (t->over)
        return;
    t->over = true;
    timer_stop(&t->timer);
    loop_unpost(t->loop, &t->flush);
    if (t->conn)
        rpc_conn_lost(t->conn, why);
    t->peer.stream = nullptr;
    const struct rpc_transport_events *events = t->events;
    void *arg = t->arg;
    struct error reason = *why; /* often t's own */
    stream_close(t->stream);
    if (events)
        events->over(arg, &reason);
}

/* ---- Writing ---- */

static bool send_bytes(struct rpc_transport *t, struct buf *bytes, struct error *err)
{
    CLEANUP(buf_done) struct buf cipher;
    buf_init(&cipher, 0);
    if (!t->tls)
        return stream_write(t->stream, bytes, err);
    if (bytes->len > 0 && !tls_session_write(t->tls, buf_slice(bytes), err))
        return false;
    tls_session_take(t->tls, &cipher);
    return cipher.len == 0 || stream_write(t->stream, &cipher, err);
}

static bool send_output(struct rpc_transport *t, struct error *err)
{
    while (stream_queued(t->stream) == 0) {
        CLEANUP(buf_done) struct buf out;
        buf_init_wiping(&out, TRANSPORT_BUFFER_MAX);
        if (!rpc_conn_output(t->conn, TRANSPORT_OUTPUT_MAX, clock_boot_ms(), &out, err))
            return false;
        if (out.len == 0)
            return true;
        if (!send_bytes(t, &out, err))
            return false;
    }
    return true;
}

/* Sends the last words, then ends with `why`. */
static void linger(struct rpc_transport *t, const struct error *why)
{
    struct error ignored;
    struct buf none;
    if (t->over || t->lingering)
        return;
    t->why = *why;
    t->lingering = true;
    stream_read_pause(t->stream);
    if (t->conn)
        (void)send_output(t, &ignored);
    if (t->tls) {
        buf_init(&none, 0);
        tls_session_close(t->tls);
        (void)send_bytes(t, &none, &ignored);
    }
    if (t->conn)
        rpc_conn_lost(t->conn, why);
    if (stream_queued(t->stream) == 0)
        finish(t, &t->why);
    else
        timer_start(&t->timer, TRANSPORT_LINGER_MS);
}

static void arm(struct rpc_transport *t)
{
    uint64_t due = t->conn ? rpc_conn_next(t->conn) : UINT64_MAX;
    if (t->open_by < due)
        due = t->open_by;
    if (due == UINT64_MAX)
        timer_stop(&t->timer);
    else if (!t->timer.running || t->timer.due != due)
        timer_start_at(&t->timer, due);
}

/* All that is due: deadlines, output, the end. */
static void work(struct rpc_transport *t)
{
    struct error err;
    if (t->over || t->lingering)
        return;
    if (t->doomed) {
        linger(t, &t->why);
        return;
    }
    if (t->conn) {
        if (rpc_conn_next(t->conn) <= clock_boot_ms())
            rpc_conn_tick(t->conn, clock_boot_ms());
        if (!send_output(t, &err)) {
            finish(t, &err);
            return;
        }
        if (rpc_conn_done(t->conn) && stream_queued(t->stream) == 0) {
            error_set(&err, ERROR_UNAVAILABLE, "the connection has ended");
            linger(t, &err);
            return;
        }
    }
    if (t->doomed)
        linger(t, &t->why);
    else
        arm(t);
}

/* ---- Opening and reading ---- */

static bool open_peer(struct rpc_transport *t, struct error *err)
{
    struct error no_unix_socket;
    (void)stream_peer_name(t->stream, t->peer.address);
    t->peer.local = stream_peer(t->stream, &t->peer.credentials, &no_unix_socket);
    t->peer.stream = t->stream;
    if (!t->tls)
        return true;
    t->peer.secure = true;
    tls_session_peer(t->tls, &t->peer.certificates);
    if (!slice_is(tls_session_alpn(t->tls), "h2"))
        return error_set(err, ERROR_INVALID, "the TLS peer did not agree on HTTP/2 (ALPN \"h2\")");
    return tls_session_binding(t->tls, t->peer.binding, err);
}

static bool open_conn(struct rpc_transport *t, struct error *err)
{
    if (!open_peer(t, err))
        return false;
    t->conn_options.peer = &t->peer;
    if (!rpc_conn_new(&t->conn_options, clock_boot_ms(), &t->conn, err))
        return false;
    return !t->events || t->events->opened(t->arg, &t->peer, err);
}

static bool read_tls(struct rpc_transport *t, struct slice bytes, struct error *err)
{
    CLEANUP(buf_done) struct buf plain;
    struct buf none;
    struct error ignored;
    buf_init_wiping(&plain, bytes.len + TLS_RECORD_MAX);
    buf_init(&none, 0);
    if (!tls_session_feed(t->tls, bytes, &plain, err)) {
        (void)send_bytes(t, &none, &ignored); /* the alert */
        return false;
    }
    if (!send_bytes(t, &none, err))
        return false;
    if (!t->conn && tls_session_state(t->tls) == TLS_OPEN && !open_conn(t, err))
        return false;
    if (plain.len == 0)
        return true;
    return rpc_conn_receive(t->conn, buf_slice(&plain), clock_boot_ms(), err);
}

static void on_read(void *arg, struct slice bytes)
{
    struct rpc_transport *t = arg;
    struct error err;
    bool ok = true;
    if (t->lingering || t->over)
        return;
    t->inside = true;
    ok =
        t->tls ? read_tls(t, bytes, &err) : rpc_conn_receive(t->conn, bytes, clock_boot_ms(), &err);
    t->inside = false;
    if (ok)
        work(t);
    else
        linger(t, &err);
}

static void on_connected(void *arg)
{
    struct rpc_transport *t = arg;
    struct error err;
    struct buf none;
    buf_init(&none, 0);
    stream_read_start(t->stream);
    if (!(t->tls ? send_bytes(t, &none, &err) : open_conn(t, &err)))
        finish(t, &err);
    else
        work(t);
}

static void on_ended(void *arg)
{
    struct rpc_transport *t = arg;
    struct error err;
    error_set(&err, ERROR_UNAVAILABLE, "the peer has closed the connection");
    if (t->tls && !tls_session_eof(t->tls, &err))
        error_prefix(&err, "the TLS connection");
    finish(t, &err);
}

static void on_drained(void *arg)
{
    struct rpc_transport *t = arg;
    if (t->lingering)
        finish(t, &t->why);
    else
        work(t);
}

static void on_failed(void *arg, const struct error *err)
{
    struct rpc_transport *t = arg;
    finish(t, t->lingering ? &t->why : err);
}

static void on_stream_closed(void *arg)
{
    struct rpc_transport *t = arg;
    struct error err;
    error_set(&err, ERROR_UNAVAILABLE, "the loop has ended");
    t->stream = nullptr;
    finish(t, &err);
    rpc_transport_free(t);
}

static const struct stream_events stream_events = {
    .connected = on_connected,
    .read = on_read,
    .ended = on_ended,
    .drained = on_drained,
    .failed = on_failed,
    .closed = on_stream_closed,
};

static void on_timer(void *arg)
{
    struct rpc_transport *t = arg;
    struct error err;
    if (t->lingering) {
        finish(t, &t->why);
    } else if (t->open_by <= clock_boot_ms()) {
        error_set(&err, ERROR_TIMEOUT, "the peer did not open the connection in time");
        linger(t, &err);
    } else {
        work(t);
    }
}

static void on_flush(void *arg)
{
    work(arg);
}

/* ---- Interface ---- */

static struct rpc_transport *rpc_transport_alloc(const struct rpc_transport_options *options,
                                                 struct error *err)
{
    struct rpc_transport *t = mem_new(1, sizeof(*t));
    if (!t) {
        error_set_memory(err);
        return nullptr;
    }
    t->loop = options->loop;
    t->conn_options = *options->conn;
    t->open_by = options->open_by;
    t->events = options->events;
    t->arg = options->arg;
    timer_init(&t->timer, t->loop, on_timer, t);
    t->flush = (struct task){.run = on_flush, .arg = t};
    if (options->tls && !tls_session_new(options->tls, &t->tls, err)) {
        mem_free(t);
        return nullptr;
    }
    return t;
}

bool rpc_transport_accept(const struct rpc_transport_options *options, struct stream *stream,
                          struct rpc_transport **ret, struct error *err)
{
    struct rpc_transport *t = rpc_transport_alloc(options, err);
    if (!t) {
        stream_close(stream);
        return false;
    }
    t->stream = stream;
    stream_attach(stream, &stream_events, t);
    *ret = t;
    if (!t->tls && !open_conn(t, err)) {
        t->events = nullptr; /* the caller hears it from here */
        finish(t, err);
        return false;
    }
    stream_read_start(stream);
    rpc_transport_wake(t);
    arm(t);
    return true;
}

bool rpc_transport_connect(const struct rpc_transport_options *options,
                           const struct address *address, struct rpc_transport **ret,
                           struct error *err)
{
    struct rpc_transport *t = rpc_transport_alloc(options, err);
    if (!t)
        return false;
    if (!stream_connect(t->loop, address, options->open_by, &stream_events, t, &t->stream, err)) {
        rpc_transport_free(t);
        return false;
    }
    arm(t);
    *ret = t;
    return true;
}

void rpc_transport_ready(struct rpc_transport *transport)
{
    transport->open_by = UINT64_MAX;
}

struct rpc_conn *rpc_transport_conn(struct rpc_transport *transport)
{
    return transport->conn;
}

const struct rpc_peer *rpc_transport_peer(const struct rpc_transport *transport)
{
    return transport->conn ? &transport->peer : nullptr;
}

void rpc_transport_wake(struct rpc_transport *transport)
{
    if (!transport->over)
        loop_post(transport->loop, &transport->flush);
}

void rpc_transport_close(struct rpc_transport *transport, const struct error *why)
{
    if (transport->over || transport->lingering || transport->doomed)
        return;
    transport->doomed = true;
    transport->why = *why;
    rpc_transport_wake(transport);
}

struct rpc_transport *rpc_transport_drop(struct rpc_transport *transport, const struct error *why)
{
    if (!transport)
        return nullptr;
    transport->events = nullptr;
    finish(transport, why);
    return nullptr;
}
