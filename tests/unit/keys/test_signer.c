#include "testlib/testlib.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "keys/signer.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SIGNING_KEY = 1, KEK = 2, OTHER_KEK = 3 };

struct bench {
    struct loop *loop;
    struct signer *signer;
    struct key *key;
    char folder[64], kek[128], kek_uri[160], other_kek[128], other_kek_uri[160];
    int left;
};

/* What a request answered. */
struct answer {
    struct bench *bench;
    int count;
    struct buf bytes;
    struct secret *secret;
    struct error err;
    bool free_signer;
};

static void answered(struct answer *answer, const struct error *err)
{
    answer->count++;
    if (err)
        answer->err = *err;
    if (answer->free_signer)
        answer->bench->signer = signer_free(answer->bench->signer);
    if (--answer->bench->left == 0)
        loop_stop(answer->bench->loop);
}

static void on_bytes(void *arg, struct slice bytes, const struct error *err)
{
    struct answer *answer = arg;
    assert_true((bytes.len > 0) == (err == nullptr));
    if (bytes.len > 0)
        buf_put(&answer->bytes, bytes);
    answered(answer, err);
}

static void on_secret(void *arg, struct secret *secret, const struct error *err)
{
    struct answer *answer = arg;
    assert_true((secret != nullptr) == (err == nullptr));
    answer->secret = secret;
    answered(answer, err);
}

static struct answer answer_for(struct bench *bench)
{
    struct answer answer = {.bench = bench};
    buf_init(&answer.bytes, 65'536);
    return answer;
}

static void answer_done(struct answer *answer)
{
    buf_done(&answer->bytes);
    secret_free(answer->secret);
}

static void bench_init(struct bench *bench)
{
    struct error err = {0};
    *bench = (struct bench){0};
    testlib_folder(bench->folder);
    (void)snprintf(bench->kek, sizeof bench->kek, "%s/kek", bench->folder);
    (void)snprintf(bench->kek_uri, sizeof bench->kek_uri, "file:%s", bench->kek);
    (void)snprintf(bench->other_kek, sizeof bench->other_kek, "%s/other", bench->folder);
    (void)snprintf(bench->other_kek_uri, sizeof bench->other_kek_uri, "file:%s", bench->other_kek);
    assert_ok(signer_make_kek(bench->kek, &err));
    assert_ok(signer_make_kek(bench->other_kek, &err));
    assert_ok(loop_new(&bench->loop, &err));
    assert_ok(signer_new(bench->loop, 4, &bench->signer, &err));
    assert_ok(key_generate(KEY_P384, &bench->key, &err));
    assert_ok(signer_add_key(bench->signer, SIGNING_KEY, bench->key, &err));
    assert_ok(signer_add_kek(bench->signer, KEK, bench->kek_uri, &err));
    assert_ok(signer_add_kek(bench->signer, OTHER_KEK, bench->other_kek_uri, &err));
}

static void bench_done(struct bench *bench)
{
    signer_free(bench->signer);
    loop_free(bench->loop);
    key_unref(bench->key);
    testlib_folder_remove(bench->folder);
}

static void run(struct bench *bench, int answers)
{
    bench->left = answers;
    loop_run(bench->loop);
    assert_int_equal(bench->left, 0);
}

static void signs(void **state)
{
    (void)state;
    struct error err = {0};
    struct bench bench;
    bench_init(&bench);
    struct answer answer = answer_for(&bench);
    char text[] = "sign this";
    assert_ok(signer_sign(bench.signer, SIGNING_KEY, slice_str(text), clock_boot_ms() + 60'000,
                          on_bytes, &answer, &err));
    text[0] = 'X'; /* it was copied */
    assert_int_equal(answer.count, 0);
    run(&bench, 1);
    assert_int_equal(answer.count, 1);
    assert_ok(key_verify(bench.key, slice_str("sign this"), buf_slice(&answer.bytes), &err));
    answer_done(&answer);
    bench_done(&bench);
}

/* Wraps a data key under KEK and a context; returns it. */
static struct secret *wrap(struct bench *bench, const char *context, struct answer *answer)
{
    struct error err = {0};
    struct secret *data_key;
    assert_ok(secret_random(SIGNER_DATA_KEY_SIZE, &data_key, &err));
    assert_ok(
        signer_wrap(bench->signer, KEK, slice_str(context), data_key, 0, on_bytes, answer, &err));
    run(bench, 1);
    assert_int_equal(answer->bytes.len, SIGNER_WRAPPED_SIZE);
    return data_key;
}

static void unwrap_fails(struct bench *bench, uint32_t id, const char *context,
                         struct slice wrapped, enum error_class class, const char *says)
{
    struct error err = {0};
    struct answer answer = answer_for(bench);
    assert_ok(
        signer_unwrap(bench->signer, id, slice_str(context), wrapped, 0, on_secret, &answer, &err));
    run(bench, 1);
    assert_null(answer.secret);
    err = answer.err;
    assert_fails(false, class);
    assert_error_contains(says);
    answer_done(&answer);
}

static void wraps_and_unwraps(void **state)
{
    (void)state;
    struct error err = {0};
    struct bench bench;
    bench_init(&bench);
    struct answer wrapped = answer_for(&bench), again = answer_for(&bench),
                  opened = answer_for(&bench);
    struct secret *data_key = wrap(&bench, "db-password v1", &wrapped);
    assert_null(memmem(wrapped.bytes.data, wrapped.bytes.len, secret_data(data_key), 8));
    assert_ok(signer_unwrap(bench.signer, KEK, slice_str("db-password v1"),
                            buf_slice(&wrapped.bytes), 0, on_secret, &opened, &err));
    run(&bench, 1);
    assert_true(secret_equal(opened.secret, data_key));

    /* The same key again is other bytes: a fresh IV. */
    assert_ok(signer_wrap(bench.signer, KEK, slice_str("db-password v1"), data_key, 0, on_bytes,
                          &again, &err));
    run(&bench, 1);
    assert_false(slice_equal(buf_slice(&wrapped.bytes), buf_slice(&again.bytes)));

    unwrap_fails(&bench, OTHER_KEK, "db-password v1", buf_slice(&wrapped.bytes), ERROR_DENIED,
                 "cannot unwrap");
    unwrap_fails(&bench, KEK, "db-password v2", buf_slice(&wrapped.bytes), ERROR_DENIED,
                 "cannot unwrap");
    unwrap_fails(&bench, KEK, "", buf_slice(&wrapped.bytes), ERROR_DENIED, "cannot unwrap");
    for (size_t i = 0; i < SIGNER_WRAPPED_SIZE; i++) {
        wrapped.bytes.data[i] ^= 0x40;
        unwrap_fails(&bench, KEK, "db-password v1", buf_slice(&wrapped.bytes),
                     i == 0 ? ERROR_INVALID : ERROR_DENIED, i == 0 ? "unknown version" : "unwrap");
        wrapped.bytes.data[i] ^= 0x40;
    }
    secret_free(data_key);
    answer_done(&wrapped);
    answer_done(&again);
    answer_done(&opened);
    bench_done(&bench);
}

static void wrong_requests_are_refused_at_once(void **state)
{
    (void)state;
    struct error err = {0};
    struct bench bench;
    bench_init(&bench);
    struct answer answer = answer_for(&bench);
    static const uint8_t bytes[SIGNER_BYTES_MAX + 1];
    struct slice text = slice_str("x"), none = slice(nullptr, 0);
    struct secret *key, *longer;
    assert_ok(secret_random(SIGNER_DATA_KEY_SIZE, &key, &err));
    assert_ok(secret_random(SIGNER_DATA_KEY_SIZE + 1, &longer, &err));

    assert_fails(signer_sign(bench.signer, 99, text, 0, on_bytes, &answer, &err), ERROR_NOT_FOUND);
    assert_fails(signer_sign(bench.signer, KEK, text, 0, on_bytes, &answer, &err),
                 ERROR_NOT_FOUND); /* a KEK does not sign … */
    assert_fails(signer_wrap(bench.signer, SIGNING_KEY, text, key, 0, on_bytes, &answer, &err),
                 ERROR_NOT_FOUND); /* … and a signing key does not wrap */
    assert_fails(signer_sign(bench.signer, SIGNING_KEY, none, 0, on_bytes, &answer, &err),
                 ERROR_INVALID);
    assert_fails(
        signer_sign(bench.signer, SIGNING_KEY, SLICE_OF(bytes), 0, on_bytes, &answer, &err),
        ERROR_INVALID);
    assert_error_contains("cannot sign 4259841 bytes");
    assert_fails(signer_wrap(bench.signer, KEK, text, longer, 0, on_bytes, &answer, &err),
                 ERROR_INVALID);
    assert_fails(signer_wrap(bench.signer, KEK, text, nullptr, 0, on_bytes, &answer, &err),
                 ERROR_INVALID);
    assert_fails(signer_wrap(bench.signer, KEK, slice(bytes, SIGNER_CONTEXT_MAX + 1), key, 0,
                             on_bytes, &answer, &err),
                 ERROR_INVALID);
    assert_fails(signer_unwrap(bench.signer, KEK, text, slice(bytes, SIGNER_WRAPPED_SIZE - 1), 0,
                               on_secret, &answer, &err),
                 ERROR_INVALID);
    assert_fails(signer_unwrap(bench.signer, KEK, text, slice(bytes, SIGNER_WRAPPED_SIZE + 1), 0,
                               on_secret, &answer, &err),
                 ERROR_INVALID);
    assert_int_equal(answer.count, 0);
    secret_free(key);
    secret_free(longer);
    answer_done(&answer);
    bench_done(&bench);
}

static void deadlines_and_ends_are_told(void **state)
{
    (void)state;
    struct error err = {0};
    struct bench bench;
    bench_init(&bench);
    struct answer late = answer_for(&bench), last[4], full = answer_for(&bench);
    assert_ok(signer_sign(bench.signer, SIGNING_KEY, slice_str("x"), 1, on_bytes, &late, &err));
    run(&bench, 1);
    assert_int_equal(late.err.class, ERROR_TIMEOUT);

    bench.left = 4;
    for (size_t i = 0; i < 4; i++) {
        last[i] = answer_for(&bench);
        last[i].free_signer = i == 0; /* the first to answer ends it all */
        assert_ok(
            signer_sign(bench.signer, SIGNING_KEY, slice_str("x"), 0, on_bytes, &last[i], &err));
    }
    loop_run(bench.loop);
    assert_null(bench.signer);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(last[i].count, 1);
        assert_true(last[i].bytes.len > 0 || last[i].err.class == ERROR_CANCELLED);
        answer_done(&last[i]);
    }
    assert_true(last[0].err.class == ERROR_NONE);

    /* A full queue, of a signer whose loop does not run: some of many must be refused. */
    assert_ok(signer_new(bench.loop, 1, &bench.signer, &err));
    assert_ok(signer_add_key(bench.signer, SIGNING_KEY, bench.key, &err));
    int accepted = 0;
    bool refused = false;
    while (!refused && accepted < 10'000) {
        refused = !signer_sign(bench.signer, SIGNING_KEY, slice_str("x"), 0, on_bytes, &full, &err);
        accepted += !refused;
    }
    assert_true(refused);
    assert_int_equal(err.class, ERROR_EXHAUSTED);
    bench.left = -1;
    bench.signer = signer_free(bench.signer);
    assert_int_equal(full.count, accepted);
    answer_done(&late);
    answer_done(&full);
    bench_done(&bench);
}

static void keys_are_checked_when_added(void **state)
{
    (void)state;
    struct error err = {0};
    struct bench bench;
    bench_init(&bench);
    struct answer answer = answer_for(&bench);
    struct key *public;
    struct stat st;
    CLEANUP(buf_done) struct buf der = {.max = 8192};
    assert_ok(key_public(bench.key, &der, &err));
    assert_ok(key_from_public(buf_slice(&der), &public, &err));
    assert_fails(signer_add_key(bench.signer, 9, public, &err), ERROR_INVALID);
    assert_fails(signer_add_key(bench.signer, KEK, bench.key, &err), ERROR_EXISTS);
    assert_fails(signer_add_kek(bench.signer, SIGNING_KEY, bench.kek_uri, &err), ERROR_EXISTS);
    assert_fails(signer_add_kek(bench.signer, 9, "pkcs11:object=kek", &err), ERROR_UNIMPLEMENTED);
    assert_fails(signer_add_kek(bench.signer, 9, "file:/nonexistent/kek", &err), ERROR_NOT_FOUND);
    assert_int_equal(stat(bench.kek, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(chmod(bench.kek, 0640), 0);
    assert_fails(signer_add_kek(bench.signer, 9, bench.kek_uri, &err), ERROR_DENIED);
    assert_error_contains("chmod 600");
    assert_ok(file_write_atomic(bench.kek, slice_str("too short"), 0600, &err));
    assert_fails(signer_add_kek(bench.signer, 9, bench.kek_uri, &err), ERROR_INVALID);
    assert_error_contains("9 bytes: expected 32");
    assert_fails(signer_make_kek(bench.kek, &err), ERROR_EXISTS);
    for (uint32_t i = 3; i < SIGNER_KEYS_MAX; i++)
        assert_ok(signer_add_key(bench.signer, 100 + i, bench.key, &err));
    assert_fails(signer_add_key(bench.signer, 9, bench.key, &err), ERROR_EXHAUSTED);

    assert_ok(signer_sign(bench.signer, SIGNING_KEY, slice_str("x"), 0, on_bytes, &answer, &err));
    assert_fails(signer_add_key(bench.signer, 10, bench.key, &err), ERROR_CONFLICT);
    run(&bench, 1);
    answer_done(&answer);
    key_unref(public);
    bench_done(&bench);
    assert_null(signer_free(nullptr));
}

static bool one_request(void *arg, struct error *err)
{
    struct bench *bench = arg;
    struct answer answer = {.bench = bench}; /* whose buf takes, and so allocates, nothing */
    bool ok = false;
    struct signer *signer = nullptr;
    if (signer_new(bench->loop, 4, &signer, err) &&
        signer_add_key(signer, SIGNING_KEY, bench->key, err))
        ok = signer_sign(signer, SIGNING_KEY, slice_str("x"), 0, on_bytes, &answer, err);
    if (ok) {
        run(bench, 1);
        ok = answer.err.class == ERROR_NONE;
        if (!ok)
            *err = answer.err;
    }
    signer_free(signer);
    return ok;
}

static void survives_want_of_memory(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench);
    testlib_allocation_sweep(one_request, &bench);
    bench_done(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signs),
        cmocka_unit_test(wraps_and_unwraps),
        cmocka_unit_test(wrong_requests_are_refused_at_once),
        cmocka_unit_test(deadlines_and_ends_are_told),
        cmocka_unit_test(keys_are_checked_when_added),
        cmocka_unit_test(survives_want_of_memory),
    };
    return cmocka_run_group_tests_name("signer", tests, nullptr, nullptr);
}
