/* The schema's history: which migrations a database has, and the missing ones. Inside lib/store only. */
#pragma once

#include "store/connection.h"
#include "store/store.h"

/* Brings the database up to date before `deadline` (boot clock, ms). Errors: store_open's. */
[[nodiscard]] bool migrate(struct connection *connection, const struct store_migration *migrations,
                           size_t count, uint64_t deadline, struct error *err);
