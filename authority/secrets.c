#include "secrets.h"

#include "access.h"
#include "authority.h"
#include "nodes.h"
#include "secret_rows.h"
#include "watch.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "pb/message.h"

constexpr unsigned CHANGE_ATTEMPTS_MAX = 16; /* against others who change the same name just now */
constexpr size_t LISTED_MAX = SECRETS_MAX;
static const char head_tag[] = "postern head v1";

/* ---- A change of one name ---- */

/* From here on each step is one function on its thread, and one on the loop that starts the next. */
struct change {
    struct authority *authority;
    struct rpc_call *call;     /* null: secrets_renew */
    struct policies *policies; /* a reference */
    char name[SECRET_NAME_MAX + 1];
    char who[CALLER_NAME_SIZE];
    struct secret *value; /* null: stays */
    bool allow_given;
    char **allow; /* owned; used if allow_given */
    size_t allow_count;
    uint64_t renew_seq; /* secrets_renew */
    unsigned attempts;

    struct secret_row before;
    bool existed;
    struct secret_row after;
    struct sealed_version version;
    int64_t now_ms;
    bool overtaken; /* another change was faster */
};

static void change_free(struct change *change)
{
    policies_unref(change->policies);
    secret_free(change->value);
    for (size_t i = 0; i < change->allow_count; i++)
        mem_free(change->allow[i]);
    mem_free(change->allow);
    secret_row_done(&change->before);
    secret_row_done(&change->after);
    sealed_version_done(&change->version);
    mem_free(change);
}

static struct change *change_new(struct authority *authority)
{
    struct change *change = mem_new(1, sizeof(*change));
    if (!change)
        return nullptr;
    change->authority = authority;
    change->policies = policies_ref(authority->policies);
    secret_row_init(&change->before);
    secret_row_init(&change->after);
    sealed_version_init(&change->version);
    return change;
}

static void change_fail(struct change *change, const struct error *why)
{
    if (change->call)
        rpc_fail(change->call, why);
    else
        log_failure(LOG_ERROR, "secrets", why, "take %s from a node", change->name);
    change_free(change);
}

static void change_start(struct change *change);

static void change_reply(struct change *change)
{
    const Postern__V1__HeadBody *head = change->after.head;
    if (change->call) {
        Postern__V1__PutSecretResponse response = POSTERN__V1__PUT_SECRET_RESPONSE__INIT;
        response.epoch = head->epoch;
        response.version = head->version;
        admin_service_put_secret_reply(change->call, &response);
    }
    log_at(LOG_INFO, "secrets", "%s is at version %u.%llu, head %llu (by %s)", change->name,
           head->epoch, (unsigned long long)head->version, (unsigned long long)head->seq,
           change->who);
    change_free(change);
}

/* Step 3, database: what was made counts if the name still is what it was made from. */
static bool change_store(struct tx *tx, void *arg, struct error *err)
{
    struct change *change = arg;
    CLEANUP(secret_row_done) struct secret_row now;
    secret_row_init(&now);
    bool exists = secret_row_get(tx, change->name, &now, err);
    if (!exists && err->class != ERROR_NOT_FOUND)
        return false;
    change->overtaken =
        exists != change->existed || (exists && now.head->seq != change->before.head->seq);
    if (change->overtaken)
        return true;
    const Postern__V1__HeadBody *head = change->after.head;
    return secret_row_put(tx, &change->after, change->who, err) &&
           (!change->value || version_put(tx, head->name, head->epoch, head->version,
                                          &change->version, change->now_ms, err)) &&
           holders_retire(tx, change->policies, head, err);
}

static void on_stored(void *arg, bool ok, const struct error *err)
{
    struct change *change = arg;
    struct watch_hub *hub = change->authority->hub;
    if (!ok) {
        change_fail(change, err);
        return;
    }
    if (change->overtaken) {
        change_start(change);
        return;
    }
    change_reply(change);
    if (hub)
        watch_hub_all_changed(hub);
}

/* Packs and signs one head. */
static bool make_head(const struct identity *identity, const Postern__V1__HeadBody *head,
                      struct signed_head *ret, struct error *err)
{
    struct dual_signature dual;
    dual_init(&dual);
    struct slice body;
    Postern__V1__SecretHead signatures = POSTERN__V1__SECRET_HEAD__INIT;
    bool ok = pb_pack(&head->base, HEAD_BODY_MAX, &ret->body, err) &&
              (body = buf_slice(&ret->body), true) &&
              identity_sign(identity, head_tag, &body, 1, &dual, err);
    if (ok) {
        signatures.n_signatures = SIGNER_COUNT;
        signatures.signatures = dual.messages;
        ok = pb_pack(&signatures.base, HEAD_SIGNATURES_MAX, &ret->signatures, err);
    }
    dual_done(&dual);
    return ok;
}

/* Whether somebody may lose the name by this change: then a head says so. */
static bool allow_shrinks(const struct change *change)
{
    if (!change->existed || !change->before.head || !change->allow_given)
        return false;
    for (size_t i = 0; i < change->before.head->n_allow; i++) {
        bool stays = false;
        for (size_t j = 0; j < change->allow_count && !stays; j++)
            stays = strcmp(change->before.head->allow[i], change->allow[j]) == 0;
        if (!stays)
            return true;
    }
    return false;
}

/* Fills in the next head in the chain of `previous`, whose hash is put into `hash`. */
static bool next_head(struct slice previous, uint8_t hash[static SHA256_SIZE],
                      Postern__V1__HeadBody *head, struct error *err)
{
    head->seq++;
    if (previous.len == 0)
        return true;
    if (!sha256(previous, hash, err))
        return false;
    head->previous = (ProtobufCBinaryData){.len = SHA256_SIZE, .data = hash};
    return true;
}

/* The heads of a change: perhaps one that says gone, then the live one. */
static bool make_heads(struct change *change, struct error *err)
{
    const struct identity *identity = change->authority->identity;
    const Postern__V1__HeadBody *before = change->before.head;
    struct slice previous = buf_slice(&change->before.live.body);
    uint8_t hash[SHA256_SIZE];
    Postern__V1__HeadBody head = POSTERN__V1__HEAD_BODY__INIT;
    head.name = change->name;
    head.epoch = before ? before->epoch : 1;
    head.version = before ? before->version : 0;
    head.seq = before ? before->seq : 0;
    head.authority_ms = change->now_ms;
    if (change->renew_seq != 0 || allow_shrinks(change)) {
        head.gone = true;
        if (!next_head(previous, hash, &head, err) ||
            !make_head(identity, &head, &change->after.gone, err))
            return false;
        change->after.gone_seq = head.seq;
        previous = buf_slice(&change->after.gone.body);
        head.gone = false;
    } else if (change->before.gone_seq != 0) {
        struct signed_head empty = change->after.gone;
        change->after.gone = change->before.gone;
        change->before.gone = empty;
        change->after.gone_seq = change->before.gone_seq;
    }
    if (change->value)
        head.version++;
    head.n_allow = change->allow_given ? change->allow_count : before ? before->n_allow : 0;
    head.allow = change->allow_given ? change->allow : before ? before->allow : nullptr;
    return next_head(previous, hash, &head, err) &&
           make_head(identity, &head, &change->after.live, err);
}

/* Step 2, signer. */
static bool change_make(void *arg, struct error *err)
{
    struct change *change = arg;
    ProtobufCMessage *message;
    change->now_ms = clock_wall_ms();
    change->after.changed_at_ms = change->now_ms;
    if (!make_heads(change, err) ||
        !pb_unpack(&postern__v1__head_body__descriptor, buf_slice(&change->after.live.body),
                   &pb_limits_strict, &message, err))
        return false;
    change->after.head = (Postern__V1__HeadBody *)message;
    const Postern__V1__HeadBody *head = change->after.head;
    return !change->value ||
           version_seal(identity_kek(change->authority->identity), head->name, head->epoch,
                        head->version, change->value, &change->version, err);
}

static void on_made(void *arg, bool ok, const struct error *err)
{
    struct change *change = arg;
    struct store *store = change->authority->store;
    struct error failure;
    if (!ok) {
        change_fail(change, err);
    } else if (!store) { /* the authority is being freed, and the store went first */
        error_set(&failure, ERROR_CANCELLED, "the authority stops");
        change_fail(change, &failure);
    } else if (!store_transact(store, change_store, on_stored, change, 0, &failure)) {
        change_fail(change, &failure);
    }
}

/* Step 1, database. */
static bool change_look(struct tx *tx, void *arg, struct error *err)
{
    struct change *change = arg;
    secret_row_done(&change->before);
    secret_row_init(&change->before);
    change->existed = secret_row_get(tx, change->name, &change->before, err);
    if (change->existed)
        return true;
    if (err->class != ERROR_NOT_FOUND)
        return false;
    return change->value ||
           error_set_reason(err, ERROR_NOT_FOUND, "SECRET_UNKNOWN",
                            "there is no secret %s yet: it needs a value (posternctl secret put: "
                            "--value-file FILE)",
                            change->name);
}

static void on_looked(void *arg, bool ok, const struct error *err)
{
    struct change *change = arg;
    struct error failure;
    if (!ok) {
        change_fail(change, err);
        return;
    }
    if (change->renew_seq != 0 && change->before.head->seq != change->renew_seq) {
        change_free(change); /* whoever changed it told the hub */
        return;
    }
    secret_row_done(&change->after);
    secret_row_init(&change->after);
    sealed_version_done(&change->version);
    sealed_version_init(&change->version);
    if (!identity_submit(change->authority->identity, change_make, on_made, change,
                         clock_boot_ms() + STORE_DEADLINE_MS, &failure))
        change_fail(change, &failure);
}

static void change_start(struct change *change)
{
    struct error failure;
    if (change->attempts++ == CHANGE_ATTEMPTS_MAX) {
        error_set_reason(&failure, ERROR_UNAVAILABLE, "TOO_MANY_CHANGES",
                         "%s is being changed by others all the time: try again", change->name);
        change_fail(change, &failure);
        return;
    }
    if (!store_read(change->authority->store, change_look, on_looked, change, 0, &failure))
        change_fail(change, &failure);
}

void secrets_renew(struct authority *authority, const char *name, uint64_t seq)
{
    struct change *change = change_new(authority);
    if (!change) {
        log_at(LOG_ERROR, "secrets", "take %s from a node: out of memory", name);
        return;
    }
    mem_copy(change->name, name, strlen(name) + 1);
    mem_copy(change->who, "policies", sizeof("policies"));
    change->renew_seq = seq;
    change_start(change);
}

/* ---- PutSecret ---- */

static bool check_allowed(const struct authority *authority, const char *text, size_t index,
                          struct error *err)
{
    struct spiffe_id id;
    char field[ERROR_FIELD_MAX];
    (void)snprintf(field, sizeof(field), "allow.spiffe_ids[%zu]", index);
    if (!spiffe_id_parse(slice_str(text), &id, err) || !spiffe_id_workload_check(&id, err))
        return error_at_field(err, field);
    struct slice domain = spiffe_id_trust_domain(&id);
    if (!slice_is(domain, authority->trust_domain))
        return error_set_field(err, field, "%.*s is another trust domain: ours is %s",
                               (int)domain.len, (const char *)domain.data, authority->trust_domain);
    return true;
}

/* Copies the list, each identity once. */
static bool take_allow(struct change *change, const Postern__V1__AllowList *allow,
                       struct error *err)
{
    change->allow_given = true;
    if (allow->n_spiffe_ids > SECRET_ALLOW_MAX)
        return error_set_reason(err, ERROR_EXHAUSTED, "ALLOW_LIST_TOO_LONG",
                                "allow.spiffe_ids: at most %zu identities, found %zu",
                                SECRET_ALLOW_MAX, allow->n_spiffe_ids);
    change->allow = mem_new(allow->n_spiffe_ids + 1, sizeof(*change->allow));
    if (!change->allow)
        return error_set_memory(err);
    for (size_t i = 0; i < allow->n_spiffe_ids; i++) {
        const char *id = allow->spiffe_ids[i];
        bool known = false;
        if (!check_allowed(change->authority, id, i, err))
            return false;
        for (size_t j = 0; j < change->allow_count && !known; j++)
            known = strcmp(change->allow[j], id) == 0;
        if (known)
            continue;
        change->allow[change->allow_count] = mem_strdup(id);
        if (!change->allow[change->allow_count])
            return error_set_memory(err);
        change->allow_count++;
    }
    return true;
}

static bool take_put(struct change *change, const Postern__V1__PutSecretRequest *request,
                     struct error *err)
{
    if (!secret_name_check(request->name, err))
        return false;
    mem_copy(change->name, request->name, strlen(request->name) + 1);
    if (request->value.len > SECRET_VALUE_MAX)
        return error_set_reason(err, ERROR_EXHAUSTED, "VALUE_TOO_LARGE",
                                "value: at most %zu bytes, found %zu", SECRET_VALUE_MAX,
                                request->value.len);
    if (request->value.len == 0 && !request->allow)
        return error_set_field(err, "value",
                               "value: neither a value nor an allow list: nothing to "
                               "change");
    if (request->allow && !take_allow(change, request->allow, err))
        return false;
    return request->value.len == 0 ||
           secret_from(slice(request->value.data, request->value.len), &change->value, err);
}

void secrets_put(void *arg, struct rpc_call *call, const Postern__V1__PutSecretRequest *request)
{
    struct authority *authority = arg;
    struct error err;
    struct caller caller;
    struct change *change = change_new(authority);
    if (!change) {
        error_set_memory(&err);
        rpc_fail(call, &err);
        return;
    }
    access_caller(authority, call, &caller);
    mem_copy(change->who, caller.name, sizeof(change->who));
    change->call = call;
    if (take_put(change, request, &err))
        change_start(change);
    else
        change_fail(change, &err);
}

/* ---- ListSecrets ---- */

struct listed {
    struct secret_row row;
    uint32_t confirmed;
    uint32_t entitled;
};

struct listing {
    struct rpc_call *call;
    struct policies *policies; /* a reference */
    struct listed *items;
    size_t count, capacity;
};

static void listing_clear(struct listing *listing)
{
    for (size_t i = 0; i < listing->count; i++)
        secret_row_done(&listing->items[i].row);
    listing->count = 0;
}

static void listing_free(struct listing *listing)
{
    listing_clear(listing);
    mem_free(listing->items);
    policies_unref(listing->policies);
    mem_free(listing);
}

static bool list_add(void *arg, struct secret_row *row, struct error *err)
{
    struct listing *listing = arg;
    if (listing->count == LISTED_MAX)
        return error_set(err, ERROR_INTERNAL, "the database holds more secrets than it may");
    if (listing->count == listing->capacity) {
        size_t capacity = listing->capacity ? listing->capacity * 2 : 16;
        struct listed *items = mem_resize(listing->items, capacity * sizeof(*items));
        if (!items)
            return error_set_memory(err);
        listing->items = items;
        listing->capacity = capacity;
    }
    struct listed *item = &listing->items[listing->count++];
    *item = (struct listed){};
    secret_row_move(row, &item->row);
    return true;
}

static bool list_entitle(void *arg, const struct node_record *record, struct error *err)
{
    struct listing *listing = arg;
    (void)err;
    if (record->admission != POSTERN__V1__ADMISSION__ADMISSION_ADMITTED)
        return true;
    for (size_t i = 0; i < listing->count; i++)
        if (secret_entitled(listing->policies, record->agent_id, listing->items[i].row.head))
            listing->items[i].entitled++;
    return true;
}

static bool list_read(struct tx *tx, void *arg, struct error *err)
{
    struct listing *listing = arg;
    listing_clear(listing);
    if (!secret_rows_each(tx, list_add, listing, err))
        return false;
    for (size_t i = 0; i < listing->count; i++) {
        const Postern__V1__HeadBody *head = listing->items[i].row.head;
        if (!holder_count(tx, head->name, head->epoch, head->version, &listing->items[i].confirmed,
                          err))
            return false;
    }
    return nodes_each(tx, list_entitle, listing, err);
}

/* One secret as it is shown; everything is borrowed. */
struct shown_secret {
    Postern__V1__Secret secret;
    Google__Protobuf__Timestamp changed_at;
};

static void list_show(const struct listed *item, struct shown_secret *ret)
{
    const Postern__V1__HeadBody *head = item->row.head;
    postern__v1__secret__init(&ret->secret);
    google__protobuf__timestamp__init(&ret->changed_at);
    ret->changed_at.seconds = item->row.changed_at_ms / 1000;
    ret->changed_at.nanos = (int32_t)(item->row.changed_at_ms % 1000) * 1'000'000;
    ret->secret.name = head->name;
    ret->secret.epoch = head->epoch;
    ret->secret.version = head->version;
    ret->secret.n_allow = head->n_allow;
    ret->secret.allow = head->allow;
    ret->secret.changed_at = &ret->changed_at;
    ret->secret.nodes_confirmed = item->confirmed;
    ret->secret.nodes_entitled = item->entitled;
}

static void on_listed(void *arg, bool ok, const struct error *err)
{
    struct listing *listing = arg;
    CLEANUP(mem_free_at) struct shown_secret *shown = nullptr;
    CLEANUP(mem_free_at) Postern__V1__Secret **pointers = nullptr;
    struct error failure;
    if (ok) {
        shown = mem_new(listing->count + 1, sizeof(*shown));
        pointers = mem_new(listing->count + 1, sizeof(Postern__V1__Secret *));
        ok = (shown && pointers) || error_set_memory(&failure);
        err = &failure;
    }
    if (ok) {
        Postern__V1__ListSecretsResponse response = POSTERN__V1__LIST_SECRETS_RESPONSE__INIT;
        for (size_t i = 0; i < listing->count; i++) {
            list_show(&listing->items[i], &shown[i]);
            pointers[i] = &shown[i].secret;
        }
        response.n_secrets = listing->count;
        response.secrets = pointers;
        admin_service_list_secrets_reply(listing->call, &response);
    } else {
        rpc_fail(listing->call, err);
    }
    listing_free(listing);
}

void secrets_list(void *arg, struct rpc_call *call, const Postern__V1__ListSecretsRequest *request)
{
    (void)request;
    struct authority *authority = arg;
    struct error err;
    struct listing *listing = mem_new(1, sizeof(*listing));
    if (!listing) {
        error_set_memory(&err);
        rpc_fail(call, &err);
        return;
    }
    listing->call = call;
    listing->policies = policies_ref(authority->policies);
    if (!store_read(authority->store, list_read, on_listed, listing, 0, &err)) {
        rpc_fail(call, &err);
        listing_free(listing);
    }
}
