#include "packet.h"

#include "base/mem.h"
#include "keyring/commitment.h"
#include "keyring/envelope.h"
#include "pb/message.h"

#include "postern/v1/state.pb-c.h"

/* ---- Requests ---- */

static bool fill_header(const struct requester *requester, uint8_t nonce[static REQUEST_NONCE_SIZE],
                        Postern__V1__RequestHeader *header, struct error *err)
{
    if (!random_bytes(nonce, REQUEST_NONCE_SIZE, err))
        return false;
    header->agent_id = (char *)requester->agent_id;
    header->generation = requester->generation;
    header->nonce = (ProtobufCBinaryData){.data = nonce, .len = REQUEST_NONCE_SIZE};
    header->time_ms = requester->time_ms;
    return true;
}

bool request_fetch(const struct requester *requester, const char *name, const struct packet *held,
                   uint8_t ret_nonce[static REQUEST_NONCE_SIZE], struct buf *ret, struct error *err)
{
    uint8_t nonce[REQUEST_NONCE_SIZE];
    Postern__V1__RequestHeader header = POSTERN__V1__REQUEST_HEADER__INIT;
    Postern__V1__FetchBody body = POSTERN__V1__FETCH_BODY__INIT;
    Postern__V1__HeldVersion version = POSTERN__V1__HELD_VERSION__INIT;
    Postern__V1__HeldVersion *versions[] = {&version};
    if (!fill_header(requester, nonce, &header, err))
        return false;
    body.header = &header;
    body.name = (char *)name;
    if (held) {
        version.name = (char *)name;
        version.epoch = held->epoch;
        version.version = held->version;
        body.n_held = ARRAY_LEN(versions);
        body.held = versions;
    }
    if (!pb_pack(&body.base, REQUEST_BODY_MAX, ret, err))
        return false;
    mem_copy(ret_nonce, nonce, sizeof(nonce));
    return true;
}

bool request_confirm_version(const struct requester *requester, const struct held_secret *secret,
                             struct buf *ret, struct error *err)
{
    uint8_t nonce[REQUEST_NONCE_SIZE], commitment[SHA256_SIZE];
    const struct packet *packet = &secret->packet;
    const struct version_name name = {
        .name = secret->head.name, .epoch = packet->epoch, .version = packet->version};
    Postern__V1__RequestHeader header = POSTERN__V1__REQUEST_HEADER__INIT;
    Postern__V1__ConfirmBody body = POSTERN__V1__CONFIRM_BODY__INIT;
    Postern__V1__ConfirmedVersion version = POSTERN__V1__CONFIRMED_VERSION__INIT;
    if (!fill_header(requester, nonce, &header, err) ||
        !commitment_compute(&name, secret_slice(packet->r), secret_slice(packet->value), commitment,
                            err))
        return false;
    version.name = secret->head.name;
    version.epoch = packet->epoch;
    version.version = packet->version;
    version.commitment = (ProtobufCBinaryData){.data = commitment, .len = sizeof(commitment)};
    body.header = &header;
    body.what_case = POSTERN__V1__CONFIRM_BODY__WHAT_VERSION;
    body.version = &version;
    return pb_pack(&body.base, REQUEST_BODY_MAX, ret, err);
}

bool request_confirm_generation(const struct requester *requester, struct buf *ret,
                                struct error *err)
{
    uint8_t nonce[REQUEST_NONCE_SIZE];
    Postern__V1__RequestHeader header = POSTERN__V1__REQUEST_HEADER__INIT;
    Postern__V1__ConfirmBody body = POSTERN__V1__CONFIRM_BODY__INIT;
    if (!fill_header(requester, nonce, &header, err))
        return false;
    body.header = &header;
    body.what_case = POSTERN__V1__CONFIRM_BODY__WHAT_GENERATION;
    body.generation = requester->generation;
    return pb_pack(&body.base, REQUEST_BODY_MAX, ret, err);
}

bool request_to_sign(const char *method, struct slice body, struct buf *ret, struct error *err)
{
    buf_put_prefixed(ret, slice_str("postern req v1"));
    buf_put_prefixed(ret, slice_str(method));
    buf_put_prefixed(ret, body);
    return buf_ok(ret, err);
}

static struct slice bytes(ProtobufCBinaryData data)
{
    return slice(data.data, data.len);
}

/* ---- Heads ---- */

bool head_parse(struct slice body, struct head *ret, struct error *err)
{
    CLEANUP(pb_free_at) ProtobufCMessage *message = nullptr;
    CLEANUP(head_done) struct head head;
    head_init(&head);
    if (!pb_unpack(&postern__v1__head_body__descriptor, body, &pb_limits_strict, &message, err))
        return false;
    const Postern__V1__HeadBody *fields = (const Postern__V1__HeadBody *)message;
    size_t name_len = strlen(fields->name);
    if (name_len == 0 || name_len > HELD_NAME_MAX || (fields->version == 0 && !fields->gone))
        return error_set(err, ERROR_INVALID, "a head without name or version");
    head.epoch = fields->epoch;
    head.seq = fields->seq;
    head.version = fields->version;
    head.gone = fields->gone;
    head.name = mem_strdup(fields->name);
    if (!head.name)
        return error_set_memory(err);
    buf_put(&head.body, body);
    if (!buf_ok(&head.body, err) ||
        !texts_copy(fields->allow, fields->n_allow, HELD_ALLOW_MAX, &head.allow, err))
        return false;
    *ret = head;
    head_init(&head);
    return true;
}

bool head_read(const struct authority_keys *keys, const Postern__V1__SecretHead *message,
               int64_t now, struct head *ret, struct error *err)
{
    const struct slice parts[] = {bytes(message->body)};
    const struct signed_message asked = {
        .tag = "postern head v1",
        .parts = parts,
        .part_count = ARRAY_LEN(parts),
        .signatures = message->signatures,
        .signature_count = message->n_signatures,
        .certificates = message->signer_certificates,
        .certificate_count = message->n_signer_certificates,
    };
    return signatures_verify(keys, &asked, now, err) && head_parse(parts[0], ret, err);
}

/* ---- Packets ---- */

static bool verify(const struct packet_expected *expected, const Postern__V1__Packet *packet,
                   const ProtobufCBinaryData *certificates, size_t certificate_count,
                   struct error *err)
{
    const struct slice parts[] = {bytes(packet->header), bytes(packet->ciphertext)};
    const struct signed_message message = {
        .tag = "postern packet v1",
        .parts = parts,
        .part_count = ARRAY_LEN(parts),
        .signatures = packet->signatures,
        .signature_count = packet->n_signatures,
        .certificates = certificates,
        .certificate_count = certificate_count,
    };
    return signatures_verify(expected->keys, &message, expected->now, err);
}

static bool check_header(const struct packet_expected *expected,
                         const Postern__V1__PacketHeader *header, struct error *err)
{
    if (strcmp(header->agent_id, expected->agent_id) != 0)
        return error_set(err, ERROR_DENIED, "the packet is for another node");
    if (header->generation != expected->generation)
        return error_set(err, ERROR_DENIED, "the packet is for generation %llu, expected %llu",
                         (unsigned long long)header->generation,
                         (unsigned long long)expected->generation);
    if (strcmp(header->name, expected->name) != 0 ||
        !slice_equal(bytes(header->request_nonce), expected->nonce))
        return error_set(err, ERROR_DENIED, "the packet answers another request");
    if (header->version == 0)
        return error_set(err, ERROR_INVALID, "the packet has no version");
    return true;
}

static bool read_header(struct slice wire, ProtobufCMessage **ret, struct error *err)
{
    return pb_unpack(&postern__v1__packet_header__descriptor, wire, &pb_limits_strict, ret, err);
}

static bool open_plain(struct slice header_bytes, struct slice ciphertext,
                       const Postern__V1__PacketHeader *header, const struct secret *node_key,
                       struct packet *ret, struct error *err)
{
    CLEANUP(secret_free_at) struct secret *sealed = nullptr;
    CLEANUP(pb_free_at) ProtobufCMessage *message = nullptr;
    if (!envelope_open(ENVELOPE_PACKET, node_key, header_bytes, bytes(header->salt), ciphertext,
                       &sealed, err) ||
        !pb_unpack(&postern__v1__secret_plain__descriptor, secret_slice(sealed), &pb_limits_strict,
                   &message, err))
        return false;
    const Postern__V1__SecretPlain *plain = (const Postern__V1__SecretPlain *)message;
    if (plain->r.len != COMMITMENT_R_SIZE || plain->value.len == 0)
        return error_set(err, ERROR_INVALID,
                         "the packet has no value, or no opening of its commitment");
    CLEANUP(packet_done) struct packet packet;
    packet_init(&packet);
    packet.generation = header->generation;
    packet.epoch = header->epoch;
    packet.version = header->version;
    buf_put(&packet.header, header_bytes);
    buf_put(&packet.ciphertext, ciphertext);
    if (!buf_ok(&packet.header, err) || !buf_ok(&packet.ciphertext, err) ||
        !secret_from(bytes(plain->r), &packet.r, err) ||
        !secret_from(bytes(plain->value), &packet.value, err))
        return false;
    *ret = packet;
    packet_init(&packet);
    return true;
}

bool packet_open(const struct packet_expected *expected, const Postern__V1__Packet *packet,
                 const ProtobufCBinaryData *certificates, size_t certificate_count,
                 struct packet *ret, struct error *err)
{
    CLEANUP(pb_free_at) ProtobufCMessage *message = nullptr;
    if (!verify(expected, packet, certificates, certificate_count, err) ||
        !read_header(bytes(packet->header), &message, err))
        return false;
    const Postern__V1__PacketHeader *header = (const Postern__V1__PacketHeader *)message;
    return check_header(expected, header, err) &&
           open_plain(bytes(packet->header), bytes(packet->ciphertext), header, expected->node_key,
                      ret, err);
}

bool packet_reopen(struct slice header, struct slice ciphertext, const struct secret *node_key,
                   struct packet *ret, char **ret_name, struct error *err)
{
    CLEANUP(pb_free_at) ProtobufCMessage *message = nullptr;
    if (!read_header(header, &message, err))
        return false;
    const Postern__V1__PacketHeader *fields = (const Postern__V1__PacketHeader *)message;
    char *name = mem_strdup(fields->name);
    if (!name)
        return error_set_memory(err);
    if (!open_plain(header, ciphertext, fields, node_key, ret, err)) {
        mem_free(name);
        return false;
    }
    *ret_name = name;
    return true;
}

bool packet_hash(struct slice header, struct slice ciphertext, uint8_t ret[static SHA256_SIZE],
                 struct error *err)
{
    CLEANUP(buf_done) struct buf parts;
    buf_init(&parts, 8 + header.len + ciphertext.len);
    buf_put_prefixed(&parts, header);
    buf_put_prefixed(&parts, ciphertext);
    return buf_ok(&parts, err) && sha256(buf_slice(&parts), ret, err);
}
