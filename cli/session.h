/*
 * struct session: who the operator is and the channel to the authority, and how answers are printed.
 * Nothing connects before the first call.
 * Threading: none.
 */
#pragma once

#include "rpc/client.h"

struct session;

constexpr uint64_t SESSION_TIMEOUT_MS = 30'000; /* an authority that does not answer */

/* `config` null: $POSTERNCTL_CONFIG, else ~/.config/postern/operator.yaml. Errors name the file, and
 * in the configuration line, column and field. */
[[nodiscard]] bool session_open(const char *config, bool json, struct session **ret,
                                struct error *err);
/* Takes null; returns null. */
struct session *session_free(struct session *session);
DEFINE_CLEANUP(session_free, struct session)

/* What is in force; borrowed. */
const ProtobufCMessage *session_config(const struct session *session);
struct rpc_client *session_client(struct session *session);
/* For an ordinary call; borrowed. */
const struct rpc_call_options *session_options(const struct session *session);

/* Looks at how a command failed: where no connection came about, a call only knows that, and `err`
 * becomes the reason. Appends what the operator should look at then; nothing where the authority
 * itself gave the reason. */
void session_judge(const struct session *session, struct error *err, struct buf *ret_advice);

/* Whether answers are wanted as JSON: then session_print_json prints one line, and is all that a
 * command prints. */
bool session_json(const struct session *session);
[[nodiscard]] bool session_print_json(const ProtobufCMessage *message, struct error *err);
