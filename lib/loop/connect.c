/* Connecting a stream: resolve, try each address in turn, each with its share of the time. */
#include "loop/internal.h"

#include "base/clock.h"
#include "base/mem.h"

#include <netdb.h>
#include <stdio.h>

/* Addresses of one name that are tried: a hostile DNS answer would keep us connecting for long. */
constexpr size_t CONNECT_ADDRESSES_MAX = 16;

static void attempt(struct stream *stream);

void connecting_free(struct stream *stream)
{
    struct connecting *c = stream->connecting;
    if (!c)
        return;
    timer_stop(&c->timer);
    mem_free(c->candidates);
    stream->connecting = mem_free(c);
}

void stream_connect_abandon(struct stream *stream)
{
    timer_stop(&stream->connecting->timer);
    if (stream->resolving)
        (void)uv_cancel((uv_req_t *)&stream->connecting->resolve); /* its callback comes anyway */
}

/* The end, bad: tells why. */
static void give_up(struct stream *stream, int code)
{
    char text[ADDRESS_TEXT_SIZE];
    struct error err;
    address_format(&stream->connecting->address, text);
    if (code == UV_ETIMEDOUT)
        error_set(&err, ERROR_TIMEOUT, "cannot connect to %s: no answer in time", text);
    else
        error_set_uv(&err, code, "cannot connect to %s", text);
    timer_stop(&stream->connecting->timer);
    stream_fail(stream, &err);
}

static void on_attempt_closed(uv_handle_t *handle)
{
    struct stream *stream = handle->data;
    stream->retrying = false;
    if (stream->state == STREAM_CLOSING) {
        stream->handle_closed = true;
        stream_released(stream);
        return;
    }
    (void)uv_tcp_init(&stream->loop->uv, &stream->uv.tcp);
    stream->uv.handle.data = stream;
    attempt(stream);
}

/* This attempt came to nothing: the next address, which needs a new socket, or the end. */
static void attempt_failed(struct stream *stream, int code)
{
    struct connecting *c = stream->connecting;
    timer_stop(&c->timer);
    c->last_code = code;
    if (c->next < c->candidate_count) {
        stream->retrying = true;
        uv_close(&stream->uv.handle, on_attempt_closed);
    } else {
        give_up(stream, code);
    }
}

static void on_time(void *arg)
{
    struct stream *stream = arg;
    struct connecting *c = stream->connecting;
    /* Also the way out of stream_connect for what failed at once: no callback inside the call. */
    int code = c->last_code != 0 ? c->last_code : UV_ETIMEDOUT;
    if (stream->resolving)
        give_up(stream, code);
    else
        attempt_failed(stream, code);
}

static void on_connect(uv_connect_t *request, int status)
{
    struct stream *stream = request->handle->data;
    if (stream->state != STREAM_CONNECTING || stream->retrying)
        return; /* closed, timed out: what was to be said has been said */
    if (status != 0) {
        attempt_failed(stream, status);
        return;
    }
    connecting_free(stream);
    stream->state = STREAM_OPEN;
    if (!stream->is_unix)
        (void)uv_tcp_nodelay(&stream->uv.tcp, 1); /* slower without, not wrong */
    if (stream->reading)
        stream_read_start(stream);
    if (stream->events && stream->events->connected)
        stream->events->connected(stream->arg);
}

/* Sets the attempt's timer to an equal share of what is left until the deadline. */
static void start_clock(struct connecting *c, size_t attempts_left)
{
    if (c->deadline == 0)
        return;
    uint64_t now = clock_boot_ms();
    uint64_t left = c->deadline > now ? c->deadline - now : 0;
    timer_start_at(&c->timer, now + left / attempts_left);
}

static void attempt(struct stream *stream)
{
    struct connecting *c = stream->connecting;
    int code;
    c->last_code = 0;
    if (stream->is_unix) {
        start_clock(c, 1);
        code = uv_pipe_connect2(&c->request, &stream->uv.pipe, c->address.host,
                                strlen(c->address.host), 0, on_connect);
    } else {
        start_clock(c, c->candidate_count - c->next);
        const struct sockaddr *to = (const struct sockaddr *)&c->candidates[c->next++];
        code = uv_tcp_connect(&c->request, &stream->uv.tcp, to, on_connect);
    }
    if (code != 0) {
        c->last_code = code;
        timer_start(&c->timer, 0);
    }
}

/* Copies what was found, with the port, which getaddrinfo was not asked for. */
static int take_candidates(struct connecting *c, const struct addrinfo *found)
{
    size_t count = 0;
    for (const struct addrinfo *one = found; one; one = one->ai_next)
        count += one->ai_family == AF_INET || one->ai_family == AF_INET6;
    count = count < CONNECT_ADDRESSES_MAX ? count : CONNECT_ADDRESSES_MAX;
    if (count == 0)
        return UV_EAI_NODATA;
    c->candidates = mem_new(count, sizeof *c->candidates);
    if (!c->candidates)
        return UV_ENOMEM;
    for (const struct addrinfo *one = found; one && c->candidate_count < count;
         one = one->ai_next) {
        struct address address;
        address_from_socket(one->ai_addr, &address);
        address.port = c->address.port;
        if (address_to_socket(&address, &c->candidates[c->candidate_count]))
            c->candidate_count++;
    }
    return 0;
}

static void on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *found)
{
    struct connecting *c = CONTAINER_OF(request, struct connecting, resolve);
    struct stream *stream = request->data;
    stream->resolving = false;
    if (stream->state == STREAM_CONNECTING) {
        int code = status != 0 ? status : take_candidates(c, found);
        if (code != 0)
            give_up(stream, code);
        else
            attempt(stream);
    } else if (stream->state == STREAM_CLOSING) {
        stream_released(stream);
    }
    uv_freeaddrinfo(found);
}

static bool begin(struct stream *stream, struct error *err)
{
    struct connecting *c = stream->connecting;
    if (c->address.kind == ADDRESS_HOST) {
        const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
        c->resolve.data = stream;
        int code = uv_getaddrinfo(&stream->loop->uv, &c->resolve, on_resolved, c->address.host,
                                  nullptr, &hints);
        if (code != 0)
            return error_set_uv(err, code, "cannot resolve %s", c->address.host);
        stream->resolving = true;
        start_clock(c, 1);
        return true;
    }
    if (c->address.kind != ADDRESS_UNIX) {
        c->candidates = mem_new(1, sizeof *c->candidates);
        if (!c->candidates)
            return error_set_memory(err);
        if (!address_to_socket(&c->address, c->candidates))
            return error_set(err, ERROR_INVALID, "cannot connect to \"%s\": not an IP address",
                             c->address.host);
        c->candidate_count = 1;
    }
    attempt(stream);
    return true;
}

bool stream_connect(struct loop *loop, const struct address *address, uint64_t deadline,
                    const struct stream_events *events, void *arg, struct stream **ret,
                    struct error *err)
{
    if (address->kind == ADDRESS_NONE || (address->kind != ADDRESS_UNIX && address->port == 0))
        return error_set(err, ERROR_INVALID, "cannot connect to an address without a port");
    struct connecting *c = mem_new(1, sizeof *c);
    if (!c)
        return error_set_memory(err);
    struct stream *stream;
    if (!stream_make(loop, address->kind == ADDRESS_UNIX, &stream, err)) {
        mem_free(c);
        return false;
    }
    c->address = *address;
    c->deadline = deadline;
    timer_init(&c->timer, loop, on_time, stream);
    stream->connecting = c;
    if (!begin(stream, err)) {
        stream_close(stream); /* nobody is attached: nobody hears of it */
        return false;
    }
    stream_attach(stream, events, arg);
    *ret = stream;
    return true;
}
