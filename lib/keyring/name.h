/*
 * Names of secrets, as everyone has them: the authority that keeps them, the node agent that holds
 * them, the sidecar that is asked for them.
 */
#pragma once

#include "base/error.h"

constexpr size_t SECRET_NAME_MAX = 253; /* as a DNS name: fits labels, logs, paths */

/* INVALID with the field `name` unless it has 1 to SECRET_NAME_MAX of a-z 0-9 - . _ /. */
[[nodiscard]] bool secret_name_check(const char *name, struct error *err);
