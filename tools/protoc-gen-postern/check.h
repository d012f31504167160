/* What a .proto file may say and C can't: found before anything is written, and said in a line that
 * names both culprits, instead of by a C compiler in generated code. */
#pragma once

#include "base/error.h"

#include "google/protobuf/descriptor.pb-c.h"

/* INVALID: services or methods that get the same name in C, a method that C has a word for (in
 * protobuf-c's header too), a service without methods, a file name that begins with a digit,
 * protobuf-c's own options (which change the names of its types). */
[[nodiscard]] bool check_file(const Google__Protobuf__FileDescriptorProto *file, struct error *err);
