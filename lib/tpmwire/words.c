#include "tpmwire/words.h"

#include "base/macros.h"

static const struct {
    TPM2_ALG_ID alg;
    const char *name;
} algs[] = {
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

const char *tpm_alg_name(TPM2_ALG_ID alg)
{
    for (size_t i = 0; i < ARRAY_LEN(algs); i++) {
        if (algs[i].alg == alg)
            return algs[i].name;
    }
    return "unknown";
}
