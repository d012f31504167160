/* postern: the sidecar. One per pod, without privileges: it serves the app's API on the pod's own
 * Unix socket and loopback, and speaks to nobody but the node agent. */
#include "app.h"
#include "config.h"
#include "node_link.h"

#include "base/clock.h"
#include "base/mem.h"
#include "program/daemon.h"

struct sidecar {
    struct daemon_run *run;
    struct node_link *link;
    struct app *app;
};

static const Postern__V1__SidecarConfig *sidecar_config(const struct daemon_run *run)
{
    return (const Postern__V1__SidecarConfig *)daemon_config(run);
}

static const Postern__V1__LogConfig *sidecar_log(const ProtobufCMessage *config)
{
    return ((const Postern__V1__SidecarConfig *)config)->log;
}

static void sidecar_stop(void *state)
{
    struct sidecar *sidecar = state;
    app_free(sidecar->app);
    node_link_free(sidecar->link);
    mem_free(sidecar);
}

static bool sidecar_start(struct daemon_run *run, void **ret_state, struct error *err)
{
    struct sidecar *sidecar = mem_new(1, sizeof(*sidecar));
    if (!sidecar)
        return error_set_memory(err);
    const Postern__V1__SidecarConfig *config = sidecar_config(run);
    sidecar->run = run;
    if (!node_link_new(daemon_loop(run), config->node_socket, &sidecar->link, err) ||
        !app_new(daemon_loop(run), config, sidecar->link, &sidecar->app, err)) {
        sidecar_stop(sidecar);
        return false;
    }
    log_at(LOG_INFO, "main", "the app's API is on unix:%s%s%s", config->app_socket,
           config->app_listen[0] ? " and " : "", config->app_listen);
    *ret_state = sidecar;
    return true;
}

static void on_drained(void *arg)
{
    struct sidecar *sidecar = arg;
    daemon_stopped(sidecar->run, nullptr);
}

static void sidecar_drain(void *state)
{
    struct sidecar *sidecar = state;
    uint64_t limit = duration_ms(sidecar_config(sidecar->run)->drain);
    app_drain(sidecar->app, clock_boot_ms() + limit, on_drained, sidecar);
}

int main(int argc, char **argv)
{
    static const struct daemon sidecar = {
        .name = "postern",
        .summary = "Postern's sidecar: secrets and status for the pod that it runs in.",
        .default_config = "/etc/postern/postern.yaml",
        .config = &postern__v1__sidecar_config__descriptor,
        .check = sidecar_config_check,
        .log = sidecar_log,
        .changeable = sidecar_config_changeable,
        .start = sidecar_start,
        .drain = sidecar_drain,
        .stop = sidecar_stop,
    };
    return daemon_main(&sidecar, argc, argv);
}
