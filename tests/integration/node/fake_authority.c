#include "integration/node/fake_authority.h"

#include "base/clock.h"
#include "base/crypt.h"
#include "base/mem.h"
#include "keyring/envelope.h"
#include "pb/message.h"
#include "spiffe/ca.h"
#include "tpmwire/attested.h"
#include "tpmwire/credential.h"
#include "tpmwire/import.h"
#include "tpmwire/policy.h"
#include "tpmwire/public.h"
#include "tpmwire/signature.h"

#include "postern/v1/state.pb-c.h"

constexpr uint32_t QUOTED = 0x3ff;
constexpr uint32_t SEALED = 0x95;
static const char domain[] = "test.example";

static struct error err; /* for the assertions */

static ProtobufCBinaryData data_of(struct slice part)
{
    return (ProtobufCBinaryData){.data = (uint8_t *)part.data, .len = part.len};
}

static struct slice bytes(ProtobufCBinaryData data)
{
    return slice(data.data, data.len);
}

/* ---- Keys ---- */

static void issue(const struct fake_authority *fake, size_t ca, EVP_PKEY *key, const char *path,
                  X509 **ret)
{
    char text[256];
    struct spiffe_id *id = mem_new(1, sizeof(*id));
    const char *const names[] = {"postern-authority"};
    (void)snprintf(text, sizeof(text), "spiffe://%s%s", domain, path);
    assert_ok(spiffe_id_parse(slice_str(text), id, &err));
    const struct ca_leaf leaf = {
        .issuer = fake->ca[ca],
        .issuer_key = key_evp(fake->ca_key[ca]),
        .public_key = key,
        .id = id,
        .dns_names = names,
        .dns_name_count = 1,
        .now = clock_wall_ms(),
        .lifetime = 3600,
    };
    assert_ok(ca_issue(&leaf, ret, &err));
    mem_free(id);
}

static void make_keys(struct fake_authority *fake)
{
    static const enum key_kind kinds[FAKE_KINDS] = {KEY_P384, KEY_ML_DSA_65};
    buf_init(&fake->trust_pem, 64 * 1024);
    for (size_t i = 0; i < FAKE_KINDS; i++) {
        assert_ok(key_generate(kinds[i], &fake->ca_key[i], &err));
        assert_ok(key_generate(kinds[i], &fake->signer_key[i], &err));
        assert_ok(ca_create(key_evp(fake->ca_key[i]), slice_str(domain), clock_wall_ms(), 86400,
                            &fake->ca[i], &err));
        assert_ok(certificate_to_pem(fake->ca[i], &fake->trust_pem, &err));
        issue(fake, i, key_evp(fake->signer_key[i]), "/postern/authority/packets",
              &fake->signer[i]);
    }
    issue(fake, 0, key_evp(fake->signer_key[1]), "/postern/authority/packets", &fake->crossed);
    assert_ok(key_generate(KEY_P256, &fake->server_key, &err));
}

/* Both signatures, and the certificates, as they travel. */
struct signatures {
    Postern__V1__Signature message[FAKE_KINDS], *messages[FAKE_KINDS];
    struct buf signature[FAKE_KINDS], certificate[FAKE_KINDS];
    ProtobufCBinaryData certificates[FAKE_KINDS];
    uint8_t id[FAKE_KINDS][SHA256_SIZE];
};

static void sign(const struct fake_authority *fake, const char *tag, const struct slice *parts,
                 size_t count, struct signatures *ret)
{
    CLEANUP(buf_done) struct buf all;
    buf_init(&all, 1 << 20);
    buf_put_prefixed(&all, slice_str(tag));
    for (size_t i = 0; i < count; i++)
        buf_put_prefixed(&all, parts[i]);
    for (size_t i = 0; i < FAKE_KINDS; i++) {
        CLEANUP(buf_done) struct buf spki;
        buf_init(&spki, 8192);
        buf_init(&ret->signature[i], 8192);
        buf_init(&ret->certificate[i], 64 * 1024);
        assert_ok(key_public(fake->signer_key[i], &spki, &err));
        assert_ok(sha256(buf_slice(&spki), ret->id[i], &err));
        if (i == 1 && fake->lie == FAKE_WRONG_SIGNATURE)
            buf_put_u8(&all, 0);
        assert_ok(key_sign(fake->signer_key[i], buf_slice(&all), &ret->signature[i], &err));
        const X509 *signer =
            i == 1 && fake->lie == FAKE_CROSSED_CA ? fake->crossed : fake->signer[i];
        assert_ok(certificate_to_der(signer, &ret->certificate[i], &err));
        ret->certificates[i] = data_of(buf_slice(&ret->certificate[i]));
        ret->message[i] = (Postern__V1__Signature)POSTERN__V1__SIGNATURE__INIT;
        ret->message[i].key_id = data_of(slice(ret->id[i], 8));
        ret->message[i].signature = data_of(buf_slice(&ret->signature[i]));
        ret->messages[i] = &ret->message[i];
    }
}

static void signatures_done(struct signatures *signatures)
{
    for (size_t i = 0; i < FAKE_KINDS; i++) {
        buf_done(&signatures->signature[i]);
        buf_done(&signatures->certificate[i]);
    }
}

static void pack(const ProtobufCMessage *message, struct buf *ret)
{
    buf_init(ret, PB_SIZE_MAX);
    assert_ok(pb_pack(message, PB_SIZE_MAX, ret, &err));
}

/* ---- Attest ---- */

static void on_attest_closed(void *arg, struct rpc_call *call, const struct error *why)
{
    struct fake_authority *fake = arg;
    (void)why;
    if (fake->attest == call)
        fake->attest = nullptr;
}

static void on_attest_cancelled(void *arg, struct rpc_call *call, const struct error *why)
{
    struct fake_authority *fake = arg;
    if (fake->attest == call)
        fake->attest = nullptr;
    rpc_fail(call, why);
}

static void attest(void *arg, struct rpc_call *call)
{
    static const struct rpc_call_events events = {.cancelled = on_attest_cancelled,
                                                  .closed = on_attest_closed};
    struct fake_authority *fake = arg;
    fake->attest = call;
    rpc_call_on(call, &events, fake);
}

static void take_hello(struct fake_authority *fake, struct rpc_call *call, struct slice wire)
{
    ProtobufCMessage *message;
    uint8_t nonce[32];
    CLEANUP(buf_done) struct buf blob, secret;
    Postern__V1__Challenge challenge = POSTERN__V1__CHALLENGE__INIT;
    Postern__V1__PcrSelection selection = POSTERN__V1__PCR_SELECTION__INIT;
    Postern__V1__PcrSelection *selections[] = {&selection};
    Postern__V1__AttestResponse response = POSTERN__V1__ATTEST_RESPONSE__INIT;
    buf_init(&blob, 4096);
    buf_init(&secret, 4096);
    buf_clear(&fake->hello);
    buf_put(&fake->hello, wire);
    assert_ok(pb_unpack(&postern__v1__hello__descriptor, wire, nullptr, &message, &err));
    const Postern__V1__Hello *hello = (const Postern__V1__Hello *)message;
    assert_ok(attest_identity_parse(hello, &fake->identity, &err));
    if (hello->join_token[0] != '\0') {
        (void)snprintf(fake->token, sizeof(fake->token), "%s", hello->join_token);
        fake->tokens++;
    }
    pb_free(message);

    assert_ok(random_bytes(nonce, sizeof(nonce), &err));
    fake->credential = secret_free(fake->credential);
    assert_ok(secret_random(32, &fake->credential, &err));
    assert_ok(credential_make(&fake->identity.ek.publicArea, &fake->identity.ak_name,
                              fake->credential, &blob, &secret, &err));
    selection.bank = TPM2_ALG_SHA256;
    selection.mask = QUOTED;
    challenge.agent_id = fake->identity.agent_id;
    challenge.nonce = data_of(SLICE_OF(nonce));
    challenge.n_selection = 1;
    challenge.selection = selections;
    challenge.credential_blob = data_of(buf_slice(&blob));
    challenge.credential_secret = data_of(buf_slice(&secret));
    challenge.protocol = 1;
    buf_done(&fake->challenge);
    pack(&challenge.base, &fake->challenge);
    response.part_case = POSTERN__V1__ATTEST_RESPONSE__PART_CHALLENGE;
    response.challenge = data_of(buf_slice(&fake->challenge));
    assert_ok(node_service_attest_send_response(call, &response, &err));
}

/* A node key sealed to the PCRs of the evidence. */
static void make_generation(struct fake_authority *fake, const Postern__V1__Evidence *evidence,
                            uint64_t number)
{
    struct pcr_values *values = mem_new(1, sizeof(*values));
    const struct pcr_selection seal = {.count = 1,
                                       .bank[0] = {.alg = TPM2_ALG_SHA256, .mask = SEALED}};
    TPM2B_DIGEST composite, policy;
    CLEANUP(buf_done) struct buf public, duplicate, seed;
    Postern__V1__GenerationBody body = POSTERN__V1__GENERATION_BODY__INIT;
    Postern__V1__PcrSelection selection = POSTERN__V1__PCR_SELECTION__INIT;
    Postern__V1__PcrSelection *selections[] = {&selection};
    buf_init(&public, 4096);
    buf_init(&duplicate, 4096);
    buf_init(&seed, 4096);
    values->selection.count = 1;
    values->selection.bank[0] = (struct pcr_bank){.alg = TPM2_ALG_SHA256, .mask = QUOTED};
    assert_int_equal(evidence->n_pcrs, 1);
    assert_int_equal(evidence->pcrs[0]->n_values, 10);
    for (size_t i = 0; i < evidence->pcrs[0]->n_values; i++) {
        values->value[i].size = 32;
        mem_copy(values->value[i].buffer, evidence->pcrs[0]->values[i].data, 32);
        values->count++;
    }
    fake->limit[number] = fake->confirmed > 0 && fake->node_key[fake->confirmed]
                              ? fake->limit[fake->confirmed] + 1
                              : fake->counter;
    assert_ok(pcr_composite_digest(TPM2_ALG_SHA256, &seal, values, &composite, &err));
    assert_ok(node_key_policy(&seal, &composite, &fake->identity.counter_name, fake->limit[number],
                              &policy, &err));
    assert_ok(secret_random(NODE_KEY_SIZE, &fake->node_key[number], &err));
    assert_ok(import_blob_make(&fake->identity.wrap.publicArea, fake->node_key[number], &policy,
                               &public, &duplicate, &seed, &err));
    selection.bank = TPM2_ALG_SHA256;
    selection.mask = SEALED;
    body.agent_id = fake->identity.agent_id;
    body.generation = number;
    body.limit = fake->limit[number];
    body.counter_name = data_of(name_slice(&fake->identity.counter_name));
    body.n_seal = 1;
    body.seal = selections;
    body.object_public = data_of(buf_slice(&public));
    body.duplicate = data_of(buf_slice(&duplicate));
    body.seed = data_of(buf_slice(&seed));
    pack(&body.base, &fake->offer_body[number]);
    mem_free(values);
}

static void note_counter(struct fake_authority *fake, const Postern__V1__Evidence *evidence)
{
    TPMS_ATTEST attested;
    assert_ok(attested_parse(bytes(evidence->certify_counter->attest), TPM2_ST_ATTEST_NV, &attested,
                             &err));
    const TPM2B_MAX_NV_BUFFER *contents = &attested.attested.nv.nvContents;
    struct reader in = reader(slice(contents->buffer, contents->size));
    fake->counter = reader_u64(&in);
}

static void evidence_hash(const struct fake_authority *fake, struct slice evidence,
                          uint8_t ret[static SHA256_SIZE])
{
    CLEANUP(buf_done) struct buf all;
    buf_init(&all, 1 << 20);
    buf_put_prefixed(&all, buf_slice(&fake->hello));
    buf_put_prefixed(&all, buf_slice(&fake->challenge));
    buf_put_prefixed(&all, evidence);
    assert_ok(sha256(buf_slice(&all), ret, &err));
    if (fake->lie == FAKE_OTHER_EVIDENCE)
        ret[0] ^= 1;
}

static void make_svid(const struct fake_authority *fake, struct slice csr, struct buf *ret)
{
    char path[128];
    EVP_PKEY *key = nullptr;
    X509 *svid = nullptr;
    (void)snprintf(path, sizeof(path), "/postern/node/%s", fake->identity.agent_id);
    assert_ok(csr_verify(csr, &key, &err));
    issue(fake, 0, key, path, &svid);
    buf_init(ret, 64 * 1024);
    assert_ok(certificate_to_der(svid, ret, &err));
    EVP_PKEY_free(key);
    X509_free(svid);
}

static void take_evidence(struct fake_authority *fake, struct rpc_call *call, struct slice wire)
{
    CLEANUP(pb_free_at) ProtobufCMessage *message = nullptr;
    CLEANUP(buf_done) struct buf body_bytes = {0}, svid = {0};
    CLEANUP(signatures_done) struct signatures body_signatures = {0};
    CLEANUP(signatures_done) struct signatures offer_signatures = {0};
    uint8_t hash[SHA256_SIZE], bundle_hash[SHA256_SIZE];
    Postern__V1__AppraisalBody body = POSTERN__V1__APPRAISAL_BODY__INIT;
    Postern__V1__TimePair time = POSTERN__V1__TIME_PAIR__INIT;
    Postern__V1__Reason reason = POSTERN__V1__REASON__INIT, *reasons[] = {&reason};
    Postern__V1__Appraisal appraisal = POSTERN__V1__APPRAISAL__INIT;
    Postern__V1__Generation offer = POSTERN__V1__GENERATION__INIT;
    Postern__V1__AttestResponse response = POSTERN__V1__ATTEST_RESPONSE__INIT;
    assert_ok(pb_unpack(&postern__v1__evidence__descriptor, wire, nullptr, &message, &err));
    const Postern__V1__Evidence *evidence = (const Postern__V1__Evidence *)message;
    assert_true(slice_equal(bytes(evidence->credential), secret_slice(fake->credential)));
    note_counter(fake, evidence);
    evidence_hash(fake, wire, hash);
    assert_ok(sha256((struct slice){0}, bundle_hash, &err));

    bool releases = fake->verdict == POSTERN__V1__VERDICT__VERDICT_AFFIRMING;
    time.ak_name = data_of(name_slice(&fake->identity.ak_name));
    time.authority_ms = clock_wall_ms();
    reason.check = 32;
    reason.name = (char *)"pcr-policy";
    reason.detail = (char *)"PCR 7 differs";
    body.agent_id = fake->lie == FAKE_OTHER_AGENT ? (char *)"0123" : fake->identity.agent_id;
    body.verdict = fake->verdict;
    body.releases = releases;
    body.n_reasons = releases ? 0 : 1;
    body.reasons = reasons;
    body.policy = (char *)"test";
    body.evidence_hash = data_of(SLICE_OF(hash));
    body.bundle_hash = data_of(SLICE_OF(bundle_hash));
    body.appraised_at_ms = clock_wall_ms();
    body.expires_at_ms = body.appraised_at_ms + 900'000;
    body.retry_after_ms = fake->retry_after_ms;
    body.time = &time;
    pack(&body.base, &body_bytes);
    const struct slice part = buf_slice(&body_bytes);
    sign(fake, "postern appraisal v1", &part, 1, &body_signatures);
    appraisal.body = data_of(part);
    appraisal.n_signatures = fake->lie == FAKE_ONE_SIGNATURE ? 1 : FAKE_KINDS;
    appraisal.signatures = body_signatures.messages;
    appraisal.n_signer_certificates = FAKE_KINDS;
    appraisal.signer_certificates = body_signatures.certificates;
    ProtobufCBinaryData svids[1];
    if (releases) {
        make_svid(fake, bytes(evidence->csr), &svid);
        svids[0] = data_of(buf_slice(&svid));
        appraisal.n_svid = 1;
        appraisal.svid = svids;
    }
    if (releases && fake->offer > fake->confirmed) {
        if (!fake->node_key[fake->offer])
            make_generation(fake, evidence, fake->offer);
        const struct slice offer_part = buf_slice(&fake->offer_body[fake->offer]);
        sign(fake, "postern generation v1", &offer_part, 1, &offer_signatures);
        offer.body = data_of(offer_part);
        offer.n_signatures = FAKE_KINDS;
        offer.signatures = offer_signatures.messages;
        appraisal.node_key = &offer;
    }
    response.part_case = POSTERN__V1__ATTEST_RESPONSE__PART_APPRAISAL;
    response.appraisal = &appraisal;
    assert_ok(node_service_attest_send_response(call, &response, &err));
    fake->attest = nullptr;
    fake->appraisals++;
    rpc_finish(call);
}

static void attest_message(void *arg, struct rpc_call *call,
                           const Postern__V1__AttestRequest *message)
{
    if (message->part_case == POSTERN__V1__ATTEST_REQUEST__PART_HELLO)
        take_hello(arg, call, bytes(message->hello));
    else
        take_evidence(arg, call, bytes(message->evidence));
}

/* ---- Watch ---- */

static void on_watch_closed(void *arg, struct rpc_call *call, const struct error *why)
{
    struct fake_authority *fake = arg;
    struct error gone;
    (void)why;
    if (fake->watch != call)
        return;
    fake->watch = nullptr;
    error_set(&gone, ERROR_CANCELLED, "gone");
    rpc_fail(call, &gone);
}

void fake_push(struct fake_authority *fake, size_t i)
{
    CLEANUP(buf_done) struct buf body_bytes = {0};
    CLEANUP(signatures_done) struct signatures signatures = {0};
    const struct fake_secret *secret = &fake->secret[i];
    Postern__V1__HeadBody body = POSTERN__V1__HEAD_BODY__INIT;
    Postern__V1__SecretHead head = POSTERN__V1__SECRET_HEAD__INIT;
    Postern__V1__WatchResponse response = POSTERN__V1__WATCH_RESPONSE__INIT;
    char *allow[] = {(char *)secret->allow};
    body.name = (char *)secret->name;
    body.epoch = 1;
    body.seq = secret->seq;
    body.version = secret->version;
    body.gone = secret->gone;
    body.n_allow = 1;
    body.allow = allow;
    pack(&body.base, &body_bytes);
    const struct slice part = buf_slice(&body_bytes);
    sign(fake, "postern head v1", &part, 1, &signatures);
    head.body = data_of(part);
    head.n_signatures = fake->lie == FAKE_HEAD_UNSIGNED ? 0 : FAKE_KINDS;
    head.signatures = signatures.messages;
    head.n_signer_certificates = FAKE_KINDS;
    head.signer_certificates = signatures.certificates;
    response.change_case = POSTERN__V1__WATCH_RESPONSE__CHANGE_SECRET;
    response.secret = &head;
    assert_ok(node_service_watch_send_response(fake->watch, &response, &err));
}

void fake_attest_now(struct fake_authority *fake)
{
    Postern__V1__WatchResponse response = POSTERN__V1__WATCH_RESPONSE__INIT;
    Postern__V1__AttestNow now = POSTERN__V1__ATTEST_NOW__INIT;
    now.why = (char *)"test";
    response.change_case = POSTERN__V1__WATCH_RESPONSE__CHANGE_ATTEST;
    response.attest = &now;
    assert_ok(node_service_watch_send_response(fake->watch, &response, &err));
}

static void watch(void *arg, struct rpc_call *call, const Postern__V1__WatchRequest *request)
{
    static const struct rpc_call_events events = {.cancelled = on_watch_closed,
                                                  .closed = on_watch_closed};
    struct fake_authority *fake = arg;
    Postern__V1__WatchResponse response = POSTERN__V1__WATCH_RESPONSE__INIT;
    Postern__V1__Synced synced = POSTERN__V1__SYNCED__INIT;
    (void)request;
    assert_non_null(rpc_call_peer(call)->certificates.leaf);
    fake->watch = call;
    rpc_call_on(call, &events, fake);
    for (size_t i = 0; i < fake->secret_count; i++)
        fake_push(fake, i);
    response.change_case = POSTERN__V1__WATCH_RESPONSE__CHANGE_SYNCED;
    response.synced = &synced;
    assert_ok(node_service_watch_send_response(call, &response, &err));
}

/* ---- Fetch, Confirm ---- */

static void check_request(const struct fake_authority *fake, const char *method,
                          ProtobufCBinaryData body, ProtobufCBinaryData signature,
                          const Postern__V1__RequestHeader *header)
{
    TPMT_SIGNATURE parsed;
    CLEANUP(buf_done) struct buf all;
    buf_init(&all, 1 << 20);
    buf_put_prefixed(&all, slice_str("postern req v1"));
    buf_put_prefixed(&all, slice_str(method));
    buf_put_prefixed(&all, bytes(body));
    assert_ok(tpm_signature_parse(bytes(signature), &parsed, &err));
    assert_ok(tpm_signature_verify(&fake->identity.req.publicArea, &parsed, buf_slice(&all), &err));
    assert_string_equal(header->agent_id, fake->identity.agent_id);
    assert_int_equal(header->nonce.len, 16);
    assert_true(header->time_ms > clock_wall_ms() - 120'000);
    assert_true(header->generation < FAKE_GENERATIONS_MAX && fake->node_key[header->generation]);
}

static const struct fake_secret *find(const struct fake_authority *fake, const char *name)
{
    for (size_t i = 0; i < fake->secret_count; i++) {
        if (strcmp(fake->secret[i].name, name) == 0)
            return &fake->secret[i];
    }
    return nullptr;
}

static void fetch(void *arg, struct rpc_call *call, const Postern__V1__FetchRequest *request)
{
    struct fake_authority *fake = arg;
    CLEANUP(pb_free_at) ProtobufCMessage *message = nullptr;
    CLEANUP(buf_done) struct buf header_bytes = {0}, plain_bytes = {0}, sealed;
    CLEANUP(signatures_done) struct signatures signatures = {0};
    Postern__V1__PacketHeader header = POSTERN__V1__PACKET_HEADER__INIT;
    Postern__V1__SecretPlain plain = POSTERN__V1__SECRET_PLAIN__INIT;
    Postern__V1__Packet packet = POSTERN__V1__PACKET__INIT, *packets[] = {&packet};
    Postern__V1__FetchResponse response = POSTERN__V1__FETCH_RESPONSE__INIT;
    uint8_t salt[32], r[32] = {9}, other[16] = {0};
    buf_init(&sealed, 1 << 20);
    assert_ok(pb_unpack(&postern__v1__fetch_body__descriptor, bytes(request->body), nullptr,
                        &message, &err));
    const Postern__V1__FetchBody *body = (const Postern__V1__FetchBody *)message;
    check_request(fake, "Fetch", request->body, request->signature, body->header);
    const struct fake_secret *secret = find(fake, body->name);
    assert_non_null(secret);
    fake->fetches++;
    assert_ok(random_bytes(salt, sizeof(salt), &err));
    header.agent_id = fake->identity.agent_id;
    header.generation = body->header->generation;
    header.name = body->name;
    header.epoch = 1;
    header.version = secret->version;
    header.request_nonce =
        fake->lie == FAKE_PACKET_OF_OTHER_REQUEST ? data_of(SLICE_OF(other)) : body->header->nonce;
    header.salt = data_of(SLICE_OF(salt));
    plain.r = data_of(SLICE_OF(r));
    plain.value = data_of(slice_str(secret->value));
    pack(&header.base, &header_bytes);
    pack(&plain.base, &plain_bytes);
    assert_ok(envelope_seal(ENVELOPE_PACKET, fake->node_key[body->header->generation],
                            buf_slice(&header_bytes), SLICE_OF(salt), buf_slice(&plain_bytes),
                            &sealed, &err));
    const struct slice parts[] = {buf_slice(&header_bytes), buf_slice(&sealed)};
    sign(fake, "postern packet v1", parts, 2, &signatures);
    packet.header = data_of(parts[0]);
    packet.ciphertext = data_of(parts[1]);
    packet.n_signatures = FAKE_KINDS;
    packet.signatures = signatures.messages;
    response.n_packets = 1;
    response.packets = packets;
    response.n_signer_certificates = FAKE_KINDS;
    response.signer_certificates = signatures.certificates;
    node_service_fetch_reply(call, &response);
}

static void confirm(void *arg, struct rpc_call *call, const Postern__V1__ConfirmRequest *request)
{
    struct fake_authority *fake = arg;
    CLEANUP(pb_free_at) ProtobufCMessage *message = nullptr;
    Postern__V1__ConfirmResponse response = POSTERN__V1__CONFIRM_RESPONSE__INIT;
    assert_ok(pb_unpack(&postern__v1__confirm_body__descriptor, bytes(request->body), nullptr,
                        &message, &err));
    const Postern__V1__ConfirmBody *body = (const Postern__V1__ConfirmBody *)message;
    check_request(fake, "Confirm", request->body, request->signature, body->header);
    if (body->what_case == POSTERN__V1__CONFIRM_BODY__WHAT_GENERATION)
        fake->confirmed = body->generation;
    else
        fake->version_confirms++;
    node_service_confirm_reply(call, &response);
}

/* ---- Life ---- */

void fake_start(struct fake_authority *fake)
{
    static const struct node_service_handlers handlers = {
        .attest = attest,
        .attest_message = attest_message,
        .watch = watch,
        .fetch = fetch,
        .confirm = confirm,
    };
    X509 *certificate = nullptr;
    struct tls_context *tls = nullptr;
    CLEANUP(buf_done) struct buf pem;
    buf_init(&pem, 64 * 1024);
    issue(fake, 0, key_evp(fake->server_key), "/postern/authority/server", &certificate);
    assert_ok(certificate_to_pem(certificate, &pem, &err));
    X509_free(certificate);
    const struct tls_config config = {
        .role = TLS_SERVER,
        .certificates = buf_slice(&pem),
        .key = fake->server_key,
        .verify = TLS_VERIFY_OPTIONAL,
        .trust = buf_slice(&fake->trust_pem),
        .trust_name = "test",
        .alpn = "h2",
    };
    assert_ok(tls_context_new(&config, &tls, &err));
    const struct rpc_server_options options = {0};
    const struct rpc_listen_options listen = {.address = fake->address, .tls = tls};
    assert_ok(rpc_server_new(fake->loop, &options, &fake->server, &err));
    assert_ok(node_service_register(fake->server, &handlers, fake, &err));
    assert_ok(rpc_server_listen(fake->server, &listen, &fake->address, &err));
    tls_context_unref(tls);
}

void fake_stop(struct fake_authority *fake)
{
    fake->server = rpc_server_free(fake->server);
    fake->watch = fake->attest = nullptr;
}

void fake_up(struct fake_authority *fake, struct loop *loop)
{
    *fake = (struct fake_authority){
        .loop = loop,
        .verdict = POSTERN__V1__VERDICT__VERDICT_AFFIRMING,
        .retry_after_ms = 1'000,
        .offer = 1,
    };
    buf_init(&fake->hello, 1 << 20);
    assert_ok(address_parse("127.0.0.1:0", &fake->address, &err));
    make_keys(fake);
    fake_start(fake);
}

void fake_down(struct fake_authority *fake)
{
    fake_stop(fake);
    for (size_t i = 0; i < FAKE_KINDS; i++) {
        key_unref(fake->ca_key[i]);
        key_unref(fake->signer_key[i]);
        X509_free(fake->ca[i]);
        X509_free(fake->signer[i]);
    }
    X509_free(fake->crossed);
    key_unref(fake->server_key);
    buf_done(&fake->trust_pem);
    buf_done(&fake->hello);
    buf_done(&fake->challenge);
    secret_free(fake->credential);
    for (size_t i = 0; i < FAKE_GENERATIONS_MAX; i++) {
        secret_free(fake->node_key[i]);
        buf_done(&fake->offer_body[i]);
    }
}
