/*
 * Policy digests by calculation (TPM 2.0 Library, Part 1 §19.7, Part 3 §23): what a policy session
 * would hold after the same commands. `policy` is the running digest; policy_start makes it the
 * zeros that a new session has. Functions of values only; any thread.
 */
#pragma once

#include "tpmwire/pcr.h"

/* A zero digest of alg's size, as a new session has. INVALID for an unknown hash. The algorithm of
 * a running digest is known by its size. */
[[nodiscard]] bool policy_start(TPMI_ALG_HASH alg, TPM2B_DIGEST *ret, struct error *err);

/* TPM2_PolicyPCR (§23.7): policy = H(policy ‖ CC ‖ TPML_PCR_SELECTION ‖ pcr_digest), where
 * pcr_digest is pcr_composite_digest by the policy's hash. */
[[nodiscard]] bool policy_pcr(TPM2B_DIGEST *policy, const struct pcr_selection *selection,
                              const TPM2B_DIGEST *pcr_digest, struct error *err);

/* TPM2_PolicyNV (§23.9): args = H(operand ‖ offset ‖ operation), no size fields;
 * policy = H(policy ‖ CC ‖ args ‖ Name of the index). */
[[nodiscard]] bool policy_nv(TPM2B_DIGEST *policy, const TPM2B_NAME *index, struct slice operand,
                             uint16_t offset, TPM2_EO operation, struct error *err);

/* TPM2_PolicyCommandCode (§23.11). */
[[nodiscard]] bool policy_command_code(TPM2B_DIGEST *policy, TPM2_CC command, struct error *err);

/* TPM2_PolicySecret (§23.4): `entity` is a Name; that of a hierarchy is by
 * name_of_handle. */
[[nodiscard]] bool policy_secret(TPM2B_DIGEST *policy, const TPM2B_NAME *entity,
                                 struct slice policy_ref, struct error *err);

/* operandB of the node key's PolicyNV: the limit as 8 bytes, big-endian as the TPM keeps counters;
 * compared with TPM2_EO_UNSIGNED_LE at offset 0. */
void node_key_operand(uint64_t limit, TPM2B_OPERAND *ret);

/* The policy of a sealed node key, by SHA-256 and in the order that is its security:
 * PolicyPCR(selection, pcr_digest) → PolicyNV(counter ≤ limit) → PolicyCommandCode(Unseal).
 * `counter` is the Name of the written counter. */
[[nodiscard]] bool node_key_policy(const struct pcr_selection *selection,
                                   const TPM2B_DIGEST *pcr_digest, const TPM2B_NAME *counter,
                                   uint64_t limit, TPM2B_DIGEST *ret, struct error *err);
