#include "ends.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

struct place {
    char folder[64], path[100], text[128];
    struct loop *loop;
};

static void place_init(struct place *place)
{
    struct error err = {0};
    testlib_folder(place->folder);
    snprintf(place->path, sizeof place->path, "%s/s", place->folder);
    snprintf(place->text, sizeof place->text, "unix:%s", place->path);
    assert_ok(loop_new(&place->loop, &err));
}

static void place_done(struct place *place)
{
    loop_free(place->loop);
    testlib_folder_remove(place->folder);
}

static void drop(void *arg, struct stream *stream)
{
    (void)arg;
    stream_close(stream);
}

static void fails_to_listen(struct loop *loop, const struct listener_options *options,
                            enum error_class class, const char *says)
{
    struct error err = {0};
    struct listener *listener = POISON;
    assert_fails(listener_new(loop, options, drop, nullptr, &listener, &err), class);
    assert_error_contains("cannot listen on ");
    assert_error_contains(says);
    assert_ptr_equal(listener, POISON);
}

static void the_file_has_its_rights_and_goes(void **state)
{
    (void)state;
    struct error err = {0};
    struct place place;
    struct listener *listener;
    struct stat st;
    place_init(&place);
    struct listener_options options = options_for(place.text);
    assert_ok(listener_new(place.loop, &options, drop, nullptr, &listener, &err));
    assert_int_equal(stat(place.path, &st), 0);
    assert_true(S_ISSOCK(st.st_mode));
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_null(listener_free(listener));
    assert_int_equal(access(place.path, F_OK), -1);

    options.mode = 0660;
    options.group = getuid() == 0 ? 4242 : getgid();
    assert_ok(listener_new(place.loop, &options, drop, nullptr, &listener, &err));
    assert_int_equal(stat(place.path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0660);
    assert_int_equal(st.st_gid, options.group);
    struct address address;
    char text[ADDRESS_TEXT_SIZE];
    listener_address(listener, &address);
    assert_string_equal(address_format(&address, text), place.text);
    listener_free(listener);
    assert_null(listener_free(nullptr));
    place_done(&place);
}

static int dead_socket(const char *path)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    snprintf(at.sun_path, sizeof at.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (fd < 0)
        fail_msg("no socket");
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    return fd;
}

static void a_dead_servers_file_is_replaced(void **state)
{
    (void)state;
    struct error err = {0};
    struct place place;
    char beside[120];
    place_init(&place);
    close(dead_socket(place.path));
    snprintf(beside, sizeof beside, "%s.new", place.path);
    close(dead_socket(beside)); /* of a start that was killed half way */
    struct server server;
    struct end client;
    server_init(&server, place.loop, place.text);
    server_connect(&server, &client);
    assert_int_equal(access(beside, F_OK), -1);
    listener_free(server.listener);
    (void)err;
    place_done(&place);
    assert_int_equal(client.closed, 1);
}

static void a_live_servers_file_stays(void **state)
{
    (void)state;
    struct error err = {0};
    struct place place;
    struct listener *listener;
    struct stat before, after;
    place_init(&place);
    struct listener_options options = options_for(place.text);
    assert_ok(listener_new(place.loop, &options, drop, nullptr, &listener, &err));
    assert_int_equal(stat(place.path, &before), 0);
    fails_to_listen(place.loop, &options, ERROR_CONFLICT, "address in use");
    assert_int_equal(stat(place.path, &after), 0);
    assert_int_equal(before.st_ino, after.st_ino);

    /* If another took the place meanwhile, its file is not ours to remove. */
    unlink(place.path);
    int other = dead_socket(place.path);
    listener_free(listener);
    assert_int_equal(access(place.path, F_OK), 0);
    close(other);
    unlink(place.path);

    /* What is no socket stays, whatever it is. */
    close(open(place.path, O_CREAT | O_WRONLY, 0600));
    fails_to_listen(place.loop, &options, ERROR_CONFLICT, "is no socket");
    assert_int_equal(access(place.path, F_OK), 0);
    place_done(&place);
}

static void a_held_folder_is_told(void **state)
{
    (void)state;
    struct place place;
    place_init(&place);
    int folder = open(place.folder, O_RDONLY | O_DIRECTORY);
    assert_int_equal(flock(folder, LOCK_EX), 0);
    struct listener_options options = options_for(place.text);
    fails_to_listen(place.loop, &options, ERROR_UNAVAILABLE, "another server is starting");
    close(folder);
    place_done(&place);
}

static void says_why_it_cannot_listen(void **state)
{
    (void)state;
    struct error err = {0};
    struct place place;
    struct listener *listener, *none = POISON;
    place_init(&place);
    struct listener_options options = options_for("unix:/nonexistent/folder/s");
    fails_to_listen(place.loop, &options, ERROR_NOT_FOUND, "/nonexistent/folder");
    options = options_for("localhost:80");
    fails_to_listen(place.loop, &options, ERROR_INVALID, "expected an IP address");
    options = options_for("192.0.2.1:0"); /* TEST-NET: not an address of ours */
    fails_to_listen(place.loop, &options, ERROR_INVALID, "192.0.2.1:0");
    options = options_for(place.text);
    memset(options.address.host, '/', ADDRESS_PATH_MAX + 1); /* not by address_parse */
    fails_to_listen(place.loop, &options, ERROR_INVALID, "at most 100 bytes");
    options = options_for("127.0.0.1:0");
    options.max_streams = 0;
    assert_fails(listener_new(place.loop, &options, drop, nullptr, &none, &err), ERROR_INVALID);
    options.max_streams = 1;
    assert_ok(listener_new(place.loop, &options, drop, nullptr, &listener, &err));
    listener_address(listener, &options.address);
    assert_true(options.address.port != 0);
    fails_to_listen(place.loop, &options, ERROR_CONFLICT, "address already in use");
    listener_free(listener);
    assert_ptr_equal(none, POISON);
    place_done(&place);
}

static void reuse_port_shares(void **state)
{
    (void)state;
    struct error err = {0};
    struct loop *loop;
    struct listener *one, *two;
    assert_ok(loop_new(&loop, &err));
    struct listener_options options = options_for("127.0.0.1:0");
    options.reuse_port = true;
    assert_ok(listener_new(loop, &options, drop, nullptr, &one, &err));
    listener_address(one, &options.address);
    assert_ok(listener_new(loop, &options, drop, nullptr, &two, &err));
    listener_free(one);
    listener_free(two);
    loop_free(loop);
}

static void the_limit_holds_until_one_closes(void **state)
{
    (void)state;
    struct error err = {0};
    struct server server = {0};
    struct end clients[4];
    assert_ok(loop_new(&server.loop, &err));
    struct listener_options options = options_for("127.0.0.1:0");
    options.max_streams = 2;
    assert_ok(
        listener_new(server.loop, &options, server_accepted, &server, &server.listener, &err));
    struct address address;
    listener_address(server.listener, &address);
    for (size_t i = 0; i < 4; i++) {
        end_init(&clients[i], server.loop);
        assert_ok(stream_connect(server.loop, &address, 0, &END_EVENTS, &clients[i],
                                 &clients[i].stream, &err));
    }
    run_for(server.loop, 30);
    assert_int_equal(server.count, 2);
    stream_close(server.ends[0].stream);
    run_for(server.loop, 30);
    assert_int_equal(server.count, 3);
    stream_close(server.ends[1].stream);
    stream_close(server.ends[2].stream);
    run_for(server.loop, 30);
    assert_int_equal(server.count, 4);
    server_done(&server);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(clients[i].closed, 1);
}

struct impatient {
    struct listener *listener;
    int accepted;
};

static void free_listener(void *arg, struct stream *stream)
{
    struct impatient *impatient = arg;
    impatient->accepted++;
    impatient->listener = listener_free(impatient->listener);
    stream_close(stream);
}

static void accepted_may_free_the_listener(void **state)
{
    (void)state;
    struct error err = {0};
    struct loop *loop;
    struct impatient impatient = {0};
    struct end clients[3];
    assert_ok(loop_new(&loop, &err));
    struct listener_options options = options_for("127.0.0.1:0");
    assert_ok(listener_new(loop, &options, free_listener, &impatient, &impatient.listener, &err));
    struct address address;
    listener_address(impatient.listener, &address);
    for (size_t i = 0; i < 3; i++) {
        end_init(&clients[i], loop);
        clients[i].close_on_fail = true;
        assert_ok(
            stream_connect(loop, &address, 0, &END_EVENTS, &clients[i], &clients[i].stream, &err));
    }
    run_for(loop, 30);
    assert_int_equal(impatient.accepted, 1);
    loop_free(loop);
}

static void streams_outlive_their_listener(void **state)
{
    (void)state;
    struct error err = {0};
    struct server server;
    struct end client;
    struct loop *loop;
    assert_ok(loop_new(&loop, &err));
    server_init(&server, loop, "127.0.0.1:0");
    server_connect(&server, &client);
    server.listener = listener_free(server.listener);
    run_for(loop, 5);
    server.ends[0].stop_at = 2;
    end_send(&client, "ok");
    loop_run(loop);
    server_done(&server);
    assert_int_equal(client.closed, 1);
}

static bool listen_and_free(void *arg, struct error *err)
{
    struct place *place = arg;
    struct listener_options options = options_for(place->text);
    struct listener *listener = POISON;
    if (!listener_new(place->loop, &options, drop, nullptr, &listener, err)) {
        assert_ptr_equal(listener, POISON);
        return false;
    }
    listener_free(listener);
    return true;
}

/* Memory that fails while a connection waits is tried again. */
static void accepting_survives_want_of_memory(void **state)
{
    (void)state;
    struct place place;
    place_init(&place);
    testlib_allocation_sweep(listen_and_free, &place);

    struct error err = {0};
    struct server server;
    struct end client;
    struct address address;
    server_init(&server, place.loop, place.text);
    listener_address(server.listener, &address);
    end_init(&client, place.loop);
    assert_ok(stream_connect(place.loop, &address, 0, &END_EVENTS, &client, &client.stream, &err));
    mem_fail_after(1); /* the stream for the accepted one */
    run_for(place.loop, 20);
    assert_int_equal(server.count, 0);
    run_for(place.loop, 150);
    assert_int_equal(server.count, 1);
    mem_fail_after(0);
    listener_free(server.listener);
    place_done(&place);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_file_has_its_rights_and_goes),
        cmocka_unit_test(a_dead_servers_file_is_replaced),
        cmocka_unit_test(a_live_servers_file_stays),
        cmocka_unit_test(a_held_folder_is_told),
        cmocka_unit_test(says_why_it_cannot_listen),
        cmocka_unit_test(reuse_port_shares),
        cmocka_unit_test(the_limit_holds_until_one_closes),
        cmocka_unit_test(accepted_may_free_the_listener),
        cmocka_unit_test(streams_outlive_their_listener),
        cmocka_unit_test(accepting_survives_want_of_memory),
    };
    return cmocka_run_group_tests_name("listener", tests, nullptr, nullptr);
}
