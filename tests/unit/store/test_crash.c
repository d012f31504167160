/* kill -9 of a process that writes, at instants spread over its whole transaction: what it was told
 * is committed is there, and nothing is there by halves. */
#include "fixture.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* Shared with the child. A transaction n adds ROWS rows of size n, so a half one shows. */
struct progress {
    atomic_uint_fast64_t begun;     /* number of the transaction that runs or ran last */
    atomic_uint_fast64_t committed; /* … that store_transact_now reported */
    atomic_bool inside;             /* in the body, some rows written */
};

enum { ROUNDS = 60, ROWS = 8, VALUE_SIZE = 3000 };

struct writer {
    struct progress *progress;
    uint64_t number;
};

static bool write_rows(struct tx *tx, void *arg, struct error *err)
{
    struct writer *writer = arg;
    static const uint8_t value[VALUE_SIZE];
    writer->progress->begun = writer->number;
    for (uint64_t i = 0; i < ROWS; i++) {
        char name[48];
        (void)snprintf(name, sizeof(name), "%llu/%llu", (unsigned long long)writer->number,
                       (unsigned long long)i);
        if (!tx_exec(tx, "INSERT INTO item (name, value, size) VALUES ($1, $2, $3)",
                     SQL_PARAMS(sql_text(name), sql_blob(SLICE_OF(value)),
                                sql_int((int64_t)writer->number)),
                     err))
            return false;
        writer->progress->inside = true;
    }
    return true;
}

[[noreturn]] static void child_main(struct fixture *f, struct progress *progress, uint64_t first)
{
    struct error err = {0};
    struct store *store;
    if (!store_open(nullptr, &f->options, &store, &err))
        _exit(1);
    for (struct writer writer = {progress, first};; writer.number++) {
        progress->inside = false;
        if (!store_transact_now(store, write_rows, &writer, 0, &err))
            _exit(2);
        progress->committed = writer.number;
    }
}

struct tally {
    unsigned inside;
    unsigned between;
    unsigned kept_unreported;
};

static void one_round(struct fixture *f, struct progress *progress, uint64_t *random,
                      uint64_t *last, struct tally *tally)
{
    int status;
    uint64_t before = progress->begun;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        child_main(f, progress, *last + 1);
    /* Once it writes, some time within a few transactions. */
    while (progress->begun == before && waitpid(child, &status, WNOHANG) == 0)
        usleep(100);
    usleep((useconds_t)(fixture_random(random) % 12'000));
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    if (progress->inside && progress->committed < progress->begun)
        tally->inside++;
    else
        tally->between++;

    fixture_open_now(f);
    uint64_t highest = (uint64_t)fixture_count(f, "SELECT coalesce(max(size), 0) FROM item");
    int64_t rows = fixture_count(f, "SELECT count(*) FROM item");
    /* All that was reported, at most the one that was begun besides, and each of them whole. */
    assert_true(highest >= progress->committed && highest <= progress->begun);
    assert_int_equal(rows, highest * ROWS);
    assert_int_equal(fixture_count(f, "SELECT count(DISTINCT size) FROM item"), highest);
    if (highest > progress->committed)
        tally->kept_unreported++;
    fixture_close(f);
    *last = highest;
    progress->begun = highest;
    progress->committed = highest;
}

static void test_kill(void **state)
{
    struct fixture *f = *state;
    uint64_t random = fixture_seed();
    uint64_t last = 0;
    struct tally tally = {0};
    struct progress *progress =
        mmap(nullptr, sizeof(*progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(progress != MAP_FAILED);
    fixture_open_now(f);
    fixture_close(f);
    for (int i = 0; i < ROUNDS; i++)
        one_round(f, progress, &random, &last, &tally);
    print_message("%d kills: %u inside a transaction, %u between; %u commits kept that nobody was "
                  "told of; %llu transactions\n",
                  ROUNDS, tally.inside, tally.between, tally.kept_unreported,
                  (unsigned long long)last);
    assert_true(tally.inside > 0);
    assert_true(last > 0);
    assert_int_equal(munmap(progress, sizeof(*progress)), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_kill, fixture_setup, fixture_teardown),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
