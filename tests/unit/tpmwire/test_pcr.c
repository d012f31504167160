#include "vectors.h"

#include "tpmwire/hash.h"
#include "tpmwire/pcr.h"

static struct pcr_selection selection_of(const char *text)
{
    struct error err = {0};
    struct pcr_selection selection;
    assert_ok(pcr_selection_parse(text, &selection, &err));
    return selection;
}

/* The longest text. */
static const char every_pcr[] =
    "sha1:0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23"
    "+sha256:0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23"
    "+sha384:0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23"
    "+sha512:0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23";

static void test_text_goes_there_and_back(void **)
{
    static const char *const texts[] = {
        "sha256:0,2,4,7",        "sha256:0",           "sha1:23",
        "sha384:0,1+sha256:0,1", "sha512:10,11,12,20", every_pcr,
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct pcr_selection selection = selection_of(texts[i]);
        char text[PCR_TEXT_MAX];
        assert_string_equal(pcr_selection_format(&selection, text), texts[i]);
    }
    struct pcr_selection selection = selection_of("sha256:0,2,4,7");
    assert_int_equal(selection.count, 1);
    assert_int_equal(selection.bank[0].alg, TPM2_ALG_SHA256);
    assert_int_equal(selection.bank[0].mask, 0x95);
    assert_int_equal(pcr_selection_size(&selection), 4);
}

static void test_text_is_refused(void **)
{
    struct error err = {0};
    static const char *const texts[] = {
        "",
        "sha256",
        "sha256:",
        "sha256:24",
        "sha256:-1",
        "sha256:0,",
        "sha256:,0",
        "sha256:0,0",
        "sha256:2,0",
        "sha256:0 ",
        " sha256:0",
        "sha256:0+",
        "+sha256:0",
        "sha256:0+sha256:1",
        "md5:0",
        "sha256:00",
        "sha256:01",
        "sha256:0x1",
        "sha256:4294967296",
        "SHA256:0",
        "sha256:0;1",
        "sha3-256:0",
        "sha256:0+sha384:",
        "unknown:0",
        "sha256:100",
        "sha256:0,2,4,7+sha1:0+sha384:0+sha512:0+sha256:0",
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct pcr_selection ret = {.count = 77};
        assert_fails(pcr_selection_parse(texts[i], &ret, &err), ERROR_INVALID);
        assert_int_equal(ret.count, 77);
    }
}

static void test_tpml_goes_there_and_back(void **)
{
    struct error err = {0};
    struct pcr_selection selection = selection_of("sha256:0,2,4,7+sha1:23+sha384:8");
    TPML_PCR_SELECTION list;
    struct pcr_selection again;
    pcr_selection_to_tpml(&selection, &list);
    assert_int_equal(list.count, 3);
    assert_int_equal(list.pcrSelections[0].sizeofSelect, 3);
    assert_memory_equal(list.pcrSelections[0].pcrSelect, "\x95\0\0", 3);
    assert_memory_equal(list.pcrSelections[1].pcrSelect, "\0\0\x80", 3);
    assert_memory_equal(list.pcrSelections[2].pcrSelect, "\0\x01\0", 3);
    assert_ok(pcr_selection_from_tpml(&list, &again, &err));
    assert_true(pcr_selection_equal(&selection, &again));
    /* a bank that is not active comes back empty */
    list.pcrSelections[0].pcrSelect[0] = 0;
    assert_ok(pcr_selection_from_tpml(&list, &again, &err));
    assert_false(pcr_selection_equal(&selection, &again));
    char text[PCR_TEXT_MAX];
    assert_string_equal(pcr_selection_format(&again, text), "sha256:+sha1:23+sha384:8");
}

static void test_tpml_is_refused(void **)
{
    struct error err = {0};
    struct pcr_selection selection = selection_of("sha256:0+sha384:0");
    struct pcr_selection ret = {.count = 77};
    TPML_PCR_SELECTION good;
    pcr_selection_to_tpml(&selection, &good);
    TPML_PCR_SELECTION list = good;
    list.pcrSelections[1].hash = TPM2_ALG_SHA256;
    assert_fails(pcr_selection_from_tpml(&list, &ret, &err), ERROR_INVALID);
    assert_error_contains("twice");
    list.pcrSelections[1].hash = TPM2_ALG_SM3_256;
    assert_fails(pcr_selection_from_tpml(&list, &ret, &err), ERROR_INVALID);
    assert_error_contains("not supported");
    for (uint8_t size = 0; size <= 4; size++) {
        list = good;
        list.pcrSelections[0].sizeofSelect = size;
        if (size != 3) {
            assert_fails(pcr_selection_from_tpml(&list, &ret, &err), ERROR_INVALID);
            assert_error_contains("mask");
        }
    }
    list = good;
    list.count = 5;
    assert_fails(pcr_selection_from_tpml(&list, &ret, &err), ERROR_INVALID);
    list.count = UINT32_MAX;
    assert_fails(pcr_selection_from_tpml(&list, &ret, &err), ERROR_INVALID);
    assert_int_equal(ret.count, 77);
}

static void test_equal_and_within(void **)
{
    struct pcr_selection whole = selection_of("sha256:0,2,4,7+sha384:0");
    struct pcr_selection part = selection_of("sha384:0+sha256:7");
    struct pcr_selection turned = selection_of("sha384:0+sha256:0,2,4,7");
    struct pcr_selection other = selection_of("sha256:0,1");
    struct pcr_selection bank = selection_of("sha1:0");
    assert_true(pcr_selection_within(&part, &whole));
    assert_false(pcr_selection_within(&whole, &part));
    assert_false(pcr_selection_within(&other, &whole));
    assert_false(pcr_selection_within(&bank, &whole));
    assert_true(pcr_selection_within(&turned, &whole));
    assert_false(pcr_selection_equal(&turned, &whole)); /* order counts */
    assert_false(pcr_selection_equal(&part, &whole));
    assert_false(pcr_selection_equal(&other, &bank));
}

static void test_values(void **)
{
    struct error err = {0};
    struct pcr_values values;
    vector_pcrs("quote_ak.pcrs", "sha256:0,2,4,7+sha384:0,7", &values);
    assert_ptr_equal(pcr_values_get(&values, TPM2_ALG_SHA256, 0), &values.value[0]);
    assert_ptr_equal(pcr_values_get(&values, TPM2_ALG_SHA256, 7), &values.value[3]);
    assert_ptr_equal(pcr_values_get(&values, TPM2_ALG_SHA384, 7), &values.value[5]);
    assert_null(pcr_values_get(&values, TPM2_ALG_SHA256, 1));
    assert_null(pcr_values_get(&values, TPM2_ALG_SHA1, 0));
    assert_null(pcr_values_get(&values, TPM2_ALG_SHA256, 24));
    assert_null(pcr_values_get(&values, TPM2_ALG_SHA256, 64));

    /* a part, in its own order */
    struct pcr_selection part = selection_of("sha384:7+sha256:2");
    const struct slice parts[] = {slice(values.value[5].buffer, 48),
                                  slice(values.value[1].buffer, 32)};
    TPM2B_DIGEST expected;
    TPM2B_DIGEST digest;
    assert_ok(tpm_hash(TPM2_ALG_SHA384, parts, 2, &expected, &err));
    assert_ok(pcr_composite_digest(TPM2_ALG_SHA384, &part, &values, &digest, &err));
    assert_int_equal(digest.size, 48);
    assert_memory_equal(digest.buffer, expected.buffer, 48);

    TPM2B_DIGEST poison;
    memset(&poison, 0xa5, sizeof poison);
    digest = poison;
    struct pcr_selection absent = selection_of("sha256:1");
    assert_fails(pcr_composite_digest(TPM2_ALG_SHA256, &absent, &values, &digest, &err),
                 ERROR_INVALID);
    assert_error_contains("no value");
    values.value[1].size = 48;
    assert_fails(pcr_composite_digest(TPM2_ALG_SHA256, &part, &values, &digest, &err),
                 ERROR_INVALID);
    assert_error_contains("wrong size");
    values.value[1].size = 32;
    values.count = 1; /* fewer values than the selection promises */
    assert_fails(pcr_composite_digest(TPM2_ALG_SHA256, &part, &values, &digest, &err),
                 ERROR_INVALID);
    values.count = 6;
    assert_fails(pcr_composite_digest(TPM2_ALG_NULL, &part, &values, &digest, &err), ERROR_INVALID);
    assert_memory_equal(&digest, &poison, sizeof poison);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_goes_there_and_back), cmocka_unit_test(test_text_is_refused),
        cmocka_unit_test(test_tpml_goes_there_and_back), cmocka_unit_test(test_tpml_is_refused),
        cmocka_unit_test(test_equal_and_within),         cmocka_unit_test(test_values),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
