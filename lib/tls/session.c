#include "tls/internal.h"

#include "base/mem.h"

#include <openssl/err.h>

/* RFC 8446 section 6.2: what the peer says about our certificate. */
static bool about_our_certificate(int alert)
{
    switch (alert) {
    case SSL_AD_BAD_CERTIFICATE:
    case SSL_AD_UNSUPPORTED_CERTIFICATE:
    case SSL_AD_CERTIFICATE_REVOKED:
    case SSL_AD_CERTIFICATE_EXPIRED:
    case SSL_AD_CERTIFICATE_UNKNOWN:
    case SSL_AD_UNKNOWN_CA:
    case SSL_AD_ACCESS_DENIED:
    case SSL_AD_CERTIFICATE_REQUIRED:
        return true;
    default:
        return false;
    }
}

static bool explain_alert(int alert, int64_t code, struct error *err)
{
    /* libssl has no name for this one, the usual answer to a client without a certificate. */
    const char *text = alert == SSL_AD_CERTIFICATE_REQUIRED ? "certificate required"
                                                            : SSL_alert_desc_string_long(alert);
    if (about_our_certificate(alert))
        return error_set_native(err, ERROR_UNAUTHENTICATED, ERROR_DOMAIN_OPENSSL, code, text,
                                "the peer refuses our certificate");
    if (alert == SSL_AD_PROTOCOL_VERSION)
        return error_set_native(err, ERROR_INVALID, ERROR_DOMAIN_OPENSSL, code, text,
                                "the peer does not speak TLS 1.3");
    return error_set_native(err, ERROR_INVALID, ERROR_DOMAIN_OPENSSL, code, text,
                            "the peer sent a TLS alert");
}

/* libssl's reasons that deserve plainer words. */
static const struct {
    int reason;
    enum error_class class;
    const char *text;
} REASONS[] = {
    {SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE, ERROR_UNAUTHENTICATED,
     "the peer sent no certificate, and one is required"},
    {SSL_R_NO_APPLICATION_PROTOCOL, ERROR_INVALID,
     "the peer does not offer the application protocol (ALPN) that is spoken here"},
    {SSL_R_UNSUPPORTED_PROTOCOL, ERROR_INVALID, "the peer does not speak TLS 1.3"},
    {SSL_R_WRONG_VERSION_NUMBER, ERROR_INVALID, "the peer does not speak TLS"},
    {SSL_R_HTTP_REQUEST, ERROR_INVALID, "the peer does not speak TLS but HTTP"},
    {SSL_R_HTTPS_PROXY_REQUEST, ERROR_INVALID, "the peer does not speak TLS but HTTP"},
    {SSL_R_NO_SUITABLE_KEY_SHARE, ERROR_INVALID, "no key exchange group in common with the peer"},
    {SSL_R_NO_SUITABLE_GROUPS, ERROR_INVALID, "no key exchange group in common with the peer"},
};

/* The session ends here. Prefers the reason that we gave ourselves to what libssl made of it. */
static bool session_fail(struct tls_session *session, const struct error *refusal,
                         struct error *err)
{
    struct error ignored;
    session->state = TLS_FAILED;
    if (refusal && refusal->class != ERROR_NONE) {
        *err = *refusal;
        goto out;
    }
    if (session->flooded) {
        error_set(err, ERROR_EXHAUSTED, "the peer's TLS handshake exceeds %zu bytes",
                  TLS_HANDSHAKE_MAX);
        goto out;
    }
    if (!buf_ok(&session->out, &ignored)) {
        error_set(err, ERROR_EXHAUSTED, "no room for what is to be sent over TLS");
        goto out;
    }
    unsigned long code = ERR_peek_error();
    int reason = ERR_GET_REASON(code);
    if (ERR_GET_LIB(code) == ERR_LIB_SSL && reason > SSL_AD_REASON_OFFSET) {
        explain_alert(reason - SSL_AD_REASON_OFFSET, (int64_t)code, err);
        goto out;
    }
    for (size_t i = 0; ERR_GET_LIB(code) == ERR_LIB_SSL && i < ARRAY_LEN(REASONS); i++) {
        if (REASONS[i].reason == reason) {
            error_set_native(err, REASONS[i].class, ERROR_DOMAIN_OPENSSL, (int64_t)code,
                             ERR_reason_error_string(code), "%s", REASONS[i].text);
            goto out;
        }
    }
    error_set_openssl(err, ERROR_INVALID, "broken TLS from the peer");
out:
    ERR_clear_error();
    return false;
}

/* A client learns only here whether its server chose the protocol. */
static bool handshake_done(struct tls_session *session, struct error *err)
{
    const struct tls_context *context = session->context;
    if (context->alpn &&
        !slice_equal(tls_session_alpn(session), slice(context->alpn + 1, context->alpn_len - 1))) {
        (void)SSL_shutdown(session->ssl);
        session->state = TLS_FAILED;
        return error_set(err, ERROR_INVALID,
                         "the peer does not speak the application protocol \"%.*s\"",
                         (int)context->alpn_len - 1, (const char *)context->alpn + 1);
    }
    session->state = TLS_OPEN;
    return true;
}

/* As far as it goes with what is there. */
static bool handshake(struct tls_session *session, struct error *err)
{
    struct error refusal = {0};
    session->refusal = &refusal;
    ERR_clear_error();
    int code = SSL_do_handshake(session->ssl);
    session->refusal = nullptr;
    if (code == 1)
        return handshake_done(session, err);
    if (!session->flooded && SSL_get_error(session->ssl, code) == SSL_ERROR_WANT_READ)
        return true;
    return session_fail(session, &refusal, err);
}

static bool set_up(struct tls_session *session, struct error *err)
{
    const struct tls_context *context = session->context;
    BIO *bio;
    session->ssl = SSL_new(context->ssl);
    if (!session->ssl)
        return error_set_memory(err);
    if (!tls_bio_new(session, &bio, err))
        return false;
    SSL_set_bio(session->ssl, bio, bio); /* takes the one reference for both */
    (void)SSL_set_app_data(session->ssl, session);
    if (context->role == TLS_SERVER) {
        SSL_set_accept_state(session->ssl);
        return true;
    }
    SSL_set_connect_state(session->ssl);
    /* RFC 6066 section 3: no addresses in server_name. */
    if (context->server_name && !context->name_is_ip &&
        SSL_set_tlsext_host_name(session->ssl, context->server_name) != 1)
        return error_set_openssl(err, ERROR_INVALID, "\"%s\" is no name of a server",
                                 context->server_name);
    return handshake(session, err);
}

bool tls_session_new(struct tls_context *context, struct tls_session **ret, struct error *err)
{
    CLEANUP(tls_session_free_at) struct tls_session *session = mem_new(1, sizeof *session);
    if (!session)
        return error_set_memory(err);
    session->context = tls_context_ref(context);
    buf_init(&session->out, TLS_OUTPUT_MAX);
    if (!set_up(session, err))
        return false;
    *ret = TAKE(session);
    return true;
}

struct tls_session *tls_session_free(struct tls_session *session)
{
    if (!session)
        return nullptr;
    SSL_free(session->ssl);
    tls_context_unref(session->context);
    buf_done(&session->out);
    return mem_free(session);
}

/* Decrypts what is there, straight into `ret`. */
static bool read_plain(struct tls_session *session, struct buf *ret, struct error *err)
{
    for (;;) {
        size_t before = ret->len, room = ret->max - ret->len, n = 0;
        room = room < TLS_RECORD_MAX ? room : TLS_RECORD_MAX;
        uint8_t *at = room > 0 ? buf_extend(ret, room) : nullptr;
        if (!at) {
            session->state = TLS_FAILED;
            return error_set(err, ERROR_EXHAUSTED, "no room for the plaintext of TLS");
        }
        ERR_clear_error();
        int code = SSL_read_ex(session->ssl, at, room, &n);
        ret->len = before + n;
        if (code == 1)
            continue;
        switch (SSL_get_error(session->ssl, code)) {
        case SSL_ERROR_WANT_READ:
            return true;
        case SSL_ERROR_ZERO_RETURN:
            session->state = TLS_ENDED;
            return true;
        default:
            return session_fail(session, nullptr, err);
        }
    }
}

bool tls_session_feed(struct tls_session *session, struct slice ciphertext, struct buf *ret_plain,
                      struct error *err)
{
    if (session->state == TLS_FAILED)
        return error_set(err, ERROR_CONFLICT, "the TLS session has failed before");
    session->in = ciphertext;
    bool ok = true;
    if (session->state == TLS_HANDSHAKE)
        ok = handshake(session, err);
    if (ok && session->state == TLS_OPEN)
        ok = read_plain(session, ret_plain, err);
    session->in = slice(nullptr, 0);
    return ok;
}

bool tls_session_write(struct tls_session *session, struct slice plain, struct error *err)
{
    size_t written;
    if ((session->state != TLS_OPEN && session->state != TLS_ENDED) || session->closed)
        return error_set(err, ERROR_CONFLICT, "the TLS session is not open");
    ERR_clear_error();
    if (plain.len == 0 || SSL_write_ex(session->ssl, plain.data, plain.len, &written) == 1)
        return true;
    return session_fail(session, nullptr, err);
}

bool tls_session_eof(struct tls_session *session, struct error *err)
{
    if (session->state == TLS_ENDED)
        return true;
    bool early = session->state == TLS_HANDSHAKE;
    session->state = TLS_FAILED;
    return error_set(err, ERROR_UNAVAILABLE, "the connection was cut off %s",
                     early ? "during the TLS handshake" : "without the peer's close_notify");
}

void tls_session_close(struct tls_session *session)
{
    if (session->closed || (session->state != TLS_OPEN && session->state != TLS_ENDED))
        return;
    session->closed = true;
    (void)SSL_shutdown(session->ssl); /* 0: the peer's is still to come */
    ERR_clear_error();
}

void tls_session_take(struct tls_session *session, struct buf *ret)
{
    buf_done(ret);
    *ret = session->out;
    buf_init(&session->out, TLS_OUTPUT_MAX);
}

enum tls_state tls_session_state(const struct tls_session *session)
{
    return session->state;
}

void tls_session_peer(const struct tls_session *session, struct tls_peer *ret)
{
    *ret = (struct tls_peer){.leaf = SSL_get0_peer_certificate(session->ssl),
                             .chain = SSL_get_peer_cert_chain(session->ssl)};
}

const char *tls_session_group(const struct tls_session *session)
{
    const char *name = SSL_get0_group_name(session->ssl);
    return name ? name : "";
}

struct slice tls_session_alpn(const struct tls_session *session)
{
    const unsigned char *name = nullptr;
    unsigned len = 0;
    SSL_get0_alpn_selected(session->ssl, &name, &len);
    return slice(name, len);
}

bool tls_session_binding(const struct tls_session *session,
                         uint8_t ret[static CHANNEL_BINDING_SIZE], struct error *err)
{
    static const char label[] = "EXPORTER-Channel-Binding";
    uint8_t binding[CHANNEL_BINDING_SIZE];
    if (session->state != TLS_OPEN && session->state != TLS_ENDED)
        return error_set(err, ERROR_CONFLICT, "a TLS session has a binding after its handshake");
    if (SSL_export_keying_material(session->ssl, binding, sizeof binding, label, sizeof label - 1,
                                   (const unsigned char *)"", 0, 1) != 1)
        return error_set_openssl(err, ERROR_INTERNAL, "cannot derive the channel binding");
    mem_copy(ret, binding, sizeof binding);
    return true;
}
