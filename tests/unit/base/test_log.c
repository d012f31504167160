#include "testlib/testlib.h"

#include "base/log.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <unistd.h>

/* Standard error for the length of a record: a pipe in packet mode, where each write(2) is a packet
 * of its own. */
struct log_capture {
    int saved, pipe[2];
};

static void capture_begin(struct log_capture *capture)
{
    fflush(stderr);
    capture->saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    assert_true(capture->saved >= 0);
    assert_int_equal(pipe2(capture->pipe, O_CLOEXEC | O_DIRECT | O_NONBLOCK), 0);
    assert_int_equal(dup2(capture->pipe[1], STDERR_FILENO), STDERR_FILENO);
}

/* What one write brought, "" if there was none; asserts that there is no second. */
static size_t capture_end(struct log_capture *capture, char ret[static 8192])
{
    ssize_t len = read(capture->pipe[0], ret, 8191);
    char more;
    ssize_t second = read(capture->pipe[0], &more, 1);
    int why = errno;

    dup2(capture->saved, STDERR_FILENO);
    close(capture->saved);
    close(capture->pipe[0]);
    close(capture->pipe[1]);
    assert_true(second < 0 && why == EAGAIN);
    if (len < 0)
        len = 0;
    ret[len] = '\0';
    return (size_t)len;
}

/* Checks the time and gives what follows it. */
static const char *after_time(const char *line)
{
    assert_true(strlen(line) > 21);
    for (size_t i = 0; i < 20; i++) {
        char expected = "dddd-dd-ddTdd:dd:ddZ"[i];

        assert_true(expected == 'd' ? line[i] >= '0' && line[i] <= '9' : line[i] == expected);
    }
    assert_int_equal(line[20], ' ');
    return line + 21;
}

static void text_records_are_lines(void **state)
{
    struct log_capture capture;
    struct error err = {0};
    char line[8192];

    (void)state;
    log_setup("node", LOG_TEXT, LOG_INFO);
    capture_begin(&capture);
    log_at(LOG_INFO, "attest", "quote of %d bytes", 12);
    capture_end(&capture, line);
    assert_string_equal(after_time(line), "INFO  node/attest: quote of 12 bytes\n");

    capture_begin(&capture);
    log_at(LOG_WARNING, "attest", "x\ny \x1b[31m\xff");
    capture_end(&capture, line);
    assert_string_equal(after_time(line), "WARN  node/attest: x\\ny \\x1b[31m\\xff\n");

    error_set_errno(&err, EACCES, "open /dev/tpmrm0");
    snprintf(err.reason, sizeof(err.reason), "TPM_ABSENT");
    capture_begin(&capture);
    log_failure(LOG_ERROR, "tpm", &err, "cannot start %s", "it");
    capture_end(&capture, line);
    assert_string_equal(after_time(line),
                        "ERROR node/tpm: cannot start it: open /dev/tpmrm0: Permission denied "
                        "reason=TPM_ABSENT errno=13\n");

    error_set(&err, ERROR_DENIED, "no");
    capture_begin(&capture);
    log_failure(LOG_ERROR, "tpm", &err, "asked");
    capture_end(&capture, line);
    assert_string_equal(after_time(line), "ERROR node/tpm: asked: no\n");
}

static void levels_filter(void **state)
{
    static const struct {
        enum log_level level, set;
        bool shown;
    } cases[] = {
        {LOG_ERROR, LOG_ERROR, true},   {LOG_WARNING, LOG_ERROR, false},
        {LOG_DEBUG, LOG_INFO, false},   {LOG_DEBUG, LOG_DEBUG, true},
        {LOG_INFO, LOG_WARNING, false}, {LOG_WARNING, LOG_WARNING, true},
    };
    const struct error err = {.class = ERROR_DENIED};
    struct log_capture capture;
    char line[8192];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        log_setup("node", LOG_TEXT, cases[i].set);
        capture_begin(&capture);
        log_at(cases[i].level, "m", "x");
        assert_int_equal(capture_end(&capture, line) > 0, cases[i].shown);
        capture_begin(&capture);
        log_failure(cases[i].level, "m", &err, "x");
        assert_int_equal(capture_end(&capture, line) > 0, cases[i].shown);
    }
}

static const char *member(json_t *record, const char *name)
{
    return json_string_value(json_object_get(record, name));
}

static void json_records_are_json(void **state)
{
    struct log_capture capture;
    struct error err = {0};
    json_error_t json_err;
    char line[8192];
    json_t *record;

    (void)state;
    log_setup("node", LOG_JSON, LOG_DEBUG);
    capture_begin(&capture);
    log_at(LOG_DEBUG, "attest", "say \"%s\" \\ \n\xc3\xa9\xfe", "hi");
    assert_int_equal(line[capture_end(&capture, line) - 1], '\n');
    record = json_loads(line, JSON_REJECT_DUPLICATES, &json_err);
    assert_non_null(record);
    assert_int_equal(json_object_size(record), 5);
    assert_string_equal(member(record, "level"), "debug");
    assert_string_equal(member(record, "program"), "node");
    assert_string_equal(member(record, "module"), "attest");
    assert_string_equal(member(record, "message"), "say \"hi\" \\ \\n\xc3\xa9\\xfe");
    assert_int_equal(strlen(member(record, "time")), 20);
    json_decref(record);

    error_set_native(&err, ERROR_CONFLICT, ERROR_DOMAIN_TPM, 0x126, nullptr, "unseal");
    snprintf(err.reason, sizeof(err.reason), "RETIRED");
    capture_begin(&capture);
    log_failure(LOG_WARNING, "tpm", &err, "no key");
    capture_end(&capture, line);
    record = json_loads(line, JSON_REJECT_DUPLICATES, &json_err);
    assert_non_null(record);
    assert_string_equal(member(record, "level"), "warning");
    assert_string_equal(member(record, "message"), "no key: unseal");
    assert_string_equal(member(record, "class"), "conflict");
    assert_string_equal(member(record, "reason"), "RETIRED");
    assert_string_equal(member(record, "domain"), "tpm");
    assert_int_equal(json_integer_value(json_object_get(record, "code")), 0x126);
    json_decref(record);
}

/* Whatever is logged: one write of at most 4 KiB, whole as a line and as JSON. */
static void records_are_bounded(void **state)
{
    static const char *const fillings[] = {"a", "\"", "\\", "\n", "\xff", "\xf0\x9f\x94\x92"};
    static char text[20000], name[20000];
    struct log_capture capture;
    struct error err = {0};
    char line[8192];

    (void)state;
    memset(name, '"', sizeof(name) - 1);
    for (size_t i = 0; i < ARRAY_LEN(fillings); i++) {
        size_t step = strlen(fillings[i]);

        for (size_t at = 0; at + step < sizeof(text); at += step)
            memcpy(text + at, fillings[i], step);
        error_set_native(&err, ERROR_UNAUTHENTICATED, ERROR_DOMAIN_OPENSSL, INT64_MIN, text, "%s",
                         text);
        memset(err.reason, '"', sizeof(err.reason) - 1);
        for (int format = LOG_TEXT; format <= LOG_JSON; format++) {
            size_t len;

            log_setup(name, (enum log_format)format, LOG_INFO);
            capture_begin(&capture);
            log_failure(LOG_WARNING, name, &err, "%s", text);
            len = capture_end(&capture, line);
            assert_in_range(len, 1600, 4096);
            assert_int_equal(line[len - 1], '\n');
            assert_ptr_equal(strchr(line, '\n'), line + len - 1);
            assert_true(utf8_valid(slice(line, len)));
            testlib_assert_contains(line, "\xe2\x80\xa6", __FILE__, __LINE__);
            if (format == LOG_JSON) {
                json_t *record = json_loads(line, JSON_REJECT_DUPLICATES, nullptr);

                assert_non_null(record);
                assert_non_null(member(record, "domain"));
                json_decref(record);
            }
        }
    }
}

static void errno_survives(void **state)
{
    struct log_capture capture;
    char line[8192];

    (void)state;
    log_setup("node", LOG_TEXT, LOG_INFO);
    capture_begin(&capture);
    close(STDERR_FILENO); /* a log that nobody can take */
    errno = EXDEV;
    log_at(LOG_INFO, "m", "x");
    int after = errno;
    capture_end(&capture, line);
    assert_int_equal(after, EXDEV);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_records_are_lines), cmocka_unit_test(levels_filter),
        cmocka_unit_test(json_records_are_json),  cmocka_unit_test(records_are_bounded),
        cmocka_unit_test(errno_survives),
    };

    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
