#include "unit/spiffe/certs.h"

#include "base/certificate.h"

static void certificates_come_and_go(void **state)
{
    (void)state;
    struct error err = {0};
    struct cert ca = cert_make(&(struct cert_spec)CERT_CA("ca"));
    CLEANUP(buf_done) struct buf der = {.max = 65'536}, pem = {.max = 65'536},
                                 again = {.max = 65'536};
    X509 *parsed = POISON;
    STACK_OF(X509) *all = POISON;
    assert_ok(certificate_to_der(ca.x509, &der, &err));
    assert_ok(certificate_to_pem(ca.x509, &pem, &err));
    cert_pem(ca.x509, &again);
    assert_true(slice_equal(buf_slice(&pem), buf_slice(&again)));
    assert_fails(certificate_from_der(slice(der.data, der.len - 1), &parsed, &err), ERROR_INVALID);
    assert_fails(certificate_from_der(slice_str(""), &parsed, &err), ERROR_INVALID);
    assert_ptr_equal(parsed, POISON);
    assert_ok(certificate_from_der(buf_slice(&der), &parsed, &err));
    assert_int_equal(X509_cmp(parsed, ca.x509), 0);
    X509_free(parsed);
    parsed = POISON;
    buf_put_u8(&der, 0);
    assert_fails(certificate_from_der(buf_slice(&der), &parsed, &err), ERROR_INVALID);
    assert_error_contains("left over");
    assert_ptr_equal(parsed, POISON);
    assert_fails(certificates_parse(slice_str("nothing"), &all, &err), ERROR_INVALID);
    assert_ptr_equal(all, POISON);
    assert_ok(certificates_parse(buf_slice(&pem), &all, &err));
    assert_int_equal(sk_X509_num(all), 1);
    assert_null(certificates_free(all));
    assert_null(certificates_free(nullptr));
    cert_done(&ca);
}

static void texts_have_their_limits(void **state)
{
    (void)state;
    struct error err = {0};
    struct cert ca = cert_make(&(struct cert_spec)CERT_CA("ca"));
    CLEANUP(buf_done) struct buf pem = {.max = 1 << 20};
    STACK_OF(X509) *all = POISON;
    for (size_t i = 0; i < CERTIFICATES_MAX; i++)
        cert_pem(ca.x509, &pem);
    assert_ok(certificates_parse(buf_slice(&pem), &all, &err)); /* control */
    assert_int_equal(sk_X509_num(all), CERTIFICATES_MAX);
    certificates_free(all);
    all = POISON;
    cert_pem(ca.x509, &pem);
    assert_fails(certificates_parse(buf_slice(&pem), &all, &err), ERROR_EXHAUSTED);
    buf_clear(&pem);
    cert_pem(ca.x509, &pem);
    pem.len -= 40; /* in the middle of a line */
    assert_fails(certificates_parse(buf_slice(&pem), &all, &err), ERROR_INVALID);
    assert_error_contains("broken PEM");
    assert_ptr_equal(all, POISON);
    cert_done(&ca);
}

static void times_are_read(void **state)
{
    (void)state;
    struct error err = {0};
    struct cert ca = cert_make(&(struct cert_spec)CERT_CA("ca"));
    char text[TIME_TEXT_SIZE];
    ASN1_TIME *end = ASN1_TIME_new();
    int64_t expiry;
    assert_int_equal(ASN1_TIME_set_string_X509(end, "20500102030405Z"), 1);
    assert_string_equal(certificate_time_format(end, text), "2050-01-02T03:04:05Z");
    assert_int_equal(X509_set1_notAfter(ca.x509, end), 1);
    assert_ok(certificate_expiry(ca.x509, &expiry, &err));
    assert_int_equal(expiry, 2'524'705'445'000);
    ASN1_TIME_free(end);
    cert_done(&ca);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(certificates_come_and_go),
        cmocka_unit_test(texts_have_their_limits),
        cmocka_unit_test(times_are_read),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
