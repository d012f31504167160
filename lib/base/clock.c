#include "base/clock.h"

#include <stdlib.h>
#include <time.h>

/* Both clocks exist on every kernel that Postern runs on, so a failure means that the process
 * itself is broken: without a time it must not decide anything. */
static struct timespec clock_read(clockid_t id)
{
    struct timespec now;

    if (clock_gettime(id, &now) != 0)
        abort();
    return now;
}

int64_t clock_wall_ms(void)
{
    struct timespec now = clock_read(CLOCK_REALTIME);

    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

uint64_t clock_boot_ms(void)
{
    struct timespec now = clock_read(CLOCK_BOOTTIME);

    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}
