#include "loop/internal.h"

#include "base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 /* Linux 6.5 */
#endif

/* One queued write; owns its bytes until libuv is done with them. */
struct pending_write {
    uv_write_t uv;
    struct stream *stream;
    struct buf bytes;
    size_t len; /* of bytes, counted in stream->queued */
};

static void stream_unlink(struct stream *stream)
{
    *stream->link = stream->next;
    if (stream->next)
        stream->next->link = stream->link;
}

bool stream_make(struct loop *loop, bool is_unix, struct stream **ret, struct error *err)
{
    struct stream *stream = mem_new(1, sizeof *stream);
    if (!stream)
        return error_set_memory(err);
    /* Neither makes a socket yet, so neither fails. */
    if (is_unix)
        (void)uv_pipe_init(&loop->uv, &stream->uv.pipe, 0);
    else
        (void)uv_tcp_init(&loop->uv, &stream->uv.tcp);
    stream->uv.handle.data = stream;
    stream->loop = loop;
    stream->is_unix = is_unix;
    stream->next = loop->streams;
    stream->link = &loop->streams;
    if (stream->next)
        stream->next->link = &stream->next;
    loop->streams = stream;
    *ret = stream;
    return true;
}

void stream_released(struct stream *stream)
{
    if (stream->resolving || !stream->handle_closed)
        return;
    stream_unlink(stream);
    connecting_free(stream);
    if (stream->events && stream->events->closed)
        stream->events->closed(stream->arg);
    if (stream->listener)
        listener_released(stream->listener);
    mem_free(stream);
}

static void on_closed(uv_handle_t *handle)
{
    struct stream *stream = handle->data;
    stream->handle_closed = true;
    stream_released(stream);
}

struct stream *stream_close(struct stream *stream)
{
    if (!stream || stream->state == STREAM_CLOSING)
        return nullptr;
    stream->state = STREAM_CLOSING;
    stream->reading = false;
    if (stream->connecting)
        stream_connect_abandon(stream);
    /* While a failed attempt's handle is being closed, its own callback goes on with this. */
    if (!stream->retrying)
        uv_close(&stream->uv.handle, on_closed);
    return nullptr;
}

void stream_attach(struct stream *stream, const struct stream_events *events, void *arg)
{
    stream->events = events;
    stream->arg = arg;
}

void stream_fail(struct stream *stream, const struct error *err)
{
    if (stream->state == STREAM_CLOSING || stream->state == STREAM_FAILED)
        return;
    stream->state = STREAM_FAILED;
    (void)uv_read_stop(&stream->uv.stream);
    if (stream->events && stream->events->failed)
        stream->events->failed(stream->arg, err);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret)
{
    (void)suggested;
    struct stream *stream = handle->data;
    *ret = uv_buf_init((char *)stream->loop->scratch, (unsigned)LOOP_READ_SIZE);
}

static void on_read(uv_stream_t *uv, ssize_t count, const uv_buf_t *room)
{
    struct stream *stream = uv->data;
    if (count > 0) {
        if (stream->events && stream->events->read)
            stream->events->read(stream->arg, slice(room->base, (size_t)count));
        /* One buffer for all streams: what one of them read must not stay for the next. */
        mem_wipe(room->base, (size_t)count);
    } else if (count == UV_EOF) {
        stream->reading = false;
        (void)uv_read_stop(uv);
        if (stream->events && stream->events->ended)
            stream->events->ended(stream->arg);
    } else if (count < 0) {
        struct error err;
        error_set_uv(&err, (int)count, "cannot read");
        stream_fail(stream, &err);
    }
}

void stream_read_start(struct stream *stream)
{
    if (stream->state == STREAM_CLOSING || stream->state == STREAM_FAILED)
        return;
    stream->reading = true;
    /* Not connected yet: connect.c starts it then. UV_EALREADY is what "on already" gives. */
    if (stream->state == STREAM_OPEN)
        (void)uv_read_start(&stream->uv.stream, on_alloc, on_read);
}

void stream_read_pause(struct stream *stream)
{
    stream->reading = false;
    if (stream->state == STREAM_OPEN)
        (void)uv_read_stop(&stream->uv.stream);
}

static void on_written(uv_write_t *uv, int status)
{
    struct pending_write *write = CONTAINER_OF(uv, struct pending_write, uv);
    struct stream *stream = write->stream;
    stream->queued -= write->len;
    buf_done(&write->bytes);
    mem_free(write);
    if (stream->state != STREAM_OPEN)
        return;
    if (status < 0) {
        struct error err;
        error_set_uv(&err, status, "cannot write");
        stream_fail(stream, &err);
    } else if (stream->queued == 0 && stream->events && stream->events->drained) {
        stream->events->drained(stream->arg);
    }
}

/* Queues what is left of `bytes` from `from` on; libuv tells errors through the callback. */
static bool enqueue(struct stream *stream, struct buf *bytes, size_t from, struct error *err)
{
    struct pending_write *write = mem_new(1, sizeof *write);
    if (!write)
        return error_set_memory(err);
    write->stream = stream;
    write->bytes = *bytes;
    write->len = bytes->len - from;
    uv_buf_t part = uv_buf_init((char *)bytes->data + from, (unsigned)write->len);
    int code = uv_write(&write->uv, &stream->uv.stream, &part, 1, on_written);
    if (code != 0) {
        mem_free(write);
        return error_set_uv(err, code, "cannot write");
    }
    stream->queued += write->len;
    *bytes = (struct buf){.max = bytes->max};
    return true;
}

bool stream_write(struct stream *stream, struct buf *bytes, struct error *err)
{
    bool ok = false;
    size_t sent = 0;
    if (stream->state != STREAM_OPEN) {
        error_set(err, ERROR_CONFLICT, "cannot write: the stream is %s",
                  stream->state == STREAM_CONNECTING ? "not connected yet" : "gone");
        goto out;
    }
    if (!buf_ok(bytes, err))
        goto out;
    if (bytes->len > UINT_MAX) {
        error_set(err, ERROR_EXHAUSTED, "cannot write more than %u bytes at once", UINT_MAX);
        goto out;
    }
    /* Most writes fit the socket's buffer, and then cost no request and no callback. */
    if (stream->queued == 0 && bytes->len > 0) {
        uv_buf_t all = uv_buf_init((char *)bytes->data, (unsigned)bytes->len);
        int count = uv_try_write(&stream->uv.stream, &all, 1);
        if (count > 0)
            sent = (size_t)count;
    }
    ok = sent == bytes->len || enqueue(stream, bytes, sent, err);
out:
    buf_done(bytes);
    return ok;
}

size_t stream_queued(const struct stream *stream)
{
    return stream->queued;
}

const char *stream_peer_name(const struct stream *stream, char ret[static ADDRESS_TEXT_SIZE])
{
    if (stream->is_unix) {
        char path[ADDRESS_PATH_MAX + 16] = "";
        size_t len = sizeof path - 1;
        if (uv_pipe_getpeername(&stream->uv.pipe, path, &len) != 0)
            len = 0;
        (void)snprintf(ret, ADDRESS_TEXT_SIZE, "unix:%.*s", (int)len, path);
        return ret;
    }
    struct sockaddr_storage peer = {0};
    struct address address = {0};
    int len = sizeof peer;
    if (uv_tcp_getpeername(&stream->uv.tcp, (struct sockaddr *)&peer, &len) == 0)
        address_from_socket((struct sockaddr *)&peer, &address);
    return address_format(&address, ret);
}

/* The socket of a Unix stream. */
static bool unix_socket(const struct stream *stream, int *ret, struct error *err)
{
    uv_os_fd_t fd;
    if (!stream->is_unix)
        return error_set(err, ERROR_INVALID,
                         "a TCP connection does not tell which process its peer is");
    int code = uv_fileno(&stream->uv.handle, &fd);
    if (code != 0)
        return error_set_uv(err, code, "cannot tell who the peer is");
    *ret = fd;
    return true;
}

bool stream_peer(const struct stream *stream, struct stream_peer *ret, struct error *err)
{
    int fd = -1;
    struct ucred peer;
    socklen_t len = sizeof peer;
    if (!unix_socket(stream, &fd, err))
        return false;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) != 0)
        return error_set_errno(err, errno, "cannot tell who the peer is");
    *ret = (struct stream_peer){.uid = peer.uid, .gid = peer.gid, .pid = peer.pid};
    return true;
}

bool stream_peer_pidfd(const struct stream *stream, int *ret, struct error *err)
{
    int fd = -1, pidfd = -1;
    socklen_t len = sizeof pidfd;
    if (!unix_socket(stream, &fd, err))
        return false;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &len) == 0) {
        *ret = pidfd;
        return true;
    }
    int number = errno;
    error_set_errno(err, number, "cannot hold on to the peer's process");
    if (number == ENOPROTOOPT)
        error_set(err, ERROR_UNAVAILABLE,
                  "cannot hold on to the peer's process: this kernel has no SO_PEERPIDFD, which "
                  "came with Linux 6.5");
    err->class = ERROR_UNAVAILABLE; /* whatever the reason: nobody may be served on a guess */
    return false;
}
