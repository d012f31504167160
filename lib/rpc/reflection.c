#include "rpc/reflection.h"

#include "grpc/reflection/v1/reflection.pb-c.h"
#include "grpc/reflection/v1/reflection.set.h"
#include "grpc/reflection/v1alpha/reflection.set.h"

typedef Grpc__Reflection__V1__ServerReflectionRequest Request;
typedef Grpc__Reflection__V1__ServerReflectionResponse Response;

constexpr size_t SERVICES_SHOWN_MAX = 64; /* of ours */
/* Answers queued for one peer before it must read: a small request gets a large answer. */
constexpr size_t QUEUE_MAX = 64 * 1024;

/* ---- Descriptors on the wire: google/protobuf/descriptor.proto ---- */

/* Takes the next field off `rest`; values of length-delimited ones go to *ret_value, others are
 * empty. False at the end. The bytes are our own, so what is malformed simply ends the walk. */
static bool next_field(struct slice *rest, uint64_t *ret_number, struct slice *ret_value)
{
    uint64_t numbers[2] = {0};
    *ret_value = (struct slice){0};
    for (size_t i = 0; i < 2; i++) { /* the tag, then a length or a varint */
        size_t used = 0;
        uint8_t byte = 0x80;
        for (unsigned shift = 0; byte & 0x80 && shift < 64; shift += 7) {
            if (used == rest->len)
                return false;
            byte = rest->data[used++];
            numbers[i] |= (uint64_t)(byte & 0x7f) << shift;
        }
        *rest = slice(rest->data + used, rest->len - used);
        if (i == 0 && (numbers[0] & 7) != 0 && (numbers[0] & 7) != 2)
            return false; /* descriptors have varints and lengths only */
    }
    *ret_number = numbers[0] >> 3;
    if ((numbers[0] & 7) == 0)
        return true;
    if (numbers[1] > rest->len)
        return false;
    *ret_value = slice(rest->data, (size_t)numbers[1]);
    *rest = slice(rest->data + numbers[1], rest->len - (size_t)numbers[1]);
    return true;
}

static struct slice first_field(struct slice bytes, uint64_t wanted)
{
    uint64_t number;
    struct slice value;
    while (next_field(&bytes, &number, &value))
        if (number == wanted)
            return value;
    return (struct slice){0};
}

enum kind { KIND_FILE, KIND_MESSAGE, KIND_ENUM, KIND_SERVICE, KIND_LEAF };

/* Which fields of a descriptor declare something with a name, and of what kind it is. */
static const struct {
    enum kind parent;
    uint64_t number;
    enum kind child;
} declarations[] = {
    {KIND_FILE, 4, KIND_MESSAGE}, {KIND_FILE, 5, KIND_ENUM},    {KIND_FILE, 6, KIND_SERVICE},
    {KIND_FILE, 7, KIND_LEAF},    {KIND_MESSAGE, 2, KIND_LEAF}, {KIND_MESSAGE, 3, KIND_MESSAGE},
    {KIND_MESSAGE, 4, KIND_ENUM}, {KIND_MESSAGE, 6, KIND_LEAF}, {KIND_MESSAGE, 8, KIND_LEAF},
    {KIND_ENUM, 2, KIND_LEAF},    {KIND_SERVICE, 2, KIND_LEAF},
};

static bool declares(enum kind parent, struct slice bytes, struct slice symbol);

static bool declares_as(enum kind child, struct slice declared, struct slice symbol)
{
    struct slice name = first_field(declared, 1);
    if (name.len == 0 || symbol.len < name.len || memcmp(symbol.data, name.data, name.len) != 0)
        return false;
    if (symbol.len == name.len)
        return true;
    return symbol.data[name.len] == '.' &&
           declares(child, declared, slice(symbol.data + name.len + 1, symbol.len - name.len - 1));
}

/* Whether the descriptor declares `symbol`, whose name is relative to it. The recursion is as deep
 * as our own messages are nested. */
static bool declares(enum kind parent, struct slice bytes, struct slice symbol)
{
    uint64_t number;
    struct slice value;
    while (next_field(&bytes, &number, &value))
        for (size_t i = 0; i < ARRAY_LEN(declarations); i++)
            if (declarations[i].parent == parent && declarations[i].number == number &&
                declares_as(declarations[i].child, value, symbol))
                return true;
    return false;
}

static bool file_is(struct slice file, struct slice name)
{
    return slice_equal(first_field(file, 1), name);
}

static bool file_has(struct slice file, struct slice symbol)
{
    struct slice package = first_field(file, 2);
    if (package.len == 0)
        return declares(KIND_FILE, file, symbol);
    return symbol.len > package.len + 1 && memcmp(symbol.data, package.data, package.len) == 0 &&
           symbol.data[package.len] == '.' &&
           declares(KIND_FILE, file,
                    slice(symbol.data + package.len + 1, symbol.len - package.len - 1));
}

/* The first file of any service for which `match` is true; empty if there is none. */
static struct slice find_file(const struct rpc_server *server,
                              bool (*match)(struct slice file, struct slice name), const char *name)
{
    const struct rpc_service *service;
    for (size_t i = 0; (service = rpc_server_service(server, i)); i++) {
        struct slice set =
            service->files ? slice(service->files, *service->files_len) : (struct slice){0};
        uint64_t number;
        struct slice file;
        while (next_field(&set, &number, &file))
            if (number == 1 && match(file, slice_str(name)))
                return file;
    }
    return (struct slice){0};
}

/* ---- Answers ---- */

static bool answer_error(struct rpc_call *call, Response response, const char *what,
                         struct error *err)
{
    Grpc__Reflection__V1__ErrorResponse error = GRPC__REFLECTION__V1__ERROR_RESPONSE__INIT;
    error.error_code = error_grpc_status(ERROR_NOT_FOUND);
    error.error_message = (char *)(uintptr_t)what;
    response.message_response_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_ERROR_RESPONSE;
    response.error_response = &error;
    return rpc_send(call, &response.base, err);
}

static bool answer_file(struct rpc_call *call, Response response, struct slice file,
                        struct error *err)
{
    Grpc__Reflection__V1__FileDescriptorResponse files =
        GRPC__REFLECTION__V1__FILE_DESCRIPTOR_RESPONSE__INIT;
    ProtobufCBinaryData bytes = {file.len, (uint8_t *)(uintptr_t)file.data};
    if (file.len == 0)
        return answer_error(call, response, "there is no such file or symbol", err);
    files.file_descriptor_proto = &bytes;
    files.n_file_descriptor_proto = 1;
    response.message_response_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_FILE_DESCRIPTOR_RESPONSE;
    response.file_descriptor_response = &files;
    return rpc_send(call, &response.base, err);
}

static bool answer_services(struct rpc_call *call, Response response,
                            const struct rpc_server *server, struct error *err)
{
    Grpc__Reflection__V1__ListServiceResponse list =
        GRPC__REFLECTION__V1__LIST_SERVICE_RESPONSE__INIT;
    Grpc__Reflection__V1__ServiceResponse items[SERVICES_SHOWN_MAX];
    Grpc__Reflection__V1__ServiceResponse *pointers[SERVICES_SHOWN_MAX];
    const struct rpc_service *service;
    for (; list.n_service < SERVICES_SHOWN_MAX &&
           (service = rpc_server_service(server, list.n_service));
         list.n_service++) {
        grpc__reflection__v1__service_response__init(&items[list.n_service]);
        items[list.n_service].name = (char *)(uintptr_t)service->name;
        pointers[list.n_service] = &items[list.n_service];
    }
    list.service = pointers;
    response.message_response_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_LIST_SERVICES_RESPONSE;
    response.list_services_response = &list;
    return rpc_send(call, &response.base, err);
}

/* None of a type that exists. */
static bool answer_extensions(struct rpc_call *call, Response response,
                              const struct rpc_server *server, const char *type, struct error *err)
{
    Grpc__Reflection__V1__ExtensionNumberResponse none =
        GRPC__REFLECTION__V1__EXTENSION_NUMBER_RESPONSE__INIT;
    if (find_file(server, file_has, type).len == 0)
        return answer_error(call, response, "there is no such type", err);
    none.base_type_name = (char *)(uintptr_t)type;
    response.message_response_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_ALL_EXTENSION_NUMBERS_RESPONSE;
    response.all_extension_numbers_response = &none;
    return rpc_send(call, &response.base, err);
}

static bool answer(struct rpc_call *call, const struct rpc_server *server, const Request *request,
                   struct error *err)
{
    Response response = GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__INIT;
    response.valid_host = request->host;
    response.original_request = (Request *)(uintptr_t)request;
    switch (request->message_request_case) {
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_BY_FILENAME:
        return answer_file(call, response, find_file(server, file_is, request->file_by_filename),
                           err);
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_SYMBOL:
        return answer_file(call, response,
                           find_file(server, file_has, request->file_containing_symbol), err);
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_LIST_SERVICES:
        return answer_services(call, response, server, err);
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_ALL_EXTENSION_NUMBERS_OF_TYPE:
        return answer_extensions(call, response, server, request->all_extension_numbers_of_type,
                                 err);
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_EXTENSION:
        return answer_error(call, response, "there are no extensions", err);
    default:
        return error_set(err, ERROR_INVALID, "the request asks for nothing");
    }
}

/* ---- The services. Both versions have the same messages on the wire, so one set of types does. ---- */

static void on_half_closed(void *arg, struct rpc_call *call)
{
    (void)arg;
    rpc_finish(call);
}

static void on_writable(void *arg, struct rpc_call *call)
{
    (void)arg;
    rpc_call_resume(call);
}

static void on_cancelled(void *arg, struct rpc_call *call, const struct error *why)
{
    (void)arg;
    rpc_fail(call, why);
}

static const struct rpc_call_events events = {
    .half_closed = on_half_closed,
    .writable = on_writable,
    .cancelled = on_cancelled,
};

static bool serve(const void *handlers, void *arg, struct rpc_call *call,
                  const ProtobufCMessage *request)
{
    (void)handlers;
    (void)request;
    rpc_call_on(call, &events, arg);
    return true;
}

static void serve_message(const void *handlers, void *arg, struct rpc_call *call,
                          const ProtobufCMessage *message)
{
    struct error err;
    (void)handlers;
    if (!answer(call, arg, (const Request *)message, &err))
        rpc_fail(call, &err);
    else if (rpc_call_queued(call) > QUEUE_MAX)
        rpc_call_pause(call); /* until it has read */
}

#define METHOD(service)                                                                            \
    {                                                                                              \
        .name = "ServerReflectionInfo",                                                            \
        .path = "/" service "/ServerReflectionInfo",                                               \
        .kind = RPC_BIDI,                                                                          \
        .request = &grpc__reflection__v1__server_reflection_request__descriptor,                   \
        .response = &grpc__reflection__v1__server_reflection_response__descriptor,                 \
        .serve = serve,                                                                            \
        .serve_message = serve_message,                                                            \
    }

static const struct rpc_method methods[] = {
    METHOD("grpc.reflection.v1.ServerReflection"),
    METHOD("grpc.reflection.v1alpha.ServerReflection"),
};

static const struct rpc_service services[] = {
    {.name = "grpc.reflection.v1.ServerReflection",
     .methods = &methods[0],
     .method_count = 1,
     .files = grpc_reflection_v1_reflection_set,
     .files_len = &grpc_reflection_v1_reflection_set_len},
    {.name = "grpc.reflection.v1alpha.ServerReflection",
     .methods = &methods[1],
     .method_count = 1,
     .files = grpc_reflection_v1alpha_reflection_set,
     .files_len = &grpc_reflection_v1alpha_reflection_set_len},
};

bool rpc_reflection_add(struct rpc_server *server, struct error *err)
{
    for (size_t i = 0; i < ARRAY_LEN(services); i++)
        if (!rpc_server_add(server, &services[i], nullptr, server, err))
            return false;
    return true;
}
