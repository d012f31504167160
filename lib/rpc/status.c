#include "rpc/status.h"

#include "base/error.h"
#include "base/mem.h"
#include "base/text.h"
#include "google/rpc/error_details.pb-c.h"
#include "google/rpc/status.pb-c.h"
#include "pb/message.h"

#include <inttypes.h>
#include <stdio.h>

#define TYPE_ERROR_INFO "type.googleapis.com/google.rpc.ErrorInfo"
#define TYPE_BAD_REQUEST "type.googleapis.com/google.rpc.BadRequest"

enum {
    STATUS_UNKNOWN = 2,
    STATUS_PERMISSION_DENIED = 7,
    STATUS_RESOURCE_EXHAUSTED = 8,
    STATUS_UNIMPLEMENTED = 12,
    STATUS_INTERNAL = 13,
    STATUS_UNAVAILABLE = 14,
    STATUS_CANCELLED = 1,
    STATUS_UNAUTHENTICATED = 16,
};

static const char *const names[] = {
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
};

const char *status_name(int code)
{
    return code >= 0 && code < (int)ARRAY_LEN(names) ? names[code] : "UNKNOWN";
}

int status_parse(struct slice text)
{
    int code = 0;
    if (text.len == 0 || text.len > 2)
        return STATUS_UNKNOWN;
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return STATUS_UNKNOWN;
        code = code * 10 + (text.data[i] - '0');
    }
    return code < (int)ARRAY_LEN(names) ? code : STATUS_UNKNOWN;
}

/* ---- Details, out ---- */

/* Packs a detail into the Any that `ret` is; `bytes` keeps what it points at. */
static bool pack_any(const ProtobufCMessage *message, const char *type, struct buf *bytes,
                     Google__Protobuf__Any *ret, struct error *err)
{
    google__protobuf__any__init(ret);
    if (!pb_pack(message, STATUS_DETAILS_MAX, bytes, err))
        return false;
    ret->type_url = (char *)(uintptr_t)type;
    ret->value = (ProtobufCBinaryData){bytes->len, bytes->data};
    return true;
}

static bool pack_info(const struct error *from, struct buf *bytes, Google__Protobuf__Any *ret,
                      struct error *err)
{
    char code[24];
    Google__Rpc__ErrorInfo info = GOOGLE__RPC__ERROR_INFO__INIT;
    Google__Rpc__ErrorInfo__MetadataEntry entries[2] = {
        GOOGLE__RPC__ERROR_INFO__METADATA_ENTRY__INIT,
        GOOGLE__RPC__ERROR_INFO__METADATA_ENTRY__INIT,
    };
    Google__Rpc__ErrorInfo__MetadataEntry *list[2] = {&entries[0], &entries[1]};
    (void)snprintf(code, sizeof(code), "%" PRId64, from->code);
    entries[0].key = (char *)(uintptr_t)"native_domain";
    entries[0].value = (char *)(uintptr_t)error_domain_name(from->domain);
    entries[1].key = (char *)(uintptr_t)"native_code";
    entries[1].value = code;
    info.reason = (char *)(uintptr_t)from->reason;
    info.domain = (char *)(uintptr_t)"postern";
    info.metadata = list;
    info.n_metadata = from->domain != ERROR_DOMAIN_NONE ? 2 : 0;
    return pack_any(&info.base, TYPE_ERROR_INFO, bytes, ret, err);
}

static bool pack_bad_request(const struct error *from, struct buf *bytes,
                             Google__Protobuf__Any *ret, struct error *err)
{
    Google__Rpc__BadRequest bad = GOOGLE__RPC__BAD_REQUEST__INIT;
    Google__Rpc__BadRequest__FieldViolation violation =
        GOOGLE__RPC__BAD_REQUEST__FIELD_VIOLATION__INIT;
    Google__Rpc__BadRequest__FieldViolation *list[1] = {&violation};
    violation.field = (char *)(uintptr_t)from->field;
    violation.description = (char *)(uintptr_t)from->message;
    bad.field_violations = list;
    bad.n_field_violations = 1;
    return pack_any(&bad.base, TYPE_BAD_REQUEST, bytes, ret, err);
}

bool status_details(const struct error *from, struct buf *ret, struct error *err)
{
    CLEANUP(buf_done) struct buf info, bad;
    Google__Protobuf__Any any[2];
    Google__Protobuf__Any *list[2] = {&any[0], &any[1]};
    Google__Rpc__Status status = GOOGLE__RPC__STATUS__INIT;
    buf_init(&info, STATUS_DETAILS_MAX);
    buf_init(&bad, STATUS_DETAILS_MAX);
    if ((from->reason[0] || from->domain != ERROR_DOMAIN_NONE) &&
        !pack_info(from, &info, &any[status.n_details++], err))
        return false;
    if (from->field[0] && !pack_bad_request(from, &bad, &any[status.n_details++], err))
        return false;
    if (status.n_details == 0)
        return true;
    status.code = error_grpc_status(from->class);
    status.message = (char *)(uintptr_t)from->message;
    status.details = list;
    return pb_pack(&status.base, STATUS_DETAILS_MAX, ret, err);
}

/* ---- grpc-message ---- */

void status_message_encode(struct slice message, struct buf *ret)
{
    static const char hex[] = "0123456789ABCDEF";
    for (size_t i = 0; i < message.len; i++) {
        uint8_t c = message.data[i];
        /* RFC 9113 section 8.2.1: a value with a space at either end is malformed. */
        bool bare_space = c == ' ' && i > 0 && i + 1 < message.len;
        if (bare_space || (c > 0x20 && c <= 0x7e && c != '%')) {
            buf_put_u8(ret, c);
        } else {
            buf_put_u8(ret, '%');
            buf_put_u8(ret, (uint8_t)hex[c >> 4]);
            buf_put_u8(ret, (uint8_t)hex[c & 15]);
        }
    }
}

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Length of the well-formed UTF-8 character at `text`, 0 if there is none. */
static size_t utf8_length(const char *text, size_t len)
{
    for (size_t n = 1; n <= 4 && n <= len; n++)
        if (utf8_valid(slice(text, n)))
            return n;
    return 0;
}

/* Foreign text becomes a C string of UTF-8: what is none, and NUL, become "?". */
static void clean(char *text, size_t len)
{
    for (size_t i = 0; i < len;) {
        size_t n = utf8_length(text + i, len - i);
        if (n == 0)
            text[i] = '?';
        i += n ? n : 1;
    }
}

char *status_message_decode(struct slice encoded, char *ret, size_t size)
{
    size_t len = 0;
    for (size_t i = 0; i < encoded.len && len + 1 < size; i++) {
        int high = -1, low = -1;
        if (encoded.data[i] == '%' && i + 2 < encoded.len) {
            high = hex_digit(encoded.data[i + 1]);
            low = hex_digit(encoded.data[i + 2]);
        }
        if (high >= 0 && low >= 0) {
            ret[len++] = (char)(high * 16 + low);
            i += 2;
        } else {
            ret[len++] = (char)encoded.data[i];
        }
    }
    clean(ret, len);
    ret[len] = 0;
    return ret;
}

/* ---- From the peer ---- */

static void copy_text(char *to, size_t size, const char *from)
{
    size_t len = strnlen(from, size - 1);
    mem_copy(to, from, len);
    to[len] = 0;
    clean(to, len);
}

static void read_detail(const Google__Protobuf__Any *any, struct error *ret)
{
    struct error ignored;
    CLEANUP(pb_free_at) ProtobufCMessage *message = nullptr;
    struct slice value = slice(any->value.data, any->value.len);
    if (strcmp(any->type_url, TYPE_ERROR_INFO) == 0) {
        if (!pb_unpack(&google__rpc__error_info__descriptor, value, nullptr, &message, &ignored))
            return;
        const Google__Rpc__ErrorInfo *info = (const Google__Rpc__ErrorInfo *)message;
        if (strcmp(info->domain, "postern") == 0)
            copy_text(ret->reason, sizeof(ret->reason), info->reason);
    } else if (strcmp(any->type_url, TYPE_BAD_REQUEST) == 0) {
        if (!pb_unpack(&google__rpc__bad_request__descriptor, value, nullptr, &message, &ignored))
            return;
        const Google__Rpc__BadRequest *bad = (const Google__Rpc__BadRequest *)message;
        if (bad->n_field_violations > 0)
            copy_text(ret->field, sizeof(ret->field), bad->field_violations[0]->field);
    }
}

void status_to_error(int code, struct slice message, struct slice details, struct error *ret)
{
    char text[ERROR_MESSAGE_MAX];
    struct error ignored;
    CLEANUP(pb_free_at) ProtobufCMessage *unpacked = nullptr;
    status_message_decode(message, text, sizeof(text));
    error_set_native(ret, error_class_from_grpc(code), ERROR_DOMAIN_GRPC, code, nullptr, "%s",
                     text[0] ? text : status_name(code));
    if (details.len == 0 || details.len > STATUS_DETAILS_MAX ||
        !pb_unpack(&google__rpc__status__descriptor, details, nullptr, &unpacked, &ignored))
        return;
    const Google__Rpc__Status *status = (const Google__Rpc__Status *)unpacked;
    if (status->code != code)
        return;
    for (size_t i = 0; i < status->n_details; i++)
        read_detail(status->details[i], ret);
}

int status_from_http(unsigned http_status)
{
    switch (http_status) {
    case 400:
    case 431:
        return STATUS_INTERNAL;
    case 401:
        return STATUS_UNAUTHENTICATED;
    case 403:
        return STATUS_PERMISSION_DENIED;
    case 404:
        return STATUS_UNIMPLEMENTED;
    case 429:
    case 502:
    case 503:
    case 504:
        return STATUS_UNAVAILABLE;
    default:
        return STATUS_UNKNOWN;
    }
}

int status_from_reset(uint32_t http2_code)
{
    switch (http2_code) {
    case 7: /* REFUSED_STREAM */
        return STATUS_UNAVAILABLE;
    case 8: /* CANCEL */
        return STATUS_CANCELLED;
    case 11: /* ENHANCE_YOUR_CALM */
        return STATUS_RESOURCE_EXHAUSTED;
    case 12: /* INADEQUATE_SECURITY */
        return STATUS_PERMISSION_DENIED;
    default:
        return STATUS_INTERNAL;
    }
}
