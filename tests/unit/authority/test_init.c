#include "testlib/testlib.h"

#include "config.h"
#include "identity.h"
#include "init.h"

#include "base/file.h"
#include "base/mem.h"
#include "pb/message.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/stat.h>

static bool init(const char *folder, const char *option, const char *value, struct error *err)
{
    char *copy = mem_strdup(folder); /* getopt moves argv's members */
    char *argv[] = {(char[]){"init"}, copy, (char *)option, (char *)value, nullptr};
    bool ok = init_run(option ? 4 : 2, argv, err);
    mem_free(copy);
    return ok;
}

static unsigned mode_of(const char *folder, const char *name)
{
    struct stat info;
    char path[160];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    assert_int_equal(stat(path, &info), 0);
    return info.st_mode & 07777;
}

static size_t entries(const char *folder)
{
    size_t count = 0;
    DIR *opened = opendir(folder);
    if (!opened) {
        fail_msg("%s is no folder", folder);
        return 0;
    }
    while (readdir(opened))
        count++;
    closedir(opened);
    return count - 2;
}

static void test_makes_what_the_program_reads(void **state)
{
    struct error err = {0};
    char folder[64], target[96], path[128];
    (void)state;
    testlib_folder(folder);
    snprintf(target, sizeof(target), "%s/authority", folder);
    assert_ok(init(target, "--trust-domain", "a.example", &err));
    assert_int_equal(entries(folder), 1); /* nothing of the making is left */
    assert_int_equal(mode_of(target, "data"), 0700);
    assert_int_equal(mode_of(target, "data/ca.key"), 0600);
    assert_int_equal(mode_of(target, "data/ca-ml-dsa-65.key"), 0600);
    assert_int_equal(mode_of(target, "data/packets-p384.key"), 0600);
    assert_int_equal(mode_of(target, "data/packets-ml-dsa-65.key"), 0600);
    assert_int_equal(mode_of(target, "data/kek"), 0600);
    assert_int_equal(mode_of(target, "data/authority.db"), 0600);
    assert_int_equal(mode_of(target, "operator.key"), 0600);

    CLEANUP(pb_free_at) ProtobufCMessage *message = nullptr;
    CLEANUP(config_settings_done) struct config_settings settings = {0};
    CLEANUP(policies_unref_at) struct policies *policies = nullptr;
    CLEANUP(identity_free_at) struct identity *identity = nullptr;
    snprintf(path, sizeof(path), "%s/authority.yaml", target);
    assert_ok(config_read(path, &postern__v1__authority_config__descriptor, authority_config_check,
                          &message, &err));
    assert_ok(
        config_settings(path, (const Postern__V1__AuthorityConfig *)message, &settings, &err));
    assert_ok(policies_load(&settings.settings.policies, &policies, &err));
    assert_int_equal(policies_attestation_count(policies), 0);
    assert_false(policies_may_vouch(policies, "0123456789abcdef0123456789abcdef",
                                    "spiffe://a.example/ns/shop/sa/billing"));
    assert_ok(identity_open(nullptr, settings.settings.data_dir, "a.example", &identity, &err));

    /* Again is refused, and changes nothing. */
    struct stat before, after;
    snprintf(path, sizeof(path), "%s/data/ca.key", target);
    assert_int_equal(stat(path, &before), 0);
    assert_fails(init(target, nullptr, nullptr, &err), ERROR_CONFLICT);
    assert_error_contains("not empty");
    assert_int_equal(stat(path, &after), 0);
    assert_int_equal(before.st_ino, after.st_ino);
    assert_int_equal(entries(folder), 1);
    testlib_folder_remove(folder);
}

static void test_an_empty_folder_is_fine(void **state)
{
    struct error err = {0};
    char folder[64], target[96];
    (void)state;
    testlib_folder(folder);
    snprintf(target, sizeof(target), "%s/empty", folder);
    assert_ok(folder_make(target, 0755, &err));
    assert_ok(init(target, "--server-name", "authority.example", &err));
    assert_int_equal(mode_of(target, "trust.pem"), 0644);
    testlib_folder_remove(folder);
}

static void test_refusals(void **state)
{
    static const struct {
        const char *option, *value, *says;
    } cases[] = {
        {"--trust-domain", "No Domain", "--trust-domain"},
        {"--listen", "nowhere", "--listen"},
        {"--bogus", "x", "--bogus"},
        {"one", "two", "usage"},
    };
    struct error err = {0};
    char folder[64], target[96], file[96];
    (void)state;
    testlib_folder(folder);
    snprintf(target, sizeof(target), "%s/authority", folder);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_fails(init(target, cases[i].option, cases[i].value, &err), ERROR_INVALID);
        assert_error_contains(cases[i].says);
    }
    /* A name that no certificate can have is found on the way; nothing half-made stays. */
    assert_false(init(target, "--server-name", "not a name", &err));
    assert_int_equal(entries(folder), 0);
    snprintf(file, sizeof(file), "%s/file", folder);
    assert_ok(file_write_atomic(file, slice_str("x"), 0600, &err));
    assert_fails(init(file, nullptr, nullptr, &err), ERROR_CONFLICT);
    testlib_folder_remove(folder);
}

static void test_config(void **state)
{
    static const struct {
        const char *text, *field;
    } cases[] = {
        {"data_dir: d\ntrust_domain: \"A B\"\npolicies: p\n", "trust_domain"},
        {"data_dir: d\ntrust_domain: a\npolicies: p\nlisten: /run/x\n", "listen"},
        {"data_dir: \"\"\ntrust_domain: a\npolicies: p\n", "data_dir"},
        {"data_dir: d\ntrust_domain: a\npolicies: p\nsvid_lifetime: 1s\n", "svid_lifetime"},
        {"data_dir: d\ntrust_domain: a\npolicies: p\nsvid_lifetime: 30d\n", "svid_lifetime"},
        {"data_dir: d\ntrust_domain: a\npolicies: p\nek_pinned: [\"00\"]\n", "ek_pinned[0]"},
        {"data_dir: d\ntrust_domain: a\npolicies: p\ndrain: soon\n", "drain"},
    };
    char folder[64], path[96];
    (void)state;
    testlib_folder(folder);
    snprintf(path, sizeof(path), "%s/c.yaml", folder);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct error err = {0};
        ProtobufCMessage *message = POISON;
        assert_ok(file_write_atomic(path, slice_str(cases[i].text), 0600, &err));
        assert_fails(config_read(path, &postern__v1__authority_config__descriptor,
                                 authority_config_check, &message, &err),
                     ERROR_INVALID);
        assert_string_equal(err.field, cases[i].field);
        assert_ptr_equal(message, POISON);
    }
    testlib_folder_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_makes_what_the_program_reads),
        cmocka_unit_test(test_an_empty_folder_is_fine),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_config),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
