#include "keys/key.h"

#include "base/file.h"
#include "base/mem.h"

#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/store.h>
#include <openssl/ui.h>
#include <openssl/x509.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>

struct key {
    EVP_PKEY *evp;
    enum key_kind kind;
    bool is_private;
    atomic_uint references;
};

static const struct {
    const char *name;      /* ours */
    const char *algorithm; /* libcrypto's */
    const char *group;     /* for EC */
    const char *digest;    /* NULL: the algorithm has its own */
} KINDS[] = {
    [KEY_OTHER] = {"unknown kind", nullptr, nullptr, nullptr},
    [KEY_P256] = {"P-256", "EC", "prime256v1", "SHA256"},
    [KEY_P384] = {"P-384", "EC", "secp384r1", "SHA384"},
    [KEY_ML_DSA_65] = {"ML-DSA-65", "ML-DSA-65", nullptr, nullptr},
};

static enum key_kind kind_of(EVP_PKEY *evp)
{
    char group[64] = "";
    size_t len = 0;
    if (EVP_PKEY_is_a(evp, "EC") && EVP_PKEY_get_group_name(evp, group, sizeof group, &len) != 1)
        return KEY_OTHER;
    for (enum key_kind kind = KEY_P256; kind < ARRAY_LEN(KINDS); kind++) {
        if (EVP_PKEY_is_a(evp, KINDS[kind].algorithm) &&
            (!KINDS[kind].group || strcmp(group, KINDS[kind].group) == 0))
            return kind;
    }
    return KEY_OTHER;
}

/* Takes `evp` over, also on failure. */
static bool key_make(EVP_PKEY *evp, bool is_private, struct key **ret, struct error *err)
{
    enum key_kind kind = kind_of(evp);
    if (kind == KEY_OTHER) {
        const char *name = EVP_PKEY_get0_type_name(evp);
        error_set(err, ERROR_INVALID, "expected a P-256, P-384 or ML-DSA-65 key, not %s%s",
                  EVP_PKEY_is_a(evp, "EC") ? "another curve of " : "", name ? name : "unknown");
        EVP_PKEY_free(evp);
        return false;
    }
    struct key *key = mem_new(1, sizeof *key);
    if (!key) {
        EVP_PKEY_free(evp);
        return error_set_memory(err);
    }
    key->evp = evp;
    key->kind = kind;
    key->is_private = is_private;
    atomic_init(&key->references, 1);
    *ret = key;
    return true;
}

/* RFC 8089 section 2: the path of a file: URI, with no authority or an empty one. NULL for others. */
static const char *file_path(const char *uri)
{
    if (strncmp(uri, "file:", 5) != 0)
        return nullptr;
    const char *path = uri + 5;
    return strncmp(path, "///", 3) == 0 ? path + 2 : path;
}

static bool check_file(const char *path, struct error *err)
{
    struct stat st;
    if (path[0] != '/' || path[1] == '/')
        return error_set(err, ERROR_INVALID, "expected an absolute path: file:/path/to/key");
    if (stat(path, &st) != 0)
        return error_set_errno(err, errno, "%s", path);
    if (!S_ISREG(st.st_mode))
        return error_set(err, ERROR_INVALID, "%s is not a file", path);
    if ((size_t)st.st_size > KEY_FILE_MAX)
        return error_set(err, ERROR_EXHAUSTED, "%s has more than %zu bytes", path, KEY_FILE_MAX);
    if ((st.st_mode & 0077) != 0)
        return error_set(err, ERROR_DENIED,
                         "%s can be read or written by others (mode %04o): chmod 600 it, and think "
                         "about replacing the key",
                         path, (unsigned)st.st_mode & 07777);
    return true;
}

/* The first private key. NULL if there is none; OpenSSL's queue then may say why. */
static EVP_PKEY *load(const char *uri)
{
    /* UI_null: an encrypted key fails, instead of asking for a password on the terminal. */
    OSSL_STORE_CTX *store = OSSL_STORE_open(uri, UI_null(), nullptr, nullptr, nullptr);
    if (!store)
        return nullptr;
    EVP_PKEY *found = nullptr;
    if (OSSL_STORE_expect(store, OSSL_STORE_INFO_PKEY) == 1) {
        while (!found && !OSSL_STORE_eof(store)) {
            OSSL_STORE_INFO *info = OSSL_STORE_load(store);
            if (!info) {
                if (OSSL_STORE_error(store))
                    break;
                continue;
            }
            if (OSSL_STORE_INFO_get_type(info) == OSSL_STORE_INFO_PKEY)
                found = OSSL_STORE_INFO_get1_PKEY(info);
            OSSL_STORE_INFO_free(info);
        }
    }
    OSSL_STORE_close(store);
    return found;
}

bool key_open(const char *uri, struct key **ret, struct error *err)
{
    const char *path = file_path(uri);
    if (path && !check_file(path, err))
        return error_prefix(err, "cannot open the key %s", uri);
    ERR_clear_error();
    EVP_PKEY *evp = load(uri);
    if (!evp) {
        if (ERR_peek_error() == 0)
            return error_set(err, ERROR_INVALID, "cannot open the key %s: no private key in it",
                             uri);
        return error_set_openssl(err, ERROR_INVALID,
                                 "cannot open the key %s: no readable private key in it", uri);
    }
    ERR_clear_error(); /* of decoders that were tried in vain */
    return key_make(evp, true, ret, err) || error_prefix(err, "cannot use the key %s", uri);
}

bool key_generate(enum key_kind kind, struct key **ret, struct error *err)
{
    if (kind <= KEY_OTHER || kind >= ARRAY_LEN(KINDS))
        return error_set(err, ERROR_INVALID, "no such kind of key");
    EVP_PKEY *evp = KINDS[kind].group ? EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", KINDS[kind].group)
                                      : EVP_PKEY_Q_keygen(nullptr, nullptr, KINDS[kind].algorithm);
    if (!evp)
        return error_set_openssl(err, ERROR_INTERNAL, "cannot make a %s key", KINDS[kind].name);
    return key_make(evp, true, ret, err);
}

bool key_from_public(struct slice spki, struct key **ret, struct error *err)
{
    const uint8_t *at = spki.data;
    EVP_PKEY *evp = spki.len <= KEY_FILE_MAX ? d2i_PUBKEY(nullptr, &at, (long)spki.len) : nullptr;
    if (!evp)
        return error_set_openssl(err, ERROR_INVALID, "not a SubjectPublicKeyInfo");
    if (at != spki.data + spki.len) {
        EVP_PKEY_free(evp);
        return error_set(err, ERROR_INVALID, "bytes are left over after the public key");
    }
    return key_make(evp, false, ret, err);
}

bool key_save(const struct key *key, const char *path, struct error *err)
{
    if (!key->is_private)
        return error_set(err, ERROR_INVALID, "%s: a public key can't be saved as a private one",
                         path);
    bool ok = false;
    char *pem = nullptr;
    /* Its memory is erased when freed. */
    BIO *bio = BIO_new(BIO_s_secmem());
    if (!bio ||
        PEM_write_bio_PKCS8PrivateKey(bio, key->evp, nullptr, nullptr, 0, nullptr, nullptr) != 1) {
        error_set_openssl(err, ERROR_INTERNAL, "%s: cannot encode the key", path);
    } else {
        long len = BIO_get_mem_data(bio, &pem);
        ok = file_write_atomic(path, slice(pem, (size_t)len), 0600, err);
    }
    BIO_free(bio);
    return ok;
}

bool key_public(const struct key *key, struct buf *ret, struct error *err)
{
    uint8_t *der = nullptr;
    int len = i2d_PUBKEY(key->evp, &der);
    if (len <= 0)
        return error_set_openssl(err, ERROR_INTERNAL, "cannot encode the public key");
    buf_put(ret, slice(der, (size_t)len));
    OPENSSL_free(der);
    return buf_ok(ret, err);
}

enum key_kind key_kind(const struct key *key)
{
    return key->kind;
}

const char *key_kind_name(enum key_kind kind)
{
    return KINDS[kind < ARRAY_LEN(KINDS) ? kind : KEY_OTHER].name;
}

EVP_PKEY *key_evp(const struct key *key)
{
    return key->evp;
}

bool key_sign(const struct key *key, struct slice bytes, struct buf *ret, struct error *err)
{
    if (!key->is_private)
        return error_set(err, ERROR_INVALID, "a public key can't sign");
    uint8_t signature[KEY_SIGNATURE_MAX];
    size_t len = sizeof signature;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx &&
              EVP_DigestSignInit_ex(ctx, nullptr, KINDS[key->kind].digest, nullptr, nullptr,
                                    key->evp, nullptr) == 1 &&
              EVP_DigestSign(ctx, signature, &len, bytes.data, bytes.len) == 1;
    EVP_MD_CTX_free(ctx);
    if (!ok)
        return error_set_openssl(err, ERROR_INTERNAL, "cannot sign with the %s key",
                                 KINDS[key->kind].name);
    buf_put(ret, slice(signature, len));
    return buf_ok(ret, err);
}

bool key_verify(const struct key *key, struct slice bytes, struct slice signature,
                struct error *err)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    if (!ctx)
        return error_set_memory(err);
    bool ok = EVP_DigestVerifyInit_ex(ctx, nullptr, KINDS[key->kind].digest, nullptr, nullptr,
                                      key->evp, nullptr) == 1 &&
              EVP_DigestVerify(ctx, signature.data, signature.len, bytes.data, bytes.len) == 1;
    EVP_MD_CTX_free(ctx);
    ERR_clear_error(); /* a broken encoding of a signature is no more than a wrong one */
    return ok || error_set(err, ERROR_DENIED, "the signature does not match");
}

struct key *key_ref(struct key *key)
{
    atomic_fetch_add_explicit(&key->references, 1, memory_order_relaxed);
    return key;
}

struct key *key_unref(struct key *key)
{
    if (!key || atomic_fetch_sub_explicit(&key->references, 1, memory_order_acq_rel) != 1)
        return nullptr;
    EVP_PKEY_free(key->evp);
    return mem_free(key);
}
