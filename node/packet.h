/*
 * What travels after Attest: requests that REQ signs, packets that the node key opens
 * (docs/protocol.md). Sans-I/O. Threading: any.
 */
#pragma once

#include "base/crypt.h"
#include "held.h"
#include "signatures.h"

#include "postern/v1/node.pb-c.h"

constexpr size_t REQUEST_NONCE_SIZE = 16;
constexpr size_t REQUEST_BODY_MAX = 64 * 1024;

/* Who asks; borrowed. */
struct requester {
    const char *agent_id;
    uint64_t generation;
    int64_t time_ms; /* as the authority's clock would say */
};

/* Append the body of a request, with a fresh nonce. `held` (may be null) is the version that need not
 * come again. */
[[nodiscard]] bool request_fetch(const struct requester *requester, const char *name,
                                 const struct packet *held,
                                 uint8_t ret_nonce[static REQUEST_NONCE_SIZE], struct buf *ret,
                                 struct error *err);
[[nodiscard]] bool request_confirm_version(const struct requester *requester,
                                           const struct held_secret *secret, struct buf *ret,
                                           struct error *err);
[[nodiscard]] bool request_confirm_generation(const struct requester *requester, struct buf *ret,
                                              struct error *err);
/* Appends what REQ signs: the prefixed parts "postern req v1", method ("Fetch"), body. */
[[nodiscard]] bool request_to_sign(const char *method, struct slice body, struct buf *ret,
                                   struct error *err);

/* The request that a packet answers; borrowed. */
struct packet_expected {
    const struct authority_keys *keys;
    const struct secret *node_key;
    const char *agent_id;
    uint64_t generation;
    const char *name;
    struct slice nonce;
    int64_t now;
};

/* A head: verifies both signatures, then reads it. UNAUTHENTICATED, INVALID. */
[[nodiscard]] bool head_read(const struct authority_keys *keys,
                             const Postern__V1__SecretHead *message, int64_t now, struct head *ret,
                             struct error *err);
/* The same from a slot, whose seal has vouched for it. */
[[nodiscard]] bool head_parse(struct slice body, struct head *ret, struct error *err);

/* Verifies both signatures, then that the packet is for this node and answers this request, then
 * opens it. UNAUTHENTICATED: a signature;
 * DENIED: another node's, another request's, or not under this node key; INVALID: what is in it. */
[[nodiscard]] bool packet_open(const struct packet_expected *expected,
                               const Postern__V1__Packet *packet,
                               const ProtobufCBinaryData *certificates, size_t certificate_count,
                               struct packet *ret, struct error *err);

/* The same from a slot, whose seal has vouched for it. `ret_name` (freed by mem_free) is the name in
 * its header. */
[[nodiscard]] bool packet_reopen(struct slice header, struct slice ciphertext,
                                 const struct secret *node_key, struct packet *ret, char **ret_name,
                                 struct error *err);
/* SHA-256 of the prefixed parts: what a sealed state lists. */
[[nodiscard]] bool packet_hash(struct slice header, struct slice ciphertext,
                               uint8_t ret[static SHA256_SIZE], struct error *err);
