#include "schema.h"

/*
 * node        one row for each EK that was ever proven. agent_id is made of the EK's Name.
 * nonce       open challenges; a row goes with its answer, or when it is too old.
 * join_token  only hashes. A spent one stays until it expires, for its node's retry.
 * generation  node keys, wrapped. A retired one keeps its row, so that its number is never used
 *             again, and loses its key.
 * Times are Unix milliseconds, keys and Names as the TPM has them (TPM2B_PUBLIC, TPM2B_NV_PUBLIC, the
 * bytes of TPM2B_NAME), enums the numbers of the .proto.
 */
static const char nodes_0001[] =
    "CREATE TABLE node (\n"
    "  agent_id TEXT NOT NULL PRIMARY KEY,\n"
    "  host_name TEXT NOT NULL,\n"
    "  admission INTEGER NOT NULL CHECK (admission IN (1, 2, 3)),\n"
    "  policy TEXT,\n"
    "  ek_name BLOB NOT NULL UNIQUE,\n"
    "  ak_name BLOB NOT NULL,\n"
    "  wrap_name BLOB NOT NULL,\n"
    "  req_public BLOB NOT NULL,\n"
    "  trusted INTEGER NOT NULL,\n"
    "  ek_trust INTEGER NOT NULL,\n"
    "  verdict INTEGER NOT NULL,\n"
    "  appraised_at_ms INTEGER NOT NULL,\n"
    "  expires_at_ms INTEGER NOT NULL,\n"
    "  last_seen_ms INTEGER NOT NULL,\n"
    "  reset_count INTEGER NOT NULL,\n"
    "  restart_count INTEGER NOT NULL,\n"
    "  clock_ms INTEGER NOT NULL,\n"
    "  firmware BLOB NOT NULL,\n"
    "  counter INTEGER NOT NULL,\n"
    "  clear_accepted INTEGER NOT NULL DEFAULT 0,\n"
    "  wants_generation INTEGER NOT NULL DEFAULT 0,\n"
    "  appraisal BLOB NOT NULL,\n"
    "  hello BLOB NOT NULL,\n"
    "  challenge BLOB NOT NULL,\n"
    "  evidence BLOB NOT NULL\n"
    ");\n"
    "CREATE INDEX node_by_admission ON node (admission, last_seen_ms);\n"
    "CREATE TABLE nonce (\n"
    "  nonce BLOB NOT NULL PRIMARY KEY,\n"
    "  agent_id TEXT NOT NULL,\n"
    "  made_at_ms INTEGER NOT NULL\n"
    ");\n"
    "CREATE INDEX nonce_by_age ON nonce (made_at_ms);\n"
    "CREATE TABLE join_token (\n"
    "  hash BLOB NOT NULL PRIMARY KEY,\n"
    "  policy TEXT NOT NULL,\n"
    "  made_by TEXT NOT NULL,\n"
    "  made_at_ms INTEGER NOT NULL,\n"
    "  expires_at_ms INTEGER NOT NULL,\n"
    "  spent_by TEXT,\n"
    "  spent_at_ms INTEGER\n"
    ");\n"
    "CREATE INDEX join_token_by_age ON join_token (expires_at_ms);\n"
    "CREATE TABLE generation (\n"
    "  agent_id TEXT NOT NULL REFERENCES node (agent_id) ON DELETE CASCADE,\n"
    "  generation INTEGER NOT NULL CHECK (generation > 0),\n"
    "  state INTEGER NOT NULL CHECK (state IN (1, 2, 3)),\n"
    "  counter_limit INTEGER NOT NULL,\n"
    "  wrap_name BLOB NOT NULL,\n"
    "  counter_name BLOB NOT NULL,\n"
    "  seal_digest BLOB NOT NULL,\n"
    "  body BLOB NOT NULL,\n"
    "  wrapped_key BLOB,\n"
    "  offered_at_ms INTEGER NOT NULL,\n"
    "  confirmed_at_ms INTEGER,\n"
    "  PRIMARY KEY (agent_id, generation),\n"
    "  CHECK (state = 3 OR wrapped_key IS NOT NULL)\n"
    ");\n"
    "CREATE UNIQUE INDEX generation_offered ON generation (agent_id) WHERE state = 1;\n";

/*
 * secret          one row for each name: its live head, and the newest that said `gone`.
 * secret_version  every version that ever was, with its commitment; only the live one has a value.
 * secret_holder   to which nodes a version was released, and whether it is durable there.
 * request_nonce   nonces of requests, as long as a request with one could still be in time.
 */
static const char secrets_0002[] =
    "CREATE TABLE secret (\n"
    "  name TEXT NOT NULL PRIMARY KEY,\n"
    "  epoch INTEGER NOT NULL,\n"
    "  version INTEGER NOT NULL,\n"
    "  seq INTEGER NOT NULL,\n"
    "  body BLOB NOT NULL,\n"
    "  signatures BLOB NOT NULL,\n"
    "  gone_seq INTEGER,\n"
    "  gone_body BLOB,\n"
    "  gone_signatures BLOB,\n"
    "  changed_at_ms INTEGER NOT NULL,\n"
    "  changed_by TEXT NOT NULL\n"
    ");\n"
    "CREATE TABLE secret_version (\n"
    "  name TEXT NOT NULL REFERENCES secret (name) ON DELETE CASCADE,\n"
    "  epoch INTEGER NOT NULL,\n"
    "  version INTEGER NOT NULL CHECK (version > 0),\n"
    "  commitment BLOB NOT NULL,\n"
    "  wrapped_key BLOB,\n"
    "  sealed BLOB,\n"
    "  made_at_ms INTEGER NOT NULL,\n"
    "  PRIMARY KEY (name, epoch, version)\n"
    ");\n"
    "CREATE TABLE secret_holder (\n"
    "  agent_id TEXT NOT NULL REFERENCES node (agent_id) ON DELETE CASCADE,\n"
    "  name TEXT NOT NULL REFERENCES secret (name) ON DELETE CASCADE,\n"
    "  epoch INTEGER NOT NULL,\n"
    "  version INTEGER NOT NULL,\n"
    "  confirmed INTEGER NOT NULL CHECK (confirmed IN (0, 1)),\n"
    "  PRIMARY KEY (agent_id, name)\n"
    ");\n"
    "CREATE INDEX secret_holder_by_name ON secret_holder (name);\n"
    "CREATE TABLE request_nonce (\n"
    "  agent_id TEXT NOT NULL REFERENCES node (agent_id) ON DELETE CASCADE,\n"
    "  nonce BLOB NOT NULL,\n"
    "  seen_at_ms INTEGER NOT NULL,\n"
    "  PRIMARY KEY (agent_id, nonce)\n"
    ");\n"
    "CREATE INDEX request_nonce_by_age ON request_nonce (seen_at_ms);\n";

const struct store_migration authority_migrations[] = {
    {.name = "0001-nodes", .sql = nodes_0001},
    {.name = "0002-secrets", .sql = secrets_0002},
};
const size_t authority_migration_count = ARRAY_LEN(authority_migrations);
