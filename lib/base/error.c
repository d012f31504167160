#include "base/error.h"

#include "base/mem.h"
#include "base/text.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdio.h>

/* The header wraps each in a macro for its callers. */
#undef error_set
#undef error_set_reason
#undef error_set_field
#undef error_at_field
#undef error_set_native
#undef error_set_errno
#undef error_set_openssl
#undef error_set_memory
#undef error_prefix

/* What a message is made from before it is cleaned and cut. Cleaning never shortens, so text that
 * does not fit here does not fit into a message either. */
constexpr size_t ERROR_RAW_MAX = 2 * ERROR_MESSAGE_MAX;

struct error_raw {
    char text[ERROR_RAW_MAX];
    size_t len;
};

/* The one table: name, gRPC status, exit code. Exit codes say what to do: correct the input (2),
 * ask for permission (3), … try again (6), report a defect (70). A peer that does not know the
 * method is older or newer than we are: another request may do, so UNIMPLEMENTED is 2. */
static const struct {
    const char *name;
    int grpc;
    int exit;
} error_classes[ERROR_CLASS_COUNT] = {
    [ERROR_NONE] = {"none", 0, 0},           [ERROR_INVALID] = {"invalid", 3, 2},
    [ERROR_DENIED] = {"denied", 7, 3},       [ERROR_UNAUTHENTICATED] = {"unauthenticated", 16, 3},
    [ERROR_NOT_FOUND] = {"not found", 5, 4}, [ERROR_CONFLICT] = {"conflict", 9, 5},
    [ERROR_EXISTS] = {"exists", 6, 5},       [ERROR_UNAVAILABLE] = {"unavailable", 14, 6},
    [ERROR_EXHAUSTED] = {"exhausted", 8, 7}, [ERROR_TIMEOUT] = {"timeout", 4, 8},
    [ERROR_CANCELLED] = {"cancelled", 1, 6}, [ERROR_UNIMPLEMENTED] = {"unimplemented", 12, 2},
    [ERROR_INTERNAL] = {"internal", 13, 70},
};

/* Statuses that only peers send, and what we take them for: what they ask of us. */
static const struct {
    int grpc;
    enum error_class class;
} error_foreign_statuses[] = {
    {10, ERROR_CONFLICT}, /* ABORTED: a concurrent change; look again */
    {11, ERROR_INVALID},  /* OUT_OF_RANGE */
};

static const char *const error_domains[ERROR_DOMAIN_COUNT] = {
    [ERROR_DOMAIN_NONE] = "none",       [ERROR_DOMAIN_ERRNO] = "errno",
    [ERROR_DOMAIN_OPENSSL] = "openssl", [ERROR_DOMAIN_TPM] = "tpm",
    [ERROR_DOMAIN_HTTP2] = "http2",     [ERROR_DOMAIN_UV] = "uv",
    [ERROR_DOMAIN_SQLITE] = "sqlite",   [ERROR_DOMAIN_GRPC] = "grpc",
};

static const struct {
    int number;
    enum error_class class;
} error_numbers[] = {
    {ENOENT, ERROR_NOT_FOUND},
    {ENXIO, ERROR_NOT_FOUND},
    {ENODEV, ERROR_NOT_FOUND},
    {ESRCH, ERROR_NOT_FOUND},
    {ENOTDIR, ERROR_INVALID},
    {EISDIR, ERROR_INVALID},
    {ENAMETOOLONG, ERROR_INVALID},
    {ELOOP, ERROR_INVALID},
    {EADDRNOTAVAIL, ERROR_INVALID},
    {EACCES, ERROR_DENIED},
    {EPERM, ERROR_DENIED},
    {EROFS, ERROR_DENIED},
    {ENOSPC, ERROR_EXHAUSTED},
    {EDQUOT, ERROR_EXHAUSTED},
    {ENOMEM, ERROR_EXHAUSTED},
    {ENOBUFS, ERROR_EXHAUSTED},
    {EMFILE, ERROR_EXHAUSTED},
    {ENFILE, ERROR_EXHAUSTED},
    {EFBIG, ERROR_EXHAUSTED},
    {EMSGSIZE, ERROR_EXHAUSTED},
    {EADDRINUSE, ERROR_CONFLICT},
    {ENOTEMPTY, ERROR_CONFLICT},
    {ETXTBSY, ERROR_CONFLICT},
    {EEXIST, ERROR_EXISTS},
    {EAGAIN, ERROR_UNAVAILABLE},
    {EINTR, ERROR_UNAVAILABLE},
    {EBUSY, ERROR_UNAVAILABLE},
    {ECONNREFUSED, ERROR_UNAVAILABLE},
    {ECONNRESET, ERROR_UNAVAILABLE},
    {ECONNABORTED, ERROR_UNAVAILABLE},
    {ENOTCONN, ERROR_UNAVAILABLE},
    {EPIPE, ERROR_UNAVAILABLE},
    {ENETDOWN, ERROR_UNAVAILABLE},
    {ENETUNREACH, ERROR_UNAVAILABLE},
    {EHOSTDOWN, ERROR_UNAVAILABLE},
    {EHOSTUNREACH, ERROR_UNAVAILABLE},
    {EIO, ERROR_UNAVAILABLE},
    {ETIMEDOUT, ERROR_TIMEOUT},
    {ECANCELED, ERROR_CANCELLED},
    {ENOSYS, ERROR_UNIMPLEMENTED},
    {EOPNOTSUPP, ERROR_UNIMPLEMENTED},
};

static void error_raw_put(struct error_raw *raw, const char *text)
{
    size_t len = strlen(text);

    if (len > sizeof(raw->text) - raw->len)
        len = sizeof(raw->text) - raw->len;
    mem_copy(raw->text + raw->len, text, len);
    raw->len += len;
}

[[gnu::format(printf, 2, 0)]]
static void error_raw_format(struct error_raw *raw, const char *format, va_list args)
{
    int len = vsnprintf(raw->text, sizeof(raw->text), format, args);

    raw->len = 0;
    if (len < 0)
        error_raw_put(raw, "a message that can't be formatted");
    else
        raw->len = (size_t)len < sizeof(raw->text) ? (size_t)len : sizeof(raw->text) - 1;
}

/* `raw` is a copy: what the caller formatted may have pointed into err. */
static void error_raw_show(const struct error_raw *raw, struct error *err)
{
    text_show(slice(raw->text, raw->len), err->message, sizeof(err->message));
}

static void error_field_show(const char *text, char *ret, size_t size)
{
    text_show(slice_str(text), ret, size);
}

#define ERROR_FORMAT(raw, format)                                                                  \
    do {                                                                                           \
        va_list args;                                                                              \
        va_start(args, format);                                                                    \
        error_raw_format((raw), (format), args);                                                   \
        va_end(args);                                                                              \
    } while (false)

bool error_set(struct error *err, enum error_class class, const char *format, ...)
{
    struct error_raw raw;

    ERROR_FORMAT(&raw, format);
    *err = (struct error){.class = class};
    error_raw_show(&raw, err);
    return false;
}

bool error_set_reason(struct error *err, enum error_class class, const char *reason,
                      const char *format, ...)
{
    struct error made = {.class = class};
    struct error_raw raw;

    ERROR_FORMAT(&raw, format);
    error_field_show(reason, made.reason, sizeof(made.reason));
    error_raw_show(&raw, &made);
    *err = made;
    return false;
}

bool error_set_field(struct error *err, const char *field, const char *format, ...)
{
    struct error made = {.class = ERROR_INVALID};
    struct error_raw raw;

    ERROR_FORMAT(&raw, format);
    error_field_show(field, made.field, sizeof(made.field));
    error_raw_show(&raw, &made);
    *err = made;
    return false;
}

bool error_at_field(struct error *err, const char *field)
{
    if (err->field[0] == '\0')
        error_field_show(field, err->field, sizeof(err->field));
    return false;
}

static bool error_finish_native(struct error *err, enum error_class class, enum error_domain domain,
                                int64_t code, const char *text, struct error_raw *raw)
{
    if (text && text[0] != '\0') {
        error_raw_put(raw, ": ");
        error_raw_put(raw, text);
    }
    *err = (struct error){.class = class, .domain = domain, .code = code};
    error_raw_show(raw, err);
    return false;
}

bool error_set_native(struct error *err, enum error_class class, enum error_domain domain,
                      int64_t code, const char *text, const char *format, ...)
{
    struct error_raw raw;

    ERROR_FORMAT(&raw, format);
    return error_finish_native(err, class, domain, code, text, &raw);
}

bool error_set_errno(struct error *err, int number, const char *format, ...)
{
    enum error_class class = ERROR_INTERNAL;
    const char *text = strerrordesc_np(number);
    struct error_raw raw;

    ERROR_FORMAT(&raw, format);
    for (size_t i = 0; i < ARRAY_LEN(error_numbers); i++)
        if (error_numbers[i].number == number)
            class = error_numbers[i].class;
    return error_finish_native(err, class, ERROR_DOMAIN_ERRNO, number,
                               text ? text : "unknown error", &raw);
}

bool error_set_openssl(struct error *err, enum error_class class, const char *format, ...)
{
    const char *data = nullptr;
    int flags = 0;
    unsigned long code = ERR_get_error_all(nullptr, nullptr, nullptr, &data, &flags);
    const char *text = "OpenSSL gave no reason";
    struct error_raw raw;

    ERROR_FORMAT(&raw, format);
    if (ERR_SYSTEM_ERROR(code))
        text = strerrordesc_np(ERR_GET_REASON(code));
    else if (code != 0)
        text = ERR_reason_error_string(code);
    if (!text)
        text = "unknown reason";
    error_raw_put(&raw, ": ");
    error_raw_put(&raw, text);
    if (!data || !(flags & ERR_TXT_STRING))
        data = nullptr;
    error_finish_native(err, class, ERROR_DOMAIN_OPENSSL, (int64_t)code, data, &raw);
    ERR_clear_error(); /* `data` belonged to the queue until here */
    return false;
}

bool error_set_memory(struct error *err)
{
    return error_set(err, ERROR_EXHAUSTED, "out of memory");
}

bool error_prefix(struct error *err, const char *format, ...)
{
    struct error_raw raw;

    ERROR_FORMAT(&raw, format);
    error_raw_put(&raw, ": ");
    error_raw_put(&raw, err->message);
    error_raw_show(&raw, err);
    return false;
}

const char *error_class_name(enum error_class class)
{
    return (size_t)class < ERROR_CLASS_COUNT ? error_classes[class].name : "unknown";
}

const char *error_domain_name(enum error_domain domain)
{
    return (size_t)domain < ERROR_DOMAIN_COUNT ? error_domains[domain] : "unknown";
}

int error_grpc_status(enum error_class class)
{
    return error_classes[(size_t)class < ERROR_CLASS_COUNT ? class : ERROR_INTERNAL].grpc;
}

int error_exit_code(enum error_class class)
{
    return error_classes[(size_t)class < ERROR_CLASS_COUNT ? class : ERROR_INTERNAL].exit;
}

enum error_class error_class_from_grpc(int status)
{
    for (size_t i = 0; i < ERROR_CLASS_COUNT; i++)
        if (error_classes[i].grpc == status)
            return (enum error_class)i;
    for (size_t i = 0; i < ARRAY_LEN(error_foreign_statuses); i++)
        if (error_foreign_statuses[i].grpc == status)
            return error_foreign_statuses[i].class;
    return ERROR_INTERNAL;
}
