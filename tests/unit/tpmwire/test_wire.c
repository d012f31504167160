#include "vectors.h"

#include "tpmwire/wire.h"

/* tss2-mu gives back what it read wherever we looked; should a version of it not, it must not pass.
 */
static void test_canonical(void **)
{
    struct error err = {0};
    struct slice wire = slice_str("abc");
    assert_ok(wire_canonical(wire, 3, slice_str("abc"), "thing", &err));
    assert_fails(wire_canonical(wire, 3, slice_str("abd"), "thing", &err), ERROR_INVALID);
    assert_error_contains("thing is not in its canonical form");
    assert_fails(wire_canonical(wire, 3, slice_str("abcd"), "thing", &err), ERROR_INVALID);
    assert_fails(wire_canonical(wire, 2, slice_str("ab"), "thing", &err), ERROR_INVALID);
    assert_error_contains("1 trailing");
}

/* A size of 65535 that the bytes do not have, and one that they have but that is too much. */
static void test_sized(void **)
{
    struct error err = {0};
    struct slice body = {.len = 77};
    static const uint8_t promised[] = {0xff, 0xff, 1, 2};
    static const uint8_t good[] = {0, 2, 1, 2};
    assert_fails(wire_sized(SLICE_OF(promised), 100, "thing", &body, &err), ERROR_INVALID);
    assert_error_contains("thing is truncated");
    assert_fails(wire_sized(SLICE_OF(good), 3, "thing", &body, &err), ERROR_INVALID);
    assert_error_contains("at most 3");
    assert_int_equal(body.len, 77);
    assert_ok(wire_sized(SLICE_OF(good), 4, "thing", &body, &err));
    assert_int_equal(body.len, 2);
    assert_ptr_equal(body.data, good + 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_canonical),
        cmocka_unit_test(test_sized),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
