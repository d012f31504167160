/* TLS contexts of the test's own certificates: FOLDER/ca.pem, FOLDER/cert.pem, FOLDER/key.pem. */
#pragma once

#include "tls/tls.h"

/* Mutual TLS, ALPN h2. `groups` as in tls/tls.h, null for the default. */
[[nodiscard]] bool certificates_open(const char *folder, enum tls_role role, const char *groups,
                                     struct tls_context **ret, struct error *err);
