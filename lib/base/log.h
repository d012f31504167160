/*
 * Logging for programs. Library code does not log above debug: it returns errors, and the program
 * logs once, at the edge. One line a record on standard error, at most 4 KiB (a longer message ends
 * in "…"), as text
 *     2026-11-23T06:00:00Z INFO  node/attest: message[ reason=…][ DOMAIN=CODE]
 * or as JSON, with the last four for failures alone:
 *     {"time":…,"level":…,"program":…,"module":…,"message":…,"class":…,"reason":…,"domain":…,"code":…}
 * Control characters and invalid UTF-8 of foreign text are escaped (text_show). No secret, token or key is ever logged.
 * Threading: any; a record is one write(2).
 */
#pragma once

#include "base/error.h"

enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG };
enum log_format { LOG_TEXT, LOG_JSON };

/* Before the first record; `program` is borrowed and static. Defaults: text, info. */
void log_setup(const char *program, enum log_format format, enum log_level level);

PRINTF_LIKE(3, 4)
void log_at(enum log_level level, const char *module, const char *format, ...);

/* The record for an error at the edge: "FORMATTED: error's message" with its reason and native
 * code as fields of their own. */
PRINTF_LIKE(4, 5)
void log_failure(enum log_level level, const char *module, const struct error *err,
                 const char *format, ...);
