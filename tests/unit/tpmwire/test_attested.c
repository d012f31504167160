#include "vectors.h"

#include "base/mem.h"
#include "tpmwire/attested.h"
#include "tpmwire/pcr.h"
#include "tpmwire/public.h"

static bool parse_as(struct slice wire, TPMI_ST_ATTEST type, struct error *err)
{
    TPMS_ATTEST attested;
    memset(&attested, 0xa5, sizeof attested);
    TPMS_ATTEST poison = attested;
    bool ok = attested_parse(wire, type, &attested, err);
    if (!ok) {
        assert_memory_equal(&attested, &poison, sizeof poison);
    }
    return ok;
}

static bool parse_quote(struct slice wire, struct error *err)
{
    return parse_as(wire, TPM2_ST_ATTEST_QUOTE, err);
}

static bool parse_certify(struct slice wire, struct error *err)
{
    return parse_as(wire, TPM2_ST_ATTEST_CERTIFY, err);
}

static bool parse_nv(struct slice wire, struct error *err)
{
    return parse_as(wire, TPM2_ST_ATTEST_NV, err);
}

static void test_parse_takes_the_whole_only(void **)
{
    assert_whole_only(vector("quote_ak.attest"), parse_quote);
    assert_whole_only(vector("quote_ak_rsa.attest"), parse_quote);
    assert_whole_only(vector("certify.attest"), parse_certify);
    assert_whole_only(vector("nv_certify.attest"), parse_nv);
}

static void test_quote_says_what_was_asked(void **)
{
    struct error err = {0};
    TPMS_ATTEST attested;
    struct pcr_selection selection;
    struct pcr_values values;
    TPM2B_DIGEST digest;
    char text[PCR_TEXT_MAX];
    assert_ok(attested_parse(vector("quote_ak.attest"), TPM2_ST_ATTEST_QUOTE, &attested, &err));
    assert_true(slice_equal(slice(attested.extraData.buffer, attested.extraData.size),
                            vector("quote.nonce")));
    assert_true(slice_equal(name_slice(&attested.qualifiedSigner), vector("ak.qualified")));
    const TPMS_QUOTE_INFO *quote = &attested.attested.quote;
    assert_ok(pcr_selection_from_tpml(&quote->pcrSelect, &selection, &err));
    assert_string_equal(pcr_selection_format(&selection, text), "sha256:0,2,4,7+sha384:0,7");
    vector_pcrs("quote_ak.pcrs", text, &values);
    assert_ok(pcr_composite_digest(TPM2_ALG_SHA256, &selection, &values, &digest, &err));
    assert_true(slice_equal(slice(quote->pcrDigest.buffer, quote->pcrDigest.size),
                            slice(digest.buffer, digest.size)));
}

static void test_certifications_say_what_was_asked(void **)
{
    struct error err = {0};
    TPMS_ATTEST attested;
    assert_ok(attested_parse(vector("certify.attest"), TPM2_ST_ATTEST_CERTIFY, &attested, &err));
    assert_true(slice_equal(name_slice(&attested.attested.certify.name), vector("wrap.name")));
    assert_true(slice_equal(name_slice(&attested.attested.certify.qualifiedName),
                            vector("wrap.qualified")));
    assert_ok(attested_parse(vector("nv_certify.attest"), TPM2_ST_ATTEST_NV, &attested, &err));
    const TPMS_NV_CERTIFY_INFO *nv = &attested.attested.nv;
    assert_true(slice_equal(name_slice(&nv->indexName), vector("counter.name")));
    assert_int_equal(nv->offset, 0);
    assert_int_equal(nv->nvContents.size, 8);
}

static void test_parse_refuses(void **)
{
    struct error err = {0};
    struct slice quote = vector("quote_ak.attest");
    assert_fails(parse_certify(quote, &err), ERROR_INVALID);
    assert_error_contains("type");
    assert_fails(parse_nv(quote, &err), ERROR_INVALID);
    uint8_t changed[sizeof(TPMS_ATTEST) + 1] = {0};
    for (size_t i = 0; i < 4; i++) { /* any byte of the magic */
        mem_copy(changed, quote.data, quote.len);
        changed[i] ^= 1;
        assert_fails(parse_quote(slice(changed, quote.len), &err), ERROR_INVALID);
        assert_error_contains("magic");
    }
    mem_copy(changed, quote.data, quote.len);
    changed[6] = 0xff; /* qualifiedSigner longer than Names are */
    assert_fails(parse_quote(slice(changed, quote.len), &err), ERROR_INVALID);
    assert_fails(parse_quote(slice(changed, sizeof changed), &err), ERROR_INVALID);
    assert_error_contains("at most");
}

/* What the verifier's table of checks needs: the structure of a forged or a longer one. */
static void test_read_and_check_apart(void **)
{
    struct error err = {0};
    struct slice quote = vector("quote_ak.attest");
    uint8_t longer[sizeof(TPMS_ATTEST)] = {0};
    mem_copy(longer, quote.data, quote.len);
    longer[0] = 0;
    TPMS_ATTEST attested;
    size_t used = 0;
    assert_ok(
        attested_read(slice(longer, quote.len + 3), TPM2_ST_ATTEST_QUOTE, &attested, &used, &err));
    assert_int_equal(used, quote.len);
    assert_int_equal(attested.magic, 0x00544347);
    assert_true(slice_equal(slice(attested.extraData.buffer, attested.extraData.size),
                            vector("quote.nonce")));
    assert_fails(attested_check(&attested, used, used, &err), ERROR_INVALID);
    assert_error_contains("magic");
    attested.magic = TPM2_GENERATED_VALUE;
    assert_fails(attested_check(&attested, used, used + 3, &err), ERROR_INVALID);
    assert_error_contains("3 trailing");
    assert_ok(attested_check(&attested, used, used, &err));
}

/* Every single bit flip either parses to the same bytes or is refused: nothing is read past. */
static void test_flipped_bits(void **)
{
    struct error err = {0};
    struct slice quote = vector("quote_ak.attest");
    uint8_t *changed = mem_new(quote.len, 1);
    size_t refused = 0;
    for (size_t bit = 0; bit < quote.len * 8; bit++) {
        mem_copy(changed, quote.data, quote.len);
        changed[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        if (!parse_quote(slice(changed, quote.len), &err)) {
            assert_int_equal(err.class, ERROR_INVALID);
            refused++;
        }
    }
    mem_free(changed);
    assert_true(refused >= 48); /* magic and type at least */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse_takes_the_whole_only),
        cmocka_unit_test(test_quote_says_what_was_asked),
        cmocka_unit_test(test_certifications_say_what_was_asked),
        cmocka_unit_test(test_parse_refuses),
        cmocka_unit_test(test_read_and_check_apart),
        cmocka_unit_test(test_flipped_bits),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
