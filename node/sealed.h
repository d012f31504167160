/*
 * What of struct held goes into a slot and comes back from it (state.proto: NodeState, SlotPackets).
 * Threading: the loop's thread.
 */
#pragma once

#include "held.h"
#include "slots.h"

/* Writes heads and packets that are under this generation, and the last affirmation, into the next
 * slot; marks what is durable. Errors as slots_write; nothing is marked then. */
[[nodiscard]] bool sealed_write(struct slots *slots, const struct generation *generation,
                                struct held *held, bool keep_other, struct error *err);

/* Fills `held`, which holds no secrets, from an opened slot. *ret_appraisal is the affirmation in it
 * (pb_free), null if it has none. INVALID where parts don't fit each other; then `held` is wiped. */
[[nodiscard]] bool sealed_read(const Postern__V1__NodeState *state,
                               const Postern__V1__SlotPackets *packets,
                               const struct secret *node_key, struct held *held,
                               Postern__V1__AppraisalBody **ret_appraisal, struct error *err);
