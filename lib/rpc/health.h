/*
 * grpc.health.v1: Check, Watch and List. A service is known once rpc_health_set named it; "" is the
 * server as a whole, known from the start, and not serving until it is set.
 * Limits: HEALTH_SERVICES_MAX; watches count as calls of their connections.
 */
#pragma once

#include "rpc/server.h"

struct rpc_health;

constexpr size_t HEALTH_SERVICES_MAX = 32; /* of ours */

/* Adds the service to the server. EXISTS, EXHAUSTED. */
[[nodiscard]] bool rpc_health_new(struct rpc_server *server, struct rpc_health **ret,
                                  struct error *err);
/* Ends watches with UNAVAILABLE. After rpc_server_free, or before it if the server gets no more
 * calls until then. Takes null; returns null. */
struct rpc_health *rpc_health_free(struct rpc_health *health);
DEFINE_CLEANUP(rpc_health_free, struct rpc_health)

/* What Check and Watch say of `service`, whose name is static. EXHAUSTED: too many services. */
[[nodiscard]] bool rpc_health_set(struct rpc_health *health, const char *service, bool serving,
                                  struct error *err);
/* For a server that drains: nothing serves any more. */
void rpc_health_stop(struct rpc_health *health);
