/*
 * struct pods: PodService on the node's Unix socket: identity, state and secrets for the sidecars.
 *
 * A caller is known by its cgroup. The kernel noted which process connected (SO_PEERPIDFD); that
 * process's cgroup is looked up anew for every call and never cached: a process may be moved, may
 * have ended and left its connection to another, and the mapping may have been reloaded since. It
 * costs a few system calls, and a Fetch is rare.
 *
 * Ownership: owns its server, borrows the agent. Threading: the loop's thread.
 */
#pragma once

#include "agent.h"

#include "postern/v1/config.pb-c.h"

struct pods;

/* Attach streams: at once, and of one mapping (a pod's sidecars; one that opens them without end must
 * not shut out the others). */
constexpr size_t ATTACHED_MAX = 2048;
constexpr size_t ATTACHED_PER_POD_MAX = 8;

/* Listens on `socket`, whose folder is made with mode 0755 if it is absent. */
[[nodiscard]] bool pods_new(struct loop *loop, const char *socket, struct agent *agent,
                            struct pods **ret, struct error *err);
/* Before agent_free. Takes null; returns null. */
struct pods *pods_free(struct pods *pods);

/* Replaces the mapping; streams of pods that are no longer in it, or are somebody else now, end with
 * POD_UNKNOWN. On failure the old mapping stays. */
[[nodiscard]] bool pods_map(struct pods *pods, Postern__V1__PodMapping *const *mappings,
                            size_t count, struct error *err);

/* What pods may see has changed: every stream gets it, soon. */
void pods_changed(struct pods *pods);

/* Ends all streams, takes no new calls, lets running ones finish until `deadline` (boot clock, ms),
 * then calls `drained` once. */
void pods_drain(struct pods *pods, uint64_t deadline, void (*drained)(void *arg), void *arg);
