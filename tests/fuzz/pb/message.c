/*
 * pb_unpack. The first byte chooses the message and the strictness. What is accepted must pack, and
 * unpack again to the same; a refusal must never be that the pre-pass and protobuf-c disagree.
 */
#include "fuzz/fuzz.h"

#include "pb/json.h"
#include "pb/message.h"
#include "pbtest/real.pb-c.h"
#include "pbtest/three.pb-c.h"
#include "pbtest/two.pb-c.h"

static void pack_check(const ProtobufCMessage *message)
{
    struct error err = {0};
    ProtobufCMessage *again = nullptr;
    CLEANUP(buf_done) struct buf first;
    CLEANUP(buf_done) struct buf second;

    buf_init(&first, 2 * PB_SIZE_MAX);
    buf_init(&second, 2 * PB_SIZE_MAX);
    FUZZ_CHECK(pb_pack(message, 2 * PB_SIZE_MAX, &first, &err));
    FUZZ_CHECK(pb_unpack(message->descriptor, buf_slice(&first), nullptr, &again, &err));
    FUZZ_CHECK(pb_pack(again, 2 * PB_SIZE_MAX, &second, &err));
    FUZZ_CHECK(slice_equal(buf_slice(&first), buf_slice(&second)));
    pb_free(again);
}

static void json_check(const ProtobufCMessage *message)
{
    struct error err = {0};
    CLEANUP(buf_done) struct buf json;

    buf_init(&json, 64 * PB_SIZE_MAX);
    FUZZ_CHECK(pb_to_json(message, &json, &err) ||
               message->descriptor == &pbtest__real__descriptor);
}

enum fuzz_verdict fuzz_one(struct slice input)
{
    static const ProtobufCMessageDescriptor *const DESCRIPTORS[] = {
        &pbtest__three__descriptor, &pbtest__two__descriptor, &pbtest__merge__descriptor,
        &pbtest__real__descriptor};
    struct error err = {0};
    ProtobufCMessage *message = nullptr;

    if (input.len == 0)
        return FUZZ_REFUSED;
    const ProtobufCMessageDescriptor *descriptor = DESCRIPTORS[input.data[0] & 3];
    bool strict = (input.data[0] & 4) != 0;
    if (!pb_unpack(descriptor, slice(input.data + 1, input.len - 1),
                   strict ? &pb_limits_strict : &pb_limits_rpc, &message, &err)) {
        FUZZ_CHECK(err.class == ERROR_INVALID || err.class == ERROR_EXHAUSTED);
        return FUZZ_REFUSED;
    }
    FUZZ_CHECK(!strict || message->n_unknown_fields == 0);
    pack_check(message);
    json_check(message);
    pb_free(message);
    return FUZZ_ACCEPTED;
}
