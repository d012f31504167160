/*
 * What lib/tpmwire computes, for tools.sh to hold against tpm2-tools and a TPM. One subcommand each;
 * files are whole wire structures, results are files or a line of hex.
 */
#include "base/crypt.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/text.h"
#include "tpmwire/attested.h"
#include "tpmwire/credential.h"
#include "tpmwire/hash.h"
#include "tpmwire/import.h"
#include "tpmwire/nv.h"
#include "tpmwire/policy.h"
#include "tpmwire/public.h"
#include "tpmwire/signature.h"
#include "tpmwire/template.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <stdio.h>

constexpr size_t FILE_MAX = 16 * 1024;
constexpr uint32_t CREDENTIAL_FILE_MAGIC = 0xbadcc0de; /* tpm2_activatecredential's file header */

/* ── Arguments ─────────────────────────────────────────────────────────────────────────────── */

static bool read_area(const char *path, TPM2B_PUBLIC *ret, struct error *err)
{
    CLEANUP(buf_done) struct buf bytes;
    buf_init(&bytes, FILE_MAX);
    return file_read(path, &bytes, err) && public_area_parse(buf_slice(&bytes), ret, err);
}

static bool read_bytes(const char *path, void *ret, size_t len, struct error *err)
{
    CLEANUP(buf_done) struct buf bytes;
    buf_init(&bytes, FILE_MAX);
    if (!file_read(path, &bytes, err)) {
        return false;
    }
    if (bytes.len != len) {
        return error_set(err, ERROR_INVALID, "%s has %zu bytes instead of %zu", path, bytes.len,
                         len);
    }
    mem_copy(ret, bytes.data, len);
    return true;
}

static bool name_argument(const char *hex, TPM2B_NAME *ret, struct error *err)
{
    CLEANUP(buf_done) struct buf bytes;
    buf_init(&bytes, sizeof ret->name);
    if (!hex_decode(hex, &bytes, err)) {
        return false;
    }
    *ret = (TPM2B_NAME){.size = (uint16_t)bytes.len};
    mem_copy(ret->name, bytes.data, bytes.len);
    return true;
}

static bool number(const char *text, uint64_t *ret, struct error *err)
{
    return parse_u64(text, 0, UINT64_MAX, ret, err);
}

/* Values one after the other, as tpm2_pcrread writes them. */
static bool read_pcrs(const char *selection, const char *path, struct pcr_values *ret,
                      struct error *err)
{
    CLEANUP(buf_done) struct buf bytes;
    buf_init(&bytes, FILE_MAX);
    *ret = (struct pcr_values){0};
    if (!pcr_selection_parse(selection, &ret->selection, err) || !file_read(path, &bytes, err)) {
        return false;
    }
    struct reader r = reader(buf_slice(&bytes));
    for (size_t i = 0; i < ret->selection.count; i++) {
        size_t size = tpm_hash_size(ret->selection.bank[i].alg);
        for (uint32_t mask = ret->selection.bank[i].mask; mask != 0; mask &= mask - 1) {
            TPM2B_DIGEST *value = &ret->value[ret->count++];
            value->size = (uint16_t)size;
            struct slice from = reader_take(&r, size);
            mem_copy(value->buffer, from.data, from.len);
        }
    }
    return reader_end(&r) || error_set(err, ERROR_INVALID, "%s does not fit %s", path, selection);
}

static bool print(struct slice bytes)
{
    char text[2 * 512 + 1];
    return bytes.len <= 512 && puts(hex_encode(bytes, text)) >= 0;
}

static bool print_name(const TPM2B_NAME *name)
{
    return print(name_slice(name));
}

static bool print_digest(const TPM2B_DIGEST *digest)
{
    return print(slice(digest->buffer, digest->size));
}

static bool write_file(const char *path, const struct buf *bytes, struct error *err)
{
    return buf_ok(bytes, err) && file_write_atomic(path, buf_slice(bytes), 0600, err);
}

/* ── Names and templates ───────────────────────────────────────────────────────────────────── */

static bool run_name(char **arg, struct error *err)
{
    TPM2B_PUBLIC area;
    TPM2B_NAME name;
    return read_area(arg[0], &area, err) && public_area_name(&area.publicArea, &name, err) &&
           print_name(&name);
}

static bool run_qualified(char **arg, struct error *err)
{
    TPM2B_PUBLIC area;
    TPM2B_NAME name;
    TPM2B_NAME qualified;
    TPMI_RH_HIERARCHY hierarchy = arg[0][0] == 'e' ? TPM2_RH_ENDORSEMENT : TPM2_RH_OWNER;
    return read_area(arg[1], &area, err) && public_area_name(&area.publicArea, &name, err) &&
           name_qualified_primary(hierarchy, &name, &qualified, err) && print_name(&qualified);
}

static bool run_qualified_child(char **arg, struct error *err)
{
    TPM2B_PUBLIC area;
    TPM2B_NAME parent;
    TPM2B_NAME name;
    TPM2B_NAME qualified;
    return name_argument(arg[0], &parent, err) && read_area(arg[1], &area, err) &&
           public_area_name(&area.publicArea, &name, err) &&
           name_qualified(&parent, &name, &qualified, err) && print_name(&qualified);
}

static bool run_counter_name(char **arg, struct error *err)
{
    uint64_t index;
    TPMS_NV_PUBLIC area;
    TPM2B_NAME name;
    if (!number(arg[0], &index, err)) {
        return false;
    }
    nv_counter_area((TPMI_RH_NV_INDEX)index, arg[1][0] == 'w', &area);
    return nv_area_name(&area, &name, err) && print_name(&name);
}

static bool run_template(char **arg, struct error *err)
{
    TPM2B_PUBLIC area;
    if (!read_area(arg[0], &area, err)) {
        return false;
    }
    for (int id = 0; id < TEMPLATE_COUNT; id++) {
        if (template_match(&area.publicArea, (enum template_id)id, err)) {
            return puts(template_name((enum template_id)id)) >= 0;
        }
    }
    return error_set(err, ERROR_INVALID, "no template fits");
}

/* ── Policies ──────────────────────────────────────────────────────────────────────────────── */

static bool run_policy_pcr(char **arg, struct error *err)
{
    struct pcr_values values;
    TPM2B_DIGEST composite;
    TPM2B_DIGEST policy;
    return read_pcrs(arg[0], arg[1], &values, err) &&
           pcr_composite_digest(TPM2_ALG_SHA256, &values.selection, &values, &composite, err) &&
           policy_start(TPM2_ALG_SHA256, &policy, err) &&
           policy_pcr(&policy, &values.selection, &composite, err) && print_digest(&policy);
}

static bool run_policy_nv(char **arg, struct error *err)
{
    TPM2B_NAME index;
    uint64_t limit;
    TPM2B_OPERAND operand;
    TPM2B_DIGEST policy;
    if (!name_argument(arg[0], &index, err) || !number(arg[1], &limit, err)) {
        return false;
    }
    node_key_operand(limit, &operand);
    return policy_start(TPM2_ALG_SHA256, &policy, err) &&
           policy_nv(&policy, &index, slice(operand.buffer, operand.size), 0, TPM2_EO_UNSIGNED_LE,
                     err) &&
           print_digest(&policy);
}

static bool run_policy_unseal(char **, struct error *err)
{
    TPM2B_DIGEST policy;
    return policy_start(TPM2_ALG_SHA256, &policy, err) &&
           policy_command_code(&policy, TPM2_CC_Unseal, err) && print_digest(&policy);
}

static bool run_policy_secret(char **, struct error *err)
{
    TPM2B_NAME endorsement;
    TPM2B_DIGEST policy;
    name_of_handle(TPM2_RH_ENDORSEMENT, &endorsement);
    return policy_start(TPM2_ALG_SHA256, &policy, err) &&
           policy_secret(&policy, &endorsement, slice(nullptr, 0), err) && print_digest(&policy);
}

static bool run_node_key_policy(char **arg, struct error *err)
{
    struct pcr_values values;
    TPM2B_DIGEST composite;
    TPM2B_NAME counter;
    uint64_t limit;
    TPM2B_DIGEST policy;
    return read_pcrs(arg[0], arg[1], &values, err) && name_argument(arg[2], &counter, err) &&
           number(arg[3], &limit, err) &&
           pcr_composite_digest(TPM2_ALG_SHA256, &values.selection, &values, &composite, err) &&
           node_key_policy(&values.selection, &composite, &counter, limit, &policy, err) &&
           print_digest(&policy);
}

/* ── Credentials and import blobs ──────────────────────────────────────────────────────────── */

static bool run_credential(char **arg, struct error *err)
{
    TPM2B_PUBLIC ek;
    TPM2B_NAME name;
    struct share_random random;
    CLEANUP(secret_free_at) struct secret *secret = nullptr;
    CLEANUP(buf_done) struct buf out;
    buf_init(&out, FILE_MAX);
    CLEANUP(buf_done) struct buf shared;
    buf_init(&shared, FILE_MAX);
    buf_put_u32(&out, CREDENTIAL_FILE_MAGIC);
    buf_put_u32(&out, 1);
    if (!read_area(arg[0], &ek, err) || !name_argument(arg[1], &name, err) ||
        !file_read_secret(arg[2], &secret, err)) {
        return false;
    }
    bool own = strcmp(arg[3], "-") == 0;
    if (own ? !credential_make(&ek.publicArea, &name, secret, &out, &shared, err)
            : !read_bytes(arg[3], &random, sizeof random, err) ||
                  !credential_make_with(&ek.publicArea, &name, secret, &random, &out, &shared,
                                        err)) {
        return false;
    }
    buf_put(&out, buf_slice(&shared));
    return write_file(arg[4], &out, err);
}

struct import_files {
    struct buf public;
    struct buf duplicate;
    struct buf seed;
};

static void import_files_done(struct import_files *files)
{
    buf_done(&files->public);
    buf_done(&files->duplicate);
    buf_done(&files->seed);
}

static bool import_files_write(const struct import_files *files, char **paths, struct error *err)
{
    return write_file(paths[0], &files->public, err) &&
           write_file(paths[1], &files->duplicate, err) && write_file(paths[2], &files->seed, err);
}

/* 32 bytes of seedValue, then struct share_random. */
struct import_random {
    uint8_t seed_value[IMPORT_SEED_VALUE_SIZE];
    struct share_random share;
};

static bool run_import(char **arg, struct error *err)
{
    TPM2B_PUBLIC parent;
    TPM2B_DIGEST policy = {.size = 32};
    struct import_random random;
    CLEANUP(secret_free_at) struct secret *secret = nullptr;
    CLEANUP(import_files_done) struct import_files files;
    buf_init(&files.public, FILE_MAX);
    buf_init(&files.duplicate, FILE_MAX);
    buf_init(&files.seed, FILE_MAX);
    if (!read_area(arg[0], &parent, err) || !file_read_secret(arg[1], &secret, err) ||
        !read_bytes(arg[2], policy.buffer, policy.size, err)) {
        return false;
    }
    bool own = strcmp(arg[3], "-") == 0;
    if (own ? !import_blob_make(&parent.publicArea, secret, &policy, &files.public,
                                &files.duplicate, &files.seed, err)
            : !read_bytes(arg[3], &random, sizeof random, err) ||
                  !import_blob_make_with(&parent.publicArea, secret, &policy, random.seed_value,
                                         &random.share, &files.public, &files.duplicate,
                                         &files.seed, err)) {
        return false;
    }
    return import_files_write(&files, arg + 4, err);
}

/* A P-256 key whose public x begins with a zero byte, as PEM. */
static bool run_zero_key(char **arg, struct error *err)
{
    for (int i = 0; i < 100000; i++) {
        EVP_PKEY *key = EVP_EC_gen("P-256");
        BIGNUM *x = nullptr;
        bool zero = key && EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_EC_PUB_X, &x) == 1 &&
                    BN_num_bits(x) <= 248;
        BN_free(x);
        FILE *file = zero ? fopen(arg[0], "w") : nullptr;
        bool ok = file && PEM_write_PrivateKey(file, key, nullptr, nullptr, 0, nullptr, nullptr);
        EVP_PKEY_free(key);
        if (zero) {
            return file && fclose(file) == 0 && ok;
        }
    }
    return error_set(err, ERROR_INTERNAL, "no such key");
}

/* Whether scalar × the parent's point, or scalar × the generator, begins with a zero byte. */
static bool zero_product(const TPMT_PUBLIC *parent, const uint8_t *scalar, bool shared)
{
    EC_GROUP *group = EC_GROUP_new_by_curve_name(NID_X9_62_prime256v1);
    EC_POINT *base = EC_POINT_dup(EC_GROUP_get0_generator(group), group);
    const TPMS_ECC_POINT *point = &parent->unique.ecc;
    BIGNUM *x = BN_bin2bn(point->x.buffer, point->x.size, nullptr);
    BIGNUM *y = BN_bin2bn(point->y.buffer, point->y.size, nullptr);
    BIGNUM *d = BN_bin2bn(scalar, 32, nullptr);
    bool ok = (!shared || EC_POINT_set_affine_coordinates(group, base, x, y, nullptr) == 1) &&
              EC_POINT_mul(group, base, nullptr, base, d, nullptr) == 1 &&
              EC_POINT_get_affine_coordinates(group, base, x, y, nullptr) == 1 &&
              BN_num_bits(x) <= 248;
    BN_free(x);
    BN_free(y);
    BN_free(d);
    EC_POINT_free(base);
    EC_GROUP_free(group);
    return ok;
}

/* Randomness with which the ephemeral point ("ephemeral") or the shared one ("shared") has an x
 * that begins with a zero byte: what goes wrong once in 256 times where it is trimmed. */
static bool run_zero_random(char **arg, struct error *err)
{
    TPM2B_PUBLIC parent;
    if (!read_area(arg[0], &parent, err)) {
        return false;
    }
    struct import_random random;
    do {
        if (!random_bytes(random.seed_value, sizeof random.seed_value, err) ||
            !share_random(&parent.publicArea, &random.share, err)) {
            return false;
        }
    } while (!zero_product(&parent.publicArea, random.share.scalar, arg[1][0] == 's'));
    return file_write_atomic(arg[2], SLICE_OF(random), 0600, err);
}

/* ── Attested structures ───────────────────────────────────────────────────────────────────── */

/* Reads and verifies AK.public ATTEST SIGNATURE, and that a primary of the endorsement hierarchy
 * signed. */
static bool read_attested(char **arg, TPMI_ST_ATTEST type, TPMS_ATTEST *ret, struct error *err)
{
    TPM2B_PUBLIC ak;
    TPMT_SIGNATURE signature;
    TPM2B_NAME name;
    TPM2B_NAME signer;
    CLEANUP(buf_done) struct buf attest;
    buf_init(&attest, FILE_MAX);
    CLEANUP(buf_done) struct buf signature_bytes;
    buf_init(&signature_bytes, FILE_MAX);
    if (!read_area(arg[0], &ak, err) || !file_read(arg[1], &attest, err) ||
        !file_read(arg[2], &signature_bytes, err) ||
        !attested_parse(buf_slice(&attest), type, ret, err) ||
        !tpm_signature_parse(buf_slice(&signature_bytes), &signature, err) ||
        !tpm_signature_verify(&ak.publicArea, &signature, buf_slice(&attest), err) ||
        !public_area_name(&ak.publicArea, &name, err) ||
        !name_qualified_primary(TPM2_RH_ENDORSEMENT, &name, &signer, err)) {
        return false;
    }
    return name_equal(&signer, &ret->qualifiedSigner) ||
           error_set(err, ERROR_DENIED, "another qualified signer");
}

static bool run_quote(char **arg, struct error *err)
{
    TPMS_ATTEST attested;
    struct pcr_values values;
    struct pcr_selection selection;
    TPM2B_DIGEST composite;
    char text[PCR_TEXT_MAX];
    if (!read_attested(arg, TPM2_ST_ATTEST_QUOTE, &attested, err) ||
        !read_pcrs(arg[3], arg[4], &values, err) ||
        !pcr_selection_from_tpml(&attested.attested.quote.pcrSelect, &selection, err) ||
        !pcr_composite_digest(TPM2_ALG_SHA256, &selection, &values, &composite, err)) {
        return false;
    }
    const TPM2B_DIGEST *quoted = &attested.attested.quote.pcrDigest;
    if (!pcr_selection_equal(&selection, &values.selection) ||
        !slice_equal(slice(quoted->buffer, quoted->size),
                     slice(composite.buffer, composite.size))) {
        return error_set(err, ERROR_DENIED, "other PCRs");
    }
    return puts(pcr_selection_format(&selection, text)) >= 0 &&
           print(slice(attested.extraData.buffer, attested.extraData.size));
}

static bool run_certify(char **arg, struct error *err)
{
    TPMS_ATTEST attested;
    return read_attested(arg, TPM2_ST_ATTEST_CERTIFY, &attested, err) &&
           print_name(&attested.attested.certify.name) &&
           print_name(&attested.attested.certify.qualifiedName);
}

static bool run_nv_certify(char **arg, struct error *err)
{
    TPMS_ATTEST attested;
    if (!read_attested(arg, TPM2_ST_ATTEST_NV, &attested, err)) {
        return false;
    }
    const TPMS_NV_CERTIFY_INFO *nv = &attested.attested.nv;
    return print_name(&nv->indexName) && print(slice(nv->nvContents.buffer, nv->nvContents.size));
}

static const struct {
    const char *name;
    int arguments;
    bool (*run)(char **arg, struct error *err);
} commands[] = {
    {"name", 1, run_name},                       /* PUBLIC */
    {"qualified", 2, run_qualified},             /* e|o PUBLIC */
    {"qualified-child", 2, run_qualified_child}, /* PARENT-QN-HEX PUBLIC */
    {"counter-name", 2, run_counter_name},       /* INDEX written|new */
    {"template", 1, run_template},               /* PUBLIC */
    {"policy-pcr", 2, run_policy_pcr},           /* SELECTION PCRS */
    {"policy-nv", 2, run_policy_nv},             /* NAME-HEX LIMIT */
    {"policy-unseal", 0, run_policy_unseal},
    {"policy-secret", 0, run_policy_secret},
    {"node-key-policy", 4, run_node_key_policy}, /* SELECTION PCRS COUNTER-NAME-HEX LIMIT */
    {"credential", 5, run_credential},           /* EK NAME-HEX SECRET RANDOM|- OUT */
    {"import", 7, run_import},                   /* PARENT SECRET POLICY RANDOM|- PUB DUP SEED */
    {"zero-key", 1, run_zero_key},               /* OUT.pem */
    {"zero-random", 3, run_zero_random},         /* PARENT ephemeral|shared OUT */
    {"quote", 5, run_quote},                     /* AK ATTEST SIGNATURE SELECTION PCRS */
    {"certify", 3, run_certify},                 /* AK ATTEST SIGNATURE */
    {"nv-certify", 3, run_nv_certify},           /* AK ATTEST SIGNATURE */
};

int main(int argc, char **argv)
{
    for (size_t i = 0; argc > 1 && i < ARRAY_LEN(commands); i++) {
        if (strcmp(argv[1], commands[i].name) != 0 || argc - 2 != commands[i].arguments) {
            continue;
        }
        struct error err = {0};
        if (commands[i].run(argv + 2, &err)) {
            return 0;
        }
        fprintf(stderr, "tpmwire-tool %s: %s: %s\n", argv[1], error_class_name(err.class),
                err.message);
        return 1;
    }
    fprintf(stderr, "usage: tpmwire-tool COMMAND ARGUMENT...: see the table in tool.c\n");
    return 2;
}
