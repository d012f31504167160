/* What works. */
#include "fixture.h"

#include "base/mem.h"

static void sessions_agree(void **state)
{
    (void)state;
    struct pair one, two;
    struct error err = {0};
    uint8_t binding[2][CHANNEL_BINDING_SIZE];
    two_sessions_agree(&one, SIZE_MAX);
    two_sessions_agree(&two, SIZE_MAX);
    assert_ok(tls_session_binding(one.client.session, binding[0], &err));
    assert_ok(tls_session_binding(two.client.session, binding[1], &err));
    assert_memory_not_equal(binding[0], binding[1], CHANNEL_BINDING_SIZE);
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

        uint8_t ours[CHANNEL_BINDING_SIZE], theirs[CHANNEL_BINDING_SIZE];
        assert_ok(tls_session_binding(side.session, ours, &err));
        assert_int_equal(SSL_export_keying_material(peer.ssl, theirs, sizeof theirs,
                                                    "EXPORTER-Channel-Binding", 24, nullptr, 0, 0),
                         1);
        assert_memory_equal(ours, theirs, sizeof ours);
        side_done(&side);
        plain_done(&peer);
    }
}

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
        cmocka_unit_test(talks_with_plain_libssl),
        cmocka_unit_test(a_reload_leaves_old_sessions),
        cmocka_unit_test(survives_want_of_memory),
    };
    return cmocka_run_group_tests_name("tls sessions", tests, fixture_set_up, fixture_tear_down);
}
