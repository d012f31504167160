#include "testlib/testlib.h"

#include "held.h"
#include "timekeeper.h"

static void knows_nothing_at_first(void **state)
{
    (void)state;
    const struct timekeeper keeper = {0};
    assert_int_equal(timekeeper_now(&keeper, 5000, 100), 5000);
    assert_int_equal(timekeeper_authority(&keeper, 100), 0);
}

static void a_clock_set_back_does_not_count(void **state)
{
    (void)state;
    struct timekeeper keeper = {0};
    timekeeper_set(&keeper, 1'000'000, 100);
    assert_int_equal(timekeeper_now(&keeper, 5000, 600), 1'000'500);
    assert_int_equal(timekeeper_now(&keeper, 2'000'000, 600), 2'000'000);
    assert_int_equal(timekeeper_authority(&keeper, 600), 1'000'500);
    /* A newer pair replaces an older, also downwards: no high-water mark. */
    timekeeper_set(&keeper, 900'000, 700);
    assert_int_equal(timekeeper_authority(&keeper, 700), 900'000);
    timekeeper_set(&keeper, INT64_MAX - 5, 0);
    assert_true(timekeeper_now(&keeper, 0, UINT64_MAX) == INT64_MAX);
}

/* max_offline ends by the boot clock, wherever somebody sets the system's. */
static void max_offline_counts_by_the_boot_clock(void **state)
{
    (void)state;
    struct timekeeper keeper = {0};
    struct held held;
    struct error err = {0};
    const struct held_secret *secret;
    const struct moment came = {.wall_ms = 1'000'000, .boot_ms = 100};
    Postern__V1__AppraisalBody body = POSTERN__V1__APPRAISAL_BODY__INIT;
    body.verdict = POSTERN__V1__VERDICT__VERDICT_AFFIRMING;
    body.releases = true;
    body.appraised_at_ms = 1'000'000;
    body.expires_at_ms = 2'000'000;
    held_init(&held, 60'000, 1);
    assert_ok(held_appraise(&held, &body, slice_str("body"), &came, &err));
    timekeeper_set(&keeper, 1'000'000, 100);
    assert_false(held_release(&held, "spiffe://x/a", "db", timekeeper_now(&keeper, 5, 60'099),
                              &secret, &err));
    assert_string_equal(err.reason, "NOT_FETCHED_YET"); /* that is, not too long */
    assert_false(held_release(&held, "spiffe://x/a", "db", timekeeper_now(&keeper, 5, 60'100),
                              &secret, &err));
    assert_string_equal(err.reason, "OFFLINE_TOO_LONG");
    held_done(&held);
}

static void hearsay_moves_it_forward_alone(void **state)
{
    (void)state;
    struct timekeeper keeper = {0};
    timekeeper_hear(&keeper, 1'000'000, 100);
    assert_int_equal(timekeeper_authority(&keeper, 100), 1'000'000);
    timekeeper_hear(&keeper, 1'000'400, 600); /* by our clock it is 1'000'500 */
    assert_int_equal(timekeeper_authority(&keeper, 600), 1'000'500);
    timekeeper_hear(&keeper, 0, 600);
    assert_int_equal(timekeeper_authority(&keeper, 600), 1'000'500);
    timekeeper_hear(&keeper, 5'000'000, 600);
    assert_int_equal(timekeeper_authority(&keeper, 700), 5'000'100);
    timekeeper_set(&keeper, 1'001'000, 700); /* signed */
    assert_int_equal(timekeeper_authority(&keeper, 700), 1'001'000);
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
    assert_int_equal(timekeeper_authority(&keeper, 50), 1'003'000);
    /* Within the boot the boot clock may know of more. */
    timekeeper_restore(&keeper, &pair, SLICE_OF(name), &time, 4'000, 50);
    assert_int_equal(timekeeper_authority(&keeper, 50), 1'004'000);
    /* After an unclean stop the TPM's clock may be behind. */
    time.clock_ms = 9'000;
    timekeeper_restore(&keeper, &pair, SLICE_OF(name), &time, 0, 50);
    assert_int_equal(timekeeper_authority(&keeper, 50), 1'000'000);

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
        cmocka_unit_test(max_offline_counts_by_the_boot_clock),
        cmocka_unit_test(hearsay_moves_it_forward_alone),
        cmocka_unit_test(a_stored_pair_goes_on),
    };
    return cmocka_run_group_tests_name("timekeeper", tests, nullptr, nullptr);
}
