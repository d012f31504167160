#include "testlib/testlib.h"

#include "config.h"
#include "pb/message.h"
#include "pb/yaml.h"

#include <stdio.h>

static const char minimal[] = "authority: {address: 'a.example:15550', trust_anchor: ca.pem}\n";

/* Reads `minimal` and `more`, or just `more` where it has an authority of its own. */
static bool check(const char *more, struct error *err)
{
    char text[2048];
    CLEANUP(pb_free_at) ProtobufCMessage *message = nullptr;
    bool own = strstr(more, "authority:") != nullptr;
    (void)snprintf(text, sizeof(text), "%s%s", own ? "" : minimal, more);
    return pb_from_yaml(&postern__v1__node_config__descriptor, "node.yaml", slice_str(text),
                        &message, err) &&
           node_config_check(message, err);
}

static void takes_good_ones(void **state)
{
    (void)state;
    static const char *const good[] = {
        "",
        "tpm: {tcti: 'swtpm:path=/run/tpm.sock', counter_index: '0x01BFffff'}\n",
        ("pods:\n- {cgroup: /pods/a, spiffe_id: 'spiffe://x/a'}\n"
         "- {cgroup: /pods/ab, spiffe_id: 'spiffe://x/a'}\n"),
        "max_offline: 7d\ndrain: 0s\n",
    };
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        struct error err = {0};
        assert_ok(check(good[i], &err));
    }
}

static void every_field_has_its_refusal(void **state)
{
    (void)state;
    static const struct {
        const char *yaml, *field;
    } bad[] = {
        {"authority: {address: nowhere, trust_anchor: x}\n", "authority.address"},
        {"authority: {address: 'unix:/x', trust_anchor: x}\n", "authority.address"},
        {"authority: {address: 'a:0', trust_anchor: x}\n", "authority.address"},
        {"authority: {address: 'a:1', trust_anchor: ''}\n", "authority.trust_anchor"},
        {"authority: {address: 'a:1', trust_anchor: x, server_name: ''}\n",
         "authority.server_name"},
        {"state_dir: relative\n", "state_dir"},
        {"state_dir: /ends/\n", "state_dir"},
        {"tpm: {tcti: 'bogus:x'}\n", "tpm.tcti"},
        {"tpm: {counter_index: '25165904'}\n", "tpm.counter_index"},
        {"tpm: {counter_index: '0x'}\n", "tpm.counter_index"},
        {"tpm: {counter_index: '0x017fffff'}\n", "tpm.counter_index"},
        {"tpm: {counter_index: '0x01c00000'}\n", "tpm.counter_index"},
        {"tpm: {counter_index: '0x1018000500'}\n", "tpm.counter_index"},
        {"tpm: {counter_index: '0x0180005g'}\n", "tpm.counter_index"},
        {"tpm: {busy_timeout: 10ms}\n", "tpm.busy_timeout"},
        {"tpm: {owner_auth_file: ''}\n", "tpm.owner_auth_file"},
        {"tpm: {endorsement_auth_file: ''}\n", "tpm.endorsement_auth_file"},
        {"pod_socket: pod.sock\n", "pod_socket"},
        {"join_token_file: ''\n", "join_token_file"},
        {"max_offline: forever\n", "max_offline"},
        {"max_offline: 1s\n", "max_offline"},
        {"drain: 2h\n", "drain"},
        {"pods:\n- {cgroup: pods, spiffe_id: 'spiffe://x/a'}\n", "pods[0].cgroup"},
        {"pods:\n- {cgroup: /, spiffe_id: 'spiffe://x/a'}\n", "pods[0].cgroup"},
        {"pods:\n- {cgroup: /a/../b, spiffe_id: 'spiffe://x/a'}\n", "pods[0].cgroup"},
        {"pods:\n- {cgroup: /a, spiffe_id: 'http://x/a'}\n", "pods[0].spiffe_id"},
        {"pods:\n- {cgroup: /a, spiffe_id: 'spiffe://x'}\n", "pods[0].spiffe_id"},
        {"pods:\n- {cgroup: /a, spiffe_id: 'spiffe://x/postern'}\n", "pods[0].spiffe_id"},
        {"pods:\n- {cgroup: /a, spiffe_id: 'spiffe://x/postern/node/1'}\n", "pods[0].spiffe_id"},
        {"pods:\n- {cgroup: /a, spiffe_id: 'spiffe://x/a'}\n"
         "- {cgroup: /a, spiffe_id: 'spiffe://x/b'}\n",
         "pods[1].cgroup"},
        {"pods:\n- {cgroup: /a/b, spiffe_id: 'spiffe://x/a'}\n"
         "- {cgroup: /a, spiffe_id: 'spiffe://x/b'}\n",
         "pods[1].cgroup"},
        {"pods:\n- {cgroup: /a, spiffe_id: 'spiffe://x/a'}\n"
         "- {cgroup: /a/b, spiffe_id: 'spiffe://x/b'}\n",
         "pods[1].cgroup"},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct error err = {0};
        assert_fails(check(bad[i].yaml, &err), ERROR_INVALID);
        assert_string_equal(err.field, bad[i].field);
    }
}

static bool reloadable(const char *now, const char *next, struct error *err)
{
    CLEANUP(pb_free_at) ProtobufCMessage *a = nullptr;
    CLEANUP(pb_free_at) ProtobufCMessage *b = nullptr;
    struct error why = {0};
    if (!pb_from_yaml(&postern__v1__node_config__descriptor, "a", slice_str(now), &a, &why) ||
        !pb_from_yaml(&postern__v1__node_config__descriptor, "b", slice_str(next), &b, &why))
        fail_msg("%s", why.message);
    return node_config_changeable(a, b, err);
}

static void pods_alone_are_reloaded(void **state)
{
    (void)state;
    struct error err = {0};
    assert_ok(reloadable(minimal,
                         "authority: {address: 'a.example:15550', trust_anchor: ca.pem}\n"
                         "pods: [{cgroup: /a, spiffe_id: 'spiffe://x/a'}]\ndrain: 1s\n",
                         &err));
    assert_fails(reloadable(minimal,
                            "authority: {address: 'b.example:15550', trust_anchor: ca.pem}\n",
                            &err),
                 ERROR_INVALID);
    assert_string_equal(err.field, "authority.address");
    assert_fails(reloadable(minimal,
                            "authority: {address: 'a.example:15550', trust_anchor: ca.pem}\n"
                            "join_token_file: /x\n",
                            &err),
                 ERROR_INVALID);
    assert_string_equal(err.field, "join_token_file");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_good_ones),
        cmocka_unit_test(every_field_has_its_refusal),
        cmocka_unit_test(pods_alone_are_reloaded),
    };
    return cmocka_run_group_tests_name("config", tests, nullptr, nullptr);
}
