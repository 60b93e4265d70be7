/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "plugins/auth-jwt/key.h"

#include "plugins/auth-jwt/secret.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/decoder.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

/* RFC 7748 section 4: the primes of both curves, and a height of points of order 8 of the first. */
#define ED25519_PRIME  "7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFED"
#define ED448_PRIME    "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFE" \
                       "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF"
#define ED25519_ORDER8 "5FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826"

static const struct key_alg algs[] = {
    { .name = "RS256", .family = KEY_RSA, .digest = "SHA2-256" },
    { .name = "RS384", .family = KEY_RSA, .digest = "SHA2-384" },
    { .name = "RS512", .family = KEY_RSA, .digest = "SHA2-512" },
    { .name = "PS256", .family = KEY_PSS, .digest = "SHA2-256" },
    { .name = "PS384", .family = KEY_PSS, .digest = "SHA2-384" },
    { .name = "PS512", .family = KEY_PSS, .digest = "SHA2-512" },
    { .name = "ES256",
      .family = KEY_EC,
      .digest = "SHA2-256",
      .crv = "P-256",
      .group = "prime256v1",
      .field = 32 },
    { .name = "ES384",
      .family = KEY_EC,
      .digest = "SHA2-384",
      .crv = "P-384",
      .group = "secp384r1",
      .field = 48 },
    { .name = "ES512",
      .family = KEY_EC,
      .digest = "SHA2-512",
      .crv = "P-521",
      .group = "secp521r1",
      .field = 66 },
    { .name = "EdDSA", .family = KEY_EDDSA },
    { .name = "Ed25519", .family = KEY_EDDSA, .crv = "Ed25519", .pkey = EVP_PKEY_ED25519 },
    { .name = "Ed448", .family = KEY_EDDSA, .crv = "Ed448", .pkey = EVP_PKEY_ED448 },
    { .name = "HS256", .family = KEY_HMAC, .digest = "SHA2-256", .secret_min = 32 },
    { .name = "HS384", .family = KEY_HMAC, .digest = "SHA2-384", .secret_min = 48 },
    { .name = "HS512", .family = KEY_HMAC, .digest = "SHA2-512", .secret_min = 64 },
};

enum { ALG_COUNT = sizeof(algs) / sizeof(algs[0]) };

const struct key_alg *
key_alg_find(const char *name, size_t n)
{
    for (size_t i = 0; i < ALG_COUNT; i++)
        if (strlen(algs[i].name) == n && memcmp(algs[i].name, name, n) == 0)
            return &algs[i];
    return NULL;
}

const struct key_alg *
key_alg_next(const struct key_alg *alg)
{
    if (!alg)
        return algs;
    return alg + 1 < algs + ALG_COUNT ? alg + 1 : NULL;
}

bool
key_serves(const struct key *key, const struct key_alg *alg)
{
    if (key->alg == alg)
        return true;
    if (key->alg->family != KEY_EDDSA || alg->family != KEY_EDDSA)
        return false;
    return alg->pkey == 0 || EVP_PKEY_get_base_id(key->pkey) == alg->pkey;
}

void
key_done(struct key *key)
{
    free(key->kid);
    EVP_MD_free(key->digest);
    EVP_PKEY_free(key->pkey);
    if (key->secret)
        OPENSSL_cleanse(key->secret, key->nsecret);
    free(key->secret);
    *key = (struct key){ 0 };
}

void
key_set_done(struct key_set *set)
{
    for (size_t i = 0; i < set->n; i++)
        key_done(&set->v[i]);
    free(set->v);
    *set = (struct key_set){ 0 };
}

bool
key_set_has_kid(const struct key_set *set, const char *kid)
{
    for (size_t i = 0; i < set->n; i++)
        if (set->v[i].kid && strcmp(set->v[i].kid, kid) == 0)
            return true;
    return false;
}

bool
key_set_take(struct key_set *set, struct key *take_key, const char *kid, struct key_why *ret_why)
{
    struct key key = *take_key;
    *take_key = (struct key){ 0 };
    struct key *v = NULL;
    bool good = set->n < KEY_SET_MAX || key_refuse(ret_why, "more than %d keys", KEY_SET_MAX);
    if (good && kid)
        good = (key.kid = strdup(kid)) != NULL || key_refuse(ret_why, "no memory");
    if (good && key.alg->digest)
        good = (key.digest = EVP_MD_fetch(NULL, key.alg->digest, NULL)) != NULL ||
               key_refuse(ret_why, "OpenSSL has no %s", key.alg->digest);
    if (good)
        good = (v = realloc(set->v, (set->n + 1) * sizeof(*v))) != NULL ||
               key_refuse(ret_why, "no memory");
    if (!good) {
        key_done(&key);
        return false;
    }
    v[set->n] = key;
    set->v = v;
    set->n++;
    return true;
}

static bool
copy_key(struct key_set *set, const struct key *from, struct key_why *ret_why)
{
    struct key key = { .alg = from->alg };
    if (from->pkey && EVP_PKEY_up_ref(from->pkey) == 1)
        key.pkey = from->pkey;
    if (from->secret && (key.secret = malloc(from->nsecret)) != NULL) {
        memcpy(key.secret, from->secret, from->nsecret);
        key.nsecret = from->nsecret;
    }
    if (key.pkey || key.secret)
        return key_set_take(set, &key, from->kid, ret_why);
    return key_refuse(ret_why, "no memory");
}

bool
key_set_merge(struct key_set *set, const struct key_set *from, struct key_why *ret_why)
{
    size_t before = set->n;
    for (size_t i = 0; i < from->n; i++) {
        const char *kid = from->v[i].kid;
        bool good = !kid || !key_set_has_kid(set, kid) ||
                    key_refuse(ret_why, "key id \"%.64s\" stands twice", kid);
        if (good && copy_key(set, &from->v[i], ret_why))
            continue;
        while (set->n > before)
            key_done(&set->v[--set->n]);
        return false;
    }
    return true;
}

static bool
is_der_key(const unsigned char *p, size_t n)
{
    const unsigned char *at = p;
    EVP_PKEY *pkey = d2i_PUBKEY(NULL, &at, (long)n);
    at = p;
    X509 *cert = pkey ? NULL : d2i_X509(NULL, &at, (long)n);
    bool is_key = pkey || cert;
    EVP_PKEY_free(pkey);
    X509_free(cert);
    ERR_clear_error();
    return is_key;
}

/* A public key as HMAC secret is the classic confusion: everybody knows that secret. NULL: it is
 * no key that we know. */
static const char *
public_form(const unsigned char *p, size_t n)
{
    if (memmem(p, n, "-----BEGIN ", 11))
        return "a PEM file";
    if (memmem(p, n, "\"kty\"", 5))
        return "a JWK, which jwks reads";
    return is_der_key(p, n) ? "a public key or certificate in DER" : NULL;
}

/* RFC 7518 section 3.2: at least as long as the hash. */
static bool
check_secret(const struct key_alg *alg, const unsigned char *p, size_t n, struct key_why *ret_why)
{
    const char *weak = NULL;
    if (n < alg->secret_min || n > KEY_SECRET_MAX)
        return key_refuse(ret_why, "a secret for %s has %zu to %d bytes, this one has %zu",
                          alg->name, alg->secret_min, KEY_SECRET_MAX, n);
    const char *form = public_form(p, n);
    if (form)
        return key_refuse(ret_why, "this is %s, not a secret", form);
    if (secret_is_weak(p, n, &weak))
        return key_refuse(ret_why, "the secret is weak: %s; take random bytes", weak);
    return true;
}

static bool
check_rsa(const EVP_PKEY *pkey, struct key_why *ret_why)
{
    if (EVP_PKEY_get_base_id(pkey) != EVP_PKEY_RSA)
        return key_refuse(ret_why, "not an RSA key");
    int bits = EVP_PKEY_get_bits(pkey);
    if (bits < KEY_RSA_MIN || bits > KEY_RSA_MAX)
        return key_refuse(ret_why, "an RSA key has %d to %d bits, this one has %d", KEY_RSA_MIN,
                   KEY_RSA_MAX, bits);
    BIGNUM *n = NULL, *e = NULL;
    bool good = EVP_PKEY_get_bn_param(pkey, OSSL_PKEY_PARAM_RSA_N, &n) == 1 &&
                EVP_PKEY_get_bn_param(pkey, OSSL_PKEY_PARAM_RSA_E, &e) == 1 && BN_is_odd(n) &&
                BN_is_odd(e) && BN_num_bits(e) >= KEY_EXPONENT_MIN &&
                BN_num_bits(e) <= KEY_EXPONENT_MAX;
    BN_free(n);
    BN_free(e);
    return good || key_refuse(ret_why, "the RSA exponent must be odd, above 65536 and below 2^64");
}

static bool
check_ec(EVP_PKEY *pkey, const struct key_alg *alg, struct key_why *ret_why)
{
    char group[64] = "";
    int explicit_curve = 0;
    if (EVP_PKEY_get_base_id(pkey) != EVP_PKEY_EC)
        return key_refuse(ret_why, "not an elliptic curve key");
    (void)EVP_PKEY_get_int_param(pkey, OSSL_PKEY_PARAM_EC_DECODED_FROM_EXPLICIT_PARAMS,
                                 &explicit_curve);
    if (explicit_curve)
        return key_refuse(ret_why, "the curve is not named, but spelled out");
    if (EVP_PKEY_get_group_name(pkey, group, sizeof(group), NULL) != 1 ||
        strcmp(group, alg->group) != 0)
        return key_refuse(ret_why, "%s needs a key on %s", alg->name, alg->crv);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, pkey, NULL);
    bool good = ctx && EVP_PKEY_public_check(ctx) == 1;
    EVP_PKEY_CTX_free(ctx);
    return good || key_refuse(ret_why, "the point is not on the curve");
}

/* Whether a few steps lead from the point back to the start: under such a key a signature can be
 * made up without anything secret. Those points are known by their height, which is 0, 1, that of
 * the points of order 8, or the negative of one of them; the top bit tells left from right. */
static bool
is_small_order(const EVP_PKEY *pkey)
{
    bool ed448 = EVP_PKEY_get_base_id(pkey) == EVP_PKEY_ED448;
    unsigned char raw[57] = { 0 };
    size_t n = sizeof(raw);
    BIGNUM *y = NULL, *prime = NULL, *order8 = NULL;
    bool read = EVP_PKEY_get_raw_public_key(pkey, raw, &n) == 1 &&
                BN_hex2bn(&prime, ed448 ? ED448_PRIME : ED25519_PRIME) &&
                BN_hex2bn(&order8, ED25519_ORDER8);
    raw[n - 1] &= 0x7f;
    y = BN_lebin2bn(raw, (int)n, NULL);
    /* A number that is not smaller than the prime stands for what is left of it. */
    bool small = !read || !y || (BN_cmp(y, prime) >= 0 && !BN_sub(y, y, prime));
    for (int sign = 0; !small && sign < 2; sign++)
        small = BN_is_zero(y) || BN_is_one(y) || (!ed448 && BN_cmp(y, order8) == 0) ||
                !BN_sub(y, prime, y);
    BN_free(y);
    BN_free(prime);
    BN_free(order8);
    return small;
}

static bool
check_ed(const EVP_PKEY *pkey, const struct key_alg *alg, struct key_why *ret_why)
{
    int id = EVP_PKEY_get_base_id(pkey);
    if (alg->pkey && id != alg->pkey)
        return key_refuse(ret_why, "not an %s key", alg->name);
    if (id != EVP_PKEY_ED25519 && id != EVP_PKEY_ED448)
        return key_refuse(ret_why, "not an Ed25519 or Ed448 key");
    return !is_small_order(pkey) ||
           key_refuse(ret_why, "the point has a small order: anybody could sign");
}

bool
key_check_pkey(EVP_PKEY *pkey, const struct key_alg *alg, struct key_why *ret_why)
{
    switch (alg->family) {
    case KEY_RSA:
    case KEY_PSS:
        return check_rsa(pkey, ret_why);
    case KEY_EC:
        return check_ec(pkey, alg, ret_why);
    case KEY_EDDSA:
        return check_ed(pkey, alg, ret_why);
    case KEY_HMAC:
        break;
    }
    return key_refuse(ret_why, "%s takes no public key", alg->name);
}

static EVP_PKEY *
pkey_from_cert(BIO *bio)
{
    char password[] = ""; /* else OpenSSL would ask whoever sits at the terminal */
    X509 *cert = PEM_read_bio_X509(bio, NULL, NULL, password);
    EVP_PKEY *pkey = cert ? X509_get_pubkey(cert) : NULL;
    X509_free(cert);
    return pkey;
}

static EVP_PKEY *
pkey_from_public(BIO *bio)
{
    EVP_PKEY *pkey = NULL;
    OSSL_DECODER_CTX *ctx = OSSL_DECODER_CTX_new_for_pkey(
        &pkey, "PEM", NULL, NULL, OSSL_KEYMGMT_SELECT_PUBLIC_KEY, NULL, NULL);
    if (ctx)
        (void)OSSL_DECODER_from_bio(ctx, bio);
    OSSL_DECODER_CTX_free(ctx);
    return pkey;
}

static EVP_PKEY *
pkey_from_pem(const struct keyfile *text, struct key_why *ret_why)
{
    if (memmem(text->p, text->n, "PRIVATE KEY-----", 16)) {
        key_refuse(ret_why,
                   "a private key; kaitend needs the public one and should not hold the other");
        return NULL;
    }
    BIO *bio = BIO_new_mem_buf(text->p, (int)text->n);
    bool cert = memmem(text->p, text->n, "-----BEGIN CERTIFICATE-----", 27) != NULL;
    EVP_PKEY *pkey = bio ? (cert ? pkey_from_cert(bio) : pkey_from_public(bio)) : NULL;
    BIO_free(bio);
    ERR_clear_error();
    if (!pkey)
        key_refuse(ret_why, "no public key or certificate in PEM");
    return pkey;
}

/* Editors and echo end text with a newline that nobody counts as part of the secret; a file of
 * random bytes stays as it is. */
static void
trim_text_secret(struct keyfile *text)
{
    size_t n = text->n;
    if (n > 0 && text->p[n - 1] == '\n')
        n--;
    if (n > 0 && n < text->n && text->p[n - 1] == '\r')
        n--;
    for (size_t i = 0; i < n; i++)
        if (text->p[i] < 0x20 || text->p[i] > 0x7e)
            return;
    text->n = n;
}

bool
key_take_secret(struct key *key, const void *p, size_t n, struct key_why *ret_why)
{
    if (!check_secret(key->alg, p, n, ret_why))
        return false;
    key->secret = malloc(n);
    if (!key->secret)
        return key_refuse(ret_why, "no memory");
    memcpy(key->secret, p, n);
    key->nsecret = n;
    return true;
}

static bool
key_from_secret(struct keyfile *text, unsigned flags, struct key *key, struct key_why *ret_why)
{
    if ((text->mode & 077) && !(flags & KEY_ANY_MODE))
        return key_refuse(ret_why, "a secret that others than its owner may read; chmod 600");
    size_t whole = text->n;
    trim_text_secret(text);
    bool good = key_take_secret(key, text->p, text->n, ret_why);
    text->n = whole;
    return good;
}

bool
key_set_add_text(struct key_set *set, struct keyfile *text, const struct key_alg *alg,
                 const char *kid, unsigned flags, struct key_why *ret_why)
{
    struct key key = { .alg = alg };
    if (kid && (!*kid || strlen(kid) > KEY_KID_MAX))
        return key_refuse(ret_why, "a key id has 1 to %d bytes", KEY_KID_MAX);
    if (kid && key_set_has_kid(set, kid))
        return key_refuse(ret_why, "key id \"%.64s\" stands twice", kid);
    bool good;
    if (alg->family == KEY_HMAC) {
        good = key_from_secret(text, flags, &key, ret_why);
    } else {
        key.pkey = pkey_from_pem(text, ret_why);
        good = key.pkey && key_check_pkey(key.pkey, alg, ret_why);
    }
    if (good)
        return key_set_take(set, &key, kid, ret_why);
    key_done(&key);
    return false;
}

bool
key_set_add_file(struct key_set *set, const char *path, const struct key_alg *alg, const char *kid,
                 unsigned flags, struct key_why *ret_why)
{
    struct keyfile text = { 0 };
    struct key_why inner = { "" };
    bool good = keyfile_read(path, flags, &text, &inner) &&
                key_set_add_text(set, &text, alg, kid, flags, &inner);
    keyfile_done(&text);
    return good || key_refuse(ret_why, "%.120s: %.120s", path, inner.text);
}
