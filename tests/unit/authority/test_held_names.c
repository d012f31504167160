#include "testlib/testlib.h"

#include "held_names.h"
#include "watch.h"

#include "base/mem.h"

#include <stdio.h>

static void make_request(const char *const *names, size_t count, Postern__V1__HeldVersion *versions,
                         Postern__V1__HeldVersion **pointers, Postern__V1__WatchRequest *ret)
{
    postern__v1__watch_request__init(ret);
    for (size_t i = 0; i < count; i++) {
        postern__v1__held_version__init(&versions[i]);
        versions[i].name = (char *)names[i];
        versions[i].epoch = 1;
        versions[i].seq = i;
        pointers[i] = &versions[i];
    }
    ret->n_held = count;
    ret->held = pointers;
}

static bool take(const char *const *names, size_t count, struct held_names *ret, struct error *err)
{
    Postern__V1__HeldVersion versions[8];
    Postern__V1__HeldVersion *pointers[8];
    Postern__V1__WatchRequest request;
    make_request(names, count, versions, pointers, &request);
    return held_names_take(ret, &request, err);
}

static void test_in_any_order(void **state)
{
    (void)state;
    struct error err = {0};
    CLEANUP(held_names_done) struct held_names names = {0};
    const char *given[] = {"m", "z", "a", "m/1", "b"};
    assert_ok(take(given, ARRAY_LEN(given), &names, &err));
    for (size_t i = 0; i < ARRAY_LEN(given); i++) {
        const struct held_name *held = held_names_find(&names, given[i]);
        assert_non_null(held);
        assert_string_equal(held->name, given[i]);
        assert_int_equal(held->seq, i);
    }
    assert_null(held_names_find(&names, "c"));
    assert_null(held_names_find(&names, ""));
    assert_null(held_names_find(&names, "zz"));
    for (size_t i = 1; i < names.count; i++)
        assert_true(strcmp(names.items[i - 1].name, names.items[i].name) < 0);
}

static void test_refuses(void **state)
{
    (void)state;
    struct error err = {0};
    const char *twice[] = {"a", "b", "a"};
    const char *no_name[] = {"a", "A"};
    const char *empty[] = {""};
    struct held_names names = {0};
    assert_fails(take(twice, 3, &names, &err), ERROR_INVALID);
    assert_string_equal(err.field, "held");
    assert_error_contains("a is there twice");
    held_names_done(&names);
    assert_fails(take(no_name, 2, &names, &err), ERROR_INVALID);
    assert_string_equal(err.field, "name");
    held_names_done(&names);
    assert_fails(take(empty, 1, &names, &err), ERROR_INVALID);
    held_names_done(&names);
    Postern__V1__WatchRequest request = POSTERN__V1__WATCH_REQUEST__INIT;
    request.n_held = WATCH_HELD_MAX + 1; /* refused before any is looked at */
    assert_fails(held_names_take(&names, &request, &err), ERROR_INVALID);
    assert_string_equal(err.field, "held");
}

/* Against a plain table: every name is there or not, at the number it was given last. */
static void test_against_a_table(void **state)
{
    (void)state;
    struct error err = {0};
    CLEANUP(held_names_done) struct held_names names = {0};
    uint64_t table[64] = {0};
    uint64_t seed = 42;
    for (uint64_t step = 1; step < 5000; step++) {
        char name[8];
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        size_t which = (size_t)(seed >> 58);
        snprintf(name, sizeof(name), "n%zu", which);
        struct held_name *held = held_names_find(&names, name);
        assert_int_equal(held ? held->seq : 0, table[which]);
        if (held && (seed >> 40 & 1)) {
            held_names_remove(&names, held);
            table[which] = 0;
        } else {
            assert_ok(held_names_set(&names, name, 1, step, &err));
            table[which] = step;
        }
    }
    size_t count = 0;
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        count += table[i] != 0;
    assert_int_equal(names.count, count);
}

static bool sweep(void *arg, struct error *err)
{
    (void)arg;
    CLEANUP(held_names_done) struct held_names names = {0};
    const char *given[] = {"b", "a"};
    return take(given, 2, &names, err) && held_names_set(&names, "c", 1, 1, err);
}

static void test_without_memory(void **state)
{
    (void)state;
    testlib_allocation_sweep(sweep, nullptr);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_in_any_order),
        cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_against_a_table),
        cmocka_unit_test(test_without_memory),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
