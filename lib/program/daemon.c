#include "program/daemon.h"

#include "base/mem.h"
#include "base/secret.h"
#include "pb/yaml.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

struct daemon_run {
    const struct daemon *daemon;
    const char *config_path;
    ProtobufCMessage *config;
    struct loop *loop;
    void *state;
    bool draining;
    bool stopped;
    struct error reason; /* why it stopped; class NONE after a drain */
};

struct options {
    const char *config_path;
    bool check_config;
};

/* ---- Options ---- */

static void print_help(const struct daemon *daemon)
{
    printf("%s\n\nusage: %s [OPTION...]\n", daemon->summary, daemon->name);
    for (const struct daemon_verb *verb = daemon->verbs; verb && verb->name; verb++)
        printf("       %s %s %s\n", daemon->name, verb->name, verb->arguments);
    printf("\n"
           "  --config FILE    read the configuration from FILE (default: %s)\n"
           "  --check-config   check the configuration, print what is in force, and exit\n"
           "  --version        print the version and exit\n"
           "  --help           print this and exit\n",
           daemon->default_config);
    for (const struct daemon_verb *verb = daemon->verbs; verb && verb->name; verb++)
        printf("\n  %-16s %s\n", verb->name, verb->summary);
    printf("\n"
           "SIGHUP reads the configuration anew; SIGTERM finishes what runs and exits.\n"
           "Exit status: 0; 2 bad input; 3 denied; 4 not found; 5 conflict; 6 unavailable;\n"
           "7 a limit was reached; 8 timed out; 70 a defect.\n");
}

enum parsed { PARSED_RUN, PARSED_EXIT, PARSED_BAD };

static enum parsed parse_options(const struct daemon *daemon, int argc, char **argv,
                                 struct options *ret, struct error *err)
{
    static const struct option known[] = {
        {"config", required_argument, nullptr, 'c'},
        {"check-config", no_argument, nullptr, 'k'},
        {"version", no_argument, nullptr, 'v'},
        {"help", no_argument, nullptr, 'h'},
        {},
    };
    *ret = (struct options){.config_path = daemon->default_config};
    opterr = 0;
    for (int option; (option = getopt_long(argc, argv, "+:", known, nullptr)) != -1;) {
        switch (option) {
        case 'c':
            ret->config_path = optarg;
            break;
        case 'k':
            ret->check_config = true;
            break;
        case 'v':
            printf("%s %s\n", daemon->name, POSTERN_VERSION);
            return PARSED_EXIT;
        case 'h':
            print_help(daemon);
            return PARSED_EXIT;
        case ':':
            error_set(err, ERROR_INVALID, "%s needs a value; --help says more", argv[optind - 1]);
            return PARSED_BAD;
        default:
            error_set(err, ERROR_INVALID, "unknown option %s; --help lists them", argv[optind - 1]);
            return PARSED_BAD;
        }
    }
    if (optind < argc) {
        error_set(err, ERROR_INVALID, "unexpected argument \"%s\"; --help says more", argv[optind]);
        return PARSED_BAD;
    }
    return PARSED_RUN;
}

static const struct daemon_verb *find_verb(const struct daemon *daemon, int argc, char **argv)
{
    for (const struct daemon_verb *verb = daemon->verbs; argc > 1 && verb && verb->name; verb++) {
        if (strcmp(argv[1], verb->name) == 0)
            return verb;
    }
    return nullptr;
}

/* ---- Configuration ---- */

static void setup_log(const struct daemon *daemon, const ProtobufCMessage *config)
{
    static const enum log_level levels[] = {
        [POSTERN__V1__LOG_LEVEL__LOG_LEVEL_ERROR] = LOG_ERROR,
        [POSTERN__V1__LOG_LEVEL__LOG_LEVEL_WARNING] = LOG_WARNING,
        [POSTERN__V1__LOG_LEVEL__LOG_LEVEL_INFO] = LOG_INFO,
        [POSTERN__V1__LOG_LEVEL__LOG_LEVEL_DEBUG] = LOG_DEBUG,
    };
    static const Postern__V1__LogConfig defaults = POSTERN__V1__LOG_CONFIG__INIT;
    const Postern__V1__LogConfig *log = daemon->log(config);
    if (!log)
        log = &defaults; /* after a reload: no longer what it was */
    log_setup(daemon->name,
              log->format == POSTERN__V1__LOG_FORMAT__LOG_FORMAT_JSON ? LOG_JSON : LOG_TEXT,
              levels[log->level]);
}

/* ---- Running ---- */

struct loop *daemon_loop(struct daemon_run *run)
{
    return run->loop;
}

const ProtobufCMessage *daemon_config(const struct daemon_run *run)
{
    return run->config;
}

const char *daemon_config_path(const struct daemon_run *run)
{
    return run->config_path;
}

void daemon_stopped(struct daemon_run *run, const struct error *err)
{
    if (run->stopped)
        return;
    run->stopped = true;
    if (err)
        run->reason = *err;
    loop_stop(run->loop);
}

static void on_terminate(void *arg, int number)
{
    struct daemon_run *run = arg;
    const char *name = number == SIGINT ? "SIGINT" : "SIGTERM";
    if (run->draining) {
        log_at(LOG_WARNING, "main", "%s again: ending without waiting", name);
        daemon_stopped(run, nullptr);
        return;
    }
    run->draining = true;
    log_at(LOG_INFO, "main", "%s: finishing what runs", name);
    run->daemon->drain(run->state);
}

static bool reload(struct daemon_run *run, ProtobufCMessage **ret, struct error *err)
{
    const struct daemon *daemon = run->daemon;
    CLEANUP(pb_free_at) ProtobufCMessage *config = nullptr;
    if (!config_read(run->config_path, daemon->config, daemon->check, &config, err))
        return false;
    if (daemon->changeable && !daemon->changeable(run->config, config, err))
        return config_locate(run->config_path, err);
    if (daemon->reload && !daemon->reload(run->state, config, err))
        return false;
    *ret = TAKE(config);
    return true;
}

static void on_hangup(void *arg, int number)
{
    (void)number;
    struct daemon_run *run = arg;
    const struct daemon *daemon = run->daemon;
    struct error err = {0};
    CLEANUP(pb_free_at) ProtobufCMessage *config = nullptr;
    if (!reload(run, &config, &err)) {
        log_failure(LOG_ERROR, "main", &err, "SIGHUP: the configuration stays as it was");
        return;
    }
    setup_log(daemon, config);
    ProtobufCMessage *old = run->config;
    run->config = TAKE(config);
    config = old;
    log_at(LOG_INFO, "main", "SIGHUP: the configuration was read anew");
}

static bool run_daemon(struct daemon_run *run, struct error *err)
{
    const struct daemon *daemon = run->daemon;
    if (!loop_on_signal(run->loop, SIGTERM, on_terminate, run, err) ||
        !loop_on_signal(run->loop, SIGINT, on_terminate, run, err) ||
        !loop_on_signal(run->loop, SIGHUP, on_hangup, run, err) ||
        !daemon->start(run, &run->state, err))
        return error_prefix(err, "cannot start");
    loop_run(run->loop);
    daemon->stop(run->state);
    if (run->reason.class != ERROR_NONE) {
        *err = run->reason;
        return false;
    }
    log_at(LOG_INFO, "main", "stopped");
    return true;
}

static int fail(const struct daemon *daemon, const struct error *err)
{
    fprintf(stderr, "%s: %s\n", daemon->name, err->message);
    return error_exit_code(err->class);
}

int daemon_main(const struct daemon *daemon, int argc, char **argv)
{
    secret_protect_process();
    log_setup(daemon->name, LOG_TEXT, LOG_INFO);
    struct error err = {0};

    const struct daemon_verb *verb = find_verb(daemon, argc, argv);
    if (verb)
        return verb->run(argc - 1, argv + 1, &err) ? 0 : fail(daemon, &err);

    struct options options;
    switch (parse_options(daemon, argc, argv, &options, &err)) {
    case PARSED_EXIT:
        return 0;
    case PARSED_BAD:
        return fail(daemon, &err);
    case PARSED_RUN:
        break;
    }

    struct daemon_run run = {.daemon = daemon, .config_path = options.config_path};
    if (!config_read(run.config_path, daemon->config, daemon->check, &run.config, &err))
        return fail(daemon, &err);
    bool ok;
    if (options.check_config) {
        ok = config_print(run.config, &err);
    } else {
        setup_log(daemon, run.config);
        ok = loop_new(&run.loop, &err) && run_daemon(&run, &err);
        loop_free(run.loop);
    }
    pb_free(run.config);
    return ok ? 0 : fail(daemon, &err);
}
