/*
 * An authority for tests: the whole of docs/protocol.md's other side in one small server, without
 * database or policies. It says what a test sets, also what a real one never would.
 * Asserts with cmocka. Threading: the loop's thread.
 */
#pragma once

#include "testlib/testlib.h"

#include "attest/identity.h"
#include "base/secret.h"
#include "keys/key.h"
#include "loop/address.h"
#include "loop/loop.h"
#include "rpc/server.h"

#include "postern/v1/node.rpc.h"

#include <openssl/x509.h>

constexpr size_t FAKE_SECRETS_MAX = 4;
constexpr size_t FAKE_GENERATIONS_MAX = 4;
constexpr size_t FAKE_KINDS = 2; /* P-384, ML-DSA-65 */

/* What a test may have it do wrong. */
enum fake_lie {
    FAKE_HONEST,
    FAKE_ONE_SIGNATURE,   /* the appraisal has the P-384 one alone */
    FAKE_WRONG_SIGNATURE, /* the ML-DSA-65 one is of something else */
    FAKE_OTHER_EVIDENCE,  /* evidence_hash is another's */
    FAKE_OTHER_AGENT,     /* agent_id is another's */
    FAKE_CROSSED_CA,      /* the ML-DSA-65 signer is certified by the P-384 CA */
    FAKE_HEAD_UNSIGNED,
    FAKE_PACKET_OF_OTHER_REQUEST,
};

struct fake_secret {
    const char *name, *value, *allow;
    uint64_t seq, version;
    bool gone;
};

struct fake_authority {
    struct loop *loop;
    struct rpc_server *server;
    struct address address;
    struct key *ca_key[FAKE_KINDS], *signer_key[FAKE_KINDS], *server_key;
    X509 *ca[FAKE_KINDS], *signer[FAKE_KINDS], *crossed;
    struct buf trust_pem;

    /* What it does. */
    enum fake_lie lie;
    Postern__V1__Verdict verdict;
    uint64_t retry_after_ms; /* of a verdict that does not release */
    uint64_t offer; /* the generation that a node must have; offered to one that has less */
    struct fake_secret secret[FAKE_SECRETS_MAX];
    size_t secret_count;

    /* What it saw. */
    struct attest_identity identity;
    uint64_t counter;
    struct secret *node_key[FAKE_GENERATIONS_MAX]; /* by number */
    uint64_t limit[FAKE_GENERATIONS_MAX];
    struct buf offer_body[FAKE_GENERATIONS_MAX];
    unsigned appraisals, fetches, version_confirms;
    uint64_t confirmed; /* generation */
    char token[64];     /* the last that came */
    unsigned tokens;
    struct rpc_call *watch;

    /* Of the attestation that runs. */
    struct rpc_call *attest;
    struct buf hello, challenge;
    struct secret *credential;
};

/* Listens on a loopback port of the kernel's choice. */
void fake_up(struct fake_authority *fake, struct loop *loop);
void fake_down(struct fake_authority *fake);
/* Goes away, and comes back on the same port. */
void fake_stop(struct fake_authority *fake);
void fake_start(struct fake_authority *fake);
/* Sends the head of secret i on the open stream. */
void fake_push(struct fake_authority *fake, size_t i);
void fake_attest_now(struct fake_authority *fake);
