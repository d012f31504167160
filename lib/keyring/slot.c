#include "keyring/slot.h"

#include "base/crypt.h"

static const uint8_t magic[8] = "PSLOT1\0"; /* with its NUL: eight bytes */

bool slot_encode(const struct slot_parts *parts, struct buf *ret, struct error *err)
{
    size_t size = sizeof(magic) + 12 + parts->header.len + parts->ciphertext.len +
                  parts->packets.len + SHA256_SIZE;
    if (parts->header.len > SLOT_HEADER_MAX || parts->ciphertext.len > SLOT_SIZE_MAX ||
        parts->packets.len > SLOT_SIZE_MAX || size > SLOT_SIZE_MAX)
        return error_set(err, ERROR_EXHAUSTED,
                         "a slot of %zu bytes is over the limit of %zu: fewer or smaller secrets "
                         "fit on a node",
                         size, SLOT_SIZE_MAX);
    size_t start = ret->len;
    buf_put(ret, SLICE_OF(magic));
    buf_put_prefixed(ret, parts->header);
    buf_put_prefixed(ret, parts->ciphertext);
    buf_put_prefixed(ret, parts->packets);
    if (!buf_ok(ret, err))
        return false;
    uint8_t digest[SHA256_SIZE];
    if (!sha256(slice(ret->data + start, ret->len - start), digest, err))
        return false;
    buf_put(ret, SLICE_OF(digest));
    return buf_ok(ret, err);
}

bool slot_decode(struct slice file, struct slot_parts *ret, struct error *err)
{
    if (file.len < sizeof(magic) + SHA256_SIZE || file.len > SLOT_SIZE_MAX ||
        memcmp(file.data, magic, sizeof(magic)) != 0)
        return error_set(err, ERROR_INVALID, "not a slot file");
    struct slice body = slice(file.data, file.len - SHA256_SIZE);
    uint8_t digest[SHA256_SIZE];
    if (!sha256(body, digest, err))
        return false;
    if (memcmp(digest, file.data + body.len, sizeof(digest)) != 0)
        return error_set(err, ERROR_INVALID, "the slot file is torn or damaged");
    struct reader in = reader(slice(body.data + sizeof(magic), body.len - sizeof(magic)));
    struct slot_parts parts = {
        .header = reader_take(&in, reader_u32(&in)),
        .ciphertext = reader_take(&in, reader_u32(&in)),
        .packets = reader_take(&in, reader_u32(&in)),
    };
    if (!reader_end(&in) || parts.header.len > SLOT_HEADER_MAX)
        return error_set(err, ERROR_INVALID, "the slot file's lengths do not fit");
    *ret = parts;
    return true;
}
