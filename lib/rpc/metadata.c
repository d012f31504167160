#include "rpc/metadata.h"

#include "base/mem.h"
#include "base/text.h"

void metadata_init(struct metadata *metadata)
{
    *metadata = (struct metadata){0};
    buf_init(&metadata->bytes, METADATA_MAX + (size_t)1024 * 1024);
}

void metadata_done(struct metadata *metadata)
{
    buf_done(&metadata->bytes);
    metadata->entries = mem_free(metadata->entries);
    metadata->count = metadata->room = 0;
}

static bool has_prefix(struct slice text, const char *prefix)
{
    size_t len = strlen(prefix);
    return text.len >= len && memcmp(text.data, prefix, len) == 0;
}

static bool is_binary(struct slice key)
{
    return key.len >= 4 && memcmp(key.data + key.len - 4, "-bin", 4) == 0;
}

/* Names that belong to HTTP or to gRPC. */
static bool is_reserved(struct slice key)
{
    static const char *const names[] = {"te",
                                        "content-type",
                                        "user-agent",
                                        "host",
                                        "connection",
                                        "content-length",
                                        "keep-alive",
                                        "upgrade",
                                        "transfer-encoding",
                                        "proxy-connection"};
    if (key.len == 0 || key.data[0] == ':' || has_prefix(key, "grpc-"))
        return true;
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (slice_is(key, names[i]))
            return true;
    return false;
}

/* Makes an entry of the key at `key` and of all that was written from `value` on. */
static bool add_entry(struct metadata *metadata, size_t key, size_t key_len, size_t value,
                      struct error *err)
{
    if (!buf_ok(&metadata->bytes, err))
        return false;
    if (metadata->count == metadata->room) {
        size_t room = metadata->room ? 2 * metadata->room : 4;
        void *entries = mem_resize(metadata->entries, room * sizeof(*metadata->entries));
        if (!entries)
            return error_set_memory(err);
        metadata->entries = entries;
        metadata->room = room;
    }
    metadata->entries[metadata->count++] = (struct metadata_entry){
        (uint32_t)key, (uint32_t)key_len, (uint32_t)value, (uint32_t)(metadata->bytes.len - value)};
    return true;
}

static size_t put_key(struct metadata *metadata, struct slice key)
{
    size_t at = metadata->bytes.len;
    buf_put(&metadata->bytes, key);
    buf_put_u8(&metadata->bytes, 0);
    return at;
}

static struct slice trim(struct slice text)
{
    while (text.len > 0 && text.data[0] == ' ')
        text = slice(text.data + 1, text.len - 1);
    while (text.len > 0 && text.data[text.len - 1] == ' ')
        text.len--;
    return text;
}

static bool check_ours(struct slice key, struct slice value, struct error *err)
{
    for (size_t i = 0; i < key.len; i++) {
        char c = (char)key.data[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.'))
            return error_set(err, ERROR_INVALID,
                             "metadata keys have lower-case letters, digits, - _ and . only");
    }
    if (is_reserved(key))
        return error_set(err, ERROR_INVALID, "metadata key \"%.*s\" is reserved", (int)key.len,
                         (const char *)key.data);
    for (size_t i = 0; !is_binary(key) && i < value.len; i++)
        if (value.data[i] < 0x20 || value.data[i] > 0x7e)
            return error_set(err, ERROR_INVALID,
                             "metadata \"%.*s\" is not printable ASCII: use a key ending in -bin",
                             (int)key.len, (const char *)key.data);
    return true;
}

bool metadata_add(struct metadata *metadata, const struct rpc_metadatum *item, struct error *err)
{
    struct slice key = slice_str(item->key);
    if (!check_ours(key, item->value, err))
        return false;
    if (metadata->count == METADATA_COUNT_MAX || metadata->bytes.len > METADATA_MAX ||
        item->value.len + key.len > METADATA_MAX - metadata->bytes.len)
        return error_set(err, ERROR_EXHAUSTED, "more than %zu items or %zu bytes of metadata",
                         METADATA_COUNT_MAX, METADATA_MAX);
    size_t at = put_key(metadata, key);
    size_t value = metadata->bytes.len;
    if (is_binary(key))
        base64_encode(item->value, &metadata->bytes);
    else
        buf_put(&metadata->bytes, item->value);
    return add_entry(metadata, at, key.len, value, err);
}

/* "-bin": several values may have been joined by commas on the way. */
static bool receive_binary(struct metadata *metadata, const struct h2_header *header,
                           struct error *err)
{
    struct slice rest = header->value;
    for (;;) {
        const uint8_t *comma = rest.len ? memchr(rest.data, ',', rest.len) : nullptr;
        size_t len = comma ? (size_t)(comma - rest.data) : rest.len;
        size_t before = metadata->bytes.len;
        size_t at = put_key(metadata, header->name);
        size_t value = metadata->bytes.len;
        struct error bad;
        if (base64_decode(trim(slice(rest.data, len)), &metadata->bytes, &bad)) {
            if (!add_entry(metadata, at, header->name.len, value, err))
                return false;
        } else if (!buf_ok(&metadata->bytes, err)) {
            return false;
        } else {
            metadata->bytes.len = before; /* odd values never fail a call */
        }
        if (!comma)
            return true;
        rest = slice(comma + 1, rest.len - len - 1);
    }
}

bool metadata_receive(struct metadata *metadata, const struct h2_header *header, struct error *err)
{
    if (is_reserved(header->name))
        return true;
    if (is_binary(header->name))
        return receive_binary(metadata, header, err);
    size_t at = put_key(metadata, header->name);
    size_t value = metadata->bytes.len;
    buf_put(&metadata->bytes, trim(header->value));
    return add_entry(metadata, at, header->name.len, value, err);
}

bool metadata_find(const struct metadata *metadata, const char *key, size_t index,
                   struct slice *ret)
{
    struct slice wanted = slice_str(key);
    for (size_t i = 0; i < metadata->count; i++) {
        const struct metadata_entry *entry = &metadata->entries[i];
        if (!slice_equal(slice(metadata->bytes.data + entry->key, entry->key_len), wanted) ||
            index-- > 0)
            continue;
        *ret = slice(metadata->bytes.data + entry->value, entry->value_len);
        return true;
    }
    return false;
}

struct h2_header metadata_at(const struct metadata *metadata, size_t i)
{
    const struct metadata_entry *entry = &metadata->entries[i];
    const uint8_t *bytes = metadata->bytes.data;
    return (struct h2_header){slice(bytes + entry->key, entry->key_len),
                              slice(bytes + entry->value, entry->value_len)};
}
