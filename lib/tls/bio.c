/* The BIO between libssl and our buffers: no copy of the ciphertext in between, as memory BIOs
 * would make. */
#include "tls/internal.h"

#include "base/mem.h"

#include <openssl/bio.h>

static int bio_read(BIO *bio, char *to, size_t len, size_t *ret)
{
    struct tls_session *session = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    size_t n = len < session->in.len ? len : session->in.len;
    if (n == 0) {
        BIO_set_retry_read(bio);
        return 0;
    }
    /* libssl reads record by record, so what it reads before the end of the handshake belongs to
     * the handshake. */
    if (session->state == TLS_HANDSHAKE) {
        session->handshake_bytes += n;
        session->flooded = session->handshake_bytes > TLS_HANDSHAKE_MAX;
        if (session->flooded)
            return 0;
    }
    mem_copy(to, session->in.data, n);
    session->in = slice(session->in.data + n, session->in.len - n);
    *ret = n;
    return 1;
}

static int bio_write(BIO *bio, const char *from, size_t len, size_t *ret)
{
    struct tls_session *session = BIO_get_data(bio);
    struct error ignored;
    BIO_clear_retry_flags(bio);
    buf_put(&session->out, slice(from, len));
    *ret = len;
    return buf_ok(&session->out, &ignored);
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

bool tls_bio_method_new(BIO_METHOD **ret, struct error *err)
{
    /* Nobody asks for its type, and numbers of their own are few in a process. */
    BIO_METHOD *method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "session");
    if (method && BIO_meth_set_read_ex(method, bio_read) == 1 &&
        BIO_meth_set_write_ex(method, bio_write) == 1 && BIO_meth_set_ctrl(method, bio_ctrl) == 1) {
        *ret = method;
        return true;
    }
    BIO_meth_free(method);
    return error_set_memory(err);
}

bool tls_bio_new(struct tls_session *session, BIO **ret, struct error *err)
{
    BIO *bio = BIO_new(session->context->bio_method);
    if (!bio)
        return error_set_memory(err);
    BIO_set_data(bio, session);
    BIO_set_init(bio, 1);
    *ret = bio;
    return true;
}
