#include "testlib/testlib.h"

#include "base/file.h"
#include "join_token.h"

#include <stdio.h>
#include <unistd.h>

static struct error err;

static void put(const struct join_token_file *file, const char *text)
{
    assert_ok(file_write_atomic(file->path, slice_str(text), 0600, &err));
}

static void a_token_is_read_without_its_line_end(void **state)
{
    (void)state;
    char folder[64], path[96], token[JOIN_TOKEN_MAX + 1];
    static char long_text[JOIN_TOKEN_MAX + 2];
    testlib_folder(folder);
    (void)snprintf(path, sizeof(path), "%s/token", folder);
    struct join_token_file file = {.path = path};
    assert_fails(join_token_read(&file, token, &err), ERROR_NOT_FOUND);
    assert_string_equal(token, "");
    put(&file, "abc.def \r\n");
    assert_ok(join_token_read(&file, token, &err));
    assert_string_equal(token, "abc.def");
    static const char *const bad[] = {"", " \n", "a\xff"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        put(&file, bad[i]);
        assert_fails(join_token_read(&file, token, &err), ERROR_INVALID);
        assert_string_equal(token, "");
    }
    memset(long_text, 'x', JOIN_TOKEN_MAX);
    put(&file, long_text);
    assert_ok(join_token_read(&file, token, &err));
    assert_string_equal(token, long_text);
    long_text[JOIN_TOKEN_MAX] = 'x';
    put(&file, long_text);
    assert_fails(join_token_read(&file, token, &err), ERROR_EXHAUSTED);
    testlib_folder_remove(folder);
}

static void every_write_is_a_change_once(void **state)
{
    (void)state;
    char folder[64], path[96], token[JOIN_TOKEN_MAX + 1];
    testlib_folder(folder);
    (void)snprintf(path, sizeof(path), "%s/token", folder);
    struct join_token_file file = {.path = path};
    assert_false(join_token_changed(&file));
    put(&file, "one");
    assert_true(join_token_changed(&file));
    assert_false(join_token_changed(&file));
    put(&file, "two"); /* the same size, another file */
    assert_ok(join_token_read(&file, token, &err));
    assert_false(join_token_changed(&file)); /* what was read is no news */
    FILE *in_place = fopen(path, "a");
    assert_non_null(in_place);
    fputs("\n", in_place);
    assert_int_equal(fclose(in_place), 0);
    assert_true(join_token_changed(&file));
    assert_int_equal(unlink(path), 0);
    assert_true(join_token_changed(&file));
    assert_false(join_token_changed(&file));
    testlib_folder_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_token_is_read_without_its_line_end),
        cmocka_unit_test(every_write_is_a_change_once),
    };
    return cmocka_run_group_tests_name("join_token", tests, nullptr, nullptr);
}
