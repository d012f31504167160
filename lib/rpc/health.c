#include "rpc/health.h"

#include "base/mem.h"
#include "grpc/health/v1/health.rpc.h"

#define STATUS(name) GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__##name
typedef Grpc__Health__V1__HealthCheckResponse__ServingStatus Status;

struct watch {
    struct rpc_health *health; /* null when that is gone */
    struct rpc_call *call;
    char *service; /* as asked; it may be unknown yet */
    Status told;
    struct watch *next, *previous;
};

struct rpc_health {
    struct known {
        const char *service;
        Status status;
    } known[HEALTH_SERVICES_MAX];
    size_t count;
    struct watch *watches;
};

static struct known *find(struct rpc_health *health, const char *service)
{
    for (size_t i = 0; i < health->count; i++)
        if (strcmp(health->known[i].service, service) == 0)
            return &health->known[i];
    return nullptr;
}

static void check(void *arg, struct rpc_call *call,
                  const Grpc__Health__V1__HealthCheckRequest *request)
{
    const struct known *known = find(arg, request->service);
    Grpc__Health__V1__HealthCheckResponse response = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
    struct error err;
    if (!known) {
        error_set(&err, ERROR_NOT_FOUND, "unknown service");
        rpc_fail(call, &err);
        return;
    }
    response.status = known->status;
    health_check_reply(call, &response);
}

static void list(void *arg, struct rpc_call *call,
                 const Grpc__Health__V1__HealthListRequest *request)
{
    const struct rpc_health *health = arg;
    Grpc__Health__V1__HealthListResponse response = GRPC__HEALTH__V1__HEALTH_LIST_RESPONSE__INIT;
    Grpc__Health__V1__HealthListResponse__StatusesEntry entries[HEALTH_SERVICES_MAX];
    Grpc__Health__V1__HealthListResponse__StatusesEntry *pointers[HEALTH_SERVICES_MAX];
    Grpc__Health__V1__HealthCheckResponse values[HEALTH_SERVICES_MAX];
    (void)request;
    for (size_t i = 0; i < health->count; i++) {
        grpc__health__v1__health_check_response__init(&values[i]);
        grpc__health__v1__health_list_response__statuses_entry__init(&entries[i]);
        values[i].status = health->known[i].status;
        entries[i].key = (char *)(uintptr_t)health->known[i].service;
        entries[i].value = &values[i];
        pointers[i] = &entries[i];
    }
    response.statuses = pointers;
    response.n_statuses = health->count;
    health_list_reply(call, &response);
}

/* ---- Watch ---- */

static void tell(struct watch *watch, Status status)
{
    Grpc__Health__V1__HealthCheckResponse response = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
    struct error err;
    watch->told = response.status = status;
    if (!health_watch_send_response(watch->call, &response, &err))
        rpc_fail(watch->call, &err);
}

static void watch_cancelled(void *arg, struct rpc_call *call, const struct error *why)
{
    (void)arg;
    rpc_fail(call, why);
}

static void watch_closed(void *arg, struct rpc_call *call, const struct error *err)
{
    struct watch *watch = arg;
    (void)call;
    (void)err;
    if (watch->previous)
        watch->previous->next = watch->next;
    else if (watch->health)
        watch->health->watches = watch->next;
    if (watch->next)
        watch->next->previous = watch->previous;
    mem_free(watch->service);
    mem_free(watch);
}

static const struct rpc_call_events watch_events = {
    .cancelled = watch_cancelled,
    .closed = watch_closed,
};

static void watch(void *arg, struct rpc_call *call,
                  const Grpc__Health__V1__HealthCheckRequest *request)
{
    struct rpc_health *health = arg;
    const struct known *known = find(health, request->service);
    struct watch *watch = mem_new(1, sizeof(*watch));
    struct error err;
    if (watch)
        watch->service = mem_strdup(request->service);
    if (!watch || !watch->service) {
        mem_free(watch);
        error_set_memory(&err);
        rpc_fail(call, &err);
        return;
    }
    watch->health = health;
    watch->call = call;
    watch->next = health->watches;
    if (health->watches)
        health->watches->previous = watch;
    health->watches = watch;
    rpc_call_on(call, &watch_events, watch);
    tell(watch, known ? known->status : STATUS(SERVICE_UNKNOWN));
}

static const struct health_handlers handlers = {.check = check, .list = list, .watch = watch};

/* ---- Interface ---- */

bool rpc_health_new(struct rpc_server *server, struct rpc_health **ret, struct error *err)
{
    CLEANUP(rpc_health_free_at) struct rpc_health *health = mem_new(1, sizeof(*health));
    if (!health)
        return error_set_memory(err);
    if (!rpc_health_set(health, "", false, err) || !health_register(server, &handlers, health, err))
        return false;
    *ret = TAKE(health);
    return true;
}

struct rpc_health *rpc_health_free(struct rpc_health *health)
{
    struct error why;
    if (!health)
        return nullptr;
    error_set(&why, ERROR_UNAVAILABLE, "the server is shutting down");
    while (health->watches) {
        struct watch *watch = health->watches;
        health->watches = watch->next;
        watch->next = watch->previous = nullptr;
        watch->health = nullptr;
        rpc_fail(watch->call, &why);
    }
    return mem_free(health);
}

bool rpc_health_set(struct rpc_health *health, const char *service, bool serving, struct error *err)
{
    struct known *known = find(health, service);
    if (!known) {
        if (health->count == HEALTH_SERVICES_MAX)
            return error_set(err, ERROR_EXHAUSTED, "more than %zu services", HEALTH_SERVICES_MAX);
        known = &health->known[health->count++];
        known->service = service;
    }
    known->status = serving ? STATUS(SERVING) : STATUS(NOT_SERVING);
    for (struct watch *watch = health->watches; watch; watch = watch->next)
        if (watch->told != known->status && strcmp(watch->service, service) == 0)
            tell(watch, known->status);
    return true;
}

void rpc_health_stop(struct rpc_health *health)
{
    struct error never;
    for (size_t i = 0; i < health->count; i++)
        (void)rpc_health_set(health, health->known[i].service, false, &never);
}
