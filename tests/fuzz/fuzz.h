/*
 * A fuzz target: one function, in a file of its own, that feeds `input` to a parser of foreign bytes.
 * It is deterministic, keeps nothing from one call to the next, frees all it makes, and stops the
 * process (FUZZ_CHECK) where what the parser accepted breaks a promise. tests/fuzz/CMakeLists.txt
 * says how it is built and run.
 */
#pragma once

#include <stdio.h>
#include <stdlib.h>

#include "base/slice.h"

enum fuzz_verdict { FUZZ_REFUSED, FUZZ_ACCEPTED };

/* Whether the parser took `input`: a target none of whose seeds is accepted never gets past the
 * parser's first line, and shows nothing. */
enum fuzz_verdict fuzz_one(struct slice input);

#define FUZZ_CHECK(promise)                                                                        \
    do {                                                                                           \
        if (!(promise)) {                                                                          \
            fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, #promise);                  \
            abort();                                                                               \
        }                                                                                          \
    } while (false)
