#include "testlib/testlib.h"

#include "callers.h"
#include "cgroup.h"

#include <stdio.h>

static struct error err;
static char keys[1024]; /* addresses of connections */

static const char *pod_of(void *arg, const char *cgroup)
{
    const char *pod = arg;
    return pod && cgroup_within(cgroup, pod) ? pod : nullptr;
}

static void one_pod_leaves_room_for_others(void **state)
{
    (void)state;
    struct callers callers = {0};
    for (size_t i = 0; i < CALLERS_PER_POD_MAX; i++) /* also from cgroups below its own */
        assert_ok(
            callers_add(&callers, &keys[i], i % 2 ? "/pods/a" : "/pods/a/sub", "/pods/a", &err));
    assert_fails(callers_add(&callers, &keys[100], "/pods/a/other", "/pods/a", &err),
                 ERROR_EXHAUSTED);
    assert_ok(callers_add(&callers, &keys[101], "/pods/ab", "/pods/ab", &err));
    assert_ok(callers_add(&callers, &keys[102], "/system/shell", nullptr, &err));
    callers_remove(&callers, &keys[0]);
    callers_remove(&callers, &keys[0]);
    assert_ok(callers_add(&callers, &keys[0], "/pods/a", "/pods/a", &err));
    assert_fails(callers_add(&callers, &keys[100], "/pods/a", "/pods/a", &err), ERROR_EXHAUSTED);
    callers_done(&callers);
    assert_int_equal(callers.unknown, 0);
}

static void strangers_have_a_limit_of_their_own(void **state)
{
    (void)state;
    struct callers callers = {0};
    char cgroup[32];
    for (size_t i = 0; i < CALLERS_PER_POD_MAX; i++)
        assert_ok(callers_add(&callers, &keys[i], "", nullptr, &err)); /* nobody knows whose */
    assert_fails(callers_add(&callers, &keys[100], "", nullptr, &err), ERROR_EXHAUSTED);
    for (size_t i = CALLERS_PER_POD_MAX; i < CALLERS_UNKNOWN_MAX; i++) {
        (void)snprintf(cgroup, sizeof(cgroup), "/made/%zu", i);
        assert_ok(callers_add(&callers, &keys[i], cgroup, nullptr, &err));
    }
    assert_fails(callers_add(&callers, &keys[100], "/made/more", nullptr, &err), ERROR_EXHAUSTED);
    assert_ok(callers_add(&callers, &keys[101], "/pods/a", "/pods/a", &err));
    /* Who is in a pod from now on is no stranger any more, and the other way round. */
    callers_map(&callers, pod_of, (char[]){"/made"});
    assert_int_equal(callers.unknown, CALLERS_PER_POD_MAX + 1);
    assert_ok(callers_add(&callers, &keys[100], "/elsewhere", nullptr, &err));
    callers_map(&callers, pod_of, nullptr);
    assert_int_equal(callers.unknown, CALLERS_UNKNOWN_MAX + 2);
    callers_done(&callers);
}

static bool add_one(void *arg, struct error *why)
{
    (void)arg;
    struct callers callers = {0};
    bool ok = callers_add(&callers, keys, "/pods/a", "/pods/a", why);
    assert_int_equal(callers.first != nullptr, ok);
    callers_done(&callers);
    return ok;
}

static void memory_may_be_out(void **state)
{
    (void)state;
    testlib_allocation_sweep(add_one, nullptr);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_pod_leaves_room_for_others),
        cmocka_unit_test(strangers_have_a_limit_of_their_own),
        cmocka_unit_test(memory_may_be_out),
    };
    return cmocka_run_group_tests_name("callers", tests, nullptr, nullptr);
}
