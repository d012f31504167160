#include "secrets.h"

#include "authority.h"

void secrets_put(void *authority, struct rpc_call *call,
                 const Postern__V1__PutSecretRequest *request)
{
    (void)authority;
    (void)request;
    struct error err;
    error_set(&err, ERROR_UNIMPLEMENTED, "this authority keeps no secrets yet");
    rpc_fail(call, &err);
}

void secrets_list(void *authority, struct rpc_call *call,
                  const Postern__V1__ListSecretsRequest *request)
{
    (void)authority;
    (void)request;
    struct error err;
    error_set(&err, ERROR_UNIMPLEMENTED, "this authority keeps no secrets yet");
    rpc_fail(call, &err);
}
