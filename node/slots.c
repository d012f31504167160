#include "slots.h"

#include "base/crypt.h"
#include "base/file.h"
#include "base/mem.h"
#include "keyring/envelope.h"
#include "keyring/slot.h"
#include "pb/message.h"

#include <stdio.h>

static const char *const names[SLOT_COUNT] = {"slot-a", "slot-b"};

struct slot {
    char *path;
    bool valid;
    uint64_t sequence;
    struct generation generation; /* without key */
    uint8_t salt[ENVELOPE_SALT_SIZE];
    struct buf header, ciphertext, packets; /* empty once let go */
};

struct slots {
    struct slot slot[SLOT_COUNT];
};

static void slot_forget(struct slot *slot)
{
    generation_done(&slot->generation);
    buf_done(&slot->header);
    buf_done(&slot->ciphertext);
    buf_done(&slot->packets);
    slot->valid = false;
    slot->sequence = 0;
}

struct slots *slots_free(struct slots *slots)
{
    if (!slots)
        return nullptr;
    for (size_t i = 0; i < SLOT_COUNT; i++) {
        slot_forget(&slots->slot[i]);
        mem_free(slots->slot[i].path);
    }
    return mem_free(slots);
}

/* ---- Reading ---- */

static bool slot_parse(struct slot *slot, struct slice file, struct error *err)
{
    struct slot_parts parts;
    CLEANUP(pb_free_at) ProtobufCMessage *message = nullptr;
    if (!slot_decode(file, &parts, err) ||
        !pb_unpack(&postern__v1__slot_header__descriptor, parts.header, &pb_limits_strict, &message,
                   err))
        return false;
    const Postern__V1__SlotHeader *fields = (const Postern__V1__SlotHeader *)message;
    if (fields->salt.len != ENVELOPE_SALT_SIZE || fields->sequence == 0)
        return error_set(err, ERROR_INVALID, "a slot without salt or sequence");
    if (!generation_from_slot(fields, &slot->generation, err))
        return false;
    buf_put(&slot->header, parts.header);
    buf_put(&slot->ciphertext, parts.ciphertext);
    buf_put(&slot->packets, parts.packets);
    if (!buf_ok(&slot->header, err) || !buf_ok(&slot->ciphertext, err) ||
        !buf_ok(&slot->packets, err))
        return false;
    mem_copy(slot->salt, fields->salt.data, ENVELOPE_SALT_SIZE);
    slot->sequence = fields->sequence;
    slot->valid = true;
    return true;
}

/* False only for what may pass: then nothing must be overwritten as if it were not there. */
static bool slot_read(struct slot *slot, struct error *ret_damage, struct error *err)
{
    struct error why = {0};
    CLEANUP(buf_done) struct buf file;
    buf_init(&file, SLOT_SIZE_MAX);
    if (!file_read(slot->path, &file, &why)) {
        if (why.class == ERROR_NOT_FOUND)
            return true;
        if (why.class != ERROR_EXHAUSTED || file.starved) {
            *err = why;
            return false;
        }
    } else if (slot_parse(slot, buf_slice(&file), &why)) {
        return true;
    }
    slot_forget(slot);
    error_prefix(&why, "%s", slot->path);
    *ret_damage = why;
    return true;
}

bool slots_open(const char *state_dir, struct slots **ret, struct error *ret_damage,
                struct error *err)
{
    struct error damage[SLOT_COUNT] = {0};
    CLEANUP(slots_free_at) struct slots *slots = mem_new(1, sizeof(*slots));
    if (!slots)
        return error_set_memory(err);
    for (size_t i = 0; i < SLOT_COUNT; i++) {
        struct slot *slot = &slots->slot[i];
        size_t size = strlen(state_dir) + 1 + strlen(names[i]) + 1;
        generation_init(&slot->generation);
        buf_init(&slot->header, SLOT_HEADER_MAX);
        buf_init(&slot->ciphertext, SLOT_SIZE_MAX);
        buf_init(&slot->packets, SLOT_SIZE_MAX);
        slot->path = mem_new(size, 1);
        if (!slot->path)
            return error_set_memory(err);
        (void)snprintf(slot->path, size, "%s/%s", state_dir, names[i]);
        if (!slot_read(slot, &damage[i], err))
            return false;
    }
    if (ret_damage)
        mem_copy(ret_damage, damage, sizeof(damage));
    *ret = TAKE(slots);
    return true;
}

/* Index of the newer of two; of the valid one; 0. */
static size_t newest(const struct slots *slots)
{
    return slots->slot[1].valid && slots->slot[1].sequence > slots->slot[0].sequence ? 1 : 0;
}

size_t slots_count(const struct slots *slots)
{
    return (size_t)slots->slot[0].valid + (size_t)slots->slot[1].valid;
}

static size_t at(const struct slots *slots, size_t i)
{
    return i == 0 ? newest(slots) : 1 - newest(slots);
}

const struct generation *slots_generation(const struct slots *slots, size_t i)
{
    return &slots->slot[at(slots, i)].generation;
}

const char *slots_name(const struct slots *slots, size_t i)
{
    return names[at(slots, i)];
}

size_t slots_of(const struct slots *slots, uint64_t generation)
{
    size_t count = 0;
    for (size_t i = 0; i < SLOT_COUNT; i++) {
        if (slots->slot[i].valid && slots->slot[i].generation.number == generation)
            count++;
    }
    return count;
}

bool slots_open_state(const struct slots *slots, size_t i, const struct secret *node_key,
                      Postern__V1__NodeState **ret, Postern__V1__SlotPackets **ret_packets,
                      struct error *err)
{
    const struct slot *slot = &slots->slot[at(slots, i)];
    CLEANUP(secret_free_at) struct secret *plain = nullptr;
    CLEANUP(pb_free_at) ProtobufCMessage *state = nullptr;
    CLEANUP(pb_free_at) ProtobufCMessage *packets = nullptr;
    if (slot->ciphertext.len == 0)
        return error_set(err, ERROR_CONFLICT, "%s was opened already", slots_name(slots, i));
    if (!envelope_open(ENVELOPE_SLOT, node_key, buf_slice(&slot->header),
                       slice(slot->salt, ENVELOPE_SALT_SIZE), buf_slice(&slot->ciphertext), &plain,
                       err) ||
        !pb_unpack(&postern__v1__node_state__descriptor, secret_slice(plain), &pb_limits_strict,
                   &state, err) ||
        !pb_unpack(&postern__v1__slot_packets__descriptor, buf_slice(&slot->packets),
                   &pb_limits_strict, &packets, err))
        return error_prefix(err, "open %s", slot->path);
    *ret = (Postern__V1__NodeState *)TAKE(state);
    *ret_packets = (Postern__V1__SlotPackets *)TAKE(packets);
    return true;
}

void slots_let_go(struct slots *slots)
{
    for (size_t i = 0; i < SLOT_COUNT; i++) {
        buf_done(&slots->slot[i].header);
        buf_done(&slots->slot[i].ciphertext);
        buf_done(&slots->slot[i].packets);
    }
}

/* ---- Writing ---- */

static ProtobufCBinaryData bytes_of(const struct buf *buf)
{
    return (ProtobufCBinaryData){.data = buf->data, .len = buf->len};
}

static bool pack_header(const struct generation *generation, const char *agent_id,
                        uint64_t sequence, const uint8_t salt[static ENVELOPE_SALT_SIZE],
                        struct buf *ret, struct error *err)
{
    Postern__V1__SlotHeader header = POSTERN__V1__SLOT_HEADER__INIT;
    Postern__V1__SealedPcrs seal[PCR_BANKS_MAX];
    Postern__V1__SealedPcrs *seals[PCR_BANKS_MAX];
    for (size_t i = 0; i < generation->seal.count; i++) {
        seal[i] = (Postern__V1__SealedPcrs)POSTERN__V1__SEALED_PCRS__INIT;
        seal[i].bank = generation->seal.bank[i].alg;
        seal[i].mask = generation->seal.bank[i].mask;
        seals[i] = &seal[i];
    }
    header.sequence = sequence;
    header.generation = generation->number;
    header.limit = generation->limit;
    header.counter_name = bytes_of(&generation->counter_name);
    header.n_seal = generation->seal.count;
    header.seal = seals;
    header.object_public = bytes_of(&generation->object_public);
    header.object_private = bytes_of(&generation->object_private);
    header.salt = (ProtobufCBinaryData){.data = (uint8_t *)salt, .len = ENVELOPE_SALT_SIZE};
    header.agent_id = (char *)agent_id;
    header.has_offer = generation->offer.len > 0;
    header.offer = bytes_of(&generation->offer);
    return pb_pack(&header.base, SLOT_HEADER_MAX, ret, err);
}

/* A slot is read back into one struct secret. */
static bool pack_state(const Postern__V1__NodeState *state, struct buf *ret, struct error *err)
{
    struct error why;
    if (pb_pack(&state->base, SECRET_MAX, ret, &why))
        return true;
    if (why.class == ERROR_EXHAUSTED && !ret->starved)
        return error_set_reason(err, ERROR_EXHAUSTED, "NODE_STATE_TOO_LARGE",
                                "the heads of this node's secrets take more than the %zu bytes "
                                "that a slot can hold: fewer names, or shorter allow lists, fit",
                                SECRET_MAX);
    *err = why;
    return false;
}

/* Which slot is next: the older one, but see keep_other. */
static size_t next_slot(const struct slots *slots, uint64_t generation, bool keep_other)
{
    size_t newer = newest(slots), older = 1 - newer;
    const struct slot *slot = slots->slot;
    if (!slot[newer].valid)
        return newer;
    if (!keep_other || !slot[older].valid)
        return older;
    /* One of each: the one of this generation is rewritten in place. */
    if (slot[newer].generation.number == generation && slot[older].generation.number != generation)
        return newer;
    return older;
}

void slot_write_init(struct slot_write *write)
{
    *write = (struct slot_write){0};
    generation_init(&write->generation);
    buf_init(&write->file, SLOT_SIZE_MAX);
}

void slot_write_done(struct slot_write *write)
{
    generation_done(&write->generation);
    buf_done(&write->file);
    slot_write_init(write);
}

bool slots_prepare(const struct slots *slots, const struct generation *generation,
                   const char *agent_id, const Postern__V1__NodeState *state,
                   const Postern__V1__SlotPackets *packets, bool keep_other, struct slot_write *ret,
                   struct error *err)
{
    uint8_t salt[ENVELOPE_SALT_SIZE];
    CLEANUP(buf_done) struct buf header = {0};
    CLEANUP(buf_done) struct buf ciphertext = {0};
    CLEANUP(buf_done) struct buf packed = {0};
    CLEANUP(buf_done) struct buf plain = {0};
    CLEANUP(slot_write_done) struct slot_write write;
    buf_init(&header, SLOT_HEADER_MAX);
    buf_init(&ciphertext, SLOT_SIZE_MAX);
    buf_init(&packed, SLOT_SIZE_MAX);
    buf_init_wiping(&plain, SECRET_MAX);
    slot_write_init(&write);

    write.index = next_slot(slots, generation->number, keep_other);
    write.path = slots->slot[write.index].path;
    write.sequence = slots->slot[newest(slots)].sequence + 1;
    if (!random_bytes(salt, sizeof(salt), err) ||
        !pack_header(generation, agent_id, write.sequence, salt, &header, err) ||
        !pack_state(state, &plain, err) ||
        !envelope_seal(ENVELOPE_SLOT, generation->key, buf_slice(&header),
                       slice(salt, sizeof(salt)), buf_slice(&plain), &ciphertext, err) ||
        !pb_pack(&packets->base, SLOT_SIZE_MAX, &packed, err) ||
        !slot_encode(&(struct slot_parts){.header = buf_slice(&header),
                                          .ciphertext = buf_slice(&ciphertext),
                                          .packets = buf_slice(&packed)},
                     &write.file, err) ||
        !generation_copy(generation, &write.generation, err))
        return error_prefix(err, "write %s", write.path);
    slot_write_done(ret);
    *ret = write;
    slot_write_init(&write);
    return true;
}

bool slot_write_run(const struct slot_write *write, struct error *err)
{
    return file_write_atomic(write->path, buf_slice(&write->file), 0600, err) ||
           error_prefix(err, "write %s", write->path);
}

void slots_written(struct slots *slots, struct slot_write *write)
{
    struct slot *slot = &slots->slot[write->index];
    slot_forget(slot);
    generation_move(&slot->generation, &write->generation);
    slot->sequence = write->sequence;
    slot->valid = true;
    slot_write_done(write);
}
