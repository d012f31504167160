/* The authority's tables. Once released a migration never changes; new ones are added behind. */
#pragma once

#include "store/store.h"

extern const struct store_migration authority_migrations[];
extern const size_t authority_migration_count;

/* DATA-DIR/authority.db; `path` of at least that length plus its NUL. */
#define AUTHORITY_DATABASE "authority.db"
