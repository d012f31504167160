/* The recorded vectors (tests/data/tpmwire/README.md), and what the tests of parsers share. */
#pragma once

#include "testlib/testlib.h"

#include "base/buf.h"
#include "base/secret.h"

#include <tss2/tss2_tpm2_types.h>

/* The bytes of a vector, kept until the program ends; fails the test if there is none. */
struct slice vector(const char *name);

/* TPM2B_PUBLIC `NAME.public`, parsed. */
TPMT_PUBLIC vector_area(const char *name);

TPM2B_NAME vector_name(const char *name);

/* The PCR values of `name`, laid out for `selection`. */
struct pcr_values;
void vector_pcrs(const char *name, const char *selection, struct pcr_values *ret);

/* A parser's outcome; `parse` writes its output only on success, which the helper's caller poisons
 * and compares itself. */
typedef bool parse_function(struct slice wire, struct error *err);

/* Asserts that `wire` parses, but none of its proper prefixes and not with a byte after it: all
 * INVALID. Each in memory of exactly its size, so that a sanitizer sees a read beyond. */
void assert_whole_only(struct slice wire, parse_function *parse);
