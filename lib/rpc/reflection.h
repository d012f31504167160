/*
 * grpc.reflection.v1 and v1alpha: what a server serves, for tools such as grpcurl, from the
 * descriptor sets that generated services carry (rpc/service.h). Our contracts have no extensions,
 * so questions for them find none.
 */
#pragma once

#include "rpc/server.h"

/* Adds both services; they tell of every service that the server has when it is asked. EXISTS,
 * EXHAUSTED. */
[[nodiscard]] bool rpc_reflection_add(struct rpc_server *server, struct error *err);
