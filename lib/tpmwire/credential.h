/*
 * TPM2_MakeCredential in software (TPM 2.0 Library, Part 1 §24, Part 3 §12.6): a secret that only
 * the TPM with this EK can open, and only for the key with this Name. Sans-I/O; any thread.
 */
#pragma once

#include "tpmwire/share.h"

/* Appends TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET, each with its size. `secret` has at most as
 * many bytes as a digest of the EK's nameAlg (TPM: INVALID beyond). On failure nothing is appended. */
[[nodiscard]] bool credential_make(const TPMT_PUBLIC *ek, const TPM2B_NAME *name,
                                   const struct secret *secret, struct buf *ret_blob,
                                   struct buf *ret_secret, struct error *err);

/* The same with the caller's randomness. */
[[nodiscard]] bool credential_make_with(const TPMT_PUBLIC *ek, const TPM2B_NAME *name,
                                        const struct secret *secret,
                                        const struct share_random *random, struct buf *ret_blob,
                                        struct buf *ret_secret, struct error *err);

/* For TPM2_ActivateCredential: both from the wire. INVALID if malformed or oversize. */
[[nodiscard]] bool credential_parse(struct slice blob, struct slice secret,
                                    TPM2B_ID_OBJECT *ret_blob, TPM2B_ENCRYPTED_SECRET *ret_secret,
                                    struct error *err);
