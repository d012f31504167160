/*
 * A program's configuration file: YAML, read against its message (pb/yaml.h), checked, held.
 *
 * Ownership: struct config owns the message. Threading: none.
 */
#pragma once

#include "base/buf.h"

#include <protobuf-c/protobuf-c.h>

/* Says what the message's types can't: durations, addresses, IDs. Errors by error_set_field, without
 * the file's name. */
typedef bool config_check(const ProtobufCMessage *message, struct error *err);

/* Reads and checks the file. Every error names file, line, column and field, and what was expected.
 * The caller frees *ret by pb_free. NOT_FOUND, DENIED: the file; INVALID: what is in it. */
[[nodiscard]] bool config_read(const char *path, const ProtobufCMessageDescriptor *descriptor,
                               config_check *check, ProtobufCMessage **ret, struct error *err);

/* For a field of the file that proves wrong after config_read: prepends its place, as config_read does.
 * Returns false. */
bool config_locate(const char *path, struct error *err);

/* For settings that a running program can't change: INVALID with the field's name unless the texts are
 * equal; null equals null alone. */
[[nodiscard]] bool setting_keeps(const char *field, const char *now, const char *next,
                                 struct error *err);

/* Prints the message as YAML on standard output: for --check-config. */
[[nodiscard]] bool config_print(const ProtobufCMessage *message, struct error *err);

/* `path` as it is if absolute, else below the folder of the file `config_path`. Appends text and a
 * NUL. */
void config_path_resolve(const char *config_path, const char *path, struct buf *ret);

/* Milliseconds of a duration that a check has seen already. */
uint64_t duration_ms(const char *text);
/* For checks: INVALID with the field's name unless `text` is a duration of `min` to `max`
 * milliseconds. */
[[nodiscard]] bool duration_check(const char *field, const char *text, uint64_t min, uint64_t max,
                                  struct error *err);
