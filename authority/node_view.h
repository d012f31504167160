/*
 * struct node_view: a node as operators see it: a Node message with all that it points at, made on the
 * database's thread and sent from the loop's.
 */
#pragma once

#include "nodes.h"

#include "postern/v1/admin.pb-c.h"

struct node_view {
    Postern__V1__Node message; /* `connected` is for whoever knows the hub */
    struct node_view *next;    /* of whoever keeps a list */
    /* What the message points at. */
    char agent_id[AGENT_ID_SIZE], host_name[HOST_NAME_SIZE], policy[POLICY_NAME_SIZE];
    char ek_name[2 * sizeof(TPM2B_NAME) + 1], ak_name[2 * sizeof(TPM2B_NAME) + 1];
    char firmware[17];
    Google__Protobuf__Timestamp appraised_at, expires_at, last_seen_at;
    ProtobufCMessage *body; /* the last AppraisalBody */
};

/* INTERNAL if what is stored can't be read. */
[[nodiscard]] bool node_view_new(const struct node_record *record, struct node_view **ret,
                                 struct error *err);
/* Frees this one; null is fine. */
struct node_view *node_view_free(struct node_view *view);
DEFINE_CLEANUP(node_view_free, struct node_view)

void timestamp_from_ms(int64_t unix_ms, Google__Protobuf__Timestamp *ret);
