#include "check.h"

#include "names.h"
#include "stubs.h"

#include "base/mem.h"

#include <ctype.h>

typedef Google__Protobuf__FileDescriptorProto FileProto;
typedef Google__Protobuf__ServiceDescriptorProto ServiceProto;
typedef Google__Protobuf__MethodDescriptorProto MethodProto;

constexpr size_t SYMBOLS_MAX = 16 * 1024 * 1024; /* the output's own maximum */
constexpr uint32_t PB_C_FILE = 1019;             /* protobuf-c/protobuf-c.proto, in FileOptions */

/* All names so far, each followed by whose it is: "a_get\0A.Get\0". */
struct symbols {
    struct buf text;
};

/* Adds the name that stands in `name`; `owner` says whose it is. */
static bool symbols_add(struct symbols *symbols, const struct buf *name, const char *owner,
                        struct error *err)
{
    if (!buf_ok(name, err))
        return false;
    for (struct slice rest = buf_slice(&symbols->text); rest.len > 0;) {
        const char *known = (const char *)rest.data;
        const char *whose = known + strlen(known) + 1;
        size_t len = strlen(known) + strlen(whose) + 2;
        if (slice_is(buf_slice(name), known))
            return error_set(err, ERROR_INVALID, "%s and %s both become %s in C: rename one", whose,
                             owner, known);
        rest = slice(rest.data + len, rest.len - len);
    }
    buf_put(&symbols->text, buf_slice(name));
    buf_put_u8(&symbols->text, 0);
    buf_put(&symbols->text, slice_str(owner));
    buf_put_u8(&symbols->text, 0);
    return buf_ok(&symbols->text, err);
}

static bool check_method(struct symbols *symbols, const FileProto *file,
                         const ServiceProto *service, const MethodProto *method, struct error *err)
{
    const char *package = file->package ? file->package : "";
    CLEANUP(buf_done) struct buf name, owner;
    buf_init(&name, SYMBOLS_MAX);
    buf_init(&owner, SYMBOLS_MAX);
    buf_put_format(&owner, "%s.%s", service->name, method->name);
    buf_put_u8(&owner, 0);
    if (!buf_ok(&owner, err))
        return false;
    name_snake(&name, method->name);
    if (!buf_ok(&name, err))
        return false;
    if (name_is_reserved(buf_slice(&name)))
        return error_set(err, ERROR_INVALID,
                         "%s.%s becomes \"%.*s\", which C keeps for itself: rename it",
                         service->name, method->name, (int)name.len, (const char *)name.data);
    const char *const *suffixes = stubs_suffixes(stubs_kind(method));
    for (size_t i = 0; suffixes[i]; i++) {
        buf_clear(&name);
        name_service(&name, package, service->name);
        buf_put_u8(&name, '_');
        name_snake(&name, method->name);
        buf_put(&name, slice_str(suffixes[i]));
        if (!symbols_add(symbols, &name, (const char *)owner.data, err))
            return false;
    }
    const char *const *members = stubs_members(stubs_kind(method));
    for (size_t i = 0; members[i]; i++) {
        buf_clear(&name);
        name_service(&name, package, service->name);
        buf_put(&name, slice_str("_handlers."));
        name_snake(&name, method->name);
        buf_put(&name, slice_str(members[i]));
        if (!symbols_add(symbols, &name, (const char *)owner.data, err))
            return false;
    }
    return true;
}

static bool check_service(struct symbols *symbols, const FileProto *file,
                          const ServiceProto *service, struct error *err)
{
    if (service->n_method == 0)
        return error_set(err, ERROR_INVALID,
                         "service %s has no methods, and C no structure without members",
                         service->name);
    CLEANUP(buf_done) struct buf name;
    buf_init(&name, SYMBOLS_MAX);
    static const char *const own[] = {"_definition", "_register", "_methods"};
    for (size_t i = 0; i < ARRAY_LEN(own); i++) {
        buf_clear(&name);
        name_service(&name, file->package ? file->package : "", service->name);
        buf_put(&name, slice_str(own[i]));
        if (!symbols_add(symbols, &name, service->name, err))
            return false;
    }
    for (size_t i = 0; i < service->n_method; i++) {
        if (!check_method(symbols, file, service, service->method[i], err))
            return false;
    }
    return true;
}

static bool check_options(const FileProto *file, struct error *err)
{
    const ProtobufCMessage *options = file->options ? &file->options->base : nullptr;
    for (unsigned i = 0; options && i < options->n_unknown_fields; i++) {
        if (options->unknown_fields[i].tag == PB_C_FILE)
            return error_set(err, ERROR_INVALID,
                             "option (pb_c_file) may rename protobuf-c's types, which stubs do not "
                             "follow: remove it");
    }
    return true;
}

bool check_file(const FileProto *file, struct error *err)
{
    if (isdigit((unsigned char)file->name[0]))
        return error_set(
            err, ERROR_INVALID,
            "a file with services becomes part of a name in C, so its path can't begin "
            "with a digit: rename it");
    if (!check_options(file, err))
        return false;
    struct symbols symbols;
    buf_init(&symbols.text, SYMBOLS_MAX);
    bool ok = true;
    for (size_t i = 0; ok && i < file->n_service; i++)
        ok = check_service(&symbols, file, file->service[i], err);
    buf_done(&symbols.text);
    return ok;
}
