#include "testlib/testlib.h"

#include "base/macros.h"
#include "plan.h"

/* One situation a line, in the order of a node's life. */
static void each_situation_has_its_step(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        struct plan_view view;
        enum plan_step step;
    } cases[] = {
        {"a slot comes before the authority", {.slot_left = true, .attest_due = true}, PLAN_UNSEAL},
        {"nothing on disk", {.attest_due = true}, PLAN_ATTEST},
        {"refused", {.has_key = true, .wants = true}, PLAN_WAIT},
        {"died before the counter", {.unfinished = true, .attest_due = true}, PLAN_RAISE},
        {"but slots first", {.unfinished = true, .slot_left = true}, PLAN_UNSEAL},
        {"offered", {.affirmed = true, .offered = true}, PLAN_IMPORT},
        {"import comes before watch",
         {.affirmed = true, .offered = true, .watching = true},
         PLAN_IMPORT},
        {"an SVID", {.affirmed = true}, PLAN_WATCH},
        {"watch failed", {.affirmed = true, .link_held = true}, PLAN_WAIT},
        {"nothing can be opened", {.affirmed = true, .watching = true, .wants = true}, PLAN_WAIT},
        {"a head",
         {.affirmed = true, .watching = true, .has_key = true, .wants = true},
         PLAN_FETCH},
        {"no slot before the live set is here",
         {.affirmed = true, .watching = true, .has_key = true, .dirty = true},
         PLAN_WAIT},
        {"no slot while a fetch is held back",
         {.affirmed = true,
          .watching = true,
          .has_key = true,
          .synced = true,
          .wants = true,
          .link_held = true},
         PLAN_WAIT},
        {"the live set is here",
         {.affirmed = true, .watching = true, .has_key = true, .synced = true},
         PLAN_WRITE},
        {"the disk is full",
         {.affirmed = true, .watching = true, .has_key = true, .synced = true, .disk_held = true},
         PLAN_WAIT},
        {"something new",
         {.affirmed = true, .watching = true, .has_key = true, .durable = true, .dirty = true},
         PLAN_WRITE},
        {"durable, not acknowledged",
         {.affirmed = true, .watching = true, .has_key = true, .durable = true, .other_old = true},
         PLAN_CONFIRM_GENERATION},
        {"not acknowledged: never raised",
         {.affirmed = true, .watching = true, .has_key = true, .durable = true, .link_held = true},
         PLAN_WAIT},
        {"acknowledged",
         {.affirmed = true,
          .watching = true,
          .has_key = true,
          .durable = true,
          .confirmed = true,
          .other_old = true},
         PLAN_RAISE},
        {"raised",
         {.affirmed = true,
          .watching = true,
          .has_key = true,
          .durable = true,
          .confirmed = true,
          .raised = true,
          .other_old = true},
         PLAN_WRITE_OTHER},
        {"a version",
         {.affirmed = true,
          .watching = true,
          .has_key = true,
          .durable = true,
          .confirmed = true,
          .raised = true,
          .version_unconfirmed = true},
         PLAN_CONFIRM_VERSION},
        {"at rest",
         {.affirmed = true,
          .watching = true,
          .has_key = true,
          .durable = true,
          .confirmed = true,
          .raised = true},
         PLAN_WAIT},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        if (plan_next(&cases[i].view) != cases[i].step)
            fail_msg("%s: %s, expected %s", cases[i].what,
                     plan_step_name(plan_next(&cases[i].view)), plan_step_name(cases[i].step));
    }
}

/* Over all views: the orders that secrets.md asks for. */
static void no_view_breaks_the_order(void **state)
{
    (void)state;
    for (unsigned bits = 0; bits < 1u << 16; bits++) {
        bool bit[16];
        for (size_t i = 0; i < ARRAY_LEN(bit); i++)
            bit[i] = bits >> i & 1;
        const struct plan_view view = {
            .slot_left = bit[0],
            .attest_due = bit[1],
            .affirmed = bit[2],
            .offered = bit[3],
            .watching = bit[4],
            .synced = bit[5],
            .link_held = bit[6],
            .has_key = bit[7],
            .wants = bit[8],
            .disk_held = bit[9],
            .dirty = bit[10],
            .durable = bit[11],
            .confirmed = bit[12],
            .raised = bit[13],
            .other_old = bit[14],
            .version_unconfirmed = bit[15],
        };
        enum plan_step step = plan_next(&view);
        if (step == PLAN_RAISE)
            assert_true(view.durable && view.confirmed);
        if (step == PLAN_CONFIRM_GENERATION)
            assert_true(view.durable && view.has_key && !view.link_held);
        if (step == PLAN_WRITE_OTHER)
            assert_true(view.raised);
        if (step == PLAN_WRITE && !view.durable)
            assert_true(view.synced && !view.wants);
        if (step > PLAN_ATTEST)
            assert_true(view.affirmed);
        if (view.link_held)
            assert_true(step != PLAN_FETCH && step != PLAN_WATCH && step != PLAN_CONFIRM_VERSION);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_situation_has_its_step),
        cmocka_unit_test(no_view_breaks_the_order),
    };
    return cmocka_run_group_tests_name("plan", tests, nullptr, nullptr);
}
