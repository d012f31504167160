/* keyring/commitment.h */
#include "testlib/testlib.h"

#include "base/mem.h"
#include "base/text.h"
#include "keyring/commitment.h"

#include <stdio.h>

static const uint8_t r[COMMITMENT_R_SIZE] = "r is thirty-two bytes of random.";

/* printf 'postern commit v1\0\0\0\x07db/pass\0\0\0\x01\0\0\0\0\0\0\0\x02r is …hunter2' | sha256sum */
static void is_what_the_protocol_says(void **state)
{
    (void)state;
    struct error err = {0};
    char hex[2 * SHA256_SIZE + 1];
    uint8_t found[SHA256_SIZE];
    const struct version_name name = {"db/pass", 1, 2};
    assert_ok(commitment_compute(&name, SLICE_OF(r), slice_str("hunter2"), found, &err));
    assert_string_equal(hex_encode(SLICE_OF(found), hex),
                        "1e2b9c494b3d6863333fd503a130113461bda85c1e867bda6b2fd3241be116ea");
}

static void compute(const struct version_name *name, struct slice with, const char *value,
                    uint8_t ret[static SHA256_SIZE])
{
    struct error err = {0};
    assert_ok(commitment_compute(name, with, slice_str(value), ret, &err));
}

/* Each part counts, and where one ends and the next begins. */
static void commits_to_every_part(void **state)
{
    (void)state;
    static const uint8_t other_r[COMMITMENT_R_SIZE] = "another thirty-two bytes of rand";
    static const struct {
        struct version_name name;
        const uint8_t *r;
        const char *value;
    } cases[] = {
        {{"a", 1, 1}, r, "v"},       {{"b", 1, 1}, r, "v"}, {{"ab", 1, 1}, r, "v"},
        {{"a", 2, 1}, r, "v"},       {{"a", 1, 2}, r, "v"}, {{"a", 0, 1ULL << 32 | 1}, r, "v"},
        {{"a", 1, 1}, other_r, "v"}, {{"a", 1, 1}, r, "w"}, {{"a", 1, 1}, r, ""},
        {{"", 1, 1}, r, "v"},
    };
    uint8_t found[ARRAY_LEN(cases)][SHA256_SIZE];
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        compute(&cases[i].name, slice(cases[i].r, COMMITMENT_R_SIZE), cases[i].value, found[i]);
        for (size_t j = 0; j < i; j++)
            assert_memory_not_equal(found[i], found[j], SHA256_SIZE);
    }
}

static void refuses(struct slice with, const char *name, enum error_class class)
{
    struct error err = {0};
    uint8_t found[SHA256_SIZE] = {0xa5};
    const struct version_name version = {name, 1, 1};
    assert_fails(commitment_compute(&version, with, slice_str("v"), found, &err), class);
    assert_int_equal(found[0], 0xa5);
}

static void refuses_another_r_and_endless_names(void **state)
{
    (void)state;
    char name[2048];
    memset(name, 'n', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    refuses(slice(r, COMMITMENT_R_SIZE - 1), "n", ERROR_INVALID);
    refuses(slice(r, 0), "n", ERROR_INVALID);
    refuses(SLICE_OF(r), name, ERROR_EXHAUSTED);
}

static bool compute_one(void *arg, struct error *err)
{
    (void)arg;
    uint8_t found[SHA256_SIZE];
    const struct version_name version = {"n", 1, 1};
    return commitment_compute(&version, SLICE_OF(r), slice_str("v"), found, err);
}

static void survives_without_memory(void **state)
{
    (void)state;
    testlib_allocation_sweep(compute_one, nullptr);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_what_the_protocol_says),
        cmocka_unit_test(commits_to_every_part),
        cmocka_unit_test(refuses_another_r_and_endless_names),
        cmocka_unit_test(survives_without_memory),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
