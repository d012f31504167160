/*
 * struct place: the file of a SQLite database, before SQLite sees it: that it may be where it is,
 * that it is ours alone (mode 0600), and that no second process has it (PATH.lock).
 * Inside lib/store only.
 */
#pragma once

#include "base/error.h"

struct place {
    char *path;  /* owned */
    int lock_fd; /* holds flock on PATH.lock; -1 without */
};

/* Takes the lock and makes the file if it is absent. Errors: store_open's. */
[[nodiscard]] bool place_open(const char *location, struct place *ret, struct error *err);
/* Releases the lock; on {.lock_fd = -1} it does nothing. PATH.lock stays: removing it could let two
 * processes hold two locks of one name. */
void place_done(struct place *place);
