/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "plugins/auth-jwt/jws.h"

#include "plugins/auth-jwt/json.h"

#include <string.h>

#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/hmac.h>
#include <openssl/rsa.h>

enum {
    SIGNATURE_TEXT_MAX = KEY_RSA_MAX / 8 * 4 / 3 + 4,
    DER_MAX = 160, /* an ECDSA signature on P-521 takes 139 */
    MEMORY_PROBE = 256 /* bytes */
};

static enum jws_outcome
no_token(const char **ret_why, const char *why)
{
    *ret_why = why;
    return JWS_NO_TOKEN;
}

static enum jws_outcome
refused(const char **ret_why, const char *why)
{
    *ret_why = why;
    return JWS_REFUSED;
}

static enum jws_outcome
broken(const char **ret_why, const char *why)
{
    *ret_why = why;
    return JWS_BROKEN;
}

/* Alphabet and dots in one pass; the offsets of the dots go to dots. */
static enum jws_outcome
find_dots(const char *text, size_t n, size_t dots[2], const char **ret_why)
{
    size_t ndots = 0;
    for (size_t i = 0; i < n; i++) {
        if (base64url_is_char(text[i]))
            continue;
        if (text[i] != '.')
            return no_token(ret_why, "a character that no token has");
        if (ndots == 2)
            return no_token(ret_why, "more than three parts");
        dots[ndots++] = i;
    }
    return ndots == 2 ? JWS_GOOD : no_token(ret_why, "fewer than three parts");
}

/* An optional string member of 1 to room-1 bytes. */
static bool
header_string(const cJSON *header, const char *name, char *out, size_t room, bool *ret_there)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(header, name);
    *ret_there = item != NULL;
    if (!item)
        return true;
    size_t n = cJSON_IsString(item) ? strlen(item->valuestring) : 0;
    if (n == 0 || n >= room)
        return false;
    memcpy(out, item->valuestring, n + 1);
    return true;
}

static enum jws_outcome
read_members(const cJSON *header, struct jws *jws, const char **ret_why)
{
    const char *alg = json_member_text(header, "alg");
    bool has_typ;
    if (!alg)
        return refused(ret_why, "no alg in the header");
    jws->alg = key_alg_find(alg, strlen(alg));
    if (!jws->alg)
        return refused(ret_why, "an alg that is never accepted");
    if (!header_string(header, "typ", jws->typ, sizeof(jws->typ), &has_typ))
        return refused(ret_why, "a malformed typ in the header");
    if (!header_string(header, "kid", jws->kid, sizeof(jws->kid), &jws->has_kid))
        return refused(ret_why, "a malformed kid in the header");
    /* Whatever extension it names is not supported here, and the issuer says that it must be. */
    if (cJSON_GetObjectItemCaseSensitive(header, "crit"))
        return refused(ret_why, "a crit in the header");
    return JWS_GOOD;
}

static enum jws_outcome
read_header(const char *text, size_t n, struct jws *jws, const char **ret_why)
{
    unsigned char raw[BASE64URL_ROOM(JWS_TEXT_MAX)];
    size_t nraw = 0;
    cJSON *header = NULL;
    const char *why = NULL;
    if (!base64url_decode(text, n, raw, &nraw))
        return no_token(ret_why, "the header is not base64url");
    if (!json_read_object((const char *)raw, nraw, &header, &why))
        return why ? no_token(ret_why, "the header is not a strict JSON object")
                   : broken(ret_why, "no memory");
    enum jws_outcome outcome = read_members(header, jws, ret_why);
    cJSON_Delete(header);
    return outcome;
}

enum jws_outcome
jws_parse(const char *text, size_t n, struct jws *ret_jws, const char **ret_why)
{
    size_t dots[2] = { 0, 0 };
    if (n == 0 || n > JWS_TEXT_MAX)
        return no_token(ret_why, n ? "longer than 8 KiB" : "empty");
    enum jws_outcome outcome = find_dots(text, n, dots, ret_why);
    if (outcome != JWS_GOOD)
        return outcome;
    struct jws jws = { .text = text, .nsigned = dots[1] };
    jws.payload = text + dots[0] + 1;
    jws.npayload = dots[1] - dots[0] - 1;
    jws.signature = text + dots[1] + 1;
    jws.nsignature = n - dots[1] - 1;
    outcome = read_header(text, dots[0], &jws, ret_why);
    if (outcome == JWS_GOOD)
        *ret_jws = jws;
    return outcome;
}

bool
jws_payload(const struct jws *jws, unsigned char *out, size_t *ret_n)
{
    return base64url_decode(jws->payload, jws->npayload, out, ret_n);
}

/* What the checks of all families take: the signed text and the signature as bytes. */
struct claim {
    const struct jws *jws;
    const unsigned char *sig;
    size_t nsig;
};

static enum jws_outcome
verify_hmac(const struct key *key, const struct claim *c)
{
    unsigned char mac[EVP_MAX_MD_SIZE];
    unsigned nmac = 0;
    if (key->nsecret < key->alg->secret_min || c->nsig == 0)
        return JWS_REFUSED;
    if (!HMAC(key->digest, key->secret, (int)key->nsecret, (const unsigned char *)c->jws->text,
              c->jws->nsigned, mac, &nmac))
        return JWS_BROKEN;
    bool good = nmac == c->nsig && CRYPTO_memcmp(mac, c->sig, nmac) == 0;
    OPENSSL_cleanse(mac, sizeof(mac));
    return good ? JWS_GOOD : JWS_REFUSED;
}

static bool
set_pss(EVP_PKEY_CTX *ctx)
{
    return EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PSS_PADDING) == 1 &&
           EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, RSA_PSS_SALTLEN_DIGEST) == 1;
}

static bool
memory_is_out(void)
{
    void *p = OPENSSL_malloc(MEMORY_PROBE);
    OPENSSL_free(p);
    return !p;
}

/* Whether OpenSSL failed for want of memory, which says nothing about the signature. It does not
 * always say so: but what it says of every wrong signature of an RSA key it has not said then, and
 * an ECDSA signature, of which the form is ours, is wrong with 0 and never with less. Where even
 * that is silent, memory is tried. */
static bool
is_out_of_memory(const struct key *key, int rc)
{
    unsigned long error;
    bool rsa = key->alg->family == KEY_RSA || key->alg->family == KEY_PSS;
    bool wrong = !rsa && (rc == 0 || key->alg->family != KEY_EC);
    while ((error = ERR_get_error()) != 0) {
        if (ERR_GET_REASON(error) == ERR_R_MALLOC_FAILURE)
            return true;
        wrong |= rsa && ERR_GET_LIB(error) == ERR_LIB_RSA;
    }
    return !wrong || memory_is_out();
}

static enum jws_outcome
verify_evp(const struct key *key, const struct jws *jws, const unsigned char *sig, size_t nsig)
{
    EVP_PKEY_CTX *pctx = NULL; /* belongs to ctx */
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    if (!ctx || EVP_DigestVerifyInit(ctx, &pctx, key->digest, NULL, key->pkey) != 1 ||
        (key->alg->family == KEY_PSS && !set_pss(pctx))) {
        EVP_MD_CTX_free(ctx);
        return JWS_BROKEN;
    }
    int rc = EVP_DigestVerify(ctx, sig, nsig, (const unsigned char *)jws->text, jws->nsigned);
    EVP_MD_CTX_free(ctx);
    if (rc == 1)
        return JWS_GOOD;
    return is_out_of_memory(key, rc) ? JWS_BROKEN : JWS_REFUSED;
}

/* RFC 7518 section 3.4: r and s side by side, full size; OpenSSL wants them in DER. */
static enum jws_outcome
verify_ec(const struct key *key, const struct claim *c)
{
    size_t f = key->alg->field;
    unsigned char der[DER_MAX], *end = der;
    if (c->nsig != 2 * f)
        return JWS_REFUSED;
    ECDSA_SIG *pair = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(c->sig, (int)f, NULL), *s = BN_bin2bn(c->sig + f, (int)f, NULL);
    if (!pair || !r || !s || ECDSA_SIG_set0(pair, r, s) != 1) {
        BN_free(r);
        BN_free(s);
        ECDSA_SIG_free(pair);
        return JWS_BROKEN;
    }
    int nder = i2d_ECDSA_SIG(pair, NULL);
    bool fits = nder > 0 && nder <= DER_MAX && i2d_ECDSA_SIG(pair, &end) == nder;
    ECDSA_SIG_free(pair);
    return fits ? verify_evp(key, c->jws, der, (size_t)nder) : JWS_BROKEN; /* no memory */
}

static enum jws_outcome
verify_one(const struct key *key, const struct claim *c)
{
    switch (key->alg->family) {
    case KEY_HMAC:
        return verify_hmac(key, c);
    case KEY_EC:
        return verify_ec(key, c);
    case KEY_RSA:
    case KEY_PSS:
        if (c->nsig != (size_t)EVP_PKEY_get_size(key->pkey))
            return JWS_REFUSED;
        return verify_evp(key, c->jws, c->sig, c->nsig);
    case KEY_EDDSA:
        return verify_evp(key, c->jws, c->sig, c->nsig);
    }
    return JWS_BROKEN;
}

/* Asks the keys of the token's algorithm whose key id is exactly kid; NULL: those without one, or
 * every key when the token names none. The algorithm is the key's, the token only has to agree. */
static enum jws_outcome
try_keys(const struct claim *c, const struct key_set *keys, const char *kid, int *tried)
{
    for (size_t i = 0; i < keys->n && *tried < JWS_TRIES_MAX; i++) {
        const struct key *key = &keys->v[i];
        if (!key_serves(key, c->jws->alg))
            continue;
        if (kid ? !key->kid || strcmp(key->kid, kid) != 0 : key->kid && c->jws->has_kid)
            continue;
        (*tried)++;
        enum jws_outcome outcome = verify_one(key, c);
        ERR_clear_error();
        if (outcome != JWS_REFUSED)
            return outcome;
    }
    return JWS_REFUSED;
}

enum jws_outcome
jws_verify(const struct jws *jws, const struct key_set *keys, const char **ret_why)
{
    unsigned char sig[BASE64URL_ROOM(SIGNATURE_TEXT_MAX)];
    struct claim c = { .jws = jws, .sig = sig };
    int tried = 0;
    enum jws_outcome outcome = JWS_REFUSED;
    if (jws->nsignature == 0 || jws->nsignature > SIGNATURE_TEXT_MAX ||
        !base64url_decode(jws->signature, jws->nsignature, sig, &c.nsig))
        return refused(ret_why, "a malformed signature");
    if (jws->has_kid)
        outcome = try_keys(&c, keys, jws->kid, &tried);
    if (outcome == JWS_REFUSED)
        outcome = try_keys(&c, keys, NULL, &tried);
    if (outcome == JWS_BROKEN)
        return broken(ret_why, "OpenSSL could not check a signature");
    if (outcome == JWS_GOOD)
        return JWS_GOOD;
    return refused(ret_why,
                   tried ? "the signature is wrong" : "no key of that algorithm and key id");
}
