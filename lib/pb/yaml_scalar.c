#include "pb/yaml_scalar.h"

#include "base/text.h"

#include <inttypes.h>
#include <stdio.h>

/* Protocol Buffers encoding: the wire types that are written here. */
enum { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_LEN = 2, WIRE_32 = 5 };

static void put_varint(struct buf *wire, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        buf_put_u8(wire, (uint8_t)(value | 0x80));
    buf_put_u8(wire, (uint8_t)value);
}

static void put_tag(struct buf *wire, const ProtobufCFieldDescriptor *field, unsigned type)
{
    put_varint(wire, (uint64_t)field->id << 3 | type);
}

static void put_fixed(struct buf *wire, uint64_t value, size_t width)
{
    for (size_t i = 0; i < width; i++)
        buf_put_u8(wire, (uint8_t)(value >> (8 * i)));
}

/* `value`: the number in two's complement, of 64 bits. */
static void put_number(struct buf *wire, const ProtobufCFieldDescriptor *field, uint64_t value)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SINT64:
        put_tag(wire, field, WIRE_VARINT);
        put_varint(wire, value << 1 ^ (value >> 63 ? UINT64_MAX : 0)); /* ZigZag */
        return;
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FIXED32:
        put_tag(wire, field, WIRE_32);
        put_fixed(wire, value, 4);
        return;
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_FIXED64:
        put_tag(wire, field, WIRE_64);
        put_fixed(wire, value, 8);
        return;
    default:
        put_tag(wire, field, WIRE_VARINT);
        put_varint(wire, value);
    }
}

void scalar_put_bytes(const ProtobufCFieldDescriptor *field, struct slice bytes, struct buf *wire)
{
    put_tag(wire, field, WIRE_LEN);
    put_varint(wire, bytes.len);
    buf_put(wire, bytes);
}

/* Ends in a size_t that stays below the room of `ret`. */
PRINTF_LIKE(3, 4)
static size_t text_append(char *ret, size_t len, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    int n = vsnprintf(ret + len, SCALAR_EXPECTED_MAX - len, format, args);
    va_end(args);
    len += n > 0 ? (size_t)n : 0;
    return len < SCALAR_EXPECTED_MAX - 1 ? len : SCALAR_EXPECTED_MAX - 1;
}

static void enum_expected(const ProtobufCEnumDescriptor *descriptor, char *ret)
{
    char name[ENUM_NAME_MAX];
    size_t len = text_append(ret, 0, "one of");
    bool first = true;

    for (unsigned i = 0; i < descriptor->n_values; i++) {
        enum_short_name(descriptor, descriptor->values[i].name, name);
        if (strcmp(name, "unspecified") == 0)
            continue;
        if (len + strlen(name) > SCALAR_EXPECTED_MAX - 8) {
            text_append(ret, len, ", ...");
            return;
        }
        len = text_append(ret, len, "%s %s", first ? "" : ",", name);
        first = false;
    }
}

struct range {
    int64_t min;
    uint64_t max;
};

static struct range number_range(struct value kind)
{
    if (kind.kind == VALUE_UNSIGNED)
        return (struct range){0, kind.wide ? UINT64_MAX : UINT32_MAX};
    return kind.wide ? (struct range){INT64_MIN, INT64_MAX} : (struct range){INT32_MIN, INT32_MAX};
}

char *scalar_expected(const ProtobufCFieldDescriptor *field, char ret[static SCALAR_EXPECTED_MAX])
{
    struct value kind = field_kind(field);
    struct range range = number_range(kind);

    switch (kind.kind) {
    case VALUE_SIGNED:
    case VALUE_UNSIGNED:
        text_append(ret, 0, "a whole number from %" PRId64 " to %" PRIu64, range.min, range.max);
        break;
    case VALUE_FLOAT:
        text_append(ret, 0, "nothing: numbers with a fraction can't be read from YAML");
        break;
    case VALUE_BOOL:
        text_append(ret, 0, "true or false");
        break;
    case VALUE_ENUM:
        enum_expected(field->descriptor, ret);
        break;
    case VALUE_STRING:
        text_append(ret, 0, "text");
        break;
    case VALUE_BYTES:
        text_append(ret, 0, "base64");
        break;
    case VALUE_MESSAGE:
        text_append(ret, 0, "a mapping");
        break;
    }
    return ret;
}

/* A plain decimal number within the range of `field`, in two's complement. */
static bool number_parse(const ProtobufCFieldDescriptor *field, const char *text, uint64_t *ret)
{
    struct range range = number_range(field_kind(field));
    struct error ignored;
    bool negative = text[0] == '-';
    uint64_t magnitude, max = range.max;

    if (negative) {
        max = range.min < 0 ? 0 - (uint64_t)range.min : 0;
        text++;
    }
    /* YAML 1.1 reads 0644 as octal, YAML 1.2 doesn't; -0 is no other number than 0. */
    if (text[0] < '0' || text[0] > '9' || (text[0] == '0' && (text[1] != '\0' || negative)))
        return false;
    if (!parse_u64(text, 0, max, &magnitude, &ignored))
        return false;
    *ret = negative ? 0 - magnitude : magnitude;
    return true;
}

static bool enum_parse(const ProtobufCEnumDescriptor *descriptor, const char *text, uint64_t *ret)
{
    char name[ENUM_NAME_MAX];

    for (unsigned i = 0; i < descriptor->n_values; i++) {
        const ProtobufCEnumValue *value = &descriptor->values[i];
        enum_short_name(descriptor, value->name, name);
        if (strcmp(text, name) == 0 || strcmp(text, value->name) == 0) {
            *ret = (uint64_t)(int64_t)value->value;
            return true;
        }
    }
    return false;
}

static bool expected_refuse(const ProtobufCFieldDescriptor *field, const struct node *node,
                            struct error *err)
{
    char expected[SCALAR_EXPECTED_MAX], excerpt[PATH_EXCERPT_SIZE];

    return error_set(err, ERROR_INVALID, "expected %s, found %s\"%s\"",
                     scalar_expected(field, expected), node->plain ? "" : "the quoted text ",
                     path_excerpt(node->text, excerpt));
}

static bool bytes_put(const ProtobufCFieldDescriptor *field, struct slice text, struct buf *wire,
                      struct error *err)
{
    CLEANUP(buf_done) struct buf bytes;

    buf_init(&bytes, text.len);
    if (!base64_decode(text, &bytes, err)) {
        if (err->class != ERROR_INVALID)
            return false;
        return error_set(err, ERROR_INVALID,
                         "expected base64, found another character or a missing one");
    }
    scalar_put_bytes(field, buf_slice(&bytes), wire);
    return true;
}

bool scalar_put(const ProtobufCFieldDescriptor *field, const struct node *node, struct buf *wire,
                struct error *err)
{
    const char *text = (const char *)node->text.data;
    char expected[SCALAR_EXPECTED_MAX];
    uint64_t number = 0;
    bool is_number = false;

    if (node_is_null(node))
        return error_set(err, ERROR_INVALID,
                         "expected %s, found nothing: leave the key out for its default",
                         scalar_expected(field, expected));
    switch (field_kind(field).kind) {
    case VALUE_STRING:
        scalar_put_bytes(field, node->text, wire);
        return true;
    case VALUE_BYTES:
        return bytes_put(field, node->text, wire, err);
    case VALUE_SIGNED:
    case VALUE_UNSIGNED:
        is_number = number_parse(field, text, &number);
        break;
    case VALUE_BOOL:
        is_number = strcmp(text, "true") == 0 || strcmp(text, "false") == 0;
        number = text[0] == 't';
        break;
    case VALUE_ENUM:
        is_number = enum_parse(field->descriptor, text, &number);
        break;
    case VALUE_FLOAT:
    case VALUE_MESSAGE:
        break;
    }
    if (!is_number || !node->plain)
        return expected_refuse(field, node, err);
    put_number(wire, field, number);
    return true;
}
