#include "testlib/testlib.h"

#include "schema.h"
#include "secret_rows.h"

#include "base/mem.h"
#include "keyring/commitment.h"
#include "pb/message.h"

#include <stdio.h>

struct world {
    char folder[64];
    struct store *store;
    struct kek *kek, *other_kek;
    struct secret *value;
};

static int world_up(void **state)
{
    struct world *world = mem_new(1, sizeof(*world));
    struct error err = {0};
    char path[96];
    assert_non_null(world);
    testlib_folder(world->folder);
    snprintf(path, sizeof(path), "%s/kek", world->folder);
    assert_ok(kek_create(path, &err));
    assert_ok(kek_open(path, &world->kek, &err));
    snprintf(path, sizeof(path), "%s/other", world->folder);
    assert_ok(kek_create(path, &err));
    assert_ok(kek_open(path, &world->other_kek, &err));
    snprintf(path, sizeof(path), "%s/db", world->folder);
    const struct store_options options = {.location = path,
                                          .migrations = authority_migrations,
                                          .migration_count = authority_migration_count};
    assert_ok(store_open(nullptr, &options, &world->store, &err));
    assert_ok(secret_from(slice_str("correct horse"), &world->value, &err));
    *state = world;
    return 0;
}

static int world_down(void **state)
{
    struct world *world = *state;
    store_free(world->store);
    kek_free(world->kek);
    kek_free(world->other_kek);
    secret_free(world->value);
    testlib_folder_remove(world->folder);
    mem_free(world);
    return 0;
}

/* A row as it would be after a change, without true signatures. */
static void make_row(const char *name, uint64_t version, uint64_t seq, struct secret_row *ret)
{
    struct error err = {0};
    Postern__V1__HeadBody head = POSTERN__V1__HEAD_BODY__INIT;
    ProtobufCMessage *message;
    secret_row_init(ret);
    head.name = (char *)name;
    head.epoch = 1;
    head.version = version;
    head.seq = seq;
    assert_ok(pb_pack(&head.base, HEAD_BODY_MAX, &ret->live.body, &err));
    buf_put(&ret->live.signatures, slice_str("signatures"));
    assert_ok(pb_unpack(&postern__v1__head_body__descriptor, buf_slice(&ret->live.body),
                        &pb_limits_strict, &message, &err));
    ret->head = (Postern__V1__HeadBody *)message;
    ret->changed_at_ms = 5;
}

static void test_names(void **state)
{
    (void)state;
    struct error err = {0};
    char name[SECRET_NAME_MAX + 2];
    const char *good[] = {"a", "0", "-", ".", "_", "/", "billing/db.password_2"};
    const char *bad[] = {"", "A", "a b", "a\n", "\xc3\xa9", "a\\b", "a:b", "a*"};
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        assert_ok(secret_name_check(good[i], &err));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_fails(secret_name_check(bad[i], &err), ERROR_INVALID);
    memset(name, 'a', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    assert_fails(secret_name_check(name, &err), ERROR_INVALID);
    assert_ok(secret_name_check(name + 1, &err));
}

/* ---- Versions ---- */

struct open_case {
    struct world *world;
    const struct kek *kek;
    const char *name;
    uint64_t number;
    struct secret *opened;
};

static bool run_open(struct tx *tx, void *arg, struct error *err)
{
    struct open_case *in = arg;
    return version_open(tx, in->kek, in->name, 1, in->number, &in->opened, err);
}

static bool run_two_versions(struct tx *tx, void *arg, struct error *err)
{
    struct world *world = arg;
    for (uint64_t number = 1; number <= 2; number++) {
        CLEANUP(secret_row_done) struct secret_row row;
        CLEANUP(sealed_version_done) struct sealed_version version;
        make_row("a", number, number, &row);
        sealed_version_init(&version);
        if (!version_seal(world->kek, "a", 1, number, world->value, &version, err) ||
            !secret_row_put(tx, &row, "me", err) ||
            !version_put(tx, "a", 1, number, &version, 7, err))
            return false;
    }
    return true;
}

static bool run_swap(struct tx *tx, void *arg, struct error *err)
{
    return tx_exec(tx, arg, SQL_NONE, err);
}

static bool run_commitment(struct tx *tx, void *arg, struct error *err)
{
    return version_commitment(tx, "a", 1, 1, arg, err);
}

static void test_versions(void **state)
{
    struct world *world = *state;
    struct error err = {0};
    uint8_t commitment[SHA256_SIZE];
    assert_ok(store_transact_now(world->store, run_two_versions, world, 0, &err));
    struct open_case live = {.world = world, .kek = world->kek, .name = "a", .number = 2};
    assert_ok(store_transact_now(world->store, run_open, &live, 0, &err));
    struct slice plain = secret_slice(live.opened);
    assert_true(slice_is(slice(plain.data + COMMITMENT_R_SIZE, plain.len - COMMITMENT_R_SIZE),
                         "correct horse"));
    secret_free(live.opened);

    /* The older one's value is gone, what it was is not. */
    struct open_case older = {
        .world = world, .kek = world->kek, .name = "a", .number = 1, .opened = POISON};
    assert_fails(store_transact_now(world->store, run_open, &older, 0, &err), ERROR_INTERNAL);
    assert_ptr_equal(older.opened, POISON);
    assert_ok(store_transact_now(world->store, run_commitment, commitment, 0, &err));

    struct open_case wrong = live;
    wrong.kek = world->other_kek;
    wrong.opened = POISON;
    assert_fails(store_transact_now(world->store, run_open, &wrong, 0, &err), ERROR_INTERNAL);
    assert_string_equal(err.reason, "KEK_MISMATCH");
    assert_ptr_equal(wrong.opened, POISON);
}

/* No row stands in for another: neither its key nor its value. */
static void test_moved_rows(void **state)
{
    struct world *world = *state;
    struct error err = {0};
    static const char key[] = "UPDATE secret_version SET sealed = zeroblob(61) WHERE version = 2";
    static const char version[] = "UPDATE secret_version SET version = 3 WHERE version = 2";
    assert_ok(store_transact_now(world->store, run_swap, (char *)version, 0, &err));
    struct open_case moved = {
        .world = world, .kek = world->kek, .name = "a", .number = 3, .opened = POISON};
    assert_fails(store_transact_now(world->store, run_open, &moved, 0, &err), ERROR_INTERNAL);
    assert_string_equal(err.reason, "KEK_MISMATCH");
    static const char back[] = "UPDATE secret_version SET version = 2 WHERE version = 3";
    assert_ok(store_transact_now(world->store, run_swap, (char *)back, 0, &err));
    assert_ok(store_transact_now(world->store, run_swap, (char *)key, 0, &err));
    moved.number = 2;
    assert_fails(store_transact_now(world->store, run_open, &moved, 0, &err), ERROR_INTERNAL);
    assert_string_equal(err.reason, "SECRET_DAMAGED");
    assert_ptr_equal(moved.opened, POISON);
}

static bool seal_once(void *arg, struct error *err)
{
    struct world *world = arg;
    CLEANUP(sealed_version_done) struct sealed_version version;
    sealed_version_init(&version);
    return version_seal(world->kek, "a", 1, 1, world->value, &version, err);
}

static void test_seal_without_memory(void **state)
{
    testlib_allocation_sweep(seal_once, *state);
}

/* ---- Limits of all names ---- */

static bool run_many(struct tx *tx, void *arg, struct error *err)
{
    (void)arg;
    for (int64_t i = 0; i <= SECRETS_MAX; i++) {
        CLEANUP(secret_row_done) struct secret_row row;
        char name[16];
        snprintf(name, sizeof(name), "n%lld", (long long)i);
        make_row(name, 1, 1, &row);
        if (!secret_row_put(tx, &row, "me", err)) {
            assert_true(i >= SECRETS_MAX - 1); /* "a" is there from before */
            return false;
        }
    }
    return true;
}

static bool run_long(struct tx *tx, void *arg, struct error *err)
{
    (void)arg;
    char *ids[SECRET_ALLOW_MAX];
    char id[2000];
    memset(id, 'a', sizeof(id) - 1);
    id[sizeof(id) - 1] = '\0';
    for (size_t i = 0; i < SECRET_ALLOW_MAX; i++)
        ids[i] = id;
    for (unsigned i = 0; i < 64; i++) {
        CLEANUP(secret_row_done) struct secret_row row;
        char name[16];
        snprintf(name, sizeof(name), "long%u", i);
        make_row(name, 1, 1, &row);
        Postern__V1__HeadBody head = *row.head;
        head.n_allow = SECRET_ALLOW_MAX;
        head.allow = ids;
        buf_clear(&row.live.body);
        if (!pb_pack(&head.base, HEAD_BODY_MAX, &row.live.body, err) ||
            !secret_row_put(tx, &row, "me", err))
            return false;
    }
    return true;
}

static void test_limits(void **state)
{
    struct world *world = *state;
    struct error err = {0};
    assert_fails(store_transact_now(world->store, run_many, nullptr, 60'000, &err),
                 ERROR_EXHAUSTED);
    assert_string_equal(err.reason, "TOO_MANY_SECRETS");
    assert_fails(store_transact_now(world->store, run_long, nullptr, 60'000, &err),
                 ERROR_EXHAUSTED);
    assert_string_equal(err.reason, "ALLOW_LISTS_TOO_LONG");
}

static bool run_get_none(struct tx *tx, void *arg, struct error *err)
{
    (void)arg;
    CLEANUP(secret_row_done) struct secret_row row;
    secret_row_init(&row);
    return secret_row_get(tx, "none", &row, err);
}

static void test_unknown(void **state)
{
    struct world *world = *state;
    struct error err = {0};
    assert_fails(store_transact_now(world->store, run_get_none, nullptr, 0, &err), ERROR_NOT_FOUND);
    assert_string_equal(err.reason, "SECRET_UNKNOWN");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),      cmocka_unit_test(test_versions),
        cmocka_unit_test(test_moved_rows), cmocka_unit_test(test_seal_without_memory),
        cmocka_unit_test(test_limits),     cmocka_unit_test(test_unknown),
    };
    return cmocka_run_group_tests(tests, world_up, world_down);
}
