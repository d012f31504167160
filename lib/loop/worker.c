#include "loop/worker.h"

#include "base/clock.h"
#include "base/mem.h"
#include "loop/internal.h"

#include <pthread.h>
#include <signal.h>

struct job {
    bool (*run)(void *arg, struct error *err);
    void (*done)(void *arg, bool ok, const struct error *err);
    void *arg;
    uint64_t deadline;
    bool ok;
    struct error err;
    struct job *next;
};

struct queue {
    struct job *first;
    struct job **last;
};

struct worker {
    struct loop *loop;
    const char *name;
    uv_thread_t thread;
    size_t queue_max;

    uv_mutex_t lock; /* for the next five */
    uv_cond_t work;
    struct queue waiting;
    size_t waiting_count;
    struct queue finished;
    bool ending;

    struct task task; /* brings the finished ones to the loop */
    bool telling;     /* inside tell_finished, which then frees the memory after worker_free */
    bool freed;
};

static void queue_push(struct queue *queue, struct job *job)
{
    job->next = nullptr;
    *queue->last = job;
    queue->last = &job->next;
}

static struct job *queue_pop(struct queue *queue)
{
    struct job *job = queue->first;
    if (job) {
        queue->first = job->next;
        if (!queue->first)
            queue->last = &queue->first;
    }
    return job;
}

/* The next job, or NULL when the worker ends. */
static struct job *wait_for_job(struct worker *worker)
{
    uv_mutex_lock(&worker->lock);
    while (!worker->waiting.first && !worker->ending)
        uv_cond_wait(&worker->work, &worker->lock);
    struct job *job = worker->ending ? nullptr : queue_pop(&worker->waiting);
    if (job)
        worker->waiting_count--;
    uv_mutex_unlock(&worker->lock);
    return job;
}

static void thread_main(void *arg)
{
    struct worker *worker = arg;
    /* Signals are the loop's: here they would only interrupt a device's read. */
    sigset_t all;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_BLOCK, &all, nullptr);
    char name[16] = "";
    mem_copy(name, worker->name, strnlen(worker->name, sizeof name - 1));
    (void)pthread_setname_np(pthread_self(), name);

    for (struct job *job; (job = wait_for_job(worker));) {
        if (job->deadline != 0 && clock_boot_ms() >= job->deadline)
            job->ok = error_set(&job->err, ERROR_TIMEOUT,
                                "the deadline passed while waiting for the %s", worker->name);
        else
            job->ok = job->run(job->arg, &job->err);
        uv_mutex_lock(&worker->lock);
        queue_push(&worker->finished, job);
        uv_mutex_unlock(&worker->lock);
        loop_post(worker->loop, &worker->task);
    }
}

static struct job *next_finished(struct worker *worker)
{
    uv_mutex_lock(&worker->lock);
    struct job *job = queue_pop(&worker->finished);
    uv_mutex_unlock(&worker->lock);
    return job;
}

static void tell(struct job *job)
{
    job->done(job->arg, job->ok, job->ok ? nullptr : &job->err);
    mem_free(job);
}

static void tell_finished(void *arg)
{
    struct worker *worker = arg;
    worker->telling = true;
    for (struct job *job; !worker->freed && (job = next_finished(worker));)
        tell(job); /* may call worker_free */
    worker->telling = false;
    if (worker->freed)
        mem_free(worker);
}

bool worker_new(struct loop *loop, const char *name, size_t queue_max, struct worker **ret,
                struct error *err)
{
    struct worker *worker = mem_new(1, sizeof *worker);
    if (!worker)
        return error_set_memory(err);
    worker->loop = loop;
    worker->name = name;
    worker->queue_max = queue_max;
    worker->waiting.last = &worker->waiting.first;
    worker->finished.last = &worker->finished.first;
    worker->task = (struct task){.run = tell_finished, .arg = worker};
    bool have_lock = false, have_cond = false;
    int code = uv_mutex_init(&worker->lock);
    if (code == 0) {
        have_lock = true;
        code = uv_cond_init(&worker->work);
    }
    if (code == 0) {
        have_cond = true;
        code = uv_thread_create(&worker->thread, thread_main, worker);
    }
    if (code == 0) {
        *ret = worker;
        return true;
    }
    if (have_cond)
        uv_cond_destroy(&worker->work);
    if (have_lock)
        uv_mutex_destroy(&worker->lock);
    mem_free(worker);
    error_set_uv(err, code, "cannot start the thread \"%s\"", name);
    err->class = ERROR_EXHAUSTED;
    return false;
}

bool worker_submit(struct worker *worker, bool (*run)(void *arg, struct error *err),
                   void (*done)(void *arg, bool ok, const struct error *err), void *arg,
                   uint64_t deadline, struct error *err)
{
    struct job *job = mem_new(1, sizeof *job);
    if (!job)
        return error_set_memory(err);
    *job = (struct job){.run = run, .done = done, .arg = arg, .deadline = deadline};
    uv_mutex_lock(&worker->lock);
    bool ending = worker->ending;
    bool full = worker->waiting_count >= worker->queue_max;
    if (!ending && !full) {
        queue_push(&worker->waiting, job);
        worker->waiting_count++;
        uv_cond_signal(&worker->work);
    }
    uv_mutex_unlock(&worker->lock);
    if (!ending && !full)
        return true;
    mem_free(job);
    if (ending)
        return error_set(err, ERROR_CONFLICT, "the %s is ending", worker->name);
    return error_set(err, ERROR_EXHAUSTED, "the %s is busy: %zu jobs wait already", worker->name,
                     worker->queue_max);
}

struct worker *worker_free(struct worker *worker)
{
    if (!worker)
        return nullptr;
    uv_mutex_lock(&worker->lock);
    worker->ending = true;
    uv_cond_signal(&worker->work);
    uv_mutex_unlock(&worker->lock);
    (void)uv_thread_join(&worker->thread);
    loop_unpost(worker->loop, &worker->task);
    for (struct job *job; (job = queue_pop(&worker->finished));)
        tell(job);
    for (struct job *job; (job = queue_pop(&worker->waiting));) {
        job->ok = error_set(&job->err, ERROR_CANCELLED, "the %s is ending", worker->name);
        tell(job);
    }
    uv_cond_destroy(&worker->work);
    uv_mutex_destroy(&worker->lock);
    worker->freed = true;
    return worker->telling ? nullptr : mem_free(worker);
}
