#include "checks.h"

/* In the order of attestation: who, then what it says, then whether that is allowed. Where two catch
 * the same lie, docs/attestation.md says so. */
const struct attest_check attest_checks[] = {
    {1, "ek-trust", "the EK is vouched for in a way that the policy accepts", false,
     check_ek_trusted},
    {2, "ek-certificate-key", "the EK certificate is for this EK", false, check_ek_certificate_key},
    {3, "ek-template", "the EK is a TCG endorsement key", true, check_ek_template},
    {4, "admission", "the agent has one EK, and somebody admitted it under a policy", false,
     check_admitted},
    {5, "ak-name", "the AK's Name is computed from its public area", true, check_ak_name},
    {6, "ak-attributes", "the AK is restricted, signs, and never leaves its TPM", true,
     check_ak_attributes},
    {7, "ak-algorithm", "the AK is strong, with a scheme of its own", true, check_ak_algorithm},
    {8, "ak-credential", "AK and EK are in one TPM", true, check_ak_credential},
    {9, "ak-primary", "the quote's signer is the AK in the endorsement hierarchy", true,
     check_ak_primary},
    {10, "certified-keys", "the AK certifies WRAP and REQ, and they are what we ask for", false,
     check_certified_keys},
    {11, "quote-structure", "the quote was made by a TPM, and nothing trails it", true,
     check_quote_structure},
    {12, "quote-signature", "the AK signed the quote, with at least SHA-256", true,
     check_quote_signature},
    {13, "quote-binding", "the quote is for this challenge, these keys, this connection", true,
     check_quote_binding},
    {14, "nonce", "the nonce is this agent's, fresh, and answered once", true, check_nonce},
    {15, "quote-selection", "the PCRs inside the signed structure are those asked for", false,
     check_quote_selection},
    {16, "pcr-digest", "the PCR values are those asked for, and their digest is quoted", false,
     check_pcr_digest},
    {17, "pcr-banks", "a SHA-256 or SHA-384 bank is quoted", false, check_pcr_banks},
    {18, "qualified-signers", "the same AK signed every certification", false,
     check_qualified_signers},
    {19, "reset-count", "the TPM's reset and restart counts never go down", false,
     check_reset_count},
    {20, "clock", "with the same counts the TPM's clock advances", false, check_clock},
    {22, "unsafe-clock", "an unclean stop of the TPM is no failure", false, check_unsafe_clock},
    {23, "firmware", "the TPM's firmware is not older than the policy's floor", false,
     check_firmware},
    {36, "recorded", "policy and evidence are recorded by their hashes", false, check_recorded},
    {37, "counter-value", "the confirmed generation's counter is at its limit", false,
     check_counter_value},
    {38, "counter-area", "the AK certifies the counter, and it is what we ask for", false,
     check_counter_area},
    {39, "pcr-policy", "every PCR has a value that the policy allows", false, check_pcr_policy},
};
const size_t attest_check_count = ARRAY_LEN(attest_checks);
static_assert(ARRAY_LEN(attest_checks) <= ATTEST_REASONS_MAX);

bool attest_table(size_t index, struct attest_line *ret)
{
    if (index >= attest_check_count)
        return false;
    const struct attest_check *check = &attest_checks[index];
    *ret = (struct attest_line){
        .number = check->number,
        .name = check->name,
        .what = check->what,
        .authentic = check->authentic,
    };
    return true;
}
