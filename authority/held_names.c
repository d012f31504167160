#include "held_names.h"

#include "secret_rows.h"
#include "watch.h"

#include "base/mem.h"

#include <stdlib.h>

void held_names_done(struct held_names *names)
{
    for (size_t i = 0; i < names->count; i++)
        mem_free(names->items[i].name);
    mem_free(names->items);
    *names = (struct held_names){};
}

static int compare(const void *a, const void *b)
{
    return strcmp(((const struct held_name *)a)->name, ((const struct held_name *)b)->name);
}

static bool grow(struct held_names *names, struct error *err)
{
    if (names->count < names->capacity)
        return true;
    size_t capacity = names->capacity ? names->capacity * 2 : 16;
    struct held_name *items = mem_resize(names->items, capacity * sizeof(*items));
    if (!items)
        return error_set_memory(err);
    names->items = items;
    names->capacity = capacity;
    return true;
}

/* Makes a place for a copy of `name`. */
static bool insert(struct held_names *names, size_t place, const char *name, struct error *err)
{
    if (!grow(names, err))
        return false;
    char *copy = mem_strdup(name);
    if (!copy)
        return error_set_memory(err);
    mem_move(names->items + place + 1, names->items + place,
             (names->count - place) * sizeof(*names->items));
    names->items[place] = (struct held_name){.name = copy};
    names->count++;
    return true;
}

bool held_names_take(struct held_names *names, const Postern__V1__WatchRequest *request,
                     struct error *err)
{
    if (request->n_held > WATCH_HELD_MAX)
        return error_set_field(err, "held", "held: at most %zu names, found %zu", WATCH_HELD_MAX,
                               request->n_held);
    for (size_t i = 0; i < request->n_held; i++) {
        const Postern__V1__HeldVersion *version = request->held[i];
        if (!secret_name_check(version->name, err) ||
            !insert(names, names->count, version->name, err))
            return false;
        names->items[i].epoch = version->epoch;
        names->items[i].seq = version->seq;
    }
    if (names->count > 0)
        qsort(names->items, names->count, sizeof(*names->items), compare);
    for (size_t i = 1; i < names->count; i++)
        if (compare(&names->items[i - 1], &names->items[i]) == 0)
            return error_set_field(err, "held", "held: %s is there twice", names->items[i].name);
    return true;
}

/* Where `name` is, or would be. */
static size_t find_place(const struct held_names *names, const char *name)
{
    size_t low = 0, high = names->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(names->items[middle].name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct held_name *held_names_find(const struct held_names *names, const char *name)
{
    size_t place = find_place(names, name);
    bool found = place < names->count && strcmp(names->items[place].name, name) == 0;
    return found ? &names->items[place] : nullptr;
}

bool held_names_set(struct held_names *names, const char *name, uint32_t epoch, uint64_t seq,
                    struct error *err)
{
    struct held_name *held = held_names_find(names, name);
    if (!held) {
        size_t place = find_place(names, name);
        if (!insert(names, place, name, err))
            return false;
        held = &names->items[place];
    }
    held->epoch = epoch;
    held->seq = seq;
    return true;
}

void held_names_remove(struct held_names *names, struct held_name *name)
{
    size_t place = (size_t)(name - names->items);
    mem_free(name->name);
    names->count--;
    mem_move(name, name + 1, (names->count - place) * sizeof(*name));
}
