/* gRPC over mutual TLS: who the peers are, the channel binding, refusals, renewed certificates. */
#include "unit/rpc/echo.h"
#include "unit/spiffe/certs.h"

#include "base/clock.h"
#include "base/mem.h"
#include "pb/message.h"
#include "rpc/client.h"
#include "rpc/server.h"

struct party {
    struct key *key;
    struct cert cert;
    struct buf pem;
};

struct world {
    struct loop *loop;
    struct rpc_server *server;
    struct rpc_client *client;
    struct address address;
    struct echo echo;
    struct cert ca, other_ca;
    struct buf ca_pem;
    struct party server_party, client_party, stranger;
    struct tls_context *server_tls;
    /* What the server's authorization saw. */
    unsigned asked;
    bool secure, has_leaf;
    char leaf[64];
    uint8_t binding[CHANNEL_BINDING_SIZE];
};

static void party_init(struct party *party, struct cert_spec spec)
{
    struct error err = {0};
    assert_ok(key_generate(KEY_P256, &party->key, &err));
    spec.key = key_evp(party->key);
    party->cert = cert_make(&spec);
    buf_init(&party->pem, (size_t)64 * 1024);
    cert_pem(party->cert.x509, &party->pem);
}

static void party_done(struct party *party)
{
    key_unref(party->key);
    cert_done(&party->cert);
    buf_done(&party->pem);
}

static struct tls_context *context_alpn(struct world *world, enum tls_role role,
                                        struct party *party, const char *alpn)
{
    struct error err = {0};
    struct tls_context *tls = nullptr;
    struct tls_config config = {.role = role,
                                .certificates = buf_slice(&party->pem),
                                .key = party->key,
                                .trust = buf_slice(&world->ca_pem),
                                .trust_name = "ca.pem",
                                .server_name = role == TLS_CLIENT ? "server.test" : nullptr,
                                .alpn = alpn};
    assert_ok(tls_context_new(&config, &tls, &err));
    return tls;
}

static struct tls_context *context(struct world *world, enum tls_role role, struct party *party)
{
    return context_alpn(world, role, party, "h2");
}

static bool authorize(void *arg, const struct rpc_call *call, struct error *err)
{
    struct world *world = arg;
    const struct rpc_peer *peer = rpc_call_peer(call);
    (void)err;
    world->asked++;
    world->secure = peer->secure;
    world->has_leaf = peer->certificates.leaf;
    X509_NAME_oneline(X509_get_subject_name(peer->certificates.leaf), world->leaf,
                      sizeof(world->leaf));
    mem_copy(world->binding, peer->binding, sizeof(world->binding));
    return true;
}

static int open_world(void **state)
{
    struct error err = {0};
    struct world *world = mem_new(1, sizeof(*world));
    struct rpc_server_options options = {.authorize = authorize, .authorize_arg = world};
    struct rpc_listen_options listen = {0};
    assert_non_null(world);
    world->ca = cert_make(&(struct cert_spec)CERT_CA("authority"));
    world->other_ca = cert_make(&(struct cert_spec)CERT_CA("another"));
    buf_init(&world->ca_pem, 4096);
    cert_pem(world->ca.x509, &world->ca_pem);
    party_init(&world->server_party, (struct cert_spec)CERT_LEAF("DNS:server.test", &world->ca));
    struct cert_spec client = CERT_LEAF("URI:spiffe://test/client", &world->ca);
    client.name = "client";
    party_init(&world->client_party, client);
    party_init(&world->stranger, (struct cert_spec)CERT_LEAF("DNS:server.test", &world->other_ca));
    assert_ok(loop_new(&world->loop, &err));
    assert_ok(rpc_server_new(world->loop, &options, &world->server, &err));
    assert_ok(rpc_server_add(world->server, &echo_service, &echo_handlers, &world->echo, &err));
    assert_ok(address_parse("127.0.0.1:0", &listen.address, &err));
    world->server_tls = context(world, TLS_SERVER, &world->server_party);
    listen.tls = world->server_tls;
    assert_ok(rpc_server_listen(world->server, &listen, &world->address, &err));
    *state = world;
    return 0;
}

static int close_world(void **state)
{
    struct world *world = *state;
    rpc_client_free(world->client);
    rpc_server_free(world->server);
    loop_free(world->loop);
    tls_context_unref(world->server_tls);
    party_done(&world->server_party);
    party_done(&world->client_party);
    party_done(&world->stranger);
    cert_done(&world->ca);
    cert_done(&world->other_ca);
    buf_done(&world->ca_pem);
    mem_free(world);
    return 0;
}

static void make_client(struct world *world, struct tls_context *tls)
{
    struct error err = {0};
    struct rpc_client_options options = {.tls = tls, .backoff_first_ms = 10};
    assert_ok(rpc_client_new(world->loop, &world->address, &options, &world->client, &err));
    tls_context_unref(tls);
}

static bool ask(struct world *world, const char *text, size_t size, struct error *err)
{
    ProtobufCMessage *message = nullptr;
    Postern__Test__Note request = note(text);
    struct rpc_call_options options = {.timeout_ms = 10'000};
    request.count = (uint32_t)size;
    if (!rpc_client_call_sync(world->client, &echo_service.methods[ECHO_UNARY], &options,
                              &request.base, &message, err))
        return false;
    assert_string_equal(((Postern__Test__Note *)message)->text, text);
    assert_int_equal(((Postern__Test__Note *)message)->payload.len, size);
    pb_free(message);
    return true;
}

static void test_mutual(void **state)
{
    struct world *world = *state;
    struct error err = {0};
    make_client(world, context(world, TLS_CLIENT, &world->client_party));
    assert_null(rpc_client_peer(world->client));
    assert_ok(ask(world, "hello", 0, &err));
    assert_true(world->secure);
    assert_true(world->has_leaf);
    assert_string_equal(world->leaf, "/CN=client");
    const struct rpc_peer *peer = rpc_client_peer(world->client);
    assert_non_null(peer);
    assert_true(peer->secure);
    assert_int_equal(X509_cmp(peer->certificates.leaf, world->server_party.cert.x509), 0);
    /* RFC 9266: the same at both ends, and of this connection alone. */
    static const uint8_t zero[CHANNEL_BINDING_SIZE];
    uint8_t first[CHANNEL_BINDING_SIZE];
    assert_memory_equal(peer->binding, world->binding, sizeof(first));
    assert_memory_not_equal(peer->binding, zero, sizeof(first));
    mem_copy(first, peer->binding, sizeof(first));
    assert_ok(ask(world, "big", 3'000'000, &err));
    rpc_client_reconnect(world->client);
    assert_ok(ask(world, "again", 0, &err));
    assert_memory_not_equal(first, world->binding, sizeof(first));
}

static void test_stranger_server(void **state)
{
    struct world *world = *state;
    struct error err = {0};
    struct tls_context *tls = context(world, TLS_SERVER, &world->stranger);
    rpc_server_set_tls(world->server, tls);
    tls_context_unref(tls);
    make_client(world, context(world, TLS_CLIENT, &world->client_party));
    assert_fails(ask(world, "x", 0, &err), ERROR_UNAVAILABLE);
    assert_error_contains("cannot reach 127.0.0.1:");
    assert_int_equal(world->asked, 0);
    /* The server renews: the next connection is fine. */
    rpc_server_set_tls(world->server, world->server_tls);
    rpc_client_connect_now(world->client);
    assert_ok(ask(world, "x", 0, &err));
}

static void test_stranger_client(void **state)
{
    struct world *world = *state;
    struct error err = {0};
    make_client(world, context(world, TLS_CLIENT, &world->stranger));
    assert_fails(ask(world, "x", 0, &err), ERROR_UNAVAILABLE);
    assert_int_equal(world->asked, 0);
    struct tls_context *tls = context(world, TLS_CLIENT, &world->client_party);
    rpc_client_set_tls(world->client, tls);
    tls_context_unref(tls);
    rpc_client_connect_now(world->client);
    assert_ok(ask(world, "x", 0, &err));
}

static void test_plaintext_client(void **state)
{
    struct world *world = *state;
    struct error err = {0};
    make_client(world, nullptr);
    assert_fails(ask(world, "x", 0, &err), ERROR_UNAVAILABLE);
    assert_int_equal(world->asked, 0);
}

/* TLS contexts that were made without ALPN "h2" are a mistake that is told. */
static void test_no_alpn(void **state)
{
    struct world *world = *state;
    struct error err = {0};
    struct tls_context *tls = context_alpn(world, TLS_SERVER, &world->server_party, nullptr);
    rpc_server_set_tls(world->server, tls);
    tls_context_unref(tls);
    make_client(world, context_alpn(world, TLS_CLIENT, &world->client_party, nullptr));
    assert_fails(ask(world, "x", 0, &err), ERROR_UNAVAILABLE);
    assert_error_contains("ALPN");
    assert_int_equal(world->asked, 0);
}

#define WORLD(test) cmocka_unit_test_setup_teardown(test, open_world, close_world)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WORLD(test_mutual),           WORLD(test_stranger_server), WORLD(test_stranger_client),
        WORLD(test_plaintext_client), WORLD(test_no_alpn),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
