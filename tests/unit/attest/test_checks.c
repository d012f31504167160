/* attest/checks.h: each lie is caught by just the checks that it is meant for, and would pass
 * without them. */
#include "unit/attest/lies.h"

#include "attest/checks.h"
#include "base/mem.h"
#include "tpmwire/public.h"
#include "tpmwire/template.h"

constexpr Postern__V1__Verdict AFFIRMING = POSTERN__V1__VERDICT__VERDICT_AFFIRMING;
constexpr Postern__V1__Verdict REFUSED = POSTERN__V1__VERDICT__VERDICT_CONTRAINDICATED;

static struct softtpm tpm;

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

static struct appraisal *appraise(const struct scene *scene, uint64_t without)
{
    static struct appraisal appraisal;
    struct error err = {0};
    memset(&appraisal, 0xa5, sizeof(appraisal));
    assert_ok(attest_appraise_without(&scene->in, without, &appraisal, &err));
    return &appraisal;
}

static void assert_affirming(const struct scene *scene)
{
    const struct appraisal *appraisal = appraise(scene, 0);
    for (size_t i = 0; i < appraisal->reason_count; i++)
        print_error("check %u: %s\n", appraisal->reasons[i].check, appraisal->reasons[i].detail);
    assert_int_equal(appraisal->verdict, AFFIRMING);
    assert_int_equal(appraisal->reason_count, 0);
    assert_true(appraisal->authentic);
}

/* ---- The lies ---- */

static void tell(const struct lie *lie, struct scene *scene)
{
    scene_open(scene, &tpm);
    scene->arg = lie->arg;
    if (lie->before_hello)
        lie->before_hello(scene);
    scene_hello(scene);
    if (lie->before_parts)
        lie->before_parts(scene);
    scene_parts(scene);
    if (lie->before_signing)
        lie->before_signing(scene);
    scene_sign(scene);
    scene->arg = lie->arg;
    scene_case(scene);
    if (lie->at_last)
        lie->at_last(scene);
}

static const struct attest_check *check_of(unsigned number)
{
    for (size_t i = 0; i < attest_check_count; i++) {
        if (attest_checks[i].number == number)
            return &attest_checks[i];
    }
    return nullptr;
}

static size_t catcher_count(const struct lie *lie)
{
    size_t count = 0;
    while (count < ARRAY_LEN(lie->checks) && lie->checks[count] != 0)
        count++;
    return count;
}

static uint64_t catchers(const struct lie *lie)
{
    uint64_t mask = 0;
    for (size_t i = 0; i < catcher_count(lie); i++)
        mask |= UINT64_C(1) << lie->checks[i];
    return mask;
}

static bool is_caught(const struct lie *lie, const struct appraisal *found)
{
    Postern__V1__Verdict verdict = lie->verdict ? lie->verdict : REFUSED;
    bool ok = found->verdict == verdict && found->authentic == !lie->forged &&
              found->reason_count == catcher_count(lie);
    for (size_t i = 0; i < catcher_count(lie) && ok; i++)
        ok = found->reasons[i].check == lie->checks[i] &&
             strcmp(found->reasons[i].name, check_of(lie->checks[i])->name) == 0 &&
             found->reasons[i].outcome != ATTEST_PASS && found->reasons[i].detail[0] != '\0';
    bool blamed = false;
    for (size_t i = 0; i < found->reason_count; i++)
        blamed |= found->reasons[i].unauthentic;
    return ok && blamed == lie->forged && strstr(found->reasons[0].detail, lie->says);
}

static void report(const struct lie *lie, const struct appraisal *found)
{
    print_error("%s: verdict %d, %sauthentic\n", lie->what, (int)found->verdict,
                found->authentic ? "" : "not ");
    for (size_t i = 0; i < found->reason_count; i++)
        print_error("  check %u, %s: %s\n", found->reasons[i].check, found->reasons[i].name,
                    found->reasons[i].detail);
}

static void every_lie_is_caught(void **state)
{
    (void)state;
    size_t missed = 0;
    for (size_t i = 0; i < lie_count; i++) {
        struct scene scene;
        tell(&lies[i], &scene);
        const struct appraisal *found = appraise(&scene, 0);
        if (!is_caught(&lies[i], found)) {
            report(&lies[i], found);
            missed++;
        }
        scene_close(&scene);
    }
    assert_int_equal(missed, 0);
}

/* Without the checks that catch it a lie passes, so nothing else did; and each of several that
 * overlap catches it alone. */
static void no_lie_is_caught_by_others(void **state)
{
    (void)state;
    size_t wrong = 0;
    for (size_t i = 0; i < lie_count; i++) {
        struct scene scene;
        tell(&lies[i], &scene);
        const struct appraisal *found = appraise(&scene, catchers(&lies[i]));
        if (found->verdict != AFFIRMING || found->reason_count != 0 || !found->authentic) {
            report(&lies[i], found);
            wrong++;
        }
        for (size_t j = 0; j < catcher_count(&lies[i]); j++) {
            uint64_t others = catchers(&lies[i]) & ~(UINT64_C(1) << lies[i].checks[j]);
            found = appraise(&scene, others);
            if (found->reason_count != 1 || found->reasons[0].check != lies[i].checks[j]) {
                report(&lies[i], found);
                wrong++;
            }
        }
        scene_close(&scene);
    }
    assert_int_equal(wrong, 0);
}

/* 7 and 17 never catch a lie alone (docs/attestation.md says why), 22 and 36 refuse nothing. */
static void every_check_has_its_lie(void **state)
{
    (void)state;
    for (size_t i = 0; i < attest_check_count; i++) {
        unsigned number = attest_checks[i].number;
        size_t alone = 0, at_all = 0;
        for (size_t j = 0; j < lie_count; j++) {
            at_all += (catchers(&lies[j]) & UINT64_C(1) << number) != 0;
            alone += catchers(&lies[j]) == UINT64_C(1) << number;
        }
        bool positive = number == 22 || number == 36;
        bool overlapped = number == 7 || number == 17;
        assert_int_equal(at_all > 0, !positive);
        assert_int_equal(alone > 0, !positive && !overlapped);
    }
}

static void the_table_is_in_order(void **state)
{
    (void)state;
    static const unsigned numbers[] = {1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13,
                                       14, 15, 16, 17, 18, 19, 20, 22, 23, 36, 37, 38, 39};
    struct attest_line line;
    assert_int_equal(attest_check_count, ARRAY_LEN(numbers));
    assert_false(attest_table(attest_check_count, &line));
    for (size_t i = 0; i < attest_check_count; i++) {
        assert_int_equal(attest_checks[i].number, numbers[i]);
        assert_true(strlen(attest_checks[i].name) > 0 && strlen(attest_checks[i].what) > 0);
        assert_true(attest_table(i, &line));
        assert_int_equal(line.number, numbers[i]);
        assert_string_equal(line.name, attest_checks[i].name);
        assert_string_equal(line.what, attest_checks[i].what);
        assert_int_equal(line.authentic, attest_checks[i].authentic);
    }
}

/* Several lies at once: all are named, the worst decides. */
static void the_worst_decides(void **state)
{
    (void)state;
    struct scene scene;
    scene_open(&scene, &tpm);
    scene_hello(&scene);
    scene_parts(&scene);
    scene.parts[PART_COUNTER].attested.attested.nv.nvContents.buffer[7] = SCENE_LIMIT - 1;
    scene_sign(&scene);
    scene_case(&scene);
    scene.record.admitted = false;
    const struct appraisal *found = appraise(&scene, 0);
    assert_int_equal(found->verdict, POSTERN__V1__VERDICT__VERDICT_PENDING);
    assert_int_equal(found->reason_count, 2);
    assert_int_equal(found->reasons[0].outcome, ATTEST_PEND);
    assert_int_equal(found->reasons[1].outcome, ATTEST_WARN);
    scene.in.nonce.unused = false;
    found = appraise(&scene, 0);
    assert_int_equal(found->verdict, REFUSED);
    assert_int_equal(found->reason_count, 3);
    assert_int_equal(found->reasons[1].outcome, ATTEST_FAIL);
    scene_close(&scene);
}

/* ---- The truth ---- */

static void honest_evidence_is_affirmed(void **state)
{
    (void)state;
    struct scene scene;
    scene_play(&scene, &tpm);
    assert_affirming(&scene);
    const struct appraisal *found = appraise(&scene, 0);
    assert_int_equal(found->ek_trust, POSTERN__V1__EK_TRUST__EK_TRUST_VENDOR_CERT);
    assert_int_equal(found->reset_count, 5);
    assert_int_equal(found->restart_count, 2);
    assert_int_equal(found->clock_ms, 2000);
    assert_int_equal(found->firmware_version, 0x2024000100000002);
    assert_int_equal(found->counter, SCENE_LIMIT);
    assert_int_equal(found->pcrs.count, 4);
    assert_true(pcr_selection_equal(&found->pcrs.selection, &scene.asked));
    assert_int_equal(pcr_values_get(&found->pcrs, TPM2_ALG_SHA256, 4)->buffer[0], 0x14);
    scene_close(&scene);
}

/* 36: what is recorded is the hash of just what travelled. */
static void the_evidence_is_recorded_by_its_hash(void **state)
{
    (void)state;
    struct error err = {0};
    struct scene scene;
    scene_play(&scene, &tpm);
    CLEANUP(buf_done) struct buf all;
    uint8_t expected[SHA256_SIZE];
    buf_init(&all, 1024 * 1024);
    buf_put_prefixed(&all, buf_slice(&scene.hello_bytes));
    buf_put_prefixed(&all, buf_slice(&scene.challenge_bytes));
    buf_put_prefixed(&all, buf_slice(&scene.evidence_bytes));
    assert_ok(sha256(buf_slice(&all), expected, &err));
    assert_memory_equal(appraise(&scene, 0)->evidence_hash, expected, SHA256_SIZE);
    struct slice *pieces[] = {&scene.in.hello_bytes, &scene.in.challenge_bytes,
                              &scene.in.evidence_bytes};
    for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
        pieces[i]->len--;
        assert_memory_not_equal(appraise(&scene, 0)->evidence_hash, expected, SHA256_SIZE);
        pieces[i]->len++;
    }
    scene_close(&scene);
}

/* Stages of a scene with one thing changed that is no lie. */
#define PLAY(before_hello, before_parts, before_signing, at_last)                                  \
    do {                                                                                           \
        struct scene scene;                                                                        \
        scene_open(&scene, &tpm);                                                                  \
        before_hello;                                                                              \
        scene_hello(&scene);                                                                       \
        before_parts;                                                                              \
        scene_parts(&scene);                                                                       \
        before_signing;                                                                            \
        scene_sign(&scene);                                                                        \
        scene_case(&scene);                                                                        \
        at_last;                                                                                   \
        assert_affirming(&scene);                                                                  \
        scene_close(&scene);                                                                       \
    } while (false)

/* 5: what is hashed is the public area, all of it. */
static void the_ak_is_known_by_its_public_area(void **state)
{
    (void)state;
    struct error err = {0};
    struct scene scene;
    TPM2B_NAME name;
    scene_play(&scene, &tpm);
    assert_ok(public_area_name(&scene.ak, &name, &err));
    assert_true(name_equal(&name, &scene.identity.ak_name));
    assert_affirming(&scene);
    scene_close(&scene);
}

static void clocks_that_are_no_lie(void **state)
{
    (void)state;
    TPMS_CLOCK_INFO *clock = nullptr;
    /* 22: after an unclean stop. */
    PLAY(, , scene.parts[PART_QUOTE].attested.clockInfo.safe = TPM2_NO, );
    /* A reboot, after which the clock may be lower (it is saved now and then); a resume. */
    PLAY(, , clock = &scene.parts[PART_QUOTE].attested.clockInfo; clock->resetCount = 6;
         clock->restartCount = 0; clock->clock = 1, );
    PLAY(, , clock = &scene.parts[PART_QUOTE].attested.clockInfo; clock->restartCount = 3;
         clock->clock = 1, );
    /* Nothing to compare with. */
    PLAY(, , clock = &scene.parts[PART_QUOTE].attested.clockInfo; clock->resetCount = 0;
         clock->clock = 0, scene.record.has_clock = false);
    /* The operator's word, and the TPM shows that it was cleared: counts, clock and counter anew. */
    PLAY(, , clock = &scene.parts[PART_QUOTE].attested.clockInfo; clock->resetCount = 0;
         clock->restartCount = 0; clock->clock = 1;
         scene.parts[PART_COUNTER].attested.attested.nv.nvContents.buffer[7] = SCENE_LIMIT + 3,
         scene.record.clear_accepted = true;
         scene.record.wrap_name.name[5] ^= 1);
    /* … perhaps at another index. */
    PLAY(, , , scene.record.clear_accepted = true; scene.record.wrap_name.name[5] ^= 1;
         scene.record.counter_name.name[5] ^= 1);
    PLAY(, , scene.parts[PART_QUOTE].attested.clockInfo.clock = 1,
         scene.record.clear_accepted = true;
         scene.record.wrap_name.name[5] ^= 1);
}

static void admissions(void **state)
{
    (void)state;
    PLAY(, , , scene.record = (struct attest_record){0}; scene.in.token_valid = true);
    PLAY(, , , scene.record.admitted = false; scene.in.token_valid = true);
    PLAY(, , , scene.in.nonce.age_ms = 0);
    PLAY(, , , scene.in.nonce.age_ms = ATTEST_NONCE_LIFETIME_MS);
    /* A pair that was proven is not asked again. */
    PLAY(, , , scene.in.credential = nullptr; scene.evidence.credential.len = 0);
    /* No generation is confirmed: the counter may have any value. */
    PLAY(, , scene.parts[PART_COUNTER].attested.attested.nv.nvContents.buffer[0] = 0xff,
         scene.record.has_generation = false);
    PLAY(scene.policy_message.firmware_floor = (char[]){"2024000100000002"}, , , );
}

static void use_rsa_ak(struct scene *scene, TPM2_ALG_ID scheme)
{
    template_fill(TEMPLATE_AK_RSA_2048, &scene->ak);
    scene->ak.parameters.rsaDetail.scheme.scheme = scheme;
    softtpm_area_key(&scene->ak, tpm.rsa);
    scene->ak_key = tpm.rsa;
}

static void use_p384_ak(struct scene *scene)
{
    scene->ak.parameters.eccDetail.curveID = TPM2_ECC_NIST_P384;
    scene->ak.parameters.eccDetail.scheme.details.ecdsa.hashAlg = TPM2_ALG_SHA384;
    softtpm_area_key(&scene->ak, tpm.p384);
    scene->ak_key = tpm.p384;
}

static void use_rsa_wrap(struct scene *scene)
{
    template_fill(TEMPLATE_WRAP_RSA_2048, &scene->wrap);
    softtpm_area_key(&scene->wrap, tpm.rsa);
}

static void use_rsa_ek(struct scene *scene)
{
    template_fill(TEMPLATE_EK_L1_RSA_2048, &scene->ek);
    softtpm_area_key(&scene->ek, tpm.rsa);
    scene->certificate_spec.key = tpm.rsa;
}

static void kinds_of_keys(void **state)
{
    (void)state;
    PLAY(use_rsa_ak(&scene, TPM2_ALG_RSASSA), , , );
    PLAY(use_rsa_ak(&scene, TPM2_ALG_RSAPSS), , , );
    PLAY(use_p384_ak(&scene), , , );
    PLAY(use_rsa_wrap(&scene), , , );
    PLAY(use_rsa_ek(&scene), , , );
}

static void ask_also(struct scene *scene, TPMI_ALG_HASH bank, uint32_t mask)
{
    scene->asked.bank[scene->asked.count++] = (struct pcr_bank){bank, mask};
}

static void kinds_of_selections(void **state)
{
    (void)state;
    /* More than the policy has rules for; SHA-1 beside a good bank; two banks in the policy. */
    PLAY(, scene.asked.bank[0].mask |= 1U << 9 | 1U << 16, , );
    PLAY(, ask_also(&scene, TPM2_ALG_SHA1, 0xff), , );
    PLAY(scene_rule(&scene, "sha384", 7), ask_also(&scene, TPM2_ALG_SHA384, 1U << 7), , );
}

/* ---- Trust in the EK ---- */

static void trust_of(const Postern__V1__EkTrust *modes, size_t count, bool has_roots, bool pinned,
                     Postern__V1__EkTrust expected)
{
    struct scene scene;
    scene_open(&scene, &tpm);
    for (size_t i = 0; i < count; i++)
        scene.trust[i] = modes[i];
    scene.policy_message.n_ek_trust = count;
    scene_hello(&scene);
    scene_parts(&scene);
    scene_sign(&scene);
    scene_case(&scene);
    if (!has_roots)
        scene.in.roots = nullptr;
    if (pinned) {
        scene.in.pins = scene.pin;
        scene.in.pin_count = 1;
    }
    const struct appraisal *found = appraise(&scene, 0);
    assert_int_equal(found->ek_trust, expected);
    assert_int_equal(found->verdict, expected ? AFFIRMING : REFUSED);
    scene_close(&scene);
}

static void the_strongest_trust_counts(void **state)
{
    (void)state;
    constexpr Postern__V1__EkTrust NONE = POSTERN__V1__EK_TRUST__EK_TRUST_UNSPECIFIED;
    constexpr Postern__V1__EkTrust VENDOR = POSTERN__V1__EK_TRUST__EK_TRUST_VENDOR_CERT;
    constexpr Postern__V1__EkTrust PINNED = POSTERN__V1__EK_TRUST__EK_TRUST_PINNED;
    constexpr Postern__V1__EkTrust TOFU = POSTERN__V1__EK_TRUST__EK_TRUST_TOFU;
    static const Postern__V1__EkTrust all[] = {TOFU, PINNED, VENDOR};
    const struct {
        Postern__V1__EkTrust accepts, vendor, pin, neither;
    } cases[] = {
        {VENDOR, VENDOR, NONE, NONE},
        {PINNED, NONE, PINNED, NONE},
        {TOFU, TOFU, TOFU, TOFU},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        trust_of(&cases[i].accepts, 1, true, false, cases[i].vendor);
        trust_of(&cases[i].accepts, 1, false, true, cases[i].pin);
        trust_of(&cases[i].accepts, 1, false, false, cases[i].neither);
    }
    trust_of(all, 3, true, true, VENDOR);
    trust_of(all, 3, false, true, PINNED);
    trust_of(all, 3, false, false, TOFU);
    trust_of(all + 1, 2, false, true, PINNED);
}

/* An unknown TPM is looked at in every way, so that an operator knows whom they admit. */
static void without_a_policy_trust_is_only_told(void **state)
{
    (void)state;
    struct scene scene;
    scene_play(&scene, &tpm);
    scene.record = (struct attest_record){0};
    scene.in.policy = nullptr;
    const struct appraisal *found = appraise(&scene, 0);
    assert_int_equal(found->ek_trust, POSTERN__V1__EK_TRUST__EK_TRUST_VENDOR_CERT);
    scene.in.roots = nullptr;
    found = appraise(&scene, 0);
    assert_int_equal(found->ek_trust, POSTERN__V1__EK_TRUST__EK_TRUST_TOFU);
    assert_int_equal(found->verdict, POSTERN__V1__VERDICT__VERDICT_PENDING);
    assert_true(found->authentic);
    scene_close(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(honest_evidence_is_affirmed),
        cmocka_unit_test(every_lie_is_caught),
        cmocka_unit_test(no_lie_is_caught_by_others),
        cmocka_unit_test(every_check_has_its_lie),
        cmocka_unit_test(the_table_is_in_order),
        cmocka_unit_test(the_worst_decides),
        cmocka_unit_test(the_evidence_is_recorded_by_its_hash),
        cmocka_unit_test(the_ak_is_known_by_its_public_area),
        cmocka_unit_test(clocks_that_are_no_lie),
        cmocka_unit_test(admissions),
        cmocka_unit_test(kinds_of_keys),
        cmocka_unit_test(kinds_of_selections),
        cmocka_unit_test(the_strongest_trust_counts),
        cmocka_unit_test(without_a_policy_trust_is_only_told),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
