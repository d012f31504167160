#include "testlib/testlib.h"

#include "policies.h"

#include "base/file.h"

#include <stdio.h>
#include <unistd.h>

#define AGENT "0123456789abcdef0123456789abcdef"
#define OTHER "fedcba9876543210fedcba9876543210"
#define PIN "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

static const char good[] = "name: good\n"
                           "pcrs:\n"
                           "  - bank: sha256\n"
                           "    index: 7\n"
                           "    allowed:\n"
                           "      - " PIN "\n"
                           "seal: \"sha256:7\"\n"
                           "ek_trust: [tofu]\n";

static const char release[] = "vouch:\n"
                              "  - nodes: [" AGENT "]\n"
                              "    spiffe_ids:\n"
                              "      - spiffe://a.example/ns/shop/sa/billing\n"
                              "  - nodes: [\"*\"]\n"
                              "    spiffe_ids:\n"
                              "      - spiffe://a.example/ns/web/*\n"
                              "  - nodes: [" OTHER "]\n"
                              "    spiffe_ids: [\"spiffe://a.example/*\"]\n";

struct fixture {
    char folder[64];
    struct policies_source source;
};

static int up(void **state)
{
    static struct fixture f;
    struct error err = {0};
    char path[96];
    testlib_folder(f.folder);
    snprintf(path, sizeof(path), "%s/attestation", f.folder);
    assert_ok(folder_make(path, 0755, &err));
    snprintf(path, sizeof(path), "%s/release", f.folder);
    assert_ok(folder_make(path, 0755, &err));
    f.source = (struct policies_source){.folder = f.folder};
    *state = &f;
    return 0;
}

static int down(void **state)
{
    struct fixture *f = *state;
    testlib_folder_remove(f->folder);
    return 0;
}

static void put(const struct fixture *f, const char *name, const char *text)
{
    struct error err = {0};
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", f->folder, name);
    assert_ok(file_write_atomic(path, slice_str(text), 0644, &err));
}

static void test_nothing_there(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    CLEANUP(policies_unref_at) struct policies *policies = nullptr;
    assert_ok(policies_load(&f->source, &policies, &err));
    assert_int_equal(policies_attestation_count(policies), 0);
    assert_null(policies_attestation(policies, "good"));
    assert_null(policies_attestation(policies, nullptr));
    assert_null(policies_ek_roots(policies));
    assert_false(policies_may_vouch(policies, AGENT, "spiffe://a.example/ns/web/sa/x"));
}

static void test_reads_all(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    const char *pins[] = {PIN};
    size_t pin_count;
    CLEANUP(policies_unref_at) struct policies *policies = nullptr;
    put(f, "attestation/good.yaml", good);
    put(f, "attestation/README", "not a policy");
    put(f, "attestation/.good.yaml.swp.yaml", "{broken");
    put(f, "release/all.yaml", release);
    f->source.pinned = pins;
    f->source.pinned_count = 1;
    assert_ok(policies_load(&f->source, &policies, &err));
    assert_int_equal(policies_attestation_count(policies), 1);
    assert_int_equal(policies_release_count(policies), 1);
    assert_non_null(policies_attestation(policies, "good"));
    assert_null(policies_attestation(policies, "goo"));
    const uint8_t(*found)[SHA256_SIZE] = policies_ek_pins(policies, &pin_count);
    assert_int_equal(pin_count, 1);
    assert_int_equal(found[0][15], 0xff);
}

static void test_vouching(void **state)
{
    static const struct {
        const char *agent, *id;
        bool may;
    } cases[] = {
        {AGENT, "spiffe://a.example/ns/shop/sa/billing", true},
        {OTHER, "spiffe://a.example/ns/shop/sa/billing", true}, /* by the whole domain */
        {AGENT, "spiffe://a.example/ns/shop/sa/billing2", false},
        {AGENT, "spiffe://a.example/ns/shop/sa", false},
        {AGENT, "spiffe://a.example/ns/web/sa/x", true},
        {AGENT, "spiffe://a.example/ns/web", false},
        {AGENT, "spiffe://a.example/ns/website/sa/x", false},
        {AGENT, "spiffe://b.example/ns/web/sa/x", false},
        {OTHER, "spiffe://a.example/postern/operator/admin", false}, /* reserved */
        {OTHER, "spiffe://a.example/ns/web/../../postern/node/x", false},
        {OTHER, "spiffe://a.example", false},
        {"", "spiffe://a.example/ns/shop/sa/billing", false},
    };
    struct fixture *f = *state;
    struct error err = {0};
    CLEANUP(policies_unref_at) struct policies *policies = nullptr;
    put(f, "release/all.yaml", release);
    assert_ok(policies_load(&f->source, &policies, &err));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_int_equal(policies_may_vouch(policies, cases[i].agent, cases[i].id), cases[i].may);
}

static void test_refusals(void **state)
{
    static const struct {
        const char *file, *text, *where;
    } cases[] = {
        {"attestation/a.yaml", "name: a\nbogus: 1\n", "a.yaml:2:1: "},
        {"attestation/a.yaml", "name: Upper\npcrs: []\nseal: x\n", "a.yaml:1:7: name"},
        {"attestation/z.yaml", good, "z.yaml:1:7: name: another file has a policy \"good\""},
        {"release/a.yaml", "vouch:\n  - nodes: [\"me\"]\n", "a.yaml:2:13: vouch[0].nodes[0]"},
        {"release/a.yaml", "vouch:\n  - spiffe_ids:\n      - http://x/\n",
         "a.yaml:3:9: vouch[0].spiffe_ids[0]"},
        {"release/a.yaml", "vouch:\n  - spiffe_ids: [\"spiffe://a.example\"]\n",
         "vouch[0].spiffe_ids[0]"},
        {"release/a.yaml", "vouch:\n  - spiffe_ids: [\"spiffe://a.example/postern/*\"]\n",
         "a.yaml:2:18: vouch[0].spiffe_ids[0]: "},
        {"release/a.yaml", "vouch:\n  - spiffe_ids: [\"spiffe://a.example/postern/*\"]\n",
         "reserved"},
        {"release/a.yaml",
         "vouch:\n  - spiffe_ids:\n    - spiffe://a.example/x\n"
         "    - spiffe://a.example/postern/operator/admin\n",
         "a.yaml:4:7: vouch[0].spiffe_ids[1]: "},
        {"release/a.yaml",
         "vouch:\n  - spiffe_ids: [\"spiffe://a.example/postern/operator/admin\"]\n", "reserved"},
    };
    struct fixture *f = *state;
    put(f, "attestation/good.yaml", good);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct error err = {0};
        struct policies *policies = POISON;
        char path[128];
        put(f, cases[i].file, cases[i].text);
        assert_fails(policies_load(&f->source, &policies, &err), ERROR_INVALID);
        assert_error_contains(cases[i].where);
        assert_ptr_equal(policies, POISON);
        snprintf(path, sizeof(path), "%s/%s", f->folder, cases[i].file);
        assert_int_equal(unlink(path), 0);
    }
}

static void test_trust_refusals(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    struct policies *policies = POISON;
    char path[96];
    const char *pins[] = {PIN, "0011"};
    f->source.pinned = pins;
    f->source.pinned_count = 2;
    assert_fails(policies_load(&f->source, &policies, &err), ERROR_INVALID);
    assert_string_equal(err.field, "ek_pinned[1]");
    f->source.pinned_count = 0;
    snprintf(path, sizeof(path), "%s/roots.pem", f->folder);
    f->source.ek_roots = path;
    assert_fails(policies_load(&f->source, &policies, &err), ERROR_NOT_FOUND);
    put(f, "roots.pem", "nothing");
    assert_fails(policies_load(&f->source, &policies, &err), ERROR_INVALID);
    assert_error_contains("roots.pem");
    assert_ptr_equal(policies, POISON);
}

static bool load(void *arg, struct error *err)
{
    const struct fixture *f = arg;
    CLEANUP(policies_unref_at) struct policies *policies = nullptr;
    return policies_load(&f->source, &policies, err);
}

static void test_allocations(void **state)
{
    struct fixture *f = *state;
    put(f, "attestation/good.yaml", good);
    put(f, "release/all.yaml", release);
    testlib_allocation_sweep(load, f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_nothing_there, up, down),
        cmocka_unit_test_setup_teardown(test_reads_all, up, down),
        cmocka_unit_test_setup_teardown(test_vouching, up, down),
        cmocka_unit_test_setup_teardown(test_refusals, up, down),
        cmocka_unit_test_setup_teardown(test_trust_refusals, up, down),
        cmocka_unit_test_setup_teardown(test_allocations, up, down),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
