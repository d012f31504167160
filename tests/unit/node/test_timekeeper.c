#include "testlib/testlib.h"

#include "timekeeper.h"

static void knows_nothing_at_first(void **state)
{
    (void)state;
    const struct timekeeper keeper = {0};
    assert_int_equal(timekeeper_now(&keeper, 5000, 100), 5000);
    assert_int_equal(timekeeper_authority(&keeper, 5000, 100), 5000);
}

static void a_clock_set_back_does_not_count(void **state)
{
    (void)state;
    struct timekeeper keeper = {0};
    timekeeper_set(&keeper, 1'000'000, 100);
    assert_int_equal(timekeeper_now(&keeper, 5000, 600), 1'000'500);
    assert_int_equal(timekeeper_now(&keeper, 2'000'000, 600), 2'000'000);
    assert_int_equal(timekeeper_authority(&keeper, 2'000'000, 600), 1'000'500);
    /* A newer pair replaces an older, also downwards: no high-water mark. */
    timekeeper_set(&keeper, 900'000, 700);
    assert_int_equal(timekeeper_authority(&keeper, 0, 700), 900'000);
    timekeeper_set(&keeper, INT64_MAX - 5, 0);
    assert_true(timekeeper_now(&keeper, 0, UINT64_MAX) == INT64_MAX);
}

static void a_stored_pair_goes_on(void **state)
{
    (void)state;
    uint8_t name[] = {1, 2, 3};
    Postern__V1__TimePair pair = POSTERN__V1__TIME_PAIR__INIT;
    pair.ak_name = (ProtobufCBinaryData){.data = name, .len = sizeof(name)};
    pair.reset_count = 4;
    pair.clock_ms = 10'000;
    pair.authority_ms = 1'000'000;
    struct tpm_time time = {.clock_ms = 13'000, .reset_count = 5};
    struct timekeeper keeper = {0};

    timekeeper_restore(&keeper, &pair, SLICE_OF(name), &time, 0, 50);
    assert_int_equal(timekeeper_authority(&keeper, 0, 50), 1'003'000);
    /* Within the boot the boot clock may know of more. */
    timekeeper_restore(&keeper, &pair, SLICE_OF(name), &time, 4'000, 50);
    assert_int_equal(timekeeper_authority(&keeper, 0, 50), 1'004'000);
    /* After an unclean stop the TPM's clock may be behind. */
    time.clock_ms = 9'000;
    timekeeper_restore(&keeper, &pair, SLICE_OF(name), &time, 0, 50);
    assert_int_equal(timekeeper_authority(&keeper, 0, 50), 1'000'000);

    /* Void: another AK; a reset count that went down. */
    struct timekeeper none = {0};
    timekeeper_restore(&none, &pair, slice(name, 2), &time, 0, 50);
    assert_false(none.known);
    time.reset_count = 3;
    timekeeper_restore(&none, &pair, SLICE_OF(name), &time, 0, 50);
    assert_false(none.known);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(knows_nothing_at_first),
        cmocka_unit_test(a_clock_set_back_does_not_count),
        cmocka_unit_test(a_stored_pair_goes_on),
    };
    return cmocka_run_group_tests_name("timekeeper", tests, nullptr, nullptr);
}
