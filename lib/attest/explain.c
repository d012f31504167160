#include "attest/explain.h"

#include "base/mem.h"
#include "base/text.h"
#include "pb/yaml.h"
#include "tpmwire/words.h"

size_t attest_differences(const struct attest_policy *policy, const struct pcr_values *values,
                          struct attest_difference *ret)
{
    size_t count = 0;
    for (size_t i = 0; i < policy->message->n_pcrs; i++) {
        const Postern__V1__PcrRule *rule = policy->message->pcrs[i];
        const TPM2B_DIGEST *found = pcr_values_get(values, attest_rule_bank(rule), rule->index);
        if (!found || !attest_rule_allows(rule, found))
            ret[count++] = (struct attest_difference){rule, found};
    }
    return count;
}

const char *attest_pcr_meaning(unsigned pcr)
{
    static const char *const meanings[PCR_COUNT] = {
        [0] = "firmware code",
        [1] = "firmware settings",
        [2] = "option ROMs and drivers",
        [3] = "settings of option ROMs and drivers",
        [4] = "boot loader and what it starts",
        [5] = "boot loader settings and partition table",
        [6] = "platform maker's own",
        [7] = "Secure Boot state and keys",
        [8] = "boot loader's commands and kernel command line (GRUB)",
        [9] = "files that the boot loader read: kernel and initrd",
        [10] = "IMA: files that were executed",
        [11] = "unified kernel image and boot phases (systemd)",
        [12] = "kernel command line and credentials (systemd)",
        [13] = "system extensions (systemd)",
        [14] = "shim's keys (MOK)",
        [15] = "machine identity and volumes (systemd)",
        [16] = "debugging: anybody can reset it",
        [23] = "applications: anybody can reset it",
    };
    return pcr < PCR_COUNT && meanings[pcr] ? meanings[pcr] : "reserved";
}

/* A recorded policy under construction: one rule a value. */
struct draft {
    Postern__V1__AttestationPolicy message;
    Postern__V1__PcrRule rules[PCR_VALUES_MAX];
    Postern__V1__PcrRule *rule_pointers[PCR_VALUES_MAX];
    char hex[PCR_VALUES_MAX][2 * sizeof(((TPM2B_DIGEST *)nullptr)->buffer) + 1];
    char *allowed[PCR_VALUES_MAX];
    char seal[PCR_TEXT_MAX];
    Postern__V1__EkTrust trust;
};

static void add_rule(struct draft *draft, TPMI_ALG_HASH bank, unsigned pcr,
                     const TPM2B_DIGEST *value)
{
    size_t i = draft->message.n_pcrs++;
    Postern__V1__PcrRule *rule = &draft->rules[i];
    *rule = (Postern__V1__PcrRule)POSTERN__V1__PCR_RULE__INIT;
    rule->bank = (char *)tpm_alg_name(bank);
    rule->index = pcr;
    draft->allowed[i] = hex_encode(slice(value->buffer, value->size), draft->hex[i]);
    rule->n_allowed = 1;
    rule->allowed = &draft->allowed[i];
    draft->rule_pointers[i] = rule;
}

static bool is_strong(TPMI_ALG_HASH bank)
{
    return bank == TPM2_ALG_SHA256 || bank == TPM2_ALG_SHA384;
}

static bool add_bank(struct draft *draft, const struct pcr_values *values, struct pcr_bank bank,
                     struct error *err)
{
    uint32_t bad = bank.mask & ATTEST_UNPINNABLE;
    if (!is_strong(bank.alg))
        return error_set_field(err, "pcrs", "bank %s can't be pinned: expected sha256 or sha384",
                               tpm_alg_name(bank.alg));
    if (bad)
        return error_set_field(err, "pcrs",
                               "PCR %u changes with harmless settings of the firmware and can't "
                               "be pinned",
                               (unsigned)__builtin_ctz(bad));
    for (unsigned pcr = 0; pcr < PCR_COUNT; pcr++) {
        if (!(bank.mask & 1U << pcr))
            continue;
        const TPM2B_DIGEST *value = pcr_values_get(values, bank.alg, pcr);
        if (!value)
            return error_set_field(err, "pcrs", "the node's last evidence has no %s PCR %u",
                                   tpm_alg_name(bank.alg), pcr);
        add_rule(draft, bank.alg, pcr, value);
    }
    return true;
}

static struct pcr_selection selection_without(const struct pcr_selection *from, uint32_t mask)
{
    struct pcr_selection result = {0};
    for (size_t i = 0; i < from->count; i++) {
        struct pcr_bank bank = {from->bank[i].alg, from->bank[i].mask & ~mask};
        if (is_strong(bank.alg) && bank.mask != 0)
            result.bank[result.count++] = bank;
    }
    return result;
}

bool attest_record_policy(const char *name, const struct pcr_values *values,
                          const struct pcr_selection *pcrs, const struct pcr_selection *seal,
                          struct buf *ret, struct error *err)
{
    CLEANUP(mem_free_at) struct draft *draft = mem_new(1, sizeof(*draft));
    if (!draft)
        return error_set_memory(err);
    draft->message = (Postern__V1__AttestationPolicy)POSTERN__V1__ATTESTATION_POLICY__INIT;
    draft->message.name = (char *)name;
    draft->message.pcrs = draft->rule_pointers;

    struct pcr_selection all = selection_without(&values->selection, ATTEST_UNPINNABLE);
    struct pcr_selection pinned = pcrs ? *pcrs : all;
    for (size_t i = 0; i < pinned.count; i++) {
        if (!add_bank(draft, values, pinned.bank[i], err))
            return false;
    }
    struct pcr_selection sealed = seal ? *seal : selection_without(&pinned, ATTEST_UNSEALABLE);
    draft->message.seal = pcr_selection_format(&sealed, draft->seal);
    draft->trust = POSTERN__V1__EK_TRUST__EK_TRUST_VENDOR_CERT;
    draft->message.n_ek_trust = 1;
    draft->message.ek_trust = &draft->trust;

    CLEANUP(attest_policy_unref_at) const struct attest_policy *policy = nullptr;
    return attest_policy_new(&draft->message, &policy, err) &&
           pb_to_yaml(&draft->message.base, ret, err);
}
