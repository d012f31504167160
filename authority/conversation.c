#include "conversation.h"

#include "base/clock.h"
#include "base/crypt.h"
#include "base/mem.h"
#include "pb/message.h"
#include "tpmwire/credential.h"
#include "tpmwire/public.h"

constexpr uint32_t PROTOCOL = 1; /* what this authority speaks; a newer node follows */
constexpr size_t CREDENTIAL_SIZE = 32;
constexpr size_t GENERATION_BODY_MAX = 8 * 1024;

bool conversation_new(struct identity *identity, struct policies *policies,
                      uint64_t svid_lifetime_ms,
                      const uint8_t exporter[static CHANNEL_BINDING_SIZE],
                      struct conversation **ret, struct error *err)
{
    struct conversation *conversation = mem_new(1, sizeof(*conversation));
    if (!conversation)
        return error_set_memory(err);
    conversation->identity = identity;
    conversation->policies = policies_ref(policies);
    conversation->svid_lifetime_ms = svid_lifetime_ms;
    mem_copy(conversation->exporter, exporter, CHANNEL_BINDING_SIZE);
    buf_init(&conversation->hello_bytes, ATTEST_HELLO_MAX);
    buf_init(&conversation->challenge_bytes, ATTEST_CHALLENGE_MAX);
    buf_init(&conversation->evidence_bytes, ATTEST_EVIDENCE_MAX);
    buf_init(&conversation->body, APPRAISAL_BODY_MAX);
    buf_init(&conversation->generation_body, GENERATION_BODY_MAX);
    buf_init(&conversation->svid, CERTIFICATE_DER_MAX);
    dual_init(&conversation->signatures);
    dual_init(&conversation->generation_signatures);
    *ret = conversation;
    return true;
}

struct conversation *conversation_free(struct conversation *conversation)
{
    if (!conversation)
        return nullptr;
    policies_unref(conversation->policies);
    pb_free(conversation->hello);
    pb_free(conversation->challenge);
    pb_free(conversation->evidence);
    secret_free(conversation->credential);
    buf_done(&conversation->hello_bytes);
    buf_done(&conversation->challenge_bytes);
    buf_done(&conversation->evidence_bytes);
    buf_done(&conversation->body);
    buf_done(&conversation->generation_body);
    buf_done(&conversation->svid);
    dual_done(&conversation->signatures);
    dual_done(&conversation->generation_signatures);
    return mem_free(conversation);
}

static const Postern__V1__Hello *hello_of(const struct conversation *conversation)
{
    return (const Postern__V1__Hello *)conversation->hello;
}

/* ---- E1 ---- */

bool conversation_hello(struct conversation *conversation, struct slice bytes, struct error *err)
{
    buf_put(&conversation->hello_bytes, bytes);
    if (!buf_ok(&conversation->hello_bytes, err))
        return error_prefix(err, "hello");
    if (!pb_unpack(&postern__v1__hello__descriptor, bytes, nullptr, &conversation->hello, err))
        return error_prefix(err, "hello");
    const Postern__V1__Hello *hello = hello_of(conversation);
    if (hello->protocol < PROTOCOL)
        return error_set_field(err, "protocol", "expected at least %u, found %u", PROTOCOL,
                               hello->protocol);
    if (strlen(hello->join_token) > JOIN_TOKEN_MAX)
        return error_set_field(err, "join_token", "this is no join token");
    conversation->now_ms = clock_wall_ms();
    return attest_identity_parse(hello, &conversation->id, err);
}

/* ---- Who is it, and by which policy is it judged? ---- */

struct standing {
    bool known;
    struct node_record record;
    bool token_valid;
    bool token_wrong; /* there is one, and it admits nobody */
    char policy_name[POLICY_NAME_SIZE];
    const struct attest_policy *policy; /* null: nobody has said which */
};

static void standing_done(struct standing *standing)
{
    node_record_done(&standing->record);
}

static bool find_record(struct tx *tx, struct conversation *conversation, struct standing *standing,
                        struct error *err)
{
    node_record_init(&standing->record);
    standing->known = nodes_get(tx, conversation->id.agent_id, &standing->record, err);
    return standing->known || err->class == ERROR_NOT_FOUND;
}

static bool find_standing(struct tx *tx, struct conversation *conversation,
                          struct standing *standing, struct error *err)
{
    const char *token = hello_of(conversation)->join_token;
    if (!find_record(tx, conversation, standing, err))
        return false;
    if (standing->known &&
        standing->record.admission == POSTERN__V1__ADMISSION__ADMISSION_ADMITTED) {
        mem_copy(standing->policy_name, standing->record.policy, POLICY_NAME_SIZE);
    } else if (token[0] != '\0') {
        if (!tokens_look(tx, token, conversation->id.agent_id, conversation->now_ms,
                         &standing->token_valid, standing->policy_name, err))
            return false;
        standing->token_wrong = !standing->token_valid;
    }
    if (standing->policy_name[0] == '\0')
        return true;
    standing->policy = policies_attestation(conversation->policies, standing->policy_name);
    return standing->policy ||
           error_set_reason(err, ERROR_CONFLICT, "POLICY_UNKNOWN",
                            "there is no attestation policy \"%s\", which this node is to be "
                            "judged by",
                            standing->policy_name);
}

/* ---- E2 ---- */

static bool make_credential(struct conversation *conversation, const struct standing *standing,
                            struct buf *ret_blob, struct buf *ret_secret, struct error *err)
{
    conversation->credential = secret_free(conversation->credential);
    if (standing->known && name_equal(&standing->record.ak_name, &conversation->id.ak_name))
        return true;
    CLEANUP(secret_free_at) struct secret *credential = nullptr;
    if (!secret_random(CREDENTIAL_SIZE, &credential, err) ||
        !credential_make(&conversation->id.ek.publicArea, &conversation->id.ak_name, credential,
                         ret_blob, ret_secret, err))
        return error_prefix(err, "make a credential for the EK");
    conversation->credential = TAKE(credential);
    return true;
}

static bool pack_challenge(struct conversation *conversation, const struct pcr_selection *selection,
                           const struct buf *blob, const struct buf *secret, struct error *err)
{
    Postern__V1__Challenge challenge = POSTERN__V1__CHALLENGE__INIT;
    Postern__V1__PcrSelection banks[PCR_BANKS_MAX], *pointers[PCR_BANKS_MAX];
    for (size_t i = 0; i < selection->count; i++) {
        postern__v1__pcr_selection__init(&banks[i]);
        banks[i].bank = selection->bank[i].alg;
        banks[i].mask = selection->bank[i].mask;
        pointers[i] = &banks[i];
    }
    challenge.protocol = PROTOCOL;
    challenge.agent_id = conversation->id.agent_id;
    challenge.nonce = (ProtobufCBinaryData){sizeof(conversation->nonce), conversation->nonce};
    challenge.n_selection = selection->count;
    challenge.selection = pointers;
    challenge.credential_blob = (ProtobufCBinaryData){blob->len, blob->data};
    challenge.credential_secret = (ProtobufCBinaryData){secret->len, secret->data};
    buf_clear(&conversation->challenge_bytes);
    conversation->challenge = pb_free(conversation->challenge);
    return pb_pack(&challenge.base, ATTEST_CHALLENGE_MAX, &conversation->challenge_bytes, err) &&
           pb_unpack(&postern__v1__challenge__descriptor, buf_slice(&conversation->challenge_bytes),
                     nullptr, &conversation->challenge, err);
}

bool conversation_challenge(struct conversation *conversation, struct tx *tx, struct error *err)
{
    CLEANUP(standing_done) struct standing standing = {0};
    CLEANUP(buf_done) struct buf blob, secret;
    buf_init(&blob, ATTEST_CHALLENGE_MAX);
    buf_init(&secret, ATTEST_CHALLENGE_MAX);
    struct pcr_selection selection;
    attest_default_selection(&selection);
    if (!find_standing(tx, conversation, &standing, err) ||
        !make_credential(conversation, &standing, &blob, &secret, err) ||
        !random_bytes(conversation->nonce, sizeof(conversation->nonce), err))
        return false;
    if (standing.policy)
        selection = standing.policy->quoted;
    mem_copy(conversation->policy, standing.policy_name, POLICY_NAME_SIZE);
    /* Just before it leaves: the time pair counts from here. */
    conversation->now_ms = clock_wall_ms();
    return pack_challenge(conversation, &selection, &blob, &secret, err) &&
           nonces_make(tx, SLICE_OF(conversation->nonce), conversation->id.agent_id,
                       conversation->now_ms, err);
}

/* ---- E3 ---- */

bool conversation_evidence(struct conversation *conversation, struct slice bytes, struct error *err)
{
    EVP_PKEY *key;
    conversation->now_ms = clock_wall_ms();
    buf_put(&conversation->evidence_bytes, bytes);
    if (!buf_ok(&conversation->evidence_bytes, err) ||
        !pb_unpack(&postern__v1__evidence__descriptor, bytes, nullptr, &conversation->evidence,
                   err))
        return error_prefix(err, "evidence");
    const Postern__V1__Evidence *evidence = (const Postern__V1__Evidence *)conversation->evidence;
    /* Here, not when it is signed: a request without a key must not cost the node its challenge. */
    if (!csr_verify(slice(evidence->csr.data, evidence->csr.len), &key, err))
        return error_at_field(err, "csr");
    EVP_PKEY_free(key);
    return true;
}

/* ---- The appraisal ---- */

bool conversation_affirms(const struct conversation *conversation)
{
    Postern__V1__Verdict verdict = conversation->appraisal.verdict;
    return verdict == POSTERN__V1__VERDICT__VERDICT_AFFIRMING ||
           verdict == POSTERN__V1__VERDICT__VERDICT_WARNING;
}

static bool judge(struct conversation *conversation, const struct standing *standing,
                  const struct attest_nonce *nonce, struct attest_record *record,
                  struct attest_case *ret_case, struct error *err)
{
    node_attest_record(standing->known ? &standing->record : nullptr, record);
    *ret_case = (struct attest_case){
        .hello_bytes = buf_slice(&conversation->hello_bytes),
        .challenge_bytes = buf_slice(&conversation->challenge_bytes),
        .evidence_bytes = buf_slice(&conversation->evidence_bytes),
        .hello = hello_of(conversation),
        .challenge = (const Postern__V1__Challenge *)conversation->challenge,
        .evidence = (const Postern__V1__Evidence *)conversation->evidence,
        .identity = &conversation->id,
        .exporter = SLICE_OF(conversation->exporter),
        .credential = conversation->credential,
        .nonce = *nonce,
        .record = record,
        .token_valid = standing->token_valid,
        .policy = standing->policy,
        .roots = policies_ek_roots(conversation->policies),
        .now_ms = conversation->now_ms,
    };
    ret_case->pins = policies_ek_pins(conversation->policies, &ret_case->pin_count);
    return attest_appraise(ret_case, &conversation->appraisal, err);
}

/* The check that makes evidence unauthentic; others may fail for the same reason before it. */
static const struct attest_reason *unauthentic_reason(const struct appraisal *appraisal)
{
    size_t i = 0;
    while (i < appraisal->reason_count - 1 && !appraisal->reasons[i].unauthentic)
        i++;
    return &appraisal->reasons[i];
}

/* Why nothing may be recorded of this; false where it may. */
static bool is_refused(struct conversation *conversation, const struct standing *standing)
{
    struct error *why = &conversation->refusal;
    if (!conversation->appraisal.authentic) {
        const struct attest_reason *first = unauthentic_reason(&conversation->appraisal);
        error_set_reason(why, ERROR_UNAUTHENTICATED, "EVIDENCE_NOT_AUTHENTIC",
                         "the evidence is not authentic: check %u, %s: %s", first->check,
                         first->name, first->detail);
        return true;
    }
    if (strcmp(standing->policy_name, conversation->policy) != 0) {
        error_set_reason(why, ERROR_UNAVAILABLE, "POLICY_CHANGED",
                         "the node's policy changed while it attested; try again");
        return true;
    }
    return false;
}

/* One below its limit: a retirement is unfinished, and nothing new is released before it is. */
static bool counter_is_normal(const struct conversation *conversation,
                              const struct standing *standing)
{
    return standing->record.generation == 0 || standing->record.limit == 0 ||
           conversation->appraisal.counter != standing->record.limit - 1;
}

static bool pack_body(struct conversation *conversation, const struct standing *standing,
                      int64_t nonce_made_ms, struct error *err)
{
    const struct appraisal *appraisal = &conversation->appraisal;
    Postern__V1__AppraisalBody body = POSTERN__V1__APPRAISAL_BODY__INIT;
    Postern__V1__TimePair time = POSTERN__V1__TIME_PAIR__INIT;
    Postern__V1__Reason reasons[ATTEST_REASONS_MAX + 1], *pointers[ATTEST_REASONS_MAX + 1];
    for (size_t i = 0; i < appraisal->reason_count; i++) {
        postern__v1__reason__init(&reasons[i]);
        reasons[i].check = appraisal->reasons[i].check;
        reasons[i].name = (char *)appraisal->reasons[i].name;
        reasons[i].detail = (char *)appraisal->reasons[i].detail;
        pointers[body.n_reasons++] = &reasons[i];
    }
    if (standing->token_wrong) {
        Postern__V1__Reason *reason = &reasons[body.n_reasons];
        postern__v1__reason__init(reason);
        reason->name = (char *)"join-token";
        reason->detail = (char *)"the join token is unknown, expired, or spent by another node";
        pointers[body.n_reasons++] = reason;
    }
    body.reasons = pointers;
    body.agent_id = conversation->id.agent_id;
    body.verdict = appraisal->verdict;
    body.evidence_hash = (ProtobufCBinaryData){SHA256_SIZE, (uint8_t *)appraisal->evidence_hash};
    if (standing->policy) {
        body.policy = (char *)standing->policy_name;
        body.policy_hash = (ProtobufCBinaryData){SHA256_SIZE, (uint8_t *)standing->policy->hash};
    }
    body.appraised_at_ms = conversation->now_ms;
    body.expires_at_ms = conversation->expires_at_ms;
    if (appraisal->verdict == POSTERN__V1__VERDICT__VERDICT_PENDING)
        body.retry_after_ms = ATTEST_RETRY_PENDING_MS;
    else if (!conversation_affirms(conversation))
        body.retry_after_ms = ATTEST_RETRY_REFUSED_MS;
    time.ak_name =
        (ProtobufCBinaryData){conversation->id.ak_name.size, conversation->id.ak_name.name};
    time.reset_count = appraisal->reset_count;
    time.restart_count = appraisal->restart_count;
    time.clock_ms = appraisal->clock_ms;
    time.authority_ms = nonce_made_ms;
    body.time = &time;
    body.releases = conversation_affirms(conversation) && counter_is_normal(conversation, standing);
    const struct bundle *bundle = identity_bundle(conversation->identity);
    body.bundle_hash = (ProtobufCBinaryData){SHA256_SIZE, (uint8_t *)bundle->hash};
    return pb_pack(&body.base, APPRAISAL_BODY_MAX, &conversation->body, err);
}

static bool record(struct tx *tx, struct conversation *conversation,
                   const struct standing *standing, const struct attest_case *in, struct error *err)
{
    bool affirmed = conversation_affirms(conversation);
    bool admitted =
        standing->known && standing->record.admission == POSTERN__V1__ADMISSION__ADMISSION_ADMITTED;
    conversation->first_admission = affirmed && !admitted;
    if (conversation->first_admission &&
        !tokens_spend(tx, hello_of(conversation)->join_token, conversation->id.agent_id,
                      conversation->now_ms, err))
        return false;
    admitted = admitted || affirmed;
    Postern__V1__Admission admission = admitted ? POSTERN__V1__ADMISSION__ADMISSION_ADMITTED
                                       : standing->known
                                           ? standing->record.admission
                                           : POSTERN__V1__ADMISSION__ADMISSION_PENDING;
    const struct node_update update = {
        .in = in,
        .appraisal = &conversation->appraisal,
        .body = buf_slice(&conversation->body),
        .admission = admission,
        .policy = admitted ? standing->policy_name : nullptr,
        .now_ms = conversation->now_ms,
        .expires_at_ms = conversation->expires_at_ms,
    };
    return nodes_record(tx, &update, err);
}

static bool offer(struct tx *tx, struct conversation *conversation, const struct standing *standing,
                  struct error *err)
{
    const struct appraisal *appraisal = &conversation->appraisal;
    const struct node_record *known = &standing->record;
    const struct generation_case in = {
        .record = known,
        .identity = &conversation->id,
        .policy = standing->policy,
        .pcrs = &appraisal->pcrs,
        .counter = appraisal->counter,
        .held = hello_of(conversation)->generation,
        .counter_normal = counter_is_normal(conversation, standing),
        .now_ms = conversation->now_ms,
    };
    return generation_offer(tx, identity_kek(conversation->identity), &in,
                            &conversation->generation_body, &conversation->due, err);
}

bool conversation_appraise(struct conversation *conversation, struct tx *tx, struct error *err)
{
    CLEANUP(standing_done) struct standing standing = {0};
    struct attest_nonce nonce;
    struct attest_record known;
    struct attest_case in;
    int64_t made_ms;
    conversation->refused = false;
    conversation->due = GENERATION_NOT_DUE;
    buf_clear(&conversation->body);
    buf_clear(&conversation->generation_body);
    if (!nonces_take(tx, SLICE_OF(conversation->nonce), conversation->id.agent_id,
                     conversation->now_ms, &nonce, &made_ms, err) ||
        !find_standing(tx, conversation, &standing, err) ||
        !judge(conversation, &standing, &nonce, &known, &in, err))
        return false;
    conversation->refused = is_refused(conversation, &standing);
    if (conversation->refused)
        return true;
    bool affirmed = conversation_affirms(conversation);
    if (affirmed && !standing.policy)
        return error_set(err, ERROR_INTERNAL, "affirmed without a policy");
    conversation->expires_at_ms =
        conversation->now_ms + (affirmed ? (int64_t)standing.policy->lifetime_ms : 0);
    return pack_body(conversation, &standing, made_ms, err) &&
           record(tx, conversation, &standing, &in, err) &&
           (!affirmed || offer(tx, conversation, &standing, err));
}

/* ---- E4 ---- */

bool conversation_sign(struct conversation *conversation, struct error *err)
{
    const struct slice body = buf_slice(&conversation->body);
    const struct slice generation = buf_slice(&conversation->generation_body);
    if (!identity_sign(conversation->identity, "postern appraisal v1", &body, 1,
                       &conversation->signatures, err))
        return false;
    if (generation.len > 0 &&
        !identity_sign(conversation->identity, "postern generation v1", &generation, 1,
                       &conversation->generation_signatures, err))
        return false;
    if (!conversation_affirms(conversation))
        return true;
    const Postern__V1__Evidence *evidence = (const Postern__V1__Evidence *)conversation->evidence;
    return identity_issue_node(conversation->identity, conversation->id.agent_id,
                               slice(evidence->csr.data, evidence->csr.len), conversation->now_ms,
                               conversation->now_ms + (int64_t)conversation->svid_lifetime_ms,
                               &conversation->svid, err);
}

void conversation_answer(struct conversation *conversation, struct answer *ret)
{
    Postern__V1__Appraisal *appraisal = &ret->appraisal;
    postern__v1__attest_response__init(&ret->response);
    postern__v1__appraisal__init(appraisal);
    postern__v1__generation__init(&ret->generation);
    ret->response.part_case = POSTERN__V1__ATTEST_RESPONSE__PART_APPRAISAL;
    ret->response.appraisal = appraisal;

    appraisal->body = (ProtobufCBinaryData){conversation->body.len, conversation->body.data};
    appraisal->n_signatures = SIGNER_COUNT;
    appraisal->signatures = conversation->signatures.messages;
    identity_signer_certificates(conversation->identity, ret->signers);
    appraisal->n_signer_certificates = SIGNER_COUNT;
    appraisal->signer_certificates = ret->signers;
    const struct bundle *bundle = identity_bundle(conversation->identity);
    appraisal->n_bundle = SIGNER_COUNT;
    appraisal->bundle = (ProtobufCBinaryData *)bundle->certificates;
    if (conversation->svid.len > 0) {
        ret->svid = (ProtobufCBinaryData){conversation->svid.len, conversation->svid.data};
        appraisal->n_svid = 1;
        appraisal->svid = &ret->svid;
    }
    if (conversation->generation_body.len > 0) {
        ret->generation.body = (ProtobufCBinaryData){conversation->generation_body.len,
                                                     conversation->generation_body.data};
        ret->generation.n_signatures = SIGNER_COUNT;
        ret->generation.signatures = conversation->generation_signatures.messages;
        appraisal->node_key = &ret->generation;
    }
}
