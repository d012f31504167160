#include "secret_rows.h"

#include "generation.h"

#include "base/mem.h"
#include "keyring/commitment.h"
#include "pb/message.h"

constexpr size_t WRAPPED_KEY_MAX = 256;
constexpr size_t SEALED_OVERHEAD = AEAD_IV_SIZE + COMMITMENT_R_SIZE + AEAD_TAG_SIZE;

/* ---- One name ---- */

static void signed_head_init(struct signed_head *head)
{
    buf_init(&head->body, HEAD_BODY_MAX);
    buf_init(&head->signatures, HEAD_SIGNATURES_MAX);
}

static void signed_head_done(struct signed_head *head)
{
    buf_done(&head->body);
    buf_done(&head->signatures);
}

void secret_row_init(struct secret_row *row)
{
    *row = (struct secret_row){};
    signed_head_init(&row->live);
    signed_head_init(&row->gone);
}

void secret_row_done(struct secret_row *row)
{
    if (row->head)
        pb_free(&row->head->base);
    row->head = nullptr;
    signed_head_done(&row->live);
    signed_head_done(&row->gone);
}

void secret_row_move(struct secret_row *from, struct secret_row *to)
{
    *to = *from;
    secret_row_init(from);
}

#define SECRET_COLUMNS "body, signatures, gone_seq, gone_body, gone_signatures, changed_at_ms "

static bool read_blob(const struct rows *rows, int column, size_t max, struct buf *ret,
                      struct error *err)
{
    struct slice bytes;
    if (!rows_blob(rows, column, 1, max, &bytes, err))
        return false;
    buf_put(ret, bytes);
    return buf_ok(ret, err);
}

static bool read_signed(const struct rows *rows, int column, struct signed_head *ret,
                        struct error *err)
{
    return read_blob(rows, column, HEAD_BODY_MAX, &ret->body, err) &&
           read_blob(rows, column + 1, HEAD_SIGNATURES_MAX, &ret->signatures, err);
}

static bool read_row(const struct rows *rows, struct secret_row *ret, struct error *err)
{
    int64_t gone_seq = 0;
    if (!read_signed(rows, 0, &ret->live, err) ||
        !rows_int(rows, 5, 0, INT64_MAX, &ret->changed_at_ms, err))
        return false;
    if (!rows_null(rows, 2) && (!rows_int(rows, 2, 1, INT64_MAX, &gone_seq, err) ||
                                !read_signed(rows, 3, &ret->gone, err)))
        return false;
    ret->gone_seq = (uint64_t)gone_seq;
    ProtobufCMessage *message;
    if (!pb_unpack(&postern__v1__head_body__descriptor, buf_slice(&ret->live.body),
                   &pb_limits_strict, &message, err))
        return error_set(err, ERROR_INTERNAL, "the database has a head that nobody here wrote");
    ret->head = (Postern__V1__HeadBody *)message;
    return true;
}

bool secret_row_get(struct tx *tx, const char *name, struct secret_row *ret, struct error *err)
{
    CLEANUP(rows_done) struct rows rows = {};
    if (tx_query_one(tx, "SELECT " SECRET_COLUMNS "FROM secret WHERE name = $1",
                     SQL_PARAMS(sql_text(name)), &rows, err))
        return read_row(&rows, ret, err);
    if (err->class != ERROR_NOT_FOUND)
        return false;
    return error_set_reason(err, ERROR_NOT_FOUND, "SECRET_UNKNOWN",
                            "there is no secret %s; posternctl secret list shows all", name);
}

bool secret_rows_each(struct tx *tx,
                      bool (*visit)(void *arg, struct secret_row *row, struct error *err),
                      void *arg, struct error *err)
{
    CLEANUP(rows_done) struct rows rows = {};
    if (!tx_query(tx, "SELECT " SECRET_COLUMNS "FROM secret ORDER BY name", SQL_NONE, &rows, err))
        return false;
    for (bool more;;) {
        if (!rows_next(&rows, &more, err))
            return false;
        if (!more)
            return true;
        CLEANUP(secret_row_done) struct secret_row row;
        secret_row_init(&row);
        if (!read_row(&rows, &row, err) || !visit(arg, &row, err))
            return false;
    }
}

/* Of all names together, after this one was written. */
static bool check_totals(struct tx *tx, struct error *err)
{
    CLEANUP(rows_done) struct rows rows = {};
    int64_t count, bytes;
    if (!tx_query_one(tx, "SELECT count(*), sum(length(body)) FROM secret", SQL_NONE, &rows, err) ||
        !rows_int(&rows, 0, 0, INT64_MAX, &count, err) ||
        !rows_int(&rows, 1, 0, INT64_MAX, &bytes, err))
        return false;
    if (count > SECRETS_MAX)
        return error_set_reason(err, ERROR_EXHAUSTED, "TOO_MANY_SECRETS",
                                "there are %lld secrets already, the most that are kept",
                                (long long)SECRETS_MAX);
    if (bytes > SECRET_BODIES_MAX)
        return error_set_reason(err, ERROR_EXHAUSTED, "ALLOW_LISTS_TOO_LONG",
                                "the allow lists of all secrets together exceed %lld bytes: use "
                                "fewer identities",
                                (long long)SECRET_BODIES_MAX);
    return true;
}

bool secret_row_put(struct tx *tx, const struct secret_row *row, const char *who, struct error *err)
{
    const Postern__V1__HeadBody *head = row->head;
    bool gone = row->gone_seq != 0;
    return tx_exec(
               tx,
               "INSERT INTO secret (name, epoch, version, seq, body, signatures, gone_seq, "
               "gone_body, gone_signatures, changed_at_ms, changed_by) "
               "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) "
               "ON CONFLICT (name) DO UPDATE SET epoch = $2, version = $3, seq = $4, body = $5, "
               "signatures = $6, gone_seq = $7, gone_body = $8, gone_signatures = $9, "
               "changed_at_ms = $10, changed_by = $11",
               SQL_PARAMS(sql_text(head->name), sql_int(head->epoch),
                          sql_int((int64_t)head->version), sql_int((int64_t)head->seq),
                          sql_blob(buf_slice(&row->live.body)),
                          sql_blob(buf_slice(&row->live.signatures)),
                          gone ? sql_int((int64_t)row->gone_seq) : sql_null(),
                          gone ? sql_blob(buf_slice(&row->gone.body)) : sql_null(),
                          gone ? sql_blob(buf_slice(&row->gone.signatures)) : sql_null(),
                          sql_int(row->changed_at_ms), sql_text(who)),
               err) &&
           check_totals(tx, err);
}

bool secret_entitled(const struct policies *policies, const char *agent_id,
                     const Postern__V1__HeadBody *head)
{
    for (size_t i = 0; i < head->n_allow; i++)
        if (policies_may_vouch(policies, agent_id, head->allow[i]))
            return true;
    return false;
}

/* ---- Versions ---- */

void sealed_version_init(struct sealed_version *version)
{
    *version = (struct sealed_version){};
    buf_init(&version->wrapped_key, WRAPPED_KEY_MAX);
    buf_init(&version->sealed, SECRET_VALUE_MAX + SEALED_OVERHEAD);
}

void sealed_version_done(struct sealed_version *version)
{
    buf_done(&version->wrapped_key);
    buf_done(&version->sealed);
}

/* What a ciphertext is, and whose: no row can stand in for another. */
static bool version_context(const char *what, const char *name, uint32_t epoch, uint64_t number,
                            struct buf *ret, struct error *err)
{
    buf_init(ret, SECRET_NAME_MAX + 64);
    buf_put_prefixed(ret, slice_str(what));
    buf_put_prefixed(ret, slice_str(name));
    buf_put_u32(ret, epoch);
    buf_put_u64(ret, number);
    return buf_ok(ret, err);
}

/* r ‖ value, and the commitment to both. */
static bool version_plain(const struct version_name *version, const struct secret *value,
                          struct secret **ret, uint8_t ret_commitment[static SHA256_SIZE],
                          struct error *err)
{
    CLEANUP(secret_free_at) struct secret *plain = nullptr;
    if (!secret_new(COMMITMENT_R_SIZE + secret_len(value), &plain, err) ||
        !random_bytes(secret_data(plain), COMMITMENT_R_SIZE, err))
        return false;
    struct slice bytes = secret_slice(value);
    mem_copy(secret_data(plain) + COMMITMENT_R_SIZE, bytes.data, bytes.len);
    if (!commitment_compute(version, slice(secret_data(plain), COMMITMENT_R_SIZE), bytes,
                            ret_commitment, err))
        return false;
    *ret = TAKE(plain);
    return true;
}

bool version_seal(const struct kek *kek, const char *name, uint32_t epoch, uint64_t number,
                  const struct secret *value, struct sealed_version *ret, struct error *err)
{
    struct version_name version = {.name = name, .epoch = epoch, .version = number};
    CLEANUP(secret_free_at) struct secret *plain = nullptr;
    CLEANUP(secret_free_at) struct secret *key = nullptr;
    CLEANUP(buf_done) struct buf key_context = {};
    CLEANUP(buf_done) struct buf value_context = {};
    uint8_t iv[AEAD_IV_SIZE];
    if (!version_context("secret data key", name, epoch, number, &key_context, err) ||
        !version_context("secret value", name, epoch, number, &value_context, err) ||
        !version_plain(&version, value, &plain, ret->commitment, err) ||
        !secret_random(AEAD_KEY_SIZE, &key, err) || !random_bytes(iv, sizeof(iv), err) ||
        !kek_wrap(kek, buf_slice(&key_context), key, &ret->wrapped_key, err))
        return false;
    buf_put(&ret->sealed, SLICE_OF(iv));
    return aead_seal(secret_slice(key), SLICE_OF(iv), buf_slice(&value_context),
                     secret_slice(plain), &ret->sealed, err) &&
           buf_ok(&ret->sealed, err);
}

bool version_put(struct tx *tx, const char *name, uint32_t epoch, uint64_t number,
                 const struct sealed_version *version, int64_t now_ms, struct error *err)
{
    return tx_exec(
               tx,
               "UPDATE secret_version SET wrapped_key = NULL, sealed = NULL WHERE name = $1 AND "
               "sealed IS NOT NULL",
               SQL_PARAMS(sql_text(name)), err) &&
           tx_exec(tx,
                   "INSERT INTO secret_version (name, epoch, version, commitment, wrapped_key, "
                   "sealed, made_at_ms) VALUES ($1, $2, $3, $4, $5, $6, $7)",
                   SQL_PARAMS(sql_text(name), sql_int(epoch), sql_int((int64_t)number),
                              sql_blob(SLICE_OF(version->commitment)),
                              sql_blob(buf_slice(&version->wrapped_key)),
                              sql_blob(buf_slice(&version->sealed)), sql_int(now_ms)),
                   err);
}

bool version_open(struct tx *tx, const struct kek *kek, const char *name, uint32_t epoch,
                  uint64_t number, struct secret **ret, struct error *err)
{
    CLEANUP(rows_done) struct rows rows = {};
    CLEANUP(secret_free_at) struct secret *key = nullptr;
    CLEANUP(buf_done) struct buf key_context = {};
    CLEANUP(buf_done) struct buf value_context = {};
    struct slice wrapped, sealed;
    if (!version_context("secret data key", name, epoch, number, &key_context, err) ||
        !version_context("secret value", name, epoch, number, &value_context, err) ||
        !tx_query_one(tx,
                      "SELECT wrapped_key, sealed FROM secret_version WHERE name = $1 AND "
                      "epoch = $2 AND version = $3",
                      SQL_PARAMS(sql_text(name), sql_int(epoch), sql_int((int64_t)number)), &rows,
                      err) ||
        !rows_blob(&rows, 0, 1, WRAPPED_KEY_MAX, &wrapped, err) ||
        !rows_blob(&rows, 1, SEALED_OVERHEAD + 1, SECRET_VALUE_MAX + SEALED_OVERHEAD, &sealed,
                   err) ||
        !kek_unwrap(kek, buf_slice(&key_context), wrapped, &key, err)) {
        if (err->class == ERROR_DENIED)
            err->class = ERROR_INTERNAL; /* ours to mend: nobody was refused anything */
        return error_prefix(err, "secret %s", name);
    }
    struct reader in = reader(sealed);
    struct slice iv = reader_take(&in, AEAD_IV_SIZE);
    if (!aead_open(secret_slice(key), iv, buf_slice(&value_context), in.rest, ret, err))
        return error_set_reason(err, ERROR_INTERNAL, "SECRET_DAMAGED",
                                "the database row of secret %s was changed", name);
    return true;
}

bool version_commitment(struct tx *tx, const char *name, uint32_t epoch, uint64_t number,
                        uint8_t ret[static SHA256_SIZE], struct error *err)
{
    CLEANUP(rows_done) struct rows rows = {};
    struct slice commitment;
    /* The columns are signed: no such number was ever given out. */
    if (number <= INT64_MAX &&
        tx_query_one(tx,
                     "SELECT commitment FROM secret_version WHERE name = $1 AND epoch = $2 AND "
                     "version = $3",
                     SQL_PARAMS(sql_text(name), sql_int(epoch), sql_int((int64_t)number)), &rows,
                     err)) {
        if (!rows_blob(&rows, 0, SHA256_SIZE, SHA256_SIZE, &commitment, err))
            return false;
        mem_copy(ret, commitment.data, SHA256_SIZE);
        return true;
    }
    if (number <= INT64_MAX && err->class != ERROR_NOT_FOUND)
        return false;
    return error_set_reason(err, ERROR_NOT_FOUND, "VERSION_UNKNOWN",
                            "there is no such version of this secret");
}

/* ---- Holders ---- */

bool holder_released(struct tx *tx, const char *agent_id, const char *name, uint32_t epoch,
                     uint64_t number, struct error *err)
{
    return tx_exec(
        tx,
        "INSERT INTO secret_holder (agent_id, name, epoch, version, confirmed) "
        "VALUES ($1, $2, $3, $4, 0) ON CONFLICT (agent_id, name) DO UPDATE SET "
        "confirmed = CASE WHEN epoch = $3 AND version = $4 THEN confirmed ELSE 0 END, "
        "epoch = $3, version = $4",
        SQL_PARAMS(sql_text(agent_id), sql_text(name), sql_int(epoch), sql_int((int64_t)number)),
        err);
}

bool holder_has(struct tx *tx, const char *agent_id, const char *name, bool *ret, struct error *err)
{
    CLEANUP(rows_done) struct rows rows = {};
    bool found = tx_query_one(tx, "SELECT 1 FROM secret_holder WHERE agent_id = $1 AND name = $2",
                              SQL_PARAMS(sql_text(agent_id), sql_text(name)), &rows, err);
    if (!found && err->class != ERROR_NOT_FOUND)
        return false;
    *ret = found;
    return true;
}

bool holder_confirmed(struct tx *tx, const char *agent_id, const char *name, uint32_t epoch,
                      uint64_t number, struct error *err)
{
    return tx_exec(
        tx,
        "UPDATE secret_holder SET confirmed = 1 WHERE agent_id = $1 AND name = $2 AND "
        "epoch = $3 AND version = $4",
        SQL_PARAMS(sql_text(agent_id), sql_text(name), sql_int(epoch), sql_int((int64_t)number)),
        err);
}

bool holder_count(struct tx *tx, const char *name, uint32_t epoch, uint64_t number, uint32_t *ret,
                  struct error *err)
{
    CLEANUP(rows_done) struct rows rows = {};
    int64_t count;
    if (!tx_query_one(tx,
                      "SELECT count(*) FROM secret_holder WHERE name = $1 AND epoch = $2 AND "
                      "version = $3 AND confirmed = 1",
                      SQL_PARAMS(sql_text(name), sql_int(epoch), sql_int((int64_t)number)), &rows,
                      err) ||
        !rows_int(&rows, 0, 0, UINT32_MAX, &count, err))
        return false;
    *ret = (uint32_t)count;
    return true;
}

static bool is_older(int64_t epoch, int64_t number, const Postern__V1__HeadBody *head)
{
    return epoch != head->epoch ? epoch < head->epoch : number < (int64_t)head->version;
}

/* Appends the agent_ids (with their NUL) of those who hold an older version, and of those who may not
 * have it any more: what a cursor is open on is not written to. */
static bool holders_read(struct tx *tx, const struct policies *policies,
                         const Postern__V1__HeadBody *head, struct buf *ret_older,
                         struct buf *ret_gone, struct error *err)
{
    CLEANUP(rows_done) struct rows rows = {};
    if (!tx_query(tx, "SELECT agent_id, epoch, version FROM secret_holder WHERE name = $1",
                  SQL_PARAMS(sql_text(head->name)), &rows, err))
        return false;
    for (bool more;;) {
        struct slice agent_id;
        int64_t epoch, number;
        if (!rows_next(&rows, &more, err))
            return false;
        if (!more)
            return buf_ok(ret_older, err) && buf_ok(ret_gone, err);
        if (!rows_text(&rows, 0, AGENT_ID_SIZE - 1, &agent_id, err) ||
            !rows_int(&rows, 1, 0, UINT32_MAX, &epoch, err) ||
            !rows_int(&rows, 2, 0, INT64_MAX, &number, err))
            return false;
        struct slice with_nul = slice(agent_id.data, agent_id.len + 1);
        if (!secret_entitled(policies, (const char *)agent_id.data, head))
            buf_put(ret_gone, with_nul);
        else if (is_older(epoch, number, head))
            buf_put(ret_older, with_nul);
    }
}

/* Calls `act` for each agent_id of the list. */
static bool agents_each(struct tx *tx, const struct buf *agents, const char *name,
                        bool (*act)(struct tx *tx, const char *agent_id, const char *name,
                                    struct error *err),
                        struct error *err)
{
    for (size_t at = 0; at < agents->len;) {
        const char *agent_id = (const char *)agents->data + at;
        if (!act(tx, agent_id, name, err))
            return false;
        at += strlen(agent_id) + 1;
    }
    return true;
}

static bool holder_renew(struct tx *tx, const char *agent_id, const char *name, struct error *err)
{
    (void)name;
    return generation_want(tx, agent_id, err);
}

static bool holder_drop(struct tx *tx, const char *agent_id, const char *name, struct error *err)
{
    return generation_want(tx, agent_id, err) &&
           tx_exec(tx, "DELETE FROM secret_holder WHERE agent_id = $1 AND name = $2",
                   SQL_PARAMS(sql_text(agent_id), sql_text(name)), err);
}

bool holders_retire(struct tx *tx, const struct policies *policies,
                    const Postern__V1__HeadBody *head, struct error *err)
{
    CLEANUP(buf_done) struct buf older;
    CLEANUP(buf_done) struct buf gone;
    buf_init(&older, (size_t)NODES_LIST_MAX * AGENT_ID_SIZE * 4);
    buf_init(&gone, (size_t)NODES_LIST_MAX * AGENT_ID_SIZE * 4);
    return holders_read(tx, policies, head, &older, &gone, err) &&
           agents_each(tx, &older, head->name, holder_renew, err) &&
           agents_each(tx, &gone, head->name, holder_drop, err);
}
