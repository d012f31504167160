#include "testlib/testlib.h"

#include "base/mem.h"

static void new_memory_is_zero(void **state)
{
    uint8_t *bytes = mem_new(100, 3);

    (void)state;
    assert_non_null(bytes);
    for (size_t i = 0; i < 300; i++)
        assert_int_equal(bytes[i], 0);
    assert_null(mem_free(bytes));
    assert_null(mem_free(nullptr));
}

static void nothing_is_still_something(void **state)
{
    void *none = mem_new(0, 8);
    void *other = mem_new(8, 0);
    void *resized = mem_resize(nullptr, 0);

    (void)state;
    assert_non_null(none);
    assert_non_null(other);
    assert_non_null(resized);
    mem_free(none);
    mem_free(other);
    mem_free(resized);
}

static void products_that_wrap_are_refused(void **state)
{
    volatile size_t half = SIZE_MAX / 2 + 2; /* volatile: compilers see through this */

    (void)state;
    assert_null(mem_new(half, 2));
    assert_null(mem_new(2, half));
}

static void resizing_keeps_the_contents(void **state)
{
    char *text = mem_strdup("postern");
    char *longer = mem_resize(text, 1000);

    (void)state;
    assert_non_null(longer);
    assert_string_equal(longer, "postern");
    mem_fail_after(1);
    assert_null(mem_resize(longer, 2000));
    mem_fail_after(0);
    assert_string_equal(longer, "postern"); /* a refusal leaves it alone */
    mem_free(longer);
}

static void zero_lengths_take_any_pointer(void **state)
{
    char to[4] = "abc";

    (void)state;
    mem_copy(nullptr, nullptr, 0);
    mem_move(nullptr, nullptr, 0);
    mem_wipe(nullptr, 0);
    assert_true(mem_equal_secret(nullptr, nullptr, 0));
    mem_copy(to, "xy", 2);
    assert_string_equal(to, "xyc");
    mem_move(to, to + 1, 3);
    assert_string_equal(to, "yc");
    mem_wipe(to, sizeof(to));
    assert_memory_equal(to, "\0\0\0\0", 4);
}

static void comparison_sees_every_byte(void **state)
{
    uint8_t a[64], b[64];

    (void)state;
    memset(a, 7, sizeof(a));
    memcpy(b, a, sizeof(b));
    assert_true(mem_equal_secret(a, b, sizeof(a)));
    for (size_t i = 0; i < sizeof(a); i++) {
        b[i] ^= (uint8_t)(1 << i % 8);
        assert_false(mem_equal_secret(a, b, sizeof(a)));
        b[i] = a[i];
    }
}

static void the_nth_allocation_fails_once(void **state)
{
    void *first, *third;

    (void)state;
    mem_fail_after(2);
    first = mem_new(1, 1);
    assert_non_null(first);
    assert_null(mem_strdup("x"));
    third = mem_new(1, 1);
    assert_non_null(third);
    assert_int_equal(mem_fail_after(0), 3);
    assert_int_equal(mem_fail_after(0), 0);
    mem_free(first);
    mem_free(third);
}

static void cleanup_frees(void **state)
{
    (void)state;
    {
        CLEANUP(mem_free_at) char *text =
            mem_strdup("freed by its scope"); /* LeakSanitizer looks */
        CLEANUP(mem_free_at) char *nothing = nullptr;

        assert_non_null(text);
        assert_null(nothing);
    }
    char *kept;
    {
        CLEANUP(mem_free_at) char *text = mem_strdup("taken");

        kept = TAKE(text);
        assert_null(text);
    }
    assert_string_equal(kept, "taken");
    mem_free(kept);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(new_memory_is_zero),
        cmocka_unit_test(nothing_is_still_something),
        cmocka_unit_test(products_that_wrap_are_refused),
        cmocka_unit_test(resizing_keeps_the_contents),
        cmocka_unit_test(zero_lengths_take_any_pointer),
        cmocka_unit_test(comparison_sees_every_byte),
        cmocka_unit_test(the_nth_allocation_fails_once),
        cmocka_unit_test(cleanup_frees),
    };

    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
