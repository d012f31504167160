#include "testlib/testlib.h"

#include "base/file.h"
#include "keys/key.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static const enum key_kind KINDS[] = {KEY_P256, KEY_P384, KEY_ML_DSA_65};

static void signs_what_verifies(void **state)
{
    (void)state;
    static const char *const names[] = {"P-256", "P-384", "ML-DSA-65"};
    struct error err = {0};
    for (size_t i = 0; i < ARRAY_LEN(KINDS); i++) {
        struct key *key, *other, *public;
        CLEANUP(buf_done) struct buf signature = {.max = KEY_SIGNATURE_MAX}, der = {.max = 8192};
        assert_ok(key_generate(KINDS[i], &key, &err));
        assert_ok(key_generate(KINDS[i], &other, &err));
        assert_int_equal(key_kind(key), KINDS[i]);
        assert_string_equal(key_kind_name(key_kind(key)), names[i]);
        assert_ok(key_public(key, &der, &err));
        assert_ok(key_from_public(buf_slice(&der), &public, &err));
        assert_int_equal(key_kind(public), KINDS[i]);

        assert_ok(key_sign(key, slice_str("the bytes"), &signature, &err));
        assert_ok(key_verify(public, slice_str("the bytes"), buf_slice(&signature), &err));
        assert_fails(key_verify(public, slice_str("the bytez"), buf_slice(&signature), &err),
                     ERROR_DENIED);
        assert_fails(key_verify(other, slice_str("the bytes"), buf_slice(&signature), &err),
                     ERROR_DENIED);
        assert_fails(key_verify(public, slice_str("the bytes"),
                                slice(signature.data, signature.len - 1), &err),
                     ERROR_DENIED);
        assert_fails(key_verify(public, slice_str("the bytes"), slice_str(""), &err), ERROR_DENIED);
        signature.data[signature.len / 2] ^= 1;
        assert_fails(key_verify(public, slice_str("the bytes"), buf_slice(&signature), &err),
                     ERROR_DENIED);

        CLEANUP(buf_done) struct buf none = {.max = KEY_SIGNATURE_MAX};
        assert_fails(key_sign(public, slice_str("x"), &none, &err), ERROR_INVALID);
        assert_fails(key_save(public, "/nonexistent/key", &err), ERROR_INVALID);
        assert_int_equal(none.len, 0);
        assert_null(key_unref(public));
        key_unref(other);
        assert_ptr_equal(key_ref(key), key);
        key_unref(key);
        assert_int_equal(key_kind(key), KINDS[i]); /* the second reference holds it */
        key_unref(key);
    }
    assert_null(key_unref(nullptr));
}

static void the_digest_fits_the_curve(void **state)
{
    (void)state;
    struct error err = {0};
    static const struct {
        enum key_kind kind;
        const char *right, *wrong;
    } cases[] = {{KEY_P256, "SHA256", "SHA384"}, {KEY_P384, "SHA384", "SHA256"}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct key *key;
        CLEANUP(buf_done) struct buf signature = {.max = KEY_SIGNATURE_MAX};
        assert_ok(key_generate(cases[i].kind, &key, &err));
        assert_ok(key_sign(key, slice_str("x"), &signature, &err));
        for (int right = 0; right < 2; right++) {
            EVP_MD_CTX *ctx = EVP_MD_CTX_new();
            assert_int_equal(EVP_DigestVerifyInit_ex(ctx, nullptr,
                                                     right ? cases[i].right : cases[i].wrong,
                                                     nullptr, nullptr, key_evp(key), nullptr),
                             1);
            assert_int_equal(
                EVP_DigestVerify(ctx, signature.data, signature.len, (const uint8_t *)"x", 1) == 1,
                right);
            EVP_MD_CTX_free(ctx);
        }
        key_unref(key);
    }
}

struct place {
    char folder[64], path[128], uri[160];
};

static void place_init(struct place *place)
{
    testlib_folder(place->folder);
    (void)snprintf(place->path, sizeof place->path, "%s/key.pem", place->folder);
    (void)snprintf(place->uri, sizeof place->uri, "file:%s", place->path);
}

static FILE *open_file(const char *path)
{
    FILE *file = fopen(path, "w");
    if (!file)
        fail_msg("cannot write %s", path);
    return file;
}

static void saves_and_opens(void **state)
{
    (void)state;
    struct error err = {0};
    struct place place;
    place_init(&place);
    for (size_t i = 0; i < ARRAY_LEN(KINDS); i++) {
        struct key *key, *again;
        struct stat st;
        char uri[160];
        assert_ok(key_generate(KINDS[i], &key, &err));
        assert_ok(key_save(key, place.path, &err));
        assert_int_equal(stat(place.path, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0600);
        assert_ok(key_open(place.uri, &again, &err));
        assert_int_equal(EVP_PKEY_eq(key_evp(key), key_evp(again)), 1);
        key_unref(again);
        (void)snprintf(uri, sizeof uri, "file://%s", place.path); /* with the empty authority */
        assert_ok(key_open(uri, &again, &err));
        key_unref(again);

        /* DER is read as well. */
        FILE *file = open_file(place.path);
        assert_int_equal(
            i2d_PKCS8PrivateKey_fp(file, key_evp(key), nullptr, nullptr, 0, nullptr, nullptr), 1);
        fclose(file);
        assert_ok(key_open(place.uri, &again, &err));
        assert_int_equal(EVP_PKEY_eq(key_evp(key), key_evp(again)), 1);
        key_unref(again);

        /* A public key is none to open. */
        file = open_file(place.path);
        assert_int_equal(PEM_write_PUBKEY(file, key_evp(key)), 1);
        fclose(file);
        assert_int_equal(chmod(place.path, 0600), 0);
        again = POISON;
        assert_fails(key_open(place.uri, &again, &err), ERROR_INVALID);
        assert_error_contains("private key in it");
        assert_ptr_equal(again, POISON);
        key_unref(key);
    }
    testlib_folder_remove(place.folder);
}

static void open_fails(const char *uri, enum error_class class, const char *says)
{
    struct error err = {0};
    struct key *key = POISON;
    assert_fails(key_open(uri, &key, &err), class);
    assert_error_contains(uri);
    assert_error_contains(says);
    assert_ptr_equal(key, POISON);
}

static void says_why_it_cannot_open(void **state)
{
    (void)state;
    struct error err = {0};
    struct place place;
    struct key *key;
    place_init(&place);
    open_fails(place.uri, ERROR_NOT_FOUND, "key.pem");
    open_fails("file:key.pem", ERROR_INVALID, "expected an absolute path");
    open_fails("file:", ERROR_INVALID, "expected an absolute path");
    open_fails("file://host/key.pem", ERROR_INVALID, "expected an absolute path");
    open_fails("nonsense:x", ERROR_INVALID, "no readable private key");
    char folder[80];
    (void)snprintf(folder, sizeof folder, "file:%s", place.folder);
    open_fails(folder, ERROR_INVALID, "is not a file");

    assert_ok(file_write_atomic(place.path, slice_str("not a key\n"), 0600, &err));
    open_fails(place.uri, ERROR_INVALID, "private key in it");
    assert_ok(file_write_atomic(place.path, slice_str(""), 0600, &err));
    open_fails(place.uri, ERROR_INVALID, "private key in it");
    static const uint8_t big[KEY_FILE_MAX + 1];
    assert_ok(file_write_atomic(place.path, SLICE_OF(big), 0600, &err));
    open_fails(place.uri, ERROR_EXHAUSTED, "more than 65536 bytes");

    static const unsigned modes[] = {0640, 0604, 0620, 0602, 0610, 0644, 0666};
    assert_ok(key_generate(KEY_P256, &key, &err));
    assert_ok(key_save(key, place.path, &err));
    for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
        assert_int_equal(chmod(place.path, modes[i]), 0);
        open_fails(place.uri, ERROR_DENIED, "chmod 600");
    }
    assert_int_equal(chmod(place.path, 0400), 0); /* control */
    struct key *again;
    assert_ok(key_open(place.uri, &again, &err));
    key_unref(again);
    key_unref(key);
    testlib_folder_remove(place.folder);
}

static void an_encrypted_key_asks_nobody(void **state)
{
    (void)state;
    struct error err = {0};
    struct place place;
    struct key *key;
    place_init(&place);
    assert_ok(key_generate(KEY_P256, &key, &err));
    FILE *file = open_file(place.path);
    assert_int_equal(PEM_write_PKCS8PrivateKey(file, key_evp(key), EVP_aes_256_cbc(), "pass", 4,
                                               nullptr, nullptr),
                     1);
    fclose(file);
    assert_int_equal(chmod(place.path, 0600), 0);
    open_fails(place.uri, ERROR_INVALID, "private key in it"); /* and does not hang */
    key_unref(key);
    testlib_folder_remove(place.folder);
}

static void other_kinds_are_refused(void **state)
{
    (void)state;
    struct error err = {0};
    struct place place;
    place_init(&place);
    static const char *const says[] = {"not another curve of EC", "not RSA", "not ED25519"};
    EVP_PKEY *keys[] = {
        EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", "P-521"),
        EVP_PKEY_Q_keygen(nullptr, nullptr, "RSA", (size_t)2048),
        EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"),
    };
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        FILE *file = open_file(place.path);
        assert_int_equal(PEM_write_PrivateKey(file, keys[i], nullptr, nullptr, 0, nullptr, nullptr),
                         1);
        fclose(file);
        assert_int_equal(chmod(place.path, 0600), 0);
        open_fails(place.uri, ERROR_INVALID, says[i]);
        uint8_t *der = nullptr;
        int len = i2d_PUBKEY(keys[i], &der);
        struct key *key = POISON;
        assert_fails(key_from_public(slice(der, (size_t)len), &key, &err), ERROR_INVALID);
        assert_ptr_equal(key, POISON);
        OPENSSL_free(der);
        EVP_PKEY_free(keys[i]);
    }
    struct key *key = POISON;
    assert_fails(key_generate(KEY_OTHER, &key, &err), ERROR_INVALID);
    assert_ptr_equal(key, POISON);
    testlib_folder_remove(place.folder);
}

static void broken_public_keys_are_refused(void **state)
{
    (void)state;
    struct error err = {0};
    struct key *key, *none = POISON;
    CLEANUP(buf_done) struct buf der = {.max = 8192};
    assert_ok(key_generate(KEY_P256, &key, &err));
    assert_ok(key_public(key, &der, &err));
    for (size_t len = 0; len < der.len; len++)
        assert_fails(key_from_public(slice(der.data, len), &none, &err), ERROR_INVALID);
    buf_put_u8(&der, 0);
    assert_fails(key_from_public(buf_slice(&der), &none, &err), ERROR_INVALID);
    assert_error_contains("left over");
    assert_ptr_equal(none, POISON);
    key_unref(key);
}

static bool use_one(void *arg, struct error *err)
{
    struct place *place = arg;
    CLEANUP(key_unref_at) struct key *key = nullptr;
    CLEANUP(key_unref_at) struct key *again = nullptr;
    CLEANUP(buf_done) struct buf signature = {.max = KEY_SIGNATURE_MAX};
    return key_generate(KEY_P256, &key, err) && key_save(key, place->path, err) &&
           key_open(place->uri, &again, err) && key_sign(again, slice_str("x"), &signature, err) &&
           key_verify(key, slice_str("x"), buf_slice(&signature), err);
}

static void survives_want_of_memory(void **state)
{
    (void)state;
    struct place place;
    place_init(&place);
    testlib_allocation_sweep(use_one, &place);
    testlib_folder_remove(place.folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signs_what_verifies),
        cmocka_unit_test(the_digest_fits_the_curve),
        cmocka_unit_test(saves_and_opens),
        cmocka_unit_test(says_why_it_cannot_open),
        cmocka_unit_test(an_encrypted_key_asks_nobody),
        cmocka_unit_test(other_kinds_are_refused),
        cmocka_unit_test(broken_public_keys_are_refused),
        cmocka_unit_test(survives_want_of_memory),
    };
    return cmocka_run_group_tests_name("key", tests, nullptr, nullptr);
}
