#include "base/certificate.h"

#include <limits.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <time.h>

STACK_OF(X509) * certificates_free(STACK_OF(X509) * certificates)
{
    sk_X509_pop_free(certificates, X509_free);
    return nullptr;
}

/* Reads until the text has no more; true if that was the reason for the end. */
static bool read_all(BIO *bio, STACK_OF(X509) * all, struct error *err)
{
    ERR_clear_error();
    for (X509 *one; (one = PEM_read_bio_X509(bio, nullptr, nullptr, nullptr));) {
        bool full = (size_t)sk_X509_num(all) >= CERTIFICATES_MAX;
        if (full || sk_X509_push(all, one) <= 0) {
            X509_free(one);
            return full ? error_set(err, ERROR_EXHAUSTED, "more than %zu certificates",
                                    CERTIFICATES_MAX)
                        : error_set_memory(err);
        }
    }
    unsigned long end = ERR_peek_last_error();
    if (ERR_GET_LIB(end) != ERR_LIB_PEM || ERR_GET_REASON(end) != PEM_R_NO_START_LINE)
        return error_set_openssl(err, ERROR_INVALID, "broken PEM");
    ERR_clear_error();
    return sk_X509_num(all) > 0 ||
           error_set(err, ERROR_INVALID, "no certificate: expected -----BEGIN CERTIFICATE-----");
}

bool certificates_parse(struct slice pem, STACK_OF(X509) * *ret, struct error *err)
{
    STACK_OF(X509) *all = sk_X509_new_null();
    BIO *bio = pem.len <= INT_MAX ? BIO_new_mem_buf(pem.data, (int)pem.len) : nullptr;
    bool ok = all && bio ? read_all(bio, all, err) : error_set_memory(err);
    BIO_free(bio);
    if (ok)
        *ret = all;
    else
        certificates_free(all);
    return ok;
}

bool certificate_from_der(struct slice der, X509 **ret, struct error *err)
{
    const uint8_t *at = der.data;
    X509 *made = nullptr;
    if (der.len <= CERTIFICATE_DER_MAX)
        made = d2i_X509(nullptr, &at, (long)der.len);
    if (!made)
        return error_set_openssl(err, ERROR_INVALID, "not a certificate");
    if (at != der.data + der.len) {
        X509_free(made);
        return error_set(err, ERROR_INVALID, "bytes are left over after the certificate");
    }
    *ret = made;
    return true;
}

bool certificate_to_der(const X509 *certificate, struct buf *ret, struct error *err)
{
    uint8_t *der = nullptr;
    int len = i2d_X509(certificate, &der);
    if (len <= 0)
        return error_set_openssl(err, ERROR_INTERNAL, "cannot encode the certificate");
    buf_put(ret, slice(der, (size_t)len));
    OPENSSL_free(der);
    return buf_ok(ret, err);
}

bool certificate_to_pem(const X509 *certificate, struct buf *ret, struct error *err)
{
    char *text;
    BIO *bio = BIO_new(BIO_s_mem());
    if (!bio || PEM_write_bio_X509(bio, certificate) != 1) {
        BIO_free(bio);
        return error_set_openssl(err, ERROR_INTERNAL, "cannot encode the certificate");
    }
    long len = BIO_get_mem_data(bio, &text);
    buf_put(ret, slice(text, (size_t)len));
    BIO_free(bio);
    return buf_ok(ret, err);
}

char *certificate_time_format(const ASN1_TIME *time, char ret[static TIME_TEXT_SIZE])
{
    struct tm tm;
    int64_t seconds = ASN1_TIME_to_tm(time, &tm) == 1 ? (int64_t)timegm(&tm) : 0;
    return time_format(seconds * 1000, ret);
}

bool certificate_expiry(const X509 *certificate, int64_t *ret, struct error *err)
{
    struct tm tm;
    if (ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &tm) != 1)
        return error_set(err, ERROR_INTERNAL, "the certificate's notAfter is unreadable");
    *ret = (int64_t)timegm(&tm) * 1000;
    return true;
}
