#include "agent.h"

#include "table.h"

#include "base/mem.h"
#include "base/text.h"
#include "pb/message.h"

#include <inttypes.h>
#include <stdio.h>

bool agent_list(struct session *session, Postern__V1__ListNodesResponse **ret, struct error *err)
{
    Postern__V1__ListNodesRequest request = POSTERN__V1__LIST_NODES_REQUEST__INIT;
    return admin_service_list_nodes_sync(session_client(session), session_options(session),
                                         &request, ret, err);
}

bool agent_check(const struct arguments *arguments, struct error *err)
{
    const char *text = arguments->operand;
    if (!text)
        return true;
    size_t len = strlen(text);
    if (len == 0 || len > AGENT_ID_DIGITS || strspn(text, "0123456789abcdef") != len)
        return error_set(
            err, ERROR_INVALID,
            "\"%s\" is no agent_id: expected its 32 hex digits, or enough of the first "
            "ones, as posternctl node list shows them",
            text);
    return true;
}

bool agent_resolve(struct session *session, const char *text, char ret[static AGENT_ID_DIGITS + 1],
                   struct error *err)
{
    size_t len = strlen(text);
    if (len == AGENT_ID_DIGITS) {
        mem_copy(ret, text, len + 1);
        return true;
    }
    CLEANUP(pb_free_at) Postern__V1__ListNodesResponse *list = nullptr;
    if (!agent_list(session, &list, err))
        return false;
    const char *found = nullptr;
    size_t matches = 0;
    for (size_t i = 0; i < list->n_nodes; i++) {
        if (strncmp(list->nodes[i]->agent_id, text, len) != 0)
            continue;
        found = list->nodes[i]->agent_id;
        matches++;
    }
    if (matches == 0)
        return error_set(err, ERROR_NOT_FOUND,
                         "no node begins with %s: posternctl node list shows all", text);
    if (matches > 1)
        return error_set(err, ERROR_INVALID, "%zu nodes begin with %s: give more digits", matches,
                         text);
    if (strlen(found) != AGENT_ID_DIGITS)
        return error_set(err, ERROR_INTERNAL, "the authority lists a node without an agent_id");
    mem_copy(ret, found, AGENT_ID_DIGITS + 1);
    return true;
}

const char *admission_text(Postern__V1__Admission admission)
{
    switch (admission) {
    case POSTERN__V1__ADMISSION__ADMISSION_PENDING:
        return "pending";
    case POSTERN__V1__ADMISSION__ADMISSION_ADMITTED:
        return "admitted";
    case POSTERN__V1__ADMISSION__ADMISSION_DENIED:
        return "denied";
    default:
        return "-";
    }
}

const char *verdict_text(Postern__V1__Verdict verdict)
{
    switch (verdict) {
    case POSTERN__V1__VERDICT__VERDICT_AFFIRMING:
        return "affirming";
    case POSTERN__V1__VERDICT__VERDICT_WARNING:
        return "warning";
    case POSTERN__V1__VERDICT__VERDICT_CONTRAINDICATED:
        return "contraindicated";
    case POSTERN__V1__VERDICT__VERDICT_PENDING:
        return "pending";
    default:
        return "-";
    }
}

const char *when_text(const Google__Protobuf__Timestamp *when, char ret[static WHEN_SIZE])
{
    static_assert(WHEN_SIZE >= TIME_TEXT_SIZE);
    constexpr int64_t last_second = 253'402'300'799; /* of the year 9999: Timestamp's own bound */
    if (!when || when->seconds < 0 || when->seconds > last_second)
        return "-";
    return time_format(when->seconds * 1000, ret);
}

const char *or_dash(const char *text)
{
    return text && text[0] ? text : "-";
}

static void print_number(const char *name, uint64_t number)
{
    char text[24];
    (void)snprintf(text, sizeof(text), "%" PRIu64, number);
    field_print(name, text);
}

void agent_print(const Postern__V1__Node *node)
{
    char when[WHEN_SIZE];
    field_print("agent", node->agent_id);
    field_print("host", node->host_name);
    field_print("admission", admission_text(node->admission));
    field_print("policy", node->policy);
    field_print("verdict", verdict_text(node->verdict));
    for (size_t i = 0; i < node->n_reasons; i++) {
        char reason[ERROR_MESSAGE_MAX];
        (void)snprintf(reason, sizeof(reason), "%s: %s", node->reasons[i]->name,
                       node->reasons[i]->detail);
        field_print(i == 0 ? "because" : "", reason);
    }
    field_print("appraised", when_text(node->appraised_at, when));
    field_print("good until", when_text(node->appraisal_expires_at, when));
    field_print("last seen", when_text(node->last_seen_at, when));
    field_print("connected", node->connected ? "yes" : "no");
    field_print("EK trusted by", node->ek_trust);
    field_print("EK name", node->ek_name);
    field_print("AK name", node->ak_name);
    field_print("firmware", node->firmware_version);
    print_number("generation", node->generation);
    print_number("generation limit", node->generation_limit);
    print_number("counter", node->counter);
}
