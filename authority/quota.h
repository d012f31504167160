/*
 * struct quota: how much of one thing is held, in all and by each holder, so that nobody takes what
 * is everybody's. Holders are known by a key: where a connection comes from, or which node it is.
 *
 * Ownership: embedded; it owns its table. Threading: none. Limits: at most `all` holders at once.
 */
#pragma once

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

struct quota_key {
    uint8_t bytes[16];
};

struct quota_holder {
    struct quota_key key;
    size_t held;
};

struct quota {
    const char *what; /* "attestations by strangers"; static */
    size_t all, each;
    size_t held;
    struct quota_holder *holders; /* room for `all` of them; `count` are in use, in no order */
    size_t count;
};

/* EXHAUSTED. */
[[nodiscard]] bool quota_init(struct quota *quota, const char *what, size_t all, size_t each,
                              struct error *err);
/* Fine on zeros. */
void quota_done(struct quota *quota);

/* One more for this holder. EXHAUSTED, reason QUOTA, says which of the limits it is. */
[[nodiscard]] bool quota_take(struct quota *quota, const struct quota_key *key, struct error *err);
/* One less; it was taken. */
void quota_give(struct quota *quota, const struct quota_key *key);

/* Where a connection comes from, by rpc_peer.address: an IPv4 address; of an IPv6 address its /64,
 * which is what one customer has at least. All else, Unix sockets with it, is one holder. */
struct quota_key quota_key_of_address(const char *address);
/* A node, by the 32 hex digits of its agent_id. */
struct quota_key quota_key_of_agent(const char *agent_id);
