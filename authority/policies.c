#include "policies.h"

#include "base/file.h"
#include "base/mem.h"
#include "base/text.h"
#include "pb/yaml.h"
#include "spiffe/id.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

constexpr size_t PATH_SIZE = 4096;

struct policies {
    unsigned references;
    const struct attest_policy **attestation;
    size_t attestation_count;
    ProtobufCMessage **release; /* ReleasePolicy */
    size_t release_count;
    struct ek_roots *roots;
    uint8_t (*pins)[SHA256_SIZE];
    size_t pin_count;
};

/* ---- Folders ---- */

struct file_list {
    char *names[POLICY_FILES_MAX];
    size_t count;
};

static void file_list_done(struct file_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        mem_free(list->names[i]);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool is_policy_file(const char *name)
{
    size_t len = strlen(name);
    return name[0] != '.' && len > 5 && strcmp(name + len - 5, ".yaml") == 0;
}

static bool list_folder(DIR *folder, const char *path, struct file_list *list, struct error *err)
{
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(folder);
        if (!entry && errno != 0)
            return error_set_errno(err, errno, "%s", path);
        if (!entry)
            break;
        if (!is_policy_file(entry->d_name))
            continue;
        if (list->count == POLICY_FILES_MAX)
            return error_set(err, ERROR_EXHAUSTED, "%s: at most %zu policies are read", path,
                             POLICY_FILES_MAX);
        char *name = mem_strdup(entry->d_name);
        if (!name)
            return error_set_memory(err);
        list->names[list->count++] = name;
    }
    qsort(list->names, list->count, sizeof(list->names[0]), compare_names);
    return true;
}

/* Calls `take` with each file of FOLDER/KIND as a message of `descriptor`; `take` owns the message
 * when it returned true. An error with a field gets its place in the file. */
static bool read_folder(struct policies *policies, const char *folder, const char *kind,
                        const ProtobufCMessageDescriptor *descriptor,
                        bool (*take)(struct policies *policies, ProtobufCMessage *message,
                                     struct error *err),
                        bool (*reserve)(struct policies *policies, size_t count, struct error *err),
                        struct error *err)
{
    char path[PATH_SIZE];
    CLEANUP(file_list_done) struct file_list list = {0};
    snprintf(path, sizeof(path), "%s/%s", folder, kind);
    DIR *opened = opendir(path);
    if (!opened && errno != ENOENT)
        return error_set_errno(err, errno, "%s", path);
    bool listed = !opened || list_folder(opened, path, &list, err);
    if (opened)
        closedir(opened);
    if (!listed || !reserve(policies, list.count, err))
        return false;

    for (size_t i = 0; i < list.count; i++) {
        CLEANUP(buf_done) struct buf text;
        ProtobufCMessage *message;
        buf_init(&text, PB_YAML_MAX);
        int len = snprintf(path, sizeof(path), "%s/%s/%s", folder, kind, list.names[i]);
        if (len < 0 || (size_t)len >= sizeof(path))
            return error_set(err, ERROR_INVALID, "%s/%s: the path is too long", folder, kind);
        if (!file_read(path, &text, err) ||
            !pb_from_yaml(descriptor, path, buf_slice(&text), &message, err))
            return false;
        if (!take(policies, message, err)) {
            pb_free(message);
            return pb_yaml_locate(path, buf_slice(&text), err);
        }
    }
    return true;
}

/* ---- Attestation policies ---- */

static bool reserve_attestation(struct policies *policies, size_t count, struct error *err)
{
    policies->attestation = mem_new(count ? count : 1, sizeof(struct attest_policy *));
    return policies->attestation || error_set_memory(err);
}

static bool take_attestation(struct policies *policies, ProtobufCMessage *message,
                             struct error *err)
{
    CLEANUP(attest_policy_unref_at) const struct attest_policy *policy = nullptr;
    if (!attest_policy_new((const Postern__V1__AttestationPolicy *)message, &policy, err))
        return false;
    if (policies_attestation(policies, policy->message->name))
        return error_set_field(err, "name", "another file has a policy \"%s\" already",
                               policy->message->name);
    policies->attestation[policies->attestation_count++] = TAKE(policy);
    pb_free(message); /* the policy has a copy of its own */
    return true;
}

const struct attest_policy *policies_attestation(const struct policies *policies, const char *name)
{
    for (size_t i = 0; name && i < policies->attestation_count; i++) {
        if (strcmp(policies->attestation[i]->message->name, name) == 0)
            return policies->attestation[i];
    }
    return nullptr;
}

/* ---- Release policies ---- */

static bool reserve_release(struct policies *policies, size_t count, struct error *err)
{
    policies->release = mem_new(count ? count : 1, sizeof(ProtobufCMessage *));
    return policies->release || error_set_memory(err);
}

static bool check_node(const char *field, const char *text, struct error *err)
{
    if (strcmp(text, "*") == 0 || (strlen(text) == AGENT_ID_SIZE - 1 &&
                                   strspn(text, "0123456789abcdef") == AGENT_ID_SIZE - 1))
        return true;
    return error_set_field(
        err, field, "expected an agent_id of 32 lower-case hex digits or \"*\", found \"%s\"",
        text);
}

/* A SPIFFE ID with a path, or one whose last segment is "*". */
static bool check_workload(const char *field, const char *text, struct error *err)
{
    struct spiffe_id id;
    struct slice whole = slice_str(text);
    bool wildcard = whole.len > 2 && strcmp(text + whole.len - 2, "/*") == 0;
    if (wildcard)
        whole.len -= 2;
    if (!spiffe_id_parse(whole, &id, err))
        return error_at_field(err, field);
    /* All of a domain is fine; what it matches is checked again (policies_may_vouch). */
    if (wildcard && spiffe_id_path(&id).len == 0)
        return true;
    return spiffe_id_workload_check(&id, err) || error_at_field(err, field);
}

static bool take_release(struct policies *policies, ProtobufCMessage *message, struct error *err)
{
    const Postern__V1__ReleasePolicy *policy = (const Postern__V1__ReleasePolicy *)message;
    char field[ERROR_FIELD_MAX];
    for (size_t i = 0; i < policy->n_vouch; i++) {
        const Postern__V1__VouchRule *rule = policy->vouch[i];
        for (size_t j = 0; j < rule->n_nodes; j++) {
            snprintf(field, sizeof(field), "vouch[%zu].nodes[%zu]", i, j);
            if (!check_node(field, rule->nodes[j], err))
                return false;
        }
        for (size_t j = 0; j < rule->n_spiffe_ids; j++) {
            snprintf(field, sizeof(field), "vouch[%zu].spiffe_ids[%zu]", i, j);
            if (!check_workload(field, rule->spiffe_ids[j], err))
                return false;
        }
    }
    policies->release[policies->release_count++] = message;
    return true;
}

static bool rule_has_node(const Postern__V1__VouchRule *rule, const char *agent_id)
{
    for (size_t i = 0; i < rule->n_nodes; i++) {
        if (strcmp(rule->nodes[i], "*") == 0 || strcmp(rule->nodes[i], agent_id) == 0)
            return true;
    }
    return false;
}

static bool rule_has_workload(const Postern__V1__VouchRule *rule, const char *spiffe_id)
{
    for (size_t i = 0; i < rule->n_spiffe_ids; i++) {
        const char *pattern = rule->spiffe_ids[i];
        size_t len = strlen(pattern);
        bool wildcard = len > 2 && strcmp(pattern + len - 2, "/*") == 0;
        if (wildcard ? strncmp(pattern, spiffe_id, len - 1) == 0 && spiffe_id[len - 1] != '\0'
                     : strcmp(pattern, spiffe_id) == 0)
            return true;
    }
    return false;
}

bool policies_may_vouch(const struct policies *policies, const char *agent_id,
                        const char *spiffe_id)
{
    struct spiffe_id id;
    struct error not_one;
    if (!spiffe_id_parse(slice_str(spiffe_id), &id, &not_one) ||
        !spiffe_id_workload_check(&id, &not_one))
        return false;
    for (size_t i = 0; i < policies->release_count; i++) {
        const Postern__V1__ReleasePolicy *policy =
            (const Postern__V1__ReleasePolicy *)policies->release[i];
        for (size_t j = 0; j < policy->n_vouch; j++) {
            if (rule_has_node(policy->vouch[j], agent_id) &&
                rule_has_workload(policy->vouch[j], spiffe_id))
                return true;
        }
    }
    return false;
}

/* ---- Which TPMs are trusted ---- */

static bool read_pins(struct policies *policies, const struct policies_source *source,
                      struct error *err)
{
    policies->pins = mem_new(source->pinned_count ? source->pinned_count : 1, SHA256_SIZE);
    if (!policies->pins)
        return error_set_memory(err);
    for (size_t i = 0; i < source->pinned_count; i++) {
        CLEANUP(buf_done) struct buf bytes;
        buf_init(&bytes, SHA256_SIZE);
        if (!hex_decode(source->pinned[i], &bytes, err) || bytes.len != SHA256_SIZE) {
            char field[ERROR_FIELD_MAX];
            snprintf(field, sizeof(field), "ek_pinned[%zu]", i);
            return error_set_field(err, field, "expected %zu hex digits, found \"%s\"",
                                   2 * SHA256_SIZE, source->pinned[i]);
        }
        mem_copy(policies->pins[policies->pin_count++], bytes.data, SHA256_SIZE);
    }
    return true;
}

static bool read_roots(struct policies *policies, const char *path, struct error *err)
{
    if (!path)
        return true;
    CLEANUP(buf_done) struct buf pem;
    buf_init(&pem, EK_ROOTS_PEM_MAX);
    if (!file_read(path, &pem, err))
        return false;
    return ek_roots_new(buf_slice(&pem), &policies->roots, err) || error_prefix(err, "%s", path);
}

const struct ek_roots *policies_ek_roots(const struct policies *policies)
{
    return policies->roots;
}

const uint8_t (*policies_ek_pins(const struct policies *policies, size_t *ret_count))[SHA256_SIZE]
{
    *ret_count = policies->pin_count;
    return policies->pins;
}

/* ---- The whole ---- */

/* attestation/ and release/ may be absent, for none; where the folder itself is, a path is mistyped or
 * a volume not mounted, and no policies at all would be what nobody wants. */
static bool check_folder(const char *path, struct error *err)
{
    struct stat info;
    if (stat(path, &info) != 0)
        return error_set_errno(err, errno, "policies: %s", path);
    return S_ISDIR(info.st_mode) ||
           error_set(err, ERROR_INVALID,
                     "policies: %s: expected a folder with attestation/ and "
                     "release/",
                     path);
}

bool policies_load(const struct policies_source *source, struct policies **ret, struct error *err)
{
    CLEANUP(policies_unref_at) struct policies *policies = mem_new(1, sizeof(*policies));
    if (!policies)
        return error_set_memory(err);
    policies->references = 1;
    if (!check_folder(source->folder, err) || !read_pins(policies, source, err) ||
        !read_roots(policies, source->ek_roots, err) ||
        !read_folder(policies, source->folder, "attestation",
                     &postern__v1__attestation_policy__descriptor, take_attestation,
                     reserve_attestation, err) ||
        !read_folder(policies, source->folder, "release", &postern__v1__release_policy__descriptor,
                     take_release, reserve_release, err))
        return false;
    *ret = TAKE(policies);
    return true;
}

struct policies *policies_ref(struct policies *policies)
{
    policies->references++;
    return policies;
}

struct policies *policies_unref(struct policies *policies)
{
    if (!policies || --policies->references > 0)
        return nullptr;
    for (size_t i = 0; i < policies->attestation_count; i++)
        attest_policy_unref(policies->attestation[i]);
    for (size_t i = 0; i < policies->release_count; i++)
        pb_free(policies->release[i]);
    mem_free((void *)policies->attestation);
    mem_free((void *)policies->release);
    mem_free(policies->pins);
    ek_roots_free(policies->roots);
    return mem_free(policies);
}

size_t policies_attestation_count(const struct policies *policies)
{
    return policies->attestation_count;
}

size_t policies_release_count(const struct policies *policies)
{
    return policies->release_count;
}
