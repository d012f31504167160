/* posternctl: everything that a person does with an authority. */
#include "groups.h"
#include "session.h"

#include "base/secret.h"
#include "base/text.h"
#include "program/config.h"

#include <errno.h>
#include <stdio.h>

static const struct command_group *const groups[] = {
    &node_group,
    &attest_group,
    &secret_group,
    nullptr,
};

/* One line, whatever a peer put into the message. */
static int fail(const struct arguments *arguments, const struct error *err, const char *advice)
{
    char message[ERROR_MESSAGE_MAX + ERROR_FIELD_MAX + 2];
    char shown[sizeof(message) * 2];
    /* The authority names the field of the request that it refuses; mostly its message does too. */
    bool named = err->field[0] == '\0' || strstr(err->message, err->field);
    (void)snprintf(message, sizeof(message), "%s%s%s", named ? "" : err->field, named ? "" : ": ",
                   err->message);
    (void)text_show(slice_str(message), shown, sizeof(shown));
    (void)fprintf(stderr, "posternctl%s%s%s%s: %s%s\n", arguments->group ? " " : "",
                  arguments->group ? arguments->group->name : "", arguments->command ? " " : "",
                  arguments->command ? arguments->command->name : "", shown, advice);
    return error_exit_code(err->class);
}

/* Output that did not arrive is a failure: a token or a policy may go into a file. */
static bool flush_output(struct error *err)
{
    if (fflush(stdout) != 0 || ferror(stdout))
        return error_set_errno(err, errno, "write to standard output");
    return true;
}

static int run(const struct arguments *arguments)
{
    struct error err = {};
    CLEANUP(session_free_at) struct session *session = nullptr;
    const struct command *command = arguments->command;
    if (command->check && !command->check(arguments, &err))
        return fail(arguments, &err, "");
    if (!session_open(arguments->config, arguments->json, &session, &err))
        return fail(arguments, &err, "");
    if (!command->run(session, arguments, &err)) {
        CLEANUP(buf_done) struct buf advice;
        buf_init(&advice, ERROR_MESSAGE_MAX * 8);
        session_judge(session, &err, &advice);
        buf_put_u8(&advice, '\0');
        return fail(arguments, &err, buf_ok(&advice, &err) ? (const char *)advice.data : "");
    }
    return flush_output(&err) ? 0 : fail(arguments, &err, "");
}

static int check_config(const struct arguments *arguments)
{
    struct error err = {};
    CLEANUP(session_free_at) struct session *session = nullptr;
    bool ok = session_open(arguments->config, false, &session, &err) &&
              config_print(session_config(session), &err) && flush_output(&err);
    return ok ? 0 : fail(arguments, &err, "");
}

int main(int argc, char **argv)
{
    secret_protect_process();
    struct error err = {};
    CLEANUP(arguments_done) struct arguments arguments = {};
    if (!arguments_parse(groups, argc, argv, &arguments, &err))
        return fail(&arguments, &err, "");
    if (arguments.version)
        printf("posternctl %s\n", POSTERN_VERSION);
    else if (arguments.help)
        arguments_help(groups, &arguments);
    else if (arguments.check_config)
        return check_config(&arguments);
    else
        return run(&arguments);
    return flush_output(&err) ? 0 : fail(&arguments, &err, "");
}
