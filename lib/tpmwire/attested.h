/*
 * Attestation structures (TPMS_ATTEST, TPM 2.0 Library, Part 2 §10.12.12): what a TPM signs in
 * Quote, Certify and NV_Certify. Sans-I/O, nothing allocated; any thread.
 */
#pragma once

#include "base/error.h"
#include "base/slice.h"

#include <tss2/tss2_tpm2_types.h>

/* Reads the structure of `type` at the beginning of `bytes` without judging who made it: neither the
 * magic nor what follows is looked at. For the verifier, whose table of checks does that; all others
 * call attested_parse. *ret_used is the structure's size. INVALID: malformed, truncated, another
 * type, not canonical. */
[[nodiscard]] bool attested_read(struct slice bytes, TPMI_ST_ATTEST type, TPMS_ATTEST *ret,
                                 size_t *ret_used, struct error *err);

/* INVALID unless the magic is the TPM's own, which no other structure that a restricted key signs
 * begins with, and `used` is all of `size`. */
[[nodiscard]] bool attested_check(const TPMS_ATTEST *attested, size_t used, size_t size,
                                  struct error *err);

/* Parses the bytes that were signed (the contents of a TPM2B_ATTEST, without its size). `type` is
 * the one that is expected: TPM2_ST_ATTEST_QUOTE, _CERTIFY or _NV.
 * Both of the above: INVALID, saying which, for the wrong magic, another type, truncation, trailing
 * bytes, and encodings that are not canonical. */
[[nodiscard]] bool attested_parse(struct slice bytes, TPMI_ST_ATTEST type, TPMS_ATTEST *ret,
                                  struct error *err);
