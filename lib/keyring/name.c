#include "keyring/name.h"

#include <string.h>

bool secret_name_check(const char *name, struct error *err)
{
    size_t len = strlen(name);
    if (len == 0 || len > SECRET_NAME_MAX ||
        strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-._/") != len)
        return error_set_field(err, "name", "name: expected 1 to %zu characters of a-z 0-9 - . _ /",
                               SECRET_NAME_MAX);
    return true;
}
