#include "authority.h"

#include "access.h"
#include "admin_nodes.h"
#include "attest_service.h"
#include "fetch.h"
#include "schema.h"
#include "watch.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "rpc/health.h"
#include "rpc/reflection.h"

#include "postern/v1/node.rpc.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

constexpr size_t PATH_SIZE = 4096;
constexpr size_t CONNECTIONS_MAX = 12'000; /* descriptors by idle strangers; each of the 5,000 nodes
                                            * of a large cluster holds one, two while it attests */
constexpr uint64_t SERVER_RENEW_MS = 86'400'000; /* of a certificate that lives a week */
constexpr uint64_t SERVER_RENEW_RETRY_MS = 600'000;

static const struct node_service_handlers node_handlers = {
    .attest = attest_begin,
    .attest_message = attest_message,
    .watch = watch_begin,
    .fetch = fetch_begin,
    .confirm = confirm_begin,
};

/* ---- The server's certificate, renewed ---- */

static bool renew_run(void *arg, struct error *err)
{
    struct authority *authority = arg;
    return identity_server_tls(authority->identity, &authority->renewed, err);
}

static void renew_done(void *arg, bool ok, const struct error *err)
{
    struct authority *authority = arg;
    if (err && err->class == ERROR_CANCELLED)
        return; /* the end */
    if (!ok) {
        log_failure(LOG_WARNING, "main", err, "renew the server's certificate");
        timer_start(&authority->renew, SERVER_RENEW_RETRY_MS);
        return;
    }
    rpc_server_set_tls(authority->server, authority->renewed);
    authority->renewed = tls_context_unref(authority->renewed);
    timer_start(&authority->renew, SERVER_RENEW_MS);
}

static void on_renew(void *arg)
{
    struct authority *authority = arg;
    struct error err;
    if (identity_submit(authority->identity, renew_run, renew_done, authority, 0, &err))
        return;
    log_failure(LOG_WARNING, "main", &err, "renew the server's certificate");
    timer_start(&authority->renew, SERVER_RENEW_RETRY_MS);
}

/* ---- Coming up ---- */

/* What `init` made is not made anew by a start: nodes, secrets and counts would be gone, and nobody
 * told. */
static bool lost(const char *data_dir, struct error *err)
{
    return error_prefix(err,
                        "data_dir %s is not as postern-authority init made it (if it is the right "
                        "one, restore it from a backup)",
                        data_dir);
}

static bool open_identity(struct authority *authority, const char *data_dir, struct error *err)
{
    if (identity_open(authority->loop, data_dir, authority->trust_domain, &authority->identity,
                      err))
        return true;
    return err->class == ERROR_NOT_FOUND ? lost(data_dir, err) : false;
}

static bool open_store(struct authority *authority, const char *data_dir, struct error *err)
{
    char path[PATH_SIZE];
    struct stat info;
    int len = snprintf(path, sizeof(path), "%s/%s", data_dir, AUTHORITY_DATABASE);
    if (len < 0 || (size_t)len >= sizeof(path))
        return error_set_field(err, "data_dir", "the path is too long");
    if (stat(path, &info) != 0) {
        error_set_errno(err, errno, "%s", path);
        return err->class == ERROR_NOT_FOUND ? lost(data_dir, err) : false;
    }
    if (S_ISREG(info.st_mode) && info.st_size == 0) {
        error_set(err, ERROR_NOT_FOUND, "%s is empty", path);
        return lost(data_dir, err);
    }
    const struct store_options options = {
        .location = path,
        .migrations = authority_migrations,
        .migration_count = authority_migration_count,
    };
    return store_open(authority->loop, &options, &authority->store, err);
}

static bool open_server(struct authority *authority, struct error *err)
{
    const struct rpc_server_options options = {
        .limits.connections = CONNECTIONS_MAX,
        .authorize = access_authorize,
        .authorize_arg = authority,
        .accept = access_accept,
        .gone = access_gone,
        .accept_arg = authority,
    };
    return quota_init(&authority->strangers, "connections by strangers", STRANGER_CONNECTIONS_MAX,
                      STRANGER_CONNECTIONS_PER_ADDRESS_MAX, err) &&
           rpc_server_new(authority->loop, &options, &authority->server, err) &&
           rpc_health_new(authority->server, &authority->health, err) &&
           rpc_reflection_add(authority->server, err) &&
           attest_service_new(authority, &authority->attest, err) &&
           watch_hub_new(authority, &authority->hub, err) &&
           node_service_register(authority->server, &node_handlers, authority, err) &&
           admin_register(authority, err) && rpc_health_set(authority->health, "", true, err) &&
           rpc_health_set(authority->health, "postern.v1.NodeService", true, err) &&
           rpc_health_set(authority->health, "postern.v1.AdminService", true, err);
}

static bool start_listening(struct authority *authority, const struct address *address,
                            struct address *ret_address, struct error *err)
{
    CLEANUP(tls_context_unref_at) struct tls_context *tls = nullptr;
    if (!identity_server_tls(authority->identity, &tls, err))
        return false;
    const struct rpc_listen_options options = {.address = *address, .tls = tls};
    if (!rpc_server_listen(authority->server, &options, ret_address, err))
        return false;
    timer_start(&authority->renew, SERVER_RENEW_MS);
    return true;
}

bool authority_new(struct loop *loop, const struct authority_settings *settings,
                   struct authority **ret, struct address *ret_address, struct error *err)
{
    CLEANUP(authority_free_at) struct authority *authority = mem_new(1, sizeof(*authority));
    if (!authority)
        return error_set_memory(err);
    authority->loop = loop;
    authority->svid_lifetime_ms = settings->svid_lifetime_ms;
    timer_init(&authority->renew, loop, on_renew, authority);
    size_t len = strlen(settings->trust_domain);
    if (len >= sizeof(authority->trust_domain))
        return error_set_field(err, "trust_domain", "at most %zu characters",
                               sizeof(authority->trust_domain) - 1);
    mem_copy(authority->trust_domain, settings->trust_domain, len);
    if (!policies_load(&settings->policies, &authority->policies, err) ||
        !open_identity(authority, settings->data_dir, err) ||
        !open_store(authority, settings->data_dir, err) || !open_server(authority, err) ||
        !start_listening(authority, &settings->listen, ret_address, err))
        return false;
    *ret = TAKE(authority);
    return true;
}

/* From the outside in: calls end first, then what they wait for, then what they use. */
struct authority *authority_free(struct authority *authority)
{
    if (!authority)
        return nullptr;
    timer_stop(&authority->renew);
    rpc_server_free(authority->server);
    quota_done(&authority->strangers);
    authority->store = store_free(authority->store);
    identity_free(authority->identity);
    watch_hub_free(authority->hub);
    attest_service_free(authority->attest);
    rpc_health_free(authority->health);
    policies_unref(authority->policies);
    tls_context_unref(authority->renewed);
    return mem_free(authority);
}

bool authority_reload(struct authority *authority, const struct policies_source *source,
                      uint64_t svid_lifetime_ms, struct error *err)
{
    struct policies *policies;
    if (!policies_load(source, &policies, err))
        return false;
    policies_unref(authority->policies);
    authority->policies = policies;
    authority->svid_lifetime_ms = svid_lifetime_ms;
    watch_hub_all_changed(authority->hub);
    return true;
}

void authority_drain(struct authority *authority, uint64_t deadline, void (*drained)(void *arg),
                     void *arg)
{
    rpc_health_stop(authority->health);
    watch_hub_drain(authority->hub);
    rpc_server_drain(authority->server, deadline, drained, arg);
}
