#include "watch.h"

#include "access.h"
#include "authority.h"
#include "catalog.h"
#include "held_names.h"
#include "secrets.h"

#include "base/certificate.h"
#include "base/clock.h"
#include "base/counter.h"
#include "base/log.h"
#include "base/mem.h"
#include "rpc/peer.h"

COUNTER(watch_ahead, "postern_watch_ahead_total",
        "Names of which a node holds a newer head than the database has.");

constexpr size_t WATCH_QUEUE_MAX = 512 * 1024; /* what a slow reader may leave lying, per stream */
constexpr uint64_t WATCH_RETRY_MS = 1'000;     /* after a transaction failed */

struct stream {
    struct watch_hub *hub;
    struct rpc_call *call;
    struct stream *next;
    char agent_id[AGENT_ID_SIZE];
    uint64_t serial; /* tells it from another one of the same node */
    int64_t svid_expires_ms;
    struct timer expiry; /* of SVID or appraisal */
    struct held_names held;
    bool marked; /* to be looked at anew */
    bool synced;
    bool asked; /* for an appraisal, because a new generation is due */
};

struct refresh;

struct watch_hub {
    struct authority *authority;
    struct stream *streams;
    uint64_t last_serial;
    struct refresh *refresh;  /* the one that runs, or null */
    struct timer soon;        /* starts the next */
    struct timer clock;       /* AuthorityTime */
    struct catalog *catalog;  /* as last read; the running refresh may be reading it */
    uint64_t changes;         /* of all_changed */
    uint64_t catalog_changes; /* … when the catalog was read */
    bool draining;
};

/* One look at the database for some streams. */
struct refresh {
    struct watch_hub *hub;
    struct policies *policies;     /* a reference */
    const struct catalog *catalog; /* the hub's, or `read` */
    struct catalog *read;          /* owned */
    uint64_t changes;
    struct standing *standings;
    uint64_t *serials;
    size_t count;
    bool *renewed; /* per entry of the catalog: secrets_renew was asked */
};

/* ---- Streams ---- */

static struct stream *stream_find(const struct watch_hub *hub, const char *agent_id)
{
    for (struct stream *stream = hub->streams; stream; stream = stream->next)
        if (strcmp(stream->agent_id, agent_id) == 0)
            return stream;
    return nullptr;
}

static void stream_free(struct stream *stream)
{
    timer_stop(&stream->expiry);
    held_names_done(&stream->held);
    mem_free(stream);
}

/* Ends the call; nothing comes from it any more, and the stream is gone. */
static void stream_end(struct stream *stream, const struct error *why)
{
    struct stream **at = &stream->hub->streams;
    while (*at && *at != stream)
        at = &(*at)->next;
    if (*at)
        *at = stream->next;
    rpc_call_on(stream->call, nullptr, nullptr);
    rpc_fail(stream->call, why);
    stream_free(stream);
}

static void stream_mark(struct stream *stream)
{
    stream->marked = true;
    if (!stream->hub->refresh)
        timer_start(&stream->hub->soon, 0);
}

static void on_cancelled(void *arg, struct rpc_call *call, const struct error *why)
{
    (void)call;
    stream_end(arg, why);
}

static void on_writable(void *arg, struct rpc_call *call)
{
    (void)call;
    stream_mark(arg);
}

static void on_expired(void *arg)
{
    struct stream *stream = arg;
    struct error why;
    if (stream->svid_expires_ms > clock_wall_ms()) {
        stream_mark(stream); /* the appraisal: the database knows whether there is a newer one */
        return;
    }
    error_set_reason(&why, ERROR_UNAUTHENTICATED, "SVID_EXPIRED",
                     "the certificate of this connection has expired: come again with a new one");
    stream_end(stream, &why);
}

static void stream_expire_at(struct stream *stream, int64_t appraisal_expires_ms)
{
    int64_t first = appraisal_expires_ms < stream->svid_expires_ms ? appraisal_expires_ms
                                                                   : stream->svid_expires_ms;
    int64_t left = first - clock_wall_ms();
    timer_start(&stream->expiry, left > 0 ? (uint64_t)left + 1 : 1);
}

/* ---- Sending: false if there is no room now, or the call is over; then the stream is looked at again
 * when it has room ---- */

static bool stream_send(struct stream *stream, const Postern__V1__WatchResponse *response)
{
    struct error err;
    if (rpc_call_queued(stream->call) > WATCH_QUEUE_MAX)
        return false;
    return node_service_watch_send_response(stream->call, response, &err);
}

static bool send_head(struct stream *stream, const Postern__V1__SecretHead *head)
{
    ProtobufCBinaryData certificates[SIGNER_COUNT];
    Postern__V1__SecretHead signed_head = *head;
    Postern__V1__WatchResponse response = POSTERN__V1__WATCH_RESPONSE__INIT;
    identity_signer_certificates(stream->hub->authority->identity, certificates);
    signed_head.n_signer_certificates = SIGNER_COUNT;
    signed_head.signer_certificates = certificates;
    response.change_case = POSTERN__V1__WATCH_RESPONSE__CHANGE_SECRET;
    response.secret = &signed_head;
    return stream_send(stream, &response);
}

static bool send_synced(struct stream *stream)
{
    Postern__V1__Synced synced = POSTERN__V1__SYNCED__INIT;
    Postern__V1__WatchResponse response = POSTERN__V1__WATCH_RESPONSE__INIT;
    response.change_case = POSTERN__V1__WATCH_RESPONSE__CHANGE_SYNCED;
    response.synced = &synced;
    return stream_send(stream, &response);
}

static bool send_attest(struct stream *stream, const char *why)
{
    Postern__V1__AttestNow attest = POSTERN__V1__ATTEST_NOW__INIT;
    Postern__V1__WatchResponse response = POSTERN__V1__WATCH_RESPONSE__INIT;
    attest.why = (char *)(uintptr_t)why;
    response.change_case = POSTERN__V1__WATCH_RESPONSE__CHANGE_ATTEST;
    response.attest = &attest;
    return stream_send(stream, &response);
}

static bool send_time(struct stream *stream)
{
    Postern__V1__AuthorityTime time = POSTERN__V1__AUTHORITY_TIME__INIT;
    Postern__V1__WatchResponse response = POSTERN__V1__WATCH_RESPONSE__INIT;
    time.now_ms = clock_wall_ms();
    response.change_case = POSTERN__V1__WATCH_RESPONSE__CHANGE_TIME;
    response.time = &time;
    return stream_send(stream, &response);
}

/* ---- The difference between what a node has and what it may have ---- */

static bool is_ahead(const struct held_name *held, const Postern__V1__HeadBody *head)
{
    return held->epoch != head->epoch ? held->epoch > head->epoch : held->seq > head->seq;
}

static bool is_current(const struct held_name *held, const Postern__V1__HeadBody *head)
{
    return held->epoch == head->epoch && held->seq == head->seq;
}

/* A node shows what this database never gave it: an older copy of it was restored, or its node lies.
 * It keeps what it has. */
static void alarm_ahead(struct stream *stream, struct held_name *held)
{
    if (held->alarmed)
        return;
    held->alarmed = true;
    counter_add(&watch_ahead, 1);
    log_at(LOG_ERROR, "watch",
           "ALARM: node %s holds head %u.%llu of %s, which this database does not have: was an "
           "older copy of it restored?",
           stream->agent_id, held->epoch, (unsigned long long)held->seq, held->name);
}

/* The node may have the name. */
static bool tell_live(struct stream *stream, const struct catalog_entry *entry)
{
    const Postern__V1__HeadBody *head = entry->row.head;
    struct error err;
    struct held_name *held = held_names_find(&stream->held, head->name);
    if (held && is_ahead(held, head)) {
        alarm_ahead(stream, held);
        return true;
    }
    if (held && is_current(held, head))
        return true;
    if (!send_head(stream, entry->live))
        return false;
    if (!held_names_set(&stream->held, head->name, head->epoch, head->seq, &err)) {
        stream->marked = true; /* sent twice, it does no harm */
        return false;
    }
    return true;
}

/* It may not (any more). What it holds is ended by a head above that; there may have to be made one
 * (secret_rows.h), after which all streams are looked at again. */
static bool tell_gone(struct stream *stream, struct refresh *refresh, size_t index)
{
    const struct catalog_entry *entry = &refresh->catalog->entries[index];
    const Postern__V1__HeadBody *head = entry->row.head;
    struct held_name *held = held_names_find(&stream->held, head->name);
    if (!held)
        return true;
    if (is_ahead(held, head)) {
        alarm_ahead(stream, held);
        return true;
    }
    if (entry->row.gone_seq == 0 ||
        (held->epoch == head->epoch && held->seq >= entry->row.gone_seq)) {
        if (!refresh->renewed[index])
            secrets_renew(stream->hub->authority, head->name, head->seq);
        refresh->renewed[index] = true;
        return true;
    }
    if (!send_head(stream, entry->gone))
        return false;
    held_names_remove(&stream->held, held);
    return true;
}

static void alarm_unknown(struct stream *stream, const struct catalog *catalog)
{
    size_t at = 0;
    for (size_t i = 0; i < stream->held.count; i++) {
        const char *name = stream->held.items[i].name;
        while (at < catalog->count && strcmp(catalog->entries[at].row.head->name, name) < 0)
            at++;
        if (at == catalog->count || strcmp(catalog->entries[at].row.head->name, name) != 0)
            alarm_ahead(stream, &stream->held.items[i]);
    }
}

/* Sends what differs, as far as there is room. */
static void stream_tell(struct stream *stream, struct refresh *refresh,
                        const struct standing *standing)
{
    for (size_t i = 0; i < refresh->catalog->count; i++)
        if (!(standing->entitled[i] ? tell_live(stream, &refresh->catalog->entries[i])
                                    : tell_gone(stream, refresh, i)))
            return;
    alarm_unknown(stream, refresh->catalog);
    if (!stream->synced)
        stream->synced = send_synced(stream);
    if (!standing->wants_generation)
        stream->asked = false;
    else if (!stream->asked)
        stream->asked = send_attest(stream, "new generation");
}

/* A node that has to finish a retirement gets nothing new, but keeps its stream: it comes back here by
 * its next appraisal. Any other refusal ends the stream. */
static void stream_judge(struct stream *stream, struct refresh *refresh,
                         const struct standing *standing)
{
    if (standing->refusal.class == ERROR_NONE) {
        stream_expire_at(stream, standing->expires_at_ms);
        stream_tell(stream, refresh, standing);
    } else if (standing->refusal.class == ERROR_UNAVAILABLE) {
        stream_expire_at(stream, standing->expires_at_ms);
    } else {
        stream_end(stream, &standing->refusal);
    }
}

/* ---- Looking at the database ---- */

static void refresh_free(struct refresh *refresh)
{
    for (size_t i = 0; refresh->standings && i < refresh->count; i++)
        mem_free(refresh->standings[i].entitled);
    mem_free(refresh->standings);
    mem_free(refresh->serials);
    mem_free(refresh->renewed);
    catalog_free(refresh->read);
    policies_unref(refresh->policies);
    mem_free(refresh);
}

static bool refresh_run(struct tx *tx, void *arg, struct error *err)
{
    struct refresh *refresh = arg;
    int64_t now_ms = clock_wall_ms();
    if (!refresh->catalog || refresh->read) {
        refresh->read = catalog_free(refresh->read);
        if (!catalog_read(tx, &refresh->read, err))
            return false;
        refresh->catalog = refresh->read;
    }
    mem_free(refresh->renewed);
    refresh->renewed = mem_new(refresh->catalog->count + 1, sizeof(*refresh->renewed));
    if (!refresh->renewed)
        return error_set_memory(err);
    for (size_t i = 0; i < refresh->count; i++)
        if (!standing_read(tx, refresh->catalog, refresh->policies, now_ms, &refresh->standings[i],
                           err))
            return false;
    return true;
}

static struct stream *refresh_stream(const struct refresh *refresh, size_t index)
{
    struct stream *stream = stream_find(refresh->hub, refresh->standings[index].agent_id);
    return stream && stream->serial == refresh->serials[index] ? stream : nullptr;
}

static void refresh_apply(struct refresh *refresh)
{
    struct watch_hub *hub = refresh->hub;
    if (refresh->read) {
        catalog_free(hub->catalog);
        hub->catalog = TAKE(refresh->read);
        hub->catalog_changes = refresh->changes;
    }
    for (size_t i = 0; i < refresh->count; i++) {
        struct stream *stream = refresh_stream(refresh, i);
        if (stream)
            stream_judge(stream, refresh, &refresh->standings[i]);
    }
}

static bool any_marked(const struct watch_hub *hub)
{
    for (const struct stream *stream = hub->streams; stream; stream = stream->next)
        if (stream->marked)
            return true;
    return false;
}

static void on_refreshed(void *arg, bool ok, const struct error *err)
{
    struct refresh *refresh = arg;
    struct watch_hub *hub = refresh->hub;
    if (ok) {
        refresh_apply(refresh);
    } else if (err->class != ERROR_CANCELLED) {
        log_failure(LOG_ERROR, "watch", err, "read what nodes may have");
        for (size_t i = 0; i < refresh->count; i++) {
            struct stream *stream = refresh_stream(refresh, i);
            if (stream)
                stream->marked = true;
        }
    }
    refresh_free(refresh);
    hub->refresh = nullptr;
    if (any_marked(hub))
        timer_start(&hub->soon, ok ? 0 : WATCH_RETRY_MS);
}

static struct refresh *refresh_new(struct watch_hub *hub)
{
    size_t count = 0;
    for (const struct stream *stream = hub->streams; stream && count < WATCH_BATCH_MAX;
         stream = stream->next)
        count += stream->marked;
    struct refresh *refresh = mem_new(1, sizeof(*refresh));
    if (!refresh)
        return nullptr;
    refresh->standings = mem_new(count + 1, sizeof(*refresh->standings));
    refresh->serials = mem_new(count + 1, sizeof(*refresh->serials));
    if (!refresh->standings || !refresh->serials) {
        refresh_free(refresh);
        return nullptr;
    }
    refresh->hub = hub;
    refresh->policies = policies_ref(hub->authority->policies);
    refresh->changes = hub->changes;
    refresh->catalog = hub->catalog_changes == hub->changes ? hub->catalog : nullptr;
    for (struct stream *stream = hub->streams; stream && refresh->count < count;
         stream = stream->next) {
        if (!stream->marked)
            continue;
        mem_copy(refresh->standings[refresh->count].agent_id, stream->agent_id, AGENT_ID_SIZE);
        refresh->serials[refresh->count++] = stream->serial;
    }
    return refresh;
}

static void on_soon(void *arg)
{
    struct watch_hub *hub = arg;
    struct error err;
    if (hub->refresh || !any_marked(hub))
        return;
    struct refresh *refresh = refresh_new(hub);
    if (!refresh ||
        !store_read(hub->authority->store, refresh_run, on_refreshed, refresh, 0, &err)) {
        if (refresh)
            refresh_free(refresh);
        timer_start(&hub->soon, WATCH_RETRY_MS);
        return;
    }
    hub->refresh = refresh;
    for (size_t i = 0; i < refresh->count; i++) {
        struct stream *stream = refresh_stream(refresh, i);
        if (stream)
            stream->marked = false;
    }
}

static void on_clock(void *arg)
{
    struct watch_hub *hub = arg;
    for (struct stream *stream = hub->streams; stream; stream = stream->next)
        (void)send_time(stream); /* one that has no room has the next in its turn */
    timer_start(&hub->clock, WATCH_TIME_MS);
}

/* ---- A new stream ---- */

static bool stream_open(struct stream *stream, const Postern__V1__WatchRequest *request,
                        struct error *err)
{
    struct caller caller;
    access_caller(stream->hub->authority, stream->call, &caller);
    const struct rpc_peer *peer = rpc_call_peer(stream->call);
    if (caller.kind != CALLER_NODE || strlen(caller.name) != AGENT_ID_SIZE - 1 || !peer)
        return error_set_reason(err, ERROR_UNAUTHENTICATED, "NO_IDENTITY",
                                "this needs the certificate of a node");
    mem_copy(stream->agent_id, caller.name, AGENT_ID_SIZE);
    return certificate_expiry(peer->certificates.leaf, &stream->svid_expires_ms, err) &&
           held_names_take(&stream->held, request, err);
}

/* A node that dials anew may have lost its old connection before we know. */
static void replace_older(struct watch_hub *hub, const char *agent_id)
{
    struct stream *older = stream_find(hub, agent_id);
    struct error why;
    if (!older)
        return;
    error_set_reason(&why, ERROR_CONFLICT, "WATCH_REPLACED",
                     "the node has opened a newer stream, and has but one");
    stream_end(older, &why);
}

void watch_begin(void *arg, struct rpc_call *call, const Postern__V1__WatchRequest *request)
{
    static const struct rpc_call_events events = {
        .cancelled = on_cancelled,
        .writable = on_writable,
    };
    struct authority *authority = arg;
    struct watch_hub *hub = authority->hub;
    struct error err;
    if (hub->draining) {
        error_set(&err, ERROR_UNAVAILABLE, "the authority stops");
        rpc_fail(call, &err);
        return;
    }
    struct stream *stream = mem_new(1, sizeof(*stream));
    if (!stream) {
        error_set_memory(&err);
        rpc_fail(call, &err);
        return;
    }
    stream->hub = hub;
    stream->call = call;
    stream->serial = ++hub->last_serial;
    timer_init(&stream->expiry, authority->loop, on_expired, stream);
    if (!stream_open(stream, request, &err)) {
        rpc_fail(call, &err);
        stream_free(stream);
        return;
    }
    replace_older(hub, stream->agent_id);
    stream->next = hub->streams;
    hub->streams = stream;
    rpc_call_on(call, &events, stream);
    (void)send_time(stream);
    stream_mark(stream);
}

/* ---- The hub ---- */

bool watch_hub_new(struct authority *authority, struct watch_hub **ret, struct error *err)
{
    struct watch_hub *hub = mem_new(1, sizeof(*hub));
    if (!hub)
        return error_set_memory(err);
    hub->authority = authority;
    timer_init(&hub->soon, authority->loop, on_soon, hub);
    timer_init(&hub->clock, authority->loop, on_clock, hub);
    timer_start(&hub->clock, WATCH_TIME_MS);
    *ret = hub;
    return true;
}

static void end_all(struct watch_hub *hub)
{
    struct error why;
    error_set(&why, ERROR_UNAVAILABLE, "the authority stops: try again, or another replica");
    while (hub->streams)
        stream_end(hub->streams, &why);
}

struct watch_hub *watch_hub_free(struct watch_hub *hub)
{
    if (!hub)
        return nullptr;
    end_all(hub);
    timer_stop(&hub->soon);
    timer_stop(&hub->clock);
    catalog_free(hub->catalog);
    return mem_free(hub);
}

void watch_hub_drain(struct watch_hub *hub)
{
    hub->draining = true;
    end_all(hub);
}

bool watch_hub_connected(const struct watch_hub *hub, const char *agent_id)
{
    return stream_find(hub, agent_id) != nullptr;
}

bool watch_hub_attest_now(struct watch_hub *hub, const char *agent_id, const char *why,
                          struct error *err)
{
    struct stream *stream = stream_find(hub, agent_id);
    if (!stream)
        return error_set_reason(err, ERROR_UNAVAILABLE, "NODE_NOT_CONNECTED",
                                "node %s is not connected", agent_id);
    return send_attest(stream, why) ||
           error_set_reason(err, ERROR_UNAVAILABLE, "NODE_BUSY",
                            "node %s does not read what it is sent: try again", agent_id);
}

void watch_hub_node_changed(struct watch_hub *hub, const char *agent_id)
{
    struct stream *stream = stream_find(hub, agent_id);
    if (stream)
        stream_mark(stream);
}

void watch_hub_all_changed(struct watch_hub *hub)
{
    hub->changes++;
    for (struct stream *stream = hub->streams; stream; stream = stream->next)
        stream_mark(stream);
}
