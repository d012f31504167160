#include "callers.h"

#include "base/mem.h"
#include "cgroup.h"

struct caller {
    const void *key;
    char *cgroup;
    bool unknown;
    struct caller *next;
};

static struct caller *caller_free(struct caller *caller)
{
    if (!caller)
        return nullptr;
    mem_free(caller->cgroup);
    return mem_free(caller);
}
DEFINE_CLEANUP(caller_free, struct caller)

static size_t count_of(const struct callers *callers, const char *cgroup, const char *pod)
{
    size_t count = 0;
    for (const struct caller *at = callers->first; at; at = at->next)
        count +=
            pod ? cgroup_within(at->cgroup, pod) : at->unknown && strcmp(at->cgroup, cgroup) == 0;
    return count;
}

bool callers_add(struct callers *callers, const void *key, const char *cgroup, const char *pod,
                 struct error *err)
{
    if (count_of(callers, cgroup, pod) >= CALLERS_PER_POD_MAX)
        return error_set(err, ERROR_EXHAUSTED, "it has %zu connections already",
                         CALLERS_PER_POD_MAX);
    if (!pod && callers->unknown >= CALLERS_UNKNOWN_MAX)
        return error_set(err, ERROR_EXHAUSTED,
                         "processes that are in no pod have %zu connections already",
                         CALLERS_UNKNOWN_MAX);
    CLEANUP(caller_free_at) struct caller *caller = mem_new(1, sizeof(*caller));
    if (!caller)
        return error_set_memory(err);
    caller->cgroup = mem_strdup(cgroup);
    if (!caller->cgroup)
        return error_set_memory(err);
    caller->key = key;
    caller->unknown = !pod;
    callers->unknown += caller->unknown;
    caller->next = callers->first;
    callers->first = TAKE(caller);
    return true;
}

void callers_remove(struct callers *callers, const void *key)
{
    for (struct caller **link = &callers->first; *link; link = &(*link)->next) {
        struct caller *caller = *link;
        if (caller->key != key)
            continue;
        *link = caller->next;
        callers->unknown -= caller->unknown;
        caller_free(caller);
        return;
    }
}

void callers_map(struct callers *callers, callers_pod *pod_of, void *arg)
{
    callers->unknown = 0;
    for (struct caller *at = callers->first; at; at = at->next) {
        at->unknown = !pod_of(arg, at->cgroup);
        callers->unknown += at->unknown;
    }
}

void callers_done(struct callers *callers)
{
    while (callers->first)
        callers_remove(callers, callers->first->key);
}
