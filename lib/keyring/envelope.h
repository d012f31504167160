/*
 * What the node key encrypts: packets on their way from the authority, slots on the node's disk
 * (docs/protocol.md, "The node key"). Both sides use this; nothing here knows a TPM or a file.
 *
 * Every envelope has a key and an IV of its own, derived from the node key with the fresh salt that
 * its header carries, and the header is authenticated: two writers and restored disks never use an
 * (key, IV) pair twice.
 *
 * Ownership: outputs are the caller's. Threading: any.
 */
#pragma once

#include "base/buf.h"
#include "base/secret.h"

enum envelope_kind {
    ENVELOPE_PACKET, /* a PacketHeader and a SecretPlain */
    ENVELOPE_SLOT,   /* a SlotHeader and a NodeState */
};

constexpr size_t NODE_KEY_SIZE = 32;
constexpr size_t ENVELOPE_SALT_SIZE = 32;

/* Appends ciphertext ‖ tag. `salt` (ENVELOPE_SALT_SIZE fresh random bytes) must be the one inside
 * `header`, which are the header's bytes exactly as they will travel. INVALID: a node key or salt of
 * another size. */
[[nodiscard]] bool envelope_seal(enum envelope_kind kind, const struct secret *node_key,
                                 struct slice header, struct slice salt, struct slice plain,
                                 struct buf *ret, struct error *err);

/* DENIED if header, ciphertext or key are not those of envelope_seal; INVALID for sizes that can't
 * be. */
[[nodiscard]] bool envelope_open(enum envelope_kind kind, const struct secret *node_key,
                                 struct slice header, struct slice salt, struct slice ciphertext,
                                 struct secret **ret, struct error *err);
