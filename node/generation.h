/*
 * struct generation: a node key and what the TPM needs to open it.
 * Ownership: owns its buffers and the key. Threading: one thread at a time.
 */
#pragma once

#include "base/buf.h"
#include "base/secret.h"
#include "tpmwire/pcr.h"

#include "postern/v1/node.pb-c.h"
#include "postern/v1/state.pb-c.h"

constexpr size_t GENERATION_PART_MAX = 1024; /* bytes of each structure: IMPORT_BLOB_WIRE_MAX */
constexpr size_t GENERATION_OFFER_MAX = 12 * 1024; /* both signatures have 3.5 KiB */

struct generation {
    uint64_t number; /* from 1; 0: none */
    uint64_t limit;
    struct pcr_selection seal;
    struct buf counter_name;
    struct buf object_public, object_private; /* TPM2B_PUBLIC, TPM2B_PRIVATE under WRAP */
    struct buf offer;                         /* the Generation as the authority signed it */
    struct buf duplicate, seed;               /* as they came, until they are imported */
    struct secret *key;                       /* null until it was unsealed */
};

void generation_init(struct generation *generation);
/* For CLEANUP; erases the key; initialised again afterwards. */
void generation_done(struct generation *generation);
/* Ends `to` and puts `from` in its place; `from` is as after generation_init. */
void generation_move(struct generation *to, struct generation *from);

/* The parts that a slot keeps: neither key, duplicate nor seed. EXHAUSTED. */
[[nodiscard]] bool generation_copy(const struct generation *from, struct generation *ret,
                                   struct error *err);

/* INVALID for unknown or repeated banks and PCRs that can't be. */
[[nodiscard]] bool selection_from_wire(Postern__V1__PcrSelection *const *wire, size_t count,
                                       struct pcr_selection *ret, struct error *err);

/* From the authority, its signatures verified already. INVALID for sizes, a selection that can't be
 * or number 0. */
[[nodiscard]] bool generation_from_body(const Postern__V1__GenerationBody *body,
                                        struct generation *ret, struct error *err);
/* From a slot. */
[[nodiscard]] bool generation_from_slot(const Postern__V1__SlotHeader *header,
                                        struct generation *ret, struct error *err);
