/*
 * Messages as JSON, for people's scripts: the proto3 JSON mapping. Names in lowerCamelCase, 64-bit
 * integers as strings, bytes as base64, enums by name (a number without one as number),
 * google.protobuf.Timestamp as RFC 3339, maps as objects, map entries by key.
 * What has presence and is absent is left out; all else is there even when empty or 0, so that a
 * script finds the same keys each time.
 * Threading: any.
 */
#pragma once

#include "pb/message.h"

/* Appends one line without a line break. EXHAUSTED beyond ret's maximum or without memory. */
[[nodiscard]] bool pb_to_json(const ProtobufCMessage *message, struct buf *ret, struct error *err);
