/*
 * Public areas of objects (TPMT_PUBLIC, TPM 2.0 Library, Part 2 §12.2.4): wire form, Names, and
 * the key inside for OpenSSL.
 *
 * A parsed area marshals to the very bytes that were parsed: what would not is refused, so that a
 * Name or a digest computed from the structure is that of the bytes. Sans-I/O; any thread.
 */
#pragma once

#include "base/buf.h"

#include <openssl/evp.h>
#include <tss2/tss2_tpm2_types.h>

/* Longest TPM2B_PUBLIC that is looked at, bytes: RSA-4096 with a SHA-512 policy takes under 640. */
constexpr size_t PUBLIC_AREA_WIRE_MAX = 1024;

/* TPM2B_PUBLIC, nothing after it. INVALID if it is malformed, truncated, oversize, not canonical,
 * or if its nameAlg is not SHA-256, SHA-384 or SHA-512. */
[[nodiscard]] bool public_area_parse(struct slice wire, TPM2B_PUBLIC *ret, struct error *err);

/* Appends TPM2B_PUBLIC with its size. INVALID if the structure can't be expressed. */
[[nodiscard]] bool public_area_marshal(const TPMT_PUBLIC *area, struct buf *ret, struct error *err);

/* Name of an object: nameAlg ‖ H_nameAlg(TPMT_PUBLIC) (Part 1 §16). INVALID as above. */
[[nodiscard]] bool public_area_name(const TPMT_PUBLIC *area, TPM2B_NAME *ret, struct error *err);

/* Qualified Name of a child: nameAlg ‖ H(qualified Name of the parent ‖ Name), by the nameAlg that
 * `name` itself carries (Part 1 §26.5). INVALID if `name` is not the Name of an object. */
[[nodiscard]] bool name_qualified(const TPM2B_NAME *parent, const TPM2B_NAME *name, TPM2B_NAME *ret,
                                  struct error *err);

/* The same of a primary, whose parent is a hierarchy such as TPM2_RH_ENDORSEMENT. */
[[nodiscard]] bool name_qualified_primary(TPMI_RH_HIERARCHY hierarchy, const TPM2B_NAME *name,
                                          TPM2B_NAME *ret, struct error *err);

/* The Name of a permanent handle or PCR: the handle itself, big-endian (Part 1 §16). */
void name_of_handle(TPM2_HANDLE handle, TPM2B_NAME *ret);

/* Equal size and bytes. */
[[nodiscard]] bool name_equal(const TPM2B_NAME *a, const TPM2B_NAME *b);

static inline struct slice name_slice(const TPM2B_NAME *name)
{
    return slice(name->name, name->size);
}

/* The public key in the area, freed by EVP_PKEY_free. RSA of 2048, 3072 or 4096 bits with exponent
 * 65537; ECC on P-256 or P-384, the point checked to be on the curve. INVALID otherwise. */
[[nodiscard]] bool public_area_key(const TPMT_PUBLIC *area, EVP_PKEY **ret, struct error *err);

/* Puts a public key of OpenSSL's into the area's `unique` (coordinates padded to the curve's size).
 * INVALID, and the area as it was, if the key's type, size or curve is not that of the area's
 * parameters. */
[[nodiscard]] bool public_area_set_key(TPMT_PUBLIC *area, const EVP_PKEY *key, struct error *err);
