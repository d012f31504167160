/*
 * One YAML scalar as one protobuf field on the wire. Reading YAML builds wire bytes and lets
 * pb_unpack make the message of them: one builder of messages is enough. Internal to lib/pb.
 */
#pragma once

#include "base/buf.h"
#include "pb/field.h"
#include "pb/yaml_events.h"

constexpr size_t SCALAR_EXPECTED_MAX = 240;

/* What a value of `field` (one of them, if it is repeated) looks like in YAML: "true or false",
 * "a mapping". Returns ret. */
char *scalar_expected(const ProtobufCFieldDescriptor *field, char ret[static SCALAR_EXPECTED_MAX]);

/* Appends the scalar `node` as a value of `field`, which is not a message. If it isn't one, INVALID
 * "expected …, found …", without a place; base64 is never shown. EXHAUSTED without memory. */
[[nodiscard]] bool scalar_put(const ProtobufCFieldDescriptor *field, const struct node *node,
                              struct buf *wire, struct error *err);

/* Appends a length-delimited value of `field`: a message's bytes. */
void scalar_put_bytes(const ProtobufCFieldDescriptor *field, struct slice bytes, struct buf *wire);
