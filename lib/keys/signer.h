/*
 * struct signer: the one way to sign, and to wrap and unwrap data keys, without blocking a loop.
 *
 * Requests are numbered and checked against a table of lengths before anything is copied, then done
 * one after another on a worker's thread. Nothing that a request carries points into the caller's
 * memory and keys are named by number, so that the same table can be served by another process.
 *
 * Keys are added before the first request. Used on the loop's thread; callbacks come there, never
 * inside the call that asked (but inside signer_free). Limits: the queue, SIGNER_*_MAX.
 */
#pragma once

#include "base/secret.h"
#include "keys/key.h"
#include "loop/loop.h"

constexpr size_t SIGNER_KEYS_MAX = 32;
constexpr size_t SIGNER_BYTES_MAX = 4 * 1024 * 1024 + 64 * 1024; /* an RPC's message and framing */
constexpr size_t SIGNER_CONTEXT_MAX = 1024;
constexpr size_t SIGNER_DATA_KEY_SIZE = 32;
constexpr size_t SIGNER_WRAPPED_SIZE = 1 + 12 + 32 + 16; /* version, IV, ciphertext, tag */

struct signer;

/* `queue_max` requests may wait (loop/worker.h). Errors: EXHAUSTED. */
[[nodiscard]] bool signer_new(struct loop *loop, size_t queue_max, struct signer **ret,
                              struct error *err);
/* The running request ends, waiting ones are CANCELLED, all callbacks have come when this returns.
 * May be called from one of them. NULL is fine; returns NULL. */
struct signer *signer_free(struct signer *signer);
DEFINE_CLEANUP(signer_free, struct signer)

/* Names a private key by `id`, for signer_sign; takes a reference. INVALID (public), EXISTS (id),
 * EXHAUSTED, CONFLICT (after the first request). */
[[nodiscard]] bool signer_add_key(struct signer *signer, uint32_t id, struct key *key,
                                  struct error *err);
/* Names a key-encryption key, for wrapping: file:/path of exactly 32 raw bytes that nobody else can
 * read (AES-256). Errors also: DENIED, NOT_FOUND, UNIMPLEMENTED (another scheme). */
[[nodiscard]] bool signer_add_kek(struct signer *signer, uint32_t id, const char *uri,
                                  struct error *err);
/* Makes such a file of random bytes, mode 0600. EXISTS if there is one: what it wraps would be
 * lost. */
[[nodiscard]] bool signer_make_kek(const char *path, struct error *err);

/* The answer to signing and wrapping: bytes, borrowed until it returns; or err, and none. */
typedef void signer_done(void *arg, struct slice bytes, const struct error *err);
/* The answer to unwrapping: a secret that is the callee's now; or err, and NULL. */
typedef void signer_opened(void *arg, struct secret *data_key, const struct error *err);

/* Each of these, if it succeeds, calls `done` exactly once; `deadline` is on the boot clock in ms, 0
 * for none. Errors at once: INVALID (lengths), NOT_FOUND (no such key), EXHAUSTED (queue full).
 * Errors of the answer: TIMEOUT, CANCELLED, what the operation says. */

/* key_sign over a copy of `bytes`. */
[[nodiscard]] bool signer_sign(struct signer *signer, uint32_t id, struct slice bytes,
                               uint64_t deadline, signer_done *done, void *arg, struct error *err);
/* AES-256-GCM under the KEK with a random IV; `context` (whose key is it: a name, a version) is
 * authenticated, and must be the same for unwrapping. The answer has SIGNER_WRAPPED_SIZE bytes. */
[[nodiscard]] bool signer_wrap(struct signer *signer, uint32_t id, struct slice context,
                               const struct secret *data_key, uint64_t deadline, signer_done *done,
                               void *arg, struct error *err);
/* The answer is DENIED if KEK, context or a byte is another. */
[[nodiscard]] bool signer_unwrap(struct signer *signer, uint32_t id, struct slice context,
                                 struct slice wrapped, uint64_t deadline, signer_opened *done,
                                 void *arg, struct error *err);
