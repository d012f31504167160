/* Comments of a .proto file, carried over to the stubs: those directly before a service or method. */
#pragma once

#include "base/buf.h"

#include "google/protobuf/descriptor.pb-c.h"

/* Append the comment before a service, or before one of its methods, as a C comment with `indent`
 * before each line; nothing where there is none. Both indices from 0. */
void comment_service(struct buf *out, const Google__Protobuf__FileDescriptorProto *file,
                     size_t service);
void comment_method(struct buf *out, const Google__Protobuf__FileDescriptorProto *file,
                    size_t service, size_t method, const char *indent);
