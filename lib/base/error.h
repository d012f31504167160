/*
 * The one error dialect.
 *
 * What can fail returns bool and takes `struct error *err` as its very last argument. The caller
 * owns it (usually on the stack, `struct error err = {0};`); nothing is allocated; it is written
 * only on failure. An error has a class, which alone decides control flow, the gRPC status and the
 * exit code; where a foreign library failed, a domain with its native code; and a message that
 * outer layers prefix with context: "cannot start: listen on 127.0.0.1:15550: address in use".
 * The first character is lower case, there is no full stop, and what to do next is said if known.
 *
 * Threading: none; an error belongs to whoever holds it and may be copied by assignment.
 */
#pragma once

#include "base/macros.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The zero value is "no error". Order and meaning: docs/protocol.md, "Errors". */
enum error_class {
    ERROR_NONE = 0,
    ERROR_INVALID,         /* bad input: the caller must send something else */
    ERROR_DENIED,          /* policy says no */
    ERROR_UNAUTHENTICATED, /* who is this? */
    ERROR_NOT_FOUND,
    ERROR_CONFLICT,    /* wrong state for this: contraindicated, withheld, pending … */
    ERROR_EXISTS,      /* a conflict of its own: the thing is already there */
    ERROR_UNAVAILABLE, /* try again later */
    ERROR_EXHAUSTED,   /* a named limit */
    ERROR_TIMEOUT,
    ERROR_CANCELLED,
    ERROR_UNIMPLEMENTED, /* the peer does not know this method or encoding */
    ERROR_INTERNAL,      /* our defect */
    ERROR_CLASS_COUNT,
};

enum error_domain {
    ERROR_DOMAIN_NONE = 0,
    ERROR_DOMAIN_ERRNO,
    ERROR_DOMAIN_OPENSSL,
    ERROR_DOMAIN_TPM,    /* TSS2_RC, TPM response codes included */
    ERROR_DOMAIN_HTTP2,  /* an RFC 9113 section 7 error code */
    ERROR_DOMAIN_UV,     /* a negative libuv code */
    ERROR_DOMAIN_SQLITE, /* an extended result code */
    ERROR_DOMAIN_GRPC,   /* a status that a peer sent */
    ERROR_DOMAIN_COUNT,
};

constexpr size_t ERROR_MESSAGE_MAX = 512; /* bytes with the NUL; longer text ends in "…" */
constexpr size_t ERROR_REASON_MAX = 64;   /* google.rpc.ErrorInfo: at most 63 characters */
constexpr size_t ERROR_FIELD_MAX = 160;

struct error {
    enum error_class class;
    enum error_domain domain;
    int64_t code;                    /* native code in `domain`, 0 without one */
    char reason[ERROR_REASON_MAX];   /* ErrorInfo.reason, such as NODE_CONTRAINDICATED, or "" */
    char field[ERROR_FIELD_MAX];     /* INVALID: path of the offending field, or "" */
    char message[ERROR_MESSAGE_MAX]; /* always a terminated, valid UTF-8 string */
};

/* Sets class and message and clears the rest. All setters return false, so that
 * `return error_set(err, …);` reads as what it is. */
PRINTF_LIKE(3, 4)
bool error_set(struct error *err, enum error_class class, const char *format, ...);

/* As error_set, with the machine-readable reason that the peer gets in google.rpc.ErrorInfo. */
PRINTF_LIKE(4, 5)
bool error_set_reason(struct error *err, enum error_class class, const char *reason,
                      const char *format, ...);

/* INVALID, with the path of the field that is at fault ("listen.tcp", "secrets[3].name"). */
PRINTF_LIKE(3, 4)
bool error_set_field(struct error *err, const char *field, const char *format, ...);

/* Says at which field an INVALID error of an inner layer is: sets `field` unless there is one, and
 * leaves the rest. */
bool error_at_field(struct error *err, const char *field);

/* A foreign library failed with `code`; `text` is its own wording (borrowed, may be NULL). The
 * message becomes "FORMATTED: TEXT". */
PRINTF_LIKE(6, 7)
bool error_set_native(struct error *err, enum error_class class, enum error_domain domain,
                      int64_t code, const char *text, const char *format, ...);

/* From errno `number`: class by what it means (ENOENT NOT_FOUND, EACCES DENIED, ENOSPC EXHAUSTED,
 * EADDRINUSE CONFLICT, EAGAIN and ECONNREFUSED UNAVAILABLE, ETIMEDOUT TIMEOUT, else INTERNAL). */
PRINTF_LIKE(3, 4)
bool error_set_errno(struct error *err, int number, const char *format, ...);

/* Takes the oldest entry of OpenSSL's queue of this thread and clears the queue. */
PRINTF_LIKE(3, 4)
bool error_set_openssl(struct error *err, enum error_class class, const char *format, ...);

/* EXHAUSTED, "out of memory". */
bool error_set_memory(struct error *err);

/* Prepends "FORMATTED: " to the message; class, reason and code stay. */
PRINTF_LIKE(2, 3)
bool error_prefix(struct error *err, const char *format, ...);

/* All setters return false; said here so that the compiler, too, knows that what a failed function did
 * not write is not read. */
static inline bool error_false(bool set)
{
    (void)set;
    return false;
}
#define error_set(...) error_false((error_set)(__VA_ARGS__))
#define error_set_reason(...) error_false((error_set_reason)(__VA_ARGS__))
#define error_set_field(...) error_false((error_set_field)(__VA_ARGS__))
#define error_at_field(...) error_false((error_at_field)(__VA_ARGS__))
#define error_set_native(...) error_false((error_set_native)(__VA_ARGS__))
#define error_set_errno(...) error_false((error_set_errno)(__VA_ARGS__))
#define error_set_openssl(...) error_false((error_set_openssl)(__VA_ARGS__))
#define error_set_memory(...) error_false((error_set_memory)(__VA_ARGS__))
#define error_prefix(...) error_false((error_prefix)(__VA_ARGS__))

/* Lower-case name of the class ("invalid", "not found"); "none" for ERROR_NONE. */
const char *error_class_name(enum error_class class);

/* Name of the domain ("errno", "tpm"). */
const char *error_domain_name(enum error_domain domain);

/* The one table: gRPC status code (0–16) and process exit code of a class. */
int error_grpc_status(enum error_class class);
int error_exit_code(enum error_class class);

/* The class for a gRPC status from the wire; unknown numbers are INTERNAL, 0 is NONE. */
enum error_class error_class_from_grpc(int status);
