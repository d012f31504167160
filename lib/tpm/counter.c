/* The generation counter in NV. */
#include "tpm/internal.h"

#include "base/mem.h"
#include "tpmwire/nv.h"

constexpr uint32_t INDEX_FIRST = 0x01800000; /* TCG registry of reserved handles: the owner's */
constexpr uint32_t INDEX_LAST = 0x01BFFFFF;

static bool counter_check(const struct tpm *tpm, const struct tpm_counter *counter,
                          struct error *err)
{
    if (!tpm_ready(tpm, err))
        return false;
    if (counter->index < INDEX_FIRST || counter->index > INDEX_LAST)
        return error_set(err, ERROR_INVALID,
                         "the counter's NV index 0x%08x is not the owner's: expected 0x%08x to "
                         "0x%08x",
                         counter->index, INDEX_FIRST, INDEX_LAST);
    return true;
}

static bool read_area(struct tpm *tpm, const struct tpm_counter *counter, TPMS_NV_PUBLIC *ret,
                      struct error *err)
{
    CLEANUP(tpm_nv_done) struct tpm_handle nv = {0};
    if (!tpm_nv_open(tpm, counter->index, nullptr, &nv, err))
        return false;
    TPM2B_NV_PUBLIC *area = nullptr;
    TSS2_RC rc = Esys_NV_ReadPublic(tpm->esys, nv.tr, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE,
                                    &area, nullptr);
    if (rc != TSS2_RC_SUCCESS)
        return tpm_fail(tpm, rc, err, "look at the counter at NV index 0x%08x", counter->index);
    *ret = area->nvPublic;
    Esys_Free(area);
    return true;
}

static bool define(struct tpm *tpm, const struct tpm_counter *counter, struct error *err)
{
    TPM2B_NV_PUBLIC area = {0};
    nv_counter_area(counter->index, false, &area.nvPublic);
    ESYS_TR session = 0;
    CLEANUP(tpm_nv_done) struct tpm_handle nv = {.tpm = tpm};
    /* The new authValue travels encrypted. */
    TPM2B_AUTH auth = {0};
    if (!tpm_hierarchy_session(tpm, ESYS_TR_RH_OWNER, TPMA_SESSION_DECRYPT, &session, err) ||
        !tpm_auth_from(counter->auth, &auth, err))
        return false;
    TSS2_RC rc = Esys_NV_DefineSpace(tpm->esys, ESYS_TR_RH_OWNER, session, ESYS_TR_NONE,
                                     ESYS_TR_NONE, &auth, &area, &nv.tr);
    mem_wipe(&auth, sizeof auth);
    if (rc != TSS2_RC_SUCCESS) {
        nv.tr = 0;
        return tpm_fail(tpm, rc, err, "make the counter at NV index 0x%08x", counter->index);
    }
    return true;
}

static bool increment(struct tpm *tpm, const struct tpm_counter *counter, struct error *err)
{
    CLEANUP(tpm_nv_done) struct tpm_handle nv = {0};
    ESYS_TR session = 0;
    if (!tpm_nv_open(tpm, counter->index, counter->auth, &nv, err) ||
        !tpm_session(tpm, 0, &session, err))
        return false;
    TSS2_RC rc = Esys_NV_Increment(tpm->esys, nv.tr, nv.tr, session, ESYS_TR_NONE, ESYS_TR_NONE);
    if (rc != TSS2_RC_SUCCESS)
        return tpm_fail(tpm, rc, err, "increment the counter at NV index 0x%08x", counter->index);
    return true;
}

/* The index is ours in shape; *ret_written as it is. */
static bool check_shape(struct tpm *tpm, const struct tpm_counter *counter, bool *ret_written,
                        struct error *err)
{
    TPMS_NV_PUBLIC area = {0};
    if (!read_area(tpm, counter, &area, err))
        return false;
    bool written = (area.attributes & TPMA_NV_WRITTEN) != 0;
    if (!nv_counter_check(&area, written, err)) {
        err->class = ERROR_CONFLICT;
        return error_prefix(err,
                            "NV index 0x%08x belongs to something else (choose another index, or "
                            "delete it with tpm2_nvundefine if nothing needs it)",
                            counter->index);
    }
    *ret_written = written;
    return true;
}

bool tpm_counter_make(struct tpm *tpm, const struct tpm_counter *counter, struct error *err)
{
    struct nv_list list = {0};
    bool written = false;
    if (!counter_check(tpm, counter, err) || !tpm_nv_list(tpm, &list, err))
        return false;
    if (!nv_list_has(&list, counter->index) && !define(tpm, counter, err))
        return false;
    return check_shape(tpm, counter, &written, err) && (written || increment(tpm, counter, err));
}

bool tpm_counter_public(struct tpm *tpm, const struct tpm_counter *counter, struct buf *ret,
                        struct error *err)
{
    TPMS_NV_PUBLIC area = {0};
    return counter_check(tpm, counter, err) && read_area(tpm, counter, &area, err) &&
           nv_area_marshal(&area, ret, err) && buf_ok(ret, err);
}

bool tpm_counter_read(struct tpm *tpm, const struct tpm_counter *counter, uint64_t *ret,
                      struct error *err)
{
    CLEANUP(tpm_nv_done) struct tpm_handle nv = {0};
    ESYS_TR session = 0;
    if (!counter_check(tpm, counter, err) ||
        !tpm_nv_open(tpm, counter->index, counter->auth, &nv, err) ||
        !tpm_session(tpm, 0, &session, err))
        return false;
    TPM2B_MAX_NV_BUFFER *data = nullptr;
    TSS2_RC rc = Esys_NV_Read(tpm->esys, nv.tr, nv.tr, session, ESYS_TR_NONE, ESYS_TR_NONE,
                              NV_COUNTER_SIZE, 0, &data);
    if (rc != TSS2_RC_SUCCESS)
        return tpm_fail(tpm, rc, err, "read the counter at NV index 0x%08x", counter->index);
    struct reader r = reader(slice(data->buffer, data->size));
    uint64_t value = reader_u64(&r);
    bool whole = reader_end(&r);
    Esys_Free(data);
    if (!whole)
        return error_set(err, ERROR_INTERNAL, "the TPM gave a counter that is not 8 bytes long");
    *ret = value;
    return true;
}

bool tpm_counter_raise(struct tpm *tpm, const struct tpm_counter *counter, uint64_t target,
                       uint64_t *ret, struct error *err)
{
    uint64_t value = 0;
    if (!tpm_counter_read(tpm, counter, &value, err))
        return false;
    if (target > value && target - value > TPM_COUNTER_RAISE_MAX)
        return error_set(err, ERROR_INVALID,
                         "the counter is at %llu: raising it to %llu would take more than %llu "
                         "steps",
                         (unsigned long long)value, (unsigned long long)target,
                         (unsigned long long)TPM_COUNTER_RAISE_MAX);
    while (value < target) {
        if (!increment(tpm, counter, err) || !tpm_counter_read(tpm, counter, &value, err))
            return false;
    }
    *ret = value;
    return true;
}
