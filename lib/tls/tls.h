/*
 * TLS 1.3, sans-I/O: bytes from the peer go in, bytes for the peer and plaintext come out.
 *
 * struct tls_context is what a listener or a client agrees on: identity, trust, names. It never
 * changes; a reload makes a new one for new sessions, and those that run keep theirs by reference.
 * struct tls_session is one connection. Only TLS 1.3; no session tickets, 0-RTT, renegotiation or
 * compression. Key exchange is hybrid post-quantum by default.
 *
 * Ownership: contexts are reference-counted, sessions belong to their maker. Threading: a context
 * may be shared by threads, a session belongs to one.
 * Limits: TLS_HANDSHAKE_MAX, TLS_CHAIN_MAX.
 */
#pragma once

#include "base/crypt.h"
#include "keys/key.h"

#include <openssl/safestack.h>
#include <openssl/types.h>

constexpr size_t TLS_HANDSHAKE_MAX = 64 * 1024; /* a peer that feeds a handshake without end */
constexpr int TLS_CHAIN_MAX = 8;                /* certificates to check: each costs a signature */
constexpr size_t TLS_OUTPUT_MAX = 32 * 1024 * 1024; /* a writer that never takes: our own defect */
constexpr size_t TLS_RECORD_MAX = 16 * 1024; /* plaintext of one record, RFC 8446 section 5.1 */

enum tls_role { TLS_SERVER, TLS_CLIENT };

/* What is asked of the peer. The zero value asks most. */
enum tls_verify {
    TLS_VERIFY_REQUIRED = 0, /* a certificate that passes the checks */
    TLS_VERIFY_OPTIONAL,     /* servers: none, or one that passes the checks */
    TLS_VERIFY_NONE,         /* servers only: certificates are not asked for */
};

/* The peer's certificates as sent; borrowed, valid as long as the session. */
struct tls_peer {
    X509 *leaf;             /* NULL: the peer sent none */
    STACK_OF(X509) * chain; /* all that it sent, perhaps with the leaf, unchecked; may be NULL */
};

struct tls_config {
    enum tls_role role;

    /* Our certificate chain, leaf first, PEM; the leaf must carry key's public half. Servers need
     * both, clients may have neither. `key` is referenced, everything else copied. */
    struct slice certificates;
    struct key *key;

    enum tls_verify verify;
    /* Trust anchors, PEM, roots or not; `trust_name` says in errors where they come from (a file's
     * path). Empty: no path is checked here, and `accept` has to do it all. */
    struct slice trust;
    const char *trust_name;
    /* Clients: the DNS name that the server's certificate must carry, also sent as SNI, or an IP
     * address, not sent. NULL: any name, which `accept` judges. */
    const char *server_name;
    /* Judges a peer that sent a certificate, after those checks; on false its error is the
     * session's, and the peer gets the alert bad_certificate. Called inside tls_session_feed, on its
     * thread. Needed where trust is empty or, for a client, server_name NULL, unless verify is NONE.
     * The arg must outlive context and sessions. */
    bool (*accept)(void *arg, const struct tls_peer *peer, struct error *err);
    void *accept_arg;

    /* The one application protocol, such as "h2" (RFC 7301); a peer without it is refused. NULL:
     * none. */
    const char *alpn;
    /* Key exchange groups in OpenSSL's syntax; NULL is TLS_GROUPS_DEFAULT. */
    const char *groups;
};

#define TLS_GROUPS_DEFAULT "*X25519MLKEM768:SecP256r1MLKEM768 / ?*X25519:?P-256"
#define TLS_GROUPS_STRICT_PQ "*X25519MLKEM768:SecP256r1MLKEM768"

struct tls_context;

/* Errors: INVALID (PEM, chain and key that don't match, groups, a needed member missing),
 * EXHAUSTED. */
[[nodiscard]] bool tls_context_new(const struct tls_config *config, struct tls_context **ret,
                                   struct error *err);
struct tls_context *tls_context_ref(struct tls_context *context);
/* NULL is fine; returns NULL. */
struct tls_context *tls_context_unref(struct tls_context *context);
DEFINE_CLEANUP(tls_context_unref, struct tls_context)

struct tls_session;

enum tls_state {
    TLS_HANDSHAKE, /* tls_session_write waits */
    TLS_OPEN,
    TLS_ENDED,  /* the peer sent close_notify; writing is still possible */
    TLS_FAILED, /* the error has been returned; take the alert out, send it, close */
};

/* A session; a client's has its ClientHello ready to be taken. Keeps a reference of the context. */
[[nodiscard]] bool tls_session_new(struct tls_context *context, struct tls_session **ret,
                                   struct error *err);
/* NULL is fine; returns NULL. */
struct tls_session *tls_session_free(struct tls_session *session);
DEFINE_CLEANUP(tls_session_free, struct tls_session)

/*
 * Takes all of `ciphertext` and appends the plaintext that it completes to `ret_plain`, which needs
 * room for ciphertext.len + TLS_RECORD_MAX bytes. Afterwards ask tls_session_state and
 * tls_session_take: also after a failure there may be an alert to send.
 * Errors (the state is TLS_FAILED from then on, and further calls are CONFLICT):
 * UNAUTHENTICATED (the peer's certificate: missing, expired, not issued by the trust anchor, other
 * name; or the peer says so of ours), what `accept` set, INVALID (not TLS, other version, broken
 * records, no common ALPN or group), EXHAUSTED (limits).
 */
[[nodiscard]] bool tls_session_feed(struct tls_session *session, struct slice ciphertext,
                                    struct buf *ret_plain, struct error *err);
/* Encrypts `plain`; the ciphertext waits for tls_session_take. Errors: CONFLICT (handshake not
 * finished, closed, failed), EXHAUSTED. */
[[nodiscard]] bool tls_session_write(struct tls_session *session, struct slice plain,
                                     struct error *err);
/* The connection below ended. If the peer had not sent close_notify it is UNAVAILABLE, "cut off"
 * (RFC 8446 section 6.1: truncation). */
[[nodiscard]] bool tls_session_eof(struct tls_session *session, struct error *err);
/* Sends close_notify; no more writes. Fine in any state and twice. */
void tls_session_close(struct tls_session *session);
/* Moves what is to be sent into `ret`, an empty buf whose old bytes are freed and which is ready for
 * stream_write; empty if there is nothing. */
void tls_session_take(struct tls_session *session, struct buf *ret);

enum tls_state tls_session_state(const struct tls_session *session);
/* After the handshake: the peer's certificates, checked. leaf is NULL if it has none. */
void tls_session_peer(const struct tls_session *session, struct tls_peer *ret);
/* After the handshake: IANA's name of the key exchange group, such as "X25519MLKEM768" or "x25519";
 * borrowed from the session. */
const char *tls_session_group(const struct tls_session *session);
/* After the handshake: the protocol agreed on, empty if none. Borrowed. */
struct slice tls_session_alpn(const struct tls_session *session);
/* RFC 9266 "tls-exporter": label EXPORTER-Channel-Binding, empty context. CONFLICT before the
 * handshake's end. */
[[nodiscard]] bool tls_session_binding(const struct tls_session *session,
                                       uint8_t ret[static CHANNEL_BINDING_SIZE], struct error *err);
