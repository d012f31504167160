#include "vectors.h"

#include "base/mem.h"
#include "tpmwire/hash.h"
#include "tpmwire/import.h"
#include "tpmwire/public.h"

#include <stdio.h>

struct blob {
    struct buf public;
    struct buf duplicate;
    struct buf seed;
};

static void blob_init(struct blob *blob)
{
    buf_init(&blob->public, IMPORT_BLOB_WIRE_MAX);
    buf_init(&blob->duplicate, IMPORT_BLOB_WIRE_MAX);
    buf_init(&blob->seed, IMPORT_BLOB_WIRE_MAX);
}

static void blob_done(struct blob *blob)
{
    buf_done(&blob->public);
    buf_done(&blob->duplicate);
    buf_done(&blob->seed);
}

struct inputs {
    TPMT_PUBLIC parent;
    TPM2B_DIGEST policy;
    struct secret *secret;
};

static void inputs_fill(struct inputs *in, const char *parent)
{
    struct error err = {0};
    *in = (struct inputs){.parent = vector_area(parent), .policy = {.size = 32}};
    mem_copy(in->policy.buffer, vector("seal.policy").data, 32);
    assert_ok(secret_from(vector("node.secret"), &in->secret, &err));
}

static void inputs_done(struct inputs *in)
{
    in->secret = secret_free(in->secret);
}

static bool make(const struct inputs *in, struct blob *ret, struct error *err)
{
    return import_blob_make(&in->parent, in->secret, &in->policy, &ret->public, &ret->duplicate,
                            &ret->seed, err);
}

static struct slice part(const char *name, const char *what)
{
    char full[64];
    snprintf(full, sizeof full, "%s.%s", name, what);
    return vector(full);
}

/* With the recorded randomness, the very bytes that a TPM imported, loaded and unsealed; among them
 * points whose x begins with a zero byte. */
static void test_vectors(void **)
{
    struct error err = {0};
    static const struct {
        const char *name;
        const char *parent;
    } vectors[] = {
        {"import_ecc", "wrap"},
        {"import_rsa", "wrap_rsa"},
        {"import_zero_ephemeral", "wrap"},
        {"import_zero_shared", "wrap"},
        {"import_zero_parent", "zero"},
    };
    for (size_t i = 0; i < ARRAY_LEN(vectors); i++) {
        CLEANUP(inputs_done) struct inputs in;
        inputs_fill(&in, vectors[i].parent);
        CLEANUP(blob_done) struct blob blob;
        blob_init(&blob);
        struct slice random = part(vectors[i].name, "random");
        struct share_random share;
        assert_int_equal(random.len, IMPORT_SEED_VALUE_SIZE + sizeof share);
        mem_copy(&share, random.data + IMPORT_SEED_VALUE_SIZE, sizeof share);
        assert_ok(import_blob_make_with(&in.parent, in.secret, &in.policy, random.data, &share,
                                        &blob.public, &blob.duplicate, &blob.seed, &err));
        assert_true(slice_equal(buf_slice(&blob.public), part(vectors[i].name, "object_public")));
        assert_true(slice_equal(buf_slice(&blob.duplicate), part(vectors[i].name, "duplicate")));
        assert_true(slice_equal(buf_slice(&blob.seed), part(vectors[i].name, "seed")));
    }
}

static void test_public_area(void **)
{
    struct error err = {0};
    CLEANUP(inputs_done) struct inputs in;
    inputs_fill(&in, "wrap");
    CLEANUP(blob_done) struct blob blob;
    blob_init(&blob);
    assert_ok(make(&in, &blob, &err));
    TPM2B_PUBLIC public;
    TPM2B_PRIVATE duplicate;
    TPM2B_ENCRYPTED_SECRET seed;
    assert_ok(import_blob_parse(buf_slice(&blob.public), buf_slice(&blob.duplicate),
                                buf_slice(&blob.seed), &public, &duplicate, &seed, &err));
    const TPMT_PUBLIC *area = &public.publicArea;
    assert_int_equal(area->type, TPM2_ALG_KEYEDHASH);
    assert_int_equal(area->nameAlg, TPM2_ALG_SHA256);
    assert_int_equal(area->objectAttributes, 0x480);
    assert_int_equal(area->parameters.keyedHashDetail.scheme.scheme, TPM2_ALG_NULL);
    assert_int_equal(area->authPolicy.size, 32);
    assert_memory_equal(area->authPolicy.buffer, in.policy.buffer, 32);
    assert_int_equal(area->unique.keyedHash.size, 32);
    /* HMAC as TPM2B_DIGEST, then TPM2B_SENSITIVE, 74 bytes with its size */
    assert_int_equal(duplicate.size, 2 + 32 + 74);
    assert_memory_equal(duplicate.buffer, blob.duplicate.data + 2, duplicate.size);
    assert_memory_equal(seed.secret, blob.seed.data + 2, seed.size);
}

/* unique = H(seedValue ‖ secret). */
static void test_unique(void **)
{
    struct error err = {0};
    struct slice random = vector("import_ecc.random");
    const struct slice parts[] = {slice(random.data, 32), vector("node.secret")};
    TPM2B_DIGEST unique;
    assert_ok(tpm_hash(TPM2_ALG_SHA256, parts, 2, &unique, &err));
    struct slice public = vector("import_ecc.object_public");
    assert_memory_equal(public.data + public.len - 32, unique.buffer, 32);
}

static void test_drawn_randomness_differs(void **)
{
    struct error err = {0};
    CLEANUP(inputs_done) struct inputs in;
    inputs_fill(&in, "wrap");
    CLEANUP(blob_done) struct blob first;
    blob_init(&first);
    CLEANUP(blob_done) struct blob second;
    blob_init(&second);
    assert_ok(make(&in, &first, &err));
    assert_ok(make(&in, &second, &err));
    assert_false(slice_equal(buf_slice(&first.public), buf_slice(&second.public)));
    assert_false(slice_equal(buf_slice(&first.duplicate), buf_slice(&second.duplicate)));
    assert_false(slice_equal(buf_slice(&first.seed), buf_slice(&second.seed)));
}

static void test_make_refuses(void **)
{
    struct error err = {0};
    CLEANUP(inputs_done) struct inputs in;
    inputs_fill(&in, "wrap");
    CLEANUP(blob_done) struct blob blob;
    blob_init(&blob);
    in.policy.size = 48;
    assert_fails(make(&in, &blob, &err), ERROR_INVALID);
    assert_error_contains("policy");
    in.policy.size = 0;
    assert_fails(make(&in, &blob, &err), ERROR_INVALID);
    in.policy.size = 32;
    in.parent = vector_area("ak");
    assert_fails(make(&in, &blob, &err), ERROR_INVALID);
    assert_error_contains("storage key");
    in.parent = vector_area("wrap");
    in.parent.unique.ecc.x.buffer[0] ^= 1;
    assert_fails(make(&in, &blob, &err), ERROR_INVALID);
    assert_error_contains("curve");
    in.parent = vector_area("wrap");
    secret_shorten(in.secret, 31);
    assert_fails(make(&in, &blob, &err), ERROR_INVALID);
    assert_error_contains("secret");
    assert_int_equal(blob.public.len, 0);
    assert_int_equal(blob.duplicate.len, 0);
    assert_int_equal(blob.seed.len, 0);
}

static bool parse(struct slice public, struct slice duplicate, struct slice seed, struct error *err)
{
    TPM2B_PUBLIC ret_public = {.size = 0xa5a5};
    TPM2B_PRIVATE ret_duplicate = {.size = 0xa5a5};
    TPM2B_ENCRYPTED_SECRET ret_seed = {.size = 0xa5a5};
    bool ok =
        import_blob_parse(public, duplicate, seed, &ret_public, &ret_duplicate, &ret_seed, err);
    assert_true(ok || (ret_public.size == 0xa5a5 && ret_duplicate.size == 0xa5a5 &&
                       ret_seed.size == 0xa5a5));
    return ok;
}

static bool parse_public(struct slice wire, struct error *err)
{
    return parse(wire, vector("import_ecc.duplicate"), vector("import_ecc.seed"), err);
}

static bool parse_duplicate(struct slice wire, struct error *err)
{
    return parse(vector("import_ecc.object_public"), wire, vector("import_ecc.seed"), err);
}

static bool parse_seed(struct slice wire, struct error *err)
{
    return parse(vector("import_ecc.object_public"), vector("import_ecc.duplicate"), wire, err);
}

static void test_parse_refuses(void **)
{
    struct error err = {0};
    assert_whole_only(vector("import_ecc.object_public"), parse_public);
    assert_whole_only(vector("import_ecc.duplicate"), parse_duplicate);
    assert_whole_only(vector("import_ecc.seed"), parse_seed);

    uint8_t big[2048] = {0x07, 0xfe};
    assert_fails(parse_duplicate(SLICE_OF(big), &err), ERROR_INVALID);
    assert_fails(parse_seed(SLICE_OF(big), &err), ERROR_INVALID);
    assert_fails(parse_public(SLICE_OF(big), &err), ERROR_INVALID);

    assert_fails(parse_public(vector("ak.public"), &err), ERROR_INVALID);
    assert_error_contains("no sealed data");
    struct slice good = vector("import_ecc.object_public");
    uint8_t changed[256];
    assert_true(good.len <= sizeof changed);
    for (unsigned bit = 0; bit < 32; bit++) { /* attributes are at 6 */
        mem_copy(changed, good.data, good.len);
        changed[6 + bit / 8] ^= (uint8_t)(1u << (bit % 8));
        assert_fails(parse_public(slice(changed, good.len), &err), ERROR_INVALID);
        assert_error_contains("attributes");
    }
    TPM2B_PUBLIC area;
    assert_ok(public_area_parse(good, &area, &err));
    area.publicArea.authPolicy.size = 0;
    CLEANUP(buf_done) struct buf wire;
    buf_init(&wire, IMPORT_BLOB_WIRE_MAX);
    assert_ok(public_area_marshal(&area.publicArea, &wire, &err));
    assert_fails(parse_public(buf_slice(&wire), &err), ERROR_INVALID);
    assert_error_contains("policy");
    buf_clear(&wire);
    assert_ok(public_area_parse(good, &area, &err));
    area.publicArea.parameters.keyedHashDetail.scheme.scheme = TPM2_ALG_HMAC;
    area.publicArea.parameters.keyedHashDetail.scheme.details.hmac.hashAlg = TPM2_ALG_SHA256;
    assert_ok(public_area_marshal(&area.publicArea, &wire, &err));
    assert_fails(parse_public(buf_slice(&wire), &err), ERROR_INVALID);
    assert_error_contains("no sealed data");
}

static bool sweep_body(void *arg, struct error *err)
{
    CLEANUP(blob_done) struct blob blob;
    blob_init(&blob);
    return make(arg, &blob, err);
}

static void test_make_without_memory(void **)
{
    CLEANUP(inputs_done) struct inputs in;
    inputs_fill(&in, "wrap");
    testlib_allocation_sweep(sweep_body, &in);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_public_area),
        cmocka_unit_test(test_unique),
        cmocka_unit_test(test_drawn_randomness_differs),
        cmocka_unit_test(test_make_refuses),
        cmocka_unit_test(test_parse_refuses),
        cmocka_unit_test(test_make_without_memory),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
