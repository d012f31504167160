/* lib/tpm/prove.c: credentials, quotes, certifications; judged by tpmwire's verifier. */
#include "unit/tpm/fixture.h"

#include "tpmwire/attested.h"
#include "tpmwire/credential.h"
#include "tpmwire/nv.h"
#include "tpmwire/public.h"
#include "tpmwire/signature.h"
#include "tpmwire/template.h"

#include <stdio.h>
#include <string.h>

static const char extra[] = "thirty-two bytes of a digest ...";

static void area_of(struct tpm *tpm, enum tpm_key key, TPM2B_PUBLIC *ret, TPM2B_NAME *ret_name)
{
    struct error err = {0};
    CLEANUP(buf_done) struct buf wire;
    buf_init(&wire, PUBLIC_AREA_WIRE_MAX);
    assert_ok(tpm_key_public(tpm, key, &wire, &err));
    assert_ok(public_area_parse(buf_slice(&wire), ret, &err));
    assert_ok(public_area_name(&ret->publicArea, ret_name, &err));
}

/* What every structure must be: by this AK, a primary of the endorsement hierarchy, with our data. */
static void check_attested(struct tpm *tpm, const struct tpm_attested *attested,
                           TPMI_ST_ATTEST type, TPMS_ATTEST *ret)
{
    struct error err = {0};
    TPM2B_PUBLIC ak = {0};
    TPM2B_NAME name = {0};
    TPM2B_NAME qualified = {0};
    TPMT_SIGNATURE signature = {0};
    area_of(tpm, TPM_KEY_AK, &ak, &name);
    assert_ok(tpm_signature_parse(buf_slice(&attested->signature), &signature, &err));
    assert_ok(tpm_signature_verify(&ak.publicArea, &signature, buf_slice(&attested->attest), &err));
    assert_ok(attested_parse(buf_slice(&attested->attest), type, ret, &err));
    assert_ok(name_qualified_primary(TPM2_RH_ENDORSEMENT, &name, &qualified, &err));
    assert_true(name_equal(&ret->qualifiedSigner, &qualified));
    assert_int_equal(ret->extraData.size, strlen(extra));
    assert_memory_equal(ret->extraData.buffer, extra, strlen(extra));
}

static void opens_a_credential(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    TPM2B_PUBLIC ek = {0};
    TPM2B_PUBLIC ak = {0};
    TPM2B_NAME ek_name = {0};
    TPM2B_NAME ak_name = {0};
    CLEANUP(secret_free_at) struct secret *sent = nullptr;
    CLEANUP(secret_free_at) struct secret *got = nullptr;
    CLEANUP(buf_done) struct buf blob;
    CLEANUP(buf_done) struct buf seed;
    buf_init(&blob, 1024);
    buf_init(&seed, 1024);
    batch(f);
    area_of(f->tpm, TPM_KEY_EK, &ek, &ek_name);
    area_of(f->tpm, TPM_KEY_AK, &ak, &ak_name);
    assert_ok(secret_random(32, &sent, &err));
    assert_ok(credential_make(&ek.publicArea, &ak_name, sent, &blob, &seed, &err));
    tpm_mux_watch(f->mux, secret_slice(sent));
    assert_ok(tpm_activate(f->tpm, buf_slice(&blob), buf_slice(&seed), &got, &err));
    assert_true(secret_equal(sent, got));
    assert_int_equal(tpm_mux_seen(f->mux), 0);
}

static void refuses_a_credential_for_another_key(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    TPM2B_PUBLIC ek = {0};
    TPM2B_PUBLIC req = {0};
    TPM2B_NAME ek_name = {0};
    TPM2B_NAME req_name = {0};
    CLEANUP(secret_free_at) struct secret *sent = nullptr;
    CLEANUP(buf_done) struct buf blob;
    CLEANUP(buf_done) struct buf seed;
    buf_init(&blob, 1024);
    buf_init(&seed, 1024);
    batch(f);
    area_of(f->tpm, TPM_KEY_EK, &ek, &ek_name);
    area_of(f->tpm, TPM_KEY_REQ, &req, &req_name);
    assert_ok(secret_random(32, &sent, &err));
    assert_ok(credential_make(&ek.publicArea, &req_name, sent, &blob, &seed, &err));
    struct secret *got = POISON;
    assert_fails(tpm_activate(f->tpm, buf_slice(&blob), buf_slice(&seed), &got, &err),
                 ERROR_DENIED);
    assert_error_contains("TPM_RC_INTEGRITY");
    assert_ptr_equal(got, POISON);
}

static void refuses_a_credential_for_another_tpm(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    struct swtpm chip = {0};
    struct tpm *other = nullptr;
    other_up(f, "other", &chip, &other);
    TPM2B_PUBLIC ek = {0};
    TPM2B_PUBLIC ak = {0};
    TPM2B_NAME name = {0};
    CLEANUP(secret_free_at) struct secret *sent = nullptr;
    CLEANUP(buf_done) struct buf blob;
    CLEANUP(buf_done) struct buf seed;
    buf_init(&blob, 1024);
    buf_init(&seed, 1024);
    assert_ok(tpm_begin(other, soon(), &err));
    area_of(other, TPM_KEY_EK, &ek, &name);
    other_down(&chip, other);
    batch(f);
    area_of(f->tpm, TPM_KEY_AK, &ak, &name);
    assert_ok(secret_random(32, &sent, &err));
    assert_ok(credential_make(&ek.publicArea, &name, sent, &blob, &seed, &err));
    struct secret *got = POISON;
    assert_fails(tpm_activate(f->tpm, buf_slice(&blob), buf_slice(&seed), &got, &err),
                 ERROR_DENIED);
    assert_int_equal(err.domain, ERROR_DOMAIN_TPM);
    assert_int_not_equal(err.code, 0);
    assert_ptr_equal(got, POISON);
    assert_fails(tpm_activate(f->tpm, slice_str("nonsense"), buf_slice(&seed), &got, &err),
                 ERROR_INVALID);
}

/* A TPM whose only certificate is for a P-384 EK of the high range: authorized by the empty auth, not
 * by policy, and every session is salted to it. */
static void works_with_a_high_range_ek(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    struct swtpm chip = {0};
    struct tpm *tpm = nullptr;
    TPM2B_PUBLIC ek = {0};
    TPM2B_PUBLIC ak = {0};
    TPM2B_NAME name = {0};
    CLEANUP(secret_free_at) struct secret *sent = nullptr;
    CLEANUP(secret_free_at) struct secret *got = nullptr;
    CLEANUP(buf_done) struct buf blob;
    CLEANUP(buf_done) struct buf seed;
    CLEANUP(ek_certificates_done) struct ek_certificates found;
    buf_init(&blob, 1024);
    buf_init(&seed, 1024);
    ek_certificates_init(&found);
    other_up(f, "p384", &chip, &tpm);
    char line[256];
    (void)snprintf(line, sizeof line, "TSS2_LOG=all+NONE tpm2_nvundefine -Q -T %s -C p 0x01c00002",
                   chip.tcti);
    assert_int_equal(shell(line), 0);
    assert_ok(tpm_begin(tpm, soon(), &err));
    assert_ok(tpm_ek_certificates(tpm, &found, &err));
    assert_true(found.leaf.len > 0);
    area_of(tpm, TPM_KEY_EK, &ek, &name);
    assert_ok(template_match(&ek.publicArea, TEMPLATE_EK_H3_ECC_P384, &err));
    area_of(tpm, TPM_KEY_AK, &ak, &name);
    assert_ok(secret_random(32, &sent, &err));
    assert_ok(credential_make(&ek.publicArea, &name, sent, &blob, &seed, &err));
    assert_ok(tpm_activate(tpm, buf_slice(&blob), buf_slice(&seed), &got, &err));
    assert_true(secret_equal(sent, got));
    assert_ok(tpm_counter_make(tpm, &f->counter, &err));
    tpm_end(tpm);
    struct swtpm_loaded loaded = {0};
    assert_ok(swtpm_loaded(&chip, &loaded, &err));
    assert_int_equal(loaded.objects + loaded.sessions, 0);
    other_down(&chip, tpm);
}

static void quotes_what_it_reads(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    CLEANUP(tpm_attested_done) struct tpm_attested quote;
    tpm_attested_init(&quote);
    struct pcr_values values = {0};
    struct pcr_selection both = select_pcrs("sha256:0,1,2,3,4,5,6,7,8,9+sha384:0,7");
    batch(f);
    assert_ok(tpm_quote(f->tpm, &both, slice_str(extra), &quote, &values, &err));
    TPMS_ATTEST attest = {0};
    check_attested(f->tpm, &quote, TPM2_ST_ATTEST_QUOTE, &attest);
    TPM2B_DIGEST digest = {0};
    assert_ok(pcr_composite_digest(TPM2_ALG_SHA256, &both, &values, &digest, &err));
    assert_int_equal(digest.size, attest.attested.quote.pcrDigest.size);
    assert_memory_equal(digest.buffer, attest.attested.quote.pcrDigest.buffer, digest.size);
    struct tpm_time now = {0};
    assert_ok(tpm_time(f->tpm, &now, &err));
    /* In the endorsement hierarchy the counts are plain. */
    assert_int_equal(attest.clockInfo.resetCount, now.reset_count);
    assert_int_equal(attest.clockInfo.restartCount, now.restart_count);
    struct tpm_facts facts = {0};
    assert_ok(tpm_facts(f->tpm, &facts, &err));
    assert_true(attest.firmwareVersion == facts.firmware_version);
}

static void quotes_again_when_a_pcr_moved(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    CLEANUP(tpm_attested_done) struct tpm_attested quote;
    tpm_attested_init(&quote);
    struct pcr_values values = {0};
    struct pcr_selection some = select_pcrs("sha256:0,10");
    batch(f);
    /* Between the quote and the reading beside it, twice. */
    assert_ok(tpm_mux_inject(
        f->mux,
        &(struct tpm_mux_fault){
            .command = TPM2_CC_PCR_Read, .count = 2, .action = TPM_MUX_EXTEND, .value = 10},
        &err));
    assert_ok(tpm_quote(f->tpm, &some, slice_str(extra), &quote, &values, &err));
    assert_int_equal(tpm_mux_count(f->mux, TPM2_CC_Quote), 3);
    TPMS_ATTEST attest = {0};
    check_attested(f->tpm, &quote, TPM2_ST_ATTEST_QUOTE, &attest);
    tpm_mux_clear(f->mux);
    assert_ok(tpm_mux_inject(
        f->mux,
        &(struct tpm_mux_fault){.command = TPM2_CC_PCR_Read, .action = TPM_MUX_EXTEND, .value = 10},
        &err));
    values.count = 77;
    assert_fails(tpm_quote(f->tpm, &some, slice_str(extra), &quote, &values, &err),
                 ERROR_UNAVAILABLE);
    assert_int_equal(tpm_mux_count(f->mux, TPM2_CC_Quote), TPM_PCR_TRIES_MAX);
    assert_int_equal(values.count, 77);
}

static void refuses_to_quote_what_it_lacks(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    CLEANUP(tpm_attested_done) struct tpm_attested quote;
    tpm_attested_init(&quote);
    struct pcr_values values = {.count = 77};
    struct pcr_selection sha1 = select_pcrs("sha1:0+sha256:0");
    uint8_t long_data[65] = {0};
    batch(f);
    assert_fails(tpm_quote(f->tpm, &sha1, slice_str(extra), &quote, &values, &err), ERROR_INVALID);
    struct pcr_selection some = select_pcrs("sha256:0");
    assert_fails(tpm_quote(f->tpm, &some, SLICE_OF(long_data), &quote, &values, &err),
                 ERROR_INVALID);
    assert_int_equal(values.count, 77);
    assert_int_equal(quote.attest.len, 0);
}

static void certifies_its_keys(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    static const enum tpm_key keys[] = {TPM_KEY_WRAP, TPM_KEY_REQ};
    batch(f);
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        CLEANUP(tpm_attested_done) struct tpm_attested certified;
        tpm_attested_init(&certified);
        TPM2B_PUBLIC area = {0};
        TPM2B_NAME name = {0};
        TPMS_ATTEST attest = {0};
        assert_ok(tpm_certify(f->tpm, keys[i], slice_str(extra), &certified, &err));
        check_attested(f->tpm, &certified, TPM2_ST_ATTEST_CERTIFY, &attest);
        area_of(f->tpm, keys[i], &area, &name);
        assert_true(name_equal(&attest.attested.certify.name, &name));
    }
}

static void certifies_the_counter(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    CLEANUP(tpm_attested_done) struct tpm_attested certified;
    tpm_attested_init(&certified);
    CLEANUP(buf_done) struct buf wire;
    buf_init(&wire, NV_AREA_WIRE_MAX);
    TPM2B_NV_PUBLIC area = {0};
    TPM2B_NAME name = {0};
    TPMS_ATTEST attest = {0};
    uint64_t value = 0;
    batch(f);
    assert_ok(tpm_counter_certify(f->tpm, &f->counter, slice_str(extra), &certified, &err));
    check_attested(f->tpm, &certified, TPM2_ST_ATTEST_NV, &attest);
    assert_ok(tpm_counter_public(f->tpm, &f->counter, &wire, &err));
    assert_ok(nv_area_parse(buf_slice(&wire), &area, &err));
    assert_ok(nv_area_name(&area.nvPublic, &name, &err));
    assert_true(name_equal(&attest.attested.nv.indexName, &name));
    assert_int_equal(attest.attested.nv.offset, 0);
    assert_int_equal(attest.attested.nv.nvContents.size, 8);
    assert_ok(tpm_counter_read(f->tpm, &f->counter, &value, &err));
    struct reader r = reader(slice(attest.attested.nv.nvContents.buffer, 8));
    assert_int_equal(reader_u64(&r), value);
    CLEANUP(secret_free_at) struct secret *wrong = nullptr;
    assert_ok(secret_random(32, &wrong, &err));
    const struct tpm_counter theirs = {.index = COUNTER_INDEX, .auth = wrong};
    assert_fails(tpm_counter_certify(f->tpm, &theirs, slice_str(extra), &certified, &err),
                 ERROR_DENIED);
}

static bool quote_for_sweep(void *arg, struct error *err)
{
    struct fixture *f = arg;
    CLEANUP(tpm_attested_done) struct tpm_attested quote;
    tpm_attested_init(&quote);
    struct pcr_values values = {0};
    struct pcr_selection some = select_pcrs("sha256:0");
    return tpm_quote(f->tpm, &some, slice_str(extra), &quote, &values, err);
}

static void survives_lack_of_memory(void **state)
{
    batch(*state);
    testlib_allocation_sweep(quote_for_sweep, *state);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_before, fixture_after)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(opens_a_credential),
        TEST(refuses_a_credential_for_another_key),
        TEST(refuses_a_credential_for_another_tpm),
        TEST(works_with_a_high_range_ek),
        TEST(quotes_what_it_reads),
        TEST(quotes_again_when_a_pcr_moved),
        TEST(refuses_to_quote_what_it_lacks),
        TEST(certifies_its_keys),
        TEST(certifies_the_counter),
        TEST(survives_lack_of_memory),
    };
    return cmocka_run_group_tests(tests, fixture_up, fixture_down);
}
