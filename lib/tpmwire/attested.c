#include "tpmwire/attested.h"

#include "base/mem.h"
#include "wire.h"

#include <tss2/tss2_mu.h>

bool attested_read(struct slice bytes, TPMI_ST_ATTEST type, TPMS_ATTEST *ret, size_t *ret_used,
                   struct error *err)
{
    if (bytes.len > sizeof(TPMS_ATTEST)) {
        return error_set(err, ERROR_INVALID, "attestation has %zu bytes: at most %zu are allowed",
                         bytes.len, sizeof(TPMS_ATTEST));
    }
    /* The type first, by hand: it says what the rest is. */
    struct reader r = reader(bytes);
    TPM2_GENERATED magic = reader_u32(&r);
    TPMI_ST_ATTEST found = reader_u16(&r);
    if (!reader_ok(&r)) {
        return error_set(err, ERROR_INVALID, "attestation is truncated");
    }
    if (found != type) {
        return error_set(err, ERROR_INVALID, "attestation: type is 0x%04x instead of 0x%04x", found,
                         type);
    }
    /* The marshalling library refuses another magic, which here is attested_check's to judge. */
    static const uint8_t genuine[] = {0xff, 0x54, 0x43, 0x47};
    uint8_t copy[sizeof(TPMS_ATTEST)];
    mem_copy(copy, bytes.data, bytes.len);
    mem_copy(copy, genuine, sizeof genuine);
    TPMS_ATTEST attested = {0};
    size_t used = 0;
    TSS2_RC rc = Tss2_MU_TPMS_ATTEST_Unmarshal(copy, bytes.len, &used, &attested);
    if (rc != TSS2_RC_SUCCESS) {
        return wire_malformed(err, rc, "attestation");
    }
    uint8_t again[sizeof(TPMS_ATTEST)];
    size_t len = 0;
    rc = Tss2_MU_TPMS_ATTEST_Marshal(&attested, again, sizeof again, &len);
    if (rc != TSS2_RC_SUCCESS) {
        return wire_malformed(err, rc, "attestation");
    }
    if (!wire_canonical(slice(copy, used), used, slice(again, len), "attestation", err)) {
        return false;
    }
    attested.magic = magic;
    *ret = attested;
    *ret_used = used;
    return true;
}

bool attested_check(const TPMS_ATTEST *attested, size_t used, size_t size, struct error *err)
{
    if (attested->magic != TPM2_GENERATED_VALUE) {
        return error_set(err, ERROR_INVALID, "attestation: magic is 0x%08x: no TPM made this",
                         attested->magic);
    }
    if (used != size) {
        return error_set(err, ERROR_INVALID, "attestation has %zu trailing bytes", size - used);
    }
    return true;
}

bool attested_parse(struct slice bytes, TPMI_ST_ATTEST type, TPMS_ATTEST *ret, struct error *err)
{
    TPMS_ATTEST attested = {0};
    size_t used = 0;
    if (!attested_read(bytes, type, &attested, &used, err) ||
        !attested_check(&attested, used, bytes.len, err)) {
        return false;
    }
    *ret = attested;
    return true;
}
