#include "config.h"

#include "loop/address.h"

/* The app API carries no credentials: whoever reaches it is the pod. So loopback alone. */
static bool check_app_listen(const char *text, struct error *err)
{
    if (text[0] == '\0')
        return true;
    struct address address;
    if (!address_parse(text, &address, err))
        return error_set_field(err, "app_listen",
                               "expected a loopback address such as "
                               "127.0.0.1:15551 or [::1]:15551, found \"%s\"",
                               text);
    bool loopback = (address.kind == ADDRESS_IPV4 && strncmp(address.host, "127.", 4) == 0) ||
                    (address.kind == ADDRESS_IPV6 && strcmp(address.host, "::1") == 0);
    if (!loopback)
        return error_set_field(err, "app_listen",
                               "\"%s\" is not a loopback address: the app's API must not be "
                               "reachable from outside the pod",
                               text);
    return true;
}

static bool check_socket(const char *field, const char *path, struct error *err)
{
    if (path[0] != '/' || strlen(path) > ADDRESS_PATH_MAX)
        return error_set_field(err, field,
                               "expected an absolute path of at most %zu bytes, found \"%s\"",
                               ADDRESS_PATH_MAX, path);
    return true;
}

bool sidecar_config_check(const ProtobufCMessage *message, struct error *err)
{
    const Postern__V1__SidecarConfig *config = (const Postern__V1__SidecarConfig *)message;
    return check_socket("node_socket", config->node_socket, err) &&
           check_socket("app_socket", config->app_socket, err) &&
           check_app_listen(config->app_listen, err) &&
           duration_check("drain", config->drain, 0, 3'600'000, err);
}

bool sidecar_config_changeable(const ProtobufCMessage *now, const ProtobufCMessage *next,
                               struct error *err)
{
    const Postern__V1__SidecarConfig *old = (const Postern__V1__SidecarConfig *)now;
    const Postern__V1__SidecarConfig *new = (const Postern__V1__SidecarConfig *)next;
    return setting_keeps("node_socket", old->node_socket, new->node_socket, err) &&
           setting_keeps("app_socket", old->app_socket, new->app_socket, err) &&
           setting_keeps("app_listen", old->app_listen, new->app_listen, err);
}
