#include "held.h"

#include "base/mem.h"
#include "base/text.h"

constexpr size_t APPRAISAL_BODY_MAX = 64 * 1024;

/* ---- Texts ---- */

void texts_done(struct texts *texts)
{
    for (size_t i = 0; i < texts->count; i++)
        mem_free(texts->text[i]);
    mem_free(texts->text);
    *texts = (struct texts){0};
}

bool texts_copy(char *const *text, size_t count, size_t max, struct texts *ret, struct error *err)
{
    if (count > max)
        return error_set(err, ERROR_EXHAUSTED, "%zu texts in a list of at most %zu", count, max);
    CLEANUP(texts_done) struct texts copy = {.text = mem_new(count, sizeof(char *))};
    if (!copy.text)
        return error_set_memory(err);
    for (size_t i = 0; i < count; i++) {
        copy.text[i] = mem_strdup(text[i]);
        if (!copy.text[i])
            return error_set_memory(err);
        copy.count++;
    }
    *ret = copy;
    copy = (struct texts){0};
    return true;
}

bool texts_equal(const struct texts *a, char *const *text, size_t count)
{
    if (a->count != count)
        return false;
    for (size_t i = 0; i < count; i++) {
        if (strcmp(a->text[i], text[i]) != 0)
            return false;
    }
    return true;
}

/* ---- Heads and packets ---- */

void head_init(struct head *head)
{
    *head = (struct head){0};
    buf_init(&head->body, HEAD_MAX);
}

void head_done(struct head *head)
{
    mem_free(head->name);
    texts_done(&head->allow);
    buf_done(&head->body);
    head_init(head);
}

static void head_move(struct head *to, struct head *from)
{
    head_done(to);
    *to = *from;
    head_init(from);
}

void packet_init(struct packet *packet)
{
    *packet = (struct packet){0};
    buf_init(&packet->header, PACKET_MAX);
    buf_init(&packet->ciphertext, PACKET_MAX);
}

void packet_done(struct packet *packet)
{
    secret_free(packet->r);
    secret_free(packet->value);
    buf_done(&packet->header);
    buf_done(&packet->ciphertext);
    packet_init(packet);
}

static void packet_move(struct packet *to, struct packet *from)
{
    packet_done(to);
    *to = *from;
    packet_init(from);
}

/* ---- Secrets ---- */

static void held_secret_done(struct held_secret *secret)
{
    head_done(&secret->head);
    packet_done(&secret->packet);
}

/* -1, 0, 1: the pair (a, b) is below, at, above (c, d). */
static int compare(uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    if (a != c)
        return a < c ? -1 : 1;
    return b < d ? -1 : b > d;
}

bool held_secret_wants(const struct held_secret *secret, uint64_t generation)
{
    const struct packet *packet = &secret->packet;
    return !packet->value || packet->generation != generation ||
           compare(packet->epoch, packet->version, secret->head.epoch, secret->head.version) != 0;
}

struct held_secret *held_find(const struct held *held, const char *name)
{
    for (size_t i = 0; i < held->count; i++) {
        if (strcmp(held->secrets[i].head.name, name) == 0)
            return &held->secrets[i];
    }
    return nullptr;
}

static bool make_room(struct held *held, struct error *err)
{
    if (held->count < held->room)
        return true;
    if (held->count == HELD_SECRETS_MAX)
        return error_set(err, ERROR_EXHAUSTED, "the node holds %zu secrets already", held->count);
    size_t room = held->room ? held->room * 2 : 8;
    struct held_secret *bigger = mem_resize(held->secrets, room * sizeof(*bigger));
    if (!bigger)
        return error_set_memory(err);
    held->secrets = bigger;
    held->room = room;
    return true;
}

static void erase(struct held *held, struct held_secret *secret)
{
    held_secret_done(secret);
    held->count--;
    size_t behind = (size_t)(&held->secrets[held->count] - secret);
    mem_move(secret, secret + 1, behind * sizeof(*secret));
}

static bool check_newer(const struct head *old, const struct head *head, bool *ret_same,
                        struct error *err)
{
    int order = compare(head->epoch, head->seq, old->epoch, old->seq);
    *ret_same = order == 0 && slice_equal(buf_slice(&head->body), buf_slice(&old->body));
    if (order > 0 || *ret_same)
        return true;
    return error_set_reason(err, ERROR_CONFLICT, "HEAD_NOT_NEWER",
                            "head %u.%llu of \"%s\" came after %u.%llu: the authority went back, "
                            "or there are two",
                            head->epoch, (unsigned long long)head->seq, head->name, old->epoch,
                            (unsigned long long)old->seq);
}

bool held_put_head(struct held *held, struct head *head, bool *ret_changed, struct error *err)
{
    struct held_secret *secret = held_find(held, head->name);
    bool same = false;
    if (secret && !check_newer(&secret->head, head, &same, err))
        return false;
    *ret_changed = !same && (secret || !head->gone);
    if (!*ret_changed) {
        head_done(head);
        return true;
    }
    if (head->gone) {
        erase(held, secret);
        head_done(head);
        return true;
    }
    if (!secret) {
        if (!make_room(held, err))
            return false;
        secret = &held->secrets[held->count++];
        *secret = (struct held_secret){0};
        head_init(&secret->head);
        packet_init(&secret->packet);
    }
    head_move(&secret->head, head);
    secret->durable = false;
    secret->fetch_after = 0;
    return true;
}

/* The same version is always the same secret. */
static bool check_same(const struct packet *old, const struct packet *packet)
{
    return secret_equal(old->value, packet->value) && secret_equal(old->r, packet->r);
}

bool held_put_packet(struct held *held, const char *name, struct packet *packet, struct error *err)
{
    struct held_secret *secret = held_find(held, name);
    if (!secret)
        return error_set(err, ERROR_NOT_FOUND, "no head of \"%s\" is here", name);
    struct packet *old = &secret->packet;
    int order = old->value ? compare(packet->epoch, packet->version, old->epoch, old->version) : 1;
    if (order < 0 ||
        compare(packet->epoch, packet->version, secret->head.epoch, secret->head.version) > 0)
        return error_set_reason(err, ERROR_CONFLICT, "VERSION_NOT_NEWER",
                                "version %u.%llu of \"%s\" is not what its head asks for",
                                packet->epoch, (unsigned long long)packet->version, name);
    if (order == 0 && !check_same(old, packet))
        return error_set_reason(err, ERROR_CONFLICT, "VERSION_NOT_NEWER",
                                "version %u.%llu of \"%s\" came with two values", packet->epoch,
                                (unsigned long long)packet->version, name);
    packet_move(old, packet);
    secret->durable = false;
    secret->confirmed = false;
    return true;
}

void held_wipe(struct held *held)
{
    for (size_t i = 0; i < held->count; i++)
        held_secret_done(&held->secrets[i]);
    held->count = 0;
    held->complete = false;
}

void held_init(struct held *held, uint64_t max_offline_ms, int64_t now)
{
    *held = (struct held){.max_offline_ms = max_offline_ms, .lost_since = now};
    buf_init(&held->affirmation, APPRAISAL_BODY_MAX);
}

void held_done(struct held *held)
{
    held_wipe(held);
    mem_free(held->secrets);
    texts_done(&held->reasons);
    buf_done(&held->affirmation);
    *held = (struct held){0};
}

/* ---- The authority ---- */

static bool verdict_releases(Postern__V1__Verdict verdict)
{
    return verdict == POSTERN__V1__VERDICT__VERDICT_AFFIRMING ||
           verdict == POSTERN__V1__VERDICT__VERDICT_WARNING;
}

bool appraisal_releases(const Postern__V1__AppraisalBody *body)
{
    return body->releases && verdict_releases(body->verdict);
}

bool appraisal_unfinished(const Postern__V1__AppraisalBody *body)
{
    return !body->releases && body->verdict == POSTERN__V1__VERDICT__VERDICT_WARNING;
}

/* Any other good verdict that releases nothing, or one from the future, is a bad one here. */
static Postern__V1__Verdict verdict_taken(const Postern__V1__AppraisalBody *body)
{
    if (appraisal_releases(body) || appraisal_unfinished(body) ||
        body->verdict == POSTERN__V1__VERDICT__VERDICT_PENDING)
        return body->verdict;
    return POSTERN__V1__VERDICT__VERDICT_CONTRAINDICATED;
}

static bool is_listed(const struct texts *texts, const char *text)
{
    for (size_t i = 0; i < texts->count; i++) {
        if (strcmp(texts->text[i], text) == 0)
            return true;
    }
    return false;
}

static bool copy_reasons(const Postern__V1__AppraisalBody *body, struct texts *ret,
                         struct error *err)
{
    char shown[64];
    CLEANUP(texts_done) struct texts reasons = {0};
    size_t count = body->n_reasons < HELD_REASONS_MAX ? body->n_reasons : HELD_REASONS_MAX;
    reasons.text = mem_new(count, sizeof(char *));
    if (!reasons.text)
        return error_set_memory(err);
    for (size_t i = 0; i < count; i++) {
        text_show(slice_str(body->reasons[i]->name), shown, sizeof(shown));
        if (is_listed(&reasons, shown))
            continue;
        reasons.text[reasons.count] = mem_strdup(shown);
        if (!reasons.text[reasons.count])
            return error_set_memory(err);
        reasons.count++;
    }
    *ret = reasons;
    reasons = (struct texts){0};
    return true;
}

bool held_appraise(struct held *held, const Postern__V1__AppraisalBody *body,
                   struct slice body_bytes, const struct moment *came, struct error *err)
{
    /* First what protects: it can't fail. */
    bool releases = appraisal_releases(body);
    if (!releases && !appraisal_unfinished(body)) {
        held->verdict = verdict_taken(body);
        held_wipe(held);
    }
    CLEANUP(texts_done) struct texts reasons = {0};
    CLEANUP(buf_done) struct buf copy;
    buf_init(&copy, APPRAISAL_BODY_MAX);
    if (releases)
        buf_put(&copy, body_bytes);
    if (!buf_ok(&copy, err) || !copy_reasons(body, &reasons, err))
        return false;
    held->verdict = verdict_taken(body);
    struct texts old = held->reasons;
    held->reasons = reasons;
    reasons = old;
    held->appraised_at = body->appraised_at_ms;
    held->expires_at = body->expires_at_ms;
    if (releases) {
        held->affirmed_at = body->appraised_at_ms;
        held->affirmation_came = *came;
        struct buf old_body = held->affirmation;
        held->affirmation = copy;
        copy = old_body;
    }
    return true;
}

void held_reached(struct held *held, int64_t now)
{
    held->contact_at = now;
    held->lost_since = 0;
}

void held_lost(struct held *held, int64_t now)
{
    if (held->lost_since == 0)
        held->lost_since = now;
}

/* ---- Pods ---- */

int64_t held_degraded_since(const struct held *held, int64_t now)
{
    int64_t since = held->lost_since;
    if (held->expires_at != 0 && held->expires_at <= now &&
        (since == 0 || held->expires_at < since))
        since = held->expires_at;
    return since;
}

/* The end of max_offline; INT64_MAX rather than an overflow. */
static int64_t offline_end(const struct held *held)
{
    if (held->max_offline_ms > INT64_MAX ||
        held->affirmed_at > INT64_MAX - (int64_t)held->max_offline_ms)
        return INT64_MAX;
    return held->affirmed_at + (int64_t)held->max_offline_ms;
}

int64_t held_next_change(const struct held *held, int64_t now)
{
    int64_t next = INT64_MAX;
    if (held->expires_at > now)
        next = held->expires_at;
    if (held->affirmed_at != 0 && offline_end(held) > now && offline_end(held) < next)
        next = offline_end(held);
    return next;
}

static bool check_node(const struct held *held, int64_t now, struct error *err)
{
    const char *why = held->reasons.count > 0 ? held->reasons.text[0] : "no reason was given";
    if (held->verdict == POSTERN__V1__VERDICT__VERDICT_PENDING)
        return error_set_reason(err, ERROR_CONFLICT, "NODE_PENDING",
                                "the authority has not admitted this node yet: an operator "
                                "approves it, or a join token does");
    if (held->verdict != POSTERN__V1__VERDICT__VERDICT_NONE && !verdict_releases(held->verdict))
        return error_set_reason(err, ERROR_CONFLICT, "NODE_CONTRAINDICATED",
                                "the authority refuses this node's state: %s", why);
    if (held->affirmed_at == 0)
        return error_set_reason(err, ERROR_UNAVAILABLE, "NODE_NOT_APPRAISED",
                                "the authority has not appraised this node yet%s",
                                held->lost_since ? ", and is out of reach" : "");
    if (now >= offline_end(held)) {
        char text[TIME_TEXT_SIZE];
        return error_set_reason(err, ERROR_UNAVAILABLE, "OFFLINE_TOO_LONG",
                                "the last affirming appraisal was at %s: longer ago than "
                                "max_offline allows",
                                time_format(held->affirmed_at, text));
    }
    return true;
}

static bool is_allowed(const struct held_secret *secret, const char *spiffe_id)
{
    for (size_t i = 0; i < secret->head.allow.count; i++) {
        if (strcmp(secret->head.allow.text[i], spiffe_id) == 0)
            return true;
    }
    return false;
}

bool held_release(const struct held *held, const char *spiffe_id, const char *name, int64_t now,
                  const struct held_secret **ret, struct error *err)
{
    if (!check_node(held, now, err))
        return false;
    const struct held_secret *secret = held_find(held, name);
    bool allowed = secret && is_allowed(secret, spiffe_id);
    if (allowed && secret->packet.value) {
        *ret = secret;
        return true;
    }
    if (allowed || !held->complete)
        return error_set_reason(err, ERROR_UNAVAILABLE, "NOT_FETCHED_YET",
                                "the node is still fetching its secrets");
    char shown[64];
    text_show(slice_str(name), shown, sizeof(shown));
    return error_set_reason(err, ERROR_NOT_FOUND, "SECRET_UNKNOWN",
                            "no secret \"%s\" for this workload", shown);
}
