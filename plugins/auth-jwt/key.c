/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "plugins/auth-jwt/key.h"

#include "plugins/auth-jwt/base64url.h"
#include "plugins/auth-jwt/json.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/decoder.h>
#include <openssl/err.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

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
    { .name = "EdDSA", .family = KEY_ED25519, .crv = "Ed25519" },
    { .name = "HS256", .family = KEY_HMAC, .digest = "SHA2-256" },
    { .name = "HS384", .family = KEY_HMAC, .digest = "SHA2-384" },
    { .name = "HS512", .family = KEY_HMAC, .digest = "SHA2-512" },
};

enum { ALG_COUNT = sizeof(algs) / sizeof(algs[0]) };

/* A whole file, followed by a NUL byte that is not counted. */
struct text {
    char *p;
    size_t n;
    mode_t mode;
};

static bool why(struct key_why *ret, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static bool
why(struct key_why *ret, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(ret->text, sizeof(ret->text), fmt, ap);
    va_end(ap);
    return false;
}

const struct key_alg *
key_alg_find(const char *name, size_t n)
{
    for (size_t i = 0; i < ALG_COUNT; i++)
        if (strlen(algs[i].name) == n && memcmp(algs[i].name, name, n) == 0)
            return &algs[i];
    return NULL;
}

static void
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

/* Completes a key and puts it into the set; takes what it holds, also on failure. */
static bool
set_take(struct key_set *set, struct key *take_key, const char *kid, struct key_why *ret_why)
{
    struct key key = *take_key;
    *take_key = (struct key){ 0 };
    struct key *v = NULL;
    bool good = set->n < KEY_SET_MAX || why(ret_why, "more than %d keys", KEY_SET_MAX);
    if (good && kid)
        good = (key.kid = strdup(kid)) != NULL || why(ret_why, "no memory");
    if (good && key.alg->digest)
        good = (key.digest = EVP_MD_fetch(NULL, key.alg->digest, NULL)) != NULL ||
               why(ret_why, "OpenSSL has no %s", key.alg->digest);
    if (good)
        good =
            (v = realloc(set->v, (set->n + 1) * sizeof(*v))) != NULL || why(ret_why, "no memory");
    if (!good) {
        key_done(&key);
        return false;
    }
    v[set->n] = key;
    set->v = v;
    set->n++;
    return true;
}

static void
text_done(struct text *text)
{
    if (text->p)
        OPENSSL_cleanse(text->p, text->n);
    free(text->p);
    *text = (struct text){ 0 };
}

static bool
read_all(int fd, struct text *text)
{
    size_t done = 0;
    while (done < text->n) {
        ssize_t got = read(fd, text->p + done, text->n - done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        done += (size_t)got;
    }
    return true;
}

static bool
text_from_fd(int fd, unsigned flags, struct text *ret_text, struct key_why *ret_why)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return why(ret_why, "%s", strerror(errno));
    if (!S_ISREG(st.st_mode))
        return why(ret_why, "not a regular file");
    if (st.st_size == 0 || st.st_size > KEY_FILE_MAX)
        return why(ret_why, "a key file has 1 to %d bytes", KEY_FILE_MAX);
    if ((st.st_mode & S_IWOTH) && !(flags & KEY_ANY_MODE))
        return why(ret_why, "everybody may write it; chmod o-w");
    struct text text = { .n = (size_t)st.st_size, .mode = st.st_mode };
    text.p = calloc(1, text.n + 1);
    if (!text.p)
        return why(ret_why, "no memory");
    if (!read_all(fd, &text)) {
        text_done(&text);
        return why(ret_why, "cannot be read to its end");
    }
    *ret_text = text;
    return true;
}

static bool
text_from_file(const char *path, unsigned flags, struct text *ret_text, struct key_why *ret_why)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return why(ret_why, "%s", strerror(errno));
    bool good = text_from_fd(fd, flags, ret_text, ret_why);
    close(fd);
    return good;
}

static bool
check_secret(const unsigned char *p, size_t n, struct key_why *ret_why)
{
    if (n < KEY_SECRET_MIN || n > KEY_SECRET_MAX)
        return why(ret_why, "an HMAC secret has %d to %d bytes, this one has %zu", KEY_SECRET_MIN,
                   KEY_SECRET_MAX, n);
    /* A public key as HMAC secret is the classic confusion: everybody knows that secret. */
    if (memmem(p, n, "-----BEGIN ", 11))
        return why(ret_why, "this is a PEM file, not a secret");
    return true;
}

static bool
check_rsa(const EVP_PKEY *pkey, struct key_why *ret_why)
{
    if (EVP_PKEY_get_base_id(pkey) != EVP_PKEY_RSA)
        return why(ret_why, "not an RSA key");
    int bits = EVP_PKEY_get_bits(pkey);
    if (bits < KEY_RSA_MIN || bits > KEY_RSA_MAX)
        return why(ret_why, "an RSA key has %d to %d bits, this one has %d", KEY_RSA_MIN,
                   KEY_RSA_MAX, bits);
    BIGNUM *n = NULL, *e = NULL;
    bool good = EVP_PKEY_get_bn_param(pkey, OSSL_PKEY_PARAM_RSA_N, &n) == 1 &&
                EVP_PKEY_get_bn_param(pkey, OSSL_PKEY_PARAM_RSA_E, &e) == 1 && BN_is_odd(n) &&
                BN_is_odd(e) && BN_num_bits(e) >= 17 && BN_num_bits(e) <= 64;
    BN_free(n);
    BN_free(e);
    return good || why(ret_why, "the RSA exponent must be odd, above 65536 and below 2^64");
}

static bool
check_ec(EVP_PKEY *pkey, const struct key_alg *alg, struct key_why *ret_why)
{
    char group[64] = "";
    int explicit_curve = 0;
    if (EVP_PKEY_get_base_id(pkey) != EVP_PKEY_EC)
        return why(ret_why, "not an elliptic curve key");
    (void)EVP_PKEY_get_int_param(pkey, OSSL_PKEY_PARAM_EC_DECODED_FROM_EXPLICIT_PARAMS,
                                 &explicit_curve);
    if (explicit_curve)
        return why(ret_why, "the curve is not named, but spelled out");
    if (EVP_PKEY_get_group_name(pkey, group, sizeof(group), NULL) != 1 ||
        strcmp(group, alg->group) != 0)
        return why(ret_why, "%s needs a key on %s", alg->name, alg->crv);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, pkey, NULL);
    bool good = ctx && EVP_PKEY_public_check(ctx) == 1;
    EVP_PKEY_CTX_free(ctx);
    return good || why(ret_why, "the point is not on the curve");
}

static bool
check_pkey(EVP_PKEY *pkey, const struct key_alg *alg, struct key_why *ret_why)
{
    switch (alg->family) {
    case KEY_RSA:
    case KEY_PSS:
        return check_rsa(pkey, ret_why);
    case KEY_EC:
        return check_ec(pkey, alg, ret_why);
    case KEY_ED25519:
        return EVP_PKEY_get_base_id(pkey) == EVP_PKEY_ED25519 || why(ret_why, "not an Ed25519 key");
    case KEY_HMAC:
        break;
    }
    return why(ret_why, "%s takes no public key", alg->name);
}

static EVP_PKEY *
pkey_from_cert(BIO *bio)
{
    X509 *cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);
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
pkey_from_pem(const struct text *text, struct key_why *ret_why)
{
    if (memmem(text->p, text->n, "PRIVATE KEY-----", 16)) {
        why(ret_why, "a private key; kaitend needs the public one and should not hold the other");
        return NULL;
    }
    BIO *bio = BIO_new_mem_buf(text->p, (int)text->n);
    bool cert = memmem(text->p, text->n, "-----BEGIN CERTIFICATE-----", 27) != NULL;
    EVP_PKEY *pkey = bio ? (cert ? pkey_from_cert(bio) : pkey_from_public(bio)) : NULL;
    BIO_free(bio);
    ERR_clear_error();
    if (!pkey)
        why(ret_why, "no public key or certificate in PEM");
    return pkey;
}

/* Editors and echo end text with a newline that nobody counts as part of the secret; a file of
 * random bytes stays as it is. */
static void
trim_text_secret(struct text *text)
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

static bool
key_take_secret(struct key *key, const void *p, size_t n, struct key_why *ret_why)
{
    if (!check_secret(p, n, ret_why))
        return false;
    key->secret = malloc(n);
    if (!key->secret)
        return why(ret_why, "no memory");
    memcpy(key->secret, p, n);
    key->nsecret = n;
    return true;
}

static bool
key_from_secret(struct text *text, unsigned flags, key_log *log, const char *path, struct key *key,
                struct key_why *ret_why)
{
    if ((text->mode & 077) && !(flags & KEY_ANY_MODE))
        return why(ret_why, "a secret that others than its owner may read; chmod 600");
    size_t whole = text->n;
    trim_text_secret(text);
    bool good = key_take_secret(key, text->p, text->n, ret_why);
    if (good && log && strspn(text->p, (char[]){ text->p[0], 0 }) >= text->n)
        log(KAITEN_LOG_WARNING, "%s: the secret is one character repeated", path);
    OPENSSL_cleanse(text->p, whole);
    return good;
}

static bool
load_file(struct key_set *set, const char *path, const struct key_alg *alg, const char *kid,
          unsigned flags, key_log *log, struct key_why *ret_why)
{
    struct text text = { 0 };
    struct key key = { .alg = alg };
    if (kid && (!*kid || strlen(kid) > KEY_KID_MAX))
        return why(ret_why, "a key id has 1 to %d bytes", KEY_KID_MAX);
    if (!text_from_file(path, flags, &text, ret_why))
        return false;
    bool good;
    if (alg->family == KEY_HMAC) {
        good = key_from_secret(&text, flags, log, path, &key, ret_why);
    } else {
        key.pkey = pkey_from_pem(&text, ret_why);
        good = key.pkey && check_pkey(key.pkey, alg, ret_why);
    }
    text_done(&text);
    if (good)
        return set_take(set, &key, kid, ret_why);
    key_done(&key);
    return false;
}

bool
key_set_add_file(struct key_set *set, const char *path, const struct key_alg *alg, const char *kid,
                 unsigned flags, key_log *log, struct key_why *ret_why)
{
    struct key_why inner = { "" };
    if (load_file(set, path, alg, kid, flags, log, &inner))
        return true;
    return why(ret_why, "%.120s: %.120s", path, inner.text);
}

/* One JWK being read. */
struct jwk {
    const cJSON *json;
    mode_t mode; /* of its file; 0: whatever */
    key_log *log;
    const char *path;
};

/* A JWK is taken, left out with a word, or wrong enough to stop. */
enum jwk_fate { JWK_TAKEN = 0x11, JWK_LEFT_OUT = 0x22, JWK_STOP = 0x33 };

static bool
jwk_may_verify(const cJSON *json, struct key_why *ret_why)
{
    const cJSON *use = cJSON_GetObjectItemCaseSensitive(json, "use");
    const cJSON *ops = cJSON_GetObjectItemCaseSensitive(json, "key_ops");
    if (use && (!cJSON_IsString(use) || strcmp(use->valuestring, "sig") != 0))
        return why(ret_why, "not for signatures (use)");
    if (!ops)
        return true;
    const cJSON *op;
    cJSON_ArrayForEach(op, ops) if (cJSON_IsString(op) &&
                                    strcmp(op->valuestring, "verify") == 0) return true;
    return why(ret_why, "not for checking signatures (key_ops)");
}

/* What a key of that type and curve is for when it does not say; RFC 7518 ties curves to
 * algorithms, RSA keys are RS256 nearly everywhere. */
static const struct key_alg *
jwk_default_alg(const char *kty, const char *crv)
{
    if (strcmp(kty, "RSA") == 0)
        return key_alg_find("RS256", 5);
    for (size_t i = 0; crv && i < ALG_COUNT; i++)
        if (algs[i].crv && strcmp(algs[i].crv, crv) == 0)
            return &algs[i];
    return NULL;
}

static const char *
family_kty(enum key_family family)
{
    switch (family) {
    case KEY_HMAC:
        return "oct";
    case KEY_RSA:
    case KEY_PSS:
        return "RSA";
    case KEY_EC:
        return "EC";
    case KEY_ED25519:
        break;
    }
    return "OKP";
}

static const struct key_alg *
jwk_alg(const cJSON *json, struct key_why *ret_why)
{
    const char *kty = json_member_text(json, "kty"), *crv = json_member_text(json, "crv");
    const cJSON *said = cJSON_GetObjectItemCaseSensitive(json, "alg");
    if (!kty) {
        why(ret_why, "no kty");
        return NULL;
    }
    const char *name = cJSON_GetStringValue(said);
    const struct key_alg *alg = !said  ? jwk_default_alg(kty, crv)
                                : name ? key_alg_find(name, strlen(name))
                                       : NULL;
    if (!alg) {
        why(ret_why, "no alg, or one that kaitend does not check");
        return NULL;
    }
    if (strcmp(family_kty(alg->family), kty) != 0 ||
        (alg->crv && (!crv || strcmp(alg->crv, crv) != 0))) {
        why(ret_why, "kty or crv do not fit %s", alg->name);
        return NULL;
    }
    return alg;
}

/* A base64url member of 1 to max bytes. */
static bool
jwk_bytes(const cJSON *json, const char *name, unsigned char *out, size_t max, size_t *ret_n,
          struct key_why *ret_why)
{
    const char *text = json_member_text(json, name);
    size_t n = text ? strlen(text) : 0, got = 0;
    unsigned char *all = n && n < KEY_FILE_MAX ? malloc(BASE64URL_ROOM(n)) : NULL;
    bool good = all && base64url_decode(text, n, all, &got) && got >= 1 && got <= max;
    if (good) {
        memcpy(out, all, got);
        *ret_n = got;
    }
    if (all)
        OPENSSL_cleanse(all, BASE64URL_ROOM(n));
    free(all);
    return good || why(ret_why, "member %s is missing or malformed", name);
}

static EVP_PKEY *
pkey_from_params(const char *type, OSSL_PARAM_BLD *bld)
{
    EVP_PKEY *pkey = NULL;
    OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(bld);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
    if (params && ctx && EVP_PKEY_fromdata_init(ctx) == 1)
        (void)EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_PUBLIC_KEY, params);
    EVP_PKEY_CTX_free(ctx);
    OSSL_PARAM_free(params);
    return pkey;
}

static EVP_PKEY *
jwk_rsa(const cJSON *json, struct key_why *ret_why)
{
    unsigned char bytes[KEY_RSA_MAX / 8 + 1];
    size_t nn = 0, ne = 0;
    if (!jwk_bytes(json, "n", bytes, sizeof(bytes), &nn, ret_why))
        return NULL;
    BIGNUM *n = BN_bin2bn(bytes, (int)nn, NULL);
    BIGNUM *e =
        jwk_bytes(json, "e", bytes, 16, &ne, ret_why) ? BN_bin2bn(bytes, (int)ne, NULL) : NULL;
    OSSL_PARAM_BLD *bld = OSSL_PARAM_BLD_new();
    EVP_PKEY *pkey = NULL;
    if (n && e && bld && OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_N, n) == 1 &&
        OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_E, e) == 1)
        pkey = pkey_from_params("RSA", bld);
    OSSL_PARAM_BLD_free(bld);
    BN_free(n);
    BN_free(e);
    return pkey;
}

static EVP_PKEY *
jwk_ec(const cJSON *json, const struct key_alg *alg, struct key_why *ret_why)
{
    unsigned char point[1 + 2 * 66] = { 4 }; /* uncompressed, SEC 1 section 2.3.3 */
    size_t f = alg->field, nx = 0, ny = 0;
    if (!jwk_bytes(json, "x", point + 1, f, &nx, ret_why) ||
        !jwk_bytes(json, "y", point + 1 + f, f, &ny, ret_why))
        return NULL;
    if (nx != f || ny != f) { /* RFC 7518 section 6.2.1.2: full size, zeros included */
        why(ret_why, "x and y have %zu bytes each on %s", f, alg->crv);
        return NULL;
    }
    OSSL_PARAM_BLD *bld = OSSL_PARAM_BLD_new();
    EVP_PKEY *pkey = NULL;
    if (bld &&
        OSSL_PARAM_BLD_push_utf8_string(bld, OSSL_PKEY_PARAM_GROUP_NAME, alg->group, 0) == 1 &&
        OSSL_PARAM_BLD_push_octet_string(bld, OSSL_PKEY_PARAM_PUB_KEY, point, 1 + 2 * f) == 1)
        pkey = pkey_from_params("EC", bld);
    OSSL_PARAM_BLD_free(bld);
    return pkey;
}

static EVP_PKEY *
jwk_ed25519(const cJSON *json, struct key_why *ret_why)
{
    unsigned char x[32];
    size_t n = 0;
    if (!jwk_bytes(json, "x", x, sizeof(x), &n, ret_why))
        return NULL;
    if (n != sizeof(x)) {
        why(ret_why, "x has 32 bytes on Ed25519");
        return NULL;
    }
    return EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, x, n);
}

static EVP_PKEY *
jwk_pkey(const cJSON *json, const struct key_alg *alg, struct key_why *ret_why)
{
    why(ret_why, "not a valid key");
    EVP_PKEY *pkey = alg->family == KEY_EC        ? jwk_ec(json, alg, ret_why)
                     : alg->family == KEY_ED25519 ? jwk_ed25519(json, ret_why)
                                                  : jwk_rsa(json, ret_why);
    ERR_clear_error();
    if (pkey && !check_pkey(pkey, alg, ret_why)) {
        EVP_PKEY_free(pkey);
        return NULL;
    }
    return pkey;
}

/* Does a JWK of a public key carry its private half too? */
static bool
jwk_is_private(const cJSON *json)
{
    static const char *const names[] = { "d", "p", "q", "dp", "dq", "qi", "oth" };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (cJSON_GetObjectItemCaseSensitive(json, names[i]))
            return true;
    return false;
}

/* Who may read a file that holds more than public keys. */
static bool
jwk_mode_fits(const struct jwk *jwk, const struct key_alg *alg, struct key_why *ret_why)
{
    if (alg->family == KEY_HMAC)
        return !(jwk->mode & 077) ||
               why(ret_why, "holds a secret (kty oct) that others may read; chmod 600");
    if (!jwk_is_private(jwk->json))
        return true;
    if (jwk->mode & S_IROTH)
        return why(ret_why, "holds a private key that everybody may read; keep the public "
                            "members only and replace the key");
    if (jwk->log)
        jwk->log(KAITEN_LOG_WARNING, "%s: holds a private key, which kaitend has no use for",
                 jwk->path);
    return true;
}

static bool
jwk_secret(const cJSON *json, struct key *key, struct key_why *ret_why)
{
    unsigned char k[KEY_SECRET_MAX];
    size_t n = 0;
    bool good =
        jwk_bytes(json, "k", k, sizeof(k), &n, ret_why) && key_take_secret(key, k, n, ret_why);
    OPENSSL_cleanse(k, sizeof(k));
    return good;
}

static bool
jwk_material(const cJSON *json, struct key *key, struct key_why *ret_why)
{
    if (key->alg->family == KEY_HMAC)
        return jwk_secret(json, key, ret_why);
    key->pkey = jwk_pkey(json, key->alg, ret_why);
    return key->pkey != NULL;
}

static enum jwk_fate
jwk_add(struct key_set *set, const struct jwk *jwk, struct key_why *ret_why)
{
    const cJSON *kid = cJSON_GetObjectItemCaseSensitive(jwk->json, "kid");
    struct key key = { 0 };
    if (!cJSON_IsObject(jwk->json)) {
        why(ret_why, "not an object");
        return JWK_LEFT_OUT;
    }
    if (kid &&
        (!cJSON_IsString(kid) || !*kid->valuestring || strlen(kid->valuestring) > KEY_KID_MAX)) {
        why(ret_why, "kid is no string of 1 to %d bytes", KEY_KID_MAX);
        return JWK_LEFT_OUT;
    }
    key.alg = jwk_alg(jwk->json, ret_why);
    if (!key.alg || !jwk_may_verify(jwk->json, ret_why))
        return JWK_LEFT_OUT;
    if (!jwk_mode_fits(jwk, key.alg, ret_why))
        return JWK_STOP;
    if (!jwk_material(jwk->json, &key, ret_why)) {
        key_done(&key);
        return JWK_LEFT_OUT;
    }
    return set_take(set, &key, cJSON_GetStringValue(kid), ret_why) ? JWK_TAKEN : JWK_STOP;
}

static bool
add_keys(struct key_set *set, const cJSON *keys, struct jwk *jwk, struct key_why *ret_why)
{
    size_t before = set->n, nth = 0;
    struct key_why one = { "the set is empty" };
    cJSON_ArrayForEach(jwk->json, keys)
    {
        nth++;
        enum jwk_fate fate = jwk_add(set, jwk, &one);
        if (fate == JWK_STOP)
            return why(ret_why, "key %zu: %.200s", nth, one.text);
        if (fate == JWK_LEFT_OUT && jwk->log)
            jwk->log(KAITEN_LOG_NOTICE, "%s: key %zu left out: %s", jwk->path, nth, one.text);
    }
    return set->n > before || why(ret_why, "no usable key; the last one: %.200s", one.text);
}

static bool
add_document(struct key_set *set, const cJSON *json, struct jwk *jwk, struct key_why *ret_why)
{
    const cJSON *keys = cJSON_GetObjectItemCaseSensitive(json, "keys");
    if (keys)
        return cJSON_IsArray(keys) ? add_keys(set, keys, jwk, ret_why)
                                   : why(ret_why, "member keys is no array");
    struct key_why one = { "" };
    jwk->json = json;
    return jwk_add(set, jwk, &one) == JWK_TAKEN || why(ret_why, "%s", one.text);
}

/* cJSON frees without wiping, and k and d are secrets. */
static void
wipe_strings(cJSON *item)
{
    for (; item; item = item->next) {
        if (cJSON_IsString(item))
            OPENSSL_cleanse(item->valuestring, strlen(item->valuestring));
        wipe_strings(item->child);
    }
}

bool
key_set_add_jwks(struct key_set *set, const char *path, unsigned flags, key_log *log,
                 struct key_why *ret_why)
{
    struct text text = { 0 };
    struct key_why inner = { "" };
    cJSON *json = NULL;
    const char *json_why = NULL;
    bool good = text_from_file(path, flags, &text, &inner);
    if (good)
        good = json_read_object(text.p, text.n, &json, &json_why) ||
               why(&inner, "no JSON object: %s", json_why ? json_why : "no memory");
    struct jwk jwk = { NULL, flags & KEY_ANY_MODE ? 0 : text.mode, log, path };
    good = good && add_document(set, json, &jwk, &inner);
    wipe_strings(json);
    cJSON_Delete(json);
    text_done(&text);
    return good || why(ret_why, "%.120s: %.120s", path, inner.text);
}
