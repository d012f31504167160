#include "tpmwire/signature.h"

#include "ossl.h"
#include "tpmwire/hash.h"
#include "tpmwire/public.h"
#include "tpmwire/words.h"
#include "wire.h"

#include <openssl/err.h>
#include <openssl/rsa.h>
#include <tss2/tss2_mu.h>

constexpr size_t ECDSA_DER_MAX = 2 + 2 * (2 + 1 + CURVE_SIZE_MAX) + 1;

DEFINE_DONE(ecdsa_done, ECDSA_SIG, ECDSA_SIG_free)

/* The hash inside, and that scheme and hash are ones that we take. */
static bool scheme_of(const TPMT_SIGNATURE *signature, TPMI_ALG_HASH *ret, struct error *err)
{
    TPMI_ALG_HASH hash;
    switch (signature->sigAlg) {
    case TPM2_ALG_ECDSA:
        hash = signature->signature.ecdsa.hash;
        break;
    case TPM2_ALG_RSASSA:
        hash = signature->signature.rsassa.hash;
        break;
    case TPM2_ALG_RSAPSS:
        hash = signature->signature.rsapss.hash;
        break;
    default:
        return error_set(err, ERROR_INVALID, "signature: scheme 0x%04x (%s) is not allowed",
                         signature->sigAlg, tpm_alg_name(signature->sigAlg));
    }
    if (hash != TPM2_ALG_SHA256 && hash != TPM2_ALG_SHA384) {
        return error_set(err, ERROR_INVALID, "signature: hash 0x%04x (%s) is not allowed", hash,
                         tpm_alg_name(hash));
    }
    *ret = hash;
    return true;
}

static bool signature_bytes(const TPMT_SIGNATURE *signature,
                            uint8_t ret[static TPM_SIGNATURE_WIRE_MAX], struct slice *ret_bytes,
                            struct error *err)
{
    size_t len = 0;
    TSS2_RC rc = Tss2_MU_TPMT_SIGNATURE_Marshal(signature, ret, TPM_SIGNATURE_WIRE_MAX, &len);
    if (rc != TSS2_RC_SUCCESS) {
        return wire_malformed(err, rc, "signature");
    }
    *ret_bytes = slice(ret, len);
    return true;
}

bool tpm_signature_parse(struct slice wire, TPMT_SIGNATURE *ret, struct error *err)
{
    if (wire.len > TPM_SIGNATURE_WIRE_MAX) {
        return error_set(err, ERROR_INVALID, "signature has %zu bytes: at most %zu are allowed",
                         wire.len, TPM_SIGNATURE_WIRE_MAX);
    }
    TPMT_SIGNATURE signature = {0};
    size_t used = 0;
    TSS2_RC rc = Tss2_MU_TPMT_SIGNATURE_Unmarshal(wire.data, wire.len, &used, &signature);
    if (rc != TSS2_RC_SUCCESS) {
        return wire_malformed(err, rc, "signature");
    }
    TPMI_ALG_HASH hash;
    uint8_t bytes[TPM_SIGNATURE_WIRE_MAX];
    struct slice again = {};
    if (!scheme_of(&signature, &hash, err) || !signature_bytes(&signature, bytes, &again, err) ||
        !wire_canonical(wire, used, again, "signature", err)) {
        return false;
    }
    *ret = signature;
    return true;
}

bool tpm_signature_marshal(const TPMT_SIGNATURE *signature, struct buf *ret, struct error *err)
{
    uint8_t bytes[TPM_SIGNATURE_WIRE_MAX];
    struct slice body = {};
    if (!signature_bytes(signature, bytes, &body, err)) {
        return false;
    }
    buf_put(ret, body);
    return buf_ok(ret, err);
}

/* A key that has a scheme signs with no other; one without may use what its type can. */
static bool scheme_fits(const TPMT_PUBLIC *key, const TPMT_SIGNATURE *signature, TPMI_ALG_HASH hash,
                        struct error *err)
{
    bool ecdsa = signature->sigAlg == TPM2_ALG_ECDSA;
    TPM2_ALG_ID scheme = TPM2_ALG_ERROR;
    TPMI_ALG_HASH key_hash = TPM2_ALG_ERROR;
    if (key->type == TPM2_ALG_ECC && ecdsa) {
        scheme = key->parameters.eccDetail.scheme.scheme;
        key_hash = key->parameters.eccDetail.scheme.details.ecdsa.hashAlg;
    } else if (key->type == TPM2_ALG_RSA && !ecdsa) {
        scheme = key->parameters.rsaDetail.scheme.scheme;
        key_hash = key->parameters.rsaDetail.scheme.details.rsassa.hashAlg;
    }
    if (scheme == TPM2_ALG_NULL || (scheme == signature->sigAlg && key_hash == hash)) {
        return true;
    }
    return error_set(err, ERROR_INVALID, "signature: %s with %s does not fit the %s key",
                     tpm_alg_name(signature->sigAlg), tpm_alg_name(hash), tpm_alg_name(key->type));
}

/* r and s as the SEQUENCE that OpenSSL verifies. */
static bool ecdsa_der(const TPMS_SIGNATURE_ECC *signature, uint8_t ret[static ECDSA_DER_MAX],
                      struct slice *ret_der, struct error *err)
{
    const TPM2B_ECC_PARAMETER *r = &signature->signatureR;
    const TPM2B_ECC_PARAMETER *s = &signature->signatureS;
    if (r->size > CURVE_SIZE_MAX || s->size > CURVE_SIZE_MAX) {
        return error_set(err, ERROR_INVALID, "signature: r or s exceeds the curve's size");
    }
    CLEANUP(ecdsa_done) ECDSA_SIG *both = ECDSA_SIG_new();
    CLEANUP(bn_done) BIGNUM *r_number = BN_bin2bn(r->buffer, r->size, nullptr);
    CLEANUP(bn_done) BIGNUM *s_number = BN_bin2bn(s->buffer, s->size, nullptr);
    if (!both || !r_number || !s_number || ECDSA_SIG_set0(both, r_number, s_number) != 1) {
        return error_set_memory(err);
    }
    r_number = s_number = nullptr; /* they belong to `both` now */
    uint8_t *at = ret;
    int len = i2d_ECDSA_SIG(both, nullptr);
    if (len <= 0 || (size_t)len > ECDSA_DER_MAX || i2d_ECDSA_SIG(both, &at) != len) {
        return error_set_openssl(err, ERROR_INTERNAL, "signature: encode r and s");
    }
    *ret_der = slice(ret, (size_t)len);
    return true;
}

bool tpm_signature_verify(const TPMT_PUBLIC *key, const TPMT_SIGNATURE *signature,
                          struct slice bytes, struct error *err)
{
    TPMI_ALG_HASH hash;
    if (!scheme_of(signature, &hash, err) || !scheme_fits(key, signature, hash, err)) {
        return false;
    }
    if ((key->objectAttributes & TPMA_OBJECT_SIGN_ENCRYPT) == 0) {
        return error_set(err, ERROR_INVALID, "signature: the key is not for signing");
    }
    uint8_t der[ECDSA_DER_MAX];
    struct slice raw;
    if (signature->sigAlg != TPM2_ALG_ECDSA) {
        raw = slice(signature->signature.rsassa.sig.buffer, signature->signature.rsassa.sig.size);
    } else if (!ecdsa_der(&signature->signature.ecdsa, der, &raw, err)) {
        return false;
    }
    CLEANUP(pkey_done) EVP_PKEY *pkey = nullptr;
    if (!public_area_key(key, &pkey, err)) {
        return false;
    }
    CLEANUP(md_ctx_done) EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *options = nullptr; /* ctx owns it */
    bool ready = ctx && EVP_DigestVerifyInit(ctx, &options, tpm_hash_md(hash), nullptr, pkey) == 1;
    if (ready && signature->sigAlg == TPM2_ALG_RSAPSS) {
        /* TPMs differ: the digest's size, or the most that fits (Part 1 §B.7). */
        ready = EVP_PKEY_CTX_set_rsa_padding(options, RSA_PKCS1_PSS_PADDING) == 1 &&
                EVP_PKEY_CTX_set_rsa_pss_saltlen(options, RSA_PSS_SALTLEN_AUTO) == 1;
    }
    if (!ready) {
        return error_set_openssl(err, ERROR_INTERNAL, "signature: prepare to verify");
    }
    if (EVP_DigestVerify(ctx, raw.data, raw.len, bytes.data, bytes.len) != 1) {
        ERR_clear_error(); /* "wrong" leaves entries that say nothing more */
        return error_set(err, ERROR_DENIED, "signature: it does not verify");
    }
    return true;
}
