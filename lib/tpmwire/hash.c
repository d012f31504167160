#include "tpmwire/hash.h"

#include "base/mem.h"
#include "tpmwire/words.h"

#include <openssl/core_names.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

constexpr size_t KDF_BITS_MAX = 512;
/* KDFe's OtherInfo: a label, its NUL, two coordinates of the largest curve that TPMs know. */
constexpr size_t KDFE_INFO_MAX = 32 + 2 * TPM2_MAX_ECC_KEY_BYTES;

static const struct {
    TPMI_ALG_HASH alg;
    uint16_t size;
    const EVP_MD *(*md)(void);
} hashes[] = {
    {TPM2_ALG_SHA1, 20, EVP_sha1},
    {TPM2_ALG_SHA256, 32, EVP_sha256},
    {TPM2_ALG_SHA384, 48, EVP_sha384},
    {TPM2_ALG_SHA512, 64, EVP_sha512},
};

size_t tpm_hash_size(TPMI_ALG_HASH alg)
{
    for (size_t i = 0; i < ARRAY_LEN(hashes); i++) {
        if (hashes[i].alg == alg) {
            return hashes[i].size;
        }
    }
    return 0;
}

const EVP_MD *tpm_hash_md(TPMI_ALG_HASH alg)
{
    for (size_t i = 0; i < ARRAY_LEN(hashes); i++) {
        if (hashes[i].alg == alg) {
            return hashes[i].md();
        }
    }
    return nullptr;
}

static bool unknown_hash(TPMI_ALG_HASH alg, struct error *err)
{
    return error_set(err, ERROR_INVALID, "hash algorithm 0x%04x (%s) is not supported", alg,
                     tpm_alg_name(alg));
}

bool tpm_hash(TPMI_ALG_HASH alg, const struct slice *parts, size_t count, TPM2B_DIGEST *ret,
              struct error *err)
{
    const EVP_MD *md = tpm_hash_md(alg);
    if (!md) {
        return unknown_hash(alg, err);
    }
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    if (!ctx) {
        return error_set_memory(err);
    }
    TPM2B_DIGEST digest = {.size = (uint16_t)tpm_hash_size(alg)};
    bool ok = EVP_DigestInit_ex(ctx, md, nullptr) == 1;
    for (size_t i = 0; ok && i < count; i++) {
        ok = EVP_DigestUpdate(ctx, parts[i].data, parts[i].len) == 1;
    }
    ok = ok && EVP_DigestFinal_ex(ctx, digest.buffer, nullptr) == 1;
    EVP_MD_CTX_free(ctx);
    if (!ok) {
        return error_set_openssl(err, ERROR_INTERNAL, "hash with %s", tpm_alg_name(alg));
    }
    *ret = digest;
    return true;
}

/* Runs one of OpenSSL's key derivations into fresh secret memory. */
static bool derive(const char *kind, const OSSL_PARAM *params, size_t bits, struct secret **ret,
                   struct error *err)
{
    if (bits == 0 || bits > KDF_BITS_MAX || bits % 8 != 0) {
        return error_set(err, ERROR_INVALID, "can't derive a key of %zu bits", bits);
    }
    CLEANUP(secret_free_at) struct secret *key = nullptr;
    if (!secret_new(bits / 8, &key, err)) {
        return false;
    }
    EVP_KDF *kdf = EVP_KDF_fetch(nullptr, kind, nullptr);
    EVP_KDF_CTX *ctx = kdf ? EVP_KDF_CTX_new(kdf) : nullptr;
    bool ok = ctx && EVP_KDF_derive(ctx, secret_data(key), secret_len(key), params) == 1;
    EVP_KDF_CTX_free(ctx);
    EVP_KDF_free(kdf);
    if (!ok) {
        return error_set_openssl(err, ERROR_INTERNAL, "derive a key by %s", kind);
    }
    *ret = TAKE(key);
    return true;
}

/* OSSL_PARAM wants pointers to mutable bytes, which it does not write. */
static OSSL_PARAM octets(const char *name, struct slice bytes)
{
    return OSSL_PARAM_construct_octet_string(name, (void *)(uintptr_t)bytes.data, bytes.len);
}

static OSSL_PARAM text(const char *name, const char *value)
{
    return OSSL_PARAM_construct_utf8_string(name, (char *)(uintptr_t)value, 0);
}

bool tpm_kdfa(TPMI_ALG_HASH alg, struct slice key, const char *label, struct slice context_u,
              struct slice context_v, size_t bits, struct secret **ret, struct error *err)
{
    const EVP_MD *md = tpm_hash_md(alg);
    if (!md) {
        return unknown_hash(alg, err);
    }
    uint8_t context[2 * sizeof(TPMU_NAME)];
    if (context_u.len > sizeof context || context_v.len > sizeof context - context_u.len) {
        return error_set(err, ERROR_INVALID, "the context of KDFa is too long");
    }
    mem_copy(context, context_u.data, context_u.len);
    mem_copy(context + context_u.len, context_v.data, context_v.len);

    /* KBKDF puts the NUL between label and context that the TPM counts to the label. */
    const OSSL_PARAM params[] = {
        text(OSSL_KDF_PARAM_MODE, "counter"),
        text(OSSL_KDF_PARAM_MAC, "HMAC"),
        text(OSSL_KDF_PARAM_DIGEST, EVP_MD_get0_name(md)),
        octets(OSSL_KDF_PARAM_KEY, key),
        octets(OSSL_KDF_PARAM_SALT, slice_str(label)),
        octets(OSSL_KDF_PARAM_INFO, slice(context, context_u.len + context_v.len)),
        OSSL_PARAM_construct_end(),
    };
    return derive("KBKDF", params, bits, ret, err);
}

bool tpm_kdfe(TPMI_ALG_HASH alg, struct slice z, const char *label, struct slice party_u,
              struct slice party_v, size_t bits, struct secret **ret, struct error *err)
{
    const EVP_MD *md = tpm_hash_md(alg);
    if (!md) {
        return unknown_hash(alg, err);
    }
    uint8_t info[KDFE_INFO_MAX];
    size_t label_len = strlen(label) + 1; /* the NUL is hashed, once */
    if (label_len > 32 || party_u.len > TPM2_MAX_ECC_KEY_BYTES ||
        party_v.len > TPM2_MAX_ECC_KEY_BYTES) {
        return error_set(err, ERROR_INVALID, "the parties of KDFe are too long");
    }
    mem_copy(info, label, label_len);
    mem_copy(info + label_len, party_u.data, party_u.len);
    mem_copy(info + label_len + party_u.len, party_v.data, party_v.len);

    const OSSL_PARAM params[] = {
        text(OSSL_KDF_PARAM_DIGEST, EVP_MD_get0_name(md)),
        octets(OSSL_KDF_PARAM_KEY, z),
        octets(OSSL_KDF_PARAM_INFO, slice(info, label_len + party_u.len + party_v.len)),
        OSSL_PARAM_construct_end(),
    };
    return derive("SSKDF", params, bits, ret, err);
}
