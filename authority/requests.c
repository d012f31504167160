#include "requests.h"

#include "access.h"
#include "authority.h"

#include "pb/message.h"
#include "tpmwire/signature.h"

void node_request_init(struct node_request *request)
{
    *request = (struct node_request){};
    buf_init(&request->body, REQUEST_BODY_MAX);
    buf_init(&request->signature, TPM_SIGNATURE_WIRE_MAX);
}

void node_request_done(struct node_request *request)
{
    buf_done(&request->body);
    buf_done(&request->signature);
    request->message = pb_free(request->message);
    request->header = nullptr;
}

static bool check_header(const Postern__V1__RequestHeader *header, struct error *err)
{
    if (!header)
        return error_set_field(err, "body.header", "body.header is missing");
    if (strlen(header->agent_id) != AGENT_ID_SIZE - 1)
        return error_set_field(err, "body.header.agent_id",
                               "body.header.agent_id: expected 32 hex digits");
    if (header->nonce.len != REQUEST_NONCE_SIZE)
        return error_set_field(err, "body.header.nonce",
                               "body.header.nonce: expected %zu bytes, found %zu",
                               REQUEST_NONCE_SIZE, header->nonce.len);
    if (header->generation > INT64_MAX)
        return error_set_field(err, "body.header.generation",
                               "body.header.generation is beyond any that was made");
    return true;
}

static bool take_bytes(struct slice bytes, const char *field, struct buf *ret, struct error *err)
{
    if (bytes.len == 0)
        return error_set_field(err, field, "%s is missing", field);
    if (bytes.len > ret->max)
        return error_set_field(err, field, "%s: at most %zu bytes, found %zu", field, ret->max,
                               bytes.len);
    buf_put(ret, bytes);
    return buf_ok(ret, err);
}

bool node_request_open(const struct authority *authority, const struct rpc_call *call,
                       const struct signed_request *in, struct node_request *ret, struct error *err)
{
    struct caller caller;
    ret->method = in->method;
    if (!take_bytes(in->body, "body", &ret->body, err) ||
        !take_bytes(in->signature, "signature", &ret->signature, err) ||
        !pb_unpack(in->descriptor, buf_slice(&ret->body), nullptr, &ret->message, err))
        return false;
    ret->header = in->header(ret->message);
    if (!check_header(ret->header, err))
        return false;
    access_caller(authority, call, &caller);
    if (caller.kind != CALLER_NODE || strcmp(caller.name, ret->header->agent_id) != 0)
        return error_set_reason(err, ERROR_DENIED, "WRONG_NODE",
                                "the request is not of the node whose certificate this is");
    return true;
}

bool node_request_verify(const struct node_request *request, const TPMT_PUBLIC *req,
                         struct error *err)
{
    TPMT_SIGNATURE signature;
    struct error why;
    CLEANUP(buf_done) struct buf message;
    buf_init(&message, REQUEST_BODY_MAX + 64);
    buf_put_prefixed(&message, slice_str("postern req v1"));
    buf_put_prefixed(&message, slice_str(request->method));
    buf_put_prefixed(&message, buf_slice(&request->body));
    if (!buf_ok(&message, err))
        return false;
    if (tpm_signature_parse(buf_slice(&request->signature), &signature, &why) &&
        tpm_signature_verify(req, &signature, buf_slice(&message), &why))
        return true;
    return error_set_reason(err, ERROR_UNAUTHENTICATED, "REQUEST_NOT_AUTHENTIC",
                            "the request was not signed by this node's TPM: %s", why.message);
}

static bool check_time(const struct node_request *request, int64_t now_ms, struct error *err)
{
    int64_t off;
    if (!__builtin_sub_overflow(request->header->time_ms, now_ms, &off) &&
        off <= REQUEST_SKEW_MAX_MS && off >= -REQUEST_SKEW_MAX_MS)
        return true;
    return error_set_reason(err, ERROR_CONFLICT, "CLOCK_SKEW",
                            "the request's time is more than %lld s off: the node has to attest",
                            (long long)(REQUEST_SKEW_MAX_MS / 1000));
}

/* Forgets the nonces that are too old, and counts this one. */
static bool count_nonce(struct tx *tx, const struct node_request *request, int64_t now_ms,
                        struct error *err)
{
    CLEANUP(rows_done) struct rows rows = {};
    int64_t count;
    struct sql_value agent_id = sql_text(request->header->agent_id);
    struct slice nonce = slice(request->header->nonce.data, request->header->nonce.len);
    if (!tx_exec(tx, "DELETE FROM request_nonce WHERE seen_at_ms < $1",
                 SQL_PARAMS(sql_int(now_ms - REQUEST_NONCE_KEEP_MS)), err) ||
        !tx_query_one(tx, "SELECT count(*) FROM request_nonce WHERE agent_id = $1",
                      SQL_PARAMS(agent_id), &rows, err) ||
        !rows_int(&rows, 0, 0, INT64_MAX, &count, err))
        return false;
    if (count >= REQUEST_NONCES_MAX)
        return error_set_reason(err, ERROR_EXHAUSTED, "TOO_MANY_REQUESTS",
                                "this node asks too often: wait some minutes");
    if (!tx_exec(tx,
                 "INSERT INTO request_nonce (agent_id, nonce, seen_at_ms) VALUES ($1, $2, $3) ON "
                 "CONFLICT DO NOTHING",
                 SQL_PARAMS(agent_id, sql_blob(nonce), sql_int(now_ms)), err))
        return false;
    return tx_changed(tx) == 1 || error_set_reason(err, ERROR_CONFLICT, "NONCE_USED",
                                                   "this request was made before: sign a new one");
}

bool node_request_accept(struct tx *tx, const struct node_request *request, int64_t now_ms,
                         struct node_record *ret_record, struct error *err)
{
    return nodes_get(tx, request->header->agent_id, ret_record, err) &&
           node_request_verify(request, &ret_record->req.publicArea, err) &&
           check_time(request, now_ms, err) && count_nonce(tx, request, now_ms, err);
}
