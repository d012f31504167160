#include "testlib/testlib.h"

#include "base/mem.h"
#include "held.h"

#include <stdio.h>

constexpr int64_t APPRAISED = 1'000'000;
constexpr int64_t EXPIRES = 1'900'000;
constexpr uint64_t OFFLINE = 10'000'000;

static const char *const allowed = "spiffe://x/a";

static struct head make_head(const char *name, uint32_t epoch, uint64_t seq, uint64_t version)
{
    struct head head;
    struct error err;
    char *allow[] = {(char *)"spiffe://x/a", (char *)"spiffe://x/c"};
    head_init(&head);
    head.name = mem_strdup(name);
    head.epoch = epoch;
    head.seq = seq;
    head.version = version;
    assert_ok(texts_copy(allow, 2, 2, &head.allow, &err));
    buf_put_format(&head.body, "%s %u %llu %llu", name, epoch, (unsigned long long)seq,
                   (unsigned long long)version);
    return head;
}

static struct packet make_packet(uint64_t generation, uint32_t epoch, uint64_t version,
                                 const char *value)
{
    struct packet packet;
    struct error err;
    packet_init(&packet);
    packet.generation = generation;
    packet.epoch = epoch;
    packet.version = version;
    assert_ok(secret_from(slice_str(value), &packet.value, &err));
    assert_ok(secret_from(slice_str("rrrr"), &packet.r, &err));
    return packet;
}

static void put(struct held *held, const char *name, uint64_t seq, uint64_t version,
                const char *value)
{
    struct error err = {0};
    bool changed = false;
    CLEANUP(head_done) struct head head = make_head(name, 1, seq, version);
    CLEANUP(packet_done) struct packet packet = make_packet(1, 1, version, value);
    assert_ok(held_put_head(held, &head, &changed, &err));
    assert_true(changed);
    assert_ok(held_put_packet(held, name, &packet, &err));
}

static bool appraise(struct held *held, Postern__V1__Verdict verdict, bool releases,
                     struct error *err)
{
    Postern__V1__AppraisalBody body = POSTERN__V1__APPRAISAL_BODY__INIT;
    Postern__V1__Reason reason = POSTERN__V1__REASON__INIT;
    Postern__V1__Reason *reasons[] = {&reason};
    const struct moment came = {.wall_ms = APPRAISED, .boot_ms = 1};
    reason.name = (char[]){"pcr-policy"};
    reason.detail = (char[]){"PCR 7 differs"};
    body.verdict = verdict;
    body.releases = releases;
    body.appraised_at_ms = APPRAISED;
    body.expires_at_ms = EXPIRES;
    if (verdict != POSTERN__V1__VERDICT__VERDICT_AFFIRMING) {
        body.reasons = reasons;
        body.n_reasons = 1;
    }
    return held_appraise(held, &body, slice_str("the body"), &came, err);
}

/* A node that was affirmed and holds "db". */
static void set_up(struct held *held)
{
    struct error err = {0};
    held_init(held, OFFLINE, 500);
    assert_ok(appraise(held, POSTERN__V1__VERDICT__VERDICT_AFFIRMING, true, &err));
    held_reached(held, APPRAISED);
    put(held, "db", 1, 1, "swordfish");
    held->complete = true;
}

enum change { NOTHING, EMPTY, INCOMPLETE, WARNED, PENDING, BAD, STRANGE, WITHHELD, NO_PACKET };

static void release_is_decided_by_a_table(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        enum change change;
        const char *id, *name;
        int64_t now;
        enum error_class class; /* NONE: released */
        const char *reason;
    } cases[] = {
        {"its own", NOTHING, "spiffe://x/a", "db", APPRAISED, ERROR_NONE, ""},
        {"another that may", NOTHING, "spiffe://x/c", "db", APPRAISED, ERROR_NONE, ""},
        {"after the appraisal's end", NOTHING, "spiffe://x/a", "db", EXPIRES + 1, ERROR_NONE, ""},
        {"with a warning", WARNED, "spiffe://x/a", "db", APPRAISED, ERROR_NONE, ""},
        {"unknown", NOTHING, "spiffe://x/a", "other", APPRAISED, ERROR_NOT_FOUND, "SECRET_UNKNOWN"},
        {"not allowed", NOTHING, "spiffe://x/b", "db", APPRAISED, ERROR_NOT_FOUND,
         "SECRET_UNKNOWN"},
        {"a prefix is nobody", NOTHING, "spiffe://x/", "db", APPRAISED, ERROR_NOT_FOUND,
         "SECRET_UNKNOWN"},
        {"the last moment offline", NOTHING, "spiffe://x/a", "db", APPRAISED + (int64_t)OFFLINE - 1,
         ERROR_NONE, ""},
        {"too long offline", NOTHING, "spiffe://x/a", "db", APPRAISED + (int64_t)OFFLINE,
         ERROR_UNAVAILABLE, "OFFLINE_TOO_LONG"},
        {"nothing known", EMPTY, "spiffe://x/a", "db", APPRAISED, ERROR_UNAVAILABLE,
         "NODE_NOT_APPRAISED"},
        {"still fetching", INCOMPLETE, "spiffe://x/a", "other", APPRAISED, ERROR_UNAVAILABLE,
         "NOT_FETCHED_YET"},
        {"still fetching, not told apart", INCOMPLETE, "spiffe://x/b", "db", APPRAISED,
         ERROR_UNAVAILABLE, "NOT_FETCHED_YET"},
        {"head without packet", NO_PACKET, "spiffe://x/a", "new", APPRAISED, ERROR_UNAVAILABLE,
         "NOT_FETCHED_YET"},
        {"head without packet, not allowed", NO_PACKET, "spiffe://x/b", "new", APPRAISED,
         ERROR_NOT_FOUND, "SECRET_UNKNOWN"},
        {"pending", PENDING, "spiffe://x/a", "db", APPRAISED, ERROR_CONFLICT, "NODE_PENDING"},
        {"contraindicated", BAD, "spiffe://x/a", "db", APPRAISED, ERROR_CONFLICT,
         "NODE_CONTRAINDICATED"},
        {"a verdict of the future", STRANGE, "spiffe://x/a", "db", APPRAISED, ERROR_CONFLICT,
         "NODE_CONTRAINDICATED"},
        {"affirming that releases nothing", WITHHELD, "spiffe://x/a", "db", APPRAISED,
         ERROR_CONFLICT, "NODE_CONTRAINDICATED"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        CLEANUP(held_done) struct held held;
        struct error err = {0};
        bool changed;
        set_up(&held);
        switch (cases[i].change) {
        case EMPTY:
            held_done(&held);
            held_init(&held, OFFLINE, 500);
            break;
        case INCOMPLETE:
            held.complete = false;
            break;
        case WARNED:
            assert_ok(appraise(&held, POSTERN__V1__VERDICT__VERDICT_WARNING, true, &err));
            break;
        case PENDING:
            assert_ok(appraise(&held, POSTERN__V1__VERDICT__VERDICT_PENDING, false, &err));
            break;
        case BAD:
            assert_ok(appraise(&held, POSTERN__V1__VERDICT__VERDICT_CONTRAINDICATED, true, &err));
            break;
        case STRANGE:
            assert_ok(appraise(&held, (Postern__V1__Verdict)77, true, &err));
            break;
        case WITHHELD:
            assert_ok(appraise(&held, POSTERN__V1__VERDICT__VERDICT_AFFIRMING, false, &err));
            break;
        case NO_PACKET: {
            CLEANUP(head_done) struct head head = make_head("new", 1, 1, 1);
            assert_ok(held_put_head(&held, &head, &changed, &err));
            break;
        }
        case NOTHING:
            break;
        }
        if (cases[i].change >= PENDING && cases[i].change <= WITHHELD)
            assert_int_equal(held.count, 0); /* wiped at once */
        const struct held_secret *secret = POISON;
        err = (struct error){0};
        bool ok = held_release(&held, cases[i].id, cases[i].name, cases[i].now, &secret, &err);
        if (ok != (cases[i].class == ERROR_NONE) || err.class != cases[i].class ||
            strcmp(err.reason, cases[i].reason) != 0)
            fail_msg("%s: %s (%s)", cases[i].what, error_class_name(err.class), err.message);
        if (ok)
            assert_true(slice_is(secret_slice(secret->packet.value), "swordfish"));
        else
            assert_ptr_equal(secret, POISON);
    }
}

static void unknown_and_not_allowed_are_the_same_answer(void **state)
{
    (void)state;
    CLEANUP(held_done) struct held held;
    struct error a = {0}, b = {0};
    const struct held_secret *secret;
    set_up(&held);
    assert_false(held_release(&held, "spiffe://x/b", "db", APPRAISED, &secret, &a));
    assert_true(held_find(&held, "db") != nullptr);
    held_wipe(&held);
    held.complete = true;
    assert_false(held_release(&held, "spiffe://x/b", "db", APPRAISED, &secret, &b));
    assert_string_equal(a.message, b.message);
}

/* What a pod is told names the checks; values of PCRs and policies are the operator's. */
static void pods_learn_which_checks_and_no_details(void **state)
{
    (void)state;
    CLEANUP(held_done) struct held held;
    struct error err = {0};
    const struct held_secret *secret;
    Postern__V1__AppraisalBody body = POSTERN__V1__APPRAISAL_BODY__INIT;
    Postern__V1__Reason reason[3], *reasons[3];
    static const char *const names[] = {"pcr-policy", "event\x1b-log", "pcr-policy"};
    const struct moment came = {.wall_ms = APPRAISED, .boot_ms = 1};
    for (size_t i = 0; i < ARRAY_LEN(reason); i++) {
        reason[i] = (Postern__V1__Reason)POSTERN__V1__REASON__INIT;
        reason[i].name = (char *)names[i];
        reason[i].detail = (char *)"PCR 7 is 00ff under policy fleet";
        reasons[i] = &reason[i];
    }
    body.verdict = POSTERN__V1__VERDICT__VERDICT_CONTRAINDICATED;
    body.reasons = reasons;
    body.n_reasons = ARRAY_LEN(reasons);
    set_up(&held);
    assert_ok(held_appraise(&held, &body, slice_str("the body"), &came, &err));
    assert_int_equal(held.reasons.count, 2);
    assert_string_equal(held.reasons.text[0], "pcr-policy");
    assert_string_equal(held.reasons.text[1], "event\\x1b-log");
    assert_false(held_release(&held, "spiffe://x/a", "db", APPRAISED, &secret, &err));
    assert_string_equal(err.message, "the authority refuses this node's state: pcr-policy");
}

static void heads_and_versions_only_rise(void **state)
{
    (void)state;
    CLEANUP(held_done) struct held held;
    struct error err = {0};
    bool changed = true;
    set_up(&held);
    put(&held, "db", 5, 2, "second");

    CLEANUP(head_done) struct head lower = make_head("db", 1, 4, 3);
    assert_fails(held_put_head(&held, &lower, &changed, &err), ERROR_CONFLICT);
    assert_string_equal(err.reason, "HEAD_NOT_NEWER");
    CLEANUP(head_done) struct head other = make_head("db", 1, 5, 9);
    assert_fails(held_put_head(&held, &other, &changed, &err), ERROR_CONFLICT);
    CLEANUP(head_done) struct head epoch = make_head("db", 0, 99, 9);
    assert_fails(held_put_head(&held, &epoch, &changed, &err), ERROR_CONFLICT);
    CLEANUP(head_done) struct head same = make_head("db", 1, 5, 2);
    assert_ok(held_put_head(&held, &same, &changed, &err));
    assert_false(changed);

    CLEANUP(packet_done) struct packet old = make_packet(1, 1, 1, "swordfish");
    assert_fails(held_put_packet(&held, "db", &old, &err), ERROR_CONFLICT);
    CLEANUP(packet_done) struct packet ahead = make_packet(1, 1, 3, "third");
    assert_fails(held_put_packet(&held, "db", &ahead, &err), ERROR_CONFLICT);
    CLEANUP(packet_done) struct packet twice = make_packet(2, 1, 2, "not second");
    assert_fails(held_put_packet(&held, "db", &twice, &err), ERROR_CONFLICT);
    CLEANUP(packet_done) struct packet again = make_packet(2, 1, 2, "second");
    assert_true(held_secret_wants(held_find(&held, "db"), 2));
    assert_ok(held_put_packet(&held, "db", &again, &err)); /* under another node key */
    assert_false(held_secret_wants(held_find(&held, "db"), 2));
    CLEANUP(packet_done) struct packet nobody = make_packet(1, 1, 1, "x");
    assert_fails(held_put_packet(&held, "none", &nobody, &err), ERROR_NOT_FOUND);
    assert_true(slice_is(secret_slice(held_find(&held, "db")->packet.value), "second"));
}

static void a_name_that_is_gone_is_erased(void **state)
{
    (void)state;
    CLEANUP(held_done) struct held held;
    struct error err = {0};
    bool changed = false;
    set_up(&held);
    put(&held, "second", 1, 1, "2");
    put(&held, "third", 1, 1, "3");
    CLEANUP(head_done) struct head gone = make_head("second", 1, 2, 0);
    gone.gone = true;
    assert_ok(held_put_head(&held, &gone, &changed, &err));
    assert_true(changed);
    assert_null(held_find(&held, "second"));
    assert_int_equal(held.count, 2);
    assert_true(slice_is(secret_slice(held_find(&held, "third")->packet.value), "3"));
    CLEANUP(head_done) struct head never = make_head("never", 1, 2, 0);
    never.gone = true;
    assert_ok(held_put_head(&held, &never, &changed, &err));
    assert_false(changed);
}

static void degraded_since_the_first_of_loss_and_expiry(void **state)
{
    (void)state;
    CLEANUP(held_done) struct held held;
    set_up(&held);
    assert_int_equal(held_degraded_since(&held, APPRAISED), 0);
    assert_int_equal(held_next_change(&held, APPRAISED), EXPIRES);
    assert_int_equal(held_degraded_since(&held, EXPIRES), EXPIRES);
    assert_int_equal(held_next_change(&held, EXPIRES), APPRAISED + (int64_t)OFFLINE);
    held_lost(&held, APPRAISED + 5);
    held_lost(&held, APPRAISED + 9);
    assert_int_equal(held_degraded_since(&held, EXPIRES), APPRAISED + 5);
    held_reached(&held, EXPIRES + 50);
    assert_int_equal(held_degraded_since(&held, EXPIRES + 50), EXPIRES);
    assert_true(held_next_change(&held, INT64_MAX - 1) == INT64_MAX);
}

static void the_number_of_names_is_limited(void **state)
{
    (void)state;
    CLEANUP(held_done) struct held held;
    struct error err = {0};
    bool changed;
    char name[32];
    set_up(&held);
    for (size_t i = 1; i < HELD_SECRETS_MAX; i++) {
        (void)snprintf(name, sizeof(name), "n%zu", i);
        CLEANUP(head_done) struct head head = make_head(name, 1, 1, 1);
        assert_ok(held_put_head(&held, &head, &changed, &err));
    }
    CLEANUP(head_done) struct head more = make_head("more", 1, 1, 1);
    assert_fails(held_put_head(&held, &more, &changed, &err), ERROR_EXHAUSTED);
    struct texts texts = {.text = POISON};
    char *two[] = {(char *)"a", (char *)"b"};
    assert_fails(texts_copy(two, 2, 1, &texts, &err), ERROR_EXHAUSTED);
    assert_ptr_equal(texts.text, POISON);
}

static bool appraise_once(void *arg, struct error *err)
{
    return appraise(arg, POSTERN__V1__VERDICT__VERDICT_WARNING, true, err);
}

static void memory_may_fail_anywhere(void **state)
{
    (void)state;
    CLEANUP(held_done) struct held held;
    set_up(&held);
    testlib_allocation_sweep(appraise_once, &held);
    assert_int_equal(held.count, 1);
    assert_string_equal(allowed, held.secrets[0].head.allow.text[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(release_is_decided_by_a_table),
        cmocka_unit_test(unknown_and_not_allowed_are_the_same_answer),
        cmocka_unit_test(pods_learn_which_checks_and_no_details),
        cmocka_unit_test(heads_and_versions_only_rise),
        cmocka_unit_test(a_name_that_is_gone_is_erased),
        cmocka_unit_test(degraded_since_the_first_of_loss_and_expiry),
        cmocka_unit_test(the_number_of_names_is_limited),
        cmocka_unit_test(memory_may_fail_anywhere),
    };
    return cmocka_run_group_tests_name("held", tests, nullptr, nullptr);
}
