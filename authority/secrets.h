/*
 * AdminService.PutSecret and .ListSecrets, and what changes a secret's head: read, make and sign on
 * the signer's thread, store if nobody was faster (else again), and only then tell.
 * Threading: the loop's thread.
 */
#pragma once

#include "postern/v1/admin.rpc.h"

struct authority;

/* Members of struct admin_service_handlers; `authority` is the argument, the caller an operator. */
void secrets_put(void *authority, struct rpc_call *call,
                 const Postern__V1__PutSecretRequest *request);
void secrets_list(void *authority, struct rpc_call *call,
                  const Postern__V1__ListSecretsRequest *request);

/* Somebody who held the name may not have it any more, for a reason outside it (policies): makes a
 * head that says so (secret_rows.h), unless the name was changed since its live head had `seq`. Tells
 * the hub when it is there; a failure is logged. */
void secrets_renew(struct authority *authority, const char *name, uint64_t seq);
