/*
 * struct timekeeper: what time it is at the authority, at least (design: secrets.md, "Time").
 *
 * An appraisal binds authority time to a moment on this machine. Since then at least as much time
 * has passed as the boot clock says, or across a restart the TPM's; so setting the system clock back
 * does not lengthen max_offline. The newest pair replaces older ones: it is no high-water mark.
 * A plain value; the zero value knows nothing. Times are Unix milliseconds, boot_ms clock_boot_ms.
 */
#pragma once

#include "tpm/tpm.h"

#include "postern/v1/node.pb-c.h"

struct timekeeper {
    bool known;
    int64_t authority_ms; /* it was not earlier … */
    uint64_t boot_ms;     /* … at this moment */
};

/* Signed, by an appraisal: replaces what was known. */
void timekeeper_set(struct timekeeper *keeper, int64_t authority_ms, uint64_t boot_ms);
/* Told by the connection alone: it may say that it is later than we know, and not that it is earlier;
 * whoever sits between could stretch max_offline by that. The next appraisal heals a lie. */
void timekeeper_hear(struct timekeeper *keeper, int64_t authority_ms, uint64_t boot_ms);

/* The pair of a stored appraisal, and what the same TPM says now, at boot_ms. `since_ms`: how long ago
 * by the boot clock the appraisal came, 0 if that was in another boot. A pair of another AK, or one
 * from after the present reset count, is void. */
void timekeeper_restore(struct timekeeper *keeper, const Postern__V1__TimePair *pair,
                        struct slice ak_name, const struct tpm_time *time, uint64_t since_ms,
                        uint64_t boot_ms);

/* The later of the system's clock and the authority's. */
int64_t timekeeper_now(const struct timekeeper *keeper, int64_t wall_ms, uint64_t boot_ms);
/* The authority's clock, for what the authority compares with its own: its newest time and what passed
 * since by the boot clock, never the system's clock. 0 where it is unknown. */
int64_t timekeeper_authority(const struct timekeeper *keeper, uint64_t boot_ms);
