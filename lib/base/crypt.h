/*
 * The few symmetric primitives that several libraries share, over libcrypto: SHA-256/384, HKDF with
 * SHA-256 (RFC 5869), AES-256-GCM, random bytes. Secrets in and out are struct secret.
 * Threading: any. Errors: INTERNAL with OpenSSL's text, unless said otherwise.
 */
#pragma once

#include "base/buf.h"
#include "base/secret.h"

constexpr size_t SHA256_SIZE = 32;
constexpr size_t SHA384_SIZE = 48;
constexpr size_t AEAD_KEY_SIZE = 32; /* AES-256 */
constexpr size_t AEAD_IV_SIZE = 12;
constexpr size_t AEAD_TAG_SIZE = 16;
/* The "tls-exporter" channel binding (RFC 9266): what TLS exports, RPC hands on and quotes carry. */
constexpr size_t CHANNEL_BINDING_SIZE = 32;

[[nodiscard]] bool random_bytes(void *ret, size_t len, struct error *err);

[[nodiscard]] bool sha256(struct slice bytes, uint8_t ret[static SHA256_SIZE], struct error *err);
[[nodiscard]] bool sha384(struct slice bytes, uint8_t ret[static SHA384_SIZE], struct error *err);

/* HKDF-Extract-and-Expand with SHA-256; 1 ≤ len ≤ 255 × 32. INVALID for another length,
 * and without a key. */
[[nodiscard]] bool hkdf_sha256(const struct secret *key, struct slice salt, struct slice info,
                               size_t len, struct secret **ret, struct error *err);

/* Appends ciphertext ‖ tag to `ret`. The (key, iv) pair must never be used twice, and `plain`
 * must not lie in `ret`. INVALID if the key
 * or the IV has another size than AEAD_KEY_SIZE, AEAD_IV_SIZE. */
[[nodiscard]] bool aead_seal(struct slice key, struct slice iv, struct slice aad,
                             struct slice plain, struct buf *ret, struct error *err);

/* DENIED if the tag is wrong (nothing is returned then); INVALID if `sealed` is shorter than a tag or the
 * key or the IV has another size; EXHAUSTED beyond SECRET_MAX. An empty plaintext can't be a secret
 * and is INVALID. */
[[nodiscard]] bool aead_open(struct slice key, struct slice iv, struct slice aad,
                             struct slice sealed, struct secret **ret, struct error *err);
