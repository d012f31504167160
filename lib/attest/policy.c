#include "attest/policy.h"

#include "base/mem.h"
#include "base/text.h"
#include "pb/message.h"
#include "tpmwire/hash.h"
#include "tpmwire/words.h"

#include <stdatomic.h>
#include <stdio.h>

/* What the pointers that are handed out lie in. Always made by mem_new, so casting const away is
 * sound. */
struct policy_holder {
    struct attest_policy policy; /* first */
    atomic_uint references;
    ProtobufCMessage *message;
};

constexpr uint64_t LIFETIME_MIN_MS = 1'000;             /* a second: tests */
constexpr uint64_t LIFETIME_MAX_MS = 24ULL * 3'600'000; /* a day */

void attest_default_selection(struct pcr_selection *ret)
{
    *ret = (struct pcr_selection){
        .count = 1,
        .bank = {{.alg = TPM2_ALG_SHA256, .mask = ATTEST_QUOTED}},
    };
}

TPMI_ALG_HASH attest_rule_bank(const Postern__V1__PcrRule *rule)
{
    return strcmp(rule->bank, "sha384") == 0 ? TPM2_ALG_SHA384 : TPM2_ALG_SHA256;
}

bool attest_rule_allows(const Postern__V1__PcrRule *rule, const TPM2B_DIGEST *value)
{
    char hex[2 * sizeof(value->buffer) + 1];
    hex_encode(slice(value->buffer, value->size), hex);
    for (size_t i = 0; i < rule->n_allowed; i++) {
        if (strcmp(rule->allowed[i], hex) == 0)
            return true;
    }
    return false;
}

static bool check_value(size_t rule, size_t value, const char *hex, size_t size, struct error *err)
{
    if (strlen(hex) == 2 * size && strspn(hex, "0123456789abcdef") == 2 * size)
        return true;
    char field[ERROR_FIELD_MAX];
    snprintf(field, sizeof(field), "pcrs[%zu].allowed[%zu]", rule, value);
    return error_set_field(err, field, "expected %zu lower-case hex digits, found \"%s\"", 2 * size,
                           hex);
}

/* Adds one rule to the selection of what is pinned. */
static bool compile_rule(size_t at, const Postern__V1__PcrRule *rule,
                         struct pcr_selection *selection, struct error *err)
{
    char field[ERROR_FIELD_MAX];
    if (strcmp(rule->bank, "sha256") != 0 && strcmp(rule->bank, "sha384") != 0) {
        snprintf(field, sizeof(field), "pcrs[%zu].bank", at);
        return error_set_field(err, field, "expected sha256 or sha384, found \"%s\"", rule->bank);
    }
    snprintf(field, sizeof(field), "pcrs[%zu].index", at);
    if (rule->index >= PCR_COUNT)
        return error_set_field(err, field, "expected a PCR from 0 to %u, found %u", PCR_COUNT - 1,
                               rule->index);
    uint32_t bit = 1U << rule->index;
    if (bit & ATTEST_UNPINNABLE)
        return error_set_field(err, field,
                               "PCR %u changes with harmless settings of the firmware and can't "
                               "be pinned",
                               rule->index);
    TPMI_ALG_HASH alg = attest_rule_bank(rule);
    if (rule->n_allowed == 0 || rule->n_allowed > ATTEST_POLICY_ALLOWED_MAX) {
        snprintf(field, sizeof(field), "pcrs[%zu].allowed", at);
        return error_set_field(err, field, "expected 1 to %zu values, found %zu",
                               ATTEST_POLICY_ALLOWED_MAX, rule->n_allowed);
    }
    for (size_t i = 0; i < rule->n_allowed; i++) {
        if (!check_value(at, i, rule->allowed[i], tpm_hash_size(alg), err))
            return false;
    }
    size_t bank = 0;
    while (bank < selection->count && selection->bank[bank].alg != alg)
        bank++;
    if (bank == selection->count)
        selection->bank[selection->count++] = (struct pcr_bank){.alg = alg};
    if (selection->bank[bank].mask & bit)
        return error_set_field(err, field, "there is a rule for %s PCR %u already", rule->bank,
                               rule->index);
    selection->bank[bank].mask |= bit;
    return true;
}

static bool compile_seal(const char *text, struct attest_policy *policy, struct error *err)
{
    if (!pcr_selection_parse(text, &policy->seal, err))
        return error_at_field(err, "seal");
    if (pcr_selection_size(&policy->seal) == 0)
        return error_set_field(err, "seal", "expected at least one PCR");
    if (!pcr_selection_within(&policy->seal, &policy->pinned))
        return error_set_field(err, "seal", "\"%s\" has a PCR without a rule in pcrs", text);
    for (size_t i = 0; i < policy->seal.count; i++) {
        uint32_t bad = policy->seal.bank[i].mask & ATTEST_UNSEALABLE;
        if (bad)
            return error_set_field(err, "seal",
                                   "PCR %u moves while a machine runs: the node key would be "
                                   "lost at its next event",
                                   (unsigned)__builtin_ctz(bad));
    }
    return true;
}

static bool check_name(const char *name, struct error *err)
{
    size_t len = strlen(name);
    if (len == 0 || len > 63 || strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != len)
        return error_set_field(err, "name", "expected 1 to 63 of a-z, 0-9 and -, found \"%s\"",
                               name);
    return true;
}

static bool compile_firmware_floor(const char *text, uint64_t *ret, struct error *err)
{
    CLEANUP(buf_done) struct buf bytes;
    buf_init(&bytes, 8);
    if (!text)
        return true;
    if (!hex_decode(text, &bytes, err) || bytes.len != 8)
        return error_set_field(err, "firmware_floor", "expected 16 hex digits, found \"%s\"", text);
    struct reader in = reader(buf_slice(&bytes));
    *ret = reader_u64(&in);
    return true;
}

static bool compile_ek_trust(const Postern__V1__AttestationPolicy *message, uint32_t *ret,
                             struct error *err)
{
    for (size_t i = 0; i < message->n_ek_trust; i++) {
        if (message->ek_trust[i] <= POSTERN__V1__EK_TRUST__EK_TRUST_UNSPECIFIED ||
            message->ek_trust[i] > POSTERN__V1__EK_TRUST__EK_TRUST_TOFU)
            return error_set_field(err, "ek_trust", "expected vendor_cert, pinned or tofu");
        *ret |= 1U << message->ek_trust[i];
    }
    if (*ret == 0)
        return error_set_field(err, "ek_trust",
                               "expected at least one of vendor_cert, pinned and tofu");
    return true;
}

static bool compile(const Postern__V1__AttestationPolicy *message, struct attest_policy *policy,
                    struct error *err)
{
    policy->message = message;
    policy->report_only = message->report_only;
    if (!check_name(message->name, err))
        return false;
    if (message->n_pcrs == 0 || message->n_pcrs > ATTEST_POLICY_RULES_MAX)
        return error_set_field(err, "pcrs", "expected 1 to %zu rules, found %zu",
                               ATTEST_POLICY_RULES_MAX, message->n_pcrs);
    for (size_t i = 0; i < message->n_pcrs; i++) {
        if (!compile_rule(i, message->pcrs[i], &policy->pinned, err))
            return false;
    }
    /* No other banks: what is not allocated in a TPM it can't quote. */
    policy->quoted = policy->pinned;
    for (size_t i = 0; i < policy->quoted.count; i++)
        policy->quoted.bank[i].mask |= ATTEST_QUOTED;
    if (!compile_seal(message->seal, policy, err) ||
        !compile_firmware_floor(message->firmware_floor, &policy->firmware_floor, err) ||
        !compile_ek_trust(message, &policy->ek_trust, err))
        return false;
    return (parse_duration_ms(message->appraisal_lifetime, &policy->lifetime_ms, err) &&
            policy->lifetime_ms >= LIFETIME_MIN_MS && policy->lifetime_ms <= LIFETIME_MAX_MS) ||
           error_set_field(err, "appraisal_lifetime",
                           "expected a duration from 1s to 24h, found \"%s\"",
                           message->appraisal_lifetime);
}

/* ---- Ownership ---- */

static struct policy_holder *holder_of(const struct attest_policy *policy)
{
    return (struct policy_holder *)(uintptr_t)policy;
}

const struct attest_policy *attest_policy_ref(const struct attest_policy *policy)
{
    atomic_fetch_add_explicit(&holder_of(policy)->references, 1, memory_order_relaxed);
    return policy;
}

const struct attest_policy *attest_policy_unref(const struct attest_policy *policy)
{
    struct policy_holder *holder = holder_of(policy);
    if (!holder || atomic_fetch_sub_explicit(&holder->references, 1, memory_order_acq_rel) > 1)
        return nullptr;
    pb_free(holder->message);
    return mem_free(holder);
}

bool attest_policy_new(const Postern__V1__AttestationPolicy *message,
                       const struct attest_policy **ret, struct error *err)
{
    struct policy_holder *holder = mem_new(1, sizeof(*holder));
    if (!holder)
        return error_set_memory(err);
    atomic_init(&holder->references, 1);
    CLEANUP(attest_policy_unref_at) const struct attest_policy *policy = &holder->policy;
    CLEANUP(buf_done) struct buf bytes;
    buf_init(&bytes, PB_SIZE_MAX);
    if (!pb_pack(&message->base, PB_SIZE_MAX, &bytes, err) ||
        !sha256(buf_slice(&bytes), holder->policy.hash, err) ||
        !pb_unpack(&postern__v1__attestation_policy__descriptor, buf_slice(&bytes),
                   &pb_limits_strict, &holder->message, err) ||
        !compile((const Postern__V1__AttestationPolicy *)holder->message, &holder->policy, err))
        return false;
    *ret = TAKE(policy);
    return true;
}
