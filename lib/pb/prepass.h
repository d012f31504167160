/*
 * What pb_unpack refuses before protobuf-c sees a byte (the list is in pb/message.h), and what
 * unpack will then allocate. No allocation; recursion is limited. Internal to lib/pb.
 */
#pragma once

#include "pb/message.h"

/* In front of each block that unpack allocates: its size, for the wiping when it is freed. */
constexpr size_t PREPASS_BLOCK_HEADER = alignof(max_align_t);

/* What a block of `size` bytes counts. The same rule for the pre-pass and the allocator. */
static inline size_t prepass_block(size_t size)
{
    return size + PREPASS_BLOCK_HEADER;
}

/* INVALID or EXHAUSTED as pb_unpack says; else in *ret_memory an upper bound of the sum of
 * prepass_block over all that protobuf-c's unpack will allocate. */
[[nodiscard]] bool prepass(const ProtobufCMessageDescriptor *descriptor, struct slice bytes,
                           const struct pb_limits *limits, size_t *ret_memory, struct error *err);
