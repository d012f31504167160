/*
 * struct held: what the node has in memory for its pods, and whether a pod may have it now. The one
 * place where release is decided; sans-I/O, with "now" as an argument.
 *
 * Ownership: owns everything in it. Values are struct secret. Threading: the loop's thread.
 * Times are Unix milliseconds.
 */
#pragma once

#include "base/buf.h"
#include "base/secret.h"

#include "postern/v1/node.pb-c.h"
#include "postern/v1/status.pb-c.h"

/* An authority that runs wild must not take the node's memory. */
constexpr size_t HELD_SECRETS_MAX = 1024;
constexpr size_t HELD_ALLOW_MAX = 1024;   /* SPIFFE IDs of one secret */
constexpr size_t HELD_REASONS_MAX = 32;   /* as many as there are checks */
constexpr size_t HELD_NAME_MAX = 256;     /* bytes of a secret's name */
constexpr size_t HEAD_MAX = 256 * 1024;   /* bytes of a HeadBody; the slot's limit is lower */
constexpr size_t PACKET_MAX = 128 * 1024; /* bytes of either part of a packet */

/* Texts of ours. */
struct texts {
    char **text;
    size_t count;
};
/* Copies `count` texts (at most `max`, EXHAUSTED beyond). */
[[nodiscard]] bool texts_copy(char *const *text, size_t count, size_t max, struct texts *ret,
                              struct error *err);
void texts_done(struct texts *texts);
[[nodiscard]] bool texts_equal(const struct texts *a, char *const *text, size_t count);

/* What the authority says of a name (a HeadBody), verified. */
struct head {
    char *name;
    uint32_t epoch;
    uint64_t seq;
    uint64_t version; /* the one that is to be read */
    bool gone;
    struct texts allow;
    struct buf body; /* as signed, for the slot */
};
void head_init(struct head *head);
/* For CLEANUP. */
void head_done(struct head *head);

/* One version of a secret: opened, and as it came. */
struct packet {
    uint64_t generation; /* of the node key that seals it */
    uint32_t epoch;
    uint64_t version;
    struct secret *r, *value;
    struct buf header, ciphertext; /* for the slot */
};
void packet_init(struct packet *packet);
/* For CLEANUP. Erases. */
void packet_done(struct packet *packet);

/* A name: its head, and the newest version that came. */
struct held_secret {
    struct head head;
    struct packet packet; /* value null: none yet */
    bool durable;         /* head and packet are in a slot, as they are here */
    bool confirmed;       /* the authority knows that the packet is durable */
    uint64_t fetch_after; /* boot clock, ms: a fetch that failed is not repeated at once */
};
/* Whether the packet is not what the head asks for, or not under this generation's node key. */
bool held_secret_wants(const struct held_secret *secret, uint64_t generation);

/* A moment by this machine's clocks. */
struct moment {
    int64_t wall_ms;
    uint64_t boot_ms; /* clock_boot_ms of … */
    char boot_id[40]; /* … this boot (/proc/sys/kernel/random/boot_id); empty: unknown */
};

struct held {
    uint64_t max_offline_ms;
    struct held_secret *secrets;
    size_t count, room;
    /* The live set was there once since the last wipe: what is absent now does not exist. */
    bool complete;

    char agent_id[33];            /* empty before the first challenge or slot */
    Postern__V1__Verdict verdict; /* of the last appraisal */
    /* Of the last appraisal, for pods: which checks, in words ("pcr-policy"), each once. Details, such
     * as PCR values, are for the node's log alone. */
    struct texts reasons;
    int64_t appraised_at, expires_at; /* of the last appraisal; 0: none */
    int64_t affirmed_at;              /* the last one that was affirming or a warning; 0: none */
    struct buf affirmation;           /* its AppraisalBody, for the slot */
    struct moment affirmation_came;   /* when it came */
    int64_t contact_at;               /* last word of the authority; 0: none */
    int64_t lost_since;               /* out of reach since; 0: within reach */
};

/* Nothing held, the authority not yet reached. */
void held_init(struct held *held, uint64_t max_offline_ms, int64_t now);
/* Wipes and frees. */
void held_done(struct held *held);

/* ---- What the authority said ---- */

/* Takes over an appraisal that was verified and came at that moment. One that does not release
 * wipes at once, and so does a verdict that we don't know. `body_bytes` are the body's own.
 * EXHAUSTED, with nothing changed but, where due, the wipe. */
[[nodiscard]] bool held_appraise(struct held *held, const Postern__V1__AppraisalBody *body,
                                 struct slice body_bytes, const struct moment *came,
                                 struct error *err);
/* Whether an appraisal lets the node have anything. */
bool appraisal_releases(const Postern__V1__AppraisalBody *body);
/* Whether it only waits for us: the node's state is good, but the counter is one below the limit of the
 * generation that the authority knows to be confirmed, so nothing new is released. What is held is
 * served on; its max_offline counts from the last appraisal that released. */
bool appraisal_unfinished(const Postern__V1__AppraisalBody *body);
/* Erases all secrets; verdict and times stay. */
void held_wipe(struct held *held);
/* The authority was heard, or is out of reach (of several losses the first counts). */
void held_reached(struct held *held, int64_t now);
void held_lost(struct held *held, int64_t now);

/* ---- Secrets ---- */

/* Null if there is none. Borrowed until the next change. */
struct held_secret *held_find(const struct held *held, const char *name);
/* Takes over a head (empty afterwards): makes the name, changes it, or erases it where it is gone.
 * False, and nothing changed, in *ret_changed if it is the very one held. CONFLICT, reason
 * HEAD_NOT_NEWER, if (epoch, seq) is not above the one held or the same one says something else.
 * EXHAUSTED. */
[[nodiscard]] bool held_put_head(struct held *held, struct head *head, bool *ret_changed,
                                 struct error *err);
/* Takes over a packet (empty afterwards). CONFLICT, reason VERSION_NOT_NEWER, if it is older than the
 * one held, newer than the head, or the same version with another value; NOT_FOUND: no such name. */
[[nodiscard]] bool held_put_packet(struct held *held, const char *name, struct packet *packet,
                                   struct error *err);
/* ---- What pods get ---- */

/* Since when answers can't be vouched for by the authority: out of reach, or the appraisal expired.
 * 0: they are. */
int64_t held_degraded_since(const struct held *held, int64_t now);
/* When held_degraded_since or held_release will next change by time alone; INT64_MAX: never. */
int64_t held_next_change(const struct held *held, int64_t now);

/* Whether the workload `spiffe_id` gets the secret `name` now; borrowed. In this order:
 *   CONFLICT NODE_CONTRAINDICATED, NODE_PENDING   the last verdict
 *   UNAVAILABLE NODE_NOT_APPRAISED                nothing is known yet
 *   UNAVAILABLE OFFLINE_TOO_LONG                  max_offline after the last affirming appraisal
 *   UNAVAILABLE NOT_FETCHED_YET                   may come: the live set is not here yet
 *   NOT_FOUND SECRET_UNKNOWN                      unknown, or not for this workload: not told apart */
[[nodiscard]] bool held_release(const struct held *held, const char *spiffe_id, const char *name,
                                int64_t now, const struct held_secret **ret, struct error *err);
