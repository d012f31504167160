#include "testlib/testlib.h"

#include "base/clock.h"
#include "base/mem.h"
#include "loop/loop.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

/* What happened, in order, one letter each. */
struct trace {
    struct loop *loop;
    char text[256];
    size_t len;
};

struct step {
    struct trace *trace;
    char letter;
    struct timer timer;
    struct task task;
    bool last; /* ends the loop */
};

static void note(void *arg)
{
    struct step *step = arg;
    step->trace->text[step->trace->len++] = step->letter;
    if (step->last)
        loop_stop(step->trace->loop);
}

static void step_init(struct step *step, struct trace *trace, char letter)
{
    *step = (struct step){.trace = trace, .letter = letter};
    step->task = (struct task){.run = note, .arg = step};
    timer_init(&step->timer, trace->loop, note, step);
}

static void timers_fire_in_order(void **state)
{
    (void)state;
    struct error err = {0};
    struct trace trace = {0};
    assert_ok(loop_new(&trace.loop, &err));
    struct step a, b, c, d, e;
    step_init(&a, &trace, 'a');
    step_init(&b, &trace, 'b');
    step_init(&c, &trace, 'c');
    step_init(&d, &trace, 'd');
    step_init(&e, &trace, 'e');
    uint64_t begin = clock_boot_ms();
    timer_start(&d.timer, 30);
    e.last = true;
    timer_start(&e.timer, 60);
    timer_start(&a.timer, 5);
    timer_start(&c.timer, 1);
    timer_start(&b.timer, 5);    /* equal: started later, fires later */
    timer_start(&c.timer, 20);   /* restarted */
    timer_start_at(&d.timer, 0); /* long past */
    assert_true(d.timer.running);
    loop_run(trace.loop);
    assert_string_equal(trace.text, "dabce");
    assert_true(clock_boot_ms() - begin >= 60);
    assert_false(a.timer.running);
    timer_stop(&a.timer); /* stopping a stopped one */
    loop_free(trace.loop);
}

/* The heap against a plain sorted list: thousands of random starts, restarts and stops. */
struct expectation {
    struct timer timer;
    uint64_t due, order;
    bool running;
    struct expectation_run *run;
};
struct expectation_run {
    struct loop *loop;
    struct expectation timers[300];
    uint64_t last_due, last_order;
    size_t fired, expected;
};

static void expect_next(void *arg)
{
    struct expectation *one = arg;
    struct expectation_run *run = one->run;
    assert_true(one->running);
    assert_true(one->due > run->last_due ||
                (one->due == run->last_due && one->order > run->last_order));
    run->last_due = one->due;
    run->last_order = one->order;
    one->running = false;
    if (++run->fired == run->expected)
        loop_stop(run->loop);
}

static void the_heap_keeps_order(void **state)
{
    (void)state;
    struct error err = {0};
    struct expectation_run *run = mem_new(1, sizeof *run);
    assert_non_null(run);
    assert_ok(loop_new(&run->loop, &err));
    uint64_t order = 0;
    uint32_t random = 12345;
    for (size_t i = 0; i < ARRAY_LEN(run->timers); i++) {
        run->timers[i].run = run;
        timer_init(&run->timers[i].timer, run->loop, expect_next, &run->timers[i]);
    }
    for (int i = 0; i < 20'000; i++) {
        random = random * 1664525u + 1013904223u;
        struct expectation *one = &run->timers[(random >> 8) % ARRAY_LEN(run->timers)];
        random = random * 1664525u + 1013904223u;
        if ((random >> 8) % 4 == 0) {
            timer_stop(&one->timer);
            one->running = false;
        } else {
            one->due = 1 + (random >> 12) % 100; /* all past, many equal */
            one->order = ++order;
            one->running = true;
            timer_start_at(&one->timer, one->due);
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(run->timers); i++)
        run->expected += run->timers[i].running;
    assert_true(run->expected > 100);
    loop_run(run->loop);
    assert_int_equal(run->fired, run->expected);
    loop_free(run->loop);
    mem_free(run);
}

struct restless {
    struct loop *loop;
    struct timer again, other, end;
    int count;
};

static void restart_at_once(void *arg)
{
    struct restless *r = arg;
    r->count++;
    timer_start(&r->again, 0);
}

static void stop_loop(void *arg)
{
    loop_stop(arg);
}

static void a_restless_timer_starves_nobody(void **state)
{
    (void)state;
    struct error err = {0};
    struct restless r = {0};
    assert_ok(loop_new(&r.loop, &err));
    timer_init(&r.again, r.loop, restart_at_once, &r);
    timer_init(&r.end, r.loop, stop_loop, r.loop);
    timer_start(&r.again, 0);
    timer_start(&r.end, 20);
    loop_run(r.loop);
    assert_true(r.count > 1);
    loop_free(r.loop);
    timer_stop(&r.again); /* harmless after the loop's end */
}

static void free_own_timer(void *arg)
{
    struct restless *r = arg;
    loop_stop(r->loop);
    mem_free(r);
}

static void a_timer_may_free_itself(void **state)
{
    (void)state;
    struct error err = {0};
    struct restless *r = mem_new(1, sizeof *r);
    struct loop *loop;
    assert_ok(loop_new(&loop, &err));
    r->loop = loop;
    timer_init(&r->again, loop, free_own_timer, r);
    timer_start(&r->again, 1);
    loop_run(loop);
    loop_free(loop);
}

static void tasks_run_in_order_and_once(void **state)
{
    (void)state;
    struct error err = {0};
    struct trace trace = {0};
    assert_ok(loop_new(&trace.loop, &err));
    struct step a, b, c, d;
    step_init(&a, &trace, 'a');
    step_init(&b, &trace, 'b');
    step_init(&c, &trace, 'c');
    step_init(&d, &trace, 'd');
    c.last = true;
    loop_post(trace.loop, &a.task);
    loop_post(trace.loop, &d.task);
    loop_post(trace.loop, &b.task);
    loop_post(trace.loop, &a.task); /* already posted */
    loop_post(trace.loop, &c.task);
    loop_unpost(trace.loop, &d.task);
    loop_unpost(trace.loop, &d.task);
    assert_string_equal(trace.text, ""); /* nothing inside the call */
    loop_run(trace.loop);
    assert_string_equal(trace.text, "abc");
    loop_post(trace.loop, &d.task);
    loop_post(trace.loop, &a.task);
    loop_unpost(trace.loop, &a.task); /* the last of the queue */
    loop_post(trace.loop, &b.task);
    loop_free(trace.loop); /* runs what is left */
    assert_string_equal(trace.text, "abcdb");
}

constexpr int POSTS = 2000;

struct posting {
    struct loop *loop;
    struct task tasks[POSTS];
    int ran; /* the loop's thread alone: TSan watches */
};

static void count_post(void *arg)
{
    struct posting *posting = arg;
    if (++posting->ran == POSTS)
        loop_stop(posting->loop);
}

static void *post_all(void *arg)
{
    struct posting *posting = arg;
    for (int i = 0; i < POSTS; i++) {
        posting->tasks[i] = (struct task){.run = count_post, .arg = posting};
        loop_post(posting->loop, &posting->tasks[i]);
    }
    return nullptr;
}

static void another_thread_may_post(void **state)
{
    (void)state;
    struct error err = {0};
    struct posting *posting = mem_new(1, sizeof *posting);
    assert_ok(loop_new(&posting->loop, &err));
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, nullptr, post_all, posting), 0);
    loop_run(posting->loop);
    assert_int_equal(posting->ran, POSTS);
    pthread_join(thread, nullptr);
    loop_free(posting->loop);
    mem_free(posting);
}

struct caught {
    struct loop *loop;
    int number, count;
};

static void on_signal(void *arg, int number)
{
    struct caught *caught = arg;
    caught->number = number;
    caught->count++;
    loop_stop(caught->loop);
}

static void signals_arrive_on_the_loop(void **state)
{
    (void)state;
    struct error err = {0};
    struct caught first = {0}, second = {0};
    struct loop *loop;
    assert_ok(loop_new(&loop, &err));
    first.loop = second.loop = loop;
    assert_ok(loop_on_signal(loop, SIGHUP, on_signal, &first, &err));
    assert_ok(loop_on_signal(loop, SIGTERM, on_signal, &first, &err));
    kill(getpid(), SIGHUP);
    loop_run(loop);
    assert_int_equal(first.number, SIGHUP);
    assert_ok(loop_on_signal(loop, SIGTERM, on_signal, &second, &err)); /* replaces */
    kill(getpid(), SIGTERM);
    loop_run(loop);
    assert_int_equal(second.number, SIGTERM);
    assert_int_equal(first.count, 1);
    assert_fails(loop_on_signal(loop, SIGKILL, on_signal, &first, &err), ERROR_INVALID);
    assert_fails(loop_on_signal(loop, 0, on_signal, &first, &err), ERROR_INVALID);
    assert_fails(loop_on_signal(loop, 4096, on_signal, &first, &err), ERROR_INVALID);
    loop_free(loop);
}

static void stop_before_run_counts(void **state)
{
    (void)state;
    struct error err = {0};
    struct loop *loop;
    assert_ok(loop_new(&loop, &err));
    loop_stop(loop);
    loop_run(loop); /* returns, or the test's time runs out */
    loop_stop(loop);
    loop_free(loop);
    assert_null(loop_free(nullptr));
}

static bool make_and_free(void *arg, struct error *err)
{
    (void)arg;
    struct loop *loop = POISON;
    if (!loop_new(&loop, err)) {
        assert_ptr_equal(loop, POISON);
        return false;
    }
    struct caught caught = {.loop = loop};
    bool ok = loop_on_signal(loop, SIGHUP, on_signal, &caught, err);
    loop_free(loop);
    return ok;
}

static void survives_want_of_memory(void **state)
{
    (void)state;
    testlib_allocation_sweep(make_and_free, nullptr);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timers_fire_in_order),
        cmocka_unit_test(the_heap_keeps_order),
        cmocka_unit_test(a_restless_timer_starves_nobody),
        cmocka_unit_test(a_timer_may_free_itself),
        cmocka_unit_test(tasks_run_in_order_and_once),
        cmocka_unit_test(another_thread_may_post),
        cmocka_unit_test(signals_arrive_on_the_loop),
        cmocka_unit_test(stop_before_run_counts),
        cmocka_unit_test(survives_want_of_memory),
    };
    return cmocka_run_group_tests_name("loop", tests, nullptr, nullptr);
}
