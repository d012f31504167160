/* Health and reflection, as a client sees them. */
#include "testlib/testlib.h"

#include "base/clock.h"
#include "base/mem.h"
#include "grpc/health/v1/health.rpc.h"
#include "grpc/reflection/v1/reflection.pb-c.h"
#include "loop/loop.h"
#include "pb/message.h"
#include "rpc/client.h"
#include "rpc/health.h"
#include "rpc/reflection.h"

#include <stdio.h>

#define STATUS(name) GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__##name

struct world {
    struct loop *loop;
    struct rpc_server *server;
    struct rpc_client *client;
    struct rpc_health *health;
    unsigned messages, closed;
    struct error error;
    int status;
    char answer[64]; /* reflection: kind and first detail */
    size_t size;
};

static void tick(void *arg)
{
    loop_stop(arg);
}

static void until(struct world *world, const unsigned *counter, unsigned target)
{
    uint64_t end = clock_boot_ms() + 10'000;
    while (*counter < target && clock_boot_ms() < end) {
        struct timer timer;
        timer_init(&timer, world->loop, tick, world->loop);
        timer_start(&timer, 1);
        loop_run(world->loop);
        timer_stop(&timer);
    }
    assert_true(*counter >= target);
}

static int open_world(void **state)
{
    struct error err = {0};
    struct world *world = mem_new(1, sizeof(*world));
    struct rpc_listen_options listen = {0};
    struct address address;
    assert_non_null(world);
    assert_ok(loop_new(&world->loop, &err));
    assert_ok(rpc_server_new(world->loop, nullptr, &world->server, &err));
    assert_ok(rpc_health_new(world->server, &world->health, &err));
    assert_ok(rpc_reflection_add(world->server, &err));
    assert_fails(rpc_reflection_add(world->server, &err), ERROR_EXISTS);
    assert_ok(address_parse("127.0.0.1:0", &listen.address, &err));
    assert_ok(rpc_server_listen(world->server, &listen, &address, &err));
    assert_ok(rpc_client_new(world->loop, &address, nullptr, &world->client, &err));
    *state = world;
    return 0;
}

static int close_world(void **state)
{
    struct world *world = *state;
    rpc_client_free(world->client);
    rpc_server_free(world->server);
    rpc_health_free(world->health);
    loop_free(world->loop);
    mem_free(world);
    return 0;
}

static int check(struct world *world, const char *service, struct error *err)
{
    Grpc__Health__V1__HealthCheckRequest request = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
    CLEANUP(pb_free_at) Grpc__Health__V1__HealthCheckResponse *response = nullptr;
    request.service = (char *)(uintptr_t)service;
    if (!health_check_sync(world->client, nullptr, &request, &response, err))
        return -1;
    return (int)response->status;
}

static void test_check(void **state)
{
    struct world *world = *state;
    struct error err = {0};
    assert_int_equal(check(world, "", &err), STATUS(NOT_SERVING));
    assert_ok(rpc_health_set(world->health, "", true, &err));
    assert_ok(rpc_health_set(world->health, "a.B", true, &err));
    assert_int_equal(check(world, "", &err), STATUS(SERVING));
    assert_int_equal(check(world, "a.B", &err), STATUS(SERVING));
    assert_int_equal(check(world, "a.C", &err), -1);
    assert_int_equal(err.class, ERROR_NOT_FOUND);
    rpc_health_stop(world->health);
    assert_int_equal(check(world, "a.B", &err), STATUS(NOT_SERVING));
}

static void test_list(void **state)
{
    struct world *world = *state;
    struct error err = {0};
    Grpc__Health__V1__HealthListRequest request = GRPC__HEALTH__V1__HEALTH_LIST_REQUEST__INIT;
    CLEANUP(pb_free_at) Grpc__Health__V1__HealthListResponse *response = nullptr;
    assert_ok(rpc_health_set(world->health, "a.B", true, &err));
    assert_ok(health_list_sync(world->client, nullptr, &request, &response, &err));
    assert_int_equal(response->n_statuses, 2);
    assert_string_equal(response->statuses[1]->key, "a.B");
    assert_int_equal(response->statuses[1]->value->status, STATUS(SERVING));
}

static void test_full(void **state)
{
    struct world *world = *state;
    struct error err = {0};
    static char names[HEALTH_SERVICES_MAX][8];
    for (size_t i = 1; i < HEALTH_SERVICES_MAX; i++) {
        (void)snprintf(names[i], sizeof(names[i]), "s%zu", i);
        assert_ok(rpc_health_set(world->health, names[i], true, &err));
    }
    assert_fails(rpc_health_set(world->health, "more", true, &err), ERROR_EXHAUSTED);
}

static void on_status(void *arg, struct rpc_call *call,
                      const Grpc__Health__V1__HealthCheckResponse *message)
{
    struct world *world = arg;
    (void)call;
    world->messages++;
    world->status = (int)message->status;
}

static void on_closed(void *arg, struct rpc_call *call, const struct error *err)
{
    struct world *world = arg;
    (void)call;
    world->closed++;
    world->error = err ? *err : (struct error){0};
}

static const struct rpc_call_events events = {.closed = on_closed};

static void test_watch(void **state)
{
    struct world *world = *state;
    struct error err = {0};
    Grpc__Health__V1__HealthCheckRequest request = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
    request.service = (char *)(uintptr_t)"later";
    struct rpc_call *call =
        health_watch(world->client, nullptr, &request, on_status, &events, world);
    assert_non_null(call);
    until(world, &world->messages, 1);
    assert_int_equal(world->status, STATUS(SERVICE_UNKNOWN));
    assert_ok(rpc_health_set(world->health, "later", true, &err));
    until(world, &world->messages, 2);
    assert_int_equal(world->status, STATUS(SERVING));
    assert_ok(rpc_health_set(world->health, "later", true, &err)); /* no news */
    rpc_health_stop(world->health);
    until(world, &world->messages, 3);
    assert_int_equal(world->status, STATUS(NOT_SERVING));
    rpc_call_cancel(call);
    until(world, &world->closed, 1);
    assert_int_equal(world->error.class, ERROR_CANCELLED);
    /* One that the server ends. */
    (void)health_watch(world->client, nullptr, &request, on_status, &events, world);
    until(world, &world->messages, 4);
    world->health = rpc_health_free(world->health);
    until(world, &world->closed, 2);
    assert_int_equal(world->error.class, ERROR_UNAVAILABLE);
}

/* ---- Reflection: the client's half is not generated, since only tools use it. ---- */

typedef Grpc__Reflection__V1__ServerReflectionRequest Request;
typedef Grpc__Reflection__V1__ServerReflectionResponse Response;
#define ANSWER(name) GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_##name
#define ASK(name) GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_##name

static void on_reflection(rpc_function *typed, void *arg, struct rpc_call *call,
                          const ProtobufCMessage *message, const struct error *err)
{
    struct world *world = arg;
    const Response *response = (const Response *)message;
    (void)typed;
    (void)call;
    (void)err;
    world->messages++;
    world->answer[0] = 0;
    if (response->message_response_case == ANSWER(FILE_DESCRIPTOR_RESPONSE)) {
        const ProtobufCBinaryData *file =
            &response->file_descriptor_response->file_descriptor_proto[0];
        (void)snprintf(world->answer, sizeof(world->answer), "file %.*s", file->data[1],
                       (const char *)file->data + 2); /* field 1, its length, the name */
        world->size = file->len;
    } else if (response->message_response_case == ANSWER(LIST_SERVICES_RESPONSE)) {
        (void)snprintf(world->answer, sizeof(world->answer), "list %zu %s",
                       response->list_services_response->n_service,
                       response->list_services_response->service[0]->name);
    } else if (response->message_response_case == ANSWER(ERROR_RESPONSE)) {
        (void)snprintf(world->answer, sizeof(world->answer), "error %d",
                       response->error_response->error_code);
    } else if (response->message_response_case == ANSWER(ALL_EXTENSION_NUMBERS_RESPONSE)) {
        (void)snprintf(world->answer, sizeof(world->answer), "extensions %zu",
                       response->all_extension_numbers_response->n_extension_number);
    }
}

#define REFLECTION(service)                                                                        \
    {                                                                                              \
        .name = "ServerReflectionInfo",                                                            \
        .path = "/" service "/ServerReflectionInfo",                                               \
        .kind = RPC_BIDI,                                                                          \
        .request = &grpc__reflection__v1__server_reflection_request__descriptor,                   \
        .response = &grpc__reflection__v1__server_reflection_response__descriptor,                 \
        .deliver = on_reflection,                                                                  \
    }

static const struct rpc_method reflection[] = {
    REFLECTION("grpc.reflection.v1.ServerReflection"),
    REFLECTION("grpc.reflection.v1alpha.ServerReflection"),
};

static void test_reflection(void **state)
{
    struct world *world = *state;
    struct error err = {0};
    static const struct {
        unsigned kind;
        const char *text, *answer;
    } cases[] = {
        {ASK(LIST_SERVICES), "*", "list 3 grpc.health.v1.Health"},
        {ASK(FILE_BY_FILENAME), "grpc/health/v1/health.proto", "file grpc/health/v1/health.proto"},
        {ASK(FILE_BY_FILENAME), "grpc/health/v1/none.proto", "error 5"},
        {ASK(FILE_CONTAINING_SYMBOL), "grpc.health.v1.Health", "file grpc/health/v1/health.proto"},
        {ASK(FILE_CONTAINING_SYMBOL), "grpc.health.v1.Health.Check",
         "file grpc/health/v1/health.proto"},
        {ASK(FILE_CONTAINING_SYMBOL), "grpc.health.v1.HealthCheckResponse.ServingStatus",
         "file grpc/health/v1/health.proto"},
        {ASK(FILE_CONTAINING_SYMBOL), "grpc.health.v1.HealthCheckRequest.service",
         "file grpc/health/v1/health.proto"},
        {ASK(FILE_CONTAINING_SYMBOL), "grpc.reflection.v1alpha.ErrorResponse",
         "file grpc/reflection/v1alpha/reflection.proto"},
        {ASK(FILE_CONTAINING_SYMBOL), "grpc.health.v1.Healt", "error 5"},
        {ASK(FILE_CONTAINING_SYMBOL), "grpc.health.v1", "error 5"},
        {ASK(FILE_CONTAINING_SYMBOL), "grpc.health.v1.Health.Check.", "error 5"},
        {ASK(FILE_CONTAINING_SYMBOL), "", "error 5"},
        {ASK(ALL_EXTENSION_NUMBERS_OF_TYPE), "grpc.health.v1.HealthCheckRequest", "extensions 0"},
        {ASK(ALL_EXTENSION_NUMBERS_OF_TYPE), "x.Y", "error 5"},
    };
    for (size_t version = 0; version < ARRAY_LEN(reflection); version++) {
        world->messages = world->closed = 0;
        struct rpc_call *call = rpc_client_call(world->client, &reflection[version], nullptr,
                                                nullptr, nullptr, &events, world);
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
            Request request = GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__INIT;
            request.message_request_case = cases[i].kind;
            request.list_services = (char *)(uintptr_t)cases[i].text; /* a union */
            assert_ok(rpc_send(call, &request.base, &err));
            until(world, &world->messages, (unsigned)i + 1);
            assert_string_equal(world->answer, cases[i].answer);
        }
        rpc_call_close_send(call);
        until(world, &world->closed, 1);
        assert_int_equal(world->error.class, ERROR_NONE);
        /* Nothing asked. */
        call = rpc_client_call(world->client, &reflection[version], nullptr, nullptr, nullptr,
                               &events, world);
        Request empty = GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__INIT;
        assert_ok(rpc_send(call, &empty.base, &err));
        until(world, &world->closed, 2);
        assert_int_equal(world->error.class, ERROR_INVALID);
    }
}

#define WORLD(test) cmocka_unit_test_setup_teardown(test, open_world, close_world)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WORLD(test_check), WORLD(test_list),       WORLD(test_full),
        WORLD(test_watch), WORLD(test_reflection),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
