/* lib/tpm/key.c: the primaries, the EK's certificates, signing. */
#include "unit/tpm/fixture.h"

#include "base/file.h"
#include "tpmwire/public.h"
#include "tpmwire/signature.h"
#include "tpmwire/template.h"

#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

static void public_of(struct tpm *tpm, enum tpm_key key, TPM2B_PUBLIC *ret)
{
    struct error err = {0};
    CLEANUP(buf_done) struct buf wire;
    buf_init(&wire, PUBLIC_AREA_WIRE_MAX);
    assert_ok(tpm_key_public(tpm, key, &wire, &err));
    assert_ok(public_area_parse(buf_slice(&wire), ret, &err));
}

static void keys_match_their_templates(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    static const enum template_id templates[] = {
        [TPM_KEY_EK] = TEMPLATE_EK_L1_RSA_2048,
        [TPM_KEY_AK] = TEMPLATE_AK_ECC_P256,
        [TPM_KEY_WRAP] = TEMPLATE_WRAP_ECC_P256,
        [TPM_KEY_REQ] = TEMPLATE_REQ_ECC_P256,
    };
    batch(f);
    for (size_t i = 0; i < ARRAY_LEN(templates); i++) {
        TPM2B_PUBLIC area = {0};
        public_of(f->tpm, (enum tpm_key)i, &area);
        assert_ok(template_match(&area.publicArea, templates[i], &err));
    }
}

/* All four in any order, and again after a reboot: the same keys, never more than three loaded. */
static void keys_are_always_the_same(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    TPM2B_PUBLIC first[TPM_KEY_COUNT] = {0};
    batch(f);
    for (size_t i = 0; i < TPM_KEY_COUNT; i++)
        public_of(f->tpm, (enum tpm_key)i, &first[i]);
    static const enum tpm_key order[] = {TPM_KEY_REQ, TPM_KEY_EK,  TPM_KEY_WRAP, TPM_KEY_AK,
                                         TPM_KEY_EK,  TPM_KEY_REQ, TPM_KEY_AK,   TPM_KEY_WRAP};
    for (size_t i = 0; i < ARRAY_LEN(order); i++) {
        TPM2B_PUBLIC again = {0};
        struct swtpm_loaded loaded = {0};
        public_of(f->tpm, order[i], &again);
        assert_memory_equal(&again, &first[order[i]], sizeof again);
        assert_ok(swtpm_loaded(&f->chip, &loaded, &err));
        assert_in_range(loaded.objects, 1, 3);
    }
    tpm_end(f->tpm);
    assert_ok(swtpm_stop(&f->chip, true, &err));
    assert_ok(swtpm_start(&f->chip, &err));
    assert_ok(swtpm_extend_boot(&f->chip, &err));
    batch(f);
    TPM2B_PUBLIC again = {0};
    public_of(f->tpm, TPM_KEY_AK, &again);
    assert_memory_equal(&again, &first[TPM_KEY_AK], sizeof again);
}

static X509 *pem_certificate(const char *path)
{
    BIO *in = BIO_new_file(path, "r");
    assert_non_null(in);
    X509 *certificate = PEM_read_bio_X509(in, nullptr, nullptr, nullptr);
    assert_non_null(certificate);
    BIO_free(in);
    return certificate;
}

/* The certificate in NV is for the very key that we make, and the local CA's root stands behind. */
static void certificate_is_for_the_ek(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    CLEANUP(ek_certificates_done) struct ek_certificates found;
    ek_certificates_init(&found);
    TPM2B_PUBLIC ek = {0};
    batch(f);
    assert_ok(tpm_ek_certificates(f->tpm, &found, &err));
    assert_true(found.leaf.len > 0);
    assert_int_equal(found.chain_count, 0); /* swtpm_localca keeps its intermediate to itself */
    public_of(f->tpm, TPM_KEY_EK, &ek);
    const unsigned char *der = found.leaf.data;
    X509 *leaf = d2i_X509(nullptr, &der, (long)found.leaf.len);
    assert_non_null(leaf);
    assert_ptr_equal(der, found.leaf.data + found.leaf.len);
    EVP_PKEY *key = nullptr;
    assert_ok(public_area_key(&ek.publicArea, &key, &err));
    assert_int_equal(EVP_PKEY_eq(key, X509_get0_pubkey(leaf)), 1);
    char path[SWTPM_PATH_MAX + 32];
    (void)snprintf(path, sizeof path, "%s/ca/issuercert.pem", f->chip.folder);
    X509 *issuer = pem_certificate(path);
    X509 *root = pem_certificate(f->chip.root_pem);
    assert_int_equal(X509_verify(leaf, X509_get0_pubkey(issuer)), 1);
    assert_int_equal(X509_verify(issuer, X509_get0_pubkey(root)), 1);
    X509_free(leaf);
    X509_free(issuer);
    X509_free(root);
    EVP_PKEY_free(key);
}

/* Issuers beside the leaf, in indexes of the platform: two certificates, cut in the middle of one as
 * an index holds 2 KiB, with padding; the second index is readable by the owner alone. */
static void reads_the_chain(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    struct swtpm chip = {0};
    struct tpm *tpm = nullptr;
    other_up(f, "chain", &chip, &tpm);
    char line[2048];
    int len =
        snprintf(line, sizeof line,
                 "set -e; cd %s; export TPM2TOOLS_TCTI=%s TSS2_LOG=all+NONE; "
                 "openssl x509 -in ca/issuercert.pem -outform DER -out issuer.der; "
                 "openssl x509 -in ca/swtpm-localca-rootca-cert.pem -outform DER -out root.der; "
                 "cat issuer.der root.der > both; printf 'padding' >> both; "
                 "head -c 1500 both > first; tail -c +1501 both > second; "
                 "tpm2_nvdefine -Q -C p -s $(stat -c %%s first) "
                 "-a 'ppread|ppwrite|authread|ownerread|platformcreate|no_da' 0x01c00100; "
                 "tpm2_nvwrite -Q -C p -i first 0x01c00100; "
                 "tpm2_nvdefine -Q -C p -s $(stat -c %%s second) "
                 "-a 'ppread|ppwrite|ownerread|platformcreate|no_da' 0x01c00101; "
                 "tpm2_nvwrite -Q -C p -i second 0x01c00101",
                 chip.folder, chip.tcti);
    assert_in_range(len, 1, sizeof line - 1);
    assert_int_equal(shell(line), 0);
    CLEANUP(ek_certificates_done) struct ek_certificates found;
    ek_certificates_init(&found);
    assert_ok(tpm_begin(tpm, soon(), &err));
    assert_ok(tpm_ek_certificates(tpm, &found, &err));
    assert_true(found.leaf.len > 0);
    assert_int_equal(found.chain_count, 2);
    CLEANUP(buf_done) struct buf root;
    buf_init(&root, 4096);
    (void)snprintf(line, sizeof line, "%s/root.der", chip.folder);
    assert_ok(file_read(line, &root, &err));
    assert_true(slice_equal(found.chain[1], buf_slice(&root)));
    other_down(&chip, tpm);
}

/* Another manufacturer's TPM may have none at all. */
static void a_tpm_without_certificate(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    char path[SWTPM_PATH_MAX];
    (void)snprintf(path, sizeof path, "%s/bare", f->folder);
    assert_ok(folder_make(path, 0700, &err));
    struct swtpm chip = {0};
    (void)snprintf(chip.folder, sizeof chip.folder, "%s", path);
    (void)snprintf(chip.socket, sizeof chip.socket, "%.80s/tpm", path);
    (void)snprintf(chip.tcti, sizeof chip.tcti, "swtpm:path=%s", chip.socket);
    (void)snprintf(path, sizeof path, "%s/bare/state", f->folder);
    assert_ok(folder_make(path, 0700, &err));
    assert_ok(swtpm_start(&chip, &err)); /* from nothing: swtpm makes a TPM, nobody certifies it */
    struct tpm *tpm = nullptr;
    assert_ok(tpm_new(&(struct tpm_settings){.tcti = chip.tcti}, &tpm, &err));
    assert_ok(tpm_begin(tpm, soon(), &err));
    CLEANUP(ek_certificates_done) struct ek_certificates found;
    ek_certificates_init(&found);
    assert_ok(tpm_ek_certificates(tpm, &found, &err));
    assert_int_equal(found.leaf.len, 0);
    TPM2B_PUBLIC ek = {0};
    public_of(tpm, TPM_KEY_EK, &ek);
    assert_ok(template_match(&ek.publicArea, TEMPLATE_EK_L2_ECC_P256, &err));
    other_down(&chip, tpm);
}

static void signs_with_req(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    CLEANUP(buf_done) struct buf wire;
    buf_init(&wire, TPM_SIGNATURE_WIRE_MAX);
    TPM2B_PUBLIC req = {0};
    TPMT_SIGNATURE signature = {0};
    batch(f);
    assert_ok(tpm_sign(f->tpm, slice_str("postern req v1"), &wire, &err));
    public_of(f->tpm, TPM_KEY_REQ, &req);
    assert_ok(tpm_signature_parse(buf_slice(&wire), &signature, &err));
    assert_ok(tpm_signature_verify(&req.publicArea, &signature, slice_str("postern req v1"), &err));
    assert_fails(
        tpm_signature_verify(&req.publicArea, &signature, slice_str("postern req v2"), &err),
        ERROR_DENIED);
}

/* Owner and endorsement auths: set by others (tpm2_changeauth), told to us. */
static void uses_hierarchy_auths(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    struct swtpm chip = {0};
    struct tpm *without = nullptr;
    other_up(f, "auths", &chip, &without);
    char line[512];
    (void)snprintf(line, sizeof line,
                   "TSS2_LOG=all+NONE tpm2_changeauth -Q -T %s -c o owner-pw && "
                   "TSS2_LOG=all+NONE tpm2_changeauth -Q -T %s -c e endorse-pw",
                   chip.tcti, chip.tcti);
    assert_int_equal(shell(line), 0);
    CLEANUP(buf_done) struct buf wire;
    buf_init(&wire, PUBLIC_AREA_WIRE_MAX);
    assert_ok(tpm_begin(without, soon(), &err));
    assert_fails(tpm_key_public(without, TPM_KEY_WRAP, &wire, &err), ERROR_DENIED);
    assert_error_contains("TPM_RC_BAD_AUTH");
    assert_fails(tpm_key_public(without, TPM_KEY_EK, &wire, &err), ERROR_DENIED);
    tpm_end(without);
    CLEANUP(secret_free_at) struct secret *owner = nullptr;
    CLEANUP(secret_free_at) struct secret *endorsement = nullptr;
    assert_ok(secret_from(slice_str("owner-pw"), &owner, &err));
    assert_ok(secret_from(slice_str("endorse-pw"), &endorsement, &err));
    CLEANUP(tpm_free_at) struct tpm *with = nullptr;
    assert_ok(tpm_new(&(struct tpm_settings){.tcti = chip.tcti,
                                             .owner_auth = owner,
                                             .endorsement_auth = endorsement},
                      &with, &err));
    assert_ok(tpm_begin(with, soon(), &err));
    for (size_t i = 0; i < TPM_KEY_COUNT; i++) {
        TPM2B_PUBLIC area = {0};
        public_of(with, (enum tpm_key)i, &area);
    }
    assert_ok(tpm_counter_make(with, &f->counter, &err));
    tpm_end(with);
    struct swtpm_loaded loaded = {0};
    assert_ok(swtpm_loaded(&chip, &loaded, &err));
    assert_int_equal(loaded.objects + loaded.sessions, 0);
    other_down(&chip, without);
}

struct sweep {
    struct fixture *f;
};

static bool export_key(void *arg, struct error *err)
{
    struct sweep *sweep = arg;
    CLEANUP(buf_done) struct buf wire;
    buf_init(&wire, PUBLIC_AREA_WIRE_MAX);
    CLEANUP(ek_certificates_done) struct ek_certificates found;
    ek_certificates_init(&found);
    return tpm_key_public(sweep->f->tpm, TPM_KEY_AK, &wire, err) && buf_ok(&wire, err) &&
           tpm_ek_certificates(sweep->f->tpm, &found, err);
}

static void survives_lack_of_memory(void **state)
{
    struct sweep sweep = {.f = *state};
    batch(sweep.f);
    testlib_allocation_sweep(export_key, &sweep);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_before, fixture_after)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(keys_match_their_templates), TEST(keys_are_always_the_same),
        TEST(certificate_is_for_the_ek),  TEST(reads_the_chain),
        TEST(a_tpm_without_certificate),  TEST(signs_with_req),
        TEST(uses_hierarchy_auths),       TEST(survives_lack_of_memory),
    };
    return cmocka_run_group_tests(tests, fixture_up, fixture_down);
}
