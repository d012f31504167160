/* Writes the stubs of one .proto file: NAME.rpc.h and NAME.rpc.c, as rpc/service.h describes.
 * What reflection tells of the file is embedded beside it (cmake/proto.cmake). */
#pragma once

#include "base/buf.h"

#include "google/protobuf/descriptor.pb-c.h"

/* Appends C text. INVALID (with the method's name) for what C can't express. */
[[nodiscard]] bool stubs_header(const Google__Protobuf__FileDescriptorProto *file, struct buf *out,
                                struct error *err);
[[nodiscard]] bool stubs_source(const Google__Protobuf__FileDescriptorProto *file, struct buf *out,
                                struct error *err);
