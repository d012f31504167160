#include "unit/authority/fixture.h"

#include <stdio.h>

#define TOKEN "join-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
#define ONE "00000000000000000000000000000001"
#define TWO "00000000000000000000000000000002"

/* ---- Join tokens ---- */

struct token_case {
    const struct fixture *f;
    const char *token, *agent_id;
    int64_t at_ms; /* after now */
    bool valid;
    char policy[POLICY_NAME_SIZE];
};

static bool run_make(struct tx *tx, void *arg, struct error *err)
{
    const struct token_case *c = arg;
    return tokens_make(tx, c->token, "good", "admin", c->f->now_ms, c->f->now_ms + 1000, err);
}

static bool run_look(struct tx *tx, void *arg, struct error *err)
{
    struct token_case *c = arg;
    return tokens_look(tx, c->token, c->agent_id, c->f->now_ms + c->at_ms, &c->valid, c->policy,
                       err);
}

static bool run_spend(struct tx *tx, void *arg, struct error *err)
{
    const struct token_case *c = arg;
    return tokens_spend(tx, c->token, c->agent_id, c->f->now_ms + c->at_ms, err);
}

static bool is_valid(struct fixture *f, const char *token, const char *agent_id, int64_t at_ms)
{
    struct error err = {0};
    struct token_case c = {.f = f, .token = token, .agent_id = agent_id, .at_ms = at_ms};
    assert_ok(transact(f, run_look, &c, &err));
    if (c.valid)
        assert_string_equal(c.policy, "good");
    return c.valid;
}

static bool run_find_text(struct tx *tx, void *arg, struct error *err)
{
    CLEANUP(rows_done) struct rows rows = {0};
    int64_t count;
    (void)arg;
    if (!tx_query_one(tx, "SELECT count(*) FROM join_token WHERE instr(hash, $1) > 0",
                      SQL_PARAMS(sql_blob(slice_str("AAAAAAAA"))), &rows, err) ||
        !rows_int(&rows, 0, 0, 10, &count, err))
        return false;
    assert_int_equal(count, 0);
    return true;
}

static void test_token_is_good_once(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    struct token_case c = {.f = f, .token = TOKEN, .agent_id = ONE};
    assert_false(is_valid(f, TOKEN, ONE, 0));
    assert_ok(transact(f, run_make, &c, &err));
    assert_ok(transact(f, run_find_text, nullptr, &err));
    assert_true(is_valid(f, TOKEN, ONE, 0));
    assert_true(is_valid(f, TOKEN, TWO, 999));
    assert_false(is_valid(f, TOKEN, ONE, 1000)); /* half-open: over at its end */
    assert_false(is_valid(f, "join-BAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", ONE, 0));
    assert_false(is_valid(f, "", ONE, 0));

    assert_ok(transact(f, run_spend, &c, &err));
    assert_true(is_valid(f, TOKEN, ONE, 500)); /* the retry of who spent it */
    assert_false(is_valid(f, TOKEN, TWO, 500));
    assert_ok(transact(f, run_spend, &c, &err));
    c.agent_id = TWO;
    assert_fails(transact(f, run_spend, &c, &err), ERROR_CONFLICT);
    assert_string_equal(err.reason, "JOIN_TOKEN_SPENT");
}

/* ---- Nonces ---- */

struct nonce_case {
    const char *agent_id;
    int64_t now_ms, made_ms;
    uint8_t nonce[32];
    struct attest_nonce found;
};

static bool run_nonce(struct tx *tx, void *arg, struct error *err)
{
    const struct nonce_case *c = arg;
    return nonces_make(tx, SLICE_OF(c->nonce), c->agent_id, c->now_ms, err);
}

static bool run_take(struct tx *tx, void *arg, struct error *err)
{
    struct nonce_case *c = arg;
    return nonces_take(tx, SLICE_OF(c->nonce), c->agent_id, c->now_ms, &c->found, &c->made_ms, err);
}

static void test_nonce_is_answered_once(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    struct nonce_case c = {.agent_id = ONE, .now_ms = f->now_ms, .nonce = {1}};
    assert_ok(transact(f, run_take, &c, &err));
    assert_false(c.found.unused); /* never made */
    assert_ok(transact(f, run_nonce, &c, &err));
    c.now_ms += 59'000;
    assert_ok(transact(f, run_take, &c, &err));
    assert_true(c.found.unused);
    assert_true(c.found.of_agent);
    assert_int_equal(c.found.age_ms, 59'000);
    assert_int_equal(c.made_ms, f->now_ms);
    assert_ok(transact(f, run_take, &c, &err));
    assert_false(c.found.unused);

    assert_ok(transact(f, run_nonce, &c, &err));
    c.agent_id = TWO;
    assert_ok(transact(f, run_take, &c, &err));
    assert_true(c.found.unused);
    assert_false(c.found.of_agent); /* and it is gone for its owner too */
    c.agent_id = ONE;
    assert_ok(transact(f, run_take, &c, &err));
    assert_false(c.found.unused);
}

static bool run_fill(struct tx *tx, void *arg, struct error *err)
{
    struct nonce_case c = *(struct nonce_case *)arg;
    for (int64_t i = 0; i < NONCES_MAX; i++) {
        mem_copy(c.nonce, &i, sizeof(i));
        if (!tx_exec(tx, "INSERT INTO nonce (nonce, agent_id, made_at_ms) VALUES ($1, 'x', $2)",
                     SQL_PARAMS(sql_blob(SLICE_OF(c.nonce)), sql_int(c.now_ms)), err))
            return false;
    }
    return true;
}

static bool run_count(struct tx *tx, void *arg, struct error *err)
{
    CLEANUP(rows_done) struct rows rows = {0};
    return tx_query_one(tx, "SELECT count(*) FROM nonce", SQL_NONE, &rows, err) &&
           rows_int(&rows, 0, 0, INT64_MAX, arg, err);
}

/* A flood fills the table and refuses nobody: those make room that were made longest ago. */
static void test_nonces_are_bounded(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    struct nonce_case first = {.agent_id = ONE, .now_ms = f->now_ms - 1, .nonce = {[31] = 1}};
    struct nonce_case last = {.agent_id = ONE, .now_ms = f->now_ms + 1, .nonce = {[31] = 2}};
    int64_t count;
    assert_ok(transact(f, run_nonce, &first, &err));
    struct nonce_case flood = {.now_ms = f->now_ms};
    assert_ok(transact(f, run_fill, &flood, &err));
    assert_ok(transact(f, run_nonce, &last, &err));
    assert_ok(transact(f, run_count, &count, &err));
    assert_int_equal(count, NONCES_MAX);
    assert_ok(transact(f, run_take, &first, &err));
    assert_false(first.found.unused);
    assert_ok(transact(f, run_take, &last, &err));
    assert_true(last.found.unused);
    last.now_ms += ATTEST_NONCE_LIFETIME_MS + 1;
    assert_ok(transact(f, run_nonce, &last, &err));
    assert_ok(transact(f, run_count, &count, &err));
    assert_int_equal(count, 1); /* the old ones are gone by then */
}

/* ---- Nodes ---- */

struct read {
    const char *agent_id;
    struct node_record record;
};

static bool run_get(struct tx *tx, void *arg, struct error *err)
{
    struct read *read = arg;
    node_record_done(&read->record);
    node_record_init(&read->record);
    return nodes_get(tx, read->agent_id, &read->record, err);
}

static bool get(struct fixture *f, const char *agent_id, struct read *ret, struct error *err)
{
    ret->agent_id = agent_id;
    node_record_done(&ret->record);
    return transact(f, run_get, ret, err);
}

static void test_records_what_is_measured(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    struct read read = {0};
    CLEANUP(claim_done) struct claim claim;
    claim_make(f, 1, POSTERN__V1__VERDICT__VERDICT_AFFIRMING, &claim);
    claim.update.admission = POSTERN__V1__ADMISSION__ADMISSION_ADMITTED;
    claim.update.policy = "good";
    claim_record(f, &claim);
    assert_ok(get(f, ONE, &read, &err));
    assert_int_equal(read.record.admission, POSTERN__V1__ADMISSION__ADMISSION_ADMITTED);
    assert_string_equal(read.record.policy, "good");
    assert_true(read.record.trusted);
    assert_int_equal(read.record.counter, 5);
    assert_int_equal(read.record.firmware_version, UINT64_MAX);
    assert_true(node_may_receive(&read.record, f->now_ms, &err));
    assert_fails(node_may_receive(&read.record, f->now_ms + 1000, &err), ERROR_CONFLICT);
    assert_string_equal(err.reason, "APPRAISAL_EXPIRED");

    /* What a contraindicated appraisal says moves nothing that the next is measured by. */
    claim.appraisal.verdict = POSTERN__V1__VERDICT__VERDICT_CONTRAINDICATED;
    claim.appraisal.counter = 500;
    claim.appraisal.clock_ms = 1'000'000;
    claim_record(f, &claim);
    assert_ok(get(f, ONE, &read, &err));
    assert_int_equal(read.record.counter, 5);
    assert_int_equal(read.record.clock_ms, 1000);
    assert_fails(node_may_receive(&read.record, f->now_ms, &err), ERROR_CONFLICT);
    assert_string_equal(err.reason, "NODE_CONTRAINDICATED");
    node_record_done(&read.record);
}

static bool run_generations(struct tx *tx, void *arg, struct error *err)
{
    static const uint8_t name[][3] = {"\0aa", "\0bb", "\0cc"};
    (void)arg;
    for (int i = 0; i < 3; i++) {
        const struct slice bytes = SLICE_OF(name[i]);
        if (!tx_exec(tx,
                     "INSERT INTO generation (agent_id, generation, state, counter_limit, "
                     "wrap_name, counter_name, seal_digest, body, wrapped_key, offered_at_ms) "
                     "VALUES ($1, $2, $3, $4, $5, $5, $5, $5, $5, 0)",
                     SQL_PARAMS(sql_text(ONE), sql_int(i + 1), sql_int(i < 2 ? 2 : 1),
                                sql_int(40 + i), sql_blob(bytes)),
                     err))
            return false;
    }
    return true;
}

/* What the next appraisal is measured by is of the newest that the node confirmed, its counter's
 * Name included. */
static void test_newest_confirmed_generation(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    struct read read = {0};
    struct attest_record known;
    CLEANUP(claim_done) struct claim claim;
    claim_make(f, 1, POSTERN__V1__VERDICT__VERDICT_AFFIRMING, &claim);
    claim_record(f, &claim);
    assert_ok(get(f, ONE, &read, &err));
    node_attest_record(&read.record, &known);
    assert_false(known.has_generation);
    assert_int_equal(known.counter_name.size, 0);
    assert_ok(transact(f, run_generations, nullptr, &err));
    assert_ok(get(f, ONE, &read, &err));
    node_attest_record(&read.record, &known);
    assert_true(known.has_generation);
    assert_int_equal(read.record.generation, 2);
    assert_int_equal(known.limit, 41);
    assert_int_equal(known.counter_name.size, 3);
    assert_memory_equal(known.counter_name.name, "\0bb", 3);
    node_record_done(&read.record);
}

static void test_first_seen_in_a_bad_state(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    struct read read = {0};
    struct attest_record known;
    CLEANUP(claim_done) struct claim claim;
    claim_make(f, 1, POSTERN__V1__VERDICT__VERDICT_CONTRAINDICATED, &claim);
    claim_record(f, &claim);
    assert_ok(get(f, ONE, &read, &err));
    assert_false(read.record.trusted);
    node_attest_record(&read.record, &known);
    assert_true(known.known);
    assert_false(known.has_clock);
    assert_false(known.admitted);
    assert_fails(node_may_receive(&read.record, f->now_ms, &err), ERROR_DENIED);
    assert_string_equal(err.reason, "NODE_NOT_ADMITTED");
    node_record_done(&read.record);
}

static bool run_approve(struct tx *tx, void *arg, struct error *err)
{
    return nodes_approve(tx, arg, "good", err);
}

static bool run_deny(struct tx *tx, void *arg, struct error *err)
{
    return nodes_deny(tx, arg, err);
}

static bool run_clear(struct tx *tx, void *arg, struct error *err)
{
    return nodes_accept_clear(tx, arg, err);
}

static void test_operators_words(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    struct read read = {0};
    char one[] = ONE, nobody[] = TWO;
    CLEANUP(claim_done) struct claim claim;
    claim_make(f, 1, POSTERN__V1__VERDICT__VERDICT_PENDING, &claim);
    claim_record(f, &claim);
    assert_fails(transact(f, run_approve, nobody, &err), ERROR_NOT_FOUND);
    assert_string_equal(err.reason, "NODE_UNKNOWN");
    assert_fails(transact(f, run_deny, nobody, &err), ERROR_NOT_FOUND);
    assert_fails(transact(f, run_clear, nobody, &err), ERROR_NOT_FOUND);
    assert_fails(get(f, TWO, &read, &err), ERROR_NOT_FOUND);

    assert_ok(transact(f, run_approve, one, &err));
    assert_ok(transact(f, run_clear, one, &err));
    assert_ok(get(f, ONE, &read, &err));
    assert_int_equal(read.record.admission, POSTERN__V1__ADMISSION__ADMISSION_ADMITTED);
    assert_true(read.record.clear_accepted);

    /* Refused evidence does not use the word up; what is affirmed does. */
    claim.update.admission = POSTERN__V1__ADMISSION__ADMISSION_ADMITTED;
    claim.update.policy = "good";
    claim.appraisal.verdict = POSTERN__V1__VERDICT__VERDICT_CONTRAINDICATED;
    claim_record(f, &claim);
    assert_ok(get(f, ONE, &read, &err));
    assert_true(read.record.clear_accepted);
    claim.appraisal.verdict = POSTERN__V1__VERDICT__VERDICT_AFFIRMING;
    claim_record(f, &claim);
    assert_ok(get(f, ONE, &read, &err));
    assert_false(read.record.clear_accepted);

    assert_ok(transact(f, run_deny, one, &err));
    assert_ok(get(f, ONE, &read, &err));
    assert_fails(node_may_receive(&read.record, f->now_ms, &err), ERROR_DENIED);
    node_record_done(&read.record);
}

static void test_oldest_pending_makes_room(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    struct read read = {0};
    for (unsigned i = 1; i <= NODES_PENDING_MAX + 1; i++) {
        CLEANUP(claim_done) struct claim claim;
        claim_make(f, i, POSTERN__V1__VERDICT__VERDICT_PENDING, &claim);
        /* The second is the one that was seen longest ago. */
        claim.update.now_ms += i == 2 ? -1 : (int64_t)i;
        claim_record(f, &claim);
    }
    assert_fails(get(f, TWO, &read, &err), ERROR_NOT_FOUND);
    assert_ok(get(f, ONE, &read, &err));
    node_record_done(&read.record);
}

static bool run_absurd(struct tx *tx, void *arg, struct error *err)
{
    const struct claim *claim = arg;
    return nodes_record(tx, &claim->update, err);
}

static void test_absurd_numbers(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    struct read read = {0};
    CLEANUP(claim_done) struct claim claim;
    claim_make(f, 1, POSTERN__V1__VERDICT__VERDICT_AFFIRMING, &claim);
    claim.appraisal.counter = INT64_MAX;
    assert_fails(transact(f, run_absurd, &claim, &err), ERROR_INVALID);
    claim.appraisal.counter = 1;
    claim.appraisal.clock_ms = UINT64_MAX;
    assert_fails(transact(f, run_absurd, &claim, &err), ERROR_INVALID);
    assert_fails(get(f, ONE, &read, &err), ERROR_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_token_is_good_once, fixture_up, fixture_down),
        cmocka_unit_test_setup_teardown(test_nonce_is_answered_once, fixture_up, fixture_down),
        cmocka_unit_test_setup_teardown(test_nonces_are_bounded, fixture_up, fixture_down),
        cmocka_unit_test_setup_teardown(test_records_what_is_measured, fixture_up, fixture_down),
        cmocka_unit_test_setup_teardown(test_newest_confirmed_generation, fixture_up, fixture_down),
        cmocka_unit_test_setup_teardown(test_first_seen_in_a_bad_state, fixture_up, fixture_down),
        cmocka_unit_test_setup_teardown(test_operators_words, fixture_up, fixture_down),
        cmocka_unit_test_setup_teardown(test_oldest_pending_makes_room, fixture_up, fixture_down),
        cmocka_unit_test_setup_teardown(test_absurd_numbers, fixture_up, fixture_down),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
