#include "timekeeper.h"

void timekeeper_set(struct timekeeper *keeper, int64_t authority_ms, uint64_t boot_ms)
{
    *keeper = (struct timekeeper){.known = true, .authority_ms = authority_ms, .boot_ms = boot_ms};
}

void timekeeper_hear(struct timekeeper *keeper, int64_t authority_ms, uint64_t boot_ms)
{
    if (!keeper->known || authority_ms > timekeeper_authority(keeper, boot_ms))
        timekeeper_set(keeper, authority_ms, boot_ms);
}

/* A sum that ends at the greatest time instead of overflowing. */
static int64_t later(int64_t time, uint64_t ms)
{
    if (ms > INT64_MAX || time > INT64_MAX - (int64_t)ms)
        return INT64_MAX;
    return time + (int64_t)ms;
}

void timekeeper_restore(struct timekeeper *keeper, const Postern__V1__TimePair *pair,
                        struct slice ak_name, const struct tpm_time *time, uint64_t since_ms,
                        uint64_t boot_ms)
{
    if (!slice_equal(slice(pair->ak_name.data, pair->ak_name.len), ak_name) ||
        time->reset_count < pair->reset_count)
        return;
    /* After an unclean stop the clock may be lower than before. */
    uint64_t elapsed = time->clock_ms > pair->clock_ms ? time->clock_ms - pair->clock_ms : 0;
    timekeeper_set(keeper, later(pair->authority_ms, since_ms > elapsed ? since_ms : elapsed),
                   boot_ms);
}

int64_t timekeeper_authority(const struct timekeeper *keeper, uint64_t boot_ms)
{
    if (!keeper->known)
        return 0;
    return later(keeper->authority_ms, boot_ms > keeper->boot_ms ? boot_ms - keeper->boot_ms : 0);
}

int64_t timekeeper_now(const struct timekeeper *keeper, int64_t wall_ms, uint64_t boot_ms)
{
    int64_t authority = timekeeper_authority(keeper, boot_ms);
    return authority > wall_ms ? authority : wall_ms;
}
