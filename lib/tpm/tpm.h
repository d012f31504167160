/*
 * The node's TPM 2.0, through ESYS and tctildr; nothing else of Postern talks to the device.
 *
 * Work is done in batches: tpm_begin connects, tpm_end flushes what was loaded and disconnects.
 * Every operation of this library needs an open batch. Within one, primary keys and one session
 * are kept loaded and reused, never more than 3 objects and 3 sessions: swtpm and small TPMs hold no
 * more. Where no resource manager stands between (swtpm, /dev/tpm0) a batch holds the TPM and others
 * wait until it ends; tpm_begin first flushes what a process that died has left behind there.
 *
 * Sessions are salted to the EK and encrypt the first parameter in both directions.
 *
 * Waiting: the batch has one deadline. A TPM that is busy, that answers TPM_RC_RETRY, _YIELDED or
 * _TESTING, or that stays silent beyond it gives UNAVAILABLE; what the last command did is then
 * unknown, and the batch fails from there on (end it and begin another). The kernel's device and
 * swtpm over TCP can't be interrupted within a command: there the deadline counts between commands.
 *
 * Errors: domain TPM with the TSS2_RC as code, and "WHAT WAS DONE: TPM_RC_NAME (0xCODE): text". A
 * TPM's own refusals keep their native code (TPM_CODE_*), which callers may compare. Classes:
 *   UNAVAILABLE busy, gone, TPM_RC_LOCKOUT        DENIED   wrong auth, policy, PCR, integrity
 *   INVALID     what was given to it is malformed  NOT_FOUND  no such NV index
 *   EXHAUSTED   NV or memory full                 INTERNAL  everything else
 *
 * Threading: none. All calls block; the programs make them on a worker thread, one at a time.
 */
#pragma once

#include "base/secret.h"
#include "tpmwire/pcr.h"

/* Response codes that callers act on or print, as TPM 2.0 Part 2, 6.6 builds them. */
constexpr int64_t TPM_CODE_POLICY_FAIL = 0x99d; /* Unseal: a sealed PCR differs */
constexpr int64_t TPM_CODE_POLICY = 0x126;      /* PolicyNV: the counter is beyond the limit */

/* A quote that never matches the PCRs read beside it, or an unseal that always meets a moving PCR,
 * ends after this many tries: something extends without pause, and waiting won't help. */
constexpr unsigned TPM_PCR_TRIES_MAX = 20;
/* A TPM that answers RETRY for ever must not hold the worker thread beyond the deadline or this. */
constexpr unsigned TPM_RETRIES_MAX = 100;

struct tpm_settings {
    const char *tcti; /* "device:/dev/tpmrm0", "swtpm:path=/run/swtpm.sock"; copied */
    const struct secret *owner_auth;       /* NULL: empty; borrowed for the life of struct tpm */
    const struct secret *endorsement_auth; /* the same */
};

struct tpm;

/* Call once, first thing in main and before any thread: keeps tpm2-tss from printing its own log
 * lines to standard error, unless TSS2_LOG is set in the environment. */
void tpm_setup(void);

/* Checks the settings and makes the object; nothing is connected. INVALID for a TCTI that can't be
 * (its name is not known, a relative path). */
[[nodiscard]] bool tpm_new(const struct tpm_settings *settings, struct tpm **ret,
                           struct error *err);
/* Ends an open batch and frees; NULL is fine; returns NULL. */
struct tpm *tpm_free(struct tpm *tpm);
DEFINE_CLEANUP(tpm_free, struct tpm)

/* Opens a batch that must be done by `deadline_ms` (clock_boot_ms). UNAVAILABLE with what to look
 * at where the device is missing, not permitted, or busy until then. CONFLICT if one is open. */
[[nodiscard]] bool tpm_begin(struct tpm *tpm, uint64_t deadline_ms, struct error *err);
/* Flushes all that the batch loaded and disconnects. Fine without an open batch. */
void tpm_end(struct tpm *tpm);

/* CLEANUP(tpm_end_at) struct tpm *batch = tpm; ends the batch with the scope. */
static inline void tpm_end_at(struct tpm **tpm)
{
    tpm_end(*tpm);
}

constexpr size_t TPM_BANKS_MAX = 16;

struct tpm_facts {
    uint16_t banks[TPM_BANKS_MAX]; /* TPM_ALG_ID of each bank with allocated PCRs */
    size_t bank_count;
    uint64_t firmware_version; /* TPM_PT_FIRMWARE_VERSION_1 ‖ _2 */
    char manufacturer[5];      /* four characters, unprintable ones as '?' */
};

/* What Hello reports. UNIMPLEMENTED, naming it, if a command that the node needs is missing. */
[[nodiscard]] bool tpm_facts(struct tpm *tpm, struct tpm_facts *ret, struct error *err);

struct tpm_time {
    uint64_t clock_ms; /* TPMS_CLOCK_INFO */
    uint32_t reset_count;
    uint32_t restart_count;
    bool safe;
};

/* TPM2_ReadClock (Part 3, 29.1). */
[[nodiscard]] bool tpm_time(struct tpm *tpm, struct tpm_time *ret, struct error *err);

/* TPM2_PCR_Read (Part 3, 22.4), repeated until all of `selection` is read. UNAVAILABLE if PCRs keep
 * moving meanwhile; INVALID for a bank or PCR that the TPM does not have. */
[[nodiscard]] bool tpm_pcr_read(struct tpm *tpm, const struct pcr_selection *selection,
                                struct pcr_values *ret, struct error *err);
