/* The four primaries, the EK's certificates, and signing with REQ. */
#include "tpm/internal.h"

#include "base/crypt.h"
#include "tpmwire/public.h"
#include "tpmwire/signature.h"
#include "tpmwire/template.h"

constexpr size_t CERTIFICATE_MAX = 16 * 1024; /* bytes of NV that are read for one certificate */
constexpr uint32_t CHAIN_FIRST = 0x01C00100;  /* EK Credential Profile 2.5, 2.2.1.5.2 */
constexpr uint32_t CHAIN_LAST = 0x01C001FF;

struct key_kind {
    const char *name;
    ESYS_TR hierarchy;
    int template; /* enum template_id; the EK's is found out */
};

static const struct key_kind kinds[TPM_KEY_COUNT] = {
    [TPM_KEY_EK] = {"EK", ESYS_TR_RH_ENDORSEMENT, TEMPLATE_COUNT},
    [TPM_KEY_AK] = {"AK", ESYS_TR_RH_ENDORSEMENT, TEMPLATE_AK_ECC_P256},
    [TPM_KEY_WRAP] = {"WRAP", ESYS_TR_RH_OWNER, TEMPLATE_WRAP_ECC_P256},
    [TPM_KEY_REQ] = {"REQ", ESYS_TR_RH_OWNER, TEMPLATE_REQ_ECC_P256},
};

/* Where a vendor puts certificates, by the EK they are for; the first that is there decides
 * (EK Credential Profile 2.5, 2.2.1.4). */
static const struct {
    uint32_t index;
    enum template_id template;
} ek_places[] = {
    {0x01C00002, TEMPLATE_EK_L1_RSA_2048}, {0x01C0000A, TEMPLATE_EK_L2_ECC_P256},
    {0x01C00012, TEMPLATE_EK_H1_RSA_2048}, {0x01C00014, TEMPLATE_EK_H2_ECC_P256},
    {0x01C00016, TEMPLATE_EK_H3_ECC_P384}, {0x01C0001C, TEMPLATE_EK_H6_RSA_3072},
    {0x01C0001E, TEMPLATE_EK_H7_RSA_4096},
};

/* The place of the certificate that decides, or NULL if NV has none. */
static bool ek_place(const struct nv_list *list, uint32_t *ret_index, enum template_id *ret)
{
    for (size_t i = 0; i < ARRAY_LEN(ek_places); i++) {
        if (nv_list_has(list, ek_places[i].index)) {
            *ret_index = ek_places[i].index;
            *ret = ek_places[i].template;
            return true;
        }
    }
    return false;
}

static bool ek_template(struct tpm *tpm, enum template_id *ret, struct error *err)
{
    if (!tpm->ek_known) {
        struct nv_list list = {0};
        if (!tpm_nv_list(tpm, &list, err))
            return false;
        enum template_id found = TEMPLATE_EK_L2_ECC_P256;
        uint32_t index = 0;
        (void)ek_place(&list, &index, &found);
        tpm->ek_template = (int)found;
        tpm->ek_known = true;
    }
    *ret = (enum template_id)tpm->ek_template;
    return true;
}

/* ── Loading ─────────────────────────────────────────────────────────────────────────────────── */

static void flush_key(struct tpm *tpm, size_t key)
{
    struct tpm_handle handle = {.tpm = tpm, .tr = tpm->key[key]};
    tpm->key[key] = 0;
    tpm_handle_done(&handle);
}

void tpm_make_room(struct tpm *tpm, size_t slots)
{
    for (;;) {
        size_t loaded = 0;
        size_t oldest = TPM_KEY_COUNT;
        for (size_t i = 0; i < TPM_KEY_COUNT; i++) {
            if (tpm->key[i] == 0)
                continue;
            loaded++;
            if (oldest == TPM_KEY_COUNT || tpm->used[i] < tpm->used[oldest])
                oldest = i;
        }
        if (loaded + slots <= OBJECTS_MAX || oldest == TPM_KEY_COUNT)
            return;
        flush_key(tpm, oldest);
    }
}

/* The EK is what sessions are salted to, so making it can't be in a salted one. Where the
 * endorsement hierarchy has an auth, a plain HMAC session keeps it off the bus at least. */
static bool ek_session(struct tpm *tpm, struct tpm_handle *owned, ESYS_TR *ret, struct error *err)
{
    *ret = ESYS_TR_PASSWORD;
    if (!tpm_hierarchy_auth(tpm, ESYS_TR_RH_ENDORSEMENT, err))
        return false;
    if (secret_len(tpm->endorsement_auth) == 0)
        return true;
    const TPMT_SYM_DEF none = {.algorithm = TPM2_ALG_NULL};
    TSS2_RC rc = Esys_StartAuthSession(tpm->esys, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE,
                                       ESYS_TR_NONE, ESYS_TR_NONE, nullptr, TPM2_SE_HMAC, &none,
                                       TPM2_ALG_SHA256, &owned->tr);
    if (rc != TSS2_RC_SUCCESS) {
        owned->tr = 0;
        return tpm_fail(tpm, rc, err, "start a session with the TPM");
    }
    owned->tpm = tpm;
    (void)Esys_TRSess_SetAttributes(tpm->esys, owned->tr, TPMA_SESSION_CONTINUESESSION, 0xff);
    *ret = owned->tr;
    return true;
}

static bool create(struct tpm *tpm, enum tpm_key key, ESYS_TR *ret, struct error *err)
{
    const struct key_kind *kind = &kinds[key];
    enum template_id template = (enum template_id)kind->template;
    if (key == TPM_KEY_EK && !ek_template(tpm, &template, err))
        return false;
    CLEANUP(tpm_handle_done) struct tpm_handle own = {0};
    ESYS_TR session = 0;
    if (!(key == TPM_KEY_EK ? ek_session(tpm, &own, &session, err)
                            : tpm_hierarchy_session(tpm, kind->hierarchy, 0, &session, err)))
        return false;
    tpm_make_room(tpm, 1);
    TPM2B_PUBLIC area = {0};
    template_fill(template, &area.publicArea);
    const TPM2B_SENSITIVE_CREATE sensitive = {0};
    const TPM2B_DATA outside = {0};
    const TPML_PCR_SELECTION pcrs = {0};
    TSS2_RC rc = Esys_CreatePrimary(tpm->esys, kind->hierarchy, session, ESYS_TR_NONE, ESYS_TR_NONE,
                                    &sensitive, &area, &outside, &pcrs, ret, nullptr, nullptr,
                                    nullptr, nullptr);
    if (rc != TSS2_RC_SUCCESS)
        return tpm_fail(tpm, rc, err, "make the %s in the TPM", kind->name);
    return true;
}

bool tpm_key_load(struct tpm *tpm, enum tpm_key key, ESYS_TR *ret, struct error *err)
{
    if (tpm->key[key] == 0) {
        ESYS_TR tr = 0;
        if (!create(tpm, key, &tr, err))
            return false;
        tpm->key[key] = tr;
    }
    tpm->used[key] = ++tpm->uses;
    *ret = tpm->key[key];
    return true;
}

bool tpm_key_area(struct tpm *tpm, enum tpm_key key, TPM2B_PUBLIC *ret, struct error *err)
{
    ESYS_TR tr = 0;
    if (!tpm_key_load(tpm, key, &tr, err))
        return false;
    TPM2B_PUBLIC *area = nullptr;
    TSS2_RC rc = Esys_ReadPublic(tpm->esys, tr, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &area,
                                 nullptr, nullptr);
    if (rc != TSS2_RC_SUCCESS)
        return tpm_fail(tpm, rc, err, "read the public area of the %s", kinds[key].name);
    *ret = *area;
    Esys_Free(area);
    return true;
}

bool tpm_key_public(struct tpm *tpm, enum tpm_key key, struct buf *ret, struct error *err)
{
    TPM2B_PUBLIC area = {0};
    return tpm_ready(tpm, err) && tpm_key_area(tpm, key, &area, err) &&
           public_area_marshal(&area.publicArea, ret, err) && buf_ok(ret, err);
}

/* ── Certificates ────────────────────────────────────────────────────────────────────────────── */

void ek_certificates_init(struct ek_certificates *certificates)
{
    *certificates = (struct ek_certificates){0};
    buf_init(&certificates->der, (1 + EK_CHAIN_MAX) * CERTIFICATE_MAX);
}

void ek_certificates_done(struct ek_certificates *certificates)
{
    buf_done(&certificates->der);
    ek_certificates_init(certificates);
}

/* Length of the DER SEQUENCE that `bytes` begin with; 0 if they don't begin with a whole one. */
static size_t der_length(struct slice bytes)
{
    struct reader r = reader(bytes);
    if (reader_u8(&r) != 0x30)
        return 0;
    size_t len = reader_u8(&r);
    if (len == 0x81)
        len = reader_u8(&r);
    else if (len == 0x82)
        len = reader_u16(&r);
    else if (len >= 0x80)
        return 0;
    (void)reader_take(&r, len);
    return reader_ok(&r) ? bytes.len - r.rest.len : 0;
}

/* Largest piece that TPM2_NV_Read gives (TPM_PT_NV_BUFFER_MAX). */
static bool nv_piece(struct tpm *tpm, uint16_t *ret, struct error *err)
{
    TPMS_CAPABILITY_DATA *data = nullptr;
    TPMI_YES_NO more = TPM2_NO;
    TSS2_RC rc =
        Esys_GetCapability(tpm->esys, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE,
                           TPM2_CAP_TPM_PROPERTIES, TPM2_PT_NV_BUFFER_MAX, 1, &more, &data);
    if (rc != TSS2_RC_SUCCESS)
        return tpm_fail(tpm, rc, err, "ask the TPM for a property");
    const TPML_TAGGED_TPM_PROPERTY *list = &data->data.tpmProperties;
    uint32_t max = list->count > 0 && list->tpmProperty[0].property == TPM2_PT_NV_BUFFER_MAX
                       ? list->tpmProperty[0].value
                       : 512;
    Esys_Free(data);
    *ret = max == 0 || max > TPM2_MAX_NV_BUFFER_SIZE ? TPM2_MAX_NV_BUFFER_SIZE : (uint16_t)max;
    return true;
}

/* Appends all bytes of an index, read with the empty auth: of the index itself, or the owner's. */
static bool nv_read_all(struct tpm *tpm, uint32_t index, uint16_t piece, struct buf *ret,
                        struct error *err)
{
    CLEANUP(tpm_nv_done) struct tpm_handle nv = {0};
    if (!tpm_nv_open(tpm, index, nullptr, &nv, err))
        return false;
    TPM2B_NV_PUBLIC *area = nullptr;
    TSS2_RC rc = Esys_NV_ReadPublic(tpm->esys, nv.tr, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE,
                                    &area, nullptr);
    if (rc != TSS2_RC_SUCCESS)
        return tpm_fail(tpm, rc, err, "look at NV index 0x%08x", index);
    TPMA_NV attributes = area->nvPublic.attributes;
    size_t size = area->nvPublic.dataSize;
    Esys_Free(area);
    if (size > CERTIFICATE_MAX)
        return error_set(err, ERROR_INVALID, "NV index 0x%08x has %zu bytes: no certificate", index,
                         size);
    ESYS_TR by = nv.tr;
    ESYS_TR session = ESYS_TR_PASSWORD;
    if ((attributes & TPMA_NV_AUTHREAD) == 0) {
        by = ESYS_TR_RH_OWNER;
        if (!tpm_hierarchy_session(tpm, by, 0, &session, err))
            return false;
    }
    for (size_t at = 0; at < size;) {
        size_t want = size - at < piece ? size - at : piece;
        TPM2B_MAX_NV_BUFFER *data = nullptr;
        rc = Esys_NV_Read(tpm->esys, by, nv.tr, session, ESYS_TR_NONE, ESYS_TR_NONE, (UINT16)want,
                          (UINT16)at, &data);
        if (rc != TSS2_RC_SUCCESS)
            return tpm_fail(tpm, rc, err, "read the certificate at NV index 0x%08x", index);
        size_t got = data->size;
        buf_put(ret, slice(data->buffer, got));
        Esys_Free(data);
        if (got == 0)
            break;
        at += got;
    }
    return true;
}

/* Reads what the TPM has into `der`, and where in it leaf and chain begin. An index that can't be
 * read as a certificate is as good as absent: the authority's policy decides what follows. */
static bool read_certificates(struct tpm *tpm, struct buf *der, size_t *ret_leaf_len,
                              struct error *err)
{
    struct nv_list list = {0};
    uint16_t piece = 0;
    if (!tpm_nv_list(tpm, &list, err) || !nv_piece(tpm, &piece, err))
        return false;
    enum template_id template = TEMPLATE_COUNT;
    uint32_t index = 0;
    if (!ek_place(&list, &index, &template))
        return true;
    if (!nv_read_all(tpm, index, piece, der, err))
        return false;
    *ret_leaf_len = der_length(buf_slice(der));
    der->len = *ret_leaf_len;
    for (size_t i = 0; i < list.count; i++) {
        if (list.index[i] >= CHAIN_FIRST && list.index[i] <= CHAIN_LAST &&
            !nv_read_all(tpm, list.index[i], piece, der, err))
            return false;
    }
    return true;
}

bool tpm_ek_certificates(struct tpm *tpm, struct ek_certificates *ret, struct error *err)
{
    if (!tpm_ready(tpm, err))
        return false;
    struct ek_certificates found;
    ek_certificates_init(&found);
    size_t leaf_len = 0;
    if (!read_certificates(tpm, &found.der, &leaf_len, err) || !buf_ok(&found.der, err)) {
        ek_certificates_done(&found);
        return false;
    }
    struct reader rest = reader(buf_slice(&found.der));
    found.leaf = reader_take(&rest, leaf_len);
    for (size_t len; found.chain_count < EK_CHAIN_MAX && (len = der_length(rest.rest)) > 0;)
        found.chain[found.chain_count++] = reader_take(&rest, len);
    ek_certificates_done(ret);
    *ret = found;
    return true;
}

/* ── Signing ─────────────────────────────────────────────────────────────────────────────────── */

bool tpm_sign(struct tpm *tpm, struct slice message, struct buf *ret, struct error *err)
{
    ESYS_TR req = 0;
    TPM2B_DIGEST digest = {.size = SHA256_SIZE};
    if (!tpm_ready(tpm, err) || !sha256(message, digest.buffer, err) ||
        !tpm_key_load(tpm, TPM_KEY_REQ, &req, err))
        return false;
    const TPMT_SIG_SCHEME own = {.scheme = TPM2_ALG_NULL};
    const TPMT_TK_HASHCHECK unrestricted = {.tag = TPM2_ST_HASHCHECK, .hierarchy = TPM2_RH_NULL};
    TPMT_SIGNATURE *signature = nullptr;
    TSS2_RC rc = Esys_Sign(tpm->esys, req, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, &digest,
                           &own, &unrestricted, &signature);
    if (rc != TSS2_RC_SUCCESS)
        return tpm_fail(tpm, rc, err, "sign with the REQ");
    bool ok = tpm_signature_marshal(signature, ret, err) && buf_ok(ret, err);
    Esys_Free(signature);
    return ok;
}
