#include "testlib/testlib.h"

#include "tpmwire/words.h"

static void test_algorithms(void **)
{
    assert_string_equal(tpm_alg_name(TPM2_ALG_SHA256), "sha256");
    assert_string_equal(tpm_alg_name(TPM2_ALG_ECDSA), "ecdsa");
    assert_string_equal(tpm_alg_name(TPM2_ALG_NULL), "null");
    assert_string_equal(tpm_alg_name(0x7f7f), "unknown");
}

static void test_handles(void **)
{
    assert_string_equal(tpm_handle_name(0x4000000b), "the endorsement hierarchy");
    assert_string_equal(tpm_handle_name(0x40000001), "the owner hierarchy");
    assert_string_equal(tpm_handle_name(0x01c00002), "an NV index");
    assert_string_equal(tpm_handle_name(0x81010001), "a persistent object");
    assert_string_equal(tpm_handle_name(0x80000000), "a transient object");
    assert_string_equal(tpm_handle_name(7), "a PCR");
    assert_string_equal(tpm_handle_name(0x7f000000), "an unknown handle");
}

/* The two refusals of the node key, and that numbers of handle, parameter and session don't hide
 * what happened. */
static void test_responses(void **)
{
    assert_string_equal(tpm_response_name(0x126), "the policy's condition does not hold");
    assert_string_equal(tpm_response_name(0x99d), "the policy does not hold");
    assert_string_equal(tpm_response_name(0x128), "a PCR changed during the session");
    assert_string_equal(tpm_response_name(0x98e),
                        "wrong authorization; it counts towards the lockout");
    assert_string_equal(tpm_response_name(0x1df),
                        "the integrity check failed: not made for this TPM, or altered");
    assert_string_equal(tpm_response_name(0x9a2), "wrong authorization");
    assert_string_equal(tpm_response_name(0x922),
                        "the TPM is busy: the command must be sent again");
    assert_string_equal(tpm_response_name(0), "success");
    assert_null(tpm_response_name(0x1ff));
    /* another layer's code is not the TPM's */
    assert_null(tpm_response_name(0x000a0008));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_algorithms),
        cmocka_unit_test(test_handles),
        cmocka_unit_test(test_responses),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
