#include "keyring/envelope.h"

#include "base/crypt.h"

static const char *const labels[] = {
    [ENVELOPE_PACKET] = "postern packet v1",
    [ENVELOPE_SLOT] = "postern slot v1",
};

struct envelope_keys {
    struct secret *material; /* key ‖ IV */
};

static struct slice keys_key(const struct envelope_keys *keys)
{
    return slice(secret_slice(keys->material).data, AEAD_KEY_SIZE);
}

static struct slice keys_iv(const struct envelope_keys *keys)
{
    return slice(secret_slice(keys->material).data + AEAD_KEY_SIZE, AEAD_IV_SIZE);
}

static void keys_done(struct envelope_keys *keys)
{
    keys->material = secret_free(keys->material);
}

static bool keys_derive(enum envelope_kind kind, const struct secret *node_key, struct slice header,
                        struct slice salt, struct envelope_keys *ret, struct error *err)
{
    if (secret_len(node_key) != NODE_KEY_SIZE || salt.len != ENVELOPE_SALT_SIZE)
        return error_set(err, ERROR_INVALID, "a node key has %zu bytes and a salt %zu",
                         NODE_KEY_SIZE, ENVELOPE_SALT_SIZE);
    uint8_t header_hash[SHA256_SIZE];
    if (!sha256(header, header_hash, err))
        return false;
    CLEANUP(buf_done) struct buf info;
    buf_init(&info, 128);
    buf_put(&info, slice_str(labels[kind]));
    buf_put(&info, SLICE_OF(header_hash));
    return buf_ok(&info, err) && hkdf_sha256(node_key, salt, buf_slice(&info),
                                             AEAD_KEY_SIZE + AEAD_IV_SIZE, &ret->material, err);
}

bool envelope_seal(enum envelope_kind kind, const struct secret *node_key, struct slice header,
                   struct slice salt, struct slice plain, struct buf *ret, struct error *err)
{
    CLEANUP(keys_done) struct envelope_keys keys = {0};
    return keys_derive(kind, node_key, header, salt, &keys, err) &&
           aead_seal(keys_key(&keys), keys_iv(&keys), header, plain, ret, err);
}

bool envelope_open(enum envelope_kind kind, const struct secret *node_key, struct slice header,
                   struct slice salt, struct slice ciphertext, struct secret **ret,
                   struct error *err)
{
    CLEANUP(keys_done) struct envelope_keys keys = {0};
    return keys_derive(kind, node_key, header, salt, &keys, err) &&
           aead_open(keys_key(&keys), keys_iv(&keys), header, ciphertext, ret, err);
}
