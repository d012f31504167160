#include "testlib/testlib.h"

#include "base/buf.h"
#include "base/mem.h"

static void writes_are_big_endian(void **state)
{
    CLEANUP(buf_done) struct buf buf;
    struct error err = {0};
    static const uint8_t expected[] = {
        0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 1, 2, 3, 4, 5,   6,   7,
        8,    0,    0,    0,    2,    'h',  'i',  0, 0, 0, 0, 'n', '=', '7',
    };

    (void)state;
    buf_init(&buf, 1000);
    assert_int_equal(buf_slice(&buf).len, 0);
    buf_put_u8(&buf, 0x01);
    buf_put_u16(&buf, 0x2345);
    buf_put_u32(&buf, 0x6789abcd);
    buf_put_u64(&buf, 0x0102030405060708);
    buf_put_prefixed(&buf, slice_str("hi"));
    buf_put_prefixed(&buf, slice(nullptr, 0));
    buf_put_format(&buf, "n=%d", 7);
    assert_ok(buf_ok(&buf, &err));
    assert_true(slice_equal(buf_slice(&buf), SLICE_OF(expected)));
}

static void the_maximum_is_exact(void **state)
{
    CLEANUP(buf_done) struct buf buf;
    struct error err = {0};

    (void)state;
    buf_init(&buf, 5);
    buf_put(&buf, slice_str("12345"));
    buf_put(&buf, slice_str(""));
    assert_ok(buf_ok(&buf, &err));
    buf_put_u8(&buf, 6);
    assert_fails(buf_ok(&buf, &err), ERROR_EXHAUSTED);
    assert_error_contains("5 bytes");
    assert_int_equal(buf_slice(&buf).len, 0); /* not half a message */
    buf_put(&buf, slice_str(""));
    assert_fails(buf_ok(&buf, &err), ERROR_EXHAUSTED);
    assert_null(buf_extend(&buf, 0));

    buf_clear(&buf);
    assert_ok(buf_ok(&buf, &err));
    buf_put_format(&buf, "%s", "12345");
    assert_true(slice_is(buf_slice(&buf), "12345"));
    buf_clear(&buf);
    buf_put_format(&buf, "%s", "123456");
    assert_fails(buf_ok(&buf, &err), ERROR_EXHAUSTED);
    buf_clear(&buf);
    assert_null(buf_extend(&buf, SIZE_MAX));
    assert_fails(buf_ok(&buf, &err), ERROR_EXHAUSTED);

    buf_done(&buf);
    assert_ok(buf_ok(&buf, &err));
    buf_put(&buf, slice_str("again"));
    assert_true(slice_is(buf_slice(&buf), "again"));
}

static void a_zero_buffer_refuses_bytes_and_takes_nothing(void **state)
{
    struct buf buf = {0};
    struct error err = {0};

    (void)state;
    buf_put(&buf, slice(nullptr, 0));
    assert_ok(buf_ok(&buf, &err));
    assert_non_null(buf_extend(&buf, 0));
    buf_put_u8(&buf, 1);
    assert_fails(buf_ok(&buf, &err), ERROR_EXHAUSTED);
    buf_done(&buf);
}

static void sizes_that_wrap_are_refused(void **state)
{
    CLEANUP(buf_done) struct buf buf;
    struct error err = {0};

    (void)state;
    buf_init(&buf, SIZE_MAX);
    buf_put_u8(&buf, 1);
    assert_null(buf_extend(&buf, SIZE_MAX));
    assert_fails(buf_ok(&buf, &err), ERROR_EXHAUSTED);
    buf_clear(&buf);
    buf_put_prefixed(&buf, slice("", (size_t)UINT32_MAX + 1));
    assert_fails(buf_ok(&buf, &err), ERROR_EXHAUSTED);
}

static void growing_keeps_the_contents(void **state)
{
    CLEANUP(buf_done) struct buf buf;
    struct error err = {0};

    (void)state;
    buf_init(&buf, 100000);
    for (size_t i = 0; i < 100000; i++)
        buf_put_u8(&buf, (uint8_t)(i * 31 % 251));
    assert_ok(buf_ok(&buf, &err));
    assert_int_equal(buf.len, 100000);
    for (size_t i = 0; i < 100000; i++)
        assert_int_equal(buf_slice(&buf).data[i], i * 31 % 251);
    assert_true(buf.cap <= 100001);
}

static void consuming_drops_the_front(void **state)
{
    CLEANUP(buf_done) struct buf buf;

    (void)state;
    buf_init(&buf, 100);
    buf_consume(&buf, 0);
    buf_put(&buf, slice_str("abcdef"));
    buf_consume(&buf, 2);
    assert_true(slice_is(buf_slice(&buf), "cdef"));
    buf_consume(&buf, 4);
    assert_int_equal(buf_slice(&buf).len, 0);
    buf_put(&buf, slice_str("x"));
    buf_consume(&buf, 100); /* a caller's mistake stays harmless */
    assert_int_equal(buf_slice(&buf).len, 0);
}

static void reading_mirrors_writing(void **state)
{
    static const uint8_t bytes[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 'x', 'y'};
    struct reader r = reader(SLICE_OF(bytes));

    (void)state;
    assert_int_equal(reader_u8(&r), 1);
    assert_int_equal(reader_u16(&r), 0x0203);
    assert_int_equal(reader_u32(&r), 0x04050607);
    assert_true(reader_u64(&r) == 0x08090a0b0c0d0e0f);
    assert_false(reader_end(&r));
    assert_true(reader_ok(&r));
    assert_int_equal(reader_take(&r, 0).len, 0);
    assert_true(slice_is(reader_take(&r, 2), "xy"));
    assert_true(reader_end(&r));
}

static void reading_past_the_end_fails_for_good(void **state)
{
    static const uint8_t bytes[] = {1, 2, 3};
    struct reader r = reader(SLICE_OF(bytes));

    (void)state;
    assert_int_equal(reader_u32(&r), 0);
    assert_false(reader_ok(&r));
    assert_int_equal(reader_u8(&r), 0); /* though there are bytes */
    assert_null(reader_take(&r, 1).data);
    assert_false(reader_end(&r));

    r = reader(SLICE_OF(bytes));
    assert_int_equal(reader_take(&r, SIZE_MAX).len, 0);
    assert_false(reader_ok(&r));

    r = reader(slice(nullptr, 0));
    assert_true(reader_end(&r));
    assert_int_equal(reader_take(&r, 0).len, 0);
    assert_true(reader_ok(&r));
    assert_int_equal(reader_u8(&r), 0);
    assert_false(reader_ok(&r));
}

static bool sweep_buf(void *arg, struct error *err)
{
    CLEANUP(buf_done) struct buf buf;

    (void)arg;
    buf_init(&buf, 10000);
    for (int i = 0; i < 100; i++)
        buf_put_format(&buf, "%d and %s", i, "some more text");
    buf_put_u64(&buf, 7);
    return buf_ok(&buf, err);
}

static void allocation_failures_are_kept_until_asked(void **state)
{
    CLEANUP(buf_done) struct buf buf;
    struct error err = {0};

    (void)state;
    testlib_allocation_sweep(sweep_buf, nullptr);
    buf_init(&buf, 100);
    mem_fail_after(1);
    buf_put_u8(&buf, 1);
    mem_fail_after(0);
    assert_fails(buf_ok(&buf, &err), ERROR_EXHAUSTED);
    assert_error_contains("out of memory");
    buf_clear(&buf);
    buf_put_u8(&buf, 1);
    assert_ok(buf_ok(&buf, &err));
}

/* The bytes of a wiping buffer are gone from where they were: the allocation is still ours, since
 * clearing and consuming keep it. */
static void wiping_buffer_leaves_nothing(void **state)
{
    (void)state;
    struct buf buf;
    buf_init_wiping(&buf, 64);
    buf_put(&buf, slice_str("0123456789abcdef"));
    const uint8_t *data = buf.data;
    buf_consume(&buf, 10);
    assert_memory_equal(data, "abcdef\0\0\0\0\0\0\0\0\0\0", 16);
    buf_clear(&buf);
    assert_memory_equal(data, "\0\0\0\0\0\0", 6);
    buf_put(&buf, slice_str("again"));
    assert_true(slice_is(buf_slice(&buf), "again"));
    buf_done(&buf);
    assert_true(buf.wipe);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wiping_buffer_leaves_nothing),
        cmocka_unit_test(writes_are_big_endian),
        cmocka_unit_test(the_maximum_is_exact),
        cmocka_unit_test(a_zero_buffer_refuses_bytes_and_takes_nothing),
        cmocka_unit_test(sizes_that_wrap_are_refused),
        cmocka_unit_test(growing_keeps_the_contents),
        cmocka_unit_test(consuming_drops_the_front),
        cmocka_unit_test(reading_mirrors_writing),
        cmocka_unit_test(reading_past_the_end_fails_for_good),
        cmocka_unit_test(allocation_failures_are_kept_until_asked),
    };

    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
