#include "testlib/testlib.h"

#include "base/mem.h"
#include "spiffe/id.h"

#include <stdio.h>

static void reads_good_ones(void **state)
{
    (void)state;
    static const struct {
        const char *text, *domain, *path;
    } cases[] = {
        {"spiffe://example.org/ns/default/sa/web", "example.org", "/ns/default/sa/web"},
        {"spiffe://example.org", "example.org", ""},
        {"spiffe://a/b", "a", "/b"},
        {"spiffe://0-_.z/A-Z_a.z09", "0-_.z", "/A-Z_a.z09"},
        {"spiffe://t/...", "t", "/..."},
        {"spiffe://t/.a/..b", "t", "/.a/..b"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct error err = {0};
        struct spiffe_id id;
        assert_ok(spiffe_id_parse(slice_str(cases[i].text), &id, &err));
        assert_string_equal(id.text, cases[i].text);
        assert_int_equal(id.len, strlen(cases[i].text));
        assert_true(slice_is(spiffe_id_trust_domain(&id), cases[i].domain));
        assert_true(slice_is(spiffe_id_path(&id), cases[i].path));
    }
}

static void refuses_all_others(void **state)
{
    (void)state;
#define TEXT(literal) (literal), sizeof(literal) - 1
    static const struct {
        const char *text;
        size_t len;
        const char *says;
    } cases[] = {
        {TEXT(""), "expected spiffe://"},
        {TEXT("spiffe:/"), "expected spiffe://"},
        {TEXT("SPIFFE://t/a"), "expected spiffe://"},
        {TEXT("https://t/a"), "expected spiffe://"},
        {TEXT(" spiffe://t/a"), "expected spiffe://"},
        {TEXT("spiffe://"), "trust domain is empty"},
        {TEXT("spiffe:///a"), "trust domain is empty"},
        {TEXT("spiffe://T/a"), "'T' in the trust domain"},
        {TEXT("spiffe://user@t/a"), "'@' in the trust domain"},
        {TEXT("spiffe://t:8443/a"), "':' in the trust domain"},
        {TEXT("spiffe://t%41/a"), "'%' in the trust domain"},
        {TEXT("spiffe://t\0/a"), "byte 0x00 in the trust domain"},
        {TEXT("spiffe://t\xc3\xbc/a"), "byte 0xc3 in the trust domain"},
        {TEXT("spiffe://[::1]/a"), "'[' in the trust domain"},
        {TEXT("spiffe://t/"), "empty segment or ends in"},
        {TEXT("spiffe://t/a/"), "empty segment or ends in"},
        {TEXT("spiffe://t//a"), "empty segment or ends in"},
        {TEXT("spiffe://t/a//b"), "empty segment or ends in"},
        {TEXT("spiffe://t/."), "\".\" or \"..\""},
        {TEXT("spiffe://t/a/.."), "\".\" or \"..\""},
        {TEXT("spiffe://t/../a"), "\".\" or \"..\""},
        {TEXT("spiffe://t/a?q"), "'?' in the path"},
        {TEXT("spiffe://t/a#f"), "'#' in the path"},
        {TEXT("spiffe://t/a%2fb"), "'%' in the path"},
        {TEXT("spiffe://t/a\0b"), "byte 0x00 in the path"},
        {TEXT("spiffe://t/a b"), "byte 0x20 in the path"},
        {TEXT("spiffe://t/a\n"), "byte 0x0a in the path"},
        {TEXT("spiffe://t/\xff"), "byte 0xff in the path"},
        {TEXT("spiffe://t?q"), "'?' in the trust domain"},
    };
#undef TEXT
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct error err = {0};
        struct spiffe_id id = {.len = 77};
        assert_fails(spiffe_id_parse(slice(cases[i].text, cases[i].len), &id, &err), ERROR_INVALID);
        assert_error_contains(cases[i].says);
        assert_int_equal(id.len, 77);
    }
}

static void keeps_its_limits(void **state)
{
    (void)state;
    struct error err = {0};
    struct spiffe_id id;
    char text[SPIFFE_ID_MAX + 2];

    (void)snprintf(text, sizeof text, "spiffe://%0*d/a", (int)SPIFFE_TRUST_DOMAIN_MAX, 0);
    assert_ok(spiffe_id_parse(slice_str(text), &id, &err));
    assert_int_equal(spiffe_id_trust_domain(&id).len, SPIFFE_TRUST_DOMAIN_MAX);
    (void)snprintf(text, sizeof text, "spiffe://%0*d/a", (int)SPIFFE_TRUST_DOMAIN_MAX + 1, 0);
    assert_fails(spiffe_id_parse(slice_str(text), &id, &err), ERROR_INVALID);
    assert_error_contains("256 characters, at most 255");

    (void)snprintf(text, sizeof text, "spiffe://t/%0*d", (int)SPIFFE_ID_MAX - 11, 0);
    assert_int_equal(strlen(text), SPIFFE_ID_MAX);
    assert_ok(spiffe_id_parse(slice_str(text), &id, &err));
    assert_string_equal(id.text, text);
    (void)snprintf(text, sizeof text, "spiffe://t/%0*d", (int)SPIFFE_ID_MAX - 10, 0);
    assert_fails(spiffe_id_parse(slice_str(text), &id, &err), ERROR_INVALID);
    assert_error_contains("2049 bytes, at most 2048");

    assert_ok(spiffe_trust_domain_check(slice_str("example.org"), &err));
    assert_fails(spiffe_trust_domain_check(slice_str("Example.org"), &err), ERROR_INVALID);
    assert_fails(spiffe_trust_domain_check(slice_str(""), &err), ERROR_INVALID);
}

static void tells_workloads_from_our_own(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool workload;
    } cases[] = {
        {"spiffe://example.org/ns/default/sa/web", true},
        {"spiffe://example.org/posterns", true},
        {"spiffe://example.org/a/postern/node", true},
        {"spiffe://example.org", false},
        {"spiffe://example.org/postern", false},
        {"spiffe://example.org/postern/node/0123", false},
        {"spiffe://example.org/postern/operator/first", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct error err = {0};
        struct spiffe_id id;
        assert_ok(spiffe_id_parse(slice_str(cases[i].text), &id, &err));
        if (cases[i].workload)
            assert_ok(spiffe_id_workload_check(&id, &err));
        else
            assert_fails(spiffe_id_workload_check(&id, &err), ERROR_INVALID);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_good_ones),
        cmocka_unit_test(refuses_all_others),
        cmocka_unit_test(keeps_its_limits),
        cmocka_unit_test(tells_workloads_from_our_own),
    };
    return cmocka_run_group_tests_name("id", tests, nullptr, nullptr);
}
