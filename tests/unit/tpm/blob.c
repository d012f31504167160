#include "unit/tpm/blob.h"

#include "tpmwire/import.h"
#include "tpmwire/nv.h"
#include "tpmwire/policy.h"
#include "tpmwire/public.h"

void blob_make(struct tpm *tpm, const struct tpm_counter *counter, const char *seal, uint64_t more,
               struct blob *ret)
{
    struct error err = {0};
    *ret = (struct blob){.seal = select_pcrs(seal)};
    struct buf *const parts[] = {&ret->object_public, &ret->duplicate, &ret->seed,
                                 &ret->object_private};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        buf_init(parts[i], IMPORT_BLOB_WIRE_MAX);
    struct pcr_values values = {0};
    TPM2B_DIGEST pcrs = {0};
    TPM2B_DIGEST policy = {0};
    TPMS_NV_PUBLIC area = {0};
    TPM2B_NAME name = {0};
    TPM2B_PUBLIC wrap = {0};
    CLEANUP(buf_done) struct buf wire;
    buf_init(&wire, PUBLIC_AREA_WIRE_MAX);
    assert_ok(tpm_counter_read(tpm, counter, &ret->limit, &err));
    ret->limit += more;
    assert_ok(tpm_pcr_read(tpm, &ret->seal, &values, &err));
    assert_ok(pcr_composite_digest(TPM2_ALG_SHA256, &ret->seal, &values, &pcrs, &err));
    nv_counter_area(counter->index, true, &area);
    assert_ok(nv_area_name(&area, &name, &err));
    assert_ok(node_key_policy(&ret->seal, &pcrs, &name, ret->limit, &policy, &err));
    assert_ok(tpm_key_public(tpm, TPM_KEY_WRAP, &wire, &err));
    assert_ok(public_area_parse(buf_slice(&wire), &wrap, &err));
    assert_ok(secret_random(IMPORT_SECRET_SIZE, &ret->key, &err));
    assert_ok(import_blob_make(&wrap.publicArea, ret->key, &policy, &ret->object_public,
                               &ret->duplicate, &ret->seed, &err));
}

void blob_import(struct tpm *tpm, struct blob *blob)
{
    struct error err = {0};
    buf_clear(&blob->object_private);
    assert_ok(node_key_import(tpm, buf_slice(&blob->object_public), buf_slice(&blob->duplicate),
                              buf_slice(&blob->seed), &blob->object_private, &err));
}

void blob_done(struct blob *blob)
{
    blob->key = secret_free(blob->key);
    buf_done(&blob->object_public);
    buf_done(&blob->duplicate);
    buf_done(&blob->seed);
    buf_done(&blob->object_private);
}

struct node_key_sealed blob_sealed(const struct blob *blob)
{
    return (struct node_key_sealed){.object_public = buf_slice(&blob->object_public),
                                    .object_private = buf_slice(&blob->object_private),
                                    .seal = &blob->seal,
                                    .limit = blob->limit};
}
