#include "spiffe/id.h"

#include "base/mem.h"

static const char SCHEME[] = "spiffe://";
constexpr size_t SCHEME_LEN = sizeof SCHEME - 1;

static bool is_domain_char(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_';
}

static bool is_path_char(uint8_t c)
{
    return is_domain_char(c) || (c >= 'A' && c <= 'Z');
}

/* A character for a message: as it is where that is safe. */
static bool refuse_char(uint8_t c, const char *where, const char *expected, struct error *err)
{
    if (c > ' ' && c < 0x7f)
        return error_set(err, ERROR_INVALID, "'%c' in %s: expected %s", c, where, expected);
    return error_set(err, ERROR_INVALID, "byte 0x%02x in %s: expected %s", c, where, expected);
}

bool spiffe_trust_domain_check(struct slice name, struct error *err)
{
    if (name.len == 0)
        return error_set(err, ERROR_INVALID, "the trust domain is empty");
    if (name.len > SPIFFE_TRUST_DOMAIN_MAX)
        return error_set(err, ERROR_INVALID, "the trust domain has %zu characters, at most %zu",
                         name.len, SPIFFE_TRUST_DOMAIN_MAX);
    for (size_t i = 0; i < name.len; i++) {
        if (!is_domain_char(name.data[i]))
            return refuse_char(name.data[i], "the trust domain", "a-z, 0-9, \".\", \"-\" and \"_\"",
                               err);
    }
    return true;
}

/* One segment, without its "/". */
static bool check_segment(struct slice segment, struct error *err)
{
    if (segment.len == 0)
        return error_set(err, ERROR_INVALID, "the path has an empty segment or ends in \"/\"");
    if (slice_is(segment, ".") || slice_is(segment, ".."))
        return error_set(err, ERROR_INVALID, "the path has a segment \".\" or \"..\"");
    for (size_t i = 0; i < segment.len; i++) {
        if (!is_path_char(segment.data[i]))
            return refuse_char(segment.data[i], "the path",
                               "letters, digits, \".\", \"-\" and \"_\"", err);
    }
    return true;
}

/* `path` is empty or begins with "/". */
static bool check_path(struct slice path, struct error *err)
{
    size_t start = 1;
    for (size_t i = 1; i <= path.len; i++) {
        if (i < path.len && path.data[i] != '/')
            continue;
        if (!check_segment(slice(path.data + start, i - start), err))
            return false;
        start = i + 1;
    }
    return true;
}

bool spiffe_id_parse(struct slice text, struct spiffe_id *ret, struct error *err)
{
    if (text.len > SPIFFE_ID_MAX)
        return error_set(err, ERROR_INVALID, "the SPIFFE ID has %zu bytes, at most %zu", text.len,
                         SPIFFE_ID_MAX);
    if (text.len < SCHEME_LEN || !slice_equal(slice(text.data, SCHEME_LEN), slice_str(SCHEME)))
        return error_set(err, ERROR_INVALID,
                         "not a SPIFFE ID: expected spiffe://TRUST-DOMAIN/PATH");
    struct slice rest = slice(text.data + SCHEME_LEN, text.len - SCHEME_LEN);
    size_t domain_len = 0;
    while (domain_len < rest.len && rest.data[domain_len] != '/')
        domain_len++;
    if (!spiffe_trust_domain_check(slice(rest.data, domain_len), err) ||
        !check_path(slice(rest.data + domain_len, rest.len - domain_len), err))
        return error_prefix(err, "not a SPIFFE ID");
    mem_copy(ret->text, text.data, text.len);
    ret->text[text.len] = '\0';
    ret->len = text.len;
    ret->trust_domain_len = domain_len;
    return true;
}

struct slice spiffe_id_trust_domain(const struct spiffe_id *id)
{
    return slice(id->text + SCHEME_LEN, id->trust_domain_len);
}

struct slice spiffe_id_path(const struct spiffe_id *id)
{
    size_t start = SCHEME_LEN + id->trust_domain_len;
    return slice(id->text + start, id->len - start);
}

bool spiffe_id_workload_check(const struct spiffe_id *id, struct error *err)
{
    static const char reserved[] = "/postern";
    struct slice path = spiffe_id_path(id);
    size_t len = sizeof(reserved) - 1;
    if (path.len == 0)
        return error_set(err, ERROR_INVALID, "\"%s\" names a trust domain, not a workload",
                         id->text);
    if (path.len >= len && memcmp(path.data, reserved, len) == 0 &&
        (path.len == len || path.data[len] == '/'))
        return error_set(err, ERROR_INVALID,
                         "\"%s\" is reserved: below /postern/ are Postern's own identities",
                         id->text);
    return true;
}
