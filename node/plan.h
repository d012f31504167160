/*
 * What the agent does next, as a table over what it knows: a pure function, so that every order of
 * events, restarts included, can be tested without a TPM or an authority.
 *
 * One step runs at a time. Each is idempotent, and what it achieved is read back from disk, TPM and
 * authority after a crash: an agent that was killed anywhere goes on from plan_next.
 */
#pragma once

enum plan_step {
    PLAN_WAIT,   /* nothing before the next event or timer */
    PLAN_UNSEAL, /* ask the TPM to open the next slot */
    PLAN_ATTEST,
    PLAN_WATCH,  /* open the stream */
    PLAN_IMPORT, /* take over the generation that was offered */
    PLAN_FETCH,  /* one name that the head says is there */
    PLAN_WRITE,  /* a slot, under the generation in force */
    PLAN_CONFIRM_GENERATION,
    PLAN_RAISE,       /* the counter, to this generation's limit: what was before can't be opened;
                       * where the authority waits for it, by one */
    PLAN_WRITE_OTHER, /* the slot of the generation before; then attest at once */
    PLAN_CONFIRM_VERSION,
    PLAN_STEP_COUNT,
};

struct plan_view {
    bool slot_left; /* a slot that the TPM has not been asked about */
    bool attest_due;
    bool affirmed;            /* the last verdict of this run releases; an SVID is here */
    bool unfinished;          /* the authority waits for the counter of a confirmed generation */
    bool offered;             /* a generation that is not imported yet */
    bool watching, synced;    /* the stream stands; its snapshot is complete */
    bool link_held;           /* the authority is left alone for a moment, after a failure */
    bool has_key;             /* a node key in memory */
    bool wants;               /* a name to fetch */
    bool disk_held;           /* the disk is left alone for a moment, after a failure */
    bool dirty;               /* memory is newer than the newest slot */
    bool durable;             /* a slot of this generation is on disk */
    bool confirmed, raised;   /* of this generation, in this run */
    bool other_old;           /* the other slot is not of this generation */
    bool version_unconfirmed; /* a durable version that the authority has not been told of */
};

enum plan_step plan_next(const struct plan_view *view);
/* "fetch", "raise the counter", … for the log. */
const char *plan_step_name(enum plan_step step);
