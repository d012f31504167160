#include "unit/spiffe/certs.h"

#include "base/clock.h"
#include "base/mem.h"
#include "spiffe/svid.h"

/* The authority of the trust domain "t", and one of "other", both trusted for their own. */
static struct cert ca, other_ca, unknown_ca;
static struct bundles *bundles;
static int64_t now;

static int set_up(void **state)
{
    (void)state;
    struct error err = {0};
    ca = cert_make(&(struct cert_spec)CERT_CA("authority of t"));
    other_ca = cert_make(&(struct cert_spec)CERT_CA("authority of other"));
    unknown_ca = cert_make(&(struct cert_spec)CERT_CA("authority of t")); /* the same name */
    CLEANUP(buf_done) struct buf pem = {.max = 65'536}, other = {.max = 65'536};
    cert_pem(ca.x509, &pem);
    cert_pem(other_ca.x509, &other);
    now = clock_wall_ms();
    assert_ok(bundles_new(&bundles, &err));
    assert_ok(bundles_add(bundles, slice_str("t"), buf_slice(&pem), &err));
    assert_ok(bundles_add(bundles, slice_str("other"), buf_slice(&other), &err));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    bundles_free(bundles);
    cert_done(&ca);
    cert_done(&other_ca);
    cert_done(&unknown_ca);
    return 0;
}

static struct cert_spec good_spec(void)
{
    return (struct cert_spec)CERT_LEAF("URI:spiffe://t/ns/a/sa/b,DNS:b.a.svc", &ca);
}

static void accept_leaf(const struct cert_spec *spec, const char *expected)
{
    struct error err = {0};
    struct spiffe_id id = {0};
    struct cert leaf = cert_make(spec);
    assert_ok(svid_verify(leaf.x509, nullptr, bundles, now, &id, &err));
    assert_string_equal(id.text, expected);
    cert_done(&leaf);
}

static void refuse_leaf(const struct cert_spec *spec, const char *says)
{
    struct error err = {0};
    struct spiffe_id id = {.len = 77};
    struct cert leaf = cert_make(spec);
    assert_fails(svid_verify(leaf.x509, nullptr, bundles, now, &id, &err), ERROR_UNAUTHENTICATED);
    assert_error_contains(says);
    assert_int_equal(id.len, 77);
    cert_done(&leaf);
}

static void accepts_good_ones(void **state)
{
    (void)state;
    struct cert_spec spec = good_spec();
    accept_leaf(&spec, "spiffe://t/ns/a/sa/b");
    spec.extended = nullptr; /* section 4.4: it may be absent */
    accept_leaf(&spec, "spiffe://t/ns/a/sa/b");
    spec = good_spec();
    spec.constraints = nullptr; /* section 4.1: so may basicConstraints */
    accept_leaf(&spec, "spiffe://t/ns/a/sa/b");
    spec = good_spec();
    spec.usage = "critical,digitalSignature,keyEncipherment";
    accept_leaf(&spec, "spiffe://t/ns/a/sa/b");
    spec = good_spec();
    spec.name = "somebody";
    accept_leaf(&spec, "spiffe://t/ns/a/sa/b");
    spec = (struct cert_spec)CERT_LEAF("URI:spiffe://other/x", &other_ca);
    accept_leaf(&spec, "spiffe://other/x");
}

/* Each is good but for one thing. */
static void the_name_must_be_one_spiffe_id(void **state)
{
    (void)state;
    static const struct {
        const char *alt, *says;
    } cases[] = {
        {nullptr, "no URI in subjectAltName"},
        {"DNS:t", "no URI in subjectAltName"},
        {"URI:spiffe://t/a,URI:spiffe://t/b", "more than one URI"},
        {"URI:spiffe://t/a,URI:spiffe://t/a", "more than one URI"},
        {"URI:spiffe://t/a,URI:https://example.org", "more than one URI"},
        {"URI:https://t/a", "expected spiffe://"},
        {"URI:spiffe://T/a", "'T' in the trust domain"},
        {"URI:spiffe://t/a/", "empty segment or ends in"},
        {"URI:spiffe://t/../a", "\"..\""},
        {"URI:spiffe://t/a%2fb", "'%' in the path"},
        {"URI:spiffe://t", "no workload"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct cert_spec spec = good_spec();
        spec.alt = cases[i].alt;
        refuse_leaf(&spec, cases[i].says);
    }
}

/* What a configuration text can't say: a NUL inside the URI. */
static void a_nul_in_the_name_is_seen(void **state)
{
    (void)state;
    struct error err = {0};
    struct spiffe_id id;
    struct cert_spec spec = good_spec();
    spec.alt = nullptr;
    struct cert leaf = cert_make(&spec);
    GENERAL_NAMES *names = GENERAL_NAMES_new();
    GENERAL_NAME *name = GENERAL_NAME_new();
    ASN1_IA5STRING *uri = ASN1_IA5STRING_new();
    assert_int_equal(ASN1_STRING_set(uri, "spiffe://t/a\0b", 14), 1);
    GENERAL_NAME_set0_value(name, GEN_URI, uri);
    sk_GENERAL_NAME_push(names, name);
    assert_int_equal(X509_add1_ext_i2d(leaf.x509, NID_subject_alt_name, names, 0, 0), 1);
    GENERAL_NAMES_free(names);
    assert_true(X509_sign(leaf.x509, ca.key, EVP_sha256()) > 0);
    assert_fails(svid_verify(leaf.x509, nullptr, bundles, now, &id, &err), ERROR_UNAUTHENTICATED);
    assert_error_contains("byte 0x00 in the path");
    cert_done(&leaf);
}

static void a_leaf_is_no_ca_and_only_signs(void **state)
{
    (void)state;
    struct cert_spec spec = good_spec();
    spec.constraints = "critical,CA:TRUE";
    refuse_leaf(&spec, "it is a CA's certificate");
    static const struct {
        const char *usage, *says;
    } usages[] = {
        {nullptr, "no keyUsage"},
        {"digitalSignature", "keyUsage is not critical"},
        {"critical,keyEncipherment", "without digitalSignature"},
        {"critical,digitalSignature,keyCertSign", "with keyCertSign"},
        {"critical,digitalSignature,cRLSign", "with cRLSign"},
    };
    for (size_t i = 0; i < ARRAY_LEN(usages); i++) {
        spec = good_spec();
        spec.usage = usages[i].usage;
        refuse_leaf(&spec, usages[i].says);
    }
    static const char *const purposes[] = {"serverAuth", "clientAuth", "codeSigning"};
    for (size_t i = 0; i < ARRAY_LEN(purposes); i++) {
        spec = good_spec();
        spec.extended = purposes[i];
        refuse_leaf(&spec, "without serverAuth and clientAuth");
    }
}

static void two_alternative_name_extensions_are_refused(void **state)
{
    (void)state;
    struct error err = {0};
    struct spiffe_id id;
    struct cert_spec spec = good_spec();
    struct cert leaf = cert_make(&spec);
    X509V3_CTX ctx;
    X509V3_set_ctx_nodb(&ctx);
    cert_extension(leaf.x509, &ctx, NID_subject_alt_name, "URI:spiffe://t/b");
    assert_true(X509_sign(leaf.x509, ca.key, EVP_sha256()) > 0);
    assert_fails(svid_verify(leaf.x509, nullptr, bundles, now, &id, &err), ERROR_UNAUTHENTICATED);
    assert_error_contains("more than one subjectAltName");
    cert_done(&leaf);
}

static void the_domain_vouches_for_its_own_alone(void **state)
{
    (void)state;
    struct cert_spec spec = good_spec();
    spec.issuer = &other_ca; /* trusted, for another domain */
    refuse_leaf(&spec, "not issued by the bundle of its trust domain t");
    spec.issuer = &unknown_ca; /* named like the right one */
    refuse_leaf(&spec, "not issued by the bundle of its trust domain t");
    spec.issuer = nullptr; /* self-signed */
    refuse_leaf(&spec, "not issued by the bundle of its trust domain t");
    spec = good_spec();
    spec.alt = "URI:spiffe://elsewhere/a";
    refuse_leaf(&spec, "the trust domain elsewhere of spiffe://elsewhere/a is not one");
}

static void a_changed_certificate_is_refused(void **state)
{
    (void)state;
    struct error err = {0};
    struct spiffe_id id;
    struct cert_spec spec = good_spec();
    struct cert leaf = cert_make(&spec);
    CLEANUP(buf_done) struct buf der = {.max = 65'536};
    X509 *changed;
    assert_ok(certificate_to_der(leaf.x509, &der, &err));
    uint8_t *at = memmem(der.data, der.len, "/sa/b", 5);
    assert_non_null(at);
    at[4] = 'c';
    assert_ok(certificate_from_der(buf_slice(&der), &changed, &err));
    assert_ok(svid_id(changed, &id, &err)); /* control: the leaf itself looks right */
    assert_string_equal(id.text, "spiffe://t/ns/a/sa/c");
    assert_fails(svid_verify(changed, nullptr, bundles, now, &id, &err), ERROR_UNAUTHENTICATED);
    X509_free(changed);
    cert_done(&leaf);
}

static void time_is_the_given_one(void **state)
{
    (void)state;
    struct error err = {0};
    struct spiffe_id id;
    struct cert_spec spec = good_spec();
    spec.from = -600;
    spec.until = 600;
    struct cert leaf = cert_make(&spec);
    assert_ok(svid_verify(leaf.x509, nullptr, bundles, now + 590'000, &id, &err));
    assert_fails(svid_verify(leaf.x509, nullptr, bundles, now + 610'000, &id, &err),
                 ERROR_UNAUTHENTICATED);
    assert_error_contains("the certificate of spiffe://t/ns/a/sa/b expired at 20");
    assert_ok(svid_verify(leaf.x509, nullptr, bundles, now - 590'000, &id, &err));
    assert_fails(svid_verify(leaf.x509, nullptr, bundles, now - 610'000, &id, &err),
                 ERROR_UNAUTHENTICATED);
    assert_error_contains("is not valid before 20");
    cert_done(&leaf);

    spec.until = 3600 * 24 * 365; /* the leaf lives, its issuer does not */
    leaf = cert_make(&spec);
    assert_fails(svid_verify(leaf.x509, nullptr, bundles, now + 3'700'000, &id, &err),
                 ERROR_UNAUTHENTICATED);
    assert_error_contains("the issuer's certificate of spiffe://t/ns/a/sa/b expired");
    cert_done(&leaf);
}

/* A chain of `length` CA certificates below the authority, and a leaf at its end. */
static void check_chain(size_t length, const struct cert_spec *first, const char *says)
{
    struct error err = {0};
    struct spiffe_id id;
    struct cert links[16];
    const struct cert *above = &ca;
    STACK_OF(X509) *chain = sk_X509_new_null();
    assert_true(length < ARRAY_LEN(links));
    for (size_t i = 0; i < length; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "intermediate %zu", i);
        struct cert_spec spec = i == 0 && first ? *first : (struct cert_spec)CERT_CA(name);
        spec.name = name;
        spec.issuer = above;
        links[i] = cert_make(&spec);
        above = &links[i];
        sk_X509_push(chain, links[i].x509);
    }
    struct cert_spec spec = good_spec();
    spec.issuer = above;
    struct cert leaf = cert_make(&spec);
    bool ok = svid_verify(leaf.x509, chain, bundles, now, &id, &err);
    if (says) {
        assert_fails(ok, ERROR_UNAUTHENTICATED);
        assert_error_contains(says);
    } else {
        assert_ok(ok);
        if (length > 0) /* without what is between there is no path */
            assert_false(svid_verify(leaf.x509, nullptr, bundles, now, &id, &err));
    }
    sk_X509_free(chain);
    for (size_t i = 0; i < length; i++)
        cert_done(&links[i]);
    cert_done(&leaf);
}

static void chains_are_followed_to_a_limit(void **state)
{
    (void)state;
    check_chain(0, nullptr, nullptr);
    check_chain(1, nullptr, nullptr);
    check_chain((size_t)SVID_CHAIN_MAX, nullptr, nullptr);
    check_chain((size_t)SVID_CHAIN_MAX + 1, nullptr, "not issued by the bundle");
}

static void what_is_between_must_be_a_ca(void **state)
{
    (void)state;
    struct cert_spec leaf = CERT_LEAF("URI:spiffe://t/evil", &ca);
    check_chain(1, &leaf, "not issued by the bundle");
    struct cert_spec unsigning = CERT_CA("x");
    unsigning.usage = "critical,cRLSign";
    check_chain(1, &unsigning, "not issued by the bundle");
    struct cert_spec expired = CERT_CA("x");
    expired.from = -100;
    expired.until = -50;
    check_chain(1, &expired, "the issuer's certificate of spiffe://t/ns/a/sa/b expired");
    struct cert_spec narrow = CERT_CA("x");
    narrow.constrained = "critical,permitted;URI:elsewhere";
    check_chain(1, &narrow, "not issued by the bundle");
}

static bool verify_one(void *arg, struct error *err)
{
    struct spiffe_id id;
    return svid_verify(arg, nullptr, bundles, now, &id, err);
}

static void survives_want_of_memory(void **state)
{
    (void)state;
    struct cert_spec spec = good_spec();
    struct cert leaf = cert_make(&spec);
    testlib_allocation_sweep(verify_one, leaf.x509);
    cert_done(&leaf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepts_good_ones),
        cmocka_unit_test(the_name_must_be_one_spiffe_id),
        cmocka_unit_test(a_nul_in_the_name_is_seen),
        cmocka_unit_test(a_leaf_is_no_ca_and_only_signs),
        cmocka_unit_test(two_alternative_name_extensions_are_refused),
        cmocka_unit_test(the_domain_vouches_for_its_own_alone),
        cmocka_unit_test(a_changed_certificate_is_refused),
        cmocka_unit_test(time_is_the_given_one),
        cmocka_unit_test(chains_are_followed_to_a_limit),
        cmocka_unit_test(what_is_between_must_be_a_ca),
        cmocka_unit_test(survives_want_of_memory),
    };
    return cmocka_run_group_tests_name("svid", tests, set_up, tear_down);
}
