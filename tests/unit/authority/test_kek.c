#include "unit/authority/fixture.h"

#include "base/file.h"

#include <stdio.h>
#include <sys/stat.h>

static struct secret *plain(void)
{
    struct error err = {0};
    struct secret *secret;
    assert_ok(secret_from(slice_str("0123456789abcdef0123456789abcdef"), &secret, &err));
    return secret;
}

static void test_round_trip(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    CLEANUP(secret_free_at) struct secret *secret = plain(), *opened = nullptr;
    CLEANUP(buf_done) struct buf once, twice;
    buf_init(&once, 256);
    buf_init(&twice, 256);
    assert_ok(kek_wrap(f->kek, slice_str("mine"), secret, &once, &err));
    assert_ok(kek_wrap(f->kek, slice_str("mine"), secret, &twice, &err));
    assert_int_equal(once.len, 32 + KEK_OVERHEAD);
    assert_memory_not_equal(once.data, twice.data, once.len);
    assert_ok(kek_unwrap(f->kek, slice_str("mine"), buf_slice(&once), &opened, &err));
    assert_true(secret_equal(secret, opened));
}

static void test_refusals(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    CLEANUP(secret_free_at) struct secret *secret = plain();
    struct secret *opened = POISON;
    CLEANUP(buf_done) struct buf wrapped;
    CLEANUP(kek_free_at) struct kek *other = nullptr;
    char path[96];
    buf_init(&wrapped, 256);
    assert_ok(kek_wrap(f->kek, slice_str("mine"), secret, &wrapped, &err));
    assert_fails(kek_unwrap(f->kek, slice_str("yours"), buf_slice(&wrapped), &opened, &err),
                 ERROR_DENIED);
    assert_string_equal(err.reason, "KEK_MISMATCH");
    snprintf(path, sizeof(path), "%s/other", f->folder);
    assert_ok(kek_create(path, &err));
    assert_ok(kek_open(path, &other, &err));
    assert_fails(kek_unwrap(other, slice_str("mine"), buf_slice(&wrapped), &opened, &err),
                 ERROR_DENIED);
    for (size_t i = 1; i < wrapped.len; i++) {
        wrapped.data[i] ^= 1;
        assert_fails(kek_unwrap(f->kek, slice_str("mine"), buf_slice(&wrapped), &opened, &err),
                     ERROR_DENIED);
        wrapped.data[i] ^= 1;
    }
    wrapped.data[0] = 2;
    assert_fails(kek_unwrap(f->kek, slice_str("mine"), buf_slice(&wrapped), &opened, &err),
                 ERROR_INTERNAL);
    assert_fails(kek_unwrap(f->kek, slice_str("mine"), slice_str("x"), &opened, &err),
                 ERROR_INTERNAL);
    assert_ptr_equal(opened, POISON);
}

static void test_file(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    struct kek *kek = POISON;
    char path[96];
    snprintf(path, sizeof(path), "%s/short", f->folder);
    assert_fails(kek_open(path, &kek, &err), ERROR_NOT_FOUND);
    assert_ok(file_write_atomic(path, slice_str("too short"), 0600, &err));
    assert_fails(kek_open(path, &kek, &err), ERROR_INVALID);
    assert_ok(file_write_atomic(path, slice_str("0123456789abcdef0123456789abcdef"), 0640, &err));
    assert_fails(kek_open(path, &kek, &err), ERROR_DENIED);
    assert_error_contains("chmod 600");
    assert_ptr_equal(kek, POISON);
}

static bool wrap_and_open(void *arg, struct error *err)
{
    struct fixture *f = arg;
    CLEANUP(buf_done) struct buf wrapped;
    CLEANUP(secret_free_at) struct secret *secret = nullptr, *opened = nullptr;
    buf_init(&wrapped, 256);
    return secret_random(32, &secret, err) &&
           kek_wrap(f->kek, slice_str("mine"), secret, &wrapped, err) &&
           kek_unwrap(f->kek, slice_str("mine"), buf_slice(&wrapped), &opened, err);
}

static void test_allocations(void **state)
{
    testlib_allocation_sweep(wrap_and_open, *state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_allocations),
    };
    return cmocka_run_group_tests(tests, fixture_up, fixture_down);
}
