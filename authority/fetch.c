#include "fetch.h"

#include "authority.h"

void fetch_begin(void *authority, struct rpc_call *call,
                 const Postern__V1__FetchRequest *request)
{
    (void)authority;
    (void)request;
    struct error err;
    error_set(&err, ERROR_UNIMPLEMENTED, "this authority has no Fetch yet");
    rpc_fail(call, &err);
}

void confirm_begin(void *authority, struct rpc_call *call,
                   const Postern__V1__ConfirmRequest *request)
{
    (void)authority;
    (void)request;
    struct error err;
    error_set(&err, ERROR_UNIMPLEMENTED, "this authority has no Confirm yet");
    rpc_fail(call, &err);
}
