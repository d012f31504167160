/*
 * Our side of differential.py: for each line "MESSAGE HEX" on standard input one line on standard
 * output, "ok HEX-OF-WHAT-WE-PACK JSON" or "no CLASS: TEXT". JSON is "-" where there is none.
 */
#include "base/mem.h"
#include "base/text.h"
#include "pb/json.h"
#include "pbtest/real.pb-c.h"
#include "pbtest/three.pb-c.h"
#include "pbtest/two.pb-c.h"

#include <stdio.h>
#include <stdlib.h>

constexpr size_t LINE_MAX_BYTES = 1024 * 1024;

static const ProtobufCMessageDescriptor *descriptor_named(const char *name)
{
    static const ProtobufCMessageDescriptor *const ALL[] = {
        &pbtest__three__descriptor, &pbtest__two__descriptor, &pbtest__merge__descriptor,
        &pbtest__real__descriptor};

    for (size_t i = 0; i < ARRAY_LEN(ALL); i++)
        if (strcmp(ALL[i]->short_name, name) == 0)
            return ALL[i];
    fprintf(stderr, "differential: no message %s\n", name);
    exit(2);
}

static bool answer(const ProtobufCMessageDescriptor *descriptor, const char *hex, struct error *err)
{
    CLEANUP(pb_free_at) ProtobufCMessage *message = nullptr;
    CLEANUP(buf_done) struct buf in;
    CLEANUP(buf_done) struct buf out;
    CLEANUP(buf_done) struct buf json;

    buf_init(&in, LINE_MAX_BYTES);
    buf_init(&out, LINE_MAX_BYTES);
    buf_init(&json, 16 * LINE_MAX_BYTES);
    if (!hex_decode(hex, &in, err) ||
        !pb_unpack(descriptor, buf_slice(&in), nullptr, &message, err) ||
        !pb_pack(message, LINE_MAX_BYTES, &out, err))
        return false;
    CLEANUP(mem_free_at) char *packed = mem_new(2 * out.len + 1, 1);
    if (!packed)
        return error_set_memory(err);
    printf("ok %s ", hex_encode(buf_slice(&out), packed));
    if (descriptor == &pbtest__real__descriptor)
        printf("-\n");
    else if (!pb_to_json(message, &json, err))
        return false;
    else
        printf("%.*s\n", (int)json.len, (const char *)json.data);
    return true;
}

int main(void)
{
    char *line = nullptr;
    size_t room = 0;

    while (getline(&line, &room, stdin) > 0) {
        struct error err = {0};
        char *hex = strchr(line, ' ');
        if (!hex)
            return 2;
        *hex++ = '\0';
        hex[strcspn(hex, "\n")] = '\0';
        if (!answer(descriptor_named(line), hex, &err))
            printf("no %s: %s\n", error_class_name(err.class), err.message);
        fflush(stdout);
    }
    free(line);
    return 0;
}
