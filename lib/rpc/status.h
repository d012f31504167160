/*
 * struct error to gRPC status and back, in one place: status code and message, and details in
 * grpc-status-details-bin, a google.rpc.Status with a google.rpc.ErrorInfo (domain "postern", the
 * error's reason, the native code as metadata) and for INVALID with a field a google.rpc.BadRequest.
 * gRPC PROTOCOL-HTTP2.md, "Responses"; statuscodes.md; google/rpc/error_details.proto.
 */
#pragma once

#include "base/buf.h"

constexpr size_t STATUS_DETAILS_MAX = 4096; /* of a peer, decoded: memory and time by trailers */

/* Appends the serialized google.rpc.Status; nothing if the error has no reason, field or native
 * code. */
[[nodiscard]] bool status_details(const struct error *err_in, struct buf *ret, struct error *err);

/* Percent-encodes a message for grpc-message: all but printable ASCII, "%", and
 * spaces at the ends. */
void status_message_encode(struct slice message, struct buf *ret);
/* Decodes into at most `size` bytes with the NUL; never fails: what is no valid escape stands as it
 * is, NUL and what is not UTF-8 become "?". Returns ret. */
char *status_message_decode(struct slice encoded, char *ret, size_t size);

/* A whole number in 0 … 16; others are UNKNOWN (2). */
int status_parse(struct slice text);
/* The error for a status that a peer sent: `code` ≠ 0, its percent-encoded message, its serialized
 * details (either may be empty; details that disagree with the code or don't parse are ignored).
 * Domain GRPC, code `code`; reason, field and class from the details where they are. */
void status_to_error(int code, struct slice message, struct slice details, struct error *ret);

/* rpc.md, 19: an HTTP status without grpc-status. */
int status_from_http(unsigned http_status);
/* rpc.md, 18: a stream that the peer reset with this RFC 9113 section 7 code. */
int status_from_reset(uint32_t http2_code);
/* "PERMISSION_DENIED"; "UNKNOWN" for numbers outside 0 … 16. */
const char *status_name(int code);
