#include "base/text.h"

#include "base/mem.h"

#include <inttypes.h>
#include <stdckdint.h>
#include <stdio.h>
#include <time.h>

static const char TEXT_HEX[] = "0123456789abcdef";
static const char TEXT_BASE64[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char TEXT_BASE64URL[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

char *hex_encode(struct slice bytes, char *ret)
{
    char *at = ret;

    for (size_t i = 0; i < bytes.len; i++) {
        *at++ = TEXT_HEX[bytes.data[i] >> 4];
        *at++ = TEXT_HEX[bytes.data[i] & 15];
    }
    *at = '\0';
    return ret;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool hex_decode(const char *text, struct buf *ret, struct error *err)
{
    size_t len = strlen(text);
    uint8_t *at;

    for (size_t i = 0; i < len; i++)
        if (hex_value(text[i]) < 0)
            return error_set(err, ERROR_INVALID, "expected hex digits, found another character");
    if (len % 2 != 0)
        return error_set(err, ERROR_INVALID, "expected two hex digits a byte, found %zu", len);
    at = buf_extend(ret, len / 2);
    if (!at)
        return buf_ok(ret, err);
    for (size_t i = 0; i < len; i += 2)
        *at++ = (uint8_t)(hex_value(text[i]) << 4 | hex_value(text[i + 1]));
    return true;
}

static void base64_encode_with(const char *alphabet, struct slice bytes, struct buf *ret)
{
    uint32_t bits = 0;
    unsigned held = 0;
    uint8_t *at;

    if (bytes.len > SIZE_MAX / 4) {
        ret->failed = true;
        return;
    }
    at = buf_extend(ret, (bytes.len * 4 + 2) / 3);
    if (!at)
        return;
    for (size_t i = 0; i < bytes.len; i++) {
        bits = bits << 8 | bytes.data[i];
        for (held += 8; held >= 6; held -= 6)
            *at++ = (uint8_t)alphabet[bits >> (held - 6) & 63];
    }
    if (held > 0)
        *at++ = (uint8_t)alphabet[bits << (6 - held) & 63];
}

/* By arithmetic, not by strchr, which would find the alphabet's own NUL. `last` is the alphabet's
 * last two characters. */
static int base64_value(uint8_t c, const char *last)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == (uint8_t)last[0])
        return 62;
    if (c == (uint8_t)last[1])
        return 63;
    return -1;
}

static bool base64_decode_with(const char *alphabet, struct slice text, struct buf *ret,
                               struct error *err)
{
    const char *last = alphabet + 62;
    size_t stray = text.len % 4 * 6 % 8; /* bits of the last character that stand for nothing */
    uint32_t bits = 0;
    unsigned held = 0;
    uint8_t *at;

    for (size_t i = 0; i < text.len; i++)
        if (base64_value(text.data[i], last) < 0)
            return error_set(err, ERROR_INVALID, "not base64: a foreign character");
    if (text.len % 4 == 1)
        return error_set(err, ERROR_INVALID, "not base64: a character is missing");
    if (stray > 0 && base64_value(text.data[text.len - 1], last) & ((1 << stray) - 1))
        return error_set(err, ERROR_INVALID, "not base64: stray bits at the end");
    at = buf_extend(ret, text.len / 4 * 3 + text.len % 4 * 6 / 8);
    if (!at)
        return buf_ok(ret, err);
    for (size_t i = 0; i < text.len; i++) {
        bits = bits << 6 | (uint32_t)base64_value(text.data[i], last);
        held += 6;
        if (held >= 8) {
            held -= 8;
            *at++ = (uint8_t)(bits >> held);
        }
    }
    return true;
}

void base64url_encode(struct slice bytes, struct buf *ret)
{
    base64_encode_with(TEXT_BASE64URL, bytes, ret);
}

bool base64url_decode(struct slice text, struct buf *ret, struct error *err)
{
    return base64_decode_with(TEXT_BASE64URL, text, ret, err);
}

void base64_encode(struct slice bytes, struct buf *ret)
{
    base64_encode_with(TEXT_BASE64, bytes, ret);
}

bool base64_decode(struct slice text, struct buf *ret, struct error *err)
{
    /* Padding only where it belongs: it fills the last group of four. */
    if (text.len > 0 && text.len % 4 == 0 && text.data[text.len - 1] == '=') {
        text.len--;
        if (text.data[text.len - 1] == '=')
            text.len--;
    }
    return base64_decode_with(TEXT_BASE64, text, ret, err);
}

size_t utf8_next(struct slice text, uint32_t *ret_code)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    uint32_t code;
    size_t len;

    if (text.len == 0)
        return 0;
    code = text.data[0];
    if (code < 0x80)
        len = 1;
    else if (code >> 5 == 0x6)
        len = 2, code &= 0x1f;
    else if (code >> 4 == 0xe)
        len = 3, code &= 0xf;
    else if (code >> 3 == 0x1e)
        len = 4, code &= 0x7;
    else
        return 0;
    if (len > text.len)
        return 0;
    for (size_t i = 1; i < len; i++) {
        if (text.data[i] >> 6 != 2)
            return 0;
        code = code << 6 | (text.data[i] & 0x3f);
    }
    /* Overlong forms, surrogates, and what lies beyond Unicode. */
    if (code < least[len] || (code >= 0xd800 && code <= 0xdfff) || code > 0x10ffff)
        return 0;
    *ret_code = code;
    return len;
}

bool utf8_valid(struct slice text)
{
    uint32_t code;

    while (text.len > 0) {
        size_t len = utf8_next(text, &code);

        if (len == 0 || code == 0)
            return false;
        text = slice(text.data + len, text.len - len);
    }
    return true;
}

/* Characters that would move the cursor, break the line or reorder what is read. */
static bool text_unprintable(uint32_t code)
{
    return code < 0x20 || (code >= 0x7f && code < 0xa0) || code == 0x200e || code == 0x200f ||
           (code >= 0x2028 && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069) ||
           code == 0xfeff;
}

/* One character of `text` as it is shown, without a NUL: at most 6 bytes. */
static size_t text_show_one(struct slice text, char shown[static 8], size_t *ret_len)
{
    uint32_t code;
    size_t used = utf8_next(text, &code);
    int len;

    if (used > 0 && !text_unprintable(code)) {
        mem_copy(shown, text.data, used);
        *ret_len = used;
        return used;
    }
    if (used == 0)
        code = text.data[0], used = 1;
    if (code == '\n' || code == '\t')
        len = snprintf(shown, 8, "%s", code == '\n' ? "\\n" : "\\t");
    else
        len = snprintf(shown, 8, code < 0x100 ? "\\x%02" PRIx32 : "\\u%04" PRIx32, code);
    *ret_len = (size_t)len;
    return used;
}

size_t text_show(struct slice text, char *ret, size_t size)
{
    static const char ellipsis[] = "…";
    size_t cut = 0; /* where the ellipsis would still fit */
    size_t len = 0;

    while (text.len > 0) {
        char shown[8];
        size_t shown_len;
        size_t used = text_show_one(text, shown, &shown_len);

        if (shown_len >= size - len) {
            if (size < sizeof(ellipsis))
                break;
            mem_copy(ret + cut, ellipsis, sizeof(ellipsis));
            return cut + sizeof(ellipsis) - 1;
        }
        mem_copy(ret + len, shown, shown_len);
        len += shown_len;
        if (len + sizeof(ellipsis) <= size)
            cut = len;
        text = slice(text.data + used, text.len - used);
    }
    ret[len] = '\0';
    return len;
}

/* The digits at the start of `text`, without sign, space or leading zero (to some readers "010" is
 * eight). Returns how many, 0 if there are none or the value does not fit. */
static size_t parse_digits(const char *text, uint64_t *ret)
{
    uint64_t value = 0;
    size_t len = 0;

    for (; text[len] >= '0' && text[len] <= '9'; len++)
        if (ckd_mul(&value, value, (uint64_t)10) ||
            ckd_add(&value, value, (uint64_t)(text[len] - '0')))
            return 0;
    if (len > 1 && text[0] == '0')
        return 0;
    *ret = value;
    return len;
}

bool parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *ret, struct error *err)
{
    uint64_t value;
    size_t len = parse_digits(text, &value);

    if (len == 0 || text[len] != '\0' || value < min || value > max)
        return error_set(err, ERROR_INVALID,
                         "expected a decimal number from %" PRIu64 " to %" PRIu64 ", found \"%s\"",
                         min, max, text);
    *ret = value;
    return true;
}

bool parse_duration_ms(const char *text, uint64_t *ret, struct error *err)
{
    static const struct {
        char unit[4];
        uint64_t ms;
    } units[] = {
        {"ms", 1}, {"s", 1000}, {"m", 60 * 1000}, {"h", 3600 * 1000}, {"d", 24 * 3600 * 1000},
    };
    uint64_t value;
    size_t len = parse_digits(text, &value);

    for (size_t i = 0; len > 0 && i < ARRAY_LEN(units); i++) {
        if (strcmp(text + len, units[i].unit) != 0)
            continue;
        if (ckd_mul(&value, value, units[i].ms) || value > PARSE_DURATION_MAX_MS)
            return error_set(err, ERROR_INVALID, "expected at most 36500d, found \"%s\"", text);
        *ret = value;
        return true;
    }
    return error_set(err, ERROR_INVALID,
                     "expected a duration such as 250ms, 30s, 5m, 24h or 7d, found \"%s\"", text);
}

char *time_format(int64_t unix_ms, char ret[static TIME_TEXT_SIZE])
{
    /* Rounds down, before 1970 too. */
    time_t seconds = (time_t)(unix_ms / 1000 - (unix_ms % 1000 < 0));
    struct tm tm = {0};

    gmtime_r(&seconds, &tm); /* can't fail: int64_t milliseconds stay within int years */
    snprintf(ret, TIME_TEXT_SIZE, "%04lld-%02u-%02uT%02u:%02u:%02uZ", tm.tm_year + 1900LL,
             (unsigned)tm.tm_mon + 1, (unsigned)tm.tm_mday, (unsigned)tm.tm_hour,
             (unsigned)tm.tm_min, (unsigned)tm.tm_sec);
    return ret;
}
