#include "bench.h"

#include "fetch.h"
#include "secret_rows.h"
#include "watch.h"

#include "base/clock.h"
#include "keyring/commitment.h"
#include "keyring/envelope.h"
#include "pb/message.h"
#include "tpm/key.h"

#include "postern/v1/state.pb-c.h"

#include <stdio.h>

#define ME "spiffe://test.example/app/me"
#define OTHER "spiffe://test.example/app/other"
#define STRANGER "spiffe://test.example/strangers/one"

static const char vouch_all[] = "vouch:\n  - nodes: [\"*\"]\n    spiffe_ids: [\"spiffe://"
                                "test.example/app/*\"]\n";
static const char vouch_other[] = "vouch:\n  - nodes: [\"*\"]\n    spiffe_ids: [\"" OTHER "\"]\n";

/* One authority, one machine that is affirmed and has a client with its SVID. */
struct world {
    struct bench bench;
    struct machine machine;
    struct attempt joined;
    struct rpc_client *node;
    struct secret *node_key;
};

/* ---- The world ---- */

static bool run_key(struct tx *tx, void *arg, struct error *err)
{
    struct world *world = arg;
    return generation_key(tx, identity_kek(world->bench.authority->identity),
                          world->joined.id.agent_id, 1, &world->node_key, err);
}

static struct rpc_client *client_of(struct world *world, const struct attempt *attempt)
{
    struct error err = {0};
    X509 *leaf;
    CLEANUP(buf_done) struct buf pem;
    buf_init(&pem, 64 * 1024);
    const ProtobufCBinaryData *svid = &attempt_appraisal(attempt)->svid[0];
    assert_ok(certificate_from_der(slice(svid->data, svid->len), &leaf, &err));
    assert_ok(certificate_to_pem(leaf, &pem, &err));
    X509_free(leaf);
    return bench_client(&world->bench, buf_slice(&pem), attempt->key);
}

static int world_up(void **state)
{
    struct world *world = mem_new(1, sizeof(*world));
    struct error err = {0};
    char token[JOIN_TOKEN_SIZE];
    assert_non_null(world);
    tpm_setup();
    bench_up(&world->bench);
    machine_up(&world->bench, "one", &world->machine);
    machine_policy(&world->bench, &world->machine, "good");
    bench_token(&world->bench, "good", token);
    world->joined =
        (struct attempt){.bench = &world->bench, .machine = &world->machine, .token = token};
    if (!attest(&world->joined))
        fail_msg("%s", world->joined.err.message);
    assert_verdict(&world->joined, POSTERN__V1__VERDICT__VERDICT_AFFIRMING);
    world->node = client_of(world, &world->joined);
    assert_ok(bench_transact(&world->bench, run_key, world, &err));
    *state = world;
    return 0;
}

static int world_down(void **state)
{
    struct world *world = *state;
    rpc_client_free(world->node);
    secret_free(world->node_key);
    attempt_done(&world->joined);
    machine_down(&world->machine);
    bench_down(&world->bench);
    mem_free(world);
    return 0;
}

static bool run_clear(struct tx *tx, void *arg, struct error *err)
{
    (void)arg;
    return tx_exec(tx, "DELETE FROM secret", SQL_NONE, err) &&
           tx_exec(tx, "UPDATE node SET wants_generation = 0, verdict = 1, admission = 2", SQL_NONE,
                   err);
}

static int fresh(void **state)
{
    struct world *world = *state;
    struct error err = {0};
    bench_write(&world->bench, "release/all", vouch_all);
    assert_ok(bench_reload(&world->bench, &err));
    assert_ok(bench_transact(&world->bench, run_clear, nullptr, &err));
    watch_hub_all_changed(world->bench.authority->hub);
    return 0;
}

/* ---- Operators ---- */

/* `value` null: keep; `allow` null: keep; a list ends with null. */
static bool put(struct world *world, const char *name, const char *value, const char **allow,
                Postern__V1__PutSecretResponse **ret, struct error *err)
{
    Postern__V1__PutSecretRequest request = POSTERN__V1__PUT_SECRET_REQUEST__INIT;
    Postern__V1__AllowList list = POSTERN__V1__ALLOW_LIST__INIT;
    Postern__V1__PutSecretResponse *response;
    request.name = (char *)name;
    if (value)
        request.value = (ProtobufCBinaryData){strlen(value), (uint8_t *)value};
    while (allow && allow[list.n_spiffe_ids])
        list.n_spiffe_ids++;
    list.spiffe_ids = (char **)allow;
    request.allow = allow ? &list : nullptr;
    if (!admin_service_put_secret_sync(world->bench.operator_client, nullptr, &request, &response,
                                       err))
        return false;
    if (ret)
        *ret = response;
    else
        pb_free(&response->base);
    return true;
}

static const char *me[] = {ME, nullptr};
static const char *other[] = {OTHER, nullptr};
static const char *both[] = {ME, OTHER, nullptr};
static const char *nobody[] = {nullptr};

static void assert_put(struct world *world, const char *name, const char *value, const char **allow,
                       uint64_t version)
{
    struct error err = {0};
    Postern__V1__PutSecretResponse *response;
    assert_ok(put(world, name, value, allow, &response, &err));
    assert_int_equal(response->epoch, 1);
    assert_int_equal(response->version, version);
    pb_free(&response->base);
}

static Postern__V1__ListSecretsResponse *list(struct world *world)
{
    struct error err = {0};
    const Postern__V1__ListSecretsRequest request = POSTERN__V1__LIST_SECRETS_REQUEST__INIT;
    Postern__V1__ListSecretsResponse *response;
    assert_ok(admin_service_list_secrets_sync(world->bench.operator_client, nullptr, &request,
                                              &response, &err));
    return response;
}

static void test_put_and_list(void **state)
{
    struct world *world = *state;
    assert_put(world, "b", "1", me, 1);
    assert_put(world, "a/b.c-d_0", "x", nullptr, 1);
    assert_put(world, "b", nullptr, (const char *[]){OTHER, ME, OTHER, nullptr}, 1);
    assert_put(world, "b", "2", nullptr, 2);
    Postern__V1__ListSecretsResponse *all = list(world);
    assert_int_equal(all->n_secrets, 2);
    assert_string_equal(all->secrets[0]->name, "a/b.c-d_0");
    assert_int_equal(all->secrets[0]->n_allow, 0); /* default deny */
    assert_int_equal(all->secrets[0]->nodes_entitled, 0);
    assert_string_equal(all->secrets[1]->name, "b");
    assert_int_equal(all->secrets[1]->version, 2);
    assert_int_equal(all->secrets[1]->n_allow, 2); /* each once */
    assert_string_equal(all->secrets[1]->allow[0], OTHER);
    assert_int_equal(all->secrets[1]->nodes_entitled, 1);
    assert_int_equal(all->secrets[1]->nodes_confirmed, 0);
    int64_t age = clock_wall_ms() / 1000 - all->secrets[1]->changed_at->seconds;
    assert_true(age >= 0 && age < 60);
    pb_free(&all->base);
}

static void test_put_refuses(void **state)
{
    struct world *world = *state;
    struct error err = {0};
    char long_name[SECRET_NAME_MAX + 2];
    memset(long_name, 'a', sizeof(long_name) - 1);
    long_name[sizeof(long_name) - 1] = '\0';
    const char *names[] = {"", "A", "a b", "ä", "a:b", long_name};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        assert_fails(put(world, names[i], "v", me, nullptr, &err), ERROR_INVALID);
        assert_string_equal(err.field, "name");
    }
    assert_put(world, long_name + 1, "v", me, 1);
    const char *ids[] = {"",
                         "app/me",
                         "spiffe://test.example",
                         "https://test.example/a",
                         "spiffe://test.example/postern/node/0",
                         "spiffe://elsewhere.example/a"};
    for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
        assert_fails(put(world, "a", "v", (const char *[]){ME, ids[i], nullptr}, nullptr, &err),
                     ERROR_INVALID);
        assert_string_equal(err.field, "allow.spiffe_ids[1]");
    }
    const char *many[SECRET_ALLOW_MAX + 2] = {0};
    for (size_t i = 0; i <= SECRET_ALLOW_MAX; i++)
        many[i] = ME;
    assert_fails(put(world, "a", "v", many, nullptr, &err), ERROR_EXHAUSTED);
    assert_string_equal(err.reason, "ALLOW_LIST_TOO_LONG");
    assert_fails(put(world, "a", nullptr, nullptr, nullptr, &err), ERROR_INVALID);
    assert_fails(put(world, "a", nullptr, me, nullptr, &err), ERROR_NOT_FOUND);
    assert_string_equal(err.reason, "SECRET_UNKNOWN");
    CLEANUP(mem_free_at) char *large = mem_new(1, SECRET_VALUE_MAX + 2);
    memset(large, 'x', SECRET_VALUE_MAX + 1);
    assert_fails(put(world, "a", large, me, nullptr, &err), ERROR_EXHAUSTED);
    assert_string_equal(err.reason, "VALUE_TOO_LARGE");
    assert_put(world, "a", large + 1, me, 1);
}

/* A dozen at once: each is a version of its own. */
struct racing {
    struct bench *bench;
    unsigned left;
    uint64_t versions; /* bit n: version n was answered */
};

static void on_raced(void *arg, const Postern__V1__PutSecretResponse *response,
                     const struct error *err)
{
    struct racing *racing = arg;
    if (err)
        fail_msg("%s", err->message);
    racing->versions |= 1ULL << response->version;
    if (--racing->left == 0)
        loop_stop(racing->bench->loop);
}

static void test_puts_that_race(void **state)
{
    struct world *world = *state;
    struct racing racing = {.bench = &world->bench, .left = 12};
    Postern__V1__PutSecretRequest request = POSTERN__V1__PUT_SECRET_REQUEST__INIT;
    request.name = (char[]){"raced"};
    request.value = (ProtobufCBinaryData){1, (uint8_t *)"v"};
    for (unsigned i = racing.left; i > 0; i--)
        admin_service_put_secret(world->bench.operator_client, nullptr, &request, on_raced,
                                 &racing);
    loop_run(world->bench.loop);
    assert_int_equal(racing.versions, 0x1ffe);
}

/* ---- Requests of the node ---- */

/* What to say and sign; {0} is right. */
struct lie {
    const char *agent_id;
    const char *method;
    uint64_t generation;
    int64_t skew_ms;
    size_t nonce_len;
    bool no_header;
    bool spoil; /* a bit of the signature */
};

struct asked {
    struct buf body, signature;
    uint8_t nonce[32];
    Postern__V1__RequestHeader header;
};

static void asked_done(struct asked *asked)
{
    buf_done(&asked->body);
    buf_done(&asked->signature);
}

static void ask_header(struct world *world, const struct lie *lie, struct asked *ret)
{
    struct error err = {0};
    buf_init(&ret->body, 64 * 1024);
    buf_init(&ret->signature, 1024);
    assert_ok(random_bytes(ret->nonce, sizeof(ret->nonce), &err));
    postern__v1__request_header__init(&ret->header);
    ret->header.agent_id = (char *)(lie->agent_id ? lie->agent_id : world->joined.id.agent_id);
    ret->header.generation = lie->generation ? lie->generation : 1;
    ret->header.nonce = (ProtobufCBinaryData){lie->nonce_len ? lie->nonce_len : 16, ret->nonce};
    ret->header.time_ms = clock_wall_ms() + lie->skew_ms;
}

static void ask_sign(struct world *world, const char *method, const struct lie *lie,
                     const ProtobufCMessage *body, struct asked *ret)
{
    struct error err = {0};
    CLEANUP(buf_done) struct buf message;
    buf_init(&message, 128 * 1024);
    assert_ok(pb_pack(body, 64 * 1024, &ret->body, &err));
    buf_put_prefixed(&message, slice_str("postern req v1"));
    buf_put_prefixed(&message, slice_str(lie->method ? lie->method : method));
    buf_put_prefixed(&message, buf_slice(&ret->body));
    assert_ok(tpm_begin(world->machine.tpm, clock_boot_ms() + 60'000, &err));
    assert_ok(tpm_sign(world->machine.tpm, buf_slice(&message), &ret->signature, &err));
    tpm_end(world->machine.tpm);
    if (lie->spoil)
        ret->signature.data[ret->signature.len - 1] ^= 1;
}

static bool send_fetch(struct world *world, const struct asked *asked,
                       Postern__V1__FetchResponse **ret, struct error *err)
{
    Postern__V1__FetchRequest request = POSTERN__V1__FETCH_REQUEST__INIT;
    request.body = (ProtobufCBinaryData){asked->body.len, asked->body.data};
    request.signature = (ProtobufCBinaryData){asked->signature.len, asked->signature.data};
    return node_service_fetch_sync(world->node, nullptr, &request, ret, err);
}

static void ask_fetch(struct world *world, const char *name, uint64_t held, const struct lie *lie,
                      struct asked *ret)
{
    Postern__V1__FetchBody body = POSTERN__V1__FETCH_BODY__INIT;
    Postern__V1__HeldVersion version = POSTERN__V1__HELD_VERSION__INIT;
    Postern__V1__HeldVersion *versions[] = {&version};
    ask_header(world, lie, ret);
    body.header = lie->no_header ? nullptr : &ret->header;
    body.name = (char *)name;
    version.name = (char *)name;
    version.epoch = 1;
    version.version = held;
    body.n_held = held ? 1 : 0;
    body.held = versions;
    ask_sign(world, "Fetch", lie, &body.base, ret);
}

static bool fetch(struct world *world, const char *name, uint64_t held, const struct lie *lie,
                  Postern__V1__FetchResponse **ret, struct error *err)
{
    CLEANUP(asked_done) struct asked asked;
    ask_fetch(world, name, held, lie, &asked);
    return send_fetch(world, &asked, ret, err);
}

static const struct lie truth;

/* The key of the index-th signer, from its certificate. */
static struct key *signer_key(ProtobufCBinaryData der)
{
    struct error err = {0};
    X509 *leaf;
    struct key *key;
    unsigned char *spki = nullptr;
    assert_ok(certificate_from_der(slice(der.data, der.len), &leaf, &err));
    int len = i2d_PUBKEY(X509_get0_pubkey(leaf), &spki);
    assert_true(len > 0);
    assert_ok(key_from_public(slice(spki, (size_t)len), &key, &err));
    OPENSSL_free(spki);
    X509_free(leaf);
    return key;
}

static void check_signed(const char *tag, const struct slice *parts, size_t count,
                         Postern__V1__Signature **signatures, size_t signature_count,
                         const ProtobufCBinaryData *certificates, size_t certificate_count)
{
    struct error err = {0};
    CLEANUP(buf_done) struct buf message;
    buf_init(&message, 256 * 1024);
    buf_put_prefixed(&message, slice_str(tag));
    for (size_t i = 0; i < count; i++)
        buf_put_prefixed(&message, parts[i]);
    assert_int_equal(signature_count, 2);
    assert_int_equal(certificate_count, 2);
    for (size_t i = 0; i < 2; i++) {
        CLEANUP(key_unref_at) struct key *key = signer_key(certificates[i]);
        assert_int_equal(key_kind(key), i == 0 ? KEY_P384 : KEY_ML_DSA_65);
        assert_ok(key_verify(key, buf_slice(&message),
                             slice(signatures[i]->signature.data, signatures[i]->signature.len),
                             &err));
    }
}

/* Opens the one packet, and checks all that it says. */
static void check_packet(struct world *world, const Postern__V1__FetchResponse *response,
                         const char *name, uint64_t version, const char *value,
                         uint8_t ret_commitment[static SHA256_SIZE])
{
    struct error err = {0};
    assert_int_equal(response->n_packets, 1);
    const Postern__V1__Packet *packet = response->packets[0];
    const struct slice parts[] = {slice(packet->header.data, packet->header.len),
                                  slice(packet->ciphertext.data, packet->ciphertext.len)};
    check_signed("postern packet v1", parts, 2, packet->signatures, packet->n_signatures,
                 response->signer_certificates, response->n_signer_certificates);
    CLEANUP(pb_free_at) ProtobufCMessage *header_message = nullptr, *plain_message = nullptr;
    assert_ok(pb_unpack(&postern__v1__packet_header__descriptor, parts[0], &pb_limits_strict,
                        &header_message, &err));
    const Postern__V1__PacketHeader *header = (Postern__V1__PacketHeader *)header_message;
    assert_string_equal(header->agent_id, world->joined.id.agent_id);
    assert_string_equal(header->name, name);
    assert_int_equal(header->generation, 1);
    assert_int_equal(header->epoch, 1);
    assert_int_equal(header->version, version);
    CLEANUP(secret_free_at) struct secret *plain = nullptr;
    assert_ok(envelope_open(ENVELOPE_PACKET, world->node_key, parts[0],
                            slice(header->salt.data, header->salt.len), parts[1], &plain, &err));
    assert_ok(pb_unpack(&postern__v1__secret_plain__descriptor, secret_slice(plain),
                        &pb_limits_strict, &plain_message, &err));
    const Postern__V1__SecretPlain *opened = (Postern__V1__SecretPlain *)plain_message;
    assert_true(slice_is(slice(opened->value.data, opened->value.len), value));
    const struct version_name named = {.name = name, .epoch = 1, .version = version};
    assert_ok(commitment_compute(&named, slice(opened->r.data, opened->r.len),
                                 slice(opened->value.data, opened->value.len), ret_commitment,
                                 &err));
}

static void test_fetch(void **state)
{
    struct world *world = *state;
    struct error err = {0};
    uint8_t first[SHA256_SIZE], second[SHA256_SIZE];
    Postern__V1__FetchResponse *response;
    assert_put(world, "a", "correct horse", me, 1);
    assert_ok(fetch(world, "a", 0, &truth, &response, &err));
    check_packet(world, response, "a", 1, "correct horse", first);
    pb_free(&response->base);
    /* The same version is always the same secret, wrapped anew. */
    assert_ok(fetch(world, "a", 0, &truth, &response, &err));
    check_packet(world, response, "a", 1, "correct horse", second);
    assert_memory_equal(first, second, SHA256_SIZE);
    pb_free(&response->base);
    assert_ok(fetch(world, "a", 1, &truth, &response, &err));
    assert_int_equal(response->n_packets, 0);
    pb_free(&response->base);
    assert_put(world, "a", "battery staple", nullptr, 2);
    assert_ok(fetch(world, "a", 1, &truth, &response, &err));
    check_packet(world, response, "a", 2, "battery staple", second);
    pb_free(&response->base);
    CLEANUP(mem_free_at) char *large = mem_new(1, SECRET_VALUE_MAX + 1);
    memset(large, 'x', SECRET_VALUE_MAX);
    assert_put(world, "large", large, me, 1);
    assert_ok(fetch(world, "large", 0, &truth, &response, &err));
    check_packet(world, response, "large", 1, large, second);
    pb_free(&response->base);
}

static void test_fetch_refuses(void **state)
{
    static const struct {
        struct lie lie;
        enum error_class class;
        const char *reason; /* or the field */
    } lies[] = {
        {{.agent_id = "00000000000000000000000000000000"}, ERROR_DENIED, "WRONG_NODE"},
        {{.agent_id = "00"}, ERROR_INVALID, "body.header.agent_id"},
        {{.method = "Confirm"}, ERROR_UNAUTHENTICATED, "REQUEST_NOT_AUTHENTIC"},
        {{.spoil = true}, ERROR_UNAUTHENTICATED, "REQUEST_NOT_AUTHENTIC"},
        {{.generation = 7}, ERROR_NOT_FOUND, "GENERATION_UNKNOWN"},
        {{.generation = UINT64_MAX}, ERROR_INVALID, "body.header.generation"},
        {{.skew_ms = 130'000}, ERROR_CONFLICT, "CLOCK_SKEW"},
        {{.skew_ms = -130'000}, ERROR_CONFLICT, "CLOCK_SKEW"},
        {{.skew_ms = INT64_MIN / 2}, ERROR_CONFLICT, "CLOCK_SKEW"},
        {{.nonce_len = 15}, ERROR_INVALID, "body.header.nonce"},
        {{.no_header = true}, ERROR_INVALID, "body.header"},
    };
    struct world *world = *state;
    struct error err = {0};
    Postern__V1__FetchResponse *response = POISON;
    assert_put(world, "mine", "v", me, 1);
    assert_put(world, "strange", "v", (const char *[]){STRANGER, nullptr}, 1);
    assert_put(world, "nobodys", "v", nobody, 1);
    for (size_t i = 0; i < ARRAY_LEN(lies); i++) {
        assert_fails(fetch(world, "mine", 0, &lies[i].lie, &response, &err), lies[i].class);
        assert_string_equal(err.reason[0] ? err.reason : err.field, lies[i].reason);
    }
    const char *names[] = {"strange", "nobodys", "none"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        assert_fails(fetch(world, names[i], 0, &truth, &response, &err), ERROR_DENIED);
        assert_string_equal(err.reason, "NOT_ENTITLED");
    }
    assert_fails(fetch(world, "NO", 0, &truth, &response, &err), ERROR_INVALID);
    assert_ptr_equal(response, POISON);
}

static void test_fetch_malformed(void **state)
{
    struct world *world = *state;
    struct error err = {0};
    Postern__V1__FetchResponse *response = POISON;
    struct asked asked = {0};
    buf_init(&asked.body, 128 * 1024);
    buf_init(&asked.signature, 1024);
    assert_fails(send_fetch(world, &asked, &response, &err), ERROR_INVALID);
    assert_string_equal(err.field, "body");
    buf_put(&asked.body, slice_str("\xff\xff\xff"));
    assert_fails(send_fetch(world, &asked, &response, &err), ERROR_INVALID);
    assert_string_equal(err.field, "signature");
    buf_put(&asked.signature, slice_str("x"));
    assert_fails(send_fetch(world, &asked, &response, &err), ERROR_INVALID);
    memset(buf_extend(&asked.body, 65 * 1024), 0, 65 * 1024);
    assert_fails(send_fetch(world, &asked, &response, &err), ERROR_INVALID);
    assert_string_equal(err.field, "body");
    asked_done(&asked);
}

static void test_a_nonce_counts_once(void **state)
{
    struct world *world = *state;
    struct error err = {0};
    Postern__V1__FetchResponse *response;
    CLEANUP(asked_done) struct asked granted, refused;
    assert_put(world, "mine", "v", me, 1);
    ask_fetch(world, "mine", 0, &truth, &granted);
    assert_ok(send_fetch(world, &granted, &response, &err));
    pb_free(&response->base);
    assert_fails(send_fetch(world, &granted, &response, &err), ERROR_CONFLICT);
    assert_string_equal(err.reason, "NONCE_USED");
    /* Also one that was refused: it must not come to be granted later. */
    ask_fetch(world, "late", 0, &truth, &refused);
    assert_fails(send_fetch(world, &refused, &response, &err), ERROR_DENIED);
    assert_put(world, "late", "v", me, 1);
    assert_fails(send_fetch(world, &refused, &response, &err), ERROR_CONFLICT);
    assert_string_equal(err.reason, "NONCE_USED");
}

static bool run_set(struct tx *tx, void *arg, struct error *err)
{
    return tx_exec(tx, arg, SQL_NONE, err);
}

static void test_fetch_by_standing(void **state)
{
    static const struct {
        const char *change;
        enum error_class class;
        const char *reason;
        const char *undo;
    } standings[] = {
        {"UPDATE node SET verdict = 3", ERROR_CONFLICT, "NODE_CONTRAINDICATED",
         "UPDATE node SET verdict = 1"},
        {"UPDATE node SET admission = 3", ERROR_DENIED, "NODE_NOT_ADMITTED",
         "UPDATE node SET admission = 2"},
        {"UPDATE node SET expires_at_ms = expires_at_ms - 86400000", ERROR_CONFLICT,
         "APPRAISAL_EXPIRED", "UPDATE node SET expires_at_ms = expires_at_ms + 86400000"},
    };
    struct world *world = *state;
    struct error err = {0};
    Postern__V1__FetchResponse *response;
    assert_put(world, "mine", "v", me, 1);
    for (size_t i = 0; i < ARRAY_LEN(standings); i++) {
        assert_ok(bench_transact(&world->bench, run_set, (char *)standings[i].change, &err));
        assert_fails(fetch(world, "mine", 0, &truth, &response, &err), standings[i].class);
        assert_string_equal(err.reason, standings[i].reason);
        assert_ok(bench_transact(&world->bench, run_set, (char *)standings[i].undo, &err));
        assert_ok(fetch(world, "mine", 0, &truth, &response, &err));
        pb_free(&response->base);
    }
}

static bool confirm_version(struct world *world, const char *name, uint64_t number,
                            const uint8_t *commitment, size_t commitment_len, struct error *err)
{
    CLEANUP(asked_done) struct asked asked;
    Postern__V1__ConfirmBody body = POSTERN__V1__CONFIRM_BODY__INIT;
    Postern__V1__ConfirmedVersion version = POSTERN__V1__CONFIRMED_VERSION__INIT;
    Postern__V1__ConfirmRequest request = POSTERN__V1__CONFIRM_REQUEST__INIT;
    Postern__V1__ConfirmResponse *response;
    ask_header(world, &truth, &asked);
    version.name = (char *)name;
    version.epoch = 1;
    version.version = number;
    version.commitment = (ProtobufCBinaryData){commitment_len, (uint8_t *)commitment};
    body.header = &asked.header;
    body.what_case = POSTERN__V1__CONFIRM_BODY__WHAT_VERSION;
    body.version = &version;
    if (!name)
        body.what_case = POSTERN__V1__CONFIRM_BODY__WHAT__NOT_SET;
    ask_sign(world, "Confirm", &truth, &body.base, &asked);
    request.body = (ProtobufCBinaryData){asked.body.len, asked.body.data};
    request.signature = (ProtobufCBinaryData){asked.signature.len, asked.signature.data};
    if (!node_service_confirm_sync(world->node, nullptr, &request, &response, err))
        return false;
    pb_free(&response->base);
    return true;
}

static void test_confirm(void **state)
{
    struct world *world = *state;
    struct error err = {0};
    uint8_t commitment[SHA256_SIZE], wrong[SHA256_SIZE] = {0};
    Postern__V1__FetchResponse *response;
    assert_put(world, "a", "v", me, 1);
    /* Nothing was released yet. */
    assert_fails(confirm_version(world, "a", 1, wrong, SHA256_SIZE, &err), ERROR_NOT_FOUND);
    assert_string_equal(err.reason, "VERSION_UNKNOWN");
    assert_ok(fetch(world, "a", 0, &truth, &response, &err));
    check_packet(world, response, "a", 1, "v", commitment);
    pb_free(&response->base);
    assert_fails(confirm_version(world, "a", 1, wrong, SHA256_SIZE, &err), ERROR_CONFLICT);
    assert_string_equal(err.reason, "COMMITMENT_MISMATCH");
    assert_fails(confirm_version(world, "a", 1, commitment, 31, &err), ERROR_INVALID);
    assert_fails(confirm_version(world, nullptr, 1, commitment, 32, &err), ERROR_INVALID);
    for (unsigned i = 0; i < 2; i++) { /* what is sent twice counts once */
        assert_ok(confirm_version(world, "a", 1, commitment, SHA256_SIZE, &err));
        Postern__V1__ListSecretsResponse *all = list(world);
        assert_int_equal(all->secrets[0]->nodes_confirmed, 1);
        pb_free(&all->base);
    }
    const uint64_t others[] = {2, UINT64_MAX};
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        assert_fails(confirm_version(world, "a", others[i], commitment, SHA256_SIZE, &err),
                     ERROR_NOT_FOUND);
        assert_string_equal(err.reason, "VERSION_UNKNOWN");
    }
    /* Another version is not confirmed by that. */
    assert_put(world, "a", "w", nullptr, 2);
    Postern__V1__ListSecretsResponse *all = list(world);
    assert_int_equal(all->secrets[0]->nodes_confirmed, 0);
    pb_free(&all->base);
}

/* ---- Watch ---- */

struct told {
    char name[32];
    uint64_t seq, version;
    bool gone;
    size_t allowed;
    uint8_t previous[SHA256_SIZE], hash[SHA256_SIZE];
    size_t previous_len;
};

struct watcher {
    struct world *world;
    struct rpc_call *call;
    struct told told[16];
    size_t heads, synced, attests, times;
    char why[64];
    bool over;
    struct error err;
    struct timer late;
};

static void take_head(struct watcher *watcher, const Postern__V1__SecretHead *head)
{
    struct error err = {0};
    CLEANUP(pb_free_at) ProtobufCMessage *message = nullptr;
    const struct slice bytes = slice(head->body.data, head->body.len);
    assert_true(watcher->heads < ARRAY_LEN(watcher->told));
    check_signed("postern head v1", &bytes, 1, head->signatures, head->n_signatures,
                 head->signer_certificates, head->n_signer_certificates);
    assert_ok(
        pb_unpack(&postern__v1__head_body__descriptor, bytes, &pb_limits_strict, &message, &err));
    const Postern__V1__HeadBody *body = (const Postern__V1__HeadBody *)message;
    struct told *told = &watcher->told[watcher->heads++];
    snprintf(told->name, sizeof(told->name), "%s", body->name);
    told->seq = body->seq;
    told->version = body->version;
    told->gone = body->gone;
    told->allowed = body->n_allow;
    told->previous_len = body->previous.len;
    if (body->previous.len == SHA256_SIZE)
        mem_copy(told->previous, body->previous.data, SHA256_SIZE);
    assert_ok(sha256(bytes, told->hash, &err));
}

static void on_watched(void *arg, struct rpc_call *call, const Postern__V1__WatchResponse *message)
{
    struct watcher *watcher = arg;
    (void)call;
    switch (message->change_case) {
    case POSTERN__V1__WATCH_RESPONSE__CHANGE_SECRET:
        take_head(watcher, message->secret);
        break;
    case POSTERN__V1__WATCH_RESPONSE__CHANGE_SYNCED:
        watcher->synced++;
        break;
    case POSTERN__V1__WATCH_RESPONSE__CHANGE_ATTEST:
        watcher->attests++;
        snprintf(watcher->why, sizeof(watcher->why), "%s", message->attest->why);
        break;
    case POSTERN__V1__WATCH_RESPONSE__CHANGE_TIME:
        watcher->times++;
        break;
    default:
        fail_msg("an empty message");
    }
    loop_stop(watcher->world->bench.loop);
}

static void on_watch_closed(void *arg, struct rpc_call *call, const struct error *err)
{
    struct watcher *watcher = arg;
    (void)call;
    watcher->over = true;
    watcher->call = nullptr;
    if (err)
        watcher->err = *err;
    loop_stop(watcher->world->bench.loop);
}

static void on_late(void *arg)
{
    (void)arg;
    fail_msg("what was waited for did not come within 20 s");
}

/* Until `*what` is at least `count`, or the stream is over. */
static void watch_until(struct watcher *watcher, const size_t *what, size_t count)
{
    timer_init(&watcher->late, watcher->world->bench.loop, on_late, watcher);
    timer_start(&watcher->late, 20'000);
    while (*what < count && !watcher->over)
        loop_run(watcher->world->bench.loop);
    timer_stop(&watcher->late);
    assert_true(*what >= count);
}

static void watch_until_over(struct watcher *watcher)
{
    timer_init(&watcher->late, watcher->world->bench.loop, on_late, watcher);
    timer_start(&watcher->late, 20'000);
    while (!watcher->over)
        loop_run(watcher->world->bench.loop);
    timer_stop(&watcher->late);
}

static void watch(struct world *world, const char *held, uint64_t seq, struct watcher *ret)
{
    static const struct rpc_call_events events = {.closed = on_watch_closed};
    Postern__V1__WatchRequest request = POSTERN__V1__WATCH_REQUEST__INIT;
    Postern__V1__HeldVersion version = POSTERN__V1__HELD_VERSION__INIT;
    Postern__V1__HeldVersion *versions[] = {&version, &version};
    *ret = (struct watcher){.world = world};
    version.name = (char *)(held ? held : "");
    version.epoch = 1;
    version.seq = seq;
    request.n_held = held ? 1 : 0;
    request.held = versions;
    ret->call = node_service_watch(world->node, nullptr, &request, on_watched, &events, ret);
    assert_non_null(ret->call);
}

static void watch_stop(struct watcher *watcher)
{
    if (watcher->call)
        rpc_call_drop(watcher->call);
}

static void test_watch(void **state)
{
    struct world *world = *state;
    CLEANUP(watch_stop) struct watcher watcher;
    assert_put(world, "mine", "v", me, 1);
    assert_put(world, "strange", "v", nobody, 1);
    watch(world, nullptr, 0, &watcher);
    watch_until(&watcher, &watcher.synced, 1);
    assert_int_equal(watcher.heads, 1);
    assert_int_equal(watcher.times, 1); /* first of all */
    const struct told *told = watcher.told;
    assert_string_equal(told[0].name, "mine");
    assert_int_equal(told[0].seq, 1);
    assert_int_equal(told[0].previous_len, 0);
    assert_true(watch_hub_connected(world->bench.authority->hub, world->joined.id.agent_id));

    assert_put(world, "mine", "w", nullptr, 2);
    watch_until(&watcher, &watcher.heads, 2);
    assert_int_equal(told[1].seq, 2);
    assert_int_equal(told[1].version, 2);
    assert_memory_equal(told[1].previous, told[0].hash, SHA256_SIZE);

    /* Whoever loses it gets the head before the live one, and comes back above both. */
    assert_put(world, "mine", nullptr, nobody, 2);
    watch_until(&watcher, &watcher.heads, 3);
    assert_true(told[2].gone);
    assert_int_equal(told[2].seq, 3);
    assert_int_equal(told[2].allowed, 0);
    assert_memory_equal(told[2].previous, told[1].hash, SHA256_SIZE);
    /* Once: a look at the database for another name's sake (done when two lists were) says nothing. */
    assert_put(world, "strange", "w", nullptr, 2);
    for (unsigned i = 0; i < 2; i++) {
        Postern__V1__ListSecretsResponse *all = list(world);
        pb_free(&all->base);
    }
    assert_put(world, "mine", nullptr, both, 2);
    watch_until(&watcher, &watcher.heads, 4);
    assert_false(told[3].gone);
    assert_int_equal(told[3].seq, 5);
    assert_int_equal(told[3].allowed, 2);

    /* One who may lose it, but not by this node: a head, and not gone. */
    assert_put(world, "mine", nullptr, me, 2);
    watch_until(&watcher, &watcher.heads, 5);
    assert_false(told[4].gone);
    assert_int_equal(told[4].seq, 7);
    assert_put(world, "new", "v", me, 1);
    watch_until(&watcher, &watcher.heads, 6);
    assert_string_equal(told[5].name, "new");
    assert_int_equal(watcher.synced, 1);
}

static void test_watch_of_who_holds_something(void **state)
{
    struct world *world = *state;
    assert_put(world, "mine", "v", me, 1);
    CLEANUP(watch_stop) struct watcher current;
    watch(world, "mine", 1, &current);
    watch_until(&current, &current.synced, 1);
    assert_int_equal(current.heads, 0);
    /* Ahead of the database: it is told nothing of that name. */
    CLEANUP(watch_stop) struct watcher ahead;
    watch(world, "mine", 9, &ahead);
    watch_until(&ahead, &ahead.synced, 1);
    assert_int_equal(ahead.heads, 0);
    /* A newer stream replaces the older. */
    watch_until_over(&current);
    assert_string_equal(current.err.reason, "WATCH_REPLACED");
    CLEANUP(watch_stop) struct watcher unknown;
    watch(world, "unheard-of", 3, &unknown);
    watch_until(&unknown, &unknown.synced, 1);
    assert_int_equal(unknown.heads, 1);
}

static void test_policies_take_away(void **state)
{
    struct world *world = *state;
    struct error err = {0};
    assert_put(world, "mine", "v", me, 1);
    assert_put(world, "theirs", "v", other, 1);
    CLEANUP(watch_stop) struct watcher watcher;
    watch(world, nullptr, 0, &watcher);
    watch_until(&watcher, &watcher.synced, 1);
    assert_int_equal(watcher.heads, 2);
    bench_write(&world->bench, "release/all", vouch_other);
    assert_ok(bench_reload(&world->bench, &err));
    watch_until(&watcher, &watcher.heads, 3);
    assert_string_equal(watcher.told[2].name, "mine");
    assert_true(watcher.told[2].gone);
    assert_int_equal(watcher.told[2].seq, 2);
    assert_memory_equal(watcher.told[2].previous, watcher.told[0].hash, SHA256_SIZE);
    bench_write(&world->bench, "release/all", vouch_all);
    assert_ok(bench_reload(&world->bench, &err));
    watch_until(&watcher, &watcher.heads, 4);
    assert_false(watcher.told[3].gone);
    assert_int_equal(watcher.told[3].seq, 3);
    assert_int_equal(watcher.told[3].version, 1);
    assert_memory_equal(watcher.told[3].previous, watcher.told[2].hash, SHA256_SIZE);
}

/* A node that was away when a policy took the name away. */
static void test_gone_while_away(void **state)
{
    struct world *world = *state;
    struct error err = {0};
    assert_put(world, "mine", "v", me, 1);
    bench_write(&world->bench, "release/all", vouch_other);
    assert_ok(bench_reload(&world->bench, &err));
    CLEANUP(watch_stop) struct watcher watcher;
    watch(world, "mine", 1, &watcher);
    watch_until(&watcher, &watcher.heads, 1);
    assert_true(watcher.told[0].gone);
    assert_int_equal(watcher.told[0].seq, 2);
}

static void test_replaced_values_want_a_generation(void **state)
{
    struct world *world = *state;
    struct error err = {0};
    Postern__V1__FetchResponse *response;
    CLEANUP(watch_stop) struct watcher watcher;
    assert_put(world, "mine", "v", me, 1);
    assert_put(world, "unread", "v", me, 1);
    watch(world, nullptr, 0, &watcher);
    watch_until(&watcher, &watcher.heads, 2);
    assert_put(world, "unread", "w", nullptr, 2); /* the node never had it */
    watch_until(&watcher, &watcher.heads, 3);
    assert_int_equal(watcher.attests, 0);
    assert_ok(fetch(world, "mine", 0, &truth, &response, &err));
    pb_free(&response->base);
    assert_put(world, "mine", nullptr, both, 1); /* nothing is retired by that */
    watch_until(&watcher, &watcher.heads, 4);
    assert_int_equal(watcher.attests, 0);
    assert_put(world, "mine", "w", nullptr, 2);
    watch_until(&watcher, &watcher.attests, 1);
    assert_string_equal(watcher.why, "new generation");
    assert_int_equal(watcher.heads, 5); /* it knew the new version before it was asked */
}

static void test_taken_away_wants_a_generation(void **state)
{
    struct world *world = *state;
    struct error err = {0};
    Postern__V1__FetchResponse *response;
    CLEANUP(watch_stop) struct watcher watcher;
    assert_put(world, "mine", "v", me, 1);
    assert_ok(fetch(world, "mine", 0, &truth, &response, &err));
    pb_free(&response->base);
    watch(world, nullptr, 0, &watcher);
    watch_until(&watcher, &watcher.synced, 1);
    assert_put(world, "mine", nullptr, nobody, 1);
    watch_until(&watcher, &watcher.attests, 1);
    assert_true(watcher.told[1].gone);
}

static void test_operators_ask(void **state)
{
    struct world *world = *state;
    struct error err = {0};
    struct watch_hub *hub = world->bench.authority->hub;
    CLEANUP(watch_stop) struct watcher watcher;
    watch(world, nullptr, 0, &watcher);
    watch_until(&watcher, &watcher.synced, 1);
    assert_ok(watch_hub_attest_now(hub, world->joined.id.agent_id, "operator", &err));
    watch_until(&watcher, &watcher.attests, 1);
    assert_string_equal(watcher.why, "operator");
    assert_fails(watch_hub_attest_now(hub, "00000000000000000000000000000000", "operator", &err),
                 ERROR_UNAVAILABLE);
    assert_string_equal(err.reason, "NODE_NOT_CONNECTED");
}

static void test_watch_ends_with_the_standing(void **state)
{
    static const struct {
        const char *change;
        enum error_class class;
        const char *reason;
    } ends[] = {
        {"UPDATE node SET verdict = 3", ERROR_CONFLICT, "NODE_CONTRAINDICATED"},
        {"UPDATE node SET admission = 3", ERROR_DENIED, "NODE_NOT_ADMITTED"},
    };
    struct world *world = *state;
    struct error err = {0};
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        CLEANUP(watch_stop) struct watcher watcher;
        assert_int_equal(fresh(state), 0);
        watch(world, nullptr, 0, &watcher);
        watch_until(&watcher, &watcher.synced, 1);
        assert_ok(bench_transact(&world->bench, run_set, (char *)ends[i].change, &err));
        watch_hub_node_changed(world->bench.authority->hub, world->joined.id.agent_id);
        watch_until_over(&watcher);
        assert_int_equal(watcher.err.class, ends[i].class);
        assert_string_equal(watcher.err.reason, ends[i].reason);
        assert_false(watch_hub_connected(world->bench.authority->hub, world->joined.id.agent_id));
    }
}

/* The appraisal runs out while nothing else happens. */
static void test_watch_ends_with_the_appraisal(void **state)
{
    struct world *world = *state;
    struct error err = {0};
    char change[96];
    CLEANUP(watch_stop) struct watcher watcher;
    assert_ok(bench_transact(&world->bench, run_set,
                             (char[]){"UPDATE node SET last_seen_ms = expires_at_ms"}, &err));
    snprintf(change, sizeof(change), "UPDATE node SET expires_at_ms = %lld",
             (long long)clock_wall_ms() + 700);
    assert_ok(bench_transact(&world->bench, run_set, change, &err));
    watch(world, nullptr, 0, &watcher);
    watch_until(&watcher, &watcher.synced, 1);
    watch_until_over(&watcher);
    assert_string_equal(watcher.err.reason, "APPRAISAL_EXPIRED");
    assert_ok(bench_transact(&world->bench, run_set,
                             (char[]){"UPDATE node SET expires_at_ms = last_seen_ms"}, &err));
}

static void test_watch_refuses(void **state)
{
    struct world *world = *state;
    static const struct rpc_call_events events = {.closed = on_watch_closed};
    Postern__V1__WatchRequest request = POSTERN__V1__WATCH_REQUEST__INIT;
    Postern__V1__HeldVersion version = POSTERN__V1__HELD_VERSION__INIT;
    Postern__V1__HeldVersion *twice[] = {&version, &version};
    const struct {
        char *name;
        size_t count;
        const char *field;
    } bad[] = {{(char[]){"A"}, 1, "name"}, {(char[]){"a"}, 2, "held"}};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct watcher watcher = {.world = world};
        version.name = bad[i].name;
        request.n_held = bad[i].count;
        request.held = twice;
        watcher.call =
            node_service_watch(world->node, nullptr, &request, on_watched, &events, &watcher);
        watch_until_over(&watcher);
        assert_int_equal(watcher.err.class, ERROR_INVALID);
        assert_string_equal(watcher.err.field, bad[i].field);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_put_and_list, fresh),
        cmocka_unit_test_setup(test_put_refuses, fresh),
        cmocka_unit_test_setup(test_puts_that_race, fresh),
        cmocka_unit_test_setup(test_fetch, fresh),
        cmocka_unit_test_setup(test_fetch_refuses, fresh),
        cmocka_unit_test_setup(test_fetch_malformed, fresh),
        cmocka_unit_test_setup(test_a_nonce_counts_once, fresh),
        cmocka_unit_test_setup(test_fetch_by_standing, fresh),
        cmocka_unit_test_setup(test_confirm, fresh),
        cmocka_unit_test_setup(test_watch, fresh),
        cmocka_unit_test_setup(test_watch_of_who_holds_something, fresh),
        cmocka_unit_test_setup(test_policies_take_away, fresh),
        cmocka_unit_test_setup(test_gone_while_away, fresh),
        cmocka_unit_test_setup(test_replaced_values_want_a_generation, fresh),
        cmocka_unit_test_setup(test_taken_away_wants_a_generation, fresh),
        cmocka_unit_test_setup(test_operators_ask, fresh),
        cmocka_unit_test_setup(test_watch_ends_with_the_standing, fresh),
        cmocka_unit_test_setup(test_watch_ends_with_the_appraisal, fresh),
        cmocka_unit_test_setup(test_watch_refuses, fresh),
    };
    return cmocka_run_group_tests(tests, world_up, world_down);
}
