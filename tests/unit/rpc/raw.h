/* One side is a core of lib/rpc, the other plain HTTP/2, which can say what no gRPC peer would. */
#pragma once

#include "http/h2.h"
#include "rpc/conn.h"
#include "unit/rpc/echo.h"

struct raw {
    struct h2 *h2;         /* the plain side */
    struct rpc_conn *conn; /* the gRPC side */
    struct echo echo;
    uint64_t now;
    bool conn_is_server;
    bool broken; /* a side found the other at fault */
    struct error error;

    /* The plain side's last stream: what came. */
    struct h2_stream stream;
    char headers[4096]; /* "name: value\n" … of the last block */
    char trailers[4096];
    struct buf body;
    unsigned closed;
    uint32_t closed_code;
    unsigned goaways;
    uint32_t goaway_code;
    /* Plain server: what it answers to a request's headers, if set. */
    void (*respond)(struct raw *raw);
};

void raw_open(struct raw *raw, bool conn_is_server, const struct rpc_limits *limits);
void raw_close(struct raw *raw);
void raw_run(struct raw *raw);

/* Plain client: a request for `path` with these headers besides (name, value pairs up to a null),
 * of which ":method" and "content-type" replace the usual ones; then `body`, and END_STREAM if
 * `end`. */
void raw_request(struct raw *raw, const char *path, const char *const *extra, struct slice body,
                 bool end);
/* Plain server, from `respond`: headers as above. */
void raw_respond(struct raw *raw, const char *const *headers, bool end);
/* The value of `name` in a block, or "" (static until the next call). */
const char *raw_header(const char *block, const char *name);
/* A message with its prefix. */
size_t raw_message(const Postern__Test__Note *message, uint8_t flag, uint8_t *ret, size_t size);
