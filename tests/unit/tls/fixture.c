#include "fixture.h"

#include "base/mem.h"

#include <openssl/err.h>

struct cert ca, other_ca;
struct buf ca_pem, other_ca_pem;
struct party server_party, client_party, stranger;

void party_init(struct party *party, struct cert_spec spec)
{
    struct error err = {0};
    assert_ok(key_generate(KEY_P256, &party->key, &err));
    spec.key = key_evp(party->key);
    party->cert = cert_make(&spec);
    buf_init(&party->pem, 64 * 1024);
    cert_pem(party->cert.x509, &party->pem);
}

void party_done(struct party *party)
{
    key_unref(party->key);
    cert_done(&party->cert);
    buf_done(&party->pem);
}

int fixture_set_up(void **state)
{
    (void)state;
    ca = cert_make(&(struct cert_spec)CERT_CA("test authority"));
    other_ca = cert_make(&(struct cert_spec)CERT_CA("another authority"));
    buf_init(&ca_pem, 4096);
    buf_init(&other_ca_pem, 4096);
    cert_pem(ca.x509, &ca_pem);
    cert_pem(other_ca.x509, &other_ca_pem);
    party_init(&server_party, (struct cert_spec)CERT_LEAF(
                                  "URI:spiffe://test/server,DNS:server.test,IP:127.0.0.1", &ca));
    party_init(&client_party, (struct cert_spec)CERT_LEAF("URI:spiffe://test/client", &ca));
    party_init(&stranger,
               (struct cert_spec)CERT_LEAF("URI:spiffe://test/client,DNS:server.test", &other_ca));
    return 0;
}

int fixture_tear_down(void **state)
{
    (void)state;
    cert_done(&ca);
    cert_done(&other_ca);
    buf_done(&ca_pem);
    buf_done(&other_ca_pem);
    party_done(&server_party);
    party_done(&client_party);
    party_done(&stranger);
    return 0;
}

struct tls_config server_config(void)
{
    return (struct tls_config){.role = TLS_SERVER,
                               .certificates = buf_slice(&server_party.pem),
                               .key = server_party.key,
                               .trust = buf_slice(&ca_pem),
                               .trust_name = "/etc/ca.pem",
                               .alpn = "h2"};
}

struct tls_config client_config(void)
{
    return (struct tls_config){.role = TLS_CLIENT,
                               .certificates = buf_slice(&client_party.pem),
                               .key = client_party.key,
                               .trust = buf_slice(&ca_pem),
                               .trust_name = "/etc/ca.pem",
                               .server_name = "server.test",
                               .alpn = "h2"};
}

void side_init(struct side *side, const struct tls_config *config)
{
    struct error err = {0};
    struct tls_context *context;
    *side = (struct side){.ok = true};
    assert_ok(tls_context_new(config, &context, &err));
    assert_ok(tls_session_new(context, &side->session, &err));
    assert_null(tls_context_unref(context)); /* the session keeps it alive */
    buf_init(&side->plain, 8 << 20);
}

void side_done(struct side *side)
{
    assert_null(tls_session_free(side->session));
    buf_done(&side->plain);
}

void side_feed(struct side *side, struct slice bytes)
{
    if (side->ok)
        side->ok = tls_session_feed(side->session, bytes, &side->plain, &side->err);
}

bool side_move(struct side *from, struct side *to, size_t chunk)
{
    CLEANUP(buf_done) struct buf bytes = {0};
    tls_session_take(from->session, &bytes);
    struct slice rest = buf_slice(&bytes);
    bool any = rest.len > 0;
    while (rest.len > 0) {
        size_t n = rest.len < chunk ? rest.len : chunk;
        side_feed(to, slice(rest.data, n));
        rest = slice(rest.data + n, rest.len - n);
    }
    return any;
}

void pump(struct pair *pair, size_t chunk)
{
    bool any = true;
    while (any) {
        any = side_move(&pair->client, &pair->server, chunk);
        any = side_move(&pair->server, &pair->client, chunk) || any;
    }
}

void pair_init(struct pair *pair, const struct tls_config *client, const struct tls_config *server)
{
    side_init(&pair->client, client);
    side_init(&pair->server, server);
}

void pair_done(struct pair *pair)
{
    side_done(&pair->client);
    side_done(&pair->server);
}

void assert_open(struct pair *pair)
{
    if (!pair->client.ok || !pair->server.ok)
        fail_msg("client: %s; server: %s", pair->client.err.message, pair->server.err.message);
    assert_int_equal(tls_session_state(pair->client.session), TLS_OPEN);
    assert_int_equal(tls_session_state(pair->server.session), TLS_OPEN);
}

void assert_refused(struct side *side, enum error_class class, const char *says)
{
    struct error err = side->err;
    assert_fails(side->ok, class);
    assert_error_contains(says);
    assert_int_equal(tls_session_state(side->session), TLS_FAILED);
    assert_fails(tls_session_feed(side->session, slice_str("x"), &side->plain, &err),
                 ERROR_CONFLICT);
    assert_fails(tls_session_write(side->session, slice_str("x"), &err), ERROR_CONFLICT);
    uint8_t binding[CHANNEL_BINDING_SIZE];
    assert_fails(tls_session_binding(side->session, binding, &err), ERROR_CONFLICT);
}

void send_text(struct side *from, const char *text)
{
    struct error err = {0};
    assert_ok(tls_session_write(from->session, slice_str(text), &err));
}

void assert_heard(struct side *side, const char *text)
{
    assert_true(slice_is(buf_slice(&side->plain), text));
}

void two_sessions_agree(struct pair *pair, size_t chunk)
{
    struct error err = {0};
    struct tls_config client = client_config(), server = server_config();
    uint8_t binding[2][CHANNEL_BINDING_SIZE] = {{1}, {2}};
    pair_init(pair, &client, &server);
    assert_int_equal(tls_session_state(pair->client.session), TLS_HANDSHAKE);
    assert_fails(tls_session_write(pair->client.session, slice_str("early"), &err), ERROR_CONFLICT);
    assert_fails(tls_session_binding(pair->client.session, binding[0], &err), ERROR_CONFLICT);
    assert_int_equal(binding[0][0], 1);
    pump(pair, chunk);
    assert_open(pair);

    assert_string_equal(tls_session_group(pair->client.session), "X25519MLKEM768");
    assert_string_equal(tls_session_group(pair->server.session), "X25519MLKEM768");
    assert_true(slice_is(tls_session_alpn(pair->client.session), "h2"));
    assert_true(slice_is(tls_session_alpn(pair->server.session), "h2"));
    assert_ok(tls_session_binding(pair->client.session, binding[0], &err));
    assert_ok(tls_session_binding(pair->server.session, binding[1], &err));
    assert_memory_equal(binding[0], binding[1], CHANNEL_BINDING_SIZE);
    struct tls_peer peer;
    tls_session_peer(pair->server.session, &peer);
    assert_int_equal(X509_cmp(peer.leaf, client_party.cert.x509), 0);
    tls_session_peer(pair->client.session, &peer);
    assert_int_equal(X509_cmp(peer.leaf, server_party.cert.x509), 0);

    send_text(&pair->client, "from the client");
    send_text(&pair->server, "from ");
    send_text(&pair->server, "");
    send_text(&pair->server, "the server");
    pump(pair, chunk);
    assert_heard(&pair->server, "from the client");
    assert_heard(&pair->client, "from the server");
}

void plain_init(struct plain_peer *peer, bool server, int version)
{
    peer->ctx = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
    SSL_CTX_set_min_proto_version(peer->ctx, version);
    SSL_CTX_set_max_proto_version(peer->ctx, version);
    struct party *party = server ? &server_party : &client_party;
    assert_int_equal(SSL_CTX_use_certificate(peer->ctx, party->cert.x509), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(peer->ctx, party->cert.key), 1);
    peer->ssl = SSL_new(peer->ctx);
    peer->in = BIO_new(BIO_s_mem());
    peer->out = BIO_new(BIO_s_mem());
    SSL_set_bio(peer->ssl, peer->in, peer->out);
    if (server)
        SSL_set_accept_state(peer->ssl);
    else
        SSL_set_connect_state(peer->ssl);
}

void plain_done(struct plain_peer *peer)
{
    SSL_free(peer->ssl);
    SSL_CTX_free(peer->ctx);
    ERR_clear_error();
}

bool plain_exchange(struct plain_peer *peer, struct side *side)
{
    bool any = false;
    char bytes[4096];
    CLEANUP(buf_done) struct buf out = {0};
    tls_session_take(side->session, &out);
    if (out.len > 0) {
        BIO_write(peer->in, out.data, (int)out.len);
        any = true;
    }
    ERR_clear_error();
    (void)SSL_do_handshake(peer->ssl);
    for (int n; (n = BIO_read(peer->out, bytes, sizeof bytes)) > 0; any = true)
        side_feed(side, slice(bytes, (size_t)n));
    return any;
}
