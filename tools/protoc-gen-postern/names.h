/*
 * Names in generated code: protobuf-c's, so that stubs fit its types, and our own, after its rules.
 * Everything is appended to a struct buf, whose failure is asked for once, when a file is complete.
 */
#pragma once

#include "base/buf.h"

/* ".postern.v1.GetSecretRequest" → "Postern__V1__GetSecretRequest", the C type. */
void name_type(struct buf *out, const char *full_name);
/* … → "postern__v1__get_secret_request__descriptor". */
void name_descriptor(struct buf *out, const char *full_name);
/* "GetSecret" → "get_secret". */
void name_snake(struct buf *out, const char *camel);
/* Words that can't be a structure's member: C23's keywords and, as both compilers predefine or their
 * headers define them, macros. */
bool name_is_reserved(struct slice name);
/* "SecretService" of package "postern.v1" → "secret_service". A version other than v1 goes behind it
 * ("server_reflection_v1alpha"), so that two versions can live in one program. */
void name_service(struct buf *out, const char *package, const char *service);
/* "postern/v1/secret.proto" → "postern/v1/secret". */
struct slice name_stem(const char *file);
/* … → "postern_v1_secret_set", the embedded descriptor set (cmake/proto.cmake). */
void name_set(struct buf *out, const char *file);
