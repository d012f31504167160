/*
 * What every Postern program does before and after its own work: options, configuration, logging,
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

#include <protobuf-c/protobuf-c.h>

struct daemon_run; /* what runs: given to `start`, told by daemon_stopped */

struct daemon {
    const char *name;           /* "postern-node" */
    const char *summary;        /* one line for --help */
    const char *default_config; /* path */
    const ProtobufCMessageDescriptor *config;

    /* What the message's types can't say: durations, addresses, IDs. Errors by error_set_field; the
     * caller puts the file's name in front. */
    bool (*check)(const ProtobufCMessage *config, struct error *err);
    /* Starts the work on `loop`. The configuration, checked, is borrowed until the next reload or
     * until `stop` returned. `*ret_state` goes to the calls below. */
    bool (*start)(struct daemon_run *run, struct loop *loop, const ProtobufCMessage *config,
                  void **ret_state, struct error *err);
    /* Takes over a new, checked configuration, or refuses it and keeps the old one; INVALID names
     * a setting that needs a restart. */
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

/* The work is over: daemon_main stops the loop, calls `stop` and returns. With an error that is the
 * reason, it is logged and gives the exit code; NULL after a drain. May come at any time after
 * `start` began; only the first counts. */
void daemon_stopped(struct daemon_run *run, const struct error *err);

/* Reads a duration that `check` has seen already; for use after it. */
uint64_t duration_ms(const char *text);
/* For `check`: INVALID with the field's name unless `text` is a duration of at least `min` and at
 * most `max` milliseconds. */
[[nodiscard]] bool duration_check(const char *field, const char *text, uint64_t min, uint64_t max,
                                  struct error *err);
