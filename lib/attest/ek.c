#include "attest/ek.h"

#include "base/mem.h"
#include "tpmwire/public.h"

#include <openssl/err.h>
#include <openssl/objects.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

/* tcg-kp-EKCertificate, EK Credential Profile 3.2.16. */
static const char ek_usage_oid[] = "2.23.133.8.1";

struct ek_roots {
    X509_STORE *store;
};

static void x509_free_at(X509 **certificate)
{
    X509_free(*certificate);
}

static void pkey_free_at(EVP_PKEY **key)
{
    EVP_PKEY_free(*key);
}

static bool parse_certificate(struct slice der, X509 **ret, struct error *err)
{
    if (der.len > EK_CERTIFICATE_MAX)
        return error_set(err, ERROR_DENIED, "a certificate has %zu bytes, at most %zu are read",
                         der.len, EK_CERTIFICATE_MAX);
    const uint8_t *at = der.data;
    X509 *certificate = d2i_X509(nullptr, &at, (long)der.len);
    if (!certificate || at != der.data + der.len) {
        bool trailing = certificate;
        X509_free(certificate);
        return trailing ? error_set(err, ERROR_DENIED, "bytes follow a certificate")
                        : error_set_openssl(err, ERROR_DENIED, "a certificate can't be read");
    }
    *ret = certificate;
    return true;
}

/* What a signature or key in a chain must be worth: 112 bits, that is RSA from 2048 and SHA-256. */
constexpr int CHAIN_SECURITY_LEVEL = 2;

/* Adds every certificate of `text` to the store. */
static bool add_roots(BIO *text, X509_STORE *store, struct error *err)
{
    for (size_t count = 0;; count++) {
        CLEANUP(x509_free_at) X509 *certificate =
            PEM_read_bio_X509(text, nullptr, nullptr, nullptr);
        unsigned long code = ERR_peek_last_error();
        bool at_end = !certificate && ERR_GET_LIB(code) == ERR_LIB_PEM &&
                      ERR_GET_REASON(code) == PEM_R_NO_START_LINE;
        if (at_end && count > 0)
            break;
        if (at_end)
            return error_set(err, ERROR_INVALID, "there is no certificate in PEM");
        if (!certificate || X509_STORE_add_cert(store, certificate) != 1)
            return error_set_openssl(err, ERROR_INVALID, "certificate %zu can't be read as PEM",
                                     count + 1);
        if (count == EK_ROOTS_MAX)
            return error_set(err, ERROR_EXHAUSTED, "more than %zu certificates", EK_ROOTS_MAX);
    }
    return true;
}

bool ek_roots_new(struct slice pem, struct ek_roots **ret, struct error *err)
{
    CLEANUP(ek_roots_free_at) struct ek_roots *roots = mem_new(1, sizeof(*roots));
    if (!roots)
        return error_set_memory(err);
    if (pem.len == 0 || pem.len > EK_ROOTS_PEM_MAX)
        return error_set(err, ERROR_INVALID, "expected certificates in PEM, 1 to %zu bytes",
                         EK_ROOTS_PEM_MAX);
    ERR_clear_error();
    roots->store = X509_STORE_new();
    BIO *text = BIO_new_mem_buf(pem.data, (int)pem.len);
    bool ok = roots->store && text
                  ? add_roots(text, roots->store, err)
                  : error_set_openssl(err, ERROR_INTERNAL, "make a certificate store");
    BIO_free(text);
    ERR_clear_error();
    if (ok)
        *ret = TAKE(roots);
    return ok;
}

struct ek_roots *ek_roots_free(struct ek_roots *roots)
{
    if (roots)
        X509_STORE_free(roots->store);
    return mem_free(roots);
}

static bool has_ek_usage(X509 *certificate)
{
    EXTENDED_KEY_USAGE *usages = X509_get_ext_d2i(certificate, NID_ext_key_usage, nullptr, nullptr);
    ASN1_OBJECT *wanted = OBJ_txt2obj(ek_usage_oid, 1);
    bool found = false;
    for (int i = 0; wanted && i < sk_ASN1_OBJECT_num(usages); i++)
        found = found || OBJ_cmp(sk_ASN1_OBJECT_value(usages, i), wanted) == 0;
    ASN1_OBJECT_free(wanted);
    EXTENDED_KEY_USAGE_free(usages);
    ERR_clear_error();
    return found;
}

static bool verify_path(const struct ek_roots *roots, X509 *leaf, STACK_OF(X509) * others,
                        int64_t now_ms, struct error *err)
{
    X509_STORE_CTX *context = X509_STORE_CTX_new();
    bool ok = context && X509_STORE_CTX_init(context, roots->store, leaf, others) == 1;
    if (ok) {
        X509_STORE_CTX_set_time(context, 0, (time_t)(now_ms / 1000));
        X509_STORE_CTX_set_depth(context, (int)EK_CHAIN_PARTS_MAX);
        X509_VERIFY_PARAM_set_auth_level(X509_STORE_CTX_get0_param(context), CHAIN_SECURITY_LEVEL);
        ok = X509_verify_cert(context) == 1;
        int reason = X509_STORE_CTX_get_error(context);
        if (!ok && reason == X509_V_ERR_OUT_OF_MEM)
            error_set_memory(err);
        else if (!ok)
            error_set(err, ERROR_DENIED, "the EK certificate's chain: %s",
                      X509_verify_cert_error_string(reason));
    } else {
        error_set_openssl(err, ERROR_INTERNAL, "verify an EK certificate");
    }
    X509_STORE_CTX_free(context);
    ERR_clear_error();
    return ok;
}

bool ek_certificate_verify(const struct ek_roots *roots, struct slice leaf,
                           const struct slice *chain, size_t chain_count, int64_t now_ms,
                           struct error *err)
{
    if (!roots)
        return error_set(err, ERROR_DENIED,
                         "the authority has no roots to check EK certificates with (ek_roots)");
    if (chain_count > EK_CHAIN_PARTS_MAX)
        return error_set(err, ERROR_DENIED, "%zu intermediates, at most %zu are read", chain_count,
                         EK_CHAIN_PARTS_MAX);
    CLEANUP(x509_free_at) X509 *certificate = nullptr;
    if (!parse_certificate(leaf, &certificate, err))
        return false;
    if (!has_ek_usage(certificate))
        return error_set(err, ERROR_DENIED,
                         "the certificate is not an EK's: extended key usage %s is missing",
                         ek_usage_oid);
    if (X509_check_ca(certificate) != 0)
        return error_set(err, ERROR_DENIED, "the certificate is a CA's, not an EK's");

    STACK_OF(X509) *others = sk_X509_new_reserve(nullptr, (int)EK_CHAIN_PARTS_MAX);
    bool ok = others || error_set_memory(err);
    for (size_t i = 0; ok && i < chain_count; i++) {
        X509 *other;
        ok = parse_certificate(chain[i], &other, err);
        if (ok)
            sk_X509_push(others, other); /* there is room */
    }
    ok = ok && verify_path(roots, certificate, others, now_ms, err);
    sk_X509_pop_free(others, X509_free);
    return ok;
}

bool ek_certificate_fits(struct slice leaf, const TPMT_PUBLIC *ek, struct error *err)
{
    CLEANUP(x509_free_at) X509 *certificate = nullptr;
    CLEANUP(pkey_free_at) EVP_PKEY *key = nullptr;
    if (!parse_certificate(leaf, &certificate, err) || !public_area_key(ek, &key, err))
        return false;
    EVP_PKEY *certified = X509_get0_pubkey(certificate);
    bool fits = certified && EVP_PKEY_eq(certified, key) == 1;
    ERR_clear_error();
    return fits || error_set(err, ERROR_DENIED, "the EK certificate is for another key");
}

bool ek_pin(const TPMT_PUBLIC *ek, uint8_t ret[static SHA256_SIZE], struct error *err)
{
    CLEANUP(pkey_free_at) EVP_PKEY *key = nullptr;
    if (!public_area_key(ek, &key, err))
        return false;
    uint8_t *der = nullptr;
    int len = i2d_PUBKEY(key, &der);
    if (len <= 0)
        return error_set_openssl(err, ERROR_INTERNAL, "encode an EK");
    bool ok = sha256(slice(der, (size_t)len), ret, err);
    OPENSSL_free(der);
    return ok;
}
