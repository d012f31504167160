/*
 * NodeService.Attest: E1 hello → E2 challenge → E3 evidence → E4 appraisal (design: attestation.md;
 * docs/protocol.md). The one method that strangers reach, so everything about it is bounded.
 *
 * An appraisal that is not authentic ends the call with UNAUTHENTICATED, reason
 * EVIDENCE_NOT_AUTHENTIC, and nothing is recorded. Everything else is recorded, and answered by an
 * Appraisal.
 * Threading: the loop's thread.
 */
#pragma once

#include "attest/identity.h"
#include "rpc/call.h"

#include "postern/v1/node.rpc.h"

struct authority;
struct attest_service;

constexpr size_t ATTEST_STREAMS_MAX = 256; /* at once: each costs memory and a place in queues */
/* … of them by strangers, so that nodes that show their SVID always find room */
constexpr size_t ATTEST_STRANGERS_MAX = 192;
constexpr size_t ATTEST_PER_ADDRESS_MAX = 32; /* … by strangers of one address: one flood */
constexpr size_t ATTEST_PER_NODE_MAX = 4;     /* … by one node with an SVID: one that went mad */
constexpr uint64_t ATTEST_HELLO_MS = 10'000; /* who opens a stream and says nothing takes a place */
constexpr uint64_t ATTEST_STREAM_MS = 90'000; /* from the hello on: the nonce's minute, and some */

[[nodiscard]] bool attest_service_new(struct authority *authority, struct attest_service **ret,
                                      struct error *err);
struct attest_service *attest_service_free(struct attest_service *service);
DEFINE_CLEANUP(attest_service_free, struct attest_service)
/* For tests alone: other times than ATTEST_HELLO_MS and ATTEST_STREAM_MS. */
void attest_service_hurry(struct attest_service *service, uint64_t hello_ms, uint64_t stream_ms);

/* Called once, on the loop, when the next appraisal of `agent_id` was recorded; with TIMEOUT if none
 * was by `deadline` (boot clock, ms), with CANCELLED at attest_service_free. */
struct attest_waiter {
    char agent_id[AGENT_ID_SIZE];
    uint64_t deadline;
    void (*done)(struct attest_waiter *waiter, const struct error *err);
    struct attest_waiter *next; /* private */
};
void attest_wait(struct attest_service *service, struct attest_waiter *waiter);
/* Takes it back; nothing is called any more. */
void attest_wait_not(struct attest_service *service, struct attest_waiter *waiter);

/* Members of struct node_service_handlers; `authority` is the argument. */
void attest_begin(void *authority, struct rpc_call *call);
void attest_message(void *authority, struct rpc_call *call,
                    const Postern__V1__AttestRequest *message);
