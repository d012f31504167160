#include "pb/yaml_events.h"

#include "base/text.h"
#include "pb/yaml.h"

#include <stdio.h>

bool events_refuse(const struct events *events, struct place place, const struct path *path,
                   struct error *err, const char *format, ...)
{
    char message[ERROR_MESSAGE_MAX];
    va_list args;

    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    path_refuse(err, path, "%s", message);
    return error_prefix(err, "%s:%zu:%zu", events->file, place.line, place.column);
}

static struct place place_of(yaml_mark_t mark)
{
    return (struct place){mark.line + 1, mark.column + 1};
}

/* libyaml names no place for what is not UTF-8, and takes UTF-16. */
static bool text_check(const struct events *events, struct slice text, struct error *err)
{
    struct place place = {.line = 1, .column = 1};

    if (text.len > PB_YAML_MAX)
        return error_set(err, ERROR_EXHAUSTED, "%s: larger than the limit of %zu bytes",
                         events->file, PB_YAML_MAX);
    if (utf8_valid(text))
        return true;
    for (; text.len > 0; place.line++) {
        const uint8_t *newline = memchr(text.data, '\n', text.len);
        size_t len = newline ? (size_t)(newline - text.data) + 1 : text.len;
        if (!utf8_valid(slice(text.data, len)))
            break;
        text = slice(text.data + len, text.len - len);
    }
    return events_refuse(events, place, nullptr, err,
                         "expected UTF-8 text without NUL, found another byte in this line");
}

static bool parser_refuse(const struct events *events, const struct path *path, struct error *err)
{
    const yaml_parser_t *parser = &events->parser;

    if (parser->error == YAML_MEMORY_ERROR)
        return error_set_memory(err);
    return events_refuse(events, place_of(parser->problem_mark), path, err, "not YAML: %s%s%s",
                         parser->problem ? parser->problem : "unreadable",
                         parser->context ? " " : "", parser->context ? parser->context : "");
}

static bool event_parse(struct events *events, const struct path *path, struct error *err)
{
    yaml_event_delete(&events->event);
    if (!yaml_parser_parse(&events->parser, &events->event))
        return parser_refuse(events, path, err);
    return true;
}

/* What lets one text stand for many nodes, or for a node of a type that the text does not show. */
static const char *event_forbidden(const yaml_event_t *event)
{
    const yaml_char_t *anchor = nullptr, *tag = nullptr;

    switch (event->type) {
    case YAML_ALIAS_EVENT:
        return "aliases (\"*\") are not allowed: write the value out";
    case YAML_SCALAR_EVENT:
        anchor = event->data.scalar.anchor;
        tag = event->data.scalar.tag;
        break;
    case YAML_SEQUENCE_START_EVENT:
        anchor = event->data.sequence_start.anchor;
        tag = event->data.sequence_start.tag;
        break;
    case YAML_MAPPING_START_EVENT:
        anchor = event->data.mapping_start.anchor;
        tag = event->data.mapping_start.tag;
        break;
    default:
        break;
    }
    if (anchor)
        return "anchors (\"&\") are not allowed: write the value out where it is needed";
    return tag ? "tags (\"!\") are not allowed: a field's type is known" : nullptr;
}

bool events_next(struct events *events, const struct path *path, struct error *err)
{
    if (!event_parse(events, path, err))
        return false;
    const yaml_event_t *event = &events->event;
    struct node node = {.place = place_of(event->start_mark)};
    const char *forbidden = event_forbidden(event);
    if (forbidden)
        return events_refuse(events, node.place, path, err, "%s", forbidden);
    if (++events->nodes > PB_YAML_NODES_MAX)
        return error_set(err, ERROR_EXHAUSTED, "%s: more than the limit of %zu values",
                         events->file, PB_YAML_NODES_MAX);
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        node.kind = NODE_SCALAR;
        node.plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
        node.text = slice(event->data.scalar.value, event->data.scalar.length);
        if (!utf8_valid(node.text)) /* "\0" */
            return events_refuse(events, node.place, path, err, "expected text without NUL");
        break;
    case YAML_SEQUENCE_START_EVENT:
        node.kind = NODE_SEQUENCE;
        break;
    case YAML_MAPPING_START_EVENT:
        node.kind = NODE_MAPPING;
        break;
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        node.kind = NODE_END;
        break;
    default:
        break;
    }
    events->node = node;
    return true;
}

bool events_init(struct events *events, const char *file, struct slice text, struct error *err)
{
    *events = (struct events){.file = file};
    if (!text_check(events, text, err))
        return false;
    if (!yaml_parser_initialize(&events->parser))
        return error_set_memory(err);
    yaml_parser_set_encoding(&events->parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&events->parser, text.data, text.len);
    /* The start of the stream, then of the document, or the end of the stream. */
    if (!event_parse(events, nullptr, err) || !event_parse(events, nullptr, err))
        goto fail;
    events->node.place = place_of(events->event.start_mark);
    if (events->event.type == YAML_STREAM_END_EVENT)
        return true;
    if (!events_next(events, nullptr, err))
        goto fail;
    return true;
fail:
    events_done(events);
    return false;
}

bool events_end(struct events *events, struct error *err)
{
    if (events->event.type == YAML_STREAM_END_EVENT)
        return true;
    /* The end of the document, then of the stream. */
    if (!event_parse(events, nullptr, err) || !event_parse(events, nullptr, err))
        return false;
    if (events->event.type == YAML_STREAM_END_EVENT)
        return true;
    return events_refuse(events, place_of(events->event.start_mark), nullptr, err,
                         "a second document begins here: one file holds one");
}

void events_done(struct events *events)
{
    yaml_event_delete(&events->event);
    yaml_parser_delete(&events->parser);
    *events = (struct events){0};
}

bool node_is_null(const struct node *node)
{
    return node->kind == NODE_SCALAR && node->plain &&
           (node->text.len == 0 || slice_is(node->text, "~") || slice_is(node->text, "null") ||
            slice_is(node->text, "Null") || slice_is(node->text, "NULL"));
}
