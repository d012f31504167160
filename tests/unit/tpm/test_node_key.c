/* lib/tpm/node_key.c: import and unseal, and every way in which it must not open. */
#include "unit/tpm/blob.h"

static void opens(struct tpm *tpm, const struct tpm_counter *counter, const struct blob *blob)
{
    struct error err = {0};
    CLEANUP(secret_free_at) struct secret *got = nullptr;
    const struct node_key_sealed sealed = blob_sealed(blob);
    assert_ok(node_key_unseal(tpm, &sealed, counter, &got, &err));
    assert_true(secret_equal(got, blob->key));
}

static void stays_closed(struct tpm *tpm, const struct tpm_counter *counter,
                         const struct blob *blob, int64_t code, const char *words)
{
    struct error err = {0};
    struct secret *got = POISON;
    const struct node_key_sealed sealed = blob_sealed(blob);
    assert_fails(node_key_unseal(tpm, &sealed, counter, &got, &err), ERROR_DENIED);
    assert_int_equal(err.domain, ERROR_DOMAIN_TPM);
    assert_int_equal(err.code, code);
    assert_error_contains(words);
    assert_ptr_equal(got, POISON);
}

static void opens_here_and_again(void **state)
{
    struct fixture *f = *state;
    CLEANUP(blob_done) struct blob blob;
    batch(f);
    blob_make(f->tpm, &f->counter, "sha256:0,2,4,7", 0, &blob);
    blob_import(f->tpm, &blob);
    opens(f->tpm, &f->counter, &blob);
    opens(f->tpm, &f->counter, &blob);
    tpm_end(f->tpm);
    batch(f); /* as an agent that was restarted: nothing loaded, the blob from disk */
    opens(f->tpm, &f->counter, &blob);
}

/* Somebody who listens on the bus. The control: what is public is seen. */
static void key_does_not_pass_in_clear(void **state)
{
    struct fixture *f = *state;
    CLEANUP(blob_done) struct blob blob;
    batch(f);
    blob_make(f->tpm, &f->counter, "sha256:7", 0, &blob);
    tpm_mux_watch(f->mux, secret_slice(blob.key));
    blob_import(f->tpm, &blob);
    opens(f->tpm, &f->counter, &blob);
    assert_int_equal(tpm_mux_seen(f->mux), 0);
    tpm_mux_watch(f->mux, secret_slice(f->auth));
    opens(f->tpm, &f->counter, &blob);
    assert_int_equal(tpm_mux_seen(f->mux), 0);
    tpm_mux_watch(f->mux, slice(blob.object_private.data + 2, 64));
    opens(f->tpm, &f->counter, &blob);
    assert_int_equal(tpm_mux_seen(f->mux), 1);
}

static void opens_whatever_was_loaded_before(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    CLEANUP(blob_done) struct blob blob;
    CLEANUP(buf_done) struct buf signature;
    buf_init(&signature, 1024);
    batch(f);
    blob_make(f->tpm, &f->counter, "sha256:0+sha384:7", 0, &blob);
    blob_import(f->tpm, &blob);
    for (size_t i = 0; i < TPM_KEY_COUNT; i++) {
        CLEANUP(buf_done) struct buf wire;
        buf_init(&wire, 1024);
        assert_ok(tpm_key_public(f->tpm, (enum tpm_key)i, &wire, &err));
        opens(f->tpm, &f->counter, &blob);
        assert_ok(tpm_sign(f->tpm, slice_str("request"), &signature, &err));
        buf_clear(&signature);
    }
}

static void stays_closed_in_another_boot_state(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    CLEANUP(blob_done) struct blob blob;
    batch(f);
    blob_make(f->tpm, &f->counter, "sha256:0,2,4,7,9", 0, &blob);
    blob_import(f->tpm, &blob);
    opens(f->tpm, &f->counter, &blob);
    assert_ok(swtpm_extend(&f->chip, 9, "another kernel", &err));
    stays_closed(f->tpm, &f->counter, &blob, TPM_CODE_POLICY_FAIL,
                 "unseal the node key: TPM_RC_POLICY_FAIL (0x99d)");
    tpm_end(f->tpm);
    /* Rebooted into the good state it is back. */
    assert_ok(swtpm_stop(&f->chip, true, &err));
    assert_ok(swtpm_start(&f->chip, &err));
    assert_ok(swtpm_extend_boot(&f->chip, &err));
    batch(f);
    opens(f->tpm, &f->counter, &blob);
}

static void stays_closed_once_retired(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    uint64_t value = 0;
    CLEANUP(blob_done) struct blob old;
    CLEANUP(blob_done) struct blob next;
    batch(f);
    blob_make(f->tpm, &f->counter, "sha256:7", 0, &old);
    blob_make(f->tpm, &f->counter, "sha256:7", 1, &next);
    blob_import(f->tpm, &old);
    blob_import(f->tpm, &next);
    opens(f->tpm, &f->counter, &old);
    opens(f->tpm, &f->counter, &next);
    assert_ok(tpm_counter_raise(f->tpm, &f->counter, next.limit, &value, &err));
    stays_closed(f->tpm, &f->counter, &old, TPM_CODE_POLICY,
                 "check the counter for the node key: TPM_RC_POLICY (0x126)");
    opens(f->tpm, &f->counter, &next);
    /* Nor with a limit that the blob was not made for. */
    old.limit = next.limit;
    stays_closed(f->tpm, &f->counter, &old, TPM_CODE_POLICY_FAIL, "0x99d");
}

static void stays_closed_in_another_tpm(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    struct swtpm chip = {0};
    struct tpm *other = nullptr;
    other_up(f, "other", &chip, &other);
    CLEANUP(blob_done) struct blob blob;
    batch(f);
    blob_make(f->tpm, &f->counter, "sha256:7", 0, &blob);
    blob_import(f->tpm, &blob);
    opens(f->tpm, &f->counter, &blob);
    tpm_end(f->tpm);
    assert_ok(tpm_begin(other, soon(), &err));
    assert_ok(tpm_counter_make(other, &f->counter, &err));
    /* TPM_RC_INTEGRITY about parameter 1, the private area. */
    stays_closed(other, &f->counter, &blob, 0x1df, "load the node key under the WRAP");
    CLEANUP(buf_done) struct buf theirs;
    buf_init(&theirs, 1024);
    assert_fails(node_key_import(other, buf_slice(&blob.object_public), buf_slice(&blob.duplicate),
                                 buf_slice(&blob.seed), &theirs, &err),
                 ERROR_DENIED);
    assert_error_contains("import the node key under the WRAP: TPM_RC_INTEGRITY");
    assert_int_equal(err.code, 0x3df); /* about parameter 3, the duplicate */
    assert_int_equal(theirs.len, 0);
    other_down(&chip, other);
}

static void stays_closed_without_the_counters_auth(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    CLEANUP(blob_done) struct blob blob;
    CLEANUP(secret_free_at) struct secret *wrong = nullptr;
    assert_ok(secret_random(32, &wrong, &err));
    const struct tpm_counter theirs = {.index = COUNTER_INDEX, .auth = wrong};
    batch(f);
    blob_make(f->tpm, &f->counter, "sha256:7", 0, &blob);
    blob_import(f->tpm, &blob);
    stays_closed(f->tpm, &theirs, &blob, 0x9a2, "TPM_RC_BAD_AUTH");
}

static void stays_closed_under_another_policy(void **state)
{
    struct fixture *f = *state;
    CLEANUP(blob_done) struct blob blob;
    batch(f);
    blob_make(f->tpm, &f->counter, "sha256:0,7", 0, &blob);
    blob_import(f->tpm, &blob);
    blob.seal = select_pcrs("sha256:7");
    stays_closed(f->tpm, &f->counter, &blob, TPM_CODE_POLICY_FAIL, "TPM_RC_POLICY_FAIL");
}

static void refuses_malformed_blobs(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    CLEANUP(blob_done) struct blob blob;
    CLEANUP(buf_done) struct buf imported;
    buf_init(&imported, 1024);
    struct secret *got = POISON;
    batch(f);
    blob_make(f->tpm, &f->counter, "sha256:7", 0, &blob);
    blob_import(f->tpm, &blob);
    struct slice whole = buf_slice(&blob.duplicate);
    assert_fails(node_key_import(f->tpm, buf_slice(&blob.object_public),
                                 slice(whole.data, whole.len - 1), buf_slice(&blob.seed), &imported,
                                 &err),
                 ERROR_INVALID);
    assert_int_equal(imported.len, 0);
    const struct node_key_sealed good = blob_sealed(&blob);
    for (size_t cut = 0; cut < good.object_private.len; cut++) {
        struct node_key_sealed bad = good;
        bad.object_private.len = cut;
        assert_fails(node_key_unseal(f->tpm, &bad, &f->counter, &got, &err), ERROR_INVALID);
    }
    struct node_key_sealed bad = good;
    bad.object_public.len--;
    assert_fails(node_key_unseal(f->tpm, &bad, &f->counter, &got, &err), ERROR_INVALID);
    assert_ptr_equal(got, POISON);
    /* A bit flipped on the disk. */
    blob.object_private.data[blob.object_private.len / 2] ^= 1;
    stays_closed(f->tpm, &f->counter, &blob, 0x1df, "TPM_RC_INTEGRITY");
}

static void tries_again_when_pcrs_move(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    CLEANUP(blob_done) struct blob blob;
    batch(f);
    blob_make(f->tpm, &f->counter, "sha256:7", 0, &blob);
    blob_import(f->tpm, &blob);
    /* Somebody extends a PCR that is not even sealed to, between policy and unseal, three times. */
    assert_ok(tpm_mux_inject(
        f->mux,
        &(struct tpm_mux_fault){
            .command = TPM2_CC_Unseal, .count = 3, .action = TPM_MUX_EXTEND, .value = 10},
        &err));
    opens(f->tpm, &f->counter, &blob);
    assert_int_equal(tpm_mux_count(f->mux, TPM2_CC_Unseal), 4);
    assert_int_equal(tpm_mux_count(f->mux, TPM2_CC_PolicyPCR), 4);
    struct tpm_mux_record record = {0};
    unsigned n = 0;
    while (tpm_mux_record(f->mux, n, &record) && record.command != TPM2_CC_Unseal)
        n++;
    assert_int_equal(record.code, TPM2_RC_PCR_CHANGED);
}

static void gives_up_when_pcrs_keep_moving(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    CLEANUP(blob_done) struct blob blob;
    struct secret *got = POISON;
    batch(f);
    blob_make(f->tpm, &f->counter, "sha256:7", 0, &blob);
    blob_import(f->tpm, &blob);
    const struct node_key_sealed sealed = blob_sealed(&blob);
    assert_ok(tpm_mux_inject(
        f->mux,
        &(struct tpm_mux_fault){.command = TPM2_CC_Unseal, .action = TPM_MUX_EXTEND, .value = 10},
        &err));
    assert_fails(node_key_unseal(f->tpm, &sealed, &f->counter, &got, &err), ERROR_UNAVAILABLE);
    assert_int_equal(err.code, TPM2_RC_PCR_CHANGED);
    assert_int_equal(tpm_mux_count(f->mux, TPM2_CC_Unseal), TPM_PCR_TRIES_MAX);
    assert_ptr_equal(got, POISON);
}

static bool unseal_for_sweep(void *arg, struct error *err)
{
    struct fixture *f = ((void **)arg)[0];
    const struct node_key_sealed sealed = blob_sealed(((void **)arg)[1]);
    CLEANUP(secret_free_at) struct secret *got = nullptr;
    CLEANUP(buf_done) struct buf imported;
    buf_init(&imported, 1024);
    struct blob *blob = ((void **)arg)[1];
    return node_key_import(f->tpm, buf_slice(&blob->object_public), buf_slice(&blob->duplicate),
                           buf_slice(&blob->seed), &imported, err) &&
           node_key_unseal(f->tpm, &sealed, &f->counter, &got, err);
}

static void survives_lack_of_memory(void **state)
{
    struct fixture *f = *state;
    CLEANUP(blob_done) struct blob blob;
    batch(f);
    blob_make(f->tpm, &f->counter, "sha256:7", 0, &blob);
    blob_import(f->tpm, &blob);
    void *both[] = {f, &blob};
    testlib_allocation_sweep(unseal_for_sweep, both);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_before, fixture_after)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(opens_here_and_again),
        TEST(key_does_not_pass_in_clear),
        TEST(opens_whatever_was_loaded_before),
        TEST(stays_closed_in_another_boot_state),
        TEST(stays_closed_once_retired),
        TEST(stays_closed_in_another_tpm),
        TEST(stays_closed_without_the_counters_auth),
        TEST(stays_closed_under_another_policy),
        TEST(refuses_malformed_blobs),
        TEST(tries_again_when_pcrs_move),
        TEST(gives_up_when_pcrs_keep_moving),
        TEST(survives_lack_of_memory),
    };
    return cmocka_run_group_tests(tests, fixture_up, fixture_down);
}
