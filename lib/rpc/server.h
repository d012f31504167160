/*
 * struct rpc_server: services on TCP (h2c by prior knowledge), Unix sockets and TLS (ALPN "h2").
 *
 * Ownership: the server owns its listeners and connections; services, handlers and their arguments
 * are borrowed. Calls belong to their handlers until these answered (rpc/call.h), also beyond
 * rpc_server_free. Threading: the loop's thread.
 * Limits: struct rpc_limits, per connection, and the number of connections.
 */
#pragma once

#include "loop/stream.h"
#include "rpc/peer.h"
#include "rpc/service.h"

struct rpc_server;

struct rpc_server_options {
    struct rpc_limits limits;
    /* Asked for every call whose path has the form "/Service/Method", before the method is looked
     * up (so that strangers can't learn which exist). False denies with the error's status; no
     * answering in here. Null: nobody is asked. */
    bool (*authorize)(void *arg, const struct rpc_call *call, struct error *err);
    void *authorize_arg;
    /* Asked for every connection once it stands, before any call on it; false closes it (the client
     * sees a connection that is lost). What was accepted is `gone` once, as its last: the peer is the
     * same one, valid until that returns. Both may be null. */
    bool (*accept)(void *arg, const struct rpc_peer *peer);
    void (*gone)(void *arg, const struct rpc_peer *peer);
    void *accept_arg;
};

/* `options` is copied. EXHAUSTED. */
[[nodiscard]] bool rpc_server_new(struct loop *loop, const struct rpc_server_options *options,
                                  struct rpc_server **ret, struct error *err);

/* Closes at once: listeners and connections end, running calls see `cancelled` (and, if answered
 * already, `closed`) from within. Not from a callback of one of its calls. Takes null; returns
 * null. */
struct rpc_server *rpc_server_free(struct rpc_server *server);
DEFINE_CLEANUP(rpc_server_free, struct rpc_server)

struct rpc_listen_options {
    struct address address;
    struct tls_context *tls; /* referenced; null: plaintext */
    unsigned mode;           /* Unix socket: as in loop/stream.h */
    gid_t group;             /* Unix socket: LISTENER_GROUP_KEEP for our own */
};

/* Listens; any number of times. Errors as listener_new. `ret_address` (may be null) gets where, with
 * the port that the kernel chose for port 0. */
[[nodiscard]] bool rpc_server_listen(struct rpc_server *server,
                                     const struct rpc_listen_options *options,
                                     struct address *ret_address, struct error *err);

/* New connections of this server's TLS listeners use `tls` from now on (a renewed certificate). */
void rpc_server_set_tls(struct rpc_server *server, struct tls_context *tls);

/* Graceful end: stops listening, tells every client to go elsewhere (GOAWAY in two steps), lets
 * running calls finish, closes what is left at `deadline` (clock_boot_ms). Then calls `drained`,
 * once, never from within. rpc_server_free takes it back. */
void rpc_server_drain(struct rpc_server *server, uint64_t deadline, void (*drained)(void *arg),
                      void *arg);

/* The index-th service of rpc_server_add, from 0; null beyond the last. */
const struct rpc_service *rpc_server_service(const struct rpc_server *server, size_t index);
/* Connections now, for status pages and tests. */
size_t rpc_server_connections(const struct rpc_server *server);
