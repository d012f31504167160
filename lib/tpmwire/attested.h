/*
 * Attestation structures (TPMS_ATTEST, TPM 2.0 Library, Part 2 §10.12.12): what a TPM signs in
 * Quote, Certify and NV_Certify. Sans-I/O, nothing allocated; any thread.
 */
#pragma once

#include "base/slice.h"
#include "base/error.h"

#include <tss2/tss2_tpm2_types.h>

/* Parses the bytes that were signed (the contents of a TPM2B_ATTEST, without its size). `type` is
 * the one that is expected: TPM2_ST_ATTEST_QUOTE, _CERTIFY or _NV.
 * INVALID, saying which, for: the wrong magic (a signature over anything that the TPM did not make
 * itself), another type, truncation, trailing bytes, and encodings that are not canonical. */
[[nodiscard]] bool attested_parse(struct slice bytes, TPMI_ST_ATTEST type, TPMS_ATTEST *ret,
                                  struct error *err);
