/*
 * struct callers: the connections at the node's socket by the cgroup that made them, so that no pod
 * can take the room that its neighbours need. Which pod a *call* is of is asked anew for each
 * (pods.h); here a connection counts for who opened it.
 *
 * Sans-I/O. Ownership: owns its entries. Threading: the loop's thread.
 */
#pragma once

#include "base/error.h"

/* Connections of one pod, or of one cgroup that is in no pod: descriptors and memory by connecting
 * without end. A sidecar has one, and its successor another for a moment. */
constexpr size_t CALLERS_PER_POD_MAX = 8;
/* Connections of all cgroups that are in no pod: who may make cgroups has as many as they like. */
constexpr size_t CALLERS_UNKNOWN_MAX = 64;

struct caller;

struct callers {
    struct caller *first;
    size_t unknown; /* of no pod */
};

/* Which pod a cgroup is in: the pod's own cgroup, borrowed; null if it is in none. */
typedef const char *callers_pod(void *arg, const char *cgroup);

/* Counts a connection, known by `key` until callers_remove. `cgroup` is copied; empty where it could
 * not be told. `pod`: the pod that it is in, or null. EXHAUSTED: a limit (or memory). */
[[nodiscard]] bool callers_add(struct callers *callers, const void *key, const char *cgroup,
                               const char *pod, struct error *err);
/* Harmless for a key that is not there. */
void callers_remove(struct callers *callers, const void *key);
/* The pods are others now: says anew who is in none. Connections that stand are left alone. */
void callers_map(struct callers *callers, callers_pod *pod_of, void *arg);
/* Forgets all. */
void callers_done(struct callers *callers);
