/*
 * A YAML document as a stream of nodes with their places: all of libyaml that lib/pb uses, without
 * anchors, aliases, tags and second documents. Internal to lib/pb.
 */
#pragma once

#include <yaml.h>

#include "base/error.h"
#include "base/slice.h"
#include "pb/path.h"

enum node_kind {
    NODE_NONE, /* the document is empty, or at its end */
    NODE_SCALAR,
    NODE_SEQUENCE, /* its nodes follow, then NODE_END */
    NODE_MAPPING,  /* its keys and values follow in turn, then NODE_END */
    NODE_END,
};

struct place {
    size_t line, column; /* from 1; columns in characters */
};

struct node {
    enum node_kind kind;
    bool plain;        /* NODE_SCALAR: without quotes */
    struct slice text; /* NODE_SCALAR: UTF-8, NUL-terminated, no NUL within; until the next node */
    struct place place;
};

struct events {
    const char *file; /* borrowed */
    yaml_parser_t parser;
    yaml_event_t event; /* the current one */
    size_t nodes;
    struct node node; /* the current one */
};

/* Checks size and UTF-8 and goes to the outermost node. `text` and `file` are borrowed until
 * events_done. After a failure there is nothing to be done with it. */
[[nodiscard]] bool events_init(struct events *events, const char *file, struct slice text,
                               struct error *err);
/* Goes to the next node. `path` is where we are, for errors. */
[[nodiscard]] bool events_next(struct events *events, const struct path *path, struct error *err);
/* After the outermost node: that nothing else follows. */
[[nodiscard]] bool events_end(struct events *events, struct error *err);
/* For CLEANUP; a zeroed struct is fine. */
void events_done(struct events *events);

/* True for a plain scalar that YAML takes as null. */
bool node_is_null(const struct node *node);

/* INVALID: "FILE:LINE:COLUMN: PATH: FORMATTED". */
PRINTF_LIKE(5, 6)
bool events_refuse(const struct events *events, struct place place, const struct path *path,
                   struct error *err, const char *format, ...);
