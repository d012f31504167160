#include "spiffe/bundle.h"

#include "base/mem.h"

#include <openssl/x509v3.h>

struct bundle {
    char trust_domain[SPIFFE_TRUST_DOMAIN_MAX + 1];
    X509_STORE *anchors;
};

struct bundles {
    struct bundle all[BUNDLE_DOMAINS_MAX];
    size_t count;
};

bool bundles_new(struct bundles **ret, struct error *err)
{
    struct bundles *bundles = mem_new(1, sizeof *bundles);
    if (!bundles)
        return error_set_memory(err);
    *ret = bundles;
    return true;
}

static bool store_from(struct slice pem, X509_STORE **ret, struct error *err)
{
    CLEANUP(certificates_free_at) STACK_OF(X509) *anchors = nullptr;
    if (!certificates_parse(pem, &anchors, err))
        return false;
    X509_STORE *store = X509_STORE_new();
    if (!store)
        return error_set_memory(err);
    for (int i = 0; i < sk_X509_num(anchors); i++) {
        X509 *anchor = sk_X509_value(anchors, i);
        bool ok = true;
        /* 1: a CA by basicConstraints; other values are guesses about version 1 and the like. */
        if (X509_check_ca(anchor) != 1)
            ok = error_set(err, ERROR_INVALID, "certificate %d is not a CA's", i + 1);
        else if (X509_STORE_add_cert(store, anchor) != 1)
            ok = error_set_openssl(err, ERROR_INVALID, "certificate %d can't be used", i + 1);
        if (!ok) {
            X509_STORE_free(store);
            return false;
        }
    }
    *ret = store;
    return true;
}

bool bundles_add(struct bundles *bundles, struct slice trust_domain, struct slice pem,
                 struct error *err)
{
    X509_STORE *store;
    if (!spiffe_trust_domain_check(trust_domain, err))
        return false;
    int shown = (int)trust_domain.len;
    const char *name = (const char *)trust_domain.data;
    if (bundles_find(bundles, trust_domain))
        return error_set(err, ERROR_EXISTS, "the trust domain %.*s has a bundle already", shown,
                         name);
    if (bundles->count == BUNDLE_DOMAINS_MAX)
        return error_set(err, ERROR_EXHAUSTED, "more than %zu trust domains", BUNDLE_DOMAINS_MAX);
    if (!store_from(pem, &store, err))
        return error_prefix(err, "the bundle of the trust domain %.*s", shown, name);
    struct bundle *bundle = &bundles->all[bundles->count++];
    mem_copy(bundle->trust_domain, trust_domain.data, trust_domain.len);
    bundle->anchors = store;
    return true;
}

X509_STORE *bundles_find(const struct bundles *bundles, struct slice trust_domain)
{
    for (size_t i = 0; i < bundles->count; i++) {
        if (slice_is(trust_domain, bundles->all[i].trust_domain))
            return bundles->all[i].anchors;
    }
    return nullptr;
}

struct bundles *bundles_free(struct bundles *bundles)
{
    if (!bundles)
        return nullptr;
    for (size_t i = 0; i < bundles->count; i++)
        X509_STORE_free(bundles->all[i].anchors);
    return mem_free(bundles);
}
