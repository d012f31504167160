/* What the files of struct agent share; nobody else includes it. */
#pragma once

#include "agent.h"
#include "attestation.h"
#include "join_token.h"
#include "loop/worker.h"
#include "packet.h"
#include "plan.h"
#include "sealed.h"

#include "postern/v1/node.rpc.h"

/* After a failure: 1 s, doubling to a minute; a node that can't reach its TPM or its authority must
 * not keep either busy. */
constexpr uint64_t BACKOFF_FIRST_MS = 1'000;
constexpr uint64_t BACKOFF_MAX_MS = 60'000;
/* How soon a join token is seen that an operator has just written. */
constexpr uint64_t TOKEN_LOOK_MS = 1'000;
/* AttestNow as fast as it comes would be a stream that costs a TPM. */
constexpr uint64_t ATTEST_PAUSE_MS = 1'000;
constexpr size_t DISK_QUEUE_MAX = 1; /* jobs; there is one at a time */
constexpr uint64_t REQUEST_TIMEOUT_MS = 30'000;
/* Three AuthorityTimes missed: the stream is dead, whatever TCP says. */
constexpr uint64_t WATCH_SILENCE_MS = 100'000;
/* A name whose packets are wrong or absent is asked for again after this. */
constexpr uint64_t NAME_PAUSE_MS = 30'000;
/* A TPM that is away at the start: after so many tries the node attests with what it has. */
constexpr unsigned UNSEAL_TRIES_MAX = 5;

struct agent {
    struct loop *loop;
    struct address authority;
    char *server_name, *trust_anchor, *state_dir;
    struct buf trust_pem;
    void (*changed)(void *arg);
    void *changed_arg;

    struct device *device;
    struct authority_keys *keys;
    struct held held;
    struct timekeeper time;
    char boot_id[40];
    bool closing;

    /* Slots and generations. */
    struct slots *slots;
    size_t slot_next; /* index by age of the next to ask the TPM about */
    unsigned slot_tries;
    uint64_t slot_after;       /* boot clock */
    struct generation current; /* number 0: none can be opened */
    struct generation offer;   /* number 0: none */
    bool confirmed, raised;
    struct worker *disk;               /* writes slots */
    struct slot_write write;           /* … this one */
    bool unfinished;                   /* the last appraisal waits for the counter */
    uint64_t disk_after, disk_backoff; /* boot clock; ms */
    int64_t stored_affirmed_at;        /* of the affirmation in the newest slot */
    bool erased;                       /* a name that is in a slot is gone */
    bool wiped;                        /* the slots were given up because of a verdict */

    /* The authority. */
    struct rpc_client *attest_client; /* without certificate */
    struct rpc_client *client;        /* with the SVID; null before the first */
    struct attestation *attestation;
    bool affirmed;
    uint64_t attest_at, attested_at; /* boot clock */
    uint64_t attest_backoff;
    bool attest_again; /* asked for while an attestation was running */
    struct join_token_file token;
    struct timer token_look;
    struct rpc_call *watch;
    bool synced;
    uint64_t link_after; /* boot clock */
    uint64_t link_backoff;
    struct timer watch_silence;

    /* The step that runs, and its parts. */
    enum plan_step step;
    struct task next;
    struct timer wake;
    struct device_unseal unseal;
    struct generation unsealing; /* what the job works on */
    struct device_raise raise;
    struct device_sign sign;
    struct buf body, to_sign;
    uint8_t nonce[REQUEST_NONCE_SIZE];
    char *name; /* of the secret that is fetched or confirmed */
    uint32_t epoch;
    uint64_t version;
    struct rpc_call *request;
};

/* ---- agent.c ---- */

/* The step is over; what is next is looked for soon. */
void agent_step_done(struct agent *agent);
/* Something changed that plan_next or pods may care for. */
void agent_touch(struct agent *agent);
void agent_tell(struct agent *agent);
/* Doubles *backoff within its limits; returns when to go on (boot clock). */
uint64_t agent_back_off(const struct agent *agent, uint64_t *backoff);
struct moment agent_moment(const struct agent *agent);
/* Whether anything held is newer than the newest slot. */
bool agent_is_dirty(const struct agent *agent);

/* ---- agent_seal.c ---- */
void agent_unseal(struct agent *agent);
void agent_import(struct agent *agent);
void agent_write(struct agent *agent);
void agent_raise(struct agent *agent);
/* Forgets secrets and node keys. */
void agent_wipe(struct agent *agent);
/* Looks at the slots again from the start. */
[[nodiscard]] bool agent_reopen_slots(struct agent *agent, struct error *err);

/* ---- agent_link.c ---- */
[[nodiscard]] bool agent_link_new(struct agent *agent, struct error *err);
void agent_attest(struct agent *agent);
void agent_watch(struct agent *agent);
void agent_watch_stop(struct agent *agent);
/* A request failed in a way that concerns all of them. */
void agent_link_failed(struct agent *agent, const struct error *why, const char *what);

/* ---- agent_request.c ---- */
void agent_fetch(struct agent *agent);
void agent_confirm(struct agent *agent, bool generation);
/* A name that may be fetched now; null if there is none. `ret_later` is lowered to when the next may
 * be. */
struct held_secret *agent_wanted(struct agent *agent, uint64_t now, uint64_t *ret_later);
struct held_secret *agent_unconfirmed(struct agent *agent);
