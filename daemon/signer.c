/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/signer.h"

#include "client/proto/buf.h"
#include "client/proto/check.h"
#include "client/proto/json.h"
#include "client/proto/wipe.h"
#include "daemon/conf.h"
#include "daemon/model/keyfile.h"

#include <errno.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    COORDINATE = 32,          /* bytes of x, y, r and s on P-256 */
    JWT_MAX = 64 * 1024,
    REUSE_MS = 60 * 1000,     /* how long the signed form of a token may be used again */
    SLOTS = 16384,            /* signed forms kept by one thread */
    WAYS = 4                  /* slots that a token may have its form in */
};

/* One signed form. Only bytes are kept: whether the token is good is asked anew every time. */
struct slot {
    unsigned char digest[INDEX_KEPT_BYTES];
    int64_t token_expires_ms, made_ms;
    char *jwt;
    size_t n;
};

struct signer {
    EVP_PKEY *key;
    char kid[KT_B64URL_LEN(32) + 1]; /* RFC 7638 thumbprint */
    char x[KT_B64URL_LEN(COORDINATE) + 1], y[KT_B64URL_LEN(COORDINATE) + 1];
    char *issuer, *audience;
    int64_t lifetime_ms;
    char head[256]; /* base64url of the protected header, with its dot */
    pthread_key_t slots; /* of each thread */
    struct kt_arena arena;
    struct kt_value jwks;
};

/* --- the key's file ----------------------------------------------------------------------- */

static bool
write_key(const char *path, EVP_PKEY *key, char *err)
{
    char *pem = NULL;
    BIO *bio = BIO_new(BIO_s_secmem());
    bool ok = bio && PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) == 1;
    long n = ok ? BIO_get_mem_data(bio, &pem) : 0;
    errno = ENOMEM;
    ok = n > 0 && keyfile_create(path, pem, (size_t)n);
    if (!ok)
        snprintf(err, SIGNER_ERROR_MAX, "%s: cannot write the signing key: %s", path,
                 strerror(errno));
    if (n > 0)
        kt_wipe(pem, (size_t)n);
    BIO_free(bio);
    return ok;
}

static EVP_PKEY *
make_key(const char *path, char *err)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    if (!key) {
        snprintf(err, SIGNER_ERROR_MAX, "%s: cannot make a P-256 key", path);
        return NULL;
    }
    if (write_key(path, key, err))
        return key;
    EVP_PKEY_free(key);
    return NULL;
}

static EVP_PKEY *
read_key(const char *path, char *err)
{
    struct conf_error why;
    if (!conf_check_secret_file(path, &why)) {
        snprintf(err, SIGNER_ERROR_MAX, "%s", why.text);
        return NULL;
    }
    FILE *f = fopen(path, "re");
    EVP_PKEY *key = f ? PEM_read_PrivateKey(f, NULL, NULL, NULL) : NULL;
    if (f)
        fclose(f);
    if (key && EVP_PKEY_is_a(key, "EC") && EVP_PKEY_get_bits(key) == 256)
        return key;
    snprintf(err, SIGNER_ERROR_MAX, "%s: not a P-256 private key in PEM", path);
    EVP_PKEY_free(key);
    return NULL;
}

/* --- the public half ---------------------------------------------------------------------- */

static bool
coordinate(EVP_PKEY *key, const char *name, char *text)
{
    BIGNUM *n = NULL;
    unsigned char b[COORDINATE];
    bool ok = EVP_PKEY_get_bn_param(key, name, &n) == 1 &&
              BN_bn2binpad(n, b, sizeof b) == (int)sizeof b;
    BN_free(n);
    if (ok)
        kt_b64url_encode(b, sizeof b, text);
    return ok;
}

/* RFC 7638: SHA-256 over the required members in order, without white space. */
static bool
thumbprint(struct signer *s)
{
    char text[256];
    unsigned char sum[32];
    int n = snprintf(text, sizeof text,
                     "{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"%s\",\"y\":\"%s\"}", s->x, s->y);
    if (EVP_Digest(text, (size_t)n, sum, NULL, EVP_sha256(), NULL) != 1)
        return false;
    kt_b64url_encode(sum, sizeof sum, s->kid);
    return true;
}

static bool
make_head(struct signer *s)
{
    char text[160];
    int n = snprintf(text, sizeof text, "{\"alg\":\"ES256\",\"kid\":\"%s\",\"typ\":\"JWT\"}",
                     s->kid);
    if (KT_B64URL_LEN((size_t)n) + 2 > sizeof s->head)
        return false;
    size_t used = kt_b64url_encode(text, (size_t)n, s->head);
    memcpy(s->head + used, ".", 2);
    return true;
}

static bool
make_jwks(struct signer *s)
{
    kt_arena_init(&s->arena, 64 * 1024);
    struct kt_str text = kt_arena_printf(
        &s->arena,
        "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"%s\",\"y\":\"%s\",\"use\":\"sig\","
        "\"alg\":\"ES256\",\"kid\":\"%s\"}]}",
        s->x, s->y, s->kid);
    struct kt_json_error why;
    return text.p && kt_json_read(text, &s->arena, NULL, &s->jwks, &why) == 0;
}

static void
slot_clear(struct slot *slot)
{
    if (slot->jwt)
        kt_wipe(slot->jwt, slot->n);
    free(slot->jwt);
}

static void
free_slots(void *memory)
{
    struct slot *slots = memory;
    for (size_t i = 0; i < SLOTS; i++)
        slot_clear(&slots[i]);
    free(slots);
}

bool
signer_open(const struct signer_options *options, struct signer **ret, char *err)
{
    struct signer *s = calloc(1, sizeof *s);
    if (!s) {
        snprintf(err, SIGNER_ERROR_MAX, "out of memory");
        return false;
    }
    bool fresh = access(options->path, F_OK) != 0 && errno == ENOENT;
    s->key = fresh ? make_key(options->path, err) : read_key(options->path, err);
    s->issuer = strdup(options->issuer);
    s->audience = strdup(options->audience);
    s->lifetime_ms = options->lifetime_ms;
    pthread_key_create(&s->slots, free_slots);
    if (s->key && s->issuer && s->audience &&
        coordinate(s->key, OSSL_PKEY_PARAM_EC_PUB_X, s->x) &&
        coordinate(s->key, OSSL_PKEY_PARAM_EC_PUB_Y, s->y) && thumbprint(s) && make_head(s) &&
        make_jwks(s)) {
        *ret = s;
        return true;
    }
    if (s->key)
        snprintf(err, SIGNER_ERROR_MAX, "%s: the key cannot be used", options->path);
    signer_free(s);
    return false;
}

void
signer_free(struct signer *s)
{
    if (!s)
        return;
    EVP_PKEY_free(s->key);
    free(s->issuer);
    free(s->audience);
    pthread_key_delete(s->slots);
    kt_arena_done(&s->arena);
    free(s);
}

const struct kt_value *
signer_jwks(const struct signer *s)
{
    return &s->jwks;
}

const char *
signer_kid(const struct signer *s)
{
    return s->kid;
}

/* --- signing ------------------------------------------------------------------------------ */

static void
put_text(struct kt_buf *buf, const char *name, struct kt_str value)
{
    kt_buf_printf(buf, ",\"%s\":", name);
    kt_json_put_str(buf, value);
}

static void
put_scope(struct kt_buf *buf, const struct kt_strlist *list)
{
    struct kt_buf joined;
    kt_buf_init(&joined, JWT_MAX);
    for (size_t i = 0; i < list->n; i++) {
        if (i != 0)
            kt_buf_putc(&joined, ' ');
        kt_buf_put_str(&joined, list->v[i]);
    }
    put_text(buf, "scope", kt_buf_str(&joined));
    kt_buf_done(&joined);
}

/* Members in the order of their names. */
static void
put_claims(struct kt_buf *buf, const struct signer *s, const struct index_hit *hit, int64_t iat,
           int64_t exp)
{
    char id[UUID_TEXT_MAX];
    struct uuid jti = uuid_v7(iat * 1000);
    uuid_print(&jti, id);
    kt_buf_puts(buf, "{\"aud\":");
    kt_json_put_str(buf, kt_str(s->audience));
    kt_buf_printf(buf, ",\"exp\":%lld,\"iat\":%lld", (long long)exp, (long long)iat);
    put_text(buf, "iss", kt_str(s->issuer));
    put_text(buf, "jti", kt_str(id));
    put_text(buf, "kaiten_external_org_id", hit->text->org_ext);
    put_scope(buf, &hit->scopes->list);
    kt_buf_puts(buf, ",\"scopes\":");
    kt_buf_put_str(buf, hit->scopes->json);
    put_text(buf, "sub", hit->text->ext_id);
    kt_buf_putc(buf, '}');
}

/* OpenSSL gives DER; JWS wants r and s, 32 bytes each (RFC 7518 section 3.4). */
static bool
der_to_raw(const unsigned char *der, size_t n, unsigned char raw[2 * COORDINATE])
{
    ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &der, (long)n);
    bool ok = sig && BN_bn2binpad(ECDSA_SIG_get0_r(sig), raw, COORDINATE) == COORDINATE &&
              BN_bn2binpad(ECDSA_SIG_get0_s(sig), raw + COORDINATE, COORDINATE) == COORDINATE;
    ECDSA_SIG_free(sig);
    return ok;
}

static bool
sign(const struct signer *s, struct kt_str input, unsigned char raw[2 * COORDINATE])
{
    unsigned char der[128];
    size_t n = sizeof der;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx && EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, s->key) == 1 &&
              EVP_DigestSign(ctx, der, &n, (const unsigned char *)input.p, input.n) == 1 &&
              der_to_raw(der, n, raw);
    EVP_MD_CTX_free(ctx);
    return ok;
}

static void
put_base64url(struct kt_buf *buf, const void *bytes, size_t n)
{
    char *room = kt_buf_reserve(buf, KT_B64URL_LEN(n) + 1);
    if (room)
        buf->n += kt_b64url_encode(bytes, n, room);
}

/* exp: never beyond the token's own end. */
static bool
make_jwt(const struct signer *s, const struct index_hit *hit, int64_t token_expires_ms,
         int64_t now_ms, struct kt_buf *out)
{
    int64_t end = now_ms + s->lifetime_ms;
    if (token_expires_ms != 0 && token_expires_ms < end)
        end = token_expires_ms;
    struct kt_buf claims;
    unsigned char raw[2 * COORDINATE];
    kt_buf_init(&claims, JWT_MAX);
    put_claims(&claims, s, hit, now_ms / 1000, end / 1000);
    kt_buf_puts(out, s->head);
    put_base64url(out, claims.p, claims.n);
    bool ok = !claims.failed && !out->failed && sign(s, kt_buf_str(out), raw);
    kt_buf_done(&claims);
    if (!ok)
        return false;
    kt_buf_putc(out, '.');
    put_base64url(out, raw, sizeof raw);
    return !out->failed;
}

/* The slot of the token, or the one whose form is the oldest of those that it may have. With one
 * slot each, a quarter of ten thousand tokens would throw each other out all the time. */
static struct slot *
slot_of(struct signer *s, const struct index_record *record)
{
    struct slot *slots = pthread_getspecific(s->slots);
    if (!slots) {
        slots = calloc(SLOTS, sizeof *slots);
        if (!slots)
            return NULL;
        pthread_setspecific(s->slots, slots);
    }
    uint32_t n;
    memcpy(&n, record->digest, sizeof n);
    struct slot *set = &slots[n % (SLOTS / WAYS) * WAYS], *oldest = set;
    for (size_t i = 0; i < WAYS; i++) {
        if (set[i].jwt && memcmp(set[i].digest, record->digest, sizeof set[i].digest) == 0)
            return &set[i];
        if (set[i].made_ms < oldest->made_ms)
            oldest = &set[i];
    }
    return oldest;
}

/* Half of the lifetime at the most, so that what is handed out is good for a while; and never after
 * the clock was set back, which would make an old form look young. */
static bool
is_reusable(const struct signer *s, const struct slot *slot, const struct index_record *record,
            int64_t token_expires_ms, int64_t now_ms)
{
    int64_t most = s->lifetime_ms / 2 < REUSE_MS ? s->lifetime_ms / 2 : REUSE_MS;
    return slot->jwt && slot->token_expires_ms == token_expires_ms && now_ms >= slot->made_ms &&
           now_ms - slot->made_ms < most &&
           memcmp(slot->digest, record->digest, sizeof slot->digest) == 0;
}

struct kt_str
signer_jwt(struct signer *s, const struct index_hit *hit, int64_t now_ms)
{
    const struct kt_str none = { NULL, 0 };
    struct slot *slot = slot_of(s, hit->record);
    if (!slot)
        return none;
    int64_t expires = atomic_load_explicit(&hit->record->expires_ms, memory_order_relaxed);
    if (is_reusable(s, slot, hit->record, expires, now_ms))
        return (struct kt_str){ slot->jwt, slot->n };
    struct kt_buf jwt;
    kt_buf_init(&jwt, JWT_MAX);
    if (!make_jwt(s, hit, expires, now_ms, &jwt)) {
        kt_buf_done(&jwt);
        return none;
    }
    slot_clear(slot);
    *slot = (struct slot){ .token_expires_ms = expires,
                           .made_ms = now_ms,
                           .jwt = jwt.p,
                           .n = jwt.n };
    memcpy(slot->digest, hit->record->digest, sizeof slot->digest);
    return (struct kt_str){ slot->jwt, slot->n };
}
