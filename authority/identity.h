/*
 * struct identity: the authority's keys and what is done with them.
 *
 *   ca.key, ca.pem           P-384: SVIDs, operators, the server's certificate, packets-p384
 *   ca-ml-dsa-65.key, .pem   certifies packets-ml-dsa-65 alone. Both CAs together are the trust
 *                            anchor, so that breaking one algorithm forges nothing
 *   packets-p384.key         sign appraisals, generations, heads and packets, both together, as
 *   packets-ml-dsa-65.key    spiffe://TRUST-DOMAIN/postern/authority/packets
 *   kek                      32 bytes: wraps what the database must not show
 *   server-names             DNS names of the server's certificate, one a line
 *
 * Certificates of the server (for a fresh key) and of the packet signers are issued anew at each
 * start, the server's also each day: there is no file of them that could expire unnoticed.
 *
 * Asymmetric operations may block where a key lives in a device, so they happen on the signer's
 * thread: identity_submit runs a job there, and the functions marked "signer" are called from within
 * such a job (init, which has no loop, calls them directly).
 * Threading: the loop's, but for those marked "signer" and "any".
 */
#pragma once

#include "kek.h"

#include "base/crypt.h"
#include "keys/key.h"
#include "loop/loop.h"
#include "spiffe/ca.h"
#include "tls/tls.h"

#include "postern/v1/node.pb-c.h"

struct identity;

constexpr size_t TRUST_DOMAIN_SIZE = SPIFFE_TRUST_DOMAIN_MAX + 1;
constexpr size_t SIGNER_QUEUE_MAX = 1024; /* jobs; a flood of requests is refused, not piled up */
constexpr size_t SIGNER_COUNT = 2;        /* P-384 and ML-DSA-65 */
constexpr size_t KEY_ID_SIZE = 8;

/* `loop` may be null: then there is no signer's thread. NOT_FOUND, DENIED, INVALID name the file. */
[[nodiscard]] bool identity_open(struct loop *loop, const char *data_dir, const char *trust_domain,
                                 struct identity **ret, struct error *err);
/* Waits for the running job. Takes null; returns null. */
struct identity *identity_free(struct identity *identity);
DEFINE_CLEANUP(identity_free, struct identity)

/* Runs `run(arg)` on the signer's thread, then `done` on the loop, as worker_submit. EXHAUSTED. */
[[nodiscard]] bool identity_submit(struct identity *identity,
                                   bool (*run)(void *arg, struct error *err),
                                   void (*done)(void *arg, bool ok, const struct error *err),
                                   void *arg, uint64_t deadline, struct error *err);

/* Signer. A server context with a certificate that is made now: what is listened with. Client
 * certificates are asked for, not demanded, and must be SVIDs of our own CA. */
[[nodiscard]] bool identity_server_tls(struct identity *identity, struct tls_context **ret,
                                       struct error *err);

/* ---- Signatures ---- */

/* Both signatures as they travel. Embedded; dual_init before use, dual_done after. The pointers of
 * `messages` make a repeated field: response.signatures = dual->messages. */
struct dual_signature {
    Postern__V1__Signature storage[SIGNER_COUNT];
    Postern__V1__Signature *messages[SIGNER_COUNT];
    struct buf bytes[SIGNER_COUNT];
};
void dual_init(struct dual_signature *dual);
void dual_done(struct dual_signature *dual);

/* Signer. Signs the prefixed parts `tag`, parts[0], … by both keys (docs/protocol.md, Signatures),
 * into an initialised, empty `ret`. */
[[nodiscard]] bool identity_sign(const struct identity *identity, const char *tag,
                                 const struct slice *parts, size_t count,
                                 struct dual_signature *ret, struct error *err);

/* Any. DER of the two signers' certificates, borrowed for the identity's life. */
void identity_signer_certificates(const struct identity *identity,
                                  ProtobufCBinaryData ret[static SIGNER_COUNT]);

/* The trust domain's CA certificates as nodes get them, borrowed for the identity's life. */
struct bundle {
    ProtobufCBinaryData certificates[SIGNER_COUNT]; /* DER */
    uint8_t hash[SHA256_SIZE]; /* over them, each length-prefixed (AppraisalBody.bundle_hash) */
};
/* Any. */
const struct bundle *identity_bundle(const struct identity *identity);

/* ---- Certificates ---- */

/* Signer. Appends the DER of an SVID for the node: our name for it, the CSR's key, valid from a minute
 * ago (clocks differ) until `until_ms` (Unix time, whole seconds), which is cut to the CA's own end.
 * The CSR proves its key; names and extensions in it are never looked at. INVALID. */
[[nodiscard]] bool identity_issue_node(const struct identity *identity, const char *agent_id,
                                       struct slice csr, int64_t now_ms, int64_t until_ms,
                                       struct buf *ret, struct error *err);

/* Makes the keys in the empty folder `data_dir`, with the CAs' certificates: for init. */
[[nodiscard]] bool identity_create(const char *data_dir, const char *trust_domain,
                                   const char *const *server_names, size_t server_name_count,
                                   struct error *err);
/* A certificate for an operator and its new private key, which is saved at `key_path`. Appends the
 * certificate as PEM. INVALID for a NAME that a SPIFFE ID can't have. */
[[nodiscard]] bool identity_issue_operator(const struct identity *identity, const char *name,
                                           const char *key_path, int64_t now_ms,
                                           struct buf *ret_pem, struct error *err);

/* Appends the trust anchor as PEM: what nodes and operators check us against. */
void identity_anchor(const struct identity *identity, struct buf *ret);

/* Any. */
const struct kek *identity_kek(const struct identity *identity);
