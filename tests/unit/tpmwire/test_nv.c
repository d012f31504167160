#include "vectors.h"

#include "base/mem.h"
#include "tpmwire/nv.h"
#include "tpmwire/public.h"

constexpr TPMI_RH_NV_INDEX INDEX = 0x01801000; /* that of the vectors */

static void test_names_are_the_tpms(void **)
{
    struct error err = {0};
    TPMS_NV_PUBLIC area;
    TPM2B_NAME name;
    nv_counter_area(INDEX, false, &area);
    assert_ok(nv_area_name(&area, &name, &err));
    assert_true(slice_equal(name_slice(&name), vector("counter.new")));
    nv_counter_area(INDEX, true, &area);
    assert_ok(nv_area_name(&area, &name, &err));
    assert_true(slice_equal(name_slice(&name), vector("counter.name")));
}

static void marshalled(struct buf *ret)
{
    struct error err = {0};
    TPMS_NV_PUBLIC area;
    nv_counter_area(INDEX, true, &area);
    buf_init(ret, NV_AREA_WIRE_MAX);
    assert_ok(nv_area_marshal(&area, ret, &err));
}

static void test_wire_form(void **)
{
    struct error err = {0};
    CLEANUP(buf_done) struct buf wire;
    marshalled(&wire);
    static const uint8_t expected[] = {0,    14,   0x01, 0x80, 0x10, 0x00, 0, 0x0b,
                                       0x22, 0x04, 0x00, 0x14, 0,    0,    0, 8};
    assert_true(slice_equal(buf_slice(&wire), SLICE_OF(expected)));
    TPM2B_NV_PUBLIC area;
    assert_ok(nv_area_parse(buf_slice(&wire), &area, &err));
    assert_ok(nv_counter_check(&area.nvPublic, true, &err));
    assert_int_equal(area.nvPublic.nvIndex, INDEX);
}

static bool parse(struct slice wire, struct error *err)
{
    TPM2B_NV_PUBLIC area;
    memset(&area, 0xa5, sizeof area);
    TPM2B_NV_PUBLIC poison = area;
    bool ok = nv_area_parse(wire, &area, err);
    if (!ok) {
        assert_memory_equal(&area, &poison, sizeof area);
    }
    return ok;
}

static void test_parse_refuses(void **)
{
    struct error err = {0};
    CLEANUP(buf_done) struct buf wire;
    marshalled(&wire);
    assert_whole_only(buf_slice(&wire), parse);
    uint8_t changed[NV_AREA_WIRE_MAX + 1] = {0};
    mem_copy(changed, wire.data, wire.len);
    changed[1]++; /* one byte more, inside */
    assert_fails(parse(slice(changed, wire.len + 1), &err), ERROR_INVALID);
    assert_error_contains("trailing");
    changed[1]--;
    changed[7] = TPM2_ALG_SHA1;
    assert_fails(parse(slice(changed, wire.len), &err), ERROR_INVALID);
    assert_error_contains("sha1");
    changed[7] = TPM2_ALG_SHA256;
    changed[12] = 0xff; /* a policy longer than the structure */
    assert_fails(parse(slice(changed, wire.len), &err), ERROR_INVALID);
    assert_fails(parse(slice(changed, sizeof changed), &err), ERROR_INVALID);
    assert_error_contains("at most");
}

static void test_name_refuses(void **)
{
    struct error err = {0};
    TPMS_NV_PUBLIC area;
    TPM2B_NAME poison;
    memset(&poison, 0xa5, sizeof poison);
    TPM2B_NAME name = poison;
    nv_counter_area(INDEX, true, &area);
    area.nameAlg = TPM2_ALG_SHA1;
    assert_fails(nv_area_name(&area, &name, &err), ERROR_INVALID);
    area.authPolicy.size = sizeof area.authPolicy.buffer + 1;
    assert_fails(nv_area_name(&area, &name, &err), ERROR_INVALID);
    assert_memory_equal(&name, &poison, sizeof name);
}

static void test_check_refuses_all_else(void **)
{
    struct error err = {0};
    TPMS_NV_PUBLIC good;
    nv_counter_area(INDEX, true, &good);
    assert_fails(nv_counter_check(&good, false, &err), ERROR_INVALID);
    for (unsigned bit = 0; bit < 32; bit++) {
        TPMS_NV_PUBLIC area = good;
        area.attributes ^= UINT32_C(1) << bit;
        assert_fails(nv_counter_check(&area, true, &err), ERROR_INVALID);
        assert_error_contains("attributes");
    }
    TPMS_NV_PUBLIC area = good;
    area.nvIndex = 0x81000001;
    assert_fails(nv_counter_check(&area, true, &err), ERROR_INVALID);
    assert_error_contains("not an NV index");
    area = good;
    area.nameAlg = TPM2_ALG_SHA384;
    assert_fails(nv_counter_check(&area, true, &err), ERROR_INVALID);
    assert_error_contains("nameAlg");
    area = good;
    area.authPolicy.size = 32;
    assert_fails(nv_counter_check(&area, true, &err), ERROR_INVALID);
    assert_error_contains("policy");
    area = good;
    area.dataSize = 16;
    assert_fails(nv_counter_check(&area, true, &err), ERROR_INVALID);
    assert_error_contains("size");
}

static bool sweep_body(void *arg, struct error *err)
{
    CLEANUP(buf_done) struct buf out;
    buf_init(&out, NV_AREA_WIRE_MAX);
    return nv_area_marshal(arg, &out, err);
}

static void test_marshal_without_memory(void **)
{
    TPMS_NV_PUBLIC area;
    nv_counter_area(INDEX, true, &area);
    testlib_allocation_sweep(sweep_body, &area);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_are_the_tpms),
        cmocka_unit_test(test_wire_form),
        cmocka_unit_test(test_parse_refuses),
        cmocka_unit_test(test_name_refuses),
        cmocka_unit_test(test_check_refuses_all_else),
        cmocka_unit_test(test_marshal_without_memory),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
