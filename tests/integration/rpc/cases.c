#include "cases.h"

#include "base/clock.h"
#include "base/mem.h"

#include <signal.h>
#include <stdio.h>

constexpr uint64_t PATIENCE_MS = 20'000;
constexpr uint32_t MESSAGE_LIMIT = 4 << 20;
constexpr uint32_t MESSAGE_OVERHEAD = 5; /* tag and length of one payload of 2 to 256 MiB */

#define EXPECT(condition)                                                                          \
    do {                                                                                           \
        if (!(condition))                                                                          \
            return error_set(err, ERROR_INTERNAL, "line %d: not %s", __LINE__, #condition);        \
    } while (0)

static const struct rpc_call_options patient = {.timeout_ms = PATIENCE_MS, .wait_for_ready = true};

static bool ended(struct tester *t, const struct heard *heard, struct error *err)
{
    return wait_for(t->loop, &heard->ends, 1, PATIENCE_MS, err);
}

/* Ended, and well. */
static bool succeeded(struct tester *t, const struct heard *heard, struct error *err)
{
    if (!ended(t, heard, err))
        return false;
    if (heard->error.class != ERROR_NONE)
        return error_set(err, ERROR_INTERNAL, "ended with: %s", heard->error.message);
    return true;
}

static bool ended_with(struct tester *t, const struct heard *heard, enum error_class class,
                       struct error *err)
{
    if (!ended(t, heard, err))
        return false;
    if (heard->error.class != class)
        return error_set(err, ERROR_INTERNAL, "expected %s, ended with %s: %s",
                         error_class_name(class), error_class_name(heard->error.class),
                         heard->error.message);
    return true;
}

static void start_unary(struct tester *t, struct heard *heard, const Ask *request,
                        const struct rpc_call_options *options)
{
    heard_init(heard);
    heard_start(heard,
                peer_v2_unary(t->client, options ? options : &patient, request, heard_done, heard));
}

static bool unary(struct tester *t, const Ask *request, struct heard *ret, struct error *err)
{
    start_unary(t, ret, request, nullptr);
    bool ok = succeeded(t, ret, err);
    heard_end(ret);
    return ok;
}

static void start_down(struct tester *t, struct heard *heard, const Ask *request)
{
    heard_init(heard);
    heard_start(heard,
                peer_v2_down(t->client, &patient, request, heard_answer, &heard_events, heard));
}

static void start_up(struct tester *t, struct heard *heard)
{
    heard_init(heard);
    heard_start(heard, peer_v2_up(t->client, &patient, heard_done, &heard_events, heard));
}

static void start_both(struct tester *t, struct heard *heard)
{
    heard_init(heard);
    heard_start(heard, peer_v2_both(t->client, &patient, heard_answer, &heard_events, heard));
}

/* ---- The four kinds ---- */

static bool case_unary(struct tester *t, struct error *err)
{
    Ask request = ask("gr\xc3\xbc\xc3\x9f dich");
    uint8_t payload[1000];
    for (size_t i = 0; i < sizeof(payload); i++)
        payload[i] = (uint8_t)i;
    request.payload = (ProtobufCBinaryData){sizeof(payload), payload};
    struct heard heard;
    if (!unary(t, &request, &heard, err))
        return false;
    EXPECT(strcmp(heard.text, request.text) == 0);
    EXPECT(heard.size == sizeof(payload));
    return true;
}

static bool case_down(struct tester *t, struct error *err)
{
    Ask request = ask("down");
    CLEANUP(heard_end) struct heard heard;
    request.count = 500;
    start_down(t, &heard, &request);
    if (!succeeded(t, &heard, err))
        return false;
    EXPECT(heard.answers == 500);
    EXPECT(heard.in_order);
    return true;
}

static bool case_up(struct tester *t, struct error *err)
{
    static uint8_t payload[1000];
    Ask request = ask("up");
    CLEANUP(heard_end) struct heard heard;
    request.payload = (ProtobufCBinaryData){sizeof(payload), payload};
    start_up(t, &heard);
    for (int i = 0; i < 500; i++) {
        if (!peer_v2_up_send_request(heard.call, &request, err))
            return false;
    }
    rpc_call_close_send(heard.call);
    if (!succeeded(t, &heard, err))
        return false;
    EXPECT(heard.count == 500);
    EXPECT(heard.bytes == 500 * sizeof(payload));
    return true;
}

/* Ping-pong: each answer is waited for. */
static bool case_both(struct tester *t, struct error *err)
{
    Ask request = ask("both");
    CLEANUP(heard_end) struct heard heard;
    start_both(t, &heard);
    for (unsigned i = 0; i < 100; i++) {
        char text[16];
        (void)snprintf(text, sizeof(text), "%u", i);
        request.text = text;
        if (!peer_v2_both_send_request(heard.call, &request, err) ||
            !wait_for(t->loop, &heard.answers, i + 1, PATIENCE_MS, err))
            return false;
        EXPECT(strcmp(heard.text, text) == 0);
    }
    rpc_call_close_send(heard.call);
    return succeeded(t, &heard, err);
}

/* Messages of no bytes, streams of no messages. */
static bool case_empty(struct tester *t, struct error *err)
{
    Ask request = POSTERN__TEST_PEER__V2__ASK__INIT;
    struct heard heard;
    if (!unary(t, &request, &heard, err))
        return false;
    EXPECT(heard.size == 0);
    CLEANUP(heard_end) struct heard down, up, both;
    heard_init(&up);
    heard_init(&both);
    start_down(t, &down, &request);
    if (!succeeded(t, &down, err))
        return false;
    EXPECT(down.answers == 0);
    start_up(t, &up);
    rpc_call_close_send(up.call);
    if (!succeeded(t, &up, err))
        return false;
    EXPECT(up.answers == 1 && up.count == 0);
    start_both(t, &both);
    rpc_call_close_send(both.call);
    if (!succeeded(t, &both, err))
        return false;
    EXPECT(both.answers == 0);
    return true;
}

static bool case_unimplemented(struct tester *t, struct error *err)
{
    Ask request = ask("x");
    CLEANUP(heard_end) struct heard one, stream;
    heard_init(&one);
    heard_init(&stream);
    heard_start(&one, peer_v2_missing(t->client, &patient, &request, heard_done, &one));
    heard_start(&stream,
                peer_v2_missing_both(t->client, &patient, heard_answer, &heard_events, &stream));
    return ended_with(t, &one, ERROR_UNIMPLEMENTED, err) &&
           ended_with(t, &stream, ERROR_UNIMPLEMENTED, err);
}

/* ---- Metadata ---- */

static bool metadata_is(const struct heard *heard, const char *key, size_t index,
                        struct slice value)
{
    struct slice found;
    return rpc_call_metadata(heard->call, key, index, &found) && slice_equal(found, value);
}

/* Values of one key come apart, or joined by HTTP libraries that do so (RFC 9110 section 5.3). */
static bool case_metadata(struct tester *t, struct error *err)
{
    static const struct rpc_metadatum items[] = {{"x-ask", {(const uint8_t *)"one", 3}},
                                                 {"x-ask", {(const uint8_t *)"two, 2; =", 9}}};
    struct rpc_call_options options = patient;
    Ask request = ask("metadata");
    CLEANUP(heard_end) struct heard heard;
    options.metadata = items;
    options.metadata_count = ARRAY_LEN(items);
    start_unary(t, &heard, &request, &options);
    if (!succeeded(t, &heard, err))
        return false;
    struct slice value;
    size_t count = 0;
    while (rpc_call_metadata(heard.call, "x-head", count, &value))
        count++;
    EXPECT(count == 1 || count == 2);
    if (count == 1) {
        EXPECT(metadata_is(&heard, "x-head", 0, slice_str("one, two, 2; =")));
    } else {
        EXPECT(metadata_is(&heard, "x-head", 0, items[0].value));
        EXPECT(metadata_is(&heard, "x-head", 1, items[1].value));
    }
    return true;
}

static bool case_metadata_bin(struct tester *t, struct error *err)
{
    uint8_t bytes[256];
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)i;
    /* Of each length modulo 3: padding. */
    const struct rpc_metadatum items[] = {{"x-ask-bin", slice(bytes, 256)},
                                          {"x-ask-bin", slice(bytes, 1)},
                                          {"x-ask-bin", slice(bytes, 255)}};
    struct rpc_call_options options = patient;
    Ask request = ask("metadata");
    CLEANUP(heard_end) struct heard heard;
    options.metadata = items;
    options.metadata_count = ARRAY_LEN(items);
    start_unary(t, &heard, &request, &options);
    if (!succeeded(t, &heard, err))
        return false;
    for (size_t i = 0; i < ARRAY_LEN(items); i++)
        EXPECT(metadata_is(&heard, "x-tail-bin", i, items[i].value));
    return true;
}

/* ---- Deadlines and cancellation ---- */

static bool cancelled_count(struct tester *t, uint64_t *ret, struct error *err)
{
    Ask request = ask("how many");
    struct heard heard;
    if (!unary(t, &request, &heard, err))
        return false;
    *ret = heard.cancelled;
    return true;
}

/* Waits until the server has seen `count` calls end before their answers. */
static bool server_saw(struct tester *t, uint64_t count, struct error *err)
{
    uint64_t seen = 0, deadline = clock_boot_ms() + 5'000;
    while (seen < count && clock_boot_ms() < deadline) {
        if (!cancelled_count(t, &seen, err))
            return false;
        pass(t->loop, 10);
    }
    if (seen < count)
        return error_set(err, ERROR_INTERNAL, "the server saw %llu ends, not %llu",
                         (unsigned long long)seen, (unsigned long long)count);
    return true;
}

static bool case_deadline(struct tester *t, struct error *err)
{
    uint64_t before;
    Ask request = ask("late");
    CLEANUP(heard_end) struct heard heard;
    if (!cancelled_count(t, &before, err))
        return false;
    request.hold = true;
    struct rpc_call_options options = {.timeout_ms = 300};
    uint64_t start = clock_boot_ms();
    start_unary(t, &heard, &request, &options);
    if (!ended_with(t, &heard, ERROR_TIMEOUT, err))
        return false;
    EXPECT(clock_boot_ms() - start >= 299);
    EXPECT(clock_boot_ms() - start < 5'000);
    return server_saw(t, before + 1, err);
}

/* The server sees our deadline. */
static bool case_deadline_seen(struct tester *t, struct error *err)
{
    Ask request = ask("when");
    CLEANUP(heard_end) struct heard heard;
    start_unary(t, &heard, &request, &(struct rpc_call_options){.timeout_ms = 5'000});
    if (!succeeded(t, &heard, err))
        return false;
    EXPECT(heard.remaining_ms > 3'000);
    EXPECT(heard.remaining_ms <= 5'000);
    CLEANUP(heard_end) struct heard none;
    start_unary(t, &none, &request, &(struct rpc_call_options){0});
    if (!succeeded(t, &none, err))
        return false;
    EXPECT(none.remaining_ms == 0);
    return true;
}

static bool case_cancel_by_client(struct tester *t, struct error *err)
{
    uint64_t before;
    Ask request = ask("cancelled");
    CLEANUP(heard_end) struct heard heard;
    heard_init(&heard);
    if (!cancelled_count(t, &before, err))
        return false;
    request.hold = true;
    request.count = 1;
    start_down(t, &heard, &request);
    if (!wait_for(t->loop, &heard.answers, 1, PATIENCE_MS, err))
        return false;
    rpc_call_cancel(heard.call);
    return ended_with(t, &heard, ERROR_CANCELLED, err) && server_saw(t, before + 1, err);
}

/* The server ends a call while its client is still speaking. */
static bool case_cancel_by_server(struct tester *t, struct error *err)
{
    Ask request = ask("enough");
    CLEANUP(heard_end) struct heard both, up;
    heard_init(&up);
    request.status = 1;
    request.after = 3;
    start_both(t, &both);
    for (int i = 0; i < 3; i++) {
        if (!peer_v2_both_send_request(both.call, &request, err))
            return false;
    }
    if (!ended_with(t, &both, ERROR_CANCELLED, err))
        return false;
    EXPECT(both.answers == 2);
    EXPECT(!peer_v2_both_send_request(both.call, &request, err));
    start_up(t, &up);
    for (int i = 0; i < 3; i++) {
        if (!peer_v2_up_send_request(up.call, &request, err))
            return false;
    }
    return ended_with(t, &up, ERROR_CANCELLED, err);
}

/* ---- Status ---- */

static bool case_status(struct tester *t, struct error *err)
{
    static const char message[] = " 100 % \xe2\x80\x9cm\xc3\xbc"
                                  "de\xe2\x80\x9d, \xf0\x9f\x98\x80 %41 ";
    for (int code = 1; code <= 16; code++) {
        Ask request = ask(message);
        CLEANUP(heard_end) struct heard heard;
        request.status = code;
        start_unary(t, &heard, &request, nullptr);
        if (!ended_with(t, &heard, error_class_from_grpc(code), err))
            return error_prefix(err, "status %d", code);
        EXPECT(heard.error.domain == ERROR_DOMAIN_GRPC);
        /* Our own server has no class for some, and says what is nearest. */
        EXPECT(heard.error.code == code ||
               heard.error.code == error_grpc_status(error_class_from_grpc(code)));
        EXPECT(strstr(heard.error.message, message));
    }
    /* What could deceive people in a log is shown, not done (base/text.h). */
    Ask request = ask("a\r\nb\tc");
    CLEANUP(heard_end) struct heard heard;
    request.status = 5;
    start_unary(t, &heard, &request, nullptr);
    if (!ended_with(t, &heard, ERROR_NOT_FOUND, err))
        return false;
    EXPECT(strstr(heard.error.message, "a\\x0d\\nb\\tc"));
    return true;
}

static bool case_details(struct tester *t, struct error *err)
{
    Ask request = ask("not so");
    CLEANUP(heard_end) struct heard heard, stream;
    heard_init(&stream);
    request.status = 9;
    request.reason = (char *)(uintptr_t)"NODE_CONTRAINDICATED";
    start_unary(t, &heard, &request, nullptr);
    if (!ended_with(t, &heard, ERROR_CONFLICT, err))
        return false;
    EXPECT(strcmp(heard.error.reason, "NODE_CONTRAINDICATED") == 0);
    EXPECT(heard.error.field[0] == '\0');
    request.status = 3;
    request.field = (char *)(uintptr_t)"secrets[3].name";
    request.count = 2;
    start_down(t, &stream, &request);
    if (!ended_with(t, &stream, ERROR_INVALID, err))
        return false;
    EXPECT(stream.answers == 2);
    EXPECT(strcmp(stream.error.reason, "NODE_CONTRAINDICATED") == 0);
    EXPECT(strcmp(stream.error.field, "secrets[3].name") == 0);
    return true;
}

/* ---- Sizes and windows ---- */

static bool case_sizes(struct tester *t, struct error *err)
{
    static const uint32_t sizes[] = {1,
                                     16'383,
                                     16'384,
                                     16'385,
                                     65'530,
                                     65'535,
                                     65'536,
                                     65'537,
                                     1 << 20,
                                     MESSAGE_LIMIT - MESSAGE_OVERHEAD - 100,
                                     MESSAGE_LIMIT - MESSAGE_OVERHEAD};
    uint8_t *bytes = mem_new(1, MESSAGE_LIMIT);
    if (!bytes)
        return error_set_memory(err);
    bool ok = true;
    for (size_t i = 0; ok && i < ARRAY_LEN(sizes); i++) {
        Ask up = ask(""), down = ask("");
        CLEANUP(heard_end) struct heard sent, got;
        heard_init(&got);
        up.payload = (ProtobufCBinaryData){sizes[i], bytes};
        start_up(t, &sent);
        ok = peer_v2_up_send_request(sent.call, &up, err);
        rpc_call_close_send(sent.call);
        /* An answer says more than its payload. */
        down.size = sizes[i] < MESSAGE_LIMIT - 100 ? sizes[i] : MESSAGE_LIMIT - 100;
        down.count = 1;
        start_down(t, &got, &down);
        ok = ok && succeeded(t, &sent, err) && succeeded(t, &got, err);
        if (ok && (sent.bytes != sizes[i] || got.size != down.size))
            ok = error_set(err, ERROR_INTERNAL, "sent %llu, got %zu",
                           (unsigned long long)sent.bytes, got.size);
        if (!ok)
            (void)error_prefix(err, "%u bytes", sizes[i]);
    }
    mem_free(bytes);
    return ok;
}

/* One byte over what the server takes: it is the server that refuses. */
static bool case_limit_up(struct tester *t, struct error *err)
{
    struct tester large = *t;
    struct rpc_client_options options = {.tls = t->tls, .limits = {.message = 2 * MESSAGE_LIMIT}};
    if (!rpc_client_new(t->loop, &t->address, &options, &large.client, err))
        return false;
    Ask request = ask("");
    CLEANUP(heard_end) struct heard heard;
    size_t size = MESSAGE_LIMIT - MESSAGE_OVERHEAD + 1;
    request.payload = (ProtobufCBinaryData){size, mem_new(1, size)};
    start_unary(&large, &heard, &request, nullptr);
    bool ok = ended_with(t, &heard, ERROR_EXHAUSTED, err);
    if (ok && heard.error.domain != ERROR_DOMAIN_GRPC)
        ok = error_set(err, ERROR_INTERNAL, "we refused it ourselves");
    /* The connection goes on. */
    request.payload.len = 1;
    struct heard after;
    ok = ok && unary(&large, &request, &after, err);
    mem_free(request.payload.data);
    rpc_client_free(large.client);
    heard.ends = 1; /* the client that had the call is gone */
    return ok;
}

/* One byte over what we take. */
static bool case_limit_down(struct tester *t, struct error *err)
{
    Ask request = ask("");
    CLEANUP(heard_end) struct heard heard;
    request.size = MESSAGE_LIMIT + 1;
    start_unary(t, &heard, &request, nullptr);
    if (!ended_with(t, &heard, ERROR_EXHAUSTED, err))
        return false;
    request.size = 1;
    struct heard after;
    return unary(t, &request, &after, err);
}

/* 32 MiB, with a pause in which nothing may come but what the window lets through. */
static bool case_flood_down(struct tester *t, struct error *err)
{
    Ask request = ask("flood");
    CLEANUP(heard_end) struct heard heard;
    request.size = 64 * 1024;
    request.count = 512;
    start_down(t, &heard, &request);
    if (!wait_for(t->loop, &heard.answers, 1, PATIENCE_MS, err))
        return false;
    rpc_call_pause(heard.call);
    unsigned before = heard.answers;
    pass(t->loop, 300);
    EXPECT(heard.answers == before);
    rpc_call_resume(heard.call);
    if (!succeeded(t, &heard, err))
        return false;
    EXPECT(heard.answers == 512 && heard.in_order);
    EXPECT(heard.total_size >= (uint64_t)32 << 20);
    return true;
}

static bool case_flood_up(struct tester *t, struct error *err)
{
    static uint8_t payload[64 * 1024];
    Ask request = ask("flood");
    CLEANUP(heard_end) struct heard heard;
    request.payload = (ProtobufCBinaryData){sizeof(payload), payload};
    start_up(t, &heard);
    for (int i = 0; i < 512; i++) {
        if (!peer_v2_up_send_request(heard.call, &request, err))
            return false;
        unsigned writable = heard.writable;
        if (rpc_call_queued(heard.call) > 1 << 20 &&
            !wait_for(t->loop, &heard.writable, writable + 1, PATIENCE_MS, err))
            return false;
    }
    rpc_call_close_send(heard.call);
    if (!succeeded(t, &heard, err))
        return false;
    EXPECT(heard.count == 512);
    EXPECT(heard.bytes == (uint64_t)32 << 20);
    return true;
}

static bool case_concurrent(struct tester *t, struct error *err)
{
    static struct heard heard[200];
    Ask request = ask("together");
    request.delay_ms = 200;
    uint64_t start = clock_boot_ms();
    for (size_t i = 0; i < ARRAY_LEN(heard); i++)
        start_unary(t, &heard[i], &request, nullptr);
    bool ok = true;
    for (size_t i = 0; ok && i < ARRAY_LEN(heard); i++)
        ok = succeeded(t, &heard[i], err) || error_prefix(err, "call %zu", i);
    for (size_t i = 0; i < ARRAY_LEN(heard); i++)
        heard_end(&heard[i]);
    if (ok)
        EXPECT(clock_boot_ms() - start < 20'000);
    return ok;
}

/* ---- Servers that go and come ---- */

static bool server_process(struct tester *t, int64_t *ret, struct error *err)
{
    Ask request = ask("who");
    struct heard heard;
    if (!unary(t, &request, &heard, err))
        return false;
    *ret = heard.process;
    return true;
}

/* test_rpc.py starts every server anew that ends. */
static bool reconnects(struct tester *t, int64_t before, struct error *err)
{
    int64_t now;
    if (!server_process(t, &now, err))
        return error_prefix(err, "after the restart");
    EXPECT(now != before);
    return true;
}

/* A server that drains lets a running call finish; the next call goes to its successor. */
static bool case_drain(struct tester *t, struct error *err)
{
    int64_t process;
    Ask request = ask("slow");
    CLEANUP(heard_end) struct heard heard;
    heard_init(&heard);
    if (!server_process(t, &process, err))
        return false;
    request.count = 10;
    request.delay_ms = 100;
    start_down(t, &heard, &request);
    if (!wait_for(t->loop, &heard.answers, 2, PATIENCE_MS, err))
        return false;
    EXPECT(kill((pid_t)process, SIGTERM) == 0);
    if (!succeeded(t, &heard, err))
        return false;
    EXPECT(heard.answers == 10);
    return reconnects(t, process, err);
}

static bool case_lost(struct tester *t, struct error *err)
{
    int64_t process;
    Ask request = ask("lost");
    CLEANUP(heard_end) struct heard heard;
    heard_init(&heard);
    if (!server_process(t, &process, err))
        return false;
    request.hold = true;
    request.count = 1;
    start_down(t, &heard, &request);
    if (!wait_for(t->loop, &heard.answers, 1, PATIENCE_MS, err))
        return false;
    EXPECT(kill((pid_t)process, SIGKILL) == 0);
    if (!ended_with(t, &heard, ERROR_UNAVAILABLE, err))
        return false;
    return reconnects(t, process, err);
}

const struct test_case test_cases[] = {
    {"unary", case_unary},
    {"down", case_down},
    {"up", case_up},
    {"both", case_both},
    {"empty", case_empty},
    {"unimplemented", case_unimplemented},
    {"metadata", case_metadata},
    {"metadata-bin", case_metadata_bin},
    {"deadline", case_deadline},
    {"deadline-seen", case_deadline_seen},
    {"cancel-by-client", case_cancel_by_client},
    {"cancel-by-server", case_cancel_by_server},
    {"status", case_status},
    {"details", case_details},
    {"sizes", case_sizes},
    {"limit-up", case_limit_up},
    {"limit-down", case_limit_down},
    {"flood-down", case_flood_down},
    {"flood-up", case_flood_up},
    {"concurrent-200", case_concurrent},
    {"drain", case_drain},
    {"lost", case_lost},
    {nullptr, nullptr},
};
