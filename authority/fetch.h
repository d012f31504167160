/* NodeService.Fetch and .Confirm. Threading: the loop's thread. */
#pragma once

#include "postern/v1/node.rpc.h"

/* Members of struct node_service_handlers; `authority` is the argument. The caller is a node
 * (access.h). */
void fetch_begin(void *authority, struct rpc_call *call,
                 const Postern__V1__FetchRequest *request);
void confirm_begin(void *authority, struct rpc_call *call,
                   const Postern__V1__ConfirmRequest *request);
