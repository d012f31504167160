/*
 * struct rpc_conn: the sans-I/O core of a gRPC connection, either side: bytes in, bytes out, events,
 * deadlines. It knows no socket and no clock. rpc/server.h and rpc/client.h put it on a loop.
 * gRPC PROTOCOL-HTTP2.md over RFC 9113 (http/h2.h).
 *
 * After every call into it, and after any use of its calls, the owner sends what rpc_conn_output
 * gives, and arms one timer for rpc_conn_next. `wake` tells when calls were used outside.
 */
#pragma once

#include "rpc/peer.h"
#include "rpc/service.h"

struct rpc_conn;

struct rpc_conn_events {
    /* Server: which method is it? Called once the request's headers are checked; either sets the
     * three outputs and returns true, or sets the error that the call is refused with. */
    bool (*route)(void *arg, struct rpc_call *call, const struct rpc_method **ret_method,
                  const void **ret_handlers, void **ret_arg, struct error *err);
    /* There is output, or an earlier deadline, because a call was used from outside. */
    void (*wake)(void *arg);
    /* The peer's SETTINGS came: the connection stands. */
    void (*ready)(void *arg);
    /* Client: a call ended, or the peer's SETTINGS changed: there may be room for more. */
    void (*room)(void *arg);
    /* Client: the peer takes no new calls here (GOAWAY, or the last stream id is used up). */
    void (*draining)(void *arg);
};

struct rpc_conn_options {
    bool server;
    struct rpc_limits limits;
    const struct rpc_conn_events *events;
    void *arg;
    const struct rpc_peer *peer;    /* borrowed; null in tests */
    const char *scheme, *authority; /* client, borrowed */
};

/* Puts the defaults in the place of zeros. rpc_conn_new does so by itself. */
void rpc_limits_resolve(struct rpc_limits *limits);

[[nodiscard]] bool rpc_conn_new(const struct rpc_conn_options *options, uint64_t now,
                                struct rpc_conn **ret, struct error *err);
/* Ends all calls as rpc_conn_lost does, if that has not been. Not from one of its callbacks. */
struct rpc_conn *rpc_conn_free(struct rpc_conn *conn);
DEFINE_CLEANUP(rpc_conn_free, struct rpc_conn)

/* Takes all bytes. False: the peer broke HTTP/2 or a limit; send the output (GOAWAY says why), then
 * rpc_conn_lost. `now` is clock_boot_ms time here and below. */
[[nodiscard]] bool rpc_conn_receive(struct rpc_conn *conn, struct slice bytes, uint64_t now,
                                    struct error *err);
/* Appends what is to be sent, up to about `most` bytes. */
[[nodiscard]] bool rpc_conn_output(struct rpc_conn *conn, size_t most, uint64_t now,
                                   struct buf *ret, struct error *err);
/* True when both sides are through: send what is there and close. */
bool rpc_conn_done(const struct rpc_conn *conn);

/* When rpc_conn_tick has something to do; UINT64_MAX: never. */
uint64_t rpc_conn_next(const struct rpc_conn *conn);
void rpc_conn_tick(struct rpc_conn *conn, uint64_t now);

/* The transport is gone: all calls end, UNAVAILABLE (with `why`) at the client, CANCELLED at the
 * server. */
void rpc_conn_lost(struct rpc_conn *conn, const struct error *why);
/* Takes no new calls, and is done when the running ones have ended. Server: the first step of GOAWAY;
 * the second follows by itself. */
void rpc_conn_drain(struct rpc_conn *conn, uint64_t now);

/* Running calls. */
size_t rpc_conn_calls(const struct rpc_conn *conn);
/* Client: one more call may start now (SETTINGS_MAX_CONCURRENT_STREAMS, not draining). */
bool rpc_conn_has_room(const struct rpc_conn *conn);

/* Client: a call that belongs to no connection yet, its one request packed, the deadline running. */
[[nodiscard]] bool rpc_call_new(const struct rpc_method *method,
                                const struct rpc_call_options *options,
                                const struct rpc_limits *limits, const ProtobufCMessage *request,
                                rpc_function *typed, const struct rpc_call_events *events,
                                void *arg, uint64_t now, struct rpc_call **ret, struct error *err);
/* Client: sends it here; the caller's reference stays the call's own. What goes wrong is delivered
 * later, as its end. */
void rpc_conn_start(struct rpc_conn *conn, struct rpc_call *call, uint64_t now);
/* Client: ends a call that no connection has, and delivers its end. */
void rpc_call_end(struct rpc_call *call, const struct error *why);
