#include "tpmwire/pcr.h"

#include "tpmwire/hash.h"
#include "tpmwire/words.h"

#include <stdio.h>

static const TPMI_ALG_HASH banks[] = {TPM2_ALG_SHA1, TPM2_ALG_SHA256, TPM2_ALG_SHA384,
                                      TPM2_ALG_SHA512};
constexpr size_t SELECT_SIZE = PCR_COUNT / 8;

static bool has_bank(const struct pcr_selection *selection, TPMI_ALG_HASH alg)
{
    for (size_t i = 0; i < selection->count; i++) {
        if (selection->bank[i].alg == alg) {
            return true;
        }
    }
    return false;
}

/* ── Text ──────────────────────────────────────────────────────────────────────────────────── */

/* The bank at the front of `text` up to its colon, which is skipped; 0 if there is none. */
static TPMI_ALG_HASH parse_bank(const char **text)
{
    for (size_t i = 0; i < ARRAY_LEN(banks); i++) {
        const char *name = tpm_alg_name(banks[i]);
        size_t len = strlen(name);
        if (strncmp(*text, name, len) == 0 && (*text)[len] == ':') {
            *text += len + 1;
            return banks[i];
        }
    }
    return 0;
}

/* The ascending numbers after a bank's colon; stops at '+' or the end. 0 if they are no such. */
static uint32_t parse_mask(const char **text)
{
    uint32_t mask = 0;
    for (;;) {
        unsigned pcr = 0;
        size_t digits = 0;
        for (; **text >= '0' && **text <= '9' && digits < 3; ++*text, ++digits) {
            pcr = pcr * 10 + (unsigned)(**text - '0');
        }
        bool padded = digits > 1 && *(*text - digits) == '0';
        if (digits == 0 || padded || pcr >= PCR_COUNT || mask >> pcr != 0) {
            return 0;
        }
        mask |= UINT32_C(1) << pcr;
        if (**text != ',') {
            return mask;
        }
        ++*text;
    }
}

bool pcr_selection_parse(const char *text, struct pcr_selection *ret, struct error *err)
{
    struct pcr_selection selection = {0};
    for (const char *at = text;; at++) {
        TPMI_ALG_HASH alg = parse_bank(&at);
        uint32_t mask = alg ? parse_mask(&at) : 0;
        if (mask == 0 || has_bank(&selection, alg) || (*at != '\0' && *at != '+')) {
            return error_set(err, ERROR_INVALID,
                             "expected PCRs as in \"sha256:0,2,4,7+sha384:0\", in ascending order "
                             "and each bank once");
        }
        selection.bank[selection.count++] = (struct pcr_bank){alg, mask};
        if (*at == '\0') {
            break;
        }
    }
    *ret = selection;
    return true;
}

char *pcr_selection_format(const struct pcr_selection *selection, char ret[static PCR_TEXT_MAX])
{
    size_t len = 0;
    ret[0] = '\0';
    for (size_t i = 0; i < selection->count && i < PCR_BANKS_MAX; i++) {
        const struct pcr_bank *bank = &selection->bank[i];
        len += (size_t)snprintf(ret + len, PCR_TEXT_MAX - len, "%s%s:", i ? "+" : "",
                                tpm_alg_name(bank->alg));
        const char *comma = "";
        for (unsigned pcr = 0; pcr < PCR_COUNT; pcr++) {
            if (bank->mask >> pcr & 1) {
                len += (size_t)snprintf(ret + len, PCR_TEXT_MAX - len, "%s%u", comma, pcr);
                comma = ",";
            }
        }
    }
    return ret;
}

/* ── TPML_PCR_SELECTION ────────────────────────────────────────────────────────────────────── */

void pcr_selection_to_tpml(const struct pcr_selection *selection, TPML_PCR_SELECTION *ret)
{
    *ret = (TPML_PCR_SELECTION){.count = (uint32_t)selection->count};
    for (size_t i = 0; i < selection->count; i++) {
        uint32_t mask = selection->bank[i].mask;
        ret->pcrSelections[i] = (TPMS_PCR_SELECTION){
            .hash = selection->bank[i].alg,
            .sizeofSelect = SELECT_SIZE,
            .pcrSelect = {(uint8_t)mask, (uint8_t)(mask >> 8), (uint8_t)(mask >> 16)},
        };
    }
}

bool pcr_selection_from_tpml(const TPML_PCR_SELECTION *list, struct pcr_selection *ret,
                             struct error *err)
{
    struct pcr_selection selection = {0};
    if (list->count > PCR_BANKS_MAX) {
        return error_set(err, ERROR_INVALID, "PCR selection: %u banks: at most %zu are allowed",
                         list->count, PCR_BANKS_MAX);
    }
    for (size_t i = 0; i < list->count; i++) {
        const TPMS_PCR_SELECTION *from = &list->pcrSelections[i];
        if (tpm_hash_size(from->hash) == 0) {
            return error_set(err, ERROR_INVALID, "PCR selection: bank 0x%04x is not supported",
                             from->hash);
        }
        if (has_bank(&selection, from->hash)) {
            return error_set(err, ERROR_INVALID, "PCR selection: bank %s twice",
                             tpm_alg_name(from->hash));
        }
        if (from->sizeofSelect != SELECT_SIZE) {
            return error_set(err, ERROR_INVALID, "PCR selection: %u bytes of mask instead of %zu",
                             from->sizeofSelect, SELECT_SIZE);
        }
        selection.bank[selection.count++] = (struct pcr_bank){
            .alg = from->hash,
            .mask = (uint32_t)from->pcrSelect[0] | (uint32_t)from->pcrSelect[1] << 8 |
                    (uint32_t)from->pcrSelect[2] << 16,
        };
    }
    *ret = selection;
    return true;
}

/* ── Sets and values ───────────────────────────────────────────────────────────────────────── */

bool pcr_selection_equal(const struct pcr_selection *a, const struct pcr_selection *b)
{
    bool equal = a->count == b->count;
    for (size_t i = 0; equal && i < a->count; i++) {
        equal = a->bank[i].alg == b->bank[i].alg && a->bank[i].mask == b->bank[i].mask;
    }
    return equal;
}

static uint32_t mask_of(const struct pcr_selection *selection, TPMI_ALG_HASH alg)
{
    for (size_t i = 0; i < selection->count; i++) {
        if (selection->bank[i].alg == alg) {
            return selection->bank[i].mask;
        }
    }
    return 0;
}

bool pcr_selection_within(const struct pcr_selection *part, const struct pcr_selection *whole)
{
    for (size_t i = 0; i < part->count; i++) {
        if ((part->bank[i].mask & ~mask_of(whole, part->bank[i].alg)) != 0) {
            return false;
        }
    }
    return true;
}

static size_t mask_size(uint32_t mask)
{
    return (size_t)__builtin_popcount(mask & ((UINT32_C(1) << PCR_COUNT) - 1));
}

size_t pcr_selection_size(const struct pcr_selection *selection)
{
    size_t size = 0;
    for (size_t i = 0; i < selection->count; i++) {
        size += mask_size(selection->bank[i].mask);
    }
    return size;
}

const TPM2B_DIGEST *pcr_values_get(const struct pcr_values *values, TPMI_ALG_HASH alg, unsigned pcr)
{
    size_t at = 0;
    for (size_t i = 0; i < values->selection.count; i++) {
        const struct pcr_bank *bank = &values->selection.bank[i];
        if (bank->alg == alg && pcr < PCR_COUNT && (bank->mask >> pcr & 1)) {
            at += mask_size(bank->mask & ((UINT32_C(1) << pcr) - 1));
            return at < values->count ? &values->value[at] : nullptr;
        }
        at += mask_size(bank->mask);
    }
    return nullptr;
}

bool pcr_composite_digest(TPMI_ALG_HASH alg, const struct pcr_selection *selection,
                          const struct pcr_values *values, TPM2B_DIGEST *ret, struct error *err)
{
    struct slice parts[PCR_VALUES_MAX];
    size_t count = 0;
    for (size_t i = 0; i < selection->count; i++) {
        const struct pcr_bank *bank = &selection->bank[i];
        for (unsigned pcr = 0; pcr < PCR_COUNT; pcr++) {
            if ((bank->mask >> pcr & 1) == 0) {
                continue;
            }
            const TPM2B_DIGEST *value = pcr_values_get(values, bank->alg, pcr);
            if (!value || value->size != tpm_hash_size(bank->alg)) {
                return error_set(err, ERROR_INVALID, "PCR %u of bank %s has %s", pcr,
                                 tpm_alg_name(bank->alg), value ? "a wrong size" : "no value");
            }
            parts[count++] = slice(value->buffer, value->size);
        }
    }
    return tpm_hash(alg, parts, count, ret, err);
}
