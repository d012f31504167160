/* A software TPM behind a multiplexer, for the tests of lib/tpm. */
#pragma once

#include "testlib/testlib.h"

#include "base/clock.h"
#include "base/mem.h"
#include "testlib/swtpm.h"
#include "testlib/tpm_mux.h"
#include "tpm/node_key.h"
#include "tpm/prove.h"

constexpr uint32_t COUNTER_INDEX = 0x01800010;

struct fixture {
    char folder[64];
    struct swtpm chip;
    struct tpm_mux *mux;
    struct tpm *tpm;
    struct secret *auth;
    struct tpm_counter counter;
};

/* For cmocka's group: *state is a struct fixture. The TPM is made, started, its boot PCRs extended,
 * the counter made. */
int fixture_up(void **state);
int fixture_down(void **state);
/* For each test: before, the multiplexer forgets; after, nothing may be loaded in the TPM. */
int fixture_before(void **state);
int fixture_after(void **state);

/* A deadline that no test should meet. */
uint64_t soon(void);
/* tpm_begin or fail. */
void batch(struct fixture *f);

/* A second TPM of its own in FOLDER/NAME, started, with the same boot state. Killed and freed by
 * other_down. */
void other_up(const struct fixture *f, const char *name, struct swtpm *ret_chip,
              struct tpm **ret_tpm);
void other_down(struct swtpm *chip, struct tpm *tpm);

/* Runs a line of ours in a shell, for tpm2-tools as a second implementation; its exit status. */
int shell(const char *line);

/* Parses "sha256:…" or fails. */
struct pcr_selection select_pcrs(const char *text);
