#include "spiffe/svid.h"

#include "base/mem.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>

static bool refuse(struct error *err, const char *what)
{
    return error_set(err, ERROR_UNAUTHENTICATED, "not an X.509-SVID: %s", what);
}

/* The one URI among the subject's alternative names. Other kinds of names may be beside it. */
static bool find_id(const GENERAL_NAMES *names, struct spiffe_id *ret, struct error *err)
{
    const ASN1_IA5STRING *uri = nullptr;
    for (int i = 0; names && i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type != GEN_URI)
            continue;
        if (uri)
            return refuse(err, "more than one URI in subjectAltName");
        uri = name->d.uniformResourceIdentifier;
    }
    if (!uri)
        return refuse(err, "no URI in subjectAltName");
    struct slice text = slice(ASN1_STRING_get0_data(uri), (size_t)ASN1_STRING_length(uri));
    if (!spiffe_id_parse(text, ret, err)) {
        err->class = ERROR_UNAUTHENTICATED;
        return error_prefix(err, "not an X.509-SVID");
    }
    if (spiffe_id_path(ret).len == 0)
        return refuse(err, "its SPIFFE ID names a trust domain, and no workload in it");
    return true;
}

static bool check_usage(X509 *leaf, struct error *err)
{
    int at = X509_get_ext_by_NID(leaf, NID_key_usage, -1);
    if (at < 0)
        return refuse(err, "no keyUsage");
    if (X509_EXTENSION_get_critical(X509_get_ext(leaf, at)) != 1)
        return refuse(err, "keyUsage is not critical");
    uint32_t usage = X509_get_key_usage(leaf);
    if ((usage & KU_DIGITAL_SIGNATURE) == 0)
        return refuse(err, "keyUsage without digitalSignature");
    if ((usage & KU_KEY_CERT_SIGN) != 0)
        return refuse(err, "keyUsage with keyCertSign");
    if ((usage & KU_CRL_SIGN) != 0)
        return refuse(err, "keyUsage with cRLSign");
    uint32_t purposes = X509_get_extended_key_usage(leaf); /* all bits set if it is absent */
    if ((purposes & XKU_SSL_SERVER) == 0 || (purposes & XKU_SSL_CLIENT) == 0)
        return refuse(err, "extendedKeyUsage without serverAuth and clientAuth");
    return true;
}

bool svid_id(X509 *leaf, struct spiffe_id *ret, struct error *err)
{
    struct spiffe_id *id =
        mem_new(1, sizeof *id); /* 2 KiB: not on the stack of a verify callback */
    if (!id)
        return error_set_memory(err);
    int critical = 0;
    GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, &critical, nullptr);
    bool ok = false;
    ERR_clear_error();
    if (!names && critical == -2)
        refuse(err, "more than one subjectAltName");
    else if (!names && critical >= 0)
        refuse(err, "subjectAltName is unreadable");
    /* Caches and checks all extensions: broken or contradictory ones are an error there. */
    else if ((X509_get_extension_flags(leaf) & EXFLAG_INVALID) != 0)
        refuse(err, "its extensions are broken");
    /* The flag itself too: X509_check_ca lets one pass whose keyUsage lacks keyCertSign. */
    else if ((X509_get_extension_flags(leaf) & EXFLAG_CA) != 0 || X509_check_ca(leaf) != 0)
        refuse(err, "it is a CA's certificate");
    else
        ok = find_id(names, id, err) && check_usage(leaf, err);
    GENERAL_NAMES_free(names);
    ERR_clear_error();
    if (ok)
        *ret = *id;
    mem_free(id);
    return ok;
}

static bool explain(X509_STORE_CTX *store, const struct spiffe_id *id, struct error *err)
{
    char time[TIME_TEXT_SIZE];
    int code = X509_STORE_CTX_get_error(store);
    int depth = X509_STORE_CTX_get_error_depth(store);
    X509 *at = X509_STORE_CTX_get_current_cert(store);
    struct slice domain = spiffe_id_trust_domain(id);
    const char *whose = depth == 0 ? "certificate" : "issuer's certificate";
    switch (code) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
        return error_set(err, ERROR_UNAUTHENTICATED, "the %s of %s expired at %s", whose, id->text,
                         certificate_time_format(X509_get0_notAfter(at), time));
    case X509_V_ERR_CERT_NOT_YET_VALID:
        return error_set(err, ERROR_UNAUTHENTICATED,
                         "the %s of %s is not valid before %s: compare the clocks", whose, id->text,
                         certificate_time_format(X509_get0_notBefore(at), time));
    default:
        return error_set_native(err, ERROR_UNAUTHENTICATED, ERROR_DOMAIN_OPENSSL, code,
                                X509_verify_cert_error_string(code),
                                "the certificate of %s is not issued by the bundle of its trust "
                                "domain %.*s",
                                id->text, (int)domain.len, (const char *)domain.data);
    }
}

static bool check_path(X509 *leaf, STACK_OF(X509) * chain, X509_STORE *anchors, int64_t now,
                       const struct spiffe_id *id, struct error *err)
{
    X509_STORE_CTX *store = X509_STORE_CTX_new();
    if (!store || X509_STORE_CTX_init(store, anchors, leaf, chain) != 1) {
        X509_STORE_CTX_free(store);
        return error_set_memory(err);
    }
    X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(store);
    X509_VERIFY_PARAM_set_time(param, (time_t)(now / 1000));
    X509_VERIFY_PARAM_set_depth(param, SVID_CHAIN_MAX);
    X509_VERIFY_PARAM_set_auth_level(param, 2); /* 112 bits at least, in every signature */
    /* A bundle's certificate is an anchor, self-signed or not. */
    (void)X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_PARTIAL_CHAIN);
    bool ok = X509_verify_cert(store) == 1 || explain(store, id, err);
    X509_STORE_CTX_free(store);
    ERR_clear_error();
    return ok;
}

bool svid_verify(X509 *leaf, STACK_OF(X509) * chain, const struct bundles *bundles, int64_t now,
                 struct spiffe_id *ret, struct error *err)
{
    struct spiffe_id *id = mem_new(1, sizeof *id);
    if (!id)
        return error_set_memory(err);
    bool ok = svid_id(leaf, id, err);
    if (ok) {
        struct slice domain = spiffe_id_trust_domain(id);
        X509_STORE *anchors = bundles_find(bundles, domain);
        ok = anchors ? check_path(leaf, chain, anchors, now, id, err)
                     : error_set(err, ERROR_UNAUTHENTICATED,
                                 "the trust domain %.*s of %s is not one that is trusted here",
                                 (int)domain.len, (const char *)domain.data, id->text);
    }
    if (ok)
        *ret = *id;
    mem_free(id);
    return ok;
}
