#include "testlib/testlib.h"

#include "base/text.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdio.h>

#define ELLIPSIS "\xe2\x80\xa6"

static struct error error_poisoned(void)
{
    struct error err;

    memset(&err, 0xa5, sizeof(err));
    return err;
}

static void set_clears_the_rest(void **state)
{
    struct error err = error_poisoned();

    (void)state;
    assert_false(error_set(&err, ERROR_DENIED, "no entry for %s, %d", "you", 7));
    assert_int_equal(err.class, ERROR_DENIED);
    assert_string_equal(err.message, "no entry for you, 7");
    assert_int_equal(err.domain, ERROR_DOMAIN_NONE);
    assert_int_equal(err.code, 0);
    assert_string_equal(err.reason, "");
    assert_string_equal(err.field, "");
}

static void setters_fill_their_fields(void **state)
{
    struct error err = error_poisoned();

    (void)state;
    assert_false(error_set_reason(&err, ERROR_CONFLICT, "NODE_CONTRAINDICATED", "node %d", 3));
    assert_int_equal(err.class, ERROR_CONFLICT);
    assert_string_equal(err.reason, "NODE_CONTRAINDICATED");
    assert_string_equal(err.message, "node 3");
    assert_string_equal(err.field, "");

    err = error_poisoned();
    assert_false(error_set_field(&err, "secrets[3].name", "expected %s", "a name"));
    assert_int_equal(err.class, ERROR_INVALID);
    assert_string_equal(err.field, "secrets[3].name");
    assert_string_equal(err.message, "expected a name");
    assert_string_equal(err.reason, "");

    err = error_poisoned();
    assert_false(error_set_native(&err, ERROR_UNAVAILABLE, ERROR_DOMAIN_TPM, 0x126, "NV too high",
                                  "read %s", "counter"));
    assert_int_equal(err.class, ERROR_UNAVAILABLE);
    assert_int_equal(err.domain, ERROR_DOMAIN_TPM);
    assert_int_equal(err.code, 0x126);
    assert_string_equal(err.message, "read counter: NV too high");

    assert_false(error_set_native(&err, ERROR_INTERNAL, ERROR_DOMAIN_UV, -5, nullptr, "listen"));
    assert_string_equal(err.message, "listen");

    assert_false(error_set_memory(&err));
    assert_int_equal(err.class, ERROR_EXHAUSTED);
    assert_string_equal(err.message, "out of memory");
}

static void errno_decides_the_class(void **state)
{
    static const struct {
        int number;
        enum error_class class;
    } cases[] = {
        {ENOENT, ERROR_NOT_FOUND},
        {EACCES, ERROR_DENIED},
        {EPERM, ERROR_DENIED},
        {EROFS, ERROR_DENIED},
        {ENOSPC, ERROR_EXHAUSTED},
        {ENOMEM, ERROR_EXHAUSTED},
        {EMFILE, ERROR_EXHAUSTED},
        {EADDRINUSE, ERROR_CONFLICT},
        {EEXIST, ERROR_EXISTS},
        {EAGAIN, ERROR_UNAVAILABLE},
        {ECONNREFUSED, ERROR_UNAVAILABLE},
        {ETIMEDOUT, ERROR_TIMEOUT},
        {ECANCELED, ERROR_CANCELLED},
        {EISDIR, ERROR_INVALID},
        {ENOSYS, ERROR_UNIMPLEMENTED},
        {EBADF, ERROR_INTERNAL},
        {EFAULT, ERROR_INTERNAL},
        {123456, ERROR_INTERNAL},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct error err = error_poisoned();

        assert_false(error_set_errno(&err, cases[i].number, "open %s", "/x"));
        assert_int_equal(err.class, cases[i].class);
        assert_int_equal(err.domain, ERROR_DOMAIN_ERRNO);
        assert_int_equal(err.code, cases[i].number);
        assert_error_contains("open /x: ");
    }
    struct error err = {0};
    error_set_errno(&err, EADDRINUSE, "listen on 127.0.0.1:15550");
    assert_string_equal(err.message, "listen on 127.0.0.1:15550: Address already in use");
    error_set_errno(&err, 123456, "x");
    assert_string_equal(err.message, "x: unknown error");
}

static void openssl_gives_its_oldest_entry_and_its_data(void **state)
{
    struct error err = error_poisoned();

    (void)state;
    ERR_clear_error();
    ERR_raise_data(ERR_LIB_PEM, PEM_R_NO_START_LINE, "Expecting: %s", "CERTIFICATE");
    ERR_raise(ERR_LIB_PEM, PEM_R_BAD_END_LINE);
    assert_false(error_set_openssl(&err, ERROR_INVALID, "read %s", "ca.pem"));
    assert_int_equal(err.class, ERROR_INVALID);
    assert_int_equal(err.domain, ERROR_DOMAIN_OPENSSL);
    assert_int_equal(ERR_GET_REASON((unsigned long)err.code), PEM_R_NO_START_LINE);
    assert_string_equal(err.message, "read ca.pem: no start line: Expecting: CERTIFICATE");
    assert_int_equal(ERR_peek_error(), 0);

    ERR_raise(ERR_LIB_SYS, ENOENT);
    error_set_openssl(&err, ERROR_NOT_FOUND, "open");
    assert_string_equal(err.message, "open: No such file or directory");

    error_set_openssl(&err, ERROR_INTERNAL, "sign");
    assert_string_equal(err.message, "sign: OpenSSL gave no reason");
    assert_int_equal(err.code, 0);
}

static void prefixes_pile_up_and_keep_the_rest(void **state)
{
    struct error err = {0};

    (void)state;
    error_set_errno(&err, EADDRINUSE, "listen");
    snprintf(err.reason, sizeof(err.reason), "PORT_TAKEN");
    assert_false(error_prefix(&err, "start %s", "node"));
    assert_false(error_prefix(&err, "run"));
    assert_string_equal(err.message, "run: start node: listen: Address already in use");
    assert_int_equal(err.class, ERROR_CONFLICT);
    assert_int_equal(err.code, EADDRINUSE);
    assert_string_equal(err.reason, "PORT_TAKEN");
}

/* What is formatted may lie in the very error that is written. */
static void arguments_may_point_into_the_error(void **state)
{
    struct error err = {0};

    (void)state;
    error_set_field(&err, "a.b", "inner");
    error_set(&err, ERROR_DENIED, "outer (%s) at %s", err.message, err.field);
    assert_string_equal(err.message, "outer (inner) at a.b");
    error_set_field(&err, "c.d", "inner");
    error_set_field(&err, err.field, "outer %s", err.message);
    assert_string_equal(err.field, "c.d");
    assert_string_equal(err.message, "outer inner");
    error_set_reason(&err, ERROR_DENIED, "WHY", "inner");
    error_set_reason(&err, ERROR_DENIED, err.reason, "outer %s", err.message);
    assert_string_equal(err.reason, "WHY");
    error_set_native(&err, ERROR_DENIED, ERROR_DOMAIN_UV, -1, err.message, "native");
    assert_string_equal(err.message, "native: outer inner");
    error_set_errno(&err, ENOENT, "%s", err.message);
    assert_string_equal(err.message, "native: outer inner: No such file or directory");
    error_set(&err, ERROR_DENIED, "x");
    error_prefix(&err, "%s", err.message);
    assert_string_equal(err.message, "x: x");
}

static void long_messages_end_in_an_ellipsis(void **state)
{
    char text[4 * ERROR_MESSAGE_MAX];
    struct error err = {0};

    (void)state;
    memset(text, 'a', sizeof(text));
    text[ERROR_MESSAGE_MAX - 1] = '\0';
    error_set(&err, ERROR_INVALID, "%s", text); /* fits exactly */
    assert_string_equal(err.message, text);

    text[ERROR_MESSAGE_MAX - 1] = 'a';
    for (size_t len = ERROR_MESSAGE_MAX; len < sizeof(text); len += 101) {
        error_set(&err, ERROR_INVALID, "%.*s", (int)len, text);
        assert_int_equal(strlen(err.message), ERROR_MESSAGE_MAX - 1);
        assert_string_equal(err.message + ERROR_MESSAGE_MAX - 4, ELLIPSIS);
    }
    /* Never inside a character, wherever the limit falls. */
    for (size_t shift = 0; shift < 4; shift++) {
        memset(text, 'a', shift);
        for (size_t i = shift; i + 4 < sizeof(text); i += 4)
            memcpy(text + i, "\xf0\x9f\x94\x92", 4);
        text[sizeof(text) - 4] = '\0';
        error_set(&err, ERROR_INVALID, "%s", text);
        assert_true(utf8_valid(slice_str(err.message)));
        assert_true(strlen(err.message) > ERROR_MESSAGE_MAX - 8);
        assert_string_equal(err.message + strlen(err.message) - 3, ELLIPSIS);
        error_prefix(&err, "p");
        error_prefix(&err, "q");
        assert_true(utf8_valid(slice_str(err.message)));
        assert_true(strlen(err.message) < ERROR_MESSAGE_MAX);
        assert_memory_equal(err.message, "q: p: ", 6);
    }
    memset(text, 'F', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    error_set_reason(&err, ERROR_INVALID, text, "x");
    assert_int_equal(strlen(err.reason), ERROR_REASON_MAX - 1);
    error_set_field(&err, text, "x");
    assert_int_equal(strlen(err.field), ERROR_FIELD_MAX - 1);
    error_set_native(&err, ERROR_INVALID, ERROR_DOMAIN_GRPC, 3, text, "%s", text);
    assert_int_equal(strlen(err.message), ERROR_MESSAGE_MAX - 1);
}

static void foreign_bytes_are_made_harmless(void **state)
{
    struct error err = {0};

    (void)state;
    error_set(&err, ERROR_INVALID, "name %s", "a\nb\x1b[2J\xff\xc3");
    assert_string_equal(err.message, "name a\\nb\\x1b[2J\\xff\\xc3");
    error_prefix(&err, "\x7f");
    error_prefix(&err, "again"); /* what was escaped once is not escaped again */
    assert_string_equal(err.message, "again: \\x7f: name a\\nb\\x1b[2J\\xff\\xc3");
    error_set_field(&err, "a\r.b", "x");
    assert_string_equal(err.field, "a\\x0d.b");
    error_set_native(&err, ERROR_INTERNAL, ERROR_DOMAIN_GRPC, 2, "no\twords\xe2\x80\xae", "peer");
    assert_string_equal(err.message, "peer: no\\twords\\u202e");
}

static void classes_have_one_table(void **state)
{
    /* The table of the design: gRPC's codes are in its own specification. */
    static const struct {
        enum error_class class;
        const char *name;
        int grpc, exit;
    } cases[] = {
        {ERROR_NONE, "none", 0, 0},           {ERROR_INVALID, "invalid", 3, 2},
        {ERROR_DENIED, "denied", 7, 3},       {ERROR_UNAUTHENTICATED, "unauthenticated", 16, 3},
        {ERROR_NOT_FOUND, "not found", 5, 4}, {ERROR_CONFLICT, "conflict", 9, 5},
        {ERROR_EXISTS, "exists", 6, 5},       {ERROR_UNAVAILABLE, "unavailable", 14, 6},
        {ERROR_EXHAUSTED, "exhausted", 8, 7}, {ERROR_TIMEOUT, "timeout", 4, 8},
        {ERROR_CANCELLED, "cancelled", 1, 6}, {ERROR_UNIMPLEMENTED, "unimplemented", 12, 2},
        {ERROR_INTERNAL, "internal", 13, 70},
    };

    (void)state;
    assert_int_equal(ARRAY_LEN(cases), ERROR_CLASS_COUNT);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_string_equal(error_class_name(cases[i].class), cases[i].name);
        assert_int_equal(error_grpc_status(cases[i].class), cases[i].grpc);
        assert_int_equal(error_exit_code(cases[i].class), cases[i].exit);
        assert_int_equal(error_class_from_grpc(cases[i].grpc), cases[i].class);
    }
    assert_int_equal(error_class_from_grpc(2), ERROR_INTERNAL);
    assert_int_equal(error_class_from_grpc(10), ERROR_CONFLICT);
    assert_int_equal(error_class_from_grpc(11), ERROR_INVALID);
    assert_int_equal(error_class_from_grpc(15), ERROR_INTERNAL);
    assert_int_equal(error_class_from_grpc(17), ERROR_INTERNAL);
    assert_int_equal(error_class_from_grpc(-1), ERROR_INTERNAL);
    /* A class that does not exist is a defect of ours, never success. */
    assert_string_equal(error_class_name(ERROR_CLASS_COUNT), "unknown");
    assert_int_equal(error_grpc_status(ERROR_CLASS_COUNT), 13);
    assert_int_equal(error_exit_code(ERROR_CLASS_COUNT), 70);
}

static void domains_have_names(void **state)
{
    (void)state;
    for (int i = 0; i < ERROR_DOMAIN_COUNT; i++)
        assert_true(strlen(error_domain_name((enum error_domain)i)) > 0);
    assert_string_equal(error_domain_name(ERROR_DOMAIN_ERRNO), "errno");
    assert_string_equal(error_domain_name(ERROR_DOMAIN_TPM), "tpm");
    assert_string_equal(error_domain_name(ERROR_DOMAIN_COUNT), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(set_clears_the_rest),
        cmocka_unit_test(setters_fill_their_fields),
        cmocka_unit_test(errno_decides_the_class),
        cmocka_unit_test(openssl_gives_its_oldest_entry_and_its_data),
        cmocka_unit_test(prefixes_pile_up_and_keep_the_rest),
        cmocka_unit_test(arguments_may_point_into_the_error),
        cmocka_unit_test(long_messages_end_in_an_ellipsis),
        cmocka_unit_test(foreign_bytes_are_made_harmless),
        cmocka_unit_test(classes_have_one_table),
        cmocka_unit_test(domains_have_names),
    };

    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
