/* Inside of rpc_conn and rpc_call: what conn.c (headers, ends, deadlines), call.c (what programs
 * call) and receive.c (messages) share with server.c and client.c. */
#pragma once

#include "http/h2.h"
#include "rpc/conn.h"
#include "rpc/metadata.h"

constexpr size_t RPC_MESSAGE_DEFAULT = 4 * 1024 * 1024;
constexpr size_t RPC_SEND_QUEUE_DEFAULT = 8 * 1024 * 1024;
constexpr size_t RPC_CONNECTION_QUEUE_DEFAULT = 16 * 1024 * 1024;
constexpr size_t RPC_HEADER_LIST_DEFAULT = 8 * 1024;
constexpr uint32_t RPC_CONCURRENT_CALLS_DEFAULT = 128;
constexpr size_t RPC_CONNECTIONS_DEFAULT = 1024;
constexpr uint32_t RPC_WINDOW_DEFAULT = 64 * 1024;
/* events->writable comes at or below this. */
constexpr size_t RPC_LOW_WATER = 64 * 1024;
/* Paths are method names; a longer one is no method of ours. */
constexpr size_t RPC_PATH_MAX = 512;
/* Between the two steps of GOAWAY, if the peer does not answer the PING between them. */
constexpr uint64_t RPC_GOAWAY_STEP_MS = 1'000;
/* Flag and length before each message. */
constexpr size_t RPC_PREFIX_SIZE = 5;

struct rpc_call {
    struct h2_stream stream;
    struct rpc_conn *conn; /* null: not started, or over */
    struct rpc_call *next,
        *previous; /* among the connection's calls, or the client's waiting ones */
    const struct rpc_method *method;
    const struct rpc_call_events *events;
    void *arg;
    const void *handlers; /* server */
    void *handlers_arg;
    rpc_function *typed; /* client */
    struct rpc_limits limits;
    uint64_t deadline;
    unsigned refs;

    bool server;
    bool streams_in;  /* the peer sends any number of messages */
    bool streams_out; /* we do */
    bool served;      /* server: the handler has been called and has not answered yet */
    bool answered;    /* server: rpc_reply, rpc_finish, rpc_fail */
    bool delivered;   /* server: the end of the response was handed to HTTP/2 */
    bool cancelling;  /* client: rpc_call_cancel */
    bool headers_out; /* server: response headers were sent */
    bool headers_in;  /* client: response headers came */
    bool send_closed; /* client: half-closed */
    bool dead;        /* cancelled or over: nothing is sent any more */
    bool over;        /* the last event was delivered */
    bool dropped;     /* client: nobody wants to hear */
    bool ended_in;    /* the peer has ended its side */
    bool half_told;   /* server: the end of requests was delivered */
    bool status_in;   /* client: the status is known: `failure`, or success */
    bool starved;     /* server: a message was refused for the others' bytes; `writable` is due */
    bool paused;
    bool reading; /* in the loop of receive.c */

    /* Receiving: the message under way, and what came while paused. */
    uint8_t prefix[RPC_PREFIX_SIZE];
    uint8_t prefix_len;
    uint32_t size;             /* declared; valid once the prefix is whole */
    struct buf partial;        /* the message's first part */
    struct buf backlog;        /* unread, not credited to the peer: at most one window */
    ProtobufCMessage *message; /* where the peer sends one: kept until it has ended its side */

    const struct error *failure; /* why it ends; null: OK */
    struct metadata in, out_headers, out_trailers;
    const char *path;

    /* Client: of a call that waits for a connection. */
    bool wait_for_ready;
    void (*withdraw)(void *arg, struct rpc_call *call);
    void *withdraw_arg;
};

struct rpc_conn {
    struct h2 *h2;
    struct rpc_conn_options options;
    struct rpc_call *calls;
    size_t call_count;
    uint64_t now;
    uint64_t next_deadline; /* no call's deadline is before it */
    uint64_t goaway_at;     /* second step of GOAWAY; UINT64_MAX */
    size_t queued_most;     /* server: no fewer bytes are queued in all calls */
    bool starving;          /* a call is starved */
    bool inside;            /* in receive, output, tick: the owner will ask for output */
    bool woken;
    bool ready;
    bool draining;
    bool lost;
};

/* ---- call.c ---- */
/* The failure of calls whose own could not be stored. */
extern const struct error call_out_of_memory;
struct rpc_call *call_alloc(const struct rpc_limits *limits);
/* Keeps a copy of the error as the call's end, unless there is one. */
void call_set_failure(struct rpc_call *call, const struct error *why);
/* Forgets what is unread. */
void call_drop_input(struct rpc_call *call);
/* The connection has something to send. */
void call_wake(struct rpc_call *call);
/* Server: the end of the response: Trailers-Only where nothing was sent yet. */
void call_send_status(struct rpc_call *call);
/* The last event. Client: delivers the end, `failure` or success, and lets go of the caller's
 * reference. Server: cancels if unanswered, tells `closed`. The connection's reference stays. */
void call_finish(struct rpc_call *call);
/* Server: hands the call to its handler, which owns a reference from now on. */
void call_serve(struct rpc_call *call, const ProtobufCMessage *request);
/* Server: nobody waits any more. */
void call_cancelled(struct rpc_call *call, const struct error *why);

/* ---- conn.c ---- */
/* Server: may its calls queue one more message? */
bool conn_may_queue(struct rpc_conn *conn);

/* ---- receive.c ---- */
/* DATA came. */
void call_receive(struct rpc_call *call, struct slice bytes);
/* The peer ended its side, or reading goes on: deliver what is due. */
void call_advance(struct rpc_call *call);
/* Ends a call from our side because of what the peer sent. */
void call_refuse(struct rpc_call *call, const struct error *why);

/* ---- headers.c ---- */
/* Server: checks a request's headers (rpc.md, 1 to 6) and sets the call's deadline and metadata.
 * False: `ret_http` is an HTTP status to answer with (405, 415), or 0 for a gRPC status by err. */
[[nodiscard]] bool headers_read_request(struct rpc_call *call, const struct h2_header *headers,
                                        size_t count, uint64_t now, char path[static RPC_PATH_MAX],
                                        unsigned *ret_http, struct error *err);
/* Client: the response's headers. False: the call fails with err. */
[[nodiscard]] bool headers_read_response(struct rpc_call *call, const struct h2_header *headers,
                                         size_t count, bool end, struct error *err);
/* Client: trailers, or Trailers-Only: sets the call's status. */
void headers_read_trailers(struct rpc_call *call, const struct h2_header *headers, size_t count);
[[nodiscard]] bool headers_send_request(struct rpc_call *call, uint64_t now, struct error *err);
[[nodiscard]] bool headers_send_response(struct rpc_call *call, bool trailers_only,
                                         struct error *err);
[[nodiscard]] bool headers_send_trailers(struct rpc_call *call, struct error *err);
/* Server: refuses a stream without a call. */
void headers_refuse(struct rpc_conn *conn, int32_t id, unsigned http_status,
                    const struct error *why);
