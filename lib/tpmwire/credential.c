#include "tpmwire/credential.h"

#include "base/mem.h"
#include "tpmwire/hash.h"
#include "wire.h"

/* TPM2B_DIGEST and its encryption are both small; bytes of each. */
constexpr size_t CREDENTIAL_WIRE_MAX = 256;

bool credential_make_with(const TPMT_PUBLIC *ek, const TPM2B_NAME *name,
                          const struct secret *secret, const struct share_random *random,
                          struct buf *ret_blob, struct buf *ret_secret, struct error *err)
{
    size_t len = secret_len(secret);
    if (len == 0 || len > tpm_hash_size(ek->nameAlg)) {
        return error_set(err, ERROR_INVALID, "credential: %zu bytes do not fit the EK's nameAlg",
                         len);
    }
    CLEANUP(secret_free_at) struct secret *seed = nullptr;
    CLEANUP(secret_free_at) struct secret *plain = nullptr; /* TPM2B_DIGEST */
    TPM2B_ENCRYPTED_SECRET shared;
    if (!share_make(ek, "IDENTITY", random, &seed, &shared, err) ||
        !secret_new(2 + len, &plain, err)) {
        return false;
    }
    uint8_t *at = secret_data(plain);
    at[0] = (uint8_t)(len >> 8);
    at[1] = (uint8_t)len;
    mem_copy(at + 2, secret_slice(secret).data, len);

    CLEANUP(buf_done) struct buf wrapped;
    buf_init(&wrapped, CREDENTIAL_WIRE_MAX);
    if (!share_wrap(ek, seed, name, secret_slice(plain), &wrapped, err)) {
        return false;
    }
    return wire_put_sized(ret_blob, buf_slice(&wrapped), err) &&
           wire_put_sized(ret_secret, slice(shared.secret, shared.size), err);
}

bool credential_make(const TPMT_PUBLIC *ek, const TPM2B_NAME *name, const struct secret *secret,
                     struct buf *ret_blob, struct buf *ret_secret, struct error *err)
{
    struct share_random random;
    if (!share_random(ek, &random, err)) {
        return false;
    }
    bool ok = credential_make_with(ek, name, secret, &random, ret_blob, ret_secret, err);
    mem_wipe(&random, sizeof random);
    return ok;
}

bool credential_parse(struct slice blob, struct slice secret, TPM2B_ID_OBJECT *ret_blob,
                      TPM2B_ENCRYPTED_SECRET *ret_secret, struct error *err)
{
    struct slice id;
    struct slice shared;
    if (!wire_sized(blob, 2 + sizeof ret_blob->credential, "credential", &id, err) ||
        !wire_sized(secret, 2 + sizeof ret_secret->secret, "credential's secret", &shared, err)) {
        return false;
    }
    *ret_blob = (TPM2B_ID_OBJECT){.size = (uint16_t)id.len};
    mem_copy(ret_blob->credential, id.data, id.len);
    *ret_secret = (TPM2B_ENCRYPTED_SECRET){.size = (uint16_t)shared.len};
    mem_copy(ret_secret->secret, shared.data, shared.len);
    return true;
}
