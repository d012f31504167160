/*
 * Protocol Buffers messages from foreign bytes and back: the only caller of protobuf-c's unpack.
 *
 * protobuf-c takes messages of any nesting (its recursion overflows the stack), strings with NULs
 * and without UTF-8 (so that what was checked is not what a C string shows), and allocates some
 * fifty times what an attacker sends. So a pre-pass over the wire bytes, guided by the descriptor
 * and without any allocation, first refuses all that is listed at pb_unpack; and while unpack runs,
 * its allocator holds it to what the pre-pass computed.
 *
 * Ownership: a message is freed by pb_free, which wipes every byte of it first: a message may carry
 * secrets. Its memory is ordinary heap, so keep such a message short. Never write into an unpacked
 * message, nor hand it to protobuf-c's own free functions.
 * Threading: any; a message belongs to one thread at a time.
 */
#pragma once

#include <protobuf-c/protobuf-c.h>

#include "base/buf.h"

/* What a peer may make us do. Each is the bound of an attack:
 *   size      bytes on the wire
 *   nesting   messages within messages, the outermost counted, at most PB_NESTING_MAX: stack
 *   memory    bytes that unpack allocates, its scratch included: "0a 00" repeated is a message and a
 *             pointer each time
 *   elements  fields, and elements of packed fields, in the whole message: CPU, and small blocks */
struct pb_limits {
    size_t size;
    size_t nesting;
    size_t memory;
    size_t elements;
    bool refuse_unknown; /* unknown fields and enum numbers are INVALID, at any depth */
};

constexpr size_t PB_SIZE_MAX = 4 * 1024 * 1024;    /* a message of an RPC */
constexpr size_t PB_NESTING_MAX = 32;              /* about 1 KiB of stack each in protobuf-c */
constexpr size_t PB_MEMORY_MAX = 16 * 1024 * 1024; /* four times the largest message */
constexpr size_t PB_ELEMENTS_MAX = 128 * 1024;

/* RPC messages: unknown fields are ignored, so that one side can be upgraded before the other. */
extern const struct pb_limits pb_limits_rpc;
/* Stored state, policies and whatever is signed: an unknown field is one that we would not obey. */
extern const struct pb_limits pb_limits_strict;

/* Unpacks `bytes` as a message of `descriptor`. `limits` NULL is pb_limits_rpc. The result is used
 * by a cast to its generated type:
 *     CLEANUP(pb_free_at) ProtobufCMessage *message = nullptr;
 *     if (!pb_unpack(&postern__v1__hello__descriptor, bytes, nullptr, &message, err))
 *         return false;
 *     const Postern__V1__Hello *hello = (const Postern__V1__Hello *)message;
 *
 * EXHAUSTED: a limit, named in the message; or memory.
 * INVALID, with err->field the path of the culprit ("secrets[3].name"; unknown ones by number):
 * - a truncated varint, or one of more than 64 bits; a tag or length of more than 5 bytes; a length
 *   beyond the rest; field number 0 or above 2^29-1; a wire type that does not exist;
 * - a known field with another wire type than its own, packed and unpacked being the same (the
 *   standard would call it unknown; no upgrade makes one);
 * - a string that is not UTF-8 (proto2 too) or contains a NUL; a packed bool other than 0 or 1;
 * - groups, known or unknown: protobuf-c has none, and our contracts never will;
 * - an embedded message of a field that isn't repeated, or of one oneof member, that occurs twice
 *   (the standard merges; no encoder writes it; protobuf-c's merge reads out of bounds where both
 *   leave a oneof unset, and a chain of merges takes quadratic time);
 * - a proto2 required field that is missing;
 * - an enum number that a proto2 field's enum does not have; with refuse_unknown also in proto3 and
 *   repeated fields. Otherwise expect any number there.
 * INTERNAL: the pre-pass and protobuf-c disagree (a defect, which the fuzzer looks for).
 *
 * As the standard has it: of a singular field that isn't a message the last occurrence counts, as
 * does the last member of a oneof; numbers too wide for a 32-bit field lose their upper bits; map
 * entries come in wire order, of equal keys the last one counts. */
[[nodiscard]] bool pb_unpack(const ProtobufCMessageDescriptor *descriptor, struct slice bytes,
                             const struct pb_limits *limits, ProtobufCMessage **ret_message,
                             struct error *err);

/* Wipes and frees a message made by pb_unpack or pb_from_yaml; NULL is fine; returns NULL. */
ProtobufCMessage *pb_free(ProtobufCMessage *message);

/* For CLEANUP of a ProtobufCMessage *, or of a pointer to a generated type that came from one. */
void pb_free_at(void *pointer_to_pointer);

/* Appends the message, at most `max` bytes of it, to `ret`. EXHAUSTED beyond `max` (nothing is
 * appended) or ret's own maximum (ret has failed); INTERNAL for a message that lacks a required
 * field or has NULL within a repeated one. */
[[nodiscard]] bool pb_pack(const ProtobufCMessage *message, size_t max, struct buf *ret,
                           struct error *err);
