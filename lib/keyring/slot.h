/*
 * The framing of a slot file (docs/protocol.md, "Slots"): header and ciphertext, with a digest that
 * tells a torn or half-restored file from a whole one before a TPM is asked.
 *
 * Limits: SLOT_SIZE_MAX; a file beyond it is none of ours.
 */
#pragma once

#include "base/buf.h"

constexpr size_t SLOT_SIZE_MAX = 4 * 1024 * 1024;
constexpr size_t SLOT_HEADER_MAX = 16 * 1024;

/* Appends the file's bytes. EXHAUSTED beyond the limits. */
[[nodiscard]] bool slot_encode(struct slice header, struct slice ciphertext, struct buf *ret,
                               struct error *err);

/* Borrows header and ciphertext from `file`. INVALID: not a slot, torn, or damaged. */
[[nodiscard]] bool slot_decode(struct slice file, struct slice *ret_header,
                               struct slice *ret_ciphertext, struct error *err);
