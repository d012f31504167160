/*
 * The app's API: SecretService and StatusService, on the Unix socket and on loopback TCP, with
 * health and reflection.
 *
 * Ownership: owns its server, borrows the link. Threading: the loop's thread.
 */
#pragma once

#include "node_link.h"

#include "postern/v1/config.pb-c.h"

struct app;

/* Listens as the configuration says. Errors as rpc_server_listen. */
[[nodiscard]] bool app_new(struct loop *loop, const Postern__V1__SidecarConfig *config,
                           struct node_link *link, struct app **ret, struct error *err);
struct app *app_free(struct app *app);

/* Takes no new calls, lets running ones finish until `deadline` (boot clock, ms), then calls
 * `drained` once. */
void app_drain(struct app *app, uint64_t deadline, void (*drained)(void *arg), void *arg);
