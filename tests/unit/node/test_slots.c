#include "testlib/testlib.h"

#include "base/crypt.h"
#include "base/file.h"
#include "base/mem.h"
#include "keyring/envelope.h"
#include "packet.h"
#include "pb/message.h"
#include "sealed.h"

#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const char agent_id[] = "00112233445566778899aabbccddeeff";

/* A generation as if it had been imported and unsealed. */
static void make_generation(uint64_t number, struct generation *ret)
{
    struct error err = {0};
    generation_init(ret);
    ret->number = number;
    ret->limit = number + 10;
    ret->seal.count = 1;
    ret->seal.bank[0] = (struct pcr_bank){.alg = TPM2_ALG_SHA256, .mask = 0x95};
    buf_put(&ret->counter_name, slice_str("counter"));
    buf_put(&ret->object_public, slice_str("public"));
    buf_put(&ret->object_private, slice_str("private"));
    buf_put(&ret->offer, slice_str("offer"));
    assert_ok(secret_random(NODE_KEY_SIZE, &ret->key, &err));
}

/* A held secret whose packet is sealed under the generation, as the authority would. */
static void put(struct held *held, const struct generation *generation, const char *name,
                const char *value)
{
    struct error err = {0};
    uint8_t salt[ENVELOPE_SALT_SIZE] = {1}, r[32] = {2};
    bool changed;
    Postern__V1__HeadBody body = POSTERN__V1__HEAD_BODY__INIT;
    Postern__V1__PacketHeader header = POSTERN__V1__PACKET_HEADER__INIT;
    Postern__V1__SecretPlain plain = POSTERN__V1__SECRET_PLAIN__INIT;
    CLEANUP(buf_done) struct buf head_bytes, header_bytes, plain_bytes, sealed;
    buf_init(&head_bytes, 4096);
    buf_init(&header_bytes, 4096);
    buf_init(&plain_bytes, SECRET_MAX);
    buf_init(&sealed, SECRET_MAX + 64);
    body.name = header.name = (char *)name;
    body.epoch = header.epoch = 1;
    body.seq = 1;
    body.version = header.version = 1;
    header.agent_id = (char *)agent_id;
    header.generation = generation->number;
    header.request_nonce = (ProtobufCBinaryData){.data = salt, .len = 16};
    header.salt = (ProtobufCBinaryData){.data = salt, .len = sizeof(salt)};
    plain.r = (ProtobufCBinaryData){.data = r, .len = sizeof(r)};
    plain.value = (ProtobufCBinaryData){.data = (uint8_t *)value, .len = strlen(value)};
    assert_ok(pb_pack(&body.base, 4096, &head_bytes, &err));
    assert_ok(pb_pack(&header.base, 4096, &header_bytes, &err));
    assert_ok(pb_pack(&plain.base, SECRET_MAX, &plain_bytes, &err));
    assert_ok(envelope_seal(ENVELOPE_PACKET, generation->key, buf_slice(&header_bytes),
                            SLICE_OF(salt), buf_slice(&plain_bytes), &sealed, &err));
    CLEANUP(head_done) struct head head;
    CLEANUP(packet_done) struct packet packet;
    CLEANUP(mem_free_at) char *told = nullptr;
    head_init(&head);
    packet_init(&packet);
    assert_ok(head_parse(buf_slice(&head_bytes), &head, &err));
    assert_ok(packet_reopen(buf_slice(&header_bytes), buf_slice(&sealed), generation->key, &packet,
                            &told, &err));
    assert_ok(held_put_head(held, &head, &changed, &err));
    assert_ok(held_put_packet(held, name, &packet, &err));
}

static void appraise(struct held *held)
{
    struct error err = {0};
    Postern__V1__AppraisalBody body = POSTERN__V1__APPRAISAL_BODY__INIT;
    CLEANUP(buf_done) struct buf bytes;
    const struct moment came = {.wall_ms = 7, .boot_ms = 8, .boot_id = "this-boot"};
    buf_init(&bytes, 4096);
    body.agent_id = (char *)agent_id;
    body.verdict = POSTERN__V1__VERDICT__VERDICT_AFFIRMING;
    body.releases = true;
    body.appraised_at_ms = 1000;
    body.expires_at_ms = 2000;
    assert_ok(pb_pack(&body.base, 4096, &bytes, &err));
    assert_ok(held_appraise(held, &body, buf_slice(&bytes), &came, &err));
    (void)snprintf(held->agent_id, sizeof(held->agent_id), "%s", agent_id);
}

struct scene {
    char folder[64];
    struct generation generation;
    struct held held;
    struct slots *slots;
};

static int up(void **state)
{
    struct scene *scene = mem_new(1, sizeof(*scene));
    struct error err = {0};
    testlib_folder(scene->folder);
    make_generation(3, &scene->generation);
    held_init(&scene->held, 1000, 1);
    appraise(&scene->held);
    put(&scene->held, &scene->generation, "db", "swordfish");
    assert_ok(slots_open(scene->folder, &scene->slots, nullptr, &err));
    *state = scene;
    return 0;
}

static int down(void **state)
{
    struct scene *scene = *state;
    slots_free(scene->slots);
    generation_done(&scene->generation);
    held_done(&scene->held);
    testlib_folder_remove(scene->folder);
    mem_free(scene);
    return 0;
}

static void reopen(struct scene *scene, struct error damage[SLOT_COUNT])
{
    struct error err = {0};
    scene->slots = slots_free(scene->slots);
    assert_ok(slots_open(scene->folder, &scene->slots, damage, &err));
}

/* All parts of writing, one after another. */
static bool sealed_write(struct slots *slots, const struct generation *generation,
                         struct held *held, bool keep_other, struct error *err)
{
    CLEANUP(slot_write_done) struct slot_write write;
    slot_write_init(&write);
    if (!sealed_prepare(slots, generation, held, keep_other, &write, err))
        return false;
    if (!slot_write_run(&write, err)) {
        sealed_undo(held);
        return false;
    }
    slots_written(slots, &write);
    return true;
}

/* Opens the i-th newest into a fresh struct held. */
static bool read_back(struct scene *scene, size_t i, struct held *ret, struct error *err)
{
    Postern__V1__NodeState *slot_state = nullptr;
    Postern__V1__SlotPackets *packets = nullptr;
    Postern__V1__AppraisalBody *appraisal = nullptr;
    held_init(ret, 1000, 1);
    if (!slots_open_state(scene->slots, i, scene->generation.key, &slot_state, &packets, err))
        return false;
    bool ok = sealed_read(slot_state, packets, scene->generation.key, ret, &appraisal, err);
    pb_free(&slot_state->base);
    pb_free(&packets->base);
    if (ok) {
        assert_string_equal(appraisal->agent_id, agent_id);
        pb_free(&appraisal->base);
    }
    return ok;
}

static void a_slot_comes_back(void **state)
{
    struct scene *scene = *state;
    struct error err = {0}, damage[SLOT_COUNT] = {0};
    assert_int_equal(slots_count(scene->slots), 0);
    assert_ok(sealed_write(scene->slots, &scene->generation, &scene->held, false, &err));
    assert_true(held_find(&scene->held, "db")->durable);
    reopen(scene, damage);
    assert_int_equal(slots_count(scene->slots), 1);
    const struct generation *from = slots_generation(scene->slots, 0);
    assert_int_equal(from->number, 3);
    assert_int_equal(from->limit, 13);
    assert_true(pcr_selection_equal(&from->seal, &scene->generation.seal));
    assert_true(slice_is(buf_slice(&from->object_private), "private"));
    assert_true(slice_is(buf_slice(&from->offer), "offer"));
    CLEANUP(held_done) struct held held;
    assert_ok(read_back(scene, 0, &held, &err));
    assert_int_equal(held.count, 1);
    assert_int_equal(held.affirmed_at, 1000);
    assert_string_equal(held.affirmation_came.boot_id, "this-boot");
    assert_true(held.complete);
    const struct held_secret *secret = held_find(&held, "db");
    assert_true(slice_is(secret_slice(secret->packet.value), "swordfish"));
    assert_true(secret->durable);
    assert_false(secret->confirmed);
    /* Another key opens nothing. */
    CLEANUP(secret_free_at) struct secret *key = nullptr;
    Postern__V1__NodeState *never = POISON;
    Postern__V1__SlotPackets *packets = POISON;
    assert_ok(secret_random(NODE_KEY_SIZE, &key, &err));
    assert_fails(slots_open_state(scene->slots, 0, key, &never, &packets, &err), ERROR_DENIED);
    assert_ptr_equal(never, POISON);
    slots_let_go(scene->slots);
    assert_fails(slots_open_state(scene->slots, 0, scene->generation.key, &never, &packets, &err),
                 ERROR_CONFLICT);
}

static void slots_are_written_in_turn(void **state)
{
    struct scene *scene = *state;
    struct error err = {0};
    const char *order[4];
    for (size_t i = 0; i < ARRAY_LEN(order); i++) {
        assert_ok(sealed_write(scene->slots, &scene->generation, &scene->held, false, &err));
        order[i] = slots_name(scene->slots, 0);
    }
    assert_string_not_equal(order[0], order[1]);
    assert_string_equal(order[0], order[2]);
    assert_string_equal(order[1], order[3]);
    assert_int_equal(slots_of(scene->slots, 3), 2);
}

static void an_unconfirmed_generation_keeps_to_one_slot(void **state)
{
    struct scene *scene = *state;
    struct error err = {0};
    CLEANUP(generation_done) struct generation next;
    assert_ok(sealed_write(scene->slots, &scene->generation, &scene->held, false, &err));
    assert_ok(sealed_write(scene->slots, &scene->generation, &scene->held, false, &err));
    make_generation(4, &next);
    CLEANUP(held_done) struct held held;
    held_init(&held, 1000, 1);
    appraise(&held);
    put(&held, &next, "db", "swordfish");
    for (int i = 0; i < 3; i++) {
        assert_ok(sealed_write(scene->slots, &next, &held, true, &err));
        assert_int_equal(slots_of(scene->slots, 3), 1);
        assert_int_equal(slots_of(scene->slots, 4), 1);
        assert_int_equal(slots_generation(scene->slots, 0)->number, 4);
    }
    /* What is under the old key does not go under the new one. */
    assert_ok(sealed_write(scene->slots, &next, &scene->held, true, &err));
    assert_false(held_find(&scene->held, "db")->durable);
    assert_ok(sealed_write(scene->slots, &next, &held, false, &err));
    assert_int_equal(slots_of(scene->slots, 4), 2);
}

static void read_file(const char *path, struct buf *ret)
{
    struct error err = {0};
    buf_init(ret, 1 << 20);
    assert_ok(file_read(path, ret, &err));
}

/* The disk is slow: heads come meanwhile, and what they say is not on it. */
static void what_changes_meanwhile_is_not_durable(void **state)
{
    struct scene *scene = *state;
    struct error err = {0};
    bool changed;
    CLEANUP(slot_write_done) struct slot_write write;
    slot_write_init(&write);
    put(&scene->held, &scene->generation, "other", "x");
    assert_ok(sealed_prepare(scene->slots, &scene->generation, &scene->held, false, &write, &err));
    assert_int_equal(slots_count(scene->slots), 0); /* nothing counts before it is written */
    CLEANUP(head_done) struct head head;
    head_init(&head);
    head.name = mem_strdup("db");
    head.epoch = 1;
    head.seq = 2;
    head.version = 2;
    assert_ok(held_put_head(&scene->held, &head, &changed, &err));
    assert_ok(slot_write_run(&write, &err));
    slots_written(scene->slots, &write);
    assert_int_equal(slots_count(scene->slots), 1);
    assert_false(held_find(&scene->held, "db")->durable);
    assert_true(held_find(&scene->held, "other")->durable);
}

static void a_write_that_fails_leaves_nothing_durable(void **state)
{
    struct scene *scene = *state;
    struct error err = {0};
    assert_ok(sealed_write(scene->slots, &scene->generation, &scene->held, false, &err));
    assert_true(held_find(&scene->held, "db")->durable);
    char moved[80];
    (void)snprintf(moved, sizeof(moved), "%s.away", scene->folder);
    assert_int_equal(rename(scene->folder, moved), 0);
    assert_fails(sealed_write(scene->slots, &scene->generation, &scene->held, false, &err),
                 ERROR_NOT_FOUND);
    assert_false(held_find(&scene->held, "db")->durable);
    assert_int_equal(slots_count(scene->slots), 1); /* the one before stands */
    assert_int_equal(rename(moved, scene->folder), 0);
    assert_ok(sealed_write(scene->slots, &scene->generation, &scene->held, false, &err));
    assert_true(held_find(&scene->held, "db")->durable);
}

/* Truncated at, and flipped in, every byte: the other slot serves, and the next write repairs. */
static void a_torn_slot_is_passed_over(void **state)
{
    struct scene *scene = *state;
    struct error err = {0};
    char path[128];
    CLEANUP(buf_done) struct buf whole = {0};
    assert_ok(sealed_write(scene->slots, &scene->generation, &scene->held, false, &err));
    assert_ok(sealed_write(scene->slots, &scene->generation, &scene->held, false, &err));
    (void)snprintf(path, sizeof(path), "%s/%s", scene->folder, slots_name(scene->slots, 0));
    read_file(path, &whole);
    for (size_t at = 0; at < whole.len; at++) {
        for (int flip = 0; flip < 2; flip++) {
            struct error damage[SLOT_COUNT] = {0};
            FILE *file = fopen(path, "wb");
            whole.data[at] ^= (uint8_t)(flip ? 0x20 : 0);
            if (!file)
                fail_msg("cannot write %s", path);
            assert_int_equal(fwrite(whole.data, 1, flip ? whole.len : at, file),
                             flip ? whole.len : at);
            fclose(file);
            whole.data[at] ^= (uint8_t)(flip ? 0x20 : 0);
            reopen(scene, damage);
            assert_int_equal(slots_count(scene->slots), 1);
            assert_true((damage[0].class != ERROR_NONE) != (damage[1].class != ERROR_NONE));
        }
    }
    CLEANUP(held_done) struct held held;
    assert_ok(read_back(scene, 0, &held, &err));
    assert_int_equal(held.count, 1);
    assert_ok(sealed_write(scene->slots, &scene->generation, &scene->held, false, &err));
    reopen(scene, nullptr);
    assert_int_equal(slots_count(scene->slots), 2);
}

/* A writer is killed at any instant: one valid slot is always there, and no older than the last but
 * one. */
static void a_killed_writer_leaves_a_slot(void **state)
{
    struct scene *scene = *state;
    struct error err = {0};
    assert_ok(sealed_write(scene->slots, &scene->generation, &scene->held, false, &err));
    for (unsigned round = 0; round < 40; round++) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            /* Our secrets are not the child's: it writes an empty state under a key of its own. */
            struct generation generation;
            struct held held;
            struct error why;
            generation_init(&generation);
            generation.number = 3;
            generation.seal = scene->generation.seal;
            buf_put(&generation.counter_name, slice_str("counter"));
            buf_put(&generation.object_public, slice_str("public"));
            held_init(&held, 1, 1);
            (void)snprintf(held.agent_id, sizeof(held.agent_id), "%s", agent_id);
            buf_put(&held.affirmation, slice_str("x"));
            if (!secret_random(NODE_KEY_SIZE, &generation.key, &why))
                _exit(1);
            while (sealed_write(scene->slots, &generation, &held, false, &why))
                ;
            _exit(1);
        }
        usleep(500 + round * 211);
        kill(pid, SIGKILL);
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        struct error damage[SLOT_COUNT] = {0};
        reopen(scene, damage);
        assert_true(slots_count(scene->slots) >= 1);
        assert_int_equal(damage[0].class, ERROR_NONE);
        assert_int_equal(damage[1].class, ERROR_NONE);
    }
}

static void states_that_do_not_fit_are_refused(void **state)
{
    struct scene *scene = *state;
    struct error err = {0};
    CLEANUP(held_done) struct held held;
    Postern__V1__NodeState stored = POSTERN__V1__NODE_STATE__INIT;
    Postern__V1__SlotPackets packets = POSTERN__V1__SLOT_PACKETS__INIT;
    Postern__V1__StoredSecret secret = POSTERN__V1__STORED_SECRET__INIT;
    Postern__V1__StoredSecret *secrets[] = {&secret};
    Postern__V1__AppraisalBody *appraisal = POISON;
    uint8_t hash[SHA256_SIZE] = {0};
    const struct held_secret *from = held_find(&scene->held, "db");
    secret.head = (ProtobufCBinaryData){.data = from->head.body.data, .len = from->head.body.len};
    secret.packet_hash = (ProtobufCBinaryData){.data = hash, .len = sizeof(hash)};
    stored.n_secrets = 1;
    stored.secrets = secrets;
    held_init(&held, 1, 1);
    assert_fails(sealed_read(&stored, &packets, scene->generation.key, &held, &appraisal, &err),
                 ERROR_INVALID);
    assert_ptr_equal(appraisal, POISON);
    assert_int_equal(held.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_slot_comes_back, up, down),
        cmocka_unit_test_setup_teardown(slots_are_written_in_turn, up, down),
        cmocka_unit_test_setup_teardown(an_unconfirmed_generation_keeps_to_one_slot, up, down),
        cmocka_unit_test_setup_teardown(what_changes_meanwhile_is_not_durable, up, down),
        cmocka_unit_test_setup_teardown(a_write_that_fails_leaves_nothing_durable, up, down),
        cmocka_unit_test_setup_teardown(a_torn_slot_is_passed_over, up, down),
        cmocka_unit_test_setup_teardown(a_killed_writer_leaves_a_slot, up, down),
        cmocka_unit_test_setup_teardown(states_that_do_not_fit_are_refused, up, down),
    };
    return cmocka_run_group_tests_name("slots", tests, nullptr, nullptr);
}
