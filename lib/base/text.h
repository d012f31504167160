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

/* The first character of `text`: how many bytes it has, 0 if they are no well-formed UTF-8 (or none
 * are left). */
[[nodiscard]] size_t utf8_next(struct slice text, uint32_t *ret_code);

/* Foreign text as people may safely see it: valid UTF-8 without control and direction characters,
 * which become \n, \t, \x1b or \u202e, as bytes that are no UTF-8 become \xff. What does not fit
 * into `size` bytes (NUL included, size ≥ 1) ends in "…". What it returned once, it leaves alone.
 * Returns the length. `ret` must not overlap `text`. */
size_t text_show(struct slice text, char *ret, size_t size);

/* A decimal number that fills `text` wholly, without sign or leading zeros, and lies in [min, max].
 * INVALID says what was expected. */
[[nodiscard]] bool parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *ret,
                             struct error *err);
/* A hundred years: what a configuration may ask for can be added to any clock without overflow. */
constexpr uint64_t PARSE_DURATION_MAX_MS = 36500ULL * 24 * 3600 * 1000;
/* "250ms", "30s", "5m", "24h", "7d": a duration in milliseconds, one unit, at most
 * PARSE_DURATION_MAX_MS. INVALID otherwise. */
[[nodiscard]] bool parse_duration_ms(const char *text, uint64_t *ret, struct error *err);
/* RFC 3339 in UTC, whole seconds ("2026-11-23T06:00:00Z"), from Unix milliseconds; ret has
 * TIME_TEXT_SIZE characters. Returns ret. */
constexpr size_t TIME_TEXT_SIZE = 32;
char *time_format(int64_t unix_ms, char ret[static TIME_TEXT_SIZE]);
