#include "tpmwire/nv.h"

#include "tpmwire/words.h"
#include "wire.h"

#include <tss2/tss2_mu.h>

static bool area_bytes(const TPMS_NV_PUBLIC *area, uint8_t ret[static NV_AREA_WIRE_MAX],
                       struct slice *ret_bytes, struct error *err)
{
    size_t len = 0;
    TSS2_RC rc = Tss2_MU_TPMS_NV_PUBLIC_Marshal(area, ret, NV_AREA_WIRE_MAX, &len);
    if (rc != TSS2_RC_SUCCESS) {
        return wire_malformed(err, rc, "NV public area");
    }
    *ret_bytes = slice(ret, len);
    return true;
}

bool nv_area_parse(struct slice wire, TPM2B_NV_PUBLIC *ret, struct error *err)
{
    struct slice body = {};
    if (!wire_sized(wire, NV_AREA_WIRE_MAX, "NV public area", &body, err)) {
        return false;
    }
    TPM2B_NV_PUBLIC area = {.size = (uint16_t)body.len};
    size_t used = 0;
    TSS2_RC rc = Tss2_MU_TPMS_NV_PUBLIC_Unmarshal(body.data, body.len, &used, &area.nvPublic);
    if (rc != TSS2_RC_SUCCESS) {
        return wire_malformed(err, rc, "NV public area");
    }
    if (!wire_strong_hash(area.nvPublic.nameAlg)) {
        return error_set(err, ERROR_INVALID, "NV public area: nameAlg %s is not allowed",
                         tpm_alg_name(area.nvPublic.nameAlg));
    }
    uint8_t bytes[NV_AREA_WIRE_MAX];
    struct slice again = {};
    if (!area_bytes(&area.nvPublic, bytes, &again, err) ||
        !wire_canonical(body, used, again, "NV public area", err)) {
        return false;
    }
    *ret = area;
    return true;
}

bool nv_area_marshal(const TPMS_NV_PUBLIC *area, struct buf *ret, struct error *err)
{
    uint8_t bytes[NV_AREA_WIRE_MAX];
    struct slice body = {};
    if (!area_bytes(area, bytes, &body, err)) {
        return false;
    }
    return wire_put_sized(ret, body, err);
}

bool nv_area_name(const TPMS_NV_PUBLIC *area, TPM2B_NAME *ret, struct error *err)
{
    uint8_t bytes[NV_AREA_WIRE_MAX];
    struct slice body = {};
    return area_bytes(area, bytes, &body, err) &&
           name_from(area->nameAlg, body, slice(nullptr, 0), ret, err);
}

void nv_counter_area(TPMI_RH_NV_INDEX index, bool written, TPMS_NV_PUBLIC *ret)
{
    *ret = (TPMS_NV_PUBLIC){
        .nvIndex = index,
        .nameAlg = TPM2_ALG_SHA256,
        .attributes = written ? NV_COUNTER_WRITTEN : NV_COUNTER_ATTRIBUTES,
        .dataSize = NV_COUNTER_SIZE,
    };
}

bool nv_counter_check(const TPMS_NV_PUBLIC *area, bool written, struct error *err)
{
    TPMS_NV_PUBLIC expected;
    nv_counter_area(area->nvIndex, written, &expected);
    if (area->nvIndex >> 24 != TPM2_HT_NV_INDEX) {
        return error_set(err, ERROR_INVALID, "counter: 0x%08x is not an NV index", area->nvIndex);
    }
    if (area->nameAlg != expected.nameAlg) {
        return error_set(err, ERROR_INVALID, "counter: nameAlg is %s instead of sha256",
                         tpm_alg_name(area->nameAlg));
    }
    if (area->attributes != expected.attributes) {
        return error_set(err, ERROR_INVALID, "counter: attributes are 0x%08x instead of 0x%08x",
                         area->attributes, expected.attributes);
    }
    if (area->authPolicy.size != 0) {
        return error_set(err, ERROR_INVALID, "counter: it has a policy");
    }
    if (area->dataSize != expected.dataSize) {
        return error_set(err, ERROR_INVALID, "counter: its size is %u instead of %u",
                         area->dataSize, expected.dataSize);
    }
    return true;
}
