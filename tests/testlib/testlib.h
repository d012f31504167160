/* What several tests share: cmocka in its include order, error assertions, poison, temporary
 * folders, the allocation-failure sweep, test data of other makers. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/slice.h"

/* Asserts that `call` (which uses `&err` of the scope) succeeded, printing the error if not. */
#define assert_ok(call) testlib_assert_ok((call), &err, #call, __FILE__, __LINE__)
/* Asserts that `call` failed with this class. */
#define assert_fails(call, expected_class)                                                         \
    testlib_assert_fails((call), &err, (expected_class), #call, __FILE__, __LINE__)
/* … and that the message contains `text`. */
#define assert_error_contains(text) testlib_assert_contains(err.message, (text), __FILE__, __LINE__)

void testlib_assert_ok(bool ok, const struct error *err, const char *what, const char *file,
                       int line);
void testlib_assert_fails(bool ok, const struct error *err, enum error_class expected,
                          const char *what, const char *file, int line);
void testlib_assert_contains(const char *text, const char *part, const char *file, int line);

/* clang's analyzer does not see that a failed assertion ends the test, and goes on without it. */
#ifdef __clang_analyzer__
#undef assert_true
#undef assert_non_null
#undef assert_ok
#define assert_true(condition) ((condition) ? (void)0 : __builtin_unreachable())
#define assert_non_null(pointer) assert_true((pointer) != nullptr)
#define assert_ok(call) ((void)&err, assert_true(call))
#endif

/* An output pointer that was not written: compare after a failure. */
#define POISON ((void *)(uintptr_t)0xa5a5a5a5a5a5a5a5)

/* A fresh folder under $TMPDIR or /tmp, whose path is put into ret and returned; removed with all in
 * it by testlib_folder_remove. */
char *testlib_folder(char ret[static 64]);
void testlib_folder_remove(const char *path);

/* Runs `body` with the 1st, 2nd, … allocation failing until it makes fewer, and asserts that each
 * failed allocation came out as EXHAUSTED and that the last round, in which none failed, succeeded.
 * `body` returns what the code under test returned, and frees what that made; it must allocate at
 * least once. Allocations of foreign libraries are not counted. */
void testlib_allocation_sweep(bool (*body)(void *arg, struct error *err), void *arg);

/* The path of `name` in the test data of other makers (POSTERN_TEST_DATA, else ../shared/data
 * beside the checkout); where it is absent prints "skipped: no test data" and skips the test.
 * Valid until the next call. */
const char *testlib_data(const char *name);
