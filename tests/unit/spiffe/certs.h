/* Certificates for the tests of spiffe and tls: right ones, and ones that are wrong in just one
 * thing. */
#pragma once

#include "testlib/testlib.h"

#include "base/buf.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <time.h>

struct cert {
    X509 *x509;
    EVP_PKEY *key;
};

struct cert_spec {
    const char *name;          /* common name; NULL: an empty subject */
    const char *alt;           /* subjectAltName as OpenSSL's configuration has it, or NULL */
    const char *constraints;   /* basicConstraints, or NULL */
    const char *usage;         /* keyUsage, or NULL */
    const char *extended;      /* extendedKeyUsage, or NULL */
    const char *constrained;   /* nameConstraints, or NULL */
    long from, until;          /* seconds from now; both 0: an hour ago until in an hour */
    const struct cert *issuer; /* NULL: self-signed */
    EVP_PKEY *key;             /* NULL: a fresh one */
};

#define CERT_CA(cn)                                                                                \
    {.name = (cn), .constraints = "critical,CA:TRUE", .usage = "critical,keyCertSign,cRLSign"}
#define CERT_LEAF(uri, by)                                                                         \
    {.alt = (uri),                                                                                 \
     .constraints = "critical,CA:FALSE",                                                           \
     .usage = "critical,digitalSignature",                                                         \
     .extended = "serverAuth,clientAuth",                                                          \
     .issuer = (by)}

static inline void cert_extension(X509 *x509, X509V3_CTX *ctx, int nid, const char *value)
{
    if (!value)
        return;
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(nullptr, ctx, nid, value);
    assert_non_null(extension);
    assert_int_equal(X509_add_ext(x509, extension, -1), 1);
    X509_EXTENSION_free(extension);
}

static inline struct cert cert_make(const struct cert_spec *spec)
{
    static long serial = 1000;
    struct cert cert = {.x509 = X509_new(), .key = spec->key};
    if (cert.key)
        EVP_PKEY_up_ref(cert.key);
    else
        cert.key = EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", "P-256");
    assert_non_null(cert.x509);
    assert_non_null(cert.key);
    const struct cert *issuer = spec->issuer ? spec->issuer : &cert;
    bool default_times = spec->from == 0 && spec->until == 0;
    X509_NAME *name = X509_NAME_new();
    if (spec->name)
        X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)spec->name, -1,
                                   -1, 0);
    assert_int_equal(X509_set_version(cert.x509, X509_VERSION_3), 1);
    assert_int_equal(ASN1_INTEGER_set(X509_get_serialNumber(cert.x509), ++serial), 1);
    assert_int_equal(X509_set_subject_name(cert.x509, name), 1);
    X509_NAME_free(name);
    assert_int_equal(X509_set_issuer_name(cert.x509, X509_get_subject_name(issuer->x509)), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert.x509), default_times ? -3600 : spec->from);
    X509_gmtime_adj(X509_getm_notAfter(cert.x509), default_times ? 3600 : spec->until);
    assert_int_equal(X509_set_pubkey(cert.x509, cert.key), 1);
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, issuer->x509, cert.x509, nullptr, nullptr, 0);
    cert_extension(cert.x509, &ctx, NID_basic_constraints, spec->constraints);
    cert_extension(cert.x509, &ctx, NID_key_usage, spec->usage);
    cert_extension(cert.x509, &ctx, NID_ext_key_usage, spec->extended);
    cert_extension(cert.x509, &ctx, NID_subject_alt_name, spec->alt);
    cert_extension(cert.x509, &ctx, NID_name_constraints, spec->constrained);
    cert_extension(cert.x509, &ctx, NID_subject_key_identifier, "hash");
    assert_true(X509_sign(cert.x509, issuer->key, EVP_sha256()) > 0);
    return cert;
}

static inline void cert_done(struct cert *cert)
{
    X509_free(cert->x509);
    EVP_PKEY_free(cert->key);
    *cert = (struct cert){0};
}

/* Appends the certificate as PEM. */
static inline void cert_pem(X509 *x509, struct buf *ret)
{
    struct error err = {0};
    char *text;
    BIO *bio = BIO_new(BIO_s_mem());
    assert_int_equal(PEM_write_bio_X509(bio, x509), 1);
    long len = BIO_get_mem_data(bio, &text);
    buf_put(ret, slice(text, (size_t)len));
    assert_ok(buf_ok(ret, &err));
    BIO_free(bio);
}
