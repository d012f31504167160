/*
 * Random messages, through all that lib/pb does with them: what the wire says, YAML must say, and
 * what is read from YAML must say the same again. The seed is printed; POSTERN_SEED repeats a run.
 */
#include "testlib/testlib.h"

#include "base/crypt.h"
#include "base/mem.h"
#include "base/text.h"
#include "pb/json.h"
#include "pb/yaml.h"
#include "pbtest/three.pb-c.h"
#include "pbtest/two.pb-c.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

constexpr unsigned ROUNDS = 2000;
constexpr size_t ROOM = 1024 * 1024;

static uint64_t random_state;

/* xorshift64*: any seed but 0. */
static uint64_t draw(void)
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return random_state * UINT64_C(2685821657736338717);
}

static unsigned below(unsigned n)
{
    return (unsigned)((draw() >> 33) % n);
}

static void put_varint(struct buf *out, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        buf_put_u8(out, (uint8_t)(value | 0x80));
    buf_put_u8(out, (uint8_t)value);
}

static void put_len(struct buf *out, const ProtobufCFieldDescriptor *field, struct slice bytes)
{
    put_varint(out, (uint64_t)field->id << 3 | 2);
    put_varint(out, bytes.len);
    buf_put(out, bytes);
}

static void put_text(struct buf *out)
{
    static const char *const PIECES[] = {
        "a",
        "Z",
        "0",
        "-",
        " ",
        "  ",
        ":",
        ": ",
        "#",
        " #",
        "\"",
        "'",
        "\\",
        "\n",
        "\r",
        "\t",
        "\x01",
        "\x7f",
        "true",
        "~",
        "é",
        "\xc2\x85",
        "\xe2\x80\xa8",
        "\xef\xbb\xbf",
        "\xef\xbf\xbf",
        "𝄞",
        "null",
        "{",
        "[",
        ",",
        "&",
        "*",
        "!",
        "%",
        "@",
        "---",
    };

    for (unsigned n = below(5); n > 0; n--)
        buf_put(out, slice_str(PIECES[below(ARRAY_LEN(PIECES))]));
}

static void put_message(struct buf *out, const ProtobufCMessageDescriptor *descriptor,
                        unsigned depth);

static void put_value(struct buf *out, const ProtobufCFieldDescriptor *field, unsigned depth)
{
    uint64_t number = draw() >> below(64);
    const ProtobufCEnumDescriptor *values = field->descriptor;
    CLEANUP(buf_done) struct buf inner;

    buf_init(&inner, ROOM);
    switch (field->type) {
    case PROTOBUF_C_TYPE_STRING:
        put_text(&inner);
        put_len(out, field, buf_slice(&inner));
        return;
    case PROTOBUF_C_TYPE_BYTES:
        put_len(out, field, slice(&number, below(8)));
        return;
    case PROTOBUF_C_TYPE_MESSAGE:
        put_message(&inner, field->descriptor, depth > 0 ? depth - 1 : 0);
        put_len(out, field, buf_slice(&inner));
        return;
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_SFIXED32:
        put_varint(out, (uint64_t)field->id << 3 | 5);
        buf_put(out, slice(&number, 4));
        return;
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_SFIXED64:
        put_varint(out, (uint64_t)field->id << 3 | 1);
        buf_put(out, slice(&number, 8));
        return;
    case PROTOBUF_C_TYPE_ENUM:
        number = (uint64_t)(int64_t)values->values[below(values->n_values)].value;
        break;
    case PROTOBUF_C_TYPE_BOOL:
        number &= 1;
        break;
    default:
        break;
    }
    put_varint(out, (uint64_t)field->id << 3);
    put_varint(out, number);
}

static void put_message(struct buf *out, const ProtobufCMessageDescriptor *descriptor,
                        unsigned depth)
{
    for (unsigned i = 0; i < descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &descriptor->fields[i];
        bool entry = descriptor->n_fields == 2 && strcmp(descriptor->fields[0].name, "key") == 0;
        unsigned n = below(3) == 0;
        if (field->label == PROTOBUF_C_LABEL_REPEATED)
            n *= below(4);
        if (field->type == PROTOBUF_C_TYPE_MESSAGE && depth == 0)
            n = 0;
        if (field->label == PROTOBUF_C_LABEL_REQUIRED || entry)
            n = 1;
        for (; n > 0; n--)
            put_value(out, field, depth);
    }
}

/* ── The property ─────────────────────────────────────────────────────────────────────────────── */

static void write_yaml(const ProtobufCMessage *message, struct buf *ret)
{
    struct error err = {0};

    buf_init(ret, ROOM);
    assert_ok(pb_to_yaml(message, ret, &err));
}

static void assert_same(const struct buf *a, const struct buf *b)
{
    if (slice_equal(buf_slice(a), buf_slice(b)))
        return;
    print_error("%.*s\n--- is not ---\n%.*s\n", (int)a->len, (const char *)a->data, (int)b->len,
                (const char *)b->data);
    fail();
}

static void assert_round_trip(const ProtobufCMessage *message, bool presence)
{
    struct error err = {0};
    CLEANUP(pb_free_at) ProtobufCMessage *read = nullptr;
    CLEANUP(pb_free_at) ProtobufCMessage *unpacked = nullptr;
    CLEANUP(buf_done) struct buf yaml = {0};
    CLEANUP(buf_done) struct buf again = {0};
    CLEANUP(buf_done) struct buf packed = {0};
    CLEANUP(buf_done) struct buf json = {0};
    CLEANUP(buf_done) struct buf json_again = {0};

    write_yaml(message, &yaml);
    if (!pb_from_yaml(message->descriptor, "f.yaml", buf_slice(&yaml), &read, &err))
        fail_msg("%s\n%.*s", err.message, (int)yaml.len, (const char *)yaml.data);
    write_yaml(read, &again);
    assert_same(&yaml, &again);
    /* What was read from YAML is a message like any other. */
    buf_init(&packed, ROOM);
    assert_ok(pb_pack(read, ROOM, &packed, &err));
    assert_ok(pb_unpack(message->descriptor, buf_slice(&packed), nullptr, &unpacked, &err));
    buf_done(&again);
    write_yaml(unpacked, &again);
    assert_same(&yaml, &again);
    /* JSON shows every field, but YAML makes proto2's defaults present. */
    if (presence)
        return;
    buf_init(&json, ROOM);
    buf_init(&json_again, ROOM);
    assert_ok(pb_to_json(message, &json, &err));
    assert_ok(pb_to_json(unpacked, &json_again, &err));
    assert_same(&json, &json_again);
}

static void test_round_trip(void **state)
{
    const char *given = getenv("POSTERN_SEED");
    struct error err = {0};
    uint64_t seed;

    (void)state;
    if (given)
        assert_ok(parse_u64(given, 0, UINT64_MAX, &seed, &err));
    else
        assert_ok(random_bytes(&seed, sizeof seed, &err));
    print_message("seed %" PRIu64 ": POSTERN_SEED=%" PRIu64 " repeats this\n", seed, seed);
    random_state = seed | 1;
    for (unsigned i = 0; i < ROUNDS; i++) {
        CLEANUP(pb_free_at) ProtobufCMessage *message = nullptr;
        CLEANUP(buf_done) struct buf wire;
        bool two = i % 2 != 0;
        const ProtobufCMessageDescriptor *descriptor =
            two ? &pbtest__two__descriptor : &pbtest__three__descriptor;
        buf_init(&wire, ROOM);
        put_message(&wire, descriptor, 3);
        assert_ok(pb_unpack(descriptor, buf_slice(&wire), nullptr, &message, &err));
        assert_round_trip(message, two);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
    };
    return cmocka_run_group_tests_name("pb/roundtrip", tests, nullptr, nullptr);
}
