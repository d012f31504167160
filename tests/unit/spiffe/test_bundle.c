#include "unit/spiffe/certs.h"

#include "spiffe/bundle.h"

static void finds_the_own_domain_only(void **state)
{
    (void)state;
    struct error err = {0};
    struct bundles *bundles;
    struct cert one = cert_make(&(struct cert_spec)CERT_CA("one"));
    struct cert two = cert_make(&(struct cert_spec)CERT_CA("two"));
    CLEANUP(buf_done) struct buf pem = {.max = 65'536};
    cert_pem(one.x509, &pem);
    cert_pem(two.x509, &pem); /* two anchors, as during a CA's rotation */
    assert_ok(bundles_new(&bundles, &err));
    assert_ok(bundles_add(bundles, slice_str("one.test"), buf_slice(&pem), &err));
    X509_STORE *store = bundles_find(bundles, slice_str("one.test"));
    assert_non_null(store);
    assert_int_equal(sk_X509_OBJECT_num(X509_STORE_get0_objects(store)), 2);
    assert_null(bundles_find(bundles, slice_str("one")));
    assert_null(bundles_find(bundles, slice_str("one.test.more")));
    assert_null(bundles_find(bundles, slice_str("")));
    assert_fails(bundles_add(bundles, slice_str("one.test"), buf_slice(&pem), &err), ERROR_EXISTS);
    assert_null(bundles_free(bundles));
    assert_null(bundles_free(nullptr));
    cert_done(&one);
    cert_done(&two);
}

static void refuses_what_is_no_bundle(void **state)
{
    (void)state;
    struct error err = {0};
    struct bundles *bundles;
    struct cert ca = cert_make(&(struct cert_spec)CERT_CA("ca"));
    struct cert leaf = cert_make(&(struct cert_spec)CERT_LEAF("URI:spiffe://t/a", &ca));
    CLEANUP(buf_done) struct buf good = {.max = 65'536}, mixed = {.max = 65'536},
                                 many = {.max = 1 << 20};
    cert_pem(ca.x509, &good);
    cert_pem(ca.x509, &mixed);
    cert_pem(leaf.x509, &mixed);
    for (size_t i = 0; i <= CERTIFICATES_MAX; i++)
        cert_pem(ca.x509, &many);
    struct slice domain = slice_str("t");
    assert_ok(bundles_new(&bundles, &err));
    assert_fails(bundles_add(bundles, slice_str("T"), buf_slice(&good), &err), ERROR_INVALID);
    assert_fails(bundles_add(bundles, domain, slice_str(""), &err), ERROR_INVALID);
    assert_error_contains("no certificate");
    assert_fails(bundles_add(bundles, domain, slice_str("-----BEGIN CERTIFICATE-----\n!"), &err),
                 ERROR_INVALID);
    assert_error_contains("broken PEM");
    assert_fails(bundles_add(bundles, domain, buf_slice(&mixed), &err), ERROR_INVALID);
    assert_error_contains("certificate 2 is not a CA's");
    assert_fails(bundles_add(bundles, domain, buf_slice(&many), &err), ERROR_EXHAUSTED);
    assert_null(bundles_find(bundles, domain));

    for (size_t i = 0; i < BUNDLE_DOMAINS_MAX; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "t%zu", i);
        assert_ok(bundles_add(bundles, slice_str(name), buf_slice(&good), &err));
    }
    assert_fails(bundles_add(bundles, domain, buf_slice(&good), &err), ERROR_EXHAUSTED);
    bundles_free(bundles);
    cert_done(&leaf);
    cert_done(&ca);
}

static bool make_one(void *arg, struct error *err)
{
    struct bundles *bundles = POISON;
    (void)arg;
    if (!bundles_new(&bundles, err)) {
        assert_ptr_equal(bundles, POISON);
        return false;
    }
    bundles_free(bundles);
    return true;
}

static void survives_want_of_memory(void **state)
{
    (void)state;
    testlib_allocation_sweep(make_one, nullptr);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_the_own_domain_only),
        cmocka_unit_test(refuses_what_is_no_bundle),
        cmocka_unit_test(survives_want_of_memory),
    };
    return cmocka_run_group_tests_name("bundle", tests, nullptr, nullptr);
}
