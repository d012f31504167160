#include "arguments.h"

#include "base/mem.h"
#include "base/slice.h"

#include <stdio.h>

struct given {
    const struct option *option;
    const char *value;
};

/* Where in the command line the reading is. */
struct scan {
    const struct command_group *const *groups;
    char *const *argv;
    int argc;
    int next;
    bool only_words; /* after "--" */
    struct arguments *out;
};

/* Options of every command. */
static const struct option common[] = {
    {.name = "config", .value = "FILE"},
    {.name = "output", .value = "text|json"},
    {.name = "help"},
    {.name = "version"},
    {.name = "check-config"},
};

/* "posternctl", "posternctl node", "posternctl node list": the level that was reached. */
static void scan_place(const struct arguments *arguments, char *ret, size_t size)
{
    (void)snprintf(ret, size, "posternctl%s%s%s%s", arguments->group ? " " : "",
                   arguments->group ? arguments->group->name : "", arguments->command ? " " : "",
                   arguments->command ? arguments->command->name : "");
}

PRINTF_LIKE(3, 4)
static bool refuse(const struct arguments *arguments, struct error *err, const char *format, ...)
{
    char what[ERROR_MESSAGE_MAX / 2];
    char place[ERROR_MESSAGE_MAX / 4];
    va_list list;
    va_start(list, format);
    (void)vsnprintf(what, sizeof(what), format, list);
    va_end(list);
    scan_place(arguments, place, sizeof(place));
    return error_set(err, ERROR_INVALID, "%s: %s --help says more", what, place);
}

static const struct option *option_find(const struct arguments *arguments, const char *name,
                                        size_t len)
{
    for (size_t i = 0; i < ARRAY_LEN(common); i++)
        if (slice_is(slice(name, len), common[i].name))
            return &common[i];
    if (!arguments->command)
        return nullptr;
    for (const struct option *o = arguments->command->options; o && o->name; o++)
        if (slice_is(slice(name, len), o->name))
            return o;
    return nullptr;
}

static bool take_output(struct scan *scan, const char *value, struct error *err)
{
    scan->out->json = strcmp(value, "json") == 0;
    if (!scan->out->json && strcmp(value, "text") != 0)
        return refuse(scan->out, err, "-o: expected text or json, found \"%s\"", value);
    return true;
}

static bool take_option(struct scan *scan, const struct option *option, const char *value,
                        struct error *err)
{
    struct arguments *out = scan->out;
    if (option == &common[0])
        out->config = value;
    else if (option == &common[1])
        return take_output(scan, value, err);
    else if (option == &common[2])
        out->help = true;
    else if (option == &common[3])
        out->version = true;
    else if (option == &common[4])
        out->check_config = true;
    else if (!option->repeated && arguments_value(out, option->name, 0))
        return refuse(out, err, "--%s is there twice", option->name);
    else
        out->given[out->given_count++] = (struct given){option, value};
    return true;
}

/* `word` begins with a dash and is more than that. */
static bool scan_option(struct scan *scan, const char *word, struct error *err)
{
    const struct option *option;
    const char *value = nullptr;
    if (word[1] == '-') {
        const char *name = word + 2;
        size_t len = strcspn(name, "=");
        option = option_find(scan->out, name, len);
        if (name[len] == '=')
            value = name + len + 1;
    } else {
        option = word[1] == 'o' ? &common[1] : word[1] == 'h' ? &common[2] : nullptr;
        if (option && word[2] != '\0')
            value = word + 2;
    }
    if (!option)
        return refuse(scan->out, err, "there is no option %s here", word);
    if (!option->value && value)
        return refuse(scan->out, err, "--%s takes no value", option->name);
    if (option->value && !value) {
        if (scan->next == scan->argc)
            return refuse(scan->out, err, "%s needs a value (%s)", word, option->value);
        value = scan->argv[scan->next++];
    }
    return take_option(scan, option, value ? value : "", err);
}

static bool scan_word(struct scan *scan, const char *word, struct error *err)
{
    struct arguments *out = scan->out;
    if (!out->group) {
        for (const struct command_group *const *g = scan->groups; *g; g++)
            if (strcmp((*g)->name, word) == 0)
                out->group = *g;
        return out->group || refuse(out, err, "there is no command \"%s\"", word);
    }
    if (!out->command) {
        for (const struct command *c = out->group->commands; c->name; c++)
            if (strcmp(c->name, word) == 0)
                out->command = c;
        return out->command || refuse(out, err, "there is no command \"%s\" here", word);
    }
    if (!out->command->operand || out->operand)
        return refuse(out, err, "one word too many: \"%s\"", word);
    out->operand = word;
    return true;
}

static bool check_complete(const struct arguments *out, struct error *err)
{
    if (out->help || out->version || out->check_config)
        return true;
    if (!out->command)
        return refuse(out, err, "which command?");
    if (out->command->operand && out->command->operand[0] != '[' && !out->operand)
        return refuse(out, err, "%s is missing", out->command->operand);
    for (const struct option *o = out->command->options; o && o->name; o++)
        if (o->required && !arguments_value(out, o->name, 0))
            return refuse(out, err, "--%s %s is missing", o->name, o->value);
    return true;
}

bool arguments_parse(const struct command_group *const *groups, int argc, char *const *argv,
                     struct arguments *ret, struct error *err)
{
    CLEANUP(arguments_done) struct arguments out = {};
    struct scan scan = {.groups = groups, .argv = argv, .argc = argc, .next = 1, .out = &out};
    out.given = mem_new((size_t)argc + 1, sizeof(*out.given));
    if (!out.given)
        return error_set_memory(err);
    while (scan.next < argc) {
        const char *word = argv[scan.next++];
        bool ok = true;
        if (!scan.only_words && strcmp(word, "--") == 0)
            scan.only_words = true;
        else if (!scan.only_words && word[0] == '-' && word[1] != '\0')
            ok = scan_option(&scan, word, err);
        else
            ok = scan_word(&scan, word, err);
        if (!ok)
            return false;
    }
    if (!check_complete(&out, err))
        return false;
    *ret = out;
    out.given = nullptr;
    return true;
}

void arguments_done(struct arguments *arguments)
{
    arguments->given = mem_free(arguments->given);
}

const char *arguments_value(const struct arguments *arguments, const char *name, size_t index)
{
    for (size_t i = 0; i < arguments->given_count; i++)
        if (strcmp(arguments->given[i].option->name, name) == 0 && index-- == 0)
            return arguments->given[i].value;
    return nullptr;
}

/* ---- Help ---- */

static const char common_help[] =
    "  --config FILE      who we are and where the authority is (default: $POSTERNCTL_CONFIG,\n"
    "                     else ~/.config/postern/operator.yaml)\n"
    "  -o, --output FORM  text or json (default: text)\n"
    "  --check-config     check the configuration and the files that it names, print what is in\n"
    "                     force, and exit\n"
    "  --version          print the version and exit\n"
    "  -h, --help         print this and exit\n";

static void help_usage(const struct command_group *group, const struct command *command)
{
    printf("posternctl %s %s", group->name, command->name);
    if (command->operand)
        printf(" %s", command->operand);
    for (const struct option *o = command->options; o && o->name; o++)
        printf(" %s--%s%s%s%s%s", o->required ? "" : "[", o->name, o->value ? " " : "",
               o->value ? o->value : "", o->required ? "" : "]", o->repeated ? "…" : "");
}

static void help_command(const struct command_group *group, const struct command *command)
{
    printf("%s\n\nusage: ", command->summary);
    help_usage(group, command);
    printf("\n\n");
    if (command->notes)
        printf("%s\n", command->notes);
    for (const struct option *o = command->options; o && o->name; o++) {
        char left[64];
        (void)snprintf(left, sizeof(left), "--%s%s%s", o->name, o->value ? " " : "",
                       o->value ? o->value : "");
        printf("  %-18s %s\n", left, o->summary);
    }
    fputs(common_help, stdout);
}

static void help_group(const struct command_group *group)
{
    printf("%s\n\n", group->summary);
    for (const struct command *c = group->commands; c->name; c++) {
        printf("  ");
        help_usage(group, c);
        printf("\n      %s\n", c->summary);
    }
    printf("\n%s", common_help);
}

static void help_all(const struct command_group *const *groups)
{
    printf("What an operator does with a Postern authority.\n\n"
           "usage: posternctl [OPTION…] GROUP COMMAND [OPTION…]\n");
    for (const struct command_group *const *g = groups; *g; g++) {
        printf("\n%s: %s\n", (*g)->name, (*g)->summary);
        for (const struct command *c = (*g)->commands; c->name; c++) {
            char left[64];
            (void)snprintf(left, sizeof(left), "%s %s%s%s", (*g)->name, c->name,
                           c->operand ? " " : "", c->operand ? c->operand : "");
            printf("  %-26s %s\n", left, c->summary);
        }
    }
    printf("\n%s\n"
           "posternctl GROUP COMMAND --help says more.\n"
           "Exit status: 0; 2 bad input; 3 denied; 4 not found; 5 conflict; 6 unavailable;\n"
           "7 a limit was reached; 8 timed out; 70 a defect.\n",
           common_help);
}

void arguments_help(const struct command_group *const *groups, const struct arguments *arguments)
{
    if (arguments->command)
        help_command(arguments->group, arguments->command);
    else if (arguments->group)
        help_group(arguments->group);
    else
        help_all(groups);
}
