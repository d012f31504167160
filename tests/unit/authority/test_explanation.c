#include "testlib/testlib.h"

#include "explanation.h"

#include "pb/message.h"

#include <stdio.h>

static void test_values_are_only_a_word(void **state)
{
    (void)state;
    Postern__V1__Reason reason = POSTERN__V1__REASON__INIT, *reasons[] = {&reason};
    struct node_view view = {.message = POSTERN__V1__NODE__INIT, .agent_id = "someone"};
    struct error err = {0};
    assert_true(values_are_proven(&view, &err)); /* no reasons at all */
    view.message.reasons = reasons;
    view.message.n_reasons = 1;
    reason.name = (char[]){"a-check"};
    reason.detail = (char[]){"as it says"};
    for (reason.check = 0; reason.check < 40; reason.check++) {
        if (reason.check < 9 || reason.check > 18) {
            assert_true(values_are_proven(&view, &err));
            continue;
        }
        assert_fails(values_are_proven(&view, &err), ERROR_CONFLICT);
        assert_string_equal(err.reason, "EVIDENCE_UNPROVEN");
        assert_error_contains("someone");
        assert_error_contains("a-check");
        assert_error_contains("as it says");
    }
}

static void test_unreadable_evidence(void **state)
{
    (void)state;
    struct pcr_values values, poison;
    struct error err = {0};
    memset(&values, 0xa5, sizeof(values));
    memset(&poison, 0xa5, sizeof(poison));
    assert_fails(evidence_values(slice_str("\xff"), &values, &err), ERROR_INVALID);
    assert_fails(evidence_values((struct slice){0}, &values, &err), ERROR_INVALID);
    assert_string_equal(err.field, "pcrs");
    assert_memory_equal(&values, &poison, sizeof(poison));
}

/* Each check of the table is there, with what it found or with nothing. */
static void test_whole_table(void **state)
{
    (void)state;
    Postern__V1__Reason reason = POSTERN__V1__REASON__INIT, *reasons[] = {&reason};
    struct node_view view = {.message = POSTERN__V1__NODE__INIT};
    CLEANUP(explanation_done) struct explanation explanation = {0};
    struct attest_line line;
    struct error err = {0};
    reason.check = 39;
    reason.name = (char[]){"pcr-policy"};
    reason.detail = (char[]){"differs"};
    view.message.reasons = reasons;
    view.message.n_reasons = 1;
    assert_ok(explanation_make(nullptr, nullptr, &view, &explanation, &err));
    assert_int_equal(explanation.difference_count, 0);
    for (size_t i = 0; i < explanation.check_count; i++) {
        assert_true(attest_table(i, &line));
        assert_int_equal(explanation.check_pointers[i]->check, line.number);
        assert_string_equal(explanation.check_pointers[i]->name, line.name);
        assert_string_equal(explanation.check_pointers[i]->detail,
                            line.number == 39 ? "differs" : "");
    }
    assert_false(attest_table(explanation.check_count, &line));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values_are_only_a_word),
        cmocka_unit_test(test_unreadable_evidence),
        cmocka_unit_test(test_whole_table),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
