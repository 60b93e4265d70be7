/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "plugins/auth-jwt/jwk.h"

#include "plugins/auth-jwt/base64url.h"
#include "plugins/auth-jwt/json.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/param_build.h>

/* One JWK being read. */
struct jwk {
    const cJSON *json;
    const struct jwk_origin *origin;
};

/* A JWK is taken, left out with a line in the log, or so wrong that the whole set is refused. */
enum jwk_fate { JWK_TAKEN = 0x11, JWK_LEFT_OUT = 0x22, JWK_STOP = 0x33 };

/* RFC 7517 section 4.3: strings, none twice, nothing that is not about signatures beside them. */
static bool
ops_fit(const cJSON *ops)
{
    static const char *const others[] = { "encrypt",   "decrypt",    "wrapKey",
                                          "unwrapKey", "deriveKey", "deriveBits" };
    bool verifies = false;
    const cJSON *op;
    if (!cJSON_IsArray(ops))
        return false;
    cJSON_ArrayForEach(op, ops)
    {
        if (!cJSON_IsString(op))
            return false;
        for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
            if (strcmp(op->valuestring, others[i]) == 0)
                return false;
        for (const cJSON *later = op->next; later; later = later->next)
            if (cJSON_IsString(later) && strcmp(op->valuestring, later->valuestring) == 0)
                return false;
        verifies = verifies || strcmp(op->valuestring, "verify") == 0;
    }
    return verifies;
}

static bool
jwk_may_verify(const cJSON *json, struct key_why *ret_why)
{
    const cJSON *use = cJSON_GetObjectItemCaseSensitive(json, "use");
    const cJSON *ops = cJSON_GetObjectItemCaseSensitive(json, "key_ops");
    if (use && (!cJSON_IsString(use) || strcmp(use->valuestring, "sig") != 0))
        return key_refuse(ret_why, "not for signatures (use)");
    return !ops || ops_fit(ops) ||
           key_refuse(ret_why, "not for checking signatures, and only that (key_ops)");
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
    case KEY_EDDSA:
        break;
    }
    return "OKP";
}

/* RFC 8037 section 2. */
static int
okp_type(const char *crv)
{
    if (crv && strcmp(crv, "Ed25519") == 0)
        return EVP_PKEY_ED25519;
    return crv && strcmp(crv, "Ed448") == 0 ? EVP_PKEY_ED448 : EVP_PKEY_NONE;
}

static bool
alg_fits(const struct key_alg *alg, const char *kty, const char *crv)
{
    if (strcmp(family_kty(alg->family), kty) != 0)
        return false;
    if (alg->family == KEY_EDDSA && okp_type(crv) == EVP_PKEY_NONE)
        return false;
    return !alg->crv || (crv && strcmp(alg->crv, crv) == 0);
}

/* What a key of that type and curve is for when nobody says it; RFC 7518 ties curves to algorithms,
 * RSA keys are RS256 nearly everywhere, and a secret is for anything. */
static const struct key_alg *
default_alg(const struct jwk *jwk, const char *kty, const char *crv)
{
    const struct key_alg *alg = jwk->origin->alg;
    if (alg && alg_fits(alg, kty, crv))
        return alg;
    if (strcmp(kty, "RSA") == 0)
        return key_alg_find("RS256", 5);
    if (strcmp(kty, "oct") == 0)
        return NULL;
    for (alg = key_alg_next(NULL); alg; alg = key_alg_next(alg))
        if (alg_fits(alg, kty, crv))
            return alg;
    return NULL;
}

static const struct key_alg *
jwk_alg(const struct jwk *jwk, struct key_why *ret_why)
{
    const char *kty = json_member_text(jwk->json, "kty"), *crv = json_member_text(jwk->json, "crv");
    const cJSON *said = cJSON_GetObjectItemCaseSensitive(jwk->json, "alg");
    if (!kty) {
        key_refuse(ret_why, "no kty");
        return NULL;
    }
    const char *name = cJSON_GetStringValue(said);
    const struct key_alg *alg = !said  ? default_alg(jwk, kty, crv)
                                : name ? key_alg_find(name, strlen(name))
                                       : NULL;
    if (!alg) {
        key_refuse(ret_why, "no alg, or one that kaitend does not check (kty %.32s)", kty);
        return NULL;
    }
    if (alg_fits(alg, kty, crv))
        return alg;
    key_refuse(ret_why, "kty or crv do not fit %s", alg->name);
    return NULL;
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
    return good || key_refuse(ret_why, "member %s is missing or malformed", name);
}

static EVP_PKEY *
pkey_from_params(const char *type, int selection, OSSL_PARAM_BLD *bld)
{
    EVP_PKEY *pkey = NULL;
    OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(bld);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
    if (params && ctx && EVP_PKEY_fromdata_init(ctx) == 1)
        (void)EVP_PKEY_fromdata(ctx, &pkey, selection, params);
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
    BIGNUM *e = jwk_bytes(json, "e", bytes, KEY_EXPONENT_BYTES, &ne, ret_why)
                    ? BN_bin2bn(bytes, (int)ne, NULL)
                    : NULL;
    OSSL_PARAM_BLD *bld = OSSL_PARAM_BLD_new();
    EVP_PKEY *pkey = NULL;
    if (n && e && bld && OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_N, n) == 1 &&
        OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_E, e) == 1)
        pkey = pkey_from_params("RSA", EVP_PKEY_PUBLIC_KEY, bld);
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
        key_refuse(ret_why, "x and y have %zu bytes each on %s", f, alg->crv);
        return NULL;
    }
    OSSL_PARAM_BLD *bld = OSSL_PARAM_BLD_new();
    EVP_PKEY *pkey = NULL;
    if (bld &&
        OSSL_PARAM_BLD_push_utf8_string(bld, OSSL_PKEY_PARAM_GROUP_NAME, alg->group, 0) == 1 &&
        OSSL_PARAM_BLD_push_octet_string(bld, OSSL_PKEY_PARAM_PUB_KEY, point, 1 + 2 * f) == 1)
        pkey = pkey_from_params("EC", EVP_PKEY_PUBLIC_KEY, bld);
    OSSL_PARAM_BLD_free(bld);
    return pkey;
}

static EVP_PKEY *
jwk_okp(const cJSON *json, struct key_why *ret_why)
{
    unsigned char x[57];
    int type = okp_type(json_member_text(json, "crv"));
    size_t n = 0, want = type == EVP_PKEY_ED25519 ? 32 : 57;
    if (!jwk_bytes(json, "x", x, sizeof(x), &n, ret_why))
        return NULL;
    if (n == want)
        return EVP_PKEY_new_raw_public_key(type, NULL, x, n);
    key_refuse(ret_why, "x has %zu bytes on that curve", want);
    return NULL;
}

static EVP_PKEY *
jwk_pkey(const cJSON *json, const struct key_alg *alg, struct key_why *ret_why)
{
    key_refuse(ret_why, "not a valid key");
    EVP_PKEY *pkey = alg->family == KEY_EC      ? jwk_ec(json, alg, ret_why)
                     : alg->family == KEY_EDDSA ? jwk_okp(json, ret_why)
                                                : jwk_rsa(json, ret_why);
    ERR_clear_error();
    if (pkey && !key_check_pkey(pkey, alg, ret_why)) {
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

/* d of 1 to max bytes as a number; NULL: absent or malformed. */
static BIGNUM *
jwk_number(const cJSON *json, const char *name)
{
    unsigned char bytes[KEY_RSA_MAX / 8 + 1];
    struct key_why unused;
    size_t n = 0;
    if (!jwk_bytes(json, name, bytes, sizeof(bytes), &n, &unused))
        return NULL;
    BIGNUM *number = BN_bin2bn(bytes, (int)n, NULL);
    OPENSSL_cleanse(bytes, n);
    if (number)
        BN_set_flags(number, BN_FLG_CONSTTIME);
    return number;
}

/* Whether d undoes what e does to a number. */
static bool
rsa_pair_fits(const cJSON *json, const EVP_PKEY *pkey)
{
    BIGNUM *n = NULL, *e = NULL, *d = jwk_number(json, "d"), *x = BN_new();
    BN_CTX *ctx = BN_CTX_new();
    bool fits = d && x && ctx && EVP_PKEY_get_bn_param(pkey, OSSL_PKEY_PARAM_RSA_N, &n) == 1 &&
                EVP_PKEY_get_bn_param(pkey, OSSL_PKEY_PARAM_RSA_E, &e) == 1 &&
                BN_cmp(d, n) < 0 && BN_set_word(x, 2) == 1 && BN_mod_exp(x, x, e, n, ctx) == 1 &&
                BN_mod_exp(x, x, d, n, ctx) == 1 && BN_is_word(x, 2);
    BN_free(n);
    BN_free(e);
    BN_free(x);
    BN_clear_free(d);
    BN_CTX_free(ctx);
    return fits;
}

static bool
ec_pair_fits(const cJSON *json, EVP_PKEY *pkey, const struct key_alg *alg)
{
    EVP_PKEY *pair = NULL;
    unsigned char point[1 + 2 * 66];
    size_t npoint = 0;
    BIGNUM *d = jwk_number(json, "d");
    OSSL_PARAM_BLD *bld = OSSL_PARAM_BLD_new();
    if (d && bld &&
        EVP_PKEY_get_octet_string_param(pkey, OSSL_PKEY_PARAM_PUB_KEY, point, sizeof(point),
                                        &npoint) == 1 &&
        OSSL_PARAM_BLD_push_utf8_string(bld, OSSL_PKEY_PARAM_GROUP_NAME, alg->group, 0) == 1 &&
        OSSL_PARAM_BLD_push_octet_string(bld, OSSL_PKEY_PARAM_PUB_KEY, point, npoint) == 1 &&
        OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_PRIV_KEY, d) == 1)
        pair = pkey_from_params("EC", EVP_PKEY_KEYPAIR, bld);
    EVP_PKEY_CTX *ctx = pair ? EVP_PKEY_CTX_new_from_pkey(NULL, pair, NULL) : NULL;
    bool fits = ctx && EVP_PKEY_pairwise_check(ctx) == 1;
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(pair);
    OSSL_PARAM_BLD_free(bld);
    BN_clear_free(d);
    return fits;
}

static bool
okp_pair_fits(const cJSON *json, const EVP_PKEY *pkey)
{
    unsigned char d[57];
    struct key_why unused;
    size_t n = 0;
    if (!jwk_bytes(json, "d", d, sizeof(d), &n, &unused))
        return false;
    EVP_PKEY *pair = EVP_PKEY_new_raw_private_key(EVP_PKEY_get_base_id(pkey), NULL, d, n);
    OPENSSL_cleanse(d, sizeof(d));
    bool fits = pair && EVP_PKEY_eq(pair, pkey) == 1;
    EVP_PKEY_free(pair);
    return fits;
}

/* A key whose halves do not belong together is a mistake that must be found now, not later. */
static bool
jwk_pair_fits(const cJSON *json, EVP_PKEY *pkey, const struct key_alg *alg, struct key_why *ret_why)
{
    bool fits = alg->family == KEY_EC      ? ec_pair_fits(json, pkey, alg)
                : alg->family == KEY_EDDSA ? okp_pair_fits(json, pkey)
                                           : rsa_pair_fits(json, pkey);
    ERR_clear_error();
    return fits || key_refuse(ret_why, "the private half does not belong to the public one");
}

static void
say(const struct jwk *jwk, enum kaiten_level level, const char *what)
{
    if (jwk->origin->log)
        jwk->origin->log(level, "%s: %s", jwk->origin->name, what);
}

/* Whether others may know what is secret in it. */
static enum jwk_fate
jwk_is_kept(const struct jwk *jwk, const struct key_alg *alg, struct key_why *ret_why)
{
    bool secret = alg->family == KEY_HMAC;
    if (!secret && !jwk_is_private(jwk->json))
        return JWK_TAKEN;
    if (jwk->origin->flags & KEY_PUBLIC) {
        key_refuse(ret_why, "holds a %s, which has no place in a published set",
                   secret ? "secret (kty oct)" : "private key");
        return JWK_LEFT_OUT;
    }
    if (secret && (jwk->origin->mode & 077)) {
        key_refuse(ret_why, "holds a secret (kty oct) that others may read; chmod 600");
        return JWK_STOP;
    }
    if (!secret && (jwk->origin->mode & S_IROTH)) {
        key_refuse(ret_why, "holds a private key that everybody may read; keep the public "
                            "members only and replace the key");
        return JWK_STOP;
    }
    if (!secret)
        say(jwk, KAITEN_LOG_WARNING, "holds a private key, which kaitend has no use for");
    return JWK_TAKEN;
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
    return key->pkey && (!jwk_is_private(json) ||
                         jwk_pair_fits(json, key->pkey, key->alg, ret_why));
}

/* Takes the key for one algorithm. */
static enum jwk_fate
add_for(struct key_set *set, const struct jwk *jwk, const struct key_alg *alg, const char *kid,
        struct key_why *ret_why)
{
    struct key key = { .alg = alg };
    enum jwk_fate fate = jwk_is_kept(jwk, alg, ret_why);
    if (fate != JWK_TAKEN)
        return fate;
    if (!jwk_material(jwk->json, &key, ret_why)) {
        key_done(&key);
        return JWK_LEFT_OUT;
    }
    return key_set_take(set, &key, kid, ret_why) ? JWK_TAKEN : JWK_STOP;
}

/* For KEY_ANY_ALG: takes a key that names no algorithm for each one that it fits. */
static enum jwk_fate
add_for_any(struct key_set *set, const struct jwk *jwk, const char *kid, struct key_why *ret_why)
{
    const char *kty = json_member_text(jwk->json, "kty"), *crv = json_member_text(jwk->json, "crv");
    enum jwk_fate fate = JWK_LEFT_OUT;
    key_refuse(ret_why, "no algorithm fits its kty and crv");
    for (const struct key_alg *alg = key_alg_next(NULL); kty && alg; alg = key_alg_next(alg))
        if (alg_fits(alg, kty, crv) && add_for(set, jwk, alg, kid, ret_why) == JWK_TAKEN)
            fate = JWK_TAKEN;
    return fate;
}

static bool
jwk_kid(const struct key_set *set, const cJSON *json, const char **ret_kid, enum jwk_fate *ret_fate,
        struct key_why *ret_why)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, "kid");
    const char *kid = cJSON_GetStringValue(item);
    *ret_kid = kid;
    if (!item)
        return true;
    *ret_fate = JWK_LEFT_OUT;
    if (!kid || !*kid || strlen(kid) > KEY_KID_MAX)
        return key_refuse(ret_why, "kid is no string of 1 to %d bytes", KEY_KID_MAX);
    *ret_fate = JWK_STOP;
    return !key_set_has_kid(set, kid) ||
           key_refuse(ret_why, "key id \"%.64s\" stands twice", kid);
}

static enum jwk_fate
jwk_add(struct key_set *set, const struct jwk *jwk, struct key_why *ret_why)
{
    const char *kid = NULL;
    enum jwk_fate fate = JWK_LEFT_OUT;
    if (!cJSON_IsObject(jwk->json)) {
        key_refuse(ret_why, "not an object");
        return JWK_LEFT_OUT;
    }
    if (!jwk_may_verify(jwk->json, ret_why))
        return JWK_LEFT_OUT;
    bool any = (jwk->origin->flags & KEY_ANY_ALG) &&
               !cJSON_GetObjectItemCaseSensitive(jwk->json, "alg");
    const struct key_alg *alg = any ? NULL : jwk_alg(jwk, ret_why);
    if (!any && !alg)
        return JWK_LEFT_OUT;
    if (!jwk_kid(set, jwk->json, &kid, &fate, ret_why))
        return fate;
    return any ? add_for_any(set, jwk, kid, ret_why) : add_for(set, jwk, alg, kid, ret_why);
}

static bool
add_keys(struct key_set *set, const cJSON *keys, struct jwk *jwk, struct key_why *ret_why)
{
    size_t before = set->n, nth = 0;
    struct key_why one = { "the set is empty" };
    if (cJSON_GetArraySize(keys) > KEY_SET_MAX)
        return key_refuse(ret_why, "more than %d keys", KEY_SET_MAX);
    cJSON_ArrayForEach(jwk->json, keys)
    {
        nth++;
        enum jwk_fate fate = jwk_add(set, jwk, &one);
        if (fate == JWK_STOP)
            return key_refuse(ret_why, "key %zu: %.200s", nth, one.text);
        if (fate == JWK_LEFT_OUT && jwk->origin->log)
            jwk->origin->log(KAITEN_LOG_NOTICE, "%s: key %zu left out: %s", jwk->origin->name, nth,
                             one.text);
    }
    return set->n > before || key_refuse(ret_why, "no usable key; the last one: %.200s", one.text);
}

static bool
add_document(struct key_set *set, const cJSON *json, struct jwk *jwk, struct key_why *ret_why)
{
    const cJSON *keys = cJSON_GetObjectItemCaseSensitive(json, "keys");
    if (keys)
        return cJSON_IsArray(keys) ? add_keys(set, keys, jwk, ret_why)
                                   : key_refuse(ret_why, "member keys is no array");
    jwk->json = json;
    return jwk_add(set, jwk, ret_why) == JWK_TAKEN;
}

static void
swap_sets(struct key_set *a, struct key_set *b)
{
    struct key_set was = *a;
    *a = *b;
    *b = was;
}

bool
jwk_read(struct key_set *set, const char *text, size_t n, const struct jwk_origin *origin,
         struct key_why *ret_why)
{
    struct jwk jwk = { .origin = origin };
    struct key_set read = { 0 };
    cJSON *json = NULL;
    const char *why = NULL;
    if (!json_read_object(text, n, &json, &why))
        return key_refuse(ret_why, "no JSON object: %s", why ? why : "no memory");
    bool good = add_document(&read, json, &jwk, ret_why);
    json_free(json);
    if (good && set->n > 0)
        good = key_set_merge(set, &read, ret_why);
    else if (good)
        swap_sets(set, &read);
    key_set_done(&read);
    return good;
}

bool
jwk_read_file(struct key_set *set, const char *path, const struct key_alg *alg, unsigned flags,
              key_log *log, struct key_why *ret_why)
{
    struct keyfile text = { 0 };
    struct key_why inner = { "" };
    bool good = keyfile_read(path, flags, &text, &inner);
    const mode_t mode = flags & KEY_ANY_MODE ? 0 : text.mode;
    const struct jwk_origin origin = { path, mode, flags, alg, log };
    good = good && jwk_read(set, text.p, text.n, &origin, &inner);
    keyfile_done(&text);
    return good || key_refuse(ret_why, "%.120s: %.120s", path, inner.text);
}
