#include "unit/attest/scene.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "pb/message.h"
#include "tpmwire/hash.h"
#include "tpmwire/nv.h"
#include "tpmwire/public.h"
#include "tpmwire/template.h"

constexpr size_t SCENE_BYTES_MAX = 256 * 1024;
constexpr uint64_t CLOCK_MS = 2000;

static const char csr[] = "a certificate request: the verifier only hashes it";

static TPM2B_DIGEST filled(size_t size, uint8_t with)
{
    TPM2B_DIGEST value = {.size = (uint16_t)size};
    memset(value.buffer, with, size);
    return value;
}

TPM2B_DIGEST scene_value(TPMI_ALG_HASH bank, unsigned pcr)
{
    return filled(tpm_hash_size(bank), (uint8_t)(0x10 + pcr));
}

void scene_values(const struct pcr_selection *selection, struct pcr_values *ret)
{
    *ret = (struct pcr_values){.selection = *selection};
    for (size_t i = 0; i < selection->count; i++) {
        for (unsigned pcr = 0; pcr < PCR_COUNT; pcr++) {
            if (selection->bank[i].mask & 1U << pcr)
                ret->value[ret->count++] = scene_value(selection->bank[i].alg, pcr);
        }
    }
}

void scene_rule(struct scene *scene, const char *bank, unsigned pcr)
{
    size_t i = scene->policy_message.n_pcrs++;
    assert_true(i < SCENE_RULES_MAX);
    TPMI_ALG_HASH alg = strcmp(bank, "sha384") == 0 ? TPM2_ALG_SHA384 : TPM2_ALG_SHA256;
    TPM2B_DIGEST value = scene_value(alg, pcr);
    postern__v1__pcr_rule__init(&scene->rules[i]);
    scene->rules[i].bank = (char *)(uintptr_t)bank;
    scene->rules[i].index = pcr;
    scene->rule_allowed[i] = hex_encode(slice(value.buffer, value.size), scene->rule_values[i]);
    scene->rules[i].n_allowed = 1;
    scene->rules[i].allowed = &scene->rule_allowed[i];
    scene->rule_pointers[i] = &scene->rules[i];
}

void scene_der(X509 *certificate, struct buf *ret)
{
    struct error err = {0};
    uint8_t *der = nullptr;
    int len = i2d_X509(certificate, &der);
    assert_true(len > 0);
    buf_put(ret, slice(der, (size_t)len));
    OPENSSL_free(der);
    assert_ok(buf_ok(ret, &err));
}

/* ---- Defaults ---- */

static void open_policy(struct scene *scene)
{
    postern__v1__attestation_policy__init(&scene->policy_message);
    scene->policy_message.pcrs = scene->rule_pointers;
    for (unsigned pcr = 0; pcr < PCR_COUNT; pcr++) {
        if (SCENE_PCRS & 1U << pcr)
            scene_rule(scene, "sha256", pcr);
    }
    scene->trust[0] = POSTERN__V1__EK_TRUST__EK_TRUST_VENDOR_CERT;
    scene->policy_message.n_ek_trust = 1;
    scene->policy_message.ek_trust = scene->trust;
}

void scene_open(struct scene *scene, const struct softtpm *tpm)
{
    struct error err = {0};
    *scene = (struct scene){.tpm = tpm, .ak_key = tpm->ak};
    template_fill(TEMPLATE_EK_L2_ECC_P256, &scene->ek);
    template_fill(TEMPLATE_AK_ECC_P256, &scene->ak);
    template_fill(TEMPLATE_WRAP_ECC_P256, &scene->wrap);
    template_fill(TEMPLATE_REQ_ECC_P256, &scene->req);
    softtpm_area_key(&scene->ek, tpm->ek);
    softtpm_area_key(&scene->ak, tpm->ak);
    softtpm_area_key(&scene->wrap, tpm->wrap);
    softtpm_area_key(&scene->req, tpm->req);
    nv_counter_area(SCENE_COUNTER_INDEX, true, &scene->counter);

    struct buf *bufs[] = {&scene->certificate, &scene->hello_bytes, &scene->challenge_bytes,
                          &scene->evidence_bytes};
    for (size_t i = 0; i < ARRAY_LEN(bufs); i++)
        buf_init(bufs[i], SCENE_BYTES_MAX);
    for (size_t i = 0; i < ARRAY_LEN(scene->areas); i++)
        buf_init(&scene->areas[i], SCENE_BYTES_MAX);
    for (size_t i = 0; i < PART_COUNT; i++) {
        buf_init(&scene->parts[i].bytes, SCENE_BYTES_MAX);
        buf_init(&scene->parts[i].signature, SCENE_BYTES_MAX);
    }

    scene->root = cert_make(&(struct cert_spec)CERT_CA("TPM vendor"));
    scene->certificate_spec = (struct cert_spec){
        .constraints = "critical,CA:FALSE",
        .usage = "critical,keyAgreement",
        .extended = "2.23.133.8.1",
        .alt = "critical,DNS:tpm",
        .issuer = &scene->root,
        .key = tpm->ek,
    };
    CLEANUP(buf_done) struct buf pem;
    buf_init(&pem, SCENE_BYTES_MAX);
    cert_pem(scene->root.x509, &pem);
    assert_ok(ek_roots_new(buf_slice(&pem), &scene->roots, &err));
    open_policy(scene);

    memset(scene->nonce, 0x4e, sizeof(scene->nonce));
    memset(scene->exporter, 0x45, sizeof(scene->exporter));
    memset(scene->answer, 0x43, sizeof(scene->answer));
    assert_ok(secret_from(SLICE_OF(scene->answer), &scene->credential, &err));
    scene->asked = (struct pcr_selection){1, {{TPM2_ALG_SHA256, SCENE_PCRS}}};
    scene->in = (struct attest_case){
        .nonce = {.unused = true, .of_agent = true, .age_ms = 1000},
        .now_ms = clock_wall_ms(),
    };
    postern__v1__hello__init(&scene->hello);
    postern__v1__challenge__init(&scene->challenge);
    postern__v1__evidence__init(&scene->evidence);
}

/* ---- E1 ---- */

static ProtobufCBinaryData bytes_of(const struct buf *buf)
{
    return (ProtobufCBinaryData){buf->len, buf->data};
}

static ProtobufCBinaryData area_of(struct scene *scene, size_t i, const TPMT_PUBLIC *area)
{
    struct error err = {0};
    assert_ok(public_area_marshal(area, &scene->areas[i], &err));
    return bytes_of(&scene->areas[i]);
}

static void pack(const ProtobufCMessage *message, struct buf *ret)
{
    struct error err = {0};
    buf_clear(ret);
    assert_ok(pb_pack(message, SCENE_BYTES_MAX, ret, &err));
}

void scene_hello(struct scene *scene)
{
    struct error err = {0};
    Postern__V1__Hello *hello = &scene->hello;
    hello->protocol = 1;
    hello->ek_public = area_of(scene, 0, &scene->ek);
    hello->ak_public = area_of(scene, 1, &scene->ak);
    hello->wrap_public = area_of(scene, 2, &scene->wrap);
    hello->req_public = area_of(scene, 3, &scene->req);
    assert_ok(nv_area_marshal(&scene->counter, &scene->areas[4], &err));
    hello->counter_public = bytes_of(&scene->areas[4]);
    if (scene->certificate.len == 0) {
        struct cert certificate = cert_make(&scene->certificate_spec);
        scene_der(certificate.x509, &scene->certificate);
        cert_done(&certificate);
    }
    hello->ek_certificate = bytes_of(&scene->certificate);
    for (size_t i = 0; i < scene->chain_count; i++)
        scene->chain[i] = hello->ek_certificate;
    hello->n_ek_chain = scene->chain_count;
    hello->ek_chain = scene->chain;
    pack(&hello->base, &scene->hello_bytes);

    assert_ok(attest_identity_parse(hello, &scene->identity, &err));
    assert_ok(ek_pin(&scene->identity.ek.publicArea, scene->pin[0], &err));
    scene->policy_message.name = (char *)(uintptr_t)"web";
    if (!scene->policy_message.seal)
        scene->policy_message.seal = (char *)(uintptr_t)"sha256:0,2,4,7";
    assert_ok(attest_policy_new(&scene->policy_message, &scene->policy, &err));
    scene->record = (struct attest_record){
        .known = true,
        .admitted = true,
        .ek_name = scene->identity.ek_name,
        .ak_name = scene->identity.ak_name,
        .wrap_name = scene->identity.wrap_name,
        .has_clock = true,
        .reset_count = 5,
        .restart_count = 2,
        .clock_ms = CLOCK_MS - 1,
        .has_generation = true,
        .limit = SCENE_LIMIT,
        .counter_name = scene->identity.counter_name,
    };
}

/* ---- What is signed ---- */

static void open_part(struct scene *scene, enum scene_part_id id, TPMI_ST_ATTEST type,
                      enum binding_kind kind)
{
    struct error err = {0};
    const struct attest_identity *identity = &scene->identity;
    struct scene_part *part = &scene->parts[id];
    const TPMT_PUBLIC *ak = &scene->ak;
    bool ecc = ak->type == TPM2_ALG_ECC;
    part->kind = kind;
    part->key = scene->ak_key;
    part->scheme =
        ecc ? ak->parameters.eccDetail.scheme.scheme : ak->parameters.rsaDetail.scheme.scheme;
    part->hash = ecc ? ak->parameters.eccDetail.scheme.details.ecdsa.hashAlg
                     : ak->parameters.rsaDetail.scheme.details.anySig.hashAlg;
    if (part->scheme == TPM2_ALG_NULL) {
        part->scheme = ecc ? TPM2_ALG_ECDSA : TPM2_ALG_RSASSA;
        part->hash = TPM2_ALG_SHA256;
    }
    part->attested = (TPMS_ATTEST){
        .magic = TPM2_GENERATED_VALUE,
        .type = type,
        .clockInfo = {.clock = CLOCK_MS, .resetCount = 5, .restartCount = 2, .safe = TPM2_YES},
        .firmwareVersion = 0x2024000100000002,
    };
    assert_ok(name_qualified_primary(TPM2_RH_ENDORSEMENT, &identity->ak_name,
                                     &part->attested.qualifiedSigner, &err));
    part->binding = (struct binding){
        .nonce = SLICE_OF(scene->nonce),
        .agent_id = slice_str(identity->agent_id),
        .ak = &identity->ak_name,
        .wrap = &identity->wrap_name,
        .req = &identity->req_name,
        .counter = &identity->counter_name,
        .csr = slice_str(csr),
        .hello = buf_slice(&scene->hello_bytes),
        .exporter = SLICE_OF(scene->exporter),
    };
}

void scene_parts(struct scene *scene)
{
    struct error err = {0};
    open_part(scene, PART_QUOTE, TPM2_ST_ATTEST_QUOTE, BINDING_QUOTE);
    open_part(scene, PART_WRAP, TPM2_ST_ATTEST_CERTIFY, BINDING_CERTIFY);
    open_part(scene, PART_REQ, TPM2_ST_ATTEST_CERTIFY, BINDING_CERTIFY);
    open_part(scene, PART_COUNTER, TPM2_ST_ATTEST_NV, BINDING_COUNTER);

    scene_values(&scene->asked, &scene->values);
    TPMS_QUOTE_INFO *quote = &scene->parts[PART_QUOTE].attested.attested.quote;
    pcr_selection_to_tpml(&scene->asked, &quote->pcrSelect);
    assert_ok(pcr_composite_digest(scene->parts[PART_QUOTE].hash, &scene->asked, &scene->values,
                                   &quote->pcrDigest, &err));
    scene->parts[PART_WRAP].attested.attested.certify.name = scene->identity.wrap_name;
    scene->parts[PART_REQ].attested.attested.certify.name = scene->identity.req_name;
    TPMS_NV_CERTIFY_INFO *nv = &scene->parts[PART_COUNTER].attested.attested.nv;
    nv->indexName = scene->identity.counter_name;
    nv->nvContents.size = NV_COUNTER_SIZE;
    nv->nvContents.buffer[7] = SCENE_LIMIT;
}

static void sign_part(struct scene_part *part)
{
    struct error err = {0};
    if (!part->has_extra) {
        part->attested.extraData.size = SHA256_SIZE;
        assert_ok(
            binding_digest(part->kind, &part->binding, part->attested.extraData.buffer, &err));
    }
    softtpm_marshal(&part->attested, &part->bytes);
    buf_put(&part->bytes, slice_str(part->trailing));
    softtpm_sign(part->key, part->scheme, part->hash, buf_slice(&part->bytes), &part->signature);
    postern__v1__attested__init(&part->message);
    part->message.attest = bytes_of(&part->bytes);
    part->message.signature = bytes_of(&part->signature);
}

static void put_values(struct scene *scene)
{
    const struct pcr_values *values = &scene->values;
    size_t at = 0;
    for (size_t i = 0; i < values->selection.count; i++) {
        size_t first = at;
        at += (size_t)__builtin_popcount(values->selection.bank[i].mask);
        postern__v1__pcr_selection__init(&scene->value_selections[i]);
        scene->value_selections[i].bank = values->selection.bank[i].alg;
        scene->value_selections[i].mask = values->selection.bank[i].mask;
        postern__v1__pcr_bank__init(&scene->value_banks[i]);
        scene->value_banks[i].selection = &scene->value_selections[i];
        scene->value_banks[i].n_values = at - first;
        scene->value_banks[i].values = &scene->value_bytes[first];
        scene->value_pointers[i] = &scene->value_banks[i];
    }
    for (size_t i = 0; i < values->count; i++)
        scene->value_bytes[i] = (ProtobufCBinaryData){
            values->value[i].size, (uint8_t *)(uintptr_t)values->value[i].buffer};
    scene->evidence.n_pcrs = values->selection.count;
    scene->evidence.pcrs = scene->value_pointers;
}

void scene_sign(struct scene *scene)
{
    for (size_t i = 0; i < PART_COUNT; i++)
        sign_part(&scene->parts[i]);
    Postern__V1__Evidence *evidence = &scene->evidence;
    evidence->quote = &scene->parts[PART_QUOTE].message;
    evidence->certify_wrap = &scene->parts[PART_WRAP].message;
    evidence->certify_req = &scene->parts[PART_REQ].message;
    evidence->certify_counter = &scene->parts[PART_COUNTER].message;
    evidence->csr = (ProtobufCBinaryData){strlen(csr), (uint8_t *)(uintptr_t)csr};
    evidence->credential = (ProtobufCBinaryData){sizeof(scene->answer), scene->answer};
    put_values(scene);
}

/* ---- The case ---- */

void scene_case(struct scene *scene)
{
    Postern__V1__Challenge *challenge = &scene->challenge;
    for (size_t i = 0; i < scene->asked.count; i++) {
        postern__v1__pcr_selection__init(&scene->asked_banks[i]);
        scene->asked_banks[i].bank = scene->asked.bank[i].alg;
        scene->asked_banks[i].mask = scene->asked.bank[i].mask;
        scene->asked_pointers[i] = &scene->asked_banks[i];
    }
    challenge->agent_id = scene->identity.agent_id;
    challenge->nonce = (ProtobufCBinaryData){sizeof(scene->nonce), scene->nonce};
    challenge->n_selection = scene->asked.count;
    challenge->selection = scene->asked_pointers;
    pack(&challenge->base, &scene->challenge_bytes);
    pack(&scene->evidence.base, &scene->evidence_bytes);

    struct attest_case *in = &scene->in;
    in->hello_bytes = buf_slice(&scene->hello_bytes);
    in->challenge_bytes = buf_slice(&scene->challenge_bytes);
    in->evidence_bytes = buf_slice(&scene->evidence_bytes);
    in->hello = &scene->hello;
    in->challenge = challenge;
    in->evidence = &scene->evidence;
    in->identity = &scene->identity;
    in->exporter = SLICE_OF(scene->exporter);
    in->credential = scene->credential;
    in->record = &scene->record;
    in->policy = scene->policy;
    in->roots = scene->roots;
}

void scene_play(struct scene *scene, const struct softtpm *tpm)
{
    scene_open(scene, tpm);
    scene_hello(scene);
    scene_parts(scene);
    scene_sign(scene);
    scene_case(scene);
}

void scene_close(struct scene *scene)
{
    for (size_t i = 0; i < ARRAY_LEN(scene->areas); i++)
        buf_done(&scene->areas[i]);
    for (size_t i = 0; i < PART_COUNT; i++) {
        buf_done(&scene->parts[i].bytes);
        buf_done(&scene->parts[i].signature);
    }
    buf_done(&scene->certificate);
    buf_done(&scene->hello_bytes);
    buf_done(&scene->challenge_bytes);
    buf_done(&scene->evidence_bytes);
    cert_done(&scene->root);
    ek_roots_free(scene->roots);
    attest_policy_unref(scene->policy);
    secret_free(scene->credential);
}
