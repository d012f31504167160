/*
 * The parsers of lib/tpmwire. The first byte chooses the structure. What is accepted must marshal to
 * the same bytes, and whatever is done with it next (Names, templates, keys, signatures, blobs for
 * it) must end in success or a proper error.
 */
#include "fuzz/fuzz.h"

#include "tpmwire/attested.h"
#include "tpmwire/import.h"
#include "tpmwire/nv.h"
#include "tpmwire/pcr.h"
#include "tpmwire/public.h"
#include "tpmwire/signature.h"
#include "tpmwire/template.h"

#include <openssl/err.h>

static void check_same(const struct buf *again, struct slice wire)
{
    FUZZ_CHECK(slice_equal(buf_slice(again), wire));
}

/* A blob for whatever the parser took for a storage key. */
static void import_check(const TPMT_PUBLIC *area)
{
    struct error err = {0};
    struct share_random random;
    uint8_t seed_value[IMPORT_SEED_VALUE_SIZE] = {1};
    TPM2B_DIGEST policy = {.size = 32};
    CLEANUP(secret_free_at) struct secret *secret = nullptr;
    struct buf out[3];
    for (size_t i = 0; i < ARRAY_LEN(out); i++) {
        buf_init(&out[i], IMPORT_BLOB_WIRE_MAX);
    }
    memset(&random, 1, sizeof random);
    FUZZ_CHECK(secret_new(IMPORT_SECRET_SIZE, &secret, &err));
    if (import_blob_make_with(area, secret, &policy, seed_value, &random, &out[0], &out[1], &out[2],
                              &err)) {
        TPM2B_PUBLIC public;
        TPM2B_PRIVATE duplicate;
        TPM2B_ENCRYPTED_SECRET seed;
        FUZZ_CHECK(import_blob_parse(buf_slice(&out[0]), buf_slice(&out[1]), buf_slice(&out[2]),
                                     &public, &duplicate, &seed, &err));
    } else {
        FUZZ_CHECK(err.class == ERROR_INVALID);
    }
    for (size_t i = 0; i < ARRAY_LEN(out); i++) {
        buf_done(&out[i]);
    }
}

static bool try_public(struct slice wire)
{
    struct error err = {0};
    TPM2B_PUBLIC area;
    if (!public_area_parse(wire, &area, &err)) {
        FUZZ_CHECK(err.class == ERROR_INVALID);
        return false;
    }
    CLEANUP(buf_done) struct buf again;
    buf_init(&again, PUBLIC_AREA_WIRE_MAX);
    FUZZ_CHECK(public_area_marshal(&area.publicArea, &again, &err));
    check_same(&again, wire);
    TPM2B_NAME name;
    TPM2B_NAME qualified;
    FUZZ_CHECK(public_area_name(&area.publicArea, &name, &err));
    FUZZ_CHECK(name_qualified_primary(TPM2_RH_ENDORSEMENT, &name, &qualified, &err));
    enum template_id found;
    FUZZ_CHECK(template_find_ek(&area.publicArea, &found, &err) || err.class == ERROR_INVALID);
    EVP_PKEY *key = nullptr;
    if (public_area_key(&area.publicArea, &key, &err)) {
        FUZZ_CHECK(public_area_set_key(&area.publicArea, key, &err));
        EVP_PKEY_free(key);
    } else {
        FUZZ_CHECK(err.class == ERROR_INVALID);
    }
    import_check(&area.publicArea);
    return true;
}

static bool try_nv(struct slice wire)
{
    struct error err = {0};
    TPM2B_NV_PUBLIC area;
    if (!nv_area_parse(wire, &area, &err)) {
        FUZZ_CHECK(err.class == ERROR_INVALID);
        return false;
    }
    CLEANUP(buf_done) struct buf again;
    buf_init(&again, NV_AREA_WIRE_MAX);
    FUZZ_CHECK(nv_area_marshal(&area.nvPublic, &again, &err));
    check_same(&again, wire);
    FUZZ_CHECK(nv_counter_check(&area.nvPublic, true, &err) || err.class == ERROR_INVALID);
    return true;
}

static bool try_attested(struct slice wire)
{
    static const TPMI_ST_ATTEST types[] = {TPM2_ST_ATTEST_QUOTE, TPM2_ST_ATTEST_CERTIFY,
                                           TPM2_ST_ATTEST_NV};
    bool taken = false;
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        struct error err = {0};
        TPMS_ATTEST attested;
        if (!attested_parse(wire, types[i], &attested, &err)) {
            FUZZ_CHECK(err.class == ERROR_INVALID);
            continue;
        }
        FUZZ_CHECK(attested.magic == TPM2_GENERATED_VALUE && attested.type == types[i]);
        taken = true;
        struct pcr_selection selection;
        if (types[i] == TPM2_ST_ATTEST_QUOTE &&
            pcr_selection_from_tpml(&attested.attested.quote.pcrSelect, &selection, &err)) {
            char text[PCR_TEXT_MAX];
            TPML_PCR_SELECTION again;
            struct pcr_selection same;
            FUZZ_CHECK(strlen(pcr_selection_format(&selection, text)) < PCR_TEXT_MAX);
            pcr_selection_to_tpml(&selection, &again);
            FUZZ_CHECK(pcr_selection_from_tpml(&again, &same, &err));
            FUZZ_CHECK(pcr_selection_equal(&selection, &same));
        }
    }
    return taken;
}

static bool try_signature(struct slice wire)
{
    struct error err = {0};
    TPMT_SIGNATURE signature;
    if (!tpm_signature_parse(wire, &signature, &err)) {
        FUZZ_CHECK(err.class == ERROR_INVALID);
        return false;
    }
    CLEANUP(buf_done) struct buf again;
    buf_init(&again, TPM_SIGNATURE_WIRE_MAX);
    FUZZ_CHECK(tpm_signature_marshal(&signature, &again, &err));
    check_same(&again, wire);
    /* The generator of P-256: a key that is on the curve and that nobody signs with. */
    static const uint8_t generator[64] = {
        0x6b, 0x17, 0xd1, 0xf2, 0xe1, 0x2c, 0x42, 0x47, 0xf8, 0xbc, 0xe6, 0xe5, 0x63,
        0xa4, 0x40, 0xf2, 0x77, 0x03, 0x7d, 0x81, 0x2d, 0xeb, 0x33, 0xa0, 0xf4, 0xa1,
        0x39, 0x45, 0xd8, 0x98, 0xc2, 0x96, 0x4f, 0xe3, 0x42, 0xe2, 0xfe, 0x1a, 0x7f,
        0x9b, 0x8e, 0xe7, 0xeb, 0x4a, 0x7c, 0x0f, 0x9e, 0x16, 0x2b, 0xce, 0x33, 0x57,
        0x6b, 0x31, 0x5e, 0xce, 0xcb, 0xb6, 0x40, 0x68, 0x37, 0xbf, 0x51, 0xf5};
    TPMT_PUBLIC key;
    template_fill(TEMPLATE_AK_ECC_P256, &key);
    key.unique.ecc.x.size = key.unique.ecc.y.size = 32;
    memcpy(key.unique.ecc.x.buffer, generator, 32);
    memcpy(key.unique.ecc.y.buffer, generator + 32, 32);
    if (!tpm_signature_verify(&key, &signature, slice_str("never signed"), &err)) {
        FUZZ_CHECK(err.class == ERROR_INVALID || err.class == ERROR_DENIED);
    }
    FUZZ_CHECK(ERR_peek_error() == 0);
    return true;
}

static bool try_selection(struct slice text)
{
    char terminated[512] = "";
    if (text.len >= sizeof terminated) {
        return false;
    }
    if (text.len > 0) {
        memcpy(terminated, text.data, text.len);
    }
    struct error err = {0};
    struct pcr_selection selection;
    char again[PCR_TEXT_MAX];
    if (!pcr_selection_parse(terminated, &selection, &err)) {
        FUZZ_CHECK(err.class == ERROR_INVALID);
        return false;
    }
    FUZZ_CHECK(strcmp(pcr_selection_format(&selection, again), terminated) == 0);
    return true;
}

enum fuzz_verdict fuzz_one(struct slice input)
{
    static bool (*const structures[])(struct slice wire) = {try_public, try_nv, try_attested,
                                                            try_signature, try_selection};
    if (input.len == 0) {
        return FUZZ_REFUSED;
    }
    struct slice wire = slice(input.data + 1, input.len - 1);
    return structures[input.data[0] % ARRAY_LEN(structures)](wire) ? FUZZ_ACCEPTED : FUZZ_REFUSED;
}
