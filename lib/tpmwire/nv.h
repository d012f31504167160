/*
 * NV indexes: their public area (TPMS_NV_PUBLIC, TPM 2.0 Library, Part 2 §13.5), Name, and the one
 * counter that Postern makes. Sans-I/O; any thread.
 */
#pragma once

#include "base/buf.h"

#include <tss2/tss2_tpm2_types.h>

constexpr size_t NV_AREA_WIRE_MAX = 256; /* bytes of a TPM2B_NV_PUBLIC: 80 with a SHA-512 policy */

/* The node's generation counter. 8 bytes, no policy, nameAlg SHA-256. */
constexpr TPMA_NV NV_COUNTER_ATTRIBUTES = 0x02040014; /* COUNTER | AUTHREAD | AUTHWRITE | NO_DA */
constexpr TPMA_NV NV_COUNTER_WRITTEN = 0x22040014;    /* the same after the first increment */
constexpr uint16_t NV_COUNTER_SIZE = 8;

/* TPM2B_NV_PUBLIC, nothing after it. INVALID as in public_area_parse. */
[[nodiscard]] bool nv_area_parse(struct slice wire, TPM2B_NV_PUBLIC *ret, struct error *err);

/* Appends TPM2B_NV_PUBLIC with its size. */
[[nodiscard]] bool nv_area_marshal(const TPMS_NV_PUBLIC *area, struct buf *ret, struct error *err);

/* Name of an NV index: nameAlg ‖ H_nameAlg(TPMS_NV_PUBLIC) (Part 1 §16). The WRITTEN bit is part
 * of it. */
[[nodiscard]] bool nv_area_name(const TPMS_NV_PUBLIC *area, TPM2B_NAME *ret, struct error *err);

/* The counter's public area at `index`, to define it (`written` false) or to compute its Name
 * (true). */
void nv_counter_area(TPMI_RH_NV_INDEX index, bool written, TPMS_NV_PUBLIC *ret);

/* INVALID, saying what differs, unless the area is exactly nv_counter_area(its index, written). */
[[nodiscard]] bool nv_counter_check(const TPMS_NV_PUBLIC *area, bool written, struct error *err);
