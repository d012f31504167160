/*
 * A software TPM for tests: manufactured by swtpm_setup with EK certificates of a CA of its own,
 * run by swtpm on a Unix socket, rebooted, killed, copied.
 *
 * Commands that only tests need (extend, shut down, count what is loaded) are sent as plain bytes,
 * so that what is tested is not also what judges. Errors: struct error, as everywhere.
 */
#pragma once

#include "base/error.h"

#include <stdint.h>
#include <sys/types.h>

constexpr size_t SWTPM_PATH_MAX = 96; /* a Unix socket's path with ".ctrl" must fit 108 */

struct swtpm {
    char folder[SWTPM_PATH_MAX]; /* holds state/, ca/, tpm (the socket), tpm.ctrl, swtpm.log */
    char socket[SWTPM_PATH_MAX];
    char tcti[SWTPM_PATH_MAX + 16];     /* "swtpm:path=SOCKET" */
    char root_pem[SWTPM_PATH_MAX + 48]; /* the root that vouches for the EK certificates */
    pid_t pid;                          /* 0: not running */
};

/* Makes a new TPM in `folder`, which must exist: its own seeds, EKs, certificates. Not started. */
[[nodiscard]] bool swtpm_make(const char *folder, struct swtpm *ret, struct error *err);
/* A second machine with the same TPM state (a cloned chip): for what only a copy could show. The
 * first must be stopped. */
[[nodiscard]] bool swtpm_copy(const struct swtpm *from, const char *folder, struct swtpm *ret,
                              struct error *err);

/* Powers on: TPM2_Startup(CLEAR), so the PCRs are zero and resetCount is one higher. It dies with
 * the test. */
[[nodiscard]] bool swtpm_start(struct swtpm *tpm, struct error *err);
/* Powers off; orderly says TPM2_Shutdown(CLEAR) first, otherwise the power is cut. */
[[nodiscard]] bool swtpm_stop(struct swtpm *tpm, bool orderly, struct error *err);
/* For teardown: power off if it runs, ignoring errors. */
void swtpm_kill(struct swtpm *tpm);

/* TPM2_PCR_Extend in the SHA-256 and SHA-384 banks, by SHA-256(text) and SHA-384(text). */
[[nodiscard]] bool swtpm_extend(const struct swtpm *tpm, unsigned pcr, const char *text,
                                struct error *err);
/* Extends PCR 0 to 9 with distinct values: a swtpm boots with empty ones. */
[[nodiscard]] bool swtpm_extend_boot(const struct swtpm *tpm, struct error *err);

struct swtpm_loaded {
    unsigned objects;  /* transient */
    unsigned sessions; /* loaded or saved */
};
/* What is loaded now, to compare before and after. */
[[nodiscard]] bool swtpm_loaded(const struct swtpm *tpm, struct swtpm_loaded *ret,
                                struct error *err);

/* Sends one command to the TPM at a Unix socket and receives its answer (at most `room` bytes).
 * UNAVAILABLE if nobody answers within 10 s. */
[[nodiscard]] bool swtpm_command(const char *socket_path, const uint8_t *command, size_t len,
                                 uint8_t *ret, size_t room, size_t *ret_len, struct error *err);
