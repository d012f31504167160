#include "pb/message.h"

#include "base/mem.h"
#include "base/text.h"
#include "pb/field.h"
#include "pb/prepass.h"

const struct pb_limits pb_limits_rpc = {
    .size = PB_SIZE_MAX,
    .nesting = PB_NESTING_MAX,
    .memory = PB_MEMORY_MAX,
    .elements = PB_ELEMENTS_MAX,
};

const struct pb_limits pb_limits_strict = {
    .size = PB_SIZE_MAX,
    .nesting = PB_NESTING_MAX,
    .memory = PB_MEMORY_MAX,
    .elements = PB_ELEMENTS_MAX,
    .refuse_unknown = true,
};

/* ── Memory: each block knows its size, so that all of it can be wiped ─────────────────────────── */

struct block {
    alignas(max_align_t) size_t size;
};
static_assert(sizeof(struct block) == PREPASS_BLOCK_HEADER);

/* What is left of the pre-pass's sum. Cumulative: what unpack frees on its way isn't given back. */
struct budget {
    size_t left;
    bool no_memory;
};

static void *block_new(void *budget_at, size_t size)
{
    struct budget *budget = budget_at;

    if (size > budget->left || prepass_block(size) > budget->left)
        return nullptr;
    struct block *block = mem_new(1, prepass_block(size));
    if (!block) {
        budget->no_memory = true;
        return nullptr;
    }
    budget->left -= prepass_block(size);
    block->size = size;
    return block + 1;
}

static void block_free([[maybe_unused]] void *budget_at, void *object)
{
    if (!object)
        return;
    struct block *block = (struct block *)object - 1;
    mem_wipe(object, block->size);
    mem_free(block);
}

/* ── Unpack ───────────────────────────────────────────────────────────────────────────────────── */

bool pb_unpack(const ProtobufCMessageDescriptor *descriptor, struct slice bytes,
               const struct pb_limits *limits, ProtobufCMessage **ret_message, struct error *err)
{
    struct budget budget = {0};
    ProtobufCAllocator allocator = {block_new, block_free, &budget};

    if (!prepass(descriptor, bytes, limits ? limits : &pb_limits_rpc, &budget.left, err))
        return false;
    ProtobufCMessage *message =
        protobuf_c_message_unpack(descriptor, &allocator, bytes.len, bytes.data);
    if (!message && budget.no_memory)
        return error_set_memory(err);
    if (!message)
        return error_set(err, ERROR_INTERNAL, "protobuf-c refuses a %s that the pre-pass accepted",
                         descriptor->name);
    *ret_message = message;
    return true;
}

ProtobufCMessage *pb_free(ProtobufCMessage *message)
{
    ProtobufCAllocator allocator = {.free = block_free};

    if (message)
        protobuf_c_message_free_unpacked(message, &allocator);
    return nullptr;
}

void pb_free_at(void *pointer_to_pointer)
{
    ProtobufCMessage **at = (ProtobufCMessage **)pointer_to_pointer;

    *at = pb_free(*at);
}

/* ── Pack ─────────────────────────────────────────────────────────────────────────────────────── */

/* protobuf-c's own check takes the members of a oneof for one another and follows a string as a
 * message. This one also refuses what our own peers would. */
static bool message_sound(const ProtobufCMessage *message, size_t nesting, const char **ret_field)
{
    const ProtobufCMessageDescriptor *descriptor = message->descriptor;

    for (unsigned i = 0; i < descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &descriptor->fields[i];
        size_t n = field_count(message, field);
        bool sound = n > 0 || field->label != PROTOBUF_C_LABEL_REQUIRED;
        *ret_field = field->name;
        for (size_t j = 0; j < n && sound; j++) {
            struct value value = field_value(message, field, j);
            if (value.kind == VALUE_STRING)
                sound = value.bytes.data ? utf8_valid(value.bytes)
                                         : field->label == PROTOBUF_C_LABEL_NONE;
            else if (value.kind == VALUE_BYTES)
                sound = value.bytes.data || value.bytes.len == 0;
            else if (value.kind == VALUE_MESSAGE)
                sound = value.message && nesting < PB_NESTING_MAX &&
                        message_sound(value.message, nesting + 1, ret_field);
        }
        if (!sound)
            return false;
    }
    return true;
}

bool pb_pack(const ProtobufCMessage *message, size_t max, struct buf *ret, struct error *err)
{
    const char *field = "";

    if (!message_sound(message, 1, &field))
        return error_set(err, ERROR_INTERNAL,
                         "a %s can't be sent: %s is missing, not UTF-8 or nested too deep",
                         message->descriptor->short_name, field);
    size_t size = protobuf_c_message_get_packed_size(message);
    if (size > max)
        return error_set(err, ERROR_EXHAUSTED,
                         "a message of %zu bytes is larger than the limit of %zu", size, max);
    uint8_t *at = buf_extend(ret, size);
    if (!at)
        return buf_ok(ret, err);
    protobuf_c_message_pack(message, at);
    return true;
}
