#include "rpc/peer.h"

bool rpc_peer_pidfd(const struct rpc_peer *peer, int *ret, struct error *err)
{
    if (!peer->stream)
        return error_set(err, ERROR_INVALID, "the peer's connection is no socket or is closed");
    return stream_peer_pidfd(peer->stream, ret, err);
}
