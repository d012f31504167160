/* postern-authority: admits nodes, judges their evidence, issues identities, keeps and releases
 * secrets. */
#include "config.h"
#include "init.h"

#include "base/clock.h"
#include "base/mem.h"
#include "program/daemon.h"

#include <sys/resource.h>

struct program {
    struct daemon_run *run;
    struct authority *authority;
};

static const Postern__V1__AuthorityConfig *config_of(const ProtobufCMessage *message)
{
    return (const Postern__V1__AuthorityConfig *)message;
}

static const Postern__V1__LogConfig *authority_log(const ProtobufCMessage *config)
{
    return config_of(config)->log;
}

static void program_stop(void *state)
{
    struct program *program = state;
    authority_free(program->authority);
    mem_free(program);
}

/* Thousands of nodes hold a stream each; the soft limit of a shell or a service is for programs that
 * use select. */
static void raise_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max)
        return;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        log_at(LOG_WARNING, "main", "cannot raise the limit of open files");
}

static bool program_start(struct daemon_run *run, void **ret_state, struct error *err)
{
    const Postern__V1__AuthorityConfig *config = config_of(daemon_config(run));
    CLEANUP(config_settings_done) struct config_settings settings = {0};
    struct address address;
    char text[ADDRESS_TEXT_SIZE];
    struct program *program = mem_new(1, sizeof(*program));
    if (!program)
        return error_set_memory(err);
    program->run = run;
    raise_descriptors();
    if (!config_settings(daemon_config_path(run), config, &settings, err) ||
        !authority_new(daemon_loop(run), &settings.settings, &program->authority, &address, err)) {
        program_stop(program);
        return false;
    }
    const struct policies *policies = program->authority->policies;
    log_at(LOG_INFO, "main", "trust domain %s on %s, with %zu attestation and %zu release policies",
           config->trust_domain, address_format(&address, text),
           policies_attestation_count(policies), policies_release_count(policies));
    *ret_state = program;
    return true;
}

static bool program_reload(void *state, const ProtobufCMessage *message, struct error *err)
{
    struct program *program = state;
    const Postern__V1__AuthorityConfig *config = config_of(message);
    CLEANUP(config_settings_done) struct config_settings settings = {0};
    if (!config_settings(daemon_config_path(program->run), config, &settings, err) ||
        !authority_reload(program->authority, &settings.settings.policies,
                          settings.settings.svid_lifetime_ms, err))
        return false;
    const struct policies *policies = program->authority->policies;
    log_at(LOG_INFO, "main", "%zu attestation and %zu release policies are in force",
           policies_attestation_count(policies), policies_release_count(policies));
    return true;
}

static void on_drained(void *arg)
{
    const struct program *program = arg;
    daemon_stopped(program->run, nullptr);
}

static void program_drain(void *state)
{
    struct program *program = state;
    uint64_t limit = duration_ms(config_of(daemon_config(program->run))->drain);
    authority_drain(program->authority, clock_boot_ms() + limit, on_drained, program);
}

int main(int argc, char **argv)
{
    static const struct daemon_verb verbs[] = {
        {"init", INIT_ARGUMENTS,
         "make keys, trust anchor, first operator, configuration and database", init_run},
        {},
    };
    static const struct daemon authority = {
        .name = "postern-authority",
        .summary = "Postern's authority: admits nodes, verifies them, keeps and releases secrets.",
        .default_config = "/etc/postern/authority.yaml",
        .config = &postern__v1__authority_config__descriptor,
        .check = authority_config_check,
        .log = authority_log,
        .start = program_start,
        .changeable = authority_config_changeable,
        .reload = program_reload,
        .drain = program_drain,
        .stop = program_stop,
        .verbs = verbs,
    };
    return daemon_main(&authority, argc, argv);
}
