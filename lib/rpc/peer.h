/*
 * struct rpc_peer: who is at the other end of a connection, as far as the transport knows. It lives
 * as long as the connection; what a program keeps longer it copies.
 */
#pragma once

#include "base/crypt.h"
#include "loop/stream.h"
#include "rpc/call.h"
#include "tls/tls.h"

struct rpc_peer {
    char address[ADDRESS_TEXT_SIZE]; /* for logs: "127.0.0.1:40312", "unix:" */

    bool local; /* a Unix socket; `credentials` are valid */
    struct stream_peer credentials;

    bool secure;                  /* TLS; the following are valid */
    struct tls_peer certificates; /* checked by the TLS context; leaf null if there is none */
    uint8_t binding[CHANNEL_BINDING_SIZE]; /* RFC 9266 channel binding, the same at both ends */

    struct stream *stream; /* private: for rpc_peer_pidfd; null where there is no socket */
};

/* A pidfd of the process that connected, which the caller closes. INVALID: no Unix socket;
 * UNAVAILABLE: an older kernel, or the process is gone. */
[[nodiscard]] bool rpc_peer_pidfd(const struct rpc_peer *peer, int *ret, struct error *err);
