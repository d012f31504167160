/*
 * struct scene: one conversation between a soft TPM and the verifier, honest unless told otherwise.
 *
 *   scene_open    the honest defaults
 *   scene_hello   public areas → hello → identity, policy, record    (lie before: areas, policy …)
 *   scene_parts   what is to be signed                              (lie before: names, challenge …)
 *   scene_sign    signatures → evidence                             (lie before: the structures)
 *   scene_case    all of it for attest_appraise                     (lie before: what travelled)
 *   scene_close
 *
 * Fails the running test where something can't be made.
 */
#pragma once

#include "testlib/testlib.h"

#include "attest/appraise.h"
#include "tpmwire/binding.h"
#include "unit/attest/softtpm.h"
#include "unit/spiffe/certs.h"

enum scene_part_id { PART_QUOTE, PART_WRAP, PART_REQ, PART_COUNTER, PART_COUNT };

struct scene_part {
    TPMS_ATTEST attested; /* extraData is made by scene_sign unless has_extra */
    bool has_extra;
    enum binding_kind kind;
    struct binding binding;
    EVP_PKEY *key;
    TPM2_ALG_ID scheme;
    TPMI_ALG_HASH hash;
    const char *trailing; /* signed with it */
    struct buf bytes, signature;
    Postern__V1__Attested message;
};

constexpr size_t SCENE_BANKS_MAX = PCR_BANKS_MAX + 1;
constexpr size_t SCENE_RULES_MAX = 8;
constexpr size_t SCENE_CHAIN_MAX = EK_CHAIN_PARTS_MAX + 1;

/* What the policy of every scene is sealed to and asks for. */
constexpr uint32_t SCENE_PCRS = 1U << 0 | 1U << 2 | 1U << 4 | 1U << 7;
constexpr uint64_t SCENE_LIMIT = 7;
constexpr uint32_t SCENE_COUNTER_INDEX = 0x01800010;

struct scene {
    uint64_t arg; /* of the lie */
    const struct softtpm *tpm;

    /* Hello. */
    TPMT_PUBLIC ek, ak, wrap, req;
    TPMS_NV_PUBLIC counter;
    EVP_PKEY *ak_key;
    struct cert root;
    struct cert_spec certificate_spec; /* of the EK certificate */
    struct buf certificate;            /* DER; made by scene_hello if empty */
    size_t chain_count;
    struct buf areas[5];
    ProtobufCBinaryData chain[SCENE_CHAIN_MAX];
    Postern__V1__Hello hello;
    struct buf hello_bytes;
    struct attest_identity identity;

    /* What the authority has. */
    struct ek_roots *roots;
    uint8_t pin[1][SHA256_SIZE];
    Postern__V1__AttestationPolicy policy_message;
    Postern__V1__PcrRule rules[SCENE_RULES_MAX], *rule_pointers[SCENE_RULES_MAX];
    char rule_values[SCENE_RULES_MAX][2 * 48 + 1], *rule_allowed[SCENE_RULES_MAX];
    Postern__V1__EkTrust trust[3];
    const struct attest_policy *policy;
    struct attest_record record;
    struct secret *credential;

    /* Challenge. */
    uint8_t nonce[BINDING_NONCE_SIZE], exporter[CHANNEL_BINDING_SIZE];
    struct pcr_selection asked;
    Postern__V1__PcrSelection asked_banks[SCENE_BANKS_MAX], *asked_pointers[SCENE_BANKS_MAX];
    Postern__V1__Challenge challenge;
    struct buf challenge_bytes;

    /* Evidence. */
    struct scene_part parts[PART_COUNT];
    struct pcr_values values;
    Postern__V1__PcrSelection value_selections[SCENE_BANKS_MAX];
    Postern__V1__PcrBank value_banks[SCENE_BANKS_MAX], *value_pointers[SCENE_BANKS_MAX];
    ProtobufCBinaryData value_bytes[PCR_VALUES_MAX];
    uint8_t answer[32]; /* of ActivateCredential */
    Postern__V1__Evidence evidence;
    struct buf evidence_bytes;

    struct attest_case in;
};

void scene_open(struct scene *scene, const struct softtpm *tpm);
void scene_hello(struct scene *scene);
void scene_parts(struct scene *scene);
void scene_sign(struct scene *scene);
void scene_case(struct scene *scene);
void scene_close(struct scene *scene);

/* All of them, without a lie. */
void scene_play(struct scene *scene, const struct softtpm *tpm);

/* The value that PCR `pcr` has in every scene, in a bank. */
TPM2B_DIGEST scene_value(TPMI_ALG_HASH bank, unsigned pcr);
/* Gives `values` the scene's values for a selection. */
void scene_values(const struct pcr_selection *selection, struct pcr_values *ret);
/* Adds a rule that allows the scene's value. */
void scene_rule(struct scene *scene, const char *bank, unsigned pcr);
/* Appends `certificate` as DER. */
void scene_der(X509 *certificate, struct buf *ret);
