/* postern-node: the node agent. The only owner of the TPM: attests the node, keeps what its pods may
 * have, sealed, and hands each sidecar its part. */
#include "agent.h"
#include "config.h"
#include "pods.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "program/daemon.h"

constexpr size_t TRUST_ANCHOR_MAX = 256 * 1024;

struct node {
    struct daemon_run *run;
    struct agent *agent;
    struct pods *pods;
};

static const Postern__V1__NodeConfig *node_config(const struct daemon_run *run)
{
    return (const Postern__V1__NodeConfig *)daemon_config(run);
}

static const Postern__V1__LogConfig *node_log(const ProtobufCMessage *config)
{
    return ((const Postern__V1__NodeConfig *)config)->log;
}

static void on_changed(void *arg)
{
    struct node *node = arg;
    if (node->pods)
        pods_changed(node->pods);
}

static void node_stop(void *state)
{
    struct node *node = state;
    pods_free(node->pods);
    agent_free(node->agent);
    mem_free(node);
}

/* The text of a path of the configuration, or null. `ret` owns it. */
static const char *resolve(const struct daemon_run *run, const char *path, struct buf *ret)
{
    buf_init(ret, 8192);
    if (!path)
        return nullptr;
    config_path_resolve(daemon_config_path(run), path, ret);
    struct slice text = buf_slice(ret);
    return text.len > 0 ? (const char *)text.data : path;
}

static bool start_agent(struct node *node, const Postern__V1__NodeConfig *config, struct error *err)
{
    const Postern__V1__TpmConfig *tpm = node_config_tpm(config);
    CLEANUP(buf_done) struct buf trust_path = {0};
    CLEANUP(buf_done) struct buf token_path = {0};
    CLEANUP(buf_done) struct buf owner_path = {0};
    CLEANUP(buf_done) struct buf endorsement_path = {0};
    CLEANUP(buf_done) struct buf trust;
    buf_init(&trust, TRUST_ANCHOR_MAX);
    struct agent_settings settings = {
        .server_name = config->authority->server_name,
        .trust_anchor = resolve(node->run, config->authority->trust_anchor, &trust_path),
        .state_dir = config->state_dir,
        .join_token_file = resolve(node->run, config->join_token_file, &token_path),
        .max_offline_ms = duration_ms(config->max_offline),
        .device =
            {
                .tcti = tpm->tcti,
                .state_dir = config->state_dir,
                .counter_index = node_config_counter(config),
                .busy_timeout_ms = duration_ms(tpm->busy_timeout),
                .owner_auth_file = resolve(node->run, tpm->owner_auth_file, &owner_path),
                .endorsement_auth_file =
                    resolve(node->run, tpm->endorsement_auth_file, &endorsement_path),
            },
        .changed = on_changed,
        .changed_arg = node,
    };
    if (!address_parse(config->authority->address, &settings.authority, err) ||
        !file_read(settings.trust_anchor, &trust, err))
        return error_prefix(err, "authority");
    settings.trust_pem = buf_slice(&trust);
    return folder_make(config->state_dir, 0700, err) &&
           agent_new(daemon_loop(node->run), &settings, &node->agent, err);
}

static bool node_start(struct daemon_run *run, void **ret_state, struct error *err)
{
    const Postern__V1__NodeConfig *config = node_config(run);
    struct node *node = mem_new(1, sizeof(*node));
    if (!node)
        return error_set_memory(err);
    node->run = run;
    if (!start_agent(node, config, err) ||
        !pods_new(daemon_loop(run), config->pod_socket, node->agent, &node->pods, err) ||
        !pods_map(node->pods, config->pods, config->n_pods, err)) {
        node_stop(node);
        return false;
    }
    log_at(LOG_INFO, "main", "%zu pods are served on unix:%s; trust domain %s; secrets are in %s",
           config->n_pods, config->pod_socket, agent_trust_domain(node->agent), secret_arena());
    *ret_state = node;
    return true;
}

static bool node_reload(void *state, const ProtobufCMessage *message, struct error *err)
{
    struct node *node = state;
    const Postern__V1__NodeConfig *next = (const Postern__V1__NodeConfig *)message;
    if (!pods_map(node->pods, next->pods, next->n_pods, err))
        return false;
    /* An operator who has just approved the node, or mended it, does not wait for the next period. */
    agent_attest_now(node->agent);
    return true;
}

static void on_drained(void *arg)
{
    struct node *node = arg;
    daemon_stopped(node->run, nullptr);
}

/* What the agent has begun is idempotent, and goes on at the next start: only pods are waited for. */
static void node_drain(void *state)
{
    struct node *node = state;
    uint64_t limit = duration_ms(node_config(node->run)->drain);
    pods_drain(node->pods, clock_boot_ms() + limit, on_drained, node);
}

int main(int argc, char **argv)
{
    static const struct daemon node = {
        .name = "postern-node",
        .summary =
            "Postern's node agent: attests the node by its TPM, and holds what pods may have.",
        .default_config = "/etc/postern/node.yaml",
        .config = &postern__v1__node_config__descriptor,
        .check = node_config_check,
        .log = node_log,
        .changeable = node_config_changeable,
        .start = node_start,
        .reload = node_reload,
        .drain = node_drain,
        .stop = node_stop,
    };
    tpm_setup();
    return daemon_main(&node, argc, argv);
}
