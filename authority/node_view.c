#include "node_view.h"

#include "base/mem.h"
#include "base/text.h"
#include "pb/message.h"
#include "tpmwire/public.h"

#include <inttypes.h>
#include <stdio.h>

void timestamp_from_ms(int64_t unix_ms, Google__Protobuf__Timestamp *ret)
{
    google__protobuf__timestamp__init(ret);
    ret->seconds = unix_ms / 1000;
    ret->nanos = (int32_t)(unix_ms % 1000) * 1'000'000;
}

static const char *trust_name(Postern__V1__EkTrust trust)
{
    switch (trust) {
    case POSTERN__V1__EK_TRUST__EK_TRUST_VENDOR_CERT:
        return "vendor_cert";
    case POSTERN__V1__EK_TRUST__EK_TRUST_PINNED:
        return "pinned";
    case POSTERN__V1__EK_TRUST__EK_TRUST_TOFU:
        return "tofu";
    default:
        return "";
    }
}

/* The reasons stay in the unpacked body, which the message borrows them from. */
static void fill(const struct node_record *record, struct node_view *view)
{
    const Postern__V1__AppraisalBody *body = (const Postern__V1__AppraisalBody *)view->body;
    Postern__V1__Node *message = &view->message;
    postern__v1__node__init(message);
    mem_copy(view->agent_id, record->agent_id, sizeof(view->agent_id));
    mem_copy(view->host_name, record->host_name, sizeof(view->host_name));
    mem_copy(view->policy, record->policy, sizeof(view->policy));
    snprintf(view->firmware, sizeof(view->firmware), "%016" PRIx64, record->firmware_version);
    timestamp_from_ms(record->appraised_at_ms, &view->appraised_at);
    timestamp_from_ms(record->expires_at_ms, &view->expires_at);
    timestamp_from_ms(record->last_seen_ms, &view->last_seen_at);
    message->agent_id = view->agent_id;
    message->host_name = view->host_name;
    message->admission = record->admission;
    message->policy = view->policy;
    message->verdict = record->verdict;
    message->n_reasons = body->n_reasons;
    message->reasons = body->reasons;
    message->appraised_at = &view->appraised_at;
    message->appraisal_expires_at = &view->expires_at;
    message->last_seen_at = &view->last_seen_at;
    message->ek_name = hex_encode(name_slice(&record->ek_name), view->ek_name);
    message->ak_name = hex_encode(name_slice(&record->ak_name), view->ak_name);
    message->ek_trust = (char *)trust_name(record->ek_trust);
    message->generation = record->generation;
    message->generation_limit = record->limit;
    message->counter = record->counter;
    message->firmware_version = view->firmware;
}

bool node_view_new(const struct node_record *record, struct node_view **ret, struct error *err)
{
    CLEANUP(node_view_free_at) struct node_view *view = mem_new(1, sizeof(*view));
    if (!view)
        return error_set_memory(err);
    if (!pb_unpack(&postern__v1__appraisal_body__descriptor, buf_slice(&record->appraisal), nullptr,
                   &view->body, err))
        return error_prefix(err, "the appraisal of node %s", record->agent_id);
    fill(record, view);
    *ret = TAKE(view);
    return true;
}

struct node_view *node_view_free(struct node_view *view)
{
    if (!view)
        return nullptr;
    pb_free(view->body);
    return mem_free(view);
}
