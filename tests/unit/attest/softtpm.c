#include "unit/attest/softtpm.h"

#include "testlib/testlib.h"

#include "base/mem.h"
#include "tpmwire/hash.h"
#include "tpmwire/public.h"

#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/rsa.h>
#include <tss2/tss2_mu.h>

static EVP_PKEY *make_rsa(size_t bits)
{
    EVP_PKEY *key = EVP_PKEY_Q_keygen(nullptr, nullptr, "RSA", bits);
    assert_non_null(key);
    return key;
}

static EVP_PKEY *make_ecc(const char *curve)
{
    EVP_PKEY *key = EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", curve);
    assert_non_null(key);
    return key;
}

void softtpm_make(struct softtpm *ret)
{
    *ret = (struct softtpm){
        .ek = make_ecc("P-256"),
        .ak = make_ecc("P-256"),
        .wrap = make_ecc("P-256"),
        .req = make_ecc("P-256"),
        .other = make_ecc("P-256"),
        .rsa = make_rsa(2048),
        .rsa_weak = make_rsa(1024),
        .p384 = make_ecc("P-384"),
    };
}

void softtpm_done(struct softtpm *tpm)
{
    EVP_PKEY_free(tpm->ek);
    EVP_PKEY_free(tpm->ak);
    EVP_PKEY_free(tpm->wrap);
    EVP_PKEY_free(tpm->req);
    EVP_PKEY_free(tpm->other);
    EVP_PKEY_free(tpm->rsa);
    EVP_PKEY_free(tpm->rsa_weak);
    EVP_PKEY_free(tpm->p384);
    *tpm = (struct softtpm){0};
}

void softtpm_area_key(TPMT_PUBLIC *area, EVP_PKEY *key)
{
    struct error err = {0};
    if (area->type != TPM2_ALG_RSA) {
        assert_ok(public_area_set_key(area, key, &err));
        return;
    }
    BIGNUM *n = nullptr;
    uint16_t bits = area->parameters.rsaDetail.keyBits;
    assert_int_equal(EVP_PKEY_get_bits(key), bits);
    assert_int_equal(EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_N, &n), 1);
    area->unique.rsa.size = bits / 8;
    assert_int_equal(BN_bn2binpad(n, area->unique.rsa.buffer, bits / 8), bits / 8);
    BN_free(n);
}

void softtpm_marshal(const TPMS_ATTEST *attested, struct buf *ret)
{
    struct error err = {0};
    uint8_t bytes[sizeof(TPMS_ATTEST)];
    size_t len = 0;
    TPMS_ATTEST genuine = *attested;
    genuine.magic = TPM2_GENERATED_VALUE; /* the library knows no other */
    assert_int_equal(Tss2_MU_TPMS_ATTEST_Marshal(&genuine, bytes, sizeof(bytes), &len), 0);
    buf_put_u32(ret, attested->magic);
    buf_put(ret, slice(bytes + 4, len - 4));
    assert_ok(buf_ok(ret, &err));
}

static void put_number(const BIGNUM *number, size_t size, TPM2B_ECC_PARAMETER *ret)
{
    ret->size = (uint16_t)size;
    assert_int_equal(BN_bn2binpad(number, ret->buffer, (int)size), (int)size);
}

static void split_ecdsa(struct slice der, size_t size, TPMS_SIGNATURE_ECC *ret)
{
    const uint8_t *at = der.data;
    ECDSA_SIG *both = d2i_ECDSA_SIG(nullptr, &at, (long)der.len);
    assert_non_null(both);
    put_number(ECDSA_SIG_get0_r(both), size, &ret->signatureR);
    put_number(ECDSA_SIG_get0_s(both), size, &ret->signatureS);
    ECDSA_SIG_free(both);
}

void softtpm_sign(EVP_PKEY *key, TPM2_ALG_ID scheme, TPMI_ALG_HASH hash, struct slice bytes,
                  struct buf *ret)
{
    struct error err = {0};
    uint8_t raw[512];
    size_t len = sizeof(raw);
    EVP_PKEY_CTX *options = nullptr;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    assert_int_equal(EVP_DigestSignInit(context, &options, tpm_hash_md(hash), nullptr, key), 1);
    if (scheme == TPM2_ALG_RSAPSS)
        assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(options, RSA_PKCS1_PSS_PADDING), 1);
    assert_int_equal(EVP_DigestSign(context, raw, &len, bytes.data, bytes.len), 1);
    EVP_MD_CTX_free(context);

    TPMT_SIGNATURE signature = {.sigAlg = scheme};
    uint8_t wire[1024];
    size_t wire_len = 0;
    if (EVP_PKEY_is_a(key, "EC")) {
        signature.signature.ecdsa.hash = hash;
        split_ecdsa(slice(raw, len), ((size_t)EVP_PKEY_get_bits(key) + 7) / 8,
                    &signature.signature.ecdsa);
    } else {
        signature.signature.rsassa.hash = hash;
        signature.signature.rsassa.sig.size = (uint16_t)len;
        mem_copy(signature.signature.rsassa.sig.buffer, raw, len);
    }
    assert_int_equal(Tss2_MU_TPMT_SIGNATURE_Marshal(&signature, wire, sizeof(wire), &wire_len), 0);
    buf_put(ret, slice(wire, wire_len));
    assert_ok(buf_ok(ret, &err));
}
