#include "vectors.h"

#include "base/mem.h"
#include "tpmwire/hash.h"
#include "tpmwire/public.h"
#include "tpmwire/template.h"

static const struct {
    const char *name;
    enum template_id id;
} made_by_tpm[] = {
    {"ek_rsa", TEMPLATE_EK_L1_RSA_2048},  {"ek_ecc", TEMPLATE_EK_L2_ECC_P256},
    {"ek_p384", TEMPLATE_EK_H3_ECC_P384}, {"ek_rsa3072", TEMPLATE_EK_H6_RSA_3072},
    {"ak", TEMPLATE_AK_ECC_P256},         {"ak_rsa", TEMPLATE_AK_RSA_2048},
    {"wrap", TEMPLATE_WRAP_ECC_P256},     {"wrap_rsa", TEMPLATE_WRAP_RSA_2048},
    {"req", TEMPLATE_REQ_ECC_P256},
};

static void test_each_key_fits_its_template_alone(void **)
{
    struct error err = {0};
    for (size_t i = 0; i < ARRAY_LEN(made_by_tpm); i++) {
        TPMT_PUBLIC area = vector_area(made_by_tpm[i].name);
        for (int id = 0; id < TEMPLATE_COUNT; id++) {
            bool fits = template_match(&area, (enum template_id)id, &err);
            assert_int_equal(fits, id == (int)made_by_tpm[i].id);
            if (!fits) {
                assert_int_equal(err.class, ERROR_INVALID);
                assert_error_contains(template_name((enum template_id)id));
            }
        }
    }
}

static void test_ek_find(void **)
{
    struct error err = {0};
    for (size_t i = 0; i < ARRAY_LEN(made_by_tpm); i++) {
        TPMT_PUBLIC area = vector_area(made_by_tpm[i].name);
        enum template_id found = TEMPLATE_COUNT;
        if (made_by_tpm[i].id <= TEMPLATE_EK_H7_RSA_4096) {
            assert_ok(template_find_ek(&area, &found, &err));
            assert_int_equal(found, made_by_tpm[i].id);
        } else {
            assert_fails(template_find_ek(&area, &found, &err), ERROR_INVALID);
            assert_int_equal(found, TEMPLATE_COUNT);
        }
    }
}

/* Every template is an area that the wire carries, and matches itself. */
static void test_fill_is_well_formed(void **)
{
    struct error err = {0};
    for (int id = 0; id < TEMPLATE_COUNT; id++) {
        TPMT_PUBLIC area;
        template_fill((enum template_id)id, &area);
        assert_ok(template_match(&area, (enum template_id)id, &err));
        CLEANUP(buf_done) struct buf wire;
        buf_init(&wire, PUBLIC_AREA_WIRE_MAX);
        assert_ok(public_area_marshal(&area, &wire, &err));
        TPM2B_PUBLIC again;
        assert_ok(public_area_parse(buf_slice(&wire), &again, &err));
        assert_ok(template_match(&again.publicArea, (enum template_id)id, &err));
    }
    /* unique: zeros for the low range, nothing else (EK Credential Profile, annex B) */
    TPMT_PUBLIC area;
    template_fill(TEMPLATE_EK_L1_RSA_2048, &area);
    assert_int_equal(area.unique.rsa.size, 256);
    template_fill(TEMPLATE_EK_L2_ECC_P256, &area);
    assert_int_equal(area.unique.ecc.x.size, 32);
    assert_int_equal(area.unique.ecc.y.size, 32);
    template_fill(TEMPLATE_EK_H3_ECC_P384, &area);
    assert_int_equal(area.unique.ecc.x.size, 0);
}

/* What attestation relies on, bit by bit. */
static void test_attributes(void **)
{
    static const struct {
        enum template_id id;
        TPMA_OBJECT attributes;
    } expected[] = {
        {TEMPLATE_EK_L1_RSA_2048, 0x000300b2}, {TEMPLATE_EK_H3_ECC_P384, 0x000300f2},
        {TEMPLATE_AK_ECC_P256, 0x00050472},    {TEMPLATE_WRAP_ECC_P256, 0x00030472},
        {TEMPLATE_REQ_ECC_P256, 0x00040472},
    };
    for (size_t i = 0; i < ARRAY_LEN(expected); i++) {
        TPMT_PUBLIC area;
        template_fill(expected[i].id, &area);
        assert_int_equal(area.objectAttributes, expected[i].attributes);
    }
}

/* PolicyB = PolicyOR(PolicyA, PolicyC) = H(0 ‖ CC ‖ A ‖ C), and PolicyC = H(0 ‖ CC ‖ Name of the
 * profile's index) is a constant of the profile. */
static void test_policy_b(void **)
{
    struct error err = {0};
    static const uint8_t policy_c[] = {0x37, 0x67, 0xe2, 0xed, 0xd4, 0x3f, 0xf4, 0x5a,
                                       0x3a, 0x7e, 0x1e, 0xae, 0xfc, 0xef, 0x78, 0x64,
                                       0x3d, 0xca, 0x96, 0x46, 0x32, 0xe7, 0xaa, 0xd8,
                                       0x2c, 0x67, 0x3a, 0x30, 0xd8, 0x63, 0x3f, 0xde};
    TPMT_PUBLIC low;
    TPMT_PUBLIC high;
    template_fill(TEMPLATE_EK_L1_RSA_2048, &low);
    template_fill(TEMPLATE_EK_H1_RSA_2048, &high);
    const uint8_t zero[32] = {0};
    const struct slice parts[] = {SLICE_OF(zero), slice("\x00\x00\x01\x71", 4),
                                  slice(low.authPolicy.buffer, 32), SLICE_OF(policy_c)};
    TPM2B_DIGEST policy_b;
    assert_ok(tpm_hash(TPM2_ALG_SHA256, parts, ARRAY_LEN(parts), &policy_b, &err));
    assert_int_equal(high.authPolicy.size, 32);
    assert_memory_equal(high.authPolicy.buffer, policy_b.buffer, 32);
}

static void assert_differs(const TPMT_PUBLIC *area, enum template_id id, const char *why)
{
    struct error err = {0};
    assert_fails(template_match(area, id, &err), ERROR_INVALID);
    assert_error_contains(why);
}

static void test_match_refuses_each_difference(void **)
{
    TPMT_PUBLIC good = vector_area("ak");
    TPMT_PUBLIC area = good;
    for (unsigned bit = 0; bit < 32; bit++) {
        area = good;
        area.objectAttributes ^= UINT32_C(1) << bit;
        assert_differs(&area, TEMPLATE_AK_ECC_P256, "attributes");
    }
    area = good;
    area.nameAlg = TPM2_ALG_SHA384;
    assert_differs(&area, TEMPLATE_AK_ECC_P256, "nameAlg");
    area = good;
    area.authPolicy.size = 32;
    assert_differs(&area, TEMPLATE_AK_ECC_P256, "policy");
    area = good;
    area.parameters.eccDetail.scheme.scheme = TPM2_ALG_NULL;
    assert_differs(&area, TEMPLATE_AK_ECC_P256, "scheme");
    area = good;
    area.parameters.eccDetail.scheme.details.ecdsa.hashAlg = TPM2_ALG_SHA1;
    assert_differs(&area, TEMPLATE_AK_ECC_P256, "hash of the scheme");
    area = good;
    area.parameters.eccDetail.curveID = TPM2_ECC_NIST_P384;
    assert_differs(&area, TEMPLATE_AK_ECC_P256, "curve");
    area = good;
    area.parameters.eccDetail.kdf.scheme = TPM2_ALG_KDF1_SP800_56A;
    assert_differs(&area, TEMPLATE_AK_ECC_P256, "key derivation");
    area = vector_area("wrap");
    area.parameters.eccDetail.symmetric.keyBits.aes = 256;
    assert_differs(&area, TEMPLATE_WRAP_ECC_P256, "symmetric");
    area = vector_area("wrap");
    area.parameters.eccDetail.symmetric.mode.aes = TPM2_ALG_ECB;
    assert_differs(&area, TEMPLATE_WRAP_ECC_P256, "symmetric");

    area = vector_area("ak_rsa");
    assert_differs(&area, TEMPLATE_AK_ECC_P256, "type");
    area.parameters.rsaDetail.keyBits = 3072;
    assert_differs(&area, TEMPLATE_AK_RSA_2048, "key size");
    area = vector_area("ak_rsa");
    area.parameters.rsaDetail.exponent = 3;
    assert_differs(&area, TEMPLATE_AK_RSA_2048, "exponent");
    area = vector_area("ak_rsa");
    area.parameters.rsaDetail.scheme.scheme = TPM2_ALG_RSAPSS;
    assert_differs(&area, TEMPLATE_AK_RSA_2048, "scheme");
    area = vector_area("ak_rsa");
    area.parameters.rsaDetail.scheme.details.rsassa.hashAlg = TPM2_ALG_SHA1;
    assert_differs(&area, TEMPLATE_AK_RSA_2048, "hash of the scheme");
    area = vector_area("wrap_rsa");
    area.parameters.rsaDetail.symmetric.algorithm = TPM2_ALG_NULL;
    assert_differs(&area, TEMPLATE_WRAP_RSA_2048, "symmetric");
    area = vector_area("ek_rsa");
    area.authPolicy.buffer[0] ^= 1;
    assert_differs(&area, TEMPLATE_EK_L1_RSA_2048, "policy");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_key_fits_its_template_alone),
        cmocka_unit_test(test_ek_find),
        cmocka_unit_test(test_fill_is_well_formed),
        cmocka_unit_test(test_attributes),
        cmocka_unit_test(test_policy_b),
        cmocka_unit_test(test_match_refuses_each_difference),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
