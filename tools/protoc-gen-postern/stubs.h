/* Writes the stubs of one .proto file: NAME.rpc.h and NAME.rpc.c, as rpc/service.h describes.
 * What reflection tells of the file is embedded beside it (cmake/proto.cmake). */
#pragma once

#include "base/buf.h"

#include "google/protobuf/descriptor.pb-c.h"

/* The kinds of method, rpc/service.h. */
enum stubs_kind { STUBS_UNARY, STUBS_SERVER_STREAM, STUBS_CLIENT_STREAM, STUBS_BIDI, STUBS_KINDS };
enum stubs_kind stubs_kind(const Google__Protobuf__MethodDescriptorProto *method);
/* What stands behind SERVICE_METHOD in the functions and types that are written for a method of this
 * kind, "" included, in a list that ends with null; and the same for members of SERVICE_handlers. */
const char *const *stubs_suffixes(enum stubs_kind kind);
const char *const *stubs_members(enum stubs_kind kind);

/* Appends C text, for a file that passed check_file. INVALID (with the method's name) for names of
 * absurd length. */
[[nodiscard]] bool stubs_header(const Google__Protobuf__FileDescriptorProto *file, struct buf *out,
                                struct error *err);
[[nodiscard]] bool stubs_source(const Google__Protobuf__FileDescriptorProto *file, struct buf *out,
                                struct error *err);
