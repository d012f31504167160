#include "pb/prepass.h"

#include "base/text.h"
#include "pb/field.h"
#include "pb/path.h"

#include <inttypes.h>

/* Protocol Buffers encoding, "Message Structure". */
enum wire {
    WIRE_VARINT = 0,
    WIRE_64 = 1,
    WIRE_LEN = 2,
    WIRE_GROUP = 3,
    WIRE_GROUP_END = 4,
    WIRE_32 = 5
};

constexpr uint64_t PREPASS_NUMBER_MAX = (1U << 29) - 1;
constexpr size_t PREPASS_VARINT_MAX = 10;
constexpr size_t PREPASS_TAG_MAX = 5;
constexpr size_t PREPASS_FIELDS_MAX = 256; /* of one of our descriptors; more is our defect */

/* protobuf-c 1.5's own: fields scanned without an allocation, the size of a scanned field, and the
 * fields whose presence it notes on the stack. */
constexpr size_t PREPASS_SLAB_FIRST = 16;
constexpr size_t PREPASS_SCANNED = 32;
constexpr size_t PREPASS_BITMAP_STACK = 16;

struct prepass {
    const struct pb_limits *limits;
    size_t nesting; /* the lower of limits->nesting and PB_NESTING_MAX */
    size_t memory;
    size_t elements;
    struct error *err;
};

/* One message that is being read. */
struct level {
    const struct level *parent;
    const ProtobufCMessageDescriptor *descriptor;
    struct slice bytes;
    size_t at;                             /* of the current field */
    uint64_t number;                       /* of the current field; 0 before any */
    const ProtobufCFieldDescriptor *field; /* the same, NULL if unknown */
};

/* One field as it is on the wire. */
struct wire_field {
    uint64_t number;
    enum wire wire;
    uint64_t varint;      /* WIRE_VARINT */
    struct slice payload; /* WIRE_LEN */
    size_t size;          /* bytes after the tag */
};

/* A varint of at most `max` bytes; its length, or 0 if it is truncated, longer or wider. */
static size_t varint_read(struct slice bytes, size_t max, uint64_t *ret)
{
    uint64_t value = 0;

    for (size_t i = 0; i < bytes.len && i < max; i++) {
        if (i == PREPASS_VARINT_MAX - 1 && bytes.data[i] > 1)
            return 0;
        value |= (uint64_t)(bytes.data[i] & 0x7f) << (7 * i);
        if (bytes.data[i] < 0x80) {
            *ret = value;
            return i + 1;
        }
    }
    return 0;
}

static struct slice slice_after(struct slice bytes, size_t n)
{
    return slice(bytes.data + n, bytes.len - n);
}

/* Reads tag and value; NULL, or what is wrong. */
static const char *wire_read(struct slice bytes, struct wire_field *ret)
{
    uint64_t tag, len;
    size_t used = varint_read(bytes, PREPASS_TAG_MAX, &tag);

    if (used == 0)
        return "a tag is truncated or too long";
    ret->number = tag >> 3;
    ret->wire = (enum wire)(tag & 7);
    if (ret->number == 0 || ret->number > PREPASS_NUMBER_MAX)
        return "no field can have this number";
    bytes = slice_after(bytes, used);
    ret->size = used;
    switch (ret->wire) {
    case WIRE_VARINT:
        used = varint_read(bytes, PREPASS_VARINT_MAX, &ret->varint);
        if (used == 0)
            return "a varint is truncated or has more than 64 bits";
        break;
    case WIRE_64:
    case WIRE_32:
        used = ret->wire == WIRE_64 ? 8 : 4;
        if (bytes.len < used)
            return "a fixed-width value is truncated";
        break;
    case WIRE_LEN:
        used = varint_read(bytes, PREPASS_TAG_MAX, &len);
        if (used == 0)
            return "a length is truncated or too long";
        if (len > bytes.len - used)
            return "its length is beyond the end of the message";
        ret->payload = slice(bytes.data + used, (size_t)len);
        used += (size_t)len;
        break;
    case WIRE_GROUP:
    case WIRE_GROUP_END:
        return "groups are not supported";
    default:
        return "there is no such wire type";
    }
    ret->size += used;
    return nullptr;
}

/* Which occurrence of its field, from 0, the current one of `level` is. */
static uint64_t level_index(const struct level *level)
{
    uint64_t index = 0;
    struct wire_field field;

    for (size_t at = 0; at < level->at; at += field.size) {
        if (wire_read(slice_after(level->bytes, at), &field))
            break;
        index += field.number == level->number;
    }
    return index;
}

/* Builds the path from the outermost level inwards and hands it to path_refuse. */
static bool level_refuse_from(struct prepass *p, const struct level *const *levels, size_t n,
                              const struct path *parent, const char *what)
{
    if (n == 0)
        return path_refuse(p->err, parent, "%s", what);
    const struct level *level = levels[n - 1];
    if (level->number == 0)
        return level_refuse_from(p, levels, n - 1, parent, what);
    struct path field = {.parent = parent, .kind = PATH_NUMBER, .number = level->number};
    if (level->field) {
        field.kind = PATH_NAME;
        field.name = level->field->name;
    }
    if (!level->field || level->field->label != PROTOBUF_C_LABEL_REPEATED)
        return level_refuse_from(p, levels, n - 1, &field, what);
    struct path index = {.parent = &field, .kind = PATH_INDEX, .number = level_index(level)};
    return level_refuse_from(p, levels, n - 1, &index, what);
}

static bool level_refuse(struct prepass *p, const struct level *level, const char *what)
{
    const struct level *levels[PB_NESTING_MAX + 1];
    size_t n = 0;

    for (; level && n < ARRAY_LEN(levels); level = level->parent)
        levels[n++] = level;
    return level_refuse_from(p, levels, n, nullptr, what);
}

static bool charge(struct prepass *p, size_t bytes)
{
    p->memory += bytes;
    if (p->memory <= p->limits->memory)
        return true;
    return error_set_reason(p->err, ERROR_EXHAUSTED, "MESSAGE_TOO_LARGE",
                            "a message would take more than the limit of %zu bytes of memory",
                            p->limits->memory);
}

static bool count_element(struct prepass *p, size_t n)
{
    p->elements += n;
    if (p->elements <= p->limits->elements)
        return true;
    return error_set_reason(p->err, ERROR_EXHAUSTED, "MESSAGE_TOO_LARGE",
                            "a message has more than the limit of %zu elements",
                            p->limits->elements);
}

static enum wire type_wire(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
        return WIRE_32;
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return WIRE_64;
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE:
        return WIRE_LEN;
    default:
        return WIRE_VARINT;
    }
}

/* Enums of proto2 are closed. protobuf-c does not say which syntax a message is of, but only proto3
 * has singular fields without a label; repeated ones can't be told apart. */
static bool enum_known(const struct prepass *p, const ProtobufCFieldDescriptor *field,
                       uint64_t value)
{
    bool closed =
        field->label == PROTOBUF_C_LABEL_OPTIONAL || field->label == PROTOBUF_C_LABEL_REQUIRED;

    if (!closed && !p->limits->refuse_unknown)
        return true;
    return protobuf_c_enum_descriptor_get_value(field->descriptor, (int)(uint32_t)value) != nullptr;
}

/* The elements of a packed field. */
static bool packed_check(struct prepass *p, const struct level *level, struct slice bytes)
{
    const ProtobufCFieldDescriptor *field = level->field;
    enum wire wire = type_wire(field->type);
    size_t n = 0;
    uint64_t value;

    if (wire != WIRE_VARINT) {
        size_t width = wire == WIRE_64 ? 8 : 4;
        if (bytes.len % width != 0)
            return level_refuse(p, level, "a packed value is truncated");
        n = bytes.len / width;
    }
    for (size_t used; wire == WIRE_VARINT && bytes.len > 0; bytes = slice_after(bytes, used)) {
        used = varint_read(bytes, PREPASS_VARINT_MAX, &value);
        if (used == 0)
            return level_refuse(p, level, "a varint is truncated or has more than 64 bits");
        if (field->type == PROTOBUF_C_TYPE_BOOL && (used > 1 || value > 1))
            return level_refuse(p, level, "a packed bool is neither 0 nor 1");
        if (field->type == PROTOBUF_C_TYPE_ENUM && !enum_known(p, field, value))
            return level_refuse(p, level, "its enum has no such value");
        n++;
    }
    return count_element(p, n) && charge(p, n * field_value_size(field));
}

static bool message_check(struct prepass *p, struct level *level, size_t nesting);

/* A field that the descriptor has. `seen`: whether it occurred before in this message. */
static bool field_check(struct prepass *p, const struct level *level, const struct wire_field *wire,
                        size_t nesting, bool seen)
{
    const ProtobufCFieldDescriptor *field = level->field;
    bool repeated = field->label == PROTOBUF_C_LABEL_REPEATED;
    enum wire expected = type_wire(field->type);

    if (repeated && !seen && !charge(p, prepass_block(0)))
        return false;
    if (repeated && wire->wire == WIRE_LEN && expected != WIRE_LEN)
        return packed_check(p, level, wire->payload);
    if (wire->wire != expected)
        return level_refuse(p, level, "it has another wire type than this field's");
    if (repeated && !charge(p, field_value_size(field)))
        return false;
    switch (field->type) {
    case PROTOBUF_C_TYPE_STRING:
        if (!utf8_valid(wire->payload))
            return level_refuse(p, level, "expected UTF-8 text without NUL");
        return charge(p, prepass_block(wire->payload.len + 1));
    case PROTOBUF_C_TYPE_BYTES:
        return charge(p, prepass_block(wire->payload.len));
    case PROTOBUF_C_TYPE_ENUM:
        return enum_known(p, field, wire->varint) ||
               level_refuse(p, level, "its enum has no such value");
    case PROTOBUF_C_TYPE_MESSAGE: {
        if (seen && !repeated)
            return level_refuse(p, level, "a message that isn't repeated occurs twice");
        struct level inner = {
            .parent = level, .descriptor = field->descriptor, .bytes = wire->payload};
        return message_check(p, &inner, nesting + 1);
    }
    default:
        return true;
    }
}

static bool unknown_check(struct prepass *p, const struct level *level,
                          const struct wire_field *wire)
{
    if (p->limits->refuse_unknown)
        return level_refuse(p, level, "there is no field of this number");
    /* protobuf-c keeps them: an entry in an array, and the bytes. */
    return charge(p, sizeof(ProtobufCMessageUnknownField) + prepass_block(wire->size));
}

/* protobuf-c refuses these too, but can't say where. */
static bool required_check(struct prepass *p, struct level *level, const uint64_t *seen)
{
    for (unsigned i = 0; i < level->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &level->descriptor->fields[i];
        if (field->label != PROTOBUF_C_LABEL_REQUIRED || (seen[i / 64] >> (i % 64) & 1) != 0)
            continue;
        level->field = field;
        level->number = field->id;
        return level_refuse(p, level, "required, but missing");
    }
    return true;
}

/* The scratch of protobuf-c for a message of n fields: slabs of 32, 64, 128 … once the 16 on its
 * stack are full. */
static bool charge_scratch(struct prepass *p, const ProtobufCMessageDescriptor *descriptor,
                           size_t n)
{
    size_t bitmap = (descriptor->n_fields + 7) / 8;

    if (bitmap > PREPASS_BITMAP_STACK && !charge(p, prepass_block(bitmap)))
        return false;
    for (size_t slab = PREPASS_SLAB_FIRST; n > slab;) {
        n -= slab;
        slab *= 2;
        if (!charge(p, prepass_block(slab * PREPASS_SCANNED)))
            return false;
    }
    return true;
}

static bool message_check(struct prepass *p, struct level *level, size_t nesting)
{
    const ProtobufCMessageDescriptor *descriptor = level->descriptor;
    uint64_t seen[PREPASS_FIELDS_MAX / 64] = {0};
    size_t fields = 0;
    bool unknown = false;

    if (nesting > p->nesting)
        return error_set_reason(p->err, ERROR_EXHAUSTED, "MESSAGE_TOO_DEEP",
                                "a message is nested deeper than the limit of %zu", p->nesting);
    if (descriptor->n_fields > PREPASS_FIELDS_MAX)
        return error_set(p->err, ERROR_INTERNAL, "%s has too many fields", descriptor->name);
    if (!charge(p, prepass_block(descriptor->sizeof_message)))
        return false;
    while (level->at < level->bytes.len) {
        struct wire_field wire = {0};
        const char *wrong = wire_read(slice_after(level->bytes, level->at), &wire);
        level->number = wire.number;
        level->field =
            wire.number <= PREPASS_NUMBER_MAX
                ? protobuf_c_message_descriptor_get_field(descriptor, (unsigned)wire.number)
                : nullptr;
        if (wrong)
            return level_refuse(p, level, wrong);
        if (!count_element(p, 1))
            return false;
        fields++;
        if (!level->field) {
            if (!unknown && !charge(p, prepass_block(0)))
                return false;
            unknown = true;
            if (!unknown_check(p, level, &wire))
                return false;
        } else {
            size_t i = (size_t)(level->field - descriptor->fields);
            if (!field_check(p, level, &wire, nesting, (seen[i / 64] >> (i % 64) & 1) != 0))
                return false;
            seen[i / 64] |= UINT64_C(1) << (i % 64);
        }
        level->at += wire.size;
    }
    return charge_scratch(p, descriptor, fields) && required_check(p, level, seen);
}

bool prepass(const ProtobufCMessageDescriptor *descriptor, struct slice bytes,
             const struct pb_limits *limits, size_t *ret_memory, struct error *err)
{
    struct prepass p = {
        .limits = limits,
        .nesting = limits->nesting < PB_NESTING_MAX ? limits->nesting : PB_NESTING_MAX,
        .err = err,
    };
    struct level outermost = {.descriptor = descriptor, .bytes = bytes};

    if (bytes.len > limits->size)
        return error_set_reason(err, ERROR_EXHAUSTED, "MESSAGE_TOO_LARGE",
                                "a message of %zu bytes is larger than the limit of %zu", bytes.len,
                                limits->size);
    if (!message_check(&p, &outermost, 1))
        return false;
    *ret_memory = p.memory;
    return true;
}
