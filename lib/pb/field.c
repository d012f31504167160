#include "pb/field.h"

#include "base/mem.h"

#include <ctype.h>
#include <stdlib.h>

struct value field_kind(const ProtobufCFieldDescriptor *field)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        return (struct value){.kind = VALUE_SIGNED};
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        return (struct value){.kind = VALUE_SIGNED, .wide = true};
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        return (struct value){.kind = VALUE_UNSIGNED};
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        return (struct value){.kind = VALUE_UNSIGNED, .wide = true};
    case PROTOBUF_C_TYPE_FLOAT:
        return (struct value){.kind = VALUE_FLOAT};
    case PROTOBUF_C_TYPE_DOUBLE:
        return (struct value){.kind = VALUE_FLOAT, .wide = true};
    case PROTOBUF_C_TYPE_BOOL:
        return (struct value){.kind = VALUE_BOOL};
    case PROTOBUF_C_TYPE_ENUM:
        return (struct value){.kind = VALUE_ENUM};
    case PROTOBUF_C_TYPE_STRING:
        return (struct value){.kind = VALUE_STRING};
    case PROTOBUF_C_TYPE_BYTES:
        return (struct value){.kind = VALUE_BYTES};
    case PROTOBUF_C_TYPE_MESSAGE:
        break;
    }
    return (struct value){.kind = VALUE_MESSAGE};
}

size_t field_value_size(const ProtobufCFieldDescriptor *field)
{
    struct value kind = field_kind(field);

    switch (kind.kind) {
    case VALUE_SIGNED:
    case VALUE_UNSIGNED:
    case VALUE_FLOAT:
        return kind.wide ? sizeof(uint64_t) : sizeof(uint32_t);
    case VALUE_ENUM:
        return sizeof(int);
    case VALUE_BOOL:
        return sizeof(protobuf_c_boolean);
    case VALUE_STRING:
        return sizeof(char *);
    case VALUE_BYTES:
        return sizeof(ProtobufCBinaryData);
    case VALUE_MESSAGE:
        break;
    }
    return sizeof(ProtobufCMessage *);
}

/* protobuf-c drops the option map_entry, but the name that protoc gives an entry is reserved: that
 * of the field in CamelCase, and "Entry". */
bool field_is_map(const ProtobufCFieldDescriptor *field)
{
    if (field->label != PROTOBUF_C_LABEL_REPEATED || field->type != PROTOBUF_C_TYPE_MESSAGE)
        return false;
    const ProtobufCMessageDescriptor *entry = field->descriptor;
    if (entry->n_fields != 2 || entry->fields[0].id != 1 || entry->fields[1].id != 2 ||
        strcmp(entry->fields[0].name, "key") != 0 || strcmp(entry->fields[1].name, "value") != 0)
        return false;
    const char *name = strrchr(entry->name, '.');
    name = name ? name + 1 : entry->name;
    bool upper = true;
    for (const char *from = field->name; *from != '\0'; from++) {
        if (*from == '_') {
            upper = true;
            continue;
        }
        if (*name++ != (upper ? (char)toupper((unsigned char)*from) : *from))
            return false;
        upper = false;
    }
    return strcmp(name, "Entry") == 0;
}

static bool field_in_oneof(const ProtobufCFieldDescriptor *field)
{
    return (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0;
}

bool field_has_presence(const ProtobufCFieldDescriptor *field)
{
    if (field->label == PROTOBUF_C_LABEL_NONE)
        return field_in_oneof(field) || field->type == PROTOBUF_C_TYPE_MESSAGE;
    return field->label != PROTOBUF_C_LABEL_REPEATED;
}

static const void *member_at(const ProtobufCMessage *message, unsigned offset)
{
    return (const char *)message + offset;
}

/* The value of a pointer member, whatever it points at. */
static const void *member_pointer(const ProtobufCMessage *message, unsigned offset)
{
    const void *pointer;

    mem_copy(&pointer, member_at(message, offset), sizeof pointer);
    return pointer;
}

size_t field_count(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    if (field->label == PROTOBUF_C_LABEL_REPEATED) {
        size_t n;
        mem_copy(&n, member_at(message, field->quantifier_offset), sizeof n);
        return n;
    }
    if (field_in_oneof(field)) {
        uint32_t which;
        mem_copy(&which, member_at(message, field->quantifier_offset), sizeof which);
        return which == field->id;
    }
    if (field->type == PROTOBUF_C_TYPE_MESSAGE)
        return member_pointer(message, field->offset) != nullptr;
    if (field->label != PROTOBUF_C_LABEL_OPTIONAL)
        return 1;
    if (field->type == PROTOBUF_C_TYPE_STRING) {
        const void *text = member_pointer(message, field->offset);
        return text != nullptr && text != field->default_value;
    }
    protobuf_c_boolean has;
    mem_copy(&has, member_at(message, field->quantifier_offset), sizeof has);
    return has != 0;
}

static struct slice binary_slice(const void *at)
{
    ProtobufCBinaryData binary;

    mem_copy(&binary, at, sizeof binary);
    return slice(binary.data, binary.len);
}

/* The number that `value`'s kind has at `at`. */
static struct value number_at(struct value value, const void *at)
{
    int32_t narrow;
    uint32_t narrow_magnitude;
    protobuf_c_boolean truth;

    if (value.wide) {
        mem_copy(&value.magnitude, at, sizeof value.magnitude);
    } else if (value.kind == VALUE_BOOL) {
        mem_copy(&truth, at, sizeof truth);
        value.magnitude = truth != 0;
    } else if (value.kind == VALUE_UNSIGNED || value.kind == VALUE_FLOAT) {
        mem_copy(&narrow_magnitude, at, sizeof narrow_magnitude);
        value.magnitude = narrow_magnitude;
    } else {
        mem_copy(&narrow, at, sizeof narrow);
        value.number = narrow;
    }
    return value;
}

struct value field_value(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field,
                         size_t i)
{
    struct value value = field_kind(field);
    const char *at = member_at(message, field->offset);

    if (field->label == PROTOBUF_C_LABEL_REPEATED)
        at = (const char *)member_pointer(message, field->offset) + i * field_value_size(field);
    switch (value.kind) {
    case VALUE_STRING: {
        const char *text;
        mem_copy(&text, at, sizeof text);
        value.bytes = slice_str(text);
        return value;
    }
    case VALUE_BYTES:
        value.bytes = binary_slice(at);
        return value;
    case VALUE_MESSAGE:
        mem_copy(&value.message, at, sizeof value.message);
        return value;
    default:
        return number_at(value, at);
    }
}

bool value_is_zero(struct value value)
{
    switch (value.kind) {
    case VALUE_STRING:
    case VALUE_BYTES:
        return value.bytes.len == 0;
    case VALUE_MESSAGE:
        return false;
    case VALUE_SIGNED:
    case VALUE_ENUM:
        return value.number == 0;
    default:
        return value.magnitude == 0;
    }
}

char *enum_short_name(const ProtobufCEnumDescriptor *descriptor, const char *name,
                      char ret[static ENUM_NAME_MAX])
{
    const char *of = descriptor->short_name;
    const char *at = name;
    size_t len = 0;

    /* LOG_FORMAT_ is LogFormat, whatever the capitals and underscores. */
    for (; *of != '\0' && *at != '\0'; at++)
        if (*at != '_' && toupper((unsigned char)*of++) != toupper((unsigned char)*at))
            break;
    if (*of == '\0' && at[0] == '_' && at[1] != '\0')
        name = at + 1;
    for (; name[len] != '\0' && len < ENUM_NAME_MAX - 1; len++)
        ret[len] = (char)tolower((unsigned char)name[len]);
    ret[len] = '\0';
    return ret;
}

struct map_entry {
    struct value key;
    size_t index; /* in the message */
};

static int key_compare(struct value a, struct value b)
{
    if (a.kind == VALUE_STRING) {
        size_t common = a.bytes.len < b.bytes.len ? a.bytes.len : b.bytes.len;
        int order = common == 0 ? 0 : memcmp(a.bytes.data, b.bytes.data, common);
        return order != 0 ? order : (a.bytes.len > b.bytes.len) - (a.bytes.len < b.bytes.len);
    }
    if (a.kind == VALUE_SIGNED)
        return (a.number > b.number) - (a.number < b.number);
    return (a.magnitude > b.magnitude) - (a.magnitude < b.magnitude);
}

static int entry_compare(const void *a_at, const void *b_at)
{
    const struct map_entry *a = a_at, *b = b_at;
    int order = key_compare(a->key, b->key);

    return order != 0 ? order : (a->index > b->index) - (a->index < b->index);
}

bool map_sort(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field,
              const ProtobufCMessage ***ret_entries, size_t *ret_n, struct error *err)
{
    size_t n = field_count(message, field), kept = 0;
    const ProtobufCMessageDescriptor *descriptor = field->descriptor;
    CLEANUP(mem_free_at) struct map_entry *sorted = mem_new(n, sizeof *sorted);
    CLEANUP(mem_free_at) const ProtobufCMessage **entries = mem_new(n, sizeof *entries);

    if (!sorted || !entries)
        return error_set_memory(err);
    for (size_t i = 0; i < n; i++) {
        const ProtobufCMessage *entry = field_value(message, field, i).message;
        sorted[i] = (struct map_entry){field_value(entry, &descriptor->fields[0], 0), i};
    }
    qsort(sorted, n, sizeof *sorted, entry_compare);
    for (size_t i = 0; i < n; i++)
        if (i + 1 == n || key_compare(sorted[i].key, sorted[i + 1].key) != 0)
            entries[kept++] = field_value(message, field, sorted[i].index).message;
    *ret_entries = TAKE(entries);
    *ret_n = kept;
    return true;
}
