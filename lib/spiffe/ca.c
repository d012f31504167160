#include "spiffe/ca.h"

#include "base/crypt.h"
#include "base/text.h"

#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509v3.h>
#include <time.h>

constexpr int64_t BACKDATE_MS = 60'000;
constexpr int SECURITY_BITS_MIN = 112; /* RSA of 2048 bits */
constexpr size_t SERIAL_SIZE = 16;

/* keyUsage, RFC 5280 section 4.2.1.3. */
constexpr int BIT_DIGITAL_SIGNATURE = 0;
constexpr int BIT_KEY_CERT_SIGN = 5;
constexpr int BIT_CRL_SIGN = 6;

static void free_x509(X509 **certificate)
{
    X509_free(*certificate);
}

/* For ECDSA the digest that fits the curve; ML-DSA has none. */
static const EVP_MD *digest_for(EVP_PKEY *key)
{
    if (EVP_PKEY_is_a(key, "EC"))
        return EVP_PKEY_get_bits(key) > 256 ? EVP_sha384() : EVP_sha256();
    return EVP_PKEY_is_a(key, "RSA") ? EVP_sha256() : nullptr;
}

static bool set_serial(X509 *certificate, struct error *err)
{
    uint8_t bytes[SERIAL_SIZE];
    if (!random_bytes(bytes, sizeof bytes, err))
        return false;
    BIGNUM *number = BN_bin2bn(bytes, sizeof bytes, nullptr);
    bool ok = number && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate));
    BN_free(number);
    return ok || error_set_memory(err);
}

static bool set_times(X509 *certificate, int64_t from, int64_t until, struct error *err)
{
    return (ASN1_TIME_set(X509_getm_notBefore(certificate), (time_t)(from / 1000)) &&
            ASN1_TIME_set(X509_getm_notAfter(certificate), (time_t)(until / 1000))) ||
           error_set_openssl(err, ERROR_INTERNAL, "cannot set the certificate's times");
}

/* Adds `value` (whose type belongs to `nid`) as an extension. */
static bool add_extension(X509 *certificate, int nid, void *value, bool critical)
{
    return X509_add1_ext_i2d(certificate, nid, value, critical, X509V3_ADD_APPEND) == 1;
}

static bool add_constraints(X509 *certificate, bool ca)
{
    BASIC_CONSTRAINTS *constraints = BASIC_CONSTRAINTS_new();
    bool ok = false;
    if (constraints) {
        constraints->ca = ca ? 0xff : 0;
        ok = add_extension(certificate, NID_basic_constraints, constraints, true);
    }
    BASIC_CONSTRAINTS_free(constraints);
    return ok;
}

static bool add_usage(X509 *certificate, const int *bits, size_t count)
{
    ASN1_BIT_STRING *usage = ASN1_BIT_STRING_new();
    bool ok = usage;
    for (size_t i = 0; ok && i < count; i++)
        ok = ASN1_BIT_STRING_set_bit(usage, bits[i], 1) == 1;
    ok = ok && add_extension(certificate, NID_key_usage, usage, true);
    ASN1_BIT_STRING_free(usage);
    return ok;
}

static bool add_purposes(X509 *certificate)
{
    EXTENDED_KEY_USAGE *purposes = sk_ASN1_OBJECT_new_null();
    bool ok = purposes && sk_ASN1_OBJECT_push(purposes, OBJ_nid2obj(NID_server_auth)) > 0 &&
              sk_ASN1_OBJECT_push(purposes, OBJ_nid2obj(NID_client_auth)) > 0 &&
              add_extension(certificate, NID_ext_key_usage, purposes, false);
    sk_ASN1_OBJECT_free(purposes); /* the objects are libcrypto's own */
    return ok;
}

static bool push_name(GENERAL_NAMES *names, int type, struct slice text)
{
    GENERAL_NAME *name = GENERAL_NAME_new();
    ASN1_IA5STRING *value = ASN1_IA5STRING_new();
    if (!name || !value || ASN1_STRING_set(value, text.data, (int)text.len) != 1) {
        ASN1_IA5STRING_free(value);
        GENERAL_NAME_free(name);
        return false;
    }
    GENERAL_NAME_set0_value(name, type, value);
    if (sk_GENERAL_NAME_push(names, name) > 0)
        return true;
    GENERAL_NAME_free(name);
    return false;
}

static bool add_names(X509 *certificate, struct slice uri, const char *const *dns, size_t dns_count)
{
    GENERAL_NAMES *names = GENERAL_NAMES_new();
    bool ok = names && push_name(names, GEN_URI, uri);
    for (size_t i = 0; ok && i < dns_count; i++)
        ok = push_name(names, GEN_DNS, slice_str(dns[i]));
    ok = ok && add_extension(certificate, NID_subject_alt_name, names, false);
    GENERAL_NAMES_free(names);
    return ok;
}

static bool add_key_id(X509 *certificate, X509 *issuer, int nid, const char *how)
{
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, issuer, certificate, nullptr, nullptr, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(nullptr, &ctx, nid, how);
    bool ok = extension && X509_add_ext(certificate, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return ok;
}

static bool set_subject(X509 *certificate, struct slice common_name)
{
    X509_NAME *name = X509_get_subject_name(certificate);
    bool ok = X509_NAME_add_entry_by_txt(name, "O", MBSTRING_UTF8, (const uint8_t *)"Postern", -1,
                                         -1, 0) == 1;
    /* X.520: a common name has at most 64 characters. It is for people; the ID is in the URI. */
    if (common_name.len > 0 && common_name.len <= 64)
        ok = ok && X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, common_name.data,
                                              (int)common_name.len, -1, 0) == 1;
    return ok;
}

/* What all certificates have. `issuer` is NULL for a self-signed one. */
static bool start(X509 *certificate, EVP_PKEY *public_key, X509 *issuer, struct slice common_name,
                  struct error *err)
{
    if (X509_set_version(certificate, X509_VERSION_3) != 1 ||
        X509_set_pubkey(certificate, public_key) != 1 || !set_subject(certificate, common_name) ||
        X509_set_issuer_name(certificate, X509_get_subject_name(issuer ? issuer : certificate)) !=
            1)
        return error_set_openssl(err, ERROR_INTERNAL, "cannot make a certificate");
    return set_serial(certificate, err);
}

static bool sign(X509 *certificate, X509 *issuer, EVP_PKEY *key, struct error *err)
{
    if (!add_key_id(certificate, issuer, NID_subject_key_identifier, "hash") ||
        !add_key_id(certificate, issuer, NID_authority_key_identifier, "keyid:always") ||
        X509_sign(certificate, key, digest_for(key)) <= 0)
        return error_set_openssl(err, ERROR_INTERNAL, "cannot sign a certificate");
    return true;
}

static bool check_lifetime(uint64_t lifetime, struct error *err)
{
    if (lifetime == 0 || lifetime > CA_LIFETIME_MAX)
        return error_set(err, ERROR_INVALID, "a certificate lives between 1 s and 30 years");
    return true;
}

bool ca_create(EVP_PKEY *key, struct slice trust_domain, int64_t now, uint64_t lifetime, X509 **ret,
               struct error *err)
{
    static const int usage[] = {BIT_KEY_CERT_SIGN, BIT_CRL_SIGN};
    if (!spiffe_trust_domain_check(trust_domain, err) || !check_lifetime(lifetime, err))
        return false;
    CLEANUP(buf_done) struct buf uri = {.max = SPIFFE_ID_MAX};
    buf_put(&uri, slice_str("spiffe://"));
    buf_put(&uri, trust_domain);
    CLEANUP(free_x509) X509 *made = X509_new();
    if (!buf_ok(&uri, err))
        return false;
    if (!made)
        return error_set_memory(err);
    if (!start(made, key, nullptr, trust_domain, err) ||
        !set_times(made, now - BACKDATE_MS, now + (int64_t)lifetime * 1000, err))
        return false;
    if (!add_constraints(made, true) || !add_usage(made, usage, ARRAY_LEN(usage)) ||
        !add_names(made, buf_slice(&uri), nullptr, 0))
        return error_set_openssl(err, ERROR_INTERNAL, "cannot make a certificate");
    if (!sign(made, made, key, err))
        return false;
    *ret = TAKE(made);
    return true;
}

bool csr_create(EVP_PKEY *key, struct buf *ret, struct error *err)
{
    uint8_t *der = nullptr;
    int len = 0;
    X509_REQ *request = X509_REQ_new();
    if (request && X509_REQ_set_version(request, X509_REQ_VERSION_1) == 1 &&
        X509_REQ_set_pubkey(request, key) == 1 && X509_REQ_sign(request, key, digest_for(key)) > 0)
        len = i2d_X509_REQ(request, &der);
    X509_REQ_free(request);
    if (len <= 0)
        return error_set_openssl(err, ERROR_INTERNAL, "cannot make a certification request");
    buf_put(ret, slice(der, (size_t)len));
    OPENSSL_free(der);
    return buf_ok(ret, err);
}

static bool check_public_key(EVP_PKEY *key, struct error *err)
{
    if (!EVP_PKEY_is_a(key, "EC") && !EVP_PKEY_is_a(key, "RSA") && !EVP_PKEY_is_a(key, "ML-DSA-65"))
        return error_set(err, ERROR_INVALID,
                         "the request's key is of another kind than EC, RSA "
                         "and ML-DSA-65");
    if (EVP_PKEY_get_security_bits(key) < SECURITY_BITS_MIN)
        return error_set(err, ERROR_INVALID,
                         "the request's key has %d bits of security, fewer "
                         "than %d",
                         EVP_PKEY_get_security_bits(key), SECURITY_BITS_MIN);
    return true;
}

bool csr_verify(struct slice der, EVP_PKEY **ret, struct error *err)
{
    const uint8_t *at = der.data;
    if (der.len > CSR_MAX)
        return error_set(err, ERROR_INVALID, "the certification request has %zu bytes, at most %zu",
                         der.len, CSR_MAX);
    X509_REQ *request = d2i_X509_REQ(nullptr, &at, (long)der.len);
    if (!request)
        return error_set_openssl(err, ERROR_INVALID, "not a certification request");
    EVP_PKEY *key = X509_REQ_get_pubkey(request);
    bool ok = false;
    if (at != der.data + der.len)
        error_set(err, ERROR_INVALID, "bytes are left over after the certification request");
    else if (!key)
        error_set_openssl(err, ERROR_INVALID, "the certification request's key is unreadable");
    else if (X509_REQ_verify(request, key) != 1)
        error_set(err, ERROR_INVALID, "the certification request is not signed by its own key");
    else
        ok = check_public_key(key, err);
    X509_REQ_free(request);
    ERR_clear_error();
    if (ok)
        *ret = key;
    else
        EVP_PKEY_free(key);
    return ok;
}

/* Letters, digits, "-" and "." between labels; no wildcards: a sidecar serves under its own name. */
static bool dns_name_valid(const char *name)
{
    size_t label = 0, len = strlen(name);
    if (len == 0 || len > 253)
        return false;
    for (size_t i = 0; i <= len; i++) {
        char c = name[i];
        if (c == '.' || c == '\0') {
            if (label == 0 || label > 63 || name[i - 1] == '-')
                return false;
            label = 0;
            continue;
        }
        bool alphanumeric =
            (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!alphanumeric && !(c == '-' && label > 0))
            return false;
        label++;
    }
    return true;
}

/* Whether `uri` is spiffe://TRUST-DOMAIN. */
static bool names_domain(const ASN1_IA5STRING *uri, struct slice trust_domain)
{
    struct slice scheme = slice_str("spiffe://");
    struct slice text = slice(ASN1_STRING_get0_data(uri), (size_t)ASN1_STRING_length(uri));
    return text.len == scheme.len + trust_domain.len &&
           slice_equal(slice(text.data, scheme.len), scheme) &&
           slice_equal(slice(text.data + scheme.len, trust_domain.len), trust_domain);
}

/* Whether the issuer is the CA of exactly this trust domain, by its own URI name. */
static bool issues_for(X509 *issuer, struct slice trust_domain)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(issuer, NID_subject_alt_name, nullptr, nullptr);
    bool found = false;
    for (int i = 0; names && i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        found = found || (name->type == GEN_URI &&
                          names_domain(name->d.uniformResourceIdentifier, trust_domain));
    }
    GENERAL_NAMES_free(names);
    return found;
}

static bool check_leaf(const struct ca_leaf *leaf, int64_t *ret_until, struct error *err)
{
    if (!check_lifetime(leaf->lifetime, err))
        return false;
    if (spiffe_id_path(leaf->id).len == 0)
        return error_set(err, ERROR_INVALID, "%s names no workload", leaf->id->text);
    if (X509_check_ca(leaf->issuer) != 1 ||
        X509_check_private_key(leaf->issuer, leaf->issuer_key) != 1) {
        ERR_clear_error();
        return error_set(err, ERROR_INVALID,
                         "the issuer's certificate and its key do not belong "
                         "together, or it is no CA");
    }
    if (!issues_for(leaf->issuer, spiffe_id_trust_domain(leaf->id)))
        return error_set(err, ERROR_INVALID, "%s is not in the issuer's trust domain",
                         leaf->id->text);
    if (leaf->dns_name_count > CA_DNS_NAMES_MAX)
        return error_set(err, ERROR_INVALID, "more than %zu DNS names", CA_DNS_NAMES_MAX);
    for (size_t i = 0; i < leaf->dns_name_count; i++) {
        if (!dns_name_valid(leaf->dns_names[i]))
            return error_set(err, ERROR_INVALID, "\"%s\" is not a DNS name", leaf->dns_names[i]);
    }
    int64_t end, until = leaf->now + (int64_t)leaf->lifetime * 1000;
    if (!certificate_expiry(leaf->issuer, &end, err))
        return false;
    if (end <= leaf->now) {
        char time[TIME_TEXT_SIZE];
        return error_set(err, ERROR_CONFLICT, "the CA's own certificate expired at %s",
                         time_format(end, time));
    }
    *ret_until = until < end ? until : end;
    return true;
}

bool ca_issue(const struct ca_leaf *leaf, X509 **ret, struct error *err)
{
    static const int usage[] = {BIT_DIGITAL_SIGNATURE};
    int64_t until = 0;
    if (!check_leaf(leaf, &until, err))
        return false;
    CLEANUP(free_x509) X509 *made = X509_new();
    if (!made)
        return error_set_memory(err);
    struct slice path = spiffe_id_path(leaf->id);
    if (!start(made, leaf->public_key, leaf->issuer, slice(path.data + 1, path.len - 1), err) ||
        !set_times(made, leaf->now - BACKDATE_MS, until, err))
        return false;
    if (!add_constraints(made, false) || !add_usage(made, usage, ARRAY_LEN(usage)) ||
        !add_purposes(made) ||
        !add_names(made, slice(leaf->id->text, leaf->id->len), leaf->dns_names,
                   leaf->dns_name_count))
        return error_set_openssl(err, ERROR_INTERNAL, "cannot make a certificate");
    if (!sign(made, leaf->issuer, leaf->issuer_key, err))
        return false;
    *ret = TAKE(made);
    return true;
}
