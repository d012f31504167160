/* A TPM's own evidence, from lib/tpm to the verdict, under a policy that was recorded from it. */
#include "integration/attest/agent.h"

#include "attest/explain.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/text.h"
#include "pb/yaml.h"
#include "tpmwire/public.h"

#include <stdio.h>
#include <stdlib.h>

constexpr Postern__V1__Verdict AFFIRMING = POSTERN__V1__VERDICT__VERDICT_AFFIRMING;
constexpr Postern__V1__Verdict REFUSED = POSTERN__V1__VERDICT__VERDICT_CONTRAINDICATED;
constexpr Postern__V1__Verdict PENDING = POSTERN__V1__VERDICT__VERDICT_PENDING;

static struct fixture {
    char folder[64];
    struct agent agent;
    struct ek_roots *roots;
    const struct attest_policy *policy;
    struct attest_record record; /* as after the last affirming appraisal */
    struct appraisal appraisal;  /* of the last conversation */
} f;

static void read_pem(const struct agent *agent, struct buf *ret)
{
    struct error err = {0};
    char path[256];
    (void)snprintf(path, sizeof(path), "%s/ca/issuercert.pem", agent->chip.folder);
    assert_ok(file_read(agent->chip.root_pem, ret, &err));
    assert_ok(file_read(path, ret, &err)); /* the TPM does not carry its issuer */
}

static int set_up(void **state)
{
    (void)state;
    struct error err = {0};
    static const char there[] = "command -v swtpm_setup >/dev/null && command -v swtpm >/dev/null";
    if (system(there) != 0) { /* NOLINT(cert-env33-c): a fixed line */
        print_message("skipped: no swtpm\n");
        exit(77);
    }
    tpm_setup();
    agent_up(&f.agent, testlib_folder(f.folder), "a");
    CLEANUP(buf_done) struct buf pem;
    buf_init(&pem, EK_ROOTS_PEM_MAX);
    read_pem(&f.agent, &pem);
    assert_ok(ek_roots_new(buf_slice(&pem), &f.roots, &err));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    agent_down(&f.agent);
    ek_roots_free(f.roots);
    attest_policy_unref(f.policy);
    testlib_folder_remove(f.folder);
    return 0;
}

static void appraise(struct attest_case *in)
{
    struct error err = {0};
    in->record = &f.record;
    in->policy = f.policy;
    in->roots = f.roots;
    memset(&f.appraisal, 0xa5, sizeof(f.appraisal));
    assert_ok(attest_appraise(in, &f.appraisal, &err));
}

static bool has_reason(unsigned check)
{
    for (size_t i = 0; i < f.appraisal.reason_count; i++) {
        if (f.appraisal.reasons[i].check == check)
            return true;
    }
    return false;
}

static void expect(Postern__V1__Verdict verdict, bool authentic)
{
    if (f.appraisal.verdict != verdict || f.appraisal.authentic != authentic) {
        for (size_t i = 0; i < f.appraisal.reason_count; i++)
            print_error("check %u: %s\n", f.appraisal.reasons[i].check,
                        f.appraisal.reasons[i].detail);
    }
    assert_int_equal(f.appraisal.verdict, verdict);
    assert_int_equal(f.appraisal.authentic, authentic);
    if (verdict == AFFIRMING)
        assert_int_equal(f.appraisal.reason_count, 0);
}

/* The one reason, or fails. */
static void expect_only(unsigned check, bool authentic)
{
    expect(REFUSED, authentic);
    assert_int_equal(f.appraisal.reason_count, 1);
    assert_int_equal(f.appraisal.reasons[0].check, check);
}

static const struct pcr_selection *selection(void)
{
    static struct pcr_selection initial;
    attest_default_selection(&initial);
    return f.policy ? &f.policy->quoted : &initial;
}

/* What the authority would record. */
static void record(const struct talk *talk)
{
    f.record.known = true;
    f.record.admitted = true;
    f.record.ek_name = talk->identity.ek_name;
    f.record.ak_name = talk->identity.ak_name;
    f.record.wrap_name = talk->identity.wrap_name;
    f.record.has_clock = true;
    f.record.reset_count = f.appraisal.reset_count;
    f.record.restart_count = f.appraisal.restart_count;
    f.record.clock_ms = f.appraisal.clock_ms;
    f.record.clear_accepted = false;
    f.record.has_generation = true;
    f.record.limit = f.appraisal.counter;
    f.record.counter_name = talk->identity.counter_name;
}

/* A whole conversation with the TPM; `change` may alter the case before it is judged. */
static void converse(struct talk *talk, void (*change)(struct attest_case *in))
{
    struct attest_case in;
    talk_init(talk);
    talk_hello(talk, &f.agent);
    talk_challenge(talk, &f.record, selection());
    assert_true(talk_evidence(talk, &f.agent));
    talk_case(talk, &in);
    if (change)
        change(&in);
    appraise(&in);
}

static void attest(void (*change)(struct attest_case *in))
{
    struct talk talk;
    converse(&talk, change);
    talk_done(&talk);
}

static void reboot(bool orderly, bool extend)
{
    struct error err = {0};
    assert_ok(swtpm_stop(&f.agent.chip, orderly, &err));
    assert_ok(swtpm_start(&f.agent.chip, &err));
    if (extend)
        assert_ok(swtpm_extend_boot(&f.agent.chip, &err));
}

/* ---- In this order: each builds on what the one before recorded ---- */

static void a_new_tpm_is_pending_and_its_state_recorded(void **state)
{
    (void)state;
    struct error err = {0};
    attest(nullptr);
    expect(PENDING, true);
    assert_int_equal(f.appraisal.reason_count, 1);
    assert_int_equal(f.appraisal.reasons[0].check, 4);
    assert_int_equal(f.appraisal.ek_trust, POSTERN__V1__EK_TRUST__EK_TRUST_VENDOR_CERT);

    CLEANUP(buf_done) struct buf yaml;
    CLEANUP(pb_free_at) ProtobufCMessage *message = nullptr;
    buf_init(&yaml, PB_YAML_MAX);
    assert_ok(attest_record_policy("recorded", &f.appraisal.pcrs, nullptr, nullptr, &yaml, &err));
    assert_ok(pb_from_yaml(&postern__v1__attestation_policy__descriptor, "recorded.yaml",
                           buf_slice(&yaml), &message, &err));
    assert_ok(attest_policy_new((const Postern__V1__AttestationPolicy *)message, &f.policy, &err));
    char text[PCR_TEXT_MAX];
    assert_string_equal(pcr_selection_format(&f.policy->pinned, text),
                        "sha256:0,2,4,6,7,8,9,11,14");
    assert_string_equal(pcr_selection_format(&f.policy->seal, text), "sha256:0,2,4,6,7,8,9,11");
}

static void with_token(struct attest_case *in)
{
    in->token_valid = true;
}

static void a_token_admits_it(void **state)
{
    (void)state;
    struct talk talk;
    converse(&talk, with_token);
    expect(AFFIRMING, true);
    assert_non_null(talk.credential);
    record(&talk);
    talk_done(&talk);
}

static void it_comes_again_without_token_or_credential(void **state)
{
    (void)state;
    struct talk talk;
    converse(&talk, nullptr);
    expect(AFFIRMING, true);
    assert_null(talk.credential);
    record(&talk);
    talk_done(&talk);
}

static void spent_nonce(struct attest_case *in)
{
    in->nonce.unused = false;
}

static void other_connection(struct attest_case *in)
{
    static const uint8_t exporter[32] = {1};
    in->exporter = SLICE_OF(exporter);
}

static void replays_are_refused(void **state)
{
    (void)state;
    attest(spent_nonce);
    expect_only(14, false);

    attest(other_connection);
    expect(REFUSED, false);
    assert_true(has_reason(10) && has_reason(13) && has_reason(38));

    /* Yesterday's evidence to today's nonce. */
    struct talk talk;
    struct attest_case in;
    talk_init(&talk);
    talk_hello(&talk, &f.agent);
    talk_challenge(&talk, &f.record, selection());
    assert_true(talk_evidence(&talk, &f.agent));
    talk.nonce[0] ^= 1;
    talk_case(&talk, &in);
    appraise(&in);
    expect(REFUSED, false);
    assert_true(has_reason(10) && has_reason(13) && has_reason(38));
    talk_done(&talk);

    /* The very same evidence twice, as if its nonce were good for two answers: the clock stands. */
    converse(&talk, nullptr);
    expect(AFFIRMING, true);
    record(&talk);
    talk_case(&talk, &in);
    appraise(&in);
    expect_only(20, true);
    talk_done(&talk);
}

/* The quote of another TPM, good in itself, for this one's hello; and this one's EK vouching for
 * another's AK. */
static void another_tpm_does_not_help(void **state)
{
    (void)state;
    struct agent other;
    struct talk talk, foreign;
    struct attest_case in;
    agent_up(&other, f.folder, "b");

    talk_init(&talk);
    talk_hello(&talk, &f.agent);
    talk_challenge(&talk, &f.record, selection());
    assert_true(talk_evidence(&talk, &other));
    talk_case(&talk, &in);
    appraise(&in);
    expect(REFUSED, false);
    static const unsigned caught[] = {9, 10, 12, 18, 38};
    for (size_t i = 0; i < ARRAY_LEN(caught); i++)
        assert_true(has_reason(caught[i]));
    talk_done(&talk);

    struct error err = {0};
    talk_init(&foreign);
    talk_init(&talk);
    talk_hello(&foreign, &other);
    talk_hello(&talk, &f.agent);
    for (size_t i = 1; i < ARRAY_LEN(foreign.areas); i++) { /* all but the EK */
        buf_clear(&talk.areas[i]);
        buf_put(&talk.areas[i], buf_slice(&foreign.areas[i]));
        assert_ok(buf_ok(&talk.areas[i], &err));
    }
    talk.hello.ak_public = (ProtobufCBinaryData){talk.areas[1].len, talk.areas[1].data};
    talk.hello.wrap_public = (ProtobufCBinaryData){talk.areas[2].len, talk.areas[2].data};
    talk.hello.req_public = (ProtobufCBinaryData){talk.areas[3].len, talk.areas[3].data};
    talk.hello.counter_public = (ProtobufCBinaryData){talk.areas[4].len, talk.areas[4].data};
    assert_ok(attest_identity_parse(&talk.hello, &talk.identity, &err));
    talk_challenge(&talk, &f.record, selection());
    assert_non_null(talk.credential);
    assert_false(talk_evidence(&talk, &other)); /* only the TPM with the EK opens it … */
    talk_case(&talk, &in);
    appraise(&in);
    expect(REFUSED, false);
    assert_true(has_reason(8));
    assert_false(has_reason(12)); /* … although everything is signed by that AK */

    CLEANUP(secret_free_at) struct secret *answer = nullptr;
    agent_begin(&f.agent);
    assert_false(tpm_activate(f.agent.tpm, buf_slice(&talk.blob), buf_slice(&talk.seed), &answer,
                              &err)); /* and only for an AK of its own */
    tpm_end(f.agent.tpm);
    talk_done(&talk);
    talk_done(&foreign);
    agent_down(&other);
}

static void a_reboot_counts(void **state)
{
    (void)state;
    struct talk talk;
    uint32_t resets = f.record.reset_count;
    reboot(true, false);
    attest(nullptr);
    expect(REFUSED, true); /* the boot PCRs are empty */
    assert_true(has_reason(39));
    assert_int_equal(f.appraisal.reset_count, resets + 1);
    struct error err = {0};
    assert_ok(swtpm_extend_boot(&f.agent.chip, &err));
    converse(&talk, nullptr);
    expect(AFFIRMING, true);
    assert_int_equal(f.appraisal.reset_count, resets + 1);
    record(&talk);
    talk_done(&talk);

    /* The power is cut: `safe` is clear. */
    reboot(false, true);
    converse(&talk, nullptr);
    expect(AFFIRMING, true);
    assert_true(f.appraisal.reset_count > resets + 1);
    struct tpm_time time;
    agent_begin(&f.agent);
    assert_ok(tpm_time(f.agent.tpm, &time, &err));
    tpm_end(f.agent.tpm);
    assert_false(time.safe);
    record(&talk);
    talk_done(&talk);

    /* An older state of the same TPM: as if the record were of a later boot. */
    f.record.reset_count += 1;
    attest(nullptr);
    expect_only(19, true);
    f.record.reset_count -= 1;
}

static void a_changed_boot_is_named(void **state)
{
    (void)state;
    struct error err = {0};
    assert_ok(swtpm_extend(&f.agent.chip, 4, "another boot loader", &err));
    assert_ok(swtpm_extend(&f.agent.chip, 9, "another kernel", &err));
    attest(nullptr);
    expect_only(39, true);
    testlib_assert_contains(f.appraisal.reasons[0].detail, "sha256 PCR 4 is ", __FILE__, __LINE__);

    struct attest_difference differences[ATTEST_POLICY_RULES_MAX];
    assert_int_equal(attest_differences(f.policy, &f.appraisal.pcrs, differences), 2);
    static const unsigned pcrs[] = {4, 9};
    for (size_t i = 0; i < 2; i++) {
        char found[2 * 64 + 1];
        const struct attest_difference *difference = &differences[i];
        assert_int_equal(difference->rule->index, pcrs[i]);
        assert_non_null(difference->found);
        hex_encode(slice(difference->found->buffer, difference->found->size), found);
        assert_int_equal(difference->rule->n_allowed, 1);
        assert_string_not_equal(difference->rule->allowed[0], found);
        if (i == 0)
            testlib_assert_contains(f.appraisal.reasons[0].detail, found, __FILE__, __LINE__);
    }
    struct talk talk;
    reboot(true, true); /* into the good state */
    converse(&talk, nullptr);
    expect(AFFIRMING, true);
    record(&talk);
    talk_done(&talk);
}

/* A PCR that anybody may reset and extend, and a selection that nobody asked for. */
static void it_quotes_what_was_asked(void **state)
{
    (void)state;
    struct talk talk;
    struct attest_case in;
    talk_init(&talk);
    talk_hello(&talk, &f.agent);
    talk_challenge(&talk, &f.record, selection());
    talk.asked.bank[0].mask ^= 1U << 7 | 1U << 16; /* what the TPM is told to quote */
    assert_true(talk_evidence(&talk, &f.agent));
    talk_case(&talk, &in);
    appraise(&in);
    expect(REFUSED, true);
    assert_true(has_reason(15) && has_reason(16) && has_reason(39));

    talk.selections[0].mask = selection()->bank[0].mask; /* and labels the values as asked for */
    appraise(&in);
    expect(REFUSED, true);
    assert_true(has_reason(15) && !has_reason(16));
    talk_done(&talk);
}

static void a_blown_fuse_is_seen(void **state)
{
    (void)state;
    struct error err = {0};
    uint64_t now = 0;
    uint64_t limit = f.record.limit;
    f.record.limit = limit + 1; /* a generation is confirmed, its predecessor not yet retired */
    attest(nullptr);
    expect(POSTERN__V1__VERDICT__VERDICT_WARNING, true);
    f.record.limit = limit;
    agent_begin(&f.agent);
    assert_ok(tpm_counter_raise(f.agent.tpm, &f.agent.counter, limit + 2, &now, &err));
    tpm_end(f.agent.tpm);
    attest(nullptr);
    expect_only(37, true);
    assert_int_equal(f.appraisal.counter, limit + 2);
    f.record.limit = limit + 2;
    attest(nullptr);
    expect(AFFIRMING, true);
}

/* A second index of the same shape, so that the first need not move. */
static void a_second_counter_is_seen(void **state)
{
    (void)state;
    struct error err = {0};
    struct talk talk;
    const struct tpm_counter first = f.agent.counter;
    f.agent.counter.index++;
    agent_begin(&f.agent);
    assert_ok(tpm_counter_make(f.agent.tpm, &f.agent.counter, &err));
    tpm_end(f.agent.tpm);
    attest(nullptr);
    expect_only(37, true);
    f.agent.counter = first;
    converse(&talk, nullptr);
    expect(AFFIRMING, true);
    record(&talk);
    talk_done(&talk);
}

/* TPM2_Clear with the empty lockout auth. */
static void clear_tpm(void)
{
    static const uint8_t command[] = {0x80, 0x02, 0, 0, 0,    27, 0, 0, 0x01,
                                      0x26, 0x40, 0, 0, 0x0a, 0,  0, 0, 9,
                                      0x40, 0,    0, 9, 0,    0,  0, 0, 0};
    struct error err = {0};
    uint8_t answer[256];
    size_t len = 0;
    assert_ok(swtpm_command(f.agent.chip.socket, command, sizeof(command), answer, sizeof(answer),
                            &len, &err));
    assert_memory_equal(answer + 6, "\0\0\0\0", 4);
}

static void a_clear_needs_the_operators_word(void **state)
{
    (void)state;
    struct error err = {0};
    struct talk talk;
    clear_tpm();
    agent_begin(&f.agent);
    assert_ok(tpm_counter_make(f.agent.tpm, &f.agent.counter, &err));
    tpm_end(f.agent.tpm);
    attest(nullptr);
    expect(REFUSED, true);
    assert_true(has_reason(19) && has_reason(37));
    f.record.clear_accepted = true;
    converse(&talk, nullptr);
    expect(AFFIRMING, true);
    assert_false(name_equal(&talk.identity.wrap_name, &f.record.wrap_name));
    assert_true(f.appraisal.counter > f.record.limit);
    assert_true(f.appraisal.reset_count < f.record.reset_count);
    record(&talk);
    talk_done(&talk);
    attest(nullptr);
    expect(AFFIRMING, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_tpm_is_pending_and_its_state_recorded),
        cmocka_unit_test(a_token_admits_it),
        cmocka_unit_test(it_comes_again_without_token_or_credential),
        cmocka_unit_test(replays_are_refused),
        cmocka_unit_test(another_tpm_does_not_help),
        cmocka_unit_test(a_reboot_counts),
        cmocka_unit_test(a_changed_boot_is_named),
        cmocka_unit_test(it_quotes_what_was_asked),
        cmocka_unit_test(a_blown_fuse_is_seen),
        cmocka_unit_test(a_second_counter_is_seen),
        cmocka_unit_test(a_clear_needs_the_operators_word),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
