/*
 * What the files of lib/tpm share and nobody else includes: the connection with what it has loaded,
 * errors from response codes, keys and sessions by need.
 */
#pragma once

#include "tpm/counter.h"
#include "tpm/key.h"
#include "tpm/transport.h"

#include <tss2/tss2_esys.h>

/* libtpms and the smallest hardware hold no more (TPM_PT_HR_TRANSIENT_MIN is 3). */
constexpr size_t OBJECTS_MAX = 3;
constexpr size_t TCTI_MAX = 256;

struct tpm {
    char tcti[TCTI_MAX];
    bool managed; /* a resource manager flushes what we leave when we disconnect */
    const struct secret *owner_auth;
    const struct secret *endorsement_auth;

    /* Of the open batch; all zeros outside one. */
    struct transport transport;
    ESYS_CONTEXT *esys;
    bool left_over;             /* a flush failed: sweep at the end */
    bool spoiled;               /* ESYS choked on an answer, and takes no more commands */
    ESYS_TR key[TPM_KEY_COUNT]; /* 0: not loaded */
    uint64_t used[TPM_KEY_COUNT];
    uint64_t uses;
    ESYS_TR session; /* the salted HMAC session; 0: not started */
    bool ek_known;   /* which template the EK has: asked once per batch */
    int ek_template; /* enum template_id */
};

/* Sets `err` from what ESYS returned for the command that the words name ("quote with the AK").
 * Returns false. */
PRINTF_LIKE(4, 5)
bool tpm_fail(struct tpm *tpm, TSS2_RC rc, struct error *err, const char *format, ...);

/* As tpm_fail, for a command that was given a structure which our own parser found well-formed and
 * which is bound to one TPM: if this TPM finds it malformed, it is another's. */
PRINTF_LIKE(4, 5)
bool tpm_fail_foreign(struct tpm *tpm, TSS2_RC rc, struct error *err, const char *format, ...);

/* The response code without handle, parameter and session numbers; codes of other layers as is. */
TSS2_RC tpm_base_code(TSS2_RC rc);

/* INTERNAL without an open batch; UNAVAILABLE if the TPM was lost in it. Every operation first. */
[[nodiscard]] bool tpm_ready(const struct tpm *tpm, struct error *err);

/* A loaded object or session of one scope; CLEANUP(tpm_handle_done). */
struct tpm_handle {
    struct tpm *tpm;
    ESYS_TR tr; /* 0: none */
};
void tpm_handle_done(struct tpm_handle *handle);

/* Flushes primaries, longest unused first, until `slots` more objects fit: with 1, the two that were
 * asked for last stay. */
void tpm_make_room(struct tpm *tpm, size_t slots);

/* The primary's handle, loaded if need be; it stays until two others were asked for, so an operation
 * with two keys asks for its sessions (which ask for the EK) first. */
[[nodiscard]] bool tpm_key_load(struct tpm *tpm, enum tpm_key key, ESYS_TR *ret, struct error *err);

/* The public area of the primary, loaded if need be. */
[[nodiscard]] bool tpm_key_area(struct tpm *tpm, enum tpm_key key, TPM2B_PUBLIC *ret,
                                struct error *err);

/* The batch's HMAC session, salted to the EK; `attributes` for the next command besides
 * CONTINUESESSION: TPMA_SESSION_DECRYPT where its first parameter is sized and secret,
 * TPMA_SESSION_ENCRYPT where the answer's is. */
[[nodiscard]] bool tpm_session(struct tpm *tpm, TPMA_SESSION attributes, ESYS_TR *ret,
                               struct error *err);

/* A fresh session of its own, salted to the EK. */
[[nodiscard]] bool tpm_session_new(struct tpm *tpm, TPM2_SE type, TPMA_SESSION attributes,
                                   struct tpm_handle *ret, struct error *err);

/* Gives ESYS the configured auth of ESYS_TR_RH_OWNER or ESYS_TR_RH_ENDORSEMENT. */
[[nodiscard]] bool tpm_hierarchy_auth(struct tpm *tpm, ESYS_TR hierarchy, struct error *err);

/* What authorizes the use of a hierarchy: the empty password, or the batch's session where an auth
 * is configured or something is to be encrypted. */
[[nodiscard]] bool tpm_hierarchy_session(struct tpm *tpm, ESYS_TR hierarchy,
                                         TPMA_SESSION attributes, ESYS_TR *ret, struct error *err);

/* The auth as ESYS and the TPM use it, without trailing zeros. INVALID if longer than 64 bytes.
 * The caller wipes it. */
[[nodiscard]] bool tpm_auth_from(const struct secret *secret, TPM2B_AUTH *ret, struct error *err);

/* NV handles that exist, ascending. */
constexpr size_t NV_LIST_MAX = 128;
struct nv_list {
    size_t count;
    uint32_t index[NV_LIST_MAX];
};
[[nodiscard]] bool tpm_nv_list(struct tpm *tpm, struct nv_list *ret, struct error *err);
bool nv_list_has(const struct nv_list *list, uint32_t index);

/* ESYS's object for an NV index, closed by tpm_nv_done; with `auth` set as its authValue (may be
 * NULL). NOT_FOUND if there is none. */
[[nodiscard]] bool tpm_nv_open(struct tpm *tpm, uint32_t index, const struct secret *auth,
                               struct tpm_handle *ret, struct error *err);
void tpm_nv_done(struct tpm_handle *nv);
