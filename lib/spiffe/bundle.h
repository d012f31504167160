/*
 * struct bundles: which certificates may issue identities, per trust domain.
 *
 * One domain's bundle is a set of CA certificates (SPIFFE X.509-SVID section 5); several domains are
 * a federation. A certificate only ever vouches for its own domain. Filled once, then read: not
 * changed while others read it.
 */
#pragma once

#include "base/certificate.h"
#include "spiffe/id.h"

constexpr size_t BUNDLE_DOMAINS_MAX = 64; /* federated domains: configuration gone wild */

struct bundles;

[[nodiscard]] bool bundles_new(struct bundles **ret, struct error *err);
/* Adds a domain with its CA certificates, PEM. INVALID (name, PEM, a certificate that is no CA),
 * EXISTS (the domain is there), EXHAUSTED. */
[[nodiscard]] bool bundles_add(struct bundles *bundles, struct slice trust_domain, struct slice pem,
                               struct error *err);
/* The trust anchors of a domain; borrowed; NULL if the domain is not in it. */
X509_STORE *bundles_find(const struct bundles *bundles, struct slice trust_domain);
/* NULL is fine; returns NULL. */
struct bundles *bundles_free(struct bundles *bundles);
DEFINE_CLEANUP(bundles_free, struct bundles)
