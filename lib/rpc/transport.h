/*
 * A gRPC connection on the loop: a stream, TLS where asked, and rpc_conn. Internal; what server.c
 * and client.c share.
 *
 * A transport lives until its stream is closed and frees itself then; its owner hears `over` once,
 * which is the last event, or lets go before by transport_drop.
 */
#pragma once

#include "rpc/conn.h"

struct transport;

struct transport_events {
    /* TLS is through (or not asked for) and rpc_conn stands: calls may start or come. */
    void (*opened)(void *arg);
    /* The connection is gone, and so is every call on it. */
    void (*over)(void *arg, const struct error *why);
};

struct transport_options {
    struct loop *loop;
    struct tls_context *tls;             /* null: plaintext */
    const struct rpc_conn_options *conn; /* copied; the peer is the transport's */
    uint64_t open_by;                    /* boot clock: opened and transport_ready until then */
    const struct transport_events *events;
    void *arg;
};

/* Takes an accepted stream, also on failure. */
[[nodiscard]] bool transport_accept(const struct transport_options *options, struct stream *stream,
                                    struct transport **ret, struct error *err);
[[nodiscard]] bool transport_connect(const struct transport_options *options,
                                     const struct address *address, struct transport **ret,
                                     struct error *err);
/* The peer has shown that it speaks HTTP/2: open_by is met. */
void transport_ready(struct transport *transport);
/* Null before `opened`. */
struct rpc_conn *transport_conn(struct transport *transport);
const struct rpc_peer *transport_peer(const struct transport *transport);
/* Something may be there to send: looks once this round of the loop. */
void transport_wake(struct transport *transport);
/* Ends the connection soon, not from within: calls end with `why`, then `over` comes. */
void transport_close(struct transport *transport, const struct error *why);
/* Ends it now, and calls nobody but the calls. Not from a callback of the connection. Takes null;
 * returns null. */
struct transport *transport_drop(struct transport *transport, const struct error *why);
