/* grpc-timeout (PROTOCOL-HTTP2.md, "Timeout"): at most eight digits and a unit. */
#pragma once

#include "base/error.h"
#include "base/slice.h"

constexpr size_t TIMEOUT_TEXT_SIZE = 10; /* eight digits, unit, NUL */

/* Milliseconds, fractions rounded up. INVALID if malformed. */
[[nodiscard]] bool timeout_parse(struct slice text, uint64_t *ret_ms, struct error *err);
/* The shortest unit that fits; rounded up beyond a day's worth of milliseconds. Returns ret. */
const char *timeout_format(uint64_t ms, char ret[static TIMEOUT_TEXT_SIZE]);
