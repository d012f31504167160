#include "generation.h"

#include "base/mem.h"
#include "tpmwire/hash.h"

void generation_init(struct generation *generation)
{
    *generation = (struct generation){0};
    buf_init(&generation->counter_name, GENERATION_PART_MAX);
    buf_init(&generation->object_public, GENERATION_PART_MAX);
    buf_init(&generation->object_private, GENERATION_PART_MAX);
    buf_init(&generation->offer, GENERATION_OFFER_MAX);
    buf_init(&generation->duplicate, GENERATION_PART_MAX);
    buf_init(&generation->seed, GENERATION_PART_MAX);
}

void generation_done(struct generation *generation)
{
    buf_done(&generation->counter_name);
    buf_done(&generation->object_public);
    buf_done(&generation->object_private);
    buf_done(&generation->offer);
    buf_done(&generation->duplicate);
    buf_done(&generation->seed);
    secret_free(generation->key);
    generation_init(generation);
}

void generation_move(struct generation *to, struct generation *from)
{
    generation_done(to);
    *to = *from;
    generation_init(from);
}

/* Adds a bank; false if it can't be. */
static bool seal_add(struct pcr_selection *seal, uint32_t bank, uint32_t mask)
{
    if (seal->count == PCR_BANKS_MAX || bank > UINT16_MAX ||
        tpm_hash_size((TPMI_ALG_HASH)bank) == 0 || mask >= UINT32_C(1) << PCR_COUNT)
        return false;
    for (size_t i = 0; i < seal->count; i++) {
        if (seal->bank[i].alg == bank)
            return false;
    }
    seal->bank[seal->count++] = (struct pcr_bank){.alg = (TPMI_ALG_HASH)bank, .mask = mask};
    return true;
}

bool selection_from_wire(Postern__V1__PcrSelection *const *wire, size_t count,
                         struct pcr_selection *ret, struct error *err)
{
    struct pcr_selection selection = {0};
    for (size_t i = 0; i < count; i++) {
        if (!seal_add(&selection, wire[i]->bank, wire[i]->mask))
            return error_set(err, ERROR_INVALID, "a selection of PCRs that can't be");
    }
    *ret = selection;
    return true;
}

bool generation_copy(const struct generation *from, struct generation *ret, struct error *err)
{
    CLEANUP(generation_done) struct generation copy;
    generation_init(&copy);
    copy.number = from->number;
    copy.limit = from->limit;
    copy.seal = from->seal;
    buf_put(&copy.counter_name, buf_slice(&from->counter_name));
    buf_put(&copy.object_public, buf_slice(&from->object_public));
    buf_put(&copy.object_private, buf_slice(&from->object_private));
    buf_put(&copy.offer, buf_slice(&from->offer));
    if (!buf_ok(&copy.counter_name, err) || !buf_ok(&copy.object_public, err) ||
        !buf_ok(&copy.object_private, err) || !buf_ok(&copy.offer, err))
        return false;
    generation_move(ret, &copy);
    return true;
}

static void put(struct buf *to, ProtobufCBinaryData from)
{
    buf_put(to, slice(from.data, from.len));
}

/* INVALID where one is empty or did not fit. */
static bool check_parts(const struct generation *generation, struct error *err)
{
    const struct buf *parts[] = {&generation->counter_name, &generation->object_public};
    if (generation->number == 0 || pcr_selection_size(&generation->seal) == 0)
        return error_set(err, ERROR_INVALID, "a generation without number or sealed PCRs");
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        if (!buf_ok(parts[i], err) || parts[i]->len == 0)
            return error_set(err, ERROR_INVALID,
                             "generation %llu has structures of sizes that can't be",
                             (unsigned long long)generation->number);
    }
    return true;
}

bool generation_from_body(const Postern__V1__GenerationBody *body, struct generation *ret,
                          struct error *err)
{
    CLEANUP(generation_done) struct generation generation;
    generation_init(&generation);
    generation.number = body->generation;
    generation.limit = body->limit;
    if (!selection_from_wire(body->seal, body->n_seal, &generation.seal, err))
        return error_prefix(err, "a generation is sealed to");
    put(&generation.counter_name, body->counter_name);
    put(&generation.object_public, body->object_public);
    put(&generation.duplicate, body->duplicate);
    put(&generation.seed, body->seed);
    if (!check_parts(&generation, err) || !buf_ok(&generation.duplicate, err) ||
        !buf_ok(&generation.seed, err))
        return false;
    generation_move(ret, &generation);
    return true;
}

bool generation_from_slot(const Postern__V1__SlotHeader *header, struct generation *ret,
                          struct error *err)
{
    CLEANUP(generation_done) struct generation generation;
    generation_init(&generation);
    generation.number = header->generation;
    generation.limit = header->limit;
    for (size_t i = 0; i < header->n_seal; i++) {
        if (!seal_add(&generation.seal, header->seal[i]->bank, header->seal[i]->mask))
            return error_set(err, ERROR_INVALID, "a slot is sealed to PCRs that can't be");
    }
    put(&generation.counter_name, header->counter_name);
    put(&generation.object_public, header->object_public);
    put(&generation.object_private, header->object_private);
    if (header->has_offer)
        put(&generation.offer, header->offer);
    if (!check_parts(&generation, err) || !buf_ok(&generation.object_private, err) ||
        !buf_ok(&generation.offer, err))
        return false;
    generation_move(ret, &generation);
    return true;
}
