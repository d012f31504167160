/*
 * NodeService.Fetch and .Confirm: a version under a generation of a node key, and that it arrived.
 * What leaves is decided in one transaction, which also records to whom; it is sealed and signed after
 * the commit, on the signer's thread. Threading: the loop's thread.
 */
#pragma once

#include "postern/v1/node.rpc.h"

constexpr size_t FETCH_HELD_MAX = 64; /* versions of one name that a node says it holds */

/* Members of struct node_service_handlers; `authority` is the argument. The caller is a node
 * (access.h). */
void fetch_begin(void *authority, struct rpc_call *call, const Postern__V1__FetchRequest *request);
void confirm_begin(void *authority, struct rpc_call *call,
                   const Postern__V1__ConfirmRequest *request);
