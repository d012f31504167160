/* Where in a YAML text the field of an error is: the path is walked from the outermost node. */
#include "pb/yaml.h"
#include "pb/yaml_events.h"

#include <stdio.h>

/* Takes the first step off a rendered path: a name, or what is in brackets. False at its end. */
static bool path_step(struct slice *path, struct slice *ret)
{
    size_t from = 0, to = 0;

    if (path->len == 0)
        return false;
    if (path->data[0] == '[') {
        from = 1;
        /* A key may have brackets and dots: the step ends where another could begin. */
        for (to = 1; to < path->len; to++)
            if (path->data[to] == ']' &&
                (to + 1 == path->len || path->data[to + 1] == '.' || path->data[to + 1] == '['))
                break;
    } else {
        from = path->data[0] == '.';
        for (to = from; to < path->len && path->data[to] != '.' && path->data[to] != '[';)
            to++;
    }
    *ret = slice(path->data + from, to - from);
    to += from == 1 && path->data[0] == '[' && to < path->len;
    *path = slice(path->data + to, path->len - to);
    return true;
}

/* Goes over the rest of the current node, which may be a whole tree. */
static bool node_skip(struct events *events, struct error *err)
{
    size_t depth = 0;

    for (;;) {
        enum node_kind kind = events->node.kind;
        if (kind == NODE_NONE)
            return false;
        depth += kind == NODE_SEQUENCE || kind == NODE_MAPPING;
        depth -= kind == NODE_END;
        if (depth == 0)
            return true;
        if (!events_next(events, nullptr, err))
            return false;
    }
}

/* From a sequence or mapping to its element `step`; false if there is none, or at an error. */
static bool node_enter(struct events *events, struct slice step, struct error *err)
{
    enum node_kind kind = events->node.kind;
    char index[24];

    if (kind != NODE_SEQUENCE && kind != NODE_MAPPING)
        return false;
    for (size_t i = 0; events_next(events, nullptr, err) && events->node.kind != NODE_END; i++) {
        bool found;
        if (kind == NODE_SEQUENCE) {
            snprintf(index, sizeof index, "%zu", i);
            found = slice_is(step, index);
        } else {
            found = events->node.kind == NODE_SCALAR && slice_equal(events->node.text, step);
            if (!node_skip(events, err) || !events_next(events, nullptr, err))
                return false;
        }
        if (found)
            return true;
        if (!node_skip(events, err))
            return false;
    }
    return false;
}

bool pb_yaml_locate(const char *name_of_file, struct slice text, struct error *err)
{
    struct error ignored;
    CLEANUP(events_done) struct events events = {0};
    struct place place = {.line = 1, .column = 1};
    struct slice path = slice_str(err->field), step;

    /* The text was read before, so that nothing of this fails but memory: then it's line 1. */
    if (events_init(&events, name_of_file, text, &ignored)) {
        place = events.node.place;
        while (path_step(&path, &step) && node_enter(&events, step, &ignored))
            place = events.node.place;
    }
    return error_prefix(err, "%s:%zu:%zu%s%s", name_of_file, place.line, place.column,
                        err->field[0] != '\0' ? ": " : "", err->field);
}
