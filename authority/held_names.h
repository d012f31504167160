/*
 * struct held_names: of which names a node has a head, and which one. By name, so that they can be
 * walked beside the catalog.
 * Limits: WATCH_HELD_MAX at first; then one for each secret that there is. Threading: none.
 */
#pragma once

#include "base/error.h"

#include "postern/v1/node.pb-c.h"

struct held_name {
    char *name; /* owned */
    uint32_t epoch;
    uint64_t seq;
    bool alarmed; /* it was said already that this can't be */
};

struct held_names {
    struct held_name *items;
    size_t count, capacity;
};

/* For CLEANUP; {0} is empty. */
void held_names_done(struct held_names *names);
/* What the node itself says, into an empty list. INVALID, with the field: too many, twice the same,
 * or no name of a secret. */
[[nodiscard]] bool held_names_take(struct held_names *names,
                                   const Postern__V1__WatchRequest *request, struct error *err);
/* Null if there is none; valid until the list changes. */
struct held_name *held_names_find(const struct held_names *names, const char *name);
/* Adds or changes. EXHAUSTED without memory. */
[[nodiscard]] bool held_names_set(struct held_names *names, const char *name, uint32_t epoch,
                                  uint64_t seq, struct error *err);
/* `name` is of this list. */
void held_names_remove(struct held_names *names, struct held_name *name);
