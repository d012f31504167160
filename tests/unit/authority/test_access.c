#include "testlib/testlib.h"

#include "access.h"
#include "authority.h"

#include <stdio.h>

/* Silent strangers fill their share of connections, and nobody else's. */
static void test_connections(void **state)
{
    (void)state;
    struct error err = {0};
    struct authority authority = {0};
    static struct rpc_peer stranger = {.secure = true}, known = {.secure = true};
    char leaf;
    known.certificates.leaf = (X509 *)(void *)&leaf;
    (void)snprintf(known.address, sizeof(known.address), "192.0.2.1:1");
    assert_ok(quota_init(&authority.strangers, "connections", STRANGER_CONNECTIONS_MAX,
                         STRANGER_CONNECTIONS_PER_ADDRESS_MAX, &err));
    for (size_t i = 0; i < STRANGER_CONNECTIONS_MAX; i++) {
        (void)snprintf(stranger.address, sizeof(stranger.address), "192.0.2.%zu:%zu",
                       1 + i / STRANGER_CONNECTIONS_PER_ADDRESS_MAX, 1024 + i);
        assert_true(access_accept(&authority, &stranger));
        if (i == STRANGER_CONNECTIONS_PER_ADDRESS_MAX - 1)
            assert_false(access_accept(&authority, &stranger)); /* of this address */
    }
    (void)snprintf(stranger.address, sizeof(stranger.address), "198.51.100.1:1");
    assert_false(access_accept(&authority, &stranger)); /* of all */
    assert_true(access_accept(&authority, &known));
    access_gone(&authority, &known);
    assert_false(access_accept(&authority, &stranger)); /* which gave nothing back */
    (void)snprintf(stranger.address, sizeof(stranger.address), "192.0.2.1:9");
    access_gone(&authority, &stranger);
    (void)snprintf(stranger.address, sizeof(stranger.address), "198.51.100.1:1");
    assert_true(access_accept(&authority, &stranger));
    /* A certificate counts for nothing where no TLS has checked it. */
    known.secure = false;
    assert_false(access_accept(&authority, &known));
    quota_done(&authority.strangers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_connections),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
