/*
 * X.509 certificates (RFC 5280) as PEM and DER, over libcrypto's X509. No judgement here.
 */
#pragma once

#include "base/buf.h"
#include "base/text.h"

#include <openssl/x509.h>

constexpr size_t CERTIFICATES_MAX = 64; /* in one text: thousands would cost memory and time */
constexpr size_t CERTIFICATE_DER_MAX = 64 * 1024;

/* All certificates of the PEM text, in order, at least one. Free by certificates_free. INVALID,
 * EXHAUSTED (CERTIFICATES_MAX). */
[[nodiscard]] bool certificates_parse(struct slice pem, STACK_OF(X509) * *ret, struct error *err);
STACK_OF(X509) * certificates_free(STACK_OF(X509) * certificates);
DEFINE_CLEANUP(certificates_free, STACK_OF(X509))

/* One certificate, DER, that fills `der` wholly. Free by X509_free. */
[[nodiscard]] bool certificate_from_der(struct slice der, X509 **ret, struct error *err);
/* Append the certificate. */
[[nodiscard]] bool certificate_to_der(const X509 *certificate, struct buf *ret, struct error *err);
[[nodiscard]] bool certificate_to_pem(const X509 *certificate, struct buf *ret, struct error *err);

/* A time in a certificate as RFC 3339; an unreadable one, which libcrypto calls invalid too, as 1970.
 * Returns ret. */
char *certificate_time_format(const ASN1_TIME *time, char ret[static TIME_TEXT_SIZE]);
/* Unix milliseconds of notAfter. INTERNAL for an unreadable one. */
[[nodiscard]] bool certificate_expiry(const X509 *certificate, int64_t *ret, struct error *err);
