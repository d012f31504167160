/*
 * SPIFFE IDs, by the SPIFFE-ID standard, section 2, taken strictly: spiffe://TRUST-DOMAIN/PATH.
 *
 *   - the scheme is "spiffe", in lower case; no user info, port, query or fragment;
 *   - the trust domain has 1 to 255 characters of a-z 0-9 . - _;
 *   - the path is empty (the trust domain itself) or segments of a-z A-Z 0-9 . - _, each after a
 *     "/", none of them empty, "." or ".."; so there is no "/" at the end and no percent-encoding;
 *   - the whole has at most 2048 bytes.
 * Two IDs are equal if and only if their bytes are.
 */
#pragma once

#include "base/error.h"
#include "base/slice.h"

constexpr size_t SPIFFE_ID_MAX = 2048; /* SPIFFE-ID section 2.3; longer ones would fill logs */
constexpr size_t SPIFFE_TRUST_DOMAIN_MAX = 255;

/* A valid ID; a plain value. */
struct spiffe_id {
    char text[SPIFFE_ID_MAX + 1];
    size_t len;              /* of text */
    size_t trust_domain_len; /* after "spiffe://" */
};

/* INVALID says what is wrong with it. */
[[nodiscard]] bool spiffe_id_parse(struct slice text, struct spiffe_id *ret, struct error *err);
/* INVALID unless `name` is a trust domain's name. */
[[nodiscard]] bool spiffe_trust_domain_check(struct slice name, struct error *err);

/* "example.org"; borrowed. */
struct slice spiffe_id_trust_domain(const struct spiffe_id *id);
/* "/ns/default/sa/web" with its leading "/", or empty; borrowed. */
struct slice spiffe_id_path(const struct spiffe_id *id);

/* Whether the ID may name a workload: it has a path, and not one under "/postern/", which is reserved
 * for Postern's own (docs/protocol.md, "Identities"). INVALID says why not. Every place where a
 * person or a policy names a workload asks this: one certificate authority serves all of them, and
 * only the path tells a pod from an operator. */
[[nodiscard]] bool spiffe_id_workload_check(const struct spiffe_id *id, struct error *err);
