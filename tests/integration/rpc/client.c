/*
 * The test client, on our side:  rpc-peer-client FOLDER ADDRESS plain|default|strict|classical [CASE…]
 *
 * Runs the cases (all, or those named) against a server of another maker, and prints "CASE: ok" or
 * "CASE: what was wrong" for each. The certificates are in FOLDER; the last three are TLS, by groups.
 */
#include "cases.h"
#include "certificates.h"

#include <stdio.h>

static bool open_client(struct tester *tester, char **argv, struct error *err)
{
    static const struct {
        const char *name, *groups;
    } kinds[] = {
        {"default", nullptr}, {"strict", TLS_GROUPS_STRICT_PQ}, {"classical", "X25519:P-256"}};
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (strcmp(argv[3], kinds[i].name) == 0 &&
            !certificates_open(argv[1], TLS_CLIENT, kinds[i].groups, &tester->tls, err))
            return false;
    }
    struct rpc_client_options options = {
        .tls = tester->tls, .backoff_first_ms = 50, .backoff_max_ms = 200};
    return address_parse(argv[2], &tester->address, err) && loop_new(&tester->loop, err) &&
           rpc_client_new(tester->loop, &tester->address, &options, &tester->client, err);
}

static bool is_wanted(const char *name, int argc, char **argv)
{
    for (int i = 4; i < argc; i++) {
        if (strcmp(argv[i], name) == 0)
            return true;
    }
    return argc == 4;
}

int main(int argc, char **argv)
{
    struct tester tester = {0};
    struct error err = {0};
    if (argc < 4) {
        fprintf(stderr, "usage: %s FOLDER ADDRESS plain|default|strict|classical [CASE...]\n",
                argv[0]);
        return 2;
    }
    bool ok = open_client(&tester, argv, &err);
    if (!ok)
        fprintf(stderr, "%s\n", err.message);
    for (const struct test_case *c = test_cases; ok && c->name; c++) {
        if (!is_wanted(c->name, argc, argv))
            continue;
        err = (struct error){0};
        printf("%s: %s\n", c->name, c->run(&tester, &err) ? "ok" : err.message);
        (void)fflush(stdout);
    }
    rpc_client_free(tester.client);
    loop_free(tester.loop);
    tls_context_unref(tester.tls);
    return ok ? 0 : 1;
}
