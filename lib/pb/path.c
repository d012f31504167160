#include "pb/path.h"

#include "base/mem.h"
#include "base/text.h"

#include <inttypes.h>
#include <stdio.h>

static const char PATH_CUT[] = "...";

struct path_text {
    char *data;
    size_t len;
    bool cut;
};

static void text_add(struct path_text *text, const char *part)
{
    size_t len = strlen(part);

    if (text->cut || text->len + len >= ERROR_FIELD_MAX - sizeof PATH_CUT) {
        text->cut = true;
        return;
    }
    mem_copy(text->data + text->len, part, len);
    text->len += len;
}

/* Recurses once a level; the levels are limited by whoever built the chain. */
static void path_add(const struct path *path, struct path_text *text)
{
    char part[PATH_EXCERPT_SIZE + 2], key[PATH_EXCERPT_SIZE];

    if (path->parent)
        path_add(path->parent, text);
    if (text->len > 0 && (path->kind == PATH_NAME || path->kind == PATH_NUMBER))
        text_add(text, ".");
    switch (path->kind) {
    case PATH_NAME:
        text_add(text, path->name);
        return;
    case PATH_NUMBER:
        snprintf(part, sizeof part, "%" PRIu64, path->number);
        break;
    case PATH_INDEX:
        snprintf(part, sizeof part, "[%" PRIu64 "]", path->number);
        break;
    case PATH_KEY:
        snprintf(part, sizeof part, "[%s]", path_excerpt(path->key, key));
        break;
    }
    text_add(text, part);
}

char *path_render(const struct path *path, char ret[static ERROR_FIELD_MAX])
{
    struct path_text text = {.data = ret};

    if (path)
        path_add(path, &text);
    if (text.cut) {
        mem_copy(ret + text.len, PATH_CUT, sizeof PATH_CUT - 1);
        text.len += sizeof PATH_CUT - 1;
    }
    ret[text.len] = '\0';
    return ret;
}

bool path_refuse(struct error *err, const struct path *path, const char *format, ...)
{
    char message[ERROR_MESSAGE_MAX], field[ERROR_FIELD_MAX];
    va_list args;

    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    path_render(path, field);
    return error_set_field(err, field, "%s%s%s", field, field[0] != '\0' ? ": " : "", message);
}

char *path_excerpt(struct slice text, char ret[static PATH_EXCERPT_SIZE])
{
    size_t room = PATH_EXCERPT_SIZE - sizeof PATH_CUT;
    size_t len = text.len < room ? text.len : room;

    /* Not in the middle of a character. */
    while (len > 0 && len < text.len && (text.data[len] & 0xc0) == 0x80)
        len--;
    bool valid = utf8_valid(slice(text.data, len));
    for (size_t i = 0; i < len; i++) {
        uint8_t c = text.data[i];
        ret[i] = c < ' ' || c == 0x7f || (!valid && c > 0x7f) ? '?' : (char)c;
    }
    if (len < text.len) {
        mem_copy(ret + len, PATH_CUT, sizeof PATH_CUT - 1);
        len += sizeof PATH_CUT - 1;
    }
    ret[len] = '\0';
    return ret;
}
