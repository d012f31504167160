/*
 * struct agent: keeps the node attested and its secrets current. It unseals what is on disk, attests,
 * watches, fetches, makes durable, confirms, retires generations; plan.h says in which order.
 *
 * Files: agent.c (life, timers, the step), agent_seal.c (slots, generations, the counter),
 * agent_link.c (Attest, Watch), agent_request.c (Fetch, Confirm); agent_internal.h is theirs.
 * Ownership: owns device, clients, slots and what is held. Threading: the loop's thread.
 */
#pragma once

#include "device.h"
#include "held.h"
#include "loop/address.h"

struct agent;

/* Borrowed for the call. */
struct agent_settings {
    struct address authority;
    const char *server_name;
    const char *trust_anchor;    /* path, for errors */
    struct slice trust_pem;      /* its contents */
    const char *state_dir;       /* exists */
    const char *join_token_file; /* null: none; looked at while the node is not admitted */
    uint64_t max_offline_ms;
    struct device_settings device;
    /* Told after every change of what pods may see. Never from within agent_new. */
    void (*changed)(void *arg);
    void *changed_arg;
};

/* Reads slots and trust anchor, makes counter.auth; the rest goes on from the loop. INVALID: the
 * trust anchor; DENIED: the state's folder; what device_new says. */
[[nodiscard]] bool agent_new(struct loop *loop, const struct agent_settings *settings,
                             struct agent **ret, struct error *err);
/* Wipes. Waits for the TPM and the disk. Not from a callback. Takes null; returns null. */
struct agent *agent_free(struct agent *agent);

/* Attests soon, whatever the authority asked for: an operator wants it. */
void agent_attest_now(struct agent *agent);

/* What pods may have; borrowed until the loop runs on. */
const struct held *agent_held(const struct agent *agent);
/* Unix milliseconds for held_release: no earlier than the authority's clock. */
int64_t agent_now(const struct agent *agent);
/* The authority's trust domain; borrowed. */
const char *agent_trust_domain(const struct agent *agent);
