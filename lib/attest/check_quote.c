/* Checks of the quote: numbers 9 and 11 to 18. */
#include "checks.h"

#include "tpmwire/binding.h"
#include "tpmwire/hash.h"
#include "tpmwire/public.h"
#include "tpmwire/signature.h"
#include "tpmwire/words.h"

/* ---- Who signed ---- */

static bool signed_by_ak(const struct attest_view *view, const struct attest_signed *part,
                         struct error *why)
{
    TPM2B_NAME expected;
    if (!name_qualified_primary(TPM2_RH_ENDORSEMENT, &view->in->identity->ak_name, &expected, why))
        return false;
    if (name_equal(&part->attested.qualifiedSigner, &expected))
        return true;
    return error_set(why, ERROR_DENIED,
                     "the signer is not this AK as a primary key of the endorsement hierarchy");
}

enum attest_outcome check_ak_primary(struct attest_view *view, struct error *why)
{
    return signed_by_ak(view, &view->quote, why) ? ATTEST_PASS : ATTEST_FAIL;
}

enum attest_outcome check_qualified_signers(struct attest_view *view, struct error *why)
{
    const struct {
        const char *name;
        const struct attest_signed *part;
    } parts[] = {
        {"WRAP's certification", &view->certify_wrap},
        {"REQ's certification", &view->certify_req},
        {"the counter's certification", &view->certify_counter},
    };
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        if (!signed_by_ak(view, parts[i].part, why)) {
            error_prefix(why, "%s", parts[i].name);
            return ATTEST_FAIL;
        }
    }
    return ATTEST_PASS;
}

enum attest_outcome check_quote_structure(struct attest_view *view, struct error *why)
{
    return attested_check(&view->quote.attested, view->quote.used, view->quote.bytes.len, why)
               ? ATTEST_PASS
               : ATTEST_FAIL;
}

enum attest_outcome check_quote_signature(struct attest_view *view, struct error *why)
{
    TPMT_SIGNATURE signature;
    bool ok = tpm_signature_parse(view->quote.signature, &signature, why) &&
              tpm_signature_verify(&view->in->identity->ak.publicArea, &signature,
                                   view->quote.bytes, why);
    return ok ? ATTEST_PASS : ATTEST_FAIL;
}

/* ---- For this conversation ---- */

bool attest_bound(const struct attest_view *view, const struct attest_signed *part, bool quote,
                  bool counter, struct error *why)
{
    const struct attest_case *in = view->in;
    const struct binding binding = {
        .nonce = slice(in->challenge->nonce.data, in->challenge->nonce.len),
        .agent_id = slice_str(in->challenge->agent_id),
        .ak = &in->identity->ak_name,
        .wrap = &in->identity->wrap_name,
        .req = &in->identity->req_name,
        .counter = &in->identity->counter_name,
        .csr = slice(in->evidence->csr.data, in->evidence->csr.len),
        .hello = in->hello_bytes,
        .exporter = in->exporter,
    };
    enum binding_kind kind = quote ? BINDING_QUOTE : counter ? BINDING_COUNTER : BINDING_CERTIFY;
    uint8_t expected[SHA256_SIZE];
    if (!binding_digest(kind, &binding, expected, why))
        return false;
    const TPM2B_DATA *found = &part->attested.extraData;
    if (slice_equal(slice(found->buffer, found->size), SLICE_OF(expected)))
        return true;
    return error_set(why, ERROR_UNAUTHENTICATED,
                     "extraData is not that of this challenge, these keys and this connection");
}

enum attest_outcome check_quote_binding(struct attest_view *view, struct error *why)
{
    return attest_bound(view, &view->quote, true, false, why) ? ATTEST_PASS : ATTEST_FAIL;
}

enum attest_outcome check_nonce(struct attest_view *view, struct error *why)
{
    const struct attest_nonce *nonce = &view->in->nonce;
    if (!nonce->unused)
        error_set(why, ERROR_UNAUTHENTICATED, "the nonce was answered before");
    else if (!nonce->of_agent)
        error_set(why, ERROR_UNAUTHENTICATED, "the nonce was made for another agent");
    else if (nonce->age_ms < 0 || nonce->age_ms > ATTEST_NONCE_LIFETIME_MS)
        error_set(why, ERROR_TIMEOUT, "the nonce was answered after %lld ms, %lld are allowed",
                  (long long)nonce->age_ms, (long long)ATTEST_NONCE_LIFETIME_MS);
    else
        return ATTEST_PASS;
    return ATTEST_FAIL;
}

/* ---- What is quoted ---- */

/* The selection inside the signed structure: a quote over PCR 16, which anybody can reset and
 * extend, must not pass as one over PCR 7. */
enum attest_outcome check_quote_selection(struct attest_view *view, struct error *why)
{
    if (pcr_selection_equal(&view->asked, &view->quoted))
        return ATTEST_PASS;
    char asked[PCR_TEXT_MAX], found[PCR_TEXT_MAX];
    error_set(why, ERROR_DENIED, "%s was asked for, %s is quoted",
              pcr_selection_format(&view->asked, asked),
              pcr_selection_format(&view->quoted, found));
    return ATTEST_FAIL;
}

static TPMI_ALG_HASH signing_hash(const TPMT_PUBLIC *ak)
{
    return ak->type == TPM2_ALG_ECC ? ak->parameters.eccDetail.scheme.details.ecdsa.hashAlg
                                    : ak->parameters.rsaDetail.scheme.details.anySig.hashAlg;
}

/* The digest is over bare values. What says which PCR each of them is, is the sender's word; so it must
 * be the selection that was asked for, as the one inside the signed structure must (check 15). */
enum attest_outcome check_pcr_digest(struct attest_view *view, struct error *why)
{
    TPM2B_DIGEST digest;
    if (!pcr_selection_equal(&view->values.selection, &view->asked)) {
        char asked[PCR_TEXT_MAX], found[PCR_TEXT_MAX];
        error_set(why, ERROR_DENIED, "%s was asked for, values of %s came",
                  pcr_selection_format(&view->asked, asked),
                  pcr_selection_format(&view->values.selection, found));
        return ATTEST_FAIL;
    }
    if (!pcr_composite_digest(signing_hash(&view->in->identity->ak.publicArea),
                              &view->values.selection, &view->values, &digest, why))
        return ATTEST_FAIL;
    const TPM2B_DIGEST *found = &view->quote.attested.attested.quote.pcrDigest;
    if (slice_equal(slice(digest.buffer, digest.size), slice(found->buffer, found->size)))
        return ATTEST_PASS;
    error_set(why, ERROR_DENIED, "the PCR values are not those that were quoted");
    return ATTEST_FAIL;
}

enum attest_outcome check_pcr_banks(struct attest_view *view, struct error *why)
{
    for (size_t i = 0; i < view->quoted.count; i++) {
        const struct pcr_bank *bank = &view->quoted.bank[i];
        if ((bank->alg == TPM2_ALG_SHA256 || bank->alg == TPM2_ALG_SHA384) && bank->mask != 0)
            return ATTEST_PASS;
    }
    error_set(why, ERROR_DENIED, "no PCR of a SHA-256 or SHA-384 bank is quoted");
    return ATTEST_FAIL;
}
