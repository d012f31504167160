/*
 * A closed loop of unary calls on one connection, for ./dev bench: load TARGET METHOD COUNT AT-ONCE
 * [NAME]. METHOD is "empty" (grpc.health.v1.Health/Check, which answers from memory) or "secret"
 * (SecretService.Get of NAME). Prints nothing but errors; who runs it measures.
 */
#include "base/text.h"
#include "rpc/client.h"

#include "grpc/health/v1/health.rpc.h"
#include "postern/v1/secret.rpc.h"

#include <stdio.h>

struct load {
    struct loop *loop;
    struct rpc_client *client;
    const char *secret; /* null: empty calls */
    uint64_t to_start;
    uint64_t running;
    struct error failure;
};

static void start_one(struct load *load);

static void finished(struct load *load, const struct error *err)
{
    load->running--;
    if (err) {
        load->failure = *err;
        load->to_start = 0;
    }
    if (load->to_start > 0)
        start_one(load);
    else if (load->running == 0)
        loop_stop(load->loop);
}

static void on_checked(void *arg, const Grpc__Health__V1__HealthCheckResponse *response,
                       const struct error *err)
{
    (void)response;
    finished(arg, err);
}

static void on_secret(void *arg, const Postern__V1__GetSecretResponse *response,
                      const struct error *err)
{
    (void)response;
    finished(arg, err);
}

static void start_one(struct load *load)
{
    const struct rpc_call_options options = {.wait_for_ready = true};
    load->to_start--;
    load->running++;
    if (load->secret) {
        Postern__V1__GetSecretRequest request = POSTERN__V1__GET_SECRET_REQUEST__INIT;
        request.name = (char *)load->secret;
        secret_service_get(load->client, &options, &request, on_secret, load);
    } else {
        Grpc__Health__V1__HealthCheckRequest request = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
        health_check(load->client, &options, &request, on_checked, load);
    }
}

static bool run(int argc, char **argv, struct error *err)
{
    struct address address;
    struct load load = {0};
    uint64_t at_once;
    if (argc < 5 || (strcmp(argv[2], "secret") == 0) != (argc == 6))
        return error_set(err, ERROR_INVALID,
                         "usage: load TARGET empty|secret COUNT AT-ONCE [NAME]");
    if (!address_parse(argv[1], &address, err) ||
        !parse_u64(argv[3], 1, 100'000'000, &load.to_start, err) ||
        !parse_u64(argv[4], 1, 100, &at_once, err))
        return false;
    load.secret = argc == 6 ? argv[5] : nullptr;
    const struct rpc_client_options options = {0};
    if (!loop_new(&load.loop, err) ||
        !rpc_client_new(load.loop, &address, &options, &load.client, err))
        return false;
    for (uint64_t i = 0; i < at_once && load.to_start > 0; i++)
        start_one(&load);
    loop_run(load.loop);
    rpc_client_free(load.client);
    loop_free(load.loop);
    *err = load.failure;
    return load.failure.class == ERROR_NONE;
}

int main(int argc, char **argv)
{
    struct error err = {0};
    if (run(argc, argv, &err))
        return 0;
    fprintf(stderr, "load: %s\n", err.message);
    return error_exit_code(err.class);
}
