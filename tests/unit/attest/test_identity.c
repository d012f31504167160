/* attest/identity.h */
#include "unit/attest/scene.h"

#include "attest/identity.h"
#include "base/mem.h"
#include "base/text.h"
#include "tpmwire/public.h"

static struct softtpm tpm;

static int set_up(void **state)
{
    (void)state;
    softtpm_make(&tpm);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    softtpm_done(&tpm);
    return 0;
}

static void says_who_it_is(void **state)
{
    (void)state;
    struct error err = {0};
    struct scene scene;
    scene_play(&scene, &tpm);
    const struct attest_identity *id = &scene.identity;
    TPM2B_NAME name;
    assert_ok(public_area_name(&scene.ek, &name, &err));
    assert_true(name_equal(&name, &id->ek_name));
    uint8_t digest[SHA256_SIZE];
    char expected[AGENT_ID_SIZE];
    assert_ok(sha256(name_slice(&name), digest, &err));
    hex_encode(slice(digest, 16), expected);
    assert_string_equal(id->agent_id, expected);
    assert_ok(public_area_name(&scene.wrap, &name, &err));
    assert_true(name_equal(&name, &id->wrap_name));
    assert_ok(public_area_name(&scene.req, &name, &err));
    assert_true(name_equal(&name, &id->req_name));
    assert_int_equal(id->counter.nvPublic.nvIndex, SCENE_COUNTER_INDEX);
    assert_int_equal(id->counter_name.size, 34);
    scene_close(&scene);
}

static void assert_refused(const Postern__V1__Hello *hello, const char *field)
{
    struct error err = {0};
    struct attest_identity id, poison;
    memset(&id, 0xa5, sizeof(id));
    poison = id;
    assert_fails(attest_identity_parse(hello, &id, &err), ERROR_INVALID);
    assert_string_equal(err.field, field);
    assert_memory_equal(&id, &poison, sizeof(id));
}

/* Each area at every length, with something behind it, and far too long. */
static void refuses_broken_areas(void **state)
{
    (void)state;
    struct scene scene;
    scene_play(&scene, &tpm);
    Postern__V1__Hello *hello = &scene.hello;
    const struct {
        const char *name;
        ProtobufCBinaryData *field;
    } fields[] = {
        {"ek_public", &hello->ek_public},           {"ak_public", &hello->ak_public},
        {"wrap_public", &hello->wrap_public},       {"req_public", &hello->req_public},
        {"counter_public", &hello->counter_public},
    };
    static uint8_t huge[64 * 1024];
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        const ProtobufCBinaryData good = *fields[i].field;
        for (size_t len = 0; len < good.len; len++) {
            fields[i].field->len = len;
            assert_refused(hello, fields[i].name);
        }
        mem_copy(huge, good.data, good.len);
        *fields[i].field = (ProtobufCBinaryData){good.len + 1, huge};
        assert_refused(hello, fields[i].name);
        *fields[i].field = (ProtobufCBinaryData){sizeof(huge), huge};
        assert_refused(hello, fields[i].name);
        *fields[i].field = (ProtobufCBinaryData){0, nullptr};
        assert_refused(hello, fields[i].name);
        *fields[i].field = good;
    }
    scene_close(&scene);
}

static void refuses_weak_names(void **state)
{
    (void)state;
    struct scene scene;
    scene_open(&scene, &tpm);
    scene_hello(&scene);
    /* nameAlg stands after size and type. */
    struct buf *const areas[] = {&scene.areas[0], &scene.areas[1], &scene.areas[2],
                                 &scene.areas[3]};
    static const char *const names[] = {"ek_public", "ak_public", "wrap_public", "req_public"};
    for (size_t i = 0; i < ARRAY_LEN(areas); i++) {
        uint8_t good = areas[i]->data[5];
        areas[i]->data[5] = TPM2_ALG_SHA1;
        assert_refused(&scene.hello, names[i]);
        areas[i]->data[5] = good;
    }
    scene_close(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(says_who_it_is),
        cmocka_unit_test(refuses_broken_areas),
        cmocka_unit_test(refuses_weak_names),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
