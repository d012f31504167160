/* keyring/envelope.h */
#include "testlib/testlib.h"

#include "base/crypt.h"
#include "base/mem.h"
#include "base/text.h"
#include "keyring/envelope.h"

static const char header[] = "a header, in which the salt is";
static const char plain[] = "what nobody may see";
static uint8_t salt[ENVELOPE_SALT_SIZE];
static struct secret *key, *other;

static int set_up(void **state)
{
    (void)state;
    struct error err = {0};
    uint8_t bytes[NODE_KEY_SIZE];
    for (size_t i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (uint8_t)i;
        salt[i] = (uint8_t)(0x80 + i);
    }
    assert_ok(secret_from(SLICE_OF(bytes), &key, &err));
    assert_ok(secret_random(NODE_KEY_SIZE, &other, &err));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    secret_free(key);
    secret_free(other);
    return 0;
}

static void seal(enum envelope_kind kind, const char *with, struct buf *ret)
{
    struct error err = {0};
    buf_init(ret, 4096);
    assert_ok(
        envelope_seal(kind, key, slice_str(with), SLICE_OF(salt), slice_str(plain), ret, &err));
}

static void opens_what_it_sealed(void **state)
{
    (void)state;
    struct error err = {0};
    static const enum envelope_kind kinds[] = {ENVELOPE_PACKET, ENVELOPE_SLOT};
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        CLEANUP(buf_done) struct buf sealed;
        CLEANUP(secret_free_at) struct secret *opened = nullptr;
        seal(kinds[i], header, &sealed);
        assert_int_equal(sealed.len, strlen(plain) + AEAD_TAG_SIZE);
        assert_ok(envelope_open(kinds[i], key, slice_str(header), SLICE_OF(salt),
                                buf_slice(&sealed), &opened, &err));
        assert_true(slice_is(secret_slice(opened), plain));
    }
}

/* Against the words of docs/protocol.md, from the primitives. */
static void is_what_the_protocol_says(void **state)
{
    (void)state;
    struct error err = {0};
    static const char *const labels[] = {"postern packet v1", "postern slot v1"};
    for (size_t i = 0; i < ARRAY_LEN(labels); i++) {
        CLEANUP(buf_done) struct buf info, sealed, expected;
        CLEANUP(secret_free_at) struct secret *material = nullptr;
        uint8_t digest[SHA256_SIZE];
        buf_init(&info, 256);
        buf_init(&expected, 4096);
        assert_ok(sha256(slice_str(header), digest, &err));
        buf_put(&info, slice_str(labels[i]));
        buf_put(&info, SLICE_OF(digest));
        assert_ok(hkdf_sha256(key, SLICE_OF(salt), buf_slice(&info), 44, &material, &err));
        struct slice bytes = secret_slice(material);
        assert_ok(aead_seal(slice(bytes.data, 32), slice(bytes.data + 32, 12), slice_str(header),
                            slice_str(plain), &expected, &err));
        seal(i == 0 ? ENVELOPE_PACKET : ENVELOPE_SLOT, header, &sealed);
        assert_true(slice_equal(buf_slice(&sealed), buf_slice(&expected)));
    }
}

/* From another implementation (Python's cryptography), with the key and salt of set_up. */
static void is_the_recorded_vector(void **state)
{
    (void)state;
    CLEANUP(buf_done) struct buf sealed;
    char hex[2 * 64 + 1];
    seal(ENVELOPE_PACKET, header, &sealed);
    assert_string_equal(hex_encode(buf_slice(&sealed), hex),
                        "1a65f881332cfbf0f78bebf8e9a98fa1ce136fd7e87d784a6e0f42d87c3ef66f8a9905");
}

static void refuse(enum envelope_kind kind, const struct secret *with, const char *under,
                   struct slice by, struct slice sealed, enum error_class class)
{
    struct error err = {0};
    struct secret *opened = POISON;
    assert_fails(envelope_open(kind, with, slice_str(under), by, sealed, &opened, &err), class);
    assert_ptr_equal(opened, POISON);
}

static void refuses_what_it_did_not_seal(void **state)
{
    (void)state;
    CLEANUP(buf_done) struct buf sealed;
    uint8_t other_salt[ENVELOPE_SALT_SIZE];
    mem_copy(other_salt, salt, sizeof(salt));
    other_salt[31] ^= 1;
    seal(ENVELOPE_PACKET, header, &sealed);
    const struct slice whole = buf_slice(&sealed);
    refuse(ENVELOPE_SLOT, key, header, SLICE_OF(salt), whole, ERROR_DENIED);
    refuse(ENVELOPE_PACKET, other, header, SLICE_OF(salt), whole, ERROR_DENIED);
    refuse(ENVELOPE_PACKET, key, "another header", SLICE_OF(salt), whole, ERROR_DENIED);
    refuse(ENVELOPE_PACKET, key, "", SLICE_OF(salt), whole, ERROR_DENIED);
    refuse(ENVELOPE_PACKET, key, header, SLICE_OF(other_salt), whole, ERROR_DENIED);
    for (size_t i = 0; i < sealed.len; i++) {
        sealed.data[i] ^= 1;
        refuse(ENVELOPE_PACKET, key, header, SLICE_OF(salt), whole, ERROR_DENIED);
        sealed.data[i] ^= 1;
    }
    for (size_t len = 0; len < sealed.len; len++)
        refuse(ENVELOPE_PACKET, key, header, SLICE_OF(salt), slice(sealed.data, len),
               len <= AEAD_TAG_SIZE ? ERROR_INVALID : ERROR_DENIED);
    buf_put_u8(&sealed, 0);
    refuse(ENVELOPE_PACKET, key, header, SLICE_OF(salt), buf_slice(&sealed), ERROR_DENIED);
}

static void refuses_sizes_that_cannot_be(void **state)
{
    (void)state;
    struct error err = {0};
    CLEANUP(secret_free_at) struct secret *short_key = nullptr;
    CLEANUP(buf_done) struct buf sealed, none;
    buf_init(&none, 4096);
    seal(ENVELOPE_PACKET, header, &sealed);
    assert_ok(secret_random(16, &short_key, &err));
    refuse(ENVELOPE_PACKET, short_key, header, SLICE_OF(salt), buf_slice(&sealed), ERROR_INVALID);
    refuse(ENVELOPE_PACKET, nullptr, header, SLICE_OF(salt), buf_slice(&sealed), ERROR_INVALID);
    refuse(ENVELOPE_PACKET, key, header, slice(salt, 16), buf_slice(&sealed), ERROR_INVALID);
    refuse(ENVELOPE_PACKET, key, header, slice(nullptr, 0), buf_slice(&sealed), ERROR_INVALID);
    assert_fails(envelope_seal(ENVELOPE_SLOT, short_key, slice_str(header), SLICE_OF(salt),
                               slice_str(plain), &none, &err),
                 ERROR_INVALID);
    assert_fails(envelope_seal(ENVELOPE_SLOT, key, slice_str(header), slice(salt, 31),
                               slice_str(plain), &none, &err),
                 ERROR_INVALID);
    assert_int_equal(none.len, 0);
}

static bool both_ways(void *arg, struct error *err)
{
    (void)arg;
    CLEANUP(buf_done) struct buf sealed;
    CLEANUP(secret_free_at) struct secret *opened = nullptr;
    buf_init(&sealed, 4096);
    return envelope_seal(ENVELOPE_SLOT, key, slice_str(header), SLICE_OF(salt), slice_str(plain),
                         &sealed, err) &&
           envelope_open(ENVELOPE_SLOT, key, slice_str(header), SLICE_OF(salt), buf_slice(&sealed),
                         &opened, err);
}

static void survives_without_memory(void **state)
{
    (void)state;
    testlib_allocation_sweep(both_ways, nullptr);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opens_what_it_sealed),
        cmocka_unit_test(is_what_the_protocol_says),
        cmocka_unit_test(is_the_recorded_vector),
        cmocka_unit_test(refuses_what_it_did_not_seal),
        cmocka_unit_test(refuses_sizes_that_cannot_be),
        cmocka_unit_test(survives_without_memory),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
