/*
 * The framing of a slot file (docs/protocol.md, "Slots"): its three parts, with a digest that tells
 * a torn or half-restored file from a whole one before a TPM is asked.
 *
 * Limits: SLOT_SIZE_MAX; a file beyond it is none of ours.
 */
#pragma once

#include "base/buf.h"

constexpr size_t SLOT_SIZE_MAX = 4 * 1024 * 1024;
constexpr size_t SLOT_HEADER_MAX = 16 * 1024;

struct slot_parts {
    struct slice header;     /* a SlotHeader */
    struct slice ciphertext; /* the NodeState, sealed (envelope.h) */
    struct slice packets;    /* a SlotPackets; each packet is sealed by itself */
};

/* Appends the file's bytes. EXHAUSTED beyond the limits. */
[[nodiscard]] bool slot_encode(const struct slot_parts *parts, struct buf *ret, struct error *err);

/* Borrows the parts from `file`. INVALID: not a slot, torn, or damaged. */
[[nodiscard]] bool slot_decode(struct slice file, struct slot_parts *ret, struct error *err);
