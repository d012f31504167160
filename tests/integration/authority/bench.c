#include "bench.h"

#include "init.h"

#include "attest/explain.h"
#include "base/clock.h"
#include "base/file.h"
#include "pb/message.h"
#include "spiffe/ca.h"
#include "tpmwire/binding.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

constexpr uint64_t SOON_MS = 60'000;

static uint64_t soon(void)
{
    return clock_boot_ms() + SOON_MS;
}

static ProtobufCBinaryData data_of(struct slice bytes)
{
    return (ProtobufCBinaryData){.len = bytes.len, .data = (uint8_t *)bytes.data};
}

/* ---- The authority ---- */

static struct policies_source source(const struct bench *bench, char folder[static 128],
                                     char roots[static 128])
{
    snprintf(folder, 128, "%s/policies", bench->data);
    snprintf(roots, 128, "%s/roots.pem", bench->folder);
    return (struct policies_source){.folder = folder,
                                    .ek_roots = access(roots, R_OK) == 0 ? roots : nullptr};
}

static void read_file(const struct bench *bench, const char *name, struct buf *ret)
{
    struct error err = {0};
    char path[160];
    snprintf(path, sizeof(path), "%s/%s", bench->data, name);
    buf_init(ret, 1024 * 1024);
    assert_ok(file_read(path, ret, &err));
}

void bench_up(struct bench *bench)
{
    struct error err = {0};
    char folder[128], roots[128], data_dir[128];
    *bench = (struct bench){0};
    testlib_folder(bench->folder);
    snprintf(bench->data, sizeof(bench->data), "%s/authority", bench->folder);
    char *argv[] = {(char[]){"init"}, bench->data, (char[]){"--trust-domain"},
                    (char[]){"test.example"}, nullptr};
    assert_ok(init_run(4, argv, &err));
    assert_ok(loop_new(&bench->loop, &err));
    snprintf(data_dir, sizeof(data_dir), "%s/data", bench->data);
    const struct authority_settings settings = {
        .data_dir = data_dir,
        .trust_domain = "test.example",
        .policies = source(bench, folder, roots),
        .svid_lifetime_ms = 3'600'000,
        .listen = {.kind = ADDRESS_IPV4, .host = "127.0.0.1"},
    };
    assert_ok(authority_new(bench->loop, &settings, &bench->authority, &bench->address, &err));

    CLEANUP(buf_done) struct buf pem;
    CLEANUP(key_unref_at) struct key *key = nullptr;
    char uri[160];
    read_file(bench, "operator.pem", &pem);
    snprintf(uri, sizeof(uri), "file:%s/operator.key", bench->data);
    assert_ok(key_open(uri, &key, &err));
    bench->operator_client = bench_client(bench, buf_slice(&pem), key);
}

void bench_down(struct bench *bench)
{
    rpc_client_free(bench->operator_client);
    authority_free(bench->authority);
    loop_free(bench->loop);
    testlib_folder_remove(bench->folder);
}

void bench_write(const struct bench *bench, const char *name, const char *text)
{
    struct error err = {0};
    char path[160];
    snprintf(path, sizeof(path), "%s/policies/%s.yaml", bench->data, name);
    if (text[0])
        assert_ok(file_write_atomic(path, slice_str(text), 0644, &err));
    else
        unlink(path);
}

bool bench_reload(struct bench *bench, struct error *err)
{
    char folder[128], roots[128];
    const struct policies_source from = source(bench, folder, roots);
    return authority_reload(bench->authority, &from, 3'600'000, err);
}

struct rpc_client *bench_client(const struct bench *bench, struct slice certificate,
                                struct key *key)
{
    struct error err = {0};
    struct rpc_client *client;
    CLEANUP(buf_done) struct buf trust;
    CLEANUP(tls_context_unref_at) struct tls_context *tls = nullptr;
    read_file(bench, "trust.pem", &trust);
    const struct tls_config config = {
        .role = TLS_CLIENT,
        .certificates = certificate,
        .key = key,
        .trust = buf_slice(&trust),
        .trust_name = "trust.pem",
        .server_name = "postern-authority",
        .alpn = "h2",
    };
    assert_ok(tls_context_new(&config, &tls, &err));
    const struct rpc_client_options options = {.tls = tls};
    assert_ok(rpc_client_new(bench->loop, &bench->address, &options, &client, &err));
    return client;
}

struct transacting {
    struct bench *bench;
    store_run *run;
    void *arg;
    bool ok;
    struct error err;
};

static bool transacting_run(struct tx *tx, void *arg, struct error *err)
{
    const struct transacting *transacting = arg;
    return transacting->run(tx, transacting->arg, err);
}

static void transacting_done(void *arg, bool ok, const struct error *err)
{
    struct transacting *transacting = arg;
    transacting->ok = ok;
    if (err)
        transacting->err = *err;
    loop_stop(transacting->bench->loop);
}

bool bench_transact(struct bench *bench, store_run *run, void *arg, struct error *ret_err)
{
    struct error err = {0};
    struct transacting transacting = {.bench = bench, .run = run, .arg = arg};
    assert_ok(store_transact(bench->authority->store, transacting_run, transacting_done,
                             &transacting, 0, &err));
    loop_run(bench->loop);
    if (!transacting.ok)
        *ret_err = transacting.err;
    return transacting.ok;
}

void bench_token(struct bench *bench, const char *policy, char ret[static JOIN_TOKEN_SIZE])
{
    struct error err = {0};
    Postern__V1__CreateJoinTokenRequest request = POSTERN__V1__CREATE_JOIN_TOKEN_REQUEST__INIT;
    Postern__V1__CreateJoinTokenResponse *response;
    request.policy = (char *)policy;
    assert_ok(admin_service_create_join_token_sync(bench->operator_client, nullptr, &request,
                                                   &response, &err));
    assert_int_equal(strlen(response->token), JOIN_TOKEN_SIZE - 1);
    mem_copy(ret, response->token, JOIN_TOKEN_SIZE);
    pb_free(&response->base);
}

Postern__V1__ListNodesResponse *bench_nodes(struct bench *bench)
{
    struct error err = {0};
    const Postern__V1__ListNodesRequest request = POSTERN__V1__LIST_NODES_REQUEST__INIT;
    Postern__V1__ListNodesResponse *response;
    assert_ok(
        admin_service_list_nodes_sync(bench->operator_client, nullptr, &request, &response, &err));
    return response;
}

/* ---- Machines ---- */

static void add_root(const struct bench *bench, const struct swtpm *chip)
{
    struct error err = {0};
    char path[128], issuer[128];
    CLEANUP(buf_done) struct buf all;
    buf_init(&all, 1024 * 1024);
    snprintf(path, sizeof(path), "%s/roots.pem", bench->folder);
    if (access(path, R_OK) == 0)
        assert_ok(file_read(path, &all, &err));
    assert_ok(file_read(chip->root_pem, &all, &err));
    snprintf(issuer, sizeof(issuer), "%s/ca/issuercert.pem", chip->folder);
    assert_ok(file_read(issuer, &all, &err));
    assert_ok(file_write_atomic(path, buf_slice(&all), 0644, &err));
}

void machine_up(const struct bench *bench, const char *name, struct machine *ret)
{
    struct error err = {0};
    *ret = (struct machine){0};
    snprintf(ret->folder, sizeof(ret->folder), "%s/%s", bench->folder, name);
    assert_ok(folder_make(ret->folder, 0700, &err));
    assert_ok(swtpm_make(ret->folder, &ret->chip, &err));
    assert_ok(swtpm_start(&ret->chip, &err));
    assert_ok(swtpm_extend_boot(&ret->chip, &err));
    assert_ok(tpm_new(&(struct tpm_settings){.tcti = ret->chip.tcti}, &ret->tpm, &err));
    assert_ok(secret_random(32, &ret->auth, &err));
    ret->counter = (struct tpm_counter){.index = 0x01800050, .auth = ret->auth};
    assert_ok(tpm_begin(ret->tpm, soon(), &err));
    assert_ok(tpm_counter_make(ret->tpm, &ret->counter, &err));
    tpm_end(ret->tpm);
    add_root(bench, &ret->chip);
}

void machine_down(struct machine *machine)
{
    tpm_free(machine->tpm);
    swtpm_kill(&machine->chip);
    secret_free(machine->auth);
}

void machine_reboot(struct machine *machine)
{
    struct error err = {0};
    assert_ok(swtpm_stop(&machine->chip, true, &err));
    assert_ok(swtpm_start(&machine->chip, &err));
    assert_ok(swtpm_extend_boot(&machine->chip, &err));
}

void machine_policy(struct bench *bench, struct machine *machine, const char *name)
{
    struct error err = {0};
    char file[96];
    struct pcr_selection selection;
    struct pcr_values values;
    CLEANUP(buf_done) struct buf yaml;
    buf_init(&yaml, 64 * 1024);
    assert_ok(pcr_selection_parse("sha256:0,2,4,7", &selection, &err));
    assert_ok(tpm_begin(machine->tpm, soon(), &err));
    assert_ok(tpm_pcr_read(machine->tpm, &selection, &values, &err));
    tpm_end(machine->tpm);
    assert_ok(attest_record_policy(name, &values, nullptr, nullptr, &yaml, &err));
    buf_put_u8(&yaml, 0);
    snprintf(file, sizeof(file), "attestation/%s", name);
    bench_write(bench, file, (const char *)yaml.data);
    assert_ok(bench_reload(bench, &err));
}

/* ---- Attesting ---- */

static void attempt_fail(struct attempt *attempt, const struct error *err)
{
    attempt->err = *err;
    rpc_call_cancel(attempt->call);
}

static void make_hello(struct attempt *attempt)
{
    struct error err = {0};
    struct machine *machine = attempt->machine;
    Postern__V1__Hello hello = POSTERN__V1__HELLO__INIT;
    struct buf keys[TPM_KEY_COUNT], counter;
    CLEANUP(ek_certificates_done) struct ek_certificates certificates;
    ProtobufCBinaryData chain[EK_CHAIN_MAX];
    ek_certificates_init(&certificates);
    buf_init(&counter, 1024);
    assert_ok(tpm_begin(machine->tpm, soon(), &err));
    for (int i = 0; i < TPM_KEY_COUNT; i++) {
        buf_init(&keys[i], 2048);
        assert_ok(tpm_key_public(machine->tpm, (enum tpm_key)i, &keys[i], &err));
    }
    assert_ok(tpm_counter_public(machine->tpm, &machine->counter, &counter, &err));
    assert_ok(tpm_ek_certificates(machine->tpm, &certificates, &err));
    tpm_end(machine->tpm);
    for (size_t i = 0; i < certificates.chain_count; i++)
        chain[i] = data_of(certificates.chain[i]);
    hello.protocol = 1;
    hello.host_name = (char[]){"test\x1b[31mhost"};
    hello.ek_certificate = data_of(certificates.leaf);
    hello.n_ek_chain = certificates.chain_count;
    hello.ek_chain = chain;
    hello.ek_public = data_of(buf_slice(&keys[TPM_KEY_EK]));
    hello.ak_public = data_of(buf_slice(&keys[TPM_KEY_AK]));
    hello.wrap_public = data_of(buf_slice(&keys[TPM_KEY_WRAP]));
    hello.req_public = data_of(buf_slice(&keys[TPM_KEY_REQ]));
    hello.counter_public = data_of(buf_slice(&counter));
    hello.join_token = (char *)(attempt->token ? attempt->token : "");
    hello.generation = machine->generation;
    assert_ok(attest_identity_parse(&hello, &attempt->id, &err));
    if (attempt->replay_hello.len > 0)
        buf_put(&attempt->hello, attempt->replay_hello);
    else
        assert_ok(pb_pack(&hello.base, 64 * 1024, &attempt->hello, &err));
    for (int i = 0; i < TPM_KEY_COUNT; i++)
        buf_done(&keys[i]);
    buf_done(&counter);
}

struct proofs {
    struct tpm_attested quote, wrap, req, counter;
    struct pcr_values values;
    struct secret *credential;
};

static void proofs_done(struct proofs *proofs)
{
    tpm_attested_done(&proofs->quote);
    tpm_attested_done(&proofs->wrap);
    tpm_attested_done(&proofs->req);
    tpm_attested_done(&proofs->counter);
    secret_free(proofs->credential);
}

static void prove(struct attempt *attempt, const Postern__V1__Challenge *challenge,
                  const struct binding *binding, struct proofs *ret)
{
    struct error err = {0};
    struct machine *machine = attempt->machine;
    uint8_t digest[3][SHA256_SIZE];
    struct pcr_selection selection = {.count = challenge->n_selection};
    for (int i = 0; i < 3; i++)
        assert_ok(binding_digest((enum binding_kind)i, binding, digest[i], &err));
    for (size_t i = 0; i < selection.count; i++)
        selection.bank[i] = (struct pcr_bank){(TPMI_ALG_HASH)challenge->selection[i]->bank,
                                              challenge->selection[i]->mask};
    tpm_attested_init(&ret->quote);
    tpm_attested_init(&ret->wrap);
    tpm_attested_init(&ret->req);
    tpm_attested_init(&ret->counter);
    assert_ok(tpm_begin(machine->tpm, soon(), &err));
    if (challenge->credential_blob.len > 0)
        assert_ok(tpm_activate(
            machine->tpm, slice(challenge->credential_blob.data, challenge->credential_blob.len),
            slice(challenge->credential_secret.data, challenge->credential_secret.len),
            &ret->credential, &err));
    struct slice quote_digest = slice(digest[BINDING_QUOTE], SHA256_SIZE);
    if (!attempt->other_quote)
        assert_ok(
            tpm_quote(machine->tpm, &selection, quote_digest, &ret->quote, &ret->values, &err));
    assert_ok(tpm_certify(machine->tpm, TPM_KEY_WRAP, slice(digest[BINDING_CERTIFY], SHA256_SIZE),
                          &ret->wrap, &err));
    assert_ok(tpm_certify(machine->tpm, TPM_KEY_REQ, slice(digest[BINDING_CERTIFY], SHA256_SIZE),
                          &ret->req, &err));
    assert_ok(tpm_counter_certify(machine->tpm, &machine->counter,
                                  slice(digest[BINDING_COUNTER], SHA256_SIZE), &ret->counter,
                                  &err));
    tpm_end(machine->tpm);
    if (!attempt->other_quote)
        return;
    assert_ok(tpm_begin(attempt->other_quote->tpm, soon(), &err));
    assert_ok(tpm_quote(attempt->other_quote->tpm, &selection, quote_digest, &ret->quote,
                        &ret->values, &err));
    tpm_end(attempt->other_quote->tpm);
}

static Postern__V1__Attested attested_of(const struct tpm_attested *from)
{
    Postern__V1__Attested attested = POSTERN__V1__ATTESTED__INIT;
    attested.attest = data_of(buf_slice(&from->attest));
    attested.signature = data_of(buf_slice(&from->signature));
    return attested;
}

static void pack_evidence(struct attempt *attempt, const struct proofs *proofs, struct slice csr)
{
    struct error err = {0};
    Postern__V1__Evidence evidence = POSTERN__V1__EVIDENCE__INIT;
    Postern__V1__Attested quote = attested_of(&proofs->quote), wrap = attested_of(&proofs->wrap),
                          req = attested_of(&proofs->req), counter = attested_of(&proofs->counter);
    Postern__V1__PcrBank bank[PCR_BANKS_MAX], *banks[PCR_BANKS_MAX];
    Postern__V1__PcrSelection selection[PCR_BANKS_MAX];
    ProtobufCBinaryData values[PCR_VALUES_MAX];
    size_t at = 0;
    for (size_t i = 0; i < proofs->values.count; i++)
        values[i] = data_of(slice(proofs->values.value[i].buffer, proofs->values.value[i].size));
    for (size_t i = 0; i < proofs->values.selection.count; i++) {
        postern__v1__pcr_selection__init(&selection[i]);
        postern__v1__pcr_bank__init(&bank[i]);
        selection[i].bank = proofs->values.selection.bank[i].alg;
        selection[i].mask = proofs->values.selection.bank[i].mask;
        bank[i].selection = &selection[i];
        bank[i].values = &values[at];
        bank[i].n_values = (size_t)__builtin_popcount(selection[i].mask);
        at += bank[i].n_values;
        banks[i] = &bank[i];
    }
    evidence.credential = data_of(secret_slice(proofs->credential));
    evidence.quote = &quote;
    evidence.certify_wrap = &wrap;
    evidence.certify_req = &req;
    evidence.certify_counter = &counter;
    evidence.n_pcrs = proofs->values.selection.count;
    evidence.pcrs = banks;
    evidence.csr = data_of(csr);
    assert_ok(pb_pack(&evidence.base, 64 * 1024, &attempt->evidence, &err));
}

static void make_evidence(struct attempt *attempt)
{
    struct error err = {0};
    CLEANUP(pb_free_at) ProtobufCMessage *message = nullptr;
    CLEANUP(proofs_done) struct proofs proofs = {0};
    CLEANUP(buf_done) struct buf csr;
    uint8_t exporter[CHANNEL_BINDING_SIZE];
    buf_init(&csr, CSR_MAX);
    assert_ok(pb_unpack(&postern__v1__challenge__descriptor, buf_slice(&attempt->challenge),
                        nullptr, &message, &err));
    const Postern__V1__Challenge *challenge = (const Postern__V1__Challenge *)message;
    assert_string_equal(challenge->agent_id, attempt->id.agent_id);
    mem_copy(exporter, rpc_call_peer(attempt->call)->binding, sizeof(exporter));
    if (attempt->wrong_connection)
        exporter[31] ^= 1;
    assert_ok(key_generate(KEY_P256, &attempt->key, &err));
    assert_ok(csr_create(key_evp(attempt->key), &csr, &err));
    const struct binding binding = {
        .nonce = slice(challenge->nonce.data, challenge->nonce.len),
        .agent_id = slice_str(challenge->agent_id),
        .ak = &attempt->id.ak_name,
        .wrap = &attempt->id.wrap_name,
        .req = &attempt->id.req_name,
        .counter = &attempt->id.counter_name,
        .csr = buf_slice(&csr),
        .hello = buf_slice(&attempt->hello),
        .exporter = SLICE_OF(exporter),
    };
    prove(attempt, challenge, &binding, &proofs);
    if (attempt->wrong_values)
        proofs.values.value[0].buffer[0] ^= 1;
    pack_evidence(attempt, &proofs, buf_slice(&csr));
}

static void take_appraisal(struct attempt *attempt, const Postern__V1__Appraisal *appraisal)
{
    struct error err = {0};
    CLEANUP(buf_done) struct buf bytes;
    buf_init(&bytes, PB_SIZE_MAX);
    assert_ok(pb_pack(&appraisal->base, PB_SIZE_MAX, &bytes, &err));
    assert_ok(pb_unpack(&postern__v1__appraisal__descriptor, buf_slice(&bytes), &pb_limits_strict,
                        &attempt->appraisal, &err));
    assert_ok(pb_unpack(&postern__v1__appraisal_body__descriptor,
                        slice(appraisal->body.data, appraisal->body.len), &pb_limits_strict,
                        &attempt->body, &err));
    if (appraisal->node_key)
        assert_ok(pb_unpack(&postern__v1__generation_body__descriptor,
                            slice(appraisal->node_key->body.data, appraisal->node_key->body.len),
                            &pb_limits_strict, &attempt->offer, &err));
}

static void send_evidence(struct attempt *attempt)
{
    struct error err = {0};
    if (attempt->replay.len > 0)
        buf_put(&attempt->evidence, attempt->replay);
    else
        make_evidence(attempt);
    Postern__V1__AttestRequest request = POSTERN__V1__ATTEST_REQUEST__INIT;
    request.part_case = POSTERN__V1__ATTEST_REQUEST__PART_EVIDENCE;
    request.evidence = data_of(buf_slice(&attempt->evidence));
    if (!node_service_attest_send_request(attempt->call, &request, &err))
        attempt_fail(attempt, &err);
    rpc_call_close_send(attempt->call);
}

static void on_message(void *arg, struct rpc_call *call, const Postern__V1__AttestResponse *message)
{
    struct attempt *attempt = arg;
    (void)call;
    if (message->part_case == POSTERN__V1__ATTEST_RESPONSE__PART_APPRAISAL) {
        take_appraisal(attempt, message->appraisal);
        return;
    }
    buf_put(&attempt->challenge, slice(message->challenge.data, message->challenge.len));
    if (attempt->holds)
        loop_stop(attempt->bench->loop);
    else
        send_evidence(attempt);
}

static void on_closed(void *arg, struct rpc_call *call, const struct error *err)
{
    (void)call;
    struct attempt *attempt = arg;
    if (err && attempt->err.class == ERROR_NONE)
        attempt->err = *err;
    attempt->over = true;
    loop_stop(attempt->bench->loop);
}

static bool run_to_end(struct attempt *attempt)
{
    while (!attempt->over)
        loop_run(attempt->bench->loop);
    if (attempt->err.class != ERROR_NONE)
        return false;
    assert_non_null(attempt->appraisal);
    return true;
}

bool attest(struct attempt *attempt)
{
    static const struct rpc_call_events events = {.closed = on_closed};
    struct error err = {0};
    const struct rpc_call_options options = {.timeout_ms = SOON_MS, .wait_for_ready = true};
    buf_init(&attempt->hello, PB_SIZE_MAX);
    buf_init(&attempt->challenge, 64 * 1024);
    buf_init(&attempt->evidence, PB_SIZE_MAX);
    make_hello(attempt);
    if (!attempt->over_client)
        attempt->client = bench_client(attempt->bench, (struct slice){0}, nullptr);
    attempt->call =
        node_service_attest(attempt->over_client ? attempt->over_client : attempt->client, &options,
                            on_message, &events, attempt);
    assert_non_null(attempt->call);
    Postern__V1__AttestRequest request = POSTERN__V1__ATTEST_REQUEST__INIT;
    request.part_case = POSTERN__V1__ATTEST_REQUEST__PART_HELLO;
    request.hello = data_of(buf_slice(&attempt->hello));
    assert_ok(node_service_attest_send_request(attempt->call, &request, &err));
    if (!attempt->holds)
        return run_to_end(attempt);
    while (!attempt->over && attempt->challenge.len == 0)
        loop_run(attempt->bench->loop);
    return !attempt->over;
}

bool attest_go_on(struct attempt *attempt)
{
    if (!attempt->over)
        send_evidence(attempt);
    return run_to_end(attempt);
}

void attempt_done(struct attempt *attempt)
{
    rpc_client_free(attempt->client);
    buf_done(&attempt->hello);
    buf_done(&attempt->challenge);
    buf_done(&attempt->evidence);
    key_unref(attempt->key);
    pb_free(attempt->appraisal);
    pb_free(attempt->body);
    pb_free(attempt->offer);
}

const Postern__V1__AppraisalBody *attempt_body(const struct attempt *attempt)
{
    return (const Postern__V1__AppraisalBody *)attempt->body;
}

const Postern__V1__Appraisal *attempt_appraisal(const struct attempt *attempt)
{
    return (const Postern__V1__Appraisal *)attempt->appraisal;
}

void assert_verdict(const struct attempt *attempt, Postern__V1__Verdict verdict)
{
    const Postern__V1__AppraisalBody *body = attempt_body(attempt);
    if (body->verdict != verdict) {
        for (size_t i = 0; i < body->n_reasons; i++)
            print_error("check %u, %s: %s\n", body->reasons[i]->check, body->reasons[i]->name,
                        body->reasons[i]->detail);
    }
    assert_int_equal(body->verdict, verdict);
}

bool has_reason(const struct attempt *attempt, const char *name)
{
    const Postern__V1__AppraisalBody *body = attempt_body(attempt);
    for (size_t i = 0; i < body->n_reasons; i++) {
        if (strcmp(body->reasons[i]->name, name) == 0)
            return true;
    }
    return false;
}
