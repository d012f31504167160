/*
 * X.509-SVIDs: who is this certificate's holder? By the SPIFFE X.509-SVID standard.
 * Threading: any, as long as the bundles don't change. Limits: SVID_CHAIN_MAX.
 */
#pragma once

#include "spiffe/bundle.h"

constexpr int SVID_CHAIN_MAX = 8; /* CA certificates above a leaf: each costs a signature check */

/* The ID in a leaf certificate, if the leaf itself is one (sections 2, 3, 4.1, 4.3, 4.4, 5.2):
 * exactly one URI among its names, a SPIFFE ID with a path; not a CA; keyUsage critical, with
 * digitalSignature, without keyCertSign and cRLSign; extendedKeyUsage absent or with serverAuth and
 * clientAuth. Nothing is said about who issued it. UNAUTHENTICATED says what is wrong. */
[[nodiscard]] bool svid_id(X509 *leaf, struct spiffe_id *ret, struct error *err);

/* The whole check (section 5): svid_id, and a path from the leaf over `chain` (unchecked, in any
 * order, with or without the leaf, may be NULL) to the bundle of its own trust domain, all valid at
 * `now` (Unix milliseconds). UNAUTHENTICATED says what is wrong. */
[[nodiscard]] bool svid_verify(X509 *leaf, STACK_OF(X509) * chain, const struct bundles *bundles,
                               int64_t now, struct spiffe_id *ret, struct error *err);
