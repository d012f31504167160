/* lib/tpm/counter.c: the generation counter. */
#include "unit/tpm/fixture.h"

#include "tpmwire/nv.h"

#include <stdio.h>

static uint64_t value_of(struct fixture *f)
{
    struct error err = {0};
    uint64_t value = 0;
    assert_ok(tpm_counter_read(f->tpm, &f->counter, &value, &err));
    return value;
}

static void is_made_once(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    batch(f);
    uint64_t before = value_of(f);
    assert_true(before > 0); /* fixture_up made it, and incremented it once */
    assert_ok(tpm_counter_make(f->tpm, &f->counter, &err));
    assert_int_equal(value_of(f), before);
    CLEANUP(buf_done) struct buf wire;
    buf_init(&wire, NV_AREA_WIRE_MAX);
    TPM2B_NV_PUBLIC area = {0};
    assert_ok(tpm_counter_public(f->tpm, &f->counter, &wire, &err));
    assert_ok(nv_area_parse(buf_slice(&wire), &area, &err));
    assert_ok(nv_counter_check(&area.nvPublic, true, &err));
    assert_int_equal(area.nvPublic.attributes, NV_COUNTER_WRITTEN);
}

static void rises_to_a_target(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    uint64_t value = 0;
    batch(f);
    uint64_t before = value_of(f);
    assert_ok(tpm_counter_raise(f->tpm, &f->counter, before + 3, &value, &err));
    assert_int_equal(value, before + 3);
    assert_ok(tpm_counter_raise(f->tpm, &f->counter, before + 3, &value, &err)); /* idempotent */
    assert_ok(tpm_counter_raise(f->tpm, &f->counter, 0, &value, &err));
    assert_int_equal(value, before + 3);
    assert_int_equal(value_of(f), before + 3);
}

static void refuses_a_far_target(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    uint64_t value = 77;
    batch(f);
    uint64_t before = value_of(f);
    assert_fails(
        tpm_counter_raise(f->tpm, &f->counter, before + TPM_COUNTER_RAISE_MAX + 1, &value, &err),
        ERROR_INVALID);
    assert_fails(tpm_counter_raise(f->tpm, &f->counter, UINT64_MAX, &value, &err), ERROR_INVALID);
    assert_int_equal(value, 77);
    assert_int_equal(value_of(f), before);
}

static void needs_its_auth(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    uint64_t value = 77;
    CLEANUP(secret_free_at) struct secret *wrong = nullptr;
    assert_ok(secret_random(32, &wrong, &err));
    const struct tpm_counter theirs = {.index = COUNTER_INDEX, .auth = wrong};
    const struct tpm_counter bare = {.index = COUNTER_INDEX};
    batch(f);
    uint64_t before = value_of(f);
    assert_fails(tpm_counter_read(f->tpm, &theirs, &value, &err), ERROR_DENIED);
    assert_error_contains("TPM_RC_BAD_AUTH");
    assert_int_equal(err.domain, ERROR_DOMAIN_TPM);
    assert_int_equal(err.code, 0x9a2); /* BAD_AUTH of session 1 */
    assert_fails(tpm_counter_read(f->tpm, &bare, &value, &err), ERROR_DENIED);
    assert_fails(tpm_counter_raise(f->tpm, &theirs, before + 1, &value, &err), ERROR_DENIED);
    assert_int_equal(value, 77);
    assert_int_equal(value_of(f), before);
}

/* One authValue in 256 ends in a zero, which the TPM drops. */
static void auth_may_end_in_zeros(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    uint64_t value = 0;
    CLEANUP(secret_free_at) struct secret *auth = nullptr;
    assert_ok(secret_random(32, &auth, &err));
    secret_data(auth)[0] = 1;
    secret_data(auth)[30] = 0;
    secret_data(auth)[31] = 0;
    const struct tpm_counter counter = {.index = COUNTER_INDEX + 1, .auth = auth};
    batch(f);
    tpm_mux_watch(f->mux, slice(secret_data(auth), 30));
    assert_ok(tpm_counter_make(f->tpm, &counter, &err));
    assert_int_equal(tpm_mux_count(f->mux, TPM2_CC_NV_DefineSpace), 1);
    assert_ok(tpm_counter_read(f->tpm, &counter, &value, &err));
    assert_true(value > 0);
    assert_int_equal(tpm_mux_seen(f->mux), 0); /* neither to define nor to use it */
}

static void leaves_others_indexes_alone(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    char line[512];
    (void)snprintf(line, sizeof line,
                   "TSS2_LOG=all+NONE tpm2_nvdefine -Q -T %s 0x01800020 -C o -s 8 "
                   "-a 'nt=counter|ownerread|ownerwrite|authread|authwrite'",
                   f->chip.tcti);
    assert_int_equal(shell(line), 0);
    const struct tpm_counter counter = {.index = 0x01800020, .auth = f->auth};
    batch(f);
    assert_fails(tpm_counter_make(f->tpm, &counter, &err), ERROR_CONFLICT);
    assert_error_contains("belongs to something else");
    assert_error_contains("0x01800020");
}

static void refuses_indexes_that_are_not_the_owners(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    static const uint32_t bad[] = {0x01c00002, 0x017fffff, 0x01c00000, 0x81010001, 0};
    batch(f);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        const struct tpm_counter counter = {.index = bad[i], .auth = f->auth};
        assert_fails(tpm_counter_make(f->tpm, &counter, &err), ERROR_INVALID);
    }
}

static void says_when_there_is_none(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    const struct tpm_counter none = {.index = 0x01800099, .auth = f->auth};
    CLEANUP(buf_done) struct buf wire;
    buf_init(&wire, NV_AREA_WIRE_MAX);
    uint64_t value = 77;
    batch(f);
    assert_fails(tpm_counter_read(f->tpm, &none, &value, &err), ERROR_NOT_FOUND);
    assert_error_contains("0x01800099");
    assert_fails(tpm_counter_public(f->tpm, &none, &wire, &err), ERROR_NOT_FOUND);
    assert_int_equal(wire.len, 0);
    assert_int_equal(value, 77);
}

/* The power is cut: the counter has neither its auth nor its value from volatile memory. */
static void survives_a_power_cut(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    batch(f);
    uint64_t before = value_of(f);
    tpm_end(f->tpm);
    assert_ok(swtpm_stop(&f->chip, false, &err));
    assert_ok(swtpm_start(&f->chip, &err));
    assert_ok(swtpm_extend_boot(&f->chip, &err));
    batch(f);
    /* Not orderly: the value after a crash is the value before. */
    assert_int_equal(value_of(f), before);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_before, fixture_after)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(is_made_once),
        TEST(rises_to_a_target),
        TEST(refuses_a_far_target),
        TEST(needs_its_auth),
        TEST(auth_may_end_in_zeros),
        TEST(leaves_others_indexes_alone),
        TEST(refuses_indexes_that_are_not_the_owners),
        TEST(says_when_there_is_none),
        TEST(survives_a_power_cut),
    };
    return cmocka_run_group_tests(tests, fixture_up, fixture_down);
}
