#include "attestation.h"

#include "attest/identity.h"
#include "base/clock.h"
#include "base/mem.h"
#include "join_token.h"
#include "pb/message.h"
#include "spiffe/ca.h"
#include "tpmwire/attested.h"
#include "tpmwire/public.h"

#include "postern/v1/node.rpc.h"

#include <stdio.h>
#include <unistd.h>

constexpr uint32_t PROTOCOL = 1;
constexpr size_t CHALLENGE_MAX = 16 * 1024;

struct attestation {
    struct attestation_settings settings;
    char join_token[JOIN_TOKEN_MAX + 1];
    void (*done)(void *arg, struct attestation_result *result, const struct error *err);
    void *arg;

    struct device_hello hello;
    struct device_evidence evidence;
    struct attest_identity identity;
    /* As they travelled. */
    struct buf hello_bytes, challenge_bytes, evidence_bytes;
    ProtobufCMessage *challenge; /* what `evidence` borrows from */
    uint8_t exporter[CHANNEL_BINDING_SIZE];
    struct buf csr;

    struct rpc_call *call;
    bool working; /* the device has a job of ours */
    bool over;    /* nothing more is done; `failure` says why, if it has a class */
    bool appraised;
    bool told;
    struct error failure;

    ProtobufCMessage *body;
    struct buf body_bytes;
    struct attestation_result result;
};

static struct slice bytes(ProtobufCBinaryData data)
{
    return slice(data.data, data.len);
}

static ProtobufCBinaryData data_of(struct slice part)
{
    return (ProtobufCBinaryData){.data = (uint8_t *)part.data, .len = part.len};
}

/* ---- The end ---- */

/* Tells, once neither the call nor the device can come back. */
static void settle(struct attestation *self)
{
    if (!self->over || self->working || self->call || self->told)
        return;
    self->told = true;
    if (self->appraised)
        self->done(self->arg, &self->result, nullptr);
    else
        self->done(self->arg, nullptr, &self->failure);
}

/* Gives up; the call's end, if there is a call, tells. */
static void fail(struct attestation *self, const struct error *why)
{
    if (!self->over) {
        self->over = true;
        self->failure = *why;
    }
    if (self->call)
        rpc_call_cancel(self->call);
    settle(self);
}

static void on_closed(void *arg, struct rpc_call *call, const struct error *err)
{
    struct attestation *self = arg;
    struct error why = {0};
    (void)call;
    self->call = nullptr;
    if (!self->over) {
        self->over = true;
        if (err)
            why = *err;
        else
            error_set(&why, ERROR_UNAVAILABLE,
                      "the authority ended the stream without an appraisal");
        self->failure = why;
    }
    settle(self);
}

/* ---- E1 ---- */

static bool pack_hello(struct attestation *self, struct error *err)
{
    Postern__V1__Hello hello = POSTERN__V1__HELLO__INIT;
    Postern__V1__TpmCapabilities capabilities = POSTERN__V1__TPM_CAPABILITIES__INIT;
    const struct device_hello *from = &self->hello;
    uint32_t banks[TPM_BANKS_MAX];
    ProtobufCBinaryData chain[EK_CHAIN_MAX];
    char host[256] = "";
    (void)gethostname(host, sizeof(host) - 1);
    for (size_t i = 0; i < from->facts.bank_count; i++)
        banks[i] = from->facts.banks[i];
    for (size_t i = 0; i < from->certificates.chain_count; i++)
        chain[i] = data_of(from->certificates.chain[i]);
    capabilities.n_banks = from->facts.bank_count;
    capabilities.banks = banks;
    capabilities.firmware_version = from->facts.firmware_version;
    capabilities.manufacturer = (char *)from->facts.manufacturer;
    hello.protocol = PROTOCOL;
    hello.host_name = host;
    hello.ek_certificate = data_of(from->certificates.leaf);
    hello.n_ek_chain = from->certificates.chain_count;
    hello.ek_chain = chain;
    hello.ek_public = data_of(buf_slice(&from->ek_public));
    hello.ak_public = data_of(buf_slice(&from->ak_public));
    hello.wrap_public = data_of(buf_slice(&from->wrap_public));
    hello.req_public = data_of(buf_slice(&from->req_public));
    hello.counter_public = data_of(buf_slice(&from->counter_public));
    hello.capabilities = &capabilities;
    hello.join_token = self->join_token;
    hello.generation = self->settings.generation;
    return attest_identity_parse(&hello, &self->identity, err) &&
           pb_pack(&hello.base, HELLO_MAX, &self->hello_bytes, err);
}

static void on_message(void *arg, struct rpc_call *call,
                       const Postern__V1__AttestResponse *message);

static bool begin_stream(struct attestation *self, struct error *err)
{
    static const struct rpc_call_events events = {.closed = on_closed};
    const struct rpc_call_options options = {.timeout_ms = ATTEST_TIMEOUT_MS};
    if (!pack_hello(self, err))
        return false;
    rpc_client_connect_now(self->settings.client);
    self->call = node_service_attest(self->settings.client, &options, on_message, &events, self);
    if (!self->call)
        return true; /* on_closed has heard why */
    Postern__V1__AttestRequest request = POSTERN__V1__ATTEST_REQUEST__INIT;
    request.part_case = POSTERN__V1__ATTEST_REQUEST__PART_HELLO;
    request.hello = data_of(buf_slice(&self->hello_bytes));
    return node_service_attest_send_request(self->call, &request, err);
}

static void on_hello(void *arg, bool ok, const struct error *err)
{
    struct attestation *self = arg;
    struct error why;
    self->working = false;
    if (!ok)
        fail(self, err);
    else if (!begin_stream(self, &why))
        fail(self, &why);
    else
        settle(self);
}

/* ---- E2 ---- */

static void on_evidence(void *arg, bool ok, const struct error *err);

static bool take_challenge(struct attestation *self, struct slice wire, struct error *err)
{
    if (self->challenge)
        return error_set(err, ERROR_INVALID, "the authority sent a second challenge");
    buf_put(&self->challenge_bytes, wire);
    if (!buf_ok(&self->challenge_bytes, err) ||
        !pb_unpack(&postern__v1__challenge__descriptor, wire, nullptr, &self->challenge, err))
        return error_prefix(err, "challenge");
    const Postern__V1__Challenge *challenge = (const Postern__V1__Challenge *)self->challenge;
    if (strcmp(challenge->agent_id, self->identity.agent_id) != 0)
        return error_set(err, ERROR_INVALID, "the challenge is for another agent");
    if (challenge->protocol > PROTOCOL)
        return error_set(err, ERROR_UNIMPLEMENTED, "the authority speaks protocol %u, we %u",
                         challenge->protocol, PROTOCOL);
    if (challenge->nonce.len != BINDING_NONCE_SIZE)
        return error_set(err, ERROR_INVALID, "a nonce of %zu bytes", challenge->nonce.len);
    return selection_from_wire(challenge->selection, challenge->n_selection,
                               &self->evidence.selection, err);
}

static bool begin_evidence(struct attestation *self, struct error *err)
{
    const Postern__V1__Challenge *challenge = (const Postern__V1__Challenge *)self->challenge;
    const struct rpc_peer *peer = rpc_call_peer(self->call);
    if (!peer || !peer->secure)
        return error_set(err, ERROR_UNAVAILABLE, "the connection is gone");
    mem_copy(self->exporter, peer->binding, sizeof(self->exporter));
    self->result.challenged_boot_ms = clock_boot_ms();
    if (!key_generate(KEY_P256, &self->result.key, err) ||
        !csr_create(key_evp(self->result.key), &self->csr, err))
        return false;
    struct device_evidence *evidence = &self->evidence;
    evidence->credential_blob = bytes(challenge->credential_blob);
    evidence->credential_secret = bytes(challenge->credential_secret);
    evidence->binding = (struct binding){
        .nonce = bytes(challenge->nonce),
        .agent_id = slice_str(self->identity.agent_id),
        .ak = &self->identity.ak_name,
        .wrap = &self->identity.wrap_name,
        .req = &self->identity.req_name,
        .counter = &self->identity.counter_name,
        .csr = buf_slice(&self->csr),
        .hello = buf_slice(&self->hello_bytes),
        .exporter = SLICE_OF(self->exporter),
    };
    if (!device_evidence(self->settings.device, evidence, on_evidence, self, err))
        return false;
    self->working = true;
    return true;
}

/* ---- E3 ---- */

static Postern__V1__Attested attested_of(const struct tpm_attested *from)
{
    Postern__V1__Attested attested = POSTERN__V1__ATTESTED__INIT;
    attested.attest = data_of(buf_slice(&from->attest));
    attested.signature = data_of(buf_slice(&from->signature));
    return attested;
}

/* The values of the quote, bank by bank. */
struct pcr_layout {
    Postern__V1__PcrBank bank[PCR_BANKS_MAX], *banks[PCR_BANKS_MAX];
    Postern__V1__PcrSelection selection[PCR_BANKS_MAX];
    ProtobufCBinaryData values[PCR_VALUES_MAX];
};

static void fill_pcrs(const struct pcr_values *pcrs, struct pcr_layout *ret)
{
    size_t at = 0;
    for (size_t i = 0; i < pcrs->selection.count; i++) {
        const struct pcr_bank *from = &pcrs->selection.bank[i];
        ret->selection[i] = (Postern__V1__PcrSelection)POSTERN__V1__PCR_SELECTION__INIT;
        ret->selection[i].bank = from->alg;
        ret->selection[i].mask = from->mask;
        ret->bank[i] = (Postern__V1__PcrBank)POSTERN__V1__PCR_BANK__INIT;
        ret->bank[i].selection = &ret->selection[i];
        ret->bank[i].values = &ret->values[at];
        for (uint32_t mask = from->mask; mask != 0 && at < pcrs->count; mask &= mask - 1) {
            const TPM2B_DIGEST *value = &pcrs->value[at];
            ret->values[at++] = data_of(slice(value->buffer, value->size));
            ret->bank[i].n_values++;
        }
        ret->banks[i] = &ret->bank[i];
    }
}

static bool send_evidence(struct attestation *self, struct error *err)
{
    const struct device_evidence *from = &self->evidence;
    Postern__V1__Evidence evidence = POSTERN__V1__EVIDENCE__INIT;
    Postern__V1__Attested quote = attested_of(&from->quote);
    Postern__V1__Attested wrap = attested_of(&from->certify_wrap);
    Postern__V1__Attested req = attested_of(&from->certify_req);
    Postern__V1__Attested counter = attested_of(&from->certify_counter);
    CLEANUP(mem_free_at) struct pcr_layout *pcrs = mem_new(1, sizeof(*pcrs));
    if (!pcrs)
        return error_set_memory(err);
    fill_pcrs(&from->pcrs, pcrs);
    evidence.credential = data_of(secret_slice(from->credential));
    evidence.quote = &quote;
    evidence.n_pcrs = from->pcrs.selection.count;
    evidence.pcrs = pcrs->banks;
    evidence.certify_wrap = &wrap;
    evidence.certify_req = &req;
    evidence.certify_counter = &counter;
    evidence.csr = data_of(buf_slice(&self->csr));
    if (!pb_pack(&evidence.base, EVIDENCE_MAX, &self->evidence_bytes, err))
        return false;
    Postern__V1__AttestRequest request = POSTERN__V1__ATTEST_REQUEST__INIT;
    request.part_case = POSTERN__V1__ATTEST_REQUEST__PART_EVIDENCE;
    request.evidence = data_of(buf_slice(&self->evidence_bytes));
    if (!node_service_attest_send_request(self->call, &request, err))
        return false;
    rpc_call_close_send(self->call);
    return true;
}

static void on_evidence(void *arg, bool ok, const struct error *err)
{
    struct attestation *self = arg;
    struct error why;
    self->working = false;
    if (!ok)
        fail(self, err);
    else if (self->call && !self->over && !send_evidence(self, &why))
        fail(self, &why);
    else
        settle(self);
}

/* ---- E4 ---- */

static bool check_evidence_hash(const struct attestation *self,
                                const Postern__V1__AppraisalBody *body, struct error *err)
{
    uint8_t digest[SHA256_SIZE];
    CLEANUP(buf_done) struct buf all;
    buf_init(&all,
             12 + self->hello_bytes.len + self->challenge_bytes.len + self->evidence_bytes.len);
    buf_put_prefixed(&all, buf_slice(&self->hello_bytes));
    buf_put_prefixed(&all, buf_slice(&self->challenge_bytes));
    buf_put_prefixed(&all, buf_slice(&self->evidence_bytes));
    if (!buf_ok(&all, err) || !sha256(buf_slice(&all), digest, err))
        return false;
    if (!slice_equal(bytes(body->evidence_hash), SLICE_OF(digest)))
        return error_set(err, ERROR_UNAUTHENTICATED, "the appraisal is of other evidence");
    return true;
}

static bool check_bundle(const Postern__V1__Appraisal *appraisal,
                         const Postern__V1__AppraisalBody *body, struct error *err)
{
    uint8_t digest[SHA256_SIZE];
    CLEANUP(buf_done) struct buf all;
    buf_init(&all, PB_SIZE_MAX);
    for (size_t i = 0; i < appraisal->n_bundle; i++)
        buf_put_prefixed(&all, bytes(appraisal->bundle[i]));
    if (!buf_ok(&all, err) || !sha256(buf_slice(&all), digest, err))
        return false;
    if (!slice_equal(bytes(body->bundle_hash), SLICE_OF(digest)))
        return error_set(err, ERROR_UNAUTHENTICATED, "the appraisal came with another bundle");
    return true;
}

static bool check_body(const struct attestation *self, const Postern__V1__Appraisal *appraisal,
                       const Postern__V1__AppraisalBody *body, struct error *err)
{
    if (strcmp(body->agent_id, self->identity.agent_id) != 0)
        return error_set(err, ERROR_UNAUTHENTICATED, "the appraisal is of another agent");
    if (!check_evidence_hash(self, body, err))
        return false;
    if (!body->releases)
        return true;
    if (!body->time ||
        !slice_equal(bytes(body->time->ak_name), name_slice(&self->identity.ak_name)))
        return error_set(err, ERROR_UNAUTHENTICATED, "the appraisal's time is for another TPM");
    return check_bundle(appraisal, body, err);
}

static struct signed_message message_of(const char *tag, const struct slice *body,
                                        Postern__V1__Signature *const *signatures, size_t count,
                                        const Postern__V1__Appraisal *appraisal)
{
    return (struct signed_message){
        .tag = tag,
        .parts = body,
        .part_count = 1,
        .signatures = signatures,
        .signature_count = count,
        .certificates = appraisal->signer_certificates,
        .certificate_count = appraisal->n_signer_certificates,
    };
}

/* The counter's value as we certified it. */
static bool certified_counter(const struct attestation *self, uint64_t *ret, struct error *err)
{
    TPMS_ATTEST attested;
    if (!attested_parse(buf_slice(&self->evidence.certify_counter.attest), TPM2_ST_ATTEST_NV,
                        &attested, err))
        return false;
    const TPM2B_MAX_NV_BUFFER *contents = &attested.attested.nv.nvContents;
    struct reader in = reader(slice(contents->buffer, contents->size));
    uint64_t value = reader_u64(&in);
    if (!reader_end(&in))
        return error_set(err, ERROR_INTERNAL, "the counter has not 8 bytes");
    *ret = value;
    return true;
}

static bool take_offer(struct attestation *self, const Postern__V1__Appraisal *appraisal,
                       int64_t now, struct error *err)
{
    const Postern__V1__Generation *offer = appraisal->node_key;
    CLEANUP(pb_free_at) ProtobufCMessage *message = nullptr;
    if (!offer)
        return true;
    const struct slice body_bytes = bytes(offer->body);
    const struct signed_message signed_body = message_of(
        "postern generation v1", &body_bytes, offer->signatures, offer->n_signatures, appraisal);
    if (!signatures_verify(self->settings.keys, &signed_body, now, err) ||
        !pb_unpack(&postern__v1__generation_body__descriptor, body_bytes, &pb_limits_strict,
                   &message, err))
        return false;
    const Postern__V1__GenerationBody *body = (const Postern__V1__GenerationBody *)message;
    uint64_t counter = 0;
    if (strcmp(body->agent_id, self->identity.agent_id) != 0 ||
        !slice_equal(bytes(body->counter_name), name_slice(&self->identity.counter_name)))
        return error_set(err, ERROR_UNAUTHENTICATED, "the offered generation is for another TPM");
    if (body->generation <= self->settings.generation)
        return true; /* the one that we have, offered again until it is confirmed */
    if (!certified_counter(self, &counter, err))
        return false;
    if (body->limit != counter && body->limit != counter + 1)
        return error_set(err, ERROR_INVALID,
                         "generation %llu has the limit %llu while the counter is %llu",
                         (unsigned long long)body->generation, (unsigned long long)body->limit,
                         (unsigned long long)counter);
    return generation_from_body(body, &self->result.offer, err) &&
           pb_pack(&offer->base, GENERATION_OFFER_MAX, &self->result.offer.offer, err);
}

static bool take_svid(struct attestation *self, const Postern__V1__Appraisal *appraisal,
                      struct error *err)
{
    if (appraisal->n_svid == 0 || appraisal->n_svid > SVID_CERTIFICATES_MAX)
        return error_set(err, ERROR_INVALID, "the appraisal has %zu certificates of an SVID",
                         appraisal->n_svid);
    for (size_t i = 0; i < appraisal->n_svid; i++) {
        X509 *certificate = nullptr;
        if (!certificate_from_der(bytes(appraisal->svid[i]), &certificate, err))
            return error_prefix(err, "SVID");
        bool ok = certificate_to_pem(certificate, &self->result.svid, err);
        X509_free(certificate);
        if (!ok)
            return false;
    }
    return true;
}

static bool take_appraisal(struct attestation *self, const Postern__V1__Appraisal *appraisal,
                           struct error *err)
{
    int64_t now = clock_wall_ms();
    const struct slice body_bytes = bytes(appraisal->body);
    const struct signed_message signed_body =
        message_of("postern appraisal v1", &body_bytes, appraisal->signatures,
                   appraisal->n_signatures, appraisal);
    if (self->evidence_bytes.len == 0)
        return error_set(err, ERROR_INVALID, "an appraisal came before the evidence");
    buf_put(&self->body_bytes, body_bytes);
    if (!buf_ok(&self->body_bytes, err) ||
        !signatures_verify(self->settings.keys, &signed_body, now, err) ||
        !pb_unpack(&postern__v1__appraisal_body__descriptor, buf_slice(&self->body_bytes),
                   &pb_limits_strict, &self->body, err))
        return error_prefix(err, "appraisal");
    Postern__V1__AppraisalBody *body = (Postern__V1__AppraisalBody *)self->body;
    if (!check_body(self, appraisal, body, err))
        return false;
    if (body->releases &&
        (!take_svid(self, appraisal, err) || !take_offer(self, appraisal, now, err)))
        return false;
    self->result.body = body;
    self->result.body_bytes = buf_slice(&self->body_bytes);
    mem_copy(self->result.agent_id, self->identity.agent_id, sizeof(self->result.agent_id));
    self->appraised = true;
    self->over = true;
    return true;
}

static void on_message(void *arg, struct rpc_call *call, const Postern__V1__AttestResponse *message)
{
    struct attestation *self = arg;
    struct error why = {0};
    bool ok;
    (void)call;
    if (self->over)
        return;
    switch (message->part_case) {
    case POSTERN__V1__ATTEST_RESPONSE__PART_CHALLENGE:
        ok = take_challenge(self, bytes(message->challenge), &why) && begin_evidence(self, &why);
        break;
    case POSTERN__V1__ATTEST_RESPONSE__PART_APPRAISAL:
        ok = take_appraisal(self, message->appraisal, &why);
        break;
    default:
        ok = error_set(&why, ERROR_INVALID, "the authority sent something unknown");
    }
    if (!ok)
        fail(self, &why);
}

/* ---- Life ---- */

bool attestation_start(const struct attestation_settings *settings,
                       void (*done)(void *arg, struct attestation_result *result,
                                    const struct error *err),
                       void *arg, struct attestation **ret, struct error *err)
{
    struct attestation *self = mem_new(1, sizeof(*self));
    if (!self)
        return error_set_memory(err);
    self->settings = *settings;
    self->settings.join_token = nullptr;
    if (settings->join_token)
        (void)snprintf(self->join_token, sizeof(self->join_token), "%s", settings->join_token);
    self->done = done;
    self->arg = arg;
    device_hello_init(&self->hello);
    device_evidence_init(&self->evidence);
    buf_init(&self->hello_bytes, HELLO_MAX);
    buf_init(&self->challenge_bytes, CHALLENGE_MAX);
    buf_init(&self->evidence_bytes, EVIDENCE_MAX);
    buf_init(&self->csr, CSR_MAX);
    buf_init(&self->body_bytes, PB_SIZE_MAX);
    buf_init(&self->result.svid, SVID_PEM_MAX);
    generation_init(&self->result.offer);
    if (!device_hello(settings->device, &self->hello, on_hello, self, err)) {
        attestation_free(self);
        return false;
    }
    self->working = true;
    *ret = self;
    return true;
}

struct attestation *attestation_free(struct attestation *self)
{
    if (!self)
        return nullptr;
    rpc_call_drop(self->call);
    device_hello_done(&self->hello);
    device_evidence_done(&self->evidence);
    buf_done(&self->hello_bytes);
    buf_done(&self->challenge_bytes);
    buf_done(&self->evidence_bytes);
    buf_done(&self->csr);
    buf_done(&self->body_bytes);
    buf_done(&self->result.svid);
    generation_done(&self->result.offer);
    key_unref(self->result.key);
    pb_free(self->challenge);
    pb_free(self->body);
    mem_wipe(self->join_token, sizeof(self->join_token));
    return mem_free(self);
}
