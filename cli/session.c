#include "session.h"

#include "base/file.h"
#include "base/mem.h"
#include "base/text.h"
#include "pb/json.h"
#include "pb/message.h"
#include "pb/yaml.h"
#include "program/config.h"

#include "postern/v1/config.pb-c.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

constexpr size_t PEM_MAX = 256 * 1024; /* a few certificates: another file was named by mistake */
constexpr size_t JSON_MAX = 64 * 1024 * 1024; /* of a 4 MiB message; bytes and names grow */

struct session {
    char *config_path;
    Postern__V1__OperatorConfig *config;
    bool json;
    struct rpc_call_options options;
    struct loop *loop;
    struct rpc_client *client;
    struct error lost; /* why there is no connection; class NONE: nothing was heard of that */
};

/* ---- Configuration ---- */

static bool check_text(const char *field, const char *text, struct error *err)
{
    return text[0] != '\0' || error_set_field(err, field, "expected a value");
}

static bool check_config(const ProtobufCMessage *message, struct error *err)
{
    const Postern__V1__OperatorConfig *config = (const Postern__V1__OperatorConfig *)message;
    struct address address;
    if (!address_parse(config->authority->address, &address, err))
        return error_at_field(err, "authority.address");
    if (address.kind == ADDRESS_UNIX || address.port == 0)
        return error_set_field(err, "authority.address", "expected HOST:PORT, found \"%s\"",
                               config->authority->address);
    return check_text("authority.trust_anchor", config->authority->trust_anchor, err) &&
           check_text("authority.server_name", config->authority->server_name, err) &&
           check_text("certificate", config->certificate, err) &&
           check_text("key", config->key, err);
}

/* Where the configuration is, in order: as given, as the environment says, at home. */
static bool find_config(const char *given, char **ret, struct error *err)
{
    if (!given)
        given = getenv("POSTERNCTL_CONFIG");
    if (given && given[0] == '\0')
        return error_set(err, ERROR_INVALID,
                         "the configuration's path is empty: --config FILE, or "
                         "unset POSTERNCTL_CONFIG");
    if (given) {
        *ret = mem_strdup(given);
        return *ret || error_set_memory(err);
    }
    const char *home = getenv("HOME");
    if (!home || home[0] == '\0')
        return error_set(err, ERROR_INVALID,
                         "HOME is not set: say --config FILE or set POSTERNCTL_CONFIG");
    CLEANUP(buf_done) struct buf path;
    buf_init(&path, PATH_MAX);
    buf_put_format(&path, "%s/.config/postern/operator.yaml", home);
    buf_put_u8(&path, '\0');
    if (!buf_ok(&path, err))
        return error_prefix(err, "find ~/.config/postern/operator.yaml");
    *ret = mem_strdup((const char *)path.data);
    return *ret || error_set_memory(err);
}

/* ---- TLS ---- */

/* A PEM file that the configuration names, relative to its own folder. */
static bool read_pem(const struct session *session, const char *field, const char *path,
                     struct buf *ret, struct error *err)
{
    CLEANUP(buf_done) struct buf resolved;
    buf_init(&resolved, PATH_MAX);
    config_path_resolve(session->config_path, path, &resolved);
    if (!buf_ok(&resolved, err) || !file_read((const char *)resolved.data, ret, err))
        return error_prefix(err, "%s: %s", session->config_path, field);
    return true;
}

static bool open_key(const struct session *session, struct key **ret, struct error *err)
{
    CLEANUP(buf_done) struct buf path;
    CLEANUP(buf_done) struct buf uri;
    char absolute[PATH_MAX];
    buf_init(&path, PATH_MAX);
    buf_init(&uri, PATH_MAX + sizeof("file:"));
    config_path_resolve(session->config_path, session->config->key, &path);
    if (!buf_ok(&path, err))
        return error_prefix(err, "%s: key", session->config_path);
    if (!realpath((const char *)path.data, absolute)) {
        error_set_errno(err, errno, "open %s", (const char *)path.data);
        return error_prefix(err, "%s: key", session->config_path);
    }
    buf_put_format(&uri, "file:%s", absolute);
    buf_put_u8(&uri, '\0');
    if (!buf_ok(&uri, err) || !key_open((const char *)uri.data, ret, err))
        return error_prefix(err, "%s: key", session->config_path);
    return true;
}

static bool open_tls(const struct session *session, struct tls_context **ret, struct error *err)
{
    const Postern__V1__AuthorityEndpoint *authority = session->config->authority;
    CLEANUP(buf_done) struct buf certificates;
    CLEANUP(buf_done) struct buf trust;
    CLEANUP(key_unref_at) struct key *key = nullptr;
    buf_init(&certificates, PEM_MAX);
    buf_init(&trust, PEM_MAX);
    if (!read_pem(session, "certificate", session->config->certificate, &certificates, err) ||
        !read_pem(session, "authority.trust_anchor", authority->trust_anchor, &trust, err) ||
        !open_key(session, &key, err))
        return false;
    struct tls_config config = {
        .role = TLS_CLIENT,
        .certificates = buf_slice(&certificates),
        .key = key,
        .trust = buf_slice(&trust),
        .trust_name = authority->trust_anchor,
        .server_name = authority->server_name,
        .alpn = "h2",
    };
    if (!tls_context_new(&config, ret, err))
        return error_prefix(err, "%s", session->config_path);
    return true;
}

/* ---- The session ---- */

static void on_state(void *arg, enum rpc_client_state state, const struct error *why)
{
    struct session *session = arg;
    (void)state;
    if (why)
        session->lost = *why;
}

static bool open_client(struct session *session, struct error *err)
{
    struct address address;
    CLEANUP(tls_context_unref_at) struct tls_context *tls = nullptr;
    if (!address_parse(session->config->authority->address, &address, err) ||
        !open_tls(session, &tls, err) || !loop_new(&session->loop, err))
        return false;
    struct rpc_client_options options = {
        .tls = tls,
        .authority = session->config->authority->server_name,
        .state = on_state,
        .state_arg = session,
    };
    return rpc_client_new(session->loop, &address, &options, &session->client, err);
}

bool session_open(const char *config, bool json, struct session **ret, struct error *err)
{
    CLEANUP(session_free_at) struct session *session = mem_new(1, sizeof(*session));
    if (!session)
        return error_set_memory(err);
    session->json = json;
    session->options.timeout_ms = SESSION_TIMEOUT_MS;
    ProtobufCMessage *message;
    if (!find_config(config, &session->config_path, err))
        return false;
    if (!config_read(session->config_path, &postern__v1__operator_config__descriptor, check_config,
                     &message, err)) {
        if (err->class != ERROR_NOT_FOUND)
            return false;
        return error_set(
            err, ERROR_NOT_FOUND,
            "there is no %s: postern-authority init makes an operator.yaml; name it by "
            "--config or POSTERNCTL_CONFIG",
            session->config_path);
    }
    session->config = (Postern__V1__OperatorConfig *)message;
    if (!open_client(session, err))
        return false;
    *ret = TAKE(session);
    return true;
}

struct session *session_free(struct session *session)
{
    if (!session)
        return nullptr;
    rpc_client_free(session->client);
    loop_free(session->loop);
    if (session->config)
        pb_free(&session->config->base);
    mem_free(session->config_path);
    return mem_free(session);
}

const ProtobufCMessage *session_config(const struct session *session)
{
    return &session->config->base;
}

struct rpc_client *session_client(struct session *session)
{
    return session->client;
}

const struct rpc_call_options *session_options(const struct session *session)
{
    return &session->options;
}

void session_judge(const struct session *session, struct error *err, struct buf *ret_advice)
{
    if (err->domain == ERROR_DOMAIN_GRPC)
        return;
    if (err->class == ERROR_UNAVAILABLE && session->lost.class != ERROR_NONE)
        *err = session->lost;
    bool unknown_host = err->class == ERROR_NOT_FOUND && err->domain == ERROR_DOMAIN_UV;
    if (err->class == ERROR_UNAVAILABLE || err->class == ERROR_TIMEOUT || unknown_host)
        buf_put_format(ret_advice,
                       ": is postern-authority running, and is authority.address in %s right?",
                       session->config_path);
    if (err->class == ERROR_UNAUTHENTICATED)
        buf_put_format(ret_advice, ": see trust_anchor, server_name, certificate and key in %s",
                       session->config_path);
}

/* ---- Output ---- */

bool session_json(const struct session *session)
{
    return session->json;
}

bool session_print_json(const ProtobufCMessage *message, struct error *err)
{
    CLEANUP(buf_done) struct buf text;
    buf_init_wiping(&text, JSON_MAX);
    if (!pb_to_json(message, &text, err))
        return error_prefix(err, "write the answer as JSON");
    (void)fwrite(text.data, 1, text.len, stdout);
    (void)fputc('\n', stdout);
    return true;
}
