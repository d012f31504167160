#include "catalog.h"

#include "base/mem.h"
#include "pb/message.h"

/* One of the entry's two heads, as a message without the signers' certificates. */
static bool take_head(struct catalog_entry *entry, size_t which, const struct signed_head *head,
                      Postern__V1__SecretHead **ret, struct error *err)
{
    Postern__V1__SecretHead *message = &entry->messages[which];
    if (!pb_unpack(&postern__v1__secret_head__descriptor, buf_slice(&head->signatures),
                   &pb_limits_strict, &entry->signatures[which], err))
        return error_set(err, ERROR_INTERNAL, "the database has signatures that nobody here wrote");
    *message = *(const Postern__V1__SecretHead *)entry->signatures[which];
    message->body = (ProtobufCBinaryData){.len = head->body.len, .data = head->body.data};
    *ret = message;
    return true;
}

static bool catalog_add(void *arg, struct secret_row *row, struct error *err)
{
    struct catalog *catalog = arg;
    if (catalog->count == catalog->capacity)
        return error_set(err, ERROR_INTERNAL, "the database changed within a transaction");
    struct catalog_entry *entry = &catalog->entries[catalog->count++];
    secret_row_move(row, &entry->row);
    return take_head(entry, 0, &entry->row.live, &entry->live, err) &&
           (entry->row.gone_seq == 0 || take_head(entry, 1, &entry->row.gone, &entry->gone, err));
}

static bool catalog_size(struct tx *tx, size_t *ret, struct error *err)
{
    CLEANUP(rows_done) struct rows rows = {};
    int64_t count;
    if (!tx_query_one(tx, "SELECT count(*) FROM secret", SQL_NONE, &rows, err) ||
        !rows_int(&rows, 0, 0, SECRETS_MAX, &count, err))
        return false;
    *ret = (size_t)count;
    return true;
}

bool catalog_read(struct tx *tx, struct catalog **ret, struct error *err)
{
    CLEANUP(catalog_free_at) struct catalog *catalog = mem_new(1, sizeof(*catalog));
    size_t count;
    if (!catalog)
        return error_set_memory(err);
    /* Entries point into themselves, so they never move. */
    if (!catalog_size(tx, &count, err))
        return false;
    catalog->entries = mem_new(count + 1, sizeof(*catalog->entries));
    if (!catalog->entries)
        return error_set_memory(err);
    catalog->capacity = count;
    if (!secret_rows_each(tx, catalog_add, catalog, err))
        return false;
    *ret = TAKE(catalog);
    return true;
}

struct catalog *catalog_free(struct catalog *catalog)
{
    if (!catalog)
        return nullptr;
    for (size_t i = 0; i < catalog->count; i++) {
        struct catalog_entry *entry = &catalog->entries[i];
        pb_free(entry->signatures[0]);
        pb_free(entry->signatures[1]);
        secret_row_done(&entry->row);
    }
    mem_free(catalog->entries);
    return mem_free(catalog);
}

bool standing_read(struct tx *tx, const struct catalog *catalog, const struct policies *policies,
                   int64_t now_ms, struct standing *standing, struct error *err)
{
    CLEANUP(node_record_done) struct node_record record;
    node_record_init(&record);
    standing->refusal = (struct error){};
    if (!nodes_get(tx, standing->agent_id, &record, err)) {
        standing->refusal = *err;
        return err->class == ERROR_NOT_FOUND;
    }
    standing->expires_at_ms = record.expires_at_ms;
    standing->wants_generation = record.wants_generation;
    if (!node_may_receive(&record, now_ms, &standing->refusal))
        return true;
    mem_free(standing->entitled);
    standing->entitled = mem_new(catalog->count + 1, sizeof(*standing->entitled));
    if (!standing->entitled)
        return error_set_memory(err);
    for (size_t i = 0; i < catalog->count; i++)
        standing->entitled[i] =
            secret_entitled(policies, standing->agent_id, catalog->entries[i].row.head);
    return true;
}
