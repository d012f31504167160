/* Checks of the keys: EK, AK, WRAP and REQ. Numbers 1 to 8 and 10. */
#include "checks.h"

#include "base/mem.h"
#include "tpmwire/public.h"
#include "tpmwire/signature.h"
#include "tpmwire/template.h"
#include "tpmwire/words.h"

/* ---- EK ---- */

static bool vendor_vouches(const struct attest_view *view, struct error *why)
{
    const Postern__V1__Hello *hello = view->in->hello;
    if (hello->ek_certificate.len == 0)
        return error_set(why, ERROR_DENIED, "the TPM has no EK certificate");
    struct slice chain[EK_CHAIN_PARTS_MAX] = {0};
    if (hello->n_ek_chain > EK_CHAIN_PARTS_MAX)
        return error_set(why, ERROR_DENIED, "%zu intermediates, at most %zu are read",
                         hello->n_ek_chain, EK_CHAIN_PARTS_MAX);
    for (size_t i = 0; i < hello->n_ek_chain; i++)
        chain[i] = slice(hello->ek_chain[i].data, hello->ek_chain[i].len);
    return ek_certificate_verify(view->in->roots,
                                 slice(hello->ek_certificate.data, hello->ek_certificate.len),
                                 chain, hello->n_ek_chain, view->in->now_ms, why);
}

static bool is_pinned(const struct attest_view *view, struct error *why)
{
    uint8_t pin[SHA256_SIZE];
    if (!ek_pin(&view->in->identity->ek.publicArea, pin, why))
        return false;
    for (size_t i = 0; i < view->in->pin_count; i++) {
        if (memcmp(pin, view->in->pins[i], SHA256_SIZE) == 0)
            return true;
    }
    return error_set(why, ERROR_DENIED, "the EK is not in the authority's inventory (ek_pinned)");
}

static bool is_first_used(const struct attest_view *view, struct error *why)
{
    (void)view;
    (void)why;
    return true;
}

/* The strongest mode that the policy accepts and the TPM fulfils. Without a policy nothing is
 * released, so an operator may look at any TPM. `why` is what the strongest accepted mode lacks. */
enum attest_outcome check_ek_trusted(struct attest_view *view, struct error *why)
{
    static const struct {
        Postern__V1__EkTrust mode;
        bool (*holds)(const struct attest_view *view, struct error *why);
    } modes[] = {
        {POSTERN__V1__EK_TRUST__EK_TRUST_VENDOR_CERT, vendor_vouches},
        {POSTERN__V1__EK_TRUST__EK_TRUST_PINNED, is_pinned},
        {POSTERN__V1__EK_TRUST__EK_TRUST_TOFU, is_first_used},
    };
    const struct attest_policy *policy = view->in->policy;
    bool tried = false;
    for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
        struct error lack;
        if (policy && !(policy->ek_trust & 1U << modes[i].mode))
            continue;
        if (modes[i].holds(view, &lack)) {
            view->ek_trust = modes[i].mode;
            return ATTEST_PASS;
        }
        if (!tried || attest_is_ours(&lack))
            *why = lack;
        tried = true;
        if (attest_is_ours(&lack))
            break;
    }
    if (!tried)
        error_set(why, ERROR_DENIED, "the policy accepts no kind of trust");
    return ATTEST_FAIL;
}

enum attest_outcome check_ek_certificate_key(struct attest_view *view, struct error *why)
{
    const Postern__V1__Hello *hello = view->in->hello;
    struct slice leaf = slice(hello->ek_certificate.data, hello->ek_certificate.len);
    if (leaf.len == 0 || ek_certificate_fits(leaf, &view->in->identity->ek.publicArea, why))
        return ATTEST_PASS;
    return ATTEST_FAIL;
}

enum attest_outcome check_ek_template(struct attest_view *view, struct error *why)
{
    enum template_id template;
    return template_find_ek(&view->in->identity->ek.publicArea, &template, why) ? ATTEST_PASS
                                                                                : ATTEST_FAIL;
}

/* The agent_id is made from the EK, so two EKs with one agent_id are a collision or a forgery, of
 * which nothing may be recorded. */
enum attest_outcome check_admitted(struct attest_view *view, struct error *why)
{
    const struct attest_record *record = view->in->record;
    if (record->known && !name_equal(&record->ek_name, &view->in->identity->ek_name)) {
        view->impostor = true;
        error_set(why, ERROR_DENIED, "agent %s is recorded with another EK",
                  view->in->identity->agent_id);
        return ATTEST_FAIL;
    }
    if (record->denied) {
        error_set_reason(why, ERROR_DENIED, "NODE_DENIED", "an operator denied this node");
        return ATTEST_FAIL;
    }
    bool admitted = (record->known && record->admitted) || view->in->token_valid;
    if (admitted && view->in->policy)
        return ATTEST_PASS;
    if (admitted)
        error_set(why, ERROR_CONFLICT, "this node is admitted, but there is no policy for it");
    else
        error_set(why, ERROR_CONFLICT,
                  "nobody has admitted this node: posternctl node approve %s --policy POLICY",
                  view->in->identity->agent_id);
    return ATTEST_PEND;
}

/* ---- AK ---- */

/* The quote says who signed it by qualified Name (check 9); that Name is computed from the public
 * area that came with hello, never taken from the peer. */
enum attest_outcome check_ak_name(struct attest_view *view, struct error *why)
{
    TPM2B_NAME name;
    if (!public_area_name(&view->in->identity->ak.publicArea, &name, why))
        return ATTEST_FAIL;
    if (name_equal(&name, &view->in->identity->ak_name))
        return ATTEST_PASS;
    error_set(why, ERROR_DENIED, "the AK's Name is not that of its public area");
    return ATTEST_FAIL;
}

enum attest_outcome check_ak_attributes(struct attest_view *view, struct error *why)
{
    constexpr TPMA_OBJECT needed = TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT |
                                   TPMA_OBJECT_SENSITIVEDATAORIGIN | TPMA_OBJECT_RESTRICTED |
                                   TPMA_OBJECT_SIGN_ENCRYPT;
    TPMA_OBJECT found = view->in->identity->ak.publicArea.objectAttributes;
    if ((found & needed) == needed && !(found & TPMA_OBJECT_DECRYPT))
        return ATTEST_PASS;
    error_set(why, ERROR_DENIED,
              "the AK is no restricted signing key that was born in this TPM and can't leave it: "
              "attributes 0x%08x",
              found);
    return ATTEST_FAIL;
}

/* The two with which tpmwire verifies. */
static bool is_signing_hash(TPMI_ALG_HASH alg)
{
    return alg == TPM2_ALG_SHA256 || alg == TPM2_ALG_SHA384;
}

enum attest_outcome check_ak_algorithm(struct attest_view *view, struct error *why)
{
    const TPMT_PUBLIC *ak = &view->in->identity->ak.publicArea;
    bool fits = false;
    if (ak->type == TPM2_ALG_ECC) {
        const TPMS_ECC_PARMS *ecc = &ak->parameters.eccDetail;
        fits = (ecc->curveID == TPM2_ECC_NIST_P256 || ecc->curveID == TPM2_ECC_NIST_P384) &&
               ecc->scheme.scheme == TPM2_ALG_ECDSA &&
               is_signing_hash(ecc->scheme.details.ecdsa.hashAlg);
    } else if (ak->type == TPM2_ALG_RSA) {
        const TPMS_RSA_PARMS *rsa = &ak->parameters.rsaDetail;
        fits = rsa->keyBits >= 2048 &&
               (rsa->scheme.scheme == TPM2_ALG_RSASSA || rsa->scheme.scheme == TPM2_ALG_RSAPSS) &&
               is_signing_hash(rsa->scheme.details.anySig.hashAlg);
    }
    if (fits)
        return ATTEST_PASS;
    error_set(why, ERROR_DENIED,
              "the AK is none of ECDSA on P-256 or P-384, RSASSA or RSAPSS from 2048 bits, with "
              "SHA-256 or SHA-384");
    return ATTEST_FAIL;
}

/* Only the TPM with this EK could open the credential, and only for an AK with this Name. */
enum attest_outcome check_ak_credential(struct attest_view *view, struct error *why)
{
    const struct attest_case *in = view->in;
    ProtobufCBinaryData answer = in->evidence->credential;
    if (!in->credential) {
        if (in->record->known && name_equal(&in->record->ak_name, &in->identity->ak_name))
            return ATTEST_PASS;
        error_set(why, ERROR_UNAUTHENTICATED, "no credential was asked for this AK");
        return ATTEST_FAIL;
    }
    struct slice expected = secret_slice(in->credential);
    if (answer.len == expected.len && mem_equal_secret(answer.data, expected.data, expected.len))
        return ATTEST_PASS;
    error_set(why, ERROR_UNAUTHENTICATED,
              "the credential was not activated: AK and EK are not in one TPM");
    return ATTEST_FAIL;
}

/* ---- WRAP and REQ ---- */

/* Number 10: this AK certifies the key with exactly this Name, for this conversation, and the key
 * is what we ask for: nothing that its owner could take out of the TPM. */
static bool certified(const struct attest_view *view, const struct attest_signed *part,
                      const char *key, const TPM2B_PUBLIC *area, const TPM2B_NAME *name,
                      enum template_id ecc, enum template_id rsa, struct error *why)
{
    TPMT_SIGNATURE signature;
    enum template_id wanted = area->publicArea.type == TPM2_ALG_RSA ? rsa : ecc;
    if (!attested_check(&part->attested, part->used, part->bytes.len, why) ||
        !tpm_signature_parse(part->signature, &signature, why) ||
        !tpm_signature_verify(&view->in->identity->ak.publicArea, &signature, part->bytes, why) ||
        !attest_bound(view, part, false, false, why) ||
        !template_match(&area->publicArea, wanted, why))
        return error_prefix(why, "%s", key);
    if (!name_equal(&part->attested.attested.certify.name, name))
        return error_set(why, ERROR_DENIED, "%s: the AK certified another key", key);
    return true;
}

enum attest_outcome check_certified_keys(struct attest_view *view, struct error *why)
{
    const struct attest_identity *id = view->in->identity;
    bool ok = certified(view, &view->certify_wrap, "WRAP", &id->wrap, &id->wrap_name,
                        TEMPLATE_WRAP_ECC_P256, TEMPLATE_WRAP_RSA_2048, why) &&
              certified(view, &view->certify_req, "REQ", &id->req, &id->req_name,
                        TEMPLATE_REQ_ECC_P256, TEMPLATE_REQ_ECC_P256, why);
    return ok ? ATTEST_PASS : ATTEST_FAIL;
}
