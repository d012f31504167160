#include "unit/authority/fixture.h"

#include "base/text.h"
#include "keys/key.h"
#include "pb/message.h"
#include "tpmwire/nv.h"
#include "tpmwire/public.h"
#include "tpmwire/template.h"

#include <stdio.h>

int fixture_up(void **state)
{
    struct error err = {0};
    char path[96];
    struct fixture *f = mem_new(1, sizeof(*f));
    assert_non_null(f);
    testlib_folder(f->folder);
    f->now_ms = 1'800'000'000'000;
    snprintf(path, sizeof(path), "%s/%s", f->folder, AUTHORITY_DATABASE);
    const struct store_options options = {
        .location = path,
        .migrations = authority_migrations,
        .migration_count = authority_migration_count,
    };
    assert_ok(store_open(nullptr, &options, &f->store, &err));
    snprintf(path, sizeof(path), "%s/kek", f->folder);
    assert_ok(kek_create(path, &err));
    assert_ok(kek_open(path, &f->kek, &err));
    *state = f;
    return 0;
}

int fixture_down(void **state)
{
    struct fixture *f = *state;
    store_free(f->store);
    kek_free(f->kek);
    testlib_folder_remove(f->folder);
    mem_free(f);
    return 0;
}

bool transact(struct fixture *f, store_run *run, void *arg, struct error *err)
{
    return store_transact_now(f->store, run, arg, 0, err);
}

static void make_area(enum template_id template, TPM2B_PUBLIC *ret, TPM2B_NAME *ret_name)
{
    struct error err = {0};
    CLEANUP(key_unref_at) struct key *key = nullptr;
    assert_ok(key_generate(KEY_P256, &key, &err));
    template_fill(template, &ret->publicArea);
    assert_ok(public_area_set_key(&ret->publicArea, key_evp(key), &err));
    assert_ok(public_area_name(&ret->publicArea, ret_name, &err));
}

static void make_pcrs(struct pcr_values *ret)
{
    struct error err = {0};
    assert_ok(pcr_selection_parse("sha256:0,4,7", &ret->selection, &err));
    ret->count = 3;
    for (size_t i = 0; i < ret->count; i++) {
        ret->value[i].size = 32;
        memset(ret->value[i].buffer, (int)i + 1, 32);
    }
}

void claim_make(const struct fixture *f, unsigned seed, Postern__V1__Verdict verdict,
                struct claim *ret)
{
    struct error err = {0};
    *ret = (struct claim){0};
    snprintf(ret->id.agent_id, sizeof(ret->id.agent_id), "%032x", seed);
    make_area(TEMPLATE_WRAP_ECC_P256, &ret->id.wrap, &ret->id.wrap_name);
    make_area(TEMPLATE_REQ_ECC_P256, &ret->id.req, &ret->id.req_name);
    nv_counter_area(0x01800050, true, &ret->id.counter.nvPublic);
    assert_ok(nv_area_name(&ret->id.counter.nvPublic, &ret->id.counter_name, &err));
    ret->id.ek_name = ret->id.wrap_name; /* some Name, another one for each */
    ret->id.ak_name = ret->id.req_name;
    buf_init(&ret->req, 1024);
    assert_ok(public_area_marshal(&ret->id.req.publicArea, &ret->req, &err));
    postern__v1__hello__init(&ret->hello);
    ret->hello.host_name = (char *)"host";
    ret->hello.req_public = (ProtobufCBinaryData){ret->req.len, ret->req.data};
    make_pcrs(&ret->appraisal.pcrs);
    ret->appraisal.verdict = verdict;
    ret->appraisal.counter = 5;
    ret->appraisal.reset_count = 7;
    ret->appraisal.clock_ms = 1000;
    ret->appraisal.firmware_version = UINT64_MAX;

    Postern__V1__AppraisalBody body = POSTERN__V1__APPRAISAL_BODY__INIT;
    body.verdict = verdict;
    body.agent_id = ret->id.agent_id;
    buf_init(&ret->body, APPRAISAL_BODY_MAX);
    assert_ok(pb_pack(&body.base, APPRAISAL_BODY_MAX, &ret->body, &err));
    ret->in = (struct attest_case){
        .identity = &ret->id,
        .hello = &ret->hello,
        .record = &ret->known,
        .hello_bytes = slice_str("hello"),
        .challenge_bytes = slice_str("challenge"),
        .evidence_bytes = slice_str("evidence"),
    };
    ret->update = (struct node_update){
        .in = &ret->in,
        .appraisal = &ret->appraisal,
        .body = buf_slice(&ret->body),
        .admission = POSTERN__V1__ADMISSION__ADMISSION_PENDING,
        .now_ms = f->now_ms,
        .expires_at_ms = f->now_ms + 1000,
    };
}

void claim_done(struct claim *claim)
{
    buf_done(&claim->req);
    buf_done(&claim->body);
}

static bool run_record(struct tx *tx, void *arg, struct error *err)
{
    const struct claim *claim = arg;
    return nodes_record(tx, &claim->update, err);
}

void claim_record(struct fixture *f, struct claim *claim)
{
    struct error err = {0};
    assert_ok(transact(f, run_record, claim, &err));
    claim->known.known = true;
}
