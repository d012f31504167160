#include "tpmwire/policy.h"

#include "tpmwire/hash.h"
#include "tpmwire/public.h"
#include "tpmwire/words.h"
#include "wire.h"

#include <tss2/tss2_mu.h>

/* The hash of a running digest; their sizes are all different. */
static TPMI_ALG_HASH policy_alg(const TPM2B_DIGEST *policy)
{
    static const TPMI_ALG_HASH algs[] = {TPM2_ALG_SHA256, TPM2_ALG_SHA384, TPM2_ALG_SHA512};
    for (size_t i = 0; i < ARRAY_LEN(algs); i++) {
        if (policy->size == tpm_hash_size(algs[i])) {
            return algs[i];
        }
    }
    return TPM2_ALG_NULL;
}

static struct slice digest_slice(const TPM2B_DIGEST *digest)
{
    return slice(digest->buffer, digest->size);
}

/* policy = H(policy ‖ CC ‖ first ‖ second) */
static bool extend(TPM2B_DIGEST *policy, TPM2_CC command, struct slice first, struct slice second,
                   struct error *err)
{
    const uint8_t code[] = {(uint8_t)(command >> 24), (uint8_t)(command >> 16),
                            (uint8_t)(command >> 8), (uint8_t)command};
    const struct slice parts[] = {digest_slice(policy), SLICE_OF(code), first, second};
    return tpm_hash(policy_alg(policy), parts, ARRAY_LEN(parts), policy, err);
}

bool policy_start(TPMI_ALG_HASH alg, TPM2B_DIGEST *ret, struct error *err)
{
    TPM2B_DIGEST zero = {.size = (uint16_t)tpm_hash_size(alg)};
    if (!wire_strong_hash(alg)) {
        return error_set(err, ERROR_INVALID, "no policy by hash 0x%04x (%s)", alg,
                         tpm_alg_name(alg));
    }
    *ret = zero;
    return true;
}

bool policy_pcr(TPM2B_DIGEST *policy, const struct pcr_selection *selection,
                const TPM2B_DIGEST *pcr_digest, struct error *err)
{
    if (pcr_digest->size != policy->size) {
        return error_set(err, ERROR_INVALID,
                         "PolicyPCR: the PCR digest has %u bytes, the policy's hash %u",
                         pcr_digest->size, policy->size);
    }
    TPML_PCR_SELECTION list;
    pcr_selection_to_tpml(selection, &list);
    uint8_t bytes[sizeof list];
    size_t len = 0;
    TSS2_RC rc = Tss2_MU_TPML_PCR_SELECTION_Marshal(&list, bytes, sizeof bytes, &len);
    if (rc != TSS2_RC_SUCCESS) {
        return error_set_native(err, ERROR_INTERNAL, ERROR_DOMAIN_TPM, rc, nullptr,
                                "PolicyPCR: marshal the selection");
    }
    return extend(policy, TPM2_CC_PolicyPCR, slice(bytes, len), digest_slice(pcr_digest), err);
}

bool policy_nv(TPM2B_DIGEST *policy, const TPM2B_NAME *index, struct slice operand, uint16_t offset,
               TPM2_EO operation, struct error *err)
{
    const uint8_t tail[] = {(uint8_t)(offset >> 8), (uint8_t)offset, (uint8_t)(operation >> 8),
                            (uint8_t)operation};
    const struct slice parts[] = {operand, SLICE_OF(tail)};
    TPM2B_DIGEST args;
    return tpm_hash(policy_alg(policy), parts, ARRAY_LEN(parts), &args, err) &&
           extend(policy, TPM2_CC_PolicyNV, digest_slice(&args), name_slice(index), err);
}

bool policy_command_code(TPM2B_DIGEST *policy, TPM2_CC command, struct error *err)
{
    const uint8_t code[] = {(uint8_t)(command >> 24), (uint8_t)(command >> 16),
                            (uint8_t)(command >> 8), (uint8_t)command};
    return extend(policy, TPM2_CC_PolicyCommandCode, SLICE_OF(code), slice(nullptr, 0), err);
}

bool policy_secret(TPM2B_DIGEST *policy, const TPM2B_NAME *entity, struct slice policy_ref,
                   struct error *err)
{
    /* PolicyUpdate() of Part 3 §23.2.3 hashes twice: policyRef has a round of its own, even when it
     * is empty. */
    TPM2B_DIGEST next = *policy;
    if (!extend(&next, TPM2_CC_PolicySecret, name_slice(entity), slice(nullptr, 0), err)) {
        return false;
    }
    const struct slice parts[] = {digest_slice(&next), policy_ref};
    return tpm_hash(policy_alg(policy), parts, ARRAY_LEN(parts), policy, err);
}

void node_key_operand(uint64_t limit, TPM2B_OPERAND *ret)
{
    *ret = (TPM2B_OPERAND){.size = 8};
    for (size_t i = 0; i < 8; i++) {
        ret->buffer[i] = (uint8_t)(limit >> (56 - 8 * i));
    }
}

bool node_key_policy(const struct pcr_selection *selection, const TPM2B_DIGEST *pcr_digest,
                     const TPM2B_NAME *counter, uint64_t limit, TPM2B_DIGEST *ret,
                     struct error *err)
{
    if (pcr_selection_size(selection) == 0) {
        return error_set(err, ERROR_INVALID, "node key: no PCR would seal it");
    }
    TPM2B_OPERAND operand;
    node_key_operand(limit, &operand);
    TPM2B_DIGEST policy;
    if (!policy_start(TPM2_ALG_SHA256, &policy, err) ||
        !policy_pcr(&policy, selection, pcr_digest, err) ||
        !policy_nv(&policy, counter, slice(operand.buffer, operand.size), 0, TPM2_EO_UNSIGNED_LE,
                   err) ||
        !policy_command_code(&policy, TPM2_CC_Unseal, err)) {
        return false;
    }
    *ret = policy;
    return true;
}
