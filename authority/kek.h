/*
 * struct kek: the key-encryption key, under which the database keeps what it must not show.
 *
 * Ownership: belongs to the identity. Threading: any; it never changes.
 */
#pragma once

#include "base/buf.h"
#include "base/secret.h"

struct kek;

constexpr size_t KEK_SIZE = 32;
constexpr size_t KEK_OVERHEAD = 1 + 32 + 16; /* version, salt, tag */

/* Writes a fresh one, mode 0600. */
[[nodiscard]] bool kek_create(const char *path, struct error *err);
/* DENIED if others can read the file; INVALID for another size. */
[[nodiscard]] bool kek_open(const char *path, struct kek **ret, struct error *err);
struct kek *kek_free(struct kek *kek);
DEFINE_CLEANUP(kek_free, struct kek)

/* Appends version 1 | salt 32 | ciphertext ‖ tag: AES-256-GCM under a key and an IV that HKDF makes of
 * the KEK and the fresh salt. `context` says what it is and whose ("node key", agent_id, …): prefixed
 * parts, authenticated, not stored, so that no row can stand in for another. */
[[nodiscard]] bool kek_wrap(const struct kek *kek, struct slice context, const struct secret *plain,
                            struct buf *ret, struct error *err);
/* DENIED (reason KEK_MISMATCH) for another context, another KEK or a damaged row. */
[[nodiscard]] bool kek_unwrap(const struct kek *kek, struct slice context, struct slice wrapped,
                              struct secret **ret, struct error *err);
