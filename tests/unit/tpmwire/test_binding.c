#include "vectors.h"

#include "base/mem.h"
#include "tpmwire/binding.h"

static const uint8_t nonce[32] = {1};
static const uint8_t exporter[32] = {2};

struct names {
    TPM2B_NAME ak, wrap, req, counter;
};

static struct binding binding_of(const struct names *names)
{
    return (struct binding){
        .nonce = SLICE_OF(nonce),
        .agent_id = slice_str("0123456789abcdef0123456789abcdef"),
        .ak = &names->ak,
        .wrap = &names->wrap,
        .req = &names->req,
        .counter = &names->counter,
        .csr = slice_str("csr"),
        .hello = slice_str("hello"),
        .exporter = SLICE_OF(exporter),
    };
}

static struct names names_of(void)
{
    return (struct names){vector_name("ak.name"), vector_name("wrap.name"), vector_name("req.name"),
                          vector_name("counter.name")};
}

/* Written out once more, by hand, from the protocol's text. */
static void test_layout(void **)
{
    struct error err = {0};
    struct names names = names_of();
    struct binding binding = binding_of(&names);
    static const char *const tags[] = {"postern quote v1", "postern certify v1",
                                       "postern counter v1"};
    for (int kind = 0; kind < 3; kind++) {
        uint8_t csr[32];
        uint8_t hello[32];
        uint8_t expected[32];
        uint8_t digest[32];
        assert_ok(sha256(slice_str("csr"), csr, &err));
        assert_ok(sha256(slice_str("hello"), hello, &err));
        CLEANUP(buf_done) struct buf all;
        buf_init(&all, 4096);
        const struct slice parts[] = {
            slice_str(tags[kind]),
            SLICE_OF(nonce),
            slice_str("0123456789abcdef0123456789abcdef"),
            vector("ak.name"),
            vector("wrap.name"),
            vector("req.name"),
            vector("counter.name"),
            SLICE_OF(csr),
            SLICE_OF(hello),
            SLICE_OF(exporter),
        };
        for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
            buf_put_u32(&all, (uint32_t)parts[i].len);
            buf_put(&all, parts[i]);
        }
        assert_ok(sha256(buf_slice(&all), expected, &err));
        assert_ok(binding_digest((enum binding_kind)kind, &binding, digest, &err));
        assert_memory_equal(digest, expected, 32);
    }
}

/* Every part counts, and Names are not interchangeable. */
static void test_every_part_counts(void **)
{
    struct error err = {0};
    struct names names = names_of();
    const struct binding good = binding_of(&names);
    static const uint8_t other[32] = {3};
    uint8_t digest[9][32];
    struct binding changed[9];
    for (size_t i = 0; i < ARRAY_LEN(changed); i++) {
        changed[i] = good;
    }
    changed[1].nonce = SLICE_OF(other);
    changed[2].agent_id = slice_str("x");
    changed[3].ak = good.wrap;
    changed[4].wrap = good.ak;
    changed[5].req = good.counter;
    changed[6].csr = slice_str("another");
    changed[7].hello = slice_str("another");
    changed[8].exporter = SLICE_OF(other);
    for (size_t i = 0; i < ARRAY_LEN(changed); i++) {
        assert_ok(binding_digest(BINDING_QUOTE, &changed[i], digest[i], &err));
        for (size_t j = 0; j < i; j++) {
            assert_memory_not_equal(digest[i], digest[j], 32);
        }
    }
    struct binding counter = good;
    counter.counter = good.req;
    uint8_t another[32];
    assert_ok(binding_digest(BINDING_QUOTE, &counter, another, &err));
    assert_memory_not_equal(another, digest[0], 32);
}

static void test_refusals(void **)
{
    struct error err = {0};
    struct names names = names_of();
    const struct binding good = binding_of(&names);
    static const TPM2B_NAME empty = {0};
    struct binding bad[11];
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        bad[i] = good;
    }
    bad[0].nonce.len = 31;
    bad[1].nonce.len = 0;
    bad[2].agent_id.len = 0;
    bad[3].ak = &empty;
    bad[4].wrap = &empty;
    bad[5].req = &empty;
    bad[6].counter = &empty;
    bad[7].csr.len = 0;
    bad[8].hello.len = 0;
    bad[9].exporter.len = 31;
    bad[10].exporter.len = 0;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        uint8_t digest[32] = {0xa5, 0xa5};
        assert_fails(binding_digest(BINDING_QUOTE, &bad[i], digest, &err), ERROR_INVALID);
        assert_int_equal(digest[0], 0xa5);
        assert_int_equal(digest[1], 0xa5);
    }
    struct binding big = good; /* an agent_id that nobody has */
    static const uint8_t long_id[1024];
    big.agent_id = SLICE_OF(long_id);
    uint8_t digest[32];
    assert_fails(binding_digest(BINDING_QUOTE, &big, digest, &err), ERROR_EXHAUSTED);
}

static bool sweep_body(void *arg, struct error *err)
{
    uint8_t digest[32];
    return binding_digest(BINDING_COUNTER, arg, digest, err);
}

static void test_without_memory(void **)
{
    struct names names = names_of();
    struct binding binding = binding_of(&names);
    testlib_allocation_sweep(sweep_body, &binding);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layout),
        cmocka_unit_test(test_every_part_counts),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_without_memory),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
