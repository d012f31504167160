/*
 * What the stubs of tools/protoc-gen-postern are made of: tables that describe a service, and the
 * untyped functions under the typed ones. Programs use the generated, typed names; only generated
 * code and services without stubs name what is declared here.
 *
 * For every NAME.proto with services the plugin writes NAME.rpc.h and NAME.rpc.c. A service
 * SecretService gets the prefix secret_service_. Per kind of method it writes:
 *
 *   kind           members of `struct SERVICE_handlers`     functions for the server
 *   unary          m(arg, call, request)                    m_reply(call, response)
 *   server stream  m(arg, call, request)                    m_send_response(call, response, err)
 *   client stream  m(arg, call), m_message(arg, call, msg)  m_reply(call, response)
 *   bidirectional  m(arg, call), m_message(arg, call, msg)  m_send_response(call, response, err)
 *
 *   kind           functions for the client
 *   unary          m(client, options, request, on_done, arg), m_sync(…)
 *   server stream  m(client, options, request, on_message, events, arg)
 *   client stream  m(client, options, on_done, events, arg), m_send_request(call, request, err)
 *   bidirectional  m(client, options, on_message, events, arg), m_send_request(call, request, err)
 *
 * and common to all: rpc_fail, rpc_finish, rpc_call_on, rpc_call_cancel … of rpc/call.h.
 *
 * ---- Generated header, for `rpc Get(GetRequest) returns (GetResponse);` and
 * ---- `rpc Attest(stream Up) returns (stream Down);` of postern.v1.Example:
 *
 *     extern const struct rpc_service example_definition;
 *
 *     // Handlers of the server; a null member answers UNIMPLEMENTED.
 *     struct example_handlers {
 *         void (*get)(void *arg, struct rpc_call *call, const Postern__V1__GetRequest *request);
 *         void (*attest)(void *arg, struct rpc_call *call);
 *         void (*attest_message)(void *arg, struct rpc_call *call,
 *                                const Postern__V1__Up *message);
 *     };
 *     [[nodiscard]] bool example_register(struct rpc_server *server,
 *                                         const struct example_handlers *handlers, void *arg,
 *                                         struct error *err);
 *     void example_get_reply(struct rpc_call *call, const Postern__V1__GetResponse *response);
 *     [[nodiscard]] bool example_attest_send_response(struct rpc_call *call,
 *                                                     const Postern__V1__Down *response,
 *                                                     struct error *err);
 *
 *     // Client.
 *     typedef void example_get_done(void *arg, const Postern__V1__GetResponse *response,
 *                                   const struct error *err);
 *     struct rpc_call *example_get(struct rpc_client *client,
 *                                  const struct rpc_call_options *options,
 *                                  const Postern__V1__GetRequest *request,
 *                                  example_get_done *on_done, void *arg);
 *     [[nodiscard]] bool example_get_sync(struct rpc_client *client,
 *                                         const struct rpc_call_options *options,
 *                                         const Postern__V1__GetRequest *request,
 *                                         Postern__V1__GetResponse **ret, struct error *err);
 *     typedef void example_attest_response(void *arg, struct rpc_call *call,
 *                                          const Postern__V1__Down *message);
 *     struct rpc_call *example_attest(struct rpc_client *client,
 *                                     const struct rpc_call_options *options,
 *                                     example_attest_response *on_message,
 *                                     const struct rpc_call_events *events, void *arg);
 *     [[nodiscard]] bool example_attest_send_request(struct rpc_call *call,
 *                                                    const Postern__V1__Up *request,
 *                                                    struct error *err);
 *
 * ---- Generated source:
 *
 *     static bool get_serve(const void *handlers, void *arg, struct rpc_call *call,
 *                           const ProtobufCMessage *request)
 *     {
 *         const struct example_handlers *h = handlers;
 *         if (!h->get)
 *             return false;
 *         h->get(arg, call, (const Postern__V1__GetRequest *)request);
 *         return true;
 *     }
 *     static void get_deliver(rpc_function *typed, void *arg, struct rpc_call *call,
 *                             const ProtobufCMessage *message, const struct error *err)
 *     {
 *         (void)call;
 *         ((example_get_done *)typed)(arg, (const Postern__V1__GetResponse *)message, err);
 *     }
 *     static bool attest_serve(const void *handlers, void *arg, struct rpc_call *call,
 *                              const ProtobufCMessage *request)
 *     {
 *         const struct example_handlers *h = handlers;
 *         (void)request;                        // null for streams of requests
 *         if (!h->attest || !h->attest_message)
 *             return false;
 *         h->attest(arg, call);
 *         return true;
 *     }
 *     static void attest_serve_message(const void *handlers, void *arg, struct rpc_call *call,
 *                                      const ProtobufCMessage *message)
 *     {
 *         const struct example_handlers *h = handlers;
 *         h->attest_message(arg, call, (const Postern__V1__Up *)message);
 *     }
 *     static void attest_deliver(rpc_function *typed, void *arg, struct rpc_call *call,
 *                                const ProtobufCMessage *message, const struct error *err)
 *     {
 *         (void)err;                            // streams end by events->closed
 *         ((example_attest_response *)typed)(arg, call, (const Postern__V1__Down *)message);
 *     }
 *     static const struct rpc_method example_methods[] = {
 *         {.name = "Get", .path = "/postern.v1.Example/Get", .kind = RPC_UNARY,
 *          .request = &postern__v1__get_request__descriptor,
 *          .response = &postern__v1__get_response__descriptor,
 *          .serve = get_serve, .deliver = get_deliver},
 *         {.name = "Attest", .path = "/postern.v1.Example/Attest", .kind = RPC_BIDI,
 *          .request = &postern__v1__up__descriptor, .response = &postern__v1__down__descriptor,
 *          .serve = attest_serve, .serve_message = attest_serve_message,
 *          .deliver = attest_deliver},
 *     };
 *     const struct rpc_service example_definition = {
 *         .name = "postern.v1.Example", .methods = example_methods,
 *         .method_count = ARRAY_LEN(example_methods),
 *         .files = postern_v1_example_set, .files_len = &postern_v1_example_set_len,
 *     };
 *     bool example_register(…) { return rpc_server_add(server, &example_definition, handlers, arg, err); }
 *     void example_get_reply(…) { rpc_reply(call, &response->base); }
 *     bool example_attest_send_response(…) { return rpc_send(call, &response->base, err); }
 *     struct rpc_call *example_get(…)
 *     {
 *         return rpc_client_call(client, &example_methods[0], options, &request->base,
 *                                (rpc_function *)on_done, nullptr, arg);
 *     }
 *     bool example_get_sync(…)
 *     {
 *         ProtobufCMessage *message;
 *         if (!rpc_client_call_sync(client, &example_methods[0], options, &request->base, &message,
 *                                   err))
 *             return false;
 *         *ret = (Postern__V1__GetResponse *)message;
 *         return true;
 *     }
 *     struct rpc_call *example_attest(…)
 *     {
 *         return rpc_client_call(client, &example_methods[1], options, nullptr,
 *                                (rpc_function *)on_message, events, arg);
 *     }
 *     bool example_attest_send_request(…) { return rpc_send(call, &request->base, err); }
 *
 * Threading: none; tables are constant, calls belong to their loop's thread.
 */
#pragma once

#include "rpc/call.h"

enum rpc_kind {
    RPC_UNARY,
    RPC_SERVER_STREAM, /* one request, many responses */
    RPC_CLIENT_STREAM, /* many requests, one response */
    RPC_BIDI,
};

/* Any function: `deliver`, which calls it, knows its true type and casts it back. */
typedef void rpc_function(void);

struct rpc_method {
    const char *name; /* "Get" */
    const char *path; /* "/postern.v1.SecretService/Get" */
    enum rpc_kind kind;
    const ProtobufCMessageDescriptor *request;
    const ProtobufCMessageDescriptor *response;

    /* Server: a call began. `request` is the one request, borrowed until it returns, or null where
     * the client streams. False if no handler is set: the call is answered UNIMPLEMENTED. */
    bool (*serve)(const void *handlers, void *arg, struct rpc_call *call,
                  const ProtobufCMessage *request);
    /* Server, where the client streams: one of its messages, borrowed until it returns. */
    void (*serve_message)(const void *handlers, void *arg, struct rpc_call *call,
                          const ProtobufCMessage *message);
    /* Client: hands a response to `typed`. One response: called once at the end, with either the
     * message or the error null. Streamed: once a message, err null. Borrowed until it returns. */
    void (*deliver)(rpc_function *typed, void *arg, struct rpc_call *call,
                    const ProtobufCMessage *message, const struct error *err);
};

struct rpc_service {
    const char *name; /* "postern.v1.SecretService" */
    const struct rpc_method *methods;
    size_t method_count;
    /* A serialized google.protobuf.FileDescriptorSet of the service's file and all that it imports,
     * for reflection; and where its length is (cmake/proto.cmake embeds both). May be null. */
    const uint8_t *files;
    const size_t *files_len;
};

struct rpc_server;
struct rpc_client;

/* Adds a service before the first rpc_server_listen; all three are borrowed for the server's life.
 * EXISTS if one of that name is there. (Implemented with the server.) */
[[nodiscard]] bool rpc_server_add(struct rpc_server *server, const struct rpc_service *service,
                                  const void *handlers, void *arg, struct error *err);

/* Starts a call. `request` is the one request, packed before this returns, or null where the client
 * streams; `typed` and `arg` go to method->deliver; `events` (borrowed and constant, or null) as in
 * rpc/call.h. Exactly one end comes, whatever happens: for one response by `deliver`, for streams
 * by events->closed; never from within this function, except when the call could not be made at all
 * (no memory, request over a limit, too many wait): then from within, with a null call, and null is
 * returned.
 * Returns the call, valid until that end has been delivered (or longer by rpc_call_ref). */
struct rpc_call *rpc_client_call(struct rpc_client *client, const struct rpc_method *method,
                                 const struct rpc_call_options *options,
                                 const ProtobufCMessage *request, rpc_function *typed,
                                 const struct rpc_call_events *events, void *arg);

/* For command-line tools: makes a unary call and runs the client's loop until it is done. Not from
 * within a callback of that loop. The caller frees *ret by pb_free. */
[[nodiscard]] bool rpc_client_call_sync(struct rpc_client *client, const struct rpc_method *method,
                                        const struct rpc_call_options *options,
                                        const ProtobufCMessage *request, ProtobufCMessage **ret,
                                        struct error *err);
