/*
 * struct stream: one connected byte stream, TCP (with TCP_NODELAY) or Unix; and struct listener,
 * which accepts them.
 *
 * A stream is made by stream_connect or by a listener, belongs to the loop's thread, and lives until
 * stream_close; its memory goes after `closed`. What happens arrives through a table of callbacks,
 * of which each entry may be NULL:
 *   - before stream_close: connected at most once, then read, drained, ended; failed at most once,
 *     and after it nothing else;
 *   - after stream_close: nothing but `closed`, exactly once, from the loop (not from inside
 *     stream_close). Bytes that were queued and not yet written are dropped.
 * Callbacks may close the stream they come from.
 * Limits: what is queued for writing is the caller's to bound (stream_queued, drained); a listener
 * holds at most max_streams.
 */
#pragma once

#include "base/buf.h"
#include "loop/address.h"
#include "loop/loop.h"

#include <sys/types.h>

struct stream;

struct stream_events {
    /* The connection stands. Only for stream_connect. */
    void (*connected)(void *arg);
    /* Bytes came (never none); borrowed until the callback returns or the stream is closed. */
    void (*read)(void *arg, struct slice bytes);
    /* The peer sends no more; writing goes on until stream_close. */
    void (*ended)(void *arg);
    /* The queue for writing, which was not empty when stream_write returned, is empty now. */
    void (*drained)(void *arg);
    /* Connecting, reading or writing failed; what is left is stream_close. */
    void (*failed)(void *arg, const struct error *err);
    /* The last word: the stream is gone when this returns, so is the loop's use of `arg`. */
    void (*closed)(void *arg);
};

/* Begins to connect; `connected` or `failed` says how it ended. A host name is resolved off the
 * loop and its addresses are tried in turn. `deadline` is on the boot clock in ms
 * (clock_boot_ms() + …), 0 for none; missing it is TIMEOUT. `events` is borrowed until `closed` (a static table).
 * Errors at once: EXHAUSTED, INVALID (ADDRESS_NONE, port 0); later: UNAVAILABLE (refused,
 * unreachable, unknown host), NOT_FOUND (no socket file), DENIED, TIMEOUT. */
[[nodiscard]] bool stream_connect(struct loop *loop, const struct address *address,
                                  uint64_t deadline, const struct stream_events *events, void *arg,
                                  struct stream **ret, struct error *err);

/* Sets or changes who hears of the stream: an accepted stream has nobody before. */
void stream_attach(struct stream *stream, const struct stream_events *events, void *arg);

/* Lets `read` and `ended` come. Fine when it is on already. A stream starts paused. */
void stream_read_start(struct stream *stream);
/* Stops them until the next start; may be called inside `read`. */
void stream_read_pause(struct stream *stream);

/* Sends the bytes of `bytes`, in order; takes them (`bytes` is empty afterwards, also on failure).
 * It writes at once as much as the kernel takes and queues the rest. Errors: EXHAUSTED (memory, or
 * a buf that failed), CONFLICT (not connected, failed or closed). For want of memory a
 * part may have been sent: close the stream. A connection that broke is told by `failed`, not
 * here. */
[[nodiscard]] bool stream_write(struct stream *stream, struct buf *bytes, struct error *err);
/* Bytes that wait to be written. */
size_t stream_queued(const struct stream *stream);

/* Closes. NULL is fine, and so is a second call before `closed` came. Returns NULL. */
struct stream *stream_close(struct stream *stream);

/* The other end's address as text, for logs ("unix:" for the nameless client of a Unix socket).
 * Returns ret. */
const char *stream_peer_name(const struct stream *stream, char ret[static ADDRESS_TEXT_SIZE]);

/* Who connected, as the kernel noted it then: unix(7), SO_PEERCRED. The pid is in our namespace and
 * may have been reused since: decide by stream_peer_pidfd. Errors: INVALID (no Unix socket). */
struct stream_peer {
    uid_t uid;
    gid_t gid;
    pid_t pid;
};
[[nodiscard]] bool stream_peer(const struct stream *stream, struct stream_peer *ret,
                               struct error *err);
/* A pidfd of the process that connected (SO_PEERPIDFD, Linux 6.5), which the caller closes with
 * close(2). Errors: INVALID (no Unix socket), UNAVAILABLE (an older kernel, or the process is
 * gone). */
[[nodiscard]] bool stream_peer_pidfd(const struct stream *stream, int *ret, struct error *err);

struct listener;

constexpr gid_t LISTENER_GROUP_KEEP = (gid_t)-1;

struct listener_options {
    struct address address;
    /* Accepted streams at a time: a peer that opens connections without end exhausts file
     * descriptors and memory. When reached, the listener stops accepting until one closes (the
     * kernel's backlog waits). Must not be 0. */
    size_t max_streams;
    /* Unix sockets: the file's mode (such as 0660; 0 means 0600) and owner group
     * (LISTENER_GROUP_KEEP leaves the process's own). Both stand before the first connection is
     * possible. */
    unsigned mode;
    gid_t group;
    /* TCP: SO_REUSEPORT, for one listener a worker loop. */
    bool reuse_port;
};

/* Listens. `accepted` gets each new stream, which it owns: it calls stream_attach and
 * stream_read_start, or stream_close. The socket file of a server that died is replaced; where a
 * live one answers it is CONFLICT, "address in use". Errors: INVALID (host name, no limit),
 * CONFLICT, DENIED, NOT_FOUND (folder), EXHAUSTED. */
[[nodiscard]] bool listener_new(struct loop *loop, const struct listener_options *options,
                                void (*accepted)(void *arg, struct stream *stream), void *arg,
                                struct listener **ret, struct error *err);
/* Where it listens: with the kernel's port when 0 was asked. */
void listener_address(const struct listener *listener, struct address *ret);
/* Stops listening; `accepted` comes no more; the socket file is removed if it is still ours.
 * Accepted streams live on. NULL is fine; returns NULL. */
struct listener *listener_free(struct listener *listener);
DEFINE_CLEANUP(listener_free, struct listener)
