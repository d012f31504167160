#include "testlib/testlib.h"

#include "base/clock.h"
#include "loop/worker.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

/* A gate that holds the worker's thread until the test opens it. */
struct bench {
    struct loop *loop;
    struct worker *worker;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool open;
    atomic_int started;
    int left; /* `done`s until the loop is stopped */
    char order[64];
    size_t order_len;
};

struct job {
    struct bench *bench;
    char letter;
    bool fails;
    bool holds;     /* waits for the gate */
    bool frees;     /* its done frees the worker */
    bool resubmits; /* its done submits another job, and notes how that failed */
    enum error_class resubmitted;
    pthread_t ran_on;
    bool ran;
    bool told, ok;
    struct error err;
};

static bool run_job(void *arg, struct error *err)
{
    struct job *job = arg;
    job->ran = true;
    job->ran_on = pthread_self();
    atomic_fetch_add(&job->bench->started, 1);
    if (job->holds) {
        pthread_mutex_lock(&job->bench->lock);
        while (!job->bench->open)
            pthread_cond_wait(&job->bench->changed, &job->bench->lock);
        pthread_mutex_unlock(&job->bench->lock);
    }
    return job->fails ? error_set(err, ERROR_DENIED, "job %c says no", job->letter) : true;
}

static void job_done(void *arg, bool ok, const struct error *err)
{
    struct job *job = arg;
    struct bench *bench = job->bench;
    assert_false(job->told);
    job->told = true;
    job->ok = ok;
    assert_true(ok == (err == nullptr));
    if (err)
        job->err = *err;
    bench->order[bench->order_len++] = job->letter;
    if (job->resubmits) {
        struct error again = {0};
        assert_false(worker_submit(bench->worker, run_job, job_done, job, 0, &again));
        job->resubmitted = again.class;
    }
    if (job->frees)
        bench->worker = worker_free(bench->worker);
    if (--bench->left == 0)
        loop_stop(bench->loop);
}

static void bench_init(struct bench *bench, size_t queue_max)
{
    struct error err = {0};
    *bench = (struct bench){.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    assert_ok(loop_new(&bench->loop, &err));
    assert_ok(worker_new(bench->loop, "test", queue_max, &bench->worker, &err));
}

static void bench_done(struct bench *bench)
{
    worker_free(bench->worker);
    loop_free(bench->loop);
}

static void open_gate(struct bench *bench)
{
    pthread_mutex_lock(&bench->lock);
    bench->open = true;
    pthread_cond_broadcast(&bench->changed);
    pthread_mutex_unlock(&bench->lock);
}

/* A job that holds the thread, running for sure. */
static void hold(struct bench *bench, struct job *job)
{
    struct error err = {0};
    job->bench = bench;
    job->holds = true;
    assert_ok(worker_submit(bench->worker, run_job, job_done, job, 0, &err));
    while (atomic_load(&bench->started) == 0)
        sched_yield();
}

static void runs_elsewhere_and_tells_here(void **state)
{
    (void)state;
    struct error err = {0};
    struct bench bench;
    bench_init(&bench, 10);
    struct job good = {.bench = &bench, .letter = 'g'};
    struct job bad = {.bench = &bench, .letter = 'b', .fails = true};
    bench.left = 2;
    assert_ok(worker_submit(bench.worker, run_job, job_done, &good, 0, &err));
    assert_ok(worker_submit(bench.worker, run_job, job_done, &bad, clock_boot_ms() + 60'000, &err));
    loop_run(bench.loop);
    assert_true(good.ok);
    assert_false(pthread_equal(good.ran_on, pthread_self()));
    assert_false(bad.ok);
    assert_int_equal(bad.err.class, ERROR_DENIED);
    assert_string_equal(bad.err.message, "job b says no");
    assert_string_equal(bench.order, "gb");
    bench_done(&bench);
}

static void a_full_queue_refuses_at_once(void **state)
{
    (void)state;
    struct error err = {0};
    struct bench bench;
    bench_init(&bench, 2);
    struct job held = {.letter = 'h'}, jobs[3] = {0};
    hold(&bench, &held);
    for (size_t i = 0; i < 3; i++)
        jobs[i] = (struct job){.bench = &bench, .letter = (char)('0' + i)};
    assert_ok(worker_submit(bench.worker, run_job, job_done, &jobs[0], 0, &err));
    assert_ok(worker_submit(bench.worker, run_job, job_done, &jobs[1], 0, &err));
    assert_fails(worker_submit(bench.worker, run_job, job_done, &jobs[2], 0, &err),
                 ERROR_EXHAUSTED);
    assert_error_contains("2 jobs wait");
    bench.left = 3;
    open_gate(&bench);
    loop_run(bench.loop);
    assert_string_equal(bench.order, "h01");
    assert_false(jobs[2].ran);
    assert_false(jobs[2].told);
    bench_done(&bench);
}

static void a_late_job_does_not_run(void **state)
{
    (void)state;
    struct error err = {0};
    struct bench bench;
    bench_init(&bench, 2);
    struct job held = {.letter = 'h'}, late = {.bench = &bench, .letter = 'l'};
    hold(&bench, &held);
    uint64_t deadline = clock_boot_ms() + 5;
    assert_ok(worker_submit(bench.worker, run_job, job_done, &late, deadline, &err));
    while (clock_boot_ms() < deadline)
        sched_yield();
    bench.left = 2;
    open_gate(&bench);
    loop_run(bench.loop);
    assert_true(held.ok); /* control: what runs is not cut short */
    assert_false(late.ran);
    assert_true(late.told);
    assert_int_equal(late.err.class, ERROR_TIMEOUT);
    bench_done(&bench);
}

static void *open_later(void *arg)
{
    nanosleep(&(struct timespec){.tv_nsec = 20'000'000}, nullptr);
    open_gate(arg);
    return nullptr;
}

static void free_drains(void **state)
{
    (void)state;
    struct error err = {0};
    struct bench bench;
    bench_init(&bench, 5);
    struct job held = {.letter = 'h', .resubmits = true};
    struct job waiting[2] = {{.bench = &bench, .letter = '1'}, {.bench = &bench, .letter = '2'}};
    hold(&bench, &held);
    for (size_t i = 0; i < 2; i++)
        assert_ok(worker_submit(bench.worker, run_job, job_done, &waiting[i], 0, &err));
    pthread_t opener;
    assert_int_equal(pthread_create(&opener, nullptr, open_later, &bench), 0);
    struct worker *worker = bench.worker;
    worker_free(worker);
    bench.worker = nullptr;
    assert_true(held.told && held.ok);
    assert_int_equal(held.resubmitted, ERROR_CONFLICT);
    for (size_t i = 0; i < 2; i++) {
        assert_false(waiting[i].ran);
        assert_true(waiting[i].told);
        assert_int_equal(waiting[i].err.class, ERROR_CANCELLED);
    }
    assert_string_equal(bench.order, "h12");
    pthread_join(opener, nullptr);
    bench_done(&bench);
}

static void done_may_free_the_worker(void **state)
{
    (void)state;
    struct error err = {0};
    struct bench bench;
    bench_init(&bench, 5);
    struct job jobs[4] = {0};
    for (size_t i = 0; i < 4; i++)
        jobs[i] = (struct job){.bench = &bench, .letter = (char)('0' + i), .frees = i == 1};
    bench.left = 4;
    for (size_t i = 0; i < 4; i++)
        assert_ok(worker_submit(bench.worker, run_job, job_done, &jobs[i], 0, &err));
    loop_run(bench.loop);
    assert_null(bench.worker);
    assert_string_equal(bench.order, "0123");
    for (size_t i = 0; i < 4; i++)
        assert_true(jobs[i].told);
    bench_done(&bench);
}

static bool make_submit_free(void *arg, struct error *err)
{
    struct bench *bench = arg;
    struct worker *worker = POISON;
    if (!worker_new(bench->loop, "test", 4, &worker, err)) {
        assert_ptr_equal(worker, POISON);
        return false;
    }
    struct job job = {.bench = bench, .letter = 'x'};
    bench->order_len = 0;
    bool ok = worker_submit(worker, run_job, job_done, &job, 0, err);
    worker_free(worker);
    assert_true(job.told == ok);
    return ok;
}

static void survives_want_of_memory(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench, 1);
    testlib_allocation_sweep(make_submit_free, &bench);
    assert_null(worker_free(nullptr));
    bench_done(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_elsewhere_and_tells_here),
        cmocka_unit_test(a_full_queue_refuses_at_once),
        cmocka_unit_test(a_late_job_does_not_run),
        cmocka_unit_test(free_drains),
        cmocka_unit_test(done_may_free_the_worker),
        cmocka_unit_test(survives_want_of_memory),
    };
    return cmocka_run_group_tests_name("worker", tests, nullptr, nullptr);
}
