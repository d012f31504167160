#include "testlib/testlib.h"

#include "loop/address.h"

#include <stdio.h>

static void reads_and_writes_each_form(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum address_kind kind;
        const char *host;
        uint16_t port;
        const char *again; /* NULL: as text */
    } cases[] = {
        {"127.0.0.1:15551", ADDRESS_IPV4, "127.0.0.1", 15551, nullptr},
        {"0.0.0.0:0", ADDRESS_IPV4, "0.0.0.0", 0, nullptr},
        {"[::1]:15551", ADDRESS_IPV6, "::1", 15551, nullptr},
        {"[0:0:0:0:0:0:0:1]:1", ADDRESS_IPV6, "::1", 1, "[::1]:1"},
        {"[2001:DB8::A]:65535", ADDRESS_IPV6, "2001:db8::a", 65535, "[2001:db8::a]:65535"},
        {"unix:/run/postern/app.sock", ADDRESS_UNIX, "/run/postern/app.sock", 0, nullptr},
        {"authority.postern.svc:15550", ADDRESS_HOST, "authority.postern.svc", 15550, nullptr},
        {"localhost:80", ADDRESS_HOST, "localhost", 80, nullptr},
        {"a-b.c_d.3x:80", ADDRESS_HOST, "a-b.c_d.3x", 80, nullptr},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct error err = {0};
        struct address address;
        char text[ADDRESS_TEXT_SIZE];
        assert_ok(address_parse(cases[i].text, &address, &err));
        assert_int_equal(address.kind, cases[i].kind);
        assert_string_equal(address.host, cases[i].host);
        assert_int_equal(address.port, cases[i].port);
        assert_string_equal(address_format(&address, text),
                            cases[i].again ? cases[i].again : cases[i].text);
    }
}

static void refuses_everything_else(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"", "expected HOST:PORT"},
        {"localhost", "expected HOST:PORT"},
        {":80", "expected HOST:PORT"},
        {"127.0.0.1", "expected HOST:PORT"},
        {"127.0.0.1:", "port from 0 to 65535"},
        {"127.0.0.1:http", "port from 0 to 65535"},
        {"127.0.0.1:65536", "port from 0 to 65535"},
        {"127.0.0.1:-1", "port from 0 to 65535"},
        {"127.0.0.1: 1", "port from 0 to 65535"},
        {"127.0.0.256:1", "expected HOST:PORT"},
        {"127.0.0:1", "expected HOST:PORT"},
        {"::1:80", "expected HOST:PORT"},
        {"[::1]", "expected HOST:PORT"},
        {"[::1:80", "expected HOST:PORT"},
        {"[127.0.0.1]:80", "expected HOST:PORT"},
        {"[fe80::1%eth0]:80", "expected HOST:PORT"},
        {"]:80", "expected HOST:PORT"},
        {"[:80", "expected HOST:PORT"},
        {"a..b:80", "expected HOST:PORT"},
        {"a.b.:80", "expected HOST:PORT"},
        {"-a.b:80", "expected HOST:PORT"},
        {"a-.b:80", "expected HOST:PORT"},
        {"a b:80", "expected HOST:PORT"},
        {"a/b:80", "expected HOST:PORT"},
        {"b\xc3\xbc.de:80", "expected HOST:PORT"},
        {"unix:", "absolute path"},
        {"unix:run/app.sock", "absolute path"},
        {"unix:@abstract", "absolute path"},
        {"unix:/run/", "not a folder"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct error err = {0};
        struct address address = {.kind = ADDRESS_UNIX, .port = 77};
        assert_fails(address_parse(cases[i].text, &address, &err), ERROR_INVALID);
        assert_error_contains(cases[i].says);
        assert_int_equal(address.kind, ADDRESS_UNIX);
        assert_int_equal(address.port, 77);
    }
}

static void keeps_its_limits(void **state)
{
    (void)state;
    struct error err = {0};
    struct address address;
    char text[600], formatted[ADDRESS_TEXT_SIZE];

    snprintf(text, sizeof text, "unix:/%0*d", (int)ADDRESS_PATH_MAX - 1, 0);
    assert_ok(address_parse(text, &address, &err));
    assert_string_equal(address_format(&address, formatted), text);
    snprintf(text, sizeof text, "unix:/%0*d", (int)ADDRESS_PATH_MAX, 0);
    assert_fails(address_parse(text, &address, &err), ERROR_INVALID);
    assert_error_contains("101 bytes");

    /* 63 + 1 + 63 + 1 + 63 + 1 + 61 = 253 */
    snprintf(text, sizeof text, "x%062d.x%062d.x%062d.x%060d:65535", 0, 0, 0, 0);
    assert_ok(address_parse(text, &address, &err));
    assert_string_equal(address_format(&address, formatted), text);
    snprintf(text, sizeof text, "x%062d.x%062d.x%062d.x%061d:65535", 0, 0, 0, 0);
    assert_fails(address_parse(text, &address, &err), ERROR_INVALID);
    assert_error_contains("253");
    snprintf(text, sizeof text, "x%063d:1", 0); /* a label of 64 */
    assert_fails(address_parse(text, &address, &err), ERROR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_and_writes_each_form),
        cmocka_unit_test(refuses_everything_else),
        cmocka_unit_test(keeps_its_limits),
    };
    return cmocka_run_group_tests_name("address", tests, nullptr, nullptr);
}
