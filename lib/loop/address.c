#include "loop/address.h"

#include "base/mem.h"
#include "base/text.h"
#include "loop/internal.h"

#include <arpa/inet.h>
#include <stdio.h>

static const char EXPECTED[] =
    "expected HOST:PORT, 1.2.3.4:PORT, [IPv6]:PORT or unix:/absolute/path";

static bool parse_unix(const char *path, struct address *ret, struct error *err)
{
    size_t len = strlen(path);
    if (path[0] != '/')
        return error_set(err, ERROR_INVALID, "\"unix:%s\": expected an absolute path, unix:/…",
                         path);
    if (len > ADDRESS_PATH_MAX)
        return error_set(err, ERROR_INVALID,
                         "\"unix:%s\": the path has %zu bytes, a socket's may have %zu", path, len,
                         ADDRESS_PATH_MAX);
    if (path[len - 1] == '/')
        return error_set(err, ERROR_INVALID, "\"unix:%s\": expected a file, not a folder", path);
    *ret = (struct address){.kind = ADDRESS_UNIX};
    mem_copy(ret->host, path, len);
    return true;
}

/* RFC 1123 section 2.1: labels of letters, digits and inner hyphens; "_" too, which DNS names of
 * services have. A last label of digits alone would be a mistyped IPv4 address. */
static bool host_valid(const char *host)
{
    size_t label = 0;
    bool digits = true;
    for (const char *c = host;; c++) {
        if (*c == '.' || *c == '\0') {
            if (label == 0 || label > 63 || c[-1] == '-')
                return false;
            if (*c == '\0')
                return !digits;
            label = 0;
            digits = true;
            continue;
        }
        bool digit = *c >= '0' && *c <= '9';
        bool letter = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || *c == '_';
        if (!digit && !letter && !(*c == '-' && label > 0))
            return false;
        digits = digits && digit;
        label++;
    }
}

/* Gives `host` its kind, and an IP address its shortest form. */
static bool classify(const char *host, bool bracketed, struct address *ret)
{
    struct in_addr ip4;
    struct in6_addr ip6;
    if (bracketed) {
        ret->kind = ADDRESS_IPV6;
        return inet_pton(AF_INET6, host, &ip6) == 1 &&
               inet_ntop(AF_INET6, &ip6, ret->host, sizeof ret->host);
    }
    if (inet_pton(AF_INET, host, &ip4) == 1) {
        ret->kind = ADDRESS_IPV4;
        return inet_ntop(AF_INET, &ip4, ret->host, sizeof ret->host);
    }
    ret->kind = ADDRESS_HOST;
    mem_copy(ret->host, host, strlen(host));
    return host_valid(host);
}

bool address_parse(const char *text, struct address *ret, struct error *err)
{
    if (strncmp(text, "unix:", 5) == 0)
        return parse_unix(text + 5, ret, err);

    const char *colon = strrchr(text, ':');
    const char *start = text;
    const char *end = colon;
    bool bracketed = text[0] == '[';
    if (bracketed && colon && colon > text && colon[-1] == ']') {
        start++;
        end--;
    } else if (bracketed || !colon) {
        return error_set(err, ERROR_INVALID, "\"%s\": %s", text, EXPECTED);
    }
    size_t len = (size_t)(end - start);
    char host[ADDRESS_HOST_MAX + 1] = {0};
    struct address address = {0};
    if (len > ADDRESS_HOST_MAX)
        return error_set(err, ERROR_INVALID, "\"%.64s…\": a host name has at most %zu bytes", text,
                         ADDRESS_HOST_MAX);
    mem_copy(host, start, len);
    if (!classify(host, bracketed, &address))
        return error_set(err, ERROR_INVALID, "\"%s\": %s", text, EXPECTED);
    uint64_t port;
    struct error ignored;
    if (!parse_u64(colon + 1, 0, UINT16_MAX, &port, &ignored))
        return error_set(err, ERROR_INVALID,
                         "\"%s\": expected a port from 0 to 65535 after the \":\"", text);
    address.port = (uint16_t)port;
    *ret = address;
    return true;
}

const char *address_format(const struct address *address, char ret[static ADDRESS_TEXT_SIZE])
{
    switch (address->kind) {
    case ADDRESS_UNIX:
        (void)snprintf(ret, ADDRESS_TEXT_SIZE, "unix:%s", address->host);
        break;
    case ADDRESS_IPV6:
        (void)snprintf(ret, ADDRESS_TEXT_SIZE, "[%s]:%u", address->host, address->port);
        break;
    case ADDRESS_IPV4:
    case ADDRESS_HOST:
        (void)snprintf(ret, ADDRESS_TEXT_SIZE, "%s:%u", address->host, address->port);
        break;
    case ADDRESS_NONE:
    default:
        (void)snprintf(ret, ADDRESS_TEXT_SIZE, "none");
        break;
    }
    return ret;
}

bool address_to_socket(const struct address *address, struct sockaddr_storage *ret)
{
    *ret = (struct sockaddr_storage){0};
    if (address->kind == ADDRESS_IPV4) {
        struct sockaddr_in *ip4 = (struct sockaddr_in *)ret;
        ip4->sin_family = AF_INET;
        ip4->sin_port = htons(address->port);
        return inet_pton(AF_INET, address->host, &ip4->sin_addr) == 1;
    }
    if (address->kind == ADDRESS_IPV6) {
        struct sockaddr_in6 *ip6 = (struct sockaddr_in6 *)ret;
        ip6->sin6_family = AF_INET6;
        ip6->sin6_port = htons(address->port);
        return inet_pton(AF_INET6, address->host, &ip6->sin6_addr) == 1;
    }
    return false;
}

void address_from_socket(const struct sockaddr *socket, struct address *ret)
{
    *ret = (struct address){0};
    if (socket->sa_family == AF_INET) {
        const struct sockaddr_in *ip4 = (const struct sockaddr_in *)(const void *)socket;
        ret->kind = ADDRESS_IPV4;
        ret->port = ntohs(ip4->sin_port);
        (void)inet_ntop(AF_INET, &ip4->sin_addr, ret->host, sizeof ret->host);
    } else if (socket->sa_family == AF_INET6) {
        const struct sockaddr_in6 *ip6 = (const struct sockaddr_in6 *)(const void *)socket;
        ret->kind = ADDRESS_IPV6;
        ret->port = ntohs(ip6->sin6_port);
        (void)inet_ntop(AF_INET6, &ip6->sin6_addr, ret->host, sizeof ret->host);
    }
}
