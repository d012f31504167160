/* Clocks. Sans-I/O code takes "now" as an argument; this is for the edges. */
#pragma once

#include <stdint.h>

/* Unix time in milliseconds (CLOCK_REALTIME). */
int64_t clock_wall_ms(void);
/* Milliseconds since boot, sleep included (CLOCK_BOOTTIME): for durations and deadlines. */
uint64_t clock_boot_ms(void);
