#include "tpmwire/binding.h"

#include "tpmwire/public.h"

static const char *const tags[] = {
    [BINDING_QUOTE] = "postern quote v1",
    [BINDING_CERTIFY] = "postern certify v1",
    [BINDING_COUNTER] = "postern counter v1",
};

/* All parts with their lengths: tag, identifiers, four Names, digests. */
constexpr size_t BINDING_BYTES_MAX = 1024;

bool binding_digest(enum binding_kind kind, const struct binding *binding,
                    uint8_t ret[static SHA256_SIZE], struct error *err)
{
    if (binding->csr.len == 0 || binding->hello.len == 0) {
        return error_set(err, ERROR_INVALID, "binding: no %s",
                         binding->csr.len == 0 ? "CSR" : "hello");
    }
    uint8_t csr[SHA256_SIZE];
    uint8_t hello[SHA256_SIZE];
    if (!sha256(binding->csr, csr, err) || !sha256(binding->hello, hello, err)) {
        return false;
    }
    const struct {
        const char *what;
        struct slice bytes;
        size_t size; /* 0: any but empty */
    } parts[] = {
        {"tag", slice_str(tags[kind]), 0},
        {"nonce", binding->nonce, BINDING_NONCE_SIZE},
        {"agent_id", binding->agent_id, 0},
        {"Name of the AK", name_slice(binding->ak), 0},
        {"Name of WRAP", name_slice(binding->wrap), 0},
        {"Name of REQ", name_slice(binding->req), 0},
        {"Name of the counter", name_slice(binding->counter), 0},
        {"hash of the CSR", SLICE_OF(csr), 0},
        {"hash of the hello", SLICE_OF(hello), 0},
        {"exporter", binding->exporter, CHANNEL_BINDING_SIZE},
    };
    CLEANUP(buf_done) struct buf all;
    buf_init(&all, BINDING_BYTES_MAX);
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        size_t len = parts[i].bytes.len;
        if (len == 0 || (parts[i].size != 0 && len != parts[i].size)) {
            return error_set(err, ERROR_INVALID, "binding: the %s has %zu bytes", parts[i].what,
                             len);
        }
        buf_put_prefixed(&all, parts[i].bytes);
    }
    return buf_ok(&all, err) && sha256(buf_slice(&all), ret, err);
}
