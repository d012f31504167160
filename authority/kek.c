#include "kek.h"

#include "base/crypt.h"
#include "base/file.h"
#include "base/mem.h"

#include <sys/stat.h>

constexpr uint8_t KEK_VERSION = 1;
constexpr size_t KEK_SALT_SIZE = 32;

struct kek {
    struct secret *key;
};

bool kek_create(const char *path, struct error *err)
{
    CLEANUP(secret_free_at) struct secret *key = nullptr;
    return secret_random(KEK_SIZE, &key, err) &&
           file_write_atomic(path, secret_slice(key), 0600, err);
}

bool kek_open(const char *path, struct kek **ret, struct error *err)
{
    struct stat info;
    if (stat(path, &info) == 0 && (info.st_mode & 077) != 0)
        return error_set(err, ERROR_DENIED,
                         "%s: others than its owner can use this key file; chmod 600 it", path);
    CLEANUP(secret_free_at) struct secret *key = nullptr;
    if (!file_read_secret(path, &key, err))
        return false;
    if (secret_len(key) != KEK_SIZE)
        return error_set(err, ERROR_INVALID, "%s: expected %zu bytes, found %zu", path, KEK_SIZE,
                         secret_len(key));
    struct kek *kek = mem_new(1, sizeof(*kek));
    if (!kek)
        return error_set_memory(err);
    kek->key = TAKE(key);
    *ret = kek;
    return true;
}

struct kek *kek_free(struct kek *kek)
{
    if (!kek)
        return nullptr;
    secret_free(kek->key);
    return mem_free(kek);
}

/* Key ‖ IV for this salt and context. */
static bool derive(const struct kek *kek, struct slice salt, struct slice context,
                   struct secret **ret, struct error *err)
{
    uint8_t digest[SHA256_SIZE];
    CLEANUP(buf_done) struct buf info;
    buf_init(&info, 64);
    if (!sha256(context, digest, err))
        return false;
    buf_put(&info, slice_str("postern kek v1"));
    buf_put(&info, SLICE_OF(digest));
    return buf_ok(&info, err) &&
           hkdf_sha256(kek->key, salt, buf_slice(&info), AEAD_KEY_SIZE + AEAD_IV_SIZE, ret, err);
}

bool kek_wrap(const struct kek *kek, struct slice context, const struct secret *plain,
              struct buf *ret, struct error *err)
{
    uint8_t salt[KEK_SALT_SIZE];
    CLEANUP(secret_free_at) struct secret *derived = nullptr;
    if (!random_bytes(salt, sizeof(salt), err) ||
        !derive(kek, SLICE_OF(salt), context, &derived, err))
        return false;
    buf_put_u8(ret, KEK_VERSION);
    buf_put(ret, SLICE_OF(salt));
    const uint8_t *bytes = secret_data(derived);
    return aead_seal(slice(bytes, AEAD_KEY_SIZE), slice(bytes + AEAD_KEY_SIZE, AEAD_IV_SIZE),
                     context, secret_slice(plain), ret, err) &&
           buf_ok(ret, err);
}

bool kek_unwrap(const struct kek *kek, struct slice context, struct slice wrapped,
                struct secret **ret, struct error *err)
{
    struct reader in = reader(wrapped);
    uint8_t version = reader_u8(&in);
    struct slice salt = reader_take(&in, KEK_SALT_SIZE);
    if (!reader_ok(&in) || version != KEK_VERSION)
        return error_set(err, ERROR_INTERNAL, "a wrapped key that nobody here wrote");
    CLEANUP(secret_free_at) struct secret *derived = nullptr;
    if (!derive(kek, salt, context, &derived, err))
        return false;
    const uint8_t *bytes = secret_data(derived);
    if (aead_open(slice(bytes, AEAD_KEY_SIZE), slice(bytes + AEAD_KEY_SIZE, AEAD_IV_SIZE), context,
                  in.rest, ret, err))
        return true;
    if (err->class == ERROR_DENIED)
        return error_set_reason(err, ERROR_DENIED, "KEK_MISMATCH",
                                "the key-encryption key in kek is not the one that wrapped this "
                                "row of the database, or the row was changed");
    return false;
}
