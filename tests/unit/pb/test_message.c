#include "testlib/testlib.h"

#include "base/mem.h"
#include "base/text.h"
#include "pb/message.h"
#include "pbtest/real.pb-c.h"
#include "pbtest/three.pb-c.h"
#include "pbtest/two.pb-c.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define THREE &pbtest__three__descriptor
#define TWO &pbtest__two__descriptor

/* ── Writing the wire by hand ─────────────────────────────────────────────────────────────────── */

static void put_varint(struct buf *buf, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        buf_put_u8(buf, (uint8_t)(value | 0x80));
    buf_put_u8(buf, (uint8_t)value);
}

static void put_bytes(struct buf *buf, uint32_t number, struct slice bytes)
{
    put_varint(buf, number << 3 | 2);
    put_varint(buf, bytes.len);
    buf_put(buf, bytes);
}

/* Unpacks hex digits; the result must be freed. */
static bool unpack_hex(const ProtobufCMessageDescriptor *descriptor, const char *hex,
                       const struct pb_limits *limits, ProtobufCMessage **ret, struct error *err)
{
    CLEANUP(buf_done) struct buf bytes;

    buf_init(&bytes, 65536);
    return hex_decode(hex, &bytes, err) &&
           pb_unpack(descriptor, buf_slice(&bytes), limits, ret, err);
}

/* ── What is refused, and where it is said to be ──────────────────────────────────────────────── */

struct hostile {
    const char *what;
    const ProtobufCMessageDescriptor *descriptor;
    const char *hex;
    enum error_class class;
    const char *field;
    const char *text;
};

static const struct hostile HOSTILE[] = {
    {"truncated tag", THREE, "88", ERROR_INVALID, "", "tag"},
    {"tag of six bytes", THREE, "888080808000", ERROR_INVALID, "", "tag"},
    {"field number 0", THREE, "0001", ERROR_INVALID, "", "number"},
    {"field number 2^29", THREE,
     "8080808010"
     "01",
     ERROR_INVALID, "536870912", "number"},
    {"truncated varint", THREE, "0880", ERROR_INVALID, "i32", "varint"},
    {"varint of eleven bytes", THREE, "08ffffffffffffffffffff01", ERROR_INVALID, "i32", "varint"},
    {"varint of 65 bits", THREE, "10ffffffffffffffffff02", ERROR_INVALID, "i64", "varint"},
    {"truncated fixed32", THREE, "3d010203", ERROR_INVALID, "f32", "truncated"},
    {"truncated fixed64", THREE, "4101020304050607", ERROR_INVALID, "f64", "truncated"},
    {"length beyond the end", THREE, "6a0261", ERROR_INVALID, "text", "length"},
    {"length that wraps around", THREE, "6affffffff0f61", ERROR_INVALID, "text", "length"},
    {"length of six bytes", THREE, "6a818080808000", ERROR_INVALID, "text", "length"},
    {"truncated length", THREE, "6a", ERROR_INVALID, "text", "length"},
    {"unknown group", THREE, "a306a406", ERROR_INVALID, "100", "group"},
    {"group where a field is known", THREE, "6b6c", ERROR_INVALID, "text", "group"},
    {"end of no group", THREE, "a406", ERROR_INVALID, "100", "group"},
    {"wire type 6", THREE, "a606", ERROR_INVALID, "100", "wire type"},
    {"wire type 7", THREE, "0f", ERROR_INVALID, "i32", "wire type"},
    {"string as varint", THREE, "6801", ERROR_INVALID, "text", "wire type"},
    {"int32 as fixed32", THREE, "0d01000000", ERROR_INVALID, "i32", "wire type"},
    {"int32 packed", THREE, "0a0101", ERROR_INVALID, "i32", "wire type"},
    {"message as fixed64", THREE, "790000000000000000", ERROR_INVALID, "child", "wire type"},
    {"NUL in a string", THREE, "6a03610062", ERROR_INVALID, "text", "UTF-8"},
    {"string not UTF-8", THREE, "6a02c328", ERROR_INVALID, "text", "UTF-8"},
    {"overlong UTF-8", THREE, "6a02c080", ERROR_INVALID, "text", "UTF-8"},
    {"surrogate in UTF-8", THREE, "6a03eda080", ERROR_INVALID, "text", "UTF-8"},
    {"third of a repeated string", THREE,
     "da010161"
     "da010162"
     "da0101ff",
     ERROR_INVALID, "r_text[2]", "UTF-8"},
    {"string in the second child's label", THREE,
     "ea0100"
     "ea0108"
     "fa0105"
     "0a01ff"
     "1200",
     ERROR_INVALID, "children[1].labels[0].key", "UTF-8"},
    {"oneof string", THREE, "ca0201ff", ERROR_INVALID, "choice_text", "UTF-8"},
    {"packed varint truncated", THREE, "aa010180", ERROR_INVALID, "r_i32[0]", "varint"},
    {"packed fixed32 truncated", THREE, "ba0103010203", ERROR_INVALID, "r_f32[0]", "packed"},
    {"packed fixed64 truncated", THREE, "c20103010203", ERROR_INVALID, "r_f64[0]", "packed"},
    {"packed bool of 2", THREE, "ca010102", ERROR_INVALID, "r_truth[0]", "bool"},
    {"packed bool of two bytes", THREE, "ca01028100", ERROR_INVALID, "r_truth[0]", "bool"},
    {"child twice", THREE, "7a007a00", ERROR_INVALID, "child", "twice"},
    {"oneof's message twice", THREE, "d20200d20200", ERROR_INVALID, "choice_child", "twice"},
    {"merge of unset oneofs", &pbtest__merge__descriptor, "0a000a00", ERROR_INVALID, "inner",
     "twice"},
    {"truncated within a child", THREE, "7a0108", ERROR_INVALID, "child.i32", "varint"},
    {"required field missing", TWO, "", ERROR_INVALID, "name", "required"},
    {"required field of a child missing", TWO,
     "0a0161"
     "2203"
     "0a0161"
     "2200",
     ERROR_INVALID, "more[1].socket", "required"},
    {"closed enum", TWO,
     "0a0161"
     "1002",
     ERROR_INVALID, "format", "enum"},
};

static void test_hostile(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(HOSTILE); i++) {
        const struct hostile *hostile = &HOSTILE[i];
        struct error err = {0};
        ProtobufCMessage *message = POISON;

        bool ok = unpack_hex(hostile->descriptor, hostile->hex, nullptr, &message, &err);
        if (ok || err.class != hostile->class || strcmp(err.field, hostile->field) != 0 ||
            !strstr(err.message, hostile->text) || message != POISON)
            fail_msg("%s: %s, field \"%s\": %s", hostile->what,
                     ok ? "accepted" : error_class_name(err.class), err.field, err.message);
    }
}

static void test_unknown_fields(void **state)
{
    struct error err = {0};
    ProtobufCMessage *message = POISON;

    (void)state;
    /* Fields 100 of each wire type, and an enum number that this version does not know. */
    static const char UNKNOWN[] = "a00601"
                                  "a1060102030405060708"
                                  "a2060161"
                                  "a50601020304"
                                  "6063";
    assert_ok(unpack_hex(THREE, UNKNOWN, &pb_limits_rpc, &message, &err));
    assert_int_equal(((Pbtest__Three *)message)->colour, 99);
    message = pb_free(message);

    message = POISON;
    assert_fails(unpack_hex(THREE, "a00601", &pb_limits_strict, &message, &err), ERROR_INVALID);
    assert_string_equal(err.field, "100");
    assert_fails(unpack_hex(THREE,
                            "ea0100"
                            "ea0105"
                            "7a03a00601",
                            &pb_limits_strict, &message, &err),
                 ERROR_INVALID);
    assert_string_equal(err.field, "children[1].child.100");
    assert_fails(unpack_hex(THREE, "6063", &pb_limits_strict, &message, &err), ERROR_INVALID);
    assert_string_equal(err.field, "colour");
    assert_fails(unpack_hex(THREE,
                            "d20102"
                            "0163",
                            &pb_limits_strict, &message, &err),
                 ERROR_INVALID);
    assert_string_equal(err.field, "r_colour[0]");
    assert_ptr_equal(message, POISON);
    assert_ok(unpack_hex(THREE, "60ffffffffffffffffff01", &pb_limits_strict, &message, &err));
    assert_int_equal(((Pbtest__Three *)message)->colour, PBTEST__COLOUR__COLOUR_NEGATIVE);
    pb_free(message);
}

/* ── Limits ───────────────────────────────────────────────────────────────────────────────────── */

/* `depth` messages in field `number`, each in the one before. */
static void put_nest(struct buf *buf, uint32_t number, size_t depth)
{
    CLEANUP(buf_done) struct buf inner;
    CLEANUP(buf_done) struct buf outer;

    buf_init(&inner, 65536);
    buf_init(&outer, 65536);
    for (size_t i = 1; i < depth; i++) {
        buf_clear(&outer);
        put_bytes(&outer, number, buf_slice(&inner));
        buf_clear(&inner);
        buf_put(&inner, buf_slice(&outer));
    }
    buf_put(buf, buf_slice(&inner));
}

static void test_nesting(void **state)
{
    struct error err = {0};
    ProtobufCMessage *message = POISON;
    struct pb_limits limits = pb_limits_rpc;

    (void)state;
    CLEANUP(buf_done) struct buf bytes;
    buf_init(&bytes, 65536);
    put_nest(&bytes, 15, PB_NESTING_MAX + 1);
    assert_fails(pb_unpack(THREE, buf_slice(&bytes), nullptr, &message, &err), ERROR_EXHAUSTED);
    assert_error_contains("nested deeper");
    limits.nesting = SIZE_MAX; /* capped */
    assert_fails(pb_unpack(THREE, buf_slice(&bytes), &limits, &message, &err), ERROR_EXHAUSTED);
    buf_clear(&bytes);
    put_nest(&bytes, 15, PB_NESTING_MAX);
    limits.nesting = PB_NESTING_MAX - 1;
    assert_fails(pb_unpack(THREE, buf_slice(&bytes), &limits, &message, &err), ERROR_EXHAUSTED);
    assert_ptr_equal(message, POISON);
    assert_ok(pb_unpack(THREE, buf_slice(&bytes), nullptr, &message, &err));
    pb_free(message);
}

/* 4 MiB of one byte or of two: the nests of groups and the floods that crash or starve others. */
static void test_four_megabytes(void **state)
{
    static const struct {
        uint8_t bytes[2];
        enum error_class class;
    } FLOODS[] = {
        {{0x0b, 0x0b}, ERROR_INVALID},   /* start of a group, field 1 */
        {{0xa3, 0x06}, ERROR_INVALID},   /* the same, unknown */
        {{0x0c, 0x0c}, ERROR_INVALID},   /* end of one */
        {{0x08, 0x01}, ERROR_EXHAUSTED}, /* a scalar */
        {{0x78, 0x01}, ERROR_INVALID},   /* a wrong wire type */
        {{0xff, 0xff}, ERROR_INVALID},   {{0x00, 0x00}, ERROR_INVALID},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(FLOODS); i++) {
        struct error err = {0};
        ProtobufCMessage *message = POISON;
        CLEANUP(buf_done) struct buf bytes;
        buf_init(&bytes, PB_SIZE_MAX);
        uint8_t *at = buf_extend(&bytes, PB_SIZE_MAX);
        assert_non_null(at);
        for (size_t j = 0; j < PB_SIZE_MAX; j++)
            at[j] = FLOODS[i].bytes[j % 2];
        assert_fails(pb_unpack(THREE, buf_slice(&bytes), nullptr, &message, &err), FLOODS[i].class);
        assert_ptr_equal(message, POISON);
    }
}

static void test_size(void **state)
{
    struct error err = {0};
    ProtobufCMessage *message = POISON;
    struct pb_limits limits = pb_limits_rpc;

    (void)state;
    limits.size = 2;
    assert_fails(unpack_hex(THREE, "08010801", &limits, &message, &err), ERROR_EXHAUSTED);
    assert_error_contains("larger than the limit of 2");
    limits.size = 4;
    assert_ok(unpack_hex(THREE, "08010801", &limits, &message, &err));
    pb_free(message);
}

/* Empty submessages: two bytes each on the wire, hundreds in memory. */
static void test_amplification(void **state)
{
    struct error err = {0};
    ProtobufCMessage *message = POISON;
    struct pb_limits limits = pb_limits_rpc;

    (void)state;
    CLEANUP(buf_done) struct buf bytes;
    buf_init(&bytes, PB_SIZE_MAX);
    for (size_t i = 0; i < 100000; i++)
        put_bytes(&bytes, 29, slice(nullptr, 0));
    assert_fails(pb_unpack(THREE, buf_slice(&bytes), nullptr, &message, &err), ERROR_EXHAUSTED);
    assert_error_contains("memory");

    /* Packed: each byte an element. */
    buf_clear(&bytes);
    static const uint8_t ZEROS[PB_ELEMENTS_MAX] = {0};
    put_bytes(&bytes, 25, SLICE_OF(ZEROS));
    assert_fails(pb_unpack(THREE, buf_slice(&bytes), nullptr, &message, &err), ERROR_EXHAUSTED);
    assert_error_contains("elements");
    limits.elements = PB_ELEMENTS_MAX + 1;
    limits.memory = PB_ELEMENTS_MAX;
    assert_fails(pb_unpack(THREE, buf_slice(&bytes), &limits, &message, &err), ERROR_EXHAUSTED);
    assert_error_contains("memory");
    assert_ptr_equal(message, POISON);
    limits.memory = PB_MEMORY_MAX;
    assert_ok(pb_unpack(THREE, buf_slice(&bytes), &limits, &message, &err));
    assert_int_equal(((Pbtest__Three *)message)->n_r_truth, PB_ELEMENTS_MAX);
    pb_free(message);
}

/* Whatever the number of fields, the pre-pass must foresee protobuf-c's scratch for them. */
static void test_memory_foreseen(void **state)
{
    static const char *const FIELDS[] = {
        "a80101",       /* r_i32 */
        "da010161",     /* r_text */
        "ea0100",       /* children */
        "a00601",       /* unknown */
        "a2060161",     /* unknown, with a length */
        "fa01030a0161", /* labels */
        "aa01020102",   /* r_i32, packed */
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(FIELDS); i++) {
        struct error err = {0};
        ProtobufCMessage *message = nullptr;
        CLEANUP(buf_done) struct buf bytes;
        buf_init(&bytes, 65536);
        for (size_t n = 0; n < 300; n++) {
            assert_ok(pb_unpack(THREE, buf_slice(&bytes), nullptr, &message, &err));
            pb_free(message);
            assert_ok(hex_decode(FIELDS[i], &bytes, &err));
        }
    }
}

/* ── What is accepted ─────────────────────────────────────────────────────────────────────────── */

static void test_singular_last_counts(void **state)
{
    struct error err = {0};
    ProtobufCMessage *message = nullptr;

    (void)state;
    assert_ok(unpack_hex(THREE,
                         "0801"
                         "6a0161"
                         "72020102"
                         "0805"
                         "6a026262"
                         "720103",
                         nullptr, &message, &err));
    const Pbtest__Three *three = (const Pbtest__Three *)message;
    assert_int_equal(three->i32, 5);
    assert_string_equal(three->text, "bb");
    assert_int_equal(three->raw.len, 1);
    pb_free(message);
}

static void test_oneof_last_counts(void **state)
{
    /* Each member in turn takes the place of the one before; sanitizers see what leaks. */
    static const struct {
        const char *hex;
        Pbtest__Three__ChoiceCase which;
    } CASES[] = {
        {"ca020161"
         "ca020162",
         PBTEST__THREE__CHOICE_CHOICE_TEXT},
        {"ca020161"
         "d20200",
         PBTEST__THREE__CHOICE_CHOICE_CHILD},
        {"d202036a0161"
         "ca020161",
         PBTEST__THREE__CHOICE_CHOICE_TEXT},
        {"d202036a0161"
         "d80207",
         PBTEST__THREE__CHOICE_CHOICE_NUMBER},
        {"d80207"
         "e2020161",
         PBTEST__THREE__CHOICE_CHOICE_RAW},
        {"e2020161"
         "d202036a0161",
         PBTEST__THREE__CHOICE_CHOICE_CHILD},
        {"e20200"
         "ca0200",
         PBTEST__THREE__CHOICE_CHOICE_TEXT},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        struct error err = {0};
        ProtobufCMessage *message = nullptr;
        assert_ok(unpack_hex(THREE, CASES[i].hex, nullptr, &message, &err));
        assert_int_equal(((Pbtest__Three *)message)->choice_case, CASES[i].which);
        pb_free(message);
    }
}

static void test_packed_and_unpacked(void **state)
{
    struct error err = {0};
    ProtobufCMessage *message = nullptr;

    (void)state;
    /* 1, packed 2 3, empty packed, -1. */
    assert_ok(unpack_hex(THREE,
                         "a80101"
                         "aa01020203"
                         "aa0100"
                         "a801ffffffffffffffffff01",
                         nullptr, &message, &err));
    const Pbtest__Three *three = (const Pbtest__Three *)message;
    assert_int_equal(three->n_r_i32, 4);
    assert_int_equal(three->r_i32[2], 3);
    assert_int_equal(three->r_i32[3], -1);
    pb_free(message);
}

static void test_maps(void **state)
{
    struct error err = {0};
    ProtobufCMessage *message = nullptr;

    (void)state;
    /* An entry without value, without key, and one key twice. */
    assert_ok(unpack_hex(THREE,
                         "fa01030a0161"
                         "fa0103120178"
                         "fa01060a0161"
                         "120179",
                         nullptr, &message, &err));
    const Pbtest__Three *three = (const Pbtest__Three *)message;
    assert_int_equal(three->n_labels, 3);
    assert_string_equal(three->labels[0]->value, "");
    assert_string_equal(three->labels[1]->key, "");
    assert_string_equal(three->labels[2]->value, "y");
    pb_free(message);
}

static void test_defaults_and_presence(void **state)
{
    struct error err = {0};
    ProtobufCMessage *message = nullptr;

    (void)state;
    assert_ok(unpack_hex(TWO, "0a0161", &pb_limits_strict, &message, &err));
    const Pbtest__Two *two = (const Pbtest__Two *)message;
    assert_false(two->has_format);
    assert_int_equal(two->format, PBTEST__LOG_FORMAT__LOG_FORMAT_JSON);
    assert_int_equal(two->offset, -5);
    assert_true(two->on);
    assert_string_equal(two->drain, "10s");
    assert_int_equal(two->salt.len, 4);
    assert_null(two->listen);
    assert_null(two->plain);
    pb_free(message);

    assert_ok(unpack_hex(TWO,
                         "0a0161"
                         "1000"
                         "42023773"
                         "30003a00",
                         nullptr, &message, &err));
    two = (const Pbtest__Two *)message;
    assert_true(two->has_format && two->has_on && two->has_salt);
    assert_int_equal(two->format, PBTEST__LOG_FORMAT__LOG_FORMAT_TEXT);
    assert_false(two->on);
    assert_string_equal(two->drain, "7s");
    assert_int_equal(two->salt.len, 0);
    pb_free(message);
}

static void test_real(void **state)
{
    struct error err = {0};
    ProtobufCMessage *message = nullptr;

    (void)state;
    assert_ok(unpack_hex(&pbtest__real__descriptor,
                         "0d0000c03f"
                         "11000000000000f83f"
                         "1a08000000000000f0bf",
                         nullptr, &message, &err));
    assert_float_equal(((Pbtest__Real *)message)->narrow, 1.5, 0);
    assert_float_equal(((Pbtest__Real *)message)->wide, 1.5, 0);
    assert_float_equal(((Pbtest__Real *)message)->many[0], -1, 0);
    pb_free(message);
}

/* ── Pack ─────────────────────────────────────────────────────────────────────────────────────── */

static void test_pack(void **state)
{
    struct error err = {0};
    ProtobufCMessage *message = nullptr;
    static char text[] = "text";
    Pbtest__Three child = PBTEST__THREE__INIT, three = PBTEST__THREE__INIT;

    (void)state;
    child.text = text;
    three.choice_case = PBTEST__THREE__CHOICE_CHOICE_CHILD;
    three.choice_child = &child;
    three.i64 = -7;
    CLEANUP(buf_done) struct buf bytes;
    buf_init(&bytes, 1000);
    buf_put_u8(&bytes, 0xee); /* appended after what is there */
    assert_ok(pb_pack(&three.base, 999, &bytes, &err));
    struct slice packed = slice(buf_slice(&bytes).data + 1, bytes.len - 1);
    assert_ok(pb_unpack(THREE, packed, nullptr, &message, &err));
    assert_string_equal(((Pbtest__Three *)message)->choice_child->text, "text");
    assert_int_equal(((Pbtest__Three *)message)->i64, -7);
    pb_free(message);

    /* The limits: the caller's, and the buffer's own. */
    size_t before = bytes.len;
    assert_fails(pb_pack(&three.base, packed.len - 1, &bytes, &err), ERROR_EXHAUSTED);
    assert_int_equal(bytes.len, before);
    CLEANUP(buf_done) struct buf small;
    buf_init(&small, packed.len - 1);
    assert_fails(pb_pack(&three.base, 999, &small, &err), ERROR_EXHAUSTED);
}

static void test_pack_refuses(void **state)
{
    struct error err = {0};
    static char text[] = "text", wrong[] = "\xff";
    char *texts[2] = {text, nullptr};
    Pbtest__Two two = PBTEST__TWO__INIT;
    Pbtest__Three three = PBTEST__THREE__INIT, deep[PB_NESTING_MAX + 1];

    (void)state;
    CLEANUP(buf_done) struct buf bytes;
    buf_init(&bytes, 1000);
    assert_fails(pb_pack(&two.base, 1000, &bytes, &err), ERROR_INTERNAL);
    assert_error_contains("name");
    two.name = text;
    assert_ok(pb_pack(&two.base, 1000, &bytes, &err));
    /* A string in the oneof must not be taken for a message, as protobuf-c's own check does. */
    three.choice_case = PBTEST__THREE__CHOICE_CHOICE_TEXT;
    three.choice_text = text;
    assert_ok(pb_pack(&three.base, 1000, &bytes, &err));
    three.n_r_text = 2;
    three.r_text = texts;
    assert_fails(pb_pack(&three.base, 1000, &bytes, &err), ERROR_INTERNAL);
    assert_error_contains("r_text");
    texts[1] = wrong;
    assert_fails(pb_pack(&three.base, 1000, &bytes, &err), ERROR_INTERNAL);
    three.n_r_text = 1;
    for (size_t i = 0; i < ARRAY_LEN(deep); i++) {
        deep[i] = (Pbtest__Three)PBTEST__THREE__INIT;
        deep[i].child = i > 0 ? &deep[i - 1] : nullptr;
    }
    assert_fails(pb_pack(&deep[PB_NESTING_MAX].base, 1000, &bytes, &err), ERROR_INTERNAL);
    assert_error_contains("child");
    assert_ok(pb_pack(&deep[PB_NESTING_MAX - 1].base, 1000, &bytes, &err));
}

/* ── Memory ───────────────────────────────────────────────────────────────────────────────────── */

static const char RICH[] = "0a0161"
                           "1a090a01611a0162"
                           "1a0163"
                           "22090a01611a0162"
                           "1a0163"
                           "3a0161"
                           "420162"
                           "4a020001"
                           "52020102"
                           "5a080a016112030a0178"
                           "6a0161"
                           "a20601aa"
                           "a206020102";

static bool sweep_unpack(void *arg, struct error *err)
{
    ProtobufCMessage *message = nullptr;

    (void)arg;
    /* Without unpack_hex: its own allocations are not of interest. */
    uint8_t bytes[sizeof RICH / 2];
    for (size_t i = 0; i < sizeof bytes; i++) {
        const char digits[3] = {RICH[2 * i], RICH[2 * i + 1], '\0'};
        bytes[i] = (uint8_t)strtoul(digits, nullptr, 16);
    }
    if (!pb_unpack(TWO, SLICE_OF(bytes), nullptr, &message, err))
        return false;
    pb_free(message);
    return true;
}

static void test_allocation_sweep(void **state)
{
    (void)state;
    testlib_allocation_sweep(sweep_unpack, nullptr);
}

/* Every block that is freed passes here first (--wrap=mem_free). */
void *__real_mem_free(void *object);
void *__wrap_mem_free(void *object);
static unsigned freed_blocks, freed_with_marker;
static const char MARKER[] = "secret";

void *__wrap_mem_free(void *object)
{
    freed_blocks += object != nullptr;
    if (object && memmem(object, malloc_usable_size(object), MARKER, sizeof MARKER - 1))
        freed_with_marker++;
    return __real_mem_free(object);
}

static void test_free_wipes(void **state)
{
    struct error err = {0};
    ProtobufCMessage *message = nullptr;

    (void)state;
    /* text, raw, r_text[0], child.text, an unknown field; and text again, so that one is replaced. */
    assert_ok(unpack_hex(THREE,
                         "6a06736563726574"
                         "7206736563726574"
                         "da0106736563726574"
                         "7a086a06736563726574"
                         "a20606736563726574"
                         "6a06736563726574",
                         nullptr, &message, &err));
    assert_string_equal(((Pbtest__Three *)message)->text, MARKER);
    freed_blocks = freed_with_marker = 0;
    pb_free(message);
    assert_true(freed_blocks >= 8);
    assert_int_equal(freed_with_marker, 0);
    /* The control: what isn't wiped is seen. */
    mem_free(mem_strdup(MARKER));
    assert_int_equal(freed_with_marker, 1);
}

static void test_free_takes_null(void **state)
{
    (void)state;
    assert_null(pb_free(nullptr));
    CLEANUP(pb_free_at) Pbtest__Three *none = nullptr;
    assert_null(none);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_unknown_fields),
        cmocka_unit_test(test_nesting),
        cmocka_unit_test(test_four_megabytes),
        cmocka_unit_test(test_size),
        cmocka_unit_test(test_amplification),
        cmocka_unit_test(test_memory_foreseen),
        cmocka_unit_test(test_singular_last_counts),
        cmocka_unit_test(test_oneof_last_counts),
        cmocka_unit_test(test_packed_and_unpacked),
        cmocka_unit_test(test_maps),
        cmocka_unit_test(test_defaults_and_presence),
        cmocka_unit_test(test_real),
        cmocka_unit_test(test_pack),
        cmocka_unit_test(test_pack_refuses),
        cmocka_unit_test(test_allocation_sweep),
        cmocka_unit_test(test_free_wipes),
        cmocka_unit_test(test_free_takes_null),
    };
    return cmocka_run_group_tests_name("pb/message", tests, nullptr, nullptr);
}
