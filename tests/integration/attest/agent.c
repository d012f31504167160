#include "integration/attest/agent.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "pb/message.h"
#include "tpmwire/binding.h"
#include "tpmwire/credential.h"
#include "tpmwire/public.h"

#include <stdio.h>

constexpr size_t BYTES_MAX = 64 * 1024;
constexpr uint32_t COUNTER_INDEX = 0x01800010;
constexpr uint64_t BATCH_MS = 60'000;

static const char csr[] = "a certificate request: the verifier only hashes it";

void agent_up(struct agent *agent, const char *folder, const char *name)
{
    struct error err = {0};
    char path[128];
    *agent = (struct agent){0};
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    assert_ok(folder_make(path, 0700, &err));
    assert_ok(swtpm_make(path, &agent->chip, &err));
    assert_ok(swtpm_start(&agent->chip, &err));
    assert_ok(swtpm_extend_boot(&agent->chip, &err));
    assert_ok(secret_random(32, &agent->auth, &err));
    agent->counter = (struct tpm_counter){COUNTER_INDEX, agent->auth};
    const struct tpm_settings settings = {.tcti = agent->chip.tcti};
    assert_ok(tpm_new(&settings, &agent->tpm, &err));
    agent_begin(agent);
    assert_ok(tpm_counter_make(agent->tpm, &agent->counter, &err));
    tpm_end(agent->tpm);
}

void agent_down(struct agent *agent)
{
    tpm_free(agent->tpm);
    swtpm_kill(&agent->chip);
    secret_free(agent->auth);
}

void agent_begin(struct agent *agent)
{
    struct error err = {0};
    assert_ok(tpm_begin(agent->tpm, clock_boot_ms() + BATCH_MS, &err));
}

void talk_init(struct talk *talk)
{
    *talk = (struct talk){0};
    for (size_t i = 0; i < ARRAY_LEN(talk->areas); i++)
        buf_init(&talk->areas[i], BYTES_MAX);
    struct buf *bufs[] = {&talk->hello_bytes, &talk->challenge_bytes, &talk->evidence_bytes,
                          &talk->blob, &talk->seed};
    for (size_t i = 0; i < ARRAY_LEN(bufs); i++)
        buf_init(bufs[i], BYTES_MAX);
    ek_certificates_init(&talk->certificates);
    tpm_attested_init(&talk->quote);
    tpm_attested_init(&talk->certify_wrap);
    tpm_attested_init(&talk->certify_req);
    tpm_attested_init(&talk->certify_counter);
    postern__v1__hello__init(&talk->hello);
    postern__v1__challenge__init(&talk->challenge);
    postern__v1__evidence__init(&talk->evidence);
}

void talk_done(struct talk *talk)
{
    for (size_t i = 0; i < ARRAY_LEN(talk->areas); i++)
        buf_done(&talk->areas[i]);
    struct buf *bufs[] = {&talk->hello_bytes, &talk->challenge_bytes, &talk->evidence_bytes,
                          &talk->blob, &talk->seed};
    for (size_t i = 0; i < ARRAY_LEN(bufs); i++)
        buf_done(bufs[i]);
    ek_certificates_done(&talk->certificates);
    tpm_attested_done(&talk->quote);
    tpm_attested_done(&talk->certify_wrap);
    tpm_attested_done(&talk->certify_req);
    tpm_attested_done(&talk->certify_counter);
    secret_free(talk->credential);
    secret_free(talk->answer);
}

static ProtobufCBinaryData bytes_of(const struct buf *buf)
{
    return (ProtobufCBinaryData){buf->len, buf->data};
}

static ProtobufCBinaryData binary(struct slice bytes)
{
    return (ProtobufCBinaryData){bytes.len, (uint8_t *)(uintptr_t)bytes.data};
}

static void pack(const ProtobufCMessage *message, struct buf *ret)
{
    struct error err = {0};
    buf_clear(ret);
    assert_ok(pb_pack(message, BYTES_MAX, ret, &err));
}

/* ---- E1 ---- */

void talk_hello(struct talk *talk, struct agent *agent)
{
    struct error err = {0};
    Postern__V1__Hello *hello = &talk->hello;
    ProtobufCBinaryData *const fields[] = {&hello->ek_public, &hello->ak_public,
                                           &hello->wrap_public, &hello->req_public};
    static const enum tpm_key keys[] = {TPM_KEY_EK, TPM_KEY_AK, TPM_KEY_WRAP, TPM_KEY_REQ};
    agent_begin(agent);
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        assert_ok(tpm_key_public(agent->tpm, keys[i], &talk->areas[i], &err));
        *fields[i] = bytes_of(&talk->areas[i]);
    }
    assert_ok(tpm_counter_public(agent->tpm, &agent->counter, &talk->areas[4], &err));
    assert_ok(tpm_ek_certificates(agent->tpm, &talk->certificates, &err));
    tpm_end(agent->tpm);

    hello->protocol = 1;
    hello->counter_public = bytes_of(&talk->areas[4]);
    hello->ek_certificate = binary(talk->certificates.leaf);
    for (size_t i = 0; i < talk->certificates.chain_count; i++)
        talk->chain[i] = binary(talk->certificates.chain[i]);
    hello->n_ek_chain = talk->certificates.chain_count;
    hello->ek_chain = talk->chain;
    pack(&hello->base, &talk->hello_bytes);
    assert_ok(attest_identity_parse(hello, &talk->identity, &err));
}

/* ---- E2 ---- */

void talk_challenge(struct talk *talk, const struct attest_record *known,
                    const struct pcr_selection *asked)
{
    struct error err = {0};
    Postern__V1__Challenge *challenge = &talk->challenge;
    assert_ok(random_bytes(talk->nonce, sizeof(talk->nonce), &err));
    assert_ok(random_bytes(talk->exporter, sizeof(talk->exporter), &err));
    if (!known || !name_equal(&known->ak_name, &talk->identity.ak_name)) {
        assert_ok(secret_random(32, &talk->credential, &err));
        assert_ok(credential_make(&talk->identity.ek.publicArea, &talk->identity.ak_name,
                                  talk->credential, &talk->blob, &talk->seed, &err));
    }
    talk->asked = *asked;
    for (size_t i = 0; i < asked->count; i++) {
        postern__v1__pcr_selection__init(&talk->asked_banks[i]);
        talk->asked_banks[i].bank = asked->bank[i].alg;
        talk->asked_banks[i].mask = asked->bank[i].mask;
        talk->asked_pointers[i] = &talk->asked_banks[i];
    }
    challenge->agent_id = talk->identity.agent_id;
    challenge->nonce = (ProtobufCBinaryData){sizeof(talk->nonce), talk->nonce};
    challenge->n_selection = asked->count;
    challenge->selection = talk->asked_pointers;
    challenge->credential_blob = bytes_of(&talk->blob);
    challenge->credential_secret = bytes_of(&talk->seed);
    pack(&challenge->base, &talk->challenge_bytes);
}

/* ---- E3 ---- */

static struct slice extra_of(const struct talk *talk, enum binding_kind kind,
                             uint8_t ret[static SHA256_SIZE])
{
    struct error err = {0};
    const struct attest_identity *identity = &talk->identity;
    const struct binding binding = {
        .nonce = slice(talk->challenge.nonce.data, talk->challenge.nonce.len),
        .agent_id = slice_str(talk->challenge.agent_id),
        .ak = &identity->ak_name,
        .wrap = &identity->wrap_name,
        .req = &identity->req_name,
        .counter = &identity->counter_name,
        .csr = slice_str(csr),
        .hello = buf_slice(&talk->hello_bytes),
        .exporter = SLICE_OF(talk->exporter),
    };
    assert_ok(binding_digest(kind, &binding, ret, &err));
    return slice(ret, SHA256_SIZE);
}

static Postern__V1__Attested *part_of(struct talk *talk, size_t i,
                                      const struct tpm_attested *attested)
{
    postern__v1__attested__init(&talk->parts[i]);
    talk->parts[i].attest = bytes_of(&attested->attest);
    talk->parts[i].signature = bytes_of(&attested->signature);
    return &talk->parts[i];
}

static void put_values(struct talk *talk)
{
    const struct pcr_values *values = &talk->values;
    size_t at = 0;
    for (size_t i = 0; i < values->selection.count; i++) {
        postern__v1__pcr_selection__init(&talk->selections[i]);
        talk->selections[i].bank = values->selection.bank[i].alg;
        talk->selections[i].mask = values->selection.bank[i].mask;
        postern__v1__pcr_bank__init(&talk->banks[i]);
        talk->banks[i].selection = &talk->selections[i];
        talk->banks[i].n_values = (size_t)__builtin_popcount(values->selection.bank[i].mask);
        talk->banks[i].values = &talk->bytes[at];
        talk->bank_pointers[i] = &talk->banks[i];
        at += talk->banks[i].n_values;
    }
    for (size_t i = 0; i < values->count; i++)
        talk->bytes[i] = binary(slice(values->value[i].buffer, values->value[i].size));
    talk->evidence.n_pcrs = values->selection.count;
    talk->evidence.pcrs = talk->bank_pointers;
}

bool talk_evidence(struct talk *talk, struct agent *agent)
{
    struct error err = {0};
    uint8_t extra[SHA256_SIZE];
    Postern__V1__Evidence *evidence = &talk->evidence;
    bool answered = true;
    agent_begin(agent);
    if (talk->blob.len > 0)
        answered = tpm_activate(agent->tpm, buf_slice(&talk->blob), buf_slice(&talk->seed),
                                &talk->answer, &err);
    assert_ok(tpm_quote(agent->tpm, &talk->asked, extra_of(talk, BINDING_QUOTE, extra),
                        &talk->quote, &talk->values, &err));
    assert_ok(tpm_certify(agent->tpm, TPM_KEY_WRAP, extra_of(talk, BINDING_CERTIFY, extra),
                          &talk->certify_wrap, &err));
    assert_ok(tpm_certify(agent->tpm, TPM_KEY_REQ, extra_of(talk, BINDING_CERTIFY, extra),
                          &talk->certify_req, &err));
    assert_ok(tpm_counter_certify(agent->tpm, &agent->counter,
                                  extra_of(talk, BINDING_COUNTER, extra), &talk->certify_counter,
                                  &err));
    tpm_end(agent->tpm);
    evidence->credential = binary(secret_slice(talk->answer));
    evidence->quote = part_of(talk, 0, &talk->quote);
    evidence->certify_wrap = part_of(talk, 1, &talk->certify_wrap);
    evidence->certify_req = part_of(talk, 2, &talk->certify_req);
    evidence->certify_counter = part_of(talk, 3, &talk->certify_counter);
    evidence->csr = binary(slice_str(csr));
    put_values(talk);
    pack(&evidence->base, &talk->evidence_bytes);
    return answered;
}

void talk_case(struct talk *talk, struct attest_case *ret)
{
    *ret = (struct attest_case){
        .hello_bytes = buf_slice(&talk->hello_bytes),
        .challenge_bytes = buf_slice(&talk->challenge_bytes),
        .evidence_bytes = buf_slice(&talk->evidence_bytes),
        .hello = &talk->hello,
        .challenge = &talk->challenge,
        .evidence = &talk->evidence,
        .identity = &talk->identity,
        .exporter = SLICE_OF(talk->exporter),
        .credential = talk->credential,
        .nonce = {.unused = true, .of_agent = true, .age_ms = 100},
        .now_ms = clock_wall_ms(),
    };
}
