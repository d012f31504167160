#include "testlib/testlib.h"

#include "base/mem.h"
#include "base/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static bool all_zero(const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (bytes[i] != 0)
            return false;
    return true;
}

static void new_secrets_are_zero_and_writable(void **state)
{
    static const size_t lens[] = {1, 31, 32, 63, 64, 65, 4096, SECRET_MAX - 1, SECRET_MAX};
    struct error err = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
        CLEANUP(secret_free_at) struct secret *secret = POISON;

        assert_ok(secret_new(lens[i], &secret, &err));
        assert_int_equal(secret_len(secret), lens[i]);
        assert_true(all_zero(secret_data(secret), lens[i]));
        memset(secret_data(secret), 0xee, lens[i]);
        assert_int_equal(secret_slice(secret).len, lens[i]);
        assert_ptr_equal(secret_slice(secret).data, secret_data(secret));
    }
}

static void impossible_lengths_are_refused(void **state)
{
    struct secret *secret = POISON;
    struct error err = {0};

    (void)state;
    assert_fails(secret_new(0, &secret, &err), ERROR_INVALID);
    assert_fails(secret_new(SECRET_MAX + 1, &secret, &err), ERROR_EXHAUSTED);
    assert_fails(secret_new(SIZE_MAX, &secret, &err), ERROR_EXHAUSTED);
    assert_fails(secret_from(slice(nullptr, 0), &secret, &err), ERROR_INVALID);
    assert_fails(secret_random(0, &secret, &err), ERROR_INVALID);
    assert_ptr_equal(secret, POISON);
}

static void nothing_is_no_secret(void **state)
{
    (void)state;
    assert_null(secret_free(nullptr));
    assert_null(secret_data(nullptr));
    assert_int_equal(secret_len(nullptr), 0);
    assert_int_equal(secret_slice(nullptr).len, 0);
    secret_shorten(nullptr, 0);
    assert_true(secret_equal(nullptr, nullptr));
}

static void copies_are_equal_and_others_are_not(void **state)
{
    CLEANUP(secret_free_at) struct secret *a = nullptr;
    CLEANUP(secret_free_at) struct secret *b = nullptr;
    struct error err = {0};

    (void)state;
    assert_ok(secret_from(slice_str("correct horse"), &a, &err));
    assert_ok(secret_from(secret_slice(a), &b, &err));
    assert_true(slice_is(secret_slice(b), "correct horse"));
    assert_true(secret_equal(a, b));
    assert_false(secret_equal(a, nullptr));
    secret_data(b)[12] ^= 1;
    assert_false(secret_equal(a, b));
    secret_data(b)[12] ^= 1;
    secret_shorten(b, 12);
    assert_false(secret_equal(a, b));
}

static void random_secrets_differ(void **state)
{
    CLEANUP(secret_free_at) struct secret *a = nullptr;
    CLEANUP(secret_free_at) struct secret *b = nullptr;
    struct error err = {0};

    (void)state;
    assert_ok(secret_random(SECRET_MAX, &a, &err));
    assert_ok(secret_random(SECRET_MAX, &b, &err));
    assert_false(secret_equal(a, b));
    assert_false(all_zero(secret_data(a) + SECRET_MAX - 32, 32)); /* filled to the end */
}

#ifndef POSTERN_SANITIZED /* these look at freed bytes, which AddressSanitizer forbids */
static void freeing_erases(void **state)
{
    struct error err = {0};
    struct secret *secret;
    const uint8_t *data;

    (void)state;
    assert_ok(secret_new(1000, &secret, &err));
    data = secret_data(secret);
    memset(secret_data(secret), 0x77, 1000);
    secret_shorten(secret, 500);
    assert_int_equal(secret_len(secret), 500);
    assert_int_equal(data[499], 0x77);
    assert_true(all_zero(data + 500, 500));
    secret_shorten(secret, 600); /* never grows */
    assert_int_equal(secret_len(secret), 500);
    assert_null(secret_free(secret));
    assert_true(all_zero(data, 1000));
}
#endif

/* Random making, shortening and freeing: no two secrets ever share a byte, none loses its own, and
 * at the end all of the arena is there again. */
static void secrets_never_overlap(void **state)
{
    struct {
        struct secret *secret;
        uint8_t fill;
    } held[200] = {0};
    struct error err = {0};
    uint32_t seed = 42;
    size_t made = 0;

    (void)state;
    for (int round = 0; round < 20000; round++) {
        size_t i, len;

        seed = seed * 1664525 + 1013904223;
        i = (seed >> 8) % ARRAY_LEN(held);
        len = 1 + (seed >> 16) % (round % 50 == 0 ? SECRET_MAX : 500);
        if (held[i].secret) {
            struct slice bytes = secret_slice(held[i].secret);

            for (size_t at = 0; at < bytes.len; at++)
                assert_int_equal(bytes.data[at], held[i].fill);
            if (seed >> 31 && bytes.len > 1)
                secret_shorten(held[i].secret, bytes.len / 2);
            else
                held[i].secret = secret_free(held[i].secret);
            continue;
        }
        held[i].fill = (uint8_t)(round | 1);
        if (!secret_new(len, &held[i].secret, &err)) {
            assert_int_equal(err.class, ERROR_EXHAUSTED);
            continue;
        }
        made++;
        assert_true(all_zero(secret_data(held[i].secret), len));
        memset(secret_data(held[i].secret), held[i].fill, len);
    }
    assert_true(made > 5000);
    for (size_t i = 0; i < ARRAY_LEN(held); i++)
        secret_free(held[i].secret);
}

static void a_full_arena_is_exhausted_and_recovers(void **state)
{
    struct secret *held[SECRET_ARENA_SIZE / SECRET_MAX + 1];
    struct secret *extra = POISON;
    struct error err = {0};

    (void)state;
    for (int round = 0; round < 2; round++) { /* the second shows that nothing was lost */
        size_t count = 0;

        while (count < ARRAY_LEN(held) && secret_new(SECRET_MAX, &held[count], &err))
            count++;
        /* A secret takes whole units: 63 of 64.5 KiB fit into 4 MiB. */
        assert_int_equal(count, SECRET_ARENA_SIZE / SECRET_MAX);
        assert_fails(secret_new(SECRET_MAX, &extra, &err), ERROR_EXHAUSTED);
        assert_error_contains("arena");
        assert_ptr_equal(extra, POISON);
        /* The room of one is room for two halves, and the other way round. */
        held[5] = secret_free(held[5]);
        assert_ok(secret_new(SECRET_MAX / 2, &held[5], &err));
        assert_ok(secret_new(SECRET_MAX / 2, &extra, &err));
        secret_free(extra);
        secret_free(held[5]);
        assert_ok(secret_new(SECRET_MAX, &held[5], &err));
        secret_shorten(held[0], 1);
        assert_ok(secret_new(SECRET_MAX - 1024, &extra, &err)); /* in what shortening gave back */
        secret_free(extra);
        extra = POISON;
        for (size_t i = 0; i < count; i++)
            secret_free(held[i]);
    }
}

static void *secret_churn(void *arg)
{
    uintptr_t fill = (uintptr_t)arg;

    for (int i = 0; i < 3000; i++) {
        CLEANUP(secret_free_at) struct secret *secret = nullptr;
        struct error err = {0};
        size_t len = 1 + (size_t)i % 300;

        if (!secret_new(len, &secret, &err) || !all_zero(secret_data(secret), len))
            return nullptr;
        memset(secret_data(secret), (int)fill, len);
        for (size_t at = 0; at < len; at++)
            if (secret_data(secret)[at] != fill)
                return nullptr;
    }
    return arg;
}

static void threads_share_the_arena(void **state)
{
    pthread_t threads[4];

    (void)state;
    for (uintptr_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], nullptr, secret_churn, (void *)(i + 1)), 0);
    for (uintptr_t i = 0; i < ARRAY_LEN(threads); i++) {
        void *result = nullptr;

        assert_int_equal(pthread_join(threads[i], &result), 0);
        assert_ptr_equal(result, (void *)(i + 1));
    }
}

/* Runs `body` in a forked child; returns its wait status. */
static int in_child(void (*body)(void *arg), void *arg)
{
    int status;
    pid_t child;

    fflush(nullptr);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL); /* not the test framework's, nor the sanitizer's */
        body(arg);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void child_reads(void *arg)
{
    volatile const uint8_t *data = secret_data(arg);

    _exit(data[0] == 0x42 ? 10 : 11);
}

/* Exit code 0 if all is well, else the number of what is not. */
static void child_makes_its_own(void *arg)
{
    struct error err = {0};
    struct secret *own;

    if (!secret_new(100, &own, &err) || !all_zero(secret_data(own), 100))
        _exit(1);
    if (secret_data(own) == secret_data(arg))
        _exit(2);
    memset(secret_data(own), 0x11, 100);
    secret_free(arg); /* frees no unit of the child's arena, and touches nothing */
    struct secret *other;
    if (!secret_new(100, &other, &err) || secret_data(other) == secret_data(own))
        _exit(3);
    secret_free(own);
    secret_free(other);
    _exit(0);
}

static void children_inherit_no_secret(void **state)
{
    CLEANUP(secret_free_at) struct secret *secret = nullptr;
    struct error err = {0};
    int status;

    (void)state;
    assert_ok(secret_new(32, &secret, &err));
    memset(secret_data(secret), 0x42, 32);
    status = in_child(child_reads, secret);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGSEGV);
    status = in_child(child_makes_its_own, secret);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_int_equal(secret_data(secret)[31], 0x42); /* the parent's is as it was */
}

constexpr size_t FLAGS_MAX = 512; /* bytes of a line of smaps */

/* The flags of the mapping that holds `at` (proc_pid_smaps(5)). */
static void mapping_flags(const void *at, char flags[static FLAGS_MAX])
{
    FILE *smaps = fopen("/proc/self/smaps", "re");
    char line[FLAGS_MAX];
    bool inside = false;

    flags[0] = '\0';
    if (!smaps)
        fail_msg("cannot read smaps");
    while (fgets(line, sizeof(line), smaps)) {
        char *dash, *space;
        uintptr_t from = strtoul(line, &dash, 16);
        uintptr_t to = *dash == '-' ? strtoul(dash + 1, &space, 16) : 0;

        if (to > 0 && *space == ' ')
            inside = (uintptr_t)at >= from && (uintptr_t)at < to;
        else if (inside && strncmp(line, "VmFlags:", 8) == 0)
            snprintf(flags, FLAGS_MAX, "%s", line);
    }
    fclose(smaps);
}

static void the_arena_is_kept_out_of_cores_and_children(void **state)
{
    CLEANUP(secret_free_at) struct secret *secret = nullptr;
    struct error err = {0};
    const char *kind = secret_arena();
    char flags[FLAGS_MAX];

    (void)state;
    assert_ok(secret_random(32, &secret, &err));
    mapping_flags(secret_data(secret), flags);
    print_message("arena: %s, %s", kind, flags);
    testlib_assert_contains(flags, " dd", __FILE__, __LINE__); /* not dumped */
    testlib_assert_contains(flags, " dc", __FILE__, __LINE__); /* not copied by fork */
    if (strcmp(kind, "unlocked") != 0)
        testlib_assert_contains(flags, " lo", __FILE__, __LINE__);
    if (strcmp(kind, "memfd_secret") == 0) {
        /* Not even root reads it from outside. */
        int fd = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
        uint8_t byte;

        assert_true(fd >= 0);
        assert_int_equal(pread(fd, &flags[0], 1, (off_t)(uintptr_t)&flags[1]), 1);
        assert_int_equal(pread(fd, &byte, 1, (off_t)(uintptr_t)secret_data(secret)), -1);
        close(fd);
    }
}

static void child_overruns(void *arg)
{
    uint8_t *data = arg;

    /* Upwards over all of the arena: the guard page stops it before anything else is reached. */
    for (size_t i = 0; i <= SECRET_ARENA_SIZE; i++)
        ((volatile uint8_t *)data)[i] = 1;
    _exit(0);
}

static void child_overruns_own(void *arg)
{
    struct error err = {0};
    struct secret *own;

    (void)arg;
    if (secret_new(1, &own, &err))
        child_overruns(secret_data(own));
}

static void guards_stop_an_overrun(void **state)
{
    int status = in_child(child_overruns_own, nullptr);

    (void)state;
    /* In sanitizer builds, the poison behind the secret does already. */
    assert_false(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* Makes memfd_secret(2) fail as on a kernel that lacks it. Returns false if that was refused. */
static bool forbid_memfd_secret(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_memfd_secret, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {.len = ARRAY_LEN(filter), .filter = filter};

    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/* In a process of its own, since a process has one arena. Exit code 0 if all is well. */
static void child_without_memfd_secret(void *arg)
{
    struct error err = {0};
    char flags[FLAGS_MAX];
    struct secret *own;
    int status;

    (void)arg;
    if (!forbid_memfd_secret())
        _exit(1);
    if (strcmp(secret_arena(), "mlock") != 0)
        _exit(2);
    if (!secret_new(SECRET_MAX, &own, &err) || !all_zero(secret_data(own), SECRET_MAX))
        _exit(3);
    memset(secret_data(own), 0x42, SECRET_MAX);
    mapping_flags(secret_data(own), flags);
    if (!strstr(flags, " lo") || !strstr(flags, " dd") || !strstr(flags, " dc"))
        _exit(4);
    status = in_child(child_reads, own);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSEGV)
        _exit(5);
    secret_free(own);
    _exit(0);
}

static void without_memfd_secret_it_is_locked(void **state)
{
    int status = in_child(child_without_memfd_secret, nullptr);

    (void)state;
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* The same without the right to lock. */
static void child_without_lock(void *arg)
{
    const struct rlimit none = {0};
    struct error err = {0};
    struct secret *own;

    (void)arg;
    if (setrlimit(RLIMIT_MEMLOCK, &none) != 0 || (geteuid() == 0 && setuid(65534) != 0))
        _exit(1);
    if (strcmp(secret_arena(), "unlocked") != 0)
        _exit(2);
    if (!secret_new(SECRET_MAX, &own, &err) || !all_zero(secret_data(own), SECRET_MAX))
        _exit(3);
    secret_free(own);
    _exit(0);
}

static void without_the_right_to_lock_it_says_so(void **state)
{
    int status = in_child(child_without_lock, nullptr);

    (void)state;
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void child_protected(void *arg)
{
    struct rlimit limit;

    (void)arg;
    secret_protect_process();
    if (prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0)
        _exit(1);
    if (getrlimit(RLIMIT_CORE, &limit) != 0 || limit.rlim_cur != 0 || limit.rlim_max != 0)
        _exit(2);
    _exit(0);
}

static void protection_forbids_cores(void **state)
{
    (void)state;
#ifdef POSTERN_SANITIZED
    (void)child_protected;
    print_message("skipped: sanitizer builds stay dumpable\n");
    skip();
#else
    assert_int_equal(in_child(child_protected, nullptr), 0);
#endif
}

static bool sweep_secret(void *arg, struct error *err)
{
    CLEANUP(secret_free_at) struct secret *a = nullptr;
    CLEANUP(secret_free_at) struct secret *b = nullptr;

    (void)arg;
    return secret_random(32, &a, err) && secret_from(secret_slice(a), &b, err);
}

static void allocation_failures_are_reported(void **state)
{
    (void)state;
    testlib_allocation_sweep(sweep_secret, nullptr);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(new_secrets_are_zero_and_writable),
        cmocka_unit_test(impossible_lengths_are_refused),
        cmocka_unit_test(nothing_is_no_secret),
        cmocka_unit_test(copies_are_equal_and_others_are_not),
        cmocka_unit_test(random_secrets_differ),
#ifndef POSTERN_SANITIZED
        cmocka_unit_test(freeing_erases),
#endif
        cmocka_unit_test(secrets_never_overlap),
        cmocka_unit_test(a_full_arena_is_exhausted_and_recovers),
        cmocka_unit_test(threads_share_the_arena),
        cmocka_unit_test(children_inherit_no_secret),
        cmocka_unit_test(the_arena_is_kept_out_of_cores_and_children),
        cmocka_unit_test(guards_stop_an_overrun),
        cmocka_unit_test(without_memfd_secret_it_is_locked),
        cmocka_unit_test(without_the_right_to_lock_it_says_so),
        cmocka_unit_test(protection_forbids_cores),
        cmocka_unit_test(allocation_failures_are_reported),
    };

    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
