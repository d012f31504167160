#include "vectors.h"

#include "base/mem.h"
#include "tpmwire/public.h"
#include "tpmwire/share.h"

static void test_two_shares_differ(void **)
{
    struct error err = {0};
    static const char *const keys[] = {"ek_ecc",     "ek_rsa", "ek_p384",
                                       "ek_rsa3072", "wrap",   "wrap_rsa"};
    static const size_t sizes[] = {32, 32, 48, 48, 32, 32};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        TPMT_PUBLIC key = vector_area(keys[i]);
        struct share_random random;
        TPM2B_ENCRYPTED_SECRET wire[2];
        struct secret *seed[2];
        for (size_t n = 0; n < 2; n++) {
            assert_ok(share_random(&key, &random, &err));
            assert_ok(share_make(&key, "IDENTITY", &random, &seed[n], &wire[n], &err));
            assert_int_equal(secret_len(seed[n]), sizes[i]);
        }
        assert_false(secret_equal(seed[0], seed[1]));
        assert_false(
            slice_equal(slice(wire[0].secret, wire[0].size), slice(wire[1].secret, wire[1].size)));
        seed[0] = secret_free(seed[0]);
        seed[1] = secret_free(seed[1]);
    }
}

/* The label is in the seed (ECC) or in OAEP's encoding (RSA): a credential is no import blob. */
static void test_label_counts(void **)
{
    struct error err = {0};
    TPMT_PUBLIC ecc = vector_area("wrap");
    TPMT_PUBLIC rsa = vector_area("wrap_rsa");
    struct share_random random;
    TPM2B_ENCRYPTED_SECRET first;
    TPM2B_ENCRYPTED_SECRET second;
    struct secret *a;
    struct secret *b;
    assert_ok(share_random(&ecc, &random, &err));
    assert_ok(share_make(&ecc, "IDENTITY", &random, &a, &first, &err));
    assert_ok(share_make(&ecc, "DUPLICATE", &random, &b, &second, &err));
    assert_false(secret_equal(a, b));
    assert_true(slice_equal(slice(first.secret, first.size), slice(second.secret, second.size)));
    a = secret_free(a);
    b = secret_free(b);
    assert_ok(share_make(&rsa, "IDENTITY", &random, &a, &first, &err));
    assert_ok(share_make(&rsa, "DUPLICATE", &random, &b, &second, &err));
    assert_true(secret_equal(a, b));
    assert_false(slice_equal(slice(first.secret, first.size), slice(second.secret, second.size)));
    a = secret_free(a);
    b = secret_free(b);
}

/* Both coordinates go out in the curve's size, zero bytes in front included. */
static void test_wire_point_is_padded(void **)
{
    struct error err = {0};
    struct slice seed = vector("import_zero_ephemeral.seed");
    struct reader r = reader(seed);
    assert_int_equal(reader_u16(&r), 68);
    assert_int_equal(reader_u16(&r), 32);
    struct slice x = reader_take(&r, 32);
    assert_int_equal(x.data[0], 0);
    assert_int_equal(reader_u16(&r), 32);
    struct slice y = reader_take(&r, 32);
    assert_int_equal(y.len, 32);
    assert_true(reader_end(&r));

    TPMT_PUBLIC key = vector_area("wrap");
    struct share_random random;
    mem_copy(&random, vector("import_zero_ephemeral.random").data + 32, sizeof random);
    TPM2B_ENCRYPTED_SECRET wire;
    struct secret *shared;
    assert_ok(share_make(&key, "DUPLICATE", &random, &shared, &wire, &err));
    assert_true(slice_equal(slice(wire.secret, wire.size), slice(seed.data + 2, seed.len - 2)));
    shared = secret_free(shared);
}

/* A parent whose coordinates the TPM trimmed gives the same seed as one with whole coordinates. */
static void test_trimmed_parent(void **)
{
    struct error err = {0};
    TPMT_PUBLIC key = vector_area("zero");
    struct share_random random;
    assert_ok(share_random(&key, &random, &err));
    TPM2B_ENCRYPTED_SECRET wire;
    struct secret *whole;
    struct secret *trimmed;
    assert_ok(share_make(&key, "DUPLICATE", &random, &whole, &wire, &err));
    mem_move(key.unique.ecc.x.buffer, key.unique.ecc.x.buffer + 1, 31);
    key.unique.ecc.x.size = 31;
    assert_ok(share_make(&key, "DUPLICATE", &random, &trimmed, &wire, &err));
    assert_true(secret_equal(whole, trimmed));
    whole = secret_free(whole);
    trimmed = secret_free(trimmed);
}

static void assert_no_share(const TPMT_PUBLIC *key, const struct share_random *random,
                            const char *why)
{
    struct error err = {0};
    struct secret *seed = POISON;
    TPM2B_ENCRYPTED_SECRET wire = {.size = 0xa5a5};
    assert_fails(share_make(key, "DUPLICATE", random, &seed, &wire, &err), ERROR_INVALID);
    assert_error_contains(why);
    assert_ptr_equal(seed, POISON);
    assert_int_equal(wire.size, 0xa5a5);
}

static void test_refusals(void **)
{
    struct error err = {0};
    TPMT_PUBLIC good = vector_area("wrap");
    struct share_random random;
    assert_ok(share_random(&good, &random, &err));

    TPMT_PUBLIC key = vector_area("ak");
    assert_no_share(&key, &random, "storage key");
    key = good;
    key.objectAttributes &= ~(TPMA_OBJECT)TPMA_OBJECT_RESTRICTED;
    assert_no_share(&key, &random, "storage key");
    key = good;
    key.objectAttributes |= TPMA_OBJECT_SIGN_ENCRYPT;
    assert_no_share(&key, &random, "storage key");
    key = good;
    key.type = TPM2_ALG_KEYEDHASH;
    assert_no_share(&key, &random, "storage key");
    struct share_random untouched;
    assert_fails(share_random(&key, &untouched, &err), ERROR_INVALID);
    key = good;
    key.parameters.eccDetail.symmetric.algorithm = TPM2_ALG_NULL;
    assert_no_share(&key, &random, "AES-CFB");
    key = good;
    key.parameters.eccDetail.symmetric.mode.aes = TPM2_ALG_CBC;
    assert_no_share(&key, &random, "AES-CFB");
    key = good;
    key.parameters.eccDetail.symmetric.keyBits.aes = 64;
    assert_no_share(&key, &random, "AES-CFB");
    key = good;
    key.nameAlg = TPM2_ALG_SHA1;
    assert_no_share(&key, &random, "nameAlg");
    key = good;
    key.parameters.eccDetail.curveID = TPM2_ECC_NIST_P521;
    assert_no_share(&key, &random, "curve");
    assert_fails(share_random(&key, &untouched, &err), ERROR_INVALID);
    key = good;
    key.unique.ecc.y.buffer[3] ^= 1;
    assert_no_share(&key, &random, "not on the curve");
    key = good;
    key.unique.ecc.x.size = 33;
    assert_no_share(&key, &random, "exceeds");
    key = vector_area("wrap_rsa");
    key.parameters.rsaDetail.exponent = 3;
    assert_no_share(&key, &random, "exponent");

    struct share_random zero = {0};
    assert_no_share(&good, &zero, "out of range");
    struct share_random order; /* above any order */
    memset(&order, 0xff, sizeof order);
    assert_no_share(&good, &order, "out of range");
}

struct sweep {
    TPMT_PUBLIC key;
    TPM2B_NAME name;
    struct secret *seed;
};

static bool sweep_body(void *arg, struct error *err)
{
    struct sweep *s = arg;
    CLEANUP(buf_done) struct buf out;
    buf_init(&out, 1024);
    bool ok = share_wrap(&s->key, s->seed, &s->name, slice_str("plain"), &out, err);
    assert_true(ok || out.len == 0);
    return ok;
}

static void test_wrap_without_memory(void **)
{
    struct error err = {0};
    struct sweep s = {.key = vector_area("wrap"), .name = vector_name("ak.name")};
    assert_ok(secret_random(32, &s.seed, &err));
    testlib_allocation_sweep(sweep_body, &s);
    s.key.nameAlg = TPM2_ALG_SHA1;
    assert_fails(sweep_body(&s, &err), ERROR_INVALID);
    s.seed = secret_free(s.seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_shares_differ),
        cmocka_unit_test(test_label_counts),
        cmocka_unit_test(test_wire_point_is_padded),
        cmocka_unit_test(test_trimmed_parent),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_wrap_without_memory),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
