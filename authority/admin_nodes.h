/*
 * AdminService: nodes, join tokens, policies from evidence. The handlers of secrets are secrets.h's;
 * both are registered here, as one service. Who may call is access.c's.
 * Threading: the loop's thread.
 */
#pragma once

#include "base/error.h"

struct authority;

constexpr uint64_t ADMIN_ATTEST_WAIT_MS = 60'000; /* for the node's fresh evidence */

/* Registers the service on authority->server. */
[[nodiscard]] bool admin_register(struct authority *authority, struct error *err);
