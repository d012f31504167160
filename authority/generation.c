#include "generation.h"

#include "base/crypt.h"
#include "base/mem.h"
#include "keyring/envelope.h"
#include "pb/message.h"
#include "tpmwire/import.h"
#include "tpmwire/policy.h"
#include "tpmwire/public.h"

constexpr size_t BODY_MAX = 8 * 1024; /* three TPM structures of at most 1 KiB each */
constexpr size_t CONTEXT_MAX = 128;

enum generation_state { OFFERED = 1, CONFIRMED = 2, RETIRED = 3 };

/* What one generation was made for. */
struct made {
    bool found;
    uint64_t generation, limit;
    TPM2B_NAME wrap_name, counter_name;
    uint8_t seal[SHA256_SIZE];
    struct buf body;
};

static void made_done(struct made *made)
{
    buf_done(&made->body);
}

/* ---- Reading ---- */

static bool read_name(const struct rows *rows, int column, TPM2B_NAME *ret, struct error *err)
{
    struct slice bytes;
    if (!rows_blob(rows, column, 1, sizeof(ret->name), &bytes, err))
        return false;
    ret->size = (uint16_t)bytes.len;
    mem_copy(ret->name, bytes.data, bytes.len);
    return true;
}

/* The newest in this state. */
static bool find(struct tx *tx, const char *agent_id, enum generation_state state, struct made *ret,
                 struct error *err)
{
    CLEANUP(rows_done) struct rows rows = {0};
    int64_t generation, limit;
    struct slice seal, body;
    buf_init(&ret->body, BODY_MAX);
    if (!tx_query(tx,
                  "SELECT generation, counter_limit, wrap_name, counter_name, seal_digest, body "
                  "FROM generation WHERE agent_id = $1 AND state = $2 "
                  "ORDER BY generation DESC LIMIT 1",
                  SQL_PARAMS(sql_text(agent_id), sql_int(state)), &rows, err) ||
        !rows_next(&rows, &ret->found, err))
        return false;
    if (!ret->found)
        return true;
    if (!rows_int(&rows, 0, 1, INT64_MAX, &generation, err) ||
        !rows_int(&rows, 1, 0, INT64_MAX, &limit, err) ||
        !read_name(&rows, 2, &ret->wrap_name, err) ||
        !read_name(&rows, 3, &ret->counter_name, err) ||
        !rows_blob(&rows, 4, SHA256_SIZE, SHA256_SIZE, &seal, err) ||
        !rows_blob(&rows, 5, 1, BODY_MAX, &body, err))
        return false;
    ret->generation = (uint64_t)generation;
    ret->limit = (uint64_t)limit;
    mem_copy(ret->seal, seal.data, seal.len);
    buf_put(&ret->body, body);
    return buf_ok(&ret->body, err);
}

static bool next_number(struct tx *tx, const char *agent_id, uint64_t *ret, struct error *err)
{
    CLEANUP(rows_done) struct rows rows = {0};
    int64_t number;
    if (!tx_query_one(tx, "SELECT coalesce(max(generation), 0) FROM generation WHERE agent_id = $1",
                      SQL_PARAMS(sql_text(agent_id)), &rows, err) ||
        !rows_int(&rows, 0, 0, INT64_MAX - 1, &number, err))
        return false;
    *ret = (uint64_t)number + 1;
    return true;
}

/* ---- Retiring ---- */

static bool retire(struct tx *tx, const char *agent_id, uint64_t first, uint64_t last,
                   struct error *err)
{
    return tx_exec(tx,
                   "UPDATE generation SET state = 3, wrapped_key = NULL WHERE agent_id = $1 AND "
                   "generation BETWEEN $2 AND $3 AND state <> 3",
                   SQL_PARAMS(sql_text(agent_id), sql_int((int64_t)first), sql_int((int64_t)last)),
                   err);
}

/* Older ones that the certified counter has passed: the one that they are bound to, and no other,
 * however high another one stands. */
static bool retire_passed(struct tx *tx, const struct generation_case *in,
                          const struct made *confirmed, struct error *err)
{
    return !confirmed->found ||
           tx_exec(tx,
                   "UPDATE generation SET state = 3, wrapped_key = NULL WHERE agent_id = $1 AND "
                   "state = 2 AND generation < $2 AND counter_limit < $3 AND counter_name = $4",
                   SQL_PARAMS(sql_text(in->identity->agent_id),
                              sql_int((int64_t)confirmed->generation),
                              sql_int((int64_t)in->counter),
                              sql_blob(name_slice(&in->identity->counter_name))),
                   err);
}

/* Whether one that was ever made opens at a counter of `value`, whatever became of it here: the node
 * may have kept it, with all that it fetched under it. */
static bool any_opens(struct tx *tx, const struct generation_case *in, uint64_t value, bool *ret,
                      struct error *err)
{
    CLEANUP(rows_done) struct rows rows = {0};
    return tx_query(tx,
                    "SELECT 1 FROM generation WHERE agent_id = $1 AND counter_name = $2 AND "
                    "counter_limit >= $3 LIMIT 1",
                    SQL_PARAMS(sql_text(in->identity->agent_id),
                               sql_blob(name_slice(&in->identity->counter_name)),
                               sql_int((int64_t)value)),
                    &rows, err) &&
           rows_next(&rows, ret, err);
}

/* ---- Making ---- */

/* What says which boot state, by which PCRs: the policy digest after PolicyPCR. */
static bool seal_digest(const struct generation_case *in, TPM2B_DIGEST *ret_pcrs,
                        uint8_t ret[static SHA256_SIZE], struct error *err)
{
    TPM2B_DIGEST running;
    if (!pcr_composite_digest(TPM2_ALG_SHA256, &in->policy->seal, in->pcrs, ret_pcrs, err) ||
        !policy_start(TPM2_ALG_SHA256, &running, err) ||
        !policy_pcr(&running, &in->policy->seal, ret_pcrs, err))
        return false;
    mem_copy(ret, running.buffer, SHA256_SIZE);
    return true;
}

static void key_context(const char *agent_id, uint64_t generation, struct buf *ret)
{
    buf_put_prefixed(ret, slice_str("node key"));
    buf_put_prefixed(ret, slice_str(agent_id));
    buf_put_u64(ret, generation);
}

struct parts {
    struct buf object_public, duplicate, seed;
};

static void parts_done(struct parts *parts)
{
    buf_done(&parts->object_public);
    buf_done(&parts->duplicate);
    buf_done(&parts->seed);
}

static bool pack_body(const struct generation_case *in, uint64_t generation, uint64_t limit,
                      const struct parts *parts, struct buf *ret, struct error *err)
{
    Postern__V1__GenerationBody body = POSTERN__V1__GENERATION_BODY__INIT;
    Postern__V1__PcrSelection seal[PCR_BANKS_MAX], *seals[PCR_BANKS_MAX];
    const TPM2B_NAME *counter = &in->identity->counter_name;
    body.agent_id = (char *)in->identity->agent_id;
    body.generation = generation;
    body.limit = limit;
    body.counter_name = (ProtobufCBinaryData){counter->size, (uint8_t *)counter->name};
    for (size_t i = 0; i < in->policy->seal.count; i++) {
        postern__v1__pcr_selection__init(&seal[i]);
        seal[i].bank = in->policy->seal.bank[i].alg;
        seal[i].mask = in->policy->seal.bank[i].mask;
        seals[i] = &seal[i];
    }
    body.n_seal = in->policy->seal.count;
    body.seal = seals;
    body.object_public = (ProtobufCBinaryData){parts->object_public.len, parts->object_public.data};
    body.duplicate = (ProtobufCBinaryData){parts->duplicate.len, parts->duplicate.data};
    body.seed = (ProtobufCBinaryData){parts->seed.len, parts->seed.data};
    return pb_pack(&body.base, BODY_MAX, ret, err);
}

static bool wrap_for_tpm(const struct generation_case *in, const struct secret *key,
                         const TPM2B_DIGEST *pcrs, uint64_t limit, struct parts *ret,
                         struct error *err)
{
    TPM2B_DIGEST policy;
    buf_init(&ret->object_public, IMPORT_BLOB_WIRE_MAX);
    buf_init(&ret->duplicate, IMPORT_BLOB_WIRE_MAX);
    buf_init(&ret->seed, IMPORT_BLOB_WIRE_MAX);
    return node_key_policy(&in->policy->seal, pcrs, &in->identity->counter_name, limit, &policy,
                           err) &&
           import_blob_make(&in->identity->wrap.publicArea, key, &policy, &ret->object_public,
                            &ret->duplicate, &ret->seed, err);
}

static bool make(struct tx *tx, const struct kek *kek, const struct generation_case *in,
                 uint64_t limit, const TPM2B_DIGEST *pcrs, const uint8_t seal[SHA256_SIZE],
                 struct buf *ret_body, struct error *err)
{
    uint64_t generation;
    bool another_opens;
    CLEANUP(secret_free_at) struct secret *key = nullptr;
    CLEANUP(parts_done) struct parts parts = {0};
    CLEANUP(buf_done) struct buf context, wrapped, body;
    buf_init(&context, CONTEXT_MAX);
    buf_init(&wrapped, NODE_KEY_SIZE + KEK_OVERHEAD);
    buf_init(&body, BODY_MAX);
    const char *agent_id = in->identity->agent_id;
    if (!next_number(tx, agent_id, &generation, err) ||
        !any_opens(tx, in, limit, &another_opens, err) ||
        !secret_random(NODE_KEY_SIZE, &key, err) ||
        !wrap_for_tpm(in, key, pcrs, limit, &parts, err) ||
        !pack_body(in, generation, limit, &parts, &body, err))
        return false;
    key_context(agent_id, generation, &context);
    if (!buf_ok(&context, err) || !kek_wrap(kek, buf_slice(&context), key, &wrapped, err))
        return false;
    if (!tx_exec(tx,
                 "INSERT INTO generation (agent_id, generation, state, counter_limit, wrap_name, "
                 "counter_name, seal_digest, body, wrapped_key, offered_at_ms) VALUES ($1, $2, 1, "
                 "$3, $4, $5, $6, $7, $8, $9)",
                 SQL_PARAMS(sql_text(agent_id), sql_int((int64_t)generation),
                            sql_int((int64_t)limit), sql_blob(name_slice(&in->identity->wrap_name)),
                            sql_blob(name_slice(&in->identity->counter_name)),
                            sql_blob(slice(seal, SHA256_SIZE)), sql_blob(buf_slice(&body)),
                            sql_blob(buf_slice(&wrapped)), sql_int(in->now_ms)),
                 err) ||
        /* One that was offered under the same limit, in another boot state, opens beside this one
         * until the counter is past both: so there has to be one more. */
        !tx_exec(tx, "UPDATE node SET wants_generation = $2 WHERE agent_id = $1",
                 SQL_PARAMS(sql_text(agent_id), sql_int(another_opens)), err))
        return false;
    buf_put(ret_body, buf_slice(&body));
    return buf_ok(ret_body, err);
}

/* ---- Deciding ---- */

/* Nothing of an earlier generation opens any more: an operator accepted that, and a new WRAP shows
 * it. (lib/attest lets the counts go down by the same rule.) */
static bool is_cleared(const struct generation_case *in, const struct made *confirmed)
{
    return in->record->clear_accepted && confirmed->found &&
           !name_equal(&confirmed->wrap_name, &in->identity->wrap_name);
}

static bool same_counter(const struct made *made, const struct attest_identity *id)
{
    return name_equal(&made->counter_name, &id->counter_name);
}

static bool same_wrap(const struct made *made, const struct attest_identity *id)
{
    return name_equal(&made->wrap_name, &id->wrap_name);
}

/* A generation that counts by another counter would leave this one open for good. (lib/attest says
 * so as check 37; here it would be made.) */
static bool check_counter(const struct generation_case *in, const struct made *confirmed,
                          struct error *err)
{
    return !confirmed->found || same_counter(confirmed, in->identity) ||
           error_set_reason(err, ERROR_DENIED, "COUNTER_CHANGED",
                            "node %s shows another counter than generation %llu is bound to; if "
                            "its TPM was cleared: posternctl node accept-clear %s",
                            in->identity->agent_id, (unsigned long long)confirmed->generation,
                            in->identity->agent_id);
}

static enum generation_due why_due(const struct generation_case *in, const struct made *confirmed,
                                   const uint8_t seal[SHA256_SIZE])
{
    if (!confirmed->found)
        return GENERATION_FIRST;
    if (!same_wrap(confirmed, in->identity))
        return GENERATION_CLEARED;
    if (memcmp(confirmed->seal, seal, SHA256_SIZE) != 0)
        return GENERATION_BOOT_STATE;
    if (in->held < confirmed->generation)
        return GENERATION_LOST;
    return in->record->wants_generation ? GENERATION_WANTED : GENERATION_NOT_DUE;
}

/* The limit of what is made now. It is the certified counter where the authority itself knows that
 * nothing opens there any more: at first, beyond every limit (the fuse, and an operator who lifted
 * it), after an accepted clear. Else it is one above what opens; what a node says of its disk is no
 * reason for anything. */
static bool choose_limit(struct tx *tx, const struct generation_case *in, bool cleared,
                         const struct made *confirmed, uint64_t *ret, struct error *err)
{
    bool open = false;
    if (confirmed->found) {
        *ret = confirmed->limit + 1;
        return true;
    }
    if (!cleared && !any_opens(tx, in, in->counter, &open, err))
        return false;
    *ret = in->counter + open;
    return true;
}

/* Whether what is on offer still opens on this node, in this state, and stands where a new one
 * would. One that replaces nothing confirmed was made at the counter or one above, when more was
 * known of what opens. */
static bool still_fits(const struct generation_case *in, const struct made *offered,
                       const struct made *confirmed, const uint8_t seal[SHA256_SIZE])
{
    uint64_t lowest = confirmed->found ? confirmed->limit + 1 : in->counter;
    uint64_t highest = confirmed->found ? confirmed->limit + 1 : in->counter + 1;
    return offered->found && same_wrap(offered, in->identity) &&
           same_counter(offered, in->identity) && offered->limit >= lowest &&
           offered->limit <= highest && memcmp(offered->seal, seal, SHA256_SIZE) == 0;
}

bool generation_offer(struct tx *tx, const struct kek *kek, const struct generation_case *in,
                      struct buf *ret_body, enum generation_due *ret_due, struct error *err)
{
    const char *agent_id = in->identity->agent_id;
    CLEANUP(made_done) struct made confirmed = {0};
    CLEANUP(made_done) struct made offered = {0};
    TPM2B_DIGEST pcrs;
    uint8_t seal[SHA256_SIZE];
    uint64_t limit;
    *ret_due = GENERATION_NOT_DUE;
    if (!find(tx, agent_id, CONFIRMED, &confirmed, err) ||
        !find(tx, agent_id, OFFERED, &offered, err) || !retire_passed(tx, in, &confirmed, err) ||
        !seal_digest(in, &pcrs, seal, err))
        return false;

    bool cleared = is_cleared(in, &confirmed);
    if (cleared) {
        if (!retire(tx, agent_id, 1, NODE_NUMBER_MAX, err))
            return false;
        confirmed.found = offered.found = false;
    } else if (!in->counter_normal) {
        return true; /* a retirement is unfinished: nothing new before it is through */
    }
    if (!check_counter(in, &confirmed, err))
        return false;

    /* One that was offered is offered until it is confirmed, also where its reason is gone: the node
     * may have its slot under it already. */
    enum generation_due due = why_due(in, &confirmed, seal);
    if (still_fits(in, &offered, &confirmed, seal)) {
        *ret_due = due == GENERATION_NOT_DUE ? GENERATION_WANTED : due;
        buf_put(ret_body, buf_slice(&offered.body));
        return buf_ok(ret_body, err);
    }
    if (offered.found && !retire(tx, agent_id, offered.generation, offered.generation, err))
        return false;
    if (due == GENERATION_NOT_DUE)
        return true;
    if (!choose_limit(tx, in, cleared, &confirmed, &limit, err) ||
        !make(tx, kek, in, limit, &pcrs, seal, ret_body, err))
        return false;
    *ret_due = cleared ? GENERATION_CLEARED : due;
    return true;
}

/* ---- Using ---- */

static bool unknown(const char *agent_id, uint64_t generation, struct error *err)
{
    return error_set_reason(err, ERROR_NOT_FOUND, "GENERATION_UNKNOWN",
                            "node %s has no generation %llu", agent_id,
                            (unsigned long long)generation);
}

static bool retired(const char *agent_id, uint64_t generation, struct error *err)
{
    return error_set_reason(err, ERROR_CONFLICT, "GENERATION_RETIRED",
                            "generation %llu of node %s is retired", (unsigned long long)generation,
                            agent_id);
}

/* The state of one, with its wrapped key in `ret_wrapped` unless it is retired. */
static bool look_up(struct tx *tx, const char *agent_id, uint64_t generation,
                    enum generation_state *ret_state, struct buf *ret_wrapped, struct error *err)
{
    CLEANUP(rows_done) struct rows rows = {0};
    int64_t state;
    struct slice wrapped;
    if (generation > NODE_NUMBER_MAX)
        return unknown(agent_id, generation, err);
    if (!tx_query_one(tx,
                      "SELECT state, wrapped_key FROM generation WHERE agent_id = $1 AND "
                      "generation = $2",
                      SQL_PARAMS(sql_text(agent_id), sql_int((int64_t)generation)), &rows, err))
        return err->class == ERROR_NOT_FOUND ? unknown(agent_id, generation, err) : false;
    if (!rows_int(&rows, 0, OFFERED, RETIRED, &state, err))
        return false;
    *ret_state = (enum generation_state)state;
    if (state == RETIRED)
        return true;
    if (!rows_blob(&rows, 1, 1, NODE_KEY_SIZE + KEK_OVERHEAD, &wrapped, err))
        return false;
    buf_put(ret_wrapped, wrapped);
    return buf_ok(ret_wrapped, err);
}

bool generation_key(struct tx *tx, const struct kek *kek, const char *agent_id, uint64_t generation,
                    struct secret **ret, struct error *err)
{
    enum generation_state state;
    CLEANUP(buf_done) struct buf wrapped, context;
    buf_init(&wrapped, NODE_KEY_SIZE + KEK_OVERHEAD);
    buf_init(&context, CONTEXT_MAX);
    if (!look_up(tx, agent_id, generation, &state, &wrapped, err))
        return false;
    if (state == RETIRED)
        return retired(agent_id, generation, err);
    key_context(agent_id, generation, &context);
    return buf_ok(&context, err) &&
           kek_unwrap(kek, buf_slice(&context), buf_slice(&wrapped), ret, err);
}

bool generation_confirm(struct tx *tx, const char *agent_id, uint64_t generation, int64_t now_ms,
                        struct error *err)
{
    enum generation_state state;
    CLEANUP(buf_done) struct buf wrapped;
    buf_init(&wrapped, NODE_KEY_SIZE + KEK_OVERHEAD);
    if (!look_up(tx, agent_id, generation, &state, &wrapped, err))
        return false;
    if (state == RETIRED)
        return retired(agent_id, generation, err);
    return tx_exec(tx,
                   "UPDATE generation SET state = 2, confirmed_at_ms = $3 WHERE agent_id = $1 AND "
                   "generation = $2 AND state = 1",
                   SQL_PARAMS(sql_text(agent_id), sql_int((int64_t)generation), sql_int(now_ms)),
                   err);
}

bool generation_want(struct tx *tx, const char *agent_id, struct error *err)
{
    return tx_exec(tx, "UPDATE node SET wants_generation = 1 WHERE agent_id = $1",
                   SQL_PARAMS(sql_text(agent_id)), err);
}

bool generation_offered(struct tx *tx, const char *agent_id, uint64_t *ret, struct error *err)
{
    CLEANUP(made_done) struct made offered = {0};
    if (!find(tx, agent_id, OFFERED, &offered, err))
        return false;
    *ret = offered.found ? offered.generation : 0;
    return true;
}
