/* keyring/slot.h */
#include "testlib/testlib.h"

#include "base/crypt.h"
#include "base/mem.h"
#include "keyring/slot.h"

static uint8_t big[SLOT_SIZE_MAX];

static const struct slot_parts *small(void)
{
    static struct slot_parts parts;
    parts = (struct slot_parts){
        .header = slice_str("header"),
        .ciphertext = slice_str("ciphertext and tag"),
        .packets = slice_str("packets"),
    };
    return &parts;
}

static void encode(const struct slot_parts *parts, struct buf *ret)
{
    struct error err = {0};
    buf_init(ret, 2 * SLOT_SIZE_MAX);
    assert_ok(slot_encode(parts, ret, &err));
}

static void assert_same(const struct slot_parts *a, const struct slot_parts *b)
{
    assert_true(slice_equal(a->header, b->header));
    assert_true(slice_equal(a->ciphertext, b->ciphertext));
    assert_true(slice_equal(a->packets, b->packets));
}

static void decodes_what_it_encoded(void **state)
{
    (void)state;
    struct error err = {0};
    const struct slot_parts cases[] = {
        *small(),
        {},
        {.packets = slice(big, 100'000)},
        {.header = slice(big, SLOT_HEADER_MAX), .ciphertext = slice(big, 1'000'000)},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        CLEANUP(buf_done) struct buf file;
        struct slot_parts found;
        encode(&cases[i], &file);
        assert_ok(slot_decode(buf_slice(&file), &found, &err));
        assert_same(&cases[i], &found);
    }
}

/* docs/protocol.md: magic, three prefixed parts, the digest of all before it. */
static void is_what_the_protocol_says(void **state)
{
    (void)state;
    struct error err = {0};
    static const char body[] = "PSLOT1\0\0\0\0\0\6header\0\0\0\22ciphertext and tag\0\0\0\7packets";
    uint8_t digest[SHA256_SIZE];
    CLEANUP(buf_done) struct buf file;
    encode(small(), &file);
    assert_int_equal(file.len, sizeof(body) - 1 + SHA256_SIZE);
    assert_memory_equal(file.data, body, sizeof(body) - 1);
    assert_ok(sha256(slice(body, sizeof(body) - 1), digest, &err));
    assert_memory_equal(file.data + sizeof(body) - 1, digest, SHA256_SIZE);
}

static void appends(void **state)
{
    (void)state;
    struct error err = {0};
    struct slot_parts found;
    CLEANUP(buf_done) struct buf file;
    buf_init(&file, 4096);
    buf_put(&file, slice_str("before"));
    assert_ok(slot_encode(small(), &file, &err));
    assert_ok(slot_decode(slice(file.data + 6, file.len - 6), &found, &err));
    assert_same(small(), &found);
}

static void refuse(struct slice file, const char *says)
{
    struct error err = {0};
    struct slot_parts found, poison;
    memset(&found, 0xa5, sizeof(found));
    poison = found;
    assert_fails(slot_decode(file, &found, &err), ERROR_INVALID);
    if (says)
        assert_error_contains(says);
    assert_memory_equal(&found, &poison, sizeof(found));
}

/* At every byte: cut there, changed there, and what a crash may leave: zeros from there on. */
static void a_torn_file_is_none(void **state)
{
    (void)state;
    CLEANUP(buf_done) struct buf file, torn;
    encode(small(), &file);
    buf_init(&torn, file.len);
    for (size_t i = 0; i < file.len; i++) {
        refuse(slice(file.data, i), nullptr);
        file.data[i] ^= 0x80;
        refuse(buf_slice(&file), nullptr);
        file.data[i] ^= 0x80;
        buf_clear(&torn);
        buf_put(&torn, slice(file.data, i));
        uint8_t *zeros = buf_extend(&torn, file.len - i);
        assert_non_null(zeros);
        memset(zeros, 0, file.len - i);
        if (memcmp(torn.data, file.data, file.len) != 0) /* the digest may end in a zero */
            refuse(buf_slice(&torn), nullptr);
    }
    buf_put_u8(&file, 0);
    refuse(buf_slice(&file), "torn");
    refuse(slice(nullptr, 0), "not a slot");
}

/* Whole, by its digest, but made by nobody of ours. */
static void sign_off(struct buf *file)
{
    struct error err = {0};
    uint8_t digest[SHA256_SIZE];
    assert_ok(sha256(buf_slice(file), digest, &err));
    buf_put(file, SLICE_OF(digest));
    assert_ok(buf_ok(file, &err));
}

static void lengths_must_fit(void **state)
{
    (void)state;
    static const struct {
        uint32_t header, ciphertext, packets;
        size_t extra;
    } cases[] = {
        {1, 0, 0, 0},          {0, 0, 1, 0}, {0, 0, 0, 1},  {UINT32_MAX, 0, 0, 8},
        {0, UINT32_MAX, 0, 8}, {4, 4, 4, 0}, {8, 8, 8, 23},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        CLEANUP(buf_done) struct buf file;
        buf_init(&file, 4096);
        buf_put(&file, slice("PSLOT1\0", 8));
        buf_put_u32(&file, cases[i].header);
        buf_put_u32(&file, cases[i].ciphertext);
        buf_put_u32(&file, cases[i].packets);
        buf_put(&file, slice(big, cases[i].extra));
        sign_off(&file);
        refuse(buf_slice(&file), "lengths");
    }
    CLEANUP(buf_done) struct buf file;
    buf_init(&file, SLOT_SIZE_MAX);
    buf_put(&file, slice("PSLOT1\0", 8));
    buf_put_prefixed(&file, slice(big, SLOT_HEADER_MAX + 1));
    buf_put_u64(&file, 0);
    sign_off(&file);
    refuse(buf_slice(&file), "lengths");
}

static void refuse_parts(const struct slot_parts *parts, size_t max)
{
    struct error err = {0};
    CLEANUP(buf_done) struct buf file;
    buf_init(&file, max);
    assert_fails(slot_encode(parts, &file, &err), ERROR_EXHAUSTED);
    assert_int_equal(buf_slice(&file).len, 0);
}

static void sizes_have_limits(void **state)
{
    (void)state;
    struct error err = {0};
    constexpr size_t FRAME = 8 + 12 + SHA256_SIZE;
    refuse_parts(&(struct slot_parts){.header = slice(big, SLOT_HEADER_MAX + 1)}, SLOT_SIZE_MAX);
    refuse_parts(&(struct slot_parts){.packets = slice(big, SLOT_SIZE_MAX - FRAME + 1)},
                 2 * SLOT_SIZE_MAX);
    refuse_parts(&(struct slot_parts){.ciphertext = slice(big, SLOT_SIZE_MAX)}, 2 * SLOT_SIZE_MAX);
    refuse_parts(&(struct slot_parts){.ciphertext = slice(big, SLOT_SIZE_MAX / 2),
                                      .packets = slice(big, SLOT_SIZE_MAX / 2)},
                 2 * SLOT_SIZE_MAX);
    refuse_parts(&(struct slot_parts){.ciphertext = slice(big, SIZE_MAX - 10)}, SLOT_SIZE_MAX);
    refuse_parts(small(), 40); /* the buffer's own limit */

    const struct slot_parts most = {.packets = slice(big, SLOT_SIZE_MAX - FRAME)};
    struct slot_parts found;
    CLEANUP(buf_done) struct buf file;
    encode(&most, &file);
    assert_int_equal(file.len, SLOT_SIZE_MAX);
    assert_ok(slot_decode(buf_slice(&file), &found, &err));
    buf_put_u8(&file, 0);
    refuse(buf_slice(&file), "not a slot");
}

static bool encode_one(void *arg, struct error *err)
{
    (void)arg;
    CLEANUP(buf_done) struct buf file;
    buf_init(&file, 4096);
    return slot_encode(small(), &file, err);
}

static void survives_without_memory(void **state)
{
    (void)state;
    testlib_allocation_sweep(encode_one, nullptr);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decodes_what_it_encoded),
        cmocka_unit_test(is_what_the_protocol_says),
        cmocka_unit_test(appends),
        cmocka_unit_test(a_torn_file_is_none),
        cmocka_unit_test(lengths_must_fit),
        cmocka_unit_test(sizes_have_limits),
        cmocka_unit_test(survives_without_memory),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
