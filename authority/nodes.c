#include "nodes.h"

#include "base/crypt.h"
#include "base/mem.h"
#include "base/text.h"
#include "tpmwire/public.h"

/* ---- Reading rows ---- */

void node_record_init(struct node_record *record)
{
    *record = (struct node_record){0};
    buf_init(&record->appraisal, APPRAISAL_BODY_MAX);
}

void node_record_done(struct node_record *record)
{
    buf_done(&record->appraisal);
}

#define NODE_COLUMNS                                                                               \
    "agent_id, host_name, admission, policy, ek_name, ak_name, req_public, trusted, ek_trust, "    \
    "verdict, appraised_at_ms, expires_at_ms, last_seen_ms, reset_count, restart_count, "          \
    "clock_ms, firmware, counter, clear_accepted, wants_generation, appraisal, "                   \
    "(SELECT max(generation) FROM generation g WHERE g.agent_id = node.agent_id AND state = 2), "  \
    "(SELECT counter_limit FROM generation g WHERE g.agent_id = node.agent_id AND state = 2 "      \
    "ORDER BY generation DESC LIMIT 1), "                                                          \
    "wrap_name, "                                                                                  \
    "(SELECT counter_name FROM generation g WHERE g.agent_id = node.agent_id AND state = 2 "       \
    "ORDER BY generation DESC LIMIT 1) "

static bool read_text(const struct rows *rows, int column, char *ret, size_t size,
                      struct error *err)
{
    struct slice text;
    if (!rows_text(rows, column, size - 1, &text, err))
        return false;
    mem_copy(ret, text.data, text.len);
    ret[text.len] = '\0';
    return true;
}

static bool read_name(const struct rows *rows, int column, TPM2B_NAME *ret, struct error *err)
{
    struct slice bytes;
    if (!rows_blob(rows, column, 1, sizeof(ret->name), &bytes, err))
        return false;
    ret->size = (uint16_t)bytes.len;
    mem_copy(ret->name, bytes.data, bytes.len);
    return true;
}

static bool read_bool(const struct rows *rows, int column, bool *ret, struct error *err)
{
    int64_t number;
    if (!rows_int(rows, column, 0, 1, &number, err))
        return false;
    *ret = number == 1;
    return true;
}

static bool read_number(const struct rows *rows, int column, uint64_t *ret, struct error *err)
{
    int64_t number;
    if (!rows_int(rows, column, 0, INT64_MAX, &number, err))
        return false;
    *ret = (uint64_t)number;
    return true;
}

static bool read_u32(const struct rows *rows, int column, uint32_t *ret, struct error *err)
{
    int64_t number;
    if (!rows_int(rows, column, 0, UINT32_MAX, &number, err))
        return false;
    *ret = (uint32_t)number;
    return true;
}

static bool read_keys(const struct rows *rows, struct node_record *ret, struct error *err)
{
    struct slice req;
    return read_name(rows, 4, &ret->ek_name, err) && read_name(rows, 5, &ret->ak_name, err) &&
           rows_blob(rows, 6, 1, PUBLIC_AREA_WIRE_MAX, &req, err) &&
           public_area_parse(req, &ret->req, err) && read_bool(rows, 7, &ret->trusted, err) &&
           read_name(rows, 23, &ret->wrap_name, err);
}

static bool read_appraisal(const struct rows *rows, struct node_record *ret, struct error *err)
{
    int64_t trust, verdict;
    struct slice body;
    if (!rows_int(rows, 8, 0, INT32_MAX, &trust, err) ||
        !rows_int(rows, 9, 0, INT32_MAX, &verdict, err) ||
        !rows_int(rows, 10, 0, INT64_MAX, &ret->appraised_at_ms, err) ||
        !rows_int(rows, 11, 0, INT64_MAX, &ret->expires_at_ms, err) ||
        !rows_int(rows, 12, 0, INT64_MAX, &ret->last_seen_ms, err) ||
        !rows_blob(rows, 20, 1, APPRAISAL_BODY_MAX, &body, err))
        return false;
    ret->ek_trust = (Postern__V1__EkTrust)trust;
    ret->verdict = (Postern__V1__Verdict)verdict;
    buf_put(&ret->appraisal, body);
    return buf_ok(&ret->appraisal, err);
}

static bool read_state(const struct rows *rows, struct node_record *ret, struct error *err)
{
    struct slice firmware;
    if (!read_u32(rows, 13, &ret->reset_count, err) ||
        !read_u32(rows, 14, &ret->restart_count, err) ||
        !read_number(rows, 15, &ret->clock_ms, err) || !rows_blob(rows, 16, 8, 8, &firmware, err) ||
        !read_number(rows, 17, &ret->counter, err) ||
        !read_bool(rows, 18, &ret->clear_accepted, err) ||
        !read_bool(rows, 19, &ret->wants_generation, err))
        return false;
    struct reader in = reader(firmware);
    ret->firmware_version = reader_u64(&in);
    return rows_null(rows, 21) || (read_number(rows, 21, &ret->generation, err) &&
                                   read_number(rows, 22, &ret->limit, err) &&
                                   read_name(rows, 24, &ret->counter_name, err));
}

static bool read_record(const struct rows *rows, struct node_record *ret, struct error *err)
{
    int64_t admission;
    if (!read_text(rows, 0, ret->agent_id, sizeof(ret->agent_id), err) ||
        !read_text(rows, 1, ret->host_name, sizeof(ret->host_name), err) ||
        !rows_int(rows, 2, 1, 3, &admission, err) ||
        (!rows_null(rows, 3) && !read_text(rows, 3, ret->policy, sizeof(ret->policy), err)) ||
        !read_keys(rows, ret, err) || !read_appraisal(rows, ret, err) ||
        !read_state(rows, ret, err))
        return error_prefix(err, "node %s", ret->agent_id);
    ret->admission = (Postern__V1__Admission)admission;
    return true;
}

static bool node_unknown(const char *agent_id, struct error *err)
{
    char shown[2 * AGENT_ID_SIZE];
    text_show(slice_str(agent_id), shown, sizeof(shown));
    return error_set_reason(err, ERROR_NOT_FOUND, "NODE_UNKNOWN",
                            "there is no node %s; posternctl node list shows those that are known",
                            shown);
}

bool nodes_get(struct tx *tx, const char *agent_id, struct node_record *ret, struct error *err)
{
    CLEANUP(rows_done) struct rows rows = {0};
    if (!tx_query_one(tx, "SELECT " NODE_COLUMNS "FROM node WHERE agent_id = $1",
                      SQL_PARAMS(sql_text(agent_id)), &rows, err))
        return err->class == ERROR_NOT_FOUND ? node_unknown(agent_id, err) : false;
    return read_record(&rows, ret, err);
}

bool nodes_each(struct tx *tx,
                bool (*visit)(void *arg, const struct node_record *record, struct error *err),
                void *arg, struct error *err)
{
    CLEANUP(rows_done) struct rows rows = {0};
    if (!tx_query(tx, "SELECT " NODE_COLUMNS "FROM node ORDER BY agent_id LIMIT $1",
                  SQL_PARAMS(sql_int(NODES_LIST_MAX)), &rows, err))
        return false;
    for (bool more;;) {
        if (!rows_next(&rows, &more, err))
            return false;
        if (!more)
            return true;
        CLEANUP(node_record_done) struct node_record record;
        node_record_init(&record);
        if (!read_record(&rows, &record, err) || !visit(arg, &record, err))
            return false;
    }
}

bool node_may_receive(const struct node_record *record, int64_t now_ms, struct error *err)
{
    if (record->admission != POSTERN__V1__ADMISSION__ADMISSION_ADMITTED)
        return error_set_reason(err, ERROR_DENIED, "NODE_NOT_ADMITTED", "node %s is not admitted",
                                record->agent_id);
    if (record->verdict != POSTERN__V1__VERDICT__VERDICT_AFFIRMING &&
        record->verdict != POSTERN__V1__VERDICT__VERDICT_WARNING)
        return error_set_reason(err, ERROR_CONFLICT, "NODE_CONTRAINDICATED",
                                "the last appraisal of node %s does not affirm it; posternctl "
                                "attest explain %s says why",
                                record->agent_id, record->agent_id);
    if (record->expires_at_ms <= now_ms)
        return error_set_reason(err, ERROR_CONFLICT, "APPRAISAL_EXPIRED",
                                "the last appraisal of node %s has expired: it has to attest",
                                record->agent_id);
    if (record->generation != 0 && record->counter != record->limit)
        return error_set_reason(err, ERROR_UNAVAILABLE, "RETIREMENT_UNFINISHED",
                                "the counter of node %s was last certified at %llu, its limit is "
                                "%llu: it has to finish the retirement and attest",
                                record->agent_id, (unsigned long long)record->counter,
                                (unsigned long long)record->limit);
    return true;
}

void node_attest_record(const struct node_record *record, struct attest_record *ret)
{
    *ret = (struct attest_record){0};
    if (!record)
        return;
    *ret = (struct attest_record){
        .known = true,
        .admitted = record->admission == POSTERN__V1__ADMISSION__ADMISSION_ADMITTED,
        .denied = record->admission == POSTERN__V1__ADMISSION__ADMISSION_DENIED,
        .ek_name = record->ek_name,
        .ak_name = record->ak_name,
        .reset_count = record->reset_count,
        .restart_count = record->restart_count,
        .clock_ms = record->clock_ms,
        .has_clock = record->trusted,
        .wrap_name = record->wrap_name,
        .clear_accepted = record->clear_accepted,
        .has_generation = record->generation != 0,
        .limit = record->limit,
        .counter_name = record->counter_name,
    };
}

/* ---- Challenges ---- */

static bool count_of(struct tx *tx, const char *sql, int64_t *ret, struct error *err)
{
    CLEANUP(rows_done) struct rows rows = {0};
    return tx_query_one(tx, sql, SQL_NONE, &rows, err) &&
           rows_int(&rows, 0, 0, INT64_MAX, ret, err);
}

bool nonces_make(struct tx *tx, struct slice nonce, const char *agent_id, int64_t now_ms,
                 struct error *err)
{
    int64_t open;
    if (!tx_exec(tx, "DELETE FROM nonce WHERE made_at_ms < $1 OR made_at_ms > $2",
                 SQL_PARAMS(sql_int(now_ms - ATTEST_NONCE_LIFETIME_MS),
                            sql_int(now_ms + ATTEST_NONCE_LIFETIME_MS)),
                 err) ||
        !count_of(tx, "SELECT count(*) FROM nonce", &open, err))
        return false;
    if (open >= NONCES_MAX &&
        !tx_exec(tx,
                 "DELETE FROM nonce WHERE nonce IN (SELECT nonce FROM nonce ORDER BY made_at_ms "
                 "LIMIT $1)",
                 SQL_PARAMS(sql_int(open - NONCES_MAX + 1)), err))
        return false;
    return tx_exec(tx, "INSERT INTO nonce (nonce, agent_id, made_at_ms) VALUES ($1, $2, $3)",
                   SQL_PARAMS(sql_blob(nonce), sql_text(agent_id), sql_int(now_ms)), err);
}

bool nonces_take(struct tx *tx, struct slice nonce, const char *agent_id, int64_t now_ms,
                 struct attest_nonce *ret, int64_t *ret_made_ms, struct error *err)
{
    struct attest_nonce found = {0};
    int64_t made_ms = 0;
    {
        CLEANUP(rows_done) struct rows rows = {0};
        bool more;
        if (!tx_query(tx, "SELECT agent_id = $2, made_at_ms FROM nonce WHERE nonce = $1",
                      SQL_PARAMS(sql_blob(nonce), sql_text(agent_id)), &rows, err) ||
            !rows_next(&rows, &more, err))
            return false;
        if (more) {
            found.unused = true;
            if (!read_bool(&rows, 0, &found.of_agent, err) ||
                !rows_int(&rows, 1, 0, INT64_MAX, &made_ms, err))
                return false;
            found.age_ms = now_ms - made_ms;
        }
    }
    if (!tx_exec(tx, "DELETE FROM nonce WHERE nonce = $1", SQL_PARAMS(sql_blob(nonce)), err))
        return false;
    *ret = found;
    *ret_made_ms = made_ms;
    return true;
}

/* ---- Join tokens ---- */

static bool token_hash(const char *token, uint8_t ret[static SHA256_SIZE], struct error *err)
{
    return sha256(slice_str(token), ret, err);
}

bool tokens_make(struct tx *tx, const char *token, const char *policy, const char *who,
                 int64_t now_ms, int64_t expires_at_ms, struct error *err)
{
    uint8_t hash[SHA256_SIZE];
    int64_t count;
    if (!token_hash(token, hash, err) ||
        !tx_exec(tx, "DELETE FROM join_token WHERE expires_at_ms <= $1",
                 SQL_PARAMS(sql_int(now_ms)), err) ||
        !count_of(tx, "SELECT count(*) FROM join_token WHERE spent_by IS NULL", &count, err))
        return false;
    if (count >= JOIN_TOKENS_MAX)
        return error_set_reason(err, ERROR_EXHAUSTED, "TOO_MANY_TOKENS",
                                "%lld join tokens are unspent; they go when they expire",
                                (long long)count);
    return tx_exec(tx,
                   "INSERT INTO join_token (hash, policy, made_by, made_at_ms, expires_at_ms) "
                   "VALUES ($1, $2, $3, $4, $5)",
                   SQL_PARAMS(sql_blob(SLICE_OF(hash)), sql_text(policy), sql_text(who),
                              sql_int(now_ms), sql_int(expires_at_ms)),
                   err);
}

bool tokens_look(struct tx *tx, const char *token, const char *agent_id, int64_t now_ms,
                 bool *ret_valid, char *ret_policy, struct error *err)
{
    uint8_t hash[SHA256_SIZE];
    CLEANUP(rows_done) struct rows rows = {0};
    bool more;
    if (!token_hash(token, hash, err) ||
        !tx_query(tx,
                  "SELECT policy FROM join_token WHERE hash = $1 AND expires_at_ms > $2 AND "
                  "(spent_by IS NULL OR spent_by = $3)",
                  SQL_PARAMS(sql_blob(SLICE_OF(hash)), sql_int(now_ms), sql_text(agent_id)), &rows,
                  err) ||
        !rows_next(&rows, &more, err))
        return false;
    if (more && !read_text(&rows, 0, ret_policy, POLICY_NAME_SIZE, err))
        return false;
    *ret_valid = more;
    return true;
}

bool tokens_spend(struct tx *tx, const char *token, const char *agent_id, int64_t now_ms,
                  struct error *err)
{
    uint8_t hash[SHA256_SIZE];
    if (!token_hash(token, hash, err) ||
        !tx_exec(tx,
                 "UPDATE join_token SET spent_by = $2, spent_at_ms = $3 WHERE hash = $1 AND "
                 "(spent_by IS NULL OR spent_by = $2)",
                 SQL_PARAMS(sql_blob(SLICE_OF(hash)), sql_text(agent_id), sql_int(now_ms)), err))
        return false;
    return tx_changed(tx) == 1 || error_set_reason(err, ERROR_CONFLICT, "JOIN_TOKEN_SPENT",
                                                   "the join token was spent by another node");
}

/* ---- Appraisals ---- */

static bool make_room(struct tx *tx, struct error *err)
{
    int64_t pending;
    if (!count_of(tx, "SELECT count(*) FROM node WHERE admission = 1", &pending, err))
        return false;
    if (pending < NODES_PENDING_MAX)
        return true;
    return tx_exec(tx,
                   "DELETE FROM node WHERE agent_id IN (SELECT agent_id FROM node WHERE "
                   "admission = 1 ORDER BY last_seen_ms LIMIT $1)",
                   SQL_PARAMS(sql_int(pending - NODES_PENDING_MAX + 1)), err);
}

static struct sql_value policy_value(const struct node_update *update)
{
    return update->policy ? sql_text(update->policy) : sql_null();
}

/* A row without anything to be measured by; update_row fills it. */
static bool insert_row(struct tx *tx, const struct node_update *update, struct error *err)
{
    const struct attest_identity *id = update->in->identity;
    const Postern__V1__Hello *hello = update->in->hello;
    return tx_exec(tx,
                   "INSERT INTO node (agent_id, host_name, admission, ek_name, ak_name, "
                   "wrap_name, req_public, trusted, ek_trust, verdict, appraised_at_ms, "
                   "expires_at_ms, last_seen_ms, reset_count, restart_count, clock_ms, firmware, "
                   "counter, appraisal, hello, challenge, evidence) VALUES ($1, '', 1, $2, $3, "
                   "$4, $5, 0, 0, 0, 0, 0, 0, 0, 0, 0, $6, 0, $7, $7, $7, $7) "
                   "ON CONFLICT (agent_id) DO NOTHING",
                   SQL_PARAMS(sql_text(id->agent_id), sql_blob(name_slice(&id->ek_name)),
                              sql_blob(name_slice(&id->ak_name)),
                              sql_blob(name_slice(&id->wrap_name)),
                              sql_blob(slice(hello->req_public.data, hello->req_public.len)),
                              sql_blob(slice("\0\0\0\0\0\0\0", 8)), sql_blob(slice("", 0))),
                   err);
}

static bool update_row(struct tx *tx, const struct node_update *update, struct error *err)
{
    const struct attest_case *in = update->in;
    char host[HOST_NAME_SIZE];
    text_show(slice_str(in->hello->host_name), host, sizeof(host));
    return tx_exec(tx,
                   "UPDATE node SET host_name = $2, admission = $3, policy = $4, ek_trust = $5, "
                   "verdict = $6, appraised_at_ms = $7, expires_at_ms = $8, last_seen_ms = $7, "
                   "appraisal = $9, hello = $10, challenge = $11, evidence = $12 "
                   "WHERE agent_id = $1",
                   SQL_PARAMS(sql_text(in->identity->agent_id), sql_text(host),
                              sql_int(update->admission), policy_value(update),
                              sql_int(update->appraisal->ek_trust),
                              sql_int(update->appraisal->verdict), sql_int(update->now_ms),
                              sql_int(update->expires_at_ms), sql_blob(update->body),
                              sql_blob(in->hello_bytes), sql_blob(in->challenge_bytes),
                              sql_blob(in->evidence_bytes)),
                   err);
}

/* What the next appraisal is measured by, and requests are checked with. */
static bool update_measures(struct tx *tx, const struct node_update *update, struct error *err)
{
    const struct attest_case *in = update->in;
    const struct appraisal *appraisal = update->appraisal;
    CLEANUP(buf_done) struct buf firmware;
    buf_init(&firmware, 8);
    buf_put_u64(&firmware, appraisal->firmware_version);
    return buf_ok(&firmware, err) &&
           tx_exec(
               tx,
               "UPDATE node SET ak_name = $2, req_public = $3, trusted = 1, reset_count = $4, "
               "restart_count = $5, clock_ms = $6, firmware = $7, counter = $8, "
               "clear_accepted = clear_accepted AND $9, wrap_name = $10 WHERE agent_id = $1",
               SQL_PARAMS(sql_text(in->identity->agent_id),
                          sql_blob(name_slice(&in->identity->ak_name)),
                          sql_blob(slice(in->hello->req_public.data, in->hello->req_public.len)),
                          sql_int(appraisal->reset_count), sql_int(appraisal->restart_count),
                          sql_int((int64_t)appraisal->clock_ms), sql_blob(buf_slice(&firmware)),
                          sql_int((int64_t)appraisal->counter),
                          sql_int(appraisal->verdict == POSTERN__V1__VERDICT__VERDICT_PENDING),
                          sql_blob(name_slice(&in->identity->wrap_name))),
               err);
}

bool nodes_record(struct tx *tx, const struct node_update *update, struct error *err)
{
    const struct appraisal *appraisal = update->appraisal;
    if (appraisal->clock_ms > NODE_NUMBER_MAX || appraisal->counter >= NODE_NUMBER_MAX)
        return error_set_field(err, "evidence", "a clock or counter that no TPM can have reached");
    if (!update->in->record->known && (!make_room(tx, err) || !insert_row(tx, update, err)))
        return false;
    if (!update_row(tx, update, err))
        return false;
    return appraisal->verdict == POSTERN__V1__VERDICT__VERDICT_CONTRAINDICATED ||
           update_measures(tx, update, err);
}

/* ---- Operators ---- */

static bool changed_one(struct tx *tx, const char *agent_id, struct error *err)
{
    return tx_changed(tx) == 1 || node_unknown(agent_id, err);
}

bool nodes_approve(struct tx *tx, const char *agent_id, const char *policy, struct error *err)
{
    return tx_exec(tx, "UPDATE node SET admission = 2, policy = $2 WHERE agent_id = $1",
                   SQL_PARAMS(sql_text(agent_id), sql_text(policy)), err) &&
           changed_one(tx, agent_id, err);
}

bool nodes_deny(struct tx *tx, const char *agent_id, struct error *err)
{
    return tx_exec(tx, "UPDATE node SET admission = 3 WHERE agent_id = $1",
                   SQL_PARAMS(sql_text(agent_id)), err) &&
           changed_one(tx, agent_id, err) &&
           tx_exec(tx, "UPDATE generation SET state = 3, wrapped_key = NULL WHERE agent_id = $1",
                   SQL_PARAMS(sql_text(agent_id)), err);
}

bool nodes_accept_clear(struct tx *tx, const char *agent_id, struct error *err)
{
    return tx_exec(tx, "UPDATE node SET clear_accepted = 1 WHERE agent_id = $1",
                   SQL_PARAMS(sql_text(agent_id)), err) &&
           changed_one(tx, agent_id, err);
}

bool nodes_evidence(struct tx *tx, const char *agent_id, struct buf *ret_hello,
                    struct buf *ret_challenge, struct buf *ret_evidence, struct error *err)
{
    CLEANUP(rows_done) struct rows rows = {0};
    struct slice part[3];
    if (!tx_query_one(tx, "SELECT hello, challenge, evidence FROM node WHERE agent_id = $1",
                      SQL_PARAMS(sql_text(agent_id)), &rows, err))
        return err->class == ERROR_NOT_FOUND ? node_unknown(agent_id, err) : false;
    if (!rows_blob(&rows, 0, 1, ATTEST_HELLO_MAX, &part[0], err) ||
        !rows_blob(&rows, 1, 1, ATTEST_CHALLENGE_MAX, &part[1], err) ||
        !rows_blob(&rows, 2, 1, ATTEST_EVIDENCE_MAX, &part[2], err))
        return false;
    buf_put(ret_hello, part[0]);
    buf_put(ret_challenge, part[1]);
    buf_put(ret_evidence, part[2]);
    return buf_ok(ret_hello, err) && buf_ok(ret_challenge, err) && buf_ok(ret_evidence, err);
}
