#include "vectors.h"

#include "base/mem.h"
#include "tpmwire/public.h"
#include "tpmwire/template.h"

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <stdio.h>

static const struct {
    const char *name;
    TPMI_RH_HIERARCHY hierarchy;
} areas[] = {
    {"ak", TPM2_RH_ENDORSEMENT},
    {"ak_rsa", TPM2_RH_ENDORSEMENT},
    {"wrap", TPM2_RH_OWNER},
    {"wrap_rsa", TPM2_RH_OWNER},
    {"req", TPM2_RH_OWNER},
    {"ek_rsa", TPM2_RH_ENDORSEMENT},
    {"ek_ecc", TPM2_RH_ENDORSEMENT},
    {"ek_p384", TPM2_RH_ENDORSEMENT},
    {"ek_rsa3072", TPM2_RH_ENDORSEMENT},
};

static struct slice part(const char *name, const char *what)
{
    char full[64];
    snprintf(full, sizeof full, "%s.%s", name, what);
    return vector(full);
}

static void test_names_are_the_tpms(void **)
{
    struct error err = {0};
    for (size_t i = 0; i < ARRAY_LEN(areas); i++) {
        TPMT_PUBLIC area = vector_area(areas[i].name);
        TPM2B_NAME name;
        TPM2B_NAME qualified;
        assert_ok(public_area_name(&area, &name, &err));
        assert_true(slice_equal(name_slice(&name), part(areas[i].name, "name")));
        assert_ok(name_qualified_primary(areas[i].hierarchy, &name, &qualified, &err));
        assert_true(slice_equal(name_slice(&qualified), part(areas[i].name, "qualified")));
        assert_true(name_equal(&name, &name));
        assert_false(name_equal(&name, &qualified));
    }
}

static void test_marshal_gives_the_bytes_back(void **)
{
    struct error err = {0};
    for (size_t i = 0; i < ARRAY_LEN(areas); i++) {
        TPMT_PUBLIC area = vector_area(areas[i].name);
        CLEANUP(buf_done) struct buf again;
        buf_init(&again, PUBLIC_AREA_WIRE_MAX);
        assert_ok(public_area_marshal(&area, &again, &err));
        assert_true(slice_equal(buf_slice(&again), part(areas[i].name, "public")));
    }
}

static bool parse(struct slice wire, struct error *err)
{
    TPM2B_PUBLIC area;
    memset(&area, 0xa5, sizeof area);
    TPM2B_PUBLIC poison = area;
    bool ok = public_area_parse(wire, &area, err);
    if (!ok) {
        assert_memory_equal(&area, &poison, sizeof area);
    }
    return ok;
}

static void test_parse_takes_the_whole_only(void **)
{
    for (size_t i = 0; i < ARRAY_LEN(areas); i++) {
        assert_whole_only(part(areas[i].name, "public"), parse);
    }
}

/* The vector with bytes at `at` replaced. */
static bool parse_changed(const char *name, size_t at, struct slice bytes, struct error *err)
{
    struct slice wire = vector(name);
    uint8_t copy[PUBLIC_AREA_WIRE_MAX];
    assert_true(wire.len <= sizeof copy && at + bytes.len <= wire.len);
    mem_copy(copy, wire.data, wire.len);
    mem_copy(copy + at, bytes.data, bytes.len);
    return parse(slice(copy, wire.len), err);
}

static void test_parse_refuses(void **)
{
    struct error err = {0};
    /* A byte after the structure, inside its TPM2B. */
    struct slice wire = vector("ak.public");
    uint8_t inside[PUBLIC_AREA_WIRE_MAX + 1] = {0};
    mem_copy(inside, wire.data, wire.len);
    inside[1]++;
    assert_fails(parse(slice(inside, wire.len + 1), &err), ERROR_INVALID);
    assert_error_contains("trailing");

    memset(inside, 0, sizeof inside);
    assert_fails(parse(slice(inside, sizeof inside), &err), ERROR_INVALID);
    assert_error_contains("at most");

    /* nameAlg is at 4: SHA-1 and null are no base for a Name that anything hangs on. */
    assert_fails(parse_changed("ak.public", 4, slice("\x00\x04", 2), &err), ERROR_INVALID);
    assert_error_contains("sha1");
    assert_fails(parse_changed("ak.public", 4, slice("\x00\x10", 2), &err), ERROR_INVALID);
    /* an unknown type; a size of a coordinate beyond what buffers hold */
    assert_fails(parse_changed("ak.public", 2, slice("\x7f\x7f", 2), &err), ERROR_INVALID);
    assert_fails(parse_changed("ak.public", 22, slice("\xff\xff", 2), &err), ERROR_INVALID);
}

static void test_name_refuses(void **)
{
    struct error err = {0};
    TPM2B_NAME poison;
    memset(&poison, 0xa5, sizeof poison);
    TPM2B_NAME ret = poison;
    TPMT_PUBLIC area = vector_area("ak");
    area.nameAlg = TPM2_ALG_SHA1;
    assert_fails(public_area_name(&area, &ret, &err), ERROR_INVALID);
    area.type = 0x7f7f;
    assert_fails(public_area_name(&area, &ret, &err), ERROR_INVALID);

    TPM2B_NAME name = vector_name("ak.name");
    TPM2B_NAME handle;
    name_of_handle(TPM2_RH_ENDORSEMENT, &handle);
    assert_int_equal(handle.size, 4);
    assert_memory_equal(handle.name, "\x40\x00\x00\x0b", 4);
    assert_fails(name_qualified(&name, &handle, &ret, &err), ERROR_INVALID);
    name.size--;
    assert_fails(name_qualified_primary(TPM2_RH_OWNER, &name, &ret, &err), ERROR_INVALID);
    name.size = sizeof name.name + 1;
    assert_fails(name_qualified_primary(TPM2_RH_OWNER, &name, &ret, &err), ERROR_INVALID);
    assert_memory_equal(&ret, &poison, sizeof ret);
}

static void test_keys_go_there_and_back(void **)
{
    struct error err = {0};
    for (size_t i = 0; i < ARRAY_LEN(areas); i++) {
        TPMT_PUBLIC area = vector_area(areas[i].name);
        EVP_PKEY *key = nullptr;
        assert_ok(public_area_key(&area, &key, &err));
        TPMT_PUBLIC again = area;
        memset(&again.unique, 0, sizeof again.unique);
        assert_ok(public_area_set_key(&again, key, &err));
        TPM2B_NAME name;
        assert_ok(public_area_name(&again, &name, &err));
        assert_true(slice_equal(name_slice(&name), part(areas[i].name, "name")));
        EVP_PKEY_free(key);
    }
}

/* A coordinate that begins with a zero byte is the same key whether the TPM trimmed it or not. */
static void test_key_pads_coordinates(void **)
{
    struct error err = {0};
    TPMT_PUBLIC area = vector_area("zero");
    TPM2B_ECC_PARAMETER *x = &area.unique.ecc.x;
    assert_int_equal(x->size, 32);
    assert_int_equal(x->buffer[0], 0);
    EVP_PKEY *whole = nullptr;
    EVP_PKEY *trimmed = nullptr;
    assert_ok(public_area_key(&area, &whole, &err));
    mem_move(x->buffer, x->buffer + 1, 31);
    x->size = 31;
    assert_ok(public_area_key(&area, &trimmed, &err));
    assert_int_equal(EVP_PKEY_eq(whole, trimmed), 1);
    assert_ok(public_area_set_key(&area, trimmed, &err));
    assert_int_equal(x->size, 32);
    assert_int_equal(x->buffer[0], 0);
    EVP_PKEY_free(whole);
    EVP_PKEY_free(trimmed);
}

static void assert_no_key(const TPMT_PUBLIC *area, const char *why)
{
    struct error err = {0};
    EVP_PKEY *key = POISON;
    assert_fails(public_area_key(area, &key, &err), ERROR_INVALID);
    assert_error_contains(why);
    assert_ptr_equal(key, POISON);
}

static void test_key_refuses(void **)
{
    TPMT_PUBLIC area = vector_area("ak");
    area.unique.ecc.y.buffer[31] ^= 1;
    assert_no_key(&area, "EC key"); /* not on the curve */
    memset(area.unique.ecc.x.buffer, 0, 32);
    memset(area.unique.ecc.y.buffer, 0, 32);
    assert_no_key(&area, "EC key");
    memset(area.unique.ecc.x.buffer, 0xff, 32); /* beyond the field */
    assert_no_key(&area, "EC key");
    area.unique.ecc.x.size = 33;
    assert_no_key(&area, "exceeds");
    area = vector_area("ak");
    area.parameters.eccDetail.curveID = TPM2_ECC_NIST_P521;
    assert_no_key(&area, "curve");
    area.type = TPM2_ALG_KEYEDHASH;
    assert_no_key(&area, "keyedhash");

    area = vector_area("ak_rsa");
    area.parameters.rsaDetail.exponent = 3;
    assert_no_key(&area, "exponent");
    area.parameters.rsaDetail.exponent = 0;
    area.parameters.rsaDetail.keyBits = 1024;
    assert_no_key(&area, "1024");
    area.parameters.rsaDetail.keyBits = 3072;
    assert_no_key(&area, "modulus");
    area = vector_area("ak_rsa");
    area.unique.rsa.buffer[0] = 0;
    assert_no_key(&area, "modulus");
    area = vector_area("ak_rsa");
    area.unique.rsa.buffer[255] &= 0xfe;
    assert_no_key(&area, "modulus");
    area.unique.rsa.size = 0;
    assert_no_key(&area, "modulus");
}

static void test_set_key_refuses_what_does_not_fit(void **)
{
    struct error err = {0};
    EVP_PKEY *p384 = EVP_EC_gen("P-384");
    EVP_PKEY *rsa = EVP_RSA_gen(1024);
    TPMT_PUBLIC ecc_area = vector_area("ak");
    TPMT_PUBLIC rsa_area = vector_area("ak_rsa");
    TPMT_PUBLIC sealed = {.type = TPM2_ALG_KEYEDHASH};
    TPMT_PUBLIC before = ecc_area;
    assert_fails(public_area_set_key(&ecc_area, p384, &err), ERROR_INVALID);
    assert_fails(public_area_set_key(&ecc_area, rsa, &err), ERROR_INVALID);
    assert_memory_equal(&ecc_area, &before, sizeof before);
    before = rsa_area;
    assert_fails(public_area_set_key(&rsa_area, rsa, &err), ERROR_INVALID);
    assert_fails(public_area_set_key(&rsa_area, p384, &err), ERROR_INVALID);
    assert_memory_equal(&rsa_area, &before, sizeof before);
    assert_fails(public_area_set_key(&sealed, p384, &err), ERROR_INVALID);
    EVP_PKEY_free(p384);
    EVP_PKEY_free(rsa);
}

static bool sweep_body(void *arg, struct error *err)
{
    CLEANUP(buf_done) struct buf out;
    buf_init(&out, PUBLIC_AREA_WIRE_MAX);
    return public_area_marshal(arg, &out, err);
}

static void test_marshal_without_memory(void **)
{
    TPMT_PUBLIC area = vector_area("ak");
    testlib_allocation_sweep(sweep_body, &area);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_are_the_tpms),
        cmocka_unit_test(test_marshal_gives_the_bytes_back),
        cmocka_unit_test(test_parse_takes_the_whole_only),
        cmocka_unit_test(test_parse_refuses),
        cmocka_unit_test(test_name_refuses),
        cmocka_unit_test(test_keys_go_there_and_back),
        cmocka_unit_test(test_key_pads_coordinates),
        cmocka_unit_test(test_key_refuses),
        cmocka_unit_test(test_set_key_refuses_what_does_not_fit),
        cmocka_unit_test(test_marshal_without_memory),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
