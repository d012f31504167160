#include "tpmwire/words.h"

#include "base/macros.h"

#include <stdint.h>

struct word {
    uint32_t number;
    const char *text;
};

static const struct word algs[] = {
    {TPM2_ALG_RSA, "rsa"},
    {TPM2_ALG_ECC, "ecc"},
    {TPM2_ALG_KEYEDHASH, "keyedhash"},
    {TPM2_ALG_SYMCIPHER, "symcipher"},
    {TPM2_ALG_SHA1, "sha1"},
    {TPM2_ALG_SHA256, "sha256"},
    {TPM2_ALG_SHA384, "sha384"},
    {TPM2_ALG_SHA512, "sha512"},
    {TPM2_ALG_SHA3_256, "sha3-256"},
    {TPM2_ALG_SHA3_384, "sha3-384"},
    {TPM2_ALG_SHA3_512, "sha3-512"},
    {TPM2_ALG_SM3_256, "sm3-256"},
    {TPM2_ALG_HMAC, "hmac"},
    {TPM2_ALG_AES, "aes"},
    {TPM2_ALG_CFB, "cfb"},
    {TPM2_ALG_NULL, "null"},
    {TPM2_ALG_RSASSA, "rsassa"},
    {TPM2_ALG_RSAPSS, "rsapss"},
    {TPM2_ALG_RSAES, "rsaes"},
    {TPM2_ALG_OAEP, "oaep"},
    {TPM2_ALG_ECDSA, "ecdsa"},
    {TPM2_ALG_ECDAA, "ecdaa"},
    {TPM2_ALG_ECDH, "ecdh"},
    {TPM2_ALG_ECSCHNORR, "ecschnorr"},
};

static const struct word permanent_handles[] = {
    {TPM2_RH_OWNER, "the owner hierarchy"},
    {TPM2_RH_ENDORSEMENT, "the endorsement hierarchy"},
    {TPM2_RH_PLATFORM, "the platform hierarchy"},
    {TPM2_RH_NULL, "the null hierarchy"},
    {TPM2_RH_LOCKOUT, "the lockout authorization"},
    {TPM2_RS_PW, "a password session"},
};

static const struct word handle_types[] = {
    {TPM2_HT_PCR, "a PCR"},
    {TPM2_HT_NV_INDEX, "an NV index"},
    {TPM2_HT_HMAC_SESSION, "an HMAC session"},
    {TPM2_HT_POLICY_SESSION, "a policy session"},
    {TPM2_HT_TRANSIENT, "a transient object"},
    {TPM2_HT_PERSISTENT, "a persistent object"},
};

/* Part 2 §6.6; by what is left after handle, parameter and session numbers are gone. */
static const struct word responses[] = {
    {TPM2_RC_SUCCESS, "success"},
    {TPM2_RC_INITIALIZE, "the TPM was not started up"},
    {TPM2_RC_FAILURE, "the TPM is in failure mode until it is reset"},
    {TPM2_RC_PCR_CHANGED, "a PCR changed during the session"},
    {TPM2_RC_POLICY, "the policy's condition does not hold"},
    {TPM2_RC_COMMAND_CODE, "the TPM does not know this command"},
    {TPM2_RC_AUTH_TYPE, "this object does not take this kind of authorization"},
    {TPM2_RC_AUTH_UNAVAILABLE, "the object has no such authorization"},
    {TPM2_RC_NV_AUTHORIZATION, "the NV index does not take this authorization"},
    {TPM2_RC_NV_UNINITIALIZED, "the NV index was never written"},
    {TPM2_RC_NV_SPACE, "the TPM's NV memory is full"},
    {TPM2_RC_NV_DEFINED, "the NV index exists already"},
    {TPM2_RC_NV_LOCKED, "the NV index is locked"},
    {TPM2_RC_AUTH_FAIL, "wrong authorization; it counts towards the lockout"},
    {TPM2_RC_BAD_AUTH, "wrong authorization"},
    {TPM2_RC_POLICY_FAIL, "the policy does not hold"},
    {TPM2_RC_INTEGRITY, "the integrity check failed: not made for this TPM, or altered"},
    {TPM2_RC_HANDLE, "there is no such object"},
    {TPM2_RC_HIERARCHY, "the hierarchy is disabled or the wrong one"},
    {TPM2_RC_ATTRIBUTES, "the attributes do not allow this"},
    {TPM2_RC_SIZE, "a size is wrong"},
    {TPM2_RC_VALUE, "a value is out of range"},
    {TPM2_RC_SCHEME, "the scheme is not supported"},
    {TPM2_RC_HASH, "the hash is not supported"},
    {TPM2_RC_CURVE, "the curve is not supported"},
    {TPM2_RC_ECC_POINT, "the point is not on the curve"},
    {TPM2_RC_RETRY, "the TPM is busy: the command must be sent again"},
    {TPM2_RC_YIELDED, "the TPM yielded: the command must be sent again"},
    {TPM2_RC_TESTING, "the TPM is testing itself"},
    {TPM2_RC_CANCELED, "the command was cancelled"},
    {TPM2_RC_LOCKOUT, "the TPM is locked out after wrong authorizations"},
    {TPM2_RC_NV_RATE, "the TPM slows down writing to NV"},
    {TPM2_RC_NV_UNAVAILABLE, "the TPM's NV memory is not accessible now"},
    {TPM2_RC_OBJECT_MEMORY, "the TPM has no room for another object"},
    {TPM2_RC_SESSION_MEMORY, "the TPM has no room for another session"},
    {TPM2_RC_MEMORY, "the TPM is out of memory"},
    {TPM2_RC_OBJECT_HANDLES, "the TPM has no object handle left"},
    {TPM2_RC_SESSION_HANDLES, "the TPM has no session handle left"},
    {TPM2_RC_CONTEXT_GAP, "the oldest saved session is too old"},
};

static const char *find(const struct word *words, size_t count, uint32_t number,
                        const char *otherwise)
{
    for (size_t i = 0; i < count; i++) {
        if (words[i].number == number) {
            return words[i].text;
        }
    }
    return otherwise;
}

const char *tpm_alg_name(TPM2_ALG_ID alg)
{
    return find(algs, ARRAY_LEN(algs), alg, "unknown");
}

const char *tpm_handle_name(TPM2_HANDLE handle)
{
    const char *type =
        find(handle_types, ARRAY_LEN(handle_types), handle >> 24, "an unknown handle");
    return find(permanent_handles, ARRAY_LEN(permanent_handles), handle, type);
}

const char *tpm_response_name(TPM2_RC code)
{
    /* Format one (bit 7): bits 8–11 are the number of a parameter, handle or session, bit 6 says
     * parameter. The upper half is the layer of the software stack, 0 being the TPM itself. */
    if ((code & TPM2_RC_FMT1) != 0) {
        code &= ~(uint32_t)0xf40;
    }
    return find(responses, ARRAY_LEN(responses), code, nullptr);
}
