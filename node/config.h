/* The node agent's configuration: what its message's types can't say. */
#pragma once

#include "program/config.h"

#include "postern/v1/config.pb-c.h"

constexpr size_t PODS_MAX = 1024; /* mappings; a Kubernetes node has at most some hundred pods */

/* A config_check for Postern__V1__NodeConfig. */
[[nodiscard]] bool node_config_check(const ProtobufCMessage *message, struct error *err);

/* The TPM's section, or its defaults. Of a checked configuration, as the next. */
const Postern__V1__TpmConfig *node_config_tpm(const Postern__V1__NodeConfig *config);
/* The NV index of the counter. */
uint32_t node_config_counter(const Postern__V1__NodeConfig *config);

/* Pods, log and drain alone can change while the agent runs. */
[[nodiscard]] bool node_config_changeable(const ProtobufCMessage *now, const ProtobufCMessage *next,
                                          struct error *err);
