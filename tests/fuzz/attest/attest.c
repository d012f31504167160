/*
 * What a stranger can send to the verifier: a hello and evidence, from bytes to the verdict, with roots
 * that their certificates are held against.
 *
 *   u32 length ‖ Hello ‖ u32 length ‖ Evidence ‖ roots in PEM
 *
 * Everything else is what tests/unit/attest/scene.c has, so that its evidence is affirmed here, and
 * whatever else is must have the same signatures.
 */
#include "fuzz/fuzz.h"

#include "attest/appraise.h"
#include "attest/explain.h"
#include "base/mem.h"
#include "pb/message.h"
#include "tpmwire/binding.h"
#include "tpmwire/credential.h"
#include "tpmwire/public.h"

#include <openssl/err.h>

constexpr uint32_t ASKED_PCRS = 1U << 0 | 1U << 2 | 1U << 4 | 1U << 7;
constexpr int64_t NOW_MS = 1'795'419'690'000; /* the seeds' certificates are of that time */

struct input {
    struct slice hello, evidence, roots;
};

static bool cut(struct slice bytes, struct input *ret)
{
    struct reader r = reader(bytes);
    ret->hello = reader_take(&r, reader_u32(&r));
    ret->evidence = reader_take(&r, reader_u32(&r));
    ret->roots = r.rest;
    return reader_ok(&r) && ret->hello.len > 0 && ret->evidence.len > 0;
}

/* PCRs 0, 2, 4, 7 with the values of every scene, by any kind of trust. */
static const struct attest_policy *make_policy(void)
{
    static const unsigned pcrs[] = {0, 2, 4, 7};
    struct error err = {0};
    Postern__V1__AttestationPolicy message = POSTERN__V1__ATTESTATION_POLICY__INIT;
    Postern__V1__PcrRule rules[ARRAY_LEN(pcrs)], *pointers[ARRAY_LEN(pcrs)];
    char bank[] = "sha256", values[ARRAY_LEN(pcrs)][65], *allowed[ARRAY_LEN(pcrs)];
    Postern__V1__EkTrust trust[] = {POSTERN__V1__EK_TRUST__EK_TRUST_VENDOR_CERT,
                                    POSTERN__V1__EK_TRUST__EK_TRUST_PINNED,
                                    POSTERN__V1__EK_TRUST__EK_TRUST_TOFU};
    const struct attest_policy *policy = nullptr;
    for (size_t i = 0; i < ARRAY_LEN(pcrs); i++) {
        for (size_t j = 0; j < 32; j++)
            snprintf(values[i] + 2 * j, 3, "%02x", 0x10 + pcrs[i]);
        postern__v1__pcr_rule__init(&rules[i]);
        rules[i].bank = bank;
        rules[i].index = pcrs[i];
        rules[i].n_allowed = 1;
        allowed[i] = values[i];
        rules[i].allowed = &allowed[i];
        pointers[i] = &rules[i];
    }
    message.name = (char[]){"fuzz"};
    message.seal = (char[]){"sha256:0,2,4,7"};
    message.n_pcrs = ARRAY_LEN(pcrs);
    message.pcrs = pointers;
    message.n_ek_trust = ARRAY_LEN(trust);
    message.ek_trust = trust;
    FUZZ_CHECK(attest_policy_new(&message, &policy, &err));
    return policy;
}

/* What the authority does with the keys of a stranger's hello before any evidence. */
static void challenge_it(const struct attest_identity *id, const struct secret *credential)
{
    struct error err = {0};
    CLEANUP(buf_done) struct buf blob, seed;
    buf_init(&blob, 4096);
    buf_init(&seed, 4096);
    FUZZ_CHECK(credential_make(&id->ek.publicArea, &id->ak_name, credential, &blob, &seed, &err) ||
               err.class == ERROR_INVALID);
}

static void check_verdict(const struct attest_case *in, const struct appraisal *found)
{
    bool failed = false, warned = false, pending = false;
    for (size_t i = 0; i < found->reason_count; i++) {
        const struct attest_reason *reason = &found->reasons[i];
        FUZZ_CHECK(reason->outcome != ATTEST_PASS && reason->detail[0] != '\0');
        FUZZ_CHECK(strlen(reason->detail) < ATTEST_DETAIL_MAX && reason->name);
        failed = failed || reason->outcome == ATTEST_FAIL;
        warned = warned || reason->outcome == ATTEST_WARN;
        pending = pending || reason->outcome == ATTEST_PEND;
    }
    FUZZ_CHECK(found->verdict == (failed    ? POSTERN__V1__VERDICT__VERDICT_CONTRAINDICATED
                                  : pending ? POSTERN__V1__VERDICT__VERDICT_PENDING
                                  : warned  ? POSTERN__V1__VERDICT__VERDICT_WARNING
                                            : POSTERN__V1__VERDICT__VERDICT_AFFIRMING));
    FUZZ_CHECK(failed || found->authentic);
    FUZZ_CHECK(found->pcrs.count == pcr_selection_size(&found->pcrs.selection));
    struct attest_difference differences[ATTEST_POLICY_RULES_MAX];
    size_t count = attest_differences(in->policy, &found->pcrs, differences);
    FUZZ_CHECK(count <= 4);
    if (!failed)
        FUZZ_CHECK(count == 0 && in->record->limit == found->counter &&
                   found->pcrs.selection.count == 1 &&
                   found->pcrs.selection.bank[0].mask == ASKED_PCRS &&
                   found->ek_trust != POSTERN__V1__EK_TRUST__EK_TRUST_UNSPECIFIED);
}

static bool judge(const struct input *input, const Postern__V1__Hello *hello,
                  const Postern__V1__Evidence *evidence, const struct attest_policy *policy,
                  const struct ek_roots *roots)
{
    struct error err = {0};
    struct attest_identity id;
    if (!attest_identity_parse(hello, &id, &err)) {
        FUZZ_CHECK(err.class == ERROR_INVALID && err.field[0] != '\0');
        return false;
    }
    uint8_t nonce[BINDING_NONCE_SIZE], exporter[CHANNEL_BINDING_SIZE], answer[32];
    memset(nonce, 0x4e, sizeof nonce);
    memset(exporter, 0x45, sizeof exporter);
    memset(answer, 0x43, sizeof answer);
    CLEANUP(secret_free_at) struct secret *credential = nullptr;
    FUZZ_CHECK(secret_from(SLICE_OF(answer), &credential, &err));
    challenge_it(&id, credential);

    Postern__V1__PcrSelection bank = POSTERN__V1__PCR_SELECTION__INIT, *banks = &bank;
    Postern__V1__Challenge challenge = POSTERN__V1__CHALLENGE__INIT;
    bank.bank = TPM2_ALG_SHA256;
    bank.mask = ASKED_PCRS;
    challenge.agent_id = id.agent_id;
    challenge.nonce = (ProtobufCBinaryData){sizeof nonce, nonce};
    challenge.n_selection = 1;
    challenge.selection = &banks;
    const struct attest_record record = {
        .known = true,
        .admitted = true,
        .ek_name = id.ek_name,
        .has_clock = true,
        .reset_count = 5,
        .restart_count = 2,
        .clock_ms = 1999,
        .has_generation = true,
        .limit = 7,
        .counter_name = id.counter_name,
    };
    const struct attest_case in = {
        .hello_bytes = input->hello,
        .challenge_bytes = slice_str("challenge"),
        .evidence_bytes = input->evidence,
        .hello = hello,
        .challenge = &challenge,
        .evidence = evidence,
        .identity = &id,
        .exporter = SLICE_OF(exporter),
        .credential = credential,
        .nonce = {.unused = true, .of_agent = true, .age_ms = 1000},
        .record = &record,
        .policy = policy,
        .roots = roots,
        .now_ms = NOW_MS,
    };
    static struct appraisal found;
    memset(&found, 0xa5, sizeof found);
    if (!attest_appraise(&in, &found, &err)) {
        FUZZ_CHECK(err.class == ERROR_INVALID && err.field[0] != '\0');
        const uint8_t *first = (const uint8_t *)&found, *last = first + sizeof found - 1;
        FUZZ_CHECK(*first == 0xa5 && *last == 0xa5);
        return false;
    }
    check_verdict(&in, &found);
    FUZZ_CHECK(ERR_peek_error() == 0);
    return found.verdict == POSTERN__V1__VERDICT__VERDICT_AFFIRMING;
}

/* Accepted is what is affirmed. */
enum fuzz_verdict fuzz_one(struct slice bytes)
{
    struct error err = {0};
    struct input input;
    if (!cut(bytes, &input))
        return FUZZ_REFUSED;
    CLEANUP(pb_free_at) ProtobufCMessage *hello = nullptr, *evidence = nullptr;
    CLEANUP(ek_roots_free_at) struct ek_roots *roots = nullptr;
    CLEANUP(attest_policy_unref_at) const struct attest_policy *policy = make_policy();
    if (!pb_unpack(&postern__v1__hello__descriptor, input.hello, nullptr, &hello, &err) ||
        !pb_unpack(&postern__v1__evidence__descriptor, input.evidence, nullptr, &evidence, &err))
        return FUZZ_REFUSED;
    if (!ek_roots_new(input.roots, &roots, &err))
        FUZZ_CHECK(err.class == ERROR_INVALID || err.class == ERROR_EXHAUSTED);
    return judge(&input, (const Postern__V1__Hello *)hello, (const Postern__V1__Evidence *)evidence,
                 policy, roots)
               ? FUZZ_ACCEPTED
               : FUZZ_REFUSED;
}
