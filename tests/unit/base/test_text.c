#include "testlib/testlib.h"

#include "base/text.h"

#include <stdio.h>

static void hex_round_trips(void **state)
{
    static const uint8_t bytes[] = {0x00, 0x01, 0x9a, 0xff};
    CLEANUP(buf_done) struct buf buf;
    struct error err = {0};
    char text[2 * sizeof(bytes) + 1];

    (void)state;
    buf_init(&buf, 100);
    assert_string_equal(hex_encode(SLICE_OF(bytes), text), "00019aff");
    assert_string_equal(hex_encode(slice(nullptr, 0), text), "");
    assert_ok(hex_decode("00019aFF", &buf, &err));
    assert_true(slice_equal(buf_slice(&buf), SLICE_OF(bytes)));
    assert_ok(hex_decode("", &buf, &err));
    assert_ok(hex_decode("41", &buf, &err)); /* appends */
    assert_int_equal(buf_slice(&buf).len, 5);
}

static void bad_hex_is_refused(void **state)
{
    static const char *const cases[] = {"0", "000", "0x", "0g", " 00", "00 ", "00:01", "\xc3\xa9"};
    CLEANUP(buf_done) struct buf buf;
    struct error err = {0};

    (void)state;
    buf_init(&buf, 2);
    buf_put_u8(&buf, 'k');
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_fails(hex_decode(cases[i], &buf, &err), ERROR_INVALID);
        assert_true(slice_is(buf_slice(&buf), "k"));
    }
    assert_fails(hex_decode("0001", &buf, &err), ERROR_EXHAUSTED);
}

/* RFC 4648 section 10, without its padding. */
static const struct {
    const char *plain, *text;
} text_rfc4648[] = {
    {"", ""},           {"f", "Zg"},          {"fo", "Zm8"},          {"foo", "Zm9v"},
    {"foob", "Zm9vYg"}, {"fooba", "Zm9vYmE"}, {"foobar", "Zm9vYmFy"},
};

static void base64_follows_its_rfc(void **state)
{
    struct error err = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(text_rfc4648); i++) {
        CLEANUP(buf_done) struct buf buf;
        char padded[16];

        buf_init(&buf, 100);
        base64_encode(slice_str(text_rfc4648[i].plain), &buf);
        assert_true(slice_is(buf_slice(&buf), text_rfc4648[i].text));
        buf_clear(&buf);
        base64url_encode(slice_str(text_rfc4648[i].plain), &buf);
        assert_true(slice_is(buf_slice(&buf), text_rfc4648[i].text));
        buf_clear(&buf);
        assert_ok(base64_decode(slice_str(text_rfc4648[i].text), &buf, &err));
        assert_true(slice_is(buf_slice(&buf), text_rfc4648[i].plain));
        buf_clear(&buf);
        assert_ok(base64url_decode(slice_str(text_rfc4648[i].text), &buf, &err));
        assert_true(slice_is(buf_slice(&buf), text_rfc4648[i].plain));
        buf_clear(&buf);
        snprintf(padded, sizeof(padded), "%s%s", text_rfc4648[i].text,
                 (const char *[]){"", "", "==", "="}[strlen(text_rfc4648[i].text) % 4]);
        assert_ok(base64_decode(slice_str(padded), &buf, &err));
        assert_true(slice_is(buf_slice(&buf), text_rfc4648[i].plain));
    }
}

static void base64_round_trips_every_length(void **state)
{
    uint8_t bytes[67];
    struct error err = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(i * 251 + 255);
    for (size_t len = 0; len <= sizeof(bytes); len++) {
        CLEANUP(buf_done) struct buf text, back;

        buf_init(&text, 100);
        buf_init(&back, 100);
        base64url_encode(slice(bytes, len), &text);
        assert_ok(base64url_decode(buf_slice(&text), &back, &err));
        assert_true(slice_equal(buf_slice(&back), slice(bytes, len)));
    }
    CLEANUP(buf_done) struct buf text;
    buf_init(&text, 100);
    base64url_encode(slice("\xfb\xff", 2), &text);
    assert_true(slice_is(buf_slice(&text), "-_8"));
    buf_clear(&text);
    base64_encode(slice("\xfb\xff", 2), &text);
    assert_true(slice_is(buf_slice(&text), "+/8"));
}

static void base64_is_canonical(void **state)
{
    static const char *const both[] = {
        "Z",   "Zm9vY", "Zh",     "Zm9", /* one character, and bits that stand for nothing */
        "Zg=", "Zg===", "Z=",     "=",    "==",    "Zg\n",
        "Z g", "Zm9v=", "Zm9v==", "Zm=v", "Zm8==", "Zm9v====",
    };
    CLEANUP(buf_done) struct buf buf;
    struct error err = {0};

    (void)state;
    buf_init(&buf, 8);
    buf_put_u8(&buf, 'k');
    for (size_t i = 0; i < ARRAY_LEN(both); i++) {
        assert_fails(base64_decode(slice_str(both[i]), &buf, &err), ERROR_INVALID);
        assert_fails(base64url_decode(slice_str(both[i]), &buf, &err), ERROR_INVALID);
        assert_true(slice_is(buf_slice(&buf), "k"));
    }
    assert_fails(base64url_decode(slice_str("Zg=="), &buf, &err), ERROR_INVALID);
    assert_fails(base64url_decode(slice_str("+/8"), &buf, &err), ERROR_INVALID);
    assert_fails(base64_decode(slice_str("-_8"), &buf, &err), ERROR_INVALID);
    assert_fails(base64url_decode(slice("Z\0", 2), &buf, &err), ERROR_INVALID);
    assert_fails(base64url_decode(slice("Zg\xff", 3), &buf, &err), ERROR_INVALID);
    assert_fails(base64url_decode(slice_str("Zm9vYmFyZm9v"), &buf, &err), ERROR_EXHAUSTED);
}

static void utf8_follows_its_rfc(void **state)
{
    static const char *const good[] = {"",
                                       "a",
                                       "\xc3\xa9",
                                       "\xe2\x82\xac",
                                       "\xf0\x9f\x94\x92",
                                       "\xef\xbf\xbf",
                                       "\xed\x9f\xbf",
                                       "\xee\x80\x80",
                                       "\xf4\x8f\xbf\xbf",
                                       "\xc2\x80",
                                       "\xe0\xa0\x80",
                                       "\xf0\x90\x80\x80",
                                       "\x7f"};
    static const char *const bad[] = {
        "\x80",
        "\xc3",
        "\xc3(",
        "\xe2\x82",
        "\xe2(\x82",
        "\xf0\x9f\x94",
        "\xff",
        "\xfe",
        "\xc0\xaf",
        "\xc1\xbf",
        "\xe0\x80\xaf",
        "\xe0\x9f\xbf",
        "\xf0\x80\x80\xaf",
        "\xf0\x8f\xbf\xbf",
        "\xed\xa0\x80",
        "\xed\xbf\xbf",
        "\xf4\x90\x80\x80",
        "\xf5\x80\x80\x80",
        "\xf8\x88\x80\x80\x80",
        "a\xc3",
        "\xc3\xa9\xa9",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        assert_true(utf8_valid(slice_str(good[i])));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(utf8_valid(slice_str(bad[i])));
    assert_true(utf8_valid(slice(nullptr, 0)));
    assert_false(utf8_valid(slice("a\0b", 3)));
}

static void utf8_next_decodes(void **state)
{
    uint32_t code = 0xa5a5a5a5;

    (void)state;
    assert_int_equal(utf8_next(slice(nullptr, 0), &code), 0);
    assert_int_equal(utf8_next(slice_str("\xc0\x80"), &code), 0);
    assert_int_equal(code, 0xa5a5a5a5);
    assert_int_equal(utf8_next(slice("\0", 1), &code), 1);
    assert_int_equal(code, 0);
    assert_int_equal(utf8_next(slice_str("\xf0\x9f\x94\x92x"), &code), 4);
    assert_int_equal(code, 0x1f512);
}

/* All that text_show ever writes is valid UTF-8, fits, and is left alone the second time. */
static void show_is_safe_and_idempotent(void **state)
{
    uint32_t seed = 12345;

    (void)state;
    for (int round = 0; round < 20000; round++) {
        uint8_t bytes[24];
        char shown[32], again[64];
        size_t size = 1 + (size_t)round % sizeof(shown);
        size_t len;

        for (size_t i = 0; i < sizeof(bytes); i++) {
            seed = seed * 1664525 + 1013904223;
            bytes[i] = (uint8_t)(seed >> 24);
            if (seed >> 16 & 1) /* more of what begins and continues characters */
                bytes[i] |= 0x80;
        }
        memset(shown, 'Z', sizeof(shown));
        len = text_show(SLICE_OF(bytes), shown, size);
        assert_true(len < size);
        assert_int_equal(strlen(shown), len);
        for (size_t i = size; i < sizeof(shown); i++)
            assert_int_equal(shown[i], 'Z');
        assert_true(utf8_valid(slice_str(shown)));
        for (size_t i = 0; i < len; i++)
            assert_true((uint8_t)shown[i] >= 0x20 && shown[i] != 0x7f);
        text_show(slice(shown, len), again, sizeof(again));
        assert_string_equal(again, shown);
    }
}

static void show_escapes_and_cuts(void **state)
{
    char shown[16];

    (void)state;
    assert_int_equal(text_show(slice("a\0b", 3), shown, sizeof(shown)), 6);
    assert_string_equal(shown, "a\\x00b");
    text_show(slice_str("\xc2\x9b|\xe2\x80\xa8"), shown, sizeof(shown));
    assert_string_equal(shown, "\\x9b|\\u2028");
    text_show(slice_str("\xef\xbb\xbf\xe2\x81\xa6"), shown, sizeof(shown));
    assert_string_equal(shown, "\\ufeff\\u2066");
    text_show(slice_str("123456789012345"), shown, sizeof(shown));
    assert_string_equal(shown, "123456789012345");
    text_show(slice_str("1234567890123456"), shown, sizeof(shown));
    assert_string_equal(shown, "123456789012\xe2\x80\xa6");
    text_show(slice_str("12345678901\n56789"), shown, sizeof(shown)); /* no half escape */
    assert_string_equal(shown, "12345678901\xe2\x80\xa6");
    text_show(slice_str("abcd"), shown, 1);
    assert_string_equal(shown, "");
    text_show(slice_str("abcd"), shown, 3);
    assert_string_equal(shown, "ab");
    text_show(slice_str("abcd"), shown, 4);
    assert_string_equal(shown, "\xe2\x80\xa6");
    assert_int_equal(text_show(slice(nullptr, 0), shown, sizeof(shown)), 0);
}

static void numbers_fill_their_text(void **state)
{
    static const char *const bad[] = {"",
                                      " ",
                                      "-1",
                                      "+1",
                                      " 1",
                                      "1 ",
                                      "1x",
                                      "0x10",
                                      "010",
                                      "00",
                                      "1e3",
                                      "1.0",
                                      "18446744073709551616",
                                      "99999999999999999999999"};
    struct error err = {0};
    uint64_t value = 7;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_fails(parse_u64(bad[i], 0, UINT64_MAX, &value, &err), ERROR_INVALID);
        assert_int_equal(value, 7);
    }
    assert_ok(parse_u64("0", 0, 0, &value, &err));
    assert_int_equal(value, 0);
    assert_ok(parse_u64("18446744073709551615", 0, UINT64_MAX, &value, &err));
    assert_true(value == UINT64_MAX);
    assert_ok(parse_u64("10", 10, 10, &value, &err));
    assert_fails(parse_u64("9", 10, 20, &value, &err), ERROR_INVALID);
    assert_fails(parse_u64("21", 10, 20, &value, &err), ERROR_INVALID);
    assert_string_equal(err.message, "expected a decimal number from 10 to 20, found \"21\"");
    assert_int_equal(value, 10);
}

static void durations_have_one_unit(void **state)
{
    static const struct {
        const char *text;
        uint64_t ms;
    } good[] = {
        {"0s", 0},
        {"250ms", 250},
        {"30s", 30000},
        {"5m", 300000},
        {"24h", 86400000},
        {"7d", 604800000},
        {"36500d", PARSE_DURATION_MAX_MS},
    };
    static const char *const bad[] = {"",
                                      "5",
                                      "s",
                                      "5 s",
                                      "-5s",
                                      "1h30m",
                                      "5S",
                                      "5min",
                                      "1.5h",
                                      "05s",
                                      "5s ",
                                      "36501d",
                                      "18446744073709551615d",
                                      "18446744073709551616ms",
                                      "5msx"};
    struct error err = {0};
    uint64_t value = 7;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_fails(parse_duration_ms(bad[i], &value, &err), ERROR_INVALID);
        assert_int_equal(value, 7);
    }
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_ok(parse_duration_ms(good[i].text, &value, &err));
        assert_true(value == good[i].ms);
    }
}

static void times_are_rfc3339(void **state)
{
    static const struct {
        int64_t ms;
        const char *text;
    } cases[] = {
        {0, "1970-01-01T00:00:00Z"},
        {1795413600000, "2026-11-23T06:00:00Z"},
        {1795413600999, "2026-11-23T06:00:00Z"},
        {951782400000, "2000-02-29T00:00:00Z"},
        {253402300799999, "9999-12-31T23:59:59Z"},
        {-1, "1969-12-31T23:59:59Z"},
        {-1000, "1969-12-31T23:59:59Z"},
        {-1001, "1969-12-31T23:59:58Z"},
    };
    char text[TIME_TEXT_SIZE];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_string_equal(time_format(cases[i].ms, text), cases[i].text);
    assert_string_equal(time_format(INT64_MAX, text), "292278994-08-17T07:12:55Z");
    assert_true(strlen(time_format(INT64_MIN, text)) < TIME_TEXT_SIZE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hex_round_trips),
        cmocka_unit_test(bad_hex_is_refused),
        cmocka_unit_test(base64_follows_its_rfc),
        cmocka_unit_test(base64_round_trips_every_length),
        cmocka_unit_test(base64_is_canonical),
        cmocka_unit_test(utf8_follows_its_rfc),
        cmocka_unit_test(utf8_next_decodes),
        cmocka_unit_test(show_is_safe_and_idempotent),
        cmocka_unit_test(show_escapes_and_cuts),
        cmocka_unit_test(numbers_fill_their_text),
        cmocka_unit_test(durations_have_one_unit),
        cmocka_unit_test(times_are_rfc3339),
    };

    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
