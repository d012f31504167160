#include "quota.h"

#include "base/mem.h"
#include "base/text.h"
#include "loop/address.h"

#include <arpa/inet.h>
#include <string.h>

bool quota_init(struct quota *quota, const char *what, size_t all, size_t each, struct error *err)
{
    struct quota_holder *holders = mem_new(all, sizeof(*holders));
    if (!holders)
        return error_set_memory(err);
    *quota = (struct quota){.what = what, .all = all, .each = each, .holders = holders};
    return true;
}

void quota_done(struct quota *quota)
{
    quota->holders = mem_free(quota->holders);
    quota->count = quota->held = 0;
}

static struct quota_holder *find(const struct quota *quota, const struct quota_key *key)
{
    for (size_t i = 0; i < quota->count; i++) {
        if (memcmp(&quota->holders[i].key, key, sizeof(*key)) == 0)
            return &quota->holders[i];
    }
    return nullptr;
}

bool quota_take(struct quota *quota, const struct quota_key *key, struct error *err)
{
    if (quota->held >= quota->all)
        return error_set_reason(err, ERROR_EXHAUSTED, "QUOTA",
                                "there are %zu %s at this moment; try again", quota->held,
                                quota->what);
    struct quota_holder *holder = find(quota, key);
    if (holder && holder->held >= quota->each)
        return error_set_reason(err, ERROR_EXHAUSTED, "QUOTA",
                                "there are %zu %s from one place at this moment; try again",
                                holder->held, quota->what);
    if (!holder) {
        holder = &quota->holders[quota->count++]; /* each holds one: there are at most `held` */
        *holder = (struct quota_holder){.key = *key};
    }
    holder->held++;
    quota->held++;
    return true;
}

void quota_give(struct quota *quota, const struct quota_key *key)
{
    struct quota_holder *holder = find(quota, key);
    if (!holder)
        return;
    quota->held--;
    if (--holder->held == 0)
        *holder = quota->holders[--quota->count];
}

/* ---- Keys ---- */

struct quota_key quota_key_of_address(const char *text)
{
    struct quota_key key = {0};
    struct address address;
    struct error other;
    struct in6_addr six;
    struct in_addr four;
    if (!address_parse(text, &address, &other))
        return key;
    if (address.kind == ADDRESS_IPV4 && inet_pton(AF_INET, address.host, &four) == 1) {
        key.bytes[10] = key.bytes[11] = 0xff; /* as IPv6 has it: RFC 4291, 2.5.5.2 */
        mem_copy(&key.bytes[12], &four, sizeof(four));
    } else if (address.kind == ADDRESS_IPV6 && inet_pton(AF_INET6, address.host, &six) == 1) {
        bool mapped = IN6_IS_ADDR_V4MAPPED(&six);
        mem_copy(key.bytes, &six, mapped ? sizeof(key.bytes) : sizeof(key.bytes) / 2);
    }
    return key;
}

struct quota_key quota_key_of_agent(const char *agent_id)
{
    struct quota_key key = {0};
    struct error other;
    CLEANUP(buf_done) struct buf bytes;
    buf_init(&bytes, sizeof(key.bytes));
    if (hex_decode(agent_id, &bytes, &other) && bytes.len == sizeof(key.bytes))
        mem_copy(key.bytes, bytes.data, bytes.len);
    return key;
}
