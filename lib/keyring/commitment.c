#include "keyring/commitment.h"

#include "base/mem.h"

#include <openssl/evp.h>

/* Hashed in pieces, so that the value is nowhere copied. */
bool commitment_compute(const struct version_name *version, struct slice r, struct slice value,
                        uint8_t ret[static SHA256_SIZE], struct error *err)
{
    CLEANUP(buf_done) struct buf head;
    buf_init(&head, 1024);
    buf_put(&head, slice_str("postern commit v1"));
    buf_put_prefixed(&head, slice_str(version->name));
    buf_put_u32(&head, version->epoch);
    buf_put_u64(&head, version->version);
    if (!buf_ok(&head, err))
        return false;
    if (r.len != COMMITMENT_R_SIZE)
        return error_set(err, ERROR_INVALID, "r has %zu bytes, expected %zu", r.len,
                         COMMITMENT_R_SIZE);

    uint8_t digest[SHA256_SIZE];
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool ok = context && EVP_DigestInit_ex(context, EVP_sha256(), nullptr) == 1 &&
              EVP_DigestUpdate(context, head.data, head.len) == 1 &&
              EVP_DigestUpdate(context, r.data, r.len) == 1 &&
              EVP_DigestUpdate(context, value.data, value.len) == 1 &&
              EVP_DigestFinal_ex(context, digest, nullptr) == 1;
    EVP_MD_CTX_free(context);
    if (!ok)
        return error_set_openssl(err, ERROR_INTERNAL, "hash a commitment");
    mem_copy(ret, digest, sizeof(digest));
    return true;
}
