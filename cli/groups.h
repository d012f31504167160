/* The groups of commands, one file each. */
#pragma once

#include "arguments.h"

extern const struct command_group node_group;
extern const struct command_group attest_group;
extern const struct command_group secret_group;
