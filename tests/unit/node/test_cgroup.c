#include "testlib/testlib.h"

#include "base/mem.h"
#include "cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void parses_the_v2_line(void **state)
{
    (void)state;
    static const struct {
        const char *file, *path;
    } good[] = {
        {"0::/pods/billing\n", "/pods/billing"},
        {"0::/pods/billing", "/pods/billing"},
        {"12:cpu:/other\n1:name=systemd:/x\n0::/a\n", "/a"},
        {"0::/a\n3:net_cls,net_prio:/0::/evil\n", "/a"},
        {"0::/with space/and:colon\n", "/with space/and:colon"},
        {"0::/a..b/...\n", "/a..b/..."},
    };
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        char path[CGROUP_PATH_SIZE];
        struct error err = {0};
        assert_ok(cgroup_parse(slice_str(good[i].file), path, &err));
        assert_string_equal(path, good[i].path);
    }
}

static void refuses_what_is_no_plain_path(void **state)
{
    (void)state;
    static const struct {
        const char *file;
        enum error_class class;
        const char *words;
    } bad[] = {
        {"", ERROR_UNAVAILABLE, "no cgroup v2"},
        {"1:name=systemd:/pods/billing\n", ERROR_UNAVAILABLE, "no cgroup v2"},
        {"10::/pods/billing\n", ERROR_UNAVAILABLE, "no cgroup v2"},
        {"0::/a\n0::/b\n", ERROR_INVALID, "two lines"},
        {"0::/../pods/billing\n", ERROR_INVALID, "namespace"},
        {"0::/..\n", ERROR_INVALID, "namespace"},
        {"0::/\n", ERROR_INVALID, "below the root"},
        {"0::\n", ERROR_INVALID, "below the root"},
        {"0::pods\n", ERROR_INVALID, "below the root"},
        {"0::/pods/../billing\n", ERROR_INVALID, "\"..\""},
        {"0::/pods/./billing\n", ERROR_INVALID, "\"..\""},
        {"0::/pods//billing\n", ERROR_INVALID, "empty segment"},
        {"0::/pods/billing/\n", ERROR_INVALID, "empty segment"},
        {"0::/pods/billing (deleted)\n", ERROR_INVALID, "deleted"},
        {"0::/pods/bil\rling\n", ERROR_INVALID, "control"},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        char path[CGROUP_PATH_SIZE] = "poison";
        struct error err = {0};
        assert_fails(cgroup_parse(slice_str(bad[i].file), path, &err), bad[i].class);
        assert_error_contains(bad[i].words);
        assert_string_equal(path, "poison");
    }
}

static void refuses_long_paths_and_nuls(void **state)
{
    (void)state;
    char file[CGROUP_PATH_SIZE + 16], path[CGROUP_PATH_SIZE] = "poison";
    struct error err = {0};
    memset(file, 'a', sizeof(file));
    mem_copy(file, "0::/", 4);
    assert_fails(cgroup_parse(slice(file, 3 + CGROUP_PATH_SIZE), path, &err), ERROR_INVALID);
    assert_ok(cgroup_parse(slice(file, 3 + CGROUP_PATH_SIZE - 1), path, &err));
    assert_fails(cgroup_parse(slice("0::/a\0b\n", 8), path, &err), ERROR_INVALID);
}

static void matches_a_path_or_what_is_below(void **state)
{
    (void)state;
    assert_true(cgroup_within("/pods/a", "/pods/a"));
    assert_true(cgroup_within("/pods/a/b/c", "/pods/a"));
    assert_false(cgroup_within("/pods/ab", "/pods/a"));
    assert_false(cgroup_within("/pods", "/pods/a"));
    assert_false(cgroup_within("/x/pods/a", "/pods/a"));
}

static void reads_the_pid_of_a_pidfd(void **state)
{
    (void)state;
    pid_t pid = -7;
    struct error err = {0};
    assert_ok(
        pidfd_parse(slice_str("pos:\t0\nflags:\t02\nPid:\t1234\nNSpid:\t1234\n"), &pid, &err));
    assert_int_equal(pid, 1234);
    static const char *const bad[] = {
        "",         "pos:\t0\n",   "Pid:\t-1\n",  "Pid:\t0\n", "Pid:\t99999999999999999999\n",
        "Pid:\t\n", "Pid:\t12x\n", "NSpid:\t5\n", "Pid: 5\n",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        pid = -7;
        assert_fails(pidfd_parse(slice_str(bad[i]), &pid, &err), ERROR_NOT_FOUND);
        assert_int_equal(pid, -7);
    }
}

/* A child that waits; *ret_pidfd names it. */
static pid_t start_child(int *ret_pidfd)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        pause();
        _exit(0);
    }
    *ret_pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    assert_true(*ret_pidfd >= 0);
    return pid;
}

static void end_child(pid_t pid)
{
    int status;
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
}

static void a_dead_process_is_nobody(void **state)
{
    (void)state;
    int pidfd;
    char path[CGROUP_PATH_SIZE] = "poison";
    struct error err = {0};
    pid_t pid = start_child(&pidfd), seen = -7;
    end_child(pid);
    assert_fails(cgroup_of_pidfd(pidfd, path, &seen, &err), ERROR_UNAUTHENTICATED);
    assert_string_equal(path, "poison");
    assert_int_equal(seen, -7);
    close(pidfd);
}

/* Where this machine keeps cgroup v2 and lets us make one; null: nowhere. */
static const char *v2_root(void)
{
    static const char *const roots[] = {"/sys/fs/cgroup/unified", "/sys/fs/cgroup"};
    for (size_t i = 0; i < ARRAY_LEN(roots); i++) {
        char path[128];
        (void)snprintf(path, sizeof(path), "%s/cgroup.procs", roots[i]);
        if (access(path, W_OK) == 0)
            return roots[i];
    }
    return nullptr;
}

static void a_real_cgroup_is_told(void **state)
{
    (void)state;
    const char *root = v2_root();
    char folder[256], procs[300], path[CGROUP_PATH_SIZE], number[16];
    if (!root) {
        print_message("skipped: no writable cgroup v2 here\n");
        skip();
    }
    (void)snprintf(folder, sizeof(folder), "%s/postern-test-%d", root, (int)getpid());
    if (mkdir(folder, 0755) != 0) {
        print_message("skipped: cannot make %s: %s\n", folder, strerror(errno));
        skip();
    }
    int pidfd;
    pid_t pid = start_child(&pidfd), seen = 0;
    (void)snprintf(procs, sizeof(procs), "%s/cgroup.procs", folder);
    (void)snprintf(number, sizeof(number), "%d", (int)pid);
    int fd = open(procs, O_WRONLY | O_CLOEXEC);
    bool moved = fd >= 0 && write(fd, number, strlen(number)) > 0;
    close(fd);
    struct error err = {0};
    bool ok = moved && cgroup_of_pidfd(pidfd, path, &seen, &err);
    end_child(pid);
    close(pidfd);
    rmdir(folder);
    assert_true(moved);
    assert_ok(ok);
    assert_int_equal(seen, pid);
    assert_string_equal(path, folder + strlen(root));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parses_the_v2_line),
        cmocka_unit_test(refuses_what_is_no_plain_path),
        cmocka_unit_test(refuses_long_paths_and_nuls),
        cmocka_unit_test(matches_a_path_or_what_is_below),
        cmocka_unit_test(reads_the_pid_of_a_pidfd),
        cmocka_unit_test(a_dead_process_is_nobody),
        cmocka_unit_test(a_real_cgroup_is_told),
    };
    return cmocka_run_group_tests_name("cgroup", tests, nullptr, nullptr);
}
