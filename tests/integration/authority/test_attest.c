#include "bench.h"

#include "attest_service.h"

#include "base/clock.h"
#include "base/crypt.h"
#include "pb/message.h"
#include "spiffe/svid.h"
#include "tpmwire/public.h"

#include <string.h>

#define PENDING POSTERN__V1__VERDICT__VERDICT_PENDING
#define AFFIRMING POSTERN__V1__VERDICT__VERDICT_AFFIRMING
#define WARNING POSTERN__V1__VERDICT__VERDICT_WARNING
#define CONTRAINDICATED POSTERN__V1__VERDICT__VERDICT_CONTRAINDICATED

/* One authority and two machines for all tests; each test leaves a database without nodes. */
struct world {
    struct bench bench;
    struct machine one, two;
};

static int world_up(void **state)
{
    struct world *world = mem_new(1, sizeof(*world));
    assert_non_null(world);
    tpm_setup();
    bench_up(&world->bench);
    machine_up(&world->bench, "one", &world->one);
    machine_up(&world->bench, "two", &world->two);
    machine_policy(&world->bench, &world->one, "good");
    *state = world;
    return 0;
}

static int world_down(void **state)
{
    struct world *world = *state;
    machine_down(&world->one);
    machine_down(&world->two);
    bench_down(&world->bench);
    mem_free(world);
    return 0;
}

static bool forget(struct tx *tx, void *arg, struct error *err)
{
    (void)arg;
    return tx_exec(tx, "DELETE FROM node", SQL_NONE, err) &&
           tx_exec(tx, "DELETE FROM join_token", SQL_NONE, err);
}

static int forget_all(void **state)
{
    struct world *world = *state;
    struct error err = {0};
    world->one.generation = world->two.generation = 0;
    assert_ok(bench_transact(&world->bench, forget, nullptr, &err));
    return 0;
}

/* ---- Helpers ---- */

/* Attests with a token, and expects to be affirmed. */
static void join(struct world *world, struct machine *machine, struct attempt *ret)
{
    char token[JOIN_TOKEN_SIZE];
    bench_token(&world->bench, "good", token);
    *ret = (struct attempt){.bench = &world->bench, .machine = machine, .token = token};
    if (!attest(ret))
        fail_msg("%s", ret->err.message);
    ret->token = nullptr;
    assert_verdict(ret, AFFIRMING);
}

static void again(struct world *world, struct machine *machine, struct attempt *ret)
{
    *ret = (struct attempt){.bench = &world->bench, .machine = machine};
    if (!attest(ret))
        fail_msg("%s", ret->err.message);
}

/* A client with the SVID of this attempt. */
static struct rpc_client *node_client(struct world *world, const struct attempt *joined)
{
    struct error err = {0};
    X509 *leaf;
    CLEANUP(buf_done) struct buf pem;
    buf_init(&pem, 64 * 1024);
    const Postern__V1__Appraisal *appraisal = attempt_appraisal(joined);
    assert_ok(
        certificate_from_der(slice(appraisal->svid[0].data, appraisal->svid[0].len), &leaf, &err));
    assert_ok(certificate_to_pem(leaf, &pem, &err));
    X509_free(leaf);
    return bench_client(&world->bench, buf_slice(&pem), joined->key);
}

/* Attest streams that never say anything. */
struct silent {
    struct world *world;
    size_t ended;
    struct error err; /* of the last that ended */
};

static void on_silent_message(void *arg, struct rpc_call *call,
                              const Postern__V1__AttestResponse *message)
{
    (void)arg;
    (void)call;
    (void)message;
    fail();
}

static void on_silent_closed(void *arg, struct rpc_call *call, const struct error *err)
{
    struct silent *silent = arg;
    (void)call;
    silent->ended++;
    silent->err = *err;
    loop_stop(silent->world->bench.loop);
}

static void open_silent(struct silent *silent, struct rpc_client *client)
{
    static const struct rpc_call_events events = {.closed = on_silent_closed};
    const struct rpc_call_options options = {.wait_for_ready = true};
    assert_non_null(node_service_attest(client, &options, on_silent_message, &events, silent));
}

struct confirm {
    const char *agent_id;
    uint64_t generation;
    struct secret *key;
    const struct kek *kek;
};

static bool run_confirm(struct tx *tx, void *arg, struct error *err)
{
    const struct confirm *confirm = arg;
    return generation_confirm(tx, confirm->agent_id, confirm->generation, 1, err);
}

static bool run_key(struct tx *tx, void *arg, struct error *err)
{
    struct confirm *confirm = arg;
    return generation_key(tx, confirm->kek, confirm->agent_id, confirm->generation, &confirm->key,
                          err);
}

static bool run_want(struct tx *tx, void *arg, struct error *err)
{
    const struct confirm *confirm = arg;
    return generation_want(tx, confirm->agent_id, err);
}

/* An offered key in the machine's TPM. */
struct imported {
    struct buf private;
    struct pcr_selection seal;
    const Postern__V1__GenerationBody *body;
};

static void import_offer(struct machine *machine, const struct attempt *attempt,
                         struct imported *ret)
{
    struct error err = {0};
    assert_non_null(attempt->offer);
    *ret = (struct imported){.body = (const Postern__V1__GenerationBody *)attempt->offer};
    buf_init(&ret->private, 4096);
    ret->seal.count = ret->body->n_seal;
    for (size_t i = 0; i < ret->seal.count; i++)
        ret->seal.bank[i] =
            (struct pcr_bank){(TPMI_ALG_HASH)ret->body->seal[i]->bank, ret->body->seal[i]->mask};
    assert_ok(tpm_begin(machine->tpm, clock_boot_ms() + 60'000, &err));
    assert_ok(node_key_import(
        machine->tpm, slice(ret->body->object_public.data, ret->body->object_public.len),
        slice(ret->body->duplicate.data, ret->body->duplicate.len),
        slice(ret->body->seed.data, ret->body->seed.len), &ret->private, &err));
    tpm_end(machine->tpm);
}

static bool unseal(struct machine *machine, const struct imported *imported, struct secret **ret,
                   struct error *ret_err)
{
    struct error err = {0};
    assert_ok(tpm_begin(machine->tpm, clock_boot_ms() + 60'000, &err));
    const struct node_key_sealed sealed = {
        .object_public =
            slice(imported->body->object_public.data, imported->body->object_public.len),
        .object_private = buf_slice(&imported->private),
        .seal = &imported->seal,
        .limit = imported->body->limit,
    };
    bool ok = node_key_unseal(machine->tpm, &sealed, &machine->counter, ret, ret_err);
    tpm_end(machine->tpm);
    return ok;
}

/* Both signatures over the prefixed parts, by certificates that the trust anchor issued. */
static void check_signatures(const struct attempt *attempt, const char *tag,
                             ProtobufCBinaryData body, Postern__V1__Signature **signatures,
                             size_t count)
{
    struct error err = {0};
    const Postern__V1__Appraisal *appraisal = attempt_appraisal(attempt);
    CLEANUP(buf_done) struct buf message;
    buf_init(&message, 64 * 1024);
    buf_put_prefixed(&message, slice_str(tag));
    buf_put_prefixed(&message, slice(body.data, body.len));
    assert_int_equal(count, 2);
    assert_int_equal(appraisal->n_signer_certificates, 2);
    assert_int_equal(appraisal->n_bundle, 2);
    for (size_t i = 0; i < 2; i++) {
        X509 *leaf, *ca;
        struct spiffe_id id;
        CLEANUP(key_unref_at) struct key *key = nullptr;
        unsigned char *spki = nullptr;
        assert_ok(certificate_from_der(
            slice(appraisal->signer_certificates[i].data, appraisal->signer_certificates[i].len),
            &leaf, &err));
        assert_ok(certificate_from_der(slice(appraisal->bundle[i].data, appraisal->bundle[i].len),
                                       &ca, &err));
        assert_int_equal(X509_verify(leaf, X509_get0_pubkey(ca)), 1);
        assert_ok(svid_id(leaf, &id, &err));
        assert_string_equal(id.text, "spiffe://test.example/postern/authority/packets");
        int len = i2d_PUBKEY(X509_get0_pubkey(leaf), &spki);
        assert_true(len > 0);
        assert_ok(key_from_public(slice(spki, (size_t)len), &key, &err));
        assert_int_equal(key_kind(key), i == 0 ? KEY_P384 : KEY_ML_DSA_65);
        assert_ok(key_verify(key, buf_slice(&message),
                             slice(signatures[i]->signature.data, signatures[i]->signature.len),
                             &err));
        OPENSSL_free(spki);
        X509_free(leaf);
        X509_free(ca);
    }
}

static void check_svid(const struct attempt *attempt)
{
    struct error err = {0};
    struct spiffe_id id;
    X509 *leaf, *ca;
    char expected[128];
    int64_t expiry;
    const Postern__V1__Appraisal *appraisal = attempt_appraisal(attempt);
    assert_int_equal(appraisal->n_svid, 1);
    assert_ok(
        certificate_from_der(slice(appraisal->svid[0].data, appraisal->svid[0].len), &leaf, &err));
    assert_ok(certificate_from_der(slice(appraisal->bundle[0].data, appraisal->bundle[0].len), &ca,
                                   &err));
    assert_ok(svid_id(leaf, &id, &err));
    snprintf(expected, sizeof(expected), "spiffe://test.example/postern/node/%s",
             attempt->id.agent_id);
    assert_string_equal(id.text, expected);
    assert_int_equal(X509_verify(leaf, X509_get0_pubkey(ca)), 1);
    assert_int_equal(EVP_PKEY_eq(X509_get0_pubkey(leaf), key_evp(attempt->key)), 1);
    assert_ok(certificate_expiry(leaf, &expiry, &err));
    int64_t left = expiry - clock_wall_ms();
    assert_true(left > 3'500'000 && left <= 3'600'000);
    X509_free(leaf);
    X509_free(ca);
}

/* docs/protocol.md, "What a node checks before it believes": an honest answer passes all of it. */
static void check_what_a_node_checks(const struct attempt *attempt)
{
    struct error err = {0};
    uint8_t evidence[SHA256_SIZE], bundle[SHA256_SIZE];
    const Postern__V1__Appraisal *appraisal = attempt_appraisal(attempt);
    const Postern__V1__AppraisalBody *body = attempt_body(attempt);
    CLEANUP(buf_done) struct buf all, certificates;
    buf_init(&all, 1024 * 1024);
    buf_init(&certificates, 64 * 1024);
    buf_put_prefixed(&all, buf_slice(&attempt->hello));
    buf_put_prefixed(&all, buf_slice(&attempt->challenge));
    buf_put_prefixed(&all, buf_slice(&attempt->evidence));
    assert_ok(sha256(buf_slice(&all), evidence, &err));
    for (size_t i = 0; i < appraisal->n_bundle; i++)
        buf_put_prefixed(&certificates, slice(appraisal->bundle[i].data, appraisal->bundle[i].len));
    assert_ok(sha256(buf_slice(&certificates), bundle, &err));

    assert_string_equal(body->agent_id, attempt->id.agent_id);
    assert_true(
        slice_equal(slice(body->evidence_hash.data, body->evidence_hash.len), SLICE_OF(evidence)));
    assert_true(
        slice_equal(slice(body->bundle_hash.data, body->bundle_hash.len), SLICE_OF(bundle)));
    assert_true(slice_equal(slice(body->time->ak_name.data, body->time->ak_name.len),
                            name_slice(&attempt->id.ak_name)));
    int64_t now = clock_wall_ms();
    assert_true(body->time->authority_ms <= body->appraised_at_ms && body->appraised_at_ms <= now);
    assert_true(body->time->authority_ms > now - ATTEST_NONCE_LIFETIME_MS);
    if (body->verdict != AFFIRMING) {
        assert_int_equal(body->expires_at_ms, body->appraised_at_ms);
        return;
    }
    assert_int_equal(body->expires_at_ms - body->appraised_at_ms, 15 * 60'000); /* the policy's */
    assert_int_equal(body->policy_hash.len, SHA256_SIZE);
    const Postern__V1__GenerationBody *offer = (const Postern__V1__GenerationBody *)attempt->offer;
    if (!offer)
        return;
    assert_string_equal(offer->agent_id, attempt->id.agent_id);
    assert_true(slice_equal(slice(offer->counter_name.data, offer->counter_name.len),
                            name_slice(&attempt->id.counter_name)));
    assert_true(offer->generation > attempt->machine->generation);
}

/* ---- Admission ---- */

static void test_pending_then_approved(void **state)
{
    struct world *world = *state;
    struct error err = {0};
    CLEANUP(attempt_done) struct attempt first = {0};
    again(world, &world->one, &first);
    assert_verdict(&first, PENDING);
    assert_true(attempt_body(&first)->retry_after_ms > 0);
    assert_false(attempt_body(&first)->releases);
    assert_int_equal(attempt_appraisal(&first)->n_svid, 0);
    assert_null(first.offer);
    check_what_a_node_checks(&first);
    check_signatures(&first, "postern appraisal v1", attempt_appraisal(&first)->body,
                     attempt_appraisal(&first)->signatures,
                     attempt_appraisal(&first)->n_signatures);

    Postern__V1__ListNodesResponse *nodes = bench_nodes(&world->bench);
    assert_int_equal(nodes->n_nodes, 1);
    assert_string_equal(nodes->nodes[0]->agent_id, first.id.agent_id);
    assert_string_equal(nodes->nodes[0]->host_name, "test\\x1b[31mhost");
    assert_int_equal(nodes->nodes[0]->admission, POSTERN__V1__ADMISSION__ADMISSION_PENDING);
    assert_string_equal(nodes->nodes[0]->ek_trust, "vendor_cert");
    pb_free(&nodes->base);

    Postern__V1__ApproveNodeRequest request = POSTERN__V1__APPROVE_NODE_REQUEST__INIT;
    Postern__V1__ApproveNodeResponse *response;
    request.agent_id = first.id.agent_id;
    request.policy = (char[]){"nothing"};
    assert_fails(admin_service_approve_node_sync(world->bench.operator_client, nullptr, &request,
                                                 &response, &err),
                 ERROR_NOT_FOUND);
    assert_string_equal(err.reason, "POLICY_UNKNOWN");
    request.policy = (char[]){"good"};
    assert_ok(admin_service_approve_node_sync(world->bench.operator_client, nullptr, &request,
                                              &response, &err));
    assert_int_equal(response->node->admission, POSTERN__V1__ADMISSION__ADMISSION_ADMITTED);
    pb_free(&response->base);

    CLEANUP(attempt_done) struct attempt second = {0};
    again(world, &world->one, &second);
    assert_verdict(&second, AFFIRMING);
    assert_true(attempt_body(&second)->releases);
    assert_string_equal(attempt_body(&second)->policy, "good");
    check_what_a_node_checks(&second);
    check_svid(&second);
    assert_non_null(second.offer);
    /* The AK is known by now, so nothing had to be activated. */
    CLEANUP(pb_free_at) ProtobufCMessage *message = nullptr;
    assert_ok(pb_unpack(&postern__v1__challenge__descriptor, buf_slice(&second.challenge), nullptr,
                        &message, &err));
    assert_int_equal(((Postern__V1__Challenge *)message)->credential_blob.len, 0);
}

static void test_joins_by_token(void **state)
{
    struct world *world = *state;
    char token[JOIN_TOKEN_SIZE];
    bench_token(&world->bench, "good", token);
    CLEANUP(attempt_done) struct attempt first = {
        .bench = &world->bench, .machine = &world->one, .token = token};
    assert_true(attest(&first));
    assert_verdict(&first, AFFIRMING);
    check_svid(&first);
    /* The answer was lost: the same node comes again with it. */
    CLEANUP(attempt_done) struct attempt retry = {
        .bench = &world->bench, .machine = &world->one, .token = token};
    assert_true(attest(&retry));
    assert_verdict(&retry, AFFIRMING);
    /* Another node does not get in by it. */
    CLEANUP(attempt_done) struct attempt other = {
        .bench = &world->bench, .machine = &world->two, .token = token};
    assert_true(attest(&other));
    assert_verdict(&other, PENDING);
    assert_true(has_reason(&other, "join-token"));
    assert_int_equal(attempt_appraisal(&other)->n_svid, 0);
}

static void test_wrong_token(void **state)
{
    struct world *world = *state;
    CLEANUP(attempt_done) struct attempt attempt = {.bench = &world->bench,
                                                    .machine = &world->one,
                                                    .token =
                                                        "join-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"};
    assert_true(attest(&attempt));
    assert_verdict(&attempt, PENDING);
    assert_true(has_reason(&attempt, "join-token"));
}

static void test_token_is_not_spent_by_a_bad_state(void **state)
{
    struct world *world = *state;
    struct error err = {0};
    char token[JOIN_TOKEN_SIZE];
    bench_token(&world->bench, "good", token);
    assert_ok(swtpm_extend(&world->one.chip, 4, "another boot loader", &err));
    CLEANUP(attempt_done) struct attempt bad = {
        .bench = &world->bench, .machine = &world->one, .token = token};
    assert_true(attest(&bad));
    assert_verdict(&bad, CONTRAINDICATED);
    assert_int_equal(attempt_appraisal(&bad)->n_svid, 0);
    assert_null(bad.offer);
    assert_false(attempt_body(&bad)->releases);
    check_what_a_node_checks(&bad);
    machine_reboot(&world->one);
    CLEANUP(attempt_done) struct attempt good = {
        .bench = &world->bench, .machine = &world->one, .token = token};
    assert_true(attest(&good));
    assert_verdict(&good, AFFIRMING);
}

/* ---- Lies ---- */

static void expect_unauthentic(struct attempt *attempt)
{
    assert_false(attest(attempt));
    assert_int_equal(attempt->err.class, ERROR_UNAUTHENTICATED);
    assert_string_equal(attempt->err.reason, "EVIDENCE_NOT_AUTHENTIC");
    assert_null(attempt->appraisal);
}

static void expect_no_nodes(struct world *world)
{
    Postern__V1__ListNodesResponse *nodes = bench_nodes(&world->bench);
    assert_int_equal(nodes->n_nodes, 0);
    pb_free(&nodes->base);
}

static void test_replayed_evidence(void **state)
{
    struct world *world = *state;
    CLEANUP(attempt_done) struct attempt first = {0};
    again(world, &world->one, &first);
    struct error err = {0};
    assert_ok(bench_transact(&world->bench, forget, nullptr, &err));
    CLEANUP(attempt_done) struct attempt replay = {.bench = &world->bench,
                                                   .machine = &world->one,
                                                   .replay = buf_slice(&first.evidence),
                                                   .replay_hello = buf_slice(&first.hello)};
    expect_unauthentic(&replay);
    expect_no_nodes(world);
}

static void test_evidence_of_another_connection(void **state)
{
    struct world *world = *state;
    CLEANUP(attempt_done) struct attempt stolen = {
        .bench = &world->bench, .machine = &world->one, .wrong_connection = true};
    expect_unauthentic(&stolen);
    assert_non_null(strstr(stolen.err.message, "quote-binding"));
    expect_no_nodes(world);
}

static void test_quote_of_another_machine(void **state)
{
    struct world *world = *state;
    CLEANUP(attempt_done) struct attempt lie = {
        .bench = &world->bench, .machine = &world->one, .other_quote = &world->two};
    expect_unauthentic(&lie);
    expect_no_nodes(world);
}

static void test_a_lie_changes_nothing_of_its_victim(void **state)
{
    struct world *world = *state;
    CLEANUP(attempt_done) struct attempt joined = {0};
    join(world, &world->one, &joined);
    CLEANUP(attempt_done) struct attempt lie = {
        .bench = &world->bench, .machine = &world->one, .other_quote = &world->two};
    expect_unauthentic(&lie);
    Postern__V1__ListNodesResponse *nodes = bench_nodes(&world->bench);
    assert_int_equal(nodes->nodes[0]->verdict, AFFIRMING);
    pb_free(&nodes->base);
    CLEANUP(attempt_done) struct attempt after = {0};
    again(world, &world->one, &after);
    assert_verdict(&after, AFFIRMING);
}

/* A nonce is its stream's: who says hello in a node's name gets another, and can waste that alone. */
static void test_a_stranger_voids_no_nonce(void **state)
{
    struct world *world = *state;
    CLEANUP(attempt_done) struct attempt joined = {0};
    join(world, &world->one, &joined);
    CLEANUP(attempt_done) struct attempt node = {
        .bench = &world->bench, .machine = &world->one, .holds = true};
    assert_true(attest(&node));
    CLEANUP(attempt_done) struct attempt stranger = {.bench = &world->bench,
                                                     .machine = &world->one,
                                                     .replay = buf_slice(&joined.evidence),
                                                     .replay_hello = buf_slice(&node.hello)};
    expect_unauthentic(&stranger);
    assert_false(slice_equal(buf_slice(&stranger.challenge), buf_slice(&node.challenge)));
    if (!attest_go_on(&node))
        fail_msg("%s", node.err.message);
    assert_verdict(&node, AFFIRMING);
}

/* ---- Too much, too slow ---- */

static void test_oversize_messages(void **state)
{
    struct world *world = *state;
    CLEANUP(buf_done) struct buf big;
    buf_init(&big, PB_SIZE_MAX);
    for (size_t i = 0; i < ATTEST_EVIDENCE_MAX + 1; i++)
        buf_put_u8(&big, 0);
    CLEANUP(attempt_done) struct attempt hello = {.bench = &world->bench,
                                                  .machine = &world->one,
                                                  .replay_hello =
                                                      slice(big.data, ATTEST_HELLO_MAX + 1)};
    assert_false(attest(&hello));
    assert_int_equal(hello.err.class, ERROR_EXHAUSTED);
    assert_non_null(strstr(hello.err.message, "hello"));
    /* One byte less is read, and is no hello. */
    CLEANUP(attempt_done) struct attempt junk = {
        .bench = &world->bench, .machine = &world->one, .replay_hello = slice(big.data, 64 * 1024)};
    assert_false(attest(&junk));
    assert_int_equal(junk.err.class, ERROR_INVALID);
    CLEANUP(attempt_done) struct attempt evidence = {
        .bench = &world->bench, .machine = &world->one, .replay = buf_slice(&big)};
    assert_false(attest(&evidence));
    assert_int_equal(evidence.err.class, ERROR_EXHAUSTED);
    assert_non_null(strstr(evidence.err.message, "evidence"));
    expect_no_nodes(world);
}

static void test_too_slow(void **state)
{
    struct world *world = *state;
    struct attest_service *service = world->bench.authority->attest;
    CLEANUP(attempt_done) struct attempt slow = {
        .bench = &world->bench, .machine = &world->one, .holds = true};
    attest_service_hurry(service, ATTEST_HELLO_MS, 300);
    assert_true(attest(&slow));
    while (!slow.over)
        loop_run(world->bench.loop);
    assert_int_equal(slow.err.class, ERROR_TIMEOUT);
    assert_string_equal(slow.err.reason, "ATTEST_TOO_SLOW");
    assert_non_null(strstr(slow.err.message, "evidence"));

    struct silent silent = {.world = world};
    attest_service_hurry(service, 100, ATTEST_STREAM_MS);
    struct rpc_client *client = bench_client(&world->bench, (struct slice){0}, nullptr);
    open_silent(&silent, client);
    while (silent.ended < 1)
        loop_run(world->bench.loop);
    assert_int_equal(silent.err.class, ERROR_TIMEOUT);
    assert_non_null(strstr(silent.err.message, "hello"));
    rpc_client_free(client);
    attest_service_hurry(service, ATTEST_HELLO_MS, ATTEST_STREAM_MS);
}

/* Strangers of one address get no further than its share, and a node that shows its SVID gets in. */
static void test_flood(void **state)
{
    struct world *world = *state;
    struct error err = {0};
    struct silent flood = {.world = world};
    CLEANUP(attempt_done) struct attempt joined = {0};
    join(world, &world->one, &joined);
    struct rpc_client *client = bench_client(&world->bench, (struct slice){0}, nullptr);
    for (size_t i = 0; i < ATTEST_PER_ADDRESS_MAX + 3; i++)
        open_silent(&flood, client);
    while (flood.ended < 3)
        loop_run(world->bench.loop);
    assert_int_equal(flood.err.class, ERROR_EXHAUSTED);
    assert_string_equal(flood.err.reason, "QUOTA");

    CLEANUP(attempt_done) struct attempt stranger = {.bench = &world->bench,
                                                     .machine = &world->two};
    assert_false(attest(&stranger));
    assert_string_equal(stranger.err.reason, "QUOTA");
    struct rpc_client *known = node_client(world, &joined);
    CLEANUP(attempt_done) struct attempt node = {
        .bench = &world->bench, .machine = &world->one, .over_client = known};
    if (!attest(&node))
        fail_msg("%s", node.err.message);
    assert_verdict(&node, AFFIRMING);
    const Postern__V1__ListNodesRequest list = POSTERN__V1__LIST_NODES_REQUEST__INIT;
    Postern__V1__ListNodesResponse *nodes;
    assert_ok(
        admin_service_list_nodes_sync(world->bench.operator_client, nullptr, &list, &nodes, &err));
    pb_free(&nodes->base);

    /* Places that were left are there again. */
    rpc_client_free(client);
    while (flood.ended < ATTEST_PER_ADDRESS_MAX + 3)
        loop_run(world->bench.loop);
    CLEANUP(attempt_done) struct attempt later = {0};
    again(world, &world->two, &later);
    assert_verdict(&later, PENDING);
    rpc_client_free(known);
}

/* ---- Node keys ---- */

static void test_generations(void **state)
{
    struct world *world = *state;
    struct error err = {0};
    CLEANUP(attempt_done) struct attempt first = {0}, same = {0}, none = {0}, second = {0},
                                         rest = {0}, after = {0};
    join(world, &world->one, &first);
    struct imported one, two;
    import_offer(&world->one, &first, &one);
    check_signatures(&first, "postern generation v1", attempt_appraisal(&first)->node_key->body,
                     attempt_appraisal(&first)->node_key->signatures,
                     attempt_appraisal(&first)->node_key->n_signatures);
    assert_int_equal(one.body->generation, 1);

    /* What the TPM opens is what the authority encrypts under. */
    struct confirm confirm = {.agent_id = first.id.agent_id,
                              .generation = 1,
                              .kek = identity_kek(world->bench.authority->identity)};
    CLEANUP(secret_free_at) struct secret *opened = nullptr;
    assert_ok(unseal(&world->one, &one, &opened, &err));
    assert_ok(bench_transact(&world->bench, run_key, &confirm, &err));
    assert_true(secret_equal(opened, confirm.key));
    confirm.key = secret_free(confirm.key);

    /* Offered again, the same, until it is confirmed. */
    again(world, &world->one, &same);
    assert_non_null(same.offer);
    assert_int_equal(attempt_appraisal(&same)->node_key->body.len,
                     attempt_appraisal(&first)->node_key->body.len);
    assert_memory_equal(attempt_appraisal(&same)->node_key->body.data,
                        attempt_appraisal(&first)->node_key->body.data,
                        attempt_appraisal(&first)->node_key->body.len);
    assert_ok(bench_transact(&world->bench, run_confirm, &confirm, &err));
    assert_ok(bench_transact(&world->bench, run_confirm, &confirm, &err)); /* idempotent */
    world->one.generation = 1;
    again(world, &world->one, &none);
    assert_verdict(&none, AFFIRMING);
    assert_null(none.offer);

    /* A retired version wants another, one limit higher. */
    assert_ok(bench_transact(&world->bench, run_want, &confirm, &err));
    again(world, &world->one, &second);
    import_offer(&world->one, &second, &two);
    assert_int_equal(two.body->generation, 2);
    check_what_a_node_checks(&second);
    assert_int_equal(two.body->limit, one.body->limit + 1);
    confirm.generation = 2;
    assert_ok(bench_transact(&world->bench, run_confirm, &confirm, &err));
    world->one.generation = 2;

    /* Confirmed, but not incremented yet: nothing new until it is. */
    again(world, &world->one, &rest);
    assert_verdict(&rest, WARNING);
    assert_false(attempt_body(&rest)->releases);
    assert_null(rest.offer);

    uint64_t value;
    assert_ok(tpm_begin(world->one.tpm, clock_boot_ms() + 60'000, &err));
    assert_ok(
        tpm_counter_raise(world->one.tpm, &world->one.counter, two.body->limit, &value, &err));
    tpm_end(world->one.tpm);
    opened = secret_free(opened);
    assert_fails(unseal(&world->one, &one, &opened, &err), ERROR_DENIED);
    assert_ok(unseal(&world->one, &two, &opened, &err));
    again(world, &world->one, &after);
    assert_verdict(&after, AFFIRMING);
    assert_true(attempt_body(&after)->releases);
    confirm.generation = 1;
    assert_fails(bench_transact(&world->bench, run_key, &confirm, &err), ERROR_CONFLICT);
    assert_string_equal(err.reason, "GENERATION_RETIRED");
    assert_fails(bench_transact(&world->bench, run_confirm, &confirm, &err), ERROR_CONFLICT);
    buf_done(&one.private);
    buf_done(&two.private);
}

/* A second counter of the right shape, raised to where the first should stand, while the first stays
 * below and generation 1 lives on. */
static void test_second_counter(void **state)
{
    struct world *world = *state;
    struct error err = {0};
    struct machine *machine = &world->one;
    CLEANUP(attempt_done) struct attempt first = {0}, second = {0}, lie = {0}, honest = {0};
    join(world, machine, &first);
    struct confirm confirm = {.agent_id = first.id.agent_id,
                              .generation = 1,
                              .kek = identity_kek(world->bench.authority->identity)};
    assert_ok(bench_transact(&world->bench, run_confirm, &confirm, &err));
    machine->generation = 1;
    assert_ok(bench_transact(&world->bench, run_want, &confirm, &err));
    again(world, machine, &second);
    confirm.generation = 2;
    assert_ok(bench_transact(&world->bench, run_confirm, &confirm, &err));
    machine->generation = 2;
    uint64_t limit = ((const Postern__V1__GenerationBody *)second.offer)->limit, value;

    const struct tpm_counter true_one = machine->counter;
    machine->counter.index++;
    assert_ok(tpm_begin(machine->tpm, clock_boot_ms() + 60'000, &err));
    assert_ok(tpm_counter_make(machine->tpm, &machine->counter, &err));
    assert_ok(tpm_counter_raise(machine->tpm, &machine->counter, limit, &value, &err));
    tpm_end(machine->tpm);
    assert_int_equal(value, limit);
    again(world, machine, &lie);
    machine->counter = true_one;
    assert_verdict(&lie, CONTRAINDICATED);
    assert_true(has_reason(&lie, "counter-value"));
    assert_int_equal(attempt_body(&lie)->n_reasons, 1);
    assert_false(attempt_body(&lie)->releases);
    confirm.generation = 1;
    assert_ok(bench_transact(&world->bench, run_key, &confirm, &err)); /* not called retired */
    confirm.key = secret_free(confirm.key);

    assert_ok(tpm_begin(machine->tpm, clock_boot_ms() + 60'000, &err));
    assert_ok(tpm_counter_raise(machine->tpm, &machine->counter, limit, &value, &err));
    tpm_end(machine->tpm);
    again(world, machine, &honest);
    assert_verdict(&honest, AFFIRMING);
    assert_fails(bench_transact(&world->bench, run_key, &confirm, &err), ERROR_CONFLICT);
}

static void test_blown_fuse(void **state)
{
    struct world *world = *state;
    struct error err = {0};
    CLEANUP(attempt_done) struct attempt first = {0}, blown = {0}, lifted = {0};
    join(world, &world->one, &first);
    struct confirm confirm = {.agent_id = first.id.agent_id, .generation = 1};
    assert_ok(bench_transact(&world->bench, run_confirm, &confirm, &err));
    world->one.generation = 1;
    const Postern__V1__GenerationBody *body = (const Postern__V1__GenerationBody *)first.offer;
    uint64_t value;
    assert_ok(tpm_begin(world->one.tpm, clock_boot_ms() + 60'000, &err));
    assert_ok(
        tpm_counter_raise(world->one.tpm, &world->one.counter, body->limit + 2, &value, &err));
    tpm_end(world->one.tpm);
    again(world, &world->one, &blown);
    assert_verdict(&blown, CONTRAINDICATED);
    assert_true(has_reason(&blown, "counter-value"));
    assert_null(blown.offer);

    /* An operator lifts it: denied, and so without generations, then approved anew. */
    Postern__V1__DenyNodeRequest deny = POSTERN__V1__DENY_NODE_REQUEST__INIT;
    Postern__V1__DenyNodeResponse *denied;
    Postern__V1__ApproveNodeRequest approve = POSTERN__V1__APPROVE_NODE_REQUEST__INIT;
    Postern__V1__ApproveNodeResponse *approved;
    deny.agent_id = approve.agent_id = first.id.agent_id;
    approve.policy = (char[]){"good"};
    assert_ok(
        admin_service_deny_node_sync(world->bench.operator_client, nullptr, &deny, &denied, &err));
    pb_free(&denied->base);
    assert_ok(admin_service_approve_node_sync(world->bench.operator_client, nullptr, &approve,
                                              &approved, &err));
    pb_free(&approved->base);
    world->one.generation = 0;
    again(world, &world->one, &lifted);
    assert_verdict(&lifted, AFFIRMING);
    assert_int_equal(((const Postern__V1__GenerationBody *)lifted.offer)->generation, 2);
    assert_int_equal(((const Postern__V1__GenerationBody *)lifted.offer)->limit, value);
}

/* ---- Operators ---- */

static void test_denied(void **state)
{
    struct world *world = *state;
    struct error err = {0};
    CLEANUP(attempt_done) struct attempt first = {0}, second = {0};
    join(world, &world->one, &first);
    Postern__V1__DenyNodeRequest request = POSTERN__V1__DENY_NODE_REQUEST__INIT;
    Postern__V1__DenyNodeResponse *response;
    request.agent_id = first.id.agent_id;
    assert_ok(admin_service_deny_node_sync(world->bench.operator_client, nullptr, &request,
                                           &response, &err));
    assert_int_equal(response->node->admission, POSTERN__V1__ADMISSION__ADMISSION_DENIED);
    pb_free(&response->base);
    char token[JOIN_TOKEN_SIZE];
    bench_token(&world->bench, "good", token);
    second = (struct attempt){.bench = &world->bench, .machine = &world->one, .token = token};
    assert_true(attest(&second));
    assert_verdict(&second, CONTRAINDICATED);
    assert_int_equal(attempt_appraisal(&second)->n_svid, 0);
    Postern__V1__ListNodesResponse *nodes = bench_nodes(&world->bench);
    assert_int_equal(nodes->nodes[0]->admission, POSTERN__V1__ADMISSION__ADMISSION_DENIED);
    pb_free(&nodes->base);
}

static void test_record_and_explain(void **state)
{
    struct world *world = *state;
    struct error err = {0};
    CLEANUP(attempt_done) struct attempt first = {0}, bad = {0};
    join(world, &world->one, &first);

    Postern__V1__RecordPolicyRequest record = POSTERN__V1__RECORD_POLICY_REQUEST__INIT;
    Postern__V1__RecordPolicyResponse *recorded;
    record.agent_id = first.id.agent_id;
    record.name = (char[]){"recorded"};
    record.pcrs = (char[]){"sha256:0,4,7,9"}; /* 9 is none of what its policy pins: wider */
    record.seal = (char[]){"sha256:9"};
    assert_ok(admin_service_record_policy_sync(world->bench.operator_client, nullptr, &record,
                                               &recorded, &err));
    assert_non_null(strstr(recorded->yaml, "name: recorded"));
    bench_write(&world->bench, "attestation/recorded", recorded->yaml);
    pb_free(&recorded->base);
    assert_ok(bench_reload(&world->bench, &err));
    bench_write(&world->bench, "attestation/recorded", "");
    record.pcrs = (char[]){"sha256:12"};
    assert_fails(admin_service_record_policy_sync(world->bench.operator_client, nullptr, &record,
                                                  &recorded, &err),
                 ERROR_INVALID);

    assert_ok(swtpm_extend(&world->one.chip, 4, "another boot loader", &err));
    again(world, &world->one, &bad);
    assert_verdict(&bad, CONTRAINDICATED);
    Postern__V1__ExplainNodeRequest explain = POSTERN__V1__EXPLAIN_NODE_REQUEST__INIT;
    Postern__V1__ExplainNodeResponse *explained;
    explain.agent_id = first.id.agent_id;
    assert_ok(admin_service_explain_node_sync(world->bench.operator_client, nullptr, &explain,
                                              &explained, &err));
    assert_int_equal(explained->n_differences, 1);
    assert_string_equal(explained->differences[0]->bank, "sha256");
    assert_int_equal(explained->differences[0]->index, 4);
    assert_int_equal(strlen(explained->differences[0]->found), 64);
    assert_int_equal(explained->differences[0]->n_expected, 1);
    assert_true(explained->n_checks > 20);
    unsigned found = 0;
    for (size_t i = 0; i < explained->n_checks; i++)
        found += explained->checks[i]->detail[0] != '\0';
    assert_int_equal(found, 1);
    pb_free(&explained->base);

    /* It keeps its place: what it was before, and its way back. */
    machine_reboot(&world->one);
    CLEANUP(attempt_done) struct attempt back = {0};
    again(world, &world->one, &back);
    assert_verdict(&back, AFFIRMING);
}

/* PCR values that no quote covers are only the node's word: nobody makes a policy of them. */
static void test_record_of_unproven_values(void **state)
{
    struct world *world = *state;
    struct error err = {0};
    CLEANUP(attempt_done) struct attempt first = {0}, honest = {0};
    CLEANUP(attempt_done) struct attempt lie = {
        .bench = &world->bench, .machine = &world->one, .wrong_values = true};
    join(world, &world->one, &first);
    assert_true(attest(&lie));
    assert_verdict(&lie, CONTRAINDICATED);
    assert_true(has_reason(&lie, "pcr-digest"));
    Postern__V1__RecordPolicyRequest record = POSTERN__V1__RECORD_POLICY_REQUEST__INIT;
    Postern__V1__RecordPolicyResponse *recorded;
    record.agent_id = first.id.agent_id;
    record.name = (char[]){"recorded"};
    assert_fails(admin_service_record_policy_sync(world->bench.operator_client, nullptr, &record,
                                                  &recorded, &err),
                 ERROR_CONFLICT);
    assert_string_equal(err.reason, "EVIDENCE_UNPROVEN");
    assert_error_contains("pcr-digest");
    again(world, &world->one, &honest);
    assert_ok(admin_service_record_policy_sync(world->bench.operator_client, nullptr, &record,
                                               &recorded, &err));
    pb_free(&recorded->base);
}

/* A list has one reason of each stranger, however many there are; explain has all. */
static void test_reasons_of_strangers(void **state)
{
    struct world *world = *state;
    struct error err = {0};
    CLEANUP(attempt_done) struct attempt lie = {
        .bench = &world->bench, .machine = &world->two, .wrong_values = true};
    assert_true(attest(&lie));
    assert_int_equal(attempt_body(&lie)->n_reasons, 2);
    Postern__V1__ListNodesResponse *nodes = bench_nodes(&world->bench);
    assert_int_equal(nodes->nodes[0]->n_reasons, 1);
    pb_free(&nodes->base);
    Postern__V1__ExplainNodeRequest explain = POSTERN__V1__EXPLAIN_NODE_REQUEST__INIT;
    Postern__V1__ExplainNodeResponse *explained;
    explain.agent_id = lie.id.agent_id;
    assert_ok(admin_service_explain_node_sync(world->bench.operator_client, nullptr, &explain,
                                              &explained, &err));
    assert_int_equal(explained->node->n_reasons, 2);
    pb_free(&explained->base);
}

static void test_attest_now_of_who_is_away(void **state)
{
    struct world *world = *state;
    struct error err = {0};
    CLEANUP(attempt_done) struct attempt first = {0};
    join(world, &world->one, &first);
    Postern__V1__AttestNowRequest request = POSTERN__V1__ATTEST_NOW_REQUEST__INIT;
    Postern__V1__AttestNowResponse *response;
    request.agent_id = first.id.agent_id;
    assert_fails(admin_service_attest_now_sync(world->bench.operator_client, nullptr, &request,
                                               &response, &err),
                 ERROR_UNAVAILABLE);
    assert_string_equal(err.reason, "NODE_NOT_CONNECTED");
    request.agent_id = (char[]){"../../etc/passwd"};
    assert_fails(admin_service_attest_now_sync(world->bench.operator_client, nullptr, &request,
                                               &response, &err),
                 ERROR_INVALID);
    assert_string_equal(err.field, "agent_id");
}

/* A node that watches, and does what it is asked. */
struct watcher {
    struct world *world;
    bool synced, asked, over;
    Postern__V1__Verdict verdict; /* of the node, as AttestNow answered */
    bool connected;
    struct error err;
};

static void on_watch(void *arg, struct rpc_call *call, const Postern__V1__WatchResponse *message)
{
    struct watcher *watcher = arg;
    (void)call;
    watcher->synced |= message->change_case == POSTERN__V1__WATCH_RESPONSE__CHANGE_SYNCED;
    watcher->asked |= message->change_case == POSTERN__V1__WATCH_RESPONSE__CHANGE_ATTEST;
    loop_stop(watcher->world->bench.loop);
}

static void on_watch_closed(void *arg, struct rpc_call *call, const struct error *err)
{
    struct watcher *watcher = arg;
    (void)call;
    if (err)
        watcher->err = *err;
    watcher->over = true;
    loop_stop(watcher->world->bench.loop);
}

static void on_attested_now(void *arg, const Postern__V1__AttestNowResponse *response,
                            const struct error *err)
{
    struct watcher *watcher = arg;
    if (err) {
        watcher->err = *err;
    } else {
        watcher->verdict = response->node->verdict;
        watcher->connected = response->node->connected;
    }
    loop_stop(watcher->world->bench.loop);
}

static void test_attest_now(void **state)
{
    static const struct rpc_call_events events = {.closed = on_watch_closed};
    struct world *world = *state;
    struct error err = {0};
    CLEANUP(attempt_done) struct attempt first = {0}, fresh = {0};
    join(world, &world->one, &first);
    struct watcher watcher = {.world = world};
    const Postern__V1__WatchRequest watch = POSTERN__V1__WATCH_REQUEST__INIT;
    struct rpc_client *node = node_client(world, &first);
    assert_non_null(node_service_watch(node, nullptr, &watch, on_watch, &events, &watcher));
    while (!watcher.synced && !watcher.over)
        loop_run(world->bench.loop);
    assert_true(watcher.synced);

    assert_ok(swtpm_extend(&world->one.chip, 4, "another boot loader", &err));
    Postern__V1__AttestNowRequest request = POSTERN__V1__ATTEST_NOW_REQUEST__INIT;
    request.agent_id = first.id.agent_id;
    assert_non_null(admin_service_attest_now(world->bench.operator_client, nullptr, &request,
                                             on_attested_now, &watcher));
    while (!watcher.asked && !watcher.over && watcher.err.class == ERROR_NONE)
        loop_run(world->bench.loop);
    assert_true(watcher.asked);
    again(world, &world->one, &fresh);
    while (watcher.verdict == POSTERN__V1__VERDICT__VERDICT_NONE && !watcher.over)
        loop_run(world->bench.loop);
    /* The answer is the fresh appraisal, which ends the stream of a node that is not affirmed. */
    while (!watcher.over || watcher.verdict == POSTERN__V1__VERDICT__VERDICT_NONE)
        loop_run(world->bench.loop);
    assert_int_equal(watcher.verdict, CONTRAINDICATED);
    assert_int_not_equal(watcher.err.class, ERROR_NONE);
    rpc_client_free(node);
    machine_reboot(&world->one);
}

/* ---- Who may call what ---- */

static void test_access(void **state)
{
    struct world *world = *state;
    struct error err = {0};
    CLEANUP(attempt_done) struct attempt joined = {0};
    join(world, &world->one, &joined);
    const Postern__V1__ListNodesRequest list = POSTERN__V1__LIST_NODES_REQUEST__INIT;
    Postern__V1__ListNodesResponse *nodes;
    const Postern__V1__FetchRequest fetch = POSTERN__V1__FETCH_REQUEST__INIT;
    Postern__V1__FetchResponse *packets;

    struct rpc_client *stranger = bench_client(&world->bench, (struct slice){0}, nullptr);
    assert_fails(admin_service_list_nodes_sync(stranger, nullptr, &list, &nodes, &err),
                 ERROR_UNAUTHENTICATED);
    assert_fails(node_service_fetch_sync(stranger, nullptr, &fetch, &packets, &err),
                 ERROR_UNAUTHENTICATED);
    rpc_client_free(stranger);

    struct rpc_client *node = node_client(world, &joined);
    assert_fails(admin_service_list_nodes_sync(node, nullptr, &list, &nodes, &err), ERROR_DENIED);
    assert_string_equal(err.reason, "NOT_ALLOWED");
    rpc_client_free(node);

    assert_fails(
        node_service_fetch_sync(world->bench.operator_client, nullptr, &fetch, &packets, &err),
        ERROR_DENIED);
    assert_string_equal(err.reason, "NOT_ALLOWED");
}

static void test_policy_gone(void **state)
{
    struct world *world = *state;
    struct error err = {0};
    CLEANUP(attempt_done) struct attempt joined = {0}, lost = {0};
    join(world, &world->one, &joined);
    bench_write(&world->bench, "attestation/good", "");
    assert_ok(bench_reload(&world->bench, &err));
    lost = (struct attempt){.bench = &world->bench, .machine = &world->one};
    assert_false(attest(&lost));
    assert_int_equal(lost.err.class, ERROR_CONFLICT);
    assert_string_equal(lost.err.reason, "POLICY_UNKNOWN");
    machine_policy(&world->bench, &world->one, "good");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_pending_then_approved, forget_all),
        cmocka_unit_test_setup(test_joins_by_token, forget_all),
        cmocka_unit_test_setup(test_wrong_token, forget_all),
        cmocka_unit_test_setup(test_token_is_not_spent_by_a_bad_state, forget_all),
        cmocka_unit_test_setup(test_replayed_evidence, forget_all),
        cmocka_unit_test_setup(test_evidence_of_another_connection, forget_all),
        cmocka_unit_test_setup(test_quote_of_another_machine, forget_all),
        cmocka_unit_test_setup(test_a_lie_changes_nothing_of_its_victim, forget_all),
        cmocka_unit_test_setup(test_a_stranger_voids_no_nonce, forget_all),
        cmocka_unit_test_setup(test_oversize_messages, forget_all),
        cmocka_unit_test_setup(test_too_slow, forget_all),
        cmocka_unit_test_setup(test_flood, forget_all),
        cmocka_unit_test_setup(test_generations, forget_all),
        cmocka_unit_test_setup(test_second_counter, forget_all),
        cmocka_unit_test_setup(test_blown_fuse, forget_all),
        cmocka_unit_test_setup(test_denied, forget_all),
        cmocka_unit_test_setup(test_record_and_explain, forget_all),
        cmocka_unit_test_setup(test_record_of_unproven_values, forget_all),
        cmocka_unit_test_setup(test_reasons_of_strangers, forget_all),
        cmocka_unit_test_setup(test_attest_now_of_who_is_away, forget_all),
        cmocka_unit_test_setup(test_attest_now, forget_all),
        cmocka_unit_test_setup(test_access, forget_all),
        cmocka_unit_test_setup(test_policy_gone, forget_all),
    };
    return cmocka_run_group_tests(tests, world_up, world_down);
}
