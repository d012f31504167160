#include "pb/json.h"

#include "base/mem.h"
#include "base/text.h"
#include "pb/field.h"

#include <inttypes.h>

struct writer {
    struct buf *out;
    struct error *err;
};

static void text_put(struct buf *out, const char *text)
{
    buf_put(out, slice_str(text));
}

/* RFC 8259, section 7. */
static void string_put(struct buf *out, struct slice text)
{
    buf_put_u8(out, '"');
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.data[i];
        if (c < ' ' || c == 0x7f) {
            buf_put_format(out, "\\u%04x", c);
            continue;
        }
        if (c == '"' || c == '\\')
            buf_put_u8(out, '\\');
        buf_put_u8(out, c);
    }
    buf_put_u8(out, '"');
}

/* lowerCamelCase, as the mapping has it: each underscore goes, and the letter after it is big. */
static void name_put(struct buf *out, const char *name)
{
    buf_put_u8(out, '"');
    for (; *name != '\0'; name++) {
        if (*name != '_')
            buf_put_u8(out, (uint8_t)*name);
        else if (name[1] >= 'a' && name[1] <= 'z')
            buf_put_u8(out, (uint8_t)(*++name - 'a' + 'A'));
    }
    text_put(out, "\":");
}

static void bytes_put(struct buf *out, struct slice bytes)
{
    buf_put_u8(out, '"');
    base64_encode(bytes, out);
    for (size_t rest = bytes.len % 3; rest > 0 && rest < 3; rest++)
        buf_put_u8(out, '=');
    buf_put_u8(out, '"');
}

/* google.protobuf.Timestamp: RFC 3339 with 0, 3, 6 or 9 digits. False if it is not one, or of a year
 * that time_format does not reach. */
static bool timestamp_put(struct buf *out, const ProtobufCMessage *message)
{
    const ProtobufCMessageDescriptor *descriptor = message->descriptor;
    char text[TIME_TEXT_SIZE];

    if (strcmp(descriptor->name, "google.protobuf.Timestamp") != 0)
        return false;
    int64_t seconds = field_value(message, &descriptor->fields[0], 0).number;
    int64_t nanos = field_value(message, &descriptor->fields[1], 0).number;
    /* From 0001-01-01 to 9999-12-31, as the type says. */
    if (seconds < INT64_C(-62135596800) || seconds > INT64_C(253402300799) || nanos < 0 ||
        nanos > 999999999)
        return false;
    time_format(seconds * 1000, text);
    buf_put_u8(out, '"');
    buf_put(out, slice(text, strlen(text) - 1)); /* without its Z */
    if (nanos % 1000 != 0)
        buf_put_format(out, ".%09" PRId64, nanos);
    else if (nanos % 1000000 != 0)
        buf_put_format(out, ".%06" PRId64, nanos / 1000);
    else if (nanos != 0)
        buf_put_format(out, ".%03" PRId64, nanos / 1000000);
    text_put(out, "Z\"");
    return true;
}

static bool message_write(struct writer *w, const ProtobufCMessage *message);

static bool value_write(struct writer *w, const ProtobufCFieldDescriptor *field, struct value value)
{
    const char *quote = value.wide ? "\"" : "";
    const ProtobufCEnumValue *number;

    switch (value.kind) {
    case VALUE_SIGNED:
        buf_put_format(w->out, "%s%" PRId64 "%s", quote, value.number, quote);
        return true;
    case VALUE_UNSIGNED:
        buf_put_format(w->out, "%s%" PRIu64 "%s", quote, value.magnitude, quote);
        return true;
    case VALUE_BOOL:
        text_put(w->out, value.magnitude ? "true" : "false");
        return true;
    case VALUE_ENUM:
        number = protobuf_c_enum_descriptor_get_value(field->descriptor, (int)value.number);
        if (number)
            string_put(w->out, slice_str(number->name));
        else
            buf_put_format(w->out, "%" PRId64, value.number);
        return true;
    case VALUE_STRING:
        string_put(w->out, value.bytes);
        return true;
    case VALUE_BYTES:
        bytes_put(w->out, value.bytes);
        return true;
    case VALUE_MESSAGE:
        if (!value.message) { /* a map's entry may come without its value */
            text_put(w->out, "{}");
            return true;
        }
        return timestamp_put(w->out, value.message) || message_write(w, value.message);
    case VALUE_FLOAT:
        break;
    }
    return error_set(w->err, ERROR_INTERNAL, "%s: floating point has no JSON form here",
                     field->name);
}

static bool map_write(struct writer *w, const ProtobufCMessage *message,
                      const ProtobufCFieldDescriptor *field)
{
    const ProtobufCMessageDescriptor *entry = field->descriptor;
    CLEANUP(mem_free_at) const ProtobufCMessage **entries = nullptr;
    size_t n;

    if (!map_sort(message, field, &entries, &n, w->err))
        return false;
    buf_put_u8(w->out, '{');
    for (size_t i = 0; i < n; i++) {
        struct value key = field_value(entries[i], &entry->fields[0], 0);
        bool quoted = key.kind == VALUE_STRING || key.wide;
        if (i > 0)
            buf_put_u8(w->out, ',');
        text_put(w->out, quoted ? "" : "\"");
        if (!value_write(w, &entry->fields[0], key))
            return false;
        text_put(w->out, quoted ? ":" : "\":");
        if (!value_write(w, &entry->fields[1], field_value(entries[i], &entry->fields[1], 0)))
            return false;
    }
    buf_put_u8(w->out, '}');
    return true;
}

static bool list_write(struct writer *w, const ProtobufCMessage *message,
                       const ProtobufCFieldDescriptor *field)
{
    buf_put_u8(w->out, '[');
    for (size_t i = 0; i < field_count(message, field); i++) {
        if (i > 0)
            buf_put_u8(w->out, ',');
        if (!value_write(w, field, field_value(message, field, i)))
            return false;
    }
    buf_put_u8(w->out, ']');
    return true;
}

static bool message_write(struct writer *w, const ProtobufCMessage *message)
{
    bool first = true;

    buf_put_u8(w->out, '{');
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
        bool written;
        if (field_has_presence(field) && field_count(message, field) == 0)
            continue;
        if (!first)
            buf_put_u8(w->out, ',');
        first = false;
        name_put(w->out, field->name);
        if (field_is_map(field))
            written = map_write(w, message, field);
        else if (field->label == PROTOBUF_C_LABEL_REPEATED)
            written = list_write(w, message, field);
        else
            written = value_write(w, field, field_value(message, field, 0));
        if (!written)
            return false;
    }
    buf_put_u8(w->out, '}');
    return true;
}

bool pb_to_json(const ProtobufCMessage *message, struct buf *ret, struct error *err)
{
    struct writer writer = {ret, err};

    return message_write(&writer, message) && buf_ok(ret, err);
}
