#include "access.h"

#include "authority.h"

#include "base/certificate.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "spiffe/svid.h"

/* Bits of enum caller_kind. */
enum {
    BY_STRANGER = 1 << CALLER_STRANGER,
    BY_NODE = 1 << CALLER_NODE,
    BY_OPERATOR = 1 << CALLER_OPERATOR,
};

static const struct access_rule {
    const char *path; /* whole, or a prefix that ends in "/" */
    unsigned who;
} access_rules[] = {
    {"/postern.v1.NodeService/Attest", BY_STRANGER | BY_NODE},
    {"/postern.v1.NodeService/Watch", BY_NODE},
    {"/postern.v1.NodeService/Fetch", BY_NODE},
    {"/postern.v1.NodeService/Confirm", BY_NODE},
    {"/postern.v1.AdminService/", BY_OPERATOR},
    {"/grpc.health.v1.Health/", BY_OPERATOR},
    {"/grpc.reflection.v1.ServerReflection/", BY_OPERATOR},
    {"/grpc.reflection.v1alpha.ServerReflection/", BY_OPERATOR},
};

static bool matches(const char *rule, const char *path)
{
    size_t len = strlen(rule);
    return rule[len - 1] == '/' ? strncmp(rule, path, len) == 0 : strcmp(rule, path) == 0;
}

/* "/postern/node/AGENT-ID" */
static bool take_name(struct slice path, const char *prefix, enum caller_kind kind,
                      struct caller *ret)
{
    size_t len = strlen(prefix);
    if (path.len <= len || path.len - len >= CALLER_NAME_SIZE ||
        memcmp(path.data, prefix, len) != 0 || memchr(path.data + len, '/', path.len - len))
        return false;
    *ret = (struct caller){.kind = kind};
    mem_copy(ret->name, path.data + len, path.len - len);
    return true;
}

void access_caller(const struct authority *authority, const struct rpc_call *call,
                   struct caller *ret)
{
    struct spiffe_id id;
    struct error ignored;
    int64_t expiry;
    *ret = (struct caller){.kind = CALLER_STRANGER};
    const struct rpc_peer *peer = rpc_call_peer(call);
    if (!peer || !peer->secure || !peer->certificates.leaf)
        return;
    /* It was valid at the handshake; the connection may have outlived it. */
    if (!svid_id(peer->certificates.leaf, &id, &ignored) ||
        !slice_is(spiffe_id_trust_domain(&id), authority->trust_domain) ||
        !certificate_expiry(peer->certificates.leaf, &expiry, &ignored) ||
        expiry <= clock_wall_ms())
        return;
    struct slice path = spiffe_id_path(&id);
    if (!take_name(path, "/postern/node/", CALLER_NODE, ret))
        take_name(path, "/postern/operator/", CALLER_OPERATOR, ret);
}

bool access_authorize(void *arg, const struct rpc_call *call, struct error *err)
{
    const struct authority *authority = arg;
    const char *path = rpc_call_path(call);
    struct caller caller;
    access_caller(authority, call, &caller);
    for (size_t i = 0; i < ARRAY_LEN(access_rules); i++) {
        if (matches(access_rules[i].path, path) && (access_rules[i].who & 1U << caller.kind))
            return true;
    }
    if (caller.kind == CALLER_STRANGER)
        return error_set_reason(err, ERROR_UNAUTHENTICATED, "NO_IDENTITY",
                                "this needs a client certificate of this authority, which has not "
                                "expired");
    return error_set_reason(err, ERROR_DENIED, "NOT_ALLOWED", "%s \"%s\" may not call this",
                            caller.kind == CALLER_NODE ? "node" : "operator", caller.name);
}

/* ---- Connections ---- */

/* What the handshake saw, and not whether it is still in time: the same at both ends of its life. */
static bool is_known(const struct rpc_peer *peer)
{
    return peer->secure && peer->certificates.leaf;
}

bool access_accept(void *arg, const struct rpc_peer *peer)
{
    struct authority *authority = arg;
    struct error err;
    if (is_known(peer))
        return true;
    const struct quota_key key = quota_key_of_address(peer->address);
    if (quota_take(&authority->strangers, &key, &err))
        return true;
    log_failure(LOG_DEBUG, "access", &err, "%s", peer->address);
    return false;
}

void access_gone(void *arg, const struct rpc_peer *peer)
{
    struct authority *authority = arg;
    if (is_known(peer))
        return;
    const struct quota_key key = quota_key_of_address(peer->address);
    quota_give(&authority->strangers, &key);
}
