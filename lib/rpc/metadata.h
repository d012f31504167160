/*
 * Metadata of one direction of a call: an ordered list of keys and values, in one allocation each
 * for bytes and entries, none while it is empty. gRPC PROTOCOL-HTTP2.md, "Custom-Metadata".
 * Limits: METADATA_MAX; what is received is bounded by the header list limit before it comes here.
 */
#pragma once

#include "http/h2.h"
#include "rpc/call.h"

constexpr size_t METADATA_MAX = 64 * 1024; /* of ours, bytes in all: our own mistake */
constexpr size_t METADATA_COUNT_MAX = 96;  /* of ours: leaves room for the protocol's own headers */

struct metadata_entry {
    uint32_t key, key_len, value, value_len; /* where in `bytes`; keys end with a NUL */
};

struct metadata {
    struct buf bytes;
    struct metadata_entry *entries;
    size_t count, room;
};

void metadata_init(struct metadata *metadata);
void metadata_done(struct metadata *metadata);

/* Ours, to send: checks key and value and stores them as they go on the wire ("-bin" in base64).
 * INVALID, EXHAUSTED. */
[[nodiscard]] bool metadata_add(struct metadata *metadata, const struct rpc_metadatum *item,
                                struct error *err);
/* From the wire: skips reserved names, decodes "-bin" (each of several joined by commas; values that
 * are no base64 are skipped). EXHAUSTED: memory. */
[[nodiscard]] bool metadata_receive(struct metadata *metadata, const struct h2_header *header,
                                    struct error *err);

/* The index-th value of `key`, as stored. */
[[nodiscard]] bool metadata_find(const struct metadata *metadata, const char *key, size_t index,
                                 struct slice *ret);
/* The i-th entry as a header, for sending; i < count. */
struct h2_header metadata_at(const struct metadata *metadata, size_t i);
