/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* OpenSSL works on the descriptor itself, in the place of read(2) and send(2): what a peer sends
 * is decrypted into the loop's scratch, which conn.c wipes, and answers are encrypted out of the
 * connection's own buffer. Nothing in between keeps plain text. */
#include "config.h"

#include "daemon/transport/tls.h"

#include "client/proto/str.h"
#include "daemon/log.h"
#include "daemon/transport/conn.h"
#include "daemon/transport/tls_files.h"
#include "daemon/transport/tls_hello.h"
#include "daemon/transport/tls_ticket.h"

#include <errno.h>
#include <openssl/err.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>

struct tls {
    struct tls_options options;
    SSL_CTX *fresh;       /* read and put aside; for the main thread alone */
    pthread_mutex_t lock; /* of present */
    SSL_CTX *present;
};

/* Behind records without data OpenSSL reads on by itself, and a peer may send as many of them as it
 * likes: key updates, attempts to renegotiate. So it gets no more than this from the kernel in one
 * read, and whoever else is on the loop has a turn. */
enum { READ_MAX = 32 * 1024 };

enum {
    CLIENT_CHAIN_MAX = 32 * 1024, /* bytes of a client's certificates */
    ASIDES_MAX = 64 /* in the life of a connection; who renews keys does so after gigabytes */
};

/* Of a connection. */
struct tls_conn {
    SSL *ssl;
    bool greeted;  /* the handshake is done, and was logged */
    bool ended;    /* the peer said that it sends no more */
    bool broken;   /* nothing can be sent or read any more */
    bool stalled;  /* reading cannot go on before something was sent */
    bool more;     /* another read may give something that the kernel does not tell of */
    bool parting;  /* our close_notify is on its way */
    size_t left;   /* bytes that this read may still take from the kernel */
    unsigned asides; /* key updates, and attempts to renegotiate, that the peer has sent */
    struct tls_hello hello;
};

/* --- contexts ----------------------------------------------------------------------------- */

/* RFC 7301: a client that speaks nothing but other protocols is told so. */
static int
on_alpn(SSL *ssl, const unsigned char **ret, unsigned char *ret_n, const unsigned char *offered,
        unsigned n, void *arg)
{
    static const unsigned char ours[] = "\x08http/1.1";
    (void)ssl;
    (void)arg;
    unsigned char *chosen;
    if (SSL_select_next_proto(&chosen, ret_n, ours, sizeof ours - 1, offered, n) !=
        OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *ret = chosen;
    return SSL_TLSEXT_ERR_OK;
}

/* What a machine-wide openssl.cnf says is overruled. In TLS 1.2 only suites with forward secrecy
 * and authenticated encryption; of 1.3 all have both. */
static bool
set_protocol(SSL_CTX *ctx, const struct tls_options *o)
{
    SSL_CTX_set_security_level(ctx, 2);
    SSL_CTX_set_options(ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA |
                                 SSL_OP_CLEANSE_PLAINTEXT | SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_clear_options(ctx, SSL_OP_NO_TICKET | SSL_OP_LEGACY_SERVER_CONNECT |
                                   SSL_OP_ALLOW_UNSAFE_LEGACY_RENEGOTIATION);
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_read_ahead(ctx, 1);
    SSL_CTX_set_max_cert_list(ctx, CLIENT_CHAIN_MAX);
    SSL_CTX_set_alpn_select_cb(ctx, on_alpn, NULL);
    return SSL_CTX_set_min_proto_version(ctx, o->version_min) == 1 &&
           SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) == 1 &&
           SSL_CTX_set_cipher_list(ctx, "ECDHE+AESGCM:ECDHE+CHACHA20") == 1 &&
           SSL_CTX_set_ciphersuites(ctx, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:"
                                         "TLS_CHACHA20_POLY1305_SHA256") == 1 &&
           SSL_CTX_set1_groups_list(ctx, "X25519:P-256:P-384:P-521") == 1;
}

static void
set_clients(SSL_CTX *ctx, const struct tls_options *o)
{
    int required = o->client_required ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0;
    SSL_CTX_set_verify(ctx, o->client_ca ? SSL_VERIFY_PEER | required : SSL_VERIFY_NONE, NULL);
}

static SSL_CTX *
ctx_new(const struct tls_options *o, struct conf_error *err)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    if (!ctx || !set_protocol(ctx, o) || !tls_ticket_use(ctx)) {
        const char *why = ERR_reason_error_string(ERR_peek_error());
        snprintf(err->text, sizeof err->text, "%s: [http] tls_certificate: %s",
                 conf_where(o->values, "tls_certificate", 0), why ? why : "out of memory");
        ERR_clear_error();
        SSL_CTX_free(ctx);
        return NULL;
    }
    set_clients(ctx, o);
    if (tls_files_load(ctx, o, err))
        return ctx;
    SSL_CTX_free(ctx);
    return NULL;
}

struct tls *
tls_new(const struct tls_options *options, struct conf_error *err)
{
    SSL_CTX *ctx = ctx_new(options, err);
    struct tls *tls = ctx ? calloc(1, sizeof *tls) : NULL;
    if (!tls) {
        if (ctx)
            snprintf(err->text, sizeof err->text, "out of memory");
        SSL_CTX_free(ctx);
        return NULL;
    }
    tls->options = *options;
    tls->present = ctx;
    pthread_mutex_init(&tls->lock, NULL);
    return tls;
}

bool
tls_reread(struct tls *tls, struct conf_error *err)
{
    tls_forget(tls);
    tls->fresh = ctx_new(&tls->options, err);
    return tls->fresh != NULL;
}

void
tls_renew(struct tls *tls)
{
    if (!tls->fresh)
        return;
    pthread_mutex_lock(&tls->lock);
    SSL_CTX *old = tls->present;
    tls->present = tls->fresh;
    pthread_mutex_unlock(&tls->lock);
    tls->fresh = NULL;
    SSL_CTX_free(old); /* connections hold it as long as they need it */
}

void
tls_forget(struct tls *tls)
{
    SSL_CTX_free(tls->fresh);
    tls->fresh = NULL;
}

void
tls_free(struct tls *tls)
{
    if (!tls)
        return;
    tls_forget(tls);
    SSL_CTX_free(tls->present);
    pthread_mutex_destroy(&tls->lock);
    free(tls);
}

static SSL *
tls_ssl(struct tls *tls)
{
    pthread_mutex_lock(&tls->lock);
    SSL *ssl = SSL_new(tls->present);
    pthread_mutex_unlock(&tls->lock);
    return ssl;
}

/* --- what goes wrong ---------------------------------------------------------------------- */

#define PLAIN_BODY                                                                               \
    "{\"type\":\"https://tools.ietf.org/html/rfc7231#section-6.5.1\",\"title\":\"Bad Request\"," \
    "\"status\":400,\"detail\":\"this port speaks HTTPS only\"}\n"

/* A client that speaks HTTP to an HTTPS port is told so in HTTP; its request, which went over the
 * wire in plain text, is not looked at. */
static void
answer_plain(const struct conn *conn)
{
    char text[512];
    int n = snprintf(text, sizeof text,
                     "HTTP/1.1 400 Bad Request\r\nContent-Type: application/problem+json\r\n"
                     "Content-Length: %zu\r\nConnection: close\r\n\r\n" PLAIN_BODY,
                     sizeof PLAIN_BODY - 1);
    if (send(conn->fd, text, (size_t)n, MSG_NOSIGNAL) != n)
        log_line(LOG_LEVEL_DEBUG, "tls.plain", "peer=%s message=%s", conn->peer.remote,
                 "not told");
}

/* Ends the connection in a way that lets our alert arrive. */
static ssize_t
refuse(struct conn *conn, struct tls_conn *tls)
{
    unsigned long error = ERR_peek_error();
    const char *why = ERR_reason_error_string(error);
    log_line(LOG_LEVEL_INFO, "tls.refused", "peer=%s during=%s why=%s", conn->peer.remote,
             tls->greeted ? "connection" : "handshake", why ? why : "unknown");
    if (ERR_GET_LIB(error) == ERR_LIB_SSL && ERR_GET_REASON(error) == SSL_R_HTTP_REQUEST)
        answer_plain(conn);
    ERR_clear_error();
    conn_finish(conn);
    errno = EAGAIN;
    return -1;
}

/* As of read(2) and send(2), after a call of OpenSSL's that did not give result > 0. */
static ssize_t
stopped(struct conn *conn, struct tls_conn *tls, int result)
{
    int saved = errno;
    switch (SSL_get_error(tls->ssl, result)) {
    case SSL_ERROR_WANT_READ:
        errno = EAGAIN;
        return -1;
    case SSL_ERROR_WANT_WRITE:
        tls->stalled = true;
        errno = EAGAIN;
        return -1;
    case SSL_ERROR_ZERO_RETURN:
        tls->ended = true;
        return 0;
    case SSL_ERROR_SSL:
        tls->broken = true;
        return refuse(conn, tls);
    default:
        tls->broken = true;
        errno = saved && saved != EAGAIN ? saved : ECONNRESET;
        return -1;
    }
}

/* --- the connection ----------------------------------------------------------------------- */

static void
greet(const struct conn *conn, struct tls_conn *tls)
{
    tls->greeted = true;
    if (!log_enabled(LOG_LEVEL_DEBUG))
        return;
    char client[256] = "";
    X509 *cert = SSL_get0_peer_certificate(tls->ssl);
    if (cert)
        X509_NAME_oneline(X509_get_subject_name(cert), client, sizeof client);
    log_line(LOG_LEVEL_DEBUG, "tls.begun", "peer=%s version=%s cipher=%s resumed=%d client=%s",
             conn->peer.remote, SSL_get_version(tls->ssl), SSL_get_cipher_name(tls->ssl),
             SSL_session_reused(tls->ssl), client);
}

/* Reads until the room is full, the kernel has no more, or OpenSSL holds nothing that the kernel
 * would not tell of. */
static ssize_t
read_records(struct conn *conn, struct tls_conn *tls, char *p, size_t room)
{
    size_t got = 0, n;
    for (;;) {
        ERR_clear_error();
        errno = 0;
        int result = SSL_read_ex(tls->ssl, p + got, room - got, &n);
        if (!tls->greeted && SSL_is_init_finished(tls->ssl))
            greet(conn, tls);
        if (result != 1) {
            ssize_t end = stopped(conn, tls, result);
            return got > 0 ? (ssize_t)got : end;
        }
        got += n;
        tls->more = got == room;
        if (got == room || !SSL_has_pending(tls->ssl))
            return (ssize_t)got;
    }
}

static ssize_t
tls_read(struct conn *conn, void *p, size_t room)
{
    struct tls_conn *tls = conn->io_state;
    if (tls->ended)
        return 0;
    if (tls->broken) {
        errno = ECONNRESET;
        return -1;
    }
    tls->more = tls->stalled = false;
    tls->left = READ_MAX;
    return read_records(conn, tls, p, room);
}

/* A record at a time, and only a full kernel ends it early: see push_out(). */
static ssize_t
tls_send(struct conn *conn, const void *p, size_t n)
{
    struct tls_conn *tls = conn->io_state;
    size_t sent = 0, some;
    while (sent < n && !tls->broken) {
        ERR_clear_error();
        errno = 0;
        int result = SSL_write_ex(tls->ssl, (const char *)p + sent, n - sent, &some);
        if (result != 1) {
            bool full = SSL_get_error(tls->ssl, result) == SSL_ERROR_WANT_WRITE;
            tls->broken = !full;
            errno = full ? EAGAIN : EPIPE;
            return sent > 0 ? (ssize_t)sent : -1;
        }
        sent += some;
    }
    errno = EPIPE;
    return sent > 0 ? (ssize_t)sent : -1;
}

static enum conn_io_wants
tls_wants(const struct conn *conn)
{
    const struct tls_conn *tls = conn->io_state;
    if (tls->stalled)
        return CONN_IO_ROOM;
    return tls->more || tls->ended || tls->broken ? CONN_IO_READ : CONN_IO_NOTHING;
}

/* RFC 8446 section 6.1. The peer's is not waited for: HTTP says itself where it ends. */
static int
tls_part(struct conn *conn)
{
    struct tls_conn *tls = conn->io_state;
    bool said = (SSL_get_shutdown(tls->ssl) & SSL_SENT_SHUTDOWN) && !tls->parting;
    if (tls->broken || said || !SSL_is_init_finished(tls->ssl))
        return 0;
    ERR_clear_error();
    int result = SSL_shutdown(tls->ssl);
    tls->parting = result < 0 && SSL_get_error(tls->ssl, result) == SSL_ERROR_WANT_WRITE;
    ERR_clear_error();
    errno = tls->parting ? EAGAIN : EPIPE;
    return result < 0 ? -1 : 0;
}

/* An answer that is cut off must not look whole. */
static void
tls_freed(struct conn *conn)
{
    struct tls_conn *tls = conn->io_state;
    if (conn->out.n == conn->sent && !conn->out.failed)
        tls_part(conn);
    SSL_free(tls->ssl);
    free(tls);
    conn->io_state = NULL;
}

static const struct conn_io tls_io = {
    .read = tls_read,
    .send = tls_send,
    .wants = tls_wants,
    .part = tls_part,
    .freed = tls_freed,
};

/* In TLS 1.3, and until it is settled which version is spoken, a client sends nothing but hellos
 * without a key. Of TLS 1.2 there is nothing to be said: no other message may be long. */
static bool
is_bearable(struct tls_conn *tls, const char *p, size_t n)
{
    return tls->greeted || SSL_version(tls->ssl) == TLS1_2_VERSION ||
           tls_hello_look(&tls->hello, p, n);
}

/* What OpenSSL deals with by itself, and SSL_read() does not tell of. */
static void
on_message(int sent, int version, int type, const void *bytes, size_t n, SSL *ssl, void *arg)
{
    (void)version, (void)ssl;
    const unsigned char *p = bytes;
    struct tls_conn *tls = arg;
    if (!sent && type == SSL3_RT_HANDSHAKE && n > 0 && p[0] == SSL3_MT_KEY_UPDATE)
        tls->asides++;
    else if (sent && type == SSL3_RT_ALERT && n == 2 && p[1] == SSL_AD_NO_RENEGOTIATION)
        tls->asides++;
}

/* BIO_callback_fn_ex. When a read has had its share, the kernel seems to have no more; from a peer
 * that is not to be borne nothing can be read. */
static long
on_bio(BIO *bio, int what, const char *p, size_t n, int i, long l, int result, size_t *done)
{
    (void)n, (void)i, (void)l;
    struct tls_conn *tls = (void *)BIO_get_callback_arg(bio);
    if (what == (BIO_CB_READ | BIO_CB_RETURN) && result > 0) {
        tls->left -= *done < tls->left ? *done : tls->left;
        return is_bearable(tls, p, *done) ? result : -1;
    }
    if (what != BIO_CB_READ)
        return result;
    if (tls->asides > ASIDES_MAX)
        return -1;
    if (tls->left > 0)
        return result;
    tls->more = true;
    BIO_set_retry_read(bio);
    return -1;
}

bool
tls_begin(struct tls *tls, struct conn *conn)
{
    struct tls_conn *state = calloc(1, sizeof *state);
    SSL *ssl = state ? tls_ssl(tls) : NULL;
    if (!ssl || SSL_set_fd(ssl, conn->fd) != 1) {
        ERR_clear_error();
        SSL_free(ssl);
        free(state);
        return false;
    }
    BIO_set_callback_arg(SSL_get_rbio(ssl), (char *)state);
    BIO_set_callback_ex(SSL_get_rbio(ssl), on_bio);
    SSL_set_msg_callback(ssl, on_message);
    SSL_set_msg_callback_arg(ssl, state);
    SSL_set_accept_state(ssl);
    state->ssl = ssl;
    conn->io = &tls_io;
    conn->io_state = state;
    return true;
}
