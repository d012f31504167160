#include "unit/authority/fixture.h"

#include "pb/message.h"
#include "pb/yaml.h"
#include "tpmwire/nv.h"
#include "tpmwire/public.h"

static const char policy_text[] =
    "name: good\n"
    "pcrs:\n"
    "  - {bank: sha256, index: 0, allowed: ["
    "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff]}\n"
    "  - {bank: sha256, index: 7, allowed: ["
    "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff]}\n"
    "seal: \"sha256:7\"\n"
    "ek_trust: [tofu]\n";

/* One node, asking again and again. */
struct world {
    struct fixture *f;
    struct claim claim;
    const struct attest_policy *policy;
    struct node_record record;
    struct generation_case in;
    /* Of the last offer. */
    struct buf body;
    enum generation_due due;
    uint64_t generation, limit;
};

static int world_up(void **state)
{
    struct error err = {0};
    ProtobufCMessage *message;
    struct world *w = mem_new(1, sizeof(*w));
    assert_non_null(w);
    fixture_up((void **)&w->f);
    claim_make(w->f, 1, POSTERN__V1__VERDICT__VERDICT_AFFIRMING, &w->claim);
    w->claim.update.admission = POSTERN__V1__ADMISSION__ADMISSION_ADMITTED;
    claim_record(w->f, &w->claim);
    assert_ok(pb_from_yaml(&postern__v1__attestation_policy__descriptor, "policy",
                           slice_str(policy_text), &message, &err));
    assert_ok(attest_policy_new((const Postern__V1__AttestationPolicy *)message, &w->policy, &err));
    pb_free(message);
    node_record_init(&w->record);
    buf_init(&w->body, 16 * 1024);
    w->in = (struct generation_case){
        .record = &w->record,
        .identity = &w->claim.id,
        .policy = w->policy,
        .pcrs = &w->claim.appraisal.pcrs,
        .counter = 5,
        .counter_normal = true,
        .now_ms = w->f->now_ms,
    };
    *state = w;
    return 0;
}

static int world_down(void **state)
{
    struct world *w = *state;
    buf_done(&w->body);
    node_record_done(&w->record);
    attest_policy_unref(w->policy);
    claim_done(&w->claim);
    fixture_down((void **)&w->f);
    mem_free(w);
    return 0;
}

static bool run_offer(struct tx *tx, void *arg, struct error *err)
{
    struct world *w = arg;
    buf_clear(&w->body);
    node_record_done(&w->record);
    node_record_init(&w->record);
    return nodes_get(tx, w->claim.id.agent_id, &w->record, err) &&
           generation_offer(tx, w->f->kek, &w->in, &w->body, &w->due, err);
}

/* Asks once; 0 where nothing is due. */
static uint64_t offer(struct world *w)
{
    struct error err = {0};
    CLEANUP(pb_free_at) ProtobufCMessage *message = nullptr;
    assert_ok(transact(w->f, run_offer, w, &err));
    w->generation = w->limit = 0;
    if (w->body.len == 0) {
        assert_int_equal(w->due, GENERATION_NOT_DUE);
        return 0;
    }
    assert_ok(pb_unpack(&postern__v1__generation_body__descriptor, buf_slice(&w->body),
                        &pb_limits_strict, &message, &err));
    const Postern__V1__GenerationBody *body = (const Postern__V1__GenerationBody *)message;
    assert_string_equal(body->agent_id, w->claim.id.agent_id);
    assert_int_equal(body->n_seal, 1);
    assert_int_equal(body->seal[0]->mask, 1U << 7);
    w->generation = body->generation;
    w->limit = body->limit;
    return body->generation;
}

static bool run_confirm(struct tx *tx, void *arg, struct error *err)
{
    const struct world *w = arg;
    return generation_confirm(tx, w->claim.id.agent_id, w->generation, w->f->now_ms, err);
}

static bool run_want(struct tx *tx, void *arg, struct error *err)
{
    const struct world *w = arg;
    return generation_want(tx, w->claim.id.agent_id, err);
}

static bool run_clear(struct tx *tx, void *arg, struct error *err)
{
    const struct world *w = arg;
    return nodes_accept_clear(tx, w->claim.id.agent_id, err);
}

struct key_case {
    const struct world *w;
    uint64_t generation;
    struct secret *key;
};

static bool run_key(struct tx *tx, void *arg, struct error *err)
{
    struct key_case *c = arg;
    return generation_key(tx, c->w->f->kek, c->w->claim.id.agent_id, c->generation, &c->key, err);
}

static enum error_class key_of(struct world *w, uint64_t generation)
{
    struct error err = {0};
    struct key_case c = {.w = w, .generation = generation};
    if (!transact(w->f, run_key, &c, &err))
        return err.class;
    assert_int_equal(secret_len(c.key), 32);
    secret_free(c.key);
    return ERROR_NONE;
}

/* Confirms what was offered last; the node holds it from then on, and increments if `retire`. */
static void confirm(struct world *w, bool retire)
{
    struct error err = {0};
    assert_ok(transact(w->f, run_confirm, w, &err));
    w->in.held = w->generation;
    if (retire)
        w->in.counter = w->limit;
}

static void test_first(void **state)
{
    struct world *w = *state;
    struct error err = {0};
    assert_int_equal(offer(w), 1);
    assert_int_equal(w->due, GENERATION_FIRST);
    assert_int_equal(w->limit, 5); /* replaces nothing: the certified value */
    assert_int_equal(key_of(w, 1), ERROR_NONE);
    assert_int_equal(key_of(w, 2), ERROR_NOT_FOUND);
    assert_int_equal(key_of(w, UINT64_MAX), ERROR_NOT_FOUND);
    confirm(w, true);
    assert_int_equal(offer(w), 0);
    w->generation = 9;
    assert_fails(transact(w->f, run_confirm, w, &err), ERROR_NOT_FOUND);
    assert_string_equal(err.reason, "GENERATION_UNKNOWN");
}

static void test_offered_again_until_confirmed(void **state)
{
    struct world *w = *state;
    CLEANUP(buf_done) struct buf first;
    buf_init(&first, 16 * 1024);
    offer(w);
    buf_put(&first, buf_slice(&w->body));
    assert_int_equal(offer(w), 1);
    assert_true(slice_equal(buf_slice(&first), buf_slice(&w->body)));
    w->in.held = 1; /* imported, and its confirmation is still to come */
    assert_int_equal(offer(w), 1);
}

static void test_unconfirmed_in_another_state(void **state)
{
    struct world *w = *state;
    offer(w);
    w->claim.appraisal.pcrs.value[2].buffer[0] ^= 1; /* PCR 7, sealed to */
    assert_int_equal(offer(w), 2);
    assert_int_equal(w->limit, 6); /* the node may have kept the first: it has to die */
    assert_int_equal(key_of(w, 1), ERROR_CONFLICT);
    w->in.counter = 6;
    assert_int_equal(offer(w), 2);
    /* The counter moved past the limit before it was confirmed. */
    w->in.counter = 7;
    assert_int_equal(offer(w), 3);
    assert_int_equal(w->limit, 7);
    assert_int_equal(key_of(w, 2), ERROR_CONFLICT);
    confirm(w, true);
    assert_int_equal(offer(w), 0);
}

/* Two were offered under one limit, of which one was confirmed: the counter has to pass both. */
static void test_abandoned_one_dies_too(void **state)
{
    struct world *w = *state;
    struct error err = {0};
    offer(w);
    confirm(w, true);
    assert_ok(transact(w->f, run_want, w, &err));
    assert_int_equal(offer(w), 2);
    w->claim.appraisal.pcrs.value[2].buffer[0] ^= 1;
    assert_int_equal(offer(w), 3);
    assert_int_equal(w->limit, 6);
    confirm(w, true);
    assert_int_equal(offer(w), 4);
    assert_int_equal(w->due, GENERATION_WANTED);
    assert_int_equal(w->limit, 7);
    confirm(w, true);
    assert_int_equal(offer(w), 0);
}

static void test_boot_state(void **state)
{
    struct world *w = *state;
    offer(w);
    confirm(w, true);
    w->claim.appraisal.pcrs.value[1].buffer[0] ^= 1; /* PCR 4, not sealed to */
    assert_int_equal(offer(w), 0);
    w->claim.appraisal.pcrs.value[2].buffer[0] ^= 1;
    assert_int_equal(offer(w), 2);
    assert_int_equal(w->due, GENERATION_BOOT_STATE);
    assert_int_equal(w->limit, 6);
    assert_int_equal(key_of(w, 1), ERROR_NONE); /* still openable, until the counter says not */
    confirm(w, true);
    assert_int_equal(offer(w), 0);
    assert_int_equal(key_of(w, 1), ERROR_CONFLICT);
    assert_int_equal(key_of(w, 2), ERROR_NONE);
}

static void test_wanted(void **state)
{
    struct world *w = *state;
    struct error err = {0};
    offer(w);
    confirm(w, true);
    assert_ok(transact(w->f, run_want, w, &err));
    assert_int_equal(offer(w), 2);
    assert_int_equal(w->due, GENERATION_WANTED);
    /* Wanted once more while it is on offer: what the node may have written under it counts too. */
    assert_ok(transact(w->f, run_want, w, &err));
    assert_int_equal(offer(w), 2);
    confirm(w, true);
    assert_int_equal(offer(w), 3);
    assert_int_equal(w->limit, 7);
    confirm(w, true);
    assert_int_equal(offer(w), 0);
}

static void test_lost(void **state)
{
    struct world *w = *state;
    offer(w);
    confirm(w, true);
    w->in.held = 0;
    assert_int_equal(offer(w), 2);
    assert_int_equal(w->due, GENERATION_LOST);
    assert_int_equal(w->limit, 6);
}

static void test_nothing_while_a_retirement_is_unfinished(void **state)
{
    struct world *w = *state;
    struct error err = {0};
    offer(w);
    confirm(w, true);
    assert_ok(transact(w->f, run_want, w, &err));
    offer(w);
    confirm(w, false); /* counter still 5, limit 6 */
    assert_ok(transact(w->f, run_want, w, &err));
    w->in.counter_normal = false;
    assert_int_equal(offer(w), 0);
    w->in.counter_normal = true;
    w->in.counter = 6;
    assert_int_equal(offer(w), 3);
}

static void test_cleared(void **state)
{
    struct world *w = *state;
    struct error err = {0};
    CLEANUP(claim_done) struct claim other;
    offer(w);
    confirm(w, true);
    claim_make(w->f, 2, POSTERN__V1__VERDICT__VERDICT_AFFIRMING, &other);
    assert_ok(transact(w->f, run_clear, w, &err));
    assert_int_equal(offer(w), 0); /* accepted, and not seen: nothing changes */
    w->claim.id.wrap = other.id.wrap;
    w->claim.id.wrap_name = other.id.wrap_name;
    w->in.counter = 40;
    w->in.counter_normal = false;
    assert_int_equal(offer(w), 2);
    assert_int_equal(w->due, GENERATION_CLEARED);
    assert_int_equal(w->limit, 40);
    assert_int_equal(key_of(w, 1), ERROR_CONFLICT);
}

static void test_another_wrap_alone(void **state)
{
    struct world *w = *state;
    CLEANUP(claim_done) struct claim other;
    offer(w);
    confirm(w, true);
    claim_make(w->f, 2, POSTERN__V1__VERDICT__VERDICT_AFFIRMING, &other);
    w->claim.id.wrap = other.id.wrap;
    w->claim.id.wrap_name = other.id.wrap_name;
    assert_int_equal(offer(w), 2);
    assert_int_equal(w->due, GENERATION_CLEARED);
    assert_int_equal(w->limit, 6); /* the old one may still open: it has to die by the counter */
    assert_int_equal(key_of(w, 1), ERROR_NONE);
}

/* A node may define any number of counters. The second stands where the first should. */
static void test_another_counter(void **state)
{
    struct world *w = *state;
    struct error err = {0};
    const TPM2B_NAME first = w->claim.id.counter_name;
    offer(w);
    confirm(w, true);
    assert_ok(transact(w->f, run_want, w, &err));
    offer(w);
    confirm(w, true);
    w->claim.id.counter.nvPublic.nvIndex++;
    assert_ok(nv_area_name(&w->claim.id.counter.nvPublic, &w->claim.id.counter_name, &err));
    assert_fails(transact(w->f, run_offer, w, &err), ERROR_DENIED);
    assert_string_equal(err.reason, "COUNTER_CHANGED");
    assert_int_equal(key_of(w, 1), ERROR_NONE); /* nobody has shown that it is out of reach */
    /* The word alone is no excuse: WRAP is the one that it was. */
    assert_ok(transact(w->f, run_clear, w, &err));
    assert_fails(transact(w->f, run_offer, w, &err), ERROR_DENIED);
    w->claim.id.counter_name = first;
    assert_int_equal(offer(w), 0);
    assert_int_equal(key_of(w, 1), ERROR_CONFLICT);
}

/* What another counter says retires nothing either, where a generation is bound to the first. */
static void test_retires_by_its_own_counter(void **state)
{
    struct world *w = *state;
    struct error err = {0};
    const TPM2B_NAME first = w->claim.id.counter_name;
    offer(w);
    confirm(w, true);
    assert_ok(transact(w->f, run_want, w, &err));
    offer(w);
    confirm(w, false);
    w->claim.id.counter.nvPublic.nvIndex++;
    assert_ok(nv_area_name(&w->claim.id.counter.nvPublic, &w->claim.id.counter_name, &err));
    w->in.counter = 40;
    w->in.counter_normal = false; /* ends before it would be refused */
    assert_int_equal(offer(w), 0);
    assert_int_equal(key_of(w, 1), ERROR_NONE);
    w->claim.id.counter_name = first;
    assert_int_equal(offer(w), 0);
    assert_int_equal(key_of(w, 1), ERROR_CONFLICT);
}

static bool run_deny(struct tx *tx, void *arg, struct error *err)
{
    const struct world *w = arg;
    return nodes_deny(tx, w->claim.id.agent_id, err);
}

static void test_denied(void **state)
{
    struct world *w = *state;
    struct error err = {0};
    offer(w);
    confirm(w, true);
    assert_ok(transact(w->f, run_deny, w, &err));
    assert_int_equal(key_of(w, 1), ERROR_CONFLICT);
    assert_int_equal(offer(w), 2); /* approved anew: its number is not used again */
    assert_int_equal(w->due, GENERATION_FIRST);
    assert_int_equal(w->limit, 6); /* the first is retired here alone; the node may have it still */
    assert_int_equal(offer(w), 2);
    confirm(w, true);
    assert_int_equal(offer(w), 0);
}

/* Denied and approved anew with the counter beyond every limit: nothing opens any more. */
static void test_lifted(void **state)
{
    struct world *w = *state;
    struct error err = {0};
    offer(w);
    confirm(w, true);
    w->in.counter = 7;
    w->in.held = 0;
    assert_ok(transact(w->f, run_deny, w, &err));
    assert_int_equal(offer(w), 2);
    assert_int_equal(w->limit, 7);
}

static bool sweep_body(void *arg, struct error *err)
{
    return transact(((struct world *)arg)->f, run_offer, arg, err);
}

static void test_allocations(void **state)
{
    testlib_allocation_sweep(sweep_body, *state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_first, world_up, world_down),
        cmocka_unit_test_setup_teardown(test_offered_again_until_confirmed, world_up, world_down),
        cmocka_unit_test_setup_teardown(test_unconfirmed_in_another_state, world_up, world_down),
        cmocka_unit_test_setup_teardown(test_abandoned_one_dies_too, world_up, world_down),
        cmocka_unit_test_setup_teardown(test_boot_state, world_up, world_down),
        cmocka_unit_test_setup_teardown(test_wanted, world_up, world_down),
        cmocka_unit_test_setup_teardown(test_lost, world_up, world_down),
        cmocka_unit_test_setup_teardown(test_nothing_while_a_retirement_is_unfinished, world_up,
                                        world_down),
        cmocka_unit_test_setup_teardown(test_cleared, world_up, world_down),
        cmocka_unit_test_setup_teardown(test_another_wrap_alone, world_up, world_down),
        cmocka_unit_test_setup_teardown(test_another_counter, world_up, world_down),
        cmocka_unit_test_setup_teardown(test_retires_by_its_own_counter, world_up, world_down),
        cmocka_unit_test_setup_teardown(test_lifted, world_up, world_down),
        cmocka_unit_test_setup_teardown(test_denied, world_up, world_down),
        cmocka_unit_test_setup_teardown(test_allocations, world_up, world_down),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
