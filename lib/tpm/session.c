/* Sessions, scoped handles, auths, NV handles: what the operations are made of. */
#include "tpm/internal.h"

#include "base/mem.h"

void tpm_handle_done(struct tpm_handle *handle)
{
    if (handle->tpm == nullptr || handle->tr == 0)
        return;
    struct tpm *tpm = handle->tpm;
    /* Of a TPM that was lost the next tpm_begin, or the resource manager, takes care. */
    if (tpm->transport.state == TRANSPORT_OK &&
        Esys_FlushContext(tpm->esys, handle->tr) != TSS2_RC_SUCCESS)
        tpm->left_over = true;
    *handle = (struct tpm_handle){0};
}

bool tpm_auth_from(const struct secret *secret, TPM2B_AUTH *ret, struct error *err)
{
    struct slice bytes = secret_slice(secret);
    if (bytes.len > sizeof ret->buffer)
        return error_set(err, ERROR_INVALID, "an auth of %zu bytes: at most %zu are possible",
                         bytes.len, sizeof ret->buffer);
    /* The TPM drops trailing zeros of an authValue (Part 1, 17.6.4.3), so its HMAC key lacks them. */
    while (bytes.len > 0 && bytes.data[bytes.len - 1] == 0)
        bytes.len--;
    ret->size = (UINT16)bytes.len;
    mem_copy(ret->buffer, bytes.data, bytes.len);
    return true;
}

bool tpm_session_new(struct tpm *tpm, TPM2_SE type, TPMA_SESSION attributes, struct tpm_handle *ret,
                     struct error *err)
{
    ESYS_TR ek = 0;
    if (!tpm_key_load(tpm, TPM_KEY_EK, &ek, err))
        return false;
    const TPMT_SYM_DEF cipher = {
        .algorithm = TPM2_ALG_AES, .keyBits.aes = 128, .mode.aes = TPM2_ALG_CFB};
    CLEANUP(tpm_handle_done) struct tpm_handle session = {.tpm = tpm};
    TSS2_RC rc =
        Esys_StartAuthSession(tpm->esys, ek, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE,
                              nullptr, type, &cipher, TPM2_ALG_SHA256, &session.tr);
    if (rc != TSS2_RC_SUCCESS) {
        session.tr = 0;
        return tpm_fail(tpm, rc, err, "start a session with the TPM");
    }
    rc = Esys_TRSess_SetAttributes(tpm->esys, session.tr, attributes | TPMA_SESSION_CONTINUESESSION,
                                   0xff);
    if (rc != TSS2_RC_SUCCESS)
        return tpm_fail(tpm, rc, err, "set a session's attributes");
    *ret = session;
    session = (struct tpm_handle){0};
    return true;
}

bool tpm_session(struct tpm *tpm, TPMA_SESSION attributes, ESYS_TR *ret, struct error *err)
{
    if (tpm->session == 0) {
        struct tpm_handle session = {0};
        if (!tpm_session_new(tpm, TPM2_SE_HMAC, attributes, &session, err))
            return false;
        tpm->session = session.tr;
    } else {
        TSS2_RC rc = Esys_TRSess_SetAttributes(tpm->esys, tpm->session,
                                               attributes | TPMA_SESSION_CONTINUESESSION, 0xff);
        if (rc != TSS2_RC_SUCCESS)
            return tpm_fail(tpm, rc, err, "set a session's attributes");
    }
    *ret = tpm->session;
    return true;
}

bool tpm_hierarchy_auth(struct tpm *tpm, ESYS_TR hierarchy, struct error *err)
{
    TPM2B_AUTH auth = {0};
    if (!tpm_auth_from(hierarchy == ESYS_TR_RH_OWNER ? tpm->owner_auth : tpm->endorsement_auth,
                       &auth, err))
        return false;
    TSS2_RC rc = Esys_TR_SetAuth(tpm->esys, hierarchy, &auth);
    mem_wipe(&auth, sizeof auth);
    return rc == TSS2_RC_SUCCESS || tpm_fail(tpm, rc, err, "set a hierarchy's auth");
}

bool tpm_hierarchy_session(struct tpm *tpm, ESYS_TR hierarchy, TPMA_SESSION attributes,
                           ESYS_TR *ret, struct error *err)
{
    const struct secret *auth =
        hierarchy == ESYS_TR_RH_OWNER ? tpm->owner_auth : tpm->endorsement_auth;
    if (!tpm_hierarchy_auth(tpm, hierarchy, err))
        return false;
    if (secret_len(auth) == 0 && attributes == 0) {
        *ret = ESYS_TR_PASSWORD;
        return true;
    }
    return tpm_session(tpm, attributes, ret, err);
}

bool tpm_nv_list(struct tpm *tpm, struct nv_list *ret, struct error *err)
{
    struct nv_list list = {0};
    uint32_t from = TPM2_NV_INDEX_FIRST;
    for (bool more = true; more;) {
        TPMI_YES_NO more_data = TPM2_NO;
        TPMS_CAPABILITY_DATA *data = nullptr;
        TSS2_RC rc =
            Esys_GetCapability(tpm->esys, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE,
                               TPM2_CAP_HANDLES, from, TPM2_MAX_CAP_HANDLES, &more_data, &data);
        if (rc != TSS2_RC_SUCCESS)
            return tpm_fail(tpm, rc, err, "list the TPM's NV indexes");
        const TPML_HANDLE *handles = &data->data.handles;
        for (uint32_t i = 0; i < handles->count && list.count < NV_LIST_MAX; i++) {
            list.index[list.count++] = handles->handle[i];
            from = handles->handle[i] + 1;
        }
        more = more_data == TPM2_YES && handles->count > 0 && list.count < NV_LIST_MAX;
        Esys_Free(data);
    }
    *ret = list;
    return true;
}

bool nv_list_has(const struct nv_list *list, uint32_t index)
{
    for (size_t i = 0; i < list->count; i++) {
        if (list->index[i] == index)
            return true;
    }
    return false;
}

void tpm_nv_done(struct tpm_handle *nv)
{
    if (nv->tpm != nullptr && nv->tr != 0)
        (void)Esys_TR_Close(nv->tpm->esys, &nv->tr);
    *nv = (struct tpm_handle){0};
}

bool tpm_nv_open(struct tpm *tpm, uint32_t index, const struct secret *auth, struct tpm_handle *ret,
                 struct error *err)
{
    CLEANUP(tpm_nv_done) struct tpm_handle nv = {.tpm = tpm};
    TSS2_RC rc =
        Esys_TR_FromTPMPublic(tpm->esys, index, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &nv.tr);
    if (rc != TSS2_RC_SUCCESS) {
        nv.tr = 0;
        return tpm_fail(tpm, rc, err, "look at NV index 0x%08x", index);
    }
    if (auth != nullptr) {
        TPM2B_AUTH value = {0};
        if (!tpm_auth_from(auth, &value, err))
            return false;
        rc = Esys_TR_SetAuth(tpm->esys, nv.tr, &value);
        mem_wipe(&value, sizeof value);
        if (rc != TSS2_RC_SUCCESS)
            return tpm_fail(tpm, rc, err, "set the auth of NV index 0x%08x", index);
    }
    *ret = nv;
    nv = (struct tpm_handle){0};
    return true;
}
