#include "base/mem.h"
#include "pb/yaml.h"
#include "pb/yaml_scalar.h"

#include <stdio.h>

/* Wire bytes of PB_YAML_MAX of text: the worst is "-1,", eleven bytes for three with a short tag. */
constexpr size_t YAML_WIRE_MAX = 8 * PB_YAML_MAX;
constexpr size_t YAML_FIELDS_MAX = 256; /* of one of our descriptors */
constexpr size_t YAML_MAP_MAX = 1024;   /* entries; each is compared with all before it */
constexpr size_t YAML_KEY_MAX = 64;     /* characters of a key that still deserves a suggestion */
constexpr size_t YAML_MEMORY_MAX = 64 * PB_YAML_MAX;

struct yaml {
    struct events *events;
    struct error *err;
};

/* ── "Did you mean" ───────────────────────────────────────────────────────────────────────────── */

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Levenshtein's distance; `a` has at most YAML_KEY_MAX characters. */
static size_t distance(struct slice a, struct slice b)
{
    size_t row[YAML_KEY_MAX + 1];

    for (size_t i = 0; i <= a.len; i++)
        row[i] = i;
    for (size_t j = 0; j < b.len; j++) {
        size_t diagonal = row[0];
        row[0] = j + 1;
        for (size_t i = 0; i < a.len; i++) {
            size_t replaced = diagonal + (a.data[i] != b.data[j]);
            diagonal = row[i + 1];
            row[i + 1] = least(replaced, least(row[i], row[i + 1]) + 1);
        }
    }
    return row[a.len];
}

/* The field with the nearest name, NULL if none is near. */
static const char *nearest(const ProtobufCMessageDescriptor *descriptor, struct slice key)
{
    const char *best = nullptr;
    size_t best_distance = least(key.len / 3 + 1, 4);

    for (unsigned i = 0; key.len <= YAML_KEY_MAX && i < descriptor->n_fields; i++) {
        size_t d = distance(key, slice_str(descriptor->fields[i].name));
        if (d <= best_distance && d < key.len) {
            best = descriptor->fields[i].name;
            best_distance = d - (d > 0);
        }
    }
    return best;
}

static bool unknown_refuse(struct yaml *yaml, const ProtobufCMessageDescriptor *descriptor,
                           const struct path *path)
{
    const struct node *key = &yaml->events->node;
    char excerpt[PATH_EXCERPT_SIZE], known[SCALAR_EXPECTED_MAX] = "";
    const char *near = nearest(descriptor, key->text);
    struct path at = {.parent = path, .name = path_excerpt(key->text, excerpt)};

    if (near)
        return events_refuse(yaml->events, key->place, &at, yaml->err,
                             "no such field; did you mean %s?", near);
    for (size_t i = 0, len = 0; i < descriptor->n_fields && len < sizeof known - 1; i++)
        len += (size_t)snprintf(known + len, sizeof known - len, "%s%s", i > 0 ? ", " : "",
                                descriptor->fields[i].name);
    return events_refuse(yaml->events, key->place, &at, yaml->err,
                         "no such field; expected one of %s", known);
}

/* ── Values ───────────────────────────────────────────────────────────────────────────────────── */

static bool mapping_read(struct yaml *yaml, const ProtobufCMessageDescriptor *descriptor,
                         const struct path *path, size_t depth, struct buf *wire);

static bool kind_refuse(struct yaml *yaml, const struct path *path, const char *expected)
{
    static const char *const FOUND[] = {
        [NODE_NONE] = "nothing",        [NODE_SCALAR] = "a single value",
        [NODE_SEQUENCE] = "a sequence", [NODE_MAPPING] = "a mapping",
        [NODE_END] = "nothing",
    };
    const struct node *node = &yaml->events->node;

    return events_refuse(yaml->events, node->place, path, yaml->err, "expected %s, found %s%s",
                         expected, node_is_null(node) ? "nothing" : FOUND[node->kind],
                         node_is_null(node) ? ": leave the key out for its default" : "");
}

/* Gives what scalar_put said of the current node its place. */
static bool scalar_refuse(struct yaml *yaml, const struct path *path, const char *what)
{
    struct error found = *yaml->err;

    return found.class == ERROR_INVALID &&
           events_refuse(yaml->events, yaml->events->node.place, path, yaml->err, "%s%s", what,
                         found.message);
}

/* The current node as one value of `field`. */
static bool value_read(struct yaml *yaml, const ProtobufCFieldDescriptor *field,
                       const struct path *path, size_t depth, struct buf *wire)
{
    const struct node *node = &yaml->events->node;
    char expected[SCALAR_EXPECTED_MAX];

    if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
        if (node->kind != NODE_MAPPING)
            return kind_refuse(yaml, path, "a mapping");
        CLEANUP(buf_done) struct buf inner;
        buf_init(&inner, YAML_WIRE_MAX);
        if (!mapping_read(yaml, field->descriptor, path, depth + 1, &inner) ||
            !buf_ok(&inner, yaml->err))
            return false;
        scalar_put_bytes(field, buf_slice(&inner), wire);
        return true;
    }
    if (node->kind != NODE_SCALAR)
        return kind_refuse(yaml, path, scalar_expected(field, expected));
    return scalar_put(field, node, wire, yaml->err) || scalar_refuse(yaml, path, "");
}

static bool sequence_read(struct yaml *yaml, const ProtobufCFieldDescriptor *field,
                          const struct path *path, size_t depth, struct buf *wire)
{
    struct path at = {.parent = path, .kind = PATH_INDEX};

    if (yaml->events->node.kind != NODE_SEQUENCE)
        return kind_refuse(yaml, path, "a sequence");
    for (;; at.number++) {
        if (!events_next(yaml->events, &at, yaml->err))
            return false;
        if (yaml->events->node.kind == NODE_END)
            return true;
        if (!value_read(yaml, field, &at, depth, wire))
            return false;
    }
}

static bool depth_check(struct yaml *yaml, size_t depth)
{
    struct place place = yaml->events->node.place;

    return depth <= PB_NESTING_MAX ||
           error_set(yaml->err, ERROR_EXHAUSTED, "%s:%zu:%zu: nested deeper than the limit of %zu",
                     yaml->events->file, place.line, place.column, PB_NESTING_MAX);
}

/* Notes a key of a map in `keys`; false if it is there already. */
static bool key_note(struct buf *keys, struct slice key)
{
    struct reader r = reader(buf_slice(keys));

    while (r.rest.len > 0)
        if (slice_equal(reader_take(&r, reader_u32(&r)), key))
            return false;
    buf_put_prefixed(keys, key);
    return true;
}

/* One entry; the current node is its key. */
static bool entry_read(struct yaml *yaml, const ProtobufCFieldDescriptor *field,
                       const struct path *path, size_t depth, struct buf *keys, struct buf *wire)
{
    const ProtobufCMessageDescriptor *entry = field->descriptor;
    const struct node *key = &yaml->events->node;
    char excerpt[PATH_EXCERPT_SIZE];

    if (key->kind != NODE_SCALAR)
        return kind_refuse(yaml, path, "a key");
    struct path at = {
        .parent = path, .kind = PATH_KEY, .key = slice_str(path_excerpt(key->text, excerpt))};
    CLEANUP(buf_done) struct buf inner;
    buf_init(&inner, YAML_WIRE_MAX);
    if (!scalar_put(&entry->fields[0], key, &inner, yaml->err))
        return scalar_refuse(yaml, path, "key: ");
    if (!key_note(keys, key->text))
        return events_refuse(yaml->events, key->place, &at, yaml->err, "this key is there twice");
    if (!events_next(yaml->events, &at, yaml->err) ||
        !value_read(yaml, &entry->fields[1], &at, depth + 1, &inner) || !buf_ok(keys, yaml->err) ||
        !buf_ok(&inner, yaml->err))
        return false;
    scalar_put_bytes(field, buf_slice(&inner), wire);
    return true;
}

static bool map_read(struct yaml *yaml, const ProtobufCFieldDescriptor *field,
                     const struct path *path, size_t depth, struct buf *wire)
{
    CLEANUP(buf_done) struct buf keys;

    buf_init(&keys, YAML_WIRE_MAX);
    if (yaml->events->node.kind != NODE_MAPPING)
        return kind_refuse(yaml, path, "a mapping");
    if (!depth_check(yaml, depth + 1))
        return false;
    for (size_t n = 0;; n++) {
        if (!events_next(yaml->events, path, yaml->err))
            return false;
        if (yaml->events->node.kind == NODE_END)
            return true;
        if (n >= YAML_MAP_MAX)
            return error_set(yaml->err, ERROR_EXHAUSTED,
                             "%s: a mapping has more than the limit of %zu entries",
                             yaml->events->file, YAML_MAP_MAX);
        if (!entry_read(yaml, field, path, depth, &keys, wire))
            return false;
    }
}

/* ── Messages ─────────────────────────────────────────────────────────────────────────────────── */

/* Which fields of a message a mapping has had. */
struct seen {
    uint64_t fields[YAML_FIELDS_MAX / 64];
};

static bool seen_has(const struct seen *seen, size_t i)
{
    return (seen->fields[i / 64] >> (i % 64) & 1) != 0;
}

/* Refuses a second member of a oneof. */
static bool oneof_check(struct yaml *yaml, const ProtobufCMessageDescriptor *descriptor,
                        const ProtobufCFieldDescriptor *field, const struct path *path,
                        const struct seen *seen)
{
    for (unsigned i = 0; i < descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *other = &descriptor->fields[i];
        if (seen_has(seen, i) && (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0 &&
            (other->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0 &&
            other->quantifier_offset == field->quantifier_offset)
            return events_refuse(yaml->events, yaml->events->node.place, path, yaml->err,
                                 "%s is there already, and only one of them can be", other->name);
    }
    return true;
}

/* The current node as the name of a field of `descriptor`; NULL after a refusal. */
static const ProtobufCFieldDescriptor *key_read(struct yaml *yaml,
                                                const ProtobufCMessageDescriptor *descriptor,
                                                const struct path *path)
{
    const struct node *key = &yaml->events->node;
    const ProtobufCFieldDescriptor *field = nullptr;

    if (key->kind != NODE_SCALAR)
        kind_refuse(yaml, path, "the name of a field");
    else if (key->plain && slice_is(key->text, "<<"))
        events_refuse(yaml->events, key->place, path, yaml->err,
                      "merge keys (\"<<\") are not allowed: write the fields out");
    else if (!(field = protobuf_c_message_descriptor_get_field_by_name(
                   descriptor, (const char *)key->text.data)))
        unknown_refuse(yaml, descriptor, path);
    return field;
}

/* The value of a field whose name is the current node, which must be its first time. */
static bool field_read(struct yaml *yaml, const ProtobufCMessageDescriptor *descriptor,
                       const ProtobufCFieldDescriptor *field, const struct path *parent,
                       struct seen *seen, size_t depth, struct buf *wire)
{
    struct path path = {.parent = parent, .name = field->name};
    size_t index = (size_t)(field - descriptor->fields);

    if (seen_has(seen, index))
        return events_refuse(yaml->events, yaml->events->node.place, &path, yaml->err,
                             "this field is there twice");
    if (!oneof_check(yaml, descriptor, field, &path, seen) ||
        !events_next(yaml->events, &path, yaml->err))
        return false;
    seen->fields[index / 64] |= UINT64_C(1) << (index % 64);
    if (field_is_map(field))
        return map_read(yaml, field, &path, depth, wire);
    if (field->label == PROTOBUF_C_LABEL_REPEATED)
        return sequence_read(yaml, field, &path, depth, wire);
    return value_read(yaml, field, &path, depth, wire);
}

/* `place` is that of the mapping. */
static bool required_check(struct yaml *yaml, const ProtobufCMessageDescriptor *descriptor,
                           const struct path *path, struct place place, const struct seen *seen)
{
    for (unsigned i = 0; i < descriptor->n_fields; i++) {
        struct path at = {.parent = path, .name = descriptor->fields[i].name};
        if (descriptor->fields[i].label == PROTOBUF_C_LABEL_REQUIRED && !seen_has(seen, i))
            return events_refuse(yaml->events, place, &at, yaml->err, "required, but missing");
    }
    return true;
}

/* The current node is the mapping. */
static bool mapping_read(struct yaml *yaml, const ProtobufCMessageDescriptor *descriptor,
                         const struct path *path, size_t depth, struct buf *wire)
{
    struct place place = yaml->events->node.place;
    struct seen seen = {0};

    if (descriptor->n_fields > YAML_FIELDS_MAX)
        return error_set(yaml->err, ERROR_INTERNAL, "%s has too many fields", descriptor->name);
    if (!depth_check(yaml, depth))
        return false;
    for (;;) {
        if (!events_next(yaml->events, path, yaml->err))
            return false;
        if (yaml->events->node.kind == NODE_END)
            return required_check(yaml, descriptor, path, place, &seen);
        const ProtobufCFieldDescriptor *field = key_read(yaml, descriptor, path);
        if (!field || !field_read(yaml, descriptor, field, path, &seen, depth, wire))
            return false;
    }
}

/* The whole document, as wire bytes. */
static bool document_read(struct yaml *yaml, const ProtobufCMessageDescriptor *descriptor,
                          struct buf *wire)
{
    const struct node *node = &yaml->events->node;
    bool empty = node->kind == NODE_NONE || (node->kind == NODE_SCALAR && node->text.len == 0);

    if (empty)
        return required_check(yaml, descriptor, nullptr, node->place, &(struct seen){0}) &&
               events_end(yaml->events, yaml->err);
    if (node->kind != NODE_MAPPING)
        return kind_refuse(yaml, nullptr, "a mapping");
    return mapping_read(yaml, descriptor, nullptr, 1, wire) &&
           events_end(yaml->events, yaml->err) && buf_ok(wire, yaml->err);
}

bool pb_from_yaml(const ProtobufCMessageDescriptor *descriptor, const char *name_of_file,
                  struct slice text, ProtobufCMessage **ret_message, struct error *err)
{
    static const struct pb_limits LIMITS = {
        .size = YAML_WIRE_MAX,
        .nesting = PB_NESTING_MAX,
        .memory = YAML_MEMORY_MAX,
        .elements = 4 * PB_YAML_NODES_MAX,
        .refuse_unknown = true,
    };
    CLEANUP(events_done) struct events events = {0};
    CLEANUP(buf_done) struct buf wire;
    struct yaml yaml = {&events, err};

    buf_init(&wire, YAML_WIRE_MAX);
    if (!events_init(&events, name_of_file, text, err) || !document_read(&yaml, descriptor, &wire))
        return false;
    if (!pb_unpack(descriptor, buf_slice(&wire), &LIMITS, ret_message, err))
        return error_prefix(err, "%s", name_of_file);
    return true;
}
