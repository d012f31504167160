/* Credentials, quotes and certifications. */
#include "tpm/prove.h"

#include "base/mem.h"
#include "tpm/internal.h"
#include "tpmwire/attested.h"
#include "tpmwire/credential.h"
#include "tpmwire/nv.h"
#include "tpmwire/signature.h"

constexpr size_t ATTESTED_MAX = 4096; /* a TPMS_ATTEST is at most 1 KiB or so */

void tpm_attested_init(struct tpm_attested *attested)
{
    *attested = (struct tpm_attested){0};
    buf_init(&attested->attest, ATTESTED_MAX);
    buf_init(&attested->signature, ATTESTED_MAX);
}

void tpm_attested_done(struct tpm_attested *attested)
{
    buf_done(&attested->attest);
    buf_done(&attested->signature);
    tpm_attested_init(attested);
}

/* Moves what ESYS gave into `ret`, and frees it in any case. */
static bool attested_take(TPM2B_ATTEST *attest, TPMT_SIGNATURE *signature, struct tpm_attested *ret,
                          struct error *err)
{
    struct tpm_attested taken;
    tpm_attested_init(&taken);
    buf_put(&taken.attest, slice(attest->attestationData, attest->size));
    bool ok = buf_ok(&taken.attest, err) &&
              tpm_signature_marshal(signature, &taken.signature, err) &&
              buf_ok(&taken.signature, err);
    Esys_Free(attest);
    Esys_Free(signature);
    if (!ok) {
        tpm_attested_done(&taken);
        return false;
    }
    tpm_attested_done(ret);
    *ret = taken;
    return true;
}

static bool extra_take(struct slice extra_data, TPM2B_DATA *ret, struct error *err)
{
    if (extra_data.len > sizeof(TPMU_HA))
        return error_set(err, ERROR_INVALID, "extraData of %zu bytes: at most %zu are possible",
                         extra_data.len, sizeof(TPMU_HA));
    *ret = (TPM2B_DATA){.size = (UINT16)extra_data.len};
    mem_copy(ret->buffer, extra_data.data, extra_data.len);
    return true;
}

/* ── ActivateCredential ──────────────────────────────────────────────────────────────────────── */

/* EKs of the low range want PolicySecret(endorsement), those of the high range the empty auth (EK
 * Credential Profile 2.5, B.6). Either way the session is salted and encrypts the answer. */
static bool ek_authorize(struct tpm *tpm, struct tpm_handle *ret, struct error *err)
{
    TPM2B_PUBLIC ek = {0};
    if (!tpm_key_area(tpm, TPM_KEY_EK, &ek, err))
        return false;
    bool by_policy = (ek.publicArea.objectAttributes & TPMA_OBJECT_USERWITHAUTH) == 0;
    CLEANUP(tpm_handle_done) struct tpm_handle session = {0};
    if (!tpm_session_new(tpm, by_policy ? TPM2_SE_POLICY : TPM2_SE_HMAC, TPMA_SESSION_ENCRYPT,
                         &session, err))
        return false;
    if (by_policy) {
        ESYS_TR by = 0;
        if (!tpm_hierarchy_session(tpm, ESYS_TR_RH_ENDORSEMENT, 0, &by, err))
            return false;
        TSS2_RC rc =
            Esys_PolicySecret(tpm->esys, ESYS_TR_RH_ENDORSEMENT, session.tr, by, ESYS_TR_NONE,
                              ESYS_TR_NONE, nullptr, nullptr, nullptr, 0, nullptr, nullptr);
        if (rc != TSS2_RC_SUCCESS)
            return tpm_fail(tpm, rc, err, "authorize the EK by the endorsement hierarchy");
    }
    *ret = session;
    session = (struct tpm_handle){0};
    return true;
}

bool tpm_activate(struct tpm *tpm, struct slice blob, struct slice encrypted_secret,
                  struct secret **ret, struct error *err)
{
    TPM2B_ID_OBJECT object = {0};
    TPM2B_ENCRYPTED_SECRET seed = {0};
    CLEANUP(tpm_handle_done) struct tpm_handle session = {0};
    ESYS_TR ek = 0;
    ESYS_TR ak = 0;
    if (!tpm_ready(tpm, err) || !credential_parse(blob, encrypted_secret, &object, &seed, err) ||
        !ek_authorize(tpm, &session, err) || !tpm_key_load(tpm, TPM_KEY_EK, &ek, err) ||
        !tpm_key_load(tpm, TPM_KEY_AK, &ak, err))
        return false;
    TPM2B_DIGEST *opened = nullptr;
    TSS2_RC rc = Esys_ActivateCredential(tpm->esys, ak, ek, ESYS_TR_PASSWORD, session.tr,
                                         ESYS_TR_NONE, &object, &seed, &opened);
    if (rc != TSS2_RC_SUCCESS)
        return tpm_fail_foreign(tpm, rc, err, "open the authority's credential with the EK");
    bool ok = secret_from(slice(opened->buffer, opened->size), ret, err);
    mem_wipe(opened, sizeof *opened);
    Esys_Free(opened);
    return ok;
}

/* ── Quote ───────────────────────────────────────────────────────────────────────────────────── */

/* Whether the quote is over just these values. INVALID if it is not over these PCRs at all. */
static bool quote_covers(const struct tpm_attested *quote, const struct pcr_values *values,
                         bool *ret, struct error *err)
{
    TPMS_ATTEST attest = {0};
    struct pcr_selection quoted = {0};
    TPMT_SIGNATURE signature = {0};
    TPM2B_DIGEST digest = {0};
    if (!attested_parse(buf_slice(&quote->attest), TPM2_ST_ATTEST_QUOTE, &attest, err) ||
        !pcr_selection_from_tpml(&attest.attested.quote.pcrSelect, &quoted, err) ||
        !tpm_signature_parse(buf_slice(&quote->signature), &signature, err))
        return false;
    if (!pcr_selection_equal(&quoted, &values->selection)) {
        char text[PCR_TEXT_MAX];
        return error_set(err, ERROR_INVALID, "the TPM can't quote all of %s",
                         pcr_selection_format(&values->selection, text));
    }
    /* hash is at the same place in every asymmetric scheme. */
    if (!pcr_composite_digest(signature.signature.any.hashAlg, &values->selection, values, &digest,
                              err))
        return false;
    *ret =
        slice_equal(slice(digest.buffer, digest.size), slice(attest.attested.quote.pcrDigest.buffer,
                                                             attest.attested.quote.pcrDigest.size));
    return true;
}

static bool quote_once(struct tpm *tpm, const struct pcr_selection *selection,
                       const TPM2B_DATA *extra, struct tpm_attested *ret, struct error *err)
{
    ESYS_TR ak = 0;
    if (!tpm_key_load(tpm, TPM_KEY_AK, &ak, err))
        return false;
    const TPMT_SIG_SCHEME own = {.scheme = TPM2_ALG_NULL};
    TPML_PCR_SELECTION list = {0};
    pcr_selection_to_tpml(selection, &list);
    TPM2B_ATTEST *attest = nullptr;
    TPMT_SIGNATURE *signature = nullptr;
    TSS2_RC rc = Esys_Quote(tpm->esys, ak, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, extra,
                            &own, &list, &attest, &signature);
    if (rc != TSS2_RC_SUCCESS)
        return tpm_fail(tpm, rc, err, "quote with the AK");
    return attested_take(attest, signature, ret, err);
}

bool tpm_quote(struct tpm *tpm, const struct pcr_selection *selection, struct slice extra_data,
               struct tpm_attested *ret, struct pcr_values *ret_pcrs, struct error *err)
{
    TPM2B_DATA extra = {0};
    if (!tpm_ready(tpm, err) || !extra_take(extra_data, &extra, err))
        return false;
    for (unsigned tries = 0; tries < TPM_PCR_TRIES_MAX; tries++) {
        CLEANUP(tpm_attested_done) struct tpm_attested quote;
        tpm_attested_init(&quote);
        struct pcr_values values;
        bool same = false;
        if (!quote_once(tpm, selection, &extra, &quote, err) ||
            !tpm_pcr_read(tpm, selection, &values, err) ||
            !quote_covers(&quote, &values, &same, err))
            return false;
        if (!same)
            continue;
        tpm_attested_done(ret);
        *ret = quote;
        tpm_attested_init(&quote);
        *ret_pcrs = values;
        return true;
    }
    return error_set(err, ERROR_UNAVAILABLE, "PCRs kept changing beside the quote, %u times",
                     TPM_PCR_TRIES_MAX);
}

/* ── Certify ─────────────────────────────────────────────────────────────────────────────────── */

bool tpm_certify(struct tpm *tpm, enum tpm_key key, struct slice extra_data,
                 struct tpm_attested *ret, struct error *err)
{
    TPM2B_DATA extra = {0};
    ESYS_TR object = 0;
    ESYS_TR ak = 0;
    if (!tpm_ready(tpm, err) || !extra_take(extra_data, &extra, err) ||
        !tpm_key_load(tpm, key, &object, err) || !tpm_key_load(tpm, TPM_KEY_AK, &ak, err))
        return false;
    const TPMT_SIG_SCHEME own = {.scheme = TPM2_ALG_NULL};
    TPM2B_ATTEST *attest = nullptr;
    TPMT_SIGNATURE *signature = nullptr;
    TSS2_RC rc = Esys_Certify(tpm->esys, object, ak, ESYS_TR_PASSWORD, ESYS_TR_PASSWORD,
                              ESYS_TR_NONE, &extra, &own, &attest, &signature);
    if (rc != TSS2_RC_SUCCESS)
        return tpm_fail(tpm, rc, err, "certify the %s with the AK",
                        key == TPM_KEY_WRAP ? "WRAP" : "REQ");
    return attested_take(attest, signature, ret, err);
}

bool tpm_counter_certify(struct tpm *tpm, const struct tpm_counter *counter,
                         struct slice extra_data, struct tpm_attested *ret, struct error *err)
{
    TPM2B_DATA extra = {0};
    ESYS_TR session = 0;
    ESYS_TR ak = 0;
    CLEANUP(tpm_nv_done) struct tpm_handle nv = {0};
    if (!tpm_ready(tpm, err) || !extra_take(extra_data, &extra, err) ||
        !tpm_nv_open(tpm, counter->index, counter->auth, &nv, err) ||
        !tpm_session(tpm, 0, &session, err) || !tpm_key_load(tpm, TPM_KEY_AK, &ak, err))
        return false;
    const TPMT_SIG_SCHEME own = {.scheme = TPM2_ALG_NULL};
    TPM2B_ATTEST *attest = nullptr;
    TPMT_SIGNATURE *signature = nullptr;
    TSS2_RC rc =
        Esys_NV_Certify(tpm->esys, ak, nv.tr, nv.tr, ESYS_TR_PASSWORD, session, ESYS_TR_NONE,
                        &extra, &own, NV_COUNTER_SIZE, 0, &attest, &signature);
    if (rc != TSS2_RC_SUCCESS)
        return tpm_fail(tpm, rc, err, "certify the counter with the AK");
    return attested_take(attest, signature, ret, err);
}
