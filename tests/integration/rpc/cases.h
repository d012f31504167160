/* What the test client tries with a server of another maker; the same list as in client.py and
 * client.js. */
#pragma once

#include "heard.h"

struct tester {
    struct loop *loop;
    struct rpc_client *client;
    struct address address;
    struct tls_context *tls; /* null: plaintext */
};

struct test_case {
    const char *name;
    bool (*run)(struct tester *tester, struct error *err);
};

extern const struct test_case test_cases[]; /* ends with a null name */
