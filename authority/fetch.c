#include "fetch.h"

#include "authority.h"
#include "generation.h"
#include "requests.h"
#include "secret_rows.h"
#include "watch.h"

#include "base/clock.h"
#include "base/counter.h"
#include "base/log.h"
#include "base/mem.h"
#include "keyring/commitment.h"
#include "keyring/envelope.h"
#include "pb/message.h"

#include "postern/v1/state.pb-c.h"

COUNTER(packets_released, "postern_packets_released_total", "Secret versions sent to nodes.");
COUNTER(commitment_alarms, "postern_commitment_alarms_total",
        "Confirmations of a version with another commitment than its own.");

constexpr size_t PACKET_HEADER_MAX = 1024;
constexpr size_t PLAIN_MAX = SECRET_VALUE_MAX + 128; /* a SecretPlain */
static const char packet_tag[] = "postern packet v1";

/* One call of either kind. */
struct fetch {
    struct authority *authority;
    struct rpc_call *call;
    struct policies *policies; /* a reference */
    struct node_request request;
    struct error refusal; /* class NONE: none; the nonce is counted either way */

    /* Fetch: what the transaction released. */
    struct secret *node_key;
    struct secret *plain; /* r ‖ value; null: the node has it already */
    uint32_t epoch;
    uint64_t version;
    /* … and what became of it. */
    struct buf header;
    struct buf ciphertext;
    struct dual_signature signatures;
};

static struct fetch *fetch_new(struct authority *authority, struct rpc_call *call)
{
    struct error err;
    struct fetch *fetch = mem_new(1, sizeof(*fetch));
    if (!fetch) {
        error_set_memory(&err);
        rpc_fail(call, &err);
        return nullptr;
    }
    fetch->authority = authority;
    fetch->call = call;
    fetch->policies = policies_ref(authority->policies);
    node_request_init(&fetch->request);
    buf_init(&fetch->header, PACKET_HEADER_MAX);
    buf_init(&fetch->ciphertext, PLAIN_MAX + AEAD_TAG_SIZE);
    dual_init(&fetch->signatures);
    return fetch;
}

static void fetch_free(struct fetch *fetch)
{
    policies_unref(fetch->policies);
    node_request_done(&fetch->request);
    secret_free(fetch->node_key);
    secret_free(fetch->plain);
    buf_done(&fetch->header);
    buf_done(&fetch->ciphertext);
    dual_done(&fetch->signatures);
    mem_free(fetch);
}

static void fetch_fail(struct fetch *fetch, const struct error *why)
{
    rpc_fail(fetch->call, why);
    fetch_free(fetch);
}

/* ---- Fetch: what may leave ---- */

static bool is_held(const Postern__V1__FetchBody *body, const Postern__V1__HeadBody *head)
{
    for (size_t i = 0; i < body->n_held; i++)
        if (body->held[i]->epoch == head->epoch && body->held[i]->version == head->version)
            return true;
    return false;
}

/* A name that is not there and one that the node may not have look the same to it. */
static bool refuse_name(const char *name, struct error *err)
{
    return error_set_reason(err, ERROR_DENIED, "NOT_ENTITLED",
                            "there is no secret %s that this node may have", name);
}

static bool release(struct tx *tx, struct fetch *fetch, const struct node_record *record,
                    int64_t now_ms, struct error *err)
{
    const Postern__V1__FetchBody *body = (const Postern__V1__FetchBody *)fetch->request.message;
    const struct kek *kek = identity_kek(fetch->authority->identity);
    const char *agent_id = body->header->agent_id;
    CLEANUP(secret_row_done) struct secret_row row;
    secret_row_init(&row);
    if (!node_may_receive(record, now_ms, err) ||
        !generation_key(tx, kek, agent_id, body->header->generation, &fetch->node_key, err))
        return false;
    if (!secret_row_get(tx, body->name, &row, err))
        return err->class == ERROR_NOT_FOUND ? refuse_name(body->name, err) : false;
    if (!secret_entitled(fetch->policies, agent_id, row.head))
        return refuse_name(body->name, err);
    if (is_held(body, row.head))
        return true;
    fetch->epoch = row.head->epoch;
    fetch->version = row.head->version;
    return version_open(tx, kek, body->name, fetch->epoch, fetch->version, &fetch->plain, err) &&
           holder_released(tx, agent_id, body->name, fetch->epoch, fetch->version, err);
}

static bool fetch_decide(struct tx *tx, void *arg, struct error *err)
{
    struct fetch *fetch = arg;
    int64_t now_ms = clock_wall_ms();
    CLEANUP(node_record_done) struct node_record record;
    node_record_init(&record);
    /* It may run again: on a database without its earlier tries, and so here. */
    fetch->refusal = (struct error){};
    fetch->node_key = secret_free(fetch->node_key);
    fetch->plain = secret_free(fetch->plain);
    if (!node_request_accept(tx, &fetch->request, now_ms, &record, err))
        return false;
    if (!release(tx, fetch, &record, now_ms, &fetch->refusal)) {
        fetch->node_key = secret_free(fetch->node_key);
        fetch->plain = secret_free(fetch->plain);
    }
    return true;
}

/* ---- Fetch: the packet, on the signer's thread ---- */

static bool pack_plain(const struct secret *plain, struct buf *ret, struct error *err)
{
    struct reader in = reader(secret_slice(plain));
    struct slice r = reader_take(&in, COMMITMENT_R_SIZE);
    Postern__V1__SecretPlain message = POSTERN__V1__SECRET_PLAIN__INIT;
    message.r = (ProtobufCBinaryData){.len = r.len, .data = (uint8_t *)(uintptr_t)r.data};
    message.value =
        (ProtobufCBinaryData){.len = in.rest.len, .data = (uint8_t *)(uintptr_t)in.rest.data};
    return pb_pack(&message.base, PLAIN_MAX, ret, err);
}

static bool fetch_seal(void *arg, struct error *err)
{
    struct fetch *fetch = arg;
    const Postern__V1__FetchBody *body = (const Postern__V1__FetchBody *)fetch->request.message;
    uint8_t salt[ENVELOPE_SALT_SIZE];
    CLEANUP(buf_done) struct buf plain;
    buf_init_wiping(&plain, PLAIN_MAX);
    if (!random_bytes(salt, sizeof(salt), err) || !pack_plain(fetch->plain, &plain, err))
        return false;
    Postern__V1__PacketHeader header = POSTERN__V1__PACKET_HEADER__INIT;
    header.agent_id = body->header->agent_id;
    header.generation = body->header->generation;
    header.name = body->name;
    header.epoch = fetch->epoch;
    header.version = fetch->version;
    header.request_nonce = body->header->nonce;
    header.salt = (ProtobufCBinaryData){.len = sizeof(salt), .data = salt};
    if (!pb_pack(&header.base, PACKET_HEADER_MAX, &fetch->header, err) ||
        !envelope_seal(ENVELOPE_PACKET, fetch->node_key, buf_slice(&fetch->header), SLICE_OF(salt),
                       buf_slice(&plain), &fetch->ciphertext, err))
        return false;
    const struct slice parts[] = {buf_slice(&fetch->header), buf_slice(&fetch->ciphertext)};
    return identity_sign(fetch->authority->identity, packet_tag, parts, ARRAY_LEN(parts),
                         &fetch->signatures, err);
}

static void fetch_reply(struct fetch *fetch)
{
    ProtobufCBinaryData certificates[SIGNER_COUNT];
    Postern__V1__FetchResponse response = POSTERN__V1__FETCH_RESPONSE__INIT;
    Postern__V1__Packet packet = POSTERN__V1__PACKET__INIT;
    Postern__V1__Packet *packets[] = {&packet};
    if (fetch->ciphertext.len > 0) {
        identity_signer_certificates(fetch->authority->identity, certificates);
        packet.header = (ProtobufCBinaryData){.len = fetch->header.len, .data = fetch->header.data};
        packet.ciphertext =
            (ProtobufCBinaryData){.len = fetch->ciphertext.len, .data = fetch->ciphertext.data};
        packet.n_signatures = SIGNER_COUNT;
        packet.signatures = fetch->signatures.messages;
        response.n_packets = 1;
        response.packets = packets;
        response.n_signer_certificates = SIGNER_COUNT;
        response.signer_certificates = certificates;
        counter_add(&packets_released, 1);
    }
    node_service_fetch_reply(fetch->call, &response);
    fetch_free(fetch);
}

static void on_sealed(void *arg, bool ok, const struct error *err)
{
    struct fetch *fetch = arg;
    if (ok)
        fetch_reply(fetch);
    else
        fetch_fail(fetch, err);
}

static void on_decided(void *arg, bool ok, const struct error *err)
{
    struct fetch *fetch = arg;
    struct error failure;
    const Postern__V1__FetchBody *body = (const Postern__V1__FetchBody *)fetch->request.message;
    if (!ok) {
        fetch_fail(fetch, err);
    } else if (fetch->refusal.class != ERROR_NONE) {
        log_failure(fetch->refusal.class == ERROR_INTERNAL ? LOG_ERROR : LOG_INFO, "fetch",
                    &fetch->refusal, "node %s gets no %s", body->header->agent_id, body->name);
        fetch_fail(fetch, &fetch->refusal);
    } else if (!fetch->plain) {
        fetch_reply(fetch);
    } else if (!identity_submit(fetch->authority->identity, fetch_seal, on_sealed, fetch,
                                clock_boot_ms() + STORE_DEADLINE_MS, &failure)) {
        fetch_fail(fetch, &failure);
    }
}

static const Postern__V1__RequestHeader *fetch_header(const ProtobufCMessage *body)
{
    return ((const Postern__V1__FetchBody *)body)->header;
}

static bool fetch_open(struct fetch *fetch, const Postern__V1__FetchRequest *request,
                       struct error *err)
{
    const struct signed_request in = {
        .method = "Fetch",
        .body = slice(request->body.data, request->body.len),
        .signature = slice(request->signature.data, request->signature.len),
        .descriptor = &postern__v1__fetch_body__descriptor,
        .header = fetch_header,
    };
    if (!node_request_open(fetch->authority, fetch->call, &in, &fetch->request, err))
        return false;
    const Postern__V1__FetchBody *body = (const Postern__V1__FetchBody *)fetch->request.message;
    if (!secret_name_check(body->name, err))
        return false;
    return body->n_held <= FETCH_HELD_MAX ||
           error_set_field(err, "body.held", "body.held: at most %zu versions, found %zu",
                           FETCH_HELD_MAX, body->n_held);
}

void fetch_begin(void *authority, struct rpc_call *call, const Postern__V1__FetchRequest *request)
{
    struct error err;
    struct fetch *fetch = fetch_new(authority, call);
    if (!fetch)
        return;
    if (!fetch_open(fetch, request, &err) ||
        !store_transact(fetch->authority->store, fetch_decide, on_decided, fetch, 0, &err))
        fetch_fail(fetch, &err);
}

/* ---- Confirm ---- */

static bool confirm_version(struct tx *tx, const char *agent_id,
                            const Postern__V1__ConfirmedVersion *version, struct error *err)
{
    uint8_t commitment[SHA256_SIZE];
    bool holds;
    if (!holder_has(tx, agent_id, version->name, &holds, err))
        return false;
    if (!holds) /* as for a version that never was: what others hold is none of its business */
        return error_set_reason(err, ERROR_NOT_FOUND, "VERSION_UNKNOWN",
                                "there is no such version of this secret");
    if (!version_commitment(tx, version->name, version->epoch, version->version, commitment, err))
        return false;
    if (!mem_equal_secret(commitment, version->commitment.data, sizeof(commitment)))
        return error_set_reason(err, ERROR_CONFLICT, "COMMITMENT_MISMATCH",
                                "version %u.%llu of %s is another one here", version->epoch,
                                (unsigned long long)version->version, version->name);
    return holder_confirmed(tx, agent_id, version->name, version->epoch, version->version, err);
}

static bool confirm(struct tx *tx, const struct fetch *fetch, const struct node_record *record,
                    int64_t now_ms, struct error *err)
{
    const Postern__V1__ConfirmBody *body = (const Postern__V1__ConfirmBody *)fetch->request.message;
    if (record->admission != POSTERN__V1__ADMISSION__ADMISSION_ADMITTED)
        return error_set_reason(err, ERROR_DENIED, "NODE_NOT_ADMITTED", "node %s is not admitted",
                                record->agent_id);
    if (body->what_case == POSTERN__V1__CONFIRM_BODY__WHAT_GENERATION)
        return generation_confirm(tx, record->agent_id, body->generation, now_ms, err);
    return confirm_version(tx, record->agent_id, body->version, err);
}

static bool confirm_decide(struct tx *tx, void *arg, struct error *err)
{
    struct fetch *fetch = arg;
    int64_t now_ms = clock_wall_ms();
    CLEANUP(node_record_done) struct node_record record;
    node_record_init(&record);
    fetch->refusal = (struct error){};
    if (!node_request_accept(tx, &fetch->request, now_ms, &record, err))
        return false;
    (void)!confirm(tx, fetch, &record, now_ms, &fetch->refusal);
    return true;
}

static void on_confirmed(void *arg, bool ok, const struct error *err)
{
    struct fetch *fetch = arg;
    const Postern__V1__ConfirmBody *body = (const Postern__V1__ConfirmBody *)fetch->request.message;
    if (!ok) {
        fetch_fail(fetch, err);
        return;
    }
    if (fetch->refusal.class != ERROR_NONE) {
        if (strcmp(fetch->refusal.reason, "COMMITMENT_MISMATCH") == 0) {
            counter_add(&commitment_alarms, 1);
            log_failure(LOG_ERROR, "fetch", &fetch->refusal,
                        "ALARM: node %s confirms what it was "
                        "never sent",
                        fetch->request.header->agent_id);
        }
        fetch_fail(fetch, &fetch->refusal);
        return;
    }
    Postern__V1__ConfirmResponse response = POSTERN__V1__CONFIRM_RESPONSE__INIT;
    node_service_confirm_reply(fetch->call, &response);
    if (body->what_case == POSTERN__V1__CONFIRM_BODY__WHAT_GENERATION) {
        log_at(LOG_INFO, "fetch", "node %s has generation %llu", body->header->agent_id,
               (unsigned long long)body->generation);
        watch_hub_node_changed(fetch->authority->hub, body->header->agent_id);
    }
    fetch_free(fetch);
}

static const Postern__V1__RequestHeader *confirm_header(const ProtobufCMessage *body)
{
    return ((const Postern__V1__ConfirmBody *)body)->header;
}

static bool confirm_check(const Postern__V1__ConfirmBody *body, struct error *err)
{
    switch (body->what_case) {
    case POSTERN__V1__CONFIRM_BODY__WHAT_GENERATION:
        return (body->generation > 0 && body->generation <= INT64_MAX) ||
               error_set_field(err, "body.generation",
                               "body.generation: there is none of that "
                               "number");
    case POSTERN__V1__CONFIRM_BODY__WHAT_VERSION:
        if (!secret_name_check(body->version->name, err))
            return false;
        return body->version->commitment.len == SHA256_SIZE ||
               error_set_field(err, "body.version.commitment",
                               "body.version.commitment: expected %zu bytes, found %zu",
                               SHA256_SIZE, body->version->commitment.len);
    default:
        return error_set_field(err, "body", "body: neither a version nor a generation");
    }
}

static bool confirm_open(struct fetch *fetch, const Postern__V1__ConfirmRequest *request,
                         struct error *err)
{
    const struct signed_request in = {
        .method = "Confirm",
        .body = slice(request->body.data, request->body.len),
        .signature = slice(request->signature.data, request->signature.len),
        .descriptor = &postern__v1__confirm_body__descriptor,
        .header = confirm_header,
    };
    return node_request_open(fetch->authority, fetch->call, &in, &fetch->request, err) &&
           confirm_check((const Postern__V1__ConfirmBody *)fetch->request.message, err);
}

void confirm_begin(void *authority, struct rpc_call *call,
                   const Postern__V1__ConfirmRequest *request)
{
    struct error err;
    struct fetch *fetch = fetch_new(authority, call);
    if (!fetch)
        return;
    if (!confirm_open(fetch, request, &err) ||
        !store_transact(fetch->authority->store, confirm_decide, on_confirmed, fetch, 0, &err))
        fetch_fail(fetch, &err);
}
