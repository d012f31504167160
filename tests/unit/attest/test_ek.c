/* attest/ek.h: certificates that are wrong in one thing, and vendors' habits. */
#include "unit/attest/scene.h"

#include "base/clock.h"
#include "base/mem.h"
#include "tpmwire/template.h"

#include <openssl/err.h>

static struct softtpm tpm;
static struct cert root, intermediate;
static struct ek_roots *roots;

static void make_roots(const struct cert *const *certs, size_t count, struct ek_roots **ret)
{
    struct error err = {0};
    CLEANUP(buf_done) struct buf pem;
    buf_init(&pem, EK_ROOTS_PEM_MAX);
    for (size_t i = 0; i < count; i++)
        cert_pem(certs[i]->x509, &pem);
    assert_ok(ek_roots_new(buf_slice(&pem), ret, &err));
}

static int set_up(void **state)
{
    (void)state;
    softtpm_make(&tpm);
    root = cert_make(&(struct cert_spec)CERT_CA("TPM vendor's root"));
    struct cert_spec spec = CERT_CA("TPM vendor's issuer");
    spec.issuer = &root;
    intermediate = cert_make(&spec);
    make_roots((const struct cert *[]){&root}, 1, &roots);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    ek_roots_free(roots);
    cert_done(&root);
    cert_done(&intermediate);
    softtpm_done(&tpm);
    return 0;
}

static struct cert_spec ek_spec(const struct cert *issuer)
{
    return (struct cert_spec){
        .constraints = "critical,CA:FALSE",
        .usage = "critical,keyAgreement",
        .extended = "2.23.133.8.1",
        .issuer = issuer,
        .key = tpm.ek,
    };
}

static bool verify(const struct ek_roots *trusted, X509 *leaf, X509 *const *chain, size_t count,
                   int64_t now_ms, struct error *err)
{
    CLEANUP(buf_done) struct buf bytes;
    struct slice parts[EK_CHAIN_PARTS_MAX + 1];
    size_t ends[EK_CHAIN_PARTS_MAX + 2] = {0};
    buf_init(&bytes, 1024 * 1024);
    scene_der(leaf, &bytes);
    ends[0] = bytes.len;
    for (size_t i = 0; i < count; i++) {
        scene_der(chain[i], &bytes);
        ends[i + 1] = bytes.len;
    }
    for (size_t i = 0; i < count; i++)
        parts[i] = slice(bytes.data + ends[i], ends[i + 1] - ends[i]);
    bool ok = ek_certificate_verify(trusted, slice(bytes.data, ends[0]), parts, count, now_ms, err);
    assert_int_equal(ERR_peek_error(), 0);
    return ok;
}

static void accepts_good_chains(void **state)
{
    (void)state;
    struct error err = {0};
    int64_t now = clock_wall_ms();
    struct cert_spec spec = ek_spec(&root);
    struct cert leaf = cert_make(&spec);
    assert_ok(verify(roots, leaf.x509, nullptr, 0, now, &err));
    cert_done(&leaf);

    spec = ek_spec(&intermediate);
    leaf = cert_make(&spec);
    assert_ok(verify(roots, leaf.x509, &intermediate.x509, 1, now, &err));
    /* The vendor's issuer may be the authority's to know. */
    struct ek_roots *both = nullptr;
    make_roots((const struct cert *[]){&intermediate, &root}, 2, &both);
    assert_ok(verify(both, leaf.x509, nullptr, 0, now, &err));
    ek_roots_free(both);
    cert_done(&leaf);
}

/* EK Credential Profile 3.2.12: an empty subject, and the TPM's model in a critical directoryName. */
static void accepts_the_profiles_critical_alternative_name(void **state)
{
    (void)state;
    struct error err = {0};
    struct cert_spec spec = ek_spec(&root);
    struct cert leaf = cert_make(&spec);
    GENERAL_NAME *name = GENERAL_NAME_new();
    GENERAL_NAMES *names = GENERAL_NAMES_new();
    X509_NAME *model = X509_NAME_new();
    ASN1_OBJECT *oid = OBJ_txt2obj("2.23.133.2.1", 1); /* tcg-at-tpmManufacturer */
    assert_int_equal(X509_NAME_add_entry_by_OBJ(model, oid, MBSTRING_UTF8,
                                                (const unsigned char *)"id:00000000", -1, -1, 0),
                     1);
    ASN1_OBJECT_free(oid);
    GENERAL_NAME_set0_value(name, GEN_DIRNAME, model);
    sk_GENERAL_NAME_push(names, name);
    assert_int_equal(X509_add1_ext_i2d(leaf.x509, NID_subject_alt_name, names, 1, 0), 1);
    GENERAL_NAMES_free(names);
    assert_true(X509_sign(leaf.x509, root.key, EVP_sha256()) > 0);
    assert_ok(verify(roots, leaf.x509, nullptr, 0, clock_wall_ms(), &err));
    cert_done(&leaf);
}

static void refuse(const struct cert_spec *spec, X509 *const *chain, size_t count, int64_t now,
                   const char *says)
{
    struct error err = {0};
    struct cert leaf = cert_make(spec);
    assert_fails(verify(roots, leaf.x509, chain, count, now, &err), ERROR_DENIED);
    assert_error_contains(says);
    cert_done(&leaf);
}

static void refuses_bad_chains(void **state)
{
    (void)state;
    int64_t now = clock_wall_ms();
    struct cert_spec spec = ek_spec(&intermediate);
    refuse(&spec, nullptr, 0, now, "unable to get local issuer");
    refuse(&spec, &root.x509, 1, now, "unable to get local issuer");
    spec = ek_spec(nullptr); /* self-signed */
    refuse(&spec, nullptr, 0, now, "chain");
    spec = ek_spec(&root);
    refuse(&spec, nullptr, 0, now + 2 * 3600'000, "expired");
    refuse(&spec, nullptr, 0, now - 2 * 3600'000, "not yet valid");
    spec.extended = "critical,clientAuth";
    refuse(&spec, nullptr, 0, now, "2.23.133.8.1 is missing");
    spec = ek_spec(&root);
    spec.constraints = "critical,CA:TRUE";
    spec.usage = "critical,keyCertSign";
    refuse(&spec, nullptr, 0, now, "a CA's");

    /* An intermediate that is an EK's certificate itself: whoever has one TPM would make more. */
    spec = ek_spec(&root);
    spec.name = "an EK";
    struct cert ek = cert_make(&spec);
    struct cert_spec child = ek_spec(&ek);
    child.key = tpm.other;
    refuse(&child, &ek.x509, 1, now, "chain");
    cert_done(&ek);

    /* An extension that must be understood and isn't. */
    struct error err = {0};
    spec = ek_spec(&root);
    struct cert leaf = cert_make(&spec);
    X509_EXTENSION *extension =
        X509V3_EXT_conf(nullptr, nullptr, "1.2.3.4.5", "critical,ASN1:NULL");
    assert_non_null(extension);
    assert_int_equal(X509_add_ext(leaf.x509, extension, -1), 1);
    X509_EXTENSION_free(extension);
    assert_true(X509_sign(leaf.x509, root.key, EVP_sha256()) > 0);
    assert_fails(verify(roots, leaf.x509, nullptr, 0, now, &err), ERROR_DENIED);
    assert_error_contains("critical extension");
    cert_done(&leaf);
}

static void refuses_weak_steps(void **state)
{
    (void)state;
    struct error err = {0};
    int64_t now = clock_wall_ms();
    struct cert_spec spec = ek_spec(&root);
    struct cert leaf = cert_make(&spec);
    assert_true(X509_sign(leaf.x509, root.key, EVP_sha1()) > 0);
    assert_fails(verify(roots, leaf.x509, nullptr, 0, now, &err), ERROR_DENIED);
    assert_error_contains("too weak");
    cert_done(&leaf);

    struct cert_spec weak_spec = CERT_CA("weak issuer");
    weak_spec.issuer = &root;
    weak_spec.key = tpm.rsa_weak;
    struct cert weak = cert_make(&weak_spec);
    spec = ek_spec(&weak);
    leaf = cert_make(&spec);
    assert_fails(verify(roots, leaf.x509, &weak.x509, 1, now, &err), ERROR_DENIED);
    assert_error_contains("too weak");
    cert_done(&leaf);
    cert_done(&weak);
}

static void refuses_what_is_too_much_or_no_certificate(void **state)
{
    (void)state;
    struct error err = {0};
    int64_t now = clock_wall_ms();
    struct cert_spec spec = ek_spec(&root);
    struct cert leaf = cert_make(&spec);
    X509 *many[EK_CHAIN_PARTS_MAX + 1];
    for (size_t i = 0; i < ARRAY_LEN(many); i++)
        many[i] = intermediate.x509;
    assert_fails(verify(roots, leaf.x509, many, ARRAY_LEN(many), now, &err), ERROR_DENIED);
    assert_error_contains("at most 8");
    assert_ok(verify(roots, leaf.x509, many, EK_CHAIN_PARTS_MAX, now, &err));
    assert_fails(verify(nullptr, leaf.x509, nullptr, 0, now, &err), ERROR_DENIED);
    assert_error_contains("ek_roots");

    CLEANUP(buf_done) struct buf der;
    buf_init(&der, 64 * 1024);
    scene_der(leaf.x509, &der);
    size_t len = der.len;
    for (size_t cut = 0; cut < len; cut++)
        assert_fails(ek_certificate_verify(roots, slice(der.data, cut), nullptr, 0, now, &err),
                     ERROR_DENIED);
    const struct slice whole = slice(der.data, len);
    assert_ok(ek_certificate_verify(roots, whole, nullptr, 0, now, &err));
    const struct slice broken = slice(der.data, len - 1);
    assert_fails(ek_certificate_verify(roots, whole, &broken, 1, now, &err), ERROR_DENIED);
    const struct slice nothing = {0};
    assert_fails(ek_certificate_verify(roots, nothing, nullptr, 0, now, &err), ERROR_DENIED);
    buf_put_u8(&der, 0);
    assert_fails(ek_certificate_verify(roots, buf_slice(&der), nullptr, 0, now, &err),
                 ERROR_DENIED);
    assert_error_contains("bytes follow");
    uint8_t *rest = buf_extend(&der, EK_CERTIFICATE_MAX);
    assert_non_null(rest);
    assert_fails(ek_certificate_verify(roots, buf_slice(&der), nullptr, 0, now, &err),
                 ERROR_DENIED);
    assert_error_contains("at most 8192");
    assert_int_equal(ERR_peek_error(), 0);
    cert_done(&leaf);
}

static void knows_whose_certificate_it_is(void **state)
{
    (void)state;
    struct error err = {0};
    TPMT_PUBLIC area;
    CLEANUP(buf_done) struct buf der;
    buf_init(&der, 64 * 1024);
    struct cert_spec spec = ek_spec(&root);
    struct cert leaf = cert_make(&spec);
    scene_der(leaf.x509, &der);
    cert_done(&leaf);
    template_fill(TEMPLATE_EK_L2_ECC_P256, &area);
    softtpm_area_key(&area, tpm.ek);
    assert_ok(ek_certificate_fits(buf_slice(&der), &area, &err));
    softtpm_area_key(&area, tpm.other);
    assert_fails(ek_certificate_fits(buf_slice(&der), &area, &err), ERROR_DENIED);
    assert_error_contains("another key");
    template_fill(TEMPLATE_EK_L1_RSA_2048, &area);
    softtpm_area_key(&area, tpm.rsa);
    assert_fails(ek_certificate_fits(buf_slice(&der), &area, &err), ERROR_DENIED);
    assert_fails(ek_certificate_fits(slice_str("none"), &area, &err), ERROR_DENIED);
    area.unique.rsa.size = 1; /* no key at all */
    assert_fails(ek_certificate_fits(buf_slice(&der), &area, &err), ERROR_INVALID);
    assert_int_equal(ERR_peek_error(), 0);
}

/* The pin is what `openssl pkey -pubin -outform DER | sha256sum` prints. */
static void pins_are_of_the_public_key(void **state)
{
    (void)state;
    struct error err = {0};
    TPMT_PUBLIC area;
    uint8_t pin[SHA256_SIZE], expected[SHA256_SIZE];
    uint8_t *der = nullptr;
    template_fill(TEMPLATE_EK_L2_ECC_P256, &area);
    softtpm_area_key(&area, tpm.ek);
    int len = i2d_PUBKEY(tpm.ek, &der);
    assert_true(len > 0);
    assert_ok(sha256(slice(der, (size_t)len), expected, &err));
    OPENSSL_free(der);
    assert_ok(ek_pin(&area, pin, &err));
    assert_memory_equal(pin, expected, SHA256_SIZE);
    memset(area.unique.ecc.x.buffer, 0xff, 32);
    memset(pin, 0xa5, sizeof(pin));
    assert_fails(ek_pin(&area, pin, &err), ERROR_INVALID);
    assert_int_equal(pin[0], 0xa5);
}

/* ---- Roots ---- */

static void refuse_roots(struct slice pem, enum error_class class, const char *says)
{
    struct error err = {0};
    struct ek_roots *none = POISON;
    assert_fails(ek_roots_new(pem, &none, &err), class);
    assert_error_contains(says);
    assert_ptr_equal(none, POISON);
    assert_int_equal(ERR_peek_error(), 0);
}

static void refuses_bad_roots(void **state)
{
    (void)state;
    CLEANUP(buf_done) struct buf pem;
    buf_init(&pem, 2 * EK_ROOTS_PEM_MAX);
    refuse_roots(slice_str(""), ERROR_INVALID, "expected certificates");
    refuse_roots(slice_str("no certificate here\n"), ERROR_INVALID, "no certificate");
    refuse_roots(slice_str("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
                 ERROR_INVALID, "certificate 1");
    cert_pem(root.x509, &pem);
    size_t one = pem.len;
    refuse_roots(slice(pem.data, one - 40), ERROR_INVALID, "certificate 1");
    buf_put(&pem, slice_str("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"));
    refuse_roots(buf_slice(&pem), ERROR_INVALID, "certificate 2");
    pem.len = one;
    for (size_t i = 0; i < EK_ROOTS_MAX; i++)
        cert_pem(root.x509, &pem);
    refuse_roots(buf_slice(&pem), ERROR_EXHAUSTED, "more than 1024");
    struct error err = {0};
    struct ek_roots *all = nullptr;
    pem.len -= one;
    assert_ok(ek_roots_new(buf_slice(&pem), &all, &err));
    assert_null(ek_roots_free(all));
    assert_null(ek_roots_free(nullptr));
    assert_non_null(buf_extend(&pem, EK_ROOTS_PEM_MAX));
    refuse_roots(buf_slice(&pem), ERROR_INVALID, "1 to 4194304 bytes");
}

static bool sweep_roots(void *arg, struct error *err)
{
    struct ek_roots *made = nullptr;
    bool ok = ek_roots_new(*(struct slice *)arg, &made, err);
    ek_roots_free(made);
    return ok;
}

static void survives_without_memory(void **state)
{
    (void)state;
    CLEANUP(buf_done) struct buf pem;
    buf_init(&pem, EK_ROOTS_PEM_MAX);
    cert_pem(root.x509, &pem);
    struct slice text = buf_slice(&pem);
    testlib_allocation_sweep(sweep_roots, &text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepts_good_chains),
        cmocka_unit_test(accepts_the_profiles_critical_alternative_name),
        cmocka_unit_test(refuses_bad_chains),
        cmocka_unit_test(refuses_weak_steps),
        cmocka_unit_test(refuses_what_is_too_much_or_no_certificate),
        cmocka_unit_test(knows_whose_certificate_it_is),
        cmocka_unit_test(pins_are_of_the_public_key),
        cmocka_unit_test(refuses_bad_roots),
        cmocka_unit_test(survives_without_memory),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
