/* tpm-mux: several programs on one swtpm, with a record of what they say and faults where asked. */
#include "base/text.h"
#include "testlib/tpm_mux.h"

#include <signal.h>
#include <stdlib.h>

static const char usage[] =
    "usage: tpm-mux --listen unix:PATH --swtpm unix:PATH [OPTION...]\n"
    "  Programs connect with the TCTI \"swtpm:path=PATH\" of --listen.\n"
    "  --hold MS       who spoke keeps the TPM for so long after its last command (250)\n"
    "  --record FILE   one line per command: PID COMMAND CODE [fault]\n"
    "  --fault F       COMMAND[,skip=N][,count=N],ACTION; up to 8. COMMAND is such as Unseal,\n"
    "                  or any; ACTION is respond=CODE, cut-before, cut-after, delay=MS,\n"
    "                  extend=PCR or garble\n";

static struct tpm_mux *serving; /* for the signal handler alone */

static void on_signal([[maybe_unused]] int number)
{
    tpm_mux_stop(serving);
}

static bool number_of(const char *text, uint32_t *ret)
{
    char *end = nullptr;
    unsigned long value = strtoul(text, &end, 0);
    *ret = (uint32_t)value;
    return *text != '\0' && *end == '\0' && value <= UINT32_MAX;
}

static bool fault_part(const char *part, struct tpm_mux_fault *fault)
{
    static const struct {
        const char *start;
        enum tpm_mux_action action;
    } actions[] = {{"respond=", TPM_MUX_RESPOND},    {"delay=", TPM_MUX_DELAY},
                   {"extend=", TPM_MUX_EXTEND},      {"cut-before", TPM_MUX_CUT_BEFORE},
                   {"cut-after", TPM_MUX_CUT_AFTER}, {"garble", TPM_MUX_GARBLE}};
    if (strncmp(part, "skip=", 5) == 0)
        return number_of(part + 5, &fault->skip);
    if (strncmp(part, "count=", 6) == 0)
        return number_of(part + 6, &fault->count);
    for (size_t i = 0; i < ARRAY_LEN(actions); i++) {
        size_t len = strlen(actions[i].start);
        if (strncmp(part, actions[i].start, len) != 0)
            continue;
        fault->action = actions[i].action;
        return actions[i].start[len - 1] == '=' ? number_of(part + len, &fault->value)
                                                : part[len] == '\0';
    }
    return false;
}

static bool fault_parse(char *text, struct tpm_mux_fault *ret)
{
    struct tpm_mux_fault fault = {0};
    char *rest = nullptr;
    const char *part = strtok_r(text, ",", &rest);
    if (part == nullptr)
        return false;
    fault.command = tpm_mux_command_code(part);
    if (fault.command == 0 && strcmp(part, "any") != 0)
        return false;
    unsigned parts = 0;
    while ((part = strtok_r(nullptr, ",", &rest)) != nullptr) {
        if (!fault_part(part, &fault))
            return false;
        parts++;
    }
    *ret = fault;
    return parts > 0;
}

struct arguments {
    const char *listen;
    const char *swtpm;
    const char *record;
    uint64_t hold_ms;
    struct tpm_mux_fault fault[8];
    size_t faults;
};

static bool argument(struct arguments *args, const char *name, char *value, struct error *err)
{
    bool path = strncmp(value, "unix:/", 6) == 0;
    if (strcmp(name, "--listen") == 0 && path) {
        args->listen = value + 5;
    } else if (strcmp(name, "--swtpm") == 0 && path) {
        args->swtpm = value + 5;
    } else if (strcmp(name, "--record") == 0) {
        args->record = value;
    } else if (strcmp(name, "--hold") == 0) {
        return parse_u64(value, 0, 60000, &args->hold_ms, err);
    } else if (strcmp(name, "--fault") == 0 && args->faults < ARRAY_LEN(args->fault) &&
               fault_parse(value, &args->fault[args->faults])) {
        args->faults++;
    } else {
        return error_set(err, ERROR_INVALID, "%s \"%s\"", name, value);
    }
    return true;
}

int main(int argc, char **argv)
{
    struct error err = {0};
    struct arguments args = {.hold_ms = 250};
    bool ok = argc % 2 == 1;
    for (int i = 1; ok && i + 1 < argc; i += 2)
        ok = argument(&args, argv[i], argv[i + 1], &err);
    if (!ok || args.listen == nullptr || args.swtpm == nullptr) {
        (void)fprintf(stderr, "%s%s%s", err.message, err.message[0] != '\0' ? "\n" : "", usage);
        return error_exit_code(ERROR_INVALID);
    }
    FILE *record = args.record != nullptr ? fopen(args.record, "we") : nullptr;
    ok = args.record == nullptr || record != nullptr ||
         error_set(&err, ERROR_INVALID, "cannot write %s", args.record);
    ok = ok && tpm_mux_new(args.listen, args.swtpm, args.hold_ms, record, &serving, &err);
    for (size_t i = 0; ok && i < args.faults; i++)
        ok = tpm_mux_inject(serving, &args.fault[i], &err);
    if (ok) {
        const struct sigaction action = {.sa_handler = on_signal};
        (void)sigaction(SIGTERM, &action, nullptr);
        (void)sigaction(SIGINT, &action, nullptr);
        tpm_mux_serve(serving);
    } else {
        (void)fprintf(stderr, "tpm-mux: %s\n", err.message);
    }
    serving = tpm_mux_free(serving);
    if (record != nullptr)
        (void)fclose(record);
    return ok ? 0 : error_exit_code(err.class);
}
