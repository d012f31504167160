/* Header lists of requests, responses and trailers: gRPC PROTOCOL-HTTP2.md, "Requests" and
 * "Responses". */
#include "base/mem.h"
#include "base/text.h"
#include "rpc/core.h"
#include "rpc/status.h"
#include "rpc/timeout.h"

#include <stdio.h>

#define TEXT(literal) slice("" literal, sizeof(literal) - 1)
#define HEADER(name, value) ((struct h2_header){TEXT(name), TEXT(value)})

constexpr size_t LIST_MAX = METADATA_COUNT_MAX + 16;

struct list {
    struct h2_header items[LIST_MAX];
    size_t count;
};

static void list_add(struct list *list, struct slice name, struct slice value)
{
    list->items[list->count++] = (struct h2_header){name, value};
}

static void list_metadata(struct list *list, const struct metadata *metadata)
{
    for (size_t i = 0; i < metadata->count; i++)
        list->items[list->count++] = metadata_at(metadata, i);
}

/* "application/grpc", then nothing, "+" or ";". */
static bool is_grpc(struct slice type)
{
    static const char prefix[] = "application/grpc";
    size_t len = sizeof(prefix) - 1;
    return type.len >= len && memcmp(type.data, prefix, len) == 0 &&
           (type.len == len || type.data[len] == '+' || type.data[len] == ';');
}

/* "/Service/Method", both parts there. */
static bool is_method_path(struct slice path)
{
    if (path.len < 4 || path.len >= RPC_PATH_MAX || path.data[0] != '/')
        return false;
    const uint8_t *slash = memchr(path.data + 1, '/', path.len - 1);
    return slash && slash > path.data + 1 && slash < path.data + path.len - 1 &&
           !memchr(path.data, 0, path.len);
}

struct request_headers {
    struct slice method, path, type, timeout, encoding;
    bool has_type, has_timeout, has_encoding;
};

static bool read_request_header(struct request_headers *r, const struct h2_header *header)
{
    static const struct {
        const char *name;
        size_t slice_at, flag_at;
    } known[] = {
        {":method", offsetof(struct request_headers, method), 0},
        {":path", offsetof(struct request_headers, path), 0},
        {"content-type", offsetof(struct request_headers, type),
         offsetof(struct request_headers, has_type)},
        {"grpc-timeout", offsetof(struct request_headers, timeout),
         offsetof(struct request_headers, has_timeout)},
        {"grpc-encoding", offsetof(struct request_headers, encoding),
         offsetof(struct request_headers, has_encoding)},
    };
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (!slice_is(header->name, known[i].name))
            continue;
        *(struct slice *)(void *)((char *)r + known[i].slice_at) = header->value;
        if (known[i].flag_at)
            *((bool *)r + known[i].flag_at) = true;
        return true;
    }
    return false;
}

bool headers_read_request(struct rpc_call *call, const struct h2_header *headers, size_t count,
                          uint64_t now, char path[static RPC_PATH_MAX], unsigned *ret_http,
                          struct error *err)
{
    struct request_headers r = {0};
    uint64_t timeout;
    *ret_http = 0;
    for (size_t i = 0; i < count; i++)
        if (!read_request_header(&r, &headers[i]) && !metadata_receive(&call->in, &headers[i], err))
            return false;
    if (!slice_is(r.method, "POST")) {
        *ret_http = 405;
        return error_set(err, ERROR_INVALID, "the method is not POST");
    }
    if (!r.has_type || !is_grpc(r.type)) {
        *ret_http = 415;
        return error_set(err, ERROR_INVALID, "the content-type is not application/grpc");
    }
    if (!is_method_path(r.path))
        return error_set(err, ERROR_UNIMPLEMENTED, "the path is not /Service/Method");
    if (r.has_timeout) {
        if (!timeout_parse(r.timeout, &timeout, err)) {
            err->class = ERROR_INTERNAL; /* rpc.md, 4 */
            return false;
        }
        call->deadline = now + timeout;
    }
    if (r.has_encoding && !slice_is(r.encoding, "identity"))
        return error_set(err, ERROR_UNIMPLEMENTED,
                         "messages can't be compressed here: use identity");
    mem_copy(path, r.path.data, r.path.len);
    path[r.path.len] = 0;
    call->path = path;
    return true;
}

/* Appends grpc-status, and for failures message and details. The buffers keep the texts. */
static bool list_status(struct list *list, const struct error *why, char code[static 4],
                        struct buf *message, struct buf *details, struct error *err)
{
    CLEANUP(buf_done) struct buf raw;
    buf_init(&raw, STATUS_DETAILS_MAX);
    if (!why) {
        list_add(list, TEXT("grpc-status"), TEXT("0"));
        return true;
    }
    (void)snprintf(code, 4, "%d", error_grpc_status(why->class));
    list_add(list, TEXT("grpc-status"), slice_str(code));
    status_message_encode(slice_str(why->message), message);
    if (!buf_ok(message, err) || !status_details(why, &raw, err))
        return false;
    list_add(list, TEXT("grpc-message"), buf_slice(message));
    if (raw.len > 0) {
        base64_encode(buf_slice(&raw), details);
        if (!buf_ok(details, err))
            return false;
        list_add(list, TEXT("grpc-status-details-bin"), buf_slice(details));
    }
    return true;
}

/* What a status takes on the wire: a message of ERROR_MESSAGE_MAX with every byte escaped. */
struct status_text {
    char code[4];
    struct buf message, details;
};

static void status_text_init(struct status_text *text)
{
    buf_init(&text->message, 3 * ERROR_MESSAGE_MAX);
    buf_init(&text->details, 2 * STATUS_DETAILS_MAX);
}

static void status_text_done(struct status_text *text)
{
    buf_done(&text->message);
    buf_done(&text->details);
}

bool headers_send_response(struct rpc_call *call, bool trailers_only, struct error *err)
{
    CLEANUP(status_text_done) struct status_text text;
    struct list list;
    list.count = 0;
    status_text_init(&text);
    list_add(&list, TEXT(":status"), TEXT("200"));
    list_add(&list, TEXT("content-type"), TEXT("application/grpc"));
    list_metadata(&list, &call->out_headers);
    if (trailers_only) {
        if (call->out_headers.count + call->out_trailers.count > METADATA_COUNT_MAX)
            return error_set(err, ERROR_EXHAUSTED, "too much metadata for one response");
        if (!list_status(&list, call->failure, text.code, &text.message, &text.details, err))
            return false;
        list_metadata(&list, &call->out_trailers);
    }
    call->headers_out = true;
    return h2_respond(call->conn->h2, &call->stream, list.items, list.count, trailers_only, err);
}

bool headers_send_trailers(struct rpc_call *call, struct error *err)
{
    CLEANUP(status_text_done) struct status_text text;
    struct list list;
    list.count = 0;
    status_text_init(&text);
    if (!list_status(&list, call->failure, text.code, &text.message, &text.details, err))
        return false;
    list_metadata(&list, &call->out_trailers);
    return h2_trailers(call->conn->h2, &call->stream, list.items, list.count, err);
}

void headers_refuse(struct rpc_conn *conn, int32_t id, unsigned http_status,
                    const struct error *why)
{
    CLEANUP(status_text_done) struct status_text text;
    struct list list;
    struct error err;
    char status[16];
    list.count = 0;
    status_text_init(&text);
    (void)snprintf(status, sizeof(status), "%u", http_status ? http_status : 200);
    list_add(&list, TEXT(":status"), slice_str(status));
    bool ok = true;
    if (!http_status) {
        list_add(&list, TEXT("content-type"), TEXT("application/grpc"));
        list_add(&list, TEXT("grpc-accept-encoding"), TEXT("identity"));
        ok = list_status(&list, why, text.code, &text.message, &text.details, &err);
    }
    if (!ok || !h2_refuse(conn->h2, id, list.items, list.count, &err))
        h2_reset(conn->h2, id, H2_INTERNAL_ERROR);
}

bool headers_send_request(struct rpc_call *call, uint64_t now, struct error *err)
{
    const struct rpc_conn_options *options = &call->conn->options;
    char timeout[TIMEOUT_TEXT_SIZE];
    struct list list;
    list.count = 0;
    list_add(&list, TEXT(":method"), TEXT("POST"));
    list_add(&list, TEXT(":scheme"), slice_str(options->scheme));
    list_add(&list, TEXT(":path"), slice_str(call->method->path));
    list_add(&list, TEXT(":authority"), slice_str(options->authority));
    list_add(&list, TEXT("content-type"), TEXT("application/grpc"));
    list_add(&list, TEXT("te"), TEXT("trailers"));
    list_add(&list, TEXT("user-agent"), TEXT("grpc-c-postern/" POSTERN_VERSION));
    if (call->deadline != UINT64_MAX) {
        uint64_t left = call->deadline > now ? call->deadline - now : 0;
        list_add(&list, TEXT("grpc-timeout"), slice_str(timeout_format(left, timeout)));
    }
    list_metadata(&list, &call->out_headers);
    return h2_request(call->conn->h2, &call->stream, list.items, list.count, false, err);
}

/* ---- Client, receiving ---- */

static unsigned http_status(struct slice text)
{
    unsigned status = 0;
    for (size_t i = 0; i < text.len && text.len == 3; i++)
        status = status * 10 + (unsigned)(text.data[i] - '0');
    return status;
}

static const struct h2_header *find(const struct h2_header *headers, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (slice_is(headers[i].name, name))
            return &headers[i];
    return nullptr;
}

static bool fail_grpc(struct error *err, int status, const char *text)
{
    return error_set_native(err, error_class_from_grpc(status), ERROR_DOMAIN_GRPC, status, nullptr,
                            "%s", text);
}

bool headers_read_response(struct rpc_call *call, const struct h2_header *headers, size_t count,
                           bool end, struct error *err)
{
    const struct h2_header *status = find(headers, count, ":status");
    const struct h2_header *type = find(headers, count, "content-type");
    const struct h2_header *encoding = find(headers, count, "grpc-encoding");
    unsigned http = status ? http_status(status->value) : 0;
    char text[64];
    call->headers_in = true;
    if (end && find(headers, count, "grpc-status")) {
        headers_read_trailers(call, headers, count);
        return true;
    }
    if (http != 200) {
        (void)snprintf(text, sizeof(text), "the server answered with HTTP status %u", http);
        return fail_grpc(err, status_from_http(http), text);
    }
    if (!type || !is_grpc(type->value))
        return fail_grpc(err, 2, "the server's answer is not gRPC: its content-type is another");
    if (encoding && !slice_is(encoding->value, "identity"))
        return fail_grpc(err, 13, "the server compresses with an encoding that we did not offer");
    for (size_t i = 0; i < count; i++)
        if (headers[i].name.data[0] != ':' && !metadata_receive(&call->in, &headers[i], err))
            return false;
    if (end)
        headers_read_trailers(call, nullptr, 0);
    return true;
}

void headers_read_trailers(struct rpc_call *call, const struct h2_header *headers, size_t count)
{
    const struct h2_header *status = find(headers, count, "grpc-status");
    const struct h2_header *message = find(headers, count, "grpc-message");
    const struct h2_header *details = find(headers, count, "grpc-status-details-bin");
    CLEANUP(buf_done) struct buf raw;
    struct error why;
    buf_init(&raw, STATUS_DETAILS_MAX);
    call->status_in = true;
    for (size_t i = 0; i < count; i++)
        if (headers[i].name.data[0] != ':' && !metadata_receive(&call->in, &headers[i], &why)) {
            call_set_failure(call, &why);
            return;
        }
    if (!status) {
        fail_grpc(&why, 2, "the server ended the call without a status");
        call_set_failure(call, &why);
        return;
    }
    int code = status_parse(status->value);
    if (code == 0)
        return;
    if (details && !base64_decode(details->value, &raw, &why))
        buf_clear(&raw);
    status_to_error(code, message ? message->value : (struct slice){0}, buf_slice(&raw), &why);
    call_set_failure(call, &why);
}
