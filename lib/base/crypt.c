#include "base/crypt.h"

#include "base/mem.h"

#include <limits.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/rand.h>

/* Contexts hold key schedules and intermediate keys; OpenSSL cleanses them when it frees them, and
 * these see to it that they are freed on every path. */
static void crypt_cipher_free_at(EVP_CIPHER_CTX **ctx)
{
    EVP_CIPHER_CTX_free(*ctx);
}

static void crypt_kdf_free_at(EVP_KDF_CTX **ctx)
{
    EVP_KDF_CTX_free(*ctx);
}

bool random_bytes(void *ret, size_t len, struct error *err)
{
    if (RAND_bytes_ex(nullptr, ret, len, 0) != 1)
        return error_set_openssl(err, ERROR_INTERNAL, "make %zu random bytes", len);
    return true;
}

bool sha256(struct slice bytes, uint8_t ret[static SHA256_SIZE], struct error *err)
{
    if (EVP_Digest(bytes.data, bytes.len, ret, nullptr, EVP_sha256(), nullptr) != 1)
        return error_set_openssl(err, ERROR_INTERNAL, "SHA-256");
    return true;
}

bool sha384(struct slice bytes, uint8_t ret[static SHA384_SIZE], struct error *err)
{
    if (EVP_Digest(bytes.data, bytes.len, ret, nullptr, EVP_sha384(), nullptr) != 1)
        return error_set_openssl(err, ERROR_INTERNAL, "SHA-384");
    return true;
}

bool hkdf_sha256(const struct secret *key, struct slice salt, struct slice info, size_t len,
                 struct secret **ret, struct error *err)
{
    CLEANUP(secret_free_at) struct secret *made = nullptr;
    CLEANUP(crypt_kdf_free_at) EVP_KDF_CTX *ctx = nullptr;
    struct slice ikm = secret_slice(key);
    OSSL_PARAM params[5];
    size_t n = 0;
    EVP_KDF *kdf;

    if (!key)
        return error_set(err, ERROR_INVALID, "HKDF: no key");
    if (len > 255 * SHA256_SIZE)
        return error_set(err, ERROR_INVALID, "HKDF: %zu bytes asked for, at most %zu are possible",
                         len, 255 * SHA256_SIZE);
    if (!secret_new(len, &made, err))
        return false;
    /* A fetch is a lookup in OpenSSL's own cache, which locks; nothing of ours needs to. */
    kdf = EVP_KDF_fetch(nullptr, OSSL_KDF_NAME_HKDF, nullptr);
    ctx = EVP_KDF_CTX_new(kdf);
    EVP_KDF_free(kdf);
    if (!ctx)
        return error_set_openssl(err, ERROR_INTERNAL, "HKDF-SHA-256");
    /* The parameters are read only, but for OpenSSL's type. */
    params[n++] = OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)"SHA256", 0);
    params[n++] = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)ikm.data, ikm.len);
    if (salt.len > 0) /* none is as good as 32 zeros: RFC 5869 section 2.2 */
        params[n++] =
            OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, (void *)salt.data, salt.len);
    if (info.len > 0)
        params[n++] =
            OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, (void *)info.data, info.len);
    params[n] = OSSL_PARAM_construct_end();
    if (EVP_KDF_derive(ctx, secret_data(made), len, params) != 1)
        return error_set_openssl(err, ERROR_INTERNAL, "HKDF-SHA-256");
    *ret = TAKE(made);
    return true;
}

static bool aead_check(struct slice key, struct slice iv, struct slice aad, struct slice text,
                       struct error *err)
{
    if (key.len != AEAD_KEY_SIZE)
        return error_set(err, ERROR_INVALID, "AES-256-GCM: a key of %zu bytes, expected %zu",
                         key.len, AEAD_KEY_SIZE);
    if (iv.len != AEAD_IV_SIZE)
        return error_set(err, ERROR_INVALID, "AES-256-GCM: an IV of %zu bytes, expected %zu",
                         iv.len, AEAD_IV_SIZE);
    if (aad.len > INT_MAX || text.len > INT_MAX)
        return error_set(err, ERROR_EXHAUSTED, "AES-256-GCM: more than %d bytes at once", INT_MAX);
    return true;
}

/* Everything up to the tag. `ret` has text.len bytes. */
static bool aead_run(EVP_CIPHER_CTX *ctx, bool seal, struct slice key, struct slice iv,
                     struct slice aad, struct slice text, uint8_t *ret)
{
    int n;

    return ctx &&
           EVP_CipherInit_ex2(ctx, EVP_aes_256_gcm(), key.data, iv.data, seal, nullptr) == 1 &&
           (aad.len == 0 || EVP_CipherUpdate(ctx, nullptr, &n, aad.data, (int)aad.len) == 1) &&
           (text.len == 0 || EVP_CipherUpdate(ctx, ret, &n, text.data, (int)text.len) == 1);
}

bool aead_seal(struct slice key, struct slice iv, struct slice aad, struct slice plain,
               struct buf *ret, struct error *err)
{
    CLEANUP(crypt_cipher_free_at) EVP_CIPHER_CTX *ctx = nullptr;
    uint8_t *at;
    int n;

    if (!aead_check(key, iv, aad, plain, err))
        return false;
    at = buf_extend(ret, plain.len + AEAD_TAG_SIZE);
    if (!at)
        return buf_ok(ret, err);
    ctx = EVP_CIPHER_CTX_new();
    if (!aead_run(ctx, true, key, iv, aad, plain, at) ||
        EVP_CipherFinal_ex(ctx, at + plain.len, &n) != 1 ||
        EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, AEAD_TAG_SIZE, at + plain.len) != 1) {
        ret->len -= plain.len + AEAD_TAG_SIZE;
        return error_set_openssl(err, ERROR_INTERNAL, "AES-256-GCM");
    }
    return true;
}

bool aead_open(struct slice key, struct slice iv, struct slice aad, struct slice sealed,
               struct secret **ret, struct error *err)
{
    CLEANUP(secret_free_at) struct secret *made = nullptr;
    CLEANUP(crypt_cipher_free_at) EVP_CIPHER_CTX *ctx = nullptr;
    uint8_t tag[AEAD_TAG_SIZE], rest[EVP_MAX_BLOCK_LENGTH];
    struct slice text;
    int n;

    if (!aead_check(key, iv, aad, sealed, err))
        return false;
    if (sealed.len <= AEAD_TAG_SIZE)
        return error_set(err, ERROR_INVALID, "AES-256-GCM: %zu bytes are no sealed secret",
                         sealed.len);
    text = slice(sealed.data, sealed.len - AEAD_TAG_SIZE);
    mem_copy(tag, sealed.data + text.len, sizeof(tag));
    if (!secret_new(text.len, &made, err))
        return false;
    ctx = EVP_CIPHER_CTX_new();
    if (!aead_run(ctx, false, key, iv, aad, text, secret_data(made)) ||
        EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, AEAD_TAG_SIZE, tag) != 1)
        return error_set_openssl(err, ERROR_INTERNAL, "AES-256-GCM");
    if (EVP_CipherFinal_ex(ctx, rest, &n) != 1) {
        ERR_clear_error();
        return error_set(err, ERROR_DENIED, "AES-256-GCM: the tag does not match");
    }
    *ret = TAKE(made);
    return true;
}
