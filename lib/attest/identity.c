#include "attest/identity.h"

#include "base/crypt.h"
#include "base/text.h"
#include "tpmwire/nv.h"
#include "tpmwire/public.h"

static bool parse_key(const char *field, ProtobufCBinaryData wire, TPM2B_PUBLIC *ret,
                      TPM2B_NAME *ret_name, struct error *err)
{
    if (!public_area_parse(slice(wire.data, wire.len), ret, err) ||
        !public_area_name(&ret->publicArea, ret_name, err))
        return error_at_field(err, field);
    return true;
}

bool attest_identity_parse(const Postern__V1__Hello *hello, struct attest_identity *ret,
                           struct error *err)
{
    struct attest_identity id = {0};
    if (!parse_key("ek_public", hello->ek_public, &id.ek, &id.ek_name, err) ||
        !parse_key("ak_public", hello->ak_public, &id.ak, &id.ak_name, err) ||
        !parse_key("wrap_public", hello->wrap_public, &id.wrap, &id.wrap_name, err) ||
        !parse_key("req_public", hello->req_public, &id.req, &id.req_name, err))
        return false;
    if (!nv_area_parse(slice(hello->counter_public.data, hello->counter_public.len), &id.counter,
                       err) ||
        !nv_area_name(&id.counter.nvPublic, &id.counter_name, err))
        return error_at_field(err, "counter_public");

    uint8_t digest[SHA256_SIZE];
    if (!sha256(name_slice(&id.ek_name), digest, err))
        return false;
    hex_encode(slice(digest, (AGENT_ID_SIZE - 1) / 2), id.agent_id);
    *ret = id;
    return true;
}
