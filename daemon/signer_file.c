/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/signer_file.h"

#include "client/proto/wipe.h"
#include "daemon/conf.h"
#include "daemon/model/keyfile.h"
#include "daemon/signer.h"

#include <errno.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static const char until_name[] = "Until: ";

static bool __attribute__((format(printf, 2, 3)))
refuse(char *err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err, SIGNER_ERROR_MAX, fmt, ap);
    va_end(ap);
    return false;
}

/* --- the public half ---------------------------------------------------------------------- */

static bool
coordinate(EVP_PKEY *key, const char *name, char *text)
{
    BIGNUM *n = NULL;
    unsigned char b[SIGNER_COORDINATE];
    bool ok = EVP_PKEY_get_bn_param(key, name, &n) == 1 &&
              BN_bn2binpad(n, b, sizeof b) == (int)sizeof b;
    BN_free(n);
    if (ok)
        kt_b64url_encode(b, sizeof b, text);
    return ok;
}

/* RFC 7638: SHA-256 over the required members in order, without white space. */
static bool
thumbprint(struct signer_public *p)
{
    char text[256];
    unsigned char sum[32];
    int n = snprintf(text, sizeof text,
                     "{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"%s\",\"y\":\"%s\"}", p->x, p->y);
    if (EVP_Digest(text, (size_t)n, sum, NULL, EVP_sha256(), NULL) != 1)
        return false;
    kt_b64url_encode(sum, sizeof sum, p->kid);
    return true;
}

static bool
is_p256(EVP_PKEY *key)
{
    return key && EVP_PKEY_is_a(key, "EC") && EVP_PKEY_get_bits(key) == 256;
}

static bool
describe(EVP_PKEY *key, int64_t until_ms, struct signer_public *ret)
{
    struct signer_public p = { .until_ms = until_ms };
    unsigned char *der = p.der;
    int n = i2d_PUBKEY(key, NULL);
    if (n <= 0 || n > SIGNER_DER_MAX || i2d_PUBKEY(key, &der) != n)
        return false;
    p.nder = (size_t)n;
    if (!coordinate(key, OSSL_PKEY_PARAM_EC_PUB_X, p.x) ||
        !coordinate(key, OSSL_PKEY_PARAM_EC_PUB_Y, p.y) || !thumbprint(&p))
        return false;
    *ret = p;
    return true;
}

bool
signer_keys_make(struct signer_keys *ret, char *err)
{
    struct signer_keys keys = { .key = EVP_EC_gen("P-256"), .n = 1 };
    if (keys.key && describe(keys.key, 0, &keys.publics[0])) {
        *ret = keys;
        return true;
    }
    EVP_PKEY_free(keys.key);
    return refuse(err, "cannot make a P-256 key");
}

/* --- reading ------------------------------------------------------------------------------ */

/* One PEM block behind the private key. */
static bool
add_retired(struct signer_keys *keys, const char *name, const char *header,
            const unsigned char *der, long n)
{
    char *end = NULL;
    bool fits = keys->n < SIGNER_KEYS_MAX && strcmp(name, PEM_STRING_PUBLIC) == 0 &&
                strncmp(header, until_name, sizeof until_name - 1) == 0;
    if (!fits)
        return false;
    errno = 0;
    long long until_ms = strtoll(header + sizeof until_name - 1, &end, 10);
    if (errno != 0 || until_ms <= 0 || *end != '\n')
        return false;
    EVP_PKEY *key = d2i_PUBKEY(NULL, &der, n);
    bool ok = is_p256(key) && describe(key, until_ms, &keys->publics[keys->n]);
    EVP_PKEY_free(key);
    keys->n += ok;
    return ok;
}

static bool
read_retired(BIO *bio, struct signer_keys *keys)
{
    char *name, *header;
    unsigned char *der;
    long n;
    bool ok = true;
    while (ok && PEM_read_bio(bio, &name, &header, &der, &n) == 1) {
        ok = add_retired(keys, name, header, der, n);
        OPENSSL_free(name);
        OPENSSL_free(header);
        OPENSSL_clear_free(der, (size_t)n);
    }
    return ok;
}

bool
signer_file_read(const char *path, struct signer_keys *ret, char *err)
{
    struct conf_error why;
    struct signer_keys keys = { .n = 1 };
    if (!conf_check_secret_file(path, &why))
        return refuse(err, "%s", why.text);
    BIO *bio = BIO_new_file(path, "re");
    char password[] = ""; /* else OpenSSL would ask whoever sits at the terminal */
    keys.key = bio ? PEM_read_bio_PrivateKey(bio, NULL, NULL, password) : NULL;
    bool good = is_p256(keys.key) && describe(keys.key, 0, &keys.publics[0]);
    bool rest = good && read_retired(bio, &keys);
    BIO_free(bio);
    if (rest) {
        *ret = keys;
        return true;
    }
    EVP_PKEY_free(keys.key);
    if (!good)
        return refuse(err, "%s: not a P-256 private key in PEM", path);
    return refuse(err, "%s: behind the private key stands something else than at most %d public "
                       "keys that were used before, each with \"%s<milliseconds>\"",
                  path, SIGNER_KEYS_MAX - 1, until_name);
}

/* --- writing ------------------------------------------------------------------------------ */

static bool
put_keys(BIO *bio, const struct signer_keys *keys)
{
    char header[64];
    bool ok = PEM_write_bio_PKCS8PrivateKey(bio, keys->key, NULL, NULL, 0, NULL, NULL) == 1;
    for (size_t i = 1; ok && i < keys->n; i++) {
        const struct signer_public *p = &keys->publics[i];
        snprintf(header, sizeof header, "%s%lld\n", until_name, (long long)p->until_ms);
        ok = PEM_write_bio(bio, PEM_STRING_PUBLIC, header, p->der, (long)p->nder) > 0;
    }
    return ok;
}

bool
signer_file_write(const char *path, const struct signer_keys *keys, bool replace, char *err)
{
    char *pem = NULL;
    BIO *bio = BIO_new(BIO_s_secmem());
    long n = bio && put_keys(bio, keys) ? BIO_get_mem_data(bio, &pem) : 0;
    errno = ENOMEM;
    bool ok = n > 0 && (replace ? keyfile_replace : keyfile_create)(path, pem, (size_t)n);
    int saved = errno;
    if (n > 0)
        kt_wipe(pem, (size_t)n);
    BIO_free(bio);
    return ok || refuse(err, "%s: cannot write the signing key: %s", path, strerror(saved));
}
