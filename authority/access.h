/*
 * Who may call what: a table of path prefixes, default deny. Callers are known by the SPIFFE ID of
 * the client certificate that lib/tls has checked against our own CA:
 *
 *     spiffe://TRUST-DOMAIN/postern/node/AGENT-ID      a node, by the SVID of an appraisal
 *     spiffe://TRUST-DOMAIN/postern/operator/NAME      a person
 *
 * Threading: the loop's thread.
 */
#pragma once

#include "attest/identity.h"
#include "rpc/call.h"
#include "rpc/peer.h"

struct authority;

enum caller_kind {
    CALLER_STRANGER = 0, /* no certificate, or one that is neither of the others */
    CALLER_NODE,
    CALLER_OPERATOR,
};

constexpr size_t CALLER_NAME_SIZE = 64; /* an operator's name with its NUL */

struct caller {
    enum caller_kind kind;
    char name[CALLER_NAME_SIZE]; /* AGENT-ID or NAME; empty for a stranger */
};
static_assert(CALLER_NAME_SIZE >= AGENT_ID_SIZE);

/* Who makes this call; CALLER_STRANGER where the connection is gone. */
void access_caller(const struct authority *authority, const struct rpc_call *call,
                   struct caller *ret);

/* For rpc_server_options.authorize, with the authority as argument. UNAUTHENTICATED for strangers,
 * DENIED (reason NOT_ALLOWED) for those whose rights do not reach so far. */
[[nodiscard]] bool access_authorize(void *authority, const struct rpc_call *call,
                                    struct error *err);

/* ---- Connections ---- */

constexpr size_t STRANGER_CONNECTIONS_MAX =
    4'000; /* silent strangers must leave room for the rest */
constexpr size_t STRANGER_CONNECTIONS_PER_ADDRESS_MAX = 512; /* a cluster behind one NAT attests */

/* For rpc_server_options.accept and .gone, with the authority as argument: connections without a
 * certificate of ours take from authority->strangers, others always stand. */
bool access_accept(void *authority, const struct rpc_peer *peer);
void access_gone(void *authority, const struct rpc_peer *peer);
