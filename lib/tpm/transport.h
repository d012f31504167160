/*
 * The way to the TPM: a TCTI of our own around the one that tctildr (or swtpm.h) gives. Here, and nowhere else,
 * commands wait for their answers until the batch's deadline, and are sent again when the TPM asks
 * for that (TPM_RC_RETRY, _YIELDED, _TESTING). ESYS sees neither.
 *
 * Once a command got no answer, nothing else is sent: the TPM may or may not have run it, and its
 * answer may still be on the way.
 * Private to lib/tpm.
 */
#pragma once

#include "base/error.h"

#include <tss2/tss2_tcti.h>
#include <tss2/tss2_tpm2_types.h>

enum transport_state {
    TRANSPORT_OK,
    TRANSPORT_LATE,     /* the deadline came first */
    TRANSPORT_LOST,     /* the connection broke */
    TRANSPORT_RETRYING, /* it said "try again" TPM_RETRIES_MAX times */
};

struct transport {
    TSS2_TCTI_CONTEXT_COMMON_V2 common; /* first: ESYS has a pointer to it */
    TSS2_TCTI_CONTEXT *inner;
    bool is_swtpm;        /* inner is of swtpm.h, else of tctildr */
    uint64_t deadline_ms; /* clock_boot_ms */
    enum transport_state state;
    size_t command_len;
    uint8_t command[TPM2_MAX_COMMAND_SIZE]; /* to send it again; wiped once it is answered */
    size_t response_len;
    uint8_t response[TPM2_MAX_RESPONSE_SIZE]; /* until ESYS has fetched it; wiped then */
};

/* PATH of "swtpm:path=PATH"; NULL for every other TCTI. */
const char *transport_swtpm_path(const char *conf);

/* Loads and connects the TCTI that `conf` names. Returns tpm2-tss's code. */
[[nodiscard]] TSS2_RC transport_open(struct transport *transport, const char *conf,
                                     uint64_t deadline_ms);
/* Disconnects. Fine for one that is not open (all zeros). */
void transport_disconnect(struct transport *transport);
