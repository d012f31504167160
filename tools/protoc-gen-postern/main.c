/*
 * protoc-gen-postern: reads a CodeGeneratorRequest on standard input, writes a
 * CodeGeneratorResponse on standard output (google/protobuf/compiler/plugin.proto). For each file
 * to generate that has services: NAME.rpc.h and NAME.rpc.c.
 */
#include "check.h"
#include "names.h"
#include "stubs.h"

#include "base/mem.h"
#include "pb/message.h"

#include "google/protobuf/compiler/plugin.pb-c.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

typedef Google__Protobuf__Compiler__CodeGeneratorRequest Request;
typedef Google__Protobuf__Compiler__CodeGeneratorResponse Response;
typedef Google__Protobuf__Compiler__CodeGeneratorResponse__File File;
typedef Google__Protobuf__FileDescriptorProto FileProto;

constexpr size_t REQUEST_MAX = 64 * 1024 * 1024; /* protoc is our own, but a disk may be full */
constexpr size_t OUTPUT_MAX = 16 * 1024 * 1024;

static bool read_all(int fd, struct buf *ret, struct error *err)
{
    for (;;) {
        uint8_t chunk[65536];
        ssize_t n = read(fd, chunk, sizeof(chunk));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set_errno(err, errno, "read the request");
        if (n == 0)
            return buf_ok(ret, err);
        buf_put(ret, slice(chunk, (size_t)n));
    }
}

static bool write_all(int fd, struct slice bytes, struct error *err)
{
    while (bytes.len > 0) {
        ssize_t n = write(fd, bytes.data, bytes.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set_errno(err, errno, "write the response");
        bytes = slice(bytes.data + n, bytes.len - (size_t)n);
    }
    return true;
}

static const FileProto *find_file(const Request *request, const char *name)
{
    for (size_t i = 0; i < request->n_proto_file; i++) {
        if (strcmp(request->proto_file[i]->name, name) == 0)
            return request->proto_file[i];
    }
    return nullptr;
}

/* Generates one file by `write` and adds it to the response, which owns it. */
static bool add_output(const FileProto *proto, const char *suffix,
                       bool (*write)(const FileProto *, struct buf *, struct error *),
                       Response *response, struct error *err)
{
    CLEANUP(buf_done) struct buf text;
    buf_init(&text, OUTPUT_MAX);
    if (!write(proto, &text, err))
        return false;
    struct slice stem = name_stem(proto->name);
    CLEANUP(buf_done) struct buf name;
    buf_init(&name, OUTPUT_MAX);
    buf_put_format(&name, "%.*s%s", (int)stem.len, (const char *)stem.data, suffix);
    buf_put_u8(&name, 0);
    buf_put_u8(&text, 0);
    File *file = mem_new(1, sizeof(*file));
    if (!file || !buf_ok(&name, err) || !buf_ok(&text, err)) {
        mem_free(file);
        return error_set_memory(err);
    }
    *file = (File)GOOGLE__PROTOBUF__COMPILER__CODE_GENERATOR_RESPONSE__FILE__INIT;
    file->name = (char *)TAKE(name.data);
    file->content = (char *)TAKE(text.data);
    response->file[response->n_file++] = file;
    return true;
}

static void response_clear(Response *response)
{
    for (size_t i = 0; i < response->n_file; i++) {
        mem_free(response->file[i]->name);
        mem_free(response->file[i]->content);
        mem_free(response->file[i]);
    }
    response->n_file = 0;
}

static bool generate(const Request *request, Response *response, struct error *err)
{
    response->file = mem_new(2 * request->n_file_to_generate, sizeof(File *));
    if (!response->file)
        return error_set_memory(err);
    for (size_t i = 0; i < request->n_file_to_generate; i++) {
        const FileProto *file = find_file(request, request->file_to_generate[i]);
        if (!file)
            return error_set(err, ERROR_INVALID, "protoc did not send \"%s\"",
                             request->file_to_generate[i]);
        if (file->n_service == 0)
            continue;
        if (!check_file(file, err) || !add_output(file, ".rpc.h", stubs_header, response, err) ||
            !add_output(file, ".rpc.c", stubs_source, response, err))
            return error_prefix(err, "%s", file->name);
    }
    return true;
}

/* A request that can't be fulfilled is said to protoc, which prints it beside the file's name; false
 * means that we could not even speak with protoc. */
static bool run(struct error *err)
{
    CLEANUP(buf_done) struct buf input;
    buf_init(&input, REQUEST_MAX);
    if (!read_all(STDIN_FILENO, &input, err))
        return false;
    CLEANUP(pb_free_at) ProtobufCMessage *message = nullptr;
    const struct pb_limits limits = {.size = REQUEST_MAX,
                                     .nesting = PB_NESTING_MAX,
                                     .memory = SIZE_MAX / 2,
                                     .elements = SIZE_MAX};
    if (!pb_unpack(&google__protobuf__compiler__code_generator_request__descriptor,
                   buf_slice(&input), &limits, &message, err))
        return error_prefix(err, "read the request");

    Response response = GOOGLE__PROTOBUF__COMPILER__CODE_GENERATOR_RESPONSE__INIT;
    struct error failure = {0};
    if (!generate((const Request *)message, &response, &failure)) {
        response_clear(&response);
        response.error = failure.message;
    }
    CLEANUP(buf_done) struct buf output;
    buf_init(&output, REQUEST_MAX);
    bool ok = pb_pack(&response.base, REQUEST_MAX, &output, err) &&
              write_all(STDOUT_FILENO, buf_slice(&output), err);
    response_clear(&response);
    mem_free(response.file);
    return ok;
}

int main(void)
{
    struct error err = {0};
    if (run(&err))
        return 0;
    fprintf(stderr, "protoc-gen-postern: %s\n", err.message);
    return error_exit_code(err.class);
}
