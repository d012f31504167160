/*
 * struct authority: what the rooms of postern-authority share. Each room is a pair of files; none
 * reaches into another's state but through its header.
 *
 * Threads: everything here belongs to the loop's thread, but for what says otherwise: `policies` and
 * `kek` never change once made and may be used on the database's and the signer's threads by who
 * holds a reference.
 * Transactions: what is released is decided inside a transaction, from what that transaction reads;
 * it leaves only after the commit was reported.
 */
#pragma once

#include "identity.h"
#include "policies.h"
#include "quota.h"

#include "loop/loop.h"
#include "rpc/server.h"
#include "store/store.h"

struct attest_service; /* attest_service.h */
struct rpc_health;
struct watch_hub; /* watch.h */

struct authority {
    struct loop *loop;
    struct store *store;
    struct identity *identity;
    struct policies
        *policies; /* in force; replaced whole by a reload: take a reference to keep it */
    char trust_domain[TRUST_DOMAIN_SIZE];
    uint64_t svid_lifetime_ms;

    struct rpc_server *server;
    struct quota strangers; /* connections without a certificate (access.h) */
    struct rpc_health *health;
    struct attest_service *attest;
    struct watch_hub *hub;

    struct timer renew;          /* of the server's certificate */
    struct tls_context *renewed; /* on its way from the signer's thread */
};

/* What the program and its tests make an authority of; all borrowed for the call. */
struct authority_settings {
    const char *data_dir;
    const char *trust_domain;
    struct policies_source policies;
    uint64_t svid_lifetime_ms;
    struct address listen;
};

/* Opens the database and the keys, reads the policies, registers the services, listens. Errors name
 * the file that is at fault. `ret_address` (may be null) gets where it listens. */
[[nodiscard]] bool authority_new(struct loop *loop, const struct authority_settings *settings,
                                 struct authority **ret, struct address *ret_address,
                                 struct error *err);
/* Takes null; returns null. Not from a callback of the loop. */
struct authority *authority_free(struct authority *authority);
DEFINE_CLEANUP(authority_free, struct authority)

/* New policies and another SVID lifetime; on failure the old ones stay in force, whole. */
[[nodiscard]] bool authority_reload(struct authority *authority,
                                    const struct policies_source *source, uint64_t svid_lifetime_ms,
                                    struct error *err);

/* Takes nothing new and lets what runs finish until `deadline` (boot clock, ms), then calls `drained`
 * once. */
void authority_drain(struct authority *authority, uint64_t deadline, void (*drained)(void *arg),
                     void *arg);
