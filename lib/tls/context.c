#include "tls/internal.h"

#include "base/certificate.h"
#include "base/mem.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <string.h>

static const char CIPHERSUITES[] = "TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";

static bool set_identity(SSL_CTX *ssl, const struct tls_config *config, struct error *err)
{
    if (config->certificates.len == 0 && !config->key) {
        if (config->role == TLS_SERVER)
            return error_set(err, ERROR_INVALID, "a TLS server needs a certificate and its key");
        return true;
    }
    if (config->certificates.len == 0 || !config->key)
        return error_set(err, ERROR_INVALID, "a certificate and a key are needed, not one of them");
    CLEANUP(certificates_free_at) STACK_OF(X509) *chain = nullptr;
    if (!certificates_parse(config->certificates, &chain, err))
        return error_prefix(err, "our certificate");
    X509 *leaf = sk_X509_shift(chain);
    ERR_clear_error();
    bool ok = true;
    if (X509_check_private_key(leaf, key_evp(config->key)) != 1)
        ok = error_set_openssl(err, ERROR_INVALID,
                               "our certificate and our key do not belong together");
    else if (SSL_CTX_use_cert_and_key(ssl, leaf, key_evp(config->key), chain, 1) != 1)
        ok = error_set_openssl(err, ERROR_INVALID, "our certificate can't be used");
    X509_free(leaf);
    return ok;
}

static bool set_trust(SSL_CTX *ssl, const struct tls_config *config, struct error *err)
{
    if (config->trust.len == 0)
        return true;
    CLEANUP(certificates_free_at) STACK_OF(X509) *anchors = nullptr;
    const char *name = config->trust_name ? config->trust_name : "the trust anchors";
    if (!certificates_parse(config->trust, &anchors, err))
        return error_prefix(err, "%s", name);
    X509_STORE *store = SSL_CTX_get_cert_store(ssl);
    for (int i = 0; i < sk_X509_num(anchors); i++) {
        if (X509_STORE_add_cert(store, sk_X509_value(anchors, i)) != 1)
            return error_set_openssl(err, ERROR_INVALID, "%s: certificate %d can't be used", name,
                                     i + 1);
    }
    return true;
}

/* RFC 7301 section 3.2: no common protocol is the alert no_application_protocol. */
static int select_alpn(SSL *ssl, const unsigned char **ret, unsigned char *ret_len,
                       const unsigned char *offered, unsigned int offered_len, void *arg)
{
    (void)ssl;
    const struct tls_context *context = arg;
    for (unsigned i = 0; i < offered_len; i += 1u + offered[i]) {
        size_t len = 1u + offered[i];
        if (len <= offered_len - i &&
            slice_equal(slice(offered + i, len), slice(context->alpn, context->alpn_len))) {
            *ret = context->alpn + 1;
            *ret_len = context->alpn[0];
            return SSL_TLSEXT_ERR_OK;
        }
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* A client without the ALPN extension would otherwise slip through select_alpn. */
static int check_hello(SSL *ssl, int *alert, void *arg)
{
    (void)arg;
    const unsigned char *extension;
    size_t len;
    if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_application_layer_protocol_negotiation,
                                  &extension, &len) == 1)
        return SSL_CLIENT_HELLO_SUCCESS;
    *alert = SSL_AD_NO_APPLICATION_PROTOCOL;
    ERR_raise(ERR_LIB_SSL, SSL_R_NO_APPLICATION_PROTOCOL);
    return SSL_CLIENT_HELLO_ERROR;
}

static bool set_alpn(struct tls_context *context, const char *alpn, struct error *err)
{
    if (!alpn)
        return true;
    size_t len = strlen(alpn);
    if (len == 0 || len > UINT8_MAX)
        return error_set(err, ERROR_INVALID, "an ALPN name has 1 to 255 bytes");
    context->alpn = mem_new(1, len + 1);
    if (!context->alpn)
        return error_set_memory(err);
    context->alpn[0] = (uint8_t)len;
    mem_copy(context->alpn + 1, alpn, len);
    context->alpn_len = len + 1;
    if (context->role == TLS_SERVER) {
        SSL_CTX_set_alpn_select_cb(context->ssl, select_alpn, context);
        SSL_CTX_set_client_hello_cb(context->ssl, check_hello, context);
        return true;
    }
    /* This one returns 0 for success. */
    return SSL_CTX_set_alpn_protos(context->ssl, context->alpn, (unsigned)context->alpn_len) == 0 ||
           error_set_memory(err);
}

static bool set_server_name(struct tls_context *context, const char *name, struct error *err)
{
    if (!name)
        return true;
    context->server_name = mem_strdup(name);
    if (!context->server_name)
        return error_set_memory(err);
    X509_VERIFY_PARAM *param = SSL_CTX_get0_param(context->ssl);
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS |
                                               X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
    context->name_is_ip = X509_VERIFY_PARAM_set1_ip_asc(param, name) == 1;
    if (!context->name_is_ip && X509_VERIFY_PARAM_set1_host(param, name, strlen(name)) != 1)
        return error_set_openssl(err, ERROR_INVALID, "\"%s\" is no name of a server", name);
    return true;
}

/* Why libcrypto found no good path, in words that say what to look at. */
static void explain(const struct tls_context *context, X509_STORE_CTX *store, struct error *err)
{
    char time[TIME_TEXT_SIZE], issuer[128] = "nobody";
    int code = X509_STORE_CTX_get_error(store);
    X509 *at = X509_STORE_CTX_get_current_cert(store);
    const char *whose = X509_STORE_CTX_get_error_depth(store) == 0
                            ? "the peer's certificate"
                            : "a certificate above the peer's";
    if (at)
        X509_NAME_oneline(X509_get_issuer_name(at), issuer, sizeof issuer);
    switch (code) {
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
    case X509_V_ERR_CERT_UNTRUSTED:
        error_set_native(
            err, ERROR_UNAUTHENTICATED, ERROR_DOMAIN_OPENSSL, code, nullptr,
            "the peer's certificate is not issued by the trust anchor %s but by %s: if "
            "that is the right peer, copy its own anchor there",
            context->trust_name ? context->trust_name : "given", issuer);
        break;
    case X509_V_ERR_CERT_HAS_EXPIRED:
        error_set(err, ERROR_UNAUTHENTICATED, "%s expired at %s", whose,
                  certificate_time_format(X509_get0_notAfter(at), time));
        break;
    case X509_V_ERR_CERT_NOT_YET_VALID:
        error_set(err, ERROR_UNAUTHENTICATED, "%s is not valid before %s: compare the clocks",
                  whose, certificate_time_format(X509_get0_notBefore(at), time));
        break;
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        error_set(err, ERROR_UNAUTHENTICATED, "the peer's certificate is not for \"%s\"",
                  context->server_name);
        break;
    default:
        error_set_native(err, ERROR_UNAUTHENTICATED, ERROR_DOMAIN_OPENSSL, code,
                         X509_verify_cert_error_string(code), "%s is refused", whose);
        break;
    }
}

/* Called by libssl in place of its own check. 1: the peer is accepted. */
static int check_peer(X509_STORE_CTX *store, void *arg)
{
    const struct tls_context *context = arg;
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct tls_session *session = SSL_get_app_data(ssl);
    if (context->has_trust && X509_verify_cert(store) != 1) {
        explain(context, store, session->refusal);
        return 0;
    }
    const struct tls_peer peer = {.leaf = X509_STORE_CTX_get0_cert(store),
                                  .chain = X509_STORE_CTX_get0_untrusted(store)};
    if (context->accept && !context->accept(context->accept_arg, &peer, session->refusal)) {
        X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_REJECTED); /* alert bad_certificate */
        return 0;
    }
    X509_STORE_CTX_set_error(store, X509_V_OK);
    return 1;
}

static bool check_config(const struct tls_config *config, struct error *err)
{
    if (config->role == TLS_CLIENT && config->verify != TLS_VERIFY_REQUIRED)
        return error_set(err, ERROR_INVALID, "a TLS client checks its server, always");
    if (config->role == TLS_SERVER && config->server_name)
        return error_set(err, ERROR_INVALID, "a server's name is for TLS clients");
    bool named = config->role == TLS_SERVER || config->server_name;
    if (config->verify != TLS_VERIFY_NONE && !config->accept && (config->trust.len == 0 || !named))
        return error_set(err, ERROR_INVALID,
                         "nothing would check who the peer is: trust anchors, a server's name or "
                         "a judge of our own are needed");
    return true;
}

static bool configure(struct tls_context *context, const struct tls_config *config,
                      struct error *err)
{
    static const int modes[] = {
        [TLS_VERIFY_REQUIRED] = SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
        [TLS_VERIFY_OPTIONAL] = SSL_VERIFY_PEER,
        [TLS_VERIFY_NONE] = SSL_VERIFY_NONE,
    };
    SSL_CTX *ssl = context->ssl;
    const char *groups = config->groups ? config->groups : TLS_GROUPS_DEFAULT;
    ERR_clear_error();
    if (SSL_CTX_set_min_proto_version(ssl, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_max_proto_version(ssl, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_ciphersuites(ssl, CIPHERSUITES) != 1 || SSL_CTX_set_num_tickets(ssl, 0) != 1)
        return error_set_openssl(err, ERROR_INTERNAL, "cannot set up TLS 1.3");
    if (SSL_CTX_set1_groups_list(ssl, groups) != 1)
        return error_set_openssl(err, ERROR_INVALID, "cannot use the key exchange groups \"%s\"",
                                 groups);
    (void)SSL_CTX_set_options(ssl, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION |
                                       SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE);
    (void)SSL_CTX_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS);
    (void)SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_verify(ssl, modes[config->verify], nullptr);
    SSL_CTX_set_verify_depth(ssl, TLS_CHAIN_MAX);
    SSL_CTX_set_cert_verify_callback(ssl, check_peer, context);
    /* What is given as an anchor is one, also if it is not self-signed. */
    (void)X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(ssl), X509_V_FLAG_PARTIAL_CHAIN);
    return set_identity(ssl, config, err) && set_trust(ssl, config, err) &&
           set_alpn(context, config->alpn, err) &&
           set_server_name(context, config->server_name, err);
}

bool tls_context_new(const struct tls_config *config, struct tls_context **ret, struct error *err)
{
    if (!check_config(config, err))
        return false;
    CLEANUP(tls_context_unref_at) struct tls_context *context = mem_new(1, sizeof *context);
    if (!context)
        return error_set_memory(err);
    atomic_init(&context->references, 1);
    context->role = config->role;
    context->has_trust = config->trust.len > 0;
    context->accept = config->accept;
    context->accept_arg = config->accept_arg;
    if (config->trust_name) {
        context->trust_name = mem_strdup(config->trust_name);
        if (!context->trust_name)
            return error_set_memory(err);
    }
    context->ssl =
        SSL_CTX_new(config->role == TLS_SERVER ? TLS_server_method() : TLS_client_method());
    if (!context->ssl)
        return error_set_openssl(err, ERROR_INTERNAL, "cannot set up TLS");
    if (!tls_bio_method_new(&context->bio_method, err) || !configure(context, config, err))
        return false;
    *ret = TAKE(context);
    return true;
}

struct tls_context *tls_context_ref(struct tls_context *context)
{
    atomic_fetch_add_explicit(&context->references, 1, memory_order_relaxed);
    return context;
}

struct tls_context *tls_context_unref(struct tls_context *context)
{
    if (!context || atomic_fetch_sub_explicit(&context->references, 1, memory_order_acq_rel) != 1)
        return nullptr;
    SSL_CTX_free(context->ssl);
    BIO_meth_free(context->bio_method);
    mem_free(context->trust_name);
    mem_free(context->server_name);
    mem_free(context->alpn);
    return mem_free(context);
}
