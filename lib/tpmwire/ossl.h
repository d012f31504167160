/* Scope-bound objects of OpenSSL's, and the curves that this library knows. Internal. */
#pragma once

#include "base/macros.h"

#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <tss2/tss2_tpm2_types.h>

#define DEFINE_DONE(name, type, free_function)                                                     \
    [[maybe_unused]] static inline void name(type **object)                                        \
    {                                                                                              \
        free_function(*object);                                                                    \
        *object = nullptr;                                                                         \
    }

DEFINE_DONE(pkey_done, EVP_PKEY, EVP_PKEY_free)
DEFINE_DONE(pkey_ctx_done, EVP_PKEY_CTX, EVP_PKEY_CTX_free)
DEFINE_DONE(md_ctx_done, EVP_MD_CTX, EVP_MD_CTX_free)
DEFINE_DONE(bn_done, BIGNUM, BN_clear_free)
DEFINE_DONE(bn_ctx_done, BN_CTX, BN_CTX_free)
DEFINE_DONE(group_done, EC_GROUP, EC_GROUP_free)
DEFINE_DONE(point_done, EC_POINT, EC_POINT_clear_free)

struct curve {
    TPMI_ECC_CURVE id;
    int nid;
    uint16_t size;    /* bytes of a coordinate and of a scalar */
    const char *name; /* OpenSSL's */
};

constexpr size_t CURVE_SIZE_MAX = 48;

/* P-256 or P-384; NULL for the others. */
const struct curve *curve_find(TPMI_ECC_CURVE id);

/* Copies a coordinate into `size` bytes with zeros before it: a TPM may have trimmed leading zero
 * bytes, and both KDFe and points want the curve's size. False if it is longer than that. */
[[nodiscard]] bool coordinate_pad(const TPM2B_ECC_PARAMETER *coordinate, size_t size, uint8_t *ret);
