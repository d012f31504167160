#include "keyring/name.h"

#include "base/mem.h"
#include "testlib/testlib.h"

static void takes_names(void **state)
{
    (void)state;
    static const char *const good[] = {"a", "billing/database", "a-b.c_d/0", "/", "..", "-"};
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        struct error err = {0};
        assert_ok(secret_name_check(good[i], &err));
    }
}

static void refuses_others(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "Upper", "a b", "a\n", "a\x7f", "ä", "a:b", "*"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct error err = {0};
        assert_fails(secret_name_check(bad[i], &err), ERROR_INVALID);
        assert_string_equal(err.field, "name");
    }
}

static void has_a_longest(void **state)
{
    (void)state;
    char name[SECRET_NAME_MAX + 2];
    struct error err = {0};
    for (size_t i = 0; i < sizeof(name) - 1; i++)
        name[i] = 'a';
    name[SECRET_NAME_MAX] = '\0';
    assert_ok(secret_name_check(name, &err));
    name[SECRET_NAME_MAX] = 'a';
    name[SECRET_NAME_MAX + 1] = '\0';
    assert_fails(secret_name_check(name, &err), ERROR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_names),
        cmocka_unit_test(refuses_others),
        cmocka_unit_test(has_a_longest),
    };
    return cmocka_run_group_tests_name("name", tests, nullptr, nullptr);
}
