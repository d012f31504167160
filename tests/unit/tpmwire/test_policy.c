#include "vectors.h"

#include "tpmwire/policy.h"
#include "tpmwire/public.h"

static struct slice digest_slice(const TPM2B_DIGEST *digest)
{
    return slice(digest->buffer, digest->size);
}

struct fixture {
    struct pcr_values pcrs;
    TPM2B_DIGEST composite;
    TPM2B_NAME counter;
    uint64_t limit;
};

static void fixture_fill(struct fixture *f)
{
    struct error err = {0};
    vector_pcrs("seal.pcrs", "sha256:0,2,4,7", &f->pcrs);
    assert_ok(
        pcr_composite_digest(TPM2_ALG_SHA256, &f->pcrs.selection, &f->pcrs, &f->composite, &err));
    f->counter = vector_name("counter.name");
    struct reader r = reader(vector("seal.limit"));
    f->limit = reader_u64(&r);
    assert_true(reader_end(&r));
}

static TPM2B_DIGEST started(void)
{
    struct error err = {0};
    TPM2B_DIGEST policy;
    assert_ok(policy_start(TPM2_ALG_SHA256, &policy, &err));
    return policy;
}

static void test_digests_are_those_of_trial_sessions(void **)
{
    struct error err = {0};
    struct fixture f;
    fixture_fill(&f);
    TPM2B_DIGEST policy = started();
    assert_ok(policy_pcr(&policy, &f.pcrs.selection, &f.composite, &err));
    assert_true(slice_equal(digest_slice(&policy), vector("policy.pcr")));

    policy = started();
    TPM2B_OPERAND operand;
    node_key_operand(f.limit, &operand);
    assert_int_equal(operand.size, 8);
    assert_ok(
        policy_nv(&policy, &f.counter, slice(operand.buffer, 8), 0, TPM2_EO_UNSIGNED_LE, &err));
    assert_true(slice_equal(digest_slice(&policy), vector("policy.nv")));

    /* TPM_CC_Unseal is 0x15e: the well-known digest of "only Unseal" */
    policy = started();
    assert_ok(policy_command_code(&policy, TPM2_CC_Unseal, &err));
    static const uint8_t unseal[] = {0xe6, 0x13, 0x13, 0x70, 0x76, 0x52, 0x4b, 0xde,
                                     0x48, 0x75, 0x33, 0x86, 0x58, 0x84, 0xe9, 0x73,
                                     0x2e, 0xbe, 0xe3, 0xaa, 0xcb, 0x09, 0x5d, 0x94,
                                     0xa6, 0xde, 0x49, 0x2e, 0xc0, 0x6c, 0x46, 0xfa};
    assert_true(slice_equal(digest_slice(&policy), SLICE_OF(unseal)));

    /* PolicyA of the EK profile, as in every L-1 and L-2 EK */
    policy = started();
    TPM2B_NAME endorsement;
    name_of_handle(TPM2_RH_ENDORSEMENT, &endorsement);
    assert_ok(policy_secret(&policy, &endorsement, slice(nullptr, 0), &err));
    TPMT_PUBLIC ek = vector_area("ek_rsa");
    assert_true(slice_equal(digest_slice(&policy), digest_slice(&ek.authPolicy)));
}

static void test_node_key_policy(void **)
{
    struct error err = {0};
    struct fixture f;
    fixture_fill(&f);
    TPM2B_DIGEST policy;
    assert_ok(node_key_policy(&f.pcrs.selection, &f.composite, &f.counter, f.limit, &policy, &err));
    assert_true(slice_equal(digest_slice(&policy), vector("seal.policy")));
    /* anything else is another policy */
    TPM2B_DIGEST other;
    assert_ok(
        node_key_policy(&f.pcrs.selection, &f.composite, &f.counter, f.limit + 1, &other, &err));
    assert_false(slice_equal(digest_slice(&policy), digest_slice(&other)));
    f.counter.name[10] ^= 1;
    assert_ok(node_key_policy(&f.pcrs.selection, &f.composite, &f.counter, f.limit, &other, &err));
    assert_false(slice_equal(digest_slice(&policy), digest_slice(&other)));
    f.counter.name[10] ^= 1;
    f.composite.buffer[0] ^= 1;
    assert_ok(node_key_policy(&f.pcrs.selection, &f.composite, &f.counter, f.limit, &other, &err));
    assert_false(slice_equal(digest_slice(&policy), digest_slice(&other)));
}

static void test_order_is_part_of_it(void **)
{
    struct error err = {0};
    struct fixture f;
    fixture_fill(&f);
    TPM2B_DIGEST turned = started();
    assert_ok(policy_command_code(&turned, TPM2_CC_Unseal, &err));
    assert_ok(policy_pcr(&turned, &f.pcrs.selection, &f.composite, &err));
    TPM2B_DIGEST straight = started();
    assert_ok(policy_pcr(&straight, &f.pcrs.selection, &f.composite, &err));
    assert_ok(policy_command_code(&straight, TPM2_CC_Unseal, &err));
    assert_false(slice_equal(digest_slice(&turned), digest_slice(&straight)));
}

static void test_operand_is_big_endian(void **)
{
    TPM2B_OPERAND operand;
    node_key_operand(UINT64_C(0x0102030405060708), &operand);
    assert_int_equal(operand.size, 8);
    assert_memory_equal(operand.buffer, "\1\2\3\4\5\6\7\x8", 8);
}

static void test_refusals(void **)
{
    struct error err = {0};
    struct fixture f;
    fixture_fill(&f);
    TPM2B_DIGEST poison;
    memset(&poison, 0xa5, sizeof poison);
    TPM2B_DIGEST ret = poison;
    assert_fails(policy_start(TPM2_ALG_SHA1, &ret, &err), ERROR_INVALID);
    assert_fails(policy_start(TPM2_ALG_NULL, &ret, &err), ERROR_INVALID);
    struct pcr_selection empty = {0};
    assert_fails(node_key_policy(&empty, &f.composite, &f.counter, 1, &ret, &err), ERROR_INVALID);
    assert_error_contains("no PCR");
    f.composite.size = 48;
    assert_fails(node_key_policy(&f.pcrs.selection, &f.composite, &f.counter, 1, &ret, &err),
                 ERROR_INVALID);
    assert_memory_equal(&ret, &poison, sizeof ret);

    TPM2B_DIGEST broken = {.size = 20};
    TPM2B_DIGEST before = broken;
    assert_fails(policy_command_code(&broken, TPM2_CC_Unseal, &err), ERROR_INVALID);
    assert_fails(policy_secret(&broken, &f.counter, slice(nullptr, 0), &err), ERROR_INVALID);
    assert_fails(policy_nv(&broken, &f.counter, slice("x", 1), 0, TPM2_EO_EQ, &err), ERROR_INVALID);
    assert_fails(policy_pcr(&broken, &f.pcrs.selection, &broken, &err), ERROR_INVALID);
    assert_memory_equal(&broken, &before, sizeof before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_digests_are_those_of_trial_sessions),
        cmocka_unit_test(test_node_key_policy),
        cmocka_unit_test(test_order_is_part_of_it),
        cmocka_unit_test(test_operand_is_big_endian),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
