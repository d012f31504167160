/* What the parsers of this library share; nobody else includes it. */
#pragma once

#include "base/buf.h"

#include <tss2/tss2_tpm2_types.h>

/* A TPM2B: u16 size, then that many bytes, then nothing. INVALID if it is longer than `max` bytes in
 * all, or its size is not that of the rest. `what` names it in messages. */
[[nodiscard]] bool wire_sized(struct slice wire, size_t max, const char *what, struct slice *ret,
                              struct error *err);

/* Appends a TPM2B: u16 size, then the bytes. */
[[nodiscard]] bool wire_put_sized(struct buf *ret, struct slice body, struct error *err);

/* INVALID "malformed WHAT" with the marshalling library's code. */
bool wire_malformed(struct error *err, TSS2_RC code, const char *what);

/* INVALID unless all of `wire` was used and `again`, marshalled from what was understood, is the
 * same bytes. */
[[nodiscard]] bool wire_canonical(struct slice wire, size_t used, struct slice again,
                                  const char *what, struct error *err);

/* True for the hashes that a Name or policy may have: SHA-256, SHA-384, SHA-512. */
bool wire_strong_hash(TPMI_ALG_HASH alg);

/* alg ‖ H_alg(first ‖ second). INVALID if alg is none of the above. */
[[nodiscard]] bool name_from(TPMI_ALG_HASH alg, struct slice first, struct slice second,
                             TPM2B_NAME *ret, struct error *err);
