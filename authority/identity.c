#include "identity.h"

#include "kek.h"

#include "base/clock.h"
#include "base/crypt.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/text.h"
#include "loop/worker.h"
#include "spiffe/svid.h"

#include <errno.h>
#include <limits.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

constexpr uint64_t CA_LIFETIME_S = 10 * 365 * 86'400;
constexpr uint64_t SERVER_LIFETIME_S = 7 * 86'400; /* renewed each day */
constexpr uint64_t OPERATOR_LIFETIME_S = 365 * 86'400;
constexpr size_t CA_PEM_MAX = 64 * 1024;
constexpr size_t SERVER_NAMES_TEXT_MAX = 8 * 1024;
constexpr size_t PATH_SIZE = 4096;

/* One algorithm from the trust anchor to the signature. */
static const struct chain_files {
    enum key_kind kind;
    const char *ca_key, *ca, *packets_key;
} chain_files[SIGNER_COUNT] = {
    {KEY_P384, "ca.key", "ca.pem", "packets-p384.key"},
    {KEY_ML_DSA_65, "ca-ml-dsa-65.key", "ca-ml-dsa-65.pem", "packets-ml-dsa-65.key"},
};

struct chain {
    struct key *ca_key;
    X509 *ca;
    struct buf ca_pem, ca_der;
    struct key *packets;
    uint8_t packets_id[KEY_ID_SIZE];
    struct buf packets_der; /* certificate */
};

struct identity {
    char trust_domain[TRUST_DOMAIN_SIZE];
    struct worker *worker;
    struct chain chains[SIGNER_COUNT]; /* the first, P-384, for all but packets */
    struct bundle bundle;
    struct kek *kek;
    struct buf server_names_text;
    const char *server_names[CA_DNS_NAMES_MAX];
    size_t server_name_count;
};

/* ---- Paths and names ---- */

static bool file_in(const char *folder, const char *name, char ret[static PATH_SIZE],
                    struct error *err)
{
    int len = snprintf(ret, PATH_SIZE, "%s/%s", folder, name);
    if (len < 0 || (size_t)len >= PATH_SIZE)
        return error_set(err, ERROR_INVALID, "the path of %s is too long", name);
    return true;
}

static bool id_in_domain(const char *trust_domain, const char *path, const char *name,
                         struct spiffe_id *ret, struct error *err)
{
    CLEANUP(buf_done) struct buf text;
    buf_init(&text, SPIFFE_ID_MAX);
    buf_put_format(&text, "spiffe://%s/postern/%s%s", trust_domain, path, name);
    return buf_ok(&text, err) && spiffe_id_parse(buf_slice(&text), ret, err);
}

/* ---- Opening ---- */

static bool open_key(const char *data_dir, const char *name, enum key_kind kind, struct key **ret,
                     struct error *err)
{
    char path[PATH_SIZE], whole[PATH_MAX], uri[PATH_MAX + 8];
    if (!file_in(data_dir, name, path, err))
        return false;
    if (!realpath(path, whole))
        return error_set_errno(err, errno, "%s", path);
    snprintf(uri, sizeof(uri), "file:%s", whole);
    if (!key_open(uri, ret, err))
        return false;
    if (key_kind(*ret) != kind)
        return error_set(err, ERROR_INVALID, "%s: expected a key of kind %s, found %s", path,
                         key_kind_name(kind), key_kind_name(key_kind(*ret)));
    return true;
}

static bool open_ca(struct chain *chain, const char *data_dir, const struct chain_files *files,
                    struct error *err)
{
    char path[PATH_SIZE];
    if (!open_key(data_dir, files->ca_key, files->kind, &chain->ca_key, err) ||
        !file_in(data_dir, files->ca, path, err) || !file_read(path, &chain->ca_pem, err))
        return false;
    CLEANUP(certificates_free_at) STACK_OF(X509) *all = nullptr;
    if (!certificates_parse(buf_slice(&chain->ca_pem), &all, err))
        return error_prefix(err, "%s", path);
    if (sk_X509_num(all) != 1)
        return error_set(err, ERROR_INVALID, "%s: expected one certificate, found %d", path,
                         sk_X509_num(all));
    chain->ca = sk_X509_value(all, 0);
    X509_up_ref(chain->ca);
    if (X509_check_private_key(chain->ca, key_evp(chain->ca_key)) != 1)
        return error_set_openssl(err, ERROR_INVALID, "%s is not the certificate of %s", path,
                                 files->ca_key);
    return certificate_to_der(chain->ca, &chain->ca_der, err);
}

/* What is certified: whose key, as whom, for how long. */
struct holder {
    EVP_PKEY *key;
    const struct spiffe_id *id;
    uint64_t lifetime_s;
    const char *const *dns_names;
    size_t dns_name_count;
};

static bool issue(const struct chain *chain, const struct holder *holder, int64_t now_ms,
                  X509 **ret, struct error *err)
{
    const struct ca_leaf leaf = {
        .issuer = chain->ca,
        .issuer_key = key_evp(chain->ca_key),
        .public_key = holder->key,
        .id = holder->id,
        .dns_names = holder->dns_names,
        .dns_name_count = holder->dns_name_count,
        .now = now_ms,
        .lifetime = holder->lifetime_s,
    };
    return ca_issue(&leaf, ret, err);
}

static bool open_packets(const struct identity *identity, const char *data_dir,
                         const struct chain_files *files, struct chain *chain, struct error *err)
{
    struct spiffe_id id;
    uint8_t digest[SHA256_SIZE];
    X509 *certificate;
    CLEANUP(buf_done) struct buf spki;
    buf_init(&spki, KEY_FILE_MAX);
    if (!open_key(data_dir, files->packets_key, files->kind, &chain->packets, err) ||
        !key_public(chain->packets, &spki, err) || !sha256(buf_slice(&spki), digest, err) ||
        !id_in_domain(identity->trust_domain, "authority/packets", "", &id, err))
        return false;
    mem_copy(chain->packets_id, digest, KEY_ID_SIZE);
    const struct holder holder = {key_evp(chain->packets), &id, CA_LIFETIME_S, nullptr, 0};
    if (!issue(chain, &holder, clock_wall_ms(), &certificate, err))
        return error_prefix(err, "certify %s", files->packets_key);
    bool ok = certificate_to_der(certificate, &chain->packets_der, err);
    X509_free(certificate);
    return ok;
}

static bool make_bundle(struct identity *identity, struct error *err)
{
    CLEANUP(buf_done) struct buf all;
    buf_init(&all, SIGNER_COUNT * (CERTIFICATE_DER_MAX + 4));
    for (size_t i = 0; i < SIGNER_COUNT; i++) {
        const struct buf *der = &identity->chains[i].ca_der;
        identity->bundle.certificates[i] =
            (ProtobufCBinaryData){.len = der->len, .data = der->data};
        buf_put_prefixed(&all, buf_slice(der));
    }
    return buf_ok(&all, err) && sha256(buf_slice(&all), identity->bundle.hash, err);
}

static bool open_chains(struct identity *identity, const char *data_dir, struct error *err)
{
    for (size_t i = 0; i < SIGNER_COUNT; i++) {
        if (!open_ca(&identity->chains[i], data_dir, &chain_files[i], err) ||
            !open_packets(identity, data_dir, &chain_files[i], &identity->chains[i], err))
            return false;
    }
    return make_bundle(identity, err);
}

/* One name a line; the buffer's line breaks become NULs. */
static bool open_server_names(struct identity *identity, const char *data_dir, struct error *err)
{
    char path[PATH_SIZE];
    if (!file_in(data_dir, "server-names", path, err) ||
        !file_read(path, &identity->server_names_text, err))
        return false;
    buf_put_u8(&identity->server_names_text, 0);
    if (!buf_ok(&identity->server_names_text, err))
        return error_prefix(err, "%s", path);
    char *text = (char *)identity->server_names_text.data, *rest = nullptr;
    for (char *name = strtok_r(text, "\n", &rest); name; name = strtok_r(nullptr, "\n", &rest)) {
        if (identity->server_name_count == CA_DNS_NAMES_MAX)
            return error_set(err, ERROR_EXHAUSTED, "%s: at most %zu names", path, CA_DNS_NAMES_MAX);
        identity->server_names[identity->server_name_count++] = name;
    }
    /* Without a name in its certificate nobody would take the server for the authority. */
    return identity->server_name_count > 0 ||
           error_set(err, ERROR_INVALID, "%s: expected DNS names, one a line, found none", path);
}

bool identity_open(struct loop *loop, const char *data_dir, const char *trust_domain,
                   struct identity **ret, struct error *err)
{
    if (!spiffe_trust_domain_check(slice_str(trust_domain), err))
        return false;
    CLEANUP(identity_free_at) struct identity *identity = mem_new(1, sizeof(*identity));
    if (!identity)
        return error_set_memory(err);
    mem_copy(identity->trust_domain, trust_domain, strlen(trust_domain));
    buf_init(&identity->server_names_text, SERVER_NAMES_TEXT_MAX);
    for (size_t i = 0; i < SIGNER_COUNT; i++) {
        buf_init(&identity->chains[i].ca_pem, CA_PEM_MAX);
        buf_init(&identity->chains[i].ca_der, CERTIFICATE_DER_MAX);
        buf_init(&identity->chains[i].packets_der, CERTIFICATE_DER_MAX);
    }
    char path[PATH_SIZE];
    if (!open_server_names(identity, data_dir, err) || !open_chains(identity, data_dir, err) ||
        !file_in(data_dir, "kek", path, err) || !kek_open(path, &identity->kek, err))
        return false;
    if (loop && !worker_new(loop, "signer", SIGNER_QUEUE_MAX, &identity->worker, err))
        return false;
    *ret = TAKE(identity);
    return true;
}

struct identity *identity_free(struct identity *identity)
{
    if (!identity)
        return nullptr;
    worker_free(identity->worker);
    for (size_t i = 0; i < SIGNER_COUNT; i++) {
        struct chain *chain = &identity->chains[i];
        key_unref(chain->packets);
        key_unref(chain->ca_key);
        X509_free(chain->ca);
        buf_done(&chain->packets_der);
        buf_done(&chain->ca_pem);
        buf_done(&chain->ca_der);
    }
    kek_free(identity->kek);
    buf_done(&identity->server_names_text);
    return mem_free(identity);
}

bool identity_submit(struct identity *identity, bool (*run)(void *arg, struct error *err),
                     void (*done)(void *arg, bool ok, const struct error *err), void *arg,
                     uint64_t deadline, struct error *err)
{
    return worker_submit(identity->worker, run, done, arg, deadline, err);
}

/* ---- The server's own certificate ---- */

/* The path to our CA is checked by then; here, that it is an identity at all. */
static bool accept_client(void *arg, const struct tls_peer *peer, struct error *err)
{
    const struct identity *identity = arg;
    struct spiffe_id id;
    if (!svid_id(peer->leaf, &id, err))
        return false;
    if (!slice_is(spiffe_id_trust_domain(&id), identity->trust_domain))
        return error_set(err, ERROR_UNAUTHENTICATED, "%s is of another trust domain", id.text);
    return true;
}

bool identity_server_tls(struct identity *identity, struct tls_context **ret, struct error *err)
{
    CLEANUP(key_unref_at) struct key *key = nullptr;
    CLEANUP(buf_done) struct buf pem;
    buf_init(&pem, CA_PEM_MAX);
    struct spiffe_id id;
    X509 *certificate;
    if (!key_generate(KEY_P256, &key, err) ||
        !id_in_domain(identity->trust_domain, "authority/server", "", &id, err))
        return false;
    const struct holder holder = {key_evp(key), &id, SERVER_LIFETIME_S, identity->server_names,
                                  identity->server_name_count};
    if (!issue(&identity->chains[0], &holder, clock_wall_ms(), &certificate, err))
        return error_prefix(err, "issue the server's certificate");
    bool ok = certificate_to_pem(certificate, &pem, err);
    X509_free(certificate);
    if (!ok)
        return false;
    const struct tls_config config = {
        .role = TLS_SERVER,
        .certificates = buf_slice(&pem),
        .key = key,
        .verify = TLS_VERIFY_OPTIONAL, /* Attest has none; access.c denies the rest */
        .trust = buf_slice(&identity->chains[0].ca_pem),
        .trust_name = "ca.pem",
        .accept = accept_client,
        .accept_arg = identity,
        .alpn = "h2",
    };
    return tls_context_new(&config, ret, err);
}

/* ---- Signatures ---- */

void dual_init(struct dual_signature *dual)
{
    *dual = (struct dual_signature){0};
    for (size_t i = 0; i < SIGNER_COUNT; i++) {
        buf_init(&dual->bytes[i], KEY_SIGNATURE_MAX);
        postern__v1__signature__init(&dual->storage[i]);
        dual->messages[i] = &dual->storage[i];
    }
}

void dual_done(struct dual_signature *dual)
{
    for (size_t i = 0; i < SIGNER_COUNT; i++)
        buf_done(&dual->bytes[i]);
}

bool identity_sign(const struct identity *identity, const char *tag, const struct slice *parts,
                   size_t count, struct dual_signature *ret, struct error *err)
{
    size_t size = 4 + strlen(tag);
    for (size_t i = 0; i < count; i++)
        size += 4 + parts[i].len;
    CLEANUP(buf_done) struct buf message;
    buf_init(&message, size);
    buf_put_prefixed(&message, slice_str(tag));
    for (size_t i = 0; i < count; i++)
        buf_put_prefixed(&message, parts[i]);
    if (!buf_ok(&message, err))
        return false;
    for (size_t i = 0; i < SIGNER_COUNT; i++) {
        const struct chain *chain = &identity->chains[i];
        if (!key_sign(chain->packets, buf_slice(&message), &ret->bytes[i], err))
            return false;
        ret->storage[i].key_id.data = (uint8_t *)chain->packets_id;
        ret->storage[i].key_id.len = KEY_ID_SIZE;
        ret->storage[i].signature.data = ret->bytes[i].data;
        ret->storage[i].signature.len = ret->bytes[i].len;
    }
    return true;
}

void identity_signer_certificates(const struct identity *identity,
                                  ProtobufCBinaryData ret[static SIGNER_COUNT])
{
    for (size_t i = 0; i < SIGNER_COUNT; i++) {
        const struct buf *der = &identity->chains[i].packets_der;
        ret[i] = (ProtobufCBinaryData){.len = der->len, .data = der->data};
    }
}

const struct bundle *identity_bundle(const struct identity *identity)
{
    return &identity->bundle;
}

/* ---- Certificates for others ---- */

bool identity_issue_node(const struct identity *identity, const char *agent_id, struct slice csr,
                         int64_t now_ms, int64_t until_ms, struct buf *ret, struct error *err)
{
    struct spiffe_id id;
    EVP_PKEY *key;
    X509 *certificate;
    if (until_ms < now_ms + 1000)
        return error_set(err, ERROR_INTERNAL, "an SVID that is expired when it is issued");
    if (!id_in_domain(identity->trust_domain, "node/", agent_id, &id, err) ||
        !csr_verify(csr, &key, err))
        return false;
    const struct holder holder = {key, &id, (uint64_t)(until_ms - now_ms) / 1000, nullptr, 0};
    bool ok = issue(&identity->chains[0], &holder, now_ms, &certificate, err);
    EVP_PKEY_free(key);
    if (!ok)
        return false;
    ok = certificate_to_der(certificate, ret, err);
    X509_free(certificate);
    return ok;
}

bool identity_issue_operator(const struct identity *identity, const char *name,
                             const char *key_path, int64_t now_ms, struct buf *ret_pem,
                             struct error *err)
{
    CLEANUP(key_unref_at) struct key *key = nullptr;
    struct spiffe_id id;
    X509 *certificate;
    if (!id_in_domain(identity->trust_domain, "operator/", name, &id, err) ||
        !key_generate(KEY_P384, &key, err) || !key_save(key, key_path, err))
        return false;
    const struct holder holder = {key_evp(key), &id, OPERATOR_LIFETIME_S, nullptr, 0};
    if (!issue(&identity->chains[0], &holder, now_ms, &certificate, err))
        return false;
    bool ok = certificate_to_pem(certificate, ret_pem, err);
    X509_free(certificate);
    return ok;
}

/* ---- Making it all ---- */

static bool create_key(const char *data_dir, const char *name, enum key_kind kind, struct key **ret,
                       struct error *err)
{
    char path[PATH_SIZE];
    return key_generate(kind, ret, err) && file_in(data_dir, name, path, err) &&
           key_save(*ret, path, err);
}

static bool create_chain(const char *data_dir, const char *trust_domain,
                         const struct chain_files *files, struct error *err)
{
    char path[PATH_SIZE];
    CLEANUP(key_unref_at) struct key *ca = nullptr, *packets = nullptr;
    CLEANUP(buf_done) struct buf pem;
    buf_init(&pem, CA_PEM_MAX);
    X509 *certificate;
    if (!create_key(data_dir, files->packets_key, files->kind, &packets, err) ||
        !create_key(data_dir, files->ca_key, files->kind, &ca, err) ||
        !ca_create(key_evp(ca), slice_str(trust_domain), clock_wall_ms(), CA_LIFETIME_S,
                   &certificate, err))
        return false;
    bool ok = certificate_to_pem(certificate, &pem, err) &&
              file_in(data_dir, files->ca, path, err) &&
              file_write_atomic(path, buf_slice(&pem), 0644, err);
    X509_free(certificate);
    return ok;
}

bool identity_create(const char *data_dir, const char *trust_domain,
                     const char *const *server_names, size_t server_name_count, struct error *err)
{
    char path[PATH_SIZE];
    CLEANUP(buf_done) struct buf names;
    buf_init(&names, SERVER_NAMES_TEXT_MAX - 1);
    for (size_t i = 0; i < server_name_count; i++)
        buf_put_format(&names, "%s\n", server_names[i]);
    if (!buf_ok(&names, err) || !file_in(data_dir, "server-names", path, err) ||
        !file_write_atomic(path, buf_slice(&names), 0644, err))
        return false;
    for (size_t i = 0; i < SIGNER_COUNT; i++) {
        if (!create_chain(data_dir, trust_domain, &chain_files[i], err))
            return false;
    }
    return file_in(data_dir, "kek", path, err) && kek_create(path, err);
}

void identity_anchor(const struct identity *identity, struct buf *ret)
{
    for (size_t i = 0; i < SIGNER_COUNT; i++)
        buf_put(ret, buf_slice(&identity->chains[i].ca_pem));
}

const struct kek *identity_kek(const struct identity *identity)
{
    return identity->kek;
}
