#include "testlib/testlib.h"

#include "base/mem.h"

#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void testlib_assert_ok(bool ok, const struct error *err, const char *what, const char *file,
                       int line)
{
    if (ok)
        return;
    print_error("%s failed: %s: %s%s%s\n", what, error_class_name(err->class), err->message,
                err->field[0] != '\0' ? ", field " : "", err->field);
    _fail(file, line);
}

void testlib_assert_fails(bool ok, const struct error *err, enum error_class expected,
                          const char *what, const char *file, int line)
{
    if (!ok && err->class == expected)
        return;
    if (ok)
        print_error("%s succeeded, expected it to fail: %s\n", what, error_class_name(expected));
    else
        print_error("%s failed as %s, expected %s: %s\n", what, error_class_name(err->class),
                    error_class_name(expected), err->message);
    _fail(file, line);
}

void testlib_assert_contains(const char *text, const char *part, const char *file, int line)
{
    if (strstr(text, part))
        return;
    print_error("expected \"%s\" in \"%s\"\n", part, text);
    _fail(file, line);
}

char *testlib_folder(char ret[static 64])
{
    const char *under = getenv("TMPDIR");
    int len = snprintf(ret, 64, "%s/postern-XXXXXX", under && under[0] != '\0' ? under : "/tmp");

    if (len >= 64 || !mkdtemp(ret)) {
        print_error("cannot make a folder under $TMPDIR or /tmp: %s\n", ret);
        fail();
    }
    return ret;
}

static int testlib_remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st, (void)kind, (void)at;
    return remove(path);
}

void testlib_folder_remove(const char *path)
{
    if (nftw(path, testlib_remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) != 0) {
        print_error("cannot remove %s\n", path);
        fail();
    }
}

void testlib_allocation_sweep(bool (*body)(void *arg, struct error *err), void *arg)
{
    for (uint64_t n = 1;; n++) {
        struct error err = {0};
        uint64_t made;
        bool ok;

        mem_fail_after(n);
        ok = body(arg, &err);
        made = mem_fail_after(0);
        if (made < n) { /* none was made to fail */
            testlib_assert_ok(ok, &err, "the last round of the sweep", __FILE__, __LINE__);
            assert_true(n > 1);
            return;
        }
        if (ok || err.class != ERROR_EXHAUSTED) {
            print_error("allocation %llu failed: expected exhausted, not %s: %s\n",
                        (unsigned long long)n, ok ? "success" : error_class_name(err.class),
                        err.message);
            fail();
        }
    }
}

const char *testlib_data(const char *name)
{
    static char path[PATH_MAX];
    const char *folder = getenv("POSTERN_TEST_DATA");

    if (!folder || folder[0] == '\0')
        folder = TESTLIB_DATA;
    if (snprintf(path, sizeof(path), "%s/%s", folder, name) >= (int)sizeof(path) ||
        access(path, R_OK) != 0) {
        print_message("skipped: no test data (%s)\n", name);
        skip();
    }
    return path;
}
