#include "ends.h"

#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>

/* The resolver of these tests, in place of the system's, which libuv would ask: names with the
 * addresses that a test needs, in this order. */
int getaddrinfo(const char *restrict name, const char *restrict service,
                const struct addrinfo *restrict hints, struct addrinfo **restrict ret)
{
    static const struct {
        const char *name;
        uint32_t addresses[2];
        size_t count;
    } names[] = {
        {"one.test", {0x7f000001}, 1},
        {"second.test", {0x7f000002, 0x7f000001}, 2}, /* the first refuses, or never answers */
        {"neither.test", {0x7f000002, 0x7f000003}, 2},
    };
    static struct sockaddr_in sockets[2];
    static struct addrinfo found[2];
    (void)service;
    (void)hints;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(name, names[i].name) != 0)
            continue;
        for (size_t j = 0; j < names[i].count; j++) {
            sockets[j] = (struct sockaddr_in){.sin_family = AF_INET,
                                              .sin_addr.s_addr = htonl(names[i].addresses[j])};
            found[j] =
                (struct addrinfo){.ai_family = AF_INET,
                                  .ai_socktype = SOCK_STREAM,
                                  .ai_addrlen = sizeof sockets[j],
                                  .ai_addr = (struct sockaddr *)&sockets[j],
                                  .ai_next = j + 1 < names[i].count ? &found[j + 1] : nullptr};
        }
        *ret = found;
        return 0;
    }
    return EAI_NONAME;
}

void freeaddrinfo(struct addrinfo *found)
{
    (void)found;
}

static struct loop *new_loop(void)
{
    struct error err = {0};
    struct loop *loop;
    assert_ok(loop_new(&loop, &err));
    return loop;
}

static void talk(const char *listen, const char *peer_prefix)
{
    struct server server;
    struct end client;
    char name[ADDRESS_TEXT_SIZE];
    server_init(&server, new_loop(), listen);
    server.ends[0].echo = true;
    server_connect(&server, &client);
    struct end *served = &server.ends[0];
    stream_peer_name(client.stream, name);
    assert_memory_equal(name, peer_prefix, strlen(peer_prefix));
    client.stop_at = 10;
    end_send(&client, "hello");
    end_send(&client, "world");
    loop_run(server.loop);
    assert_true(slice_is(buf_slice(&client.heard), "helloworld"));

    client.stop_on_event = true;
    assert_null(stream_close(client.stream));
    assert_int_equal(client.closed, 0); /* not inside the call */
    loop_run(server.loop);
    assert_int_equal(client.closed, 1);
    assert_int_equal(client.failed + client.ended, 0);
    server_done(&server);
    assert_int_equal(served->closed, 1); /* by loop_free */
    buf_done(&client.heard);
}

static void talks_over_tcp(void **state)
{
    (void)state;
    talk("127.0.0.1:0", "127.0.0.1:");
}

static void talks_over_ipv6(void **state)
{
    (void)state;
    int probe = socket(AF_INET6, SOCK_STREAM, 0);
    if (probe < 0 || access("/proc/net/if_inet6", F_OK) != 0) {
        print_message("skipped: no IPv6 on this machine\n");
        skip();
    }
    close(probe);
    talk("[::1]:0", "[::1]:");
}

static void talks_over_unix(void **state)
{
    (void)state;
    char folder[64], text[128];
    testlib_folder(folder);
    snprintf(text, sizeof text, "unix:%s/s", folder);
    talk(text, text);
    testlib_folder_remove(folder);
}

static void resolves_names(void **state)
{
    (void)state;
    static const char *const names[] = {"one.test:1", "second.test:1"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct error err = {0};
        struct server server;
        struct end client;
        struct address bound;
        server_init(&server, new_loop(), "127.0.0.1:0");
        listener_address(server.listener, &bound);
        struct address name = address_of(names[i]);
        name.port = bound.port;
        end_init(&client, server.loop);
        client.stop_on_event = true;
        assert_ok(stream_connect(server.loop, &name, clock_boot_ms() + 10'000, &END_EVENTS, &client,
                                 &client.stream, &err));
        stream_read_start(client.stream);
        loop_run(server.loop);
        assert_int_equal(client.connected, 1);
        char text[ADDRESS_TEXT_SIZE], expected[ADDRESS_TEXT_SIZE];
        assert_string_equal(stream_peer_name(client.stream, text),
                            address_format(&bound, expected));
        server_done(&server);
        assert_int_equal(client.closed, 1);
    }
}

/* Closes the stream after so many rounds of the loop, whatever it is doing then. */
struct closing {
    struct end *end;
    struct task task;
    int rounds;
};

static void close_later(void *arg)
{
    struct closing *closing = arg;
    if (closing->rounds-- > 0)
        loop_post(closing->end->loop, &closing->task);
    else
        closing->end->stream = stream_close(closing->end->stream);
}

static void close_at_any_moment_of_connecting(void **state)
{
    (void)state;
    struct error err = {0};
    for (int rounds = 0; rounds < 40; rounds++) {
        struct server server;
        struct end client;
        struct address bound;
        server_init(&server, new_loop(), "127.0.0.1:0");
        listener_address(server.listener, &bound);
        struct address name = address_of("second.test:1");
        name.port = bound.port;
        end_init(&client, server.loop);
        struct closing closing = {.end = &client, .rounds = rounds};
        closing.task = (struct task){.run = close_later, .arg = &closing};
        assert_ok(stream_connect(server.loop, &name, clock_boot_ms() + 10'000, &END_EVENTS, &client,
                                 &client.stream, &err));
        loop_post(server.loop, &closing.task);
        /* A busy machine may take its time; what counts is that it comes, and once. */
        for (int i = 0; i < 2000 && client.closed == 0; i++)
            run_for(server.loop, 5);
        run_for(server.loop, 5);
        assert_int_equal(client.failed, 0);
        assert_int_equal(client.closed, 1);
        server_done(&server);
    }
}

static void connect_expecting(const struct address *to, uint64_t deadline, enum error_class class,
                              const char *says)
{
    struct error err = {0};
    struct end client;
    struct loop *loop = new_loop();
    end_init(&client, loop);
    client.stop_on_event = true;
    client.close_on_fail = true; /* inside the callback */
    assert_ok(stream_connect(loop, to, deadline, &END_EVENTS, &client, &client.stream, &err));
    assert_int_equal(client.failed, 0);
    loop_run(loop);
    assert_int_equal(client.failed, 1);
    err = client.err;
    assert_fails(false, class);
    assert_error_contains(says);
    if (client.closed == 0) /* it may come in the same round */
        loop_run(loop);
    assert_int_equal(client.closed, 1);
    assert_int_equal(client.connected, 0);
    loop_free(loop);
}

static void says_why_it_cannot_connect(void **state)
{
    (void)state;
    struct error err = {0};
    char folder[64], text[128];
    testlib_folder(folder);
    snprintf(text, sizeof text, "unix:%s/none", folder);
    struct address to = address_of(text);
    connect_expecting(&to, 0, ERROR_NOT_FOUND, "/none");
    testlib_folder_remove(folder);

    /* A port that was free a moment ago. */
    struct loop *loop = new_loop();
    struct listener *listener;
    struct listener_options options = options_for("127.0.0.1:0");
    assert_ok(listener_new(loop, &options, server_accepted, nullptr, &listener, &err));
    listener_address(listener, &to);
    listener_free(listener);
    loop_free(loop);
    connect_expecting(&to, clock_boot_ms() + 10'000, ERROR_UNAVAILABLE, "connection refused");

    to.kind = ADDRESS_HOST;
    (void)snprintf(to.host, sizeof to.host, "neither.test");
    connect_expecting(&to, clock_boot_ms() + 10'000, ERROR_UNAVAILABLE, "neither.test");

    to = address_of("no-such-host.invalid:1");
    connect_expecting(&to, clock_boot_ms() + 10'000, ERROR_UNAVAILABLE, "no-such-host.invalid:1");

    struct stream *stream = POISON;
    loop = new_loop();
    to = address_of("127.0.0.1:0");
    assert_fails(stream_connect(loop, &to, 0, &END_EVENTS, nullptr, &stream, &err), ERROR_INVALID);
    to = (struct address){0};
    assert_fails(stream_connect(loop, &to, 0, &END_EVENTS, nullptr, &stream, &err), ERROR_INVALID);
    to = (struct address){.kind = ADDRESS_IPV4, .host = "localhost", .port = 1};
    assert_fails(stream_connect(loop, &to, 0, &END_EVENTS, nullptr, &stream, &err), ERROR_INVALID);
    assert_ptr_equal(stream, POISON);
    loop_free(loop);
}

/* A listening socket that nobody accepts from. */
static int listening_socket(uint32_t on, uint16_t port, int backlog, struct address *ret)
{
    struct sockaddr_in at = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(on), .sin_port = htons(port)};
    socklen_t len = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        fail_msg("no socket");
    assert_int_equal(bind(fd, (struct sockaddr *)&at, len), 0);
    assert_int_equal(listen(fd, backlog), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
    *ret = address_of("127.0.0.1:1");
    ret->port = ntohs(at.sin_port);
    return fd;
}

/* … and whose backlog is full: what connects to it now waits. */
struct deaf {
    int sockets[4];
    struct address address;
};

static void deaf_init(struct deaf *deaf, uint32_t on, uint16_t port)
{
    deaf->sockets[0] = listening_socket(on, port, 0, &deaf->address);
    struct sockaddr_in at = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(on), .sin_port = htons(deaf->address.port)};
    for (size_t i = 1; i < ARRAY_LEN(deaf->sockets); i++) {
        deaf->sockets[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        if (deaf->sockets[i] < 0)
            fail_msg("no socket");
        (void)connect(deaf->sockets[i], (struct sockaddr *)&at, sizeof at);
    }
}

static void deaf_done(struct deaf *deaf)
{
    for (size_t i = 0; i < ARRAY_LEN(deaf->sockets); i++)
        close(deaf->sockets[i]);
}

static void a_deadline_ends_connecting(void **state)
{
    (void)state;
    struct deaf deaf;
    deaf_init(&deaf, INADDR_LOOPBACK, 0);
    uint64_t begin = clock_boot_ms();
    connect_expecting(&deaf.address, begin + 50, ERROR_TIMEOUT, "no answer in time");
    assert_true(clock_boot_ms() - begin >= 50);
    deaf_done(&deaf);
}

/* One address that never answers takes its share of the time, not all of it. */
static void a_deaf_address_leaves_time_for_the_next(void **state)
{
    (void)state;
    struct error err = {0};
    struct server server;
    struct end client;
    struct deaf deaf;
    struct address bound;
    server_init(&server, new_loop(), "127.0.0.1:0");
    listener_address(server.listener, &bound);
    deaf_init(&deaf, 0x7f000002, bound.port);
    struct address name = address_of("second.test:1");
    name.port = bound.port;
    end_init(&client, server.loop);
    client.stop_on_event = true;
    uint64_t begin = clock_boot_ms();
    assert_ok(stream_connect(server.loop, &name, begin + 400, &END_EVENTS, &client, &client.stream,
                             &err));
    loop_run(server.loop);
    assert_int_equal(client.connected, 1);
    assert_true(clock_boot_ms() - begin >= 200); /* control: the first was tried */
    server_done(&server);
    deaf_done(&deaf);
}

static void close_while_connecting(void **state)
{
    (void)state;
    struct error err = {0};
    static const char *const targets[] = {"127.0.0.1:9", "one.test:9", "unix:/nonexistent/s"};
    for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
        struct loop *loop = new_loop();
        struct address to = address_of(targets[i]);
        struct end client;
        end_init(&client, loop);
        client.stop_on_event = true;
        assert_ok(stream_connect(loop, &to, clock_boot_ms() + 10'000, &END_EVENTS, &client,
                                 &client.stream, &err));
        struct buf early;
        buf_init(&early, 10);
        buf_put_u8(&early, 1);
        assert_fails(stream_write(client.stream, &early, &err), ERROR_CONFLICT);
        assert_null(early.data); /* taken all the same */
        stream_close(client.stream);
        stream_close(client.stream);
        loop_run(loop);
        assert_int_equal(client.closed, 1);
        assert_int_equal(client.connected + client.failed, 0);
        loop_free(loop);
    }
}

static void backpressure_counts_and_drains(void **state)
{
    (void)state;
    struct error err = {0};
    struct server server;
    struct end client;
    constexpr size_t PART = 1 << 20;
    constexpr size_t PARTS = 16;
    server_init(&server, new_loop(), "127.0.0.1:0");
    server_connect(&server, &client);
    struct end *served = &server.ends[0];
    stream_read_pause(served->stream);
    for (size_t i = 0; i < PARTS; i++) {
        struct buf bytes;
        buf_init(&bytes, PART);
        uint8_t *at = buf_extend(&bytes, PART);
        assert_non_null(at);
        for (size_t j = 0; j < PART; j++)
            at[j] = (uint8_t)(i * 31 + j * 7 + (j >> 8));
        assert_ok(stream_write(client.stream, &bytes, &err));
    }
    size_t queued = stream_queued(client.stream);
    assert_true(queued > 0 && queued < PART * PARTS);
    run_for(server.loop, 20);
    assert_int_equal(client.drained, 0);
    assert_int_equal(served->heard.len, 0); /* paused */
    served->stop_at = PART * PARTS;
    stream_read_start(served->stream);
    stream_read_start(served->stream);
    loop_run(server.loop);
    run_for(server.loop, 5);
    assert_int_equal(client.drained, 1);
    assert_int_equal(stream_queued(client.stream), 0);
    assert_int_equal(served->heard.len, PART * PARTS);
    for (size_t i = 0; i < PARTS; i++)
        for (size_t j = 0; j < PART; j++)
            if (served->heard.data[i * PART + j] != (uint8_t)(i * 31 + j * 7 + (j >> 8)))
                fail_msg("byte %zu of part %zu is wrong", j, i);

    /* Closing drops what is queued, and says nothing more. */
    stream_read_pause(served->stream);
    for (size_t i = 0; i < PARTS; i++) {
        struct buf bytes;
        buf_init(&bytes, PART);
        assert_non_null(buf_extend(&bytes, PART));
        assert_ok(stream_write(client.stream, &bytes, &err));
    }
    assert_true(stream_queued(client.stream) > 0);
    client.stop_on_event = true;
    stream_close(client.stream);
    loop_run(server.loop);
    assert_int_equal(client.closed, 1);
    assert_int_equal(client.drained, 1);
    assert_int_equal(client.failed, 0);
    buf_done(&client.heard);
    server_done(&server);
}

static void pause_holds_inside_read(void **state)
{
    (void)state;
    struct server server;
    struct end client;
    server_init(&server, new_loop(), "127.0.0.1:0");
    server_connect(&server, &client);
    struct end *served = &server.ends[0];
    served->pause_on_read = true;
    served->stop_at = 1;
    end_send(&client, "one");
    loop_run(server.loop);
    size_t heard = served->heard.len;
    end_send(&client, "two");
    run_for(server.loop, 10);
    assert_int_equal(served->heard.len, heard);
    stream_read_start(served->stream);
    loop_run(server.loop);
    assert_true(slice_is(buf_slice(&served->heard), "onetwo"));
    server_done(&server);
    buf_done(&client.heard);
}

static void a_callback_may_close_its_stream(void **state)
{
    (void)state;
    struct server server;
    struct end client;
    server_init(&server, new_loop(), "127.0.0.1:0");
    server_connect(&server, &client);
    struct end *served = &server.ends[0];
    served->close_on_read = true;
    served->stop_on_event = true;
    client.close_on_end = true;
    end_send(&client, "x");
    loop_run(server.loop);
    assert_int_equal(served->closed, 1);
    run_for(server.loop, 10);
    assert_int_equal(client.ended, 1);
    assert_int_equal(client.closed, 1);
    server_done(&server);
    buf_done(&client.heard);
}

static void a_reset_is_a_failure_once(void **state)
{
    (void)state;
    struct server server;
    struct end client;
    server_init(&server, new_loop(), "127.0.0.1:0");
    server_connect(&server, &client);
    struct end *served = &server.ends[0];
    /* Closing with unread bytes makes TCP reset. */
    stream_read_pause(served->stream);
    end_send(&client, "never read");
    run_for(server.loop, 5);
    stream_close(served->stream);
    client.stop_on_event = true;
    loop_run(server.loop);
    assert_int_equal(client.failed, 1);
    assert_int_equal(client.err.class, ERROR_UNAVAILABLE);
    assert_string_equal(error_domain_name(client.err.domain), "uv");
    struct error err = {0};
    struct buf bytes;
    buf_init(&bytes, 10);
    buf_put_u8(&bytes, 1);
    assert_fails(stream_write(client.stream, &bytes, &err), ERROR_CONFLICT);
    client.stop_on_event = false;
    stream_read_start(client.stream);
    run_for(server.loop, 5);
    server_done(&server);
    assert_int_equal(client.closed, 1);
}

static void a_failed_buf_is_not_sent(void **state)
{
    (void)state;
    struct error err = {0};
    struct server server;
    struct end client;
    server_init(&server, new_loop(), "127.0.0.1:0");
    server_connect(&server, &client);
    struct buf bytes;
    buf_init(&bytes, 2);
    buf_put(&bytes, slice_str("too long"));
    assert_fails(stream_write(client.stream, &bytes, &err), ERROR_EXHAUSTED);
    buf_init(&bytes, 2);
    assert_ok(stream_write(client.stream, &bytes, &err)); /* nothing to send is fine */
    run_for(server.loop, 5);
    assert_int_equal(server.ends[0].heard.len, 0);
    server_done(&server);
}

static void knows_the_peer_of_a_unix_socket(void **state)
{
    (void)state;
    struct error err = {0};
    char folder[64], text[128];
    testlib_folder(folder);
    snprintf(text, sizeof text, "unix:%s/s", folder);
    struct server server;
    struct end client;
    server_init(&server, new_loop(), text);
    server_connect(&server, &client);
    struct stream_peer peer = {0};
    assert_ok(stream_peer(server.ends[0].stream, &peer, &err));
    assert_int_equal(peer.uid, getuid());
    assert_int_equal(peer.gid, getgid());
    assert_int_equal(peer.pid, getpid());
    int pidfd = -7;
    if (stream_peer_pidfd(server.ends[0].stream, &pidfd, &err)) {
        /* It is a pidfd (only those can be sent a signal 0 to), and of a live process. */
        assert_int_equal(syscall(SYS_pidfd_send_signal, pidfd, 0, nullptr, 0), 0);
        struct pollfd alive = {.fd = pidfd, .events = POLLIN};
        assert_int_equal(poll(&alive, 1, 0), 0);
        close(pidfd);
    } else {
        assert_int_equal(err.class, ERROR_UNAVAILABLE);
        assert_error_contains("Linux 6.5");
        assert_int_equal(pidfd, -7);
    }
    char name[ADDRESS_TEXT_SIZE];
    assert_string_equal(stream_peer_name(server.ends[0].stream, name), "unix:");
    server_done(&server);
    testlib_folder_remove(folder);

    server_init(&server, new_loop(), "127.0.0.1:0");
    server_connect(&server, &client);
    assert_fails(stream_peer(server.ends[0].stream, &peer, &err), ERROR_INVALID);
    assert_fails(stream_peer_pidfd(server.ends[0].stream, &pidfd, &err), ERROR_INVALID);
    server_done(&server);
}

struct quiet_server {
    struct loop *loop;
    struct address address;
};

static bool connect_and_close(void *arg, struct error *err)
{
    struct quiet_server *server = arg;
    struct end client;
    end_init(&client, server->loop);
    client.stream = POISON;
    client.stop_on_event = true;
    if (!stream_connect(server->loop, &server->address, 0, &END_EVENTS, &client, &client.stream,
                        err)) {
        assert_ptr_equal(client.stream, POISON);
        run_for(server->loop, 1);
        assert_int_equal(client.closed, 0);
        return false;
    }
    loop_run(server->loop);
    assert_int_equal(client.connected, 1);
    stream_close(client.stream);
    loop_run(server->loop);
    assert_int_equal(client.closed, 1);
    return true;
}

static void survives_want_of_memory(void **state)
{
    (void)state;
    struct quiet_server server = {.loop = new_loop()};
    int fd = listening_socket(INADDR_LOOPBACK, 0, 8,
                              &server.address); /* which accepts, and so allocates, nothing */
    testlib_allocation_sweep(connect_and_close, &server);
    close(fd);
    loop_free(server.loop);
}

/* A write that does not go out at once needs memory for the rest. */
static void a_write_survives_want_of_memory(void **state)
{
    (void)state;
    struct error err = {0};
    struct server server;
    struct end client;
    server_init(&server, new_loop(), "127.0.0.1:0");
    server_connect(&server, &client);
    struct buf bytes;
    buf_init(&bytes, 32 << 20);
    assert_non_null(buf_extend(&bytes, 32 << 20));
    mem_fail_after(1);
    assert_fails(stream_write(client.stream, &bytes, &err), ERROR_EXHAUSTED);
    mem_fail_after(0);
    assert_null(bytes.data);
    server_done(&server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(talks_over_tcp),
        cmocka_unit_test(talks_over_ipv6),
        cmocka_unit_test(talks_over_unix),
        cmocka_unit_test(resolves_names),
        cmocka_unit_test(says_why_it_cannot_connect),
        cmocka_unit_test(a_deadline_ends_connecting),
        cmocka_unit_test(a_deaf_address_leaves_time_for_the_next),
        cmocka_unit_test(close_while_connecting),
        cmocka_unit_test(close_at_any_moment_of_connecting),
        cmocka_unit_test(backpressure_counts_and_drains),
        cmocka_unit_test(pause_holds_inside_read),
        cmocka_unit_test(a_callback_may_close_its_stream),
        cmocka_unit_test(a_reset_is_a_failure_once),
        cmocka_unit_test(a_failed_buf_is_not_sent),
        cmocka_unit_test(knows_the_peer_of_a_unix_socket),
        cmocka_unit_test(survives_want_of_memory),
        cmocka_unit_test(a_write_survives_want_of_memory),
    };
    return cmocka_run_group_tests_name("stream", tests, nullptr, nullptr);
}
