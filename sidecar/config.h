/* The sidecar's configuration: what its message's types can't say. */
#pragma once

#include "program/config.h"

#include "postern/v1/config.pb-c.h"

/* A config_check for Postern__V1__SidecarConfig. */
[[nodiscard]] bool sidecar_config_check(const ProtobufCMessage *message, struct error *err);
