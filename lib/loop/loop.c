#include "loop/internal.h"

#include "base/mem.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

struct signal_watch {
    uv_signal_t uv;
    int number;
    void (*caught)(void *arg, int number);
    void *arg;
    struct signal_watch *next;
};

static enum error_class class_of(int code)
{
    switch (code) {
    case UV_ECONNREFUSED:
    case UV_ECONNRESET:
    case UV_ECONNABORTED:
    case UV_EPIPE:
    case UV_ENETUNREACH:
    case UV_EHOSTUNREACH:
    case UV_ENETDOWN:
    case UV_EAGAIN:
    case UV_EAI_AGAIN:
    case UV_EAI_FAIL:
    case UV_EAI_NODATA:
    case UV_EAI_NONAME:
        return ERROR_UNAVAILABLE;
    case UV_ETIMEDOUT:
        return ERROR_TIMEOUT;
    case UV_ENOENT:
    case UV_ENOTDIR:
        return ERROR_NOT_FOUND;
    case UV_EACCES:
    case UV_EPERM:
        return ERROR_DENIED;
    case UV_EADDRINUSE:
        return ERROR_CONFLICT;
    case UV_EADDRNOTAVAIL:
    case UV_EAFNOSUPPORT:
    case UV_EINVAL:
        return ERROR_INVALID;
    case UV_ENOMEM:
    case UV_EAI_MEMORY:
    case UV_ENOBUFS:
    case UV_EMFILE:
    case UV_ENFILE:
    case UV_ENOSPC:
        return ERROR_EXHAUSTED;
    case UV_ECANCELED:
    case UV_EAI_CANCELED:
        return ERROR_CANCELLED;
    default:
        return ERROR_INTERNAL;
    }
}

bool error_set_uv(struct error *err, int code, const char *format, ...)
{
    char text[ERROR_MESSAGE_MAX / 2];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return error_set_native(err, class_of(code), ERROR_DOMAIN_UV, code, uv_strerror(code), "%s",
                            text);
}

/* The oldest task posted no later than `limit`, taken off the queue; NULL without one. */
static struct task *next_task(struct loop *loop, uint64_t limit)
{
    uv_mutex_lock(&loop->lock);
    struct task *task = loop->first_task;
    if (task && task->sequence <= limit) {
        loop->first_task = task->next;
        if (!loop->first_task)
            loop->last_task = &loop->first_task;
        task->next = nullptr;
        task->sequence = 0;
    } else {
        task = nullptr;
    }
    uv_mutex_unlock(&loop->lock);
    return task;
}

/* Tasks that tasks post wait for the next round: the sockets get their turn in between. */
static void run_tasks(uv_async_t *wake)
{
    struct loop *loop = wake->data;
    uv_mutex_lock(&loop->lock);
    uint64_t limit = loop->task_sequence;
    uv_mutex_unlock(&loop->lock);
    for (struct task *task; (task = next_task(loop, limit));)
        task->run(task->arg); /* may free the task */
    uv_mutex_lock(&loop->lock);
    bool more = loop->first_task;
    uv_mutex_unlock(&loop->lock);
    if (more)
        (void)uv_async_send(&loop->wake);
}

bool loop_new(struct loop **ret, struct error *err)
{
    struct loop *loop = mem_new(1, sizeof *loop);
    uint8_t *scratch = mem_new(1, LOOP_READ_SIZE);
    if (!loop || !scratch) {
        mem_free(scratch);
        mem_free(loop);
        return error_set_memory(err);
    }
    loop->scratch = scratch;
    loop->last_task = &loop->first_task;
    loop->armed = UINT64_MAX;
    bool have_loop = false, have_lock = false;
    int code = uv_loop_init(&loop->uv);
    if (code != 0)
        goto fail;
    have_loop = true;
    code = uv_mutex_init(&loop->lock);
    if (code != 0)
        goto fail;
    have_lock = true;
    code = uv_async_init(&loop->uv, &loop->wake, run_tasks);
    if (code != 0)
        goto fail;
    (void)uv_timer_init(&loop->uv, &loop->tick); /* never fails */
    loop->wake.data = loop->tick.data = loop;
    /* A peer that closes while we write is an error of that stream, not the end of the process. */
    (void)signal(SIGPIPE, SIG_IGN);
    *ret = loop;
    return true;

fail:
    if (have_lock)
        uv_mutex_destroy(&loop->lock);
    if (have_loop)
        (void)uv_loop_close(&loop->uv);
    mem_free(scratch);
    mem_free(loop);
    return error_set_uv(err, code, "cannot make an event loop");
}

void loop_run(struct loop *loop)
{
    (void)uv_run(&loop->uv, UV_RUN_DEFAULT);
}

void loop_stop(struct loop *loop)
{
    uv_stop(&loop->uv);
}

/* Until nothing is open. uv_run returns early, and non-zero, only for a loop_stop. */
static void run_out(struct loop *loop)
{
    while (uv_run(&loop->uv, UV_RUN_DEFAULT) != 0)
        ;
}

struct loop *loop_free(struct loop *loop)
{
    if (!loop)
        return nullptr;
    for (struct stream *stream = loop->streams; stream; stream = stream->next)
        stream_close(stream);
    for (struct signal_watch *watch = loop->signals; watch; watch = watch->next)
        uv_close((uv_handle_t *)&watch->uv, nullptr);
    uv_close((uv_handle_t *)&loop->tick, nullptr);
    uv_unref((uv_handle_t *)&loop->wake);
    run_out(loop);
    for (struct task *task; (task = next_task(loop, UINT64_MAX));)
        task->run(task->arg);
    uv_close((uv_handle_t *)&loop->wake, nullptr);
    run_out(loop);
    timer_forget_all(loop);
    if (uv_loop_close(&loop->uv) != 0)
        abort(); /* a listener is still open, and would use freed memory */
    for (struct signal_watch *watch = loop->signals; watch;) {
        struct signal_watch *next = watch->next;
        mem_free(watch);
        watch = next;
    }
    uv_mutex_destroy(&loop->lock);
    mem_free(loop->scratch);
    return mem_free(loop);
}

void loop_post(struct loop *loop, struct task *task)
{
    uv_mutex_lock(&loop->lock);
    bool fresh = task->sequence == 0;
    if (fresh) {
        task->sequence = ++loop->task_sequence;
        task->next = nullptr;
        *loop->last_task = task;
        loop->last_task = &task->next;
        /* Under the lock: the task that ends this loop can't overtake the use of its handle. */
        (void)uv_async_send(&loop->wake);
    }
    uv_mutex_unlock(&loop->lock);
}

void loop_unpost(struct loop *loop, struct task *task)
{
    uv_mutex_lock(&loop->lock);
    for (struct task **at = &loop->first_task; *at; at = &(*at)->next) {
        if (*at != task)
            continue;
        *at = task->next;
        if (!*at)
            loop->last_task = at;
        task->next = nullptr;
        task->sequence = 0;
        break;
    }
    uv_mutex_unlock(&loop->lock);
}

static void on_signal(uv_signal_t *uv, int number)
{
    struct signal_watch *watch = uv->data;
    watch->caught(watch->arg, number);
}

bool loop_on_signal(struct loop *loop, int number, void (*caught)(void *arg, int number), void *arg,
                    struct error *err)
{
    for (struct signal_watch *watch = loop->signals; watch; watch = watch->next) {
        if (watch->number == number) {
            watch->caught = caught;
            watch->arg = arg;
            return true;
        }
    }
    if (number <= 0 || number == SIGKILL || number == SIGSTOP || number >= NSIG)
        return error_set(err, ERROR_INVALID, "signal %d can't be caught", number);
    struct signal_watch *watch = mem_new(1, sizeof *watch);
    if (!watch)
        return error_set_memory(err);
    (void)uv_signal_init(&loop->uv, &watch->uv); /* fails only where uv_loop_init had failed */
    watch->uv.data = watch;
    watch->number = number;
    watch->caught = caught;
    watch->arg = arg;
    watch->next = loop->signals;
    loop->signals = watch; /* freed with the loop, also if starting fails */
    int code = uv_signal_start(&watch->uv, on_signal, number);
    if (code != 0) {
        watch->number = 0;
        return error_set_uv(err, code, "cannot catch signal %d", number);
    }
    return true;
}
