/* Inside of struct h2: what h2.c (the interface) and h2_events.c (nghttp2's callbacks) share. */
#pragma once

#include "http/h2.h"

#include <nghttp2/nghttp2.h>

/* A token bucket: `tokens` thousandths at time `at`. */
struct h2_rate {
    uint64_t tokens;
    uint64_t at;
};

struct h2 {
    nghttp2_session *session;
    struct h2_options options;
    uint64_t now;

    /* The header block under way: header blocks are never interleaved (RFC 9113 section 4.3), so one
     * per connection is enough. The slices point into the counted buffers beside them. */
    struct h2_header *block;
    nghttp2_rcbuf **block_refs; /* two a header */
    size_t block_count, block_room;
    size_t block_size; /* as RFC 9113 section 6.5.2 counts */
    bool block_too_large;
    bool block_status_final; /* response: a :status that is no 1xx */
    bool block_has_status;

    struct buf *out; /* during h2_output: where bodies are written */
    size_t most;
    size_t streams; /* client: open ones */

    uint32_t pings; /* of ours, unanswered */

    struct h2_rate resets;
    struct h2_rate idle_frames;
    bool goaway_received;
    bool failed;
    struct error error; /* why, if failed by one of our limits */
};

/* Fills the table with h2_events.c's callbacks. */
void h2_set_callbacks(nghttp2_session_callbacks *callbacks);
/* Lets go of the header block's buffers. */
void h2_block_clear(struct h2 *h2);
/* Full buckets. */
void h2_rates_init(struct h2 *h2);
/* The data provider of every body. */
nghttp2_ssize h2_pull(nghttp2_session *session, int32_t id, uint8_t *buf, size_t length,
                      uint32_t *flags, nghttp2_data_source *source, void *arg);
