#include "testlib/testlib.h"

#include "base/clock.h"
#include "base/counter.h"

#include <pthread.h>

COUNTER(counter_one, "test_one_total", "Counts what this test does.");
COUNTER(counter_two, "test_two_total", "Counts nothing.");

struct counter_seen {
    uint64_t one, two;
    size_t count;
};

static void counter_look(void *arg, const char *name, const char *help, uint64_t value)
{
    struct counter_seen *seen = arg;

    seen->count++;
    if (strcmp(name, "test_one_total") == 0) {
        assert_string_equal(help, "Counts what this test does.");
        seen->one = value;
    } else if (strcmp(name, "test_two_total") == 0) {
        seen->two = value;
    }
}

static void *counter_work(void *arg)
{
    for (int i = 0; i < 10000; i++)
        counter_add(&counter_one, 2);
    return arg;
}

static void every_counter_is_seen_with_its_sum(void **state)
{
    struct counter_seen seen = {.one = 99, .two = 99};
    pthread_t threads[4];

    (void)state;
    counter_each(counter_look, &seen);
    assert_int_equal(seen.one, 0);
    assert_int_equal(seen.two, 0);
    assert_int_equal(seen.count, 2);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], nullptr, counter_work, nullptr), 0);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_join(threads[i], nullptr), 0);
    counter_each(counter_look, &seen);
    assert_int_equal(seen.one, 4 * 10000 * 2);
    assert_int_equal(seen.two, 0);
}

static void clocks_run(void **state)
{
    uint64_t boot = clock_boot_ms();

    (void)state;
    assert_true(clock_wall_ms() > 1700000000000); /* milliseconds, after 2023 */
    assert_true(boot > 0);
    assert_true(clock_boot_ms() >= boot);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_counter_is_seen_with_its_sum),
        cmocka_unit_test(clocks_run),
    };

    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
