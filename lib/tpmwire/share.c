#include "tpmwire/share.h"

#include "base/crypt.h"
#include "base/mem.h"
#include "ossl.h"
#include "tpmwire/hash.h"
#include "tpmwire/public.h"
#include "tpmwire/words.h"

#include <openssl/core_names.h>
#include <openssl/params.h>
#include <openssl/rsa.h>
#include <tss2/tss2_mu.h>

constexpr int SCALAR_TRIES = 16; /* P-256 refuses one scalar in 2^32 */

DEFINE_DONE(cipher_ctx_done, EVP_CIPHER_CTX, EVP_CIPHER_CTX_free)
DEFINE_DONE(mac_done, EVP_MAC, EVP_MAC_free)
DEFINE_DONE(mac_ctx_done, EVP_MAC_CTX, EVP_MAC_CTX_free)

static const TPMT_SYM_DEF_OBJECT *symmetric_of(const TPMT_PUBLIC *key)
{
    return key->type == TPM2_ALG_RSA ? &key->parameters.rsaDetail.symmetric
                                     : &key->parameters.eccDetail.symmetric;
}

static const EVP_CIPHER *cipher_of(const TPMT_PUBLIC *key)
{
    const TPMT_SYM_DEF_OBJECT *symmetric = symmetric_of(key);
    if (symmetric->algorithm != TPM2_ALG_AES || symmetric->mode.aes != TPM2_ALG_CFB) {
        return nullptr;
    }
    switch (symmetric->keyBits.aes) {
    case 128:
        return EVP_aes_128_cfb128();
    case 256:
        return EVP_aes_256_cfb128();
    default:
        return nullptr;
    }
}

/* A restricted decryption key protects others; only such a one may receive a seed. */
static bool check_key(const TPMT_PUBLIC *key, struct error *err)
{
    constexpr TPMA_OBJECT needed = TPMA_OBJECT_RESTRICTED | TPMA_OBJECT_DECRYPT;
    if ((key->type != TPM2_ALG_RSA && key->type != TPM2_ALG_ECC) ||
        (key->objectAttributes & (needed | TPMA_OBJECT_SIGN_ENCRYPT)) != needed) {
        return error_set(err, ERROR_INVALID, "share: the key is no storage key");
    }
    if (!cipher_of(key)) {
        return error_set(err, ERROR_INVALID,
                         "share: the key's symmetric algorithm is not AES-CFB of 128 or 256 bits");
    }
    if (tpm_hash_size(key->nameAlg) < SHA256_SIZE) {
        return error_set(err, ERROR_INVALID, "share: nameAlg %s is not allowed",
                         tpm_alg_name(key->nameAlg));
    }
    return true;
}

static const struct curve *curve_of(const TPMT_PUBLIC *key)
{
    return curve_find(key->parameters.eccDetail.curveID);
}

/* ── Randomness ────────────────────────────────────────────────────────────────────────────── */

/* scalar in [1, order) as a number, in constant-time mode; false if it is out of range. */
static bool scalar_number(const uint8_t *scalar, const struct curve *curve, const EC_GROUP *group,
                          BIGNUM **ret)
{
    CLEANUP(bn_done) BIGNUM *number = BN_secure_new();
    if (!number || !BN_bin2bn(scalar, curve->size, number)) {
        return false;
    }
    BN_set_flags(number, BN_FLG_CONSTTIME);
    if (BN_is_zero(number) || BN_cmp(number, EC_GROUP_get0_order(group)) >= 0) {
        return false;
    }
    *ret = TAKE(number);
    return true;
}

/* Draws until the scalar is in range. */
static bool draw_scalar(const TPMT_PUBLIC *key, uint8_t ret[static SHARE_RANDOM_MAX],
                        struct error *err)
{
    const struct curve *curve = curve_of(key);
    CLEANUP(group_done) EC_GROUP *group = curve ? EC_GROUP_new_by_curve_name(curve->nid) : nullptr;
    if (!group) {
        return error_set_openssl(err, ERROR_INVALID, "share: curve 0x%04x is not supported",
                                 key->parameters.eccDetail.curveID);
    }
    for (int i = 0; i < SCALAR_TRIES; i++) {
        CLEANUP(bn_done) BIGNUM *number = nullptr;
        if (!random_bytes(ret, SHARE_RANDOM_MAX, err)) {
            return false;
        }
        if (scalar_number(ret, curve, group, &number)) {
            return true;
        }
    }
    return error_set(err, ERROR_INTERNAL, "share: no random scalar in range");
}

bool share_random(const TPMT_PUBLIC *key, struct share_random *ret, struct error *err)
{
    if (!check_key(key, err)) {
        return false;
    }
    struct share_random random;
    bool ok = random_bytes(&random, sizeof random, err) &&
              (key->type != TPM2_ALG_ECC || draw_scalar(key, random.scalar, err));
    if (ok) {
        *ret = random;
    }
    mem_wipe(&random, sizeof random);
    return ok;
}

/* ── ECC: one-pass ECDH, Part 1 §C.6 ───────────────────────────────────────────────────────── */

struct point_bytes {
    uint8_t x[CURVE_SIZE_MAX];
    uint8_t y[CURVE_SIZE_MAX];
};

/* scalar × base (NULL: the generator), coordinates padded to the curve's size. */
static bool multiply(const struct curve *curve, const EC_GROUP *group, const BIGNUM *scalar,
                     const EC_POINT *base, struct point_bytes *ret)
{
    CLEANUP(bn_ctx_done) BN_CTX *ctx = BN_CTX_secure_new();
    CLEANUP(point_done) EC_POINT *point = EC_POINT_new(group);
    CLEANUP(bn_done) BIGNUM *x = BN_secure_new();
    CLEANUP(bn_done) BIGNUM *y = BN_secure_new();
    if (!ctx || !point || !x || !y) {
        return false;
    }
    int ok = base ? EC_POINT_mul(group, point, nullptr, base, scalar, ctx)
                  : EC_POINT_mul(group, point, scalar, nullptr, nullptr, ctx);
    return ok == 1 && EC_POINT_get_affine_coordinates(group, point, x, y, ctx) == 1 &&
           BN_bn2binpad(x, ret->x, curve->size) == curve->size &&
           BN_bn2binpad(y, ret->y, curve->size) == curve->size;
}

/* The key's own point, checked to be on the curve. */
static bool peer_point(const TPMT_PUBLIC *key, const struct curve *curve, const EC_GROUP *group,
                       struct point_bytes *ret_bytes, EC_POINT **ret, struct error *err)
{
    const TPMS_ECC_POINT *unique = &key->unique.ecc;
    if (!coordinate_pad(&unique->x, curve->size, ret_bytes->x) ||
        !coordinate_pad(&unique->y, curve->size, ret_bytes->y)) {
        return error_set(err, ERROR_INVALID, "share: a coordinate exceeds the curve's size");
    }
    CLEANUP(point_done) EC_POINT *point = EC_POINT_new(group);
    CLEANUP(bn_done) BIGNUM *x = BN_bin2bn(ret_bytes->x, curve->size, nullptr);
    CLEANUP(bn_done) BIGNUM *y = BN_bin2bn(ret_bytes->y, curve->size, nullptr);
    if (!point || !x || !y) {
        return error_set_memory(err);
    }
    if (EC_POINT_set_affine_coordinates(group, point, x, y, nullptr) != 1) {
        return error_set_openssl(err, ERROR_INVALID, "share: the key's point is not on the curve");
    }
    *ret = TAKE(point);
    return true;
}

/* TPMS_ECC_POINT of the ephemeral key, whole coordinates: what the TPM hashes is what it reads. */
static bool put_point(const struct curve *curve, const struct point_bytes *point,
                      TPM2B_ENCRYPTED_SECRET *ret, struct error *err)
{
    TPMS_ECC_POINT wire = {.x.size = curve->size, .y.size = curve->size};
    mem_copy(wire.x.buffer, point->x, curve->size);
    mem_copy(wire.y.buffer, point->y, curve->size);
    size_t len = 0;
    TSS2_RC rc = Tss2_MU_TPMS_ECC_POINT_Marshal(&wire, ret->secret, sizeof ret->secret, &len);
    if (rc != TSS2_RC_SUCCESS) {
        return error_set_native(err, ERROR_INTERNAL, ERROR_DOMAIN_TPM, rc, nullptr,
                                "share: marshal a point");
    }
    ret->size = (uint16_t)len;
    return true;
}

static bool share_ecc(const TPMT_PUBLIC *key, const char *label, const struct share_random *random,
                      struct secret **ret_seed, TPM2B_ENCRYPTED_SECRET *ret_secret,
                      struct error *err)
{
    const struct curve *curve = curve_of(key);
    CLEANUP(group_done) EC_GROUP *group = curve ? EC_GROUP_new_by_curve_name(curve->nid) : nullptr;
    if (!group) {
        return error_set_openssl(err, ERROR_INVALID, "share: curve 0x%04x is not supported",
                                 key->parameters.eccDetail.curveID);
    }
    struct point_bytes theirs = {0};
    CLEANUP(point_done) EC_POINT *peer = nullptr;
    if (!peer_point(key, curve, group, &theirs, &peer, err)) {
        return false;
    }
    CLEANUP(bn_done) BIGNUM *scalar = nullptr;
    if (!scalar_number(random->scalar, curve, group, &scalar)) {
        return error_set(err, ERROR_INVALID, "share: the scalar is out of range");
    }
    struct point_bytes ours = {0};
    CLEANUP(secret_free_at) struct secret *shared = nullptr;
    if (!secret_new(sizeof(struct point_bytes), &shared, err)) {
        return false;
    }
    struct point_bytes *z = (struct point_bytes *)(void *)secret_data(shared);
    if (!multiply(curve, group, scalar, nullptr, &ours) ||
        !multiply(curve, group, scalar, peer, z)) {
        return error_set_openssl(err, ERROR_INTERNAL, "share: multiply a point");
    }
    TPM2B_ENCRYPTED_SECRET wire = {0};
    if (!put_point(curve, &ours, &wire, err) ||
        !tpm_kdfe(key->nameAlg, slice(z->x, curve->size), label, slice(ours.x, curve->size),
                  slice(theirs.x, curve->size), tpm_hash_size(key->nameAlg) * 8, ret_seed, err)) {
        return false;
    }
    *ret_secret = wire;
    return true;
}

/* ── RSA: OAEP, Part 1 §B.10 and §B.4 ──────────────────────────────────────────────────────── */

/* XORs MGF1(seed) into `mask` (RFC 8017 §B.2.1). */
static bool mgf1_xor(TPMI_ALG_HASH alg, struct slice seed, uint8_t *mask, size_t len,
                     struct error *err)
{
    for (uint32_t block = 0; len > 0; block++) {
        const uint8_t count[] = {(uint8_t)(block >> 24), (uint8_t)(block >> 16),
                                 (uint8_t)(block >> 8), (uint8_t)block};
        const struct slice parts[] = {seed, SLICE_OF(count)};
        TPM2B_DIGEST digest;
        if (!tpm_hash(alg, parts, ARRAY_LEN(parts), &digest, err)) {
            return false;
        }
        size_t n = len < digest.size ? len : digest.size;
        for (size_t i = 0; i < n; i++) {
            mask[i] ^= digest.buffer[i];
        }
        mem_wipe(&digest, sizeof digest);
        mask += n;
        len -= n;
    }
    return true;
}

/* EME-OAEP (RFC 8017 §7.1.1) of `message` into `size` bytes. Written out because OpenSSL does not
 * take OAEP's seed, and vectors need it fixed; encoding, unlike decoding, has no secret branches. */
static bool oaep_encode(TPMI_ALG_HASH alg, const char *label, struct slice message,
                        struct slice oaep_seed, uint8_t *ret, size_t size, struct error *err)
{
    size_t hash = tpm_hash_size(alg);
    if (size < 2 * hash + 2 + message.len) {
        return error_set(err, ERROR_INVALID, "share: the RSA key is too small for its nameAlg");
    }
    TPM2B_DIGEST label_hash;
    const struct slice with_nul = slice(label, strlen(label) + 1);
    if (!tpm_hash(alg, &with_nul, 1, &label_hash, err)) {
        return false;
    }
    uint8_t *seed = ret + 1;
    uint8_t *block = seed + hash;
    size_t block_len = size - 1 - hash;
    memset(ret, 0, size);
    mem_copy(seed, oaep_seed.data, hash);
    mem_copy(block, label_hash.buffer, hash);
    block[block_len - message.len - 1] = 1;
    mem_copy(block + block_len - message.len, message.data, message.len);
    return mgf1_xor(alg, slice(seed, hash), block, block_len, err) &&
           mgf1_xor(alg, slice(block, block_len), seed, hash, err);
}

static bool share_rsa(const TPMT_PUBLIC *key, const char *label, const struct share_random *random,
                      struct secret **ret_seed, TPM2B_ENCRYPTED_SECRET *ret_secret,
                      struct error *err)
{
    CLEANUP(pkey_done) EVP_PKEY *pkey = nullptr;
    if (!public_area_key(key, &pkey, err)) {
        return false;
    }
    size_t size = key->unique.rsa.size;
    size_t hash = tpm_hash_size(key->nameAlg);
    CLEANUP(secret_free_at) struct secret *seed = nullptr;
    CLEANUP(secret_free_at) struct secret *encoded = nullptr;
    if (!secret_from(slice(random->seed, hash), &seed, err) || !secret_new(size, &encoded, err) ||
        !oaep_encode(key->nameAlg, label, secret_slice(seed), slice(random->oaep, hash),
                     secret_data(encoded), size, err)) {
        return false;
    }
    CLEANUP(pkey_ctx_done) EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(pkey, nullptr);
    TPM2B_ENCRYPTED_SECRET wire = {.size = (uint16_t)size};
    size_t len = sizeof wire.secret;
    if (!ctx || EVP_PKEY_encrypt_init(ctx) != 1 ||
        EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_NO_PADDING) != 1 ||
        EVP_PKEY_encrypt(ctx, wire.secret, &len, secret_data(encoded), size) != 1 || len != size) {
        return error_set_openssl(err, ERROR_INTERNAL, "share: encrypt a seed");
    }
    *ret_seed = TAKE(seed);
    *ret_secret = wire;
    return true;
}

bool share_make(const TPMT_PUBLIC *key, const char *label, const struct share_random *random,
                struct secret **ret_seed, TPM2B_ENCRYPTED_SECRET *ret_secret, struct error *err)
{
    if (!check_key(key, err)) {
        return false;
    }
    return key->type == TPM2_ALG_ECC ? share_ecc(key, label, random, ret_seed, ret_secret, err)
                                     : share_rsa(key, label, random, ret_seed, ret_secret, err);
}

/* ── Outer wrap, Part 1 §22.4 ──────────────────────────────────────────────────────────────── */

static bool encrypt(const TPMT_PUBLIC *key, const struct secret *seed, const TPM2B_NAME *name,
                    struct slice plain, uint8_t *ret, struct error *err)
{
    static const uint8_t iv[16]; /* zero: the key is used for this one message */
    CLEANUP(secret_free_at) struct secret *aes = nullptr;
    if (!tpm_kdfa(key->nameAlg, secret_slice(seed), "STORAGE", name_slice(name), slice(nullptr, 0),
                  symmetric_of(key)->keyBits.aes, &aes, err)) {
        return false;
    }
    CLEANUP(cipher_ctx_done) EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int len = 0;
    if (!ctx || EVP_EncryptInit_ex2(ctx, cipher_of(key), secret_data(aes), iv, nullptr) != 1 ||
        EVP_EncryptUpdate(ctx, ret, &len, plain.data, (int)plain.len) != 1 ||
        (size_t)len != plain.len) {
        return error_set_openssl(err, ERROR_INTERNAL, "share: encrypt");
    }
    return true;
}

static bool integrity(const TPMT_PUBLIC *key, const struct secret *seed, const TPM2B_NAME *name,
                      struct slice encrypted, uint8_t *ret, size_t size, struct error *err)
{
    CLEANUP(secret_free_at) struct secret *hmac_key = nullptr;
    if (!tpm_kdfa(key->nameAlg, secret_slice(seed), "INTEGRITY", slice(nullptr, 0),
                  slice(nullptr, 0), size * 8, &hmac_key, err)) {
        return false;
    }
    const OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(
            OSSL_MAC_PARAM_DIGEST, (char *)(uintptr_t)EVP_MD_get0_name(tpm_hash_md(key->nameAlg)),
            0),
        OSSL_PARAM_construct_end(),
    };
    CLEANUP(mac_done) EVP_MAC *mac = EVP_MAC_fetch(nullptr, "HMAC", nullptr);
    CLEANUP(mac_ctx_done) EVP_MAC_CTX *ctx = mac ? EVP_MAC_CTX_new(mac) : nullptr;
    size_t len = 0;
    if (!ctx || EVP_MAC_init(ctx, secret_data(hmac_key), size, params) != 1 ||
        EVP_MAC_update(ctx, encrypted.data, encrypted.len) != 1 ||
        EVP_MAC_update(ctx, name->name, name->size) != 1 ||
        EVP_MAC_final(ctx, ret, &len, size) != 1 || len != size) {
        return error_set_openssl(err, ERROR_INTERNAL, "share: authenticate");
    }
    return true;
}

bool share_wrap(const TPMT_PUBLIC *key, const struct secret *seed, const TPM2B_NAME *name,
                struct slice plain, struct buf *ret, struct error *err)
{
    if (!check_key(key, err)) {
        return false;
    }
    size_t size = tpm_hash_size(key->nameAlg);
    CLEANUP(buf_done) struct buf wrapped;
    buf_init(&wrapped, 2 + size + plain.len);
    buf_put_u16(&wrapped, (uint16_t)size);
    uint8_t *at = buf_extend(&wrapped, size + plain.len);
    if (!at) {
        return buf_ok(&wrapped, err);
    }
    if (!encrypt(key, seed, name, plain, at + size, err) ||
        !integrity(key, seed, name, slice(at + size, plain.len), at, size, err)) {
        return false;
    }
    buf_put(ret, buf_slice(&wrapped));
    return buf_ok(ret, err);
}
