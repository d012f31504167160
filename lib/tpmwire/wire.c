#include "wire.h"

#include <stdlib.h>

/* The marshalling library writes a line to standard error for each structure that it refuses, and
 * has no other switch than this variable, read once. A peer must not be able to fill our log with
 * lines past log.h; what went wrong is in the error. Before main, because no thread may read the
 * environment meanwhile; an operator's own setting stays. */
[[gnu::constructor]] static void silence(void)
{
    (void)setenv("TSS2_LOG", "all+NONE", 0);
}

bool wire_sized(struct slice wire, size_t max, const char *what, struct slice *ret,
                struct error *err)
{
    if (wire.len > max) {
        return error_set(err, ERROR_INVALID, "%s has %zu bytes: at most %zu are allowed", what,
                         wire.len, max);
    }
    struct reader r = reader(wire);
    size_t size = reader_u16(&r);
    struct slice body = reader_take(&r, size);
    if (!reader_ok(&r)) {
        return error_set(err, ERROR_INVALID, "%s is truncated", what);
    }
    if (!reader_end(&r)) {
        return error_set(err, ERROR_INVALID, "%s has %zu trailing bytes", what, r.rest.len);
    }
    *ret = body;
    return true;
}

bool wire_put_sized(struct buf *ret, struct slice body, struct error *err)
{
    buf_put_u16(ret, (uint16_t)body.len);
    buf_put(ret, body);
    return buf_ok(ret, err);
}

bool wire_malformed(struct error *err, TSS2_RC code, const char *what)
{
    return error_set_native(err, ERROR_INVALID, ERROR_DOMAIN_TPM, code, nullptr, "malformed %s",
                            what);
}

bool wire_canonical(struct slice wire, size_t used, struct slice again, const char *what,
                    struct error *err)
{
    if (used != wire.len) {
        return error_set(err, ERROR_INVALID, "%s has %zu trailing bytes", what, wire.len - used);
    }
    if (!slice_equal(wire, again)) {
        return error_set(err, ERROR_INVALID, "%s is not in its canonical form", what);
    }
    return true;
}

bool wire_strong_hash(TPMI_ALG_HASH alg)
{
    return alg == TPM2_ALG_SHA256 || alg == TPM2_ALG_SHA384 || alg == TPM2_ALG_SHA512;
}
