/*
 * Reading any message through its descriptor: which values a field has, of which kind. What the
 * writers of YAML and JSON have in common. Internal to lib/pb.
 */
#pragma once

#include "pb/message.h"

enum value_kind {
    VALUE_SIGNED,
    VALUE_UNSIGNED,
    VALUE_FLOAT, /* either width; no contract of ours has one */
    VALUE_BOOL,
    VALUE_ENUM,
    VALUE_STRING,
    VALUE_BYTES,
    VALUE_MESSAGE,
};

struct value {
    enum value_kind kind;
    bool wide; /* an integer of 64 bits */
    union {
        int64_t number;     /* VALUE_SIGNED, VALUE_ENUM */
        uint64_t magnitude; /* VALUE_UNSIGNED, VALUE_BOOL */
        struct slice bytes; /* VALUE_STRING, VALUE_BYTES; borrowed from the message */
        const ProtobufCMessage *message;
    };
};

/* The kind that the values of `field` have, and whether they are wide. */
struct value field_kind(const ProtobufCFieldDescriptor *field);

/* Bytes that one value takes in its struct or array. */
size_t field_value_size(const ProtobufCFieldDescriptor *field);

/* A repeated field of entries that protoc made for map<,>. */
bool field_is_map(const ProtobufCFieldDescriptor *field);

/* True if absence can be told from the zero value: proto2, messages, oneofs. */
bool field_has_presence(const ProtobufCFieldDescriptor *field);

/* How many values `message` has in `field`: of one that isn't repeated 0 if it has presence and is
 * absent, else 1. */
size_t field_count(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field);

/* Value i (< field_count). Of an absent proto2 field value 0 is its default. */
struct value field_value(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field,
                         size_t i);

/* 0, false, empty; a message never is. */
bool value_is_zero(struct value value);

/* Longest name of an enum's value that is read or written, with its NUL. */
constexpr size_t ENUM_NAME_MAX = 96;

/* The name of a value without its enum's and in lower case: "text" for LOG_FORMAT_TEXT of LogFormat.
 * Returns ret. */
char *enum_short_name(const ProtobufCEnumDescriptor *descriptor, const char *name,
                      char ret[static ENUM_NAME_MAX]);

/* The entries of a map field in the order of their keys; of equal keys the last. *ret_entries is
 * freed by mem_free. EXHAUSTED without memory. */
[[nodiscard]] bool map_sort(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field,
                            const ProtobufCMessage ***ret_entries, size_t *ret_n,
                            struct error *err);
