#include "base/log.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

/* A record is one write(2) of at most PIPE_BUF (4096) bytes, which a pipe never tears apart. A
 * message is cut so that even when JSON escapes each character of it, the other fields fit. */
constexpr size_t LOG_RECORD_MAX = 4096;
constexpr size_t LOG_MESSAGE_MAX = 1600;
constexpr size_t LOG_NAME_MAX = 64;

/* Set once, before the first thread. */
static struct {
    const char *program;
    enum log_format format;
    enum log_level level;
} log_settings = {"postern", LOG_TEXT, LOG_INFO};

static const struct {
    const char *text;
    const char *json;
} log_levels[] = {
    [LOG_ERROR] = {"ERROR", "error"},
    [LOG_WARNING] = {"WARN ", "warning"},
    [LOG_INFO] = {"INFO ", "info"},
    [LOG_DEBUG] = {"DEBUG", "debug"},
};

struct log_record {
    char text[LOG_RECORD_MAX];
    size_t len;
};

void log_setup(const char *program, enum log_format format, enum log_level level)
{
    log_settings.program = program;
    log_settings.format = format;
    log_settings.level = level;
}

static void log_put(struct log_record *record, const char *text)
{
    size_t len = strlen(text);

    if (len > sizeof(record->text) - record->len)
        len = sizeof(record->text) - record->len;
    mem_copy(record->text + record->len, text, len);
    record->len += len;
}

/* `name` is ours; the value may be foreign, but has been through text_show, so that only quotes and
 * backslashes are left to escape (RFC 8259 section 7). */
static void log_put_member(struct log_record *record, const char *name, const char *shown)
{
    log_put(record, record->len == 0 ? "{\"" : ",\"");
    log_put(record, name);
    log_put(record, "\":\"");
    for (; *shown != '\0'; shown++) {
        char one[3] = {'\\', *shown, '\0'};

        log_put(record, *shown == '"' || *shown == '\\' ? one : one + 1);
    }
    log_put(record, "\"");
}

static void log_put_shown(struct log_record *record, const char *name, const char *text)
{
    char shown[LOG_NAME_MAX];

    text_show(slice_str(text), shown, sizeof(shown));
    if (name)
        log_put_member(record, name, shown);
    else
        log_put(record, shown);
}

static void log_json(struct log_record *record, enum log_level level, const char *module,
                     const char *message, const struct error *err)
{
    char number[24];
    char time[TIME_TEXT_SIZE];

    log_put_member(record, "time", time_format(clock_wall_ms(), time));
    log_put_member(record, "level", log_levels[level].json);
    log_put_shown(record, "program", log_settings.program);
    log_put_shown(record, "module", module);
    log_put_member(record, "message", message);
    if (err) {
        log_put_member(record, "class", error_class_name(err->class));
        if (err->reason[0] != '\0')
            log_put_shown(record, "reason", err->reason);
        if (err->domain != ERROR_DOMAIN_NONE) {
            log_put_member(record, "domain", error_domain_name(err->domain));
            snprintf(number, sizeof(number), "%" PRId64, err->code);
            log_put(record, ",\"code\":");
            log_put(record, number);
        }
    }
    log_put(record, "}\n");
}

static void log_text(struct log_record *record, enum log_level level, const char *module,
                     const char *message, const struct error *err)
{
    char number[24];
    char time[TIME_TEXT_SIZE];

    log_put(record, time_format(clock_wall_ms(), time));
    log_put(record, " ");
    log_put(record, log_levels[level].text);
    log_put(record, " ");
    log_put_shown(record, nullptr, log_settings.program);
    log_put(record, "/");
    log_put_shown(record, nullptr, module);
    log_put(record, ": ");
    log_put(record, message);
    if (err && err->reason[0] != '\0') {
        log_put(record, " reason=");
        log_put_shown(record, nullptr, err->reason);
    }
    if (err && err->domain != ERROR_DOMAIN_NONE) {
        snprintf(number, sizeof(number), "=%" PRId64, err->code);
        log_put(record, " ");
        log_put(record, error_domain_name(err->domain));
        log_put(record, number);
    }
    log_put(record, "\n");
}

[[gnu::format(printf, 4, 0)]]
static void log_record(enum log_level level, const char *module, const struct error *err,
                       const char *format, va_list args)
{
    /* Larger than `message` by a character: text_show never shortens, so what is cut here, perhaps
     * inside a character, would not have been shown. */
    constexpr size_t format_max = LOG_MESSAGE_MAX + 8;
    char raw[format_max + ERROR_MESSAGE_MAX + 2];
    char message[LOG_MESSAGE_MAX];
    struct log_record record = {0};
    int saved_errno = errno;
    int len = vsnprintf(raw, format_max, format, args);
    ssize_t written;

    if (len < 0)
        raw[0] = '\0';
    if (err)
        snprintf(raw + strlen(raw), ERROR_MESSAGE_MAX + 2, ": %s", err->message);
    text_show(slice_str(raw), message, sizeof(message));
    if (log_settings.format == LOG_JSON)
        log_json(&record, level, module, message, err);
    else
        log_text(&record, level, module, message, err);
    do
        written = write(STDERR_FILENO, record.text, record.len);
    while (written < 0 && errno == EINTR);
    /* A log that can't be written has nobody to tell. */
    errno = saved_errno;
}

void log_at(enum log_level level, const char *module, const char *format, ...)
{
    va_list args;

    if (level > log_settings.level)
        return;
    va_start(args, format);
    log_record(level, module, nullptr, format, args);
    va_end(args);
}

void log_failure(enum log_level level, const char *module, const struct error *err,
                 const char *format, ...)
{
    va_list args;

    if (level > log_settings.level)
        return;
    va_start(args, format);
    log_record(level, module, err, format, args);
    va_end(args);
}
