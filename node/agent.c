#include "agent_internal.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"

/* ---- Small things ---- */

struct moment agent_moment(const struct agent *agent)
{
    struct moment moment = {.wall_ms = clock_wall_ms(), .boot_ms = clock_boot_ms()};
    mem_copy(moment.boot_id, agent->boot_id, sizeof(moment.boot_id));
    return moment;
}

int64_t agent_now(const struct agent *agent)
{
    return timekeeper_now(&agent->time, clock_wall_ms(), clock_boot_ms());
}

const struct held *agent_held(const struct agent *agent)
{
    return &agent->held;
}

const char *agent_trust_domain(const struct agent *agent)
{
    return authority_keys_trust_domain(agent->keys);
}

/* 0 to 255, the same for a node each time: nodes spread out. */
static uint64_t spread(const struct agent *agent)
{
    uint8_t digest[SHA256_SIZE] = {0};
    struct error ignored;
    (void)sha256(slice_str(agent->held.agent_id), digest, &ignored);
    return digest[0];
}

uint64_t agent_back_off(const struct agent *agent, uint64_t *backoff)
{
    uint64_t pause = *backoff < BACKOFF_FIRST_MS ? BACKOFF_FIRST_MS : *backoff;
    *backoff = pause * 2 < BACKOFF_MAX_MS ? pause * 2 : BACKOFF_MAX_MS;
    return clock_boot_ms() + pause + pause * spread(agent) / 1024;
}

bool agent_is_dirty(const struct agent *agent)
{
    if (agent->erased)
        return true;
    for (size_t i = 0; i < agent->held.count; i++) {
        const struct held_secret *secret = &agent->held.secrets[i];
        if (!secret->durable && secret->packet.value &&
            secret->packet.generation == agent->current.number)
            return true;
    }
    /* A stored affirmation that is older only shortens max_offline: a sixteenth of it is given away
     * for fewer writes. */
    int64_t newer = agent->held.affirmed_at - agent->stored_affirmed_at;
    return newer > 0 && (uint64_t)newer > agent->held.max_offline_ms / 16;
}

/* ---- The step ---- */

static struct plan_view view_of(struct agent *agent, uint64_t now, uint64_t *later)
{
    bool slot_left = agent->current.number == 0 && agent->slot_next < slots_count(agent->slots);
    uint64_t number = agent->current.number;
    struct plan_view view = {
        .slot_left = slot_left && agent->slot_after <= now,
        .attest_due = agent->attest_at <= now && !(slot_left && agent->slot_after > now),
        .affirmed = agent->affirmed,
        .unfinished = agent->unfinished,
        .offered = agent->offer.number != 0,
        .watching = agent->watch != nullptr,
        .synced = agent->synced,
        .link_held = agent->link_after > now,
        .has_key = number != 0,
        .wants = agent_wanted(agent, now, later) != nullptr,
        .disk_held = agent->disk_after > now,
        .dirty = agent_is_dirty(agent),
        .durable = number != 0 && slots_of(agent->slots, number) > 0,
        .confirmed = agent->confirmed,
        .raised = agent->raised,
        .other_old = slots_of(agent->slots, number) < SLOT_COUNT,
        .version_unconfirmed = agent_unconfirmed(agent) != nullptr,
    };
    const uint64_t dues[] = {agent->attest_at, agent->link_after, agent->disk_after,
                             slot_left ? agent->slot_after : 0};
    for (size_t i = 0; i < ARRAY_LEN(dues); i++) {
        if (dues[i] > now && dues[i] < *later)
            *later = dues[i];
    }
    return view;
}

static void take_step(struct agent *agent, enum plan_step step)
{
    agent->step = step;
    switch (step) {
    case PLAN_UNSEAL:
        agent_unseal(agent);
        break;
    case PLAN_ATTEST:
        agent_attest(agent);
        break;
    case PLAN_WATCH:
        agent_watch(agent);
        break;
    case PLAN_IMPORT:
        agent_import(agent);
        break;
    case PLAN_FETCH:
        agent_fetch(agent);
        break;
    case PLAN_WRITE:
    case PLAN_WRITE_OTHER:
        agent_write(agent);
        break;
    case PLAN_CONFIRM_GENERATION:
        agent_confirm(agent, true);
        break;
    case PLAN_CONFIRM_VERSION:
        agent_confirm(agent, false);
        break;
    case PLAN_RAISE:
        agent_raise(agent);
        break;
    case PLAN_WAIT:
    case PLAN_STEP_COUNT:
        break;
    }
}

/* The live set is here as soon as the snapshot is and nothing of it is missing. */
static void note_complete(struct agent *agent, const struct plan_view *view)
{
    if (agent->held.complete || !view->affirmed || !view->synced || view->wants || !view->has_key)
        return;
    agent->held.complete = true;
    agent_tell(agent);
}

static void next_step(void *arg)
{
    struct agent *agent = arg;
    uint64_t now = clock_boot_ms(), later = UINT64_MAX;
    if (agent->step != PLAN_WAIT || agent->closing)
        return;
    agent->attestation = attestation_free(agent->attestation);
    struct plan_view view = view_of(agent, now, &later);
    note_complete(agent, &view);
    enum plan_step step = plan_next(&view);
    timer_stop(&agent->wake);
    if (step == PLAN_WAIT) {
        if (later != UINT64_MAX)
            timer_start_at(&agent->wake, later);
        return;
    }
    log_at(LOG_DEBUG, "agent", "%s", plan_step_name(step));
    take_step(agent, step);
}

void agent_touch(struct agent *agent)
{
    if (!agent->closing)
        loop_post(agent->loop, &agent->next);
}

void agent_tell(struct agent *agent)
{
    if (!agent->closing && agent->changed)
        agent->changed(agent->changed_arg);
}

void agent_step_done(struct agent *agent)
{
    agent->step = PLAN_WAIT;
    agent_touch(agent);
}

/* ---- Life ---- */

static void read_boot_id(struct agent *agent)
{
    struct error ignored;
    CLEANUP(buf_done) struct buf text;
    buf_init(&text, sizeof(agent->boot_id) - 1);
    if (file_read("/proc/sys/kernel/random/boot_id", &text, &ignored) && text.len > 1)
        mem_copy(agent->boot_id, text.data, text.len - 1); /* without the line's end */
}

static bool copy_texts(struct agent *agent, const struct agent_settings *settings,
                       struct error *err)
{
    agent->server_name = mem_strdup(settings->server_name);
    agent->trust_anchor = mem_strdup(settings->trust_anchor);
    agent->state_dir = mem_strdup(settings->state_dir);
    if (settings->join_token_file)
        agent->token.path = mem_strdup(settings->join_token_file);
    buf_init(&agent->trust_pem, settings->trust_pem.len + 1);
    buf_put(&agent->trust_pem, settings->trust_pem);
    if (!agent->server_name || !agent->trust_anchor || !agent->state_dir ||
        (settings->join_token_file && !agent->token.path))
        return error_set_memory(err);
    return buf_ok(&agent->trust_pem, err);
}

bool agent_new(struct loop *loop, const struct agent_settings *settings, struct agent **ret,
               struct error *err)
{
    struct agent *agent = mem_new(1, sizeof(*agent));
    if (!agent)
        return error_set_memory(err);
    agent->loop = loop;
    agent->authority = settings->authority;
    agent->changed = settings->changed;
    agent->changed_arg = settings->changed_arg;
    agent->next = (struct task){.run = next_step, .arg = agent};
    timer_init(&agent->wake, loop, next_step, agent);
    held_init(&agent->held, settings->max_offline_ms, clock_wall_ms());
    generation_init(&agent->current);
    generation_init(&agent->offer);
    generation_init(&agent->unsealing);
    slot_write_init(&agent->write);
    device_unseal_init(&agent->unseal);
    device_sign_init(&agent->sign);
    buf_init(&agent->body, REQUEST_BODY_MAX);
    buf_init(&agent->to_sign, REQUEST_BODY_MAX + 256);
    read_boot_id(agent);
    if (!copy_texts(agent, settings, err) ||
        !(authority_keys_new(settings->trust_pem, &agent->keys, err) ||
          error_prefix(err, "%s", settings->trust_anchor)) ||
        !device_new(loop, &settings->device, &agent->device, err) ||
        !worker_new(loop, "disk", DISK_QUEUE_MAX, &agent->disk, err) ||
        !agent_reopen_slots(agent, err) || !agent_link_new(agent, err)) {
        agent_free(agent);
        return false;
    }
    agent_touch(agent);
    *ret = agent;
    return true;
}

struct agent *agent_free(struct agent *agent)
{
    if (!agent)
        return nullptr;
    agent->closing = true;
    /* First who comes back to us. */
    device_free(agent->device);
    worker_free(agent->disk);
    rpc_call_drop(agent->request);
    rpc_call_drop(agent->watch);
    attestation_free(agent->attestation);
    rpc_client_free(agent->client);
    rpc_client_free(agent->attest_client);
    timer_stop(&agent->wake);
    if (agent->watch_silence.loop) {
        timer_stop(&agent->watch_silence);
        timer_stop(&agent->token_look);
    }
    loop_unpost(agent->loop, &agent->next);

    generation_done(&agent->current);
    generation_done(&agent->offer);
    generation_done(&agent->unsealing);
    slot_write_done(&agent->write);
    device_unseal_done(&agent->unseal);
    device_sign_done(&agent->sign);
    buf_done(&agent->body);
    buf_done(&agent->to_sign);
    buf_done(&agent->trust_pem);
    held_done(&agent->held);
    slots_free(agent->slots);
    authority_keys_free(agent->keys);
    mem_free(agent->name);
    mem_free(agent->server_name);
    mem_free(agent->trust_anchor);
    mem_free(agent->state_dir);
    mem_free(agent->token.path);
    return mem_free(agent);
}
