#include "testlib/testlib.h"

#include "quota.h"

#include <string.h>

static bool same(const char *one, const char *two)
{
    struct quota_key a = quota_key_of_address(one), b = quota_key_of_address(two);
    return memcmp(&a, &b, sizeof(a)) == 0;
}

static void test_who_is_who(void **state)
{
    (void)state;
    assert_true(same("192.0.2.1:1000", "192.0.2.1:2000"));
    assert_false(same("192.0.2.1:1000", "192.0.2.2:1000"));
    assert_true(same("192.0.2.1:1000", "[::ffff:192.0.2.1]:1000"));
    assert_false(same("[::ffff:192.0.2.1]:1000", "[::ffff:192.0.2.2]:1000"));
    /* A customer has a /64 to itself: all of it is one. */
    assert_true(same("[2001:db8:0:1::1]:1", "[2001:db8:0:1:ffff::2]:1"));
    assert_false(same("[2001:db8:0:1::1]:1", "[2001:db8:0:2::1]:1"));
    assert_false(same("[2001:db8:0:1::1]:1", "192.0.2.1:1"));
    assert_true(same("unix:", "what is this?"));
    assert_false(same("unix:", "127.0.0.1:1"));
    struct quota_key one = quota_key_of_agent("000102030405060708090a0b0c0d0e0f");
    for (uint8_t i = 0; i < 16; i++)
        assert_int_equal(one.bytes[i], i);
}

static void test_limits(void **state)
{
    (void)state;
    struct error err = {0};
    struct quota quota = {0};
    const struct quota_key a = {{1}}, b = {{2}}, c = {{3}};
    assert_ok(quota_init(&quota, "things", 4, 2, &err));
    assert_ok(quota_take(&quota, &a, &err));
    assert_ok(quota_take(&quota, &a, &err));
    assert_fails(quota_take(&quota, &a, &err), ERROR_EXHAUSTED);
    assert_string_equal(err.reason, "QUOTA");
    assert_error_contains("2 things from one place");
    assert_ok(quota_take(&quota, &b, &err));
    assert_ok(quota_take(&quota, &c, &err));
    assert_fails(quota_take(&quota, &c, &err), ERROR_EXHAUSTED);
    assert_error_contains("4 things");
    /* What is given back can be taken, by anybody. */
    quota_give(&quota, &a);
    assert_ok(quota_take(&quota, &b, &err));
    assert_fails(quota_take(&quota, &a, &err), ERROR_EXHAUSTED);
    quota_give(&quota, &a);
    quota_give(&quota, &a); /* holds nothing any more */
    assert_int_equal(quota.held, 3);
    quota_give(&quota, &c);
    quota_give(&quota, &b);
    quota_give(&quota, &b);
    assert_int_equal(quota.held, 0);
    assert_int_equal(quota.count, 0);
    quota_done(&quota);
    quota_done(&quota);
}

static void test_many_holders(void **state)
{
    (void)state;
    struct error err = {0};
    struct quota quota = {0};
    assert_ok(quota_init(&quota, "things", 200, 2, &err));
    for (unsigned round = 0; round < 3; round++) {
        for (uint8_t i = 0; i < 200; i++)
            assert_ok(quota_take(&quota, &(struct quota_key){{i}}, &err));
        assert_fails(quota_take(&quota, &(struct quota_key){{201}}, &err), ERROR_EXHAUSTED);
        for (uint8_t i = 0; i < 200; i++)
            quota_give(&quota, &(struct quota_key){{(uint8_t)((i * 7U) % 200)}});
        assert_int_equal(quota.held, 0);
        assert_int_equal(quota.count, 0);
    }
    quota_done(&quota);
}

static bool sweep(void *arg, struct error *err)
{
    struct quota quota = {0};
    (void)arg;
    if (!quota_init(&quota, "things", 8, 1, err))
        return false;
    quota_done(&quota);
    return true;
}

static void test_allocations(void **state)
{
    (void)state;
    testlib_allocation_sweep(sweep, nullptr);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_is_who),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_many_holders),
        cmocka_unit_test(test_allocations),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
