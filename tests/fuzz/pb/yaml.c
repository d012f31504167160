/*
 * pb_from_yaml. The first byte chooses the message. What is accepted and can be written must be read
 * again as what writes the same; what is INVALID names the file; every path can be located.
 */
#include "fuzz/fuzz.h"

#include "pb/yaml.h"
#include "pbtest/three.pb-c.h"
#include "pbtest/two.pb-c.h"

static void write_check(const ProtobufCMessage *message)
{
    struct error err = {0};
    ProtobufCMessage *again = nullptr;
    CLEANUP(buf_done) struct buf first;
    CLEANUP(buf_done) struct buf second;

    buf_init(&first, 16 * PB_YAML_MAX);
    buf_init(&second, 16 * PB_YAML_MAX);
    /* A long key has no canonical form; a deep message may be larger by its indents. */
    if (!pb_to_yaml(message, &first, &err) || buf_slice(&first).len > PB_YAML_MAX)
        return;
    FUZZ_CHECK(pb_from_yaml(message->descriptor, "again.yaml", buf_slice(&first), &again, &err));
    FUZZ_CHECK(pb_to_yaml(again, &second, &err));
    FUZZ_CHECK(slice_equal(buf_slice(&first), buf_slice(&second)));
    pb_free(again);
}

enum fuzz_verdict fuzz_one(struct slice input)
{
    struct error err = {0};
    ProtobufCMessage *message = nullptr;

    if (input.len == 0)
        return FUZZ_REFUSED;
    struct slice text = slice(input.data + 1, input.len - 1);
    const ProtobufCMessageDescriptor *descriptor =
        (input.data[0] & 1) != 0 ? &pbtest__two__descriptor : &pbtest__three__descriptor;
    if (!pb_from_yaml(descriptor, "fuzz.yaml", text, &message, &err)) {
        FUZZ_CHECK(err.class == ERROR_INVALID || err.class == ERROR_EXHAUSTED);
        FUZZ_CHECK(strncmp(err.message, "fuzz.yaml:", 10) == 0);
        FUZZ_CHECK(!pb_yaml_locate("fuzz.yaml", text, &err));
        return FUZZ_REFUSED;
    }
    write_check(message);
    pb_free(message);
    return FUZZ_ACCEPTED;
}
