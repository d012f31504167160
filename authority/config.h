/* The authority's configuration: what its message's types can't say, and what a program makes of
 * it. */
#pragma once

#include "authority.h"

#include "program/config.h"

#include "postern/v1/config.pb-c.h"

/* Where an authority may listen: an IP address and a port. INVALID says what was expected. */
[[nodiscard]] bool listen_address_parse(const char *text, struct address *ret, struct error *err);

/* A config_check for Postern__V1__AuthorityConfig. */
[[nodiscard]] bool authority_config_check(const ProtobufCMessage *message, struct error *err);

/* What a running authority can't change is the same in both. */
[[nodiscard]] bool authority_config_changeable(const ProtobufCMessage *now,
                                               const ProtobufCMessage *next, struct error *err);

/* A checked configuration as settings, with its paths resolved; zeroed before, for
 * config_settings_done. Borrows from the message. */
struct config_settings {
    struct authority_settings settings;
    struct buf data_dir, policies, ek_roots;
};
[[nodiscard]] bool config_settings(const char *config_path,
                                   const Postern__V1__AuthorityConfig *config,
                                   struct config_settings *ret, struct error *err);
void config_settings_done(struct config_settings *settings);
