#include "testlib/testlib.h"

#include "base/crypt.h"
#include "base/mem.h"
#include "base/text.h"

#include <jansson.h>
#include <openssl/err.h>

/* A JSON string of hex as bytes. */
static struct slice crypt_hex(json_t *object, const char *name, struct buf *buf)
{
    const char *text = json_string_value(json_object_get(object, name));
    struct error err = {0};

    assert_non_null(text);
    buf_init(buf, 1 << 20);
    assert_ok(hex_decode(text, buf, &err));
    return buf_slice(buf);
}

static struct secret *crypt_secret(struct slice bytes)
{
    struct secret *secret;
    struct error err = {0};

    assert_ok(secret_from(bytes, &secret, &err));
    return secret;
}

static bool crypt_hex_is(struct slice bytes, const char *hex)
{
    char text[512];

    assert_true(2 * bytes.len < sizeof(text));
    return strcmp(hex_encode(bytes, text), hex) == 0;
}

/* Calls `check` for each test of a Wycheproof file; asserts that all were seen. */
static void wycheproof_each(const char *name, void (*check)(json_t *group, json_t *test))
{
    json_error_t json_err;
    json_t *file = json_load_file(testlib_data(name), 0, &json_err);
    json_t *group, *test;
    size_t i, j;
    json_int_t seen = 0;

    assert_non_null(file);
    json_array_foreach(json_object_get(file, "testGroups"), i, group)
    {
        json_array_foreach(json_object_get(group, "tests"), j, test)
        {
            check(group, test);
            seen++;
        }
    }
    assert_true(seen > 0);
    assert_int_equal(seen, json_integer_value(json_object_get(file, "numberOfTests")));
    json_decref(file);
}

static bool wycheproof_valid(json_t *test)
{
    return strcmp(json_string_value(json_object_get(test, "result")), "valid") == 0;
}

static void digests_match_their_standard(void **state)
{
    uint8_t digest[SHA384_SIZE];
    struct error err = {0};

    (void)state;
    /* FIPS 180-4's own example, and the empty message. */
    assert_ok(sha256(slice_str("abc"), digest, &err));
    assert_true(crypt_hex_is(slice(digest, SHA256_SIZE),
                             "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"));
    assert_ok(sha256(slice(nullptr, 0), digest, &err));
    assert_true(crypt_hex_is(slice(digest, SHA256_SIZE),
                             "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"));
    assert_ok(sha384(slice_str("abc"), digest, &err));
    assert_true(crypt_hex_is(slice(digest, SHA384_SIZE),
                             "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed"
                             "8086072ba1e7cc2358baeca134c825a7"));
}

static void hkdf_check(json_t *group, json_t *test)
{
    CLEANUP(secret_free_at) struct secret *key = nullptr;
    CLEANUP(secret_free_at) struct secret *made = nullptr;
    CLEANUP(buf_done) struct buf ikm, salt, info, okm;
    struct error err = {0};
    size_t size = (size_t)json_integer_value(json_object_get(test, "size"));

    (void)group;
    key = crypt_secret(crypt_hex(test, "ikm", &ikm));
    crypt_hex(test, "salt", &salt);
    crypt_hex(test, "info", &info);
    crypt_hex(test, "okm", &okm);
    if (!wycheproof_valid(test)) {
        assert_fails(hkdf_sha256(key, buf_slice(&salt), buf_slice(&info), size, &made, &err),
                     ERROR_INVALID);
        assert_null(made);
        return;
    }
    assert_ok(hkdf_sha256(key, buf_slice(&salt), buf_slice(&info), size, &made, &err));
    assert_true(slice_equal(secret_slice(made), buf_slice(&okm)));
}

static void hkdf_agrees_with_wycheproof(void **state)
{
    (void)state;
    wycheproof_each("wycheproof/hkdf_sha256_test.json", hkdf_check);
}

static void hkdf_matches_rfc5869(void **state)
{
    CLEANUP(secret_free_at) struct secret *key = nullptr;
    CLEANUP(secret_free_at) struct secret *made = nullptr;
    struct secret *none = POISON;
    uint8_t ikm[22];
    struct error err = {0};

    (void)state;
    memset(ikm, 0x0b, sizeof(ikm));
    key = crypt_secret(SLICE_OF(ikm));
    /* A.3: neither salt nor info. */
    assert_ok(hkdf_sha256(key, slice(nullptr, 0), slice(nullptr, 0), 42, &made, &err));
    assert_true(crypt_hex_is(secret_slice(made),
                             "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"
                             "9d201395faa4b61a96c8"));
    made = secret_free(made);
    assert_ok(hkdf_sha256(key, slice_str("s"), slice_str("i"), 255 * SHA256_SIZE, &made, &err));
    assert_fails(
        hkdf_sha256(key, slice_str("s"), slice_str("i"), 255 * SHA256_SIZE + 1, &none, &err),
        ERROR_INVALID);
    assert_fails(hkdf_sha256(key, slice_str("s"), slice_str("i"), 0, &none, &err), ERROR_INVALID);
    assert_fails(hkdf_sha256(nullptr, slice_str("s"), slice_str("i"), 32, &none, &err),
                 ERROR_INVALID);
    assert_ptr_equal(none, POISON);
}

static void aead_check_sizes(json_t *test, struct slice key, struct slice iv)
{
    CLEANUP(buf_done) struct buf sealed;
    struct secret *opened = POISON;
    struct error err = {0};
    static const uint8_t bytes[32];

    (void)test;
    buf_init(&sealed, 1000);
    assert_fails(aead_seal(key, iv, slice(nullptr, 0), slice_str("x"), &sealed, &err),
                 ERROR_INVALID);
    assert_int_equal(buf_slice(&sealed).len, 0);
    assert_fails(aead_open(key, iv, slice(nullptr, 0), SLICE_OF(bytes), &opened, &err),
                 ERROR_INVALID);
    assert_ptr_equal(opened, POISON);
}

static void aead_check(json_t *group, json_t *test)
{
    CLEANUP(secret_free_at) struct secret *opened = nullptr;
    CLEANUP(buf_done) struct buf key, iv, aad, msg, ct, tag, sealed, made;
    struct error err = {0};

    (void)group;
    crypt_hex(test, "key", &key);
    crypt_hex(test, "iv", &iv);
    crypt_hex(test, "aad", &aad);
    crypt_hex(test, "msg", &msg);
    crypt_hex(test, "ct", &ct);
    crypt_hex(test, "tag", &tag);
    buf_init(&sealed, 1 << 20);
    buf_init(&made, 1 << 20);
    if (key.len != AEAD_KEY_SIZE || iv.len != AEAD_IV_SIZE) {
        aead_check_sizes(test, buf_slice(&key), buf_slice(&iv));
        return;
    }
    buf_put(&sealed, buf_slice(&ct));
    buf_put(&sealed, buf_slice(&tag));
    if (wycheproof_valid(test)) {
        buf_put(&made, slice_str("before"));
        assert_ok(aead_seal(buf_slice(&key), buf_slice(&iv), buf_slice(&aad), buf_slice(&msg),
                            &made, &err));
        buf_consume(&made, strlen("before"));
        assert_true(slice_equal(buf_slice(&made), buf_slice(&sealed)));
    }
    if (msg.len == 0) {
        assert_fails(aead_open(buf_slice(&key), buf_slice(&iv), buf_slice(&aad), buf_slice(&sealed),
                               &opened, &err),
                     ERROR_INVALID);
    } else if (wycheproof_valid(test)) {
        assert_ok(aead_open(buf_slice(&key), buf_slice(&iv), buf_slice(&aad), buf_slice(&sealed),
                            &opened, &err));
        assert_true(slice_equal(secret_slice(opened), buf_slice(&msg)));
    } else {
        assert_fails(aead_open(buf_slice(&key), buf_slice(&iv), buf_slice(&aad), buf_slice(&sealed),
                               &opened, &err),
                     ERROR_DENIED);
        assert_null(opened);
    }
}

static void aead_agrees_with_wycheproof(void **state)
{
    (void)state;
    wycheproof_each("wycheproof/aes_gcm_test.json", aead_check);
}

static void aead_refuses_every_change(void **state)
{
    static const uint8_t key[AEAD_KEY_SIZE] = {1}, iv[AEAD_IV_SIZE] = {2};
    static const uint8_t other_key[AEAD_KEY_SIZE] = {3}, other_iv[AEAD_IV_SIZE] = {4};
    CLEANUP(buf_done) struct buf sealed;
    CLEANUP(secret_free_at) struct secret *good = nullptr;
    struct secret *opened = POISON;
    struct error err = {0};
    struct slice whole;

    (void)state;
    buf_init(&sealed, 1000);
    assert_ok(aead_seal(SLICE_OF(key), SLICE_OF(iv), slice_str("aad"), slice_str("plain"), &sealed,
                        &err));
    whole = buf_slice(&sealed);
    assert_int_equal(whole.len, 5 + AEAD_TAG_SIZE);
    for (size_t i = 0; i < whole.len; i++) {
        sealed.data[i] ^= 0x10;
        assert_fails(aead_open(SLICE_OF(key), SLICE_OF(iv), slice_str("aad"), whole, &opened, &err),
                     ERROR_DENIED);
        sealed.data[i] ^= 0x10;
    }
    assert_fails(aead_open(SLICE_OF(key), SLICE_OF(iv), slice_str("aae"), whole, &opened, &err),
                 ERROR_DENIED);
    assert_fails(aead_open(SLICE_OF(key), SLICE_OF(iv), slice_str(""), whole, &opened, &err),
                 ERROR_DENIED);
    assert_fails(
        aead_open(SLICE_OF(other_key), SLICE_OF(iv), slice_str("aad"), whole, &opened, &err),
        ERROR_DENIED);
    assert_fails(
        aead_open(SLICE_OF(key), SLICE_OF(other_iv), slice_str("aad"), whole, &opened, &err),
        ERROR_DENIED);
    assert_fails(aead_open(SLICE_OF(key), SLICE_OF(iv), slice_str("aad"),
                           slice(whole.data, whole.len - 1), &opened, &err),
                 ERROR_DENIED);
    for (size_t len = 0; len <= AEAD_TAG_SIZE; len++)
        assert_fails(aead_open(SLICE_OF(key), SLICE_OF(iv), slice_str("aad"),
                               slice(whole.data, len), &opened, &err),
                     ERROR_INVALID);
    assert_ptr_equal(opened, POISON);
    assert_int_equal(ERR_peek_error(), 0); /* nothing is left for the next who looks */
    assert_ok(aead_open(SLICE_OF(key), SLICE_OF(iv), slice_str("aad"), whole, &good, &err));
    assert_true(slice_is(secret_slice(good), "plain"));
}

static void aead_keeps_to_limits(void **state)
{
    static const uint8_t key[AEAD_KEY_SIZE], iv[AEAD_IV_SIZE];
    static const uint8_t large[SECRET_MAX + 1 + AEAD_TAG_SIZE];
    CLEANUP(buf_done) struct buf small;
    struct secret *opened = POISON;
    struct error err = {0};

    (void)state;
    assert_fails(
        aead_open(SLICE_OF(key), SLICE_OF(iv), slice(nullptr, 0), SLICE_OF(large), &opened, &err),
        ERROR_EXHAUSTED);
    assert_ptr_equal(opened, POISON);
    buf_init(&small, 4 + AEAD_TAG_SIZE);
    assert_fails(
        aead_seal(SLICE_OF(key), SLICE_OF(iv), slice(nullptr, 0), slice_str("plain"), &small, &err),
        ERROR_EXHAUSTED);
    buf_clear(&small);
    assert_fails(aead_seal(SLICE_OF(key), SLICE_OF(iv), slice(large, (size_t)INT32_MAX + 1),
                           slice_str("x"), &small, &err),
                 ERROR_EXHAUSTED);
    assert_ok(
        aead_seal(SLICE_OF(key), SLICE_OF(iv), slice(nullptr, 0), slice_str("plai"), &small, &err));
}

static void random_bytes_differ(void **state)
{
    uint8_t a[64] = {0}, b[64] = {0};
    struct error err = {0};

    (void)state;
    assert_ok(random_bytes(a, sizeof(a), &err));
    assert_ok(random_bytes(b, sizeof(b), &err));
    assert_memory_not_equal(a, b, sizeof(a));
    assert_ok(random_bytes(a, 0, &err));
}

static bool sweep_crypt(void *arg, struct error *err)
{
    static const uint8_t key[AEAD_KEY_SIZE], iv[AEAD_IV_SIZE];
    CLEANUP(secret_free_at) struct secret *a = nullptr;
    CLEANUP(secret_free_at) struct secret *b = nullptr;
    CLEANUP(secret_free_at) struct secret *c = nullptr;
    CLEANUP(buf_done) struct buf buf;

    (void)arg;
    buf_init(&buf, 1000);
    return secret_random(32, &a, err) &&
           hkdf_sha256(a, slice_str("s"), slice_str("i"), 32, &b, err) &&
           aead_seal(SLICE_OF(key), SLICE_OF(iv), slice_str("a"), secret_slice(b), &buf, err) &&
           aead_open(SLICE_OF(key), SLICE_OF(iv), slice_str("a"), buf_slice(&buf), &c, err);
}

static void allocation_failures_are_reported(void **state)
{
    (void)state;
    testlib_allocation_sweep(sweep_crypt, nullptr);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(digests_match_their_standard),
        cmocka_unit_test(hkdf_matches_rfc5869),
        cmocka_unit_test(hkdf_agrees_with_wycheproof),
        cmocka_unit_test(aead_agrees_with_wycheproof),
        cmocka_unit_test(aead_refuses_every_change),
        cmocka_unit_test(aead_keeps_to_limits),
        cmocka_unit_test(random_bytes_differ),
        cmocka_unit_test(allocation_failures_are_reported),
    };

    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
