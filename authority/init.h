/*
 * postern-authority init DIR: everything that an authority needs, made at once or not at all: keys,
 * trust anchor, the first operator, configuration, policy folders, database.
 */
#pragma once

#include "base/error.h"

/* A daemon_verb's run. CONFLICT if DIR exists and is not empty. */
[[nodiscard]] bool init_run(int argc, char **argv, struct error *err);
#define INIT_ARGUMENTS "DIR [--trust-domain NAME] [--server-name NAME]... [--listen HOST:PORT]"
