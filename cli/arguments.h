/*
 * The command line, read against tables of groups, verbs and options:
 *
 *     posternctl [--config FILE] [-o text|json] GROUP VERB [OPERAND] [OPTION…]
 *
 * Options may stand anywhere, as "--name VALUE" or "--name=VALUE"; "--" ends them. Threading: none.
 */
#pragma once

#include "base/error.h"

struct arguments;
struct session;

/* An option of one command. */
struct option {
    const char *name;  /* without its dashes */
    const char *value; /* what follows it, for the help: "FILE"; null: nothing does */
    const char *summary;
    bool required;
    bool repeated;
};

struct command {
    const char *name;
    const char *operand; /* "AGENT"; in brackets if it may be left out; null: there is none */
    const char *summary; /* one line */
    const char *notes;   /* more lines for its own help, or null */
    const struct option *options; /* ends with a null name; or null */
    /* What the tables can't say of the arguments, asked before anything is opened; or null. */
    bool (*check)(const struct arguments *arguments, struct error *err);
    bool (*run)(struct session *session, const struct arguments *arguments, struct error *err);
};

struct command_group {
    const char *name;
    const char *summary;
    const struct command *commands; /* ends with a null name */
};

/* What was given. Everything is borrowed from argv and the tables. */
struct arguments {
    const struct command_group *group; /* null: --help, --version or --check-config alone */
    const struct command *command;     /* likewise */
    const char *operand;               /* null: not given */
    const char *config;                /* likewise */
    bool json;
    bool help;
    bool version;
    bool check_config;
    struct given *given; /* private; owned */
    size_t given_count;
};

/* `groups` ends with null. With help, version or check_config nothing else is asked for. INVALID says what is wrong
 * and which --help says more. */
[[nodiscard]] bool arguments_parse(const struct command_group *const *groups, int argc,
                                   char *const *argv, struct arguments *ret, struct error *err);
/* For CLEANUP. */
void arguments_done(struct arguments *arguments);

/* The index-th value (from 0) of the option `name`; null if it was not given so often. An option
 * without value has "". */
const char *arguments_value(const struct arguments *arguments, const char *name, size_t index);

/* Prints the help of the level that was named. */
void arguments_help(const struct command_group *const *groups, const struct arguments *arguments);
