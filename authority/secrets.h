/* AdminService.PutSecret and .ListSecrets. Threading: the loop's thread. */
#pragma once

#include "postern/v1/admin.rpc.h"

/* Members of struct admin_service_handlers; `authority` is the argument, the caller an operator. */
void secrets_put(void *authority, struct rpc_call *call,
                 const Postern__V1__PutSecretRequest *request);
void secrets_list(void *authority, struct rpc_call *call,
                  const Postern__V1__ListSecretsRequest *request);
