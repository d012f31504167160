/*
 * What clang-tidy can't see from within one file: that setting an error always returns false, so
 * that what follows `if (!f(…, &ret, err)) return false;` has its output. Included by ci/tidy
 * before each file; never compiled.
 */
#include "base/error.h"

#define error_set(...) (error_set(__VA_ARGS__), false)
#define error_set_reason(...) (error_set_reason(__VA_ARGS__), false)
#define error_set_field(...) (error_set_field(__VA_ARGS__), false)
#define error_set_native(...) (error_set_native(__VA_ARGS__), false)
#define error_set_errno(...) (error_set_errno(__VA_ARGS__), false)
#define error_set_openssl(...) (error_set_openssl(__VA_ARGS__), false)
#define error_set_memory(...) (error_set_memory(__VA_ARGS__), false)
#define error_prefix(...) (error_prefix(__VA_ARGS__), false)
