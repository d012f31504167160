/*
 * struct watch_hub: the Watch streams of all connected nodes, one for each.
 *
 * What a stream sends follows from what its node has and what the database says, never from a queue:
 * whatever may have changed marks streams, one transaction reads what all marked ones may have, and
 * each is sent the difference. Where its peer reads too slowly it is marked again once there is room.
 * So a stream needs no more memory than the names that its node holds.
 * Threading: the loop's thread. Limits: as named.
 */
#pragma once

#include "postern/v1/node.rpc.h"

struct authority;
struct watch_hub;

constexpr uint64_t WATCH_TIME_MS = 30'000; /* between two AuthorityTime */
constexpr size_t WATCH_HELD_MAX =
    8192; /* names that a node says it holds: memory, and each is looked
                                         * up. Twice as many as there can be */
constexpr size_t WATCH_BATCH_MAX = 256; /* streams in one transaction */

[[nodiscard]] bool watch_hub_new(struct authority *authority, struct watch_hub **ret,
                                 struct error *err);
/* Ends what is left. Takes null; returns null. */
struct watch_hub *watch_hub_free(struct watch_hub *hub);
/* Ends all streams with UNAVAILABLE, so that nodes go elsewhere and a drain can finish. */
void watch_hub_drain(struct watch_hub *hub);

/* Member of struct node_service_handlers; `authority` is the argument. The caller is a node
 * (access.h). */
void watch_begin(void *authority, struct rpc_call *call, const Postern__V1__WatchRequest *request);

/* Whether the node holds a stream now. */
bool watch_hub_connected(const struct watch_hub *hub, const char *agent_id);
/* Sends AttestNow. UNAVAILABLE, reason NODE_NOT_CONNECTED. */
[[nodiscard]] bool watch_hub_attest_now(struct watch_hub *hub, const char *agent_id,
                                        const char *why, struct error *err);
/* Something of this node was committed that its stream depends on: an appraisal, an admission, a
 * denial, a confirmed generation. */
void watch_hub_node_changed(struct watch_hub *hub, const char *agent_id);
/* A secret was committed, or policies were reloaded: who may have what has changed. */
void watch_hub_all_changed(struct watch_hub *hub);
