#include "plan.h"

enum plan_step plan_next(const struct plan_view *view)
{
    /* What is on disk serves pods even where the authority is away: first. */
    if (view->slot_left)
        return PLAN_UNSEAL;
    /* We died between the confirmation and the counter. The authority's word is signed, and fresh. */
    if (view->unfinished)
        return PLAN_RAISE;
    if (view->attest_due)
        return PLAN_ATTEST;
    if (!view->affirmed)
        return PLAN_WAIT;
    if (view->offered)
        return PLAN_IMPORT;
    if (!view->watching && !view->link_held)
        return PLAN_WATCH;
    if (!view->has_key)
        return PLAN_WAIT;
    if (view->wants && !view->link_held)
        return PLAN_FETCH;
    /* The first slot of a generation is written when the live set is here: a confirmation says so.
     * Later ones as soon as there is something new. */
    bool complete = view->synced && !view->wants;
    if ((view->durable ? view->dirty : complete) && !view->disk_held)
        return PLAN_WRITE;
    if (!view->durable)
        return PLAN_WAIT;
    /* In this order, or a crash could leave a node that opens nothing, or an old generation that
     * still opens: durable, then acknowledged, then raised, then the other slot. */
    if (!view->confirmed)
        return view->link_held ? PLAN_WAIT : PLAN_CONFIRM_GENERATION;
    if (!view->raised)
        return PLAN_RAISE;
    if (view->other_old && !view->disk_held)
        return PLAN_WRITE_OTHER;
    if (view->version_unconfirmed && !view->link_held)
        return PLAN_CONFIRM_VERSION;
    return PLAN_WAIT;
}

const char *plan_step_name(enum plan_step step)
{
    static const char *const names[PLAN_STEP_COUNT] = {
        [PLAN_WAIT] = "wait",
        [PLAN_UNSEAL] = "unseal a slot",
        [PLAN_ATTEST] = "attest",
        [PLAN_WATCH] = "watch",
        [PLAN_IMPORT] = "import a generation",
        [PLAN_FETCH] = "fetch",
        [PLAN_WRITE] = "write a slot",
        [PLAN_CONFIRM_GENERATION] = "confirm the generation",
        [PLAN_RAISE] = "raise the counter",
        [PLAN_WRITE_OTHER] = "rewrite the other slot",
        [PLAN_CONFIRM_VERSION] = "confirm a version",
    };
    return step < PLAN_STEP_COUNT ? names[step] : "unknown";
}
