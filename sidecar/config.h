/* The sidecar's configuration: what its message's types can't say. */
#pragma once

#include "program/config.h"

#include "postern/v1/config.pb-c.h"

/* A config_check for Postern__V1__SidecarConfig. */
[[nodiscard]] bool sidecar_config_check(const ProtobufCMessage *message, struct error *err);
/* What a running sidecar can't change is the same in both. */
[[nodiscard]] bool sidecar_config_changeable(const ProtobufCMessage *now,
                                             const ProtobufCMessage *next, struct error *err);
