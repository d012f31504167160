/* One authority, a server and a client of it, and a stranger; sessions connected by hand; and a peer of
 * another make. For the tests of lib/tls. */
#pragma once

#include "unit/spiffe/certs.h"

#include "tls/tls.h"

#include <openssl/ssl.h>

struct party {
    struct key *key;
    struct cert cert;
    struct buf pem;
};
/* A fresh P-256 key, certified as `spec` says. */
void party_init(struct party *party, struct cert_spec spec);
void party_done(struct party *party);

/* Made by fixture_set_up, which cmocka calls once for a group, with its counterpart. */
extern struct cert ca, other_ca;
extern struct buf ca_pem, other_ca_pem;
extern struct party server_party, client_party; /* of ca */
extern struct party stranger;                   /* of other_ca, with both names */
int fixture_set_up(void **state);
int fixture_tear_down(void **state);

/* Both ask for the other's certificate, trust ca alone and speak "h2". */
struct tls_config server_config(void);
struct tls_config client_config(void);

struct side {
    struct tls_session *session;
    struct buf plain; /* what it heard */
    bool ok;
    struct error err;
};
void side_init(struct side *side, const struct tls_config *config);
void side_done(struct side *side);
/* Nothing any more after it failed once. */
void side_feed(struct side *side, struct slice bytes);
void send_text(struct side *from, const char *text);
void assert_heard(struct side *side, const char *text);
/* The side failed, with this class and these words. */
void assert_refused(struct side *side, enum error_class class, const char *says);

struct pair {
    struct side client, server;
};
void pair_init(struct pair *pair, const struct tls_config *client, const struct tls_config *server);
void pair_done(struct pair *pair);
/* Moves what waits in one to the other, in parts of `chunk` bytes. True if there was anything. */
bool side_move(struct side *from, struct side *to, size_t chunk);
/* The same in both directions, until neither has anything. */
void pump(struct pair *pair, size_t chunk);
void assert_open(struct pair *pair);
/* A pair with the configurations above, open, that has said something in both directions. */
void two_sessions_agree(struct pair *pair, size_t chunk);

/* Plain libssl over memory BIOs. */
struct plain_peer {
    SSL_CTX *ctx;
    SSL *ssl;
    BIO *in, *out;
};
void plain_init(struct plain_peer *peer, bool server, int version);
void plain_done(struct plain_peer *peer);
/* One round trip; true if anything moved. */
bool plain_exchange(struct plain_peer *peer, struct side *side);
