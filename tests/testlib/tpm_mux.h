/*
 * A multiplexer between several programs and one swtpm, which also records what passes and makes
 * things go wrong at chosen commands.
 *
 * It listens like swtpm does, on PATH and PATH.ctrl. One client is served at a time, others wait in
 * the queue: who has sent a command is alone with the TPM until it disconnects, and its process for
 * hold_ms more (tpm2-tss connects anew for each command), or until that is gone. So a process that connects and says nothing blocks nobody, and handles of different
 * clients never mix.
 *
 * Threading: tpm_mux_serve runs in one thread; everything else may be called from another.
 */
#pragma once

#include "base/error.h"
#include "base/slice.h"

#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

enum tpm_mux_action {
    TPM_MUX_RESPOND,    /* answer `value` as response code; the TPM never sees the command */
    TPM_MUX_CUT_BEFORE, /* close the connection; the TPM never sees the command */
    TPM_MUX_CUT_AFTER,  /* the TPM runs it, the answer is lost */
    TPM_MUX_DELAY,      /* forward it `value` milliseconds later */
    TPM_MUX_EXTEND,     /* extend PCR `value` first, as somebody else on the machine may */
    TPM_MUX_GARBLE,     /* flip a bit in the last byte of the answer */
};

struct tpm_mux_fault {
    uint32_t command; /* TPM_CC; 0: every command */
    unsigned skip;    /* let so many of them pass first */
    unsigned count;   /* then strike so many; 0: all */
    enum tpm_mux_action action;
    uint32_t value;
};

struct tpm_mux_record {
    pid_t client;
    uint32_t command;
    uint32_t code; /* what the client got; 0xffffffff: the connection was cut */
    bool struck;   /* by a fault */
};

struct tpm_mux;

/* Listens on `path` and `path`.ctrl for what swtpm serves on `swtpm` and `swtpm`.ctrl. `record`
 * may be NULL; else each command is a line in it. */
[[nodiscard]] bool tpm_mux_new(const char *path, const char *swtpm, uint64_t hold_ms, FILE *record,
                               struct tpm_mux **ret, struct error *err);
/* Unlinks the sockets; tpm_mux_serve must have returned. NULL is fine; returns NULL. */
struct tpm_mux *tpm_mux_free(struct tpm_mux *mux);

/* Serves until tpm_mux_stop. */
void tpm_mux_serve(struct tpm_mux *mux);
/* May be called from a signal handler. */
void tpm_mux_stop(struct tpm_mux *mux);

/* The same in a thread of its own, for tests. */
[[nodiscard]] bool tpm_mux_start(struct tpm_mux *mux, struct error *err);
/* Stops and joins it. */
void tpm_mux_join(struct tpm_mux *mux);

/* Adds a fault; EXHAUSTED beyond 8. */
[[nodiscard]] bool tpm_mux_inject(struct tpm_mux *mux, const struct tpm_mux_fault *fault,
                                  struct error *err);
/* Forgets all faults and the record. */
void tpm_mux_clear(struct tpm_mux *mux);
/* How many commands passed or were struck since tpm_mux_clear; those of one code, or all with 0. */
unsigned tpm_mux_count(struct tpm_mux *mux, uint32_t command);
/* The n-th of them (from 0); false beyond the last, or beyond the first 1024. */
bool tpm_mux_record(struct tpm_mux *mux, unsigned n, struct tpm_mux_record *ret);

/* Looks for these bytes (at most 64) in everything that passes, either way; an empty slice ends it.
 * tpm_mux_seen: in how many commands or answers they were since. */
void tpm_mux_watch(struct tpm_mux *mux, struct slice bytes);
unsigned tpm_mux_seen(struct tpm_mux *mux);

/* "Unseal" → TPM_CC; 0 for a name that is not known. And back, or "0x…" in `room`. */
uint32_t tpm_mux_command_code(const char *name);
const char *tpm_mux_command_name(uint32_t command, char room[static 16]);
