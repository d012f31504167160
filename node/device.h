/*
 * struct device: the node's TPM behind one worker thread. Jobs run one after another, each in a batch
 * of its own with a deadline; what is asked and answered is a struct that the caller keeps until
 * `done`.
 *
 * The counter's authValue is 32 random bytes in STATE-DIR/counter.auth, which are on disk before the
 * index is made: an index with an unknown password would be of no use to anyone.
 *
 * Errors are lib/tpm's (tpm/tpm.h); UNAVAILABLE (busy, gone) is the caller's to try again.
 * Ownership: owns the TPM connection, the authValue, the thread. Threading: the loop's thread.
 */
#pragma once

#include "generation.h"
#include "loop/loop.h"
#include "tpm/node_key.h"
#include "tpm/prove.h"
#include "tpmwire/binding.h"

struct device;

struct device_settings {
    const char *tcti;
    const char *state_dir;
    uint32_t counter_index;
    uint64_t busy_timeout_ms;                            /* for each job, from its start */
    const char *owner_auth_file, *endorsement_auth_file; /* null: empty passwords */
};

constexpr size_t DEVICE_QUEUE_MAX = 16; /* jobs; the agent has one at a time */

/* Reads or makes counter.auth in `state_dir`, which exists. Nothing is sent to the TPM yet. */
[[nodiscard]] bool device_new(struct loop *loop, const struct device_settings *settings,
                              struct device **ret, struct error *err);
/* Waits for the running job; every `done` that is due comes in here, the rest with CANCELLED. Takes
 * null; returns null. */
struct device *device_free(struct device *device);

/* How a job ended. err is null if ok. */
typedef void device_done(void *arg, bool ok, const struct error *err);

/* In front of every job's struct; private. */
struct device_job {
    struct device *device;
    bool (*work)(struct device_job *job, struct error *err);
    device_done *done;
    void *arg;
};

/* ---- E1: what goes into Hello. Makes the counter if it is absent. ---- */

struct device_hello {
    struct device_job job;
    struct buf ek_public, ak_public, wrap_public, req_public, counter_public;
    struct ek_certificates certificates;
    struct tpm_facts facts;
};
void device_hello_init(struct device_hello *hello);
/* For CLEANUP. */
void device_hello_done(struct device_hello *hello);
[[nodiscard]] bool device_hello(struct device *device, struct device_hello *hello,
                                device_done *done, void *arg, struct error *err);

/* ---- E3: the answer to a challenge ---- */

struct device_evidence {
    struct device_job job;
    /* In; borrowed until `done`. */
    struct slice credential_blob, credential_secret; /* empty: none is asked for */
    struct pcr_selection selection;
    struct binding binding;
    /* Out. */
    struct secret *credential;
    struct tpm_attested quote, certify_wrap, certify_req, certify_counter;
    struct pcr_values pcrs;
};
void device_evidence_init(struct device_evidence *evidence);
/* For CLEANUP. */
void device_evidence_done(struct device_evidence *evidence);
[[nodiscard]] bool device_evidence(struct device *device, struct device_evidence *evidence,
                                   device_done *done, void *arg, struct error *err);

/* ---- Node keys ---- */

/* Imports (if `generation` still has its duplicate) and unseals: sets generation->object_private and
 * ->key. */
struct device_unseal {
    struct device_job job;
    struct generation *generation; /* in and out; the job's until `done` */
    /* Out: what the TPM says of itself at that moment. */
    struct tpm_time time;
    uint64_t time_boot_ms;
    struct buf ak_public;
};
void device_unseal_init(struct device_unseal *unseal);
/* For CLEANUP. */
void device_unseal_done(struct device_unseal *unseal);
[[nodiscard]] bool device_unseal(struct device *device, struct device_unseal *unseal,
                                 device_done *done, void *arg, struct error *err);
/* Why a generation does not open, for people, in place of what the TPM says: "cannot unseal
 * generation 3: TPM_RC_POLICY_FAIL (0x99d): a sealed PCR differs …". Class and code stay. */
void unseal_explain(const struct generation *generation, struct error *err);

/* ---- Retirement ---- */

struct device_raise {
    struct device_job job;
    uint64_t target;        /* in; 0: one more than it is now */
    uint64_t before, value; /* out */
};
[[nodiscard]] bool device_raise(struct device *device, struct device_raise *raise,
                                device_done *done, void *arg, struct error *err);

/* ---- Requests ---- */

struct device_sign {
    struct device_job job;
    struct slice message; /* in; borrowed until `done` */
    struct buf signature; /* out: TPMT_SIGNATURE by REQ */
};
void device_sign_init(struct device_sign *sign);
/* For CLEANUP. */
void device_sign_done(struct device_sign *sign);
[[nodiscard]] bool device_sign(struct device *device, struct device_sign *sign, device_done *done,
                               void *arg, struct error *err);
