#include "config.h"

#include "base/crypt.h"
#include "base/text.h"
#include "spiffe/id.h"

#include <stdio.h>

constexpr uint64_t SVID_LIFETIME_MIN_MS = 10'000; /* a node must have time to use it */
constexpr uint64_t SVID_LIFETIME_MAX_MS = 7ULL * 24 * 3'600'000;
constexpr size_t PATH_SIZE = 4096;
constexpr size_t PINS_MAX = 100'000; /* an inventory; twenty times what one cluster has */

static bool check_pins(const Postern__V1__AuthorityConfig *config, struct error *err)
{
    char field[ERROR_FIELD_MAX];
    if (config->n_ek_pinned > PINS_MAX)
        return error_set_field(err, "ek_pinned", "at most %zu", PINS_MAX);
    for (size_t i = 0; i < config->n_ek_pinned; i++) {
        const char *pin = config->ek_pinned[i];
        if (strlen(pin) == 2 * SHA256_SIZE &&
            strspn(pin, "0123456789abcdefABCDEF") == 2 * SHA256_SIZE)
            continue;
        snprintf(field, sizeof(field), "ek_pinned[%zu]", i);
        return error_set_field(err, field, "expected %zu hex digits, found \"%s\"", 2 * SHA256_SIZE,
                               pin);
    }
    return true;
}

static bool check_path(const char *field, const char *path, struct error *err)
{
    if (path[0] != '\0' && strlen(path) < PATH_SIZE)
        return true;
    return error_set_field(err, field, "expected a path");
}

bool listen_address_parse(const char *text, struct address *ret, struct error *err)
{
    struct address address;
    if (!address_parse(text, &address, err))
        return false;
    /* Evidence is bound to a TLS connection, so no Unix socket; a name may have several addresses. */
    if (address.kind != ADDRESS_IPV4 && address.kind != ADDRESS_IPV6)
        return error_set(err, ERROR_INVALID,
                         "expected an IP address and a port such as 0.0.0.0:15550 or [::]:15550, "
                         "found \"%s\"",
                         text);
    *ret = address;
    return true;
}

bool authority_config_check(const ProtobufCMessage *message, struct error *err)
{
    const Postern__V1__AuthorityConfig *config = (const Postern__V1__AuthorityConfig *)message;
    struct address address;
    if (!spiffe_trust_domain_check(slice_str(config->trust_domain), err))
        return error_at_field(err, "trust_domain");
    if (!listen_address_parse(config->listen, &address, err))
        return error_at_field(err, "listen");
    return check_path("data_dir", config->data_dir, err) &&
           check_path("policies", config->policies, err) &&
           (!config->ek_roots || check_path("ek_roots", config->ek_roots, err)) &&
           check_pins(config, err) &&
           duration_check("svid_lifetime", config->svid_lifetime, SVID_LIFETIME_MIN_MS,
                          SVID_LIFETIME_MAX_MS, err) &&
           duration_check("drain", config->drain, 0, 3'600'000, err);
}

bool authority_config_changeable(const ProtobufCMessage *now, const ProtobufCMessage *next,
                                 struct error *err)
{
    const Postern__V1__AuthorityConfig *old = (const Postern__V1__AuthorityConfig *)now;
    const Postern__V1__AuthorityConfig *new = (const Postern__V1__AuthorityConfig *)next;
    return setting_keeps("data_dir", old->data_dir, new->data_dir, err) &&
           setting_keeps("trust_domain", old->trust_domain, new->trust_domain, err) &&
           setting_keeps("listen", old->listen, new->listen, err);
}

static bool resolve(const char *config_path, const char *path, struct buf *ret,
                    const char **ret_text, struct error *err)
{
    buf_init(ret, 2 * PATH_SIZE);
    config_path_resolve(config_path, path, ret);
    *ret_text = (const char *)ret->data;
    return buf_ok(ret, err);
}

bool config_settings(const char *config_path, const Postern__V1__AuthorityConfig *config,
                     struct config_settings *ret, struct error *err)
{
    struct authority_settings *settings = &ret->settings;
    settings->trust_domain = config->trust_domain;
    settings->svid_lifetime_ms = duration_ms(config->svid_lifetime);
    settings->policies.pinned = (const char *const *)config->ek_pinned;
    settings->policies.pinned_count = config->n_ek_pinned;
    if (config->ek_roots &&
        !resolve(config_path, config->ek_roots, &ret->ek_roots, &settings->policies.ek_roots, err))
        return false;
    return address_parse(config->listen, &settings->listen, err) &&
           resolve(config_path, config->data_dir, &ret->data_dir, &settings->data_dir, err) &&
           resolve(config_path, config->policies, &ret->policies, &settings->policies.folder, err);
}

void config_settings_done(struct config_settings *settings)
{
    buf_done(&settings->data_dir);
    buf_done(&settings->policies);
    buf_done(&settings->ek_roots);
}
