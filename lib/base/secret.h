/*
 * struct secret: key material, and nothing else, in an arena of its own.
 *
 * The arena is one mapping, made at first use: memfd_secret(2), pages that even the kernel's direct
 * map lacks; where the kernel has none, anonymous memory with mlock; where mlock is refused, the
 * same without the lock (secret_arena says which, for the program to log). Either lock counts whole
 * against RLIMIT_MEMLOCK, which is therefore raised to its hard limit. Guard pages lie at both ends,
 * and no core has it (MADV_DONTDUMP). Bytes are erased when freed. A forked child has none of it: a
 * parent's secret is a fault there, never a key of zeros (which MADV_WIPEONFORK would make of it),
 * and the child's own secrets are in an arena of its own.
 * Limits: SECRET_MAX bytes a secret, SECRET_ARENA_SIZE bytes for all of a process.
 * Threading: any thread may make and free; a secret itself belongs to one thread at a time.
 */
#pragma once

#include "base/error.h"
#include "base/slice.h"

constexpr size_t SECRET_MAX = 64 * 1024 + 512;        /* a 64 KiB app secret with its framing */
constexpr size_t SECRET_ARENA_SIZE = 4 * 1024 * 1024; /* virtual; pages are made when used */

struct secret; /* opaque: bytes and a length */

/* len zero bytes. INVALID for 0; EXHAUSTED beyond SECRET_MAX and when the arena is full or memory is
 * out. Free by secret_free. */
[[nodiscard]] bool secret_new(size_t len, struct secret **ret, struct error *err);
/* A copy of `bytes`, whose original the caller wipes. */
[[nodiscard]] bool secret_from(struct slice bytes, struct secret **ret, struct error *err);
/* len bytes of the system's random generator. */
[[nodiscard]] bool secret_random(size_t len, struct secret **ret, struct error *err);
/* Erases and frees; NULL is fine; returns NULL. */
struct secret *secret_free(struct secret *secret);
DEFINE_CLEANUP(secret_free, struct secret)

/* The bytes; valid until secret_free. NULL secrets have none and length 0. */
uint8_t *secret_data(struct secret *secret);
size_t secret_len(const struct secret *secret);
struct slice secret_slice(const struct secret *secret);
/* Shortens to len bytes (len ≤ the length) and erases the rest. */
void secret_shorten(struct secret *secret, size_t len);
/* Constant time in the contents. */
[[nodiscard]] bool secret_equal(const struct secret *a, const struct secret *b);

/* How the arena is protected: "memfd_secret", "mlock" or "unlocked"; "none" if even that was
 * refused (every secret_new fails then). Makes the arena if it is not there yet. */
const char *secret_arena(void);

/* Makes the process undumpable and unattachable (PR_SET_DUMPABLE 0, RLIMIT_CORE 0), except in
 * sanitizer builds, whose leak checker attaches. Call first thing in main. */
void secret_protect_process(void);
