/*
 * struct identity: the authority's keys and what is done with them.
 *
 *   ca.key, ca.pem                P-384: SVIDs, operators, our own certificates. The trust anchor.
 *   packets-p384.key, .pem        sign appraisals, generations and packets, both together; certified
 *   packets-ml-dsa-65.key, .pem   by the CA as spiffe://TRUST-DOMAIN/postern/authority/packets
 *   kek                           32 bytes: wraps what the database must not show
 *
 * The server's certificate is issued anew, for a fresh key, at each start and each day: there is no
 * file of it that could expire unnoticed.
 *
 * Asymmetric operations may block where a key lives in a device, so they happen on the signer's
 * thread: identity_submit runs a job there, and the functions marked "signer" are called from within
 * such a job (init, which has no loop, calls them directly).
 * Threading: the loop's, but for those marked "signer" and "any".
 */
#pragma once

#include "attest/identity.h"
#include "base/secret.h"
#include "keys/key.h"
#include "loop/loop.h"
#include "tls/tls.h"

#include "postern/v1/node.pb-c.h"

struct identity;
struct kek;

constexpr size_t TRUST_DOMAIN_SIZE = 256;   /* 255 bytes and a NUL: SPIFFE ID specification, 2.1 */
constexpr size_t SIGNER_QUEUE_MAX = 1024;   /* jobs; a flood of requests is refused, not piled up */
constexpr size_t CERTIFICATE_DER_MAX = 16 * 1024; /* one of ours with an ML-DSA-65 key has 4 KiB */
constexpr size_t CSR_DER_MAX = 8 * 1024;    /* a node's; an ML-DSA-65 one has 6 KiB */
constexpr size_t SIGNER_COUNT = 2;          /* P-384 and ML-DSA-65 */
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

/* A server context with a certificate that is made now (blocks some hundred microseconds; signer). */
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

/* Any. DER of the two signers' certificates and of the CA, borrowed for the identity's life. */
void identity_signer_certificates(const struct identity *identity,
                                  ProtobufCBinaryData ret[static SIGNER_COUNT]);
ProtobufCBinaryData identity_ca_certificate(const struct identity *identity);

/* ---- Certificates ---- */

/* Any. The CSR is a PKCS#10 whose signature proves the key, which is P-256 or P-384. INVALID, with
 * reason CSR_INVALID. Names and extensions in it are never looked at. */
[[nodiscard]] bool identity_check_csr(struct slice csr, struct error *err);

/* Signer. Appends the DER of an SVID for the node: our name for it, the CSR's key, valid from a minute
 * ago (clocks differ) until `until_ms` (Unix time), which is cut to the CA's own end. */
[[nodiscard]] bool identity_issue_node(const struct identity *identity, const char *agent_id,
                                       struct slice csr, int64_t now_ms, int64_t until_ms,
                                       struct buf *ret, struct error *err);

/* ---- Wrapping: what the database keeps secret ---- */

const struct kek *identity_kek(const struct identity *identity);

/* Any. Appends version 1 | salt 32 | ciphertext ‖ tag: AES-256-GCM under a key and an IV that HKDF
 * makes of the KEK and the fresh salt. `context` says what it is and whose ("node key", agent_id, …):
 * prefixed parts, authenticated, not stored, so a row can't stand in for another. */
[[nodiscard]] bool kek_wrap(const struct kek *kek, struct slice context,
                            const struct secret *plain, struct buf *ret, struct error *err);
/* Any. DENIED (reason KEK_MISMATCH) for another context, another KEK or a damaged row. */
[[nodiscard]] bool kek_unwrap(const struct kek *kek, struct slice context, struct slice wrapped,
                              struct secret **ret, struct error *err);
constexpr size_t KEK_OVERHEAD = 1 + 32 + 16;
