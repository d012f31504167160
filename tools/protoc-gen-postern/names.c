#include "names.h"

#include <ctype.h>

/* protobuf-c's CamelCase: underscores go, the letter behind one (and the first) is upper case. */
static void put_camel(struct buf *out, struct slice word)
{
    bool upper = true;
    for (size_t i = 0; i < word.len; i++) {
        uint8_t c = word.data[i];
        if (c == '_') {
            upper = true;
            continue;
        }
        buf_put_u8(out, upper ? (uint8_t)toupper(c) : c);
        upper = false;
    }
}

/* protobuf-c's snake_case: a '_' before each upper-case letter that does not follow another. */
static void put_snake(struct buf *out, struct slice word)
{
    bool was_upper = true;
    for (size_t i = 0; i < word.len; i++) {
        uint8_t c = word.data[i];
        bool upper = isupper(c) != 0;
        if (upper && !was_upper)
            buf_put_u8(out, '_');
        buf_put_u8(out, (uint8_t)tolower(c));
        was_upper = upper;
    }
}

static void put_parts(struct buf *out, const char *full_name,
                      void (*put_part)(struct buf *, struct slice))
{
    const char *at = full_name + (*full_name == '.');
    for (;;) {
        size_t len = strcspn(at, ".");
        put_part(out, slice(at, len));
        if (at[len] == '\0')
            return;
        buf_put(out, slice_str("__"));
        at += len + 1;
    }
}

void name_type(struct buf *out, const char *full_name)
{
    put_parts(out, full_name, put_camel);
}

void name_descriptor(struct buf *out, const char *full_name)
{
    put_parts(out, full_name, put_snake);
    buf_put(out, slice_str("__descriptor"));
}

void name_snake(struct buf *out, const char *camel)
{
    put_snake(out, slice_str(camel));
}

bool name_is_reserved(struct slice name)
{
    static const char *const reserved[] = {
        "alignas",      "alignof",
        "asm",          "assert",
        "auto",         "bool",
        "break",        "case",
        "char",         "const",
        "constexpr",    "continue",
        "default",      "do",
        "double",       "else",
        "enum",         "errno",
        "extern",       "false",
        "float",        "for",
        "goto",         "if",
        "inline",       "int",
        "linux",        "long",
        "nullptr",      "register",
        "restrict",     "return",
        "short",        "signed",
        "sizeof",       "static",
        "struct",       "static_assert",
        "switch",       "true",
        "thread_local", "typedef",
        "typeof",       "typeof_unqual",
        "union",        "unix",
        "unsigned",     "void",
        "volatile",     "while",
    };
    for (size_t i = 0; i < ARRAY_LEN(reserved); i++) {
        if (slice_is(name, reserved[i]))
            return true;
    }
    return name.len >= 2 && name.data[0] == '_' && name.data[1] == '_'; /* __thread and its like */
}

void name_service(struct buf *out, const char *package, const char *service)
{
    put_snake(out, slice_str(service));
    const char *dot = strrchr(package, '.');
    const char *last = dot ? dot + 1 : package;
    if (last[0] == 'v' && isdigit((unsigned char)last[1]) && strcmp(last, "v1") != 0)
        buf_put_format(out, "_%s", last);
}

struct slice name_stem(const char *file)
{
    static const char suffix[] = ".proto";
    size_t len = strlen(file), extra = strlen(suffix);
    bool is_proto = len > extra && strcmp(file + len - extra, suffix) == 0;
    return slice(file, is_proto ? len - extra : len);
}

void name_set(struct buf *out, const char *file)
{
    struct slice stem = name_stem(file);
    for (size_t i = 0; i < stem.len; i++)
        buf_put_u8(out, isalnum(stem.data[i]) != 0 ? stem.data[i] : '_');
    buf_put(out, slice_str("_set"));
}
