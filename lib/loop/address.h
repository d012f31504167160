/*
 * struct address: where to listen or to connect.
 *
 *     127.0.0.1:15551   [::1]:15551   unix:/run/postern/app.sock   authority.postern.svc:15550
 *
 * A plain value without pointers. Names are resolved when a stream connects, never by parsing.
 */
#pragma once

#include "base/error.h"

enum address_kind {
    ADDRESS_NONE = 0,
    ADDRESS_IPV4,
    ADDRESS_IPV6,
    ADDRESS_HOST, /* a DNS name: for connecting, not for listening */
    ADDRESS_UNIX,
};

constexpr size_t ADDRESS_HOST_MAX = 253; /* RFC 1035, as text without the final dot */
constexpr size_t ADDRESS_PATH_MAX = 100; /* sun_path has 108 with the NUL; ".new" fits beside it */
constexpr size_t ADDRESS_TEXT_SIZE = ADDRESS_HOST_MAX + 16;

struct address {
    enum address_kind kind;
    char host[ADDRESS_HOST_MAX + 1]; /* numeric address, DNS name, or path; by kind */
    uint16_t port;                   /* 0 for Unix sockets */
};

/* From text as above. The port is required (0 is a port: the kernel chooses one); IPv6 in brackets,
 * without zone; a Unix path is absolute. INVALID says what was expected. */
[[nodiscard]] bool address_parse(const char *text, struct address *ret, struct error *err);

/* The text that address_parse reads; IPv6 in its shortest form. Returns ret. */
const char *address_format(const struct address *address, char ret[static ADDRESS_TEXT_SIZE]);
