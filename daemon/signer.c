/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/signer.h"

#include "client/proto/buf.h"
#include "client/proto/check.h"
#include "client/proto/json.h"
#include "client/proto/wipe.h"
#include "daemon/signer_file.h"

#include <errno.h>
#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    COORDINATE = SIGNER_COORDINATE,
    JWT_MAX = 64 * 1024,
    REUSE_MS = 60 * 1000,     /* how long the signed form of a token may be used again */
    SETS = 4096,              /* of one thread; with WAYS signed forms each */
    WAYS = 8,                 /* slots that a token may have its form in */
    KEPT_MAX = 2048           /* bytes of a form that is kept: a token with some forty scopes */
};

/* One signed form. Only its bytes are kept: whether the token is good is checked anew every
 * time. */
struct slot {
    unsigned char digest[INDEX_KEPT_BYTES];
    int64_t token_expires_ms, made_ms;
    char *jwt;
    size_t n;
};

/* Those that the same tokens may have. Half full on average, one in a thousand is too small; with
 * fewer ways tokens would throw each other out all the time, and a signature takes as long as
 * answering three requests. The tags, of the digests, spare a look at most of the slots. */
struct set {
    uint32_t tags[WAYS];
    struct slot slots[WAYS];
};

/* Of one thread. What is too long to be kept lives until the next one that is. */
struct kept {
    struct set sets[SETS];
    struct slot large;
};

/* Immutable once in force. */
struct signing {
    struct signer_keys keys;
    char head[256]; /* base64url of the protected header, with its dot */
    struct kt_arena arena;
    struct kt_value jwks;
    struct signing *before;
    unsigned rotations; /* how many there are before it */
};

struct signer {
    char *path;
    char *issuer, *audience;
    _Atomic int64_t lifetime_ms;
    pthread_key_t slots; /* of each thread */
    pthread_mutex_t lock; /* held by whoever makes others */
    struct signing *_Atomic now;
};

/* --- the keys in force -------------------------------------------------------------------- */

static bool
make_head(struct signing *now)
{
    char text[160];
    int n = snprintf(text, sizeof text, "{\"alg\":\"ES256\",\"kid\":\"%s\",\"typ\":\"JWT\"}",
                     now->keys.publics[0].kid);
    if (KT_B64URL_LEN((size_t)n) + 2 > sizeof now->head)
        return false;
    size_t used = kt_b64url_encode(text, (size_t)n, now->head);
    memcpy(now->head + used, ".", 2);
    return true;
}

static bool
make_jwks(struct signing *now)
{
    struct kt_buf text;
    struct kt_json_error why;
    kt_buf_init(&text, 16 * 1024);
    kt_buf_puts(&text, "{\"keys\":[");
    for (size_t i = 0; i < now->keys.n; i++) {
        const struct signer_public *p = &now->keys.publics[i];
        kt_buf_printf(&text,
                      "%s{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"%s\",\"y\":\"%s\","
                      "\"use\":\"sig\",\"alg\":\"ES256\",\"kid\":\"%s\"}",
                      i == 0 ? "" : ",", p->x, p->y, p->kid);
    }
    kt_buf_puts(&text, "]}");
    kt_arena_init(&now->arena, 64 * 1024);
    struct kt_str whole = kt_arena_str(&now->arena, kt_buf_str(&text));
    bool ok = !text.failed && whole.p &&
              kt_json_read(whole, &now->arena, NULL, &now->jwks, &why) == 0;
    kt_buf_done(&text);
    return ok;
}

static void
signing_free(struct signing *now)
{
    while (now) {
        struct signing *before = now->before;
        EVP_PKEY_free(now->keys.key);
        kt_arena_done(&now->arena);
        free(now);
        now = before;
    }
}

/* Takes keys->key over, in any case. NULL: err. */
static struct signing *
signing_new(const struct signer_keys *keys, char *err)
{
    struct signing *now = calloc(1, sizeof *now);
    if (now) {
        now->keys = *keys;
        if (make_head(now) && make_jwks(now))
            return now;
        signing_free(now);
    } else {
        EVP_PKEY_free(keys->key);
    }
    snprintf(err, SIGNER_ERROR_MAX, "no memory for the signing key");
    return NULL;
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
    struct kept *kept = memory;
    if (!kept)
        return;
    for (size_t i = 0; i < SETS * WAYS; i++)
        slot_clear(&kept->sets[i / WAYS].slots[i % WAYS]);
    slot_clear(&kept->large);
    free(kept);
}

static struct signing *
open_keys(const char *path, char *err)
{
    struct signer_keys keys;
    bool fresh = access(path, F_OK) != 0 && errno == ENOENT;
    if (!fresh)
        return signer_file_read(path, &keys, err) ? signing_new(&keys, err) : NULL;
    if (!signer_keys_make(&keys, err))
        return NULL;
    if (signer_file_write(path, &keys, false, err))
        return signing_new(&keys, err);
    EVP_PKEY_free(keys.key);
    return NULL;
}

bool
signer_open(const struct signer_options *options, struct signer **ret, char *err)
{
    struct signer *s = calloc(1, sizeof *s);
    snprintf(err, SIGNER_ERROR_MAX, "out of memory");
    if (!s)
        return false;
    if (pthread_key_create(&s->slots, free_slots) != 0) {
        snprintf(err, SIGNER_ERROR_MAX, "no key is left for what each thread keeps");
        free(s);
        return false;
    }
    pthread_mutex_init(&s->lock, NULL);
    s->path = strdup(options->path);
    s->issuer = strdup(options->issuer);
    s->audience = strdup(options->audience);
    s->lifetime_ms = options->lifetime_ms;
    if (s->path && s->issuer && s->audience)
        s->now = open_keys(options->path, err);
    if (s->now) {
        *ret = s;
        return true;
    }
    signer_free(s);
    return false;
}

void
signer_free(struct signer *s)
{
    if (!s)
        return;
    signing_free(s->now);
    free(s->path);
    free(s->issuer);
    free(s->audience);
    free_slots(pthread_getspecific(s->slots)); /* what other threads kept has gone with them */
    pthread_key_delete(s->slots);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

/* --- rotating ----------------------------------------------------------------------------- */

/* The retired keys that still verify something, without the one with this id. False: too many. */
static bool
add_retired(struct signer_keys *keys, const struct signer_keys *from, int64_t sure_ms,
            const char *but)
{
    for (size_t i = 1; i < from->n; i++) {
        if (from->publics[i].until_ms <= sure_ms || strcmp(from->publics[i].kid, but) == 0)
            continue;
        if (keys->n == SIGNER_KEYS_MAX)
            return false;
        keys->publics[keys->n++] = from->publics[i];
    }
    return true;
}

/* Threads that are reading the old ones may go on: they live until the end. */
static bool
put_in_force(struct signer *s, struct signing *next)
{
    struct signing *before = s->now;
    next->before = before;
    next->rotations = before->rotations + 1;
    s->now = next;
    return true;
}

static bool
too_many(const struct signing *now, char *err)
{
    bool many = now->rotations == SIGNER_ROTATIONS_MAX;
    if (many)
        snprintf(err, SIGNER_ERROR_MAX, "changed %d times since the start; restart first",
                 SIGNER_ROTATIONS_MAX);
    return many;
}

static bool
rotate(struct signer *s, int64_t now_ms, int64_t sure_ms, char *err)
{
    const struct signing *now = s->now;
    struct signer_keys keys;
    if (too_many(now, err) || !signer_keys_make(&keys, err))
        return false;
    keys.publics[keys.n] = now->keys.publics[0];
    keys.publics[keys.n++].until_ms = now_ms + SIGNER_LIFETIME_MAX_MS + SIGNER_LEEWAY_MS;
    if (!add_retired(&keys, &now->keys, sure_ms, "")) {
        EVP_PKEY_free(keys.key);
        snprintf(err, SIGNER_ERROR_MAX, "%d keys are published already; accepted: at most that "
                 "many; a day after its rotation a key is not needed any more", SIGNER_KEYS_MAX);
        return false;
    }
    EVP_PKEY_up_ref(keys.key);
    struct signing *next = signing_new(&keys, err);
    bool ok = next && signer_file_write(s->path, &keys, true, err) && put_in_force(s, next);
    EVP_PKEY_free(keys.key);
    if (!ok)
        signing_free(next);
    return ok;
}

bool
signer_rotate(struct signer *s, int64_t now_ms, int64_t sure_ms, char *err)
{
    pthread_mutex_lock(&s->lock);
    bool ok = rotate(s, now_ms, sure_ms, err);
    pthread_mutex_unlock(&s->lock);
    return ok;
}

/* Without those that verify nothing any more, and the one that is no longer to be published. */
static bool
drop(struct signer *s, int64_t sure_ms, const char *but, char *err)
{
    const struct signing *now = s->now;
    struct signer_keys keys = { .key = now->keys.key, .n = 1 };
    if (too_many(now, err))
        return false;
    keys.publics[0] = now->keys.publics[0];
    (void)add_retired(&keys, &now->keys, sure_ms, but); /* they fitted before */
    if (keys.n == now->keys.n)
        return true;
    EVP_PKEY_up_ref(keys.key);
    struct signing *next = signing_new(&keys, err);
    if (next && signer_file_write(s->path, &keys, true, err))
        return put_in_force(s, next);
    signing_free(next);
    return false;
}

bool
signer_withdraw(struct signer *s, const char *kid, int64_t sure_ms, char *err)
{
    pthread_mutex_lock(&s->lock);
    bool ok = drop(s, sure_ms, kid, err);
    pthread_mutex_unlock(&s->lock);
    return ok;
}

const struct signer_keys *
signer_keys(const struct signer *s)
{
    const struct signing *now = s->now;
    return &now->keys;
}

const struct kt_value *
signer_jwks(const struct signer *s)
{
    const struct signing *now = s->now;
    return &now->jwks;
}

const char *
signer_kid(const struct signer *s)
{
    return signer_keys(s)->publics[0].kid;
}

void
signer_set_lifetime(struct signer *s, int64_t lifetime_ms)
{
    s->lifetime_ms = lifetime_ms;
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
sign(const struct signing *now, struct kt_str input, unsigned char raw[2 * COORDINATE])
{
    unsigned char der[128];
    size_t n = sizeof der;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx && EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, now->keys.key) == 1 &&
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
    const struct signing *now = s->now;
    kt_buf_puts(out, now->head);
    put_base64url(out, claims.p, claims.n);
    bool ok = !claims.failed && !out->failed && sign(now, kt_buf_str(out), raw);
    kt_buf_done(&claims);
    if (!ok)
        return false;
    kt_buf_putc(out, '.');
    put_base64url(out, raw, sizeof raw);
    return !out->failed;
}

static struct kept *
kept_here(struct signer *s)
{
    struct kept *kept = pthread_getspecific(s->slots);
    if (kept)
        return kept;
    kept = calloc(1, sizeof *kept);
    if (kept)
        pthread_setspecific(s->slots, kept);
    return kept;
}

static uint32_t
tag_of(const struct index_record *record)
{
    uint32_t tag;
    memcpy(&tag, record->digest + sizeof tag, sizeof tag);
    return tag;
}

static struct set *
set_of(struct kept *kept, const struct index_record *record)
{
    uint32_t n;
    memcpy(&n, record->digest, sizeof n);
    return &kept->sets[n % SETS];
}

/* The slot of the token; NULL: it has none. */
static struct slot *
slot_find(struct set *set, const struct index_record *record)
{
    const uint32_t tag = tag_of(record);
    for (size_t i = 0; i < WAYS; i++)
        if (set->tags[i] == tag && set->slots[i].jwt &&
            memcmp(set->slots[i].digest, record->digest, sizeof record->digest) == 0)
            return &set->slots[i];
    return NULL;
}

/* The oldest of the slots that the token may have, which gets its tag. */
static struct slot *
slot_take(struct set *set, const struct index_record *record)
{
    size_t oldest = 0;
    for (size_t i = 1; i < WAYS; i++)
        if (set->slots[i].made_ms < set->slots[oldest].made_ms)
            oldest = i;
    set->tags[oldest] = tag_of(record);
    return &set->slots[oldest];
}

/* Half of the lifetime at the most, so that what is handed out is good for a while; and never after
 * the clock was set back, which would make an old form look young. */
static bool
is_reusable(const struct signer *s, const struct slot *slot, int64_t token_expires_ms,
            int64_t now_ms)
{
    int64_t half = s->lifetime_ms / 2, most = half < REUSE_MS ? half : REUSE_MS;
    return slot->token_expires_ms == token_expires_ms && now_ms >= slot->made_ms &&
           now_ms - slot->made_ms < most;
}

struct kt_str
signer_jwt(struct signer *s, const struct index_hit *hit, int64_t now_ms)
{
    const struct kt_str none = { NULL, 0 };
    struct kept *kept = kept_here(s);
    if (!kept)
        return none;
    struct set *set = set_of(kept, hit->record);
    struct slot *slot = slot_find(set, hit->record);
    int64_t expires = atomic_load_explicit(&hit->record->expires_ms, memory_order_relaxed);
    if (slot && is_reusable(s, slot, expires, now_ms))
        return (struct kt_str){ slot->jwt, slot->n };
    struct kt_buf jwt;
    kt_buf_init(&jwt, JWT_MAX);
    if (!make_jwt(s, hit, expires, now_ms, &jwt)) {
        kt_buf_done(&jwt);
        return none;
    }
    if (jwt.n > KEPT_MAX)
        slot = &kept->large;
    else if (!slot)
        slot = slot_take(set, hit->record);
    slot_clear(slot);
    *slot = (struct slot){ .token_expires_ms = expires,
                           .made_ms = now_ms,
                           .jwt = jwt.p,
                           .n = jwt.n };
    memcpy(slot->digest, hit->record->digest, sizeof slot->digest);
    return (struct kt_str){ slot->jwt, slot->n };
}
