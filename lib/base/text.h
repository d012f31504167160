/*
 * Text forms of bytes and numbers, and checks of foreign text. No allocation, no locale.
 */
#pragma once

#include "base/buf.h"

/* Lower-case hex with its NUL: ret needs 2 × bytes.len + 1 characters. Returns ret. */
char *hex_encode(struct slice bytes, char *ret);
/* Appends the bytes that `text` (either case, no separators) stands for. INVALID otherwise. */
[[nodiscard]] bool hex_decode(const char *text, struct buf *ret, struct error *err);

/* RFC 4648 section 5, without padding. Appends text without a NUL. */
void base64url_encode(struct slice bytes, struct buf *ret);
/* Strictly canonical: no padding, no other characters, no stray bits. INVALID otherwise. */
[[nodiscard]] bool base64url_decode(struct slice text, struct buf *ret, struct error *err);

/* RFC 4648 section 4. Encodes without padding; decodes with or without it (gRPC "-bin" metadata). */
void base64_encode(struct slice bytes, struct buf *ret);
[[nodiscard]] bool base64_decode(struct slice text, struct buf *ret, struct error *err);

/* Well-formed UTF-8 (RFC 3629) without NUL. */
[[nodiscard]] bool utf8_valid(struct slice text);

/* A decimal number that fills `text` wholly and lies in [min, max]. INVALID says what was
 * expected. */
[[nodiscard]] bool parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *ret,
                             struct error *err);
/* "250ms", "30s", "5m", "24h", "7d": a duration in milliseconds. */
[[nodiscard]] bool parse_duration_ms(const char *text, uint64_t *ret, struct error *err);
/* RFC 3339 in UTC, whole seconds ("2026-11-23T06:00:00Z"), from Unix milliseconds; ret has
 * TIME_TEXT_SIZE characters. Returns ret. */
constexpr size_t TIME_TEXT_SIZE = 32;
char *time_format(int64_t unix_ms, char ret[static TIME_TEXT_SIZE]);
