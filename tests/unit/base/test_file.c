#include "testlib/testlib.h"

#include "base/file.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Each test has a fresh folder as its state, and `path` inside of it. */
struct file_state {
    char folder[64];
    char path[128];
};

static int setup(void **state)
{
    struct file_state *files = mem_new(1, sizeof(*files));

    assert_non_null(files);
    testlib_folder(files->folder);
    snprintf(files->path, sizeof(files->path), "%s/file", files->folder);
    *state = files;
    return 0;
}

static int teardown(void **state)
{
    struct file_state *files = *state;

    chmod(files->folder, 0700);
    testlib_folder_remove(files->folder);
    mem_free(files);
    return 0;
}

static void put(const char *path, struct slice bytes)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes.data, bytes.len), bytes.len);
    close(fd);
}

static void assert_holds(const char *path, const char *text)
{
    CLEANUP(buf_done) struct buf buf;
    struct error err = {0};

    buf_init(&buf, 1 << 20);
    assert_ok(file_read(path, &buf, &err));
    assert_true(slice_is(buf_slice(&buf), text));
}

/* How many entries the folder has. */
static size_t entries(const char *folder)
{
    DIR *dir = opendir(folder);
    size_t count = 0;

    if (!dir)
        fail_msg("cannot list %s", folder);
    for (const struct dirent *entry = readdir(dir); entry; entry = readdir(dir))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            count++;
    closedir(dir);
    return count;
}

static void reading_appends_every_size(void **state)
{
    struct file_state *files = *state;
    static uint8_t bytes[40000];
    static const size_t lens[] = {0, 1, 16383, 16384, 16385, 32768, 40000};
    struct error err = {0};

    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(i % 253);
    for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
        CLEANUP(buf_done) struct buf buf;

        put(files->path, slice(bytes, lens[i]));
        buf_init(&buf, lens[i] + 1); /* exactly enough */
        buf_put_u8(&buf, 'k');
        assert_ok(file_read(files->path, &buf, &err));
        assert_int_equal(buf.len, lens[i] + 1);
        assert_int_equal(buf.data[0], 'k');
        assert_memory_equal(buf.data + 1, bytes, lens[i]);
        if (lens[i] == 0)
            continue;
        buf_done(&buf);
        buf_init(&buf, lens[i] - 1);
        assert_fails(file_read(files->path, &buf, &err), ERROR_EXHAUSTED);
        assert_error_contains(files->path);
        assert_int_equal(buf_slice(&buf).len, 0);
    }
}

static void unreadable_files_are_named(void **state)
{
    struct file_state *files = *state;
    CLEANUP(buf_done) struct buf buf;
    struct secret *secret = POISON;
    struct error err = {0};

    buf_init(&buf, 100);
    assert_fails(file_read(files->path, &buf, &err), ERROR_NOT_FOUND);
    assert_error_contains(files->path);
    assert_int_equal(err.domain, ERROR_DOMAIN_ERRNO);
    assert_int_equal(err.code, ENOENT);
    assert_fails(file_read(files->folder, &buf, &err), ERROR_INVALID); /* a folder */
    assert_error_contains(files->folder);
    assert_fails(file_read("/proc/self/mem", &buf, &err), ERROR_UNAVAILABLE); /* EIO at page 0 */
    assert_ok(buf_ok(&buf, &err));
    assert_fails(file_read_secret(files->path, &secret, &err), ERROR_NOT_FOUND);
    assert_fails(file_read_secret(files->folder, &secret, &err), ERROR_INVALID);
    assert_error_contains(files->folder);
    assert_ptr_equal(secret, POISON);
}

static void links_are_followed_when_reading(void **state)
{
    struct file_state *files = *state;
    char link[128];

    snprintf(link, sizeof(link), "%s/link", files->folder);
    put(files->path, slice_str("behind"));
    assert_int_equal(symlink("file", link), 0);
    assert_holds(link, "behind");
}

static void files_of_unknown_size_are_read(void **state)
{
    CLEANUP(buf_done) struct buf buf;
    CLEANUP(secret_free_at) struct secret *secret = nullptr;
    struct error err = {0};

    (void)state;
    buf_init(&buf, 1 << 20);
    assert_ok(file_read("/proc/self/status", &buf, &err)); /* st_size is 0 */
    assert_true(buf.len > 100);
    assert_ok(file_read_secret("/proc/self/cmdline", &secret, &err));
    assert_true(secret_len(secret) > 1);
}

static void secrets_are_read_up_to_their_limit(void **state)
{
    struct file_state *files = *state;
    static uint8_t bytes[SECRET_MAX + 1];
    static const size_t lens[] = {1, 32, 65536, SECRET_MAX - 1, SECRET_MAX};
    struct secret *none = POISON;
    struct error err = {0};

    memset(bytes, 0x5c, sizeof(bytes));
    for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
        CLEANUP(secret_free_at) struct secret *secret = nullptr;

        put(files->path, slice(bytes, lens[i]));
        assert_ok(file_read_secret(files->path, &secret, &err));
        assert_int_equal(secret_len(secret), lens[i]);
        assert_memory_equal(secret_data(secret), bytes, lens[i]);
    }
    put(files->path, slice(bytes, SECRET_MAX + 1));
    assert_fails(file_read_secret(files->path, &none, &err), ERROR_EXHAUSTED);
    assert_error_contains(files->path);
    assert_fails(file_read_secret("/dev/zero", &none, &err), ERROR_EXHAUSTED);
    put(files->path, slice(nullptr, 0));
    assert_fails(file_read_secret(files->path, &none, &err), ERROR_INVALID);
    assert_error_contains("empty");
    assert_fails(file_read_secret("/dev/null", &none, &err), ERROR_INVALID);
    assert_ptr_equal(none, POISON);
}

static void writing_replaces_whole_files(void **state)
{
    struct file_state *files = *state;
    mode_t umask_before = umask(077);
    struct error err = {0};
    struct stat st;

    assert_ok(file_write_atomic(files->path, slice_str("first"), 0644, &err));
    assert_holds(files->path, "first");
    assert_int_equal(stat(files->path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0644); /* whatever the umask is */
    assert_ok(file_write_atomic(files->path, slice_str("2nd"), 0600, &err));
    assert_holds(files->path, "2nd");
    assert_int_equal(stat(files->path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_ok(file_write_atomic(files->path, slice(nullptr, 0), 0600, &err));
    assert_holds(files->path, "");
    assert_int_equal(entries(files->folder), 1);
    umask(umask_before);
}

static void writing_takes_relative_paths(void **state)
{
    struct file_state *files = *state;
    struct error err = {0};
    char before[PATH_MAX];

    assert_non_null(getcwd(before, sizeof(before)));
    assert_int_equal(chdir(files->folder), 0);
    assert_ok(file_write_atomic("file", slice_str("here"), 0600, &err));
    assert_ok(file_write_atomic("./other", slice_str("there"), 0600, &err));
    assert_holds("file", "here");
    assert_holds("other", "there");
    assert_int_equal(chdir(before), 0);
}

static void writing_replaces_a_link_not_its_target(void **state)
{
    struct file_state *files = *state;
    struct error err = {0};
    char target[128];
    struct stat st;

    snprintf(target, sizeof(target), "%s/target", files->folder);
    put(target, slice_str("theirs"));
    assert_int_equal(symlink(target, files->path), 0);
    assert_ok(file_write_atomic(files->path, slice_str("ours"), 0600, &err));
    assert_holds(target, "theirs");
    assert_int_equal(lstat(files->path, &st), 0);
    assert_true(S_ISREG(st.st_mode));
}

static void paths_that_name_no_file_are_refused(void **state)
{
    struct file_state *files = *state;
    static const char *const names[] = {"", "/", "/tmp/", "/tmp/.", "..", "/tmp/.."};
    char text[PATH_MAX + 16];
    struct error err = {0};

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        assert_fails(file_write_atomic(names[i], slice_str("x"), 0600, &err), ERROR_INVALID);
    memset(text, 'n', sizeof(text));
    text[NAME_MAX] = '\0';
    assert_fails(file_write_atomic(text, slice_str("x"), 0600, &err), ERROR_INVALID);
    memset(text, '/', sizeof(text));
    text[sizeof(text) - 2] = 'n';
    text[sizeof(text) - 1] = '\0';
    assert_fails(file_write_atomic(text, slice_str("x"), 0600, &err), ERROR_INVALID);
    snprintf(text, sizeof(text), "%s/absent/file", files->folder);
    assert_fails(file_write_atomic(text, slice_str("x"), 0600, &err), ERROR_NOT_FOUND);
    assert_error_contains(text);
    put(files->path, slice_str("x"));
    snprintf(text, sizeof(text), "%s/below", files->path); /* a file as folder */
    assert_fails(file_write_atomic(text, slice_str("x"), 0600, &err), ERROR_INVALID);
}

/* A folder in the place of the file: the rename is refused, and nothing is left. */
static void a_failed_rename_leaves_nothing(void **state)
{
    struct file_state *files = *state;
    struct error err = {0};

    assert_int_equal(mkdir(files->path, 0700), 0);
    assert_fails(file_write_atomic(files->path, slice_str("x"), 0600, &err), ERROR_INVALID);
    assert_error_contains(files->path);
    assert_int_equal(entries(files->folder), 1);
}

static void leftovers_of_a_crash_are_replaced(void **state)
{
    struct file_state *files = *state;
    struct error err = {0};
    char left[128], other[128];
    struct stat st;

    snprintf(left, sizeof(left), "%s/.file.new", files->folder);
    snprintf(other, sizeof(other), "%s/other", files->folder);
    put(left, slice_str("half a secr"));
    assert_ok(file_write_atomic(files->path, slice_str("whole"), 0600, &err));
    assert_holds(files->path, "whole");
    assert_int_equal(entries(files->folder), 1);

    /* A second name for another file: not written through. */
    put(other, slice_str("theirs"));
    assert_int_equal(link(other, left), 0);
    assert_ok(file_write_atomic(files->path, slice_str("again"), 0600, &err));
    assert_holds(other, "theirs");
    assert_holds(files->path, "again");
    assert_int_equal(entries(files->folder), 2);

    /* A link is not followed. */
    assert_int_equal(symlink(other, left), 0);
    assert_false(file_write_atomic(files->path, slice_str("no"), 0600, &err));
    assert_error_contains(".file.new");
    assert_holds(other, "theirs");
    assert_holds(files->path, "again");
    assert_int_equal(lstat(left, &st), 0);
    unlink(left);

    /* Nor does a pipe block. */
    assert_int_equal(mkfifo(left, 0600), 0);
    assert_false(file_write_atomic(files->path, slice_str("no"), 0600, &err));
    unlink(left);
}

/* One thread's share of `concurrent_writers_stay_whole`. */
static void *write_many(void *arg)
{
    const struct file_state *files = arg;
    static _Atomic unsigned next;
    unsigned mine = next++;
    static const size_t lens[] = {10, 70000, 3, 20000}; /* short ones race the most */
    uint8_t *bytes = mem_new(lens[mine % 4], 1);

    if (!bytes)
        return nullptr;
    memset(bytes, (int)('a' + mine % 4), lens[mine % 4]);
    for (int i = 0; i < 300; i++) {
        struct error err = {0};

        if (!file_write_atomic(files->path, slice(bytes, lens[mine % 4]), 0600, &err)) {
            print_error("%s\n", err.message);
            mem_free(bytes);
            return nullptr;
        }
    }
    mem_free(bytes);
    return arg;
}

static void concurrent_writers_stay_whole(void **state)
{
    struct file_state *files = *state;
    pthread_t threads[8];
    struct error err = {0};

    /* It is there from the start, so no read may miss it, however late the writers come. */
    assert_ok(file_write_atomic(files->path, slice_str("aaa"), 0600, &err));
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], nullptr, write_many, files), 0);
    for (int i = 0; i < 500; i++) {
        CLEANUP(buf_done) struct buf buf;

        buf_init(&buf, 1 << 20);
        assert_ok(file_read(files->path, &buf, &err));
        assert_true(buf.len == 10 || buf.len == 70000 || buf.len == 3 || buf.len == 20000);
        for (size_t at = 1; at < buf.len; at++)
            assert_int_equal(buf.data[at], buf.data[0]);
    }
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        void *result = nullptr;

        assert_int_equal(pthread_join(threads[i], &result), 0);
        assert_ptr_equal(result, files);
    }
    assert_int_equal(entries(files->folder), 1);
}

/* Killed at any instant: old or new, whole; and no more than one file is left beside it. */
static void kills_leave_old_or_new(void **state)
{
    struct file_state *files = *state;
    static uint8_t bytes[200000];
    struct error err = {0};
    size_t leftovers = 0;

    memset(bytes, 'o', sizeof(bytes));
    assert_ok(file_write_atomic(files->path, SLICE_OF(bytes), 0600, &err));
    for (int round = 0; round < 50; round++) {
        CLEANUP(buf_done) struct buf buf;
        pid_t child;

        fflush(nullptr);
        child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            for (int i = 0;; i++) {
                memset(bytes, 'a' + i % 26, sizeof(bytes));
                if (!file_write_atomic(files->path, SLICE_OF(bytes), 0600, &err))
                    _exit(1);
            }
        }
        usleep((useconds_t)(500 + round * 97));
        assert_int_equal(kill(child, SIGKILL), 0);
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        buf_init(&buf, 1 << 20);
        assert_ok(file_read(files->path, &buf, &err));
        assert_int_equal(buf.len, sizeof(bytes));
        for (size_t at = 1; at < buf.len; at++)
            if (buf.data[at] != buf.data[0])
                fail_msg("torn at %zu", at);
        assert_in_range(entries(files->folder), 1, 2);
        leftovers += entries(files->folder) - 1;
    }
    print_message("50 kills, %zu of them inside a write\n", leftovers);
    assert_ok(file_write_atomic(files->path, slice_str("x"), 0600, &err));
    assert_int_equal(entries(files->folder), 1);
}

/* Runs `body` in a child without rights; returns its exit code. */
static int unprivileged(int (*body)(const struct file_state *files), const struct file_state *files)
{
    int status;
    pid_t child;

    fflush(nullptr);
    child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(geteuid() == 0 && setuid(65534) != 0 ? 99 : body(files));
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int write_denied(const struct file_state *files)
{
    struct error err = {0};

    if (file_write_atomic(files->path, slice_str("new"), 0600, &err))
        return 1;
    if (err.class != ERROR_DENIED || !strstr(err.message, files->path))
        return 2;
    if (folder_make(files->path, 0700, &err) || err.class != ERROR_CONFLICT)
        return 3;
    return 0;
}

static void a_read_only_folder_is_denied(void **state)
{
    struct file_state *files = *state;

    put(files->path, slice_str("old"));
    assert_int_equal(chmod(files->folder, 0555), 0);
    assert_int_equal(unprivileged(write_denied, files), 0);
    assert_int_equal(chmod(files->folder, 0700), 0);
    assert_holds(files->path, "old");
    assert_int_equal(entries(files->folder), 1);
}

static void a_full_disk_keeps_the_old_file(void **state)
{
    struct file_state *files = *state;
    static uint8_t bytes[256 * 1024];
    struct error err = {0};

    if (unshare(CLONE_NEWNS) != 0 ||
        mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("full", files->folder, "tmpfs", 0, "size=128k") != 0) {
        print_message("skipped: a full disk needs the right to mount one\n");
        skip();
    }
    assert_ok(file_write_atomic(files->path, slice_str("old"), 0600, &err));
    assert_fails(file_write_atomic(files->path, SLICE_OF(bytes), 0600, &err), ERROR_EXHAUSTED);
    assert_error_contains(files->path);
    assert_int_equal(err.code, ENOSPC);
    assert_holds(files->path, "old");
    assert_int_equal(entries(files->folder), 1);
    assert_ok(file_write_atomic(files->path, slice_str("new"), 0600, &err)); /* and room again */
    assert_int_equal(mount(nullptr, files->folder, nullptr, MS_REMOUNT | MS_RDONLY, nullptr), 0);
    assert_fails(file_write_atomic(files->path, slice_str("x"), 0600, &err), ERROR_DENIED);
    assert_holds(files->path, "new");
    assert_int_equal(umount(files->folder), 0);
}

static void folders_are_made_once(void **state)
{
    struct file_state *files = *state;
    mode_t umask_before = umask(077);
    struct error err = {0};
    struct stat st;
    char below[160], link[160];

    assert_ok(folder_make(files->path, 0755, &err));
    assert_int_equal(stat(files->path, &st), 0);
    assert_true(S_ISDIR(st.st_mode));
    assert_int_equal(st.st_mode & 07777, 0755);
    assert_ok(folder_make(files->path, 0700, &err)); /* is there: its mode stays */
    assert_int_equal(stat(files->path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0755);

    snprintf(below, sizeof(below), "%s/a/b", files->path);
    assert_fails(folder_make(below, 0700, &err), ERROR_NOT_FOUND); /* one folder, not two */
    assert_error_contains(below);
    snprintf(below, sizeof(below), "%s/file", files->path);
    put(below, slice_str("x"));
    assert_fails(folder_make(below, 0700, &err), ERROR_CONFLICT);
    assert_error_contains(below);
    snprintf(link, sizeof(link), "%s/link", files->path);
    assert_int_equal(symlink("nowhere", link), 0);
    assert_fails(folder_make(link, 0700, &err), ERROR_CONFLICT);
    umask(umask_before);
}

static bool sweep_file(void *arg, struct error *err)
{
    const struct file_state *files = arg;
    CLEANUP(secret_free_at) struct secret *secret = nullptr;
    CLEANUP(buf_done) struct buf buf;

    buf_init(&buf, 1000);
    return file_write_atomic(files->path, slice_str("x"), 0600, err) &&
           file_read(files->path, &buf, err) && file_read_secret(files->path, &secret, err);
}

static void allocation_failures_are_reported(void **state)
{
    testlib_allocation_sweep(sweep_file, *state);
}

#define FILE_TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FILE_TEST(reading_appends_every_size),
        FILE_TEST(unreadable_files_are_named),
        FILE_TEST(links_are_followed_when_reading),
        FILE_TEST(files_of_unknown_size_are_read),
        FILE_TEST(secrets_are_read_up_to_their_limit),
        FILE_TEST(writing_replaces_whole_files),
        FILE_TEST(writing_takes_relative_paths),
        FILE_TEST(writing_replaces_a_link_not_its_target),
        FILE_TEST(paths_that_name_no_file_are_refused),
        FILE_TEST(a_failed_rename_leaves_nothing),
        FILE_TEST(leftovers_of_a_crash_are_replaced),
        FILE_TEST(concurrent_writers_stay_whole),
        FILE_TEST(kills_leave_old_or_new),
        FILE_TEST(a_read_only_folder_is_denied),
        FILE_TEST(folders_are_made_once),
        FILE_TEST(allocation_failures_are_reported),
        FILE_TEST(a_full_disk_keeps_the_old_file),
    };

    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
