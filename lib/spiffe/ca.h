/*
 * Issuing X.509-SVIDs: what the authority does with its key, and what its clients ask with.
 *
 * Keys are libcrypto's (keys/key.h gives them by key_evp), so that this needs no other library. All
 * certificates get a random serial number of 128 bits, subject and authority key identifiers, and a
 * notBefore a minute back, for clocks that lag. Times are Unix milliseconds, lifetimes seconds.
 */
#pragma once

#include "base/certificate.h"
#include "spiffe/id.h"

constexpr size_t CSR_MAX = 16 * 1024;   /* DER; a peer sends them. ML-DSA-65 needs 5.5 KiB */
constexpr size_t CA_DNS_NAMES_MAX = 32; /* in one certificate: they are for few services */
constexpr uint64_t CA_LIFETIME_MAX = 30ull * 366 * 24 * 3600;

/* A self-signed CA certificate of a trust domain for `key`, whose private half signs: its SPIFFE ID
 * is the domain's, without path; keyCertSign and cRLSign; basicConstraints critical. Free by
 * X509_free. INVALID (name, lifetime), INTERNAL. */
[[nodiscard]] bool ca_create(EVP_PKEY *key, struct slice trust_domain, int64_t now,
                             uint64_t lifetime, X509 **ret, struct error *err);

/* Appends a certification request (RFC 2986, DER) that carries nothing but the public half of `key`:
 * who one is, the authority knows from elsewhere. */
[[nodiscard]] bool csr_create(EVP_PKEY *key, struct buf *ret, struct error *err);

/* The public key of a request, if its signature proves possession of the private one and the kind is
 * EC, RSA or ML-DSA with at least 112 bits of security. All names and extensions that it asks for
 * are ignored. Free by EVP_PKEY_free. INVALID. */
[[nodiscard]] bool csr_verify(struct slice der, EVP_PKEY **ret, struct error *err);

struct ca_leaf {
    X509 *issuer; /* a CA certificate, and its key */
    EVP_PKEY *issuer_key;
    EVP_PKEY *public_key;         /* the holder's */
    const struct spiffe_id *id;   /* with a path, in the issuer's trust domain */
    const char *const *dns_names; /* further names, for servers; may be NULL */
    size_t dns_name_count;
    int64_t now;
    uint64_t lifetime; /* cut to the issuer's own end */
};

/* Issues an X.509-SVID: CA false, digitalSignature, serverAuth and clientAuth. Free by X509_free.
 * INVALID (ID of another domain or without path, DNS name, lifetime, issuer and its key), CONFLICT
 * (the issuer has expired), INTERNAL. */
[[nodiscard]] bool ca_issue(const struct ca_leaf *leaf, X509 **ret, struct error *err);
