/* The test service on a TCP port, for clients of other makers: prints the port, serves until its
 * standard input ends. */
#include "unit/rpc/echo.h"

#include "loop/loop.h"
#include "rpc/health.h"
#include "rpc/reflection.h"
#include "rpc/server.h"

#include <stdio.h>
#include <sys/select.h>
#include <unistd.h>

static int failed(const struct error *err)
{
    fprintf(stderr, "server: %s\n", err->message);
    return 1;
}

static void stop_later(void *arg)
{
    loop_stop(arg);
}

int main(void)
{
    struct error err = {0};
    struct echo echo = {0};
    struct address address;
    struct rpc_listen_options listen = {0};
    CLEANUP(loop_free_at) struct loop *loop = nullptr;
    CLEANUP(rpc_health_free_at) struct rpc_health *health = nullptr;
    CLEANUP(rpc_server_free_at) struct rpc_server *server = nullptr;
    error_set_reason(&echo.fail, ERROR_CONFLICT, "NODE_CONTRAINDICATED",
                     "gesperrt: m\xc3\xbc"
                     "de, 100 %%");
    if (!loop_new(&loop, &err) || !rpc_server_new(loop, nullptr, &server, &err) ||
        !rpc_server_add(server, &echo_service, &echo_handlers, &echo, &err) ||
        !rpc_health_new(server, &health, &err) || !rpc_reflection_add(server, &err) ||
        !rpc_health_set(health, "", true, &err) ||
        !address_parse("127.0.0.1:0", &listen.address, &err) ||
        !rpc_server_listen(server, &listen, &address, &err))
        return failed(&err);
    printf("%u\n", address.port);
    (void)fflush(stdout);
    /* The loop has no files: its rounds end by a timer, between which the end of input is seen. */
    for (;;) {
        struct timer timer;
        timer_init(&timer, loop, stop_later, loop);
        timer_start(&timer, 100);
        loop_run(loop);
        timer_stop(&timer);
        if (getppid() == 1)
            return 0;
        struct timeval none = {0};
        fd_set input;
        FD_ZERO(&input);
        FD_SET(0, &input);
        char byte;
        if (select(1, &input, nullptr, nullptr, &none) > 0 && read(0, &byte, 1) <= 0)
            return 0;
    }
}
