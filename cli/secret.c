/* posternctl secret: what nodes may hand to workloads. Values come from files alone: a command line
 * is seen by every process of the machine, and stays in the shell's history. */
#include "agent.h"
#include "groups.h"
#include "table.h"

#include "base/file.h"
#include "base/mem.h"
#include "pb/message.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

constexpr size_t SECRET_VALUE_MAX = 64 * 1024; /* the authority takes no more */

static bool read_value(const char *path, struct secret **ret, struct error *err)
{
    if (strcmp(path, "-") == 0) {
        path = "/dev/stdin";
        if (isatty(STDIN_FILENO))
            (void)fprintf(stderr, "type the value; a final Ctrl-D ends it\n");
    }
    CLEANUP(secret_free_at) struct secret *value = nullptr;
    if (!file_read_secret(path, &value, err))
        return error_prefix(err, "--value-file");
    if (secret_len(value) > SECRET_VALUE_MAX)
        return error_set(err, ERROR_EXHAUSTED,
                         "--value-file: %s has %zu bytes, and a value at most %zu", path,
                         secret_len(value), SECRET_VALUE_MAX);
    *ret = TAKE(value);
    return true;
}

static size_t allow_count(const struct arguments *arguments)
{
    size_t count = 0;
    while (arguments_value(arguments, "allow", count))
        count++;
    return count;
}

static bool put_check(const struct arguments *arguments, struct error *err)
{
    bool nobody = arguments_value(arguments, "allow-nobody", 0) != nullptr;
    size_t allowed = allow_count(arguments);
    if (nobody && allowed > 0)
        return error_set(err, ERROR_INVALID, "--allow and --allow-nobody contradict each other");
    if (!nobody && allowed == 0 && !arguments_value(arguments, "value-file", 0))
        return error_set(err, ERROR_INVALID,
                         "nothing to put: give --value-file FILE (- for standard input), --allow "
                         "SPIFFE-ID or --allow-nobody");
    return true;
}

static bool secret_put(struct session *session, const struct arguments *arguments,
                       struct error *err)
{
    const char *path = arguments_value(arguments, "value-file", 0);
    size_t allowed = allow_count(arguments);
    CLEANUP(secret_free_at) struct secret *value = nullptr;
    CLEANUP(mem_free_at) char **ids = mem_new(allowed + 1, sizeof(*ids));
    if (!ids)
        return error_set_memory(err);
    for (size_t i = 0; i < allowed; i++)
        ids[i] = (char *)(uintptr_t)arguments_value(arguments, "allow", i);
    if (path && !read_value(path, &value, err))
        return false;
    Postern__V1__AllowList allow = POSTERN__V1__ALLOW_LIST__INIT;
    allow.n_spiffe_ids = allowed;
    allow.spiffe_ids = ids;
    Postern__V1__PutSecretRequest request = POSTERN__V1__PUT_SECRET_REQUEST__INIT;
    request.name = (char *)(uintptr_t)arguments->operand;
    request.value = (ProtobufCBinaryData){secret_len(value), secret_data(value)};
    if (allowed > 0 || arguments_value(arguments, "allow-nobody", 0))
        request.allow = &allow;
    CLEANUP(pb_free_at) Postern__V1__PutSecretResponse *response = nullptr;
    if (!admin_service_put_secret_sync(session_client(session), session_options(session), &request,
                                       &response, err))
        return false;
    if (session_json(session))
        return session_print_json(&response->base, err);
    printf("%s is at version %" PRIu32 ".%" PRIu64 "\n", arguments->operand, response->epoch,
           response->version);
    return true;
}

static bool secret_list(struct session *session, const struct arguments *arguments,
                        struct error *err)
{
    (void)arguments;
    Postern__V1__ListSecretsRequest request = POSTERN__V1__LIST_SECRETS_REQUEST__INIT;
    CLEANUP(pb_free_at) Postern__V1__ListSecretsResponse *list = nullptr;
    if (!admin_service_list_secrets_sync(session_client(session), session_options(session),
                                         &request, &list, err))
        return false;
    if (session_json(session))
        return session_print_json(&list->base, err);
    static const char *const titles[] = {"NAME", "VERSION", "CHANGED", "NODES", "ALLOWED"};
    CLEANUP(table_done) struct table table;
    table_init(&table, titles, ARRAY_LEN(titles));
    for (size_t i = 0; i < list->n_secrets; i++) {
        const Postern__V1__Secret *secret = list->secrets[i];
        char version[40];
        char changed[WHEN_SIZE];
        char nodes[32];
        (void)snprintf(version, sizeof(version), "%" PRIu32 ".%" PRIu64, secret->epoch,
                       secret->version);
        (void)snprintf(nodes, sizeof(nodes), "%" PRIu32 "/%" PRIu32, secret->nodes_confirmed,
                       secret->nodes_entitled);
        TABLE_ROW(&table, secret->name, version, when_text(secret->changed_at, changed), nodes,
                  secret->n_allow > 0 ? secret->allow[0] : "nobody");
        for (size_t n = 1; n < secret->n_allow; n++)
            TABLE_ROW(&table, nullptr, nullptr, nullptr, nullptr, secret->allow[n]);
    }
    return table_print(&table, err);
}

static const struct option put_options[] = {
    {.name = "value-file",
     .value = "FILE",
     .summary = "the value: this file's bytes as they are; - is standard input"},
    {.name = "allow",
     .value = "SPIFFE-ID",
     .summary = "who may read it; any number of them",
     .repeated = true},
    {.name = "allow-nobody", .summary = "take it from all who may read it now"},
    {},
};

static const struct command commands[] = {
    {.name = "put",
     .operand = "NAME",
     .summary = "Make or replace a secret, or change who may read it.",
     .notes =
         "What is not given stays: without --value-file the value, without --allow the list of\n"
         "those who may read it. A new secret that names nobody is read by nobody.\n",
     .options = put_options,
     .check = put_check,
     .run = secret_put},
    {.name = "list",
     .summary = "All secrets, how many of the nodes that may have each do, and who may read it.",
     .run = secret_list},
    {},
};

const struct command_group secret_group = {
    .name = "secret",
    .summary = "what workloads may read",
    .commands = commands,
};
