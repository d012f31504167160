#include "testlib/testlib.h"

#include "base/buf.h"
#include "base/mem.h"
#include "pb/json.h"
#include "pb/yaml.h"
#include "pbtest/real.pb-c.h"
#include "pbtest/three.pb-c.h"
#include "pbtest/two.pb-c.h"

#include <stdio.h>
#include <stdlib.h>

#define THREE &pbtest__three__descriptor
#define TWO &pbtest__two__descriptor

/* ── Refusals ─────────────────────────────────────────────────────────────────────────────────── */

struct refusal {
    const ProtobufCMessageDescriptor *descriptor;
    const char *yaml;
    const char *field;
    const char *message; /* from its start */
};

static const struct refusal REFUSALS[] = {
    /* The text */
    {THREE, "text: a\nraw: \xff\n", "", "f.yaml:2:1: expected UTF-8 text without NUL"},
    {THREE, "\tx: 1", "", "f.yaml:1:1: not YAML: "},
    {THREE, "text: \"a\n", "text", "f.yaml:2:1: text: not YAML: "},
    {THREE, "child: [\n", "child", "f.yaml:1:8: child: expected a mapping, found a sequence"},
    {THREE, "r_i32: [1\n", "r_i32[1]", "f.yaml:2:1: r_i32[1]: not YAML: "},
    {THREE, "text: \"a\\0b\"\n", "text", "f.yaml:1:7: text: expected text without NUL"},
    {THREE, "i32: 1\n---\ni32: 2\n", "", "f.yaml:2:1: a second document begins here"},
    {THREE, "i32: 1\n...\ni32: 2\n", "",
     "f.yaml:3:1: not YAML: did not find expected <document start>"},
    {THREE, "- 1\n", "", "f.yaml:1:1: expected a mapping, found a sequence"},
    {THREE, "word\n", "", "f.yaml:1:1: expected a mapping, found a single value"},
    /* One text, many values */
    {THREE, "text: &a x\n", "text", "f.yaml:1:7: text: anchors"},
    {THREE, "child: &a {}\n", "child", "f.yaml:1:8: child: anchors"},
    {THREE, "r_text: &a []\n", "r_text", "f.yaml:1:9: r_text: anchors"},
    {THREE, "text: *a\n", "text", "f.yaml:1:7: text: aliases"},
    {THREE, "r_text: [x, *a]\n", "r_text[1]", "f.yaml:1:13: r_text[1]: aliases"},
    {THREE, "<<: {}\n", "", "f.yaml:1:1: merge keys"},
    {THREE, "text: !!str x\n", "text", "f.yaml:1:7: text: tags"},
    {THREE, "child: !x {}\n", "child", "f.yaml:1:8: child: tags"},
    {THREE, "r_text: ! []\n", "r_text", "f.yaml:1:9: r_text: tags"},
    /* Keys */
    {THREE, "txet: a\n", "txet", "f.yaml:1:1: txet: no such field; did you mean text?"},
    {THREE, "children:\n  - i32: 1\n    r_tex: []\n", "children[0].r_tex",
     "f.yaml:3:5: children[0].r_tex: no such field; did you mean r_text?"},
    {TWO, "name: a\nlisten:\n  zzzzzz: 1\n", "listen.zzzzzz",
     "f.yaml:3:3: listen.zzzzzz: no such field; expected one of socket, socket_mode, allow"},
    {THREE, "choiceText: a\n", "choiceText",
     "f.yaml:1:1: choiceText: no such field; did you mean choice_text?"},
    {THREE, "\"te\\nxt\": a\n", "te?xt", "f.yaml:1:1: te?xt: no such field; did you mean text?"},
    {THREE, "i32: 1\ni64: 1\ni32: 2\n", "i32", "f.yaml:3:1: i32: this field is there twice"},
    {THREE, "? [a]\n: b\n", "", "f.yaml:1:3: expected the name of a field, found a sequence"},
    {THREE, "choice_text: a\nchoice_number: 1\n", "choice_number",
     "f.yaml:2:1: choice_number: choice_text is there already, and only one of them can be"},
    /* Maps */
    {THREE, "labels: []\n", "labels", "f.yaml:1:9: labels: expected a mapping, found a sequence"},
    {THREE, "labels:\n  app: a\n  app: b\n", "labels[app]",
     "f.yaml:3:3: labels[app]: this key is there twice"},
    {THREE, "labels:\n  app: [a]\n", "labels[app]",
     "f.yaml:2:8: labels[app]: expected text, found a sequence"},
    {THREE, "labels: {[a]: b}\n", "labels",
     "f.yaml:1:10: labels: expected a key, found a sequence"},
    {THREE, "by_number:\n  x: {}\n", "by_number",
     "f.yaml:2:3: by_number: key: expected a whole number from 0 to 4294967295, found \"x\""},
    {THREE, "by_number:\n  7: 1\n", "by_number[7]",
     "f.yaml:2:6: by_number[7]: expected a mapping, found a single value"},
    {THREE, "by_number:\n  7: {child: {i32: x}}\n", "by_number[7].child.i32",
     "f.yaml:2:20: by_number[7].child.i32: expected a whole number from -2147483648 to 2147483647, found \"x\""},
    /* Numbers */
    {THREE, "i32: abc\n", "i32",
     "f.yaml:1:6: i32: expected a whole number from -2147483648 to 2147483647, found \"abc\""},
    {THREE, "i32: 2147483648\n", "i32", "f.yaml:1:6: i32: expected a whole number"},
    {THREE, "i32: -2147483649\n", "i32", "f.yaml:1:6: i32: expected a whole number"},
    {THREE, "u32: -1\n", "u32",
     "f.yaml:1:6: u32: expected a whole number from 0 to 4294967295, found \"-1\""},
    {THREE, "u32: 4294967296\n", "u32", "f.yaml:1:6: u32: expected"},
    {THREE, "f32: 4294967296\n", "f32", "f.yaml:1:6: f32: expected"},
    {THREE, "sf32: 2147483648\n", "sf32", "f.yaml:1:7: sf32: expected"},
    {THREE, "s64: 9223372036854775808\n", "s64",
     "f.yaml:1:6: s64: expected a whole number from -9223372036854775808 to 9223372036854775807, found \"92"},
    {THREE, "i64: -9223372036854775809\n", "i64", "f.yaml:1:6: i64: expected"},
    {THREE, "u64: 18446744073709551616\n", "u64",
     "f.yaml:1:6: u64: expected a whole number from 0 to 18446744073709551615"},
    {THREE, "i32: 0644\n", "i32", "f.yaml:1:6: i32: expected"},
    {THREE, "i32: 0x10\n", "i32", "f.yaml:1:6: i32: expected"},
    {THREE, "i32: +1\n", "i32", "f.yaml:1:6: i32: expected"},
    {THREE, "i32: -0\n", "i32", "f.yaml:1:6: i32: expected"},
    {THREE, "i32: 1.0\n", "i32", "f.yaml:1:6: i32: expected"},
    {THREE, "i32: 1_000\n", "i32", "f.yaml:1:6: i32: expected"},
    {THREE, "i32: '1'\n", "i32",
     "f.yaml:1:6: i32: expected a whole number from -2147483648 to 2147483647, found the quoted text \"1\""},
    {THREE, "i32: 1 2\n", "i32", "f.yaml:1:6: i32: expected"},
    {THREE, "r_i32: [1, two]\n", "r_i32[1]", "f.yaml:1:12: r_i32[1]: expected"},
    {&pbtest__real__descriptor, "wide: 1.5\n", "wide", "f.yaml:1:7: wide: expected nothing"},
    /* Other values */
    {THREE, "truth: yes\n", "truth", "f.yaml:1:8: truth: expected true or false, found \"yes\""},
    {THREE, "truth: True\n", "truth", "f.yaml:1:8: truth: expected true or false"},
    {THREE, "truth: 'true'\n", "truth",
     "f.yaml:1:8: truth: expected true or false, found the quoted"},
    {THREE, "colour: green\n", "colour",
     "f.yaml:1:9: colour: expected one of negative, red, dark_blue, found \"green\""},
    {THREE, "colour: 1\n", "colour", "f.yaml:1:9: colour: expected one of"},
    {THREE, "raw: no!\n", "raw", "f.yaml:1:6: raw: expected base64, found another character"},
    {THREE, "text: {}\n", "text", "f.yaml:1:7: text: expected text, found a mapping"},
    {THREE, "r_text: a\n", "r_text",
     "f.yaml:1:9: r_text: expected a sequence, found a single value"},
    {THREE, "r_text: [[a]]\n", "r_text[0]",
     "f.yaml:1:10: r_text[0]: expected text, found a sequence"},
    {THREE, "child: x\n", "child", "f.yaml:1:8: child: expected a mapping, found a single value"},
    /* Nothing */
    {THREE, "text:\n", "text", "f.yaml:1:6: text: expected text, found nothing: leave the key out"},
    {THREE, "text: ~\n", "text", "f.yaml:1:7: text: expected text, found nothing"},
    {THREE, "text: null\n", "text", "f.yaml:1:7: text: expected text, found nothing"},
    {THREE, "child:\n", "child",
     "f.yaml:1:7: child: expected a mapping, found nothing: leave the key out"},
    {THREE, "r_text:\ni32: 1\n", "r_text",
     "f.yaml:1:8: r_text: expected a sequence, found nothing: leave the key out"},
    {THREE, "labels: null\n", "labels", "f.yaml:1:9: labels: expected a mapping, found nothing"},
    {THREE, "labels: {a: }\n", "labels[a]", "f.yaml:1:13: labels[a]: expected text, found nothing"},
    /* Required */
    {TWO, "", "name", "f.yaml:1:1: name: required, but missing"},
    {TWO, "# nothing\n---\n", "name", "f.yaml:3:1: name: required, but missing"},
    {TWO, "on: true\n", "name", "f.yaml:1:1: name: required, but missing"},
    {TWO, "name: a\nmore:\n  - socket: x\n  - allow: []\n", "more[1].socket",
     "f.yaml:4:5: more[1].socket: required, but missing"},
};

static void test_refusals(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(REFUSALS); i++) {
        const struct refusal *refusal = &REFUSALS[i];
        struct error err = {0};
        ProtobufCMessage *message = POISON;

        bool ok =
            pb_from_yaml(refusal->descriptor, "f.yaml", slice_str(refusal->yaml), &message, &err);
        if (ok || err.class != ERROR_INVALID || message != POISON ||
            strcmp(err.field, refusal->field) != 0 ||
            strncmp(err.message, refusal->message, strlen(refusal->message)) != 0)
            fail_msg("%s\n%s, field \"%s\": %s\nexpected %s", refusal->yaml,
                     ok ? "accepted" : error_class_name(err.class), err.field, err.message,
                     refusal->message);
    }
}

/* ── Limits ───────────────────────────────────────────────────────────────────────────────────── */

static void assert_exhausted(struct buf *yaml, const char *text)
{
    struct error err = {0};
    ProtobufCMessage *message = POISON;

    assert_ok(buf_ok(yaml, &err));
    assert_fails(pb_from_yaml(THREE, "f.yaml", buf_slice(yaml), &message, &err), ERROR_EXHAUSTED);
    assert_error_contains("f.yaml");
    assert_error_contains(text);
    assert_ptr_equal(message, POISON);
    buf_clear(yaml);
}

static void test_limits(void **state)
{
    (void)state;
    CLEANUP(buf_done) struct buf yaml;
    buf_init(&yaml, 2 * PB_YAML_MAX);

    buf_put(&yaml, slice_str("text: "));
    for (size_t i = 0; i < PB_YAML_MAX; i++)
        buf_put_u8(&yaml, 'a');
    assert_exhausted(&yaml, "larger than the limit of 1048576 bytes");

    for (size_t i = 0; i < PB_NESTING_MAX; i++)
        buf_put(&yaml, slice_str("{child: "));
    buf_put(&yaml, slice_str("{}"));
    for (size_t i = 0; i < PB_NESTING_MAX; i++)
        buf_put(&yaml, slice_str("}"));
    assert_exhausted(&yaml, "nested deeper than the limit of 32");

    for (size_t i = 0; i < PB_NESTING_MAX - 1; i++)
        buf_put(&yaml, slice_str("{child: "));
    buf_put(&yaml, slice_str("{labels: {}}"));
    for (size_t i = 0; i < PB_NESTING_MAX - 1; i++)
        buf_put(&yaml, slice_str("}"));
    assert_exhausted(&yaml, "nested deeper");

    buf_put(&yaml, slice_str("r_i32: ["));
    for (size_t i = 0; i < PB_YAML_NODES_MAX; i++)
        buf_put(&yaml, slice_str("1,"));
    buf_put(&yaml, slice_str("]"));
    assert_exhausted(&yaml, "more than the limit of 65536 values");

    buf_put(&yaml, slice_str("labels:\n"));
    for (unsigned i = 0; i < 1025; i++)
        buf_put_format(&yaml, "  k%u: v\n", i);
    assert_exhausted(&yaml, "more than the limit of 1024 entries");
}

/* A megabyte of one character: none may take long or crash. */
static void test_floods(void **state)
{
    static const char FLOODS[] = "[{-?:&*!|>'\"%@`#, \nax\t";

    (void)state;
    CLEANUP(buf_done) struct buf yaml;
    buf_init(&yaml, PB_YAML_MAX);
    uint8_t *at = buf_extend(&yaml, PB_YAML_MAX);
    assert_non_null(at);
    for (const char *flood = FLOODS; *flood != '\0'; flood++) {
        struct error err = {0};
        ProtobufCMessage *message = nullptr;
        for (size_t i = 0; i < PB_YAML_MAX; i++)
            at[i] = (uint8_t)*flood;
        /* Comments and blank lines are an empty mapping. */
        bool ok = pb_from_yaml(THREE, "f.yaml", buf_slice(&yaml), &message, &err);
        assert_int_equal(ok, *flood == '#' || *flood == ' ' || *flood == '\n');
        pb_free(message);
    }
}

/* ── What is accepted ─────────────────────────────────────────────────────────────────────────── */

static void test_every_kind(void **state)
{
    static const char YAML[] = "# a comment\n"
                               "i32: -2147483648\n"
                               "i64: -9223372036854775808\n"
                               "u32: 4294967295\n"
                               "u64: 18446744073709551615\n"
                               "s32: -7\n"
                               "s64: 9223372036854775807\n"
                               "f32: 4294967295\n"
                               "f64: 5\n"
                               "sf32: -5\n"
                               "sf64: -6\n"
                               "truth: true\n"
                               "colour: dark_blue\n"
                               "text: 1.10\n"
                               "raw: AAEC\n"
                               "child: {text: 'true', r_text: [yes, \"\", \"null\", 007, a: b]}\n"
                               "r_colour: [COLOUR_RED, negative, unspecified]\n"
                               "r_truth: [true, false]\n"
                               "r_raw: [AA==, AA]\n"
                               "labels:\n"
                               "  app.kubernetes.io/name: x\n"
                               "  5: y\n"
                               "by_number: {3: {i32: 1}}\n"
                               "by_truth: {true: AA}\n"
                               "choice_raw: ''\n";
    struct error err = {0};
    ProtobufCMessage *message = nullptr;

    (void)state;
    /* A plain scalar in a flow sequence can't hold ": ". */
    assert_fails(pb_from_yaml(THREE, "f.yaml", slice_str(YAML), &message, &err), ERROR_INVALID);
    assert_string_equal(err.field, "child.r_text[4]");
    char *fixed = strstr(YAML, ", a: b");
    CLEANUP(buf_done) struct buf yaml;
    buf_init(&yaml, 4096);
    buf_put(&yaml, slice(YAML, (size_t)(fixed - YAML)));
    buf_put(&yaml, slice_str(fixed + strlen(", a: b")));
    assert_ok(pb_from_yaml(THREE, "f.yaml", buf_slice(&yaml), &message, &err));
    const Pbtest__Three *three = (const Pbtest__Three *)message;
    assert_int_equal(three->i32, INT32_MIN);
    assert_true(three->i64 == INT64_MIN);
    assert_int_equal(three->u32, UINT32_MAX);
    assert_true(three->u64 == UINT64_MAX);
    assert_int_equal(three->s32, -7);
    assert_true(three->s64 == INT64_MAX);
    assert_int_equal(three->f32, UINT32_MAX);
    assert_int_equal(three->f64, 5);
    assert_int_equal(three->sf32, -5);
    assert_int_equal(three->sf64, -6);
    assert_true(three->truth);
    assert_int_equal(three->colour, PBTEST__COLOUR__COLOUR_DARK_BLUE);
    assert_string_equal(three->text, "1.10");
    assert_memory_equal(three->raw.data, "\0\1\2", 3);
    assert_string_equal(three->child->text, "true");
    assert_int_equal(three->child->n_r_text, 4);
    assert_string_equal(three->child->r_text[0], "yes");
    assert_string_equal(three->child->r_text[1], "");
    assert_string_equal(three->child->r_text[2], "null");
    assert_string_equal(three->child->r_text[3], "007");
    assert_int_equal(three->n_r_colour, 3);
    assert_int_equal(three->r_colour[1], PBTEST__COLOUR__COLOUR_NEGATIVE);
    assert_int_equal(three->n_r_raw, 2);
    assert_int_equal(three->n_labels, 2);
    assert_string_equal(three->labels[0]->key, "app.kubernetes.io/name");
    assert_string_equal(three->labels[1]->key, "5");
    assert_int_equal(three->by_number[0]->key, 3);
    assert_int_equal(three->by_number[0]->value->i32, 1);
    assert_true(three->by_truth[0]->key);
    assert_int_equal(three->choice_case, PBTEST__THREE__CHOICE_CHOICE_RAW);
    pb_free(message);
}

static void test_empty(void **state)
{
    static const char *const EMPTY[] = {"",   "\n",         "# only a comment",  "---\n",
                                        "{}", "---\n...\n", "%YAML 1.2\n---\n{}"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(EMPTY); i++) {
        struct error err = {0};
        ProtobufCMessage *message = nullptr;
        assert_ok(pb_from_yaml(THREE, "f.yaml", slice_str(EMPTY[i]), &message, &err));
        pb_free(message);
    }
}

static void test_defaults(void **state)
{
    struct error err = {0};
    ProtobufCMessage *message = nullptr;

    (void)state;
    assert_ok(
        pb_from_yaml(TWO, "f.yaml", slice_str("name: a\nlisten: {socket: s}\n"), &message, &err));
    const Pbtest__Two *two = (const Pbtest__Two *)message;
    assert_string_equal(two->drain, "10s");
    assert_int_equal(two->listen->socket_mode, 384);
    assert_false(two->listen->has_socket_mode);
    CLEANUP(buf_done) struct buf yaml;
    buf_init(&yaml, 4096);
    assert_ok(pb_to_yaml(message, &yaml, &err));
    buf_put_u8(&yaml, '\0');
    assert_string_equal((const char *)buf_slice(&yaml).data, "name: a\n"
                                                             "format: json\n"
                                                             "listen:\n"
                                                             "  socket: s\n"
                                                             "  socket_mode: 384\n"
                                                             "offset: -5\n"
                                                             "on: true\n"
                                                             "salt: \"c2FsdA\"\n"
                                                             "drain: \"10s\"\n");
    pb_free(message);
}

/* ── Places of what is found wrong later ──────────────────────────────────────────────────────── */

static void test_locate(void **state)
{
    static const char YAML[] = "name: a\n"
                               "listen:\n"
                               "  socket: s\n"
                               "more:\n"
                               "  - socket: x\n"
                               "  - {socket: y, allow: [a, b]}\n"
                               "by_name:\n"
                               "  a.b]c: {socket: z}\n";
    static const struct {
        const char *field, *place;
    } CASES[] = {
        {"name", "f.yaml:1:7: name: bad"},
        {"listen.socket", "f.yaml:3:11: listen.socket: bad"},
        {"listen.socket_mode", "f.yaml:3:3: listen.socket_mode: bad"}, /* absent */
        {"more[1].allow[1]", "f.yaml:6:28: more[1].allow[1]: bad"},
        {"more[7]", "f.yaml:5:3: more[7]: bad"},
        {"by_name[a.b]c].socket", "f.yaml:8:19: by_name[a.b]c].socket: bad"},
        {"drain", "f.yaml:1:1: drain: bad"},
        {"name.x.y", "f.yaml:1:7: name.x.y: bad"},
        {"", "f.yaml:1:1: bad"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        struct error err = {0};
        error_set_field(&err, CASES[i].field, "bad");
        assert_false(pb_yaml_locate("f.yaml", slice_str(YAML), &err));
        assert_string_equal(err.message, CASES[i].place);
        assert_string_equal(err.field, CASES[i].field);
        assert_int_equal(err.class, ERROR_INVALID);
    }
    /* What can't be read has a place too. */
    struct error err = {0};
    error_set_field(&err, "name", "bad");
    assert_false(pb_yaml_locate("f.yaml", slice_str("\xff"), &err));
    assert_string_equal(err.message, "f.yaml:1:1: name: bad");
}

/* ── Writing ──────────────────────────────────────────────────────────────────────────────────── */

static void test_write(void **state)
{
    static const char YAML[] = "i32: -3\n"
                               "text: \"a\\\"\\\\\\n\\x01\\x85\\u2028\\ufeffé\"\n"
                               "r_text:\n"
                               "  - /run/x.sock\n"
                               "  - spiffe://example.org/ns/a\n"
                               "  - \"true\"\n"
                               "  - \"No\"\n"
                               "  - \"1\"\n"
                               "  - \"\"\n"
                               "  - \"a:\"\n"
                               "  - \"a b\"\n"
                               "  - \"-\"\n"
                               "r_raw:\n"
                               "  - \"\"\n"
                               "  - \"AA\"\n"
                               "children:\n"
                               "  - {}\n"
                               "  - i32: 1\n"
                               "    children:\n"
                               "      - r_i32:\n"
                               "          - 1\n"
                               "          - 2\n"
                               "        labels:\n"
                               "          \"\": \"\"\n"
                               "          a: x\n"
                               "by_number:\n"
                               "  1: {}\n"
                               "  20:\n"
                               "    child: {}\n"
                               "    colour: red\n";
    struct error err = {0};
    ProtobufCMessage *message = nullptr;

    (void)state;
    assert_ok(pb_from_yaml(THREE, "f.yaml", slice_str(YAML), &message, &err));
    CLEANUP(buf_done) struct buf yaml;
    buf_init(&yaml, 4096);
    assert_ok(pb_to_yaml(message, &yaml, &err));
    buf_put_u8(&yaml, '\0');
    /* By the numbers of the fields: colour before child. */
    CLEANUP(buf_done) struct buf expected;
    buf_init(&expected, 4096);
    const char *child = strstr(YAML, "    child: {}\n");
    buf_put(&expected, slice(YAML, (size_t)(child - YAML)));
    buf_put(&expected, slice_str("    colour: red\n    child: {}\n"));
    buf_put_u8(&expected, '\0');
    assert_string_equal((const char *)buf_slice(&yaml).data,
                        (const char *)buf_slice(&expected).data);
    CLEANUP(buf_done) struct buf small;
    buf_init(&small, 10);
    assert_fails(pb_to_yaml(message, &small, &err), ERROR_EXHAUSTED);
    pb_free(message);
}

static void test_write_refuses(void **state)
{
    struct error err = {0};
    Pbtest__Three three = PBTEST__THREE__INIT;
    Pbtest__Three__LabelsEntry entry = PBTEST__THREE__LABELS_ENTRY__INIT, *entries[] = {&entry};
    Pbtest__Real real = PBTEST__REAL__INIT;
    char key[PB_YAML_KEY_MAX + 2] = {0};

    (void)state;
    CLEANUP(buf_done) struct buf out;
    buf_init(&out, 4096);
    mem_copy(&three.colour, &(int){99}, sizeof three.colour); /* no enumerator */
    assert_fails(pb_to_yaml(&three.base, &out, &err), ERROR_INTERNAL);
    three.colour = 0;
    memset(key, 'k', sizeof key - 1);
    entry.key = key;
    three.n_labels = 1;
    three.labels = entries;
    assert_fails(pb_to_yaml(&three.base, &out, &err), ERROR_INTERNAL);
    real.wide = 1;
    assert_fails(pb_to_yaml(&real.base, &out, &err), ERROR_INTERNAL);
    assert_fails(pb_to_json(&real.base, &out, &err), ERROR_INTERNAL);
}

static void test_json(void **state)
{
    static const char YAML[] =
        "i32: -3\ni64: -4\nu64: 5\ntruth: true\ncolour: red\n"
        "text: \"a\\\"\\\\\\n\\x7fé\"\nraw: AAE=\n"
        "child: {at: {seconds: 0}}\nr_s64: [1, 2]\nr_text: [x]\n"
        "labels: {b: y, a: x}\nby_truth: {true: AA}\nby_number: {20: {}, 3: {}}\n"
        "choice_number: 0\nat: {seconds: -1, nanos: 5000000}\n";
    static const char *const PARTS[] = {
        "{\"i32\":-3,\"i64\":\"-4\",\"u32\":0,\"u64\":\"5\",",
        "\"truth\":true,\"colour\":\"COLOUR_RED\",\"text\":\"a\\\"\\\\\\u000a\\u007fé\",\"raw\":\"AAE=\",",
        "\"rI32\":[],\"rS64\":[\"1\",\"2\"],",
        "\"labels\":{\"a\":\"x\",\"b\":\"y\"},\"byNumber\":{\"3\":{",
        "\"byTruth\":{\"true\":\"AA==\"},\"choiceNumber\":\"0\",\"at\":\"1969-12-31T23:59:59.005Z\",\"far\":0}",
        "\"at\":\"1970-01-01T00:00:00Z\"",
    };
    struct error err = {0};
    ProtobufCMessage *message = nullptr;

    (void)state;
    assert_ok(pb_from_yaml(THREE, "f.yaml", slice_str(YAML), &message, &err));
    CLEANUP(buf_done) struct buf json;
    buf_init(&json, 65536);
    assert_ok(pb_to_json(message, &json, &err));
    buf_put_u8(&json, '\0');
    for (size_t i = 0; i < ARRAY_LEN(PARTS); i++)
        testlib_assert_contains((const char *)buf_slice(&json).data, PARTS[i], __FILE__, __LINE__);
    CLEANUP(buf_done) struct buf small;
    buf_init(&small, 10);
    assert_fails(pb_to_json(message, &small, &err), ERROR_EXHAUSTED);
    pb_free(message);
    /* Unknown enum numbers stay numbers; times beyond the year 9999 stay messages. */
    Google__Protobuf__Timestamp at = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
    Pbtest__Three three = PBTEST__THREE__INIT;
    at.seconds = INT64_MAX;
    three.at = &at;
    mem_copy(&three.colour, &(int){99}, sizeof three.colour); /* no enumerator */
    buf_clear(&json);
    assert_ok(pb_to_json(&three.base, &json, &err));
    buf_put_u8(&json, '\0');
    const char *text = (const char *)buf_slice(&json).data;
    testlib_assert_contains(text, "\"colour\":99,", __FILE__, __LINE__);
    testlib_assert_contains(text, "\"at\":{\"seconds\":\"9223372036854775807\",\"nanos\":0}",
                            __FILE__, __LINE__);
}

/* ── Memory ───────────────────────────────────────────────────────────────────────────────────── */

static bool sweep(void *arg, struct error *err)
{
    static const char YAML[] = "name: a\nlisten: {socket: s, allow: [x]}\nsalt: AA\n"
                               "by_name: {b: {socket: y}, a: {socket: x}}\n";
    CLEANUP(pb_free_at) ProtobufCMessage *message = nullptr;
    CLEANUP(buf_done) struct buf out;

    (void)arg;
    buf_init(&out, 4096);
    return pb_from_yaml(TWO, "f.yaml", slice_str(YAML), &message, err) &&
           pb_to_yaml(message, &out, err) && pb_to_json(message, &out, err);
}

static void test_allocation_sweep(void **state)
{
    (void)state;
    testlib_allocation_sweep(sweep, nullptr);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_floods),
        cmocka_unit_test(test_every_kind),
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_locate),
        cmocka_unit_test(test_write),
        cmocka_unit_test(test_write_refuses),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_allocation_sweep),
    };
    return cmocka_run_group_tests_name("pb/yaml", tests, nullptr, nullptr);
}
