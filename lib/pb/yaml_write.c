#include "base/mem.h"
#include "base/text.h"
#include "pb/field.h"
#include "pb/yaml.h"

#include <ctype.h>
#include <inttypes.h>
#include <strings.h>

struct writer {
    struct buf *out;
    struct error *err;
};

static void text_put(struct buf *out, const char *text)
{
    buf_put(out, slice_str(text));
}

static void indent_put(struct buf *out, size_t indent)
{
    for (size_t i = 0; i < indent; i++)
        text_put(out, "  ");
}

/* True if every YAML reader takes it as text without quotes. */
static bool text_is_plain(struct slice text)
{
    static const char *const WORDS[] = {"true", "false", "yes", "no", "on",
                                        "off",  "null",  "y",   "n"};

    if (text.len == 0 || (!isalpha(text.data[0]) && text.data[0] != '/') ||
        text.data[text.len - 1] == ':')
        return false;
    for (size_t i = 0; i < text.len; i++)
        if (text.data[i] > 0x7e || (!isalnum(text.data[i]) && !strchr("_./@:-", text.data[i])))
            return false;
    for (size_t i = 0; i < ARRAY_LEN(WORDS); i++)
        if (text.len == strlen(WORDS[i]) &&
            strncasecmp((const char *)text.data, WORDS[i], text.len) == 0)
            return false;
    return true;
}

/* Bytes of the character at the start of `text` if it must be escaped though it isn't ASCII: C1
 * controls with NEL, the line separators, the byte order mark and non-characters. */
static size_t unprintable_len(struct slice text)
{
    const uint8_t *at = text.data;

    if (text.len >= 2 && at[0] == 0xc2 && at[1] < 0xa0)
        return 2;
    if (text.len >= 3 && at[0] == 0xe2 && at[1] == 0x80 && (at[2] == 0xa8 || at[2] == 0xa9))
        return 3;
    if (text.len >= 3 && at[0] == 0xef && at[1] == 0xbb && at[2] == 0xbf)
        return 3;
    if (text.len >= 3 && at[0] == 0xef && at[1] == 0xbf && at[2] >= 0xbe)
        return 3;
    return 0;
}

/* Double-quoted, on one line. */
static void quoted_put(struct buf *out, struct slice text)
{
    buf_put_u8(out, '"');
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.data[i];
        size_t n = unprintable_len(slice(text.data + i, text.len - i));
        if (n == 2) {
            buf_put_format(out, "\\x%02x", text.data[i + 1]);
        } else if (n == 3) {
            buf_put_format(out, "\\u%04x",
                           (unsigned)((c & 15) << 12 | (text.data[i + 1] & 63) << 6 |
                                      (text.data[i + 2] & 63)));
        } else if (c == '\n') {
            text_put(out, "\\n");
        } else if (c < ' ' || c == 0x7f) {
            buf_put_format(out, "\\x%02x", c);
        } else {
            if (c == '"' || c == '\\')
                buf_put_u8(out, '\\');
            buf_put_u8(out, c);
        }
        i += n > 0 ? n - 1 : 0;
    }
    buf_put_u8(out, '"');
}

static bool scalar_write(struct writer *w, const ProtobufCFieldDescriptor *field,
                         struct value value)
{
    char name[ENUM_NAME_MAX];
    const ProtobufCEnumValue *number;

    switch (value.kind) {
    case VALUE_SIGNED:
        buf_put_format(w->out, "%" PRId64, value.number);
        return true;
    case VALUE_UNSIGNED:
        buf_put_format(w->out, "%" PRIu64, value.magnitude);
        return true;
    case VALUE_BOOL:
        text_put(w->out, value.magnitude ? "true" : "false");
        return true;
    case VALUE_ENUM:
        number = protobuf_c_enum_descriptor_get_value(field->descriptor, (int)value.number);
        if (!number)
            return error_set(w->err, ERROR_INTERNAL, "%s: %" PRId64 " is no value of its enum",
                             field->name, value.number);
        text_put(w->out, enum_short_name(field->descriptor, number->name, name));
        return true;
    case VALUE_STRING:
        if (text_is_plain(value.bytes))
            buf_put(w->out, value.bytes);
        else
            quoted_put(w->out, value.bytes);
        return true;
    case VALUE_BYTES:
        buf_put_u8(w->out, '"');
        base64_encode(value.bytes, w->out);
        buf_put_u8(w->out, '"');
        return true;
    case VALUE_FLOAT:
    case VALUE_MESSAGE:
        break;
    }
    return error_set(w->err, ERROR_INTERNAL, "%s: floating point has no YAML form here",
                     field->name);
}

static bool message_write(struct writer *w, const ProtobufCMessage *message, size_t indent,
                          bool in_item);

/* After "NAME:" or "-": the value, and the end of the line. */
static bool value_write(struct writer *w, const ProtobufCFieldDescriptor *field, struct value value,
                        size_t indent, bool in_item)
{
    if (value.kind == VALUE_MESSAGE)
        return message_write(w, value.message, indent, in_item);
    buf_put_u8(w->out, ' ');
    if (!scalar_write(w, field, value))
        return false;
    buf_put_u8(w->out, '\n');
    return true;
}

static bool map_write(struct writer *w, const ProtobufCMessage *message,
                      const ProtobufCFieldDescriptor *field, size_t indent)
{
    const ProtobufCMessageDescriptor *entry = field->descriptor;
    CLEANUP(mem_free_at) const ProtobufCMessage **entries = nullptr;
    size_t n;

    buf_put_u8(w->out, '\n');
    if (!map_sort(message, field, &entries, &n, w->err))
        return false;
    for (size_t i = 0; i < n; i++) {
        struct value key = field_value(entries[i], &entry->fields[0], 0);
        if (key.kind == VALUE_STRING && key.bytes.len > PB_YAML_KEY_MAX)
            return error_set(w->err, ERROR_INTERNAL, "%s: a key is too long for YAML", field->name);
        indent_put(w->out, indent + 1);
        if (!scalar_write(w, &entry->fields[0], key))
            return false;
        buf_put_u8(w->out, ':');
        if (!value_write(w, &entry->fields[1], field_value(entries[i], &entry->fields[1], 0),
                         indent + 2, false))
            return false;
    }
    return true;
}

static bool sequence_write(struct writer *w, const ProtobufCMessage *message,
                           const ProtobufCFieldDescriptor *field, size_t indent)
{
    buf_put_u8(w->out, '\n');
    for (size_t i = 0; i < field_count(message, field); i++) {
        indent_put(w->out, indent + 1);
        buf_put_u8(w->out, '-');
        if (!value_write(w, field, field_value(message, field, i), indent + 2, true))
            return false;
    }
    return true;
}

/* Whether `field` is written at all: present, other than zero, or absent but in force. */
static bool field_shows(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    size_t n = field_count(message, field);

    if (field->label == PROTOBUF_C_LABEL_REPEATED)
        return n > 0;
    if (!field_has_presence(field))
        return !value_is_zero(field_value(message, field, 0));
    bool in_oneof = (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0;
    return n > 0 || (field->default_value && !in_oneof);
}

/* `in_item`: after "-", so that the first field stands on the same line. */
static bool message_write(struct writer *w, const ProtobufCMessage *message, size_t indent,
                          bool in_item)
{
    bool first = true;

    /* A map's entry may come without its value. */
    for (unsigned i = 0; message && i < message->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
        bool written;
        if (!field_shows(message, field))
            continue;
        if (first && in_item)
            buf_put_u8(w->out, ' ');
        else if (first && indent > 0)
            buf_put_u8(w->out, '\n');
        if (!first || !in_item)
            indent_put(w->out, indent);
        first = false;
        text_put(w->out, field->name);
        buf_put_u8(w->out, ':');
        if (field_is_map(field))
            written = map_write(w, message, field, indent);
        else if (field->label == PROTOBUF_C_LABEL_REPEATED)
            written = sequence_write(w, message, field, indent);
        else
            written = value_write(w, field, field_value(message, field, 0), indent + 1, false);
        if (!written)
            return false;
    }
    if (first)
        text_put(w->out, indent > 0 ? " {}\n" : "{}\n");
    return true;
}

bool pb_to_yaml(const ProtobufCMessage *message, struct buf *ret, struct error *err)
{
    struct writer writer = {ret, err};

    return message_write(&writer, message, 0, false) && buf_ok(ret, err);
}
