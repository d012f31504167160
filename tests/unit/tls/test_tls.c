#include "unit/spiffe/certs.h"

#include "base/mem.h"
#include "tls/tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <string.h>

/* ── One authority, a server and a client of it, and a stranger ─────────────── */

struct party {
    struct key *key;
    struct cert cert;
    struct buf pem;
};

static struct cert ca, other_ca;
static struct buf ca_pem, other_ca_pem;
static struct party server_party, client_party, stranger;

static void party_init(struct party *party, struct cert_spec spec)
{
    struct error err = {0};
    assert_ok(key_generate(KEY_P256, &party->key, &err));
    spec.key = key_evp(party->key);
    party->cert = cert_make(&spec);
    buf_init(&party->pem, 64 * 1024);
    cert_pem(party->cert.x509, &party->pem);
}

static void party_done(struct party *party)
{
    key_unref(party->key);
    cert_done(&party->cert);
    buf_done(&party->pem);
}

static int set_up(void **state)
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

static int tear_down(void **state)
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

static struct tls_config server_config(void)
{
    return (struct tls_config){.role = TLS_SERVER,
                               .certificates = buf_slice(&server_party.pem),
                               .key = server_party.key,
                               .trust = buf_slice(&ca_pem),
                               .trust_name = "/etc/ca.pem",
                               .alpn = "h2"};
}

static struct tls_config client_config(void)
{
    return (struct tls_config){.role = TLS_CLIENT,
                               .certificates = buf_slice(&client_party.pem),
                               .key = client_party.key,
                               .trust = buf_slice(&ca_pem),
                               .trust_name = "/etc/ca.pem",
                               .server_name = "server.test",
                               .alpn = "h2"};
}

/* ── Two sessions, connected by hand ────────────────────────────────────────── */

struct side {
    struct tls_session *session;
    struct buf plain;
    bool ok;
    struct error err;
};

struct pair {
    struct side client, server;
};

static void side_init(struct side *side, const struct tls_config *config)
{
    struct error err = {0};
    struct tls_context *context;
    *side = (struct side){.ok = true};
    assert_ok(tls_context_new(config, &context, &err));
    assert_ok(tls_session_new(context, &side->session, &err));
    assert_null(tls_context_unref(context)); /* the session keeps it alive */
    buf_init(&side->plain, 8 << 20);
}

static void side_done(struct side *side)
{
    assert_null(tls_session_free(side->session));
    buf_done(&side->plain);
}

static void side_feed(struct side *side, struct slice bytes)
{
    if (side->ok)
        side->ok = tls_session_feed(side->session, bytes, &side->plain, &side->err);
}

/* Moves what waits in one to the other, in parts of `chunk` bytes. True if there was anything. */
static bool move(struct side *from, struct side *to, size_t chunk)
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

static void pump(struct pair *pair, size_t chunk)
{
    bool any = true;
    while (any) {
        any = move(&pair->client, &pair->server, chunk);
        any = move(&pair->server, &pair->client, chunk) || any;
    }
}

static void pair_init(struct pair *pair, const struct tls_config *client,
                      const struct tls_config *server)
{
    side_init(&pair->client, client);
    side_init(&pair->server, server);
}

static void pair_done(struct pair *pair)
{
    side_done(&pair->client);
    side_done(&pair->server);
}

static void assert_open(struct pair *pair)
{
    if (!pair->client.ok || !pair->server.ok)
        fail_msg("client: %s; server: %s", pair->client.err.message, pair->server.err.message);
    assert_int_equal(tls_session_state(pair->client.session), TLS_OPEN);
    assert_int_equal(tls_session_state(pair->server.session), TLS_OPEN);
}

/* The side failed, with this class and these words. */
static void assert_refused(struct side *side, enum error_class class, const char *says)
{
    struct error err = side->err;
    assert_fails(side->ok, class);
    assert_error_contains(says);
    assert_int_equal(tls_session_state(side->session), TLS_FAILED);
    assert_fails(tls_session_feed(side->session, slice_str("x"), &side->plain, &err),
                 ERROR_CONFLICT);
    assert_fails(tls_session_write(side->session, slice_str("x"), &err), ERROR_CONFLICT);
    uint8_t binding[TLS_BINDING_SIZE];
    assert_fails(tls_session_binding(side->session, binding, &err), ERROR_CONFLICT);
}

static void send_text(struct side *from, const char *text)
{
    struct error err = {0};
    assert_ok(tls_session_write(from->session, slice_str(text), &err));
}

static void assert_heard(struct side *side, const char *text)
{
    assert_true(slice_is(buf_slice(&side->plain), text));
}

/* ── What works ─────────────────────────────────────────────────────────────── */

static void two_sessions_agree(struct pair *pair, size_t chunk)
{
    struct error err = {0};
    struct tls_config client = client_config(), server = server_config();
    uint8_t binding[2][TLS_BINDING_SIZE] = {{1}, {2}};
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
    assert_memory_equal(binding[0], binding[1], TLS_BINDING_SIZE);
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

static void sessions_agree(void **state)
{
    (void)state;
    struct pair one, two;
    struct error err = {0};
    uint8_t binding[2][TLS_BINDING_SIZE];
    two_sessions_agree(&one, SIZE_MAX);
    two_sessions_agree(&two, SIZE_MAX);
    assert_ok(tls_session_binding(one.client.session, binding[0], &err));
    assert_ok(tls_session_binding(two.client.session, binding[1], &err));
    assert_memory_not_equal(binding[0], binding[1], TLS_BINDING_SIZE);
    pair_done(&one);
    pair_done(&two);
}

static void any_fragmentation_does(void **state)
{
    (void)state;
    static const size_t chunks[] = {1, 2, 3, 5, 7, 100, 1400, 16'389};
    for (size_t i = 0; i < ARRAY_LEN(chunks); i++) {
        struct pair pair;
        two_sessions_agree(&pair, chunks[i]);
        pair_done(&pair);
    }
}

static void much_goes_through(void **state)
{
    (void)state;
    constexpr size_t size = 3'000'001;
    struct error err = {0};
    struct pair pair;
    two_sessions_agree(&pair, SIZE_MAX);
    buf_clear(&pair.server.plain);
    uint8_t *bytes = mem_new(1, size);
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(i * 31 + (i >> 9));
    assert_ok(tls_session_write(pair.client.session, slice(bytes, size), &err));
    pump(&pair, 65'536);
    assert_open(&pair);
    assert_int_equal(pair.server.plain.len, size);
    assert_memory_equal(pair.server.plain.data, bytes, size);
    mem_free(bytes);
    pair_done(&pair);
}

static void closing_is_heard(void **state)
{
    (void)state;
    struct error err = {0};
    struct pair pair;
    two_sessions_agree(&pair, SIZE_MAX);
    tls_session_close(pair.client.session);
    tls_session_close(pair.client.session);
    assert_fails(tls_session_write(pair.client.session, slice_str("x"), &err), ERROR_CONFLICT);
    pump(&pair, SIZE_MAX);
    assert_true(pair.server.ok);
    assert_int_equal(tls_session_state(pair.server.session), TLS_ENDED);
    assert_int_equal(tls_session_state(pair.client.session), TLS_OPEN);
    buf_clear(&pair.client.plain);
    send_text(&pair.server, "half closed"); /* RFC 8446 section 6.1 */
    tls_session_close(pair.server.session);
    pump(&pair, SIZE_MAX);
    assert_heard(&pair.client, "half closed");
    assert_int_equal(tls_session_state(pair.client.session), TLS_ENDED);
    assert_ok(tls_session_eof(pair.client.session, &err));
    assert_ok(tls_session_eof(pair.server.session, &err));
    pair_done(&pair);
}

static void truncation_is_told(void **state)
{
    (void)state;
    struct error err = {0};
    struct pair pair;
    two_sessions_agree(&pair, SIZE_MAX);
    /* Half a record, then nothing. */
    CLEANUP(buf_done) struct buf bytes = {0};
    buf_clear(&pair.server.plain);
    send_text(&pair.client, "never complete");
    tls_session_take(pair.client.session, &bytes);
    side_feed(&pair.server, slice(bytes.data, bytes.len - 1));
    assert_true(pair.server.ok);
    assert_int_equal(pair.server.plain.len, 0);
    assert_fails(tls_session_eof(pair.server.session, &err), ERROR_UNAVAILABLE);
    assert_error_contains("close_notify");
    pair_done(&pair);

    struct tls_config client = client_config();
    struct side side;
    side_init(&side, &client);
    assert_fails(tls_session_eof(side.session, &err), ERROR_UNAVAILABLE);
    assert_error_contains("during the TLS handshake");
    side_done(&side);
}

static void a_client_may_stay_anonymous_where_allowed(void **state)
{
    (void)state;
    static const enum tls_verify modes[] = {TLS_VERIFY_OPTIONAL, TLS_VERIFY_NONE};
    for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
        struct tls_config client = client_config(), server = server_config();
        struct pair pair;
        struct tls_peer peer;
        client.certificates = slice(nullptr, 0);
        client.key = nullptr;
        server.verify = modes[i];
        pair_init(&pair, &client, &server);
        pump(&pair, SIZE_MAX);
        assert_open(&pair);
        tls_session_peer(pair.server.session, &peer);
        assert_null(peer.leaf);
        pair_done(&pair);
    }
    /* Optional: who shows one is checked all the same. */
    struct tls_config client = client_config(), server = server_config();
    struct pair pair;
    client.certificates = buf_slice(&stranger.pem);
    client.key = stranger.key;
    server.verify = TLS_VERIFY_OPTIONAL;
    pair_init(&pair, &client, &server);
    pump(&pair, SIZE_MAX);
    assert_refused(&pair.server, ERROR_UNAUTHENTICATED, "not issued by the trust anchor");
    pair_done(&pair);
}

static void an_intermediate_is_used(void **state)
{
    (void)state;
    struct cert_spec spec = CERT_CA("intermediate");
    spec.issuer = &ca;
    struct cert intermediate = cert_make(&spec);
    struct party leaf;
    party_init(&leaf, (struct cert_spec)CERT_LEAF("DNS:server.test", &intermediate));
    struct tls_config client = client_config(), server = server_config();
    struct pair pair;
    server.key = leaf.key;

    server.certificates = buf_slice(&leaf.pem); /* without it the path is broken */
    pair_init(&pair, &client, &server);
    pump(&pair, SIZE_MAX);
    assert_refused(&pair.client, ERROR_UNAUTHENTICATED, "not issued by the trust anchor");
    pair_done(&pair);

    cert_pem(intermediate.x509, &leaf.pem);
    server.certificates = buf_slice(&leaf.pem);
    pair_init(&pair, &client, &server);
    pump(&pair, SIZE_MAX);
    assert_open(&pair);
    pair_done(&pair);

    /* An anchor need not be a root. */
    CLEANUP(buf_done) struct buf anchor = {.max = 4096};
    cert_pem(intermediate.x509, &anchor);
    client.trust = buf_slice(&anchor);
    pair_init(&pair, &client, &server);
    pump(&pair, SIZE_MAX);
    assert_open(&pair);
    pair_done(&pair);
    party_done(&leaf);
    cert_done(&intermediate);
}

static void an_address_can_be_the_name(void **state)
{
    (void)state;
    struct tls_config client = client_config(), server = server_config();
    struct pair pair;
    client.server_name = "127.0.0.1";
    pair_init(&pair, &client, &server);
    pump(&pair, SIZE_MAX);
    assert_open(&pair);
    pair_done(&pair);
    client.server_name = "127.0.0.2";
    pair_init(&pair, &client, &server);
    pump(&pair, SIZE_MAX);
    assert_refused(&pair.client, ERROR_UNAUTHENTICATED, "not for \"127.0.0.2\"");
    pair_done(&pair);
}

/* ── Who is refused, in which words, and what the other end hears ───────────── */

static void no_certificate_is_refused(void **state)
{
    (void)state;
    struct tls_config client = client_config(), server = server_config();
    struct pair pair;
    client.certificates = slice(nullptr, 0);
    client.key = nullptr;
    pair_init(&pair, &client, &server);
    pump(&pair, SIZE_MAX);
    assert_refused(&pair.server, ERROR_UNAUTHENTICATED, "sent no certificate");
    assert_refused(&pair.client, ERROR_UNAUTHENTICATED,
                   "the peer refuses our certificate: certificate required");
    pair_done(&pair);
}

static void a_wrong_anchor_is_named(void **state)
{
    (void)state;
    struct tls_config client = client_config(), server = server_config();
    struct pair pair;
    client.trust = buf_slice(&other_ca_pem);
    client.trust_name = "/run/wrong.pem";
    pair_init(&pair, &client, &server);
    pump(&pair, SIZE_MAX);
    assert_refused(&pair.client, ERROR_UNAUTHENTICATED,
                   "not issued by the trust anchor /run/wrong.pem but by /CN=test authority");
    assert_refused(&pair.server, ERROR_UNAUTHENTICATED,
                   "the peer refuses our certificate: unknown CA");
    pair_done(&pair);

    client = client_config();
    client.certificates = buf_slice(&stranger.pem);
    client.key = stranger.key;
    pair_init(&pair, &client, &server);
    pump(&pair, SIZE_MAX);
    assert_refused(&pair.server, ERROR_UNAUTHENTICATED,
                   "not issued by the trust anchor /etc/ca.pem but by /CN=another authority");
    assert_refused(&pair.client, ERROR_UNAUTHENTICATED, "unknown CA");
    pair_done(&pair);
}

/* The client shows a leaf of this specification. */
static void refuse_client(const struct cert_spec *spec, const char *says, const char *alert)
{
    struct party party;
    struct pair pair;
    party_init(&party, *spec);
    struct tls_config client = client_config(), server = server_config();
    client.certificates = buf_slice(&party.pem);
    client.key = party.key;
    pair_init(&pair, &client, &server);
    pump(&pair, SIZE_MAX);
    assert_refused(&pair.server, ERROR_UNAUTHENTICATED, says);
    assert_refused(&pair.client, ERROR_UNAUTHENTICATED, alert);
    pair_done(&pair);
    party_done(&party);
}

static void times_are_checked(void **state)
{
    (void)state;
    struct cert_spec spec = CERT_LEAF("URI:spiffe://test/client", &ca);
    spec.from = -7200;
    spec.until = -1;
    refuse_client(&spec, "the peer's certificate expired at 20", "certificate expired");
    spec.from = 3600;
    spec.until = 7200;
    refuse_client(&spec, "compare the clocks", "bad certificate");
}

static void purposes_are_checked(void **state)
{
    (void)state;
    struct cert_spec spec = CERT_LEAF("URI:spiffe://test/client", &ca);
    spec.extended = "serverAuth";
    refuse_client(&spec, "the peer's certificate is refused", "unsupported certificate");
}

static void another_server_is_refused(void **state)
{
    (void)state;
    struct tls_config client = client_config(), server = server_config();
    struct pair pair;
    client.server_name = "other.test";
    pair_init(&pair, &client, &server);
    pump(&pair, SIZE_MAX);
    assert_refused(&pair.client, ERROR_UNAUTHENTICATED, "not for \"other.test\"");
    pair_done(&pair);
}

struct judge {
    bool accepts;
    int asked;
    X509 *saw;
};

static bool judge(void *arg, const struct tls_peer *peer, struct error *err)
{
    struct judge *self = arg;
    self->asked++;
    assert_non_null(peer->leaf);
    self->saw = peer->leaf;
    return self->accepts ||
           error_set_reason(err, ERROR_DENIED, "NOT_A_NODE", "spiffe://test/client is no node");
}

static void a_judge_decides(void **state)
{
    (void)state;
    struct tls_config client = client_config(), server = server_config();
    struct judge bench = {.accepts = true};
    struct pair pair;
    server.accept = judge;
    server.accept_arg = &bench;
    pair_init(&pair, &client, &server);
    pump(&pair, SIZE_MAX);
    assert_open(&pair);
    assert_int_equal(bench.asked, 1);
    assert_int_equal(X509_cmp(bench.saw, client_party.cert.x509), 0);
    pair_done(&pair);

    bench.accepts = false;
    pair_init(&pair, &client, &server);
    pump(&pair, SIZE_MAX);
    assert_string_equal(pair.server.err.reason, "NOT_A_NODE");
    assert_refused(&pair.server, ERROR_DENIED, "spiffe://test/client is no node");
    assert_refused(&pair.client, ERROR_UNAUTHENTICATED, "bad certificate");
    pair_done(&pair);

    /* After the path, not instead of it … */
    bench = (struct judge){.accepts = true};
    client.certificates = buf_slice(&stranger.pem);
    client.key = stranger.key;
    pair_init(&pair, &client, &server);
    pump(&pair, SIZE_MAX);
    assert_refused(&pair.server, ERROR_UNAUTHENTICATED, "not issued by");
    assert_int_equal(bench.asked, 0);
    pair_done(&pair);

    /* … unless there are no anchors: then it is the judge's alone. */
    server.trust = slice(nullptr, 0);
    pair_init(&pair, &client, &server);
    pump(&pair, SIZE_MAX);
    assert_open(&pair);
    assert_int_equal(bench.asked, 1);
    pair_done(&pair);
}

static void protocols_must_agree(void **state)
{
    (void)state;
    struct tls_config client = client_config(), server = server_config();
    struct pair pair;
    client.alpn = "http/1.1";
    pair_init(&pair, &client, &server);
    pump(&pair, SIZE_MAX);
    assert_refused(&pair.server, ERROR_INVALID, "ALPN");
    assert_refused(&pair.client, ERROR_INVALID, "no application protocol");
    pair_done(&pair);

    client.alpn = nullptr; /* offers none */
    pair_init(&pair, &client, &server);
    pump(&pair, SIZE_MAX);
    assert_refused(&pair.server, ERROR_INVALID, "ALPN");
    assert_refused(&pair.client, ERROR_INVALID, "no application protocol");
    pair_done(&pair);

    client = client_config(); /* the server chooses none */
    server.alpn = nullptr;
    pair_init(&pair, &client, &server);
    pump(&pair, SIZE_MAX);
    assert_refused(&pair.client, ERROR_INVALID, "does not speak the application protocol \"h2\"");
    assert_int_equal(tls_session_state(pair.server.session), TLS_ENDED);
    pair_done(&pair);
}

static void groups_must_agree(void **state)
{
    (void)state;
    static const struct {
        const char *client, *server, *expected; /* NULL: none */
    } cases[] = {
        {nullptr, nullptr, "X25519MLKEM768"},
        {"X25519", nullptr, "x25519"},
        {"P-256", nullptr, "secp256r1"},
        {"SecP256r1MLKEM768", nullptr, "SecP256r1MLKEM768"},
        {"X25519:P-256:X25519MLKEM768", nullptr, "X25519MLKEM768"},
        {nullptr, "X25519", "x25519"},
        {TLS_GROUPS_STRICT_PQ, nullptr, "X25519MLKEM768"},
        {"X25519:P-256", TLS_GROUPS_STRICT_PQ, nullptr},
        {TLS_GROUPS_STRICT_PQ, "X25519", nullptr},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct tls_config client = client_config(), server = server_config();
        struct pair pair;
        client.groups = cases[i].client;
        server.groups = cases[i].server;
        pair_init(&pair, &client, &server);
        pump(&pair, SIZE_MAX);
        if (cases[i].expected) {
            assert_open(&pair);
            assert_string_equal(tls_session_group(pair.client.session), cases[i].expected);
        } else {
            assert_refused(&pair.server, ERROR_INVALID, "no key exchange group in common");
            assert_refused(&pair.client, ERROR_INVALID, "alert");
        }
        pair_done(&pair);
    }
}

/* ── Peers of another make: plain libssl over memory BIOs ───────────────────── */

struct plain_peer {
    SSL_CTX *ctx;
    SSL *ssl;
    BIO *in, *out;
};

static void plain_init(struct plain_peer *peer, bool server, int version)
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

static void plain_done(struct plain_peer *peer)
{
    SSL_free(peer->ssl);
    SSL_CTX_free(peer->ctx);
    ERR_clear_error();
}

static bool plain_exchange(struct plain_peer *peer, struct side *side)
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

static void talks_with_plain_libssl(void **state)
{
    (void)state;
    struct error err = {0};
    for (int is_server = 0; is_server < 2; is_server++) {
        struct plain_peer peer;
        struct side side;
        struct tls_config config = is_server ? client_config() : server_config();
        config.alpn = nullptr;
        plain_init(&peer, is_server, TLS1_3_VERSION);
        if (is_server)
            SSL_set_verify(peer.ssl, SSL_VERIFY_PEER, nullptr); /* asks for ours */
        X509_STORE_add_cert(SSL_CTX_get_cert_store(peer.ctx), ca.x509);
        side_init(&side, &config);
        while (plain_exchange(&peer, &side))
            ;
        if (!side.ok)
            fail_msg("%s", side.err.message);
        assert_int_equal(tls_session_state(side.session), TLS_OPEN);
        assert_int_equal(SSL_is_init_finished(peer.ssl), 1);

        /* Tickets (a plain server sends two) and key updates are taken in silence. */
        assert_int_equal(SSL_key_update(peer.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
        assert_int_equal(SSL_write(peer.ssl, "hello", 5), 5);
        while (plain_exchange(&peer, &side))
            ;
        assert_heard(&side, "hello");
        send_text(&side, "answer");
        plain_exchange(&peer, &side);
        char answer[16] = "";
        assert_int_equal(SSL_read(peer.ssl, answer, sizeof answer), 6);
        assert_string_equal(answer, "answer");

        uint8_t ours[TLS_BINDING_SIZE], theirs[TLS_BINDING_SIZE];
        assert_ok(tls_session_binding(side.session, ours, &err));
        assert_int_equal(SSL_export_keying_material(peer.ssl, theirs, sizeof theirs,
                                                    "EXPORTER-Channel-Binding", 24, nullptr, 0, 0),
                         1);
        assert_memory_equal(ours, theirs, sizeof ours);
        side_done(&side);
        plain_done(&peer);
    }
}

static void tls_1_2_is_refused(void **state)
{
    (void)state;
    struct plain_peer peer;
    struct side side;
    struct tls_config server = server_config(), client = client_config();
    plain_init(&peer, false, TLS1_2_VERSION);
    SSL_set_alpn_protos(peer.ssl, (const unsigned char *)"\x02h2", 3);
    side_init(&side, &server);
    while (plain_exchange(&peer, &side))
        ;
    assert_refused(&side, ERROR_INVALID, "does not speak TLS 1.3");
    side_done(&side);
    plain_done(&peer);

    plain_init(&peer, true, TLS1_2_VERSION);
    side_init(&side, &client);
    while (plain_exchange(&peer, &side))
        ;
    assert_refused(&side, ERROR_INVALID, "does not speak TLS 1.3");
    side_done(&side);
    plain_done(&peer);
}

static void garbage_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t len;
        const char *says;
    } cases[] = {
#define BYTES(text) (text), sizeof(text) - 1
        {BYTES("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), "TLS but HTTP"},
        {BYTES("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), "TLS"},
        {BYTES("SSH-2.0-OpenSSH_9.2\r\n"), "TLS"},
        {BYTES("\x16\x03\x01\x00\x04\x01\xff\xff\xff"), "TLS"},
        {BYTES("\x17\x03\x03\x00\x05hello"), "TLS"},
        {BYTES("\x16\x03\x03\xff\xff"), "TLS"},
#undef BYTES
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        for (int role = TLS_SERVER; role <= TLS_CLIENT; role++) {
            struct tls_config config = role == TLS_SERVER ? server_config() : client_config();
            struct side side;
            side_init(&side, &config);
            side_feed(&side, slice(cases[i].bytes, cases[i].len));
            if (side.ok) { /* not enough to be sure yet */
                static const uint8_t more[20'000];
                side_feed(&side, SLICE_OF(more));
            }
            assert_refused(&side, ERROR_INVALID, role == TLS_SERVER ? cases[i].says : "TLS");
            side_done(&side);
        }
    }
}

static void a_changed_record_is_refused(void **state)
{
    (void)state;
    struct pair pair;
    two_sessions_agree(&pair, SIZE_MAX);
    CLEANUP(buf_done) struct buf bytes = {0};
    buf_clear(&pair.server.plain);
    send_text(&pair.client, "genuine");
    tls_session_take(pair.client.session, &bytes);
    bytes.data[bytes.len - 1] ^= 1;
    side_feed(&pair.server, buf_slice(&bytes));
    assert_refused(&pair.server, ERROR_INVALID, "broken TLS");
    assert_int_equal(pair.server.plain.len, 0);
    move(&pair.server, &pair.client, SIZE_MAX);
    assert_refused(&pair.client, ERROR_INVALID, "alert: bad record mac");
    pair_done(&pair);
}

/* A ClientHello that announces 131,000 bytes and comes in full records. */
static void a_handshake_has_its_limit(void **state)
{
    (void)state;
    struct tls_config server = server_config();
    struct side side;
    side_init(&side, &server);
    uint8_t record[5 + TLS_RECORD_MAX] = {0x16, 0x03, 0x01, 0x40, 0x00, 0x01, 0x01, 0xff, 0x00};
    size_t fed = 0;
    while (side.ok && fed < 2 * TLS_HANDSHAKE_MAX) {
        side_feed(&side, SLICE_OF(record));
        fed += sizeof record;
        memset(record + 5, 0, 4);
    }
    assert_refused(&side, ERROR_EXHAUSTED, "handshake exceeds 65536 bytes");
    assert_true(fed > TLS_HANDSHAKE_MAX); /* control: not before */
    side_done(&side);
}

static void plaintext_needs_room(void **state)
{
    (void)state;
    struct pair pair;
    two_sessions_agree(&pair, SIZE_MAX);
    buf_done(&pair.server.plain);
    buf_init(&pair.server.plain, 10);
    send_text(&pair.client, "more than ten bytes");
    pump(&pair, SIZE_MAX);
    assert_refused(&pair.server, ERROR_EXHAUSTED, "no room");
    pair_done(&pair);
}

/* ── Contexts ───────────────────────────────────────────────────────────────── */

static void a_reload_leaves_old_sessions(void **state)
{
    (void)state;
    struct pair before, after;
    two_sessions_agree(&before, SIZE_MAX); /* its contexts are released already */
    two_sessions_agree(&after, SIZE_MAX);
    buf_clear(&before.server.plain);
    send_text(&before.client, "still here");
    pump(&before, SIZE_MAX);
    assert_heard(&before.server, "still here");
    pair_done(&before);
    pair_done(&after);
}

static void bad_config(const struct tls_config *config, const char *says)
{
    struct error err = {0};
    struct tls_context *context = POISON;
    assert_fails(tls_context_new(config, &context, &err), ERROR_INVALID);
    assert_error_contains(says);
    assert_ptr_equal(context, POISON);
}

static void bad_configs_are_refused(void **state)
{
    (void)state;
    struct tls_config server, client;
    struct slice none = slice(nullptr, 0);

    server = server_config();
    server.key = nullptr;
    bad_config(&server, "not one of them");
    server = server_config();
    server.certificates = none;
    bad_config(&server, "not one of them");
    server.key = nullptr;
    bad_config(&server, "needs a certificate");
    server = server_config();
    server.key = client_party.key;
    bad_config(&server, "do not belong together");
    server = server_config();
    server.certificates = slice_str("hello");
    bad_config(&server, "no certificate in it");
    server.certificates =
        slice_str("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    bad_config(&server, "broken PEM");
    server = server_config();
    server.trust = slice_str("hello");
    bad_config(&server, "/etc/ca.pem: no certificate in it");
    server = server_config();
    server.groups = "X25519:no-such-group";
    bad_config(&server, "no-such-group");
    server = server_config();
    server.alpn = "";
    bad_config(&server, "ALPN");
    server = server_config();
    server.server_name = "x";
    bad_config(&server, "for TLS clients");
    server = server_config();
    server.trust = none;
    bad_config(&server, "nothing would check");

    client = client_config();
    client.verify = TLS_VERIFY_OPTIONAL;
    bad_config(&client, "checks its server, always");
    client.verify = TLS_VERIFY_NONE;
    bad_config(&client, "checks its server, always");
    client = client_config();
    client.server_name = nullptr;
    bad_config(&client, "nothing would check");
}

static bool make_both(void *arg, struct error *err)
{
    (void)arg;
    bool ok = false;
    struct tls_config configs[2] = {client_config(), server_config()};
    struct tls_context *contexts[2] = {nullptr, nullptr};
    struct tls_session *sessions[2] = {nullptr, nullptr};
    struct buf flight = {0}, plain = {.max = 65'536};
    if (tls_context_new(&configs[0], &contexts[0], err) &&
        tls_context_new(&configs[1], &contexts[1], err) &&
        tls_session_new(contexts[0], &sessions[0], err) &&
        tls_session_new(contexts[1], &sessions[1], err)) {
        tls_session_take(sessions[0], &flight);
        ok = tls_session_feed(sessions[1], buf_slice(&flight), &plain, err);
    }
    for (size_t i = 0; i < 2; i++) {
        tls_session_free(sessions[i]);
        tls_context_unref(contexts[i]);
    }
    buf_done(&flight);
    buf_done(&plain);
    return ok;
}

static void survives_want_of_memory(void **state)
{
    (void)state;
    testlib_allocation_sweep(make_both, nullptr);
    assert_null(tls_context_unref(nullptr));
    assert_null(tls_session_free(nullptr));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sessions_agree),
        cmocka_unit_test(any_fragmentation_does),
        cmocka_unit_test(much_goes_through),
        cmocka_unit_test(closing_is_heard),
        cmocka_unit_test(truncation_is_told),
        cmocka_unit_test(a_client_may_stay_anonymous_where_allowed),
        cmocka_unit_test(an_intermediate_is_used),
        cmocka_unit_test(an_address_can_be_the_name),
        cmocka_unit_test(no_certificate_is_refused),
        cmocka_unit_test(a_wrong_anchor_is_named),
        cmocka_unit_test(times_are_checked),
        cmocka_unit_test(purposes_are_checked),
        cmocka_unit_test(another_server_is_refused),
        cmocka_unit_test(a_judge_decides),
        cmocka_unit_test(protocols_must_agree),
        cmocka_unit_test(groups_must_agree),
        cmocka_unit_test(talks_with_plain_libssl),
        cmocka_unit_test(tls_1_2_is_refused),
        cmocka_unit_test(garbage_is_refused),
        cmocka_unit_test(a_changed_record_is_refused),
        cmocka_unit_test(a_handshake_has_its_limit),
        cmocka_unit_test(plaintext_needs_room),
        cmocka_unit_test(a_reload_leaves_old_sessions),
        cmocka_unit_test(bad_configs_are_refused),
        cmocka_unit_test(survives_want_of_memory),
    };
    return cmocka_run_group_tests_name("tls", tests, set_up, tear_down);
}
