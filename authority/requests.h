/*
 * Signed requests of nodes, {body, signature} (docs/protocol.md, Signatures): what Fetch and Confirm
 * have in common. The TLS certificate says which node calls; the signature that its TPM does.
 *
 * Limits: as named. Threading: as each function says.
 */
#pragma once

#include "nodes.h"

#include "rpc/call.h"

struct authority;

constexpr size_t REQUEST_BODY_MAX = 64 * 1024; /* what a node holds of one name, and a header */
constexpr size_t REQUEST_NONCE_SIZE = 16;
constexpr int64_t REQUEST_SKEW_MAX_MS = 120'000; /* a stored request is worth nothing afterwards */
constexpr int64_t REQUEST_NONCE_KEEP_MS = 300'000; /* longer than a request can be in time */
constexpr int64_t REQUEST_NONCES_MAX = 20'000;     /* of one node: it could fill the disk */

struct node_request {
    const char *method; /* "Fetch"; static */
    struct buf body;
    struct buf signature;
    ProtobufCMessage *message;                /* body, unpacked */
    const Postern__V1__RequestHeader *header; /* in message */
};

void node_request_init(struct node_request *request);
void node_request_done(struct node_request *request);

/* As it came; borrowed. */
struct signed_request {
    const char *method;
    struct slice body;
    struct slice signature;
    const ProtobufCMessageDescriptor *descriptor; /* of the body */
    /* The body's header; null if it is absent. */
    const Postern__V1__RequestHeader *(*header)(const ProtobufCMessage *body);
};

/* Loop. Copies and unpacks the request into an initialised `ret`. INVALID, with the field; DENIED
 * (reason WRONG_NODE) if the caller's certificate is another's. */
[[nodiscard]] bool node_request_open(const struct authority *authority, const struct rpc_call *call,
                                     const struct signed_request *in, struct node_request *ret,
                                     struct error *err);

/* Any. Whether REQ key `req` signed it. UNAUTHENTICATED, reason REQUEST_NOT_AUTHENTIC. */
[[nodiscard]] bool node_request_verify(const struct node_request *request, const TPMT_PUBLIC *req,
                                       struct error *err);

/* Inside the transaction that decides on it: reads the node's record into an initialised `ret_record`,
 * verifies the signature, and the time (CONFLICT, reason CLOCK_SKEW: the node has to attest, which
 * tells it the time), and counts the nonce (CONFLICT, reason NONCE_USED; EXHAUSTED). */
[[nodiscard]] bool node_request_accept(struct tx *tx, const struct node_request *request,
                                       int64_t now_ms, struct node_record *ret_record,
                                       struct error *err);
