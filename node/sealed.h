/*
 * What of struct held goes into a slot and comes back from it (state.proto: NodeState, SlotPackets).
 * Threading: the loop's thread.
 */
#pragma once

#include "held.h"
#include "slots.h"

/* Prepares the next slot with the heads and packets that are under this generation, and the last
 * affirmation. Marks them as durable already, so that what changes before they are on disk can clear
 * its own mark; until then nobody may go by it, and if writing fails sealed_undo takes it back.
 * Errors as slots_prepare; nothing is marked then. */
[[nodiscard]] bool sealed_prepare(const struct slots *slots, const struct generation *generation,
                                  struct held *held, bool keep_other, struct slot_write *ret,
                                  struct error *err);
/* Nothing counts as durable: everything goes into the next slot again. */
void sealed_undo(struct held *held);

/* Fills `held`, which holds no secrets, from an opened slot. *ret_appraisal is the affirmation in it
 * (pb_free), null if it has none. INVALID where parts don't fit each other; then `held` is wiped. */
[[nodiscard]] bool sealed_read(const Postern__V1__NodeState *state,
                               const Postern__V1__SlotPackets *packets,
                               const struct secret *node_key, struct held *held,
                               Postern__V1__AppraisalBody **ret_appraisal, struct error *err);
