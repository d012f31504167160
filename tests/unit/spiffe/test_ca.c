#include "unit/spiffe/certs.h"

#include "base/clock.h"
#include "spiffe/ca.h"
#include "spiffe/svid.h"

static EVP_PKEY *ca_key, *leaf_key;
static X509 *ca;
static int64_t now;

static int set_up(void **state)
{
    (void)state;
    struct error err = {0};
    now = clock_wall_ms();
    ca_key = EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", "P-384");
    leaf_key = EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", "P-256");
    assert_ok(ca_create(ca_key, slice_str("example.org"), now, 365 * 86'400, &ca, &err));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    X509_free(ca);
    EVP_PKEY_free(ca_key);
    EVP_PKEY_free(leaf_key);
    return 0;
}

static struct spiffe_id id_of(const char *text)
{
    struct error err = {0};
    struct spiffe_id id;
    assert_ok(spiffe_id_parse(slice_str(text), &id, &err));
    return id;
}

static struct ca_leaf good_leaf(const struct spiffe_id *id)
{
    return (struct ca_leaf){.issuer = ca,
                            .issuer_key = ca_key,
                            .public_key = leaf_key,
                            .id = id,
                            .now = now,
                            .lifetime = 3600};
}

static bool critical(X509 *certificate, int nid)
{
    int at = X509_get_ext_by_NID(certificate, nid, -1);
    assert_true(at >= 0);
    return X509_EXTENSION_get_critical(X509_get_ext(certificate, at)) == 1;
}

/* Fewer than 96 bits of 128 random ones come once in 2^32. */
static void check_serial(X509 *one, X509 *two)
{
    assert_true(ASN1_INTEGER_cmp(X509_get0_serialNumber(one), X509_get0_serialNumber(two)) != 0);
    BIGNUM *number = ASN1_INTEGER_to_BN(X509_get0_serialNumber(one), nullptr);
    assert_false(BN_is_negative(number));
    assert_true(BN_num_bits(number) > 96 && BN_num_bits(number) <= 128);
    BN_free(number);
}

static int64_t seconds_of(const ASN1_TIME *time)
{
    struct tm tm;
    assert_int_equal(ASN1_TIME_to_tm(time, &tm), 1);
    return timegm(&tm);
}

static void a_ca_is_made(void **state)
{
    (void)state;
    struct error err = {0};
    X509 *second;
    assert_int_equal(X509_check_ca(ca), 1);
    assert_true(critical(ca, NID_basic_constraints));
    assert_true(critical(ca, NID_key_usage));
    assert_int_equal(X509_get_key_usage(ca), KU_KEY_CERT_SIGN | KU_CRL_SIGN);
    assert_int_equal(X509_get_signature_nid(ca), NID_ecdsa_with_SHA384);
    assert_int_equal(X509_verify(ca, ca_key), 1);
    assert_int_equal(
        X509_check_host(ca, "example.org", 0, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT, nullptr), 0);
    assert_int_equal(seconds_of(X509_get0_notBefore(ca)), now / 1000 - 60);
    assert_int_equal(seconds_of(X509_get0_notAfter(ca)), now / 1000 + 365 * 86'400);
    assert_true(
        ASN1_OCTET_STRING_cmp(X509_get0_subject_key_id(ca), X509_get0_authority_key_id(ca)) == 0);
    assert_ok(ca_create(ca_key, slice_str("example.org"), now, 1, &second, &err));
    check_serial(ca, second);
    X509_free(second);

    X509 *none = POISON;
    assert_fails(ca_create(ca_key, slice_str("Example"), now, 1, &none, &err), ERROR_INVALID);
    assert_fails(ca_create(ca_key, slice_str("e"), now, 0, &none, &err), ERROR_INVALID);
    assert_fails(ca_create(ca_key, slice_str("e"), now, CA_LIFETIME_MAX + 1, &none, &err),
                 ERROR_INVALID);
    assert_ptr_equal(none, POISON);
}

static void what_is_issued_is_a_valid_svid(void **state)
{
    (void)state;
    struct error err = {0};
    static const char *const names[] = {"authority.postern.svc", "localhost"};
    struct spiffe_id id = id_of("spiffe://example.org/postern/authority"), found;
    struct ca_leaf leaf = good_leaf(&id);
    leaf.dns_names = names;
    leaf.dns_name_count = 2;
    X509 *made, *second;
    assert_ok(ca_issue(&leaf, &made, &err));
    assert_ok(ca_issue(&leaf, &second, &err));

    struct bundles *bundles;
    CLEANUP(buf_done) struct buf pem = {.max = 65'536};
    assert_ok(certificate_to_pem(ca, &pem, &err));
    assert_ok(bundles_new(&bundles, &err));
    assert_ok(bundles_add(bundles, slice_str("example.org"), buf_slice(&pem), &err));
    assert_ok(svid_verify(made, nullptr, bundles, now, &found, &err));
    assert_string_equal(found.text, id.text);
    bundles_free(bundles);

    assert_int_equal(X509_check_ca(made), 0);
    assert_true(critical(made, NID_basic_constraints));
    assert_true(critical(made, NID_key_usage));
    assert_int_equal(X509_get_key_usage(made), KU_DIGITAL_SIGNATURE);
    assert_int_equal(X509_check_host(made, "authority.postern.svc", 0, 0, nullptr), 1);
    assert_int_equal(X509_check_host(made, "localhost", 0, 0, nullptr), 1);
    assert_int_equal(X509_check_host(made, "other", 0, 0, nullptr), 0);
    assert_int_equal(EVP_PKEY_eq(X509_get0_pubkey(made), leaf_key), 1);
    assert_int_equal(
        ASN1_OCTET_STRING_cmp(X509_get0_authority_key_id(made), X509_get0_subject_key_id(ca)), 0);
    assert_non_null(X509_get0_subject_key_id(made));
    assert_int_equal(seconds_of(X509_get0_notBefore(made)), now / 1000 - 60);
    assert_int_equal(seconds_of(X509_get0_notAfter(made)), now / 1000 + 3600);
    check_serial(made, second);
    int64_t expiry;
    assert_ok(certificate_expiry(made, &expiry, &err));
    assert_int_equal(expiry, (now / 1000 + 3600) * 1000);
    X509_free(made);
    X509_free(second);
}

static void a_leaf_does_not_outlive_its_issuer(void **state)
{
    (void)state;
    struct error err = {0};
    struct spiffe_id id = id_of("spiffe://example.org/a");
    struct ca_leaf leaf = good_leaf(&id);
    X509 *made;
    leaf.lifetime = 10 * 365 * 86'400;
    assert_ok(ca_issue(&leaf, &made, &err));
    assert_int_equal(seconds_of(X509_get0_notAfter(made)), seconds_of(X509_get0_notAfter(ca)));
    X509_free(made);
    made = POISON;
    leaf.now = now + 366ll * 86'400 * 1000;
    assert_fails(ca_issue(&leaf, &made, &err), ERROR_CONFLICT);
    assert_error_contains("the CA's own certificate expired at 20");
    assert_ptr_equal(made, POISON);
}

static void refuse_issue(const struct ca_leaf *leaf, const char *says)
{
    struct error err = {0};
    X509 *made = POISON;
    assert_fails(ca_issue(leaf, &made, &err), ERROR_INVALID);
    assert_error_contains(says);
    assert_ptr_equal(made, POISON);
}

static void wrong_orders_are_refused(void **state)
{
    (void)state;
    struct error err = {0};
    static const char *const bad_names[] = {"",    ".",       "a..b", "a.b.",    "-a",
                                            "a-",  "*.a",     "a b",  "a\n",     "a:1",
                                            "a/b", "a,DNS:b", "_a.b", "\xc3\xbc"};
    struct spiffe_id id = id_of("spiffe://example.org/a"),
                     elsewhere = id_of("spiffe://example.com/a"),
                     root = id_of("spiffe://example.org");
    struct ca_leaf leaf = good_leaf(&elsewhere);
    refuse_issue(&leaf, "spiffe://example.com/a is not in the issuer's trust domain");
    leaf = good_leaf(&root);
    refuse_issue(&leaf, "names no workload");
    leaf = good_leaf(&id);
    leaf.lifetime = 0;
    refuse_issue(&leaf, "between 1 s and 30 years");
    leaf = good_leaf(&id);
    leaf.issuer_key = leaf_key;
    refuse_issue(&leaf, "do not belong together");
    for (size_t i = 0; i < ARRAY_LEN(bad_names); i++) {
        leaf = good_leaf(&id);
        leaf.dns_names = &bad_names[i];
        leaf.dns_name_count = 1;
        refuse_issue(&leaf, "is not a DNS name");
    }
    leaf.dns_name_count = CA_DNS_NAMES_MAX + 1;
    refuse_issue(&leaf, "more than 32 DNS names");

    /* A leaf issues nothing. */
    X509 *made;
    leaf = good_leaf(&id);
    assert_ok(ca_issue(&leaf, &made, &err));
    leaf.issuer = made;
    leaf.issuer_key = leaf_key;
    refuse_issue(&leaf, "or it is no CA");
    X509_free(made);
}

static void a_request_gives_its_key_and_nothing_else(void **state)
{
    (void)state;
    struct error err = {0};
    static const char *const kinds[][2] = {
        {"EC", "P-256"}, {"EC", "P-384"}, {"ML-DSA-65", nullptr}};
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        EVP_PKEY *key = kinds[i][1] ? EVP_PKEY_Q_keygen(nullptr, nullptr, kinds[i][0], kinds[i][1])
                                    : EVP_PKEY_Q_keygen(nullptr, nullptr, kinds[i][0]);
        EVP_PKEY *found = POISON;
        CLEANUP(buf_done) struct buf der = {.max = CSR_MAX};
        assert_ok(csr_create(key, &der, &err));
        assert_ok(csr_verify(buf_slice(&der), &found, &err));
        assert_int_equal(EVP_PKEY_eq(found, key), 1);
        EVP_PKEY_free(found);

        found = POISON;
        assert_fails(csr_verify(slice(der.data, der.len - 1), &found, &err), ERROR_INVALID);
        der.data[der.len - 1] ^= 1; /* in the signature */
        assert_fails(csr_verify(buf_slice(&der), &found, &err), ERROR_INVALID);
        assert_error_contains("not signed by its own key");
        der.data[der.len - 1] ^= 1;
        buf_put_u8(&der, 0);
        assert_fails(csr_verify(buf_slice(&der), &found, &err), ERROR_INVALID);
        assert_error_contains("left over");
        assert_ptr_equal(found, POISON);
        EVP_PKEY_free(key);
    }
}

/* The names that a request asks for do not reach the certificate. */
static void names_of_a_request_are_ignored(void **state)
{
    (void)state;
    struct error err = {0};
    X509_REQ *request = X509_REQ_new();
    X509_NAME_add_entry_by_txt(X509_REQ_get_subject_name(request), "CN", MBSTRING_UTF8,
                               (const uint8_t *)"admin", -1, -1, 0);
    STACK_OF(X509_EXTENSION) *wanted = sk_X509_EXTENSION_new_null();
    X509V3_CTX ctx;
    X509V3_set_ctx_nodb(&ctx);
    sk_X509_EXTENSION_push(wanted, X509V3_EXT_conf_nid(nullptr, &ctx, NID_subject_alt_name,
                                                       "URI:spiffe://example.org/admin"));
    sk_X509_EXTENSION_push(
        wanted, X509V3_EXT_conf_nid(nullptr, &ctx, NID_basic_constraints, "critical,CA:TRUE"));
    assert_int_equal(X509_REQ_add_extensions(request, wanted), 1);
    assert_int_equal(X509_REQ_set_pubkey(request, leaf_key), 1);
    assert_true(X509_REQ_sign(request, leaf_key, EVP_sha256()) > 0);
    uint8_t *der = nullptr;
    int len = i2d_X509_REQ(request, &der);
    EVP_PKEY *key;
    assert_ok(csr_verify(slice(der, (size_t)len), &key, &err));
    struct spiffe_id id = id_of("spiffe://example.org/user"), found;
    struct ca_leaf leaf = good_leaf(&id);
    X509 *made;
    leaf.public_key = key;
    assert_ok(ca_issue(&leaf, &made, &err));
    assert_ok(svid_id(made, &found, &err));
    assert_string_equal(found.text, "spiffe://example.org/user");
    char subject[128];
    X509_NAME_oneline(X509_get_subject_name(made), subject, sizeof subject);
    assert_string_equal(subject, "/O=Postern/CN=user");
    X509_free(made);
    EVP_PKEY_free(key);
    OPENSSL_free(der);
    sk_X509_EXTENSION_pop_free(wanted, X509_EXTENSION_free);
    X509_REQ_free(request);
}

static void weak_and_strange_keys_are_refused(void **state)
{
    (void)state;
    struct error err = {0};
    EVP_PKEY *found = POISON;
    CLEANUP(buf_done) struct buf weak = {.max = CSR_MAX}, strange = {.max = CSR_MAX},
                                 good = {.max = CSR_MAX};
    EVP_PKEY *rsa1024 = EVP_PKEY_Q_keygen(nullptr, nullptr, "RSA", (size_t)1024);
    EVP_PKEY *rsa2048 = EVP_PKEY_Q_keygen(nullptr, nullptr, "RSA", (size_t)2048);
    EVP_PKEY *ed25519 = EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519");
    assert_ok(csr_create(rsa1024, &weak, &err));
    assert_fails(csr_verify(buf_slice(&weak), &found, &err), ERROR_INVALID);
    assert_error_contains("80 bits of security, fewer than 112");
    assert_ok(csr_create(ed25519, &strange, &err));
    assert_fails(csr_verify(buf_slice(&strange), &found, &err), ERROR_INVALID);
    assert_error_contains("another kind");
    static const uint8_t long_one[CSR_MAX + 1];
    assert_fails(csr_verify(SLICE_OF(long_one), &found, &err), ERROR_INVALID);
    assert_error_contains("16385 bytes, at most 16384");
    assert_fails(csr_verify(slice_str(""), &found, &err), ERROR_INVALID);
    assert_ptr_equal(found, POISON);
    assert_ok(csr_create(rsa2048, &good, &err));
    assert_ok(csr_verify(buf_slice(&good), &found, &err));
    EVP_PKEY_free(found);
    EVP_PKEY_free(rsa1024);
    EVP_PKEY_free(rsa2048);
    EVP_PKEY_free(ed25519);
}

static bool issue_one(void *arg, struct error *err)
{
    X509 *made = POISON, *root = POISON;
    CLEANUP(buf_done) struct buf der = {.max = CSR_MAX};
    bool ok = ca_issue(arg, &made, err);
    if (!ok) {
        assert_ptr_equal(made, POISON);
        return false;
    }
    X509_free(made);
    if (!ca_create(ca_key, slice_str("example.org"), now, 60, &root, err)) {
        assert_ptr_equal(root, POISON);
        return false;
    }
    X509_free(root);
    return csr_create(leaf_key, &der, err);
}

static void survives_want_of_memory(void **state)
{
    (void)state;
    struct spiffe_id id = id_of("spiffe://example.org/a");
    struct ca_leaf leaf = good_leaf(&id);
    testlib_allocation_sweep(issue_one, &leaf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_ca_is_made),
        cmocka_unit_test(what_is_issued_is_a_valid_svid),
        cmocka_unit_test(a_leaf_does_not_outlive_its_issuer),
        cmocka_unit_test(wrong_orders_are_refused),
        cmocka_unit_test(a_request_gives_its_key_and_nothing_else),
        cmocka_unit_test(names_of_a_request_are_ignored),
        cmocka_unit_test(weak_and_strange_keys_are_refused),
        cmocka_unit_test(survives_want_of_memory),
    };
    return cmocka_run_group_tests_name("ca", tests, set_up, tear_down);
}
