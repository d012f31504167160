#include "config.h"

#include "base/text.h"
#include "cgroup.h"
#include "loop/address.h"
#include "spiffe/id.h"
#include "tpm/tpm.h"

#include <stdio.h>

/* TPM 2.0 Part 2, 7.8 and the TCG's registry of handles: the owner's part of NV. */
constexpr uint32_t COUNTER_INDEX_FIRST = 0x01800000;
constexpr uint32_t COUNTER_INDEX_LAST = 0x01BFFFFF;
constexpr uint64_t HOUR_MS = 3'600'000;

static bool check_authority(const Postern__V1__AuthorityEndpoint *authority, struct error *err)
{
    struct address address;
    struct error why;
    if (!address_parse(authority->address, &address, &why))
        return error_set_field(err, "authority.address", "%s", why.message);
    if (address.kind == ADDRESS_UNIX || address.port == 0)
        return error_set_field(err, "authority.address",
                               "expected HOST:PORT, such as authority.example.org:15550, found "
                               "\"%s\"",
                               authority->address);
    if (authority->trust_anchor[0] == '\0')
        return error_set_field(err, "authority.trust_anchor",
                               "expected the path of a PEM file with the authority's CA "
                               "certificate");
    if (authority->server_name[0] == '\0')
        return error_set_field(err, "authority.server_name",
                               "expected the name in the authority's certificate");
    return true;
}

static bool check_absolute(const char *field, const char *path, size_t max, struct error *err)
{
    size_t len = strlen(path);
    if (path[0] != '/' || len > max || (len > 1 && path[len - 1] == '/'))
        return error_set_field(err, field,
                               "expected an absolute path of at most %zu bytes without \"/\" at "
                               "its end, found \"%s\"",
                               max, path);
    return true;
}

/* "0x" and up to eight hex digits. */
static bool parse_handle(const char *text, uint32_t *ret)
{
    if (text[0] != '0' || text[1] != 'x' || text[2] == '\0' || strlen(text) > 10)
        return false;
    uint32_t value = 0;
    for (const char *at = text + 2; *at; at++) {
        const char *digits = "0123456789abcdef";
        const char *found = strchr(digits, *at >= 'A' && *at <= 'F' ? *at - 'A' + 'a' : *at);
        if (!found)
            return false;
        value = value << 4 | (uint32_t)(found - digits);
    }
    *ret = value;
    return true;
}

/* Absent is fine: then the password is empty. */
static bool check_file(const char *field, const char *path, struct error *err)
{
    return !path || path[0] != '\0' || error_set_field(err, field, "expected a path");
}

static bool check_tpm(const Postern__V1__TpmConfig *config, struct error *err)
{
    struct error why;
    CLEANUP(tpm_free_at) struct tpm *tpm = nullptr;
    const struct tpm_settings settings = {.tcti = config->tcti};
    if (!tpm_new(&settings, &tpm, &why))
        return error_set_field(err, "tpm.tcti", "%s", why.message);
    uint32_t index = 0;
    if (!parse_handle(config->counter_index, &index) || index < COUNTER_INDEX_FIRST ||
        index > COUNTER_INDEX_LAST)
        return error_set_field(
            err, "tpm.counter_index", "expected an NV index from 0x%08x to 0x%08x, found \"%s\"",
            (unsigned)COUNTER_INDEX_FIRST, (unsigned)COUNTER_INDEX_LAST, config->counter_index);
    return duration_check("tpm.busy_timeout", config->busy_timeout, 1'000, 600'000, err) &&
           check_file("tpm.owner_auth_file", config->owner_auth_file, err) &&
           check_file("tpm.endorsement_auth_file", config->endorsement_auth_file, err);
}

static bool check_spiffe_id(const char *field, const char *text, struct error *err)
{
    struct spiffe_id id;
    struct error why;
    if (!spiffe_id_parse(slice_str(text), &id, &why))
        return error_set_field(err, field, "%s", why.message);
    return spiffe_id_workload_check(&id, err) || error_at_field(err, field);
}

/* One caller must be one workload: two mappings never apply to the same cgroup. */
static bool check_overlap(const Postern__V1__NodeConfig *config, size_t at, const char *field,
                          struct error *err)
{
    const char *path = config->pods[at]->cgroup;
    for (size_t i = 0; i < at; i++) {
        const char *other = config->pods[i]->cgroup;
        if (strcmp(path, other) == 0)
            return error_set_field(err, field, "%s is mapped by pods[%zu] already", path, i);
        if (cgroup_within(path, other) || cgroup_within(other, path))
            return error_set_field(err, field,
                                   "%s overlaps with %s of pods[%zu]: a process below both would "
                                   "be two workloads",
                                   path, other, i);
    }
    return true;
}

static bool check_pods(const Postern__V1__NodeConfig *config, struct error *err)
{
    if (config->n_pods > PODS_MAX)
        return error_set_field(err, "pods", "%zu mappings, at most %zu are possible",
                               config->n_pods, PODS_MAX);
    for (size_t i = 0; i < config->n_pods; i++) {
        char field[64];
        struct error why;
        (void)snprintf(field, sizeof(field), "pods[%zu].cgroup", i);
        if (!cgroup_path_check(config->pods[i]->cgroup, &why))
            return error_set_field(err, field, "%s", why.message);
        if (!check_overlap(config, i, field, err))
            return false;
        (void)snprintf(field, sizeof(field), "pods[%zu].spiffe_id", i);
        if (!check_spiffe_id(field, config->pods[i]->spiffe_id, err))
            return false;
    }
    return true;
}

const Postern__V1__TpmConfig *node_config_tpm(const Postern__V1__NodeConfig *config)
{
    static const Postern__V1__TpmConfig defaults = POSTERN__V1__TPM_CONFIG__INIT;
    return config->tpm ? config->tpm : &defaults;
}

uint32_t node_config_counter(const Postern__V1__NodeConfig *config)
{
    uint32_t index = 0;
    (void)parse_handle(node_config_tpm(config)->counter_index, &index);
    return index;
}

bool node_config_check(const ProtobufCMessage *message, struct error *err)
{
    const Postern__V1__NodeConfig *config = (const Postern__V1__NodeConfig *)message;
    return check_authority(config->authority, err) &&
           check_absolute("state_dir", config->state_dir, 4000, err) &&
           check_tpm(node_config_tpm(config), err) &&
           check_file("join_token_file", config->join_token_file, err) &&
           check_absolute("pod_socket", config->pod_socket, ADDRESS_PATH_MAX, err) &&
           duration_check("max_offline", config->max_offline, 60'000, 366 * 24 * HOUR_MS, err) &&
           duration_check("drain", config->drain, 0, HOUR_MS, err) && check_pods(config, err);
}

bool node_config_changeable(const ProtobufCMessage *now, const ProtobufCMessage *next,
                            struct error *err)
{
    const Postern__V1__NodeConfig *old = (const Postern__V1__NodeConfig *)now;
    const Postern__V1__NodeConfig *new = (const Postern__V1__NodeConfig *)next;
    const Postern__V1__AuthorityEndpoint *authority = old->authority, *next_one = new->authority;
    const Postern__V1__TpmConfig *tpm = node_config_tpm(old), *next_tpm = node_config_tpm(new);
    const struct {
        const char *field;
        const char *now, *next;
    } fixed[] = {
        {"authority.address", authority->address, next_one->address},
        {"authority.trust_anchor", authority->trust_anchor, next_one->trust_anchor},
        {"authority.server_name", authority->server_name, next_one->server_name},
        {"state_dir", old->state_dir, new->state_dir},
        {"tpm.tcti", tpm->tcti, next_tpm->tcti},
        {"tpm.counter_index", tpm->counter_index, next_tpm->counter_index},
        {"tpm.busy_timeout", tpm->busy_timeout, next_tpm->busy_timeout},
        {"tpm.owner_auth_file", tpm->owner_auth_file, next_tpm->owner_auth_file},
        {"tpm.endorsement_auth_file", tpm->endorsement_auth_file, next_tpm->endorsement_auth_file},
        {"pod_socket", old->pod_socket, new->pod_socket},
        {"join_token_file", old->join_token_file, new->join_token_file},
        {"max_offline", old->max_offline, new->max_offline},
    };
    for (size_t i = 0; i < ARRAY_LEN(fixed); i++) {
        if (!setting_keeps(fixed[i].field, fixed[i].now, fixed[i].next, err))
            return false;
    }
    return true;
}
