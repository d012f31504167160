/* What a client's call heard, and waiting for it. */
#pragma once

#include "loop/loop.h"
#include "peer/v2.rpc.h"
#include "rpc/client.h"

typedef Postern__TestPeer__V2__Ask Ask;
typedef Postern__TestPeer__V2__Answer Answer;

struct heard {
    unsigned answers, ends, writable;
    struct error error; /* how it ended; class ERROR_NONE for OK */
    /* Of the last answer. */
    char text[4096];
    uint64_t count, bytes, remaining_ms, cancelled;
    int64_t process;
    size_t size;           /* of its payload */
    uint64_t total_size;   /* of all payloads */
    bool in_order;         /* answers were numbered 0, 1, … */
    struct rpc_call *call; /* ours, from start on */
};

/* A question. */
Ask ask(const char *text);

/* The typed callbacks, whose arg is a struct heard. */
void heard_done(void *arg, const Answer *response, const struct error *err);
void heard_answer(void *arg, struct rpc_call *call, const Answer *message);
extern const struct rpc_call_events heard_events;

/* An empty one. What it hears must stay where it is until heard_end. */
void heard_init(struct heard *heard);
/* Keeps the call that was started; heard_end drops it if it has not ended. For CLEANUP. */
void heard_start(struct heard *heard, struct rpc_call *call);
void heard_end(struct heard *heard);

/* Runs the loop until *counter ≥ target. TIMEOUT after `ms`. */
[[nodiscard]] bool wait_for(struct loop *loop, const unsigned *counter, unsigned target,
                            uint64_t ms, struct error *err);
/* Runs the loop for so long. */
void pass(struct loop *loop, uint64_t ms);
