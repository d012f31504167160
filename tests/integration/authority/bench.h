/*
 * An authority in this process, on loopback with real TLS, and machines with software TPMs that
 * attest to it by a client of the test's own: one that can also lie.
 */
#pragma once

#include "testlib/testlib.h"

#include "authority.h"
#include "generation.h"

#include "base/buf.h"
#include "base/mem.h"
#include "rpc/client.h"
#include "testlib/swtpm.h"
#include "tpm/node_key.h"
#include "tpm/prove.h"

#include "postern/v1/admin.rpc.h"
#include "postern/v1/node.rpc.h"

struct bench {
    char folder[64];
    char data[96]; /* what init made */
    struct loop *loop;
    struct authority *authority;
    struct address address;
    struct rpc_client *operator_client;
};

void bench_up(struct bench *bench);
void bench_down(struct bench *bench);
/* Writes policies/KIND/NAME.yaml; empty text removes it. */
void bench_write(const struct bench *bench, const char *name, const char *text);
/* Reads them anew, as SIGHUP does. */
bool bench_reload(struct bench *bench, struct error *err);
/* A client with the certificate in CERT (PEM) and its key; null for none. */
struct rpc_client *bench_client(const struct bench *bench, struct slice certificate,
                                struct key *key);
/* Runs a transaction and the loop until it is done. */
bool bench_transact(struct bench *bench, store_run *run, void *arg, struct error *err);
/* A join token for the policy. */
void bench_token(struct bench *bench, const char *policy, char ret[static JOIN_TOKEN_SIZE]);
/* The node as operators see it; free by pb_free. */
Postern__V1__ListNodesResponse *bench_nodes(struct bench *bench);

struct machine {
    char folder[SWTPM_PATH_MAX];
    struct swtpm chip;
    struct tpm *tpm;
    struct secret *auth;
    struct tpm_counter counter;
    uint64_t generation; /* said in hello */
};

void machine_up(const struct bench *bench, const char *name, struct machine *ret);
void machine_down(struct machine *machine);
void machine_reboot(struct machine *machine);
/* A policy that this machine fulfils now: PCR 0, 2, 4 and 7, trusted by its EK certificate. */
void machine_policy(struct bench *bench, struct machine *machine, const char *name);

/* What one attempt says, and what it is told. */
struct attempt {
    struct bench *bench;
    struct machine *machine;
    const char *token;
    /* Lies. */
    bool wrong_connection;       /* evidence is bound to another TLS connection */
    struct slice replay;         /* evidence of an earlier attempt, instead of new */
    struct slice replay_hello;   /* and its hello */
    struct machine *other_quote; /* the quote is of this machine's TPM */
    bool wrong_values;           /* the PCR values are not those that were quoted */
    /* Slowness: attest returns once the challenge came, attest_go_on sends the evidence. */
    bool holds;
    struct rpc_client *over_client; /* this client's connection instead of its own */

    struct rpc_client *client;
    struct rpc_call *call;
    struct buf hello, challenge, evidence; /* as they travelled */
    struct attest_identity id;
    struct key *key;
    ProtobufCMessage *appraisal; /* an Appraisal, null if it failed */
    ProtobufCMessage *body;      /* its AppraisalBody */
    ProtobufCMessage *offer;     /* a GenerationBody, or null */
    struct error err;
    bool over;
};

/* Attests once over a connection of its own. False if the call failed: attempt->err. */
bool attest(struct attempt *attempt);
bool attest_go_on(struct attempt *attempt);
void attempt_done(struct attempt *attempt);
const Postern__V1__AppraisalBody *attempt_body(const struct attempt *attempt);
const Postern__V1__Appraisal *attempt_appraisal(const struct attempt *attempt);
/* Asserts the verdict, printing the reasons if it is another. */
void assert_verdict(const struct attempt *attempt, Postern__V1__Verdict verdict);
/* Whether a reason of that name is among the body's. */
bool has_reason(const struct attempt *attempt, const char *name);
