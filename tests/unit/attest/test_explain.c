/* attest/explain.h: record → compile → fulfilled; and what is not. */
#include "unit/attest/scene.h"

#include "attest/explain.h"
#include "base/mem.h"
#include "pb/yaml.h"

static struct pcr_selection select_pcrs(const char *text)
{
    struct error err = {0};
    struct pcr_selection selection = {0};
    assert_ok(pcr_selection_parse(text, &selection, &err));
    return selection;
}

static void values_of(const char *text, struct pcr_values *ret)
{
    const struct pcr_selection selection = select_pcrs(text);
    scene_values(&selection, ret);
}

static const struct attest_policy *policy_of(const struct buf *yaml)
{
    struct error err = {0};
    CLEANUP(pb_free_at) ProtobufCMessage *message = nullptr;
    const struct attest_policy *policy = nullptr;
    assert_ok(pb_from_yaml(&postern__v1__attestation_policy__descriptor, "recorded.yaml",
                           buf_slice(yaml), &message, &err));
    assert_ok(attest_policy_new((const Postern__V1__AttestationPolicy *)message, &policy, &err));
    return policy;
}

static void recorded(const char *values_text, const char *pcrs_text, const char *seal_text,
                     const char *pinned, const char *sealed)
{
    struct error err = {0};
    char text[PCR_TEXT_MAX];
    struct pcr_values values;
    struct pcr_selection pcrs, seal;
    struct attest_difference differences[ATTEST_POLICY_RULES_MAX];
    CLEANUP(buf_done) struct buf yaml;
    buf_init(&yaml, PB_YAML_MAX);
    values_of(values_text, &values);
    if (pcrs_text)
        pcrs = select_pcrs(pcrs_text);
    if (seal_text)
        seal = select_pcrs(seal_text);
    assert_ok(attest_record_policy("good-1", &values, pcrs_text ? &pcrs : nullptr,
                                   seal_text ? &seal : nullptr, &yaml, &err));
    const struct attest_policy *policy = policy_of(&yaml);
    assert_string_equal(policy->message->name, "good-1");
    assert_string_equal(pcr_selection_format(&policy->pinned, text), pinned);
    assert_string_equal(pcr_selection_format(&policy->seal, text), sealed);
    assert_int_equal(policy->ek_trust, 1U << POSTERN__V1__EK_TRUST__EK_TRUST_VENDOR_CERT);
    assert_int_equal(attest_differences(policy, &values, differences), 0);
    attest_policy_unref(policy);
}

static void what_is_recorded_is_fulfilled(void **state)
{
    (void)state;
    recorded("sha256:0,1,2,3,4,5,6,7,8,9,11,14", nullptr, nullptr, "sha256:0,2,4,6,7,8,9,11,14",
             "sha256:0,2,4,6,7,8,9,11");
    recorded("sha256:0,4,7,14", "sha256:4,14", nullptr, "sha256:4,14", "sha256:4");
    recorded("sha256:0,4,7", nullptr, "sha256:7", "sha256:0,4,7", "sha256:7");
    recorded("sha256:0,4,7+sha384:7", nullptr, nullptr, "sha256:0,4,7+sha384:7",
             "sha256:0,4,7+sha384:7");
    recorded("sha1:0,4+sha256:4", nullptr, nullptr, "sha256:4", "sha256:4");
    recorded("sha256:1+sha384:7", nullptr, nullptr, "sha384:7", "sha384:7");
}

static void refused(const char *values_text, const char *pcrs_text, const char *seal_text,
                    const char *name, const char *field, const char *says)
{
    struct error err = {0};
    struct pcr_values values;
    struct pcr_selection pcrs, seal;
    CLEANUP(buf_done) struct buf yaml;
    buf_init(&yaml, PB_YAML_MAX);
    values_of(values_text, &values);
    if (pcrs_text)
        pcrs = select_pcrs(pcrs_text);
    if (seal_text)
        seal = select_pcrs(seal_text);
    assert_fails(attest_record_policy(name, &values, pcrs_text ? &pcrs : nullptr,
                                      seal_text ? &seal : nullptr, &yaml, &err),
                 ERROR_INVALID);
    assert_string_equal(err.field, field);
    assert_error_contains(says);
    assert_int_equal(yaml.len, 0);
}

static void not_everything_can_be_recorded(void **state)
{
    (void)state;
    refused("sha256:4,7", "sha256:0,4", nullptr, "x", "pcrs", "has no sha256 PCR 0");
    refused("sha256:4,7", "sha384:4", nullptr, "x", "pcrs", "has no sha384 PCR 4");
    refused("sha256:1,4", "sha256:1", nullptr, "x", "pcrs", "PCR 1 changes");
    refused("sha256:3,4", "sha256:3,4", nullptr, "x", "pcrs", "PCR 3 changes");
    refused("sha1:4+sha256:4", "sha1:4", nullptr, "x", "pcrs", "sha1 can't be pinned");
    refused("sha512:4+sha256:4", "sha512:4", nullptr, "x", "pcrs", "sha512 can't be pinned");
    refused("sha1:4", nullptr, nullptr, "x", "pcrs", "1 to 96 rules, found 0");
    refused("sha256:14", nullptr, nullptr, "x", "seal", "expected PCRs");
    refused("sha256:4,14", nullptr, "sha256:14", "x", "seal", "PCR 14 moves");
    refused("sha256:4,7", "sha256:4", "sha256:7", "x", "seal", "without a rule");
    refused("sha256:4", nullptr, nullptr, "Not A Name", "name", "1 to 63");
}

static void differences_are_named(void **state)
{
    (void)state;
    struct error err = {0};
    struct pcr_values values, fewer;
    struct attest_difference differences[ATTEST_POLICY_RULES_MAX];
    CLEANUP(buf_done) struct buf yaml;
    buf_init(&yaml, PB_YAML_MAX);
    values_of("sha256:0,4,7", &values);
    assert_ok(attest_record_policy("good", &values, nullptr, nullptr, &yaml, &err));
    const struct attest_policy *policy = policy_of(&yaml);
    values.value[1].buffer[31] ^= 1;
    memset(differences, 0xa5, sizeof(differences));
    assert_int_equal(attest_differences(policy, &values, differences), 1);
    assert_ptr_equal(differences[0].rule, policy->message->pcrs[1]);
    assert_int_equal(differences[0].rule->index, 4);
    assert_ptr_equal(differences[0].found, &values.value[1]);
    assert_ptr_equal(differences[1].rule, POISON);
    values_of("sha256:4+sha384:0,7", &fewer);
    assert_int_equal(attest_differences(policy, &fewer, differences), 2);
    assert_int_equal(differences[0].rule->index, 0);
    assert_null(differences[0].found);
    assert_int_equal(differences[1].rule->index, 7);
    assert_null(differences[1].found);
    attest_policy_unref(policy);
}

static void every_pcr_has_a_meaning(void **state)
{
    (void)state;
    assert_string_equal(attest_pcr_meaning(0), "firmware code");
    assert_string_equal(attest_pcr_meaning(7), "Secure Boot state and keys");
    assert_string_equal(attest_pcr_meaning(17), "reserved");
    assert_string_equal(attest_pcr_meaning(PCR_COUNT), "reserved");
    assert_string_equal(attest_pcr_meaning(UINT_MAX), "reserved");
    for (unsigned pcr = 0; pcr < PCR_COUNT; pcr++)
        assert_true(strlen(attest_pcr_meaning(pcr)) > 3);
}

static bool record_one(void *arg, struct error *err)
{
    CLEANUP(buf_done) struct buf yaml;
    buf_init(&yaml, PB_YAML_MAX);
    return attest_record_policy("good", arg, nullptr, nullptr, &yaml, err);
}

static void survives_without_memory(void **state)
{
    (void)state;
    struct pcr_values values;
    values_of("sha256:0,4,7", &values);
    testlib_allocation_sweep(record_one, &values);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_recorded_is_fulfilled),
        cmocka_unit_test(not_everything_can_be_recorded),
        cmocka_unit_test(differences_are_named),
        cmocka_unit_test(every_pcr_has_a_meaning),
        cmocka_unit_test(survives_without_memory),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
