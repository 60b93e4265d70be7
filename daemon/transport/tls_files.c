/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/transport/tls_files.h"

#include "client/proto/str.h"
#include "client/proto/wipe.h"
#include "daemon/log.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { EXPIRES_SOON_DAYS = 7, TEXT_MAX = 256 };

/* One option and the file that it names. */
struct source {
    const struct conf_values *values;
    const char *option, *path;
    struct conf_error *err;
};

static bool __attribute__((format(printf, 2, 3)))
refuse(const struct source *from, const char *fmt, ...)
{
    char why[TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    snprintf(from->err->text, sizeof from->err->text, "%s: [http] %s: %.256s: %s",
             conf_where(from->values, from->option, 0), from->option, from->path, why);
    return false;
}

/* What OpenSSL said first is the cause; the rest is how it got there. */
static const char *
openssl_reason(void)
{
    const char *reason = ERR_reason_error_string(ERR_peek_error());
    return reason ? reason : "out of memory";
}

/* --- bytes -------------------------------------------------------------------------------- */

static bool
read_whole(int fd, char *p, size_t n)
{
    while (n > 0) {
        ssize_t got = read(fd, p, n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got == 0)
            errno = EIO;
        if (got <= 0)
            return false;
        p += got;
        n -= (size_t)got;
    }
    return true;
}

static bool
read_text(const struct source *from, int fd, struct kt_str *ret)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return refuse(from, "%s", strerror(errno));
    if (!S_ISREG(st.st_mode) || st.st_size == 0 || st.st_size > TLS_FILE_MAX)
        return refuse(from, "accepted: a regular file of 1 to %d bytes", (int)TLS_FILE_MAX);
    size_t n = (size_t)st.st_size;
    char *text = malloc(n);
    if (text && read_whole(fd, text, n)) {
        *ret = (struct kt_str){ text, n };
        return true;
    }
    refuse(from, "%s", strerror(errno));
    if (text)
        kt_wipe(text, n);
    free(text);
    return false;
}

/* Into memory of ours, since nobody would wipe a buffer of stdio. */
static BIO *
open_text(const struct source *from, struct kt_str *ret)
{
    int fd = open(from->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        refuse(from, "%s", strerror(errno));
        return NULL;
    }
    bool ok = read_text(from, fd, ret);
    close(fd);
    if (!ok)
        return NULL;
    ERR_clear_error();
    BIO *bio = BIO_new_mem_buf(ret->p, (int)ret->n);
    if (!bio)
        refuse(from, "out of memory");
    return bio;
}

static void
close_text(BIO *bio, struct kt_str text)
{
    BIO_free(bio);
    if (text.p)
        kt_wipe((char *)(uintptr_t)text.p, text.n);
    free((char *)(uintptr_t)text.p);
}

/* --- certificates ------------------------------------------------------------------------- */

static bool
is_at_end(void)
{
    unsigned long error = ERR_peek_last_error();
    return ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE;
}

static void
free_list(STACK_OF(X509) *list)
{
    sk_X509_pop_free(list, X509_free);
}

/* Without this OpenSSL would ask whoever sits at the terminal, for a certificate as for a key. */
static int
no_password(char *buf, int size, int writing, void *ctx)
{
    (void)buf;
    (void)size;
    (void)writing;
    (void)ctx;
    return -1;
}

/* At most most certificates, at least one. */
static STACK_OF(X509) *
parse_certificates(const struct source *from, BIO *bio, int most)
{
    STACK_OF(X509) *list = sk_X509_new_null();
    X509 *cert = NULL;
    while (list && sk_X509_num(list) <= most &&
           (cert = PEM_read_bio_X509(bio, NULL, no_password, NULL)))
        if (sk_X509_push(list, cert) == 0)
            X509_free(cert);
    int n = list ? sk_X509_num(list) : 0;
    if (n > 0 && n <= most && is_at_end()) {
        ERR_clear_error();
        return list;
    }
    if (n > most)
        refuse(from, "accepted: at most %d certificates", most);
    else if (list && is_at_end())
        refuse(from, "no certificate in PEM");
    else
        refuse(from, "certificate %d: %s", n + 1, openssl_reason());
    free_list(list);
    return NULL;
}

static STACK_OF(X509) *
read_certificates(const struct source *from, int most)
{
    struct kt_str text = { NULL, 0 };
    BIO *bio = open_text(from, &text);
    STACK_OF(X509) *list = bio ? parse_certificates(from, bio, most) : NULL;
    close_text(bio, text);
    return list;
}

static bool
is_strong(const struct source *from, EVP_PKEY *key)
{
    static const char *const curves[] = { "prime256v1", "secp384r1", "secp521r1" };
    char name[80] = "";
    if (!key)
        return refuse(from, "a key of an unknown kind");
    if (EVP_PKEY_is_a(key, "RSA") || EVP_PKEY_is_a(key, "RSA-PSS"))
        return EVP_PKEY_get_bits(key) >= 2048 ||
               refuse(from, "RSA with %d bits; accepted: 2048 or more", EVP_PKEY_get_bits(key));
    if (EVP_PKEY_is_a(key, "ED25519") || EVP_PKEY_is_a(key, "ED448"))
        return true;
    if (!EVP_PKEY_is_a(key, "EC"))
        return refuse(from, "accepted: keys of RSA, P-256, P-384, P-521, Ed25519 or Ed448");
    EVP_PKEY_get_group_name(key, name, sizeof name, NULL);
    for (size_t i = 0; i < sizeof curves / sizeof curves[0]; i++)
        if (strcmp(name, curves[i]) == 0)
            return true;
    return refuse(from, "curve %s; accepted: P-256, P-384 or P-521", name);
}

/* A daemon whose certificate has expired is of more use than none. */
static void
warn_of_time(const struct source *from, const X509 *cert)
{
    const char *message = NULL;
    int days = 0, seconds = 0;
    ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(cert));
    if (X509_cmp_current_time(X509_get0_notBefore(cert)) > 0)
        message = "the certificate is not valid yet";
    else if (days < 0 || seconds < 0)
        message = "the certificate has expired";
    else if (days < EXPIRES_SOON_DAYS)
        message = "the certificate expires soon";
    if (message)
        log_line(LOG_LEVEL_WARNING, "tls.certificate", "file=%s days=%d message=%s", from->path,
                 days, message);
}

static bool
use_chain(SSL_CTX *ctx, const struct source *from, STACK_OF(X509) *list)
{
    X509 *own = sk_X509_value(list, 0);
    if (!is_strong(from, X509_get0_pubkey(own)))
        return false;
    if (SSL_CTX_use_certificate(ctx, own) != 1)
        return refuse(from, "%s", openssl_reason());
    for (int i = 1; i < sk_X509_num(list); i++)
        if (SSL_CTX_add1_chain_cert(ctx, sk_X509_value(list, i)) != 1)
            return refuse(from, "certificate %d: %s", i + 1, openssl_reason());
    warn_of_time(from, own);
    return true;
}

static bool
load_chain(SSL_CTX *ctx, const struct tls_options *o, struct conf_error *err)
{
    const struct source from = { o->values, "tls_certificate", o->certificate, err };
    STACK_OF(X509) *list = read_certificates(&from, TLS_CHAIN_MAX);
    bool ok = list && use_chain(ctx, &from, list);
    free_list(list);
    return ok;
}

/* --- the key ------------------------------------------------------------------------------ */

static bool
use_key(SSL_CTX *ctx, const struct source *from, const struct tls_options *o, EVP_PKEY *key)
{
    if (!key)
        return refuse(from, "no private key in PEM without a password");
    if (!is_strong(from, key))
        return false;
    if (X509_check_private_key(SSL_CTX_get0_certificate(ctx), key) != 1)
        return refuse(from, "not the key of the certificate in %s", o->certificate);
    return SSL_CTX_use_PrivateKey(ctx, key) == 1 || refuse(from, "%s", openssl_reason());
}

static bool
load_key(SSL_CTX *ctx, const struct tls_options *o, struct conf_error *err)
{
    const struct source from = { o->values, "tls_key", o->key, err };
    struct conf_error why;
    struct kt_str text = { NULL, 0 };
    if (!conf_check_secret_file(o->key, &why)) {
        snprintf(err->text, sizeof err->text, "%s: [http] tls_key: %.512s",
                 conf_where(o->values, "tls_key", 0), why.text);
        return false;
    }
    BIO *bio = open_text(&from, &text);
    EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL) : NULL;
    bool ok = bio && use_key(ctx, &from, o, key);
    EVP_PKEY_free(key);
    close_text(bio, text);
    return ok;
}

/* --- clients' certificates ---------------------------------------------------------------- */

static bool
use_authorities(SSL_CTX *ctx, const struct source *from, STACK_OF(X509) *list)
{
    X509_STORE *store = SSL_CTX_get_cert_store(ctx);
    for (int i = 0; i < sk_X509_num(list); i++) {
        X509 *authority = sk_X509_value(list, i);
        if (!is_strong(from, X509_get0_pubkey(authority)))
            return false;
        if (X509_check_ca(authority) == 0)
            return refuse(from, "certificate %d is not that of an authority", i + 1);
        if (X509_STORE_add_cert(store, authority) != 1 ||
            SSL_CTX_add_client_CA(ctx, authority) != 1)
            return refuse(from, "certificate %d: %s", i + 1, openssl_reason());
    }
    return true;
}

static bool
load_authorities(SSL_CTX *ctx, const struct tls_options *o, struct conf_error *err)
{
    if (!o->client_ca)
        return true;
    const struct source from = { o->values, "tls_client_ca", o->client_ca, err };
    STACK_OF(X509) *list = read_certificates(&from, TLS_AUTHORITIES_MAX);
    bool ok = list && use_authorities(ctx, &from, list);
    free_list(list);
    return ok;
}

bool
tls_files_load(SSL_CTX *ctx, const struct tls_options *options, struct conf_error *err)
{
    bool ok = load_chain(ctx, options, err) && load_key(ctx, options, err) &&
              load_authorities(ctx, options, err);
    ERR_clear_error();
    return ok;
}
