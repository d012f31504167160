/* Response codes into errors: class, name, and tss2-rc's own words. */
#include "tpm/internal.h"

#include "base/mem.h"

#include <stdio.h>
#include <tss2/tss2_rc.h>

struct code {
    TSS2_RC rc;
    const char *name;
    enum error_class class;
    const char *advice; /* what to do, or NULL */
};

/* The codes that a node meets, by TPM 2.0 Part 2, 6.6.3. All others are INTERNAL. */
static const struct code codes[] = {
    {TPM2_RC_POLICY_FAIL, "TPM_RC_POLICY_FAIL", ERROR_DENIED, nullptr},
    {TPM2_RC_POLICY, "TPM_RC_POLICY", ERROR_DENIED, nullptr},
    {TPM2_RC_PCR_CHANGED, "TPM_RC_PCR_CHANGED", ERROR_UNAVAILABLE, nullptr},
    {TPM2_RC_INTEGRITY, "TPM_RC_INTEGRITY", ERROR_DENIED, nullptr},
    {TPM2_RC_AUTH_FAIL, "TPM_RC_AUTH_FAIL", ERROR_DENIED, nullptr},
    {TPM2_RC_BAD_AUTH, "TPM_RC_BAD_AUTH", ERROR_DENIED, nullptr},
    {TPM2_RC_AUTH_UNAVAILABLE, "TPM_RC_AUTH_UNAVAILABLE", ERROR_DENIED, nullptr},
    {TPM2_RC_AUTH_MISSING, "TPM_RC_AUTH_MISSING", ERROR_DENIED, nullptr},
    {TPM2_RC_AUTH_TYPE, "TPM_RC_AUTH_TYPE", ERROR_DENIED, nullptr},
    {TPM2_RC_NV_AUTHORIZATION, "TPM_RC_NV_AUTHORIZATION", ERROR_DENIED, nullptr},
    {TPM2_RC_NV_LOCKED, "TPM_RC_NV_LOCKED", ERROR_DENIED, nullptr},
    {TPM2_RC_LOCALITY, "TPM_RC_LOCALITY", ERROR_DENIED, nullptr},
    {TPM2_RC_HIERARCHY, "TPM_RC_HIERARCHY", ERROR_DENIED,
     "the hierarchy is disabled, perhaps in the firmware's setup"},
    {TPM2_RC_DISABLED, "TPM_RC_DISABLED", ERROR_DENIED, nullptr},
    {TPM2_RC_LOCKOUT, "TPM_RC_LOCKOUT", ERROR_UNAVAILABLE,
     "too many wrong authorizations: wait for the TPM's lockout interval, or end it with "
     "tpm2_dictionarylockout --clear-lockout"},
    {TPM2_RC_NV_RATE, "TPM_RC_NV_RATE", ERROR_UNAVAILABLE, "it limits writes to NV: wait"},
    {TPM2_RC_NV_UNAVAILABLE, "TPM_RC_NV_UNAVAILABLE", ERROR_UNAVAILABLE, nullptr},
    {TPM2_RC_OBJECT_MEMORY, "TPM_RC_OBJECT_MEMORY", ERROR_UNAVAILABLE,
     "others hold all of its object slots"},
    {TPM2_RC_SESSION_MEMORY, "TPM_RC_SESSION_MEMORY", ERROR_UNAVAILABLE,
     "others hold all of its session slots"},
    {TPM2_RC_SESSION_HANDLES, "TPM_RC_SESSION_HANDLES", ERROR_UNAVAILABLE,
     "others hold all of its session handles"},
    {TPM2_RC_MEMORY, "TPM_RC_MEMORY", ERROR_UNAVAILABLE, nullptr},
    {TPM2_RC_RETRY, "TPM_RC_RETRY", ERROR_UNAVAILABLE, nullptr},
    {TPM2_RC_YIELDED, "TPM_RC_YIELDED", ERROR_UNAVAILABLE, nullptr},
    {TPM2_RC_TESTING, "TPM_RC_TESTING", ERROR_UNAVAILABLE, nullptr},
    {TPM2_RC_CANCELED, "TPM_RC_CANCELED", ERROR_UNAVAILABLE, nullptr},
    {TPM2_RC_INITIALIZE, "TPM_RC_INITIALIZE", ERROR_UNAVAILABLE, "nobody has sent it TPM2_Startup"},
    {TPM2_RC_REBOOT, "TPM_RC_REBOOT", ERROR_UNAVAILABLE, "it asks for a reboot"},
    {TPM2_RC_FAILURE, "TPM_RC_FAILURE", ERROR_UNAVAILABLE,
     "it is in failure mode: power the machine off and on"},
    {TPM2_RC_UPGRADE, "TPM_RC_UPGRADE", ERROR_UNAVAILABLE, "its firmware is being upgraded"},
    {TPM2_RC_NV_SPACE, "TPM_RC_NV_SPACE", ERROR_EXHAUSTED,
     "its NV is full: tpm2_getcap handles-nv-index lists what is in it"},
    {TPM2_RC_NV_DEFINED, "TPM_RC_NV_DEFINED", ERROR_CONFLICT, nullptr},
    {TPM2_RC_NV_UNINITIALIZED, "TPM_RC_NV_UNINITIALIZED", ERROR_CONFLICT, nullptr},
    {TPM2_RC_HANDLE, "TPM_RC_HANDLE", ERROR_NOT_FOUND, nullptr},
    {TPM2_RC_COMMAND_CODE, "TPM_RC_COMMAND_CODE", ERROR_UNIMPLEMENTED, nullptr},
    {TPM2_RC_VALUE, "TPM_RC_VALUE", ERROR_INVALID, nullptr},
    {TPM2_RC_SIZE, "TPM_RC_SIZE", ERROR_INVALID, nullptr},
    {TPM2_RC_NV_SIZE, "TPM_RC_NV_SIZE", ERROR_INVALID, nullptr},
    {TPM2_RC_NV_RANGE, "TPM_RC_NV_RANGE", ERROR_INVALID, nullptr},
    {TPM2_RC_ATTRIBUTES, "TPM_RC_ATTRIBUTES", ERROR_INVALID, nullptr},
    {TPM2_RC_TYPE, "TPM_RC_TYPE", ERROR_INVALID, nullptr},
    {TPM2_RC_KEY, "TPM_RC_KEY", ERROR_INVALID, nullptr},
    {TPM2_RC_BINDING, "TPM_RC_BINDING", ERROR_INVALID, nullptr},
    {TPM2_RC_ASYMMETRIC, "TPM_RC_ASYMMETRIC", ERROR_INVALID, nullptr},
    {TPM2_RC_SYMMETRIC, "TPM_RC_SYMMETRIC", ERROR_INVALID, nullptr},
    {TPM2_RC_HASH, "TPM_RC_HASH", ERROR_INVALID, nullptr},
    {TPM2_RC_SCHEME, "TPM_RC_SCHEME", ERROR_INVALID, nullptr},
    {TPM2_RC_CURVE, "TPM_RC_CURVE", ERROR_INVALID, nullptr},
    {TPM2_RC_ECC_POINT, "TPM_RC_ECC_POINT", ERROR_INVALID, nullptr},
    {TPM2_RC_INSUFFICIENT, "TPM_RC_INSUFFICIENT", ERROR_INVALID, nullptr},
    {TPM2_RC_SELECTOR, "TPM_RC_SELECTOR", ERROR_INVALID, nullptr},
};

static bool from_tpm(TSS2_RC rc)
{
    TSS2_RC layer = rc & TSS2_RC_LAYER_MASK;
    return layer == TSS2_TPM_RC_LAYER || layer == TSS2_RESMGR_TPM_RC_LAYER;
}

/* Part 2, 6.6.2: format one has its error in six bits, beside it what it is about. */
TSS2_RC tpm_base_code(TSS2_RC rc)
{
    if (!from_tpm(rc))
        return rc;
    rc &= ~TSS2_RC_LAYER_MASK;
    return (rc & TPM2_RC_FMT1) != 0 ? rc & (TPM2_RC_FMT1 | 0x3f) : rc;
}

static const struct code *code_find(TSS2_RC rc)
{
    TSS2_RC base = tpm_base_code(rc);
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        if (codes[i].rc == base)
            return &codes[i];
    }
    return nullptr;
}

/* The transport knows better than ESYS why there was no answer. */
static const char *transport_text(enum transport_state state)
{
    switch (state) {
    case TRANSPORT_LATE:
        return "the TPM did not answer in time: busy, or used by another program";
    case TRANSPORT_RETRYING:
        return "the TPM kept asking to try again";
    case TRANSPORT_LOST:
        return "the connection to the TPM broke";
    case TRANSPORT_OK:
        break;
    }
    return nullptr;
}

static enum error_class class_of(const struct tpm *tpm, TSS2_RC rc, bool foreign)
{
    if (tpm->transport.state != TRANSPORT_OK || (rc & TSS2_RC_LAYER_MASK) == TSS2_TCTI_RC_LAYER)
        return ERROR_UNAVAILABLE;
    if (!from_tpm(rc)) {
        /* An answer whose HMAC is wrong did not come from the TPM that holds the EK. */
        return rc == TSS2_ESYS_RC_RSP_AUTH_FAILED ? ERROR_DENIED
               : rc == TSS2_ESYS_RC_MEMORY        ? ERROR_EXHAUSTED
                                                  : ERROR_INTERNAL;
    }
    const struct code *code = code_find(rc);
    enum error_class class = code != nullptr ? code->class : ERROR_INTERNAL;
    /* libtpms says FAILURE when the RSA padding of somebody else's seed is wrong, and goes on. One
     * that is really in failure mode would have refused the commands before this one. */
    bool malformed = class == ERROR_INVALID || tpm_base_code(rc) == TPM2_RC_FAILURE;
    return foreign && malformed ? ERROR_DENIED : class;
}

static bool fail_with(struct tpm *tpm, TSS2_RC rc, bool foreign, struct error *err,
                      const char *what)
{
    enum error_class class = class_of(tpm, rc, foreign);
    tpm->spoiled = tpm->spoiled || !from_tpm(rc);
    const char *lost = transport_text(tpm->transport.state);
    if (lost != nullptr)
        return error_set_native(err, class, ERROR_DOMAIN_TPM, rc, lost, "%s", what);
    const struct code *code = code_find(rc);
    const char *advice = foreign && class == ERROR_DENIED ? "it was made for another TPM or key"
                         : code != nullptr                ? code->advice
                                                          : nullptr;
    char text[384];
    (void)snprintf(text, sizeof text, "%s%s%s", Tss2_RC_Decode(rc), advice != nullptr ? ": " : "",
                   advice != nullptr ? advice : "");
    return error_set_native(err, class, ERROR_DOMAIN_TPM, rc, text, "%s: %s (0x%x)", what,
                            code != nullptr ? code->name : "response code", (unsigned)rc);
}

bool tpm_fail(struct tpm *tpm, TSS2_RC rc, struct error *err, const char *format, ...)
{
    char what[160];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(what, sizeof what, format, args);
    va_end(args);
    return fail_with(tpm, rc, false, err, what);
}

bool tpm_fail_foreign(struct tpm *tpm, TSS2_RC rc, struct error *err, const char *format, ...)
{
    char what[160];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(what, sizeof what, format, args);
    va_end(args);
    return fail_with(tpm, rc, true, err, what);
}

bool tpm_ready(const struct tpm *tpm, struct error *err)
{
    if (tpm->esys == nullptr)
        return error_set(err, ERROR_INTERNAL, "the TPM was used outside a batch");
    const char *lost = transport_text(tpm->transport.state);
    if (lost != nullptr)
        return error_set(err, ERROR_UNAVAILABLE, "%s, earlier in this batch", lost);
    if (tpm->spoiled)
        return error_set(err, ERROR_UNAVAILABLE,
                         "an answer of the TPM could not be used, earlier in this batch");
    return true;
}
