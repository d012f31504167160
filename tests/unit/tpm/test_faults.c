/* What goes wrong on the way: answers that ask to try again, commands that fail one by one, lost
 * connections, silence, strangers. After each, nothing is left in the TPM and the next batch works. */
#include "unit/tpm/blob.h"

#include "tpmwire/credential.h"
#include "tpmwire/public.h"

#include <pthread.h>
#include <stdio.h>

static void asks_again_when_told_to(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    static const uint32_t codes[] = {TPM2_RC_RETRY, TPM2_RC_YIELDED, TPM2_RC_TESTING};
    static const uint32_t commands[] = {TPM2_CC_NV_Read, TPM2_CC_StartAuthSession,
                                        TPM2_CC_CreatePrimary, TPM2_CC_ReadClock};
    for (size_t c = 0; c < ARRAY_LEN(codes); c++) {
        for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
            tpm_mux_clear(f->mux);
            assert_ok(tpm_mux_inject(f->mux,
                                     &(struct tpm_mux_fault){.command = commands[i],
                                                             .count = 7,
                                                             .action = TPM_MUX_RESPOND,
                                                             .value = codes[c]},
                                     &err));
            batch(f);
            struct tpm_time time = {0};
            uint64_t value = 0;
            assert_ok(tpm_counter_read(f->tpm, &f->counter, &value, &err));
            assert_ok(tpm_time(f->tpm, &time, &err));
            tpm_end(f->tpm);
            assert_int_equal(tpm_mux_count(f->mux, commands[i]), 8);
        }
    }
}

static void does_not_ask_for_ever(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    struct tpm_time time = {.clock_ms = 77};
    assert_ok(tpm_mux_inject(f->mux,
                             &(struct tpm_mux_fault){.command = TPM2_CC_ReadClock,
                                                     .action = TPM_MUX_RESPOND,
                                                     .value = TPM2_RC_RETRY},
                             &err));
    batch(f);
    assert_fails(tpm_time(f->tpm, &time, &err), ERROR_UNAVAILABLE);
    assert_error_contains("kept asking to try again");
    assert_int_equal(tpm_mux_count(f->mux, TPM2_CC_ReadClock), TPM_RETRIES_MAX + 1);
    assert_fails(tpm_time(f->tpm, &time, &err), ERROR_UNAVAILABLE);
    assert_error_contains("earlier in this batch");
    tpm_end(f->tpm);
    /* And not beyond the deadline. */
    uint64_t start = clock_boot_ms();
    assert_ok(tpm_begin(f->tpm, start + 150, &err));
    assert_fails(tpm_time(f->tpm, &time, &err), ERROR_UNAVAILABLE);
    assert_error_contains("did not answer in time");
    assert_true(clock_boot_ms() - start < 3000);
    assert_int_equal(time.clock_ms, 77);
}

static void does_not_wait_beyond_the_deadline(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    struct tpm_time time = {.clock_ms = 77};
    assert_ok(tpm_mux_inject(
        f->mux,
        &(struct tpm_mux_fault){
            .command = TPM2_CC_ReadClock, .count = 1, .action = TPM_MUX_DELAY, .value = 600},
        &err));
    uint64_t start = clock_boot_ms();
    assert_ok(tpm_begin(f->tpm, start + 200, &err));
    assert_fails(tpm_time(f->tpm, &time, &err), ERROR_UNAVAILABLE);
    assert_error_contains("did not answer in time");
    uint64_t took = clock_boot_ms() - start;
    assert_true(took >= 190 && took < 550);
    assert_int_equal(time.clock_ms, 77);
    tpm_end(f->tpm);
    batch(f); /* waits until the multiplexer is done with the old command */
    assert_ok(tpm_time(f->tpm, &time, &err));
}

static void names_lockout(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    uint64_t value = 77;
    assert_ok(tpm_mux_inject(f->mux,
                             &(struct tpm_mux_fault){.command = TPM2_CC_NV_Read,
                                                     .action = TPM_MUX_RESPOND,
                                                     .value = TPM2_RC_LOCKOUT},
                             &err));
    batch(f);
    assert_fails(tpm_counter_read(f->tpm, &f->counter, &value, &err), ERROR_UNAVAILABLE);
    assert_error_contains("TPM_RC_LOCKOUT (0x921)");
    assert_error_contains("tpm2_dictionarylockout --clear-lockout");
    assert_int_equal(err.code, TPM2_RC_LOCKOUT);
    assert_int_equal(value, 77);
}

static void maps_codes_to_classes(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    static const struct {
        uint32_t code;
        enum error_class class;
        const char *name;
    } cases[] = {
        {TPM2_RC_INITIALIZE, ERROR_UNAVAILABLE, "TPM_RC_INITIALIZE (0x100)"},
        {TPM2_RC_FAILURE, ERROR_UNAVAILABLE, "TPM_RC_FAILURE (0x101)"},
        {TPM2_RC_COMMAND_CODE, ERROR_UNIMPLEMENTED, "TPM_RC_COMMAND_CODE (0x143)"},
        {TPM2_RC_NV_SPACE, ERROR_EXHAUSTED, "TPM_RC_NV_SPACE (0x14b)"},
        {TPM2_RC_SESSION_MEMORY, ERROR_UNAVAILABLE, "TPM_RC_SESSION_MEMORY (0x903)"},
        {TPM2_RC_VALUE + TPM2_RC_P + TPM2_RC_2, ERROR_INVALID, "TPM_RC_VALUE (0x2c4)"},
        {TPM2_RC_HANDLE + TPM2_RC_1, ERROR_NOT_FOUND, "TPM_RC_HANDLE (0x18b)"},
        {TPM2_RC_NV_RATE, ERROR_UNAVAILABLE, "TPM_RC_NV_RATE (0x920)"},
        {0x17f, ERROR_INTERNAL, "response code (0x17f)"},
        /* The kernel's resource manager adds its layer to a TPM's code. */
        {TSS2_RESMGR_TPM_RC_LAYER | TPM2_RC_COMMAND_CODE, ERROR_UNIMPLEMENTED,
         "TPM_RC_COMMAND_CODE"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct tpm_time time = {.clock_ms = 77};
        tpm_mux_clear(f->mux);
        assert_ok(tpm_mux_inject(f->mux,
                                 &(struct tpm_mux_fault){.command = TPM2_CC_ReadClock,
                                                         .action = TPM_MUX_RESPOND,
                                                         .value = cases[i].code},
                                 &err));
        batch(f);
        assert_fails(tpm_time(f->tpm, &time, &err), cases[i].class);
        assert_error_contains(cases[i].name);
        assert_error_contains("read the TPM's clock");
        assert_int_equal(err.domain, ERROR_DOMAIN_TPM);
        assert_int_equal(err.code, cases[i].code);
        assert_int_equal(time.clock_ms, 77);
        tpm_end(f->tpm);
    }
}

static void names_a_missing_command(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    struct tpm_facts facts = {.bank_count = 77};
    batch(f);
    /* Flips the last bit of the capability: another command's attributes. The sweep of tpm_begin is
     * over; banks, three properties and eight commands pass. */
    assert_ok(tpm_mux_inject(
        f->mux,
        &(struct tpm_mux_fault){
            .command = TPM2_CC_GetCapability, .skip = 12, .count = 1, .action = TPM_MUX_GARBLE},
        &err));
    assert_fails(tpm_facts(f->tpm, &facts, &err), ERROR_UNIMPLEMENTED);
    assert_error_contains("this TPM has no TPM2_NV_Read");
    assert_int_equal(facts.bank_count, 77);
}

/* Somebody on the bus changes an answer: the session's HMAC does not fit. */
static void notices_a_changed_answer(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    uint64_t value = 77;
    batch(f);
    assert_ok(tpm_mux_inject(
        f->mux,
        &(struct tpm_mux_fault){.command = TPM2_CC_NV_Read, .count = 1, .action = TPM_MUX_GARBLE},
        &err));
    assert_fails(tpm_counter_read(f->tpm, &f->counter, &value, &err), ERROR_DENIED);
    assert_int_equal(value, 77);
}

/* ── Every command of a whole batch, once ────────────────────────────────────────────────────── */

struct work {
    struct fixture *f;
    struct blob blob;
    struct buf credential, credential_seed;
};

/* All that a node does: hello, evidence, counter, node key. */
static bool all_of_it(struct tpm *tpm, const struct work *work, struct error *err)
{
    const struct tpm_counter *counter = &work->f->counter;
    const struct pcr_selection pcrs = select_pcrs("sha256:0,7");
    const struct node_key_sealed sealed = blob_sealed(&work->blob);
    CLEANUP(buf_done) struct buf wire;
    buf_init(&wire, 16 * 1024);
    CLEANUP(ek_certificates_done) struct ek_certificates found;
    ek_certificates_init(&found);
    CLEANUP(tpm_attested_done) struct tpm_attested attested;
    tpm_attested_init(&attested);
    CLEANUP(secret_free_at) struct secret *opened = nullptr;
    CLEANUP(secret_free_at) struct secret *key = nullptr;
    struct tpm_facts facts = {0};
    struct pcr_values values = {0};
    uint64_t value = 0;
    for (size_t i = 0; i < TPM_KEY_COUNT; i++) {
        if (!tpm_key_public(tpm, (enum tpm_key)i, &wire, err))
            return false;
    }
    return tpm_facts(tpm, &facts, err) && tpm_ek_certificates(tpm, &found, err) &&
           tpm_counter_make(tpm, counter, err) && tpm_counter_public(tpm, counter, &wire, err) &&
           tpm_activate(tpm, buf_slice(&work->credential), buf_slice(&work->credential_seed),
                        &opened, err) &&
           tpm_quote(tpm, &pcrs, slice_str("extra"), &attested, &values, err) &&
           tpm_certify(tpm, TPM_KEY_WRAP, slice_str("extra"), &attested, err) &&
           tpm_certify(tpm, TPM_KEY_REQ, slice_str("extra"), &attested, err) &&
           tpm_counter_certify(tpm, counter, slice_str("extra"), &attested, err) &&
           node_key_import(tpm, buf_slice(&work->blob.object_public),
                           buf_slice(&work->blob.duplicate), buf_slice(&work->blob.seed), &wire,
                           err) &&
           node_key_unseal(tpm, &sealed, counter, &key, err) &&
           tpm_counter_raise(tpm, counter, 0, &value, err) &&
           tpm_sign(tpm, slice_str("request"), &wire, err);
}

static void work_up(struct fixture *f, struct work *ret)
{
    struct error err = {0};
    *ret = (struct work){.f = f};
    buf_init(&ret->credential, 1024);
    buf_init(&ret->credential_seed, 1024);
    TPM2B_PUBLIC ek = {0};
    TPM2B_PUBLIC ak = {0};
    TPM2B_NAME name = {0};
    CLEANUP(buf_done) struct buf wire;
    buf_init(&wire, PUBLIC_AREA_WIRE_MAX);
    CLEANUP(secret_free_at) struct secret *credential = nullptr;
    batch(f);
    assert_ok(tpm_key_public(f->tpm, TPM_KEY_EK, &wire, &err));
    assert_ok(public_area_parse(buf_slice(&wire), &ek, &err));
    buf_clear(&wire);
    assert_ok(tpm_key_public(f->tpm, TPM_KEY_AK, &wire, &err));
    assert_ok(public_area_parse(buf_slice(&wire), &ak, &err));
    assert_ok(public_area_name(&ak.publicArea, &name, &err));
    assert_ok(secret_random(32, &credential, &err));
    assert_ok(credential_make(&ek.publicArea, &name, credential, &ret->credential,
                              &ret->credential_seed, &err));
    blob_make(f->tpm, &f->counter, "sha256:0,7", 0, &ret->blob);
    blob_import(f->tpm, &ret->blob);
    tpm_end(f->tpm);
}

static void work_done(struct work *work)
{
    blob_done(&work->blob);
    buf_done(&work->credential);
    buf_done(&work->credential_seed);
}

static void nothing_is_loaded(struct fixture *f)
{
    struct error err = {0};
    struct swtpm_loaded loaded = {0};
    assert_ok(swtpm_loaded(&f->chip, &loaded, &err));
    assert_int_equal(loaded.objects, 0);
    assert_int_equal(loaded.sessions, 0);
}

/* Fails the k-th command for every k. `whole`: the batch must fail (a flush that fails need not). */
static void fail_each(struct fixture *f, struct work *work, enum tpm_mux_action action,
                      uint32_t value, bool connection)
{
    struct error err = {0};
    tpm_mux_clear(f->mux);
    batch(f);
    assert_ok(all_of_it(f->tpm, work, &err));
    tpm_end(f->tpm);
    unsigned commands = tpm_mux_count(f->mux, 0);
    assert_in_range(commands, 50, 200);
    unsigned failed = 0;
    for (unsigned k = 0; k < commands; k++) {
        tpm_mux_clear(f->mux);
        assert_ok(tpm_mux_inject(
            f->mux,
            &(struct tpm_mux_fault){.skip = k, .count = 1, .action = action, .value = value},
            &err));
        err = (struct error){0};
        bool ok = tpm_begin(f->tpm, soon(), &err) && all_of_it(f->tpm, work, &err);
        tpm_end(f->tpm);
        struct tpm_mux_record record = {0};
        bool struck = tpm_mux_record(f->mux, k, &record) && record.struck;
        assert_true(struck);
        if (!ok) {
            failed++;
            assert_int_not_equal(err.class, ERROR_NONE);
            assert_int_not_equal(err.message[0], '\0');
        } else {
            assert_int_equal(record.command, TPM2_CC_FlushContext);
        }
        if (connection) { /* the TPM was out of reach: the next batch clears what stayed */
            tpm_mux_clear(f->mux);
            batch(f);
            tpm_end(f->tpm);
        }
        nothing_is_loaded(f);
    }
    assert_true(failed > commands / 2);
    tpm_mux_clear(f->mux);
    batch(f);
    assert_ok(all_of_it(f->tpm, work, &err));
    tpm_end(f->tpm);
    print_message("%u commands, each failed once: %u errors\n", commands, failed);
}

static void each_command_refused(void **state)
{
    struct work work;
    work_up(*state, &work);
    fail_each(*state, &work, TPM_MUX_RESPOND, TPM2_RC_MEMORY, false);
    work_done(&work);
}

static void each_connection_cut_before(void **state)
{
    struct work work;
    work_up(*state, &work);
    fail_each(*state, &work, TPM_MUX_CUT_BEFORE, 0, true);
    work_done(&work);
}

static void each_answer_lost(void **state)
{
    struct work work;
    work_up(*state, &work);
    fail_each(*state, &work, TPM_MUX_CUT_AFTER, 0, true);
    work_done(&work);
}

/* ── Several programs ────────────────────────────────────────────────────────────────────────── */

struct program {
    pthread_t thread;
    const struct work *work;
    struct tpm *tpm;
    struct error err;
    bool ok;
};

static void *program_main(void *arg)
{
    struct program *program = arg;
    program->ok = true;
    for (unsigned n = 0; program->ok && n < 3; n++) {
        program->ok = tpm_begin(program->tpm, soon(), &program->err) &&
                      all_of_it(program->tpm, program->work, &program->err);
        tpm_end(program->tpm);
    }
    return nullptr;
}

/* A batch is whole: three agents and tpm2-tools, with more keys among them than there are slots,
 * all through one multiplexer and all successful. */
static void several_programs_take_turns(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    struct work work;
    struct program program[3] = {0};
    char tcti[SWTPM_PATH_MAX + 16];
    (void)snprintf(tcti, sizeof tcti, "swtpm:path=%s/mux", f->folder);
    work_up(f, &work);
    for (size_t i = 0; i < ARRAY_LEN(program); i++) {
        program[i].work = &work;
        assert_ok(tpm_new(&(struct tpm_settings){.tcti = tcti}, &program[i].tpm, &err));
        assert_int_equal(pthread_create(&program[i].thread, nullptr, program_main, &program[i]), 0);
    }
    char line[512];
    (void)snprintf(line, sizeof line,
                   "cd %s && export TPM2TOOLS_TCTI=%s TSS2_LOG=all+NONE && for i in 1 2 3; do "
                   "tpm2_createprimary -Q -C o -G ecc -c p.ctx && tpm2_flushcontext -t && "
                   "tpm2_getrandom 4 -o rnd || exit 1; done",
                   f->folder, tcti);
    int status = shell(line);
    for (size_t i = 0; i < ARRAY_LEN(program); i++) {
        assert_int_equal(pthread_join(program[i].thread, nullptr), 0);
        assert_ok(program[i].ok || (err = program[i].err, false));
        program[i].tpm = tpm_free(program[i].tpm);
    }
    assert_int_equal(status, 0);
    work_done(&work);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_before, fixture_after)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(asks_again_when_told_to),
        TEST(does_not_ask_for_ever),
        TEST(does_not_wait_beyond_the_deadline),
        TEST(names_lockout),
        TEST(maps_codes_to_classes),
        TEST(names_a_missing_command),
        TEST(notices_a_changed_answer),
        TEST(each_command_refused),
        TEST(each_connection_cut_before),
        TEST(each_answer_lost),
        TEST(several_programs_take_turns),
    };
    return cmocka_run_group_tests(tests, fixture_up, fixture_down);
}
