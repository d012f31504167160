/*
 * struct h2: the sans-I/O core of one HTTP/2 connection (RFC 9113), server or client, over nghttp2.
 * Bytes in (h2_receive), bytes out (h2_output), events through one table.
 *
 * Streams: struct h2_stream is embedded in what the owner keeps per stream; it must stay where it is
 * from h2_request, or from being returned by events->request, until events->closed or h2_free (which
 * tells nobody). Bodies to send are queued in the stream and pulled when the peer's window allows;
 * received bytes are credited to the peer when the owner says so (h2_consume).
 * Clock: `now` is milliseconds of any steady clock; there is no other source of time in here.
 * Events come from within h2_receive and h2_output, never from other functions; what they are given
 * is borrowed until they return. They may submit, send, reset and consume, but not receive, output
 * or free.
 * Threading: none.
 */
#pragma once

#include "base/buf.h"

/* What every peer is held to. Constants, where nobody needs another value. */
/* Rapid reset (CVE-2023-44487), and streams that we must reset for the peer's faults ("made you
 * reset", CVE-2025-8671): each costs us a stream, and the peer nothing. */
constexpr uint32_t H2_RESET_BURST = 400;
constexpr uint32_t H2_RESET_PER_SECOND = 100;
/* Frames that carry nothing: SETTINGS, PING (CVE-2019-9512, -9515), PRIORITY, WINDOW_UPDATE, unknown
 * and ignored ones, empty DATA (CVE-2019-9518). Every frame takes one; each useful one, in either
 * direction, gives two back, so that honest acknowledgements and bandwidth probes never count. */
constexpr uint32_t H2_IDLE_FRAME_BURST = 1'000;
constexpr uint32_t H2_IDLE_FRAME_PER_SECOND = 100;
/* Frames of ours that wait because the peer does not read: answers to a flood (CVE-2019-9514). */
constexpr size_t H2_BACKLOG_MAX = 2'000;
/* Unacknowledged PINGs and SETTINGS in that backlog. */
constexpr size_t H2_ACK_BACKLOG_MAX = 500;
/* CONTINUATION frames after one HEADERS (CVE-2024-28182): header blocks without end. */
constexpr size_t H2_CONTINUATIONS_MAX = 8;
/* Entries of one SETTINGS frame (CVE-2020-11080). */
constexpr size_t H2_SETTINGS_MAX = 32;
/* What a connection may have in flight to us over all streams: it is credited back on receipt,
 * since memory is bounded per stream. */
constexpr uint32_t H2_CONNECTION_WINDOW = 1024 * 1024;

/* RFC 9113 section 7. */
enum h2_code : uint32_t {
    H2_NO_ERROR = 0,
    H2_PROTOCOL_ERROR = 1,
    H2_INTERNAL_ERROR = 2,
    H2_FLOW_CONTROL_ERROR = 3,
    H2_REFUSED_STREAM = 7,
    H2_CANCEL = 8,
    H2_ENHANCE_YOUR_CALM = 11,
    H2_INADEQUATE_SECURITY = 12,
};

struct h2;

struct h2_header {
    struct slice name; /* lower case; pseudo-headers with their colon, before the others */
    struct slice value;
};

struct h2_stream {
    int32_t id;       /* 0 before h2_request */
    struct buf queue; /* body to send; the first `sent` bytes are in frames already */
    size_t sent;
    bool open;     /* private, as all that follow: known to the connection */
    bool deferred; /* the data provider waits for h2_push or h2_end */
    bool body;     /* a data provider is there */
    bool ending;   /* nothing is queued any more */
    bool trailers; /* … and trailers follow the last byte */
    bool high;     /* above the low-water mark: `writable` is due */
};

struct h2_events {
    /* Server: a request. `too_large`: its header list is over the limit, and `headers` is cut short.
     * `end`: there is no body. Returns the owner's stream, made by h2_stream_init, or null after
     * h2_refuse or h2_reset. */
    struct h2_stream *(*request)(void *arg, int32_t id, const struct h2_header *headers,
                                 size_t count, bool too_large, bool end);
    /* Client: the final response's headers (1xx is skipped). */
    void (*response)(void *arg, struct h2_stream *stream, const struct h2_header *headers,
                     size_t count, bool too_large, bool end);
    /* Trailers; the stream's receiving side is over. */
    void (*trailers)(void *arg, struct h2_stream *stream, const struct h2_header *headers,
                     size_t count, bool too_large);
    void (*data)(void *arg, struct h2_stream *stream, struct slice bytes);
    /* The peer's last DATA came (not after `end` or trailers). */
    void (*ended)(void *arg, struct h2_stream *stream);
    /* The stream's queue fell to its low-water mark after it had been above. */
    void (*writable)(void *arg, struct h2_stream *stream);
    /* The last byte before trailers went out: call h2_trailers now. */
    void (*trailers_due)(void *arg, struct h2_stream *stream);
    /* The stream's last event. NO_ERROR, or the code of whoever reset it. */
    void (*closed)(void *arg, struct h2_stream *stream, uint32_t code);
    /* GOAWAY: streams above last_id are closed (REFUSED_STREAM) next. */
    void (*goaway)(void *arg, int32_t last_id, uint32_t code, struct slice debug);
    /* The peer's SETTINGS came. */
    void (*settings)(void *arg);
    /* The peer answered h2_ping. */
    void (*pong)(void *arg, uint64_t opaque);
};

struct h2_options {
    bool server;
    uint32_t max_streams;           /* server: at once; memory by open streams */
    uint32_t window;                /* per stream: what a peer may send ahead of the reader */
    size_t header_list;             /* RFC 9113 section 6.5.2, bytes; memory by headers */
    size_t low_water;               /* of a stream's queue, bytes */
    const struct h2_events *events; /* borrowed; null members are skipped */
    void *arg;
};

/* Our preface and SETTINGS are ready to be taken. EXHAUSTED. */
[[nodiscard]] bool h2_new(const struct h2_options *options, uint64_t now, struct h2 **ret,
                          struct error *err);
/* Null is fine; returns null. No event comes. */
struct h2 *h2_free(struct h2 *h2);
DEFINE_CLEANUP(h2_free, struct h2)

/* Takes all bytes. False (domain HTTP2): the peer broke the protocol or a limit; INVALID, EXHAUSTED.
 * What h2_output then gives ends with the GOAWAY that tells it. */
[[nodiscard]] bool h2_receive(struct h2 *h2, struct slice bytes, uint64_t now, struct error *err);
/* Appends what there is to send; stops after about `most` bytes of bodies. EXHAUSTED. */
[[nodiscard]] bool h2_output(struct h2 *h2, size_t most, uint64_t now, struct buf *ret,
                             struct error *err);
/* True when nothing more will be read or written: close the transport. */
bool h2_done(const struct h2 *h2);

/* An empty stream, whose queue holds at most `queue_max` bytes. */
void h2_stream_init(struct h2_stream *stream, size_t queue_max);
/* Frees the queue. */
void h2_stream_done(struct h2_stream *stream);

/* Client: headers of a request; without a body if `end`. EXHAUSTED (memory, stream ids),
 * UNAVAILABLE (GOAWAY was received). Names and values are copied. */
[[nodiscard]] bool h2_request(struct h2 *h2, struct h2_stream *stream,
                              const struct h2_header *headers, size_t count, bool end,
                              struct error *err);
/* Server: headers of the response; the whole response if `end`. EXHAUSTED. */
[[nodiscard]] bool h2_respond(struct h2 *h2, struct h2_stream *stream,
                              const struct h2_header *headers, size_t count, bool end,
                              struct error *err);
/* Server: the whole response of a stream that has no struct h2_stream. */
[[nodiscard]] bool h2_refuse(struct h2 *h2, int32_t id, const struct h2_header *headers,
                             size_t count, struct error *err);
/* The stream's queue, to append body bytes to; what was sent is out of it, unless moving the rest
 * would cost more. Appending counts when h2_push is called, before the next h2_output; until then
 * the caller may shorten it to the length that it found. Usable before h2_request. */
struct buf *h2_queue(struct h2_stream *stream);
void h2_push(struct h2 *h2, struct h2_stream *stream);
/* Bytes queued and not yet in frames. */
size_t h2_queued(const struct h2_stream *stream);
/* The body is complete; with `trailers`, events->trailers_due comes after its last byte. */
void h2_end(struct h2 *h2, struct h2_stream *stream, bool trailers);
/* From events->trailers_due: the trailers. EXHAUSTED. */
[[nodiscard]] bool h2_trailers(struct h2 *h2, struct h2_stream *stream,
                               const struct h2_header *headers, size_t count, struct error *err);
/* RST_STREAM; events->closed follows from h2_output. What was queued is dropped. */
void h2_reset(struct h2 *h2, int32_t id, enum h2_code code);
/* The owner is done with n received bytes of this stream: the peer may send as many more. */
void h2_consume(struct h2 *h2, struct h2_stream *stream, size_t n);

/* First step of a graceful end (RFC 9113 section 6.8): the peer shall start no more streams. */
void h2_goaway_notice(struct h2 *h2);
/* Second step: streams that came until now are still served, no others. */
void h2_goaway(struct h2 *h2);
/* GOAWAY with this code; the connection is over when it has been sent. */
void h2_terminate(struct h2 *h2, enum h2_code code);
void h2_ping(struct h2 *h2, uint64_t opaque);

/* Client: may another stream start now (the peer's limit, GOAWAY, ids)? */
bool h2_has_room(const struct h2 *h2);
/* "REFUSED_STREAM". */
const char *h2_code_name(uint32_t code);
