#include "vectors.h"

#include "base/crypt.h"
#include "base/mem.h"
#include "tpmwire/hash.h"

#include <openssl/hmac.h>

static void test_sizes(void **)
{
    assert_int_equal(tpm_hash_size(TPM2_ALG_SHA1), 20);
    assert_int_equal(tpm_hash_size(TPM2_ALG_SHA256), 32);
    assert_int_equal(tpm_hash_size(TPM2_ALG_SHA384), 48);
    assert_int_equal(tpm_hash_size(TPM2_ALG_SHA512), 64);
    assert_int_equal(tpm_hash_size(TPM2_ALG_SM3_256), 0);
    assert_int_equal(tpm_hash_size(TPM2_ALG_NULL), 0);
    assert_null(tpm_hash_md(TPM2_ALG_NULL));
    assert_int_equal(EVP_MD_get_size(tpm_hash_md(TPM2_ALG_SHA384)), 48);
}

static void test_parts_are_joined(void **)
{
    struct error err = {0};
    const struct slice parts[] = {slice_str("ab"), slice(nullptr, 0), slice_str("c")};
    const struct slice whole = slice_str("abc");
    static const TPMI_ALG_HASH algs[] = {TPM2_ALG_SHA1, TPM2_ALG_SHA256, TPM2_ALG_SHA384,
                                         TPM2_ALG_SHA512};
    for (size_t i = 0; i < ARRAY_LEN(algs); i++) {
        TPM2B_DIGEST a;
        TPM2B_DIGEST b;
        assert_ok(tpm_hash(algs[i], parts, ARRAY_LEN(parts), &a, &err));
        assert_ok(tpm_hash(algs[i], &whole, 1, &b, &err));
        assert_int_equal(a.size, tpm_hash_size(algs[i]));
        assert_true(slice_equal(slice(a.buffer, a.size), slice(b.buffer, b.size)));
    }
    uint8_t reference[SHA256_SIZE];
    TPM2B_DIGEST digest;
    assert_ok(sha256(whole, reference, &err));
    assert_ok(tpm_hash(TPM2_ALG_SHA256, &whole, 1, &digest, &err));
    assert_memory_equal(digest.buffer, reference, 32);
}

/* KDFa by its definition: HMAC(key, counter ‖ label ‖ NUL ‖ U ‖ V ‖ bits), one NUL. */
static void test_kdfa_by_definition(void **)
{
    struct error err = {0};
    struct slice key = slice_str("a key of some length");
    uint8_t expected[SHA256_SIZE];
    static const char input[] = "\0\0\0\1LABEL\0uuvv\0\0\1\0";
    assert_non_null(HMAC(EVP_sha256(), key.data, (int)key.len, (const uint8_t *)input,
                         sizeof input - 1, expected, nullptr));
    struct secret *derived;
    assert_ok(tpm_kdfa(TPM2_ALG_SHA256, key, "LABEL", slice_str("uu"), slice_str("vv"), 256,
                       &derived, &err));
    assert_int_equal(secret_len(derived), 32);
    assert_memory_equal(secret_data(derived), expected, 32);
    derived = secret_free(derived);
    /* more than one block, and less than one */
    assert_ok(tpm_kdfa(TPM2_ALG_SHA256, key, "LABEL", slice(nullptr, 0), slice(nullptr, 0), 512,
                       &derived, &err));
    static const char second[] = "\0\0\0\2LABEL\0\0\0\2\0";
    assert_non_null(HMAC(EVP_sha256(), key.data, (int)key.len, (const uint8_t *)second,
                         sizeof second - 1, expected, nullptr));
    assert_memory_equal(secret_data(derived) + 32, expected, 32);
    derived = secret_free(derived);
}

/* KDFe by its definition: H(counter ‖ Z ‖ label ‖ NUL ‖ U ‖ V). */
static void test_kdfe_by_definition(void **)
{
    struct error err = {0};
    uint8_t expected[SHA256_SIZE];
    static const char input[] = "\0\0\0\1zzDUPLICATE\0uuvv";
    assert_ok(sha256(slice(input, sizeof input - 1), expected, &err));
    struct secret *derived;
    assert_ok(tpm_kdfe(TPM2_ALG_SHA256, slice_str("zz"), "DUPLICATE", slice_str("uu"),
                       slice_str("vv"), 256, &derived, &err));
    assert_memory_equal(secret_data(derived), expected, 32);
    derived = secret_free(derived);
}

static void test_refusals(void **)
{
    struct error err = {0};
    struct slice key = slice_str("key");
    struct slice none = slice(nullptr, 0);
    static const uint8_t big[512];
    struct secret *ret = POISON;
    TPM2B_DIGEST digest = {.size = 0xa5a5};
    assert_fails(tpm_hash(TPM2_ALG_NULL, &key, 1, &digest, &err), ERROR_INVALID);
    assert_int_equal(digest.size, 0xa5a5);
    static const size_t bits[] = {0, 7, 129, 520, SIZE_MAX};
    for (size_t i = 0; i < ARRAY_LEN(bits); i++) {
        assert_fails(tpm_kdfa(TPM2_ALG_SHA256, key, "L", none, none, bits[i], &ret, &err),
                     ERROR_INVALID);
        assert_fails(tpm_kdfe(TPM2_ALG_SHA256, key, "L", none, none, bits[i], &ret, &err),
                     ERROR_INVALID);
    }
    assert_fails(tpm_kdfa(TPM2_ALG_NULL, key, "L", none, none, 128, &ret, &err), ERROR_INVALID);
    assert_fails(tpm_kdfe(TPM2_ALG_NULL, key, "L", none, none, 128, &ret, &err), ERROR_INVALID);
    assert_fails(tpm_kdfa(TPM2_ALG_SHA256, key, "L", SLICE_OF(big), none, 128, &ret, &err),
                 ERROR_INVALID);
    assert_fails(tpm_kdfa(TPM2_ALG_SHA256, key, "L", none, SLICE_OF(big), 128, &ret, &err),
                 ERROR_INVALID);
    assert_fails(tpm_kdfe(TPM2_ALG_SHA256, key, "L", SLICE_OF(big), none, 128, &ret, &err),
                 ERROR_INVALID);
    assert_fails(tpm_kdfe(TPM2_ALG_SHA256, key, "L", none, SLICE_OF(big), 128, &ret, &err),
                 ERROR_INVALID);
    assert_fails(tpm_kdfe(TPM2_ALG_SHA256, key, "a label of more than thirty-one bytes", none, none,
                          128, &ret, &err),
                 ERROR_INVALID);
    assert_ptr_equal(ret, POISON);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_parts_are_joined),
        cmocka_unit_test(test_kdfa_by_definition),
        cmocka_unit_test(test_kdfe_by_definition),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
