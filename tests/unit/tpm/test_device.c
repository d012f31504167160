/* lib/tpm/device.c, pcr.c: settings, batches, what the TPM tells about itself. */
#include "unit/tpm/fixture.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static void refuses_settings(void **state)
{
    (void)state;
    struct error err = {0};
    char too_long[160];
    (void)snprintf(too_long, sizeof too_long, "swtpm:path=/%0*d", 120, 0);
    const char *const bad[] = {
        nullptr,           "",
        "/dev/tpmrm0",     "mssim:host=localhost",
        "device:tpmrm0",   "swtpm:path=relative",
        "swtpm:port=2321", too_long,
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct tpm *tpm = POISON;
        assert_fails(tpm_new(&(struct tpm_settings){.tcti = bad[i]}, &tpm, &err), ERROR_INVALID);
        assert_ptr_equal(tpm, POISON);
    }
}

static bool make(void *arg, struct error *err)
{
    const struct fixture *f = arg;
    CLEANUP(tpm_free_at) struct tpm *tpm = nullptr;
    return tpm_new(&(struct tpm_settings){.tcti = f->chip.tcti}, &tpm, err);
}

static void survives_lack_of_memory(void **state)
{
    testlib_allocation_sweep(make, *state);
}

static void says_that_there_is_none(void **state)
{
    (void)state;
    struct error err = {0};
    CLEANUP(tpm_free_at) struct tpm *tpm = nullptr;
    assert_ok(tpm_new(&(struct tpm_settings){.tcti = "swtpm:path=/nowhere/tpm"}, &tpm, &err));
    uint64_t start = clock_boot_ms();
    assert_fails(tpm_begin(tpm, start + 5000, &err), ERROR_UNAVAILABLE);
    assert_error_contains("is swtpm running?");
    assert_error_contains("/nowhere/tpm");
    assert_true(clock_boot_ms() - start < 1000);
    tpm = tpm_free(tpm);
    assert_ok(tpm_new(&(struct tpm_settings){.tcti = "device:/dev/no-tpm"}, &tpm, &err));
    assert_fails(tpm_begin(tpm, soon(), &err), ERROR_UNAVAILABLE);
    assert_error_contains("this machine shows no TPM");
}

static void waits_for_one_that_refuses(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    char path[SWTPM_PATH_MAX];
    char tcti[SWTPM_PATH_MAX + 16];
    (void)snprintf(path, sizeof path, "%s/dead", f->folder);
    (void)snprintf(tcti, sizeof tcti, "swtpm:path=%s", path);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(close(fd), 0); /* the file stays, nobody listens */
    CLEANUP(tpm_free_at) struct tpm *tpm = nullptr;
    assert_ok(tpm_new(&(struct tpm_settings){.tcti = tcti}, &tpm, &err));
    uint64_t start = clock_boot_ms();
    assert_fails(tpm_begin(tpm, start + 200, &err), ERROR_UNAVAILABLE);
    assert_error_contains("busy or not running");
    uint64_t took = clock_boot_ms() - start;
    assert_true(took >= 100 && took < 5000);
}

/* swtpm serves one connection at a time: who holds one makes all others wait. */
static void gives_up_on_a_busy_one(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", f->chip.socket);
    int holder = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_true(holder >= 0);
    assert_int_equal(connect(holder, (struct sockaddr *)&address, sizeof address), 0);
    CLEANUP(tpm_free_at) struct tpm *tpm = nullptr;
    assert_ok(tpm_new(&(struct tpm_settings){.tcti = f->chip.tcti}, &tpm, &err));
    uint64_t start = clock_boot_ms();
    assert_fails(tpm_begin(tpm, start + 300, &err), ERROR_UNAVAILABLE);
    assert_error_contains("used by another program");
    assert_int_equal(err.domain, ERROR_DOMAIN_TPM);
    uint64_t took = clock_boot_ms() - start;
    assert_true(took >= 290 && took < 5000);
    assert_int_equal(close(holder), 0);
    assert_ok(tpm_begin(tpm, soon(), &err));
}

static void wants_a_batch(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    struct tpm_time time = {0};
    assert_fails(tpm_time(f->tpm, &time, &err), ERROR_INTERNAL);
    tpm_end(f->tpm);
    batch(f);
    assert_fails(tpm_begin(f->tpm, soon(), &err), ERROR_CONFLICT);
    assert_ok(tpm_time(f->tpm, &time, &err));
}

static void tells_facts(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    struct tpm_facts facts = {0};
    batch(f);
    assert_ok(tpm_facts(f->tpm, &facts, &err));
    assert_string_equal(facts.manufacturer, "IBM");
    assert_true(facts.firmware_version != 0);
    assert_int_equal(facts.bank_count, 2);
    assert_int_equal(facts.banks[0], TPM2_ALG_SHA256);
    assert_int_equal(facts.banks[1], TPM2_ALG_SHA384);
}

static void counts_reboots(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    struct tpm_time before = {0};
    struct tpm_time after = {0};
    batch(f);
    assert_ok(tpm_time(f->tpm, &before, &err));
    tpm_end(f->tpm);
    assert_ok(swtpm_stop(&f->chip, true, &err));
    assert_ok(swtpm_start(&f->chip, &err));
    batch(f);
    assert_ok(tpm_time(f->tpm, &after, &err));
    tpm_end(f->tpm);
    assert_int_equal(after.reset_count, before.reset_count + 1);
    assert_true(after.safe);
    assert_true(after.clock_ms >= before.clock_ms);
    /* The power is cut: another reset, and the clock says so. */
    assert_ok(swtpm_stop(&f->chip, false, &err));
    assert_ok(swtpm_start(&f->chip, &err));
    assert_ok(swtpm_extend_boot(&f->chip, &err));
    batch(f);
    assert_ok(tpm_time(f->tpm, &after, &err));
    assert_int_equal(after.reset_count, before.reset_count + 2);
    assert_false(after.safe);
}

static void reads_pcrs(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    struct pcr_values values = {0};
    batch(f);
    /* More than the TPM gives at a time, over two banks in an order of our own. */
    struct pcr_selection all =
        select_pcrs("sha384:0,1,2,3,4,5,6,7,8,9,10,23+sha256:0,1,2,3,4,5,6,7,8,9,10,16");
    assert_ok(tpm_pcr_read(f->tpm, &all, &values, &err));
    assert_int_equal(values.count, 24);
    for (unsigned pcr = 0; pcr <= 10; pcr++) {
        /* PCR = H(zeros ‖ H(text)), see swtpm_extend_boot. */
        uint8_t chain[64] = {0};
        char text[32];
        size_t len = 0;
        (void)snprintf(text, sizeof text, "boot state of PCR %u", pcr);
        assert_int_equal(
            EVP_Q_digest(nullptr, "SHA256", nullptr, text, strlen(text), chain + 32, &len), 1);
        uint8_t expected[32] = {0};
        if (pcr <= 9)
            assert_int_equal(
                EVP_Q_digest(nullptr, "SHA256", nullptr, chain, sizeof chain, expected, &len), 1);
        const TPM2B_DIGEST *value = pcr_values_get(&values, TPM2_ALG_SHA256, pcr);
        assert_non_null(value);
        assert_int_equal(value->size, 32);
        assert_memory_equal(value->buffer, expected, 32);
        assert_int_equal(pcr_values_get(&values, TPM2_ALG_SHA384, pcr)->size, 48);
    }
}

static void refuses_banks_that_are_not_there(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    struct pcr_values values = {.count = 77};
    batch(f);
    struct pcr_selection sha1 = select_pcrs("sha256:0+sha1:0");
    assert_fails(tpm_pcr_read(f->tpm, &sha1, &values, &err), ERROR_INVALID);
    assert_error_contains("sha1");
    assert_int_equal(values.count, 77);
}

static void reads_again_when_pcrs_move(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    struct pcr_values values = {.count = 77};
    struct pcr_selection nine = select_pcrs("sha256:0,1,2,3,4,5,6,7,8,9");
    batch(f);
    assert_ok(tpm_mux_inject(f->mux,
                             &(struct tpm_mux_fault){.command = TPM2_CC_PCR_Read,
                                                     .skip = 1,
                                                     .count = 1,
                                                     .action = TPM_MUX_EXTEND,
                                                     .value = 10},
                             &err));
    assert_ok(tpm_pcr_read(f->tpm, &nine, &values, &err));
    assert_int_equal(values.count, 10);
    assert_int_equal(tpm_mux_count(f->mux, TPM2_CC_PCR_Read), 4);
    tpm_mux_clear(f->mux);
    values.count = 77;
    assert_ok(tpm_mux_inject(
        f->mux,
        &(struct tpm_mux_fault){.command = TPM2_CC_PCR_Read, .action = TPM_MUX_EXTEND, .value = 10},
        &err));
    assert_fails(tpm_pcr_read(f->tpm, &nine, &values, &err), ERROR_UNAVAILABLE);
    assert_error_contains("20 times");
    assert_int_equal(values.count, 77);
    assert_int_equal(tpm_mux_count(f->mux, TPM2_CC_PCR_Read), 2 * TPM_PCR_TRIES_MAX);
}

/* What a program that died left loaded would fill the three slots for ever. */
static void clears_what_others_left(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    batch(f);
    CLEANUP(buf_done) struct buf area;
    buf_init(&area, 1024);
    assert_ok(tpm_counter_read(f->tpm, &f->counter, &(uint64_t){0}, &err));
    assert_ok(tpm_key_public(f->tpm, TPM_KEY_AK, &area, &err));
    /* The next command is lost; so is the batch, with an EK, an AK and a session loaded. */
    assert_ok(tpm_mux_inject(f->mux, &(struct tpm_mux_fault){.action = TPM_MUX_CUT_BEFORE}, &err));
    assert_fails(tpm_time(f->tpm, &(struct tpm_time){0}, &err), ERROR_UNAVAILABLE);
    tpm_end(f->tpm);
    tpm_mux_clear(f->mux);
    struct swtpm_loaded loaded = {0};
    assert_ok(swtpm_loaded(&f->chip, &loaded, &err));
    assert_int_equal(loaded.objects, 2);
    assert_int_equal(loaded.sessions, 1);
    batch(f);
    assert_ok(swtpm_loaded(&f->chip, &loaded, &err));
    assert_int_equal(loaded.objects, 0);
    assert_int_equal(loaded.sessions, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_before, fixture_after)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(refuses_settings),
        TEST(survives_lack_of_memory),
        TEST(says_that_there_is_none),
        TEST(waits_for_one_that_refuses),
        TEST(gives_up_on_a_busy_one),
        TEST(wants_a_batch),
        TEST(tells_facts),
        TEST(counts_reboots),
        TEST(reads_pcrs),
        TEST(refuses_banks_that_are_not_there),
        TEST(reads_again_when_pcrs_move),
        TEST(clears_what_others_left),
    };
    return cmocka_run_group_tests(tests, fixture_up, fixture_down);
}
