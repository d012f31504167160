/* What the files of lib/tls share and nobody else sees: libssl's types. */
#pragma once

#include "tls/tls.h"

#include <openssl/ssl.h>
#include <stdatomic.h>

struct tls_context {
    SSL_CTX *ssl;
    BIO_METHOD *bio_method;
    atomic_uint references;
    enum tls_role role;
    bool has_trust;
    char *trust_name;  /* or NULL */
    char *server_name; /* or NULL */
    bool name_is_ip;
    uint8_t *alpn; /* a length byte and the name, as on the wire; or NULL */
    size_t alpn_len;
    bool (*accept)(void *arg, const struct tls_peer *peer, struct error *err);
    void *accept_arg;
};

struct tls_session {
    SSL *ssl;
    struct tls_context *context;
    struct slice in; /* what tls_session_feed was given and libssl has not read yet */
    struct buf out;
    size_t handshake_bytes;
    enum tls_state state;
    bool flooded; /* beyond TLS_HANDSHAKE_MAX */
    bool closed;  /* close_notify is sent */
    /* Inside tls_session_feed: where the check of the peer's certificate leaves its reason. */
    struct error *refusal;
};

/* bio.c: what tls_bio_new needs; freed by BIO_meth_free after its BIOs. */
[[nodiscard]] bool tls_bio_method_new(BIO_METHOD **ret, struct error *err);
/* A BIO that reads session->in and writes session->out. Errors: EXHAUSTED. */
[[nodiscard]] bool tls_bio_new(struct tls_session *session, BIO **ret, struct error *err);
