/* attest/policy.h */
#include "testlib/testlib.h"

#include "attest/policy.h"
#include "base/mem.h"
#include "pb/yaml.h"

#include <pthread.h>
#include <stdio.h>

#define ZEROS "0000000000000000000000000000000000000000000000000000000000000000"
#define ONES "1111111111111111111111111111111111111111111111111111111111111111"
#define RULE(bank, index, value)                                                                   \
    "- bank: " bank "\n  index: " index "\n  allowed: [\"" value "\"]\n"
#define NAME "name: web\n"
#define RULES "pcrs:\n" RULE("sha256", "4", ZEROS) RULE("sha256", "7", ONES)
#define SEAL "seal: sha256:4,7\n"
#define TRUST "ek_trust: [vendor_cert]\n"
#define GOOD NAME RULES SEAL TRUST

static bool compile(const char *yaml, const struct attest_policy **ret, struct error *err)
{
    CLEANUP(pb_free_at) ProtobufCMessage *message = nullptr;
    if (!pb_from_yaml(&postern__v1__attestation_policy__descriptor, "web.yaml", slice_str(yaml),
                      &message, err))
        return false;
    return attest_policy_new((const Postern__V1__AttestationPolicy *)message, ret, err);
}

static const struct attest_policy *good(const char *yaml)
{
    struct error err = {0};
    const struct attest_policy *policy = nullptr;
    assert_ok(compile(yaml, &policy, &err));
    return policy;
}

static void compiles_all_it_says(void **state)
{
    (void)state;
    char text[PCR_TEXT_MAX];
    const struct attest_policy *policy = good(
        NAME "pcrs:\n" RULE("sha256", "4", ZEROS)
            RULE("sha384", "7", ONES "11111111111111111111111111111111") RULE(
                "sha256", "0",
                ONES) "seal: sha384:7\nek_trust: [tofu, pinned]\nfirmware_floor: \"000A00000000000b\"\n"
                      "appraisal_lifetime: 90s\nreport_only: true\n");
    /* The message that was compiled is gone; the policy has its own. */
    assert_string_equal(policy->message->name, "web");
    assert_string_equal(policy->message->pcrs[2]->allowed[0], ONES);
    assert_string_equal(pcr_selection_format(&policy->pinned, text), "sha256:0,4+sha384:7");
    assert_string_equal(pcr_selection_format(&policy->quoted, text),
                        "sha256:0,1,2,3,4,5,6,7,8,9,11,14+sha384:0,1,2,3,4,5,6,7,8,9,11,14");
    assert_string_equal(pcr_selection_format(&policy->seal, text), "sha384:7");
    assert_int_equal(policy->ek_trust, 1U << POSTERN__V1__EK_TRUST__EK_TRUST_TOFU |
                                           1U << POSTERN__V1__EK_TRUST__EK_TRUST_PINNED);
    assert_int_equal(policy->firmware_floor, 0x000a00000000000b);
    assert_int_equal(policy->lifetime_ms, 90'000);
    assert_true(policy->report_only);
    attest_policy_unref(policy);

    policy = good(GOOD);
    assert_int_equal(policy->lifetime_ms, 15 * 60'000);
    assert_int_equal(policy->firmware_floor, 0);
    assert_false(policy->report_only);
    attest_policy_unref(policy);
}

/* Each is GOOD but for one thing. */
static void refuses(void **state)
{
    (void)state;
    static const struct {
        const char *yaml, *field, *says;
    } cases[] = {
        {"name: \"\"\n" RULES SEAL TRUST, "name", "1 to 63"},
        {"name: Web\n" RULES SEAL TRUST, "name", "found \"Web\""},
        {"name: a/b\n" RULES SEAL TRUST, "name", "a-z"},
        {"name: a234567890123456789012345678901234567890123456789012345678901234\n" RULES SEAL
             TRUST,
         "name", "1 to 63"},
        {NAME "pcrs: []\n" SEAL TRUST, "pcrs", "1 to 96 rules, found 0"},
        {NAME "pcrs:\n" RULE("sha1", "4", ZEROS) SEAL TRUST, "pcrs[0].bank", "found \"sha1\""},
        {NAME "pcrs:\n" RULE("SHA256", "4", ZEROS) SEAL TRUST, "pcrs[0].bank", "SHA256"},
        {NAME RULES RULE("sha256", "24", ZEROS) SEAL TRUST, "pcrs[2].index", "0 to 23, found 24"},
        {NAME RULES RULE("sha256", "4294967295", ZEROS) SEAL TRUST, "pcrs[2].index", "0 to 23"},
        {NAME RULES RULE("sha256", "1", ZEROS) SEAL TRUST, "pcrs[2].index", "PCR 1 changes"},
        {NAME RULES RULE("sha256", "3", ZEROS) SEAL TRUST, "pcrs[2].index", "PCR 3 changes"},
        {NAME RULES RULE("sha384", "5", ZEROS) SEAL TRUST, "pcrs[2].index", "PCR 5 changes"},
        {NAME RULES RULE("sha256", "7", ZEROS) SEAL TRUST, "pcrs[2].index", "already"},
        {NAME RULES RULE("sha256", "0", "00") SEAL TRUST, "pcrs[2].allowed[0]", "64 lower-case"},
        {NAME RULES RULE("sha384", "0", ZEROS) SEAL TRUST, "pcrs[2].allowed[0]", "96 lower-case"},
        {NAME RULES RULE("sha256", "0",
                         "A"
                         "000000000000000000000000000000000000000000000000000000"
                         "000000000") SEAL TRUST,
         "pcrs[2].allowed[0]", "lower-case"},
        {NAME RULES "- bank: sha256\n  index: 0\n  allowed: [\"" ZEROS "\", \"zz\"]\n" SEAL TRUST,
         "pcrs[2].allowed[1]", "found \"zz\""},
        {NAME RULES "- bank: sha256\n  index: 0\n  allowed: []\n" SEAL TRUST, "pcrs[2].allowed",
         "1 to 64 values, found 0"},
        {NAME RULES "seal: \"\"\n" TRUST, "seal", "expected PCRs"},
        {NAME RULES "seal: sha256:7,4\n" TRUST, "seal", "ascending"},
        {NAME RULES "seal: sha256:2\n" TRUST, "seal", "without a rule"},
        {NAME RULES "seal: sha384:4\n" TRUST, "seal", "without a rule"},
        {NAME RULES RULE("sha256", "14", ZEROS) "seal: sha256:4,14\n" TRUST, "seal",
         "PCR 14 moves"},
        {NAME RULES RULE("sha256", "10", ZEROS) "seal: sha256:10\n" TRUST, "seal", "PCR 10 moves"},
        {NAME RULES RULE("sha256", "23", ZEROS) "seal: sha256:23\n" TRUST, "seal", "PCR 23 moves"},
        {NAME RULES SEAL, "ek_trust", "at least one"},
        {NAME RULES SEAL "ek_trust: [unspecified]\n", "ek_trust", "vendor_cert, pinned or tofu"},
        {GOOD "firmware_floor: \"123\"\n", "firmware_floor", "16 hex digits"},
        {GOOD "firmware_floor: \"00000000000000zz\"\n", "firmware_floor", "16 hex digits"},
        {GOOD "firmware_floor: \"000000000000000000\"\n", "firmware_floor", "16 hex digits"},
        {GOOD "appraisal_lifetime: soon\n", "appraisal_lifetime", "found \"soon\""},
        {GOOD "appraisal_lifetime: 999ms\n", "appraisal_lifetime", "1s to 24h"},
        {GOOD "appraisal_lifetime: 25h\n", "appraisal_lifetime", "1s to 24h"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct error err = {0};
        const struct attest_policy *policy = POISON;
        assert_fails(compile(cases[i].yaml, &policy, &err), ERROR_INVALID);
        assert_ptr_equal(policy, POISON);
        assert_string_equal(err.field, cases[i].field);
        assert_error_contains(cases[i].says);
    }
    attest_policy_unref(good(GOOD "appraisal_lifetime: 1s\n"));
    attest_policy_unref(good(GOOD "appraisal_lifetime: 24h\n"));
}

/* More than YAML would ever be written with. */
static void refuses_too_many(void **state)
{
    (void)state;
    struct error err = {0};
    const struct attest_policy *policy = POISON;
    char zeros[] = ZEROS;
    char *allowed[ATTEST_POLICY_ALLOWED_MAX + 1];
    Postern__V1__PcrRule rule = POSTERN__V1__PCR_RULE__INIT;
    Postern__V1__PcrRule *rules[ATTEST_POLICY_RULES_MAX + 1];
    Postern__V1__EkTrust trust = POSTERN__V1__EK_TRUST__EK_TRUST_TOFU;
    Postern__V1__AttestationPolicy message = POSTERN__V1__ATTESTATION_POLICY__INIT;
    for (size_t i = 0; i < ARRAY_LEN(allowed); i++)
        allowed[i] = zeros;
    for (size_t i = 0; i < ARRAY_LEN(rules); i++)
        rules[i] = &rule;
    rule.bank = (char[]){"sha256"};
    rule.index = 4;
    rule.n_allowed = ARRAY_LEN(allowed);
    rule.allowed = allowed;
    message.name = (char[]){"web"};
    message.seal = (char[]){"sha256:4"};
    message.n_pcrs = 1;
    message.pcrs = rules;
    message.n_ek_trust = 1;
    message.ek_trust = &trust;
    assert_fails(attest_policy_new(&message, &policy, &err), ERROR_INVALID);
    assert_string_equal(err.field, "pcrs[0].allowed");
    rule.n_allowed = ATTEST_POLICY_ALLOWED_MAX;
    message.n_pcrs = ARRAY_LEN(rules);
    assert_fails(attest_policy_new(&message, &policy, &err), ERROR_INVALID);
    assert_string_equal(err.field, "pcrs");
    message.n_pcrs = 1;
    trust = (Postern__V1__EkTrust)40;
    assert_fails(attest_policy_new(&message, &policy, &err), ERROR_INVALID);
    assert_ptr_equal(policy, POISON);
    trust = POSTERN__V1__EK_TRUST__EK_TRUST_TOFU;
    assert_ok(attest_policy_new(&message, &policy, &err));
    attest_policy_unref(policy);
}

static void the_hash_is_of_all_of_it(void **state)
{
    (void)state;
    const struct attest_policy *one = good(GOOD);
    const struct attest_policy *same = good("# a comment\n" TRUST SEAL RULES NAME);
    const struct attest_policy *other = good(GOOD "report_only: true\n");
    assert_memory_equal(one->hash, same->hash, SHA256_SIZE);
    assert_memory_not_equal(one->hash, other->hash, SHA256_SIZE);
    attest_policy_unref(one);
    attest_policy_unref(same);
    attest_policy_unref(other);
}

static void rules_allow_their_values(void **state)
{
    (void)state;
    const struct attest_policy *policy = good(GOOD);
    const Postern__V1__PcrRule *rule = policy->message->pcrs[1];
    TPM2B_DIGEST value = {.size = 32};
    memset(value.buffer, 0x11, sizeof(value.buffer));
    assert_true(attest_rule_allows(rule, &value));
    assert_int_equal(attest_rule_bank(rule), TPM2_ALG_SHA256);
    value.size = 31;
    assert_false(attest_rule_allows(rule, &value));
    value.size = 48;
    assert_false(attest_rule_allows(rule, &value));
    value.size = 0;
    assert_false(attest_rule_allows(rule, &value));
    value.size = 32;
    value.buffer[31] = 0x10;
    assert_false(attest_rule_allows(rule, &value));
    attest_policy_unref(policy);
}

static void unknown_nodes_quote_what_can_be_recorded(void **state)
{
    (void)state;
    char text[PCR_TEXT_MAX];
    struct pcr_selection selection;
    memset(&selection, 0xa5, sizeof(selection));
    attest_default_selection(&selection);
    assert_string_equal(pcr_selection_format(&selection, text), "sha256:0,1,2,3,4,5,6,7,8,9,11,14");
}

/* ---- References ---- */

static void *use_and_drop(void *arg)
{
    const struct attest_policy *policy = arg;
    for (unsigned i = 0; i < 1000; i++) {
        const struct attest_policy *mine = attest_policy_ref(policy);
        if (strcmp(mine->message->name, "web") != 0)
            return POISON;
        attest_policy_unref(mine);
    }
    attest_policy_unref(policy);
    return nullptr;
}

/* The reload that drops the last policies while appraisals hold theirs; asan and tsan watch. */
static void lives_as_long_as_somebody_holds_it(void **state)
{
    (void)state;
    pthread_t threads[4];
    const struct attest_policy *policy = good(GOOD);
    assert_ptr_equal(attest_policy_ref(policy), policy);
    assert_null(attest_policy_unref(policy));
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], nullptr, use_and_drop,
                                        (void *)(uintptr_t)attest_policy_ref(policy)),
                         0);
    attest_policy_unref(policy);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        void *result = POISON;
        assert_int_equal(pthread_join(threads[i], &result), 0);
        assert_null(result);
    }
    assert_null(attest_policy_unref(nullptr));
}

static bool make_one(void *arg, struct error *err)
{
    const struct attest_policy *policy = POISON;
    bool ok = attest_policy_new(arg, &policy, err);
    if (ok)
        attest_policy_unref(policy);
    else
        assert_ptr_equal(policy, POISON);
    return ok;
}

static void survives_without_memory(void **state)
{
    (void)state;
    struct error err = {0};
    CLEANUP(pb_free_at) ProtobufCMessage *message = nullptr;
    assert_ok(pb_from_yaml(&postern__v1__attestation_policy__descriptor, "web.yaml",
                           slice_str(GOOD), &message, &err));
    testlib_allocation_sweep(make_one, message);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(compiles_all_it_says),
        cmocka_unit_test(refuses),
        cmocka_unit_test(refuses_too_many),
        cmocka_unit_test(the_hash_is_of_all_of_it),
        cmocka_unit_test(rules_allow_their_values),
        cmocka_unit_test(unknown_nodes_quote_what_can_be_recorded),
        cmocka_unit_test(lives_as_long_as_somebody_holds_it),
        cmocka_unit_test(survives_without_memory),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
