#include "keys/signer.h"

#include "base/crypt.h"
#include "base/file.h"
#include "base/mem.h"
#include "keys/file_uri.h"
#include "loop/worker.h"

#include <unistd.h>

/* The numbers are those that a request would carry to another process: never reused. */
enum request_number {
    REQUEST_SIGN = 1,
    REQUEST_WRAP = 2,
    REQUEST_UNWRAP = 3,
    REQUEST_COUNT = 4,
};

constexpr uint8_t WRAPPED_VERSION = 1;
static const char WRAP_LABEL[] = "postern data key v1";

struct entry {
    uint32_t id;
    struct key *key;    /* either this … */
    struct secret *kek; /* … or this */
};

struct signer {
    struct worker *worker;
    struct entry keys[SIGNER_KEYS_MAX];
    size_t key_count;
    bool started; /* the worker's thread reads `keys` from now on: they stay as they are */
};

struct request {
    enum request_number number;
    const struct entry *with;
    struct buf context;
    struct buf bytes;      /* of signing and unwrapping */
    struct secret *secret; /* of wrapping; the answer of unwrapping */
    struct buf answer;
    signer_done *done;
    signer_opened *opened;
    void *arg;
};

/* ── On the worker's thread ─────────────────────────────────────────────────── */

static bool do_sign(struct request *request, struct error *err)
{
    return key_sign(request->with->key, buf_slice(&request->bytes), &request->answer, err);
}

/* What is authenticated beside the data key. */
static bool wrap_aad(const struct request *request, struct buf *ret, struct error *err)
{
    buf_init(ret, sizeof WRAP_LABEL + SIGNER_CONTEXT_MAX + 16);
    buf_put_prefixed(ret, slice_str(WRAP_LABEL));
    buf_put_prefixed(ret, buf_slice(&request->context));
    return buf_ok(ret, err);
}

static bool do_wrap(struct request *request, struct error *err)
{
    CLEANUP(buf_done) struct buf aad = {0};
    uint8_t iv[AEAD_IV_SIZE];
    if (!wrap_aad(request, &aad, err) || !random_bytes(iv, sizeof iv, err))
        return false;
    buf_put_u8(&request->answer, WRAPPED_VERSION);
    buf_put(&request->answer, SLICE_OF(iv));
    return aead_seal(secret_slice(request->with->kek), SLICE_OF(iv), buf_slice(&aad),
                     secret_slice(request->secret), &request->answer, err);
}

static bool do_unwrap(struct request *request, struct error *err)
{
    CLEANUP(buf_done) struct buf aad = {0};
    struct reader r = reader(buf_slice(&request->bytes));
    uint8_t version = reader_u8(&r);
    struct slice iv = reader_take(&r, AEAD_IV_SIZE);
    if (version != WRAPPED_VERSION)
        return error_set(err, ERROR_INVALID, "a wrapped key of the unknown version %u", version);
    if (!wrap_aad(request, &aad, err))
        return false;
    return aead_open(secret_slice(request->with->kek), iv, buf_slice(&aad), r.rest,
                     &request->secret, err) ||
           error_prefix(err, "cannot unwrap the data key: another key-encryption key, or changed");
}

/* ── The table ──────────────────────────────────────────────────────────────── */

static const struct {
    const char *name;
    bool (*run)(struct request *request, struct error *err);
    bool needs_kek;              /* else a private key */
    size_t bytes_min, bytes_max; /* of what is signed, wrapped or unwrapped */
    size_t answer_max;
} REQUESTS[REQUEST_COUNT] = {
    [REQUEST_SIGN] = {"sign", do_sign, false, 1, SIGNER_BYTES_MAX, KEY_SIGNATURE_MAX},
    [REQUEST_WRAP] = {"wrap", do_wrap, true, SIGNER_DATA_KEY_SIZE, SIGNER_DATA_KEY_SIZE,
                      SIGNER_WRAPPED_SIZE},
    [REQUEST_UNWRAP] = {"unwrap", do_unwrap, true, SIGNER_WRAPPED_SIZE, SIGNER_WRAPPED_SIZE, 0},
};

static struct request *request_free(struct request *request)
{
    if (!request)
        return nullptr;
    buf_done(&request->context);
    buf_done(&request->bytes);
    buf_done(&request->answer);
    secret_free(request->secret);
    return mem_free(request);
}
DEFINE_CLEANUP(request_free, struct request)

static bool run_request(void *arg, struct error *err)
{
    struct request *request = arg;
    return REQUESTS[request->number].run(request, err);
}

static void request_done(void *arg, bool ok, const struct error *err)
{
    struct request *request = arg;
    if (request->opened)
        request->opened(request->arg, ok ? TAKE(request->secret) : nullptr, err);
    else
        request->done(request->arg, ok ? buf_slice(&request->answer) : slice(nullptr, 0), err);
    request_free(request);
}

static const struct entry *find(const struct signer *signer, uint32_t id, bool kek)
{
    for (size_t i = 0; i < signer->key_count; i++) {
        const struct entry *entry = &signer->keys[i];
        if (entry->id == id && (kek ? entry->kek != nullptr : entry->key != nullptr))
            return entry;
    }
    return nullptr;
}

/* Checks against the table, copies, submits. `ask` is the request as far as the caller knows it;
 * its bytes and secret are borrowed here. */
static bool submit(struct signer *signer, uint32_t id, struct request ask, struct slice context,
                   struct slice bytes, uint64_t deadline, struct error *err)
{
    const typeof(REQUESTS[0]) *row = &REQUESTS[ask.number];
    if (bytes.len < row->bytes_min || bytes.len > row->bytes_max)
        return error_set(err, ERROR_INVALID, "cannot %s %zu bytes: expected %zu to %zu", row->name,
                         bytes.len, row->bytes_min, row->bytes_max);
    if (context.len > SIGNER_CONTEXT_MAX)
        return error_set(err, ERROR_INVALID, "cannot %s: a context of %zu bytes, at most %zu",
                         row->name, context.len, SIGNER_CONTEXT_MAX);
    ask.with = find(signer, id, row->needs_kek);
    if (!ask.with)
        return error_set(err, ERROR_NOT_FOUND, "cannot %s: there is no such key %u", row->name, id);

    CLEANUP(request_free_at) struct request *request = mem_new(1, sizeof *request);
    if (!request)
        return error_set_memory(err);
    *request = ask;
    buf_init(&request->context, SIGNER_CONTEXT_MAX);
    buf_init(&request->bytes, SIGNER_BYTES_MAX);
    buf_init(&request->answer, row->answer_max);
    buf_put(&request->context, context);
    if (request->number == REQUEST_WRAP) {
        if (!secret_from(bytes, &request->secret, err))
            return false;
    } else {
        buf_put(&request->bytes, bytes);
    }
    if (!buf_ok(&request->context, err) || !buf_ok(&request->bytes, err) ||
        !worker_submit(signer->worker, run_request, request_done, request, deadline, err))
        return false;
    signer->started = true;
    (void)TAKE(request);
    return true;
}

bool signer_sign(struct signer *signer, uint32_t id, struct slice bytes, uint64_t deadline,
                 signer_done *done, void *arg, struct error *err)
{
    struct request ask = {.number = REQUEST_SIGN, .done = done, .arg = arg};
    return submit(signer, id, ask, slice(nullptr, 0), bytes, deadline, err);
}

bool signer_wrap(struct signer *signer, uint32_t id, struct slice context,
                 const struct secret *data_key, uint64_t deadline, signer_done *done, void *arg,
                 struct error *err)
{
    struct request ask = {.number = REQUEST_WRAP, .done = done, .arg = arg};
    return submit(signer, id, ask, context, secret_slice(data_key), deadline, err);
}

bool signer_unwrap(struct signer *signer, uint32_t id, struct slice context, struct slice wrapped,
                   uint64_t deadline, signer_opened *done, void *arg, struct error *err)
{
    struct request ask = {.number = REQUEST_UNWRAP, .opened = done, .arg = arg};
    return submit(signer, id, ask, context, wrapped, deadline, err);
}

/* ── Keys ───────────────────────────────────────────────────────────────────── */

static bool may_add(const struct signer *signer, uint32_t id, struct error *err)
{
    if (signer->started)
        return error_set(err, ERROR_CONFLICT, "keys are added before the first request");
    if (find(signer, id, true) || find(signer, id, false))
        return error_set(err, ERROR_EXISTS, "there is a key %u already", id);
    if (signer->key_count == SIGNER_KEYS_MAX)
        return error_set(err, ERROR_EXHAUSTED, "more than %zu keys", SIGNER_KEYS_MAX);
    return true;
}

bool signer_add_key(struct signer *signer, uint32_t id, struct key *key, struct error *err)
{
    if (!key_is_private(key))
        return error_set(err, ERROR_INVALID, "a public key can't sign");
    if (!may_add(signer, id, err))
        return false;
    signer->keys[signer->key_count++] = (struct entry){.id = id, .key = key_ref(key)};
    return true;
}

static bool read_kek(const char *uri, struct secret **ret, struct error *err)
{
    const char *path = file_uri_path(uri);
    if (!path)
        return error_set(err, ERROR_UNIMPLEMENTED, "expected a file: URI");
    struct secret *kek;
    if (!file_uri_check(path, true, SECRET_MAX, err) || !file_read_secret(path, &kek, err))
        return false;
    if (secret_len(kek) != AEAD_KEY_SIZE) {
        error_set(err, ERROR_INVALID, "%s has %zu bytes: expected %zu random ones", path,
                  secret_len(kek), AEAD_KEY_SIZE);
        secret_free(kek);
        return false;
    }
    *ret = kek;
    return true;
}

bool signer_add_kek(struct signer *signer, uint32_t id, const char *uri, struct error *err)
{
    struct secret *kek = nullptr;
    if (!may_add(signer, id, err))
        return false;
    if (!read_kek(uri, &kek, err))
        return error_prefix(err, "cannot open the key-encryption key %s", uri);
    signer->keys[signer->key_count++] = (struct entry){.id = id, .kek = kek};
    return true;
}

bool signer_make_kek(const char *path, struct error *err)
{
    if (access(path, F_OK) == 0)
        return error_set(err, ERROR_EXISTS, "%s is there already, and may wrap what is needed",
                         path);
    CLEANUP(secret_free_at) struct secret *kek = nullptr;
    return secret_random(AEAD_KEY_SIZE, &kek, err) &&
           file_write_atomic(path, secret_slice(kek), 0600, err);
}

bool signer_new(struct loop *loop, size_t queue_max, struct signer **ret, struct error *err)
{
    struct signer *signer = mem_new(1, sizeof *signer);
    if (!signer)
        return error_set_memory(err);
    if (!worker_new(loop, "signer", queue_max, &signer->worker, err)) {
        mem_free(signer);
        return false;
    }
    *ret = signer;
    return true;
}

struct signer *signer_free(struct signer *signer)
{
    if (!signer)
        return nullptr;
    worker_free(signer->worker);
    for (size_t i = 0; i < signer->key_count; i++) {
        key_unref(signer->keys[i].key);
        secret_free(signer->keys[i].kek);
    }
    return mem_free(signer);
}
