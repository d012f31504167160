#include "vectors.h"

#include "base/file.h"
#include "base/mem.h"
#include "base/text.h"
#include "tpmwire/hash.h"
#include "tpmwire/pcr.h"
#include "tpmwire/public.h"

#include <stdio.h>

constexpr size_t VECTORS_MAX = 256;

static struct {
    char name[64];
    struct buf bytes;
} vectors[VECTORS_MAX];
static size_t vector_count;

static void load(void)
{
    struct error err = {0};
    CLEANUP(buf_done) struct buf file;
    buf_init(&file, 256 * 1024);
    assert_ok(file_read(TPMWIRE_VECTORS, &file, &err));
    buf_put_u8(&file, 0);
    assert_ok(buf_ok(&file, &err));
    char *rest = nullptr;
    for (char *line = strtok_r((char *)file.data, "\n", &rest); line;
         line = strtok_r(nullptr, "\n", &rest)) {
        char *equals = strstr(line, " = ");
        assert_non_null(equals);
        assert_true(vector_count < VECTORS_MAX);
        size_t len = (size_t)(equals - line);
        assert_true(len < sizeof vectors[0].name);
        mem_copy(vectors[vector_count].name, line, len);
        buf_init(&vectors[vector_count].bytes, 64 * 1024);
        assert_ok(hex_decode(equals + 3, &vectors[vector_count].bytes, &err));
        vector_count++;
    }
}

struct slice vector(const char *name)
{
    if (vector_count == 0) {
        load();
    }
    for (size_t i = 0; i < vector_count; i++) {
        if (strcmp(vectors[i].name, name) == 0) {
            return buf_slice(&vectors[i].bytes);
        }
    }
    print_error("no vector %s\n", name);
    fail();
    return slice(nullptr, 0);
}

TPMT_PUBLIC vector_area(const char *name)
{
    struct error err = {0};
    char full[64];
    snprintf(full, sizeof full, "%s.public", name);
    TPM2B_PUBLIC area;
    assert_ok(public_area_parse(vector(full), &area, &err));
    return area.publicArea;
}

TPM2B_NAME vector_name(const char *name)
{
    struct slice bytes = vector(name);
    TPM2B_NAME ret = {.size = (uint16_t)bytes.len};
    assert_true(bytes.len <= sizeof ret.name);
    mem_copy(ret.name, bytes.data, bytes.len);
    return ret;
}

void vector_pcrs(const char *name, const char *selection, struct pcr_values *ret)
{
    struct error err = {0};
    *ret = (struct pcr_values){0};
    assert_ok(pcr_selection_parse(selection, &ret->selection, &err));
    struct reader r = reader(vector(name));
    for (size_t i = 0; i < ret->selection.count; i++) {
        size_t size = tpm_hash_size(ret->selection.bank[i].alg);
        for (uint32_t mask = ret->selection.bank[i].mask; mask != 0; mask &= mask - 1) {
            TPM2B_DIGEST *value = &ret->value[ret->count++];
            value->size = (uint16_t)size;
            struct slice from = reader_take(&r, size);
            mem_copy(value->buffer, from.data, from.len);
        }
    }
    assert_true(reader_end(&r));
}

void assert_whole_only(struct slice wire, parse_function *parse)
{
    struct error err = {0};
    for (size_t n = 0; n <= wire.len + 1; n++) {
        uint8_t *copy = mem_new(n, 1);
        assert_non_null(copy);
        mem_copy(copy, wire.data, n < wire.len ? n : wire.len);
        bool ok = parse(slice(copy, n), &err);
        mem_free(copy);
        if (n == wire.len) {
            assert_ok(ok);
        } else {
            assert_fails(ok, ERROR_INVALID);
        }
    }
}
