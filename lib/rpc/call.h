/*
 * struct rpc_call: one call, on either side of a connection.
 *
 * Lifetime, server. A handler gets the call and must answer it exactly once (rpc_reply, rpc_finish
 * or rpc_fail), at once or later from the loop; the call is valid until it did. If the client
 * cancels, its deadline passes or the connection is lost, events->cancelled comes once; the handler
 * still answers then, which is harmless and releases the call. events->closed comes exactly once,
 * as the last of the call's events, when its stream has ended, answered or not. An unanswered call
 * outlives its connection and its server.
 * Lifetime, client. The call is valid until its one end was delivered (the typed on_done, or
 * events->closed). rpc_call_cancel asks for that end; rpc_call_drop does without it.
 * Either side: rpc_call_ref keeps the memory longer, and every function here is harmless on a call
 * that has ended.
 *
 * Flow. Messages arrive one by one until rpc_call_pause; while paused nothing is read and the
 * peer's window is not renewed. rpc_send queues, up to limits.send_queue bytes; events->writable
 * comes when the queue has fallen below its low-water mark again.
 *
 * Threading: the thread of the connection's loop. No callback comes from within rpc_send,
 * rpc_call_pause, rpc_call_cancel or the answering functions; from rpc_call_resume they may come.
 */
#pragma once

#include "base/error.h"
#include "base/slice.h"

#include <protobuf-c/protobuf-c.h>

struct rpc_call;
struct rpc_method;

/* What a program may limit; 0 takes the default. Each names the attack that it stops. */
struct rpc_limits {
    /* One message, declared and actual: memory by one length field. Default 4 MiB. */
    size_t message;
    /* Bytes queued in one call that its peer does not read: memory by a slow reader. Default 8 MiB;
     * at least one message. */
    size_t send_queue;
    /* The same over all calls of a connection (server): memory by many answers of which none is read.
     * A call that it stops gets `writable` when half of it is free. Default 16 MiB; at least one
     * message. */
    size_t connection_queue;
    /* Header list of a request or response (RFC 9113 section 6.5.2): memory by headers. 8 KiB. */
    size_t header_list;
    /* Calls at once on a connection (server): memory by open streams. Default 128. */
    uint32_t concurrent_calls;
    /* Connections at once (server): descriptors and memory by idle peers. Default 1024. */
    size_t connections;
    /* Bytes that a peer may send ahead of the reader, per call. Default 64 KiB. */
    uint32_t window;
};

/* A piece of metadata. Keys are lower case; values of keys that end in "-bin" are any bytes, others
 * printable ASCII. "grpc-…" is reserved, and neither sent nor shown. */
struct rpc_metadatum {
    const char *key;
    struct slice value;
};

/* Of the client, per call. All borrowed until the starting function returns. {0} is fine. */
struct rpc_call_options {
    uint64_t timeout_ms; /* 0: none. After it the call ends with TIMEOUT on both sides. */
    bool wait_for_ready; /* wait while there is no connection, instead of failing UNAVAILABLE */
    const struct rpc_metadatum *metadata;
    size_t metadata_count;
};

/* What may happen to a call, besides its messages. Any member may be null. */
struct rpc_call_events {
    /* Client: the response's metadata is there (rpc_call_metadata). */
    void (*headers)(void *arg, struct rpc_call *call);
    /* Server, where the client streams: it has sent its last message. */
    void (*half_closed)(void *arg, struct rpc_call *call);
    /* The send queue fell below its low-water mark after it had been above; or rpc_send was refused
     * for what all calls of the connection had queued, and there is room again. */
    void (*writable)(void *arg, struct rpc_call *call);
    /* Server: nobody waits for the answer any more. CANCELLED (by the client, or because it is
     * gone), TIMEOUT (its deadline). The handler stops its work and answers. */
    void (*cancelled)(void *arg, struct rpc_call *call, const struct error *why);
    /* The end; nothing comes after it. err is null if the call succeeded (client: status OK;
     * server: what the handler sent was handed to the transport). */
    void (*closed)(void *arg, struct rpc_call *call, const struct error *err);
};

/* Server: subscribes, with an argument of this call. Both are borrowed until closed. The client
 * gave its events when it started the call. */
void rpc_call_on(struct rpc_call *call, const struct rpc_call_events *events, void *arg);
/* The argument of rpc_call_on or of the client's start; null without one. */
void *rpc_call_arg(const struct rpc_call *call);

struct rpc_call *rpc_call_ref(struct rpc_call *call);
/* Takes null; returns null. */
struct rpc_call *rpc_call_unref(struct rpc_call *call);
DEFINE_CLEANUP(rpc_call_unref, struct rpc_call)

/* ---- Sending. Messages must be of the method's type; they are packed before the return. ---- */

/* Queues a message of a stream. EXHAUSTED: over the message limit, or the queue is full (nothing
 * was queued: wait for `writable`); CANCELLED: the call has ended. */
[[nodiscard]] bool rpc_send(struct rpc_call *call, const ProtobufCMessage *message,
                            struct error *err);
/* Bytes queued and not yet handed to the transport. */
size_t rpc_call_queued(const struct rpc_call *call);

/* Server: answers with the one response and OK. A response over the limit becomes a failure. */
void rpc_reply(struct rpc_call *call, const ProtobufCMessage *response);
/* Server: ends a stream with OK, after what is queued. */
void rpc_finish(struct rpc_call *call);
/* Server: ends with the status of the error's class, its message and its details (rpc/status.h),
 * after what is queued. */
void rpc_fail(struct rpc_call *call, const struct error *why);

/* Client, where it streams: the last request was sent. */
void rpc_call_close_send(struct rpc_call *call);
/* Client: ends the call with CANCELLED, here and at the server; the end is delivered later. */
void rpc_call_cancel(struct rpc_call *call);
/* Client: cancels, and nothing is called any more for this call; it is gone for the caller. Takes
 * null; returns null. */
struct rpc_call *rpc_call_drop(struct rpc_call *call);

/* ---- Receiving ---- */

/* No message is delivered and no window renewed until rpc_call_resume. */
void rpc_call_pause(struct rpc_call *call);
void rpc_call_resume(struct rpc_call *call);

/* ---- Metadata ---- */

/* The index-th (from 0) value of `key` among what the peer sent with its headers; client, after the
 * end: also with its trailers. False if there is none. Borrowed for the call's life. */
[[nodiscard]] bool rpc_call_metadata(const struct rpc_call *call, const char *key, size_t index,
                                     struct slice *ret_value);
/* Server: adds to the headers (before the first message or answer) or the trailers (before the
 * answer). INVALID for a bad or reserved key or value; CONFLICT when it is too late. */
[[nodiscard]] bool rpc_call_add_header(struct rpc_call *call, const struct rpc_metadatum *item,
                                       struct error *err);
[[nodiscard]] bool rpc_call_add_trailer(struct rpc_call *call, const struct rpc_metadatum *item,
                                        struct error *err);

/* ---- Who and when ---- */

/* "/postern.v1.SecretService/Get"; what the client asked for, even if unknown here. */
const char *rpc_call_path(const struct rpc_call *call);
/* The call's deadline in clock_boot_ms time, UINT64_MAX without one. */
uint64_t rpc_call_deadline(const struct rpc_call *call);
/* True once the call has ended or was cancelled: what is sent now reaches nobody. */
bool rpc_call_is_dead(const struct rpc_call *call);
/* Who is at the other end; null when the connection is gone. */
const struct rpc_peer *rpc_call_peer(const struct rpc_call *call);
