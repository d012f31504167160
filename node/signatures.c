#include "signatures.h"

#include "base/crypt.h"
#include "base/mem.h"
#include "keys/key.h"
#include "spiffe/bundle.h"
#include "spiffe/svid.h"

#include <openssl/x509v3.h>
#include <stdio.h>

constexpr size_t KEY_ID_SIZE = 8;
constexpr size_t SPKI_MAX = 8 * 1024; /* ML-DSA-65 has under 2 KiB */
constexpr size_t ANCHORS_MAX = 256 * 1024;

/* The two kinds of keys that sign, and which anchors may certify each: those of the same kind, so
 * that breaking one algorithm forges nothing. */
static const enum key_kind kinds[] = {KEY_P384, KEY_ML_DSA_65};

struct authority_keys {
    struct bundles *bundles[ARRAY_LEN(kinds)];
    char trust_domain[SPIFFE_TRUST_DOMAIN_MAX + 1];
    char signer_id[SPIFFE_TRUST_DOMAIN_MAX + 64]; /* what signers are certified as */
};

struct authority_keys *authority_keys_free(struct authority_keys *keys)
{
    if (!keys)
        return nullptr;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        bundles_free(keys->bundles[i]);
    return mem_free(keys);
}

/* The trust domain is the SPIFFE ID of the CA certificate (SPIFFE X.509-SVID, section 4.2). */
static bool find_domain(X509 *anchor, struct spiffe_id *ret, struct error *err)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(anchor, NID_subject_alt_name, nullptr, nullptr);
    bool found = false;
    for (int i = 0; names && !found && i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type != GEN_URI)
            continue;
        const ASN1_IA5STRING *uri = name->d.uniformResourceIdentifier;
        struct error ignored;
        found = spiffe_id_parse(slice(ASN1_STRING_get0_data(uri), (size_t)ASN1_STRING_length(uri)),
                                ret, &ignored) &&
                spiffe_id_path(ret).len == 0;
    }
    GENERAL_NAMES_free(names);
    if (!found)
        return error_set(err, ERROR_INVALID,
                         "the trust anchor names no trust domain: is it the authority's ca.pem?");
    return true;
}

/* The public key of a certificate, and its encoding. */
static bool public_key(const X509 *certificate, struct buf *ret_spki, struct key **ret,
                       struct error *err)
{
    unsigned char *encoded = nullptr;
    int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &encoded);
    if (len <= 0)
        return error_set_openssl(err, ERROR_INTERNAL, "encode a certificate's key");
    buf_put(ret_spki, slice(encoded, (size_t)len));
    OPENSSL_free(encoded);
    return buf_ok(ret_spki, err) && key_from_public(buf_slice(ret_spki), ret, err);
}

/* Adds the anchors whose keys are of kinds[i] as the domain's bundle. */
static bool add_anchors(struct authority_keys *keys, size_t i, STACK_OF(X509) * anchors,
                        struct slice domain, struct error *err)
{
    CLEANUP(buf_done) struct buf pem;
    buf_init(&pem, ANCHORS_MAX);
    for (int at = 0; at < sk_X509_num(anchors); at++) {
        CLEANUP(buf_done) struct buf spki;
        CLEANUP(key_unref_at) struct key *key = nullptr;
        buf_init(&spki, SPKI_MAX);
        if (!public_key(sk_X509_value(anchors, at), &spki, &key, err))
            return false;
        if (key_kind(key) == kinds[i] && !certificate_to_pem(sk_X509_value(anchors, at), &pem, err))
            return false;
    }
    if (pem.len == 0)
        return error_set(err, ERROR_INVALID, "the trust anchor has no %s certificate",
                         key_kind_name(kinds[i]));
    return bundles_new(&keys->bundles[i], err) &&
           bundles_add(keys->bundles[i], domain, buf_slice(&pem), err);
}

bool authority_keys_new(struct slice anchor_pem, struct authority_keys **ret, struct error *err)
{
    CLEANUP(certificates_free_at) STACK_OF(X509) *anchors = nullptr;
    CLEANUP(mem_free_at) struct spiffe_id *id = mem_new(1, sizeof(*id));
    CLEANUP(authority_keys_free_at) struct authority_keys *keys = mem_new(1, sizeof(*keys));
    if (!keys || !id)
        return error_set_memory(err);
    if (!certificates_parse(anchor_pem, &anchors, err) ||
        !find_domain(sk_X509_value(anchors, 0), id, err))
        return false;
    struct slice domain = spiffe_id_trust_domain(id);
    mem_copy(keys->trust_domain, domain.data, domain.len);
    (void)snprintf(keys->signer_id, sizeof(keys->signer_id),
                   "spiffe://%s/postern/authority/packets", keys->trust_domain);
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (!add_anchors(keys, i, anchors, domain, err))
            return false;
    }
    *ret = TAKE(keys);
    return true;
}

const char *authority_keys_trust_domain(const struct authority_keys *keys)
{
    return keys->trust_domain;
}

/* A key that may sign, with its ID. */
struct signer {
    struct key *key;
    uint8_t id[KEY_ID_SIZE];
};

/* Judges the certificate by the anchors of its own key's kind. */
static bool certified(const struct authority_keys *keys, X509 *certificate, enum key_kind kind,
                      int64_t now, struct error *err)
{
    CLEANUP(mem_free_at) struct spiffe_id *id = mem_new(1, sizeof(*id));
    if (!id)
        return error_set_memory(err);
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (kinds[i] != kind)
            continue;
        if (!svid_verify(certificate, nullptr, keys->bundles[i], now, id, err))
            return false;
        if (strcmp(id->text, keys->signer_id) == 0)
            return true;
        return error_set(err, ERROR_UNAUTHENTICATED, "a signer is %s, expected %s", id->text,
                         keys->signer_id);
    }
    return error_set(err, ERROR_UNAUTHENTICATED, "a signer has a key of another kind (%s)",
                     key_kind_name(kind));
}

static bool signer_from(const struct authority_keys *keys, ProtobufCBinaryData der, int64_t now,
                        struct signer *ret, struct error *err)
{
    uint8_t digest[SHA256_SIZE];
    X509 *certificate = nullptr;
    CLEANUP(key_unref_at) struct key *key = nullptr;
    CLEANUP(buf_done) struct buf spki;
    buf_init(&spki, SPKI_MAX);
    if (!certificate_from_der(slice(der.data, der.len), &certificate, err))
        return false;
    bool ok = public_key(certificate, &spki, &key, err) &&
              certified(keys, certificate, key_kind(key), now, err) &&
              sha256(buf_slice(&spki), digest, err);
    X509_free(certificate);
    if (!ok)
        return false;
    ret->key = TAKE(key);
    mem_copy(ret->id, digest, KEY_ID_SIZE);
    return true;
}

static bool pack_parts(const struct signed_message *message, struct buf *ret, struct error *err)
{
    size_t size = 4 + strlen(message->tag);
    for (size_t i = 0; i < message->part_count; i++)
        size += 4 + message->parts[i].len;
    buf_init(ret, size);
    buf_put_prefixed(ret, slice_str(message->tag));
    for (size_t i = 0; i < message->part_count; i++)
        buf_put_prefixed(ret, message->parts[i]);
    return buf_ok(ret, err);
}

/* One signature of a key of `kind` must be there and right. */
static bool verify_kind(const struct signed_message *message, const struct signer *signers,
                        size_t signer_count, enum key_kind kind, struct slice bytes,
                        struct error *err)
{
    for (size_t i = 0; i < message->signature_count; i++) {
        const Postern__V1__Signature *signature = message->signatures[i];
        for (size_t j = 0; j < signer_count; j++) {
            if (key_kind(signers[j].key) != kind ||
                !slice_equal(slice(signature->key_id.data, signature->key_id.len),
                             SLICE_OF(signers[j].id)))
                continue;
            if (key_verify(signers[j].key, bytes,
                           slice(signature->signature.data, signature->signature.len), err))
                return true;
            err->class = ERROR_UNAUTHENTICATED;
            return error_prefix(err, "the %s signature", key_kind_name(kind));
        }
    }
    return error_set(err, ERROR_UNAUTHENTICATED, "no %s signature by a key of the authority",
                     key_kind_name(kind));
}

static bool verify_all(const struct authority_keys *keys, const struct signed_message *message,
                       struct signer *signers, size_t *signer_count, int64_t now, struct error *err)
{
    CLEANUP(buf_done) struct buf bytes = {0};
    for (size_t i = 0; i < message->certificate_count; i++) {
        if (!signer_from(keys, message->certificates[i], now, &signers[i], err))
            return error_prefix(err, "signer's certificate %zu", i);
        *signer_count = i + 1;
    }
    return pack_parts(message, &bytes, err) &&
           verify_kind(message, signers, *signer_count, kinds[0], buf_slice(&bytes), err) &&
           verify_kind(message, signers, *signer_count, kinds[1], buf_slice(&bytes), err);
}

bool signatures_verify(const struct authority_keys *keys, const struct signed_message *message,
                       int64_t now, struct error *err)
{
    struct signer signers[SIGNER_CERTIFICATES_MAX] = {0};
    size_t signer_count = 0;
    if (message->certificate_count > SIGNER_CERTIFICATES_MAX ||
        message->signature_count != ARRAY_LEN(kinds))
        return error_set(err, ERROR_UNAUTHENTICATED,
                         "%zu signatures and %zu certificates of signers, expected two",
                         message->signature_count, message->certificate_count);
    bool ok = verify_all(keys, message, signers, &signer_count, now, err);
    for (size_t i = 0; i < signer_count; i++)
        key_unref(signers[i].key);
    return ok || error_prefix(err, "%s", message->tag);
}
