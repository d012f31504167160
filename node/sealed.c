#include "sealed.h"

#include "base/mem.h"
#include "packet.h"
#include "pb/message.h"

#include <stdio.h>

static ProtobufCBinaryData bytes_of(const struct buf *buf)
{
    return (ProtobufCBinaryData){.data = buf->data, .len = buf->len};
}

/* ---- Writing ---- */

/* The messages of one slot; the arrays are as long as there are secrets. */
struct layout {
    Postern__V1__StoredSecret *secret, **secrets;
    Postern__V1__StoredPacket *packet, **packets;
    uint8_t (*hash)[SHA256_SIZE];
    size_t count;
};

static void layout_done(struct layout *layout)
{
    mem_free(layout->secret);
    mem_free(layout->secrets);
    mem_free(layout->packet);
    mem_free(layout->packets);
    mem_free(layout->hash);
}

static bool layout_make(size_t room, struct layout *ret, struct error *err)
{
    ret->secret = mem_new(room, sizeof(*ret->secret));
    ret->secrets = mem_new(room, sizeof(*ret->secrets));
    ret->packet = mem_new(room, sizeof(*ret->packet));
    ret->packets = mem_new(room, sizeof(*ret->packets));
    ret->hash = mem_new(room, sizeof(*ret->hash));
    return (ret->secret && ret->secrets && ret->packet && ret->packets && ret->hash) ||
           error_set_memory(err);
}

static bool belongs(const struct held_secret *secret, const struct generation *generation)
{
    return secret->packet.value && secret->packet.generation == generation->number;
}

static bool layout_add(struct layout *layout, const struct held_secret *secret, struct error *err)
{
    size_t i = layout->count;
    const struct packet *packet = &secret->packet;
    if (!packet_hash(buf_slice(&packet->header), buf_slice(&packet->ciphertext), layout->hash[i],
                     err))
        return false;
    layout->secret[i] = (Postern__V1__StoredSecret)POSTERN__V1__STORED_SECRET__INIT;
    layout->secret[i].head = bytes_of(&secret->head.body);
    layout->secret[i].packet_hash =
        (ProtobufCBinaryData){.data = layout->hash[i], .len = SHA256_SIZE};
    layout->secrets[i] = &layout->secret[i];
    layout->packet[i] = (Postern__V1__StoredPacket)POSTERN__V1__STORED_PACKET__INIT;
    layout->packet[i].header = bytes_of(&packet->header);
    layout->packet[i].ciphertext = bytes_of(&packet->ciphertext);
    layout->packets[i] = &layout->packet[i];
    layout->count++;
    return true;
}

bool sealed_prepare(const struct slots *slots, const struct generation *generation,
                    struct held *held, bool keep_other, struct slot_write *ret, struct error *err)
{
    CLEANUP(layout_done) struct layout layout = {0};
    Postern__V1__NodeState state = POSTERN__V1__NODE_STATE__INIT;
    Postern__V1__SlotPackets packets = POSTERN__V1__SLOT_PACKETS__INIT;
    Postern__V1__StoredAppraisal appraisal = POSTERN__V1__STORED_APPRAISAL__INIT;
    if (!layout_make(held->count, &layout, err))
        return false;
    for (size_t i = 0; i < held->count; i++) {
        if (belongs(&held->secrets[i], generation) && !layout_add(&layout, &held->secrets[i], err))
            return false;
    }
    state.n_secrets = packets.n_packets = layout.count;
    state.secrets = layout.secrets;
    packets.packets = layout.packets;
    if (held->affirmation.len > 0) {
        appraisal.body = bytes_of(&held->affirmation);
        appraisal.received_at_ms = held->affirmation_came.wall_ms;
        appraisal.has_received_boot_ms = true;
        appraisal.received_boot_ms = held->affirmation_came.boot_ms;
        appraisal.boot_id = held->affirmation_came.boot_id;
        state.appraisal = &appraisal;
    }
    if (!slots_prepare(slots, generation, held->agent_id, &state, &packets, keep_other, ret, err))
        return false;
    for (size_t i = 0; i < held->count; i++)
        held->secrets[i].durable = belongs(&held->secrets[i], generation);
    return true;
}

void sealed_undo(struct held *held)
{
    for (size_t i = 0; i < held->count; i++)
        held->secrets[i].durable = false;
}

/* ---- Reading ---- */

static const Postern__V1__StoredPacket *find_packet(const Postern__V1__SlotPackets *packets,
                                                    ProtobufCBinaryData hash)
{
    for (size_t i = 0; i < packets->n_packets; i++) {
        const Postern__V1__StoredPacket *packet = packets->packets[i];
        uint8_t own[SHA256_SIZE];
        struct error ignored;
        if (packet_hash(slice(packet->header.data, packet->header.len),
                        slice(packet->ciphertext.data, packet->ciphertext.len), own, &ignored) &&
            slice_equal(slice(hash.data, hash.len), SLICE_OF(own)))
            return packet;
    }
    return nullptr;
}

static bool read_secret(const Postern__V1__StoredSecret *stored,
                        const Postern__V1__SlotPackets *packets, const struct secret *node_key,
                        struct held *held, struct error *err)
{
    bool changed;
    CLEANUP(head_done) struct head head;
    CLEANUP(packet_done) struct packet packet;
    CLEANUP(mem_free_at) char *name = nullptr;
    head_init(&head);
    packet_init(&packet);
    const Postern__V1__StoredPacket *found = find_packet(packets, stored->packet_hash);
    if (!found)
        return error_set(err, ERROR_INVALID, "the packet of a secret is missing");
    if (!head_parse(slice(stored->head.data, stored->head.len), &head, err) ||
        !packet_reopen(slice(found->header.data, found->header.len),
                       slice(found->ciphertext.data, found->ciphertext.len), node_key, &packet,
                       &name, err))
        return false;
    if (strcmp(name, head.name) != 0 || head.gone)
        return error_set(err, ERROR_INVALID, "a head and its packet do not fit");
    if (!held_put_head(held, &head, &changed, err) || !held_put_packet(held, name, &packet, err))
        return false;
    held_find(held, name)->durable = true;
    return true;
}

static bool read_appraisal(const Postern__V1__StoredAppraisal *stored, struct held *held,
                           Postern__V1__AppraisalBody **ret, struct error *err)
{
    CLEANUP(pb_free_at) ProtobufCMessage *message = nullptr;
    struct moment came = {.wall_ms = stored->received_at_ms, .boot_ms = stored->received_boot_ms};
    const struct slice bytes = slice(stored->body.data, stored->body.len);
    if (stored->boot_id)
        (void)snprintf(came.boot_id, sizeof(came.boot_id), "%s", stored->boot_id);
    if (!pb_unpack(&postern__v1__appraisal_body__descriptor, bytes, &pb_limits_strict, &message,
                   err))
        return false;
    Postern__V1__AppraisalBody *body = (Postern__V1__AppraisalBody *)message;
    if (!appraisal_releases(body))
        return error_set(err, ERROR_INVALID, "the stored appraisal is no affirmation");
    if (!held_appraise(held, body, bytes, &came, err))
        return false;
    (void)snprintf(held->agent_id, sizeof(held->agent_id), "%s", body->agent_id);
    *ret = (Postern__V1__AppraisalBody *)TAKE(message);
    return true;
}

bool sealed_read(const Postern__V1__NodeState *state, const Postern__V1__SlotPackets *packets,
                 const struct secret *node_key, struct held *held,
                 Postern__V1__AppraisalBody **ret_appraisal, struct error *err)
{
    Postern__V1__AppraisalBody *appraisal = nullptr;
    bool ok = !state->appraisal || read_appraisal(state->appraisal, held, &appraisal, err);
    for (size_t i = 0; ok && i < state->n_secrets; i++)
        ok = read_secret(state->secrets[i], packets, node_key, held, err);
    if (!ok) {
        held_wipe(held);
        pb_free(appraisal ? &appraisal->base : nullptr);
        return false;
    }
    /* It was written when the live set was here. */
    held->complete = true;
    *ret_appraisal = appraisal;
    return true;
}
