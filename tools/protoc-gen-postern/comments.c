#include "comments.h"

#include "base/mem.h"

/* google/protobuf/descriptor.proto, SourceCodeInfo.Location.path: field numbers and indices. */
constexpr int32_t PATH_SERVICE = 6; /* in FileDescriptorProto */
constexpr int32_t PATH_METHOD = 2;  /* in ServiceDescriptorProto */

static const char *find_comment(const Google__Protobuf__FileDescriptorProto *file,
                                const int32_t *path, size_t path_len)
{
    const Google__Protobuf__SourceCodeInfo *info = file->source_code_info;
    for (size_t i = 0; info && i < info->n_location; i++) {
        const Google__Protobuf__SourceCodeInfo__Location *location = info->location[i];
        if (location->n_path == path_len &&
            memcmp(location->path, path, path_len * sizeof(*path)) == 0)
            return location->leading_comments;
    }
    return nullptr;
}

/* One line, without what would end the C comment or begin another in it. */
static void put_line(struct buf *out, struct slice line)
{
    for (size_t i = 0; i < line.len; i++) {
        buf_put_u8(out, line.data[i]);
        bool more = i + 1 < line.len;
        if (more && ((line.data[i] == '*' && line.data[i + 1] == '/') ||
                     (line.data[i] == '/' && line.data[i + 1] == '*')))
            buf_put_u8(out, ' ');
    }
}

static struct slice trim(struct slice text)
{
    while (text.len > 0 && strchr(" \t\r\n", text.data[text.len - 1]))
        text.len--;
    return text;
}

static void put_comment(struct buf *out, const char *text, const char *indent)
{
    struct slice rest = trim(slice_str(text));
    if (rest.len == 0)
        return;
    buf_put_format(out, "%s/*", indent);
    for (;;) {
        const uint8_t *newline = memchr(rest.data, '\n', rest.len);
        size_t len = newline ? (size_t)(newline - rest.data) : rest.len;
        struct slice line = trim(slice(rest.data, len));
        /* protoc leaves the space behind the slashes, people may leave none. */
        if (line.len > 0 && line.data[0] != ' ')
            buf_put_u8(out, ' ');
        put_line(out, line);
        if (!newline)
            break;
        rest = slice(rest.data + len + 1, rest.len - len - 1);
        buf_put_format(out, "\n%s *", indent);
    }
    buf_put(out, slice_str(" */\n"));
}

void comment_service(struct buf *out, const Google__Protobuf__FileDescriptorProto *file,
                     size_t service)
{
    const int32_t path[] = {PATH_SERVICE, (int32_t)service};
    put_comment(out, find_comment(file, path, ARRAY_LEN(path)), "");
}

void comment_method(struct buf *out, const Google__Protobuf__FileDescriptorProto *file,
                    size_t service, size_t method, const char *indent)
{
    const int32_t path[] = {PATH_SERVICE, (int32_t)service, PATH_METHOD, (int32_t)method};
    put_comment(out, find_comment(file, path, ARRAY_LEN(path)), indent);
}
