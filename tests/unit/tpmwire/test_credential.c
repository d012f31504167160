#include "vectors.h"

#include "base/mem.h"
#include "tpmwire/credential.h"

#include <stdio.h>

static struct secret *credential_secret(void)
{
    struct error err = {0};
    struct secret *secret;
    assert_ok(secret_from(vector("credential.secret"), &secret, &err));
    return secret;
}

static const char *const eks[] = {"ek_ecc", "ek_rsa", "ek_p384", "ek_rsa3072"};

/* With the recorded randomness, the very bytes that a TPM activated. */
static void test_vectors(void **)
{
    struct error err = {0};
    struct secret *secret = credential_secret();
    TPM2B_NAME name = vector_name("ak.name");
    for (size_t i = 0; i < ARRAY_LEN(eks); i++) {
        char at[64];
        TPMT_PUBLIC ek = vector_area(eks[i]);
        struct share_random random;
        snprintf(at, sizeof at, "credential_%s.random", eks[i]);
        assert_int_equal(vector(at).len, sizeof random);
        mem_copy(&random, vector(at).data, sizeof random);
        CLEANUP(buf_done) struct buf blob;
        buf_init(&blob, 1024);
        CLEANUP(buf_done) struct buf shared;
        buf_init(&shared, 1024);
        assert_ok(credential_make_with(&ek, &name, secret, &random, &blob, &shared, &err));
        snprintf(at, sizeof at, "credential_%s.file", eks[i]);
        struct reader file = reader(vector(at));
        assert_int_equal(reader_u32(&file), 0xbadcc0de);
        assert_int_equal(reader_u32(&file), 1);
        assert_true(slice_equal(reader_take(&file, blob.len), buf_slice(&blob)));
        assert_true(slice_equal(reader_take(&file, shared.len), buf_slice(&shared)));
        assert_true(reader_end(&file));

        TPM2B_ID_OBJECT id;
        TPM2B_ENCRYPTED_SECRET encrypted;
        assert_ok(credential_parse(buf_slice(&blob), buf_slice(&shared), &id, &encrypted, &err));
        assert_int_equal(id.size + 2, blob.len);
        assert_memory_equal(id.credential, blob.data + 2, id.size);
        assert_int_equal(encrypted.size + 2, shared.len);
        assert_memory_equal(encrypted.secret, shared.data + 2, encrypted.size);
    }
    secret = secret_free(secret);
}

static void test_drawn_randomness_differs(void **)
{
    struct error err = {0};
    struct secret *secret = credential_secret();
    TPM2B_NAME name = vector_name("ak.name");
    TPMT_PUBLIC ek = vector_area("ek_ecc");
    CLEANUP(buf_done) struct buf blobs;
    buf_init(&blobs, 1024);
    CLEANUP(buf_done) struct buf shared;
    buf_init(&shared, 1024);
    assert_ok(credential_make(&ek, &name, secret, &blobs, &shared, &err));
    size_t len = blobs.len;
    assert_ok(credential_make(&ek, &name, secret, &blobs, &shared, &err));
    assert_int_equal(blobs.len, 2 * len);
    assert_false(slice_equal(slice(blobs.data, len), slice(blobs.data + len, len)));
    secret = secret_free(secret);
}

static void test_make_refuses(void **)
{
    struct error err = {0};
    struct secret *secret;
    TPM2B_NAME name = vector_name("ak.name");
    TPMT_PUBLIC ek = vector_area("ek_ecc");
    CLEANUP(buf_done) struct buf blob;
    buf_init(&blob, 1024);
    CLEANUP(buf_done) struct buf shared;
    buf_init(&shared, 1024);
    assert_ok(secret_random(33, &secret, &err)); /* more than SHA-256 */
    assert_fails(credential_make(&ek, &name, secret, &blob, &shared, &err), ERROR_INVALID);
    assert_error_contains("33 bytes");
    assert_fails(credential_make(&ek, &name, nullptr, &blob, &shared, &err), ERROR_INVALID);
    TPMT_PUBLIC wide = vector_area("ek_p384"); /* … which SHA-384 takes */
    assert_ok(credential_make(&wide, &name, secret, &blob, &shared, &err));
    buf_clear(&blob);
    buf_clear(&shared);
    secret_shorten(secret, 32);
    TPMT_PUBLIC ak = vector_area("ak");
    assert_fails(credential_make(&ak, &name, secret, &blob, &shared, &err), ERROR_INVALID);
    assert_error_contains("storage key");
    assert_int_equal(blob.len, 0);
    assert_int_equal(shared.len, 0);
    secret = secret_free(secret);
}

/* One part at a time from the wire, the other one good. */
static bool parse_blob(struct slice wire, struct error *err)
{
    TPM2B_ID_OBJECT id = {.size = 0xa5a5};
    TPM2B_ENCRYPTED_SECRET secret = {.size = 0xa5a5};
    bool ok = credential_parse(wire, slice("\0\1x", 3), &id, &secret, err);
    assert_true(ok || (id.size == 0xa5a5 && secret.size == 0xa5a5));
    return ok;
}

static bool parse_secret(struct slice wire, struct error *err)
{
    TPM2B_ID_OBJECT id = {.size = 0xa5a5};
    TPM2B_ENCRYPTED_SECRET secret = {.size = 0xa5a5};
    bool ok = credential_parse(slice("\0\1x", 3), wire, &id, &secret, err);
    assert_true(ok || (id.size == 0xa5a5 && secret.size == 0xa5a5));
    return ok;
}

static void test_parse_refuses(void **)
{
    struct error err = {0};
    static const uint8_t small[] = {0, 3, 'a', 'b', 'c'};
    assert_whole_only(SLICE_OF(small), parse_blob);
    assert_whole_only(SLICE_OF(small), parse_secret);
    uint8_t big[2 + sizeof(TPMU_ENCRYPTED_SECRET) + 1] = {0};
    size_t len = sizeof big - 2;
    big[0] = (uint8_t)(len >> 8);
    big[1] = (uint8_t)len;
    assert_fails(parse_secret(SLICE_OF(big), &err), ERROR_INVALID);
    assert_error_contains("at most");
    assert_fails(parse_blob(SLICE_OF(big), &err), ERROR_INVALID);
    assert_error_contains("at most");
}

struct sweep {
    TPMT_PUBLIC ek;
    TPM2B_NAME name;
    struct secret *secret;
};

static bool sweep_body(void *arg, struct error *err)
{
    const struct sweep *s = arg;
    CLEANUP(buf_done) struct buf blob;
    buf_init(&blob, 1024);
    CLEANUP(buf_done) struct buf shared;
    buf_init(&shared, 1024);
    return credential_make(&s->ek, &s->name, s->secret, &blob, &shared, err);
}

static void test_make_without_memory(void **)
{
    struct sweep s = {vector_area("ek_ecc"), vector_name("ak.name"), credential_secret()};
    testlib_allocation_sweep(sweep_body, &s);
    s.secret = secret_free(s.secret);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_drawn_randomness_differs),
        cmocka_unit_test(test_make_refuses),
        cmocka_unit_test(test_parse_refuses),
        cmocka_unit_test(test_make_without_memory),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
