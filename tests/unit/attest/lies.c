#include "unit/attest/lies.h"

#include "base/mem.h"
#include "tpmwire/nv.h"
#include "tpmwire/public.h"
#include "tpmwire/template.h"

constexpr Postern__V1__Verdict PENDING = POSTERN__V1__VERDICT__VERDICT_PENDING;
constexpr Postern__V1__Verdict WARNING = POSTERN__V1__VERDICT__VERDICT_WARNING;

static struct scene_part *part_of(struct scene *scene)
{
    return &scene->parts[scene->arg];
}

/* ---- 1, 2, 3: the EK ---- */

static void no_roots(struct scene *scene)
{
    scene->in.roots = nullptr;
}

static void other_root(struct scene *scene)
{
    struct error err = {0};
    struct cert other = cert_make(&(struct cert_spec)CERT_CA("TPM vendor")); /* the same name */
    CLEANUP(buf_done) struct buf pem;
    buf_init(&pem, 64 * 1024);
    cert_pem(other.x509, &pem);
    cert_done(&other);
    scene->roots = ek_roots_free(scene->roots);
    assert_ok(ek_roots_new(buf_slice(&pem), &scene->roots, &err));
}

static void no_certificate(struct scene *scene)
{
    scene->in.hello = &scene->hello;
    scene->hello.ek_certificate = (ProtobufCBinaryData){0, nullptr};
}

static void expired(struct scene *scene)
{
    scene->certificate_spec.from = -7200;
    scene->certificate_spec.until = -3600;
}

static void not_yet_valid(struct scene *scene)
{
    scene->certificate_spec.from = 3600;
    scene->certificate_spec.until = 7200;
}

static void no_usage(struct scene *scene)
{
    scene->certificate_spec.extended = nullptr;
}

static void other_usage(struct scene *scene)
{
    scene->certificate_spec.extended = "serverAuth,2.23.133.8.3"; /* an AK's */
}

static void certificate_of_a_ca(struct scene *scene)
{
    scene->certificate_spec.constraints = "critical,CA:TRUE";
    scene->certificate_spec.usage = "critical,keyCertSign";
}

static void garbage_certificate(struct scene *scene)
{
    buf_put(&scene->certificate, slice_str("no DER at all"));
}

static void long_chain(struct scene *scene)
{
    scene->chain_count = SCENE_CHAIN_MAX;
}

/* The policy accepts only the modes of `arg`, as bits. */
static void only_modes(struct scene *scene)
{
    scene->policy_message.n_ek_trust = 0;
    for (unsigned mode = POSTERN__V1__EK_TRUST__EK_TRUST_VENDOR_CERT;
         mode <= POSTERN__V1__EK_TRUST__EK_TRUST_TOFU; mode++) {
        if (scene->arg & 1U << mode)
            scene->trust[scene->policy_message.n_ek_trust++] = (Postern__V1__EkTrust)mode;
    }
}

static void pinned_is_another(struct scene *scene)
{
    scene->pin[0][31] ^= 1;
    scene->in.pins = scene->pin;
    scene->in.pin_count = 1;
}

static void certificate_of_another_key(struct scene *scene)
{
    scene->certificate_spec.key = scene->tpm->other;
}

static void ek_attribute(struct scene *scene)
{
    scene->ek.objectAttributes ^= (TPMA_OBJECT)scene->arg;
}

static void ek_policy(struct scene *scene)
{
    scene->ek.authPolicy.buffer[0] ^= 1;
}

static void ek_is_a_storage_key(struct scene *scene)
{
    template_fill(TEMPLATE_WRAP_ECC_P256, &scene->ek);
    softtpm_area_key(&scene->ek, scene->tpm->ek);
}

/* ---- 4: admission ---- */

static void never_seen(struct scene *scene)
{
    scene->record = (struct attest_record){0};
}

static void never_seen_without_policy(struct scene *scene)
{
    scene->record = (struct attest_record){0};
    scene->in.policy = nullptr;
}

static void not_admitted(struct scene *scene)
{
    scene->record.admitted = false;
}

static void denied(struct scene *scene)
{
    scene->record.denied = true;
}

static void denied_with_token(struct scene *scene)
{
    scene->record.denied = true;
    scene->in.token_valid = true;
}

static void recorded_with_another_ek(struct scene *scene)
{
    scene->record.ek_name.name[33] ^= 1;
}

static void admitted_without_policy(struct scene *scene)
{
    scene->in.policy = nullptr;
}

/* ---- 5 to 8: the AK ---- */

static void claimed_name(struct scene *scene)
{
    scene->identity.ak_name.name[33] ^= 1;
}

static void ak_attribute(struct scene *scene)
{
    scene->ak.objectAttributes ^= (TPMA_OBJECT)scene->arg;
}

static void ak_without_scheme(struct scene *scene)
{
    scene->ak.parameters.eccDetail.scheme.scheme = TPM2_ALG_NULL;
}

static void ak_of_sha512(struct scene *scene)
{
    scene->ak.parameters.eccDetail.scheme.details.ecdsa.hashAlg = TPM2_ALG_SHA512;
}

static void ak_of_schnorr(struct scene *scene)
{
    scene->ak.parameters.eccDetail.scheme.scheme = TPM2_ALG_ECSCHNORR;
}

static void sign_by_ecdsa(struct scene *scene)
{
    for (size_t i = 0; i < PART_COUNT; i++)
        scene->parts[i].scheme = TPM2_ALG_ECDSA;
}

static void ak_of_rsa_1024(struct scene *scene)
{
    template_fill(TEMPLATE_AK_RSA_2048, &scene->ak);
    scene->ak.parameters.rsaDetail.keyBits = 1024;
    softtpm_area_key(&scene->ak, scene->tpm->rsa_weak);
    scene->ak_key = scene->tpm->rsa_weak;
}

static void wrong_answer(struct scene *scene)
{
    scene->answer[31] ^= 1;
}

static void short_answer(struct scene *scene)
{
    scene->evidence.credential.len = 31;
}

static void no_answer(struct scene *scene)
{
    scene->evidence.credential = (ProtobufCBinaryData){0, nullptr};
}

static void nothing_asked(struct scene *scene)
{
    scene->in.credential = nullptr;
    scene->record.ak_name.size = 0;
}

static void another_ak_was_proven(struct scene *scene)
{
    scene->in.credential = nullptr;
    scene->record.ak_name.name[33] ^= 1;
}

/* ---- 9, 18: who signed ---- */

static void signer_in_owner_hierarchy(struct scene *scene)
{
    struct error err = {0};
    assert_ok(name_qualified_primary(TPM2_RH_OWNER, &scene->identity.ak_name,
                                     &part_of(scene)->attested.qualifiedSigner, &err));
}

static void signer_is_a_child(struct scene *scene)
{
    struct error err = {0};
    TPM2B_NAME parent = part_of(scene)->attested.qualifiedSigner;
    assert_ok(name_qualified(&parent, &scene->identity.ak_name,
                             &part_of(scene)->attested.qualifiedSigner, &err));
}

static void signer_is_not_qualified(struct scene *scene)
{
    part_of(scene)->attested.qualifiedSigner = scene->identity.ak_name;
}

static void ak_in_owner_hierarchy(struct scene *scene)
{
    for (scene->arg = 0; scene->arg < PART_COUNT; scene->arg++)
        signer_in_owner_hierarchy(scene);
}

/* ---- Any part: 10, 11, 12, 13, 38 ---- */

static void made_by_software(struct scene *scene)
{
    part_of(scene)->attested.magic = 0x00544347;
}

static void something_trails(struct scene *scene)
{
    part_of(scene)->trailing = "and more";
}

static void signed_by_another_key(struct scene *scene)
{
    part_of(scene)->key = scene->tpm->other;
}

static void broken_signature(struct scene *scene)
{
    ProtobufCBinaryData signature = part_of(scene)->message.signature;
    signature.data[signature.len - 1] ^= 1;
}

static void no_signature(struct scene *scene)
{
    part_of(scene)->message.signature.len = 0;
}

static void signature_trails(struct scene *scene)
{
    buf_put_u8(&part_of(scene)->signature, 0);
    part_of(scene)->message.signature =
        (ProtobufCBinaryData){part_of(scene)->signature.len, part_of(scene)->signature.data};
}

static void signed_by_sha1(struct scene *scene)
{
    part_of(scene)->hash = TPM2_ALG_SHA1;
}

static void signed_by_sha384(struct scene *scene)
{
    part_of(scene)->hash = TPM2_ALG_SHA384; /* strong, but not the key's own */
}

static void signed_by_rsa(struct scene *scene)
{
    part_of(scene)->key = scene->tpm->rsa;
    part_of(scene)->scheme = TPM2_ALG_RSASSA;
}

static void tagged_as_quote(struct scene *scene)
{
    part_of(scene)->kind = BINDING_QUOTE;
}

static void tagged_as_certify(struct scene *scene)
{
    part_of(scene)->kind = BINDING_CERTIFY;
}

static const uint8_t other_bytes[32] = {1};
static TPM2B_NAME other_name = {.size = 34, .name = {0, 0x0b}};

static void other_nonce(struct scene *scene)
{
    part_of(scene)->binding.nonce = SLICE_OF(other_bytes);
}

static void other_agent(struct scene *scene)
{
    part_of(scene)->binding.agent_id = slice_str("00112233445566778899aabbccddeeff");
}

static void other_ak(struct scene *scene)
{
    part_of(scene)->binding.ak = &other_name;
}

static void other_wrap(struct scene *scene)
{
    part_of(scene)->binding.wrap = &other_name;
}

static void other_req(struct scene *scene)
{
    part_of(scene)->binding.req = &other_name;
}

static void other_counter(struct scene *scene)
{
    part_of(scene)->binding.counter = &other_name;
}

static void other_csr(struct scene *scene)
{
    part_of(scene)->binding.csr = slice_str("a request for another key");
}

static void other_hello(struct scene *scene)
{
    part_of(scene)->binding.hello = slice_str("a hello that nobody sent");
}

static void other_connection(struct scene *scene)
{
    part_of(scene)->binding.exporter = SLICE_OF(other_bytes);
}

static void no_extra(struct scene *scene)
{
    part_of(scene)->has_extra = true;
}

/* ---- 10: WRAP and REQ ---- */

static void certifies_another_key(struct scene *scene)
{
    part_of(scene)->attested.attested.certify.name = other_name;
}

static void certifies_the_ak(struct scene *scene)
{
    part_of(scene)->attested.attested.certify.name = scene->identity.ak_name;
}

static void wrap_attribute(struct scene *scene)
{
    scene->wrap.objectAttributes ^= (TPMA_OBJECT)scene->arg;
}

static void wrap_policy(struct scene *scene)
{
    scene->wrap.authPolicy.size = 32;
}

static void wrap_by_aes_256(struct scene *scene)
{
    scene->wrap.parameters.eccDetail.symmetric.keyBits.aes = 256;
}

static void wrap_of_sha384(struct scene *scene)
{
    scene->wrap.nameAlg = TPM2_ALG_SHA384;
}

static void req_attribute(struct scene *scene)
{
    scene->req.objectAttributes ^= (TPMA_OBJECT)scene->arg;
}

static void req_is_rsa(struct scene *scene)
{
    template_fill(TEMPLATE_AK_RSA_2048, &scene->req);
    scene->req.objectAttributes ^= TPMA_OBJECT_RESTRICTED;
    softtpm_area_key(&scene->req, scene->tpm->rsa);
}

static void req_without_scheme(struct scene *scene)
{
    scene->req.parameters.eccDetail.scheme.scheme = TPM2_ALG_NULL;
}

/* ---- 14: the nonce ---- */

static void nonce_used(struct scene *scene)
{
    scene->in.nonce.unused = false;
}

static void nonce_of_another(struct scene *scene)
{
    scene->in.nonce.of_agent = false;
}

static void nonce_age(struct scene *scene)
{
    scene->in.nonce.age_ms = (int64_t)scene->arg;
}

/* ---- 15, 16, 17: what is quoted ---- */

/* The signed selection is `bank` with the PCRs of `arg`; the values are labelled as if it were the one
 * that was asked for. */
static void quote_bank(struct scene *scene, TPMI_ALG_HASH bank)
{
    const struct pcr_selection quoted = {1, {{bank, (uint32_t)scene->arg}}};
    pcr_selection_to_tpml(&quoted, &scene->parts[PART_QUOTE].attested.attested.quote.pcrSelect);
}

static void quotes_pcrs(struct scene *scene)
{
    quote_bank(scene, TPM2_ALG_SHA256);
}

static void quotes_sha384(struct scene *scene)
{
    quote_bank(scene, TPM2_ALG_SHA384);
}

static void quotes_two_banks(struct scene *scene)
{
    const struct pcr_selection quoted = {2, {{TPM2_ALG_SHA256, SCENE_PCRS}, {TPM2_ALG_SHA1, 1}}};
    pcr_selection_to_tpml(&quoted, &scene->parts[PART_QUOTE].attested.attested.quote.pcrSelect);
}

static void other_state_quoted(struct scene *scene)
{
    scene->parts[PART_QUOTE].attested.attested.quote.pcrDigest.buffer[0] ^= 1;
}

static void digest_cut(struct scene *scene)
{
    scene->parts[PART_QUOTE].attested.attested.quote.pcrDigest.size = 16;
}

/* The quoted values, under other numbers. */
static void values_relabelled(struct scene *scene)
{
    scene->values.selection.bank[0].mask = (uint32_t)scene->arg;
}

static void values_of_a_second_bank(struct scene *scene)
{
    struct pcr_values *values = &scene->values;
    values->selection.bank[values->selection.count++] = (struct pcr_bank){TPM2_ALG_SHA384, 1};
    values->value[values->count++] = scene_value(TPM2_ALG_SHA384, 0);
}

/* As long in bytes, so the digest fits: three of 32 for two of 48. */
static void values_of_another_size(struct scene *scene)
{
    struct pcr_values *values = &scene->values;
    uint8_t all[4 * 32];
    for (size_t i = 0; i < 4; i++)
        mem_copy(all + 32 * i, values->value[i].buffer, 32);
    values->selection = (struct pcr_selection){
        2, {{TPM2_ALG_SHA384, 1U << 0 | 1U << 2}, {TPM2_ALG_SHA256, 1U << 4}}};
    values->count = 3;
    for (size_t i = 0; i < 3; i++) {
        values->value[i].size = i < 2 ? 48 : 32;
        mem_copy(values->value[i].buffer, all + 48 * i, values->value[i].size);
    }
}

static void asked_for_sha1(struct scene *scene)
{
    scene->asked.bank[0].alg = TPM2_ALG_SHA1;
}

/* ---- 19, 20, 23: clock and firmware ---- */

static void counts(struct scene *scene)
{
    TPMS_CLOCK_INFO *clock = &scene->parts[PART_QUOTE].attested.clockInfo;
    clock->resetCount = (uint32_t)(scene->arg >> 8);
    clock->restartCount = (uint32_t)(scene->arg & 0xff);
    clock->clock = 1'000'000;
}

static void counts_with_a_stale_word(struct scene *scene)
{
    scene->record.clear_accepted = true; /* but WRAP is the recorded one: nobody cleared it */
    counts(scene);
}

static void clock_is(struct scene *scene)
{
    scene->parts[PART_QUOTE].attested.clockInfo.clock = scene->arg;
}

static void clock_with_a_stale_word(struct scene *scene)
{
    scene->record.clear_accepted = true;
    clock_is(scene);
}

static void old_firmware(struct scene *scene)
{
    scene->policy_message.firmware_floor = (char *)(uintptr_t)"2024000100000003";
}

/* ---- 37, 38: the counter ---- */

static void counter_at(struct scene *scene)
{
    scene->parts[PART_COUNTER].attested.attested.nv.nvContents.buffer[7] = (uint8_t)scene->arg;
}

static void counter_with_a_stale_word(struct scene *scene)
{
    scene->record.clear_accepted = true;
    counter_at(scene);
}

/* It was cleared, but the counter of a TPM never restarts lower. */
static void counter_below_after_clear(struct scene *scene)
{
    scene->record.clear_accepted = true;
    scene->record.wrap_name = other_name;
    counter_at(scene);
}

static void counter_is_another(struct scene *scene)
{
    scene->record.counter_name = other_name;
}

static void counter_is_another_with_a_stale_word(struct scene *scene)
{
    scene->record.clear_accepted = true;
    counter_is_another(scene);
}

static void counter_attribute(struct scene *scene)
{
    scene->counter.attributes ^= (TPMA_NV)scene->arg;
}

static void counter_size(struct scene *scene)
{
    scene->counter.dataSize = (uint16_t)scene->arg;
}

static void counter_policy(struct scene *scene)
{
    scene->counter.authPolicy.size = 32;
}

static void counter_of_sha384(struct scene *scene)
{
    scene->counter.nameAlg = TPM2_ALG_SHA384;
}

static void counter_elsewhere(struct scene *scene)
{
    scene->parts[PART_COUNTER].attested.attested.nv.indexName = other_name;
}

/* The Name as it was before its first increment: without WRITTEN. */
static void counter_named_unwritten(struct scene *scene)
{
    struct error err = {0};
    TPMS_NV_PUBLIC area;
    nv_counter_area(SCENE_COUNTER_INDEX, false, &area);
    assert_ok(
        nv_area_name(&area, &scene->parts[PART_COUNTER].attested.attested.nv.indexName, &err));
}

static void counter_offset(struct scene *scene)
{
    scene->parts[PART_COUNTER].attested.attested.nv.offset = (uint16_t)scene->arg;
}

static void counter_contents(struct scene *scene)
{
    scene->parts[PART_COUNTER].attested.attested.nv.nvContents.size = (uint16_t)scene->arg;
}

/* ---- 39: the policy ---- */

static void booted_something_else(struct scene *scene)
{
    scene->rule_values[2][0] ^= 1; /* the policy allows another PCR 4 */
}

static void reported_only(struct scene *scene)
{
    booted_something_else(scene);
    scene->policy_message.has_report_only = scene->policy_message.report_only = true;
}

static void asked_for_less(struct scene *scene)
{
    scene->asked.bank[0].mask = (uint32_t)scene->arg;
}

/* Bits of `arg`. */
constexpr uint64_t VENDOR = 1U << POSTERN__V1__EK_TRUST__EK_TRUST_VENDOR_CERT;
constexpr uint64_t PINNED = 1U << POSTERN__V1__EK_TRUST__EK_TRUST_PINNED;

/* clang-format off */
const struct lie lies[] = {
    {"no roots", .at_last = no_roots, .checks = {1}, .says = "ek_roots"},
    {"another root of the same name", .before_hello = other_root, .checks = {1}, .says = "chain"},
    {"no certificate", .at_last = no_certificate, .checks = {1}, .says = "no EK certificate"},
    {"expired", .before_hello = expired, .checks = {1}, .says = "expired"},
    {"not yet valid", .before_hello = not_yet_valid, .checks = {1}, .says = "not yet valid"},
    {"no EKU", .before_hello = no_usage, .checks = {1}, .says = "extended key usage"},
    {"another EKU", .before_hello = other_usage, .checks = {1}, .says = "extended key usage"},
    {"a CA's certificate", .before_hello = certificate_of_a_ca, .checks = {1}, .says = "a CA's"},
    {"nine intermediates", .before_hello = long_chain, .checks = {1}, .says = "at most 8"},
    {"garbage for a certificate", .before_hello = garbage_certificate, .checks = {1, 2},
     .says = "can't be read"},
    {"only pinned, and none is", .before_hello = only_modes, .arg = PINNED, .checks = {1},
     .says = "ek_pinned"},
    {"only pinned, and it is another", .before_hello = only_modes, .at_last = pinned_is_another,
     .arg = PINNED, .checks = {1}, .says = "ek_pinned"},
    {"vendor or pinned, and it is neither", .before_hello = only_modes, .at_last = no_roots,
     .arg = VENDOR | PINNED, .checks = {1}, .says = "ek_roots"},

    {"a certificate of another key", .before_hello = certificate_of_another_key, .checks = {2},
     .says = "another key"},

    {"an EK that is exempt from lockout", .before_hello = ek_attribute, .arg = TPMA_OBJECT_NODA,
     .checks = {3}, .says = "none of the TCG's templates", .forged = true},
    {"an EK that is not fixed", .before_hello = ek_attribute, .arg = TPMA_OBJECT_FIXEDTPM,
     .checks = {3}, .says = "none of the TCG's templates", .forged = true},
    {"an unrestricted EK", .before_hello = ek_attribute, .arg = TPMA_OBJECT_RESTRICTED,
     .checks = {3}, .says = "none of the TCG's templates", .forged = true},
    {"an EK with a policy of its own", .before_hello = ek_policy, .checks = {3},
     .says = "none of the TCG's templates", .forged = true},
    {"a storage key for an EK", .before_hello = ek_is_a_storage_key, .checks = {3},
     .says = "none of the TCG's templates", .forged = true},

    {"never seen", .at_last = never_seen, .checks = {4}, .verdict = PENDING,
     .says = "posternctl node approve"},
    {"never seen, no policy", .at_last = never_seen_without_policy, .checks = {4},
     .verdict = PENDING, .says = "posternctl node approve"},
    {"not admitted", .at_last = not_admitted, .checks = {4}, .verdict = PENDING,
     .says = "posternctl node approve"},
    {"admitted, but the policy is gone", .at_last = admitted_without_policy, .checks = {4},
     .verdict = PENDING, .says = "no policy"},
    {"denied", .at_last = denied, .checks = {4}, .says = "denied"},
    {"denied, with a token", .at_last = denied_with_token, .checks = {4}, .says = "denied"},
    {"recorded with another EK", .at_last = recorded_with_another_ek, .checks = {4},
     .says = "another EK", .forged = true},

    {"a claimed Name of the AK", .before_parts = claimed_name, .checks = {5},
     .says = "not that of its public area", .forged = true},

    {"an AK of another TPM", .before_hello = ak_attribute, .arg = TPMA_OBJECT_FIXEDTPM,
     .checks = {6}, .says = "attributes", .forged = true},
    {"an AK that may move", .before_hello = ak_attribute, .arg = TPMA_OBJECT_FIXEDPARENT,
     .checks = {6}, .says = "attributes", .forged = true},
    {"an AK that was imported", .before_hello = ak_attribute,
     .arg = TPMA_OBJECT_SENSITIVEDATAORIGIN, .checks = {6}, .says = "attributes", .forged = true},
    {"an unrestricted AK", .before_hello = ak_attribute, .arg = TPMA_OBJECT_RESTRICTED,
     .checks = {6}, .says = "attributes", .forged = true},
    {"an AK that decrypts", .before_hello = ak_attribute, .arg = TPMA_OBJECT_DECRYPT,
     .checks = {6}, .says = "attributes", .forged = true},
    {"an AK that may not sign", .before_hello = ak_attribute, .arg = TPMA_OBJECT_SIGN_ENCRYPT,
     .checks = {6, 10, 12, 38}, .says = "attributes", .forged = true},

    {"an AK without a scheme", .before_hello = ak_without_scheme, .checks = {7, 16},
     .says = "the AK is none of", .forged = true},
    {"an AK of SHA-512", .before_hello = ak_of_sha512, .checks = {7, 10, 12, 38},
     .says = "the AK is none of", .forged = true},
    {"an AK of EC-Schnorr", .before_hello = ak_of_schnorr, .before_signing = sign_by_ecdsa,
     .checks = {7, 10, 12, 38}, .says = "the AK is none of", .forged = true},
    {"an AK of RSA-1024", .before_hello = ak_of_rsa_1024, .checks = {7, 10, 12, 38},
     .says = "the AK is none of", .forged = true},

    {"a wrong answer", .at_last = wrong_answer, .checks = {8}, .says = "not activated",
     .forged = true},
    {"a short answer", .at_last = short_answer, .checks = {8}, .says = "not activated",
     .forged = true},
    {"no answer", .at_last = no_answer, .checks = {8}, .says = "not activated", .forged = true},
    {"nothing was asked", .at_last = nothing_asked, .checks = {8}, .says = "no credential",
     .forged = true},
    {"another AK was proven", .at_last = another_ak_was_proven, .checks = {8},
     .says = "no credential", .forged = true},

    {"the quote's signer is the owner's", .before_signing = signer_in_owner_hierarchy,
     .arg = PART_QUOTE, .checks = {9}, .says = "endorsement hierarchy", .forged = true},
    {"the quote's signer is a child", .before_signing = signer_is_a_child, .arg = PART_QUOTE,
     .checks = {9}, .says = "endorsement hierarchy", .forged = true},
    {"the quote's signer is a bare Name", .before_signing = signer_is_not_qualified,
     .arg = PART_QUOTE, .checks = {9}, .says = "endorsement hierarchy", .forged = true},
    {"the AK is the owner's", .before_signing = ak_in_owner_hierarchy, .checks = {9, 18},
     .says = "endorsement hierarchy", .forged = true},

    {"WRAP made by software", .before_signing = made_by_software, .arg = PART_WRAP,
     .checks = {10}, .says = "WRAP: attestation: magic"},
    {"something trails WRAP", .before_signing = something_trails, .arg = PART_WRAP,
     .checks = {10}, .says = "8 trailing bytes"},
    {"WRAP by another key", .before_signing = signed_by_another_key, .arg = PART_WRAP,
     .checks = {10}, .says = "does not verify"},
    {"REQ by another key", .before_signing = signed_by_another_key, .arg = PART_REQ,
     .checks = {10}, .says = "REQ: signature"},
    {"WRAP with a broken signature", .at_last = broken_signature, .arg = PART_WRAP,
     .checks = {10}, .says = "does not verify"},
    {"WRAP with no signature", .at_last = no_signature, .arg = PART_WRAP, .checks = {10},
     .says = "malformed signature"},
    {"WRAP for another challenge", .before_signing = other_nonce, .arg = PART_WRAP,
     .checks = {10}, .says = "extraData"},
    {"REQ for another challenge", .before_signing = other_nonce, .arg = PART_REQ, .checks = {10},
     .says = "REQ: extraData"},
    {"WRAP with the quote's tag", .before_signing = tagged_as_quote, .arg = PART_WRAP,
     .checks = {10}, .says = "extraData"},
    {"another key for WRAP", .before_signing = certifies_another_key, .arg = PART_WRAP,
     .checks = {10}, .says = "WRAP: the AK certified another key"},
    {"the AK for REQ", .before_signing = certifies_the_ak, .arg = PART_REQ, .checks = {10},
     .says = "REQ: the AK certified another key"},
    {"WRAP that is not fixed", .before_hello = wrap_attribute, .arg = TPMA_OBJECT_FIXEDTPM,
     .checks = {10}, .says = "WRAP: WRAP (ECC P-256): attributes"},
    {"WRAP that may move", .before_hello = wrap_attribute, .arg = TPMA_OBJECT_FIXEDPARENT,
     .checks = {10}, .says = "attributes"},
    {"WRAP that was imported", .before_hello = wrap_attribute,
     .arg = TPMA_OBJECT_SENSITIVEDATAORIGIN, .checks = {10}, .says = "attributes"},
    {"an unrestricted WRAP", .before_hello = wrap_attribute, .arg = TPMA_OBJECT_RESTRICTED,
     .checks = {10}, .says = "attributes"},
    {"WRAP with a policy", .before_hello = wrap_policy, .checks = {10},
     .says = "the policy differs"},
    {"WRAP of AES-256", .before_hello = wrap_by_aes_256, .checks = {10},
     .says = "symmetric algorithm"},
    {"WRAP of SHA-384", .before_hello = wrap_of_sha384, .checks = {10}, .says = "nameAlg"},
    {"REQ that is not fixed", .before_hello = req_attribute, .arg = TPMA_OBJECT_FIXEDTPM,
     .checks = {10}, .says = "REQ: REQ (ECC P-256): attributes"},
    {"REQ that was imported", .before_hello = req_attribute,
     .arg = TPMA_OBJECT_SENSITIVEDATAORIGIN, .checks = {10}, .says = "attributes"},
    {"REQ that decrypts", .before_hello = req_attribute, .arg = TPMA_OBJECT_DECRYPT,
     .checks = {10}, .says = "attributes"},
    {"REQ of RSA", .before_hello = req_is_rsa, .checks = {10}, .says = "type rsa"},
    {"REQ without a scheme", .before_hello = req_without_scheme, .checks = {10},
     .says = "scheme differs"},

    {"a quote made by software", .before_signing = made_by_software, .arg = PART_QUOTE,
     .checks = {11}, .says = "no TPM made this", .forged = true},
    {"something trails the quote", .before_signing = something_trails, .arg = PART_QUOTE,
     .checks = {11}, .says = "8 trailing bytes", .forged = true},

    {"a quote by another key", .before_signing = signed_by_another_key, .arg = PART_QUOTE,
     .checks = {12}, .says = "does not verify", .forged = true},
    {"a quote by an RSA key", .before_signing = signed_by_rsa, .arg = PART_QUOTE, .checks = {12},
     .says = "does not fit", .forged = true},
    {"a quote by SHA-1", .before_signing = signed_by_sha1, .arg = PART_QUOTE, .checks = {12},
     .says = "sha1", .forged = true},
    {"a quote by another hash", .before_signing = signed_by_sha384, .arg = PART_QUOTE,
     .checks = {12}, .says = "does not fit", .forged = true},
    {"a quote with a broken signature", .at_last = broken_signature, .arg = PART_QUOTE,
     .checks = {12}, .says = "does not verify", .forged = true},
    {"a quote with no signature", .at_last = no_signature, .arg = PART_QUOTE, .checks = {12},
     .says = "malformed signature", .forged = true},
    {"something trails the quote's signature", .at_last = signature_trails, .arg = PART_QUOTE,
     .checks = {12}, .says = "trailing", .forged = true},

    {"another nonce", .before_signing = other_nonce, .arg = PART_QUOTE, .checks = {13},
     .says = "extraData", .forged = true},
    {"another agent", .before_signing = other_agent, .arg = PART_QUOTE, .checks = {13},
     .says = "extraData", .forged = true},
    {"another AK's Name", .before_signing = other_ak, .arg = PART_QUOTE, .checks = {13},
     .says = "extraData", .forged = true},
    {"another WRAP's Name", .before_signing = other_wrap, .arg = PART_QUOTE, .checks = {13},
     .says = "extraData", .forged = true},
    {"another REQ's Name", .before_signing = other_req, .arg = PART_QUOTE, .checks = {13},
     .says = "extraData", .forged = true},
    {"another counter's Name", .before_signing = other_counter, .arg = PART_QUOTE, .checks = {13},
     .says = "extraData", .forged = true},
    {"another CSR", .before_signing = other_csr, .arg = PART_QUOTE, .checks = {13},
     .says = "extraData", .forged = true},
    {"another hello", .before_signing = other_hello, .arg = PART_QUOTE, .checks = {13},
     .says = "extraData", .forged = true},
    {"another connection", .before_signing = other_connection, .arg = PART_QUOTE, .checks = {13},
     .says = "extraData", .forged = true},
    {"the tag of a certification", .before_signing = tagged_as_certify, .arg = PART_QUOTE,
     .checks = {13}, .says = "extraData", .forged = true},
    {"no extraData", .before_signing = no_extra, .arg = PART_QUOTE, .checks = {13},
     .says = "extraData", .forged = true},

    {"a nonce that was used", .at_last = nonce_used, .checks = {14}, .says = "before",
     .forged = true},
    {"a nonce of another agent", .at_last = nonce_of_another, .checks = {14},
     .says = "another agent", .forged = true},
    {"a stale nonce", .at_last = nonce_age, .arg = ATTEST_NONCE_LIFETIME_MS + 1, .checks = {14},
     .says = "60001 ms", .forged = true},
    {"a nonce of the future", .at_last = nonce_age, .arg = UINT64_MAX, .checks = {14},
     .says = "-1 ms", .forged = true},

    {"PCR 16 poses as 7", .before_signing = quotes_pcrs,
     .arg = (SCENE_PCRS ^ 1U << 7) | 1U << 16, .checks = {15},
     .says = "sha256:0,2,4,7 was asked for, sha256:0,2,4,16 is quoted"},
    {"PCR 23 poses as 0", .before_signing = quotes_pcrs, .arg = (SCENE_PCRS ^ 1) | 1U << 23,
     .checks = {15}, .says = "sha256:2,4,7,23 is quoted"},
    {"one PCR less", .before_signing = quotes_pcrs, .arg = SCENE_PCRS ^ 1U << 7, .checks = {15},
     .says = "sha256:0,2,4 is quoted"},
    {"one PCR more", .before_signing = quotes_pcrs, .arg = SCENE_PCRS | 1U << 9, .checks = {15},
     .says = "sha256:0,2,4,7,9 is quoted"},
    {"another bank", .before_signing = quotes_sha384, .arg = SCENE_PCRS, .checks = {15},
     .says = "sha384:0,2,4,7 is quoted"},
    {"a second bank", .before_signing = quotes_two_banks, .checks = {15},
     .says = "sha256:0,2,4,7+sha1:0 is quoted"},
    {"nothing is quoted", .before_signing = quotes_pcrs, .arg = 0, .checks = {15, 17},
     .says = "sha256: is quoted"},

    {"another state is quoted", .before_signing = other_state_quoted, .checks = {16},
     .says = "not those that were quoted"},
    {"half a digest", .before_signing = digest_cut, .checks = {16},
     .says = "not those that were quoted"},
    {"the values under other numbers", .before_signing = values_relabelled,
     .arg = (SCENE_PCRS ^ 1U << 0) | 1U << 6, .checks = {16, 39},
     .says = "values of sha256:2,4,6,7 came"},
    {"values of a bank that nobody asked for", .before_signing = values_of_a_second_bank,
     .checks = {16}, .says = "values of sha256:0,2,4,7+sha384:0 came"},
    {"the same bytes cut differently", .before_signing = values_of_another_size,
     .checks = {16, 39}, .says = "values of sha384:0,2+sha256:4 came"},

    {"SHA-1 only", .before_parts = asked_for_sha1, .checks = {17, 39}, .says = "SHA-256 or"},

    {"WRAP's signer is the owner's", .before_signing = signer_in_owner_hierarchy,
     .arg = PART_WRAP, .checks = {18}, .says = "WRAP's certification: the signer"},
    {"REQ's signer is the owner's", .before_signing = signer_in_owner_hierarchy, .arg = PART_REQ,
     .checks = {18}, .says = "REQ's certification: the signer"},
    {"the counter's signer is the owner's", .before_signing = signer_in_owner_hierarchy,
     .arg = PART_COUNTER, .checks = {18}, .says = "the counter's certification: the signer"},
    {"WRAP's signer is a child", .before_signing = signer_is_a_child, .arg = PART_WRAP,
     .checks = {18}, .says = "WRAP's certification: the signer"},

    {"fewer resets", .before_signing = counts, .arg = 4 << 8 | 9, .checks = {19},
     .says = "from 5.2 to 4.9"},
    {"fewer restarts", .before_signing = counts, .arg = 5 << 8 | 1, .checks = {19},
     .says = "from 5.2 to 5.1"},
    {"no resets at all", .before_signing = counts, .arg = 0, .checks = {19},
     .says = "node accept-clear"},
    {"fewer resets, excused for a clear that was not", .before_signing = counts_with_a_stale_word,
     .arg = 0, .checks = {19}, .says = "node accept-clear"},

    {"the same clock", .before_signing = clock_is, .arg = 1999, .checks = {20},
     .says = "1999 ms after 1999 ms"},
    {"an earlier clock", .before_signing = clock_is, .arg = 1, .checks = {20},
     .says = "1 ms after 1999 ms"},
    {"an earlier clock, excused for a clear that was not",
     .before_signing = clock_with_a_stale_word, .arg = 1, .checks = {20}, .says = "1 ms after"},

    {"old firmware", .before_hello = old_firmware, .checks = {23},
     .says = "2024000100000002, the policy asks for 2024000100000003"},

    {"the counter is one below its limit", .before_signing = counter_at, .arg = SCENE_LIMIT - 1,
     .checks = {37}, .verdict = WARNING, .says = "unfinished"},
    {"the counter is beyond its limit", .before_signing = counter_at, .arg = SCENE_LIMIT + 1,
     .checks = {37}, .says = "beyond its limit 7"},
    {"the counter is far beyond its limit", .before_signing = counter_at, .arg = 255,
     .checks = {37}, .says = "beyond its limit 7"},
    {"the counter went back", .before_signing = counter_at, .arg = SCENE_LIMIT - 2,
     .checks = {37}, .says = "can't go back"},
    {"the counter is zero", .before_signing = counter_at, .arg = 0, .checks = {37},
     .says = "can't go back"},
    {"beyond the limit, excused for a clear that was not",
     .before_signing = counter_with_a_stale_word, .arg = SCENE_LIMIT + 1, .checks = {37},
     .says = "beyond its limit"},
    {"the counter went back in a clear", .before_signing = counter_below_after_clear,
     .arg = SCENE_LIMIT - 2, .checks = {37}, .says = "can't go back"},

    {"a second counter", .at_last = counter_is_another, .checks = {37},
     .says = "another than the one"},
    {"a second counter, excused for a clear that was not",
     .at_last = counter_is_another_with_a_stale_word, .checks = {37},
     .says = "another than the one"},

    {"a counter that the owner writes", .before_hello = counter_attribute,
     .arg = TPMA_NV_OWNERWRITE, .checks = {38}, .says = "attributes"},
    {"a counter that anybody reads", .before_hello = counter_attribute, .arg = TPMA_NV_OWNERREAD,
     .checks = {38}, .says = "attributes"},
    {"a counter subject to lockout", .before_hello = counter_attribute, .arg = TPMA_NV_NO_DA,
     .checks = {38}, .says = "attributes"},
    {"an orderly counter", .before_hello = counter_attribute, .arg = TPMA_NV_ORDERLY,
     .checks = {38}, .says = "attributes"},
    {"a counter written under a policy", .before_hello = counter_attribute,
     .arg = TPMA_NV_POLICYWRITE, .checks = {38}, .says = "attributes"},
    {"a counter that was never written", .before_hello = counter_attribute,
     .arg = TPMA_NV_WRITTEN, .checks = {38}, .says = "attributes"},
    {"no counter but ordinary storage", .before_hello = counter_attribute, .arg = 1 << 4,
     .checks = {38}, .says = "attributes"},
    {"a counter of 16 bytes", .before_hello = counter_size, .arg = 16, .checks = {38},
     .says = "its size is 16"},
    {"a counter with a policy", .before_hello = counter_policy, .checks = {38},
     .says = "it has a policy"},
    {"a counter of SHA-384", .before_hello = counter_of_sha384, .checks = {38},
     .says = "nameAlg"},
    {"another index", .before_signing = counter_elsewhere, .checks = {38},
     .says = "another NV index"},
    {"the index before it was written", .before_signing = counter_named_unwritten,
     .checks = {38}, .says = "another NV index"},
    {"the counter from its fourth byte", .before_signing = counter_offset, .arg = 4,
     .checks = {38}, .says = "8 bytes at offset 4"},
    {"16 bytes of the counter", .before_signing = counter_contents, .arg = 16, .checks = {38},
     .says = "16 bytes at offset 0"},
    {"four bytes of the counter", .before_signing = counter_contents, .arg = 4,
     .checks = {37, 38}, .says = "can't go back"},
    {"the counter by software", .before_signing = made_by_software, .arg = PART_COUNTER,
     .checks = {38}, .says = "no TPM made this"},
    {"something trails the counter", .before_signing = something_trails, .arg = PART_COUNTER,
     .checks = {38}, .says = "8 trailing bytes"},
    {"the counter by another key", .before_signing = signed_by_another_key, .arg = PART_COUNTER,
     .checks = {38}, .says = "does not verify"},
    {"the counter with a broken signature", .at_last = broken_signature, .arg = PART_COUNTER,
     .checks = {38}, .says = "does not verify"},
    {"the counter for another challenge", .before_signing = other_nonce, .arg = PART_COUNTER,
     .checks = {38}, .says = "extraData"},
    {"the counter with the tag of a certification", .before_signing = tagged_as_certify,
     .arg = PART_COUNTER, .checks = {38}, .says = "extraData"},

    {"another PCR 4", .before_hello = booted_something_else, .checks = {39},
     .says = "sha256 PCR 4 is 1414"},
    {"another PCR 4, reported only", .before_hello = reported_only, .checks = {39},
     .verdict = WARNING, .says = "sha256 PCR 4 is 1414"},
    {"a PCR of the policy that nobody asked for", .before_parts = asked_for_less,
     .arg = SCENE_PCRS ^ 1U << 7, .checks = {39}, .says = "sha256 PCR 7 is nothing"},
};
/* clang-format on */
const size_t lie_count = ARRAY_LEN(lies);
