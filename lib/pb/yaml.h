/*
 * YAML and messages, by descriptor: how configuration and policies are read, and the only door to
 * libyaml. Limits: PB_YAML_MAX bytes of text, PB_NESTING_MAX levels, PB_YAML_NODES_MAX nodes.
 *
 * A file is one mapping; its keys are the names of the fields as the .proto has them.
 *   message   a mapping                      repeated  a sequence ("- …" or "[…]"), "[]" for none
 *   map       a mapping of any keys          bool      true or false
 *   integer   decimal, no leading zeros (YAML 1.1 and 1.2 disagree on what 0644 is)
 *   bytes     base64                         float     not supported: no contract of ours has one
 *   enum      the value's name in lower case without the enum's own ("text" for LOG_FORMAT_TEXT),
 *             or the whole name as in the .proto
 *   string    text, quoted or plain: 5 and true are text where a string is expected, so a version
 *             may be written as 1.10. Nothing, ~ and null have to be quoted.
 * Only strings, bytes and map keys may be quoted. A key without a value is refused: whoever comments
 * out the entries of a list must also decide on the list. An empty file is an empty mapping.
 * Unknown keys, keys that are there twice, two members of a oneof, missing required fields, anchors,
 * aliases, merge keys, tags and a second document are refused.
 *
 * What is INVALID has a message that begins "FILE:LINE:COLUMN: FIELD: ", and err->field the path of
 * the field: "pods[2].cgroup", "labels[app]".
 * Threading: any.
 */
#pragma once

#include "pb/message.h"

constexpr size_t PB_YAML_MAX = 1024 * 1024;     /* a ConfigMap holds no more */
constexpr size_t PB_YAML_NODES_MAX = 64 * 1024; /* "1," is a value: one for two bytes of text */
constexpr size_t PB_YAML_KEY_MAX = 160;         /* YAML has keys on one line, of at most 1024 */

/* Reads `text`, which is called `name_of_file` in errors, as a message of `descriptor`; free it by
 * pb_free. INVALID for all that the text has wrong; EXHAUSTED beyond a limit or without memory. */
[[nodiscard]] bool pb_from_yaml(const ProtobufCMessageDescriptor *descriptor,
                                const char *name_of_file, struct slice text,
                                ProtobufCMessage **ret_message, struct error *err);

/* For a program that finds a value wrong after it was read: with err->field set (error_set_field),
 * prepends the place of that field in `text`: "postern.yaml:7:11: drain: expected …". Where the
 * field itself is absent it is the place of the nearest mapping around it. Returns false. */
bool pb_yaml_locate(const char *name_of_file, struct slice text, struct error *err);

/* Appends the message as canonical YAML, in the order of the .proto's numbers, map entries by key.
 * Fields that are absent are left out, except proto2 fields with a default, which are written with
 * it: what is printed is what is in force. pb_from_yaml reads it to an equal message.
 * INTERNAL for what YAML can't say here: an enum number without a name, floating point, a map's key
 * of more than PB_YAML_KEY_MAX bytes; EXHAUSTED beyond ret's maximum or without memory. */
[[nodiscard]] bool pb_to_yaml(const ProtobufCMessage *message, struct buf *ret, struct error *err);
