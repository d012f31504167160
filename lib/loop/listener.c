#include "loop/internal.h"

#include "base/counter.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

COUNTER(accept_failed, "postern_accept_failed_total",
        "Connections that could not be accepted, for want of memory or file descriptors.");
COUNTER(accept_paused, "postern_accept_paused_total",
        "Times a listener stopped accepting because its limit of connections was reached.");

constexpr int LISTEN_BACKLOG = 1024;      /* the kernel cuts it to net.core.somaxconn */
constexpr uint64_t ACCEPT_RETRY_MS = 100; /* after want of memory or descriptors */
constexpr int LISTEN_LOCK_ATTEMPTS = 100; /* of 10 ms each, for the folder of a socket file */

struct listener {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } uv;
    struct loop *loop;
    void (*accepted)(void *arg, struct stream *stream);
    void *arg;
    struct address address;
    struct timer retry;
    size_t max_streams;
    size_t open;  /* accepted and not yet gone */
    bool waiting; /* libuv holds a connection that we did not take yet */
    bool freed;   /* by its owner; our memory stays for the streams */
    bool handle_closed;
    bool have_file;
    dev_t file_dev; /* the socket file as we made it, so that we never remove another's */
    ino_t file_ino;
};

static void listener_maybe_free(struct listener *listener)
{
    if (listener->freed && listener->handle_closed && listener->open == 0)
        mem_free(listener);
}

static void on_listener_closed(uv_handle_t *handle)
{
    struct listener *listener = handle->data;
    listener->handle_closed = true;
    listener_maybe_free(listener);
}

/* Takes the connection that libuv holds. libuv accepts no other before that. */
static void take_one(struct listener *listener)
{
    struct error ignored;
    struct stream *stream;
    listener->waiting = true;
    if (listener->open >= listener->max_streams) {
        counter_add(&accept_paused, 1);
        return; /* listener_released comes back here */
    }
    if (!stream_make(listener->loop, listener->address.kind == ADDRESS_UNIX, &stream, &ignored)) {
        counter_add(&accept_failed, 1);
        timer_start(&listener->retry, ACCEPT_RETRY_MS);
        return;
    }
    listener->waiting = false;
    stream->listener = listener;
    listener->open++;
    if (uv_accept(&listener->uv.stream, &stream->uv.stream) != 0) {
        counter_add(&accept_failed, 1);
        stream_close(stream);
        return;
    }
    stream->state = STREAM_OPEN;
    if (!stream->is_unix)
        (void)uv_tcp_nodelay(&stream->uv.tcp, 1);
    listener->accepted(listener->arg, stream); /* may free the listener */
}

static void on_connection(uv_stream_t *uv, int status)
{
    struct listener *listener = uv->data;
    if (status == 0)
        take_one(listener);
    else
        counter_add(&accept_failed, 1);
}

static void on_retry(void *arg)
{
    struct listener *listener = arg;
    if (listener->waiting)
        take_one(listener);
}

void listener_released(struct listener *listener)
{
    listener->open--;
    if (listener->freed)
        listener_maybe_free(listener);
    else if (listener->waiting)
        take_one(listener);
}

/* What is at `path`: nothing or a dead server's socket (true), or something that must stay. */
static bool path_is_free(const struct address *address, struct error *err)
{
    struct stat there;
    if (lstat(address->host, &there) != 0)
        return errno == ENOENT || error_set_errno(err, errno, "%s", address->host);
    if (!S_ISSOCK(there.st_mode))
        return error_set(err, ERROR_CONFLICT, "%s is there already, and is no socket",
                         address->host);
    int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (probe < 0)
        return error_set_errno(err, errno, "cannot make a socket");
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    mem_copy(to.sun_path, address->host, strlen(address->host));
    int number = connect(probe, (struct sockaddr *)&to, sizeof to) == 0 ? 0 : errno;
    (void)close(probe);
    if (number == ECONNREFUSED || number == ENOENT)
        return true;
    /* EAGAIN: somebody listens whose backlog is full. EACCES: another's, of whom we know nothing. */
    if (number == 0 || number == EAGAIN || number == EINPROGRESS)
        return error_set(err, ERROR_CONFLICT, "address in use: another server answers there");
    return error_set_errno(err, number, "cannot find out who owns the socket that is there");
}

/* A socket bound to "PATH.new" with its mode and group, to be renamed once it listens: whoever
 * finds the file finds a live server behind it, with the final rights. */
static bool bind_beside(const struct listener_options *options, const char *beside, int *ret,
                        struct error *err)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return error_set_errno(err, errno, "cannot make a socket");
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    mem_copy(at.sun_path, beside, strlen(beside));
    (void)unlink(beside); /* of a start that was cut short; we hold the folder's lock */
    if (bind(fd, (struct sockaddr *)&at, sizeof at) != 0) {
        error_set_errno(err, errno, "cannot make the socket file");
        (void)close(fd);
        return false;
    }
    unsigned mode = options->mode != 0 ? options->mode : 0600;
    if (options->group != LISTENER_GROUP_KEEP && chown(beside, (uid_t)-1, options->group) != 0)
        error_set_errno(err, errno, "cannot give the socket file to group %u", options->group);
    else if (chmod(beside, mode) != 0)
        error_set_errno(err, errno, "cannot set the socket file's mode to %o", mode);
    else {
        *ret = fd;
        return true;
    }
    (void)unlink(beside);
    (void)close(fd);
    return false;
}

/* Serialises servers that start on one path: both would find it free, and one be lost. A few
 * bounded attempts, because whoever can read the folder can hold its lock. */
static bool lock_folder(const struct address *address, int *ret, struct error *err)
{
    char path[ADDRESS_PATH_MAX + 1] = "";
    mem_copy(path, address->host, strlen(address->host));
    const char *folder = dirname(path);
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return error_set_errno(err, errno, "cannot open the folder %s", folder);
    for (int i = 0; i < LISTEN_LOCK_ATTEMPTS; i++) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
            *ret = fd;
            return true;
        }
        if (errno != EWOULDBLOCK && errno != EINTR)
            break;
        (void)nanosleep(&(struct timespec){.tv_nsec = 10'000'000}, nullptr);
    }
    error_set(err, ERROR_UNAVAILABLE, "another server is starting in the folder %s", folder);
    (void)close(fd);
    return false;
}

static bool listen_unix_locked(struct listener *listener, const struct listener_options *options,
                               struct error *err)
{
    const char *path = options->address.host;
    char beside[ADDRESS_PATH_MAX + 8];
    (void)snprintf(beside, sizeof beside, "%.*s.new", (int)ADDRESS_PATH_MAX, path);
    int fd = -1;
    if (!path_is_free(&options->address, err) || !bind_beside(options, beside, &fd, err))
        return false;
    struct stat made;
    int code = uv_pipe_open(&listener->uv.pipe, fd);
    if (code != 0) {
        (void)close(fd);
    } else {
        code = uv_listen(&listener->uv.stream, LISTEN_BACKLOG, on_connection);
    }
    if (code == 0 && (lstat(beside, &made) != 0 || rename(beside, path) != 0))
        code = uv_translate_sys_error(errno);
    if (code != 0) {
        (void)unlink(beside);
        return error_set_uv(err, code, "cannot make the socket file");
    }
    listener->have_file = true;
    listener->file_dev = made.st_dev;
    listener->file_ino = made.st_ino;
    return true;
}

static bool listen_unix(struct listener *listener, const struct listener_options *options,
                        struct error *err)
{
    int lock = -1;
    if (options->address.host[0] != '/' || strlen(options->address.host) > ADDRESS_PATH_MAX)
        return error_set(err, ERROR_INVALID, "expected an absolute path of at most %zu bytes",
                         ADDRESS_PATH_MAX);
    if (!lock_folder(&options->address, &lock, err))
        return false;
    bool ok = listen_unix_locked(listener, options, err);
    (void)close(lock);
    return ok;
}

static bool listen_tcp(struct listener *listener, const struct listener_options *options,
                       struct error *err)
{
    struct sockaddr_storage at;
    if (!address_to_socket(&options->address, &at))
        return error_set(err, ERROR_INVALID,
                         "expected an IP address to listen on, such as 127.0.0.1 or [::1]");
    int code = uv_tcp_bind(&listener->uv.tcp, (struct sockaddr *)&at,
                           options->reuse_port ? UV_TCP_REUSEPORT : 0);
    if (code == 0)
        code = uv_listen(&listener->uv.stream, LISTEN_BACKLOG, on_connection);
    if (code != 0)
        return error_set_uv(err, code, "cannot bind");
    struct sockaddr_storage bound = {0};
    int len = sizeof bound;
    code = uv_tcp_getsockname(&listener->uv.tcp, (struct sockaddr *)&bound, &len);
    if (code != 0)
        return error_set_uv(err, code, "cannot tell the port");
    address_from_socket((struct sockaddr *)&bound, &listener->address);
    return true;
}

bool listener_new(struct loop *loop, const struct listener_options *options,
                  void (*accepted)(void *arg, struct stream *stream), void *arg,
                  struct listener **ret, struct error *err)
{
    if (options->max_streams == 0)
        return error_set(err, ERROR_INVALID, "a listener needs a limit of connections");
    struct listener *listener = mem_new(1, sizeof *listener);
    if (!listener)
        return error_set_memory(err);
    bool is_unix = options->address.kind == ADDRESS_UNIX;
    if (is_unix)
        (void)uv_pipe_init(&loop->uv, &listener->uv.pipe, 0);
    else
        (void)uv_tcp_init(&loop->uv, &listener->uv.tcp);
    uv_unref(&listener->uv.handle); /* loop_free notices one that is left, instead of waiting */
    listener->uv.handle.data = listener;
    listener->loop = loop;
    listener->accepted = accepted;
    listener->arg = arg;
    listener->address = options->address;
    listener->max_streams = options->max_streams;
    timer_init(&listener->retry, loop, on_retry, listener);
    if (!(is_unix ? listen_unix : listen_tcp)(listener, options, err)) {
        char text[ADDRESS_TEXT_SIZE];
        listener_free(listener);
        return error_prefix(err, "cannot listen on %s", address_format(&options->address, text));
    }
    *ret = listener;
    return true;
}

void listener_address(const struct listener *listener, struct address *ret)
{
    *ret = listener->address;
}

struct listener *listener_free(struct listener *listener)
{
    if (!listener)
        return nullptr;
    struct stat there;
    if (listener->have_file && lstat(listener->address.host, &there) == 0 &&
        there.st_dev == listener->file_dev && there.st_ino == listener->file_ino)
        (void)unlink(listener->address.host);
    listener->freed = true;
    timer_stop(&listener->retry);
    uv_close(&listener->uv.handle, on_listener_closed);
    return nullptr;
}
