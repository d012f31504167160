#include "rpc/timeout.h"

#include <stdio.h>

static const struct unit {
    char letter;
    uint64_t ms;        /* of one; 0 for fractions of a millisecond */
    uint64_t fractions; /* of them in a millisecond */
} units[] = {
    {'m', 1, 1},         {'S', 1'000, 1}, {'M', 60'000, 1},
    {'H', 3'600'000, 1}, {'u', 0, 1'000}, {'n', 0, 1'000'000},
};

constexpr uint64_t EIGHT_DIGITS = 99'999'999;

bool timeout_parse(struct slice text, uint64_t *ret_ms, struct error *err)
{
    uint64_t value = 0;
    if (text.len < 2 || text.len > 9)
        goto malformed;
    for (size_t i = 0; i < text.len - 1; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            goto malformed;
        value = value * 10 + (uint64_t)(text.data[i] - '0');
    }
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        if (text.data[text.len - 1] != (uint8_t)units[i].letter)
            continue;
        *ret_ms = units[i].ms ? value * units[i].ms
                              : (value + units[i].fractions - 1) / units[i].fractions;
        return true;
    }
malformed:
    return error_set(err, ERROR_INVALID,
                     "malformed grpc-timeout: expected 1 to 8 digits and a unit");
}

const char *timeout_format(uint64_t ms, char ret[static TIMEOUT_TEXT_SIZE])
{
    for (size_t i = 0; i < 4; i++) {
        uint64_t value = ms / units[i].ms + (ms % units[i].ms != 0);
        if (value <= EIGHT_DIGITS || units[i].letter == 'H') {
            unsigned shown = value <= EIGHT_DIGITS ? (unsigned)value : (unsigned)EIGHT_DIGITS;
            (void)snprintf(ret, TIMEOUT_TEXT_SIZE, "%u%c", shown % 100'000'000U, units[i].letter);
            break;
        }
    }
    return ret;
}
