#include "node_link.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "pb/message.h"

#include "postern/v1/pod.rpc.h"

/* After an Attach that was refused or ended, before the next: the agent is there, but says no. */
constexpr uint64_t ATTACH_RETRY_MS = 1'000;
/* An agent that restarts is back within a second; there is no crowd to spare. */
constexpr uint64_t RECONNECT_MAX_MS = 2'000;

struct node_link {
    struct loop *loop;
    struct rpc_client *client;
    struct rpc_call *attach;
    struct timer retry;
    ProtobufCMessage *state; /* an AttachResponse */
    bool connected;
    int64_t lost_since;
    void (*changed)(void *arg);
    void *changed_arg;
};

static void link_attach(struct node_link *link);

static void link_changed(struct node_link *link)
{
    if (link->changed)
        link->changed(link->changed_arg);
}

static void link_lost(struct node_link *link)
{
    if (link->lost_since == 0)
        link->lost_since = clock_wall_ms();
    link->connected = false;
    link_changed(link);
}

/* Keeps a copy of the message: what is delivered lives only as long as its callback. */
static bool copy_state(const Postern__V1__AttachResponse *message, ProtobufCMessage **ret,
                       struct error *err)
{
    CLEANUP(buf_done) struct buf bytes;
    buf_init(&bytes, PB_SIZE_MAX);
    return pb_pack(&message->base, PB_SIZE_MAX, &bytes, err) &&
           pb_unpack(&postern__v1__attach_response__descriptor, buf_slice(&bytes), nullptr, ret,
                     err);
}

static void on_state(void *arg, struct rpc_call *call, const Postern__V1__AttachResponse *message)
{
    (void)call;
    struct node_link *link = arg;
    struct error err = {0};
    ProtobufCMessage *copy;
    if (!copy_state(message, &copy, &err)) {
        log_failure(LOG_ERROR, "node", &err, "keep the pod's state");
        return;
    }
    if (!link->connected)
        log_at(LOG_INFO, "node", "attached as %s", message->spiffe_id);
    link->connected = true;
    link->lost_since = 0;
    pb_free(link->state);
    link->state = copy;
    link_changed(link);
}

static void on_attach_closed(void *arg, struct rpc_call *call, const struct error *err)
{
    (void)call;
    struct node_link *link = arg;
    link->attach = nullptr;
    if (link->connected)
        log_at(LOG_WARNING, "node", "the node agent is away");
    link_lost(link);
    if (err && err->class != ERROR_UNAVAILABLE && err->class != ERROR_CANCELLED)
        log_failure(LOG_WARNING, "node", err, "attach");
    timer_start(&link->retry, ATTACH_RETRY_MS);
}

static void on_retry(void *arg)
{
    link_attach(arg);
}

static void link_attach(struct node_link *link)
{
    static const struct rpc_call_events events = {.closed = on_attach_closed};
    Postern__V1__AttachRequest request = POSTERN__V1__ATTACH_REQUEST__INIT;
    request.version = (char[]){POSTERN_VERSION};
    const struct rpc_call_options options = {.wait_for_ready = true};
    link->attach = pod_service_attach(link->client, &options, &request, on_state, &events, link);
}

bool node_link_new(struct loop *loop, const char *path, struct node_link **ret, struct error *err)
{
    struct node_link *link = mem_new(1, sizeof(*link));
    if (!link)
        return error_set_memory(err);
    link->loop = loop;
    link->lost_since = clock_wall_ms();
    timer_init(&link->retry, loop, on_retry, link);
    struct address address = {.kind = ADDRESS_UNIX};
    mem_copy(address.host, path, strlen(path));
    const struct rpc_client_options options = {
        .keep_connected = true,
        .backoff_max_ms = RECONNECT_MAX_MS,
        .backoff_first_ms = RECONNECT_MAX_MS / 10,
    };
    if (!rpc_client_new(loop, &address, &options, &link->client, err)) {
        mem_free(link);
        return false;
    }
    link_attach(link);
    *ret = link;
    return true;
}

struct node_link *node_link_free(struct node_link *link)
{
    if (!link)
        return nullptr;
    rpc_call_drop(link->attach);
    timer_stop(&link->retry);
    rpc_client_free(link->client);
    pb_free(link->state);
    return mem_free(link);
}

void node_link_on_change(struct node_link *link, void (*changed)(void *arg), void *arg)
{
    link->changed = changed;
    link->changed_arg = arg;
}

struct rpc_client *node_link_client(struct node_link *link)
{
    return link->client;
}

const Postern__V1__AttachResponse *node_link_state(const struct node_link *link)
{
    return (const Postern__V1__AttachResponse *)link->state;
}

bool node_link_connected(const struct node_link *link)
{
    return link->connected;
}

int64_t node_link_lost_since(const struct node_link *link)
{
    return link->lost_since;
}
