#include "vectors.h"

#include "base/mem.h"
#include "tpmwire/hash.h"
#include "tpmwire/public.h"
#include "tpmwire/signature.h"
#include "tpmwire/template.h"

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>

static TPMT_SIGNATURE parsed(const char *name)
{
    struct error err = {0};
    TPMT_SIGNATURE signature;
    assert_ok(tpm_signature_parse(vector(name), &signature, &err));
    return signature;
}

static const struct {
    const char *key;
    const char *attest;
    const char *signature;
} signed_by_tpm[] = {
    {"ak", "quote_ak.attest", "quote_ak.signature"},
    {"ak_rsa", "quote_ak_rsa.attest", "quote_ak_rsa.signature"},
    {"ak_pss", "quote_ak_pss.attest", "quote_ak_pss.signature"},
    {"ak", "certify.attest", "certify.signature"},
    {"ak", "nv_certify.attest", "nv_certify.signature"},
};

static void test_verifies_what_a_tpm_signed(void **)
{
    struct error err = {0};
    for (size_t i = 0; i < ARRAY_LEN(signed_by_tpm); i++) {
        TPMT_PUBLIC key = vector_area(signed_by_tpm[i].key);
        TPMT_SIGNATURE signature = parsed(signed_by_tpm[i].signature);
        struct slice bytes = vector(signed_by_tpm[i].attest);
        assert_ok(tpm_signature_verify(&key, &signature, bytes, &err));
        bytes.len--;
        assert_fails(tpm_signature_verify(&key, &signature, bytes, &err), ERROR_DENIED);
        bytes.len++;
        if (signature.sigAlg == TPM2_ALG_ECDSA) {
            signature.signature.ecdsa.signatureS.buffer[5] ^= 4;
        } else {
            signature.signature.rsassa.sig.buffer[5] ^= 4;
        }
        assert_fails(tpm_signature_verify(&key, &signature, bytes, &err), ERROR_DENIED);
    }
}

static void test_marshal_gives_the_bytes_back(void **)
{
    struct error err = {0};
    for (size_t i = 0; i < ARRAY_LEN(signed_by_tpm); i++) {
        TPMT_SIGNATURE signature = parsed(signed_by_tpm[i].signature);
        CLEANUP(buf_done) struct buf again;
        buf_init(&again, TPM_SIGNATURE_WIRE_MAX);
        assert_ok(tpm_signature_marshal(&signature, &again, &err));
        assert_true(slice_equal(buf_slice(&again), vector(signed_by_tpm[i].signature)));
    }
}

static bool parse(struct slice wire, struct error *err)
{
    TPMT_SIGNATURE signature;
    memset(&signature, 0xa5, sizeof signature);
    TPMT_SIGNATURE poison = signature;
    bool ok = tpm_signature_parse(wire, &signature, err);
    if (!ok) {
        assert_memory_equal(&signature, &poison, sizeof poison);
    }
    return ok;
}

static void test_parse_refuses(void **)
{
    struct error err = {0};
    for (size_t i = 0; i < 3; i++) {
        assert_whole_only(vector(signed_by_tpm[i].signature), parse);
    }
    struct slice wire = vector("quote_ak.signature");
    uint8_t changed[TPM_SIGNATURE_WIRE_MAX + 1] = {0};
    static const struct {
        size_t at;
        uint16_t value;
        const char *why;
    } changes[] = {
        {2, TPM2_ALG_SHA1, "sha1"},
        {2, TPM2_ALG_SHA512, "sha512"},
        {2, 0x7f7f, "hash"},
        {0, TPM2_ALG_ECDAA, "ecdaa"},
        {0, TPM2_ALG_NULL, "signature"},
        {0, TPM2_ALG_HMAC, "signature"},
        {0, 0x7f7f, "signature"},
        {4, 0xffff, "malformed"},
    };
    for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
        mem_copy(changed, wire.data, wire.len);
        changed[changes[i].at] = (uint8_t)(changes[i].value >> 8);
        changed[changes[i].at + 1] = (uint8_t)changes[i].value;
        assert_fails(parse(slice(changed, wire.len), &err), ERROR_INVALID);
        assert_error_contains(changes[i].why);
    }
    assert_fails(parse(slice(changed, sizeof changed), &err), ERROR_INVALID);
    assert_error_contains("at most");
}

static void test_scheme_must_fit_the_key(void **)
{
    struct error err = {0};
    TPMT_PUBLIC ak = vector_area("ak");
    TPMT_PUBLIC rsa = vector_area("ak_rsa");
    TPMT_PUBLIC pss = vector_area("ak_pss");
    struct slice bytes = vector("quote_ak.attest");
    TPMT_SIGNATURE ecdsa = parsed("quote_ak.signature");
    TPMT_SIGNATURE rsassa = parsed("quote_ak_rsa.signature");

    assert_fails(tpm_signature_verify(&rsa, &ecdsa, bytes, &err), ERROR_INVALID);
    assert_error_contains("does not fit");
    assert_fails(tpm_signature_verify(&ak, &rsassa, bytes, &err), ERROR_INVALID);
    assert_error_contains("does not fit");
    assert_fails(tpm_signature_verify(&pss, &rsassa, bytes, &err), ERROR_INVALID);
    assert_error_contains("does not fit");
    /* the key's hash is SHA-256 */
    ecdsa.signature.ecdsa.hash = TPM2_ALG_SHA384;
    assert_fails(tpm_signature_verify(&ak, &ecdsa, bytes, &err), ERROR_INVALID);
    assert_error_contains("does not fit");
    ecdsa.signature.ecdsa.hash = TPM2_ALG_SHA1;
    assert_fails(tpm_signature_verify(&ak, &ecdsa, bytes, &err), ERROR_INVALID);
    assert_error_contains("sha1");
    ecdsa = parsed("quote_ak.signature");
    ak.type = TPM2_ALG_KEYEDHASH;
    assert_fails(tpm_signature_verify(&ak, &ecdsa, bytes, &err), ERROR_INVALID);
    ak = vector_area("ak");
    ak.objectAttributes &= ~(TPMA_OBJECT)TPMA_OBJECT_SIGN_ENCRYPT;
    assert_fails(tpm_signature_verify(&ak, &ecdsa, bytes, &err), ERROR_INVALID);
    assert_error_contains("not for signing");
    ak = vector_area("ak");
    ak.unique.ecc.y.buffer[31] ^= 1;
    assert_fails(tpm_signature_verify(&ak, &ecdsa, bytes, &err), ERROR_INVALID);
    ak = vector_area("ak");
    ecdsa.signature.ecdsa.signatureR.size = 49;
    assert_fails(tpm_signature_verify(&ak, &ecdsa, bytes, &err), ERROR_INVALID);
    assert_error_contains("exceeds");
    ecdsa.signature.ecdsa.signatureR.size = 0; /* r = 0 */
    assert_fails(tpm_signature_verify(&ak, &ecdsa, bytes, &err), ERROR_DENIED);
    /* a signature shorter than its modulus */
    rsassa.signature.rsassa.sig.size = 255;
    assert_fails(tpm_signature_verify(&rsa, &rsassa, bytes, &err), ERROR_DENIED);
    /* another key's */
    TPMT_PUBLIC req = vector_area("req");
    ecdsa = parsed("quote_ak.signature");
    assert_fails(tpm_signature_verify(&req, &ecdsa, bytes, &err), ERROR_DENIED);
}

/* Software keys for what the emulator's run did not make: P-384, SHA-384, keys without a scheme. */
static void sign_ecdsa(EVP_PKEY *key, TPMI_ALG_HASH hash, struct slice bytes, size_t size,
                       TPMT_SIGNATURE *ret)
{
    uint8_t der[256];
    size_t len = sizeof der;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    assert_int_equal(EVP_DigestSignInit(ctx, nullptr, tpm_hash_md(hash), nullptr, key), 1);
    assert_int_equal(EVP_DigestSign(ctx, der, &len, bytes.data, bytes.len), 1);
    EVP_MD_CTX_free(ctx);
    const uint8_t *at = der;
    ECDSA_SIG *both = d2i_ECDSA_SIG(nullptr, &at, (long)len);
    *ret = (TPMT_SIGNATURE){.sigAlg = TPM2_ALG_ECDSA};
    TPMS_SIGNATURE_ECDSA *to = &ret->signature.ecdsa;
    to->hash = hash;
    to->signatureR.size = to->signatureS.size = (uint16_t)size;
    BN_bn2binpad(ECDSA_SIG_get0_r(both), to->signatureR.buffer, (int)size);
    BN_bn2binpad(ECDSA_SIG_get0_s(both), to->signatureS.buffer, (int)size);
    ECDSA_SIG_free(both);
}

static void test_software_keys(void **)
{
    struct error err = {0};
    struct slice bytes = slice_str("what was signed");
    static const struct {
        const char *group;
        TPMI_ECC_CURVE curve;
        size_t size;
    } curves[] = {{"P-256", TPM2_ECC_NIST_P256, 32}, {"P-384", TPM2_ECC_NIST_P384, 48}};
    for (size_t i = 0; i < ARRAY_LEN(curves); i++) {
        EVP_PKEY *key = EVP_EC_gen(curves[i].group);
        TPMT_PUBLIC area;
        template_fill(TEMPLATE_REQ_ECC_P256, &area);
        area.parameters.eccDetail.curveID = curves[i].curve;
        area.parameters.eccDetail.scheme.scheme = TPM2_ALG_NULL;
        assert_ok(public_area_set_key(&area, key, &err));
        TPMT_SIGNATURE signature;
        sign_ecdsa(key, TPM2_ALG_SHA384, bytes, curves[i].size, &signature);
        assert_ok(tpm_signature_verify(&area, &signature, bytes, &err));
        sign_ecdsa(key, TPM2_ALG_SHA256, bytes, curves[i].size, &signature);
        assert_ok(tpm_signature_verify(&area, &signature, bytes, &err));
        signature.signature.ecdsa.hash = TPM2_ALG_SHA384;
        assert_fails(tpm_signature_verify(&area, &signature, bytes, &err), ERROR_DENIED);
        EVP_PKEY_free(key);
    }
}

static bool sweep_body(void *arg, struct error *err)
{
    CLEANUP(buf_done) struct buf out;
    buf_init(&out, TPM_SIGNATURE_WIRE_MAX);
    return tpm_signature_marshal(arg, &out, err);
}

static void test_marshal_without_memory(void **)
{
    TPMT_SIGNATURE signature = parsed("quote_ak.signature");
    testlib_allocation_sweep(sweep_body, &signature);
}

static void test_marshal_refuses(void **)
{
    struct error err = {0};
    TPMT_SIGNATURE signature = {.sigAlg = 0x7f7f};
    CLEANUP(buf_done) struct buf out;
    buf_init(&out, TPM_SIGNATURE_WIRE_MAX);
    assert_fails(tpm_signature_marshal(&signature, &out, &err), ERROR_INVALID);
    assert_int_equal(out.len, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_verifies_what_a_tpm_signed),
        cmocka_unit_test(test_marshal_gives_the_bytes_back),
        cmocka_unit_test(test_parse_refuses),
        cmocka_unit_test(test_scheme_must_fit_the_key),
        cmocka_unit_test(test_software_keys),
        cmocka_unit_test(test_marshal_without_memory),
        cmocka_unit_test(test_marshal_refuses),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
