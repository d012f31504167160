/* What the files of lib/loop share and nobody else sees: libuv's types. */
#pragma once

#include "loop/stream.h"

#include <uv.h>

/* One read goes here, whichever stream it is for: libuv asks for room right before read(2). */
constexpr size_t LOOP_READ_SIZE = 64 * 1024;

struct signal_watch;

struct loop {
    uv_loop_t uv;
    uv_async_t wake;
    uv_timer_t tick;

    uv_mutex_t lock; /* for the four below; everything else is the loop's thread's */
    struct task *first_task;
    struct task **last_task;
    uint64_t task_sequence;

    struct timer *timers; /* root of the heap: the next to fire */
    uint64_t timer_order;
    uint64_t armed; /* what `tick` is set to, boot clock; UINT64_MAX: it is not */

    struct signal_watch *signals;
    struct stream *streams;
    uint8_t *scratch; /* LOOP_READ_SIZE */
};

/* timer.c */
void timer_tick(uv_timer_t *tick);
/* Stops all, so that a timer_stop after the loop's end is harmless. */
void timer_forget_all(struct loop *loop);

enum stream_state {
    STREAM_CONNECTING,
    STREAM_OPEN,
    STREAM_FAILED,
    STREAM_CLOSING,
};

/* What only connecting needs, freed when that is over. */
struct connecting {
    uv_getaddrinfo_t resolve;
    uv_connect_t request;
    struct addrinfo *found; /* all addresses of a host name */
    struct sockaddr_storage *candidates;
    size_t candidate_count;
    size_t next;
    int last_code; /* libuv's, of the last attempt */
    uint64_t deadline;
    struct timer timer; /* of the attempt that runs */
    struct address address;
};

struct stream {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } uv;
    struct loop *loop;
    const struct stream_events *events;
    void *arg;
    struct stream *next, **link; /* loop->streams */
    struct listener *listener;   /* whose limit it counts against, or NULL */
    struct connecting *connecting;
    size_t queued;
    enum stream_state state;
    bool is_unix;
    bool reading;   /* wanted */
    bool resolving; /* libuv holds connecting->resolve */
    bool retrying;  /* the handle is being closed for the next attempt */
    bool handle_closed;
};

/* A stream with an initialised handle without a connection, in the loop's list. */
[[nodiscard]] bool stream_make(struct loop *loop, bool is_unix, struct stream **ret,
                               struct error *err);
/* Tells `failed`, once, unless the stream is closing. */
void stream_fail(struct stream *stream, const struct error *err);
/* For each part of the stream that libuv let go: frees it when it was the last. */
void stream_released(struct stream *stream);
/* connect.c: stops connecting, as far as it goes at once. */
void stream_connect_abandon(struct stream *stream);
/* Only when libuv holds neither of its requests any more. */
void connecting_free(struct stream *stream);
/* A stream of the listener is gone: there is room for the next. */
void listener_released(struct listener *listener);

/* Class by what the code means; message "FORMATTED: libuv's text". Returns false. */
PRINTF_LIKE(3, 4)
bool error_set_uv(struct error *err, int code, const char *format, ...);

/* A numeric address as the kernel has it, and back. False for a host name or a Unix path. */
bool address_to_socket(const struct address *address, struct sockaddr_storage *ret);
void address_from_socket(const struct sockaddr *socket, struct address *ret);
