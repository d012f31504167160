/*
 * What is recorded of secrets: rows of `secret`, `secret_version` and `secret_holder`. Everything here
 * runs inside a transaction, on the database's thread.
 *
 * A name has one chain of heads. Its newest is the live one, for nodes that may have it; where an
 * allow list shrank, or a policy stopped vouching, the one before it says `gone`, for nodes that held
 * the name and may not have it any more. So no two heads ever share a sequence number.
 *
 * Limits: as named. Ownership: rows own what they point at.
 */
#pragma once

#include "kek.h"
#include "policies.h"

#include "base/crypt.h"
#include "keyring/name.h"
#include "store/tx.h"

#include "postern/v1/node.pb-c.h"

constexpr size_t SECRET_VALUE_MAX = 64 * 1024; /* the arena of secrets is small */
constexpr size_t SECRET_ALLOW_MAX = 64;        /* SPIFFE IDs in one head, which every node gets */
constexpr int64_t SECRETS_MAX = 4096;          /* names: a script gone wrong */
constexpr int64_t SECRET_BODIES_MAX = 3 * 1024 * 1024; /* all live heads: one answer lists them */
constexpr size_t HEAD_BODY_MAX = 160 * 1024; /* SECRET_ALLOW_MAX of the longest SPIFFE IDs */
constexpr size_t HEAD_SIGNATURES_MAX = 16 * 1024;

/* A head as signed. */
struct signed_head {
    struct buf body;       /* a HeadBody */
    struct buf signatures; /* a SecretHead without its body */
};

/* One name. */
struct secret_row {
    Postern__V1__HeadBody *head; /* the live one; read from live.body */
    struct signed_head live;
    struct signed_head gone;
    uint64_t gone_seq; /* 0: there was never one */
    int64_t changed_at_ms;
};

void secret_row_init(struct secret_row *row);
/* For CLEANUP. */
void secret_row_done(struct secret_row *row);
/* Gives the row away: `from` is empty and initialised again. */
void secret_row_move(struct secret_row *from, struct secret_row *to);

/* NOT_FOUND, reason SECRET_UNKNOWN. `ret` is initialised. */
[[nodiscard]] bool secret_row_get(struct tx *tx, const char *name, struct secret_row *ret,
                                  struct error *err);
/* Calls `visit` for each, by name; it may move the row away. False from it ends with its error. */
[[nodiscard]] bool secret_rows_each(struct tx *tx,
                                    bool (*visit)(void *arg, struct secret_row *row,
                                                  struct error *err),
                                    void *arg, struct error *err);
/* Writes it, made or replaced: `row` as it is to be. EXHAUSTED beyond the limits of all names. */
[[nodiscard]] bool secret_row_put(struct tx *tx, const struct secret_row *row, const char *who,
                                  struct error *err);

/* Whether this node may have it: somebody in its allow list whom the node may vouch for. */
[[nodiscard]] bool secret_entitled(const struct policies *policies, const char *agent_id,
                                   const Postern__V1__HeadBody *head);

/* ---- Versions ---- */

/* A value as it is kept: encrypted under a data key of its own, which the KEK wraps. */
struct sealed_version {
    uint8_t commitment[SHA256_SIZE];
    struct buf wrapped_key;
    struct buf sealed; /* IV ‖ ciphertext of r ‖ value */
};

void sealed_version_init(struct sealed_version *version);
void sealed_version_done(struct sealed_version *version);

/* Any thread. Draws r and the data key. `ret` is initialised and empty. */
[[nodiscard]] bool version_seal(const struct kek *kek, const char *name, uint32_t epoch,
                                uint64_t number, const struct secret *value,
                                struct sealed_version *ret, struct error *err);
/* Adds a version, and erases the values of all before it: their commitments stay. */
[[nodiscard]] bool version_put(struct tx *tx, const char *name, uint32_t epoch, uint64_t number,
                               const struct sealed_version *version, int64_t now_ms,
                               struct error *err);
/* r ‖ value of the live version. INTERNAL, reason KEK_MISMATCH or SECRET_DAMAGED, if the database and
 * the KEK don't belong together. */
[[nodiscard]] bool version_open(struct tx *tx, const struct kek *kek, const char *name,
                                uint32_t epoch, uint64_t number, struct secret **ret,
                                struct error *err);
/* NOT_FOUND, reason VERSION_UNKNOWN. */
[[nodiscard]] bool version_commitment(struct tx *tx, const char *name, uint32_t epoch,
                                      uint64_t number, uint8_t ret[static SHA256_SIZE],
                                      struct error *err);

/* ---- Holders: to which nodes a version was released ---- */

[[nodiscard]] bool holder_released(struct tx *tx, const char *agent_id, const char *name,
                                   uint32_t epoch, uint64_t number, struct error *err);
/* Whether anything of that name was ever released to the node and not taken back. */
[[nodiscard]] bool holder_has(struct tx *tx, const char *agent_id, const char *name, bool *ret,
                              struct error *err);
/* The version is durable there. Idempotent; nothing happens if another was released since. */
[[nodiscard]] bool holder_confirmed(struct tx *tx, const char *agent_id, const char *name,
                                    uint32_t epoch, uint64_t number, struct error *err);
/* How many nodes hold exactly this version, durably. */
[[nodiscard]] bool holder_count(struct tx *tx, const char *name, uint32_t epoch, uint64_t number,
                                uint32_t *ret, struct error *err);
/* After a change: each holder of an older version, or who may not have it any more, is to get a new
 * generation of its node key; the latter is no holder any more. */
[[nodiscard]] bool holders_retire(struct tx *tx, const struct policies *policies,
                                  const Postern__V1__HeadBody *head, struct error *err);
