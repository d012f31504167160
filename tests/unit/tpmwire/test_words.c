#include "testlib/testlib.h"

#include "tpmwire/words.h"

static void test_algorithms(void **)
{
    assert_string_equal(tpm_alg_name(TPM2_ALG_SHA256), "sha256");
    assert_string_equal(tpm_alg_name(TPM2_ALG_ECDSA), "ecdsa");
    assert_string_equal(tpm_alg_name(TPM2_ALG_NULL), "null");
    assert_string_equal(tpm_alg_name(0x7f7f), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_algorithms),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
