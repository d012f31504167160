/* attest/appraise.h: evidence that can't be read at all. (What can be read and lies: test_checks.c.) */
#include "unit/attest/scene.h"

#include "base/mem.h"

static struct softtpm tpm;
static struct scene scene;

static int set_up(void **state)
{
    (void)state;
    softtpm_make(&tpm);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    softtpm_done(&tpm);
    return 0;
}

static int begin(void **state)
{
    (void)state;
    scene_play(&scene, &tpm);
    return 0;
}

static int end(void **state)
{
    (void)state;
    scene_close(&scene);
    return 0;
}

static void assert_unreadable(const char *field, const char *says)
{
    static struct appraisal appraisal, poison;
    struct error err = {0};
    memset(&poison, 0xa5, sizeof(poison));
    memset(&appraisal, 0xa5, sizeof(appraisal));
    assert_fails(attest_appraise(&scene.in, &appraisal, &err), ERROR_INVALID);
    assert_string_equal(err.field, field);
    assert_error_contains(says);
    assert_memory_equal(&appraisal, &poison, sizeof(poison));
}

static void assert_affirming(void)
{
    static struct appraisal appraisal;
    struct error err = {0};
    assert_ok(attest_appraise(&scene.in, &appraisal, &err));
    assert_int_equal(appraisal.verdict, POSTERN__V1__VERDICT__VERDICT_AFFIRMING);
}

static void parts_are_missing(void **state)
{
    (void)state;
    Postern__V1__Evidence *evidence = &scene.evidence;
    const struct {
        const char *name;
        Postern__V1__Attested **part;
    } parts[] = {
        {"quote", &evidence->quote},
        {"certify_wrap", &evidence->certify_wrap},
        {"certify_req", &evidence->certify_req},
        {"certify_counter", &evidence->certify_counter},
    };
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        Postern__V1__Attested *good = *parts[i].part;
        *parts[i].part = nullptr;
        assert_unreadable(parts[i].name, "missing");
        *parts[i].part = good;
    }
    assert_affirming();
}

/* Check 11's type: each structure in the place of another. */
static void parts_are_of_another_type(void **state)
{
    (void)state;
    Postern__V1__Evidence *evidence = &scene.evidence;
    Postern__V1__Attested *quote = evidence->quote;
    evidence->quote = evidence->certify_wrap;
    assert_unreadable("quote", "type is 0x8017 instead of 0x8018");
    evidence->quote = evidence->certify_counter;
    assert_unreadable("quote", "type is 0x8014");
    evidence->quote = quote;
    Postern__V1__Attested *req = evidence->certify_req;
    evidence->certify_req = quote;
    assert_unreadable("certify_req", "type is 0x8018");
    evidence->certify_req = req;
    evidence->certify_counter = req;
    assert_unreadable("certify_counter", "type is 0x8017");
}

static void parts_are_cut_or_huge(void **state)
{
    (void)state;
    static uint8_t huge[64 * 1024];
    ProtobufCBinaryData *attest = &scene.evidence.quote->attest;
    const ProtobufCBinaryData good = *attest;
    for (size_t len = 0; len < good.len; len++) {
        struct error err = {0};
        static struct appraisal appraisal;
        attest->len = len;
        assert_fails(attest_appraise(&scene.in, &appraisal, &err), ERROR_INVALID);
        assert_string_equal(err.field, "quote");
    }
    mem_copy(huge, good.data, good.len);
    *attest = (ProtobufCBinaryData){sizeof(huge), huge};
    assert_unreadable("quote", "at most");
    *attest = good;
    assert_affirming();
}

static void values_do_not_fit(void **state)
{
    (void)state;
    Postern__V1__Evidence *evidence = &scene.evidence;
    Postern__V1__PcrBank *bank = evidence->pcrs[0];
    Postern__V1__PcrSelection *selected = bank->selection;

    evidence->n_pcrs = 0;
    assert_unreadable("pcrs", "expected 1 to 4 banks, found 0");
    evidence->n_pcrs = PCR_BANKS_MAX + 1;
    assert_unreadable("pcrs", "at most 4 banks, found 5");
    evidence->n_pcrs = 1;

    bank->selection = nullptr;
    assert_unreadable("pcrs", "without its selection");
    bank->selection = selected;
    static const uint32_t banks[] = {0, TPM2_ALG_RSA, 0xffff, 0x1000b, UINT32_MAX};
    for (size_t i = 0; i < ARRAY_LEN(banks); i++) {
        selected->bank = banks[i];
        assert_unreadable("pcrs", "is none that we know");
    }
    selected->bank = TPM2_ALG_SHA256;
    selected->mask = 1U << 24;
    assert_unreadable("pcrs", "is none that we know");
    selected->mask = UINT32_MAX;
    assert_unreadable("pcrs", "is none that we know");
    selected->mask = 0xffffff;
    assert_unreadable("pcrs", "4 values for mask 0xffffff");
    selected->mask = 0;
    assert_unreadable("pcrs", "4 values for mask 0x0");
    selected->mask = SCENE_PCRS;
    bank->n_values = 3;
    assert_unreadable("pcrs", "3 values for mask");
    bank->n_values = 4;
    bank->values[2].len = 31;
    assert_unreadable("pcrs", "a digest of 31 bytes in a bank of 32");
    bank->values[2].len = 0;
    assert_unreadable("pcrs", "a digest of 0 bytes");
    bank->values[2].len = 64;
    assert_unreadable("pcrs", "a digest of 64 bytes");
    bank->values[2].len = 32;
    assert_affirming();
}

/* What would put a value where another is looked up: PCR 4's in a bank that is read first. */
static void a_bank_counts_once(void **state)
{
    (void)state;
    Postern__V1__PcrSelection halves[2] = {POSTERN__V1__PCR_SELECTION__INIT,
                                           POSTERN__V1__PCR_SELECTION__INIT};
    Postern__V1__PcrBank banks[2] = {POSTERN__V1__PCR_BANK__INIT, POSTERN__V1__PCR_BANK__INIT};
    Postern__V1__PcrBank *pointers[2] = {&banks[0], &banks[1]};
    static const uint32_t masks[2] = {1U << 0 | 1U << 2, 1U << 4 | 1U << 7};
    for (size_t i = 0; i < 2; i++) {
        halves[i].bank = TPM2_ALG_SHA256;
        halves[i].mask = masks[i];
        banks[i].selection = &halves[i];
        banks[i].n_values = 2;
        banks[i].values = &scene.value_bytes[2 * i];
    }
    scene.evidence.n_pcrs = 2;
    scene.evidence.pcrs = pointers;
    assert_unreadable("pcrs", "bank 0xb is there twice");
}

static void the_quoted_selection_is_none(void **state)
{
    (void)state;
    scene_close(&scene);
    scene_open(&scene, &tpm);
    scene_hello(&scene);
    scene_parts(&scene);
    TPML_PCR_SELECTION *quoted = &scene.parts[PART_QUOTE].attested.attested.quote.pcrSelect;
    quoted->pcrSelections[0].sizeofSelect = 4;
    scene_sign(&scene);
    scene_case(&scene);
    assert_unreadable("quote", "4 bytes of mask");
    scene_close(&scene);
    scene_open(&scene, &tpm);
    scene_hello(&scene);
    scene_parts(&scene);
    quoted->pcrSelections[1] = quoted->pcrSelections[0];
    quoted->count = 2;
    scene_sign(&scene);
    scene_case(&scene);
    assert_unreadable("quote", "bank sha256 twice");
}

/* Ours to say, so it can't be wrong; if it is, nothing passes. */
static void the_challenge_asks_for_nothing(void **state)
{
    (void)state;
    scene.challenge.n_selection = 0;
    assert_unreadable("selection", "found 0");
}

/* The same reader serves who wants the values alone. */
static void values_without_a_verdict(void **state)
{
    (void)state;
    struct error err = {0};
    static struct pcr_values values, poison;
    assert_ok(attest_evidence_values(&scene.evidence, &values, &err));
    assert_true(pcr_selection_equal(&values.selection, &scene.values.selection));
    assert_int_equal(values.count, scene.values.count);
    for (size_t i = 0; i < values.count; i++)
        assert_memory_equal(&values.value[i], &scene.values.value[i], sizeof(values.value[i]));
    memset(&poison, 0xa5, sizeof(poison));
    memset(&values, 0xa5, sizeof(values));
    scene.value_bytes[1].len--;
    assert_fails(attest_evidence_values(&scene.evidence, &values, &err), ERROR_INVALID);
    assert_string_equal(err.field, "pcrs");
    assert_memory_equal(&values, &poison, sizeof(poison));
}

static bool appraise(void *arg, struct error *err)
{
    static struct appraisal appraisal;
    (void)arg;
    return attest_appraise(&scene.in, &appraisal, err);
}

static void survives_without_memory(void **state)
{
    (void)state;
    /* None of the failures may come out as a verdict: a contraindicated node erases what it holds. */
    testlib_allocation_sweep(appraise, nullptr);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(parts_are_missing, begin, end),
        cmocka_unit_test_setup_teardown(parts_are_of_another_type, begin, end),
        cmocka_unit_test_setup_teardown(parts_are_cut_or_huge, begin, end),
        cmocka_unit_test_setup_teardown(values_do_not_fit, begin, end),
        cmocka_unit_test_setup_teardown(a_bank_counts_once, begin, end),
        cmocka_unit_test_setup_teardown(the_quoted_selection_is_none, begin, end),
        cmocka_unit_test_setup_teardown(the_challenge_asks_for_nothing, begin, end),
        cmocka_unit_test_setup_teardown(values_without_a_verdict, begin, end),
        cmocka_unit_test_setup_teardown(survives_without_memory, begin, end),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
