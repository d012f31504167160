/*
 * What streams are told from: all live heads, and for each of some nodes whether it may have them.
 * Read in a transaction, on the database's thread; then looked at on the loop's.
 */
#pragma once

#include "secret_rows.h"

#include "nodes.h"

/* One name. */
struct catalog_entry {
    struct secret_row row;
    Postern__V1__SecretHead *live;       /* with its body and signatures; borrows from the row */
    Postern__V1__SecretHead *gone;       /* null: there was never one */
    ProtobufCMessage *signatures[2];     /* private */
    Postern__V1__SecretHead messages[2]; /* private */
};

/* By name. Never changes once read. */
struct catalog {
    struct catalog_entry *entries;
    size_t count, capacity;
};

[[nodiscard]] bool catalog_read(struct tx *tx, struct catalog **ret, struct error *err);
/* Takes null; returns null. */
struct catalog *catalog_free(struct catalog *catalog);
DEFINE_CLEANUP(catalog_free, struct catalog)

/* What became of one node. */
struct standing {
    char agent_id[AGENT_ID_SIZE];
    struct error refusal;  /* class NONE: it may receive */
    int64_t expires_at_ms; /* of its appraisal */
    bool wants_generation;
    bool *entitled; /* to each entry of the catalog; owned */
};

/* Fills in all but the agent_id; `entitled` must be null or from an earlier try. */
[[nodiscard]] bool standing_read(struct tx *tx, const struct catalog *catalog,
                                 const struct policies *policies, int64_t now_ms,
                                 struct standing *standing, struct error *err);
