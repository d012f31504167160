/*
 * The node's side of an attestation with a TPM (design: attestation.md, E1 and E3), and the
 * authority's side with what it would have in its database. For the test alone; the programs have their
 * own.
 */
#pragma once

#include "testlib/testlib.h"

#include "attest/appraise.h"
#include "base/buf.h"
#include "testlib/swtpm.h"
#include "tpm/prove.h"

struct agent {
    struct swtpm chip;
    struct tpm *tpm;
    struct secret *auth;
    struct tpm_counter counter;
};

/* Makes and starts a TPM in FOLDER/NAME, extends its boot PCRs, makes the counter. */
void agent_up(struct agent *agent, const char *folder, const char *name);
void agent_down(struct agent *agent);
/* A batch; ended by tpm_end. */
void agent_begin(struct agent *agent);

/* One conversation; owns all that it points at. */
struct talk {
    struct buf areas[5];
    struct ek_certificates certificates;
    ProtobufCBinaryData chain[EK_CHAIN_MAX];
    Postern__V1__Hello hello;
    struct buf hello_bytes;
    struct attest_identity identity;

    uint8_t exporter[32], nonce[32];
    struct secret *credential;
    struct buf blob, seed; /* of the credential; empty: none is asked for */
    struct pcr_selection asked;
    Postern__V1__PcrSelection asked_banks[PCR_BANKS_MAX], *asked_pointers[PCR_BANKS_MAX];
    Postern__V1__Challenge challenge;
    struct buf challenge_bytes;

    struct tpm_attested quote, certify_wrap, certify_req, certify_counter;
    struct pcr_values values;
    struct secret *answer;
    Postern__V1__Attested parts[4];
    Postern__V1__PcrSelection selections[PCR_BANKS_MAX];
    Postern__V1__PcrBank banks[PCR_BANKS_MAX], *bank_pointers[PCR_BANKS_MAX];
    ProtobufCBinaryData bytes[PCR_VALUES_MAX];
    Postern__V1__Evidence evidence;
    struct buf evidence_bytes;
};

void talk_init(struct talk *talk);
void talk_done(struct talk *talk);
/* E1, from the TPM. */
void talk_hello(struct talk *talk, struct agent *agent);
/* E2. `known` null: the pair of EK and AK is not proven, so a credential is asked for. */
void talk_challenge(struct talk *talk, const struct attest_record *known,
                    const struct pcr_selection *asked);
/* E3, from the TPM. False where it could not answer the credential; the rest is there then. */
bool talk_evidence(struct talk *talk, struct agent *agent);
/* What the verifier gets, but for what it has itself: record, policy, roots. */
void talk_case(struct talk *talk, struct attest_case *ret);
