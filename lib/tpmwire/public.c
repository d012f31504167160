#include "tpmwire/public.h"

#include "base/mem.h"
#include "ossl.h"
#include "tpmwire/hash.h"
#include "tpmwire/words.h"
#include "wire.h"

#include <openssl/core_names.h>
#include <openssl/param_build.h>
#include <tss2/tss2_mu.h>

constexpr uint32_t RSA_EXPONENT = 65537; /* what a TPM means by exponent 0 */

DEFINE_DONE(param_build_done, OSSL_PARAM_BLD, OSSL_PARAM_BLD_free)
DEFINE_DONE(params_done, OSSL_PARAM, OSSL_PARAM_free)

static const struct curve curves[] = {
    {TPM2_ECC_NIST_P256, NID_X9_62_prime256v1, 32, "prime256v1"},
    {TPM2_ECC_NIST_P384, NID_secp384r1, 48, "secp384r1"},
};

const struct curve *curve_find(TPMI_ECC_CURVE id)
{
    for (size_t i = 0; i < ARRAY_LEN(curves); i++) {
        if (curves[i].id == id) {
            return &curves[i];
        }
    }
    return nullptr;
}

bool coordinate_pad(const TPM2B_ECC_PARAMETER *coordinate, size_t size, uint8_t *ret)
{
    if (coordinate->size > size) {
        return false;
    }
    size_t zeros = size - coordinate->size;
    memset(ret, 0, zeros);
    mem_copy(ret + zeros, coordinate->buffer, coordinate->size);
    return true;
}

/* ── Wire form ─────────────────────────────────────────────────────────────────────────────── */

static bool area_bytes(const TPMT_PUBLIC *area, uint8_t ret[static PUBLIC_AREA_WIRE_MAX],
                       struct slice *ret_bytes, struct error *err)
{
    size_t len = 0;
    TSS2_RC rc = Tss2_MU_TPMT_PUBLIC_Marshal(area, ret, PUBLIC_AREA_WIRE_MAX, &len);
    if (rc != TSS2_RC_SUCCESS) {
        return wire_malformed(err, rc, "public area");
    }
    *ret_bytes = slice(ret, len);
    return true;
}

bool public_area_parse(struct slice wire, TPM2B_PUBLIC *ret, struct error *err)
{
    struct slice body = {};
    if (!wire_sized(wire, PUBLIC_AREA_WIRE_MAX, "public area", &body, err)) {
        return false;
    }
    TPM2B_PUBLIC area = {.size = (uint16_t)body.len};
    size_t used = 0;
    TSS2_RC rc = Tss2_MU_TPMT_PUBLIC_Unmarshal(body.data, body.len, &used, &area.publicArea);
    if (rc != TSS2_RC_SUCCESS) {
        return wire_malformed(err, rc, "public area");
    }
    if (!wire_strong_hash(area.publicArea.nameAlg)) {
        return error_set(err, ERROR_INVALID, "public area: nameAlg %s is not allowed",
                         tpm_alg_name(area.publicArea.nameAlg));
    }
    uint8_t bytes[PUBLIC_AREA_WIRE_MAX];
    struct slice again = {};
    if (!area_bytes(&area.publicArea, bytes, &again, err) ||
        !wire_canonical(body, used, again, "public area", err)) {
        return false;
    }
    *ret = area;
    return true;
}

bool public_area_marshal(const TPMT_PUBLIC *area, struct buf *ret, struct error *err)
{
    uint8_t bytes[PUBLIC_AREA_WIRE_MAX];
    struct slice body = {};
    if (!area_bytes(area, bytes, &body, err)) {
        return false;
    }
    return wire_put_sized(ret, body, err);
}

/* ── Names ─────────────────────────────────────────────────────────────────────────────────── */

bool name_from(TPMI_ALG_HASH alg, struct slice first, struct slice second, TPM2B_NAME *ret,
               struct error *err)
{
    if (!wire_strong_hash(alg)) {
        return error_set(err, ERROR_INVALID, "nameAlg %s is not allowed", tpm_alg_name(alg));
    }
    TPM2B_DIGEST digest;
    const struct slice parts[] = {first, second};
    if (!tpm_hash(alg, parts, ARRAY_LEN(parts), &digest, err)) {
        return false;
    }
    TPM2B_NAME name = {.size = (uint16_t)(2 + digest.size)};
    name.name[0] = (uint8_t)(alg >> 8);
    name.name[1] = (uint8_t)alg;
    mem_copy(name.name + 2, digest.buffer, digest.size);
    *ret = name;
    return true;
}

bool public_area_name(const TPMT_PUBLIC *area, TPM2B_NAME *ret, struct error *err)
{
    uint8_t bytes[PUBLIC_AREA_WIRE_MAX];
    struct slice body = {};
    return area_bytes(area, bytes, &body, err) &&
           name_from(area->nameAlg, body, slice(nullptr, 0), ret, err);
}

bool name_qualified(const TPM2B_NAME *parent, const TPM2B_NAME *name, TPM2B_NAME *ret,
                    struct error *err)
{
    if (name->size > sizeof name->name || parent->size > sizeof parent->name) {
        return error_set(err, ERROR_INVALID, "a Name is longer than Names can be");
    }
    struct reader r = reader(name_slice(name));
    TPMI_ALG_HASH alg = reader_u16(&r);
    if (!reader_ok(&r) || !wire_strong_hash(alg) || r.rest.len != tpm_hash_size(alg)) {
        return error_set(err, ERROR_INVALID, "this is not the Name of an object");
    }
    return name_from(alg, name_slice(parent), name_slice(name), ret, err);
}

bool name_qualified_primary(TPMI_RH_HIERARCHY hierarchy, const TPM2B_NAME *name, TPM2B_NAME *ret,
                            struct error *err)
{
    TPM2B_NAME parent;
    name_of_handle(hierarchy, &parent);
    return name_qualified(&parent, name, ret, err);
}

void name_of_handle(TPM2_HANDLE handle, TPM2B_NAME *ret)
{
    *ret = (TPM2B_NAME){.size = 4,
                        .name = {(uint8_t)(handle >> 24), (uint8_t)(handle >> 16),
                                 (uint8_t)(handle >> 8), (uint8_t)handle}};
}

bool name_equal(const TPM2B_NAME *a, const TPM2B_NAME *b)
{
    return slice_equal(name_slice(a), name_slice(b));
}

/* ── Keys of OpenSSL ───────────────────────────────────────────────────────────────────────── */

static bool key_from_params(const char *type, OSSL_PARAM *params, EVP_PKEY **ret, struct error *err)
{
    CLEANUP(pkey_ctx_done) EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(nullptr, type, nullptr);
    CLEANUP(pkey_done) EVP_PKEY *key = nullptr;
    if (!ctx || EVP_PKEY_fromdata_init(ctx) != 1 ||
        EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params) != 1) {
        return error_set_openssl(err, ERROR_INVALID, "public area: no %s key", type);
    }
    *ret = TAKE(key);
    return true;
}

static bool ecc_key(const TPMT_PUBLIC *area, EVP_PKEY **ret, struct error *err)
{
    const struct curve *curve = curve_find(area->parameters.eccDetail.curveID);
    if (!curve) {
        return error_set(err, ERROR_INVALID, "public area: curve 0x%04x is not supported",
                         area->parameters.eccDetail.curveID);
    }
    uint8_t point[1 + 2 * CURVE_SIZE_MAX] = {POINT_CONVERSION_UNCOMPRESSED};
    if (!coordinate_pad(&area->unique.ecc.x, curve->size, point + 1) ||
        !coordinate_pad(&area->unique.ecc.y, curve->size, point + 1 + curve->size)) {
        return error_set(err, ERROR_INVALID, "public area: a coordinate exceeds the curve's size");
    }
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, (char *)(uintptr_t)curve->name,
                                         0),
        OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, point,
                                          1 + 2 * (size_t)curve->size),
        OSSL_PARAM_construct_end(),
    };
    CLEANUP(pkey_done) EVP_PKEY *key = nullptr;
    if (!key_from_params("EC", params, &key, err)) {
        return false;
    }
    /* Both curves have cofactor 1: on the curve and not at infinity is all there is to check. */
    CLEANUP(pkey_ctx_done) EVP_PKEY_CTX *check = EVP_PKEY_CTX_new(key, nullptr);
    if (!check || EVP_PKEY_public_check_quick(check) != 1) {
        return error_set_openssl(err, ERROR_INVALID, "public area: the point is not on the curve");
    }
    *ret = TAKE(key);
    return true;
}

static bool rsa_key(const TPMT_PUBLIC *area, EVP_PKEY **ret, struct error *err)
{
    const TPMS_RSA_PARMS *rsa = &area->parameters.rsaDetail;
    const TPM2B_PUBLIC_KEY_RSA *modulus = &area->unique.rsa;
    if (rsa->keyBits != 2048 && rsa->keyBits != 3072 && rsa->keyBits != 4096) {
        return error_set(err, ERROR_INVALID, "public area: RSA of %u bits is not supported",
                         rsa->keyBits);
    }
    if (rsa->exponent != 0 && rsa->exponent != RSA_EXPONENT) {
        return error_set(err, ERROR_INVALID, "public area: RSA exponent %u is not supported",
                         rsa->exponent);
    }
    if (modulus->size != rsa->keyBits / 8 || (modulus->buffer[0] & 0x80) == 0 ||
        (modulus->buffer[modulus->size - 1] & 1) == 0) {
        return error_set(err, ERROR_INVALID, "public area: the modulus is not one of %u bits",
                         rsa->keyBits);
    }
    CLEANUP(bn_done) BIGNUM *n = BN_bin2bn(modulus->buffer, modulus->size, nullptr);
    CLEANUP(param_build_done) OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    if (!n || !build || OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, n) != 1 ||
        OSSL_PARAM_BLD_push_uint32(build, OSSL_PKEY_PARAM_RSA_E, RSA_EXPONENT) != 1) {
        return error_set_openssl(err, ERROR_INTERNAL, "public area: build an RSA key");
    }
    CLEANUP(params_done) OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(build);
    if (!params) {
        return error_set_openssl(err, ERROR_INTERNAL, "public area: build an RSA key");
    }
    return key_from_params("RSA", params, ret, err);
}

bool public_area_key(const TPMT_PUBLIC *area, EVP_PKEY **ret, struct error *err)
{
    switch (area->type) {
    case TPM2_ALG_ECC:
        return ecc_key(area, ret, err);
    case TPM2_ALG_RSA:
        return rsa_key(area, ret, err);
    default:
        return error_set(err, ERROR_INVALID, "public area: no public key in an object of type %s",
                         tpm_alg_name(area->type));
    }
}

static bool key_number(const EVP_PKEY *key, const char *name, uint8_t *ret, size_t len)
{
    CLEANUP(bn_done) BIGNUM *number = nullptr;
    return EVP_PKEY_get_bn_param(key, name, &number) == 1 &&
           BN_bn2binpad(number, ret, (int)len) == (int)len;
}

bool public_area_set_key(TPMT_PUBLIC *area, const EVP_PKEY *key, struct error *err)
{
    TPMU_PUBLIC_ID unique = {0};
    bool fits = false;
    if (area->type == TPM2_ALG_ECC && EVP_PKEY_is_a(key, "EC")) {
        const struct curve *curve = curve_find(area->parameters.eccDetail.curveID);
        char group[32] = "";
        fits = curve && EVP_PKEY_get_group_name(key, group, sizeof group, nullptr) == 1 &&
               strcmp(group, curve->name) == 0;
        if (fits) {
            unique.ecc.x.size = unique.ecc.y.size = curve->size;
            fits = key_number(key, OSSL_PKEY_PARAM_EC_PUB_X, unique.ecc.x.buffer, curve->size) &&
                   key_number(key, OSSL_PKEY_PARAM_EC_PUB_Y, unique.ecc.y.buffer, curve->size);
        }
    } else if (area->type == TPM2_ALG_RSA && EVP_PKEY_is_a(key, "RSA")) {
        uint16_t bits = area->parameters.rsaDetail.keyBits;
        unique.rsa.size = bits / 8;
        fits = unique.rsa.size <= sizeof unique.rsa.buffer && EVP_PKEY_get_bits(key) == bits &&
               key_number(key, OSSL_PKEY_PARAM_RSA_N, unique.rsa.buffer, unique.rsa.size);
    }
    if (!fits) {
        return error_set_openssl(err, ERROR_INVALID, "the key does not fit the %s public area",
                                 tpm_alg_name(area->type));
    }
    area->unique = unique;
    return true;
}
