/* The agent from its first hello to retirement, tampering and rollback: a software TPM, a real loop, an
 * authority that a test steers. */
#include "integration/node/fake_authority.h"

#include "agent.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "callers.h"
#include "pods.h"
#include "rpc/client.h"
#include "slots.h"
#include "testlib/swtpm.h"

#include "postern/v1/pod.rpc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static const char pod[] = "spiffe://test.example/ns/shop/sa/billing";

struct scene {
    char folder[64];
    char state_dir[96];
    char token_file[96];
    char owner_file[96], endorsement_file[96]; /* empty: no passwords */
    struct swtpm chip;
    struct loop *loop;
    struct fake_authority fake;
    struct agent *agent;
    unsigned changes;
    struct pods *pods;
    struct rpc_client *client;
    struct rpc_call *attach;
    /* What the sidecar heard. */
    char attached_as[128];
    Postern__V1__Verdict verdict;
    unsigned states;
    struct error attach_end, answer_error;
    char answer[64];
    bool answered;
    unsigned before; /* appraisals, for was_asked_again */
    /* await */
    bool (*condition)(struct scene *scene);
    struct timer poll;
    uint64_t until;
    bool met;
};

static void on_changed(void *arg)
{
    struct scene *scene = arg;
    scene->changes++;
    if (scene->pods)
        pods_changed(scene->pods);
}

static void on_poll(void *arg)
{
    struct scene *scene = arg;
    scene->met = scene->condition(scene);
    if (scene->met || clock_boot_ms() > scene->until)
        loop_stop(scene->loop);
    else
        timer_start(&scene->poll, 10);
}

/* Runs the loop until the condition holds, at most `ms`. */
static bool await_for(struct scene *scene, bool (*condition)(struct scene *scene), uint64_t ms)
{
    scene->condition = condition;
    scene->until = clock_boot_ms() + ms;
    timer_init(&scene->poll, scene->loop, on_poll, scene);
    timer_start(&scene->poll, 0);
    loop_run(scene->loop);
    return scene->met;
}

#define AWAIT(scene, condition) assert_true(await_for((scene), (condition), 30'000))

static void agent_up(struct scene *scene)
{
    struct error err = {0};
    const struct agent_settings settings = {
        .authority = scene->fake.address,
        .server_name = "postern-authority",
        .trust_anchor = "trust.pem",
        .trust_pem = buf_slice(&scene->fake.trust_pem),
        .state_dir = scene->state_dir,
        .join_token_file = scene->token_file,
        .max_offline_ms = 86'400'000,
        .device =
            {
                .tcti = scene->chip.tcti,
                .state_dir = scene->state_dir,
                .counter_index = 0x01800050,
                .busy_timeout_ms = 10'000,
                .owner_auth_file = scene->owner_file[0] ? scene->owner_file : nullptr,
                .endorsement_auth_file =
                    scene->endorsement_file[0] ? scene->endorsement_file : nullptr,
            },
        .changed = on_changed,
        .changed_arg = scene,
    };
    assert_ok(agent_new(scene->loop, &settings, &scene->agent, &err));
}

static void agent_down(struct scene *scene)
{
    scene->agent = agent_free(scene->agent);
}

static int up(void **state)
{
    struct scene *scene = mem_new(1, sizeof(*scene));
    struct error err = {0};
    if (access("/usr/bin/swtpm", X_OK) != 0 || access("/usr/bin/swtpm_setup", X_OK) != 0) {
        print_message("skipped: swtpm is not installed\n");
        exit(77);
    }
    testlib_folder(scene->folder);
    (void)snprintf(scene->state_dir, sizeof(scene->state_dir), "%s/state", scene->folder);
    (void)snprintf(scene->token_file, sizeof(scene->token_file), "%s/token", scene->folder);
    assert_ok(folder_make(scene->state_dir, 0700, &err));
    assert_ok(file_write_atomic(scene->token_file, slice_str("join-me\n"), 0600, &err));
    char chip[96];
    (void)snprintf(chip, sizeof(chip), "%s/tpm", scene->folder);
    assert_ok(folder_make(chip, 0700, &err));
    assert_ok(swtpm_make(chip, &scene->chip, &err));
    assert_ok(swtpm_start(&scene->chip, &err));
    assert_ok(swtpm_extend_boot(&scene->chip, &err));
    assert_ok(loop_new(&scene->loop, &err));
    fake_up(&scene->fake, scene->loop);
    scene->fake.secret[0] = (struct fake_secret){
        .name = "db", .value = "swordfish", .allow = pod, .seq = 1, .version = 1};
    scene->fake.secret_count = 1;
    *state = scene;
    return 0;
}

static int down(void **state)
{
    struct scene *scene = *state;
    rpc_call_drop(scene->attach);
    rpc_client_free(scene->client);
    pods_free(scene->pods);
    agent_down(scene);
    fake_down(&scene->fake);
    loop_free(scene->loop);
    swtpm_kill(&scene->chip);
    testlib_folder_remove(scene->folder);
    mem_free(scene);
    return 0;
}

/* What the pod gets now; NONE and the value, or the reason. */
static bool pod_gets(struct scene *scene, const char *name, const char *value)
{
    const struct held_secret *secret;
    struct error why;
    return held_release(agent_held(scene->agent), pod, name, agent_now(scene->agent), &secret,
                        &why) &&
           slice_is(secret_slice(secret->packet.value), value);
}

static bool refused_for(struct scene *scene, const char *reason)
{
    const struct held_secret *secret;
    struct error why = {0};
    return !held_release(agent_held(scene->agent), pod, "db", agent_now(scene->agent), &secret,
                         &why) &&
           strcmp(why.reason, reason) == 0;
}

static size_t slots_on_disk(struct scene *scene, uint64_t generation)
{
    struct error err = {0};
    CLEANUP(slots_free_at) struct slots *slots = nullptr;
    assert_ok(slots_open(scene->state_dir, &slots, nullptr, &err));
    return slots_of(slots, generation);
}

static bool is_settled_1(struct scene *scene)
{
    return pod_gets(scene, "db", "swordfish") && scene->fake.confirmed == 1 &&
           scene->fake.version_confirms >= 1 && slots_on_disk(scene, 1) == 2 &&
           scene->fake.appraisals >= 2;
}

static bool is_settled_2(struct scene *scene)
{
    return pod_gets(scene, "db", "swordfish") && scene->fake.confirmed == 2 &&
           slots_on_disk(scene, 2) == 2 && scene->fake.counter == scene->fake.limit[2];
}

static bool has_second(struct scene *scene)
{
    return pod_gets(scene, "db", "second") && scene->fake.version_confirms >= 2;
}

static bool has_first(struct scene *scene)
{
    return pod_gets(scene, "db", "swordfish");
}

/* Not confirmed, perhaps. */
static bool serves_second(struct scene *scene)
{
    return pod_gets(scene, "db", "second");
}

static bool is_gone(struct scene *scene)
{
    return refused_for(scene, "SECRET_UNKNOWN");
}

static bool is_not_appraised(struct scene *scene)
{
    return refused_for(scene, "NODE_NOT_APPRAISED");
}

static bool is_contraindicated(struct scene *scene)
{
    return refused_for(scene, "NODE_CONTRAINDICATED");
}

static bool is_pending(struct scene *scene)
{
    return refused_for(scene, "NODE_PENDING");
}

static bool is_reached(struct scene *scene)
{
    return held_degraded_since(agent_held(scene->agent), agent_now(scene->agent)) == 0;
}

static bool was_asked_twice(struct scene *scene)
{
    return scene->fake.appraisals >= 2;
}

static bool was_fetched(struct scene *scene)
{
    return scene->fake.fetches >= 1;
}

static bool never(struct scene *scene)
{
    (void)scene;
    return false;
}

static void a_node_is_admitted_and_gets_its_secret(void **state)
{
    struct scene *scene = *state;
    struct swtpm_loaded loaded;
    struct error err = {0};
    agent_up(scene);
    assert_true(refused_for(scene, "NODE_NOT_APPRAISED"));
    AWAIT(scene, is_settled_1);
    assert_int_equal(scene->fake.counter, scene->fake.limit[1]);
    assert_string_equal(scene->fake.token, "join-me");
    assert_int_equal(scene->fake.tokens, 1); /* not sent again, once affirmed */
    assert_true(scene->changes > 0);
    assert_true(is_reached(scene));
    /* Rotation reaches memory and disk. */
    scene->fake.secret[0].seq = 2;
    scene->fake.secret[0].version = 2;
    scene->fake.secret[0].value = "second";
    fake_push(&scene->fake, 0);
    AWAIT(scene, has_second);
    /* A deleted name goes. */
    scene->fake.secret[0].seq = 3;
    scene->fake.secret[0].gone = true;
    fake_push(&scene->fake, 0);
    AWAIT(scene, is_gone);
    agent_down(scene);
    assert_ok(swtpm_loaded(&scene->chip, &loaded, &err));
    assert_int_equal(loaded.objects, 0);
    assert_int_equal(loaded.sessions, 0);
}

static void it_serves_while_the_authority_is_away(void **state)
{
    struct scene *scene = *state;
    agent_up(scene);
    AWAIT(scene, is_settled_1);
    agent_down(scene);
    fake_stop(&scene->fake);
    agent_up(scene);
    AWAIT(scene, has_first);
    assert_false(is_reached(scene));
    fake_start(&scene->fake);
    AWAIT(scene, is_reached);
    assert_true(has_first(scene));
}

/* Copies a file. */
static void copy(const char *from, const char *to)
{
    struct error err = {0};
    CLEANUP(buf_done) struct buf bytes;
    buf_init(&bytes, 4 * 1024 * 1024);
    assert_ok(file_read(from, &bytes, &err));
    assert_ok(file_write_atomic(to, buf_slice(&bytes), 0600, &err));
}

static void a_retired_generation_opens_no_more(void **state)
{
    struct scene *scene = *state;
    char slot[2][128], kept[2][128];
    agent_up(scene);
    AWAIT(scene, is_settled_1);
    for (size_t i = 0; i < 2; i++) {
        (void)snprintf(slot[i], sizeof(slot[i]), "%s/slot-%c", scene->state_dir, "ab"[i]);
        (void)snprintf(kept[i], sizeof(kept[i]), "%s/kept-%c", scene->folder, "ab"[i]);
        copy(slot[i], kept[i]);
    }
    uint64_t before = scene->fake.counter;
    scene->fake.offer = 2;
    fake_attest_now(&scene->fake);
    AWAIT(scene, is_settled_2);
    assert_int_equal(scene->fake.counter, before + 1);
    agent_down(scene);
    /* The new slots open; the old ones, restored, do not. */
    fake_stop(&scene->fake);
    agent_up(scene);
    AWAIT(scene, has_first);
    agent_down(scene);
    for (size_t i = 0; i < 2; i++)
        copy(kept[i], slot[i]);
    agent_up(scene);
    assert_false(await_for(scene, has_first, 3'000));
    assert_true(is_not_appraised(scene));
}

static void another_boot_state_opens_nothing(void **state)
{
    struct scene *scene = *state;
    struct error err = {0};
    agent_up(scene);
    AWAIT(scene, is_settled_1);
    agent_down(scene);
    assert_ok(swtpm_extend(&scene->chip, 7, "evil", &err));
    scene->fake.verdict = POSTERN__V1__VERDICT__VERDICT_CONTRAINDICATED;
    agent_up(scene);
    AWAIT(scene, is_contraindicated);
    assert_int_equal(agent_held(scene->agent)->count, 0);
    agent_down(scene);
    /* Back in the good state the slots are as they were. */
    assert_ok(swtpm_stop(&scene->chip, true, &err));
    assert_ok(swtpm_start(&scene->chip, &err));
    assert_ok(swtpm_extend_boot(&scene->chip, &err));
    fake_stop(&scene->fake);
    agent_up(scene);
    AWAIT(scene, has_first);
}

static void a_verdict_while_it_runs_wipes_and_heals(void **state)
{
    struct scene *scene = *state;
    agent_up(scene);
    AWAIT(scene, is_settled_1);
    scene->fake.verdict = POSTERN__V1__VERDICT__VERDICT_PENDING;
    fake_attest_now(&scene->fake);
    AWAIT(scene, is_pending);
    assert_int_equal(agent_held(scene->agent)->count, 0);
    scene->fake.verdict = POSTERN__V1__VERDICT__VERDICT_AFFIRMING;
    AWAIT(scene, has_first); /* from the slots, which the TPM still opens */
    AWAIT(scene, is_reached);
}

static bool is_attesting(struct scene *scene)
{
    return scene->fake.attest != nullptr;
}

static bool was_asked_again(struct scene *scene)
{
    return scene->fake.appraisals > scene->before;
}

/* A pending node asks as rarely as the authority wants, and at once when an operator has acted. */
static void a_pending_node_waits_for_its_operator(void **state)
{
    struct scene *scene = *state;
    struct error err = {0};
    assert_int_equal(unlink(scene->token_file), 0);
    scene->fake.verdict = POSTERN__V1__VERDICT__VERDICT_PENDING;
    scene->fake.retry_after_ms = 600'000;
    agent_up(scene);
    AWAIT(scene, is_pending);
    scene->before = scene->fake.appraisals;
    assert_false(await_for(scene, was_asked_again, 2'500));
    /* SIGHUP. */
    agent_attest_now(scene->agent);
    assert_true(await_for(scene, was_asked_again, 3'000));
    /* Twice at once: the second is not forgotten while the first is on its way. */
    scene->before = scene->fake.appraisals + 1;
    agent_attest_now(scene->agent);
    assert_true(await_for(scene, is_attesting, 3'000));
    agent_attest_now(scene->agent);
    assert_true(await_for(scene, was_asked_again, 5'000));
    assert_int_equal(scene->fake.tokens, 0);
    /* A token is written: first one that does not help, then another over it. */
    scene->before = scene->fake.appraisals;
    assert_ok(file_write_atomic(scene->token_file, slice_str("spent\n"), 0600, &err));
    assert_true(await_for(scene, was_asked_again, 5'000));
    assert_string_equal(scene->fake.token, "spent");
    scene->before = scene->fake.appraisals;
    assert_false(await_for(scene, was_asked_again, 2'500));
    scene->fake.verdict = POSTERN__V1__VERDICT__VERDICT_AFFIRMING;
    assert_ok(file_write_atomic(scene->token_file, slice_str("join-me\n"), 0600, &err));
    assert_true(await_for(scene, has_first, 8'000));
    assert_string_equal(scene->fake.token, "join-me");
    /* Once admitted, nobody looks any more. */
    AWAIT(scene, is_settled_1);
    unsigned tokens = scene->fake.tokens;
    scene->before = scene->fake.appraisals;
    assert_ok(file_write_atomic(scene->token_file, slice_str("late\n"), 0600, &err));
    assert_false(await_for(scene, was_asked_again, 2'000));
    assert_int_equal(scene->fake.tokens, tokens);
}

/* The authority has forgotten a node that it admitted once: a new token brings it back. */
static void a_node_that_is_no_longer_admitted_sends_its_token(void **state)
{
    struct scene *scene = *state;
    struct error err = {0};
    agent_up(scene);
    AWAIT(scene, is_settled_1);
    assert_int_equal(scene->fake.tokens, 1);
    scene->fake.verdict = POSTERN__V1__VERDICT__VERDICT_PENDING;
    scene->fake.retry_after_ms = 600'000;
    fake_attest_now(&scene->fake);
    AWAIT(scene, is_pending);
    scene->fake.verdict = POSTERN__V1__VERDICT__VERDICT_AFFIRMING;
    assert_ok(file_write_atomic(scene->token_file, slice_str("again\n"), 0600, &err));
    assert_true(await_for(scene, has_first, 8'000));
    assert_string_equal(scene->fake.token, "again");
}

/* ---- The machine ---- */

/* TPM2_HierarchyChangeAuth, from the empty password. */
static void set_password(struct scene *scene, uint32_t hierarchy, const char *password)
{
    struct error err = {0};
    uint8_t answer[64] = {0};
    size_t len = 0;
    CLEANUP(buf_done) struct buf command;
    buf_init(&command, 256);
    buf_put(&command, slice("\x80\x02", 2)); /* TPM_ST_SESSIONS */
    buf_put_u32(&command, (uint32_t)(10 + 4 + 4 + 9 + 2 + strlen(password)));
    buf_put_u32(&command, 0x129);
    buf_put_u32(&command, hierarchy);
    buf_put_u32(&command, 9);
    buf_put_u32(&command, 0x40000009); /* TPM_RS_PW with nothing else */
    buf_put(&command, slice("\0\0\0\0\0", 5));
    buf_put_u16(&command, (uint16_t)strlen(password));
    buf_put(&command, slice_str(password));
    assert_ok(swtpm_command(scene->chip.socket, command.data, command.len, answer, sizeof(answer),
                            &len, &err));
    assert_true(len >= 10);
    assert_memory_equal(answer + 6, "\0\0\0\0", 4);
}

static void password_file(struct scene *scene, const char *name, const char *password,
                          char ret[static 96])
{
    struct error err = {0};
    (void)snprintf(ret, 96, "%s/%s", scene->folder, name);
    assert_ok(file_write_atomic(ret, slice_str(password), 0600, &err));
}

static void hierarchies_may_have_passwords(void **state)
{
    struct scene *scene = *state;
    set_password(scene, 0x40000001, "the owner's");
    set_password(scene, 0x4000000b, "of endorsement");
    agent_up(scene);
    assert_false(await_for(scene, was_asked_again, 2'000));
    agent_down(scene);
    password_file(scene, "owner", "the owner's\n", scene->owner_file);
    password_file(scene, "endorsement", "wrong", scene->endorsement_file);
    agent_up(scene);
    assert_false(await_for(scene, was_asked_again, 2'000));
    agent_down(scene);
    password_file(scene, "endorsement", "of endorsement", scene->endorsement_file);
    agent_up(scene);
    AWAIT(scene, is_settled_1);
}

/* A full disk: pods are served from memory, nothing is confirmed that is not durable; and it heals. */
static void a_full_disk_keeps_what_was_there(void **state)
{
    struct scene *scene = *state;
    struct error err = {0};
    char ballast[128];
    if (mount("tmpfs", scene->state_dir, "tmpfs", 0, "size=256k,mode=0700") != 0) {
        print_message("skipped: cannot mount a small tmpfs: %s\n", strerror(errno));
        skip();
    }
    agent_up(scene);
    AWAIT(scene, is_settled_1);
    (void)snprintf(ballast, sizeof(ballast), "%s/ballast", scene->state_dir);
    int fd = open(ballast, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        fail_msg("cannot make %s", ballast);
    while (write(fd, "x", 1) == 1)
        ;
    close(fd);
    unsigned confirms = scene->fake.version_confirms;
    scene->fake.secret[0].seq = 2;
    scene->fake.secret[0].version = 2;
    scene->fake.secret[0].value = "second";
    fake_push(&scene->fake, 0);
    assert_true(await_for(scene, serves_second, 10'000));
    assert_false(await_for(scene, never, 1'500));
    assert_int_equal(scene->fake.version_confirms, confirms);
    assert_int_equal(slots_on_disk(scene, 1), 2); /* the old ones, whole */
    assert_int_equal(unlink(ballast), 0);
    AWAIT(scene, has_second); /* and confirmed */
    agent_down(scene);
    fake_stop(&scene->fake);
    agent_up(scene);
    AWAIT(scene, serves_second);
    agent_down(scene);
    assert_int_equal(umount(scene->state_dir), 0);
    assert_ok(folder_make(scene->state_dir, 0700, &err));
}

/* Ended and started again and again without the authority: each time the disk is enough, and the
 * authority's time goes on. */
static void it_restarts_offline_as_often_as_it_likes(void **state)
{
    struct scene *scene = *state;
    agent_up(scene);
    AWAIT(scene, is_settled_1);
    int64_t before = agent_now(scene->agent);
    fake_stop(&scene->fake);
    for (int i = 0; i < 4; i++) {
        agent_down(scene);
        agent_up(scene);
        AWAIT(scene, has_first);
        assert_true(agent_now(scene->agent) >= before);
        before = agent_now(scene->agent);
        assert_int_equal(slots_on_disk(scene, 1), 2);
    }
    fake_start(&scene->fake);
    AWAIT(scene, is_reached);
    assert_int_equal(scene->fake.confirmed, 1); /* no generation was made anew for it */
}

/* ---- What an authority may not say ---- */

static void lies_are_not_believed(void **state)
{
    struct scene *scene = *state;
    static const enum fake_lie lies[] = {FAKE_ONE_SIGNATURE, FAKE_WRONG_SIGNATURE,
                                         FAKE_OTHER_EVIDENCE, FAKE_OTHER_AGENT, FAKE_CROSSED_CA};
    for (size_t i = 0; i < ARRAY_LEN(lies); i++) {
        scene->fake.lie = lies[i];
        scene->fake.appraisals = 0;
        agent_up(scene);
        AWAIT(scene, was_asked_twice);
        assert_true(is_not_appraised(scene));
        agent_down(scene);
    }
}

static void heads_and_packets_that_lie_are_refused(void **state)
{
    struct scene *scene = *state;
    agent_up(scene);
    AWAIT(scene, is_settled_1);
    scene->fake.lie = FAKE_HEAD_UNSIGNED;
    scene->fake.secret[0].seq = 2;
    scene->fake.secret[0].gone = true;
    fake_push(&scene->fake, 0);
    assert_false(await_for(scene, never, 500));
    assert_true(has_first(scene));
    scene->fake.lie = FAKE_HONEST;
    scene->fake.secret[0].seq = 0; /* lower than the one held */
    fake_push(&scene->fake, 0);
    assert_false(await_for(scene, never, 500));
    assert_true(has_first(scene));
    scene->fake.lie = FAKE_PACKET_OF_OTHER_REQUEST;
    scene->fake.fetches = 0;
    scene->fake.secret[0] =
        (struct fake_secret){.name = "db", .value = "second", .allow = pod, .seq = 3, .version = 2};
    fake_push(&scene->fake, 0);
    AWAIT(scene, was_fetched);
    assert_false(await_for(scene, never, 300));
    assert_true(has_first(scene)); /* the version before stays */
}

/* ---- Pods: this process is the sidecar, in a cgroup made for it ---- */

static const char cgroup_root[] = "/sys/fs/cgroup/unified";

static bool move_into(const char *folder)
{
    char path[256], number[16];
    (void)snprintf(path, sizeof(path), "%s/cgroup.procs", folder);
    (void)snprintf(number, sizeof(number), "%d", (int)getpid());
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 && write(fd, number, strlen(number)) > 0;
    if (fd >= 0)
        close(fd);
    return ok;
}

static void on_state(void *arg, struct rpc_call *call, const Postern__V1__AttachResponse *message)
{
    struct scene *scene = arg;
    (void)call;
    (void)snprintf(scene->attached_as, sizeof(scene->attached_as), "%s", message->spiffe_id);
    scene->verdict = message->node->verdict;
    scene->states++;
}

static void on_attach_closed(void *arg, struct rpc_call *call, const struct error *why)
{
    struct scene *scene = arg;
    (void)call;
    scene->attach = nullptr;
    if (why)
        scene->attach_end = *why;
}

static void on_secret(void *arg, const Postern__V1__FetchSecretResponse *response,
                      const struct error *why)
{
    struct scene *scene = arg;
    scene->answered = true;
    scene->answer_error = why ? *why : (struct error){0};
    if (response)
        (void)snprintf(scene->answer, sizeof(scene->answer), "%.*s", (int)response->value.len,
                       (const char *)response->value.data);
}

static bool is_answered(struct scene *scene)
{
    return scene->answered;
}

static bool is_attached(struct scene *scene)
{
    return scene->states > 0;
}

static bool is_detached(struct scene *scene)
{
    return scene->attach == nullptr;
}

static bool heard_refusal(struct scene *scene)
{
    return scene->verdict == POSTERN__V1__VERDICT__VERDICT_CONTRAINDICATED;
}

static void ask(struct scene *scene, const char *name)
{
    Postern__V1__FetchSecretRequest request = POSTERN__V1__FETCH_SECRET_REQUEST__INIT;
    request.name = (char *)name;
    scene->answered = false;
    (void)pod_service_fetch_secret(scene->client, nullptr, &request, on_secret, scene);
    AWAIT(scene, is_answered);
}

static void map(struct scene *scene, const char *cgroup)
{
    struct error err = {0};
    Postern__V1__PodMapping mapping = POSTERN__V1__POD_MAPPING__INIT;
    Postern__V1__PodMapping *mappings[] = {&mapping};
    mapping.cgroup = (char *)cgroup;
    mapping.spiffe_id = (char *)pod;
    assert_ok(pods_map(scene->pods, mappings, 1, &err));
}

/* A connection of its own to the pods' socket, past the client; the loop has seen it afterwards. */
static int connect_raw(struct scene *scene)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/run/pod.sock", scene->folder);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        fail_msg("no socket: %s", strerror(errno));
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_false(await_for(scene, never, 50));
    return fd;
}

/* Whether the server has closed it: it speaks first, by its SETTINGS. */
static bool is_closed(int fd)
{
    char byte;
    return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) <= 0;
}

/* This pod has one connection, of the client. */
static void crowd(struct scene *scene)
{
    int fds[CALLERS_PER_POD_MAX];
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        fds[i] = connect_raw(scene);
        assert_int_equal(is_closed(fds[i]), i == ARRAY_LEN(fds) - 1);
    }
    /* Somebody else is let in. */
    assert_true(move_into(cgroup_root));
    int other = connect_raw(scene);
    assert_false(is_closed(other));
    close(other);
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        close(fds[i]);
}

static void serve_pods(struct scene *scene, const char *cgroup)
{
    static const struct rpc_call_events events = {.closed = on_attach_closed};
    Postern__V1__AttachRequest attach = POSTERN__V1__ATTACH_REQUEST__INIT;
    const struct rpc_client_options options = {0};
    struct address address = {.kind = ADDRESS_UNIX};
    struct error err = {0};
    (void)snprintf(address.host, sizeof(address.host), "%s/run/pod.sock", scene->folder);
    assert_ok(pods_new(scene->loop, address.host, scene->agent, &scene->pods, &err));
    assert_ok(rpc_client_new(scene->loop, &address, &options, &scene->client, &err));

    /* Nobody is mapped yet. */
    ask(scene, "db");
    assert_int_equal(scene->answer_error.class, ERROR_DENIED);
    assert_string_equal(scene->answer_error.reason, "POD_UNKNOWN");
    assert_null(strstr(scene->answer_error.message, cgroup));

    map(scene, cgroup);
    scene->attach = pod_service_attach(scene->client, nullptr, &attach, on_state, &events, scene);
    AWAIT(scene, is_attached);
    assert_string_equal(scene->attached_as, pod);
    ask(scene, "db");
    assert_string_equal(scene->answer, "swordfish");
    ask(scene, "other");
    assert_string_equal(scene->answer_error.reason, "SECRET_UNKNOWN");
    crowd(scene);
    char folder[256];
    (void)snprintf(folder, sizeof(folder), "%s%s", cgroup_root, cgroup);
    assert_true(move_into(folder));
    int again = connect_raw(scene); /* there is room again */
    assert_false(is_closed(again));
    close(again);
    scene->fake.verdict = POSTERN__V1__VERDICT__VERDICT_CONTRAINDICATED;
    fake_attest_now(&scene->fake);
    AWAIT(scene, heard_refusal);
    ask(scene, "db");
    assert_string_equal(scene->answer_error.reason, "NODE_CONTRAINDICATED");
    assert_int_equal(scene->answer_error.class, ERROR_CONFLICT);

    /* A process that was moved is somebody else from the next call on, on the same connection. */
    assert_true(move_into(cgroup_root));
    ask(scene, "db");
    assert_string_equal(scene->answer_error.reason, "POD_UNKNOWN");
    /* And a reload ends the streams of those who are no longer in it. */
    map(scene, "/somebody/else");
    AWAIT(scene, is_detached);
    assert_string_equal(scene->attach_end.reason, "POD_UNKNOWN");
}

static void pods_are_known_by_their_cgroup(void **state)
{
    struct scene *scene = *state;
    char folder[128];
    (void)snprintf(folder, sizeof(folder), "%s/postern-agent-%d", cgroup_root, (int)getpid());
    if (mkdir(folder, 0755) != 0) {
        print_message("skipped: cannot make the cgroup %s\n", folder);
        skip();
    }
    if (!move_into(folder)) {
        rmdir(folder);
        print_message("skipped: cannot move into %s\n", folder);
        skip();
    }
    agent_up(scene);
    AWAIT(scene, is_settled_1);
    serve_pods(scene, folder + strlen(cgroup_root));
    assert_true(move_into(cgroup_root));
    /* The TPM emulator was started before, so nobody is left in it. */
    assert_int_equal(rmdir(folder), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_node_is_admitted_and_gets_its_secret, up, down),
        cmocka_unit_test_setup_teardown(it_serves_while_the_authority_is_away, up, down),
        cmocka_unit_test_setup_teardown(a_retired_generation_opens_no_more, up, down),
        cmocka_unit_test_setup_teardown(another_boot_state_opens_nothing, up, down),
        cmocka_unit_test_setup_teardown(a_verdict_while_it_runs_wipes_and_heals, up, down),
        cmocka_unit_test_setup_teardown(a_pending_node_waits_for_its_operator, up, down),
        cmocka_unit_test_setup_teardown(a_node_that_is_no_longer_admitted_sends_its_token, up,
                                        down),
        cmocka_unit_test_setup_teardown(hierarchies_may_have_passwords, up, down),
        cmocka_unit_test_setup_teardown(a_full_disk_keeps_what_was_there, up, down),
        cmocka_unit_test_setup_teardown(it_restarts_offline_as_often_as_it_likes, up, down),
        cmocka_unit_test_setup_teardown(lies_are_not_believed, up, down),
        cmocka_unit_test_setup_teardown(heads_and_packets_that_lie_are_refused, up, down),
        cmocka_unit_test_setup_teardown(pods_are_known_by_their_cgroup, up, down),
    };
    tpm_setup();
    return cmocka_run_group_tests_name("agent", tests, nullptr, nullptr);
}
