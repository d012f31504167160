#include "watch.h"

#include "authority.h"

#include "base/mem.h"

struct watch_hub {
    struct authority *authority;
};

bool watch_hub_new(struct authority *authority, struct watch_hub **ret, struct error *err)
{
    struct watch_hub *hub = mem_new(1, sizeof(*hub));
    if (!hub)
        return error_set_memory(err);
    hub->authority = authority;
    *ret = hub;
    return true;
}

struct watch_hub *watch_hub_free(struct watch_hub *hub)
{
    return mem_free(hub);
}

void watch_hub_drain(struct watch_hub *hub)
{
    (void)hub;
}

void watch_begin(void *authority, struct rpc_call *call,
                 const Postern__V1__WatchRequest *request)
{
    (void)authority;
    (void)request;
    struct error err;
    error_set(&err, ERROR_UNIMPLEMENTED, "this authority has no Watch yet");
    rpc_fail(call, &err);
}

bool watch_hub_connected(const struct watch_hub *hub, const char *agent_id)
{
    (void)hub;
    (void)agent_id;
    return false;
}

bool watch_hub_attest_now(struct watch_hub *hub, const char *agent_id, const char *why,
                          struct error *err)
{
    (void)hub;
    (void)why;
    return error_set_reason(err, ERROR_UNAVAILABLE, "NODE_NOT_CONNECTED",
                            "node %s is not connected", agent_id);
}

void watch_hub_node_changed(struct watch_hub *hub, const char *agent_id)
{
    (void)hub;
    (void)agent_id;
}

void watch_hub_all_changed(struct watch_hub *hub)
{
    (void)hub;
}
