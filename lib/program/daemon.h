/*
 * What every daemon of Postern does before and after its own work: options, configuration, logging,
 * signals, drain, exit code.
 *
 *     PROGRAM [--config FILE] [--check-config] [--version] [--help]
 *
 * A daemon fills in a struct daemon and calls daemon_main from main. Whatever fails before the
 * program runs is one line on standard error and the exit code of its class (base/error.h).
 * SIGTERM and SIGINT drain: `drain` is told once, and daemon_stopped ends the program; a second
 * signal, or the configured drain time running out, ends it at once. SIGHUP reads the configuration
 * anew: if it is not valid, or `reload` refuses it, the old one stays and the log says why.
 * Threading: one loop, on the main thread.
 */
#pragma once

#include "base/error.h"
#include "base/log.h"
#include "loop/loop.h"
#include "program/config.h"

#include "postern/v1/config.pb-c.h"

struct daemon_run; /* one run of a daemon, from `start` to `stop` */

struct daemon {
    const char *name;           /* "postern-node" */
    const char *summary;        /* one line for --help */
    const char *default_config; /* path */
    const ProtobufCMessageDescriptor *config;

    config_check *check;
    /* The message's log section, or null for the defaults. */
    const Postern__V1__LogConfig *(*log)(const ProtobufCMessage *config);
    /* Starts the work. `*ret_state` goes to the calls below. */
    bool (*start)(struct daemon_run *run, void **ret_state, struct error *err);
    /* Whether a running program can go from the one to the other: a setting that needs a restart is
     * INVALID, with its field (setting_keeps). Null: everything may change. */
    bool (*changeable)(const ProtobufCMessage *now, const ProtobufCMessage *next,
                       struct error *err);
    /* Takes over a new, checked configuration, or refuses it and keeps the old one. Null: nothing is
     * to be done. */
    bool (*reload)(void *state, const ProtobufCMessage *config, struct error *err);
    /* Accept nothing new; finish what runs; then call daemon_stopped. */
    void (*drain)(void *state);
    /* Frees everything; the loop does not run any more. */
    void (*stop)(void *state);

    /* Further verbs, each with its own help line: `postern-authority init DIR`. Ends with a NULL
     * name. May be NULL. */
    const struct daemon_verb *verbs;
};

struct daemon_verb {
    const char *name;
    const char *arguments; /* "DIR [--trust-domain NAME]" */
    const char *summary;
    /* Gets what follows the verb, argv[0] being the verb itself. */
    bool (*run)(int argc, char **argv, struct error *err);
};

/* All of main. Returns the process's exit code. */
int daemon_main(const struct daemon *daemon, int argc, char **argv);

struct loop *daemon_loop(struct daemon_run *run);
/* The configuration in force, checked; borrowed until the next reload. */
const ProtobufCMessage *daemon_config(const struct daemon_run *run);
/* The path of its file, for config_path_resolve. */
const char *daemon_config_path(const struct daemon_run *run);

/* The work is over: daemon_main stops the loop, calls `stop` and returns. With an error that is the
 * reason, it is logged and gives the exit code; NULL after a drain. May come at any time after
 * `start` began; only the first counts. */
void daemon_stopped(struct daemon_run *run, const struct error *err);
