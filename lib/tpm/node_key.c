/* Import and unseal of the node key. */
#include "tpm/node_key.h"

#include "base/mem.h"
#include "tpm/internal.h"
#include "tpmwire/import.h"
#include "tpmwire/policy.h"
#include "tpmwire/public.h"

bool node_key_import(struct tpm *tpm, struct slice object_public, struct slice duplicate,
                     struct slice seed, struct buf *ret, struct error *err)
{
    TPM2B_PUBLIC area = {0};
    TPM2B_PRIVATE wrapped = {0};
    TPM2B_ENCRYPTED_SECRET secret = {0};
    ESYS_TR wrap = 0;
    if (!tpm_ready(tpm, err) ||
        !import_blob_parse(object_public, duplicate, seed, &area, &wrapped, &secret, err) ||
        !tpm_key_load(tpm, TPM_KEY_WRAP, &wrap, err))
        return false;
    const TPM2B_DATA no_key = {0};
    const TPMT_SYM_DEF_OBJECT no_wrapper = {.algorithm = TPM2_ALG_NULL};
    TPM2B_PRIVATE *object = nullptr;
    TSS2_RC rc = Esys_Import(tpm->esys, wrap, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, &no_key,
                             &area, &wrapped, &secret, &no_wrapper, &object);
    if (rc != TSS2_RC_SUCCESS)
        return tpm_fail_foreign(tpm, rc, err, "import the node key under the WRAP");
    struct slice bytes = slice(object->buffer, object->size);
    buf_put_u16(ret, object->size);
    buf_put(ret, bytes);
    Esys_Free(object);
    return buf_ok(ret, err);
}

/* ── Unseal ──────────────────────────────────────────────────────────────────────────────────── */

static bool load(struct tpm *tpm, const struct node_key_sealed *key, struct tpm_handle *ret,
                 struct error *err)
{
    TPM2B_PUBLIC area = {0};
    if (!public_area_parse(key->object_public, &area, err))
        return error_prefix(err, "the node key's public area");
    struct reader r = reader(key->object_private);
    TPM2B_PRIVATE object = {.size = reader_u16(&r)};
    struct slice bytes = reader_take(&r, object.size);
    if (!reader_end(&r) || bytes.len > sizeof object.buffer)
        return error_set(err, ERROR_INVALID, "the node key's private area is malformed");
    mem_copy(object.buffer, bytes.data, bytes.len);
    ESYS_TR wrap = 0;
    if (!tpm_key_load(tpm, TPM_KEY_WRAP, &wrap, err))
        return false;
    tpm_make_room(tpm, 1);
    ESYS_TR tr = 0;
    TSS2_RC rc = Esys_Load(tpm->esys, wrap, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, &object,
                           &area, &tr);
    if (rc != TSS2_RC_SUCCESS)
        return tpm_fail_foreign(tpm, rc, err, "load the node key under the WRAP");
    *ret = (struct tpm_handle){.tpm = tpm, .tr = tr};
    return true;
}

/* The order is the security (design: secrets.md): a counter check within an approved policy could
 * be left out. PolicyPCR gets no digest, so that a wrong state is refused by Unseal itself. */
static TSS2_RC satisfy(struct tpm *tpm, const struct node_key_sealed *key, ESYS_TR nv,
                       ESYS_TR policy, ESYS_TR session, const char **ret_what)
{
    TPML_PCR_SELECTION pcrs = {0};
    pcr_selection_to_tpml(key->seal, &pcrs);
    const TPM2B_DIGEST any = {0};
    *ret_what = "check the PCRs for the node key";
    TSS2_RC rc =
        Esys_PolicyPCR(tpm->esys, policy, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &any, &pcrs);
    if (rc != TSS2_RC_SUCCESS)
        return rc;
    TPM2B_OPERAND limit = {0};
    node_key_operand(key->limit, &limit);
    *ret_what = "check the counter for the node key";
    rc = Esys_PolicyNV(tpm->esys, nv, nv, policy, session, ESYS_TR_NONE, ESYS_TR_NONE, &limit, 0,
                       TPM2_EO_UNSIGNED_LE);
    if (rc != TSS2_RC_SUCCESS)
        return rc;
    *ret_what = "unseal the node key";
    return Esys_PolicyCommandCode(tpm->esys, policy, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE,
                                  TPM2_CC_Unseal);
}

/* One try in a policy session of its own. *ret_moved instead of an error where a PCR was extended
 * in between: any extend on the machine does that, whichever PCR. */
static bool unseal_once(struct tpm *tpm, const struct node_key_sealed *key, ESYS_TR nv,
                        ESYS_TR object, struct secret **ret, bool *ret_moved, struct error *err)
{
    CLEANUP(tpm_handle_done) struct tpm_handle policy = {0};
    ESYS_TR session = 0;
    if (!tpm_session(tpm, 0, &session, err) ||
        !tpm_session_new(tpm, TPM2_SE_POLICY, TPMA_SESSION_ENCRYPT, &policy, err))
        return false;
    const char *what = nullptr;
    TPM2B_SENSITIVE_DATA *data = nullptr;
    TSS2_RC rc = satisfy(tpm, key, nv, policy.tr, session, &what);
    if (rc == TSS2_RC_SUCCESS)
        rc = Esys_Unseal(tpm->esys, object, policy.tr, ESYS_TR_NONE, ESYS_TR_NONE, &data);
    *ret_moved = tpm_base_code(rc) == TPM2_RC_PCR_CHANGED;
    if (*ret_moved)
        return true;
    if (rc != TSS2_RC_SUCCESS)
        return tpm_fail(tpm, rc, err, "%s", what);
    bool ok = secret_from(slice(data->buffer, data->size), ret, err);
    mem_wipe(data, sizeof *data);
    Esys_Free(data);
    return ok;
}

bool node_key_unseal(struct tpm *tpm, const struct node_key_sealed *key,
                     const struct tpm_counter *counter, struct secret **ret, struct error *err)
{
    CLEANUP(tpm_nv_done) struct tpm_handle nv = {0};
    CLEANUP(tpm_handle_done) struct tpm_handle object = {0};
    ESYS_TR ek = 0;
    /* Three slots: the EK, to which each try's session is salted, the WRAP, and the object. */
    if (!tpm_ready(tpm, err) || !tpm_nv_open(tpm, counter->index, counter->auth, &nv, err) ||
        !tpm_key_load(tpm, TPM_KEY_EK, &ek, err) || !load(tpm, key, &object, err))
        return false;
    for (unsigned tries = 0; tries < TPM_PCR_TRIES_MAX; tries++) {
        bool moved = false;
        if (!unseal_once(tpm, key, nv.tr, object.tr, ret, &moved, err))
            return false;
        if (!moved)
            return true;
    }
    return error_set_native(err, ERROR_UNAVAILABLE, ERROR_DOMAIN_TPM, TPM2_RC_PCR_CHANGED, nullptr,
                            "unseal the node key: PCRs kept changing, %u times", TPM_PCR_TRIES_MAX);
}
