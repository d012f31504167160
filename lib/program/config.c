#include "program/config.h"

#include "base/file.h"
#include "base/mem.h"
#include "base/text.h"
#include "pb/yaml.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

bool config_read(const char *path, const ProtobufCMessageDescriptor *descriptor,
                 config_check *check, ProtobufCMessage **ret, struct error *err)
{
    CLEANUP(buf_done) struct buf text;
    buf_init(&text, PB_YAML_MAX);
    if (!file_read(path, &text, err))
        return error_prefix(err, "read the configuration");
    CLEANUP(pb_free_at) ProtobufCMessage *message = nullptr;
    if (!pb_from_yaml(descriptor, path, buf_slice(&text), &message, err))
        return false;
    if (check && !check(message, err))
        return pb_yaml_locate(path, buf_slice(&text), err);
    *ret = TAKE(message);
    return true;
}

bool config_locate(const char *path, struct error *err)
{
    CLEANUP(buf_done) struct buf text;
    struct error gone;
    buf_init(&text, PB_YAML_MAX);
    if (!file_read(path, &text, &gone)) /* no longer there: then without its place */
        return error_prefix(err, "%s: %s", path, err->field);
    return pb_yaml_locate(path, buf_slice(&text), err);
}

bool setting_keeps(const char *field, const char *now, const char *next, struct error *err)
{
    if (now == next || (now && next && strcmp(now, next) == 0))
        return true;
    return error_set_field(err, field, "a change needs a restart");
}

bool config_print(const ProtobufCMessage *message, struct error *err)
{
    CLEANUP(buf_done) struct buf text;
    buf_init(&text, PB_YAML_MAX);
    if (!pb_to_yaml(message, &text, err))
        return false;
    if (fwrite(text.data, 1, text.len, stdout) != text.len)
        return error_set_errno(err, errno, "print the configuration");
    return true;
}

void config_path_resolve(const char *config_path, const char *path, struct buf *ret)
{
    const char *slash = strrchr(config_path, '/');
    if (path[0] != '/' && slash)
        buf_put(ret, slice(config_path, (size_t)(slash - config_path) + 1));
    buf_put(ret, slice_str(path));
    buf_put_u8(ret, '\0');
}

uint64_t duration_ms(const char *text)
{
    uint64_t ms = 0;
    struct error err;
    return parse_duration_ms(text, &ms, &err) ? ms : 0;
}

bool duration_check(const char *field, const char *text, uint64_t min, uint64_t max,
                    struct error *err)
{
    uint64_t ms;
    if (!parse_duration_ms(text, &ms, err) || ms < min || ms > max)
        return error_set_field(err, field,
                               "expected a duration from %" PRIu64 "ms to %" PRIu64
                               "h such as 500ms, 30s, 5m or 24h, found \"%s\"",
                               min, max / 3'600'000, text);
    return true;
}
