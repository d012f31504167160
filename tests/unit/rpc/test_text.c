/* The small parsers: grpc-timeout, metadata, status and message. */
#include "testlib/testlib.h"

#include "rpc/metadata.h"
#include "rpc/status.h"
#include "rpc/timeout.h"

static void test_timeout_parse(void **state)
{
    static const struct {
        const char *text;
        uint64_t ms;
    } good[] = {{"1H", 3'600'000},   {"2M", 120'000},
                {"3S", 3'000},       {"4m", 4},
                {"5u", 1},           {"1000u", 1},
                {"1001u", 2},        {"0n", 0},
                {"1n", 1},           {"99999999H", 99'999'999ULL * 3'600'000},
                {"00000001S", 1'000}};
    static const char *const bad[] = {"", "S", "1", "1s", "123456789S", " 1S", "1 S", "-1S", "1SS"};
    struct error err = {0};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        uint64_t ms = 7;
        assert_ok(timeout_parse(slice_str(good[i].text), &ms, &err));
        assert_true(ms == good[i].ms);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        uint64_t ms = 7;
        assert_fails(timeout_parse(slice_str(bad[i]), &ms, &err), ERROR_INVALID);
        assert_true(ms == 7);
    }
}

/* What we write is never longer than 9 characters, never shorter than what was asked. */
static void test_timeout_format(void **state)
{
    static const uint64_t values[] = {0,
                                      1,
                                      99'999'999,
                                      100'000'000,
                                      100'000'001,
                                      99'999'999'000,
                                      99'999'999'001,
                                      99'999'999ULL * 60'000,
                                      99'999'999ULL * 60'000 + 1,
                                      99'999'999ULL * 3'600'000,
                                      UINT64_MAX};
    struct error err = {0};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        char text[TIMEOUT_TEXT_SIZE];
        uint64_t ms;
        assert_ok(timeout_parse(slice_str(timeout_format(values[i], text)), &ms, &err));
        assert_true(ms >= values[i] || values[i] > 99'999'999ULL * 3'600'000);
        assert_true(ms - values[i] < 3'600'000 || values[i] == UINT64_MAX);
    }
}

static void receive(struct metadata *metadata, const char *name, const char *value)
{
    struct error err = {0};
    struct h2_header header = {slice_str(name), slice_str(value)};
    assert_ok(metadata_receive(metadata, &header, &err));
}

static void test_metadata(void **state)
{
    struct metadata metadata;
    struct slice value = {POISON, 1};
    (void)state;
    metadata_init(&metadata);
    receive(&metadata, "a", "  spaced  ");
    receive(&metadata, "a", "second");
    receive(&metadata, "b-bin", "AAE=, AAEC,,!!");
    receive(&metadata, "grpc-secret", "hidden");
    receive(&metadata, "user-agent", "hidden");
    assert_int_equal(metadata.count, 5); /* two of a; three of b: "!!" is none */
    assert_true(metadata_find(&metadata, "a", 0, &value) && slice_is(value, "spaced"));
    assert_true(metadata_find(&metadata, "a", 1, &value) && slice_is(value, "second"));
    assert_true(metadata_find(&metadata, "b-bin", 0, &value));
    assert_true(slice_equal(value, slice("\0\1", 2)));
    assert_true(metadata_find(&metadata, "b-bin", 1, &value));
    assert_true(slice_equal(value, slice("\0\1\2", 3)));
    assert_true(metadata_find(&metadata, "b-bin", 2, &value));
    assert_int_equal(value.len, 0);
    value.data = POISON;
    assert_false(metadata_find(&metadata, "grpc-secret", 0, &value));
    assert_false(metadata_find(&metadata, "a", 2, &value));
    assert_ptr_equal(value.data, POISON);
    metadata_done(&metadata);
}

static void test_metadata_add(void **state)
{
    struct metadata metadata;
    struct error err = {0};
    struct rpc_metadatum item = {"key-bin", slice("\xff\xfe", 2)};
    (void)state;
    metadata_init(&metadata);
    assert_ok(metadata_add(&metadata, &item, &err));
    assert_true(slice_is(metadata_at(&metadata, 0).value, "//4")); /* unpadded */
    static const char *const keys[] = {"", "A", "grpc-x", "content-type", "a b", ":a", "\xc3\xa4"};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        item = (struct rpc_metadatum){keys[i], slice_str("v")};
        assert_fails(metadata_add(&metadata, &item, &err), ERROR_INVALID);
    }
    item = (struct rpc_metadatum){"a", slice("a\0b", 3)};
    assert_fails(metadata_add(&metadata, &item, &err), ERROR_INVALID);
    static uint8_t big[METADATA_MAX];
    item = (struct rpc_metadatum){"big-bin", SLICE_OF(big)};
    assert_fails(metadata_add(&metadata, &item, &err), ERROR_EXHAUSTED);
    assert_int_equal(metadata.count, 1);
    item = (struct rpc_metadatum){"n", slice_str("1")};
    while (metadata.count < METADATA_COUNT_MAX)
        assert_ok(metadata_add(&metadata, &item, &err));
    assert_fails(metadata_add(&metadata, &item, &err), ERROR_EXHAUSTED);
    metadata_done(&metadata);
}

static void test_message(void **state)
{
    struct buf encoded;
    char text[64];
    (void)state;
    buf_init(&encoded, 1024);
    status_message_encode(slice_str("a %\n\xc3\xa4~"), &encoded);
    assert_true(slice_is(buf_slice(&encoded), "a %25%0A%C3%A4~"));
    assert_string_equal(status_message_decode(buf_slice(&encoded), text, sizeof(text)),
                        "a %\n\xc3\xa4~");
    static const struct {
        const char *encoded, *text;
    } odd[] = {{"%", "%"},   {"%4", "%4"}, {"%zz", "%zz"},         {"%41", "A"},
               {"%ff", "?"}, {"%C3", "?"}, {"%c3%a4", "\xc3\xa4"}, {"\xc3\xa4", "\xc3\xa4"},
               {"%00", "?"}, {"", ""}};
    for (size_t i = 0; i < ARRAY_LEN(odd); i++)
        assert_string_equal(status_message_decode(slice_str(odd[i].encoded), text, sizeof(text)),
                            odd[i].text);
    assert_string_equal(status_message_decode(slice_str("12345"), text, 4), "123");
    buf_done(&encoded);
}

static void test_status_parse(void **state)
{
    static const struct {
        const char *text;
        int code;
    } cases[] = {{"0", 0},  {"16", 16}, {"17", 2}, {"", 2},
                 {"-1", 2}, {"007", 2}, {"5x", 2}, {"99", 2}};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_int_equal(status_parse(slice_str(cases[i].text)), cases[i].code);
    assert_string_equal(status_name(7), "PERMISSION_DENIED");
    assert_string_equal(status_name(17), "UNKNOWN");
    assert_string_equal(status_name(-1), "UNKNOWN");
}

/* There and back: everything that a peer may know of an error. */
static void test_details(void **state)
{
    struct error err = {0}, from, to;
    struct buf details, message;
    (void)state;
    buf_init(&details, STATUS_DETAILS_MAX);
    buf_init(&message, 4096);
    error_set(&from, ERROR_NOT_FOUND, "nothing to tell");
    assert_ok(status_details(&from, &details, &err));
    assert_int_equal(details.len, 0);
    error_set_native(&from, ERROR_CONFLICT, ERROR_DOMAIN_TPM, 0x126, "retired", "unseal");
    assert_ok(status_details(&from, &details, &err));
    bool code_is_there = false;
    for (size_t i = 0; i + 3 <= details.len; i++)
        code_is_there |= memcmp(details.data + i, "294", 3) == 0;
    assert_true(code_is_there);
    buf_clear(&details);
    error_set_field(&from, "a.b", "bad");
    assert_ok(status_details(&from, &details, &err));
    status_message_encode(slice_str(from.message), &message);
    status_to_error(3, buf_slice(&message), buf_slice(&details), &to);
    assert_int_equal(to.class, ERROR_INVALID);
    assert_string_equal(to.field, "a.b");
    assert_string_equal(to.message, from.message);
    status_to_error(5, buf_slice(&message), buf_slice(&details), &to); /* they disagree */
    assert_int_equal(to.class, ERROR_NOT_FOUND);
    assert_string_equal(to.field, "");
    status_to_error(5, (struct slice){0}, slice("\xff\xff", 2), &to);
    assert_string_equal(to.message, "NOT_FOUND");
    buf_done(&details);
    buf_done(&message);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_timeout_parse), cmocka_unit_test(test_timeout_format),
        cmocka_unit_test(test_metadata),      cmocka_unit_test(test_metadata_add),
        cmocka_unit_test(test_message),       cmocka_unit_test(test_status_parse),
        cmocka_unit_test(test_details),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
