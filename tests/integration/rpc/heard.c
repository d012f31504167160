#include "heard.h"

#include "base/clock.h"
#include "base/mem.h"

#include <stdio.h>

Ask ask(const char *text)
{
    Ask message = POSTERN__TEST_PEER__V2__ASK__INIT;
    message.text = (char *)(uintptr_t)text;
    return message;
}

void heard_init(struct heard *heard)
{
    *heard = (struct heard){.in_order = true};
}

void heard_start(struct heard *heard, struct rpc_call *call)
{
    heard->call = call ? rpc_call_ref(call) : nullptr;
}

void heard_end(struct heard *heard)
{
    if (heard->call && heard->ends == 0)
        rpc_call_drop(heard->call);
    heard->call = rpc_call_unref(heard->call);
}

void heard_answer(void *arg, struct rpc_call *call, const Answer *message)
{
    struct heard *heard = arg;
    (void)call;
    if (message->count != heard->answers)
        heard->in_order = false;
    heard->answers++;
    (void)snprintf(heard->text, sizeof(heard->text), "%s", message->text);
    heard->count = message->count;
    heard->bytes = message->bytes;
    heard->remaining_ms = message->remaining_ms;
    heard->cancelled = message->cancelled;
    heard->process = message->process;
    heard->size = message->payload.len;
    heard->total_size += message->payload.len;
}

static void on_closed(void *arg, struct rpc_call *call, const struct error *err)
{
    struct heard *heard = arg;
    (void)call;
    heard->ends++;
    heard->error = err ? *err : (struct error){0};
}

void heard_done(void *arg, const Answer *response, const struct error *err)
{
    if (response)
        heard_answer(arg, nullptr, response);
    on_closed(arg, nullptr, err);
}

static void on_writable(void *arg, struct rpc_call *call)
{
    struct heard *heard = arg;
    (void)call;
    heard->writable++;
}

const struct rpc_call_events heard_events = {.closed = on_closed, .writable = on_writable};

static void stop(void *arg)
{
    loop_stop(arg);
}

void pass(struct loop *loop, uint64_t ms)
{
    struct timer timer;
    timer_init(&timer, loop, stop, loop);
    timer_start(&timer, ms);
    loop_run(loop);
    timer_stop(&timer);
}

bool wait_for(struct loop *loop, const unsigned *counter, unsigned target, uint64_t ms,
              struct error *err)
{
    uint64_t deadline = clock_boot_ms() + ms;
    while (*counter < target) {
        if (clock_boot_ms() >= deadline)
            return error_set(err, ERROR_TIMEOUT, "only %u of %u within %llu ms", *counter, target,
                             (unsigned long long)ms);
        pass(loop, 1);
    }
    return true;
}
