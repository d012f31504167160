#include "certificates.h"

#include "base/file.h"

#include <stdio.h>

constexpr size_t PATH_SIZE = 512;
constexpr size_t PEM_MAX = 64 * 1024;

static bool read_pem(const char *folder, const char *name, struct buf *ret, struct error *err)
{
    char path[PATH_SIZE];
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    buf_init(ret, PEM_MAX);
    return file_read(path, ret, err);
}

bool certificates_open(const char *folder, enum tls_role role, const char *groups,
                       struct tls_context **ret, struct error *err)
{
    CLEANUP(buf_done) struct buf ca = {0};
    CLEANUP(buf_done) struct buf chain = {0};
    CLEANUP(key_unref_at) struct key *key = nullptr;
    char uri[PATH_SIZE];
    (void)snprintf(uri, sizeof(uri), "file:%s/key.pem", folder);
    if (!read_pem(folder, "ca.pem", &ca, err) || !read_pem(folder, "cert.pem", &chain, err) ||
        !key_open(uri, &key, err))
        return false;
    struct tls_config config = {
        .role = role,
        .certificates = buf_slice(&chain),
        .key = key,
        .trust = buf_slice(&ca),
        .trust_name = "ca.pem",
        .server_name = role == TLS_CLIENT ? "127.0.0.1" : nullptr,
        .alpn = "h2",
        .groups = groups,
    };
    return tls_context_new(&config, ret, err);
}
