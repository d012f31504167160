#include "unit/rpc/pair.h"

#include "testlib/testlib.h"

static bool route(void *arg, struct rpc_call *call, const struct rpc_method **ret_method,
                  const void **ret_handlers, void **ret_arg, struct error *err)
{
    struct pair *pair = arg;
    if (pair->deny)
        return error_set_reason(err, ERROR_DENIED, "NOT_YOU", "denied");
    for (size_t i = 0; i < echo_service.method_count; i++) {
        if (strcmp(echo_service.methods[i].path, rpc_call_path(call)) != 0)
            continue;
        *ret_method = &echo_service.methods[i];
        *ret_handlers = &echo_handlers;
        *ret_arg = &pair->echo;
        return true;
    }
    return error_set(err, ERROR_UNIMPLEMENTED, "there is no method %s", rpc_call_path(call));
}

static void ready(void *arg)
{
    ((struct pair *)arg)->ready = true;
}

static void draining(void *arg)
{
    ((struct pair *)arg)->draining = true;
}

static const struct rpc_conn_events server_events = {.route = route};
static const struct rpc_conn_events client_events = {.ready = ready, .draining = draining};

bool pair_open(struct pair *pair, struct error *err)
{
    struct rpc_conn_options server = {.server = true, .events = &server_events, .arg = pair};
    struct rpc_conn_options client = {
        .events = &client_events, .arg = pair, .scheme = "http", .authority = "test"};
    if (pair->server_limits)
        server.limits = *pair->server_limits;
    if (pair->client_limits)
        client.limits = *pair->client_limits;
    if (!pair->now)
        pair->now = 1'000'000;
    return rpc_conn_new(&server, pair->now, &pair->server, err) &&
           rpc_conn_new(&client, pair->now, &pair->client, err);
}

void pair_close(struct pair *pair)
{
    pair->client = rpc_conn_free(pair->client);
    pair->server = rpc_conn_free(pair->server);
}

static size_t move(struct pair *pair, struct rpc_conn *from, struct rpc_conn *to)
{
    CLEANUP(buf_done) struct buf bytes;
    struct error err;
    buf_init(&bytes, (size_t)64 * 1024 * 1024);
    if (rpc_conn_next(from) <= pair->now)
        rpc_conn_tick(from, pair->now);
    if (!rpc_conn_output(from, (size_t)1024 * 1024, pair->now, &bytes, &err)) {
        pair->error = err;
        pair->broken = true;
        return 0;
    }
    size_t step = pair->chunk ? pair->chunk : bytes.len;
    for (size_t at = 0; at < bytes.len && !pair->broken; at += step) {
        size_t n = bytes.len - at < step ? bytes.len - at : step;
        if (!rpc_conn_receive(to, slice(bytes.data + at, n), pair->now, &err)) {
            pair->error = err;
            pair->broken = true;
        }
    }
    return bytes.len;
}

void pair_run(struct pair *pair)
{
    for (unsigned rounds = 0; rounds < 10'000 && !pair->broken; rounds++) {
        size_t moved = move(pair, pair->client, pair->server);
        moved += move(pair, pair->server, pair->client);
        if (moved == 0)
            return;
    }
    assert_true(pair->broken); /* else it would never come to rest */
}

struct rpc_call *pair_call(struct pair *pair, enum echo_method method,
                           const struct rpc_call_options *options,
                           const Postern__Test__Note *request, struct heard *heard)
{
    struct error err = {0};
    struct rpc_call *call;
    struct rpc_limits limits = pair->client_limits ? *pair->client_limits : (struct rpc_limits){0};
    rpc_limits_resolve(&limits);
    if (!rpc_call_new(&echo_service.methods[method], options, &limits,
                      request ? &request->base : nullptr, nullptr, &heard_events, heard, pair->now,
                      &call, &err)) {
        heard->done++;
        heard->error = err;
        return nullptr;
    }
    heard->call = call;
    rpc_conn_start(pair->client, call, pair->now);
    return call;
}

void pair_tick(struct pair *pair, uint64_t ms)
{
    pair->now += ms;
    rpc_conn_tick(pair->client, pair->now);
    rpc_conn_tick(pair->server, pair->now);
    pair_run(pair);
}
