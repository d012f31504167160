/*
 * A gRPC connection on the loop: a stream, TLS where asked, and rpc_conn. Internal; what server.c
 * and client.c share.
 *
 * A transport lives until its stream is closed and frees itself then; its owner hears `over` once,
 * which is the last event, or lets go before by rpc_transport_drop.
 */
#pragma once

#include "rpc/conn.h"

struct rpc_transport;

struct rpc_transport_events {
    /* TLS is through (or not asked for) and rpc_conn stands: calls may start or come. False refuses
     * the connection, which ends with the error; nothing of it was served then. */
    bool (*opened)(void *arg, const struct rpc_peer *peer, struct error *err);
    /* The connection is gone, and so is every call on it. */
    void (*over)(void *arg, const struct error *why);
};

struct rpc_transport_options {
    struct loop *loop;
    struct tls_context *tls;             /* null: plaintext */
    const struct rpc_conn_options *conn; /* copied; the peer is the transport's */
    uint64_t open_by;                    /* boot clock: opened and rpc_transport_ready until then */
    const struct rpc_transport_events *events;
    void *arg;
};

/* Takes an accepted stream, also on failure. */
[[nodiscard]] bool rpc_transport_accept(const struct rpc_transport_options *options,
                                        struct stream *stream, struct rpc_transport **ret,
                                        struct error *err);
[[nodiscard]] bool rpc_transport_connect(const struct rpc_transport_options *options,
                                         const struct address *address, struct rpc_transport **ret,
                                         struct error *err);
/* The peer has shown that it speaks HTTP/2: open_by is met. */
void rpc_transport_ready(struct rpc_transport *transport);
/* Null before `opened`. */
struct rpc_conn *rpc_transport_conn(struct rpc_transport *transport);
const struct rpc_peer *rpc_transport_peer(const struct rpc_transport *transport);
/* Something may be there to send: looks once this round of the loop. */
void rpc_transport_wake(struct rpc_transport *transport);
/* Ends the connection soon, not from within: calls end with `why`, then `over` comes. */
void rpc_transport_close(struct rpc_transport *transport, const struct error *why);
/* Ends it now, and calls nobody but the calls. Not from a callback of the connection. Takes null;
 * returns null. */
struct rpc_transport *rpc_transport_drop(struct rpc_transport *transport, const struct error *why);
