/* Settings, batches, and what the TPM tells about itself. */
#include "tpm/internal.h"

#include "base/clock.h"
#include "base/mem.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

constexpr uint64_t CONNECT_PAUSE_MS = 20;
constexpr size_t LEFT_OVERS_MAX = 64; /* sessions that somebody else left; a TPM holds 64 at most */

void tpm_setup(void)
{
    (void)setenv("TSS2_LOG", "all+NONE", 0);
}

static bool starts_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

/* The file that the TCTI opens, or NULL if it opens none (swtpm over TCP). */
static const char *tcti_path(const char *tcti)
{
    if (starts_with(tcti, "device:"))
        return tcti + strlen("device:");
    return transport_swtpm_path(tcti);
}

static bool tcti_check(const char *tcti, struct error *err)
{
    if (tcti == nullptr || strlen(tcti) >= TCTI_MAX)
        return error_set(err, ERROR_INVALID, "the TPM's TCTI is missing or longer than %zu",
                         TCTI_MAX - 1);
    const char *path = tcti_path(tcti);
    if (path == nullptr && !starts_with(tcti, "swtpm:host="))
        return error_set(err, ERROR_INVALID,
                         "unknown TCTI \"%s\": expected \"device:/dev/tpmrm0\", "
                         "\"swtpm:path=/run/swtpm.sock\" or \"swtpm:host=127.0.0.1,port=2321\"",
                         tcti);
    if (path != nullptr && path[0] != '/')
        return error_set(err, ERROR_INVALID, "TCTI \"%s\": the path must be absolute", tcti);
    const size_t room = sizeof((struct sockaddr_un *)nullptr)->sun_path - 1;
    if (path != nullptr && transport_swtpm_path(tcti) != nullptr && strlen(path) > room)
        return error_set(err, ERROR_INVALID, "TCTI \"%s\": the path is longer than %zu", tcti,
                         room);
    return true;
}

bool tpm_new(const struct tpm_settings *settings, struct tpm **ret, struct error *err)
{
    if (!tcti_check(settings->tcti, err))
        return false;
    struct tpm *tpm = mem_new(1, sizeof *tpm);
    if (tpm == nullptr)
        return error_set_memory(err);
    mem_copy(tpm->tcti, settings->tcti, strlen(settings->tcti) + 1);
    /* /dev/tpmrm0 is the kernel's resource manager; /dev/tpm0 and swtpm are the bare TPM. */
    tpm->managed = starts_with(tpm->tcti, "device:/dev/tpmrm");
    tpm->owner_auth = settings->owner_auth;
    tpm->endorsement_auth = settings->endorsement_auth;
    *ret = tpm;
    return true;
}

struct tpm *tpm_free(struct tpm *tpm)
{
    if (tpm != nullptr) {
        tpm_end(tpm);
        mem_free(tpm);
    }
    return nullptr;
}

/* tctildr's codes don't tell an absent device from a busy one. */
static bool tcti_present(const struct tpm *tpm, struct error *err)
{
    const char *path = tcti_path(tpm->tcti);
    if (path == nullptr || access(path, R_OK | W_OK) == 0)
        return true;
    int number = errno;
    (void)error_set_errno(err, number, "open the TPM at %s", path);
    if (number == ENOENT)
        (void)error_prefix(err, "%s",
                           starts_with(tpm->tcti, "device:")
                               ? "this machine shows no TPM; is it enabled in the firmware's setup?"
                               : "is swtpm running?");
    err->class = ERROR_UNAVAILABLE;
    return false;
}

/* Waits while the device is there but taken: only one may open /dev/tpm0 at a time, and a software
 * TPM that is just starting refuses connections. */
static bool connect_to_it(struct tpm *tpm, uint64_t deadline_ms, struct error *err)
{
    for (;;) {
        if (!tcti_present(tpm, err))
            return false;
        TSS2_RC rc = transport_open(&tpm->transport, tpm->tcti, deadline_ms);
        if (rc == TSS2_RC_SUCCESS)
            return true;
        transport_disconnect(&tpm->transport);
        if (clock_boot_ms() + CONNECT_PAUSE_MS >= deadline_ms)
            return tpm_fail(tpm, rc, err, "connect to the TPM by \"%s\": busy or not running",
                            tpm->tcti);
        struct timespec pause = {.tv_nsec = (long)CONNECT_PAUSE_MS * 1000000};
        nanosleep(&pause, nullptr);
    }
}

/* The handles of one kind that the TPM has loaded. */
static bool loaded_handles(struct tpm *tpm, uint32_t first, TPML_HANDLE *ret, struct error *err)
{
    TPMS_CAPABILITY_DATA *data = nullptr;
    TPMI_YES_NO more = TPM2_NO;
    TSS2_RC rc = Esys_GetCapability(tpm->esys, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE,
                                    TPM2_CAP_HANDLES, first, LEFT_OVERS_MAX, &more, &data);
    if (rc != TSS2_RC_SUCCESS)
        return tpm_fail(tpm, rc, err, "ask the TPM what it has loaded");
    *ret = data->data.handles;
    Esys_Free(data);
    return true;
}

/* Flushes everything transient, ours or not. Only where no resource manager keeps users apart. */
static bool sweep(struct tpm *tpm, struct error *err)
{
    static const uint32_t kinds[] = {TPM2_TRANSIENT_FIRST, TPM2_LOADED_SESSION_FIRST};
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        TPML_HANDLE handles = {0};
        if (!loaded_handles(tpm, kinds[k], &handles, err))
            return false;
        for (uint32_t i = 0; i < handles.count; i++) {
            ESYS_TR tr = 0;
            TSS2_RC rc = Esys_TR_FromTPMPublic(tpm->esys, handles.handle[i], ESYS_TR_NONE,
                                               ESYS_TR_NONE, ESYS_TR_NONE, &tr);
            if (rc == TSS2_RC_SUCCESS)
                rc = Esys_FlushContext(tpm->esys, tr);
            if (rc != TSS2_RC_SUCCESS)
                return tpm_fail(tpm, rc, err, "flush what was left in the TPM");
        }
    }
    return true;
}

static void disconnect(struct tpm *tpm)
{
    if (tpm->esys != nullptr)
        Esys_Finalize(&tpm->esys);
    transport_disconnect(&tpm->transport);
    tpm->transport = (struct transport){0};
    tpm->left_over = false;
    tpm->spoiled = false;
    tpm->session = 0;
    tpm->ek_known = false;
    for (size_t i = 0; i < TPM_KEY_COUNT; i++)
        tpm->key[i] = 0;
}

static bool esys_open(struct tpm *tpm, struct error *err)
{
    TSS2_RC rc = Esys_Initialize(&tpm->esys, (TSS2_TCTI_CONTEXT *)(void *)&tpm->transport, nullptr);
    if (rc == TSS2_RC_SUCCESS)
        return true;
    tpm->esys = nullptr;
    return tpm_fail(tpm, rc, err, "connect to the TPM");
}

bool tpm_begin(struct tpm *tpm, uint64_t deadline_ms, struct error *err)
{
    if (tpm->esys != nullptr)
        return error_set(err, ERROR_CONFLICT, "a batch of TPM commands is open already");
    if (!connect_to_it(tpm, deadline_ms, err))
        return false;
    if (!esys_open(tpm, err) || (!tpm->managed && !sweep(tpm, err))) {
        disconnect(tpm);
        return false;
    }
    return true;
}

void tpm_end(struct tpm *tpm)
{
    if (tpm->esys == nullptr)
        return;
    tpm_make_room(tpm, OBJECTS_MAX);
    struct tpm_handle session = {.tpm = tpm, .tr = tpm->session};
    tpm_handle_done(&session);
    if (tpm->left_over && !tpm->managed && tpm->transport.state == TRANSPORT_OK) {
        /* Best effort, in a fresh context in case the old one is spoiled: the next tpm_begin sweeps
         * again. */
        struct error ignored = {0};
        Esys_Finalize(&tpm->esys);
        if (esys_open(tpm, &ignored))
            (void)sweep(tpm, &ignored);
    }
    disconnect(tpm);
}

static bool facts_banks(struct tpm *tpm, struct tpm_facts *facts, struct error *err)
{
    TPMS_CAPABILITY_DATA *data = nullptr;
    TPMI_YES_NO more = TPM2_NO;
    TSS2_RC rc = Esys_GetCapability(tpm->esys, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE,
                                    TPM2_CAP_PCRS, 0, TPM2_NUM_PCR_BANKS, &more, &data);
    if (rc != TSS2_RC_SUCCESS)
        return tpm_fail(tpm, rc, err, "ask the TPM for its PCR banks");
    const TPML_PCR_SELECTION *banks = &data->data.assignedPCR;
    for (uint32_t i = 0; i < banks->count && facts->bank_count < TPM_BANKS_MAX; i++) {
        const TPMS_PCR_SELECTION *bank = &banks->pcrSelections[i];
        uint8_t any = 0;
        for (size_t b = 0; b < bank->sizeofSelect; b++)
            any |= bank->pcrSelect[b];
        if (any != 0)
            facts->banks[facts->bank_count++] = bank->hash;
    }
    Esys_Free(data);
    return true;
}

/* One TPM_PT of the fixed group; 0 where the TPM does not know it. */
static bool property(struct tpm *tpm, TPM2_PT name, uint32_t *ret, struct error *err)
{
    TPMS_CAPABILITY_DATA *data = nullptr;
    TPMI_YES_NO more = TPM2_NO;
    TSS2_RC rc = Esys_GetCapability(tpm->esys, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE,
                                    TPM2_CAP_TPM_PROPERTIES, name, 1, &more, &data);
    if (rc != TSS2_RC_SUCCESS)
        return tpm_fail(tpm, rc, err, "ask the TPM for a property");
    const TPML_TAGGED_TPM_PROPERTY *list = &data->data.tpmProperties;
    *ret =
        list->count > 0 && list->tpmProperty[0].property == name ? list->tpmProperty[0].value : 0;
    Esys_Free(data);
    return true;
}

static bool facts_properties(struct tpm *tpm, struct tpm_facts *facts, struct error *err)
{
    uint32_t high = 0;
    uint32_t low = 0;
    uint32_t maker = 0;
    if (!property(tpm, TPM2_PT_FIRMWARE_VERSION_1, &high, err) ||
        !property(tpm, TPM2_PT_FIRMWARE_VERSION_2, &low, err) ||
        !property(tpm, TPM2_PT_MANUFACTURER, &maker, err))
        return false;
    facts->firmware_version = (uint64_t)high << 32 | low;
    for (size_t i = 0; i < 4; i++) {
        int c = (int)(maker >> (24 - 8 * i) & 0xff);
        /* Short names ("IBM") end in a NUL, or in a space. */
        facts->manufacturer[i] = c == 0 || c == ' ' ? '\0' : isprint(c) ? (char)c : '?';
    }
    facts->manufacturer[4] = '\0';
    return true;
}

struct command_name {
    TPM2_CC code;
    const char *name;
};

/* What the node can't do without. All are mandatory on PC Client platforms; a TPM that lacks one
 * is told by name, not by a failure in the middle. */
static const struct command_name needed[] = {
    {TPM2_CC_CreatePrimary, "CreatePrimary"},
    {TPM2_CC_StartAuthSession, "StartAuthSession"},
    {TPM2_CC_ActivateCredential, "ActivateCredential"},
    {TPM2_CC_Quote, "Quote"},
    {TPM2_CC_Certify, "Certify"},
    {TPM2_CC_NV_Certify, "NV_Certify"},
    {TPM2_CC_NV_DefineSpace, "NV_DefineSpace"},
    {TPM2_CC_NV_Increment, "NV_Increment"},
    {TPM2_CC_NV_Read, "NV_Read"},
    {TPM2_CC_Import, "Import"},
    {TPM2_CC_Load, "Load"},
    {TPM2_CC_Unseal, "Unseal"},
    {TPM2_CC_PolicyPCR, "PolicyPCR"},
    {TPM2_CC_PolicyNV, "PolicyNV"},
    {TPM2_CC_PolicyCommandCode, "PolicyCommandCode"},
    {TPM2_CC_PolicySecret, "PolicySecret"},
    {TPM2_CC_Sign, "Sign"},
};

static bool command_present(struct tpm *tpm, const struct command_name *command, struct error *err)
{
    TPMS_CAPABILITY_DATA *data = nullptr;
    TPMI_YES_NO more = TPM2_NO;
    TSS2_RC rc = Esys_GetCapability(tpm->esys, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE,
                                    TPM2_CAP_COMMANDS, command->code, 1, &more, &data);
    if (rc != TSS2_RC_SUCCESS)
        return tpm_fail(tpm, rc, err, "ask the TPM for its commands");
    const TPML_CCA *list = &data->data.command;
    bool present = list->count > 0 &&
                   (list->commandAttributes[0] & TPMA_CC_COMMANDINDEX_MASK) == command->code;
    Esys_Free(data);
    if (!present)
        return error_set(err, ERROR_UNIMPLEMENTED, "this TPM has no TPM2_%s, which a node needs",
                         command->name);
    return true;
}

bool tpm_facts(struct tpm *tpm, struct tpm_facts *ret, struct error *err)
{
    struct tpm_facts facts = {0};
    if (!tpm_ready(tpm, err) || !facts_banks(tpm, &facts, err) ||
        !facts_properties(tpm, &facts, err))
        return false;
    for (size_t i = 0; i < ARRAY_LEN(needed); i++) {
        if (!command_present(tpm, &needed[i], err))
            return false;
    }
    *ret = facts;
    return true;
}

bool tpm_time(struct tpm *tpm, struct tpm_time *ret, struct error *err)
{
    if (!tpm_ready(tpm, err))
        return false;
    TPMS_TIME_INFO *info = nullptr;
    TSS2_RC rc = Esys_ReadClock(tpm->esys, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &info);
    if (rc != TSS2_RC_SUCCESS)
        return tpm_fail(tpm, rc, err, "read the TPM's clock");
    *ret = (struct tpm_time){.clock_ms = info->clockInfo.clock,
                             .reset_count = info->clockInfo.resetCount,
                             .restart_count = info->clockInfo.restartCount,
                             .safe = info->clockInfo.safe == TPM2_YES};
    Esys_Free(info);
    return true;
}
