/* Nodes by their agent_id, and how they are shown. Threading: none. */
#pragma once

#include "arguments.h"
#include "session.h"

#include "postern/v1/admin.rpc.h"

constexpr size_t AGENT_ID_DIGITS = 32;

/* For commands with an AGENT: INVALID unless it is hex digits, and not too many. */
[[nodiscard]] bool agent_check(const struct arguments *arguments, struct error *err);

/* The whole agent_id for an unambiguous prefix of one; only a prefix asks the authority. INVALID:
 * several nodes begin so; NOT_FOUND: none does. `text` was checked. */
[[nodiscard]] bool agent_resolve(struct session *session, const char *text,
                                 char ret[static AGENT_ID_DIGITS + 1], struct error *err);

[[nodiscard]] bool agent_list(struct session *session, Postern__V1__ListNodesResponse **ret,
                              struct error *err);

/* Words for what the messages have as numbers. */
const char *admission_text(Postern__V1__Admission admission);
const char *verdict_text(Postern__V1__Verdict verdict);
/* RFC 3339, or "-" for none. Returns ret. */
constexpr size_t WHEN_SIZE = 32;
const char *when_text(const Google__Protobuf__Timestamp *when, char ret[static WHEN_SIZE]);
/* The text, or "-" for an empty one. */
const char *or_dash(const char *text);

/* Everything about one node, one line each. */
void agent_print(const Postern__V1__Node *node);
