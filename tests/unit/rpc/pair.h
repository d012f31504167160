/* A server core and a client core, joined by memory: no socket, no clock. */
#pragma once

#include "rpc/conn.h"
#include "unit/rpc/echo.h"

struct pair {
    struct rpc_conn *server, *client;
    struct echo echo;
    uint64_t now;
    size_t chunk;       /* bytes a time; 0: all */
    bool ready;         /* the client saw SETTINGS */
    bool draining;      /* … GOAWAY */
    bool deny;          /* the server's authorization says no */
    bool broken;        /* one side found the other at fault */
    struct error error; /* what it found */
    const struct rpc_limits *server_limits, *client_limits;
};

/* Makes both sides, by the limits that are set. */
[[nodiscard]] bool pair_open(struct pair *pair, struct error *err);
void pair_close(struct pair *pair);
/* Moves bytes to and fro until there are none. */
void pair_run(struct pair *pair);
/* Starts a call, without moving bytes. */
struct rpc_call *pair_call(struct pair *pair, enum echo_method method,
                           const struct rpc_call_options *options,
                           const Postern__Test__Note *request, struct heard *heard);
/* Both sides' clocks. */
void pair_tick(struct pair *pair, uint64_t ms);
