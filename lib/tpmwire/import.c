#include "tpmwire/import.h"

#include "base/crypt.h"
#include "base/mem.h"
#include "tpmwire/hash.h"
#include "tpmwire/public.h"
#include "wire.h"

/* TPM2B_SENSITIVE: size, sensitiveType, authValue (empty), seedValue, sensitive. */
constexpr size_t SENSITIVE_SIZE =
    2 + 2 + 2 + (2 + IMPORT_SEED_VALUE_SIZE) + (2 + IMPORT_SECRET_SIZE);

static uint8_t *put_u16(uint8_t *at, size_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
    return at + 2;
}

/* By hand and not by the marshalling library: its structure of 2.5 KiB would lie on the stack with
 * the secret in it. */
static bool sensitive_make(const struct secret *secret, struct slice seed_value,
                           struct secret **ret, struct error *err)
{
    CLEANUP(secret_free_at) struct secret *sensitive = nullptr;
    if (!secret_new(SENSITIVE_SIZE, &sensitive, err)) {
        return false;
    }
    uint8_t *at = secret_data(sensitive);
    at = put_u16(at, SENSITIVE_SIZE - 2);
    at = put_u16(at, TPM2_ALG_KEYEDHASH);
    at = put_u16(at, 0);
    at = put_u16(at, seed_value.len);
    mem_copy(at, seed_value.data, seed_value.len);
    at = put_u16(at + seed_value.len, IMPORT_SECRET_SIZE);
    mem_copy(at, secret_slice(secret).data, IMPORT_SECRET_SIZE);
    *ret = TAKE(sensitive);
    return true;
}

static bool public_make(const struct secret *secret, struct slice seed_value,
                        const TPM2B_DIGEST *policy, TPMT_PUBLIC *ret, struct error *err)
{
    *ret = (TPMT_PUBLIC){
        .type = TPM2_ALG_KEYEDHASH,
        .nameAlg = TPM2_ALG_SHA256,
        .objectAttributes = IMPORT_BLOB_ATTRIBUTES,
        .authPolicy = *policy,
        .parameters.keyedHashDetail.scheme.scheme = TPM2_ALG_NULL,
    };
    const struct slice parts[] = {seed_value, secret_slice(secret)};
    return tpm_hash(TPM2_ALG_SHA256, parts, ARRAY_LEN(parts), &ret->unique.keyedHash, err);
}

bool import_blob_make_with(const TPMT_PUBLIC *parent, const struct secret *secret,
                           const TPM2B_DIGEST *policy,
                           const uint8_t seed_value[static IMPORT_SEED_VALUE_SIZE],
                           const struct share_random *random, struct buf *ret_public,
                           struct buf *ret_duplicate, struct buf *ret_seed, struct error *err)
{
    if (secret_len(secret) != IMPORT_SECRET_SIZE || policy->size != SHA256_SIZE) {
        return error_set(err, ERROR_INVALID, "import blob: %s must have 32 bytes",
                         policy->size != SHA256_SIZE ? "the policy" : "the secret");
    }
    struct slice obfuscation = slice(seed_value, IMPORT_SEED_VALUE_SIZE);
    TPMT_PUBLIC area;
    TPM2B_NAME name;
    CLEANUP(secret_free_at) struct secret *sensitive = nullptr;
    CLEANUP(secret_free_at) struct secret *seed = nullptr;
    TPM2B_ENCRYPTED_SECRET shared;
    CLEANUP(buf_done) struct buf wrapped;
    buf_init(&wrapped, IMPORT_BLOB_WIRE_MAX);
    CLEANUP(buf_done) struct buf public;
    buf_init(&public, IMPORT_BLOB_WIRE_MAX);
    if (!public_make(secret, obfuscation, policy, &area, err) ||
        !public_area_name(&area, &name, err) ||
        !sensitive_make(secret, obfuscation, &sensitive, err) ||
        !share_make(parent, "DUPLICATE", random, &seed, &shared, err) ||
        !share_wrap(parent, seed, &name, secret_slice(sensitive), &wrapped, err) ||
        !public_area_marshal(&area, &public, err)) {
        return false;
    }
    buf_put(ret_public, buf_slice(&public));
    return buf_ok(ret_public, err) && wire_put_sized(ret_duplicate, buf_slice(&wrapped), err) &&
           wire_put_sized(ret_seed, slice(shared.secret, shared.size), err);
}

bool import_blob_make(const TPMT_PUBLIC *parent, const struct secret *secret,
                      const TPM2B_DIGEST *policy, struct buf *ret_public, struct buf *ret_duplicate,
                      struct buf *ret_seed, struct error *err)
{
    uint8_t seed_value[IMPORT_SEED_VALUE_SIZE];
    struct share_random random;
    bool ok = random_bytes(seed_value, sizeof seed_value, err) &&
              share_random(parent, &random, err) &&
              import_blob_make_with(parent, secret, policy, seed_value, &random, ret_public,
                                    ret_duplicate, ret_seed, err);
    mem_wipe(seed_value, sizeof seed_value);
    mem_wipe(&random, sizeof random);
    return ok;
}

bool import_blob_parse(struct slice object_public, struct slice duplicate, struct slice seed,
                       TPM2B_PUBLIC *ret_public, TPM2B_PRIVATE *ret_duplicate,
                       TPM2B_ENCRYPTED_SECRET *ret_seed, struct error *err)
{
    TPM2B_PUBLIC area;
    struct slice private;
    struct slice shared;
    if (!public_area_parse(object_public, &area, err) ||
        !wire_sized(duplicate, IMPORT_BLOB_WIRE_MAX, "duplicate", &private, err) ||
        !wire_sized(seed, 2 + sizeof ret_seed->secret, "seed", &shared, err)) {
        return false;
    }
    const TPMT_PUBLIC *object = &area.publicArea;
    if (object->type != TPM2_ALG_KEYEDHASH || object->nameAlg != TPM2_ALG_SHA256 ||
        object->parameters.keyedHashDetail.scheme.scheme != TPM2_ALG_NULL) {
        return error_set(err, ERROR_INVALID, "import blob: it is no sealed data object");
    }
    if (object->objectAttributes != IMPORT_BLOB_ATTRIBUTES) {
        return error_set(err, ERROR_INVALID, "import blob: attributes are 0x%x instead of 0x%x",
                         object->objectAttributes, IMPORT_BLOB_ATTRIBUTES);
    }
    if (object->authPolicy.size != SHA256_SIZE) {
        return error_set(err, ERROR_INVALID, "import blob: it has no policy");
    }
    *ret_public = area;
    *ret_duplicate = (TPM2B_PRIVATE){.size = (uint16_t)private.len};
    mem_copy(ret_duplicate->buffer, private.data, private.len);
    *ret_seed = (TPM2B_ENCRYPTED_SECRET){.size = (uint16_t)shared.len};
    mem_copy(ret_seed->secret, shared.data, shared.len);
    return true;
}
