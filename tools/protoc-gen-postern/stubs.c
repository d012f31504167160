/*
 * The text of generated stubs. Each kind of method is one row of a table of templates; what varies
 * stands between '@'s and is looked up by name in a struct vars.
 */
#include "stubs.h"

#include "comments.h"
#include "names.h"

#include "base/mem.h"

constexpr size_t NAME_MAX_LEN = 512;       /* a longer identifier is no use to a C compiler */
constexpr size_t TEMPLATE_MAX = 64 * 1024; /* with names of that length put in */
constexpr size_t PARENTHESES_MAX = 8;
constexpr size_t COLUMNS = 100;

struct kind_templates {
    const char *kind;                     /* enum rpc_kind */
    const char *suffixes[8], *members[3]; /* stubs_suffixes, stubs_members */
    const char *handlers;                 /* members of struct SERVICE_handlers */
    const char *server;                   /* prototypes */
    const char *client;
    const char *serve; /* definitions */
    const char *serve_message;
    const char *server_source;
    const char *client_source;
};

static const char reply_header[] =
    "void @svc@_@m@_reply(struct rpc_call *call, const @Res@ *response);\n";

static const char reply_source[] =
    "\nvoid @svc@_@m@_reply(struct rpc_call *call, const @Res@ *response)\n"
    "{\n"
    "    rpc_reply(call, &response->base);\n"
    "}\n";

static const char send_response_header[] =
    "[[nodiscard]] bool @svc@_@m@_send_response(struct rpc_call *call, const @Res@ *response,\n"
    "                                           struct error *err);\n";

static const char send_response_source[] =
    "\nbool @svc@_@m@_send_response(struct rpc_call *call, const @Res@ *response,\n"
    "                             struct error *err)\n"
    "{\n"
    "    return rpc_send(call, &response->base, err);\n"
    "}\n";

#define SEND_REQUEST_HEADER                                                                        \
    "[[nodiscard]] bool @svc@_@m@_send_request(struct rpc_call *call, const @Req@ *request,\n"     \
    "                                          struct error *err);\n"

#define SEND_REQUEST_SOURCE                                                                        \
    "\nbool @svc@_@m@_send_request(struct rpc_call *call, const @Req@ *request,\n"                 \
    "                            struct error *err)\n"                                             \
    "{\n"                                                                                          \
    "    return rpc_send(call, &request->base, err);\n"                                            \
    "}\n"

/* One response: the typed callback gets it, or the error, once. */
#define DELIVER_ONE                                                                                \
    "\nstatic void @svc@_@m@_deliver(rpc_function *typed, void *arg, struct rpc_call *call,\n"     \
    "                              const ProtobufCMessage *message, const struct error *err)\n"    \
    "{\n"                                                                                          \
    "    (void)call;\n"                                                                            \
    "    ((@svc@_@m@_done *)typed)(arg, (const @Res@ *)message, err);\n"                           \
    "}\n"

/* A stream of responses: the typed callback gets each; the end comes by events->closed. */
#define DELIVER_STREAM                                                                             \
    "\nstatic void @svc@_@m@_deliver(rpc_function *typed, void *arg, struct rpc_call *call,\n"     \
    "                              const ProtobufCMessage *message, const struct error *err)\n"    \
    "{\n"                                                                                          \
    "    (void)err;\n"                                                                             \
    "    ((@svc@_@m@_response *)typed)(arg, call, (const @Res@ *)message);\n"                      \
    "}\n"

/* One request: the handler gets it. */
static const char serve_one[] =
    "\nstatic bool @svc@_@m@_serve(const void *handlers, void *arg, struct rpc_call *call,\n"
    "                            const ProtobufCMessage *request)\n"
    "{\n"
    "    const struct @svc@_handlers *h = handlers;\n"
    "    if (!h->@m@)\n"
    "        return false;\n"
    "    h->@m@(arg, call, (const @Req@ *)request);\n"
    "    return true;\n"
    "}\n";

/* A stream of requests: one handler for its beginning, one for each message. */
static const char serve_stream[] =
    "\nstatic bool @svc@_@m@_serve(const void *handlers, void *arg, struct rpc_call *call,\n"
    "                            const ProtobufCMessage *request)\n"
    "{\n"
    "    const struct @svc@_handlers *h = handlers;\n"
    "    (void)request;\n"
    "    if (!h->@m@ || !h->@m@_message)\n"
    "        return false;\n"
    "    h->@m@(arg, call);\n"
    "    return true;\n"
    "}\n";

static const char serve_stream_message[] =
    "\nstatic void @svc@_@m@_serve_message(const void *handlers, void *arg, struct rpc_call "
    "*call,\n"
    "                                    const ProtobufCMessage *message)\n"
    "{\n"
    "    const struct @svc@_handlers *h = handlers;\n"
    "    h->@m@_message(arg, call, (const @Req@ *)message);\n"
    "}\n";

static const char handlers_one[] =
    "    void (*@m@)(void *arg, struct rpc_call *call, const @Req@ *request);\n";

static const char handlers_stream[] =
    "    void (*@m@)(void *arg, struct rpc_call *call);\n"
    "    void (*@m@_message)(void *arg, struct rpc_call *call, const @Req@ *message);\n";

static const struct kind_templates templates[STUBS_KINDS] = {
    [STUBS_UNARY] =
        {
            .kind = "RPC_UNARY",
            .suffixes = {"", "_done", "_sync", "_reply", "_serve", "_deliver"},
            .members = {""},
            .handlers = handlers_one,
            .server = reply_header,
            .client = "typedef void @svc@_@m@_done(void *arg, const @Res@ *response,\n"
                      "                             const struct error *err);\n"
                      "struct rpc_call *@svc@_@m@(struct rpc_client *client,\n"
                      "                           const struct rpc_call_options *options,\n"
                      "                           const @Req@ *request, @svc@_@m@_done *on_done,\n"
                      "                           void *arg);\n"
                      "[[nodiscard]] bool @svc@_@m@_sync(struct rpc_client *client,\n"
                      "                                  const struct rpc_call_options *options,\n"
                      "                                  const @Req@ *request, @Res@ **ret,\n"
                      "                                  struct error *err);\n",
            .serve = serve_one,
            .server_source = reply_source,
            .client_source = DELIVER_ONE
            "\nstruct rpc_call *@svc@_@m@(struct rpc_client *client,\n"
            "                           const struct rpc_call_options *options,\n"
            "                           const @Req@ *request, @svc@_@m@_done *on_done,\n"
            "                           void *arg)\n"
            "{\n"
            "    return rpc_client_call(client, &@svc@_methods[@i@], options, &request->base,\n"
            "                           (rpc_function *)on_done, nullptr, arg);\n"
            "}\n"
            "\nbool @svc@_@m@_sync(struct rpc_client *client,\n"
            "                    const struct rpc_call_options *options, const @Req@ *request,\n"
            "                    @Res@ **ret, struct error *err)\n"
            "{\n"
            "    ProtobufCMessage *message;\n"
            "    if (!rpc_client_call_sync(client, &@svc@_methods[@i@], options,\n"
            "                              &request->base, &message, err))\n"
            "        return false;\n"
            "    *ret = (@Res@ *)message;\n"
            "    return true;\n"
            "}\n",
        },
    [STUBS_SERVER_STREAM] =
        {
            .kind = "RPC_SERVER_STREAM",
            .suffixes = {"", "_response", "_send_response", "_serve", "_deliver"},
            .members = {""},
            .handlers = handlers_one,
            .server = send_response_header,
            .client = "typedef void @svc@_@m@_response(void *arg, struct rpc_call *call,\n"
                      "                                 const @Res@ *message);\n"
                      "struct rpc_call *@svc@_@m@(struct rpc_client *client,\n"
                      "                           const struct rpc_call_options *options,\n"
                      "                           const @Req@ *request,\n"
                      "                           @svc@_@m@_response *on_message,\n"
                      "                           const struct rpc_call_events *events,\n"
                      "                           void *arg);\n",
            .serve = serve_one,
            .server_source = send_response_source,
            .client_source = DELIVER_STREAM
            "\nstruct rpc_call *@svc@_@m@(struct rpc_client *client,\n"
            "                           const struct rpc_call_options *options,\n"
            "                           const @Req@ *request,\n"
            "                           @svc@_@m@_response *on_message,\n"
            "                           const struct rpc_call_events *events, void *arg)\n"
            "{\n"
            "    return rpc_client_call(client, &@svc@_methods[@i@], options, &request->base,\n"
            "                           (rpc_function *)on_message, events, arg);\n"
            "}\n",
        },
    [STUBS_CLIENT_STREAM] =
        {
            .kind = "RPC_CLIENT_STREAM",
            .suffixes = {"", "_done", "_send_request", "_reply", "_serve", "_serve_message",
                         "_deliver"},
            .members = {"", "_message"},
            .handlers = handlers_stream,
            .server = reply_header,
            .client = "typedef void @svc@_@m@_done(void *arg, const @Res@ *response,\n"
                      "                             const struct error *err);\n"
                      "struct rpc_call *@svc@_@m@(struct rpc_client *client,\n"
                      "                           const struct rpc_call_options *options,\n"
                      "                           @svc@_@m@_done *on_done,\n"
                      "                           const struct rpc_call_events *events,\n"
                      "                           void *arg);\n" SEND_REQUEST_HEADER,
            .serve = serve_stream,
            .serve_message = serve_stream_message,
            .server_source = reply_source,
            .client_source = DELIVER_ONE
            "\nstruct rpc_call *@svc@_@m@(struct rpc_client *client,\n"
            "                           const struct rpc_call_options *options,\n"
            "                           @svc@_@m@_done *on_done,\n"
            "                           const struct rpc_call_events *events, void *arg)\n"
            "{\n"
            "    return rpc_client_call(client, &@svc@_methods[@i@], options, nullptr,\n"
            "                           (rpc_function *)on_done, events, arg);\n"
            "}\n" SEND_REQUEST_SOURCE,
        },
    [STUBS_BIDI] =
        {
            .kind = "RPC_BIDI",
            .suffixes = {"", "_response", "_send_request", "_send_response", "_serve",
                         "_serve_message", "_deliver"},
            .members = {"", "_message"},
            .handlers = handlers_stream,
            .server = send_response_header,
            .client = "typedef void @svc@_@m@_response(void *arg, struct rpc_call *call,\n"
                      "                                 const @Res@ *message);\n"
                      "struct rpc_call *@svc@_@m@(struct rpc_client *client,\n"
                      "                           const struct rpc_call_options *options,\n"
                      "                           @svc@_@m@_response *on_message,\n"
                      "                           const struct rpc_call_events *events,\n"
                      "                           void *arg);\n" SEND_REQUEST_HEADER,
            .serve = serve_stream,
            .serve_message = serve_stream_message,
            .server_source = send_response_source,
            .client_source = DELIVER_STREAM
            "\nstruct rpc_call *@svc@_@m@(struct rpc_client *client,\n"
            "                           const struct rpc_call_options *options,\n"
            "                           @svc@_@m@_response *on_message,\n"
            "                           const struct rpc_call_events *events, void *arg)\n"
            "{\n"
            "    return rpc_client_call(client, &@svc@_methods[@i@], options, nullptr,\n"
            "                           (rpc_function *)on_message, events, arg);\n"
            "}\n" SEND_REQUEST_SOURCE,
        },
};

/* ---- Templates ---- */

struct var {
    const char *name;
    char value[NAME_MAX_LEN];
};

enum {
    SVC,
    SERVICE,
    COUNT,
    M,
    METHOD,
    REQ,
    RES,
    REQ_DESCRIPTOR,
    RES_DESCRIPTOR,
    INDEX,
    KIND,
    SET,
    VAR_COUNT,
};

struct vars {
    struct var var[VAR_COUNT];
};

static void vars_init(struct vars *vars)
{
    *vars = (struct vars){.var = {
                              [SVC] = {.name = "svc"},
                              [SERVICE] = {.name = "Service"},
                              [COUNT] = {.name = "count"},
                              [M] = {.name = "m"},
                              [METHOD] = {.name = "Method"},
                              [REQ] = {.name = "Req"},
                              [RES] = {.name = "Res"},
                              [REQ_DESCRIPTOR] = {.name = "req_descriptor"},
                              [RES_DESCRIPTOR] = {.name = "res_descriptor"},
                              [INDEX] = {.name = "i"},
                              [KIND] = {.name = "kind"},
                              [SET] = {.name = "set"},
                          }};
}

/* Moves the text of `from` into a variable, and empties it. */
static bool vars_set(struct vars *vars, int which, struct buf *from, struct error *err)
{
    if (!buf_ok(from, err))
        return false;
    struct var *var = &vars->var[which];
    if (from->len >= sizeof(var->value))
        return error_set(err, ERROR_INVALID, "a name of %zu characters is too long", from->len);
    mem_copy(var->value, from->data, from->len);
    var->value[from->len] = '\0';
    buf_clear(from);
    return true;
}

static const char *vars_get(const struct vars *vars, struct slice name)
{
    for (int i = 0; i < VAR_COUNT; i++) {
        if (slice_is(name, vars->var[i].name))
            return vars->var[i].value;
    }
    return "";
}

/* How many characters stand together from `at` on: up to a place where a line may be broken, which is
 * behind a comma within parentheses, or to the line's end. */
static size_t word_length(const char *at)
{
    size_t len = strcspn(at, ",\n");
    return at[len] == ',' ? len + 1 : len;
}

/* Appends C text, lines within parentheses filled anew: behind a comma comes a space while there is
 * room, else a new line under the innermost parenthesis. */
static void fill(struct buf *out, const char *text)
{
    size_t column = 0, depth = 0, open[PARENTHESES_MAX] = {0};
    for (const char *at = text; *at != '\0'; at++) {
        buf_put_u8(out, (uint8_t)*at);
        column = *at == '\n' ? 0 : column + 1;
        if (*at == '(' && depth < PARENTHESES_MAX)
            open[depth++] = column;
        if (*at == ')' && depth > 0)
            depth--;
        if (*at != ',' || depth == 0)
            continue;
        at += strspn(at + 1, " \n");
        if (column + 1 + word_length(at + 1) <= COLUMNS) {
            buf_put_u8(out, ' ');
            column++;
        } else {
            buf_put_format(out, "\n%*s", (int)open[depth - 1], "");
            column = open[depth - 1];
        }
    }
}

static void emit(struct buf *out, const struct vars *vars, const char *template)
{
    CLEANUP(buf_done) struct buf text;
    buf_init(&text, TEMPLATE_MAX);
    for (const char *at = template; *at != '\0';) {
        size_t plain = strcspn(at, "@");
        buf_put(&text, slice(at, plain));
        at += plain;
        if (*at == '@') {
            size_t len = strcspn(at + 1, "@");
            buf_put(&text, slice_str(vars_get(vars, slice(at + 1, len))));
            at += len + 2;
        }
    }
    buf_put_u8(&text, 0);
    struct error err;
    if (buf_ok(&text, &err))
        fill(out, (const char *)text.data);
    else
        out->failed = true;
}

/* ---- Services and methods ---- */

enum stubs_kind stubs_kind(const Google__Protobuf__MethodDescriptorProto *method)
{
    if (method->client_streaming)
        return method->server_streaming ? STUBS_BIDI : STUBS_CLIENT_STREAM;
    return method->server_streaming ? STUBS_SERVER_STREAM : STUBS_UNARY;
}

const char *const *stubs_suffixes(enum stubs_kind kind)
{
    return templates[kind].suffixes;
}

const char *const *stubs_members(enum stubs_kind kind)
{
    return templates[kind].members;
}

static bool vars_service(struct vars *vars, const Google__Protobuf__FileDescriptorProto *file,
                         const Google__Protobuf__ServiceDescriptorProto *service, struct error *err)
{
    CLEANUP(buf_done) struct buf text;
    buf_init(&text, TEMPLATE_MAX);
    vars_init(vars);
    name_service(&text, file->package ? file->package : "", service->name);
    if (!vars_set(vars, SVC, &text, err))
        return false;
    buf_put_format(&text, "%s%s%s", file->package ? file->package : "",
                   file->package && file->package[0] ? "." : "", service->name);
    if (!vars_set(vars, SERVICE, &text, err))
        return false;
    buf_put_format(&text, "%zu", service->n_method);
    if (!vars_set(vars, COUNT, &text, err))
        return false;
    name_set(&text, file->name);
    return vars_set(vars, SET, &text, err);
}

static bool vars_method(struct vars *vars, const Google__Protobuf__MethodDescriptorProto *method,
                        size_t index, struct error *err)
{
    CLEANUP(buf_done) struct buf text;
    buf_init(&text, TEMPLATE_MAX);
    name_snake(&text, method->name);
    if (!vars_set(vars, M, &text, err))
        return false;
    buf_put(&text, slice_str(method->name));
    if (!vars_set(vars, METHOD, &text, err))
        return false;
    name_type(&text, method->input_type);
    if (!vars_set(vars, REQ, &text, err))
        return false;
    name_type(&text, method->output_type);
    if (!vars_set(vars, RES, &text, err))
        return false;
    name_descriptor(&text, method->input_type);
    if (!vars_set(vars, REQ_DESCRIPTOR, &text, err))
        return false;
    name_descriptor(&text, method->output_type);
    if (!vars_set(vars, RES_DESCRIPTOR, &text, err))
        return false;
    buf_put_format(&text, "%zu", index);
    if (!vars_set(vars, INDEX, &text, err))
        return false;
    buf_put(&text, slice_str(templates[stubs_kind(method)].kind));
    return vars_set(vars, KIND, &text, err);
}

/* A part of the generated code, written for each method of a service. */
struct part {
    size_t offset;      /* of its template in struct kind_templates */
    const char *indent; /* of the method's comment before it; null: none */
    bool apart;         /* a blank line before it */
};

#define PART(member, ...) ((struct part){offsetof(struct kind_templates, member), __VA_ARGS__})

static bool emit_methods(struct buf *out, struct vars *vars,
                         const Google__Protobuf__FileDescriptorProto *file, size_t service_index,
                         struct part part, struct error *err)
{
    const Google__Protobuf__ServiceDescriptorProto *service = file->service[service_index];
    for (size_t i = 0; i < service->n_method; i++) {
        const Google__Protobuf__MethodDescriptorProto *method = service->method[i];
        if (!vars_method(vars, method, i, err))
            return error_prefix(err, "%.60s.%.60s", service->name, method->name);
        const struct kind_templates *kind = &templates[stubs_kind(method)];
        const char *template = *(const char *const *)((const char *)kind + part.offset);
        if (part.apart)
            buf_put_u8(out, '\n');
        if (part.indent)
            comment_method(out, file, service_index, i, part.indent);
        if (template)
            emit(out, vars, template);
    }
    return true;
}

static bool emit_service_header(struct buf *out, const Google__Protobuf__FileDescriptorProto *file,
                                size_t index, struct error *err)
{
    struct vars vars;
    if (!vars_service(&vars, file, file->service[index], err))
        return false;
    emit(out, &vars, "\n/* ---- @Service@ ---- */\n\n");
    comment_service(out, file, index);
    emit(out, &vars,
         "extern const struct rpc_service @svc@_definition;\n\n"
         "/* Handlers of the server; a null member answers UNIMPLEMENTED. */\n"
         "struct @svc@_handlers {\n");
    if (!emit_methods(out, &vars, file, index, PART(handlers, "    ", false), err))
        return false;
    emit(out, &vars,
         "};\n\n"
         "/* Before the first rpc_server_listen; `handlers` and `arg` are borrowed. */\n"
         "[[nodiscard]] bool @svc@_register(struct rpc_server *server,\n"
         "                                  const struct @svc@_handlers *handlers, void *arg,\n"
         "                                  struct error *err);\n\n"
         "/* Answers of the server. */\n");
    if (!emit_methods(out, &vars, file, index, PART(server, nullptr, false), err))
        return false;
    emit(out, &vars, "\n/* Client. */\n");
    return emit_methods(out, &vars, file, index, PART(client, "", true), err);
}

static bool emit_method_table(struct buf *out, struct vars *vars,
                              const Google__Protobuf__ServiceDescriptorProto *service,
                              struct error *err)
{
    emit(out, vars, "\nstatic const struct rpc_method @svc@_methods[@count@] = {\n");
    for (size_t i = 0; i < service->n_method; i++) {
        if (!vars_method(vars, service->method[i], i, err))
            return error_prefix(err, "%.60s.%.60s", service->name, service->method[i]->name);
        emit(out, vars,
             "    {\n"
             "        .name = \"@Method@\",\n"
             "        .path = \"/@Service@/@Method@\",\n"
             "        .kind = @kind@,\n"
             "        .request = &@req_descriptor@,\n"
             "        .response = &@res_descriptor@,\n"
             "        .serve = @svc@_@m@_serve,\n");
        if (templates[stubs_kind(service->method[i])].serve_message)
            emit(out, vars, "        .serve_message = @svc@_@m@_serve_message,\n");
        emit(out, vars,
             "        .deliver = @svc@_@m@_deliver,\n"
             "    },\n");
    }
    emit(out, vars, "};\n");
    return true;
}

static bool emit_service_source(struct buf *out, const Google__Protobuf__FileDescriptorProto *file,
                                size_t index, struct error *err)
{
    const Google__Protobuf__ServiceDescriptorProto *service = file->service[index];
    struct vars vars;
    if (!vars_service(&vars, file, service, err))
        return false;
    emit(out, &vars,
         "\n/* ---- @Service@ ---- */\n\n"
         "static const struct rpc_method @svc@_methods[@count@];\n");
    const struct part parts[] = {PART(serve, nullptr, false), PART(serve_message, nullptr, false),
                                 PART(server_source, nullptr, false),
                                 PART(client_source, nullptr, false)};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        if (!emit_methods(out, &vars, file, index, parts[i], err))
            return false;
    }
    if (!emit_method_table(out, &vars, service, err))
        return false;
    emit(out, &vars,
         "\nconst struct rpc_service @svc@_definition = {\n"
         "    .name = \"@Service@\",\n"
         "    .methods = @svc@_methods,\n"
         "    .method_count = @count@,\n"
         "    .files = @set@,\n"
         "    .files_len = &@set@_len,\n"
         "};\n"
         "\nbool @svc@_register(struct rpc_server *server, const struct @svc@_handlers *handlers,\n"
         "                    void *arg, struct error *err)\n"
         "{\n"
         "    return rpc_server_add(server, &@svc@_definition, handlers, arg, err);\n"
         "}\n");
    return true;
}

bool stubs_header(const Google__Protobuf__FileDescriptorProto *file, struct buf *out,
                  struct error *err)
{
    struct slice stem = name_stem(file->name);
    buf_put_format(out,
                   "/* Stubs of %s: lib/rpc/service.h says what they are. */\n"
                   "#pragma once\n\n"
                   "#include \"rpc/service.h\"\n\n"
                   "#include \"%.*s.pb-c.h\"\n",
                   file->name, (int)stem.len, (const char *)stem.data);
    for (size_t i = 0; i < file->n_service; i++) {
        if (!emit_service_header(out, file, i, err))
            return false;
    }
    return buf_ok(out, err);
}

bool stubs_source(const Google__Protobuf__FileDescriptorProto *file, struct buf *out,
                  struct error *err)
{
    struct slice stem = name_stem(file->name);
    buf_put_format(out,
                   "#include \"%.*s.rpc.h\"\n\n"
                   "#include \"%.*s.set.h\"\n",
                   (int)stem.len, (const char *)stem.data, (int)stem.len, (const char *)stem.data);
    for (size_t i = 0; i < file->n_service; i++) {
        if (!emit_service_source(out, file, i, err))
            return false;
    }
    return buf_ok(out, err);
}
