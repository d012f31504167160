/*
 * The commitment of a version (docs/protocol.md): what both sides must agree on before a version
 * counts as confirmed. `r` hides the value: a weak secret could be guessed from a bare hash.
 */
#pragma once

#include "base/crypt.h"

constexpr size_t COMMITMENT_R_SIZE = 32;

struct version_name {
    const char *name;
    uint32_t epoch;
    uint64_t version;
};

[[nodiscard]] bool commitment_compute(const struct version_name *version, struct slice r,
                                      struct slice value, uint8_t ret[static SHA256_SIZE],
                                      struct error *err);
