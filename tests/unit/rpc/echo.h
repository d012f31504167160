/* A service for the tests of lib/rpc, as the plugin would write it, and handlers that do what the
 * request's text says. */
#pragma once

#include "rpc/service.h"

#include "echo.pb-c.h"

enum echo_method { ECHO_UNARY, ECHO_DOWN, ECHO_UP, ECHO_BOTH, ECHO_MISSING };

extern const struct rpc_service echo_service;

/* What the server saw. */
struct echo {
    struct rpc_call *held; /* a call that the handler has not answered: text "hold" */
    unsigned served, messages, half_closed, writable, cancelled, closed;
    enum error_class cancel_class; /* why it was cancelled */
    enum error_class close_class;  /* how it ended, ERROR_NONE if well */
    size_t last_size;
    bool flooding;
    unsigned sent;     /* by "flood" */
    bool pause;        /* pause streams of requests after each message */
    char metadata[64]; /* of "x-test" */
    struct error fail; /* what "fail" answers with */
};

/*
 * Unary, Down: text "hold" keeps the call unanswered; "fail" fails with echo->fail; "meta" answers
 * with metadata; "big" answers with `count` bytes; others are echoed, by Down `count` times; "flood"
 * sends until the queue is full and goes on when writable.
 * Up answers with the number of messages; Both echoes each, and finishes at half-close.
 */
struct echo_handlers {
    bool unused;
};
extern const struct echo_handlers echo_handlers;

/* A message of one text. */
Postern__Test__Note note(const char *text);

/* What a client's call saw. */
struct heard {
    unsigned done, messages, headers, writable;
    struct error error; /* class ERROR_NONE if it ended well */
    char text[128];     /* of the last message */
    size_t size;        /* of the last payload */
    struct rpc_call *call;
    bool pause; /* pause after each message */
};
extern const struct rpc_call_events heard_events;
