/*
 * struct slots: the two files that keep what a node holds, sealed (docs/protocol.md, "Slots").
 *
 * They are written in turn, each whole or not at all, so that after a crash at any instant one of
 * them is valid; of two valid ones the higher sequence is newer. While a new generation is not
 * confirmed it has one slot, which is rewritten in place, and the generation before keeps the other.
 *
 * Writing has three parts, since an fsync may take as long as the disk likes: slots_prepare and
 * slots_written on the loop's thread, slot_write_run between them on any. Threading: otherwise the
 * loop's thread. The files belong to one agent at a time.
 */
#pragma once

#include "generation.h"

constexpr size_t SLOT_COUNT = 2;

struct slots;

/* Reads both files in `state_dir`. What is absent, torn or none of ours is passed over, and each such
 * file logged, if it is not merely absent, by the caller: `ret_damage` (may be null, SLOT_COUNT errors)
 * has class NONE where there is nothing to tell. Errors: memory, and DENIED for a folder that can't
 * be read. */
[[nodiscard]] bool slots_open(const char *state_dir, struct slots **ret, struct error *ret_damage,
                              struct error *err);
struct slots *slots_free(struct slots *slots);
DEFINE_CLEANUP(slots_free, struct slots)

/* How many valid ones there are. */
size_t slots_count(const struct slots *slots);
/* The i-th newest (i < slots_count): what its header says, without a key. Borrowed until the next
 * write. */
const struct generation *slots_generation(const struct slots *slots, size_t i);
/* "slot-a", for the log. */
const char *slots_name(const struct slots *slots, size_t i);

/* Opens the i-th newest with its node key; both are freed by pb_free. The packets are sealed by
 * themselves, and the state lists their hashes. DENIED: another key. INVALID: what is in it can't be
 * read. CONFLICT: its content was let go. */
[[nodiscard]] bool slots_open_state(const struct slots *slots, size_t i,
                                    const struct secret *node_key, Postern__V1__NodeState **ret,
                                    Postern__V1__SlotPackets **ret_packets, struct error *err);
/* Frees what slots_open_state needs; the rest stays. */
void slots_let_go(struct slots *slots);

/* A slot on its way to the disk: sealed already. */
struct slot_write {
    const char *path; /* of the slots */
    size_t index;
    uint64_t sequence;
    struct generation generation;
    struct buf file;
};
void slot_write_init(struct slot_write *write);
/* For CLEANUP. */
void slot_write_done(struct slot_write *write);

/* Seals the next slot under `generation`, which has its key and is imported. `keep_other`: the
 * generation is not confirmed yet, so a slot of the generation before is left alone. One at a time, and
 * the slots outlive it. EXHAUSTED: the state is larger than a slot may be. */
[[nodiscard]] bool slots_prepare(const struct slots *slots, const struct generation *generation,
                                 const char *agent_id, const Postern__V1__NodeState *state,
                                 const Postern__V1__SlotPackets *packets, bool keep_other,
                                 struct slot_write *ret, struct error *err);
/* Writes the file, and waits for the disk. EXHAUSTED: the disk is full; the old files stand. */
[[nodiscard]] bool slot_write_run(const struct slot_write *write, struct error *err);
/* It is on disk. Takes over what is in `write`. */
void slots_written(struct slots *slots, struct slot_write *write);

/* How many valid slots are of this generation. */
size_t slots_of(const struct slots *slots, uint64_t generation);
