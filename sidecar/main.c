/* postern: the sidecar. One per pod, without privileges: it serves the app's API on the pod's own
 * Unix socket and loopback, and speaks to nobody but the node agent. */
#include "app.h"
#include "config.h"
#include "node_link.h"

#include "base/clock.h"
#include "base/mem.h"
#include "program/daemon.h"

#include <errno.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

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

/* A sidecar needs no right at all: what a container's settings left it is given up before the first
 * byte of a stranger is read, and no program that it could be made to run gets any back. */
static bool drop_rights(struct error *err)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    const struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0 ||
        syscall(SYS_capset, &header, none) != 0)
        return error_set_errno(err, errno, "give up what this process may");
    return true;
}

static bool sidecar_start(struct daemon_run *run, void **ret_state, struct error *err)
{
    struct sidecar *sidecar = mem_new(1, sizeof(*sidecar));
    if (!sidecar)
        return error_set_memory(err);
    const Postern__V1__SidecarConfig *config = sidecar_config(run);
    sidecar->run = run;
    if (!node_link_new(daemon_loop(run), config->node_socket, &sidecar->link, err) ||
        !app_new(daemon_loop(run), config, sidecar->link, &sidecar->app, err) ||
        !drop_rights(err)) {
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
