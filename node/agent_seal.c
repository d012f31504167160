/* Slots, generations, the counter. */
#include "agent_internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "pb/message.h"
#include "tpmwire/public.h"

static unsigned long long number(uint64_t value)
{
    return value;
}

/* ---- Slots ---- */

bool agent_reopen_slots(struct agent *agent, struct error *err)
{
    struct error damage[SLOT_COUNT] = {0};
    struct slots *slots;
    if (!slots_open(agent->state_dir, &slots, damage, err))
        return false;
    for (size_t i = 0; i < SLOT_COUNT; i++) {
        if (damage[i].class != ERROR_NONE)
            log_failure(LOG_WARNING, "slots", &damage[i], "passed over");
    }
    slots_free(agent->slots);
    agent->slots = slots;
    agent->slot_next = 0;
    agent->slot_tries = 0;
    agent->slot_after = 0;
    return true;
}

/* How long ago the stored affirmation came by the boot clock; 0 for another boot. */
static uint64_t since(const struct agent *agent)
{
    const struct moment *came = &agent->held.affirmation_came;
    uint64_t now = clock_boot_ms();
    bool same = came->boot_id[0] != '\0' && strcmp(came->boot_id, agent->boot_id) == 0;
    return same && now > came->boot_ms ? now - came->boot_ms : 0;
}

static void restore_time(struct agent *agent, const Postern__V1__AppraisalBody *body)
{
    TPM2B_PUBLIC area;
    TPM2B_NAME name;
    struct error ignored;
    if (!body->time || !public_area_parse(buf_slice(&agent->unseal.ak_public), &area, &ignored) ||
        !public_area_name(&area.publicArea, &name, &ignored))
        return;
    timekeeper_restore(&agent->time, body->time, name_slice(&name), &agent->unseal.time,
                       since(agent), agent->unseal.time_boot_ms);
}

static bool take_slot(struct agent *agent, size_t i, struct error *err)
{
    Postern__V1__NodeState *state = nullptr;
    Postern__V1__SlotPackets *packets = nullptr;
    Postern__V1__AppraisalBody *appraisal = nullptr;
    if (!slots_open_state(agent->slots, i, agent->unsealing.key, &state, &packets, err))
        return false;
    bool ok = sealed_read(state, packets, agent->unsealing.key, &agent->held, &appraisal, err);
    pb_free(&state->base);
    pb_free(&packets->base);
    if (!ok)
        return false;
    if (appraisal) {
        restore_time(agent, appraisal);
        agent->stored_affirmed_at = agent->held.affirmed_at;
        pb_free(&appraisal->base);
    }
    generation_move(&agent->current, &agent->unsealing);
    agent->confirmed = agent->raised = false;
    return true;
}

static void on_slot(void *arg, bool ok, const struct error *err)
{
    struct agent *agent = arg;
    struct error why = {0};
    size_t i = agent->slot_next;
    if (agent->closing)
        return;
    if (!ok && err->class == ERROR_UNAVAILABLE && ++agent->slot_tries < UNSEAL_TRIES_MAX) {
        agent->slot_after = clock_boot_ms() + BACKOFF_FIRST_MS * agent->slot_tries;
        log_failure(LOG_WARNING, "slots", err, "the TPM is away; trying again");
        agent_step_done(agent);
        return;
    }
    agent->slot_next++;
    if (!ok) {
        why = *err;
        unseal_explain(&agent->unsealing, &why);
    } else {
        ok = take_slot(agent, i, &why);
    }
    if (ok) {
        log_at(LOG_INFO, "slots", "unsealed generation %llu from %s: %zu secrets",
               number(agent->current.number), slots_name(agent->slots, i), agent->held.count);
        slots_let_go(agent->slots);
        agent_tell(agent);
    } else {
        log_failure(LOG_ERROR, "slots", &why, "%s", slots_name(agent->slots, i));
    }
    generation_done(&agent->unsealing);
    agent_step_done(agent);
}

/* Gives the device a copy of the generation. */
static void begin_unseal(struct agent *agent, device_done *done)
{
    struct error err;
    device_unseal_done(&agent->unseal);
    device_unseal_init(&agent->unseal);
    agent->unseal.generation = &agent->unsealing;
    if (!device_unseal(agent->device, &agent->unseal, done, agent, &err))
        done(agent, false, &err);
}

void agent_unseal(struct agent *agent)
{
    struct error err;
    if (!generation_copy(slots_generation(agent->slots, agent->slot_next), &agent->unsealing,
                         &err)) {
        on_slot(agent, false, &err);
        return;
    }
    begin_unseal(agent, on_slot);
}

/* What is in memory is served on; nothing is confirmed. */
static void write_failed(struct agent *agent, const struct error *err)
{
    log_failure(LOG_ERROR, "slots", err, "nothing new is kept");
    slot_write_done(&agent->write);
    agent->disk_after = agent_back_off(agent, &agent->disk_backoff);
    agent_step_done(agent);
}

static bool run_write(void *arg, struct error *err)
{
    const struct agent *agent = arg;
    return slot_write_run(&agent->write, err);
}

static void on_written(void *arg, bool ok, const struct error *err)
{
    struct agent *agent = arg;
    uint64_t generation = agent->current.number;
    if (agent->closing)
        return;
    if (!ok) {
        sealed_undo(&agent->held);
        agent->erased = true; /* it may have been the reason */
        write_failed(agent, err);
        return;
    }
    size_t before = slots_of(agent->slots, generation);
    slots_written(agent->slots, &agent->write);
    size_t after = slots_of(agent->slots, generation);
    agent->disk_backoff = 0;
    agent->stored_affirmed_at = agent->held.affirmed_at;
    log_at(after > before ? LOG_INFO : LOG_DEBUG, "slots",
           "generation %llu is in %zu of %zu slots, with %zu secrets", number(generation), after,
           SLOT_COUNT, agent->held.count);
    /* The retirement is done: the authority sees the counter at once. */
    if (before < SLOT_COUNT && after == SLOT_COUNT)
        agent->attest_at = clock_boot_ms();
    agent_step_done(agent);
}

/* The disk may take its time: pods are served meanwhile, and heads come. Appraisals do not, and no key
 * changes: those are steps, of which this is the one that runs. */
void agent_write(struct agent *agent)
{
    struct error err;
    if (!sealed_prepare(agent->slots, &agent->current, &agent->held, !agent->raised, &agent->write,
                        &err)) {
        write_failed(agent, &err);
        return;
    }
    agent->erased = false; /* a name that goes from now on is still in this slot */
    if (!worker_submit(agent->disk, run_write, on_written, agent, 0, &err))
        on_written(agent, false, &err);
}

void agent_wipe(struct agent *agent)
{
    bool key = agent->current.number != 0;
    held_wipe(&agent->held);
    generation_done(&agent->current);
    generation_done(&agent->offer);
    /* Nor is what is on disk opened before a verdict allows it. */
    slots_let_go(agent->slots);
    agent->slot_next = slots_count(agent->slots);
    agent->wiped = true;
    if (key)
        log_at(LOG_WARNING, "agent", "secrets and node key are wiped from memory");
}

/* ---- Generations ---- */

static void on_imported(void *arg, bool ok, const struct error *err)
{
    struct agent *agent = arg;
    if (agent->closing)
        return;
    if (ok) {
        log_at(LOG_INFO, "agent",
               "generation %llu is imported; it opens while the counter is at most %llu",
               number(agent->unsealing.number), number(agent->unsealing.limit));
        generation_move(&agent->current, &agent->unsealing);
        agent->confirmed = agent->raised = false;
        agent->slot_next = slots_count(agent->slots); /* older ones are of no use any more */
        slots_let_go(agent->slots);
        /* It is offered again with the next appraisal, until it is confirmed. */
    } else {
        struct error why = *err;
        unseal_explain(&agent->unsealing, &why);
        log_failure(LOG_ERROR, "agent", &why, "the offered generation is of no use");
        agent->attest_at = agent_back_off(agent, &agent->attest_backoff);
    }
    generation_done(&agent->unsealing);
    agent_step_done(agent);
}

void agent_import(struct agent *agent)
{
    generation_move(&agent->unsealing, &agent->offer);
    begin_unseal(agent, on_imported);
}

/* ---- The counter ---- */

static void on_raised(void *arg, bool ok, const struct error *err)
{
    struct agent *agent = arg;
    if (agent->closing)
        return;
    bool unfinished = agent->unfinished;
    agent->unfinished = false;
    if (ok) {
        agent->raised = agent->raise.value >= agent->current.limit;
        if (unfinished)
            agent->attest_at = clock_boot_ms();
        if (agent->raise.value != agent->raise.before)
            log_at(LOG_INFO, "agent",
                   "the counter is raised from %llu to %llu: generations before %llu are retired",
                   number(agent->raise.before), number(agent->raise.value),
                   number(agent->current.number));
    } else {
        log_failure(LOG_ERROR, "agent", err, "cannot retire the generation before %llu",
                    number(agent->current.number));
        agent->attest_at = agent_back_off(agent, &agent->attest_backoff);
        agent->confirmed = false; /* asked again: it may be another one that counts by then */
        agent->link_after = agent->attest_at;
    }
    agent_step_done(agent);
}

void agent_raise(struct agent *agent)
{
    struct error err;
    agent->raise = (struct device_raise){.target = agent->unfinished ? 0 : agent->current.limit};
    if (!device_raise(agent->device, &agent->raise, on_raised, agent, &err))
        on_raised(agent, false, &err);
}
