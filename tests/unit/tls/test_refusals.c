/* Who and what is refused, in which words, and what the other end hears. */
#include "fixture.h"

#include <string.h>

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
    side_move(&pair.server, &pair.client, SIZE_MAX);
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
    bad_config(&server, "our certificate: no certificate: expected");
    server.certificates =
        slice_str("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    bad_config(&server, "our certificate: broken PEM");
    server = server_config();
    server.trust = slice_str("hello");
    bad_config(&server, "/etc/ca.pem: no certificate: expected");
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_certificate_is_refused),   cmocka_unit_test(a_wrong_anchor_is_named),
        cmocka_unit_test(times_are_checked),           cmocka_unit_test(purposes_are_checked),
        cmocka_unit_test(another_server_is_refused),   cmocka_unit_test(a_judge_decides),
        cmocka_unit_test(protocols_must_agree),        cmocka_unit_test(groups_must_agree),
        cmocka_unit_test(tls_1_2_is_refused),          cmocka_unit_test(garbage_is_refused),
        cmocka_unit_test(a_changed_record_is_refused), cmocka_unit_test(a_handshake_has_its_limit),
        cmocka_unit_test(plaintext_needs_room),        cmocka_unit_test(bad_configs_are_refused),
    };
    return cmocka_run_group_tests_name("tls refusals", tests, fixture_set_up, fixture_tear_down);
}
