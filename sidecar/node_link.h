/*
 * struct node_link: the sidecar's side of the node agent's socket. It keeps the channel open and the
 * Attach stream running, and remembers the last state that came.
 *
 * Ownership: owns its client and copies. Threading: the loop's thread.
 */
#pragma once

#include "loop/loop.h"
#include "rpc/client.h"

#include "postern/v1/pod.pb-c.h"

struct node_link;

/* Begins to connect to the socket at `path`. */
[[nodiscard]] bool node_link_new(struct loop *loop, const char *path, struct node_link **ret,
                                 struct error *err);
struct node_link *node_link_free(struct node_link *link);

/* Calls `changed` from the loop whenever what is told below has changed; null for nobody. */
void node_link_on_change(struct node_link *link, void (*changed)(void *arg), void *arg);

/* The channel, for calls. */
struct rpc_client *node_link_client(struct node_link *link);
/* The last state; null before the first. Borrowed until the loop runs on. */
const Postern__V1__AttachResponse *node_link_state(const struct node_link *link);
/* Whether the Attach stream stands now. */
bool node_link_connected(const struct node_link *link);
/* Unix milliseconds since when the node agent is away; 0 while it is connected. */
int64_t node_link_lost_since(const struct node_link *link);
