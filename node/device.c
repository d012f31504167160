#include "device.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "loop/worker.h"
#include "tpmwire/public.h"

#include <stdio.h>
#include <sys/stat.h>

constexpr size_t COUNTER_AUTH_SIZE = 32;
constexpr size_t STRUCTURE_MAX = 4096; /* bytes of any structure that the TPM gives */

struct device {
    struct worker *worker;
    struct tpm *tpm;
    char *auth_path;
    struct secret *auth;
    struct secret *owner_auth, *endorsement_auth; /* null: empty */
    struct tpm_counter counter;
    uint64_t busy_timeout_ms;
};

/* ---- The counter's password ---- */

static bool make_auth(const char *path, struct secret **ret, struct error *err)
{
    CLEANUP(secret_free_at) struct secret *auth = nullptr;
    if (!secret_random(COUNTER_AUTH_SIZE, &auth, err) ||
        !file_write_atomic(path, secret_slice(auth), 0600, err))
        return error_prefix(err, "make the counter's password");
    *ret = TAKE(auth);
    return true;
}

static bool load_auth(const char *path, struct secret **ret, struct error *err)
{
    CLEANUP(secret_free_at) struct secret *auth = nullptr;
    struct error why;
    if (!file_read_secret(path, &auth, &why)) {
        if (why.class == ERROR_NOT_FOUND)
            return make_auth(path, ret, err);
        *err = why;
        return false;
    }
    /* Who has it can retire what the node holds. */
    struct stat info;
    if (stat(path, &info) == 0 && (info.st_mode & 077) != 0)
        return error_set(err, ERROR_DENIED,
                         "%s can be read or written by others (mode %04o): chmod 600 it", path,
                         (unsigned)info.st_mode & 07777);
    if (secret_len(auth) != COUNTER_AUTH_SIZE)
        return error_set(err, ERROR_INVALID, "%s has %zu bytes, expected %zu: it is damaged", path,
                         secret_len(auth), COUNTER_AUTH_SIZE);
    *ret = TAKE(auth);
    return true;
}

/* A wrong password is most likely a lost file; only a person can help then. */
static bool counter_failed(const struct device *device, struct error *err)
{
    /* Part 2, 6.6.3: TPM_RC_BAD_AUTH and TPM_RC_AUTH_FAIL, of whichever session. */
    bool wrong = err->domain == ERROR_DOMAIN_TPM &&
                 ((err->code & 0xbf) == 0xa2 || (err->code & 0xbf) == 0x8e);
    if (wrong)
        return error_prefix(err,
                            "the counter at NV index 0x%08x has another password than %s: if that "
                            "file was lost, delete the index (tpm2_nvundefine -C o 0x%08x) and "
                            "start again",
                            (unsigned)device->counter.index, device->auth_path,
                            (unsigned)device->counter.index);
    return error_prefix(err, "counter 0x%08x", (unsigned)device->counter.index);
}

/* ---- Life ---- */

/* A hierarchy's password; one line's end after it, as editors and echo leave it, is not part of it. */
static bool read_password(const char *path, struct secret **ret, struct error *err)
{
    CLEANUP(secret_free_at) struct secret *text = nullptr;
    if (!path)
        return true;
    if (!file_read_secret(path, &text, err))
        return false;
    struct slice password = secret_slice(text);
    if (password.len > 1 && password.data[password.len - 1] == '\n')
        password.len--;
    return secret_from(password, ret, err);
}

static bool device_set_up(struct loop *loop, const struct device_settings *settings,
                          struct device *device, struct error *err)
{
    size_t size = strlen(settings->state_dir) + sizeof("/counter.auth");
    device->auth_path = mem_new(size, 1);
    if (!device->auth_path)
        return error_set_memory(err);
    if (!read_password(settings->owner_auth_file, &device->owner_auth, err) ||
        !read_password(settings->endorsement_auth_file, &device->endorsement_auth, err))
        return false;
    const struct tpm_settings tpm = {
        .tcti = settings->tcti,
        .owner_auth = device->owner_auth,
        .endorsement_auth = device->endorsement_auth,
    };
    (void)snprintf(device->auth_path, size, "%s/counter.auth", settings->state_dir);
    if (!load_auth(device->auth_path, &device->auth, err) || !tpm_new(&tpm, &device->tpm, err) ||
        !worker_new(loop, "tpm", DEVICE_QUEUE_MAX, &device->worker, err))
        return false;
    device->counter = (struct tpm_counter){.index = settings->counter_index, .auth = device->auth};
    device->busy_timeout_ms = settings->busy_timeout_ms;
    return true;
}

bool device_new(struct loop *loop, const struct device_settings *settings, struct device **ret,
                struct error *err)
{
    struct device *device = mem_new(1, sizeof(*device));
    if (!device)
        return error_set_memory(err);
    if (!device_set_up(loop, settings, device, err)) {
        device_free(device);
        return false;
    }
    *ret = device;
    return true;
}

struct device *device_free(struct device *device)
{
    if (!device)
        return nullptr;
    worker_free(device->worker);
    tpm_free(device->tpm);
    secret_free(device->auth);
    secret_free(device->owner_auth);
    secret_free(device->endorsement_auth);
    mem_free(device->auth_path);
    return mem_free(device);
}

/* ---- Jobs ---- */

static bool job_run(void *arg, struct error *err)
{
    struct device_job *job = arg;
    struct device *device = job->device;
    if (!tpm_begin(device->tpm, clock_boot_ms() + device->busy_timeout_ms, err))
        return false;
    bool ok = job->work(job, err);
    tpm_end(device->tpm);
    return ok;
}

static void job_done(void *arg, bool ok, const struct error *err)
{
    struct device_job *job = arg;
    job->done(job->arg, ok, err);
}

static bool submit(struct device *device, struct device_job *job,
                   bool (*work)(struct device_job *job, struct error *err), device_done *done,
                   void *arg, struct error *err)
{
    *job = (struct device_job){.device = device, .work = work, .done = done, .arg = arg};
    /* Waiting in the queue counts once more: what came before has a deadline, too. */
    uint64_t deadline = clock_boot_ms() + 2 * device->busy_timeout_ms;
    return worker_submit(device->worker, job_run, job_done, job, deadline, err);
}

/* ---- Hello ---- */

void device_hello_init(struct device_hello *hello)
{
    *hello = (struct device_hello){0};
    buf_init(&hello->ek_public, STRUCTURE_MAX);
    buf_init(&hello->ak_public, STRUCTURE_MAX);
    buf_init(&hello->wrap_public, STRUCTURE_MAX);
    buf_init(&hello->req_public, STRUCTURE_MAX);
    buf_init(&hello->counter_public, STRUCTURE_MAX);
    ek_certificates_init(&hello->certificates);
}

void device_hello_done(struct device_hello *hello)
{
    buf_done(&hello->ek_public);
    buf_done(&hello->ak_public);
    buf_done(&hello->wrap_public);
    buf_done(&hello->req_public);
    buf_done(&hello->counter_public);
    ek_certificates_done(&hello->certificates);
}

static bool hello_work(struct device_job *job, struct error *err)
{
    struct device_hello *hello = CONTAINER_OF(job, struct device_hello, job);
    struct device *device = job->device;
    struct tpm *tpm = device->tpm;
    if (!tpm_counter_make(tpm, &device->counter, err) ||
        !tpm_counter_public(tpm, &device->counter, &hello->counter_public, err))
        return counter_failed(device, err);
    return tpm_facts(tpm, &hello->facts, err) &&
           tpm_ek_certificates(tpm, &hello->certificates, err) &&
           tpm_key_public(tpm, TPM_KEY_EK, &hello->ek_public, err) &&
           tpm_key_public(tpm, TPM_KEY_AK, &hello->ak_public, err) &&
           tpm_key_public(tpm, TPM_KEY_WRAP, &hello->wrap_public, err) &&
           tpm_key_public(tpm, TPM_KEY_REQ, &hello->req_public, err);
}

bool device_hello(struct device *device, struct device_hello *hello, device_done *done, void *arg,
                  struct error *err)
{
    return submit(device, &hello->job, hello_work, done, arg, err);
}

/* ---- Evidence ---- */

void device_evidence_init(struct device_evidence *evidence)
{
    *evidence = (struct device_evidence){0};
    tpm_attested_init(&evidence->quote);
    tpm_attested_init(&evidence->certify_wrap);
    tpm_attested_init(&evidence->certify_req);
    tpm_attested_init(&evidence->certify_counter);
}

void device_evidence_done(struct device_evidence *evidence)
{
    secret_free(evidence->credential);
    evidence->credential = nullptr;
    tpm_attested_done(&evidence->quote);
    tpm_attested_done(&evidence->certify_wrap);
    tpm_attested_done(&evidence->certify_req);
    tpm_attested_done(&evidence->certify_counter);
}

static bool evidence_work(struct device_job *job, struct error *err)
{
    struct device_evidence *evidence = CONTAINER_OF(job, struct device_evidence, job);
    struct device *device = job->device;
    struct tpm *tpm = device->tpm;
    uint8_t quote[SHA256_SIZE], certify[SHA256_SIZE], counter[SHA256_SIZE];
    if (!binding_digest(BINDING_QUOTE, &evidence->binding, quote, err) ||
        !binding_digest(BINDING_CERTIFY, &evidence->binding, certify, err) ||
        !binding_digest(BINDING_COUNTER, &evidence->binding, counter, err))
        return false;
    if (evidence->credential_blob.len > 0 &&
        !tpm_activate(tpm, evidence->credential_blob, evidence->credential_secret,
                      &evidence->credential, err))
        return false;
    if (!tpm_quote(tpm, &evidence->selection, SLICE_OF(quote), &evidence->quote, &evidence->pcrs,
                   err) ||
        !tpm_certify(tpm, TPM_KEY_WRAP, SLICE_OF(certify), &evidence->certify_wrap, err) ||
        !tpm_certify(tpm, TPM_KEY_REQ, SLICE_OF(certify), &evidence->certify_req, err))
        return false;
    if (!tpm_counter_certify(tpm, &device->counter, SLICE_OF(counter), &evidence->certify_counter,
                             err))
        return counter_failed(device, err);
    return true;
}

bool device_evidence(struct device *device, struct device_evidence *evidence, device_done *done,
                     void *arg, struct error *err)
{
    return submit(device, &evidence->job, evidence_work, done, arg, err);
}

/* ---- Node keys ---- */

void device_unseal_init(struct device_unseal *unseal)
{
    *unseal = (struct device_unseal){0};
    buf_init(&unseal->ak_public, STRUCTURE_MAX);
}

void device_unseal_done(struct device_unseal *unseal)
{
    buf_done(&unseal->ak_public);
}

static bool import(struct device *device, struct generation *generation, struct error *err)
{
    CLEANUP(buf_done) struct buf object_private;
    buf_init(&object_private, GENERATION_PART_MAX);
    if (!node_key_import(device->tpm, buf_slice(&generation->object_public),
                         buf_slice(&generation->duplicate), buf_slice(&generation->seed),
                         &object_private, err))
        return error_prefix(err, "cannot import generation %llu",
                            (unsigned long long)generation->number);
    struct buf none = generation->object_private;
    generation->object_private = object_private;
    object_private = none;
    buf_done(&generation->duplicate);
    buf_done(&generation->seed);
    return true;
}

static bool unseal_work(struct device_job *job, struct error *err)
{
    struct device_unseal *unseal = CONTAINER_OF(job, struct device_unseal, job);
    struct device *device = job->device;
    struct generation *generation = unseal->generation;
    if (!tpm_time(device->tpm, &unseal->time, err) ||
        !tpm_key_public(device->tpm, TPM_KEY_AK, &unseal->ak_public, err))
        return false;
    unseal->time_boot_ms = clock_boot_ms();
    if (generation->duplicate.len > 0 && !import(device, generation, err))
        return false;
    const struct node_key_sealed sealed = {
        .object_public = buf_slice(&generation->object_public),
        .object_private = buf_slice(&generation->object_private),
        .seal = &generation->seal,
        .limit = generation->limit,
    };
    return node_key_unseal(device->tpm, &sealed, &device->counter, &generation->key, err);
}

bool device_unseal(struct device *device, struct device_unseal *unseal, device_done *done,
                   void *arg, struct error *err)
{
    return submit(device, &unseal->job, unseal_work, done, arg, err);
}

void unseal_explain(const struct generation *generation, struct error *err)
{
    char seal[PCR_TEXT_MAX];
    unsigned long long number = generation->number, limit = generation->limit;
    if (err->domain != ERROR_DOMAIN_TPM) {
        error_prefix(err, "cannot unseal generation %llu", number);
        return;
    }
    switch (err->code) {
    case TPM_CODE_POLICY_FAIL:
        error_set_native(err, err->class, ERROR_DOMAIN_TPM, err->code,
                         "a sealed PCR differs from the boot state that the authority affirmed",
                         "cannot unseal generation %llu: TPM_RC_POLICY_FAIL (0x99d), sealed to %s",
                         number, pcr_selection_format(&generation->seal, seal));
        return;
    case TPM_CODE_POLICY:
        error_set_native(err, err->class, ERROR_DOMAIN_TPM, err->code,
                         "the counter is beyond the limit of this generation: it is retired",
                         "cannot unseal generation %llu: TPM_RC_POLICY (0x126), limit %llu", number,
                         limit);
        return;
    default:
        error_prefix(err, "cannot unseal generation %llu", number);
    }
}

/* ---- Retirement ---- */

static bool raise_work(struct device_job *job, struct error *err)
{
    struct device_raise *raise = CONTAINER_OF(job, struct device_raise, job);
    struct device *device = job->device;
    if (!tpm_counter_read(device->tpm, &device->counter, &raise->before, err))
        return false;
    uint64_t target = raise->target ? raise->target : raise->before + 1;
    if (!tpm_counter_raise(device->tpm, &device->counter, target, &raise->value, err))
        return counter_failed(device, err);
    return true;
}

bool device_raise(struct device *device, struct device_raise *raise, device_done *done, void *arg,
                  struct error *err)
{
    return submit(device, &raise->job, raise_work, done, arg, err);
}

/* ---- Requests ---- */

void device_sign_init(struct device_sign *sign)
{
    *sign = (struct device_sign){0};
    buf_init(&sign->signature, STRUCTURE_MAX);
}

void device_sign_done(struct device_sign *sign)
{
    buf_done(&sign->signature);
}

static bool sign_work(struct device_job *job, struct error *err)
{
    struct device_sign *sign = CONTAINER_OF(job, struct device_sign, job);
    return tpm_sign(job->device->tpm, sign->message, &sign->signature, err);
}

bool device_sign(struct device *device, struct device_sign *sign, device_done *done, void *arg,
                 struct error *err)
{
    return submit(device, &sign->job, sign_work, done, arg, err);
}
