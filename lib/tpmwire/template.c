#include "tpmwire/template.h"

#include "base/mem.h"
#include "base/slice.h"
#include "tpmwire/words.h"

/* TCG EK Credential Profile for TPM Family 2.0, annex B: the policies by which an EK may be used.
 * PolicyA is PolicySecret(the endorsement hierarchy); PolicyB is PolicyOR(PolicyA, PolicyC), where
 * PolicyC is PolicyAuthorizeNV of an index that the platform's owner defines. */
static const uint8_t policy_a_sha256[] = {
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24,
    0xfd, 0x52, 0xd7, 0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa,
};
static const uint8_t policy_b_sha256[] = {
    0xca, 0x3d, 0x0a, 0x99, 0xa2, 0xb9, 0x39, 0x06, 0xf7, 0xa3, 0x34, 0x24, 0x14, 0xef, 0xcf, 0xb3,
    0xa3, 0x85, 0xd4, 0x4c, 0xd1, 0xfd, 0x45, 0x90, 0x89, 0xd1, 0x9b, 0x50, 0x71, 0xc0, 0xb7, 0xa0,
};
static const uint8_t policy_b_sha384[] = {
    0xb2, 0x6e, 0x7d, 0x28, 0xd1, 0x1a, 0x50, 0xbc, 0x53, 0xd8, 0x82, 0xbc, 0xf5, 0xfd, 0x3a, 0x1a,
    0x07, 0x41, 0x48, 0xbb, 0x35, 0xd3, 0xb4, 0xe4, 0xcb, 0x1c, 0x0a, 0xd9, 0xbd, 0xe4, 0x19, 0xca,
    0xcb, 0x47, 0xba, 0x09, 0x69, 0x96, 0x46, 0x15, 0x0f, 0x9f, 0xc0, 0x00, 0xf3, 0xf8, 0x0e, 0x12,
};

constexpr TPMA_OBJECT MADE_INSIDE =
    TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT | TPMA_OBJECT_SENSITIVEDATAORIGIN;
constexpr TPMA_OBJECT STORAGE = MADE_INSIDE | TPMA_OBJECT_RESTRICTED | TPMA_OBJECT_DECRYPT;
constexpr TPMA_OBJECT EK_LOW = STORAGE | TPMA_OBJECT_ADMINWITHPOLICY;
constexpr TPMA_OBJECT EK_HIGH = EK_LOW | TPMA_OBJECT_USERWITHAUTH;
/* Ours have an empty authValue, so nobody can guess it wrong, and a lockout that somebody else
 * brought about must not stop attestation: noDA. */
constexpr TPMA_OBJECT OURS = TPMA_OBJECT_USERWITHAUTH | TPMA_OBJECT_NODA;
constexpr TPMA_OBJECT ATTESTATION =
    MADE_INSIDE | OURS | TPMA_OBJECT_RESTRICTED | TPMA_OBJECT_SIGN_ENCRYPT;
constexpr TPMA_OBJECT SIGNING = MADE_INSIDE | OURS | TPMA_OBJECT_SIGN_ENCRYPT;

struct shape {
    const char *name;
    TPMI_ALG_PUBLIC type;
    TPMI_ALG_HASH name_alg;
    TPMA_OBJECT attributes;
    struct slice policy;
    uint16_t aes_bits; /* CFB; 0: no symmetric algorithm */
    uint16_t size;     /* bits of the RSA modulus, or the curve */
    TPM2_ALG_ID scheme;
    uint16_t zeros; /* bytes in each buffer of `unique` when the key is made */
};

#define POLICY(bytes) {bytes, sizeof(bytes)}
#define NO_POLICY {nullptr, 0}

static const struct shape shapes[TEMPLATE_COUNT] = {
    [TEMPLATE_EK_L1_RSA_2048] = {"EK L-1 (RSA 2048)", TPM2_ALG_RSA, TPM2_ALG_SHA256, EK_LOW,
                                 POLICY(policy_a_sha256), 128, 2048, TPM2_ALG_NULL, 256},
    [TEMPLATE_EK_L2_ECC_P256] = {"EK L-2 (ECC P-256)", TPM2_ALG_ECC, TPM2_ALG_SHA256, EK_LOW,
                                 POLICY(policy_a_sha256), 128, TPM2_ECC_NIST_P256, TPM2_ALG_NULL,
                                 32},
    [TEMPLATE_EK_H1_RSA_2048] = {"EK H-1 (RSA 2048)", TPM2_ALG_RSA, TPM2_ALG_SHA256, EK_HIGH,
                                 POLICY(policy_b_sha256), 128, 2048, TPM2_ALG_NULL, 0},
    [TEMPLATE_EK_H2_ECC_P256] = {"EK H-2 (ECC P-256)", TPM2_ALG_ECC, TPM2_ALG_SHA256, EK_HIGH,
                                 POLICY(policy_b_sha256), 128, TPM2_ECC_NIST_P256, TPM2_ALG_NULL,
                                 0},
    [TEMPLATE_EK_H3_ECC_P384] = {"EK H-3 (ECC P-384)", TPM2_ALG_ECC, TPM2_ALG_SHA384, EK_HIGH,
                                 POLICY(policy_b_sha384), 256, TPM2_ECC_NIST_P384, TPM2_ALG_NULL,
                                 0},
    [TEMPLATE_EK_H6_RSA_3072] = {"EK H-6 (RSA 3072)", TPM2_ALG_RSA, TPM2_ALG_SHA384, EK_HIGH,
                                 POLICY(policy_b_sha384), 256, 3072, TPM2_ALG_NULL, 0},
    [TEMPLATE_EK_H7_RSA_4096] = {"EK H-7 (RSA 4096)", TPM2_ALG_RSA, TPM2_ALG_SHA384, EK_HIGH,
                                 POLICY(policy_b_sha384), 256, 4096, TPM2_ALG_NULL, 0},
    [TEMPLATE_AK_ECC_P256] = {"AK (ECC P-256)", TPM2_ALG_ECC, TPM2_ALG_SHA256, ATTESTATION,
                              NO_POLICY, 0, TPM2_ECC_NIST_P256, TPM2_ALG_ECDSA, 0},
    [TEMPLATE_AK_RSA_2048] = {"AK (RSA 2048)", TPM2_ALG_RSA, TPM2_ALG_SHA256, ATTESTATION,
                              NO_POLICY, 0, 2048, TPM2_ALG_RSASSA, 0},
    [TEMPLATE_WRAP_ECC_P256] = {"WRAP (ECC P-256)", TPM2_ALG_ECC, TPM2_ALG_SHA256, STORAGE | OURS,
                                NO_POLICY, 128, TPM2_ECC_NIST_P256, TPM2_ALG_NULL, 0},
    [TEMPLATE_WRAP_RSA_2048] = {"WRAP (RSA 2048)", TPM2_ALG_RSA, TPM2_ALG_SHA256, STORAGE | OURS,
                                NO_POLICY, 128, 2048, TPM2_ALG_NULL, 0},
    [TEMPLATE_REQ_ECC_P256] = {"REQ (ECC P-256)", TPM2_ALG_ECC, TPM2_ALG_SHA256, SIGNING, NO_POLICY,
                               0, TPM2_ECC_NIST_P256, TPM2_ALG_ECDSA, 0},
};

const char *template_name(enum template_id id)
{
    return shapes[id].name;
}

static void fill_symmetric(uint16_t bits, TPMT_SYM_DEF_OBJECT *ret)
{
    ret->algorithm = bits ? TPM2_ALG_AES : TPM2_ALG_NULL;
    ret->keyBits.aes = bits;
    ret->mode.aes = bits ? TPM2_ALG_CFB : TPM2_ALG_ERROR;
}

void template_fill(enum template_id id, TPMT_PUBLIC *ret)
{
    const struct shape *shape = &shapes[id];
    TPMT_PUBLIC area = {
        .type = shape->type,
        .nameAlg = shape->name_alg,
        .objectAttributes = shape->attributes,
        .authPolicy = {.size = (uint16_t)shape->policy.len},
    };
    mem_copy(area.authPolicy.buffer, shape->policy.data, shape->policy.len);
    if (shape->type == TPM2_ALG_RSA) {
        TPMS_RSA_PARMS *rsa = &area.parameters.rsaDetail;
        fill_symmetric(shape->aes_bits, &rsa->symmetric);
        rsa->scheme.scheme = shape->scheme;
        rsa->scheme.details.rsassa.hashAlg =
            shape->scheme == TPM2_ALG_NULL ? TPM2_ALG_ERROR : TPM2_ALG_SHA256;
        rsa->keyBits = shape->size;
        area.unique.rsa.size = shape->zeros;
    } else {
        TPMS_ECC_PARMS *ecc = &area.parameters.eccDetail;
        fill_symmetric(shape->aes_bits, &ecc->symmetric);
        ecc->scheme.scheme = shape->scheme;
        ecc->scheme.details.ecdsa.hashAlg =
            shape->scheme == TPM2_ALG_NULL ? TPM2_ALG_ERROR : TPM2_ALG_SHA256;
        ecc->curveID = shape->size;
        ecc->kdf.scheme = TPM2_ALG_NULL;
        area.unique.ecc.x.size = area.unique.ecc.y.size = shape->zeros;
    }
    *ret = area;
}

static bool symmetric_equal(const TPMT_SYM_DEF_OBJECT *a, const TPMT_SYM_DEF_OBJECT *b)
{
    return a->algorithm == b->algorithm &&
           (a->algorithm == TPM2_ALG_NULL ||
            (a->keyBits.aes == b->keyBits.aes && a->mode.aes == b->mode.aes));
}

/* What of the parameters differs, in a word; NULL if nothing does. */
static const char *parameters_differ(const TPMT_PUBLIC *a, const TPMT_PUBLIC *b)
{
    if (a->type == TPM2_ALG_RSA) {
        const TPMS_RSA_PARMS *x = &a->parameters.rsaDetail;
        const TPMS_RSA_PARMS *y = &b->parameters.rsaDetail;
        bool plain = y->scheme.scheme == TPM2_ALG_NULL;
        return !symmetric_equal(&x->symmetric, &y->symmetric) ? "symmetric algorithm"
               : x->scheme.scheme != y->scheme.scheme         ? "scheme"
               : !plain && x->scheme.details.rsassa.hashAlg != y->scheme.details.rsassa.hashAlg
                   ? "hash of the scheme"
               : x->keyBits != y->keyBits   ? "key size"
               : x->exponent != y->exponent ? "exponent"
                                            : nullptr;
    }
    const TPMS_ECC_PARMS *x = &a->parameters.eccDetail;
    const TPMS_ECC_PARMS *y = &b->parameters.eccDetail;
    bool plain = y->scheme.scheme == TPM2_ALG_NULL;
    return !symmetric_equal(&x->symmetric, &y->symmetric) ? "symmetric algorithm"
           : x->scheme.scheme != y->scheme.scheme         ? "scheme"
           : !plain && x->scheme.details.ecdsa.hashAlg != y->scheme.details.ecdsa.hashAlg
               ? "hash of the scheme"
           : x->curveID != y->curveID       ? "curve"
           : x->kdf.scheme != y->kdf.scheme ? "key derivation"
                                            : nullptr;
}

bool template_match(const TPMT_PUBLIC *area, enum template_id id, struct error *err)
{
    TPMT_PUBLIC expected;
    template_fill(id, &expected);
    const char *name = template_name(id);
    if (area->type != expected.type) {
        return error_set(err, ERROR_INVALID, "%s: the key is of type %s", name,
                         tpm_alg_name(area->type));
    }
    if (area->nameAlg != expected.nameAlg) {
        return error_set(err, ERROR_INVALID, "%s: nameAlg is %s", name,
                         tpm_alg_name(area->nameAlg));
    }
    if (area->objectAttributes != expected.objectAttributes) {
        return error_set(err, ERROR_INVALID, "%s: attributes are 0x%08x instead of 0x%08x", name,
                         area->objectAttributes, expected.objectAttributes);
    }
    if (!slice_equal(slice(area->authPolicy.buffer, area->authPolicy.size),
                     slice(expected.authPolicy.buffer, expected.authPolicy.size))) {
        return error_set(err, ERROR_INVALID, "%s: the policy differs", name);
    }
    const char *differs = parameters_differ(area, &expected);
    if (differs) {
        return error_set(err, ERROR_INVALID, "%s: the %s differs", name, differs);
    }
    return true;
}

bool template_find_ek(const TPMT_PUBLIC *area, enum template_id *ret, struct error *err)
{
    for (enum template_id id = TEMPLATE_EK_L1_RSA_2048; id <= TEMPLATE_EK_H7_RSA_4096; id++) {
        struct error ignored;
        if (template_match(area, id, &ignored)) {
            *ret = id;
            return true;
        }
    }
    return error_set(err, ERROR_INVALID,
                     "the EK is none of the TCG's templates (%s, nameAlg %s, attributes 0x%08x)",
                     tpm_alg_name(area->type), tpm_alg_name(area->nameAlg), area->objectAttributes);
}
