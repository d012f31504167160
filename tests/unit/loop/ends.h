/* Two ends of a connection and what they heard, for the tests of streams and listeners. */
#pragma once

#include "testlib/testlib.h"

#include "base/clock.h"
#include "base/mem.h"
#include "loop/stream.h"

#include <stdio.h>
#include <unistd.h>

struct end {
    struct loop *loop;
    struct stream *stream;
    int connected, drained, ended, failed, closed;
    struct buf heard;
    struct error err;
    size_t stop_at;     /* stops the loop when that many bytes were heard; 0: never */
    bool stop_on_event; /* stops the loop on anything but bytes */
    bool close_on_read, close_on_fail, close_on_end, pause_on_read, echo;
};

static void end_event(struct end *end)
{
    if (end->stop_on_event)
        loop_stop(end->loop);
}

static void end_connected(void *arg)
{
    struct end *end = arg;
    assert_int_equal(end->closed + end->failed, 0);
    end->connected++;
    end_event(end);
}

static void end_read(void *arg, struct slice bytes)
{
    struct end *end = arg;
    struct error err = {0};
    assert_int_equal(end->closed + end->failed, 0);
    assert_non_null(end->stream); /* never after stream_close */
    assert_true(bytes.len > 0);
    buf_put(&end->heard, bytes);
    assert_ok(buf_ok(&end->heard, &err));
    if (end->echo) {
        struct buf back;
        buf_init(&back, 1 << 20);
        buf_put(&back, bytes);
        assert_ok(stream_write(end->stream, &back, &err));
    }
    if (end->pause_on_read)
        stream_read_pause(end->stream);
    if (end->close_on_read)
        end->stream = stream_close(end->stream);
    if (end->stop_at != 0 && end->heard.len >= end->stop_at)
        loop_stop(end->loop);
}

static void end_ended(void *arg)
{
    struct end *end = arg;
    assert_int_equal(end->closed + end->failed, 0);
    assert_non_null(end->stream);
    end->ended++;
    if (end->close_on_end)
        end->stream = stream_close(end->stream);
    end_event(end);
}

static void end_drained(void *arg)
{
    struct end *end = arg;
    assert_int_equal(end->closed + end->failed, 0);
    assert_non_null(end->stream);
    assert_int_equal(stream_queued(end->stream), 0);
    end->drained++;
    end_event(end);
}

static void end_failed(void *arg, const struct error *err)
{
    struct end *end = arg;
    assert_int_equal(end->closed + end->failed, 0);
    assert_non_null(end->stream);
    end->failed++;
    end->err = *err;
    if (end->close_on_fail)
        end->stream = stream_close(end->stream);
    end_event(end);
}

static void end_closed(void *arg)
{
    struct end *end = arg;
    assert_int_equal(end->closed, 0);
    end->closed++;
    end->stream = nullptr;
    end_event(end);
}

static const struct stream_events END_EVENTS = {
    .connected = end_connected,
    .read = end_read,
    .ended = end_ended,
    .drained = end_drained,
    .failed = end_failed,
    .closed = end_closed,
};

static inline void end_init(struct end *end, struct loop *loop)
{
    *end = (struct end){.loop = loop};
    buf_init(&end->heard, 64 << 20);
}

static inline void end_send(struct end *end, const char *text)
{
    struct error err = {0};
    struct buf bytes;
    buf_init(&bytes, 4096);
    buf_put(&bytes, slice_str(text));
    assert_ok(stream_write(end->stream, &bytes, &err));
    assert_null(bytes.data);
}

/* A server that hands each connection to the next free end of a row. */
struct server {
    struct loop *loop;
    struct listener *listener;
    struct end ends[8];
    size_t count;
    size_t stop_at; /* stops the loop at that many connections */
};

static void server_accepted(void *arg, struct stream *stream)
{
    struct server *server = arg;
    assert_true(server->count < ARRAY_LEN(server->ends));
    struct end *end = &server->ends[server->count++];
    bool keep_echo = end->echo;
    end_init(end, server->loop);
    end->echo = keep_echo;
    end->stream = stream;
    stream_attach(stream, &END_EVENTS, end);
    stream_read_start(stream);
    if (server->count == server->stop_at)
        loop_stop(server->loop);
}

static inline struct address address_of(const char *text)
{
    struct error err = {0};
    struct address address;
    assert_ok(address_parse(text, &address, &err));
    return address;
}

static inline struct listener_options options_for(const char *text)
{
    return (struct listener_options){
        .address = address_of(text), .max_streams = 8, .group = LISTENER_GROUP_KEEP};
}

static inline void server_init(struct server *server, struct loop *loop, const char *text)
{
    struct error err = {0};
    *server = (struct server){.loop = loop};
    struct listener_options options = options_for(text);
    assert_ok(listener_new(loop, &options, server_accepted, server, &server->listener, &err));
}

/* Connects a client to the server; both ends stand afterwards. */
static inline void server_connect(struct server *server, struct end *client)
{
    struct error err = {0};
    struct address address;
    listener_address(server->listener, &address);
    end_init(client, server->loop);
    client->stop_on_event = true;
    assert_ok(stream_connect(server->loop, &address, clock_boot_ms() + 10'000, &END_EVENTS, client,
                             &client->stream, &err));
    stream_read_start(client->stream);
    size_t before = server->count;
    server->stop_at = before + 1;
    loop_run(server->loop); /* one of the two */
    while (client->connected == 0 || server->count == before)
        loop_run(server->loop);
    assert_int_equal(client->connected, 1);
    client->stop_on_event = false;
    server->stop_at = 0;
}

/* Runs the loop for so long. */
static void run_for_end(void *arg)
{
    loop_stop(arg);
}

static inline void run_for(struct loop *loop, uint64_t ms)
{
    struct timer timer;
    timer_init(&timer, loop, run_for_end, loop);
    timer_start(&timer, ms);
    do
        loop_run(loop);
    while (timer.running);
}

static inline void server_done(struct server *server)
{
    listener_free(server->listener);
    loop_free(server->loop);
    for (size_t i = 0; i < ARRAY_LEN(server->ends); i++)
        buf_done(&server->ends[i].heard);
}
