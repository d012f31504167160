/*
 * struct rpc_client: a channel to one address, with one connection at a time, made when the first
 * call needs it. Many calls share it; calls above the peer's SETTINGS_MAX_CONCURRENT_STREAMS wait
 * in line. After a loss, or a failed attempt, it reconnects by itself with growing pauses as long
 * as calls wait for it.
 *
 * Ownership: calls belong to the client. Threading: the loop's thread.
 */
#pragma once

#include "loop/address.h"
#include "loop/loop.h"
#include "rpc/peer.h"
#include "rpc/service.h"

struct rpc_client;

enum rpc_client_state {
    RPC_CLIENT_IDLE, /* no connection, and nobody needs one */
    RPC_CLIENT_CONNECTING,
    RPC_CLIENT_READY,
    RPC_CLIENT_BACKOFF, /* the last attempt failed; the next comes by itself */
};

/* Reconnect backoff (gRPC connection-backoff.md): 1 s × 1.6 ± 20 %, at most 120 s. */
constexpr uint64_t RPC_BACKOFF_FIRST_MS = 1'000;
constexpr uint64_t RPC_BACKOFF_MAX_MS = 120'000;
/* An attempt with its TLS handshake and SETTINGS: a peer that accepts and then says nothing. */
constexpr uint64_t RPC_CONNECT_TIMEOUT_MS = 20'000;
/* Calls that wait for a connection: memory by a server that is away. */
constexpr size_t RPC_CLIENT_WAITING_MAX = 4096;

struct rpc_client_options {
    struct tls_context *tls; /* referenced; null: plaintext */
    const char *authority;   /* :authority; null: the address ("localhost" for Unix sockets) */
    struct rpc_limits limits;
    uint64_t backoff_first_ms;   /* 0: RPC_BACKOFF_FIRST_MS */
    uint64_t backoff_max_ms;     /* 0: RPC_BACKOFF_MAX_MS */
    uint64_t connect_timeout_ms; /* 0: RPC_CONNECT_TIMEOUT_MS */
    /* Keep trying without waiting calls: a channel that should always stand. */
    bool keep_connected;
    /* May be null. `why` says what was lost or failed (BACKOFF, IDLE); null if nothing was. The
     * client may be used in here, but not freed. */
    void (*state)(void *arg, enum rpc_client_state state, const struct error *why);
    void *state_arg;
};

/* Connects to nothing yet (but see keep_connected). `options` and `address` are copied. */
[[nodiscard]] bool rpc_client_new(struct loop *loop, const struct address *address,
                                  const struct rpc_client_options *options, struct rpc_client **ret,
                                  struct error *err);

/* Ends running calls with CANCELLED, delivered from within, and closes. Not from a callback of one of
 * its calls or of `state`. Takes null; returns null. */
struct rpc_client *rpc_client_free(struct rpc_client *client);
DEFINE_CLEANUP(rpc_client_free, struct rpc_client)

enum rpc_client_state rpc_client_state(const struct rpc_client *client);

/* The next connection uses `tls` (a renewed certificate); the current one goes on. */
void rpc_client_set_tls(struct rpc_client *client, struct tls_context *tls);
/* Closes the current connection after its running calls have ended; new calls get a new one. */
void rpc_client_reconnect(struct rpc_client *client);
/* Closes the current connection now: its calls end with UNAVAILABLE. */
void rpc_client_disconnect(struct rpc_client *client);
/* Tries at once, without waiting for the backoff. */
void rpc_client_connect_now(struct rpc_client *client);

/* Who the current connection's peer is; null while there is none. The channel binding of a call's
 * own connection: rpc_call_peer. */
const struct rpc_peer *rpc_client_peer(const struct rpc_client *client);
