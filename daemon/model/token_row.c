/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/model/token_row.h"

#include "daemon/model/record.h"
#include "daemon/service.h"

#include <sodium.h>

enum { TOKEN_FORMAT = 3, RECORD_MAX = 60 * 1024 };
enum { EXPIRES = 1, REVOKED = 2, HAS_OLD = 4, HAS_KEY = 8, HAS_FORMER = 16, FLAGS = 31 };

/* --- keys --------------------------------------------------------------------------------- */

struct kt_str
token_row_key_of(struct kt_arena *arena, char space, const struct uuid *org,
                 const struct uuid *account, const void *rest, size_t n)
{
    size_t head = 1 + sizeof org->b + sizeof account->b;
    char *p = kt_arena_alloc(arena, head + n);
    if (!p)
        return (struct kt_str){ NULL, 0 };
    p[0] = space;
    memcpy(p + 1, org->b, sizeof org->b);
    memcpy(p + 1 + sizeof org->b, account->b, sizeof account->b);
    if (n != 0)
        memcpy(p + head, rest, n);
    return (struct kt_str){ p, head + n };
}

struct kt_str
token_row_key(struct kt_arena *arena, const struct uuid *org, const struct uuid *account,
          const struct uuid *token)
{
    return token_row_key_of(arena, 't', org, account, token->b, sizeof token->b);
}

/* Without the hyphen and the six hexadecimal digits at the end of a slug that was made from a name.
 * Six decimal digits are left alone: they are more often the number of a series. */
static size_t
without_suffix(struct kt_str text)
{
    enum { DIGITS = 6, SUFFIX = 1 + DIGITS };
    bool letter = false;
    if (text.n <= SUFFIX || text.p[text.n - SUFFIX] != '-')
        return text.n;
    for (size_t i = text.n - DIGITS; i < text.n; i++) {
        char c = text.p[i];
        if (!(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'f'))
            return text.n;
        letter = letter || c >= 'a';
    }
    return letter ? text.n - SUFFIX : text.n;
}

/* Of the first so many letters and digits, whatever their case and what stands between them. A hash
 * of FNV-1a's kind. */
static uint32_t
sum_of_letters(struct kt_str text, size_t most)
{
    uint32_t hash = 2166136261u;
    for (size_t i = 0, n = 0; i < text.n && n < most; i++) {
        unsigned char c = (unsigned char)text.p[i];
        if (c >= 'A' && c <= 'Z')
            c = (unsigned char)(c - 'A' + 'a');
        if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9'))
            continue;
        hash = (hash ^ c) * 16777619u;
        n++;
    }
    return hash ^ hash >> 16;
}

/* place: where it stands among those of its account. */
static struct kt_str
claim_at(struct kt_arena *arena, struct kt_str place, const struct uuid *org,
         const struct uuid *account, struct kt_str text, char kind)
{
    enum { ACCOUNT = 4, HASH = 10 };
    crypto_generichash_state state;
    unsigned char hash[crypto_generichash_BYTES_MIN];
    const size_t n = 1 + ACCOUNT + place.n + HASH;
    char *p = kt_arena_alloc(arena, n);
    if (!p)
        return (struct kt_str){ NULL, 0 };
    crypto_generichash_init(&state, NULL, 0, sizeof hash);
    crypto_generichash_update(&state, org->b, sizeof org->b);
    crypto_generichash_update(&state, account->b, sizeof account->b);
    crypto_generichash_update(&state, (const unsigned char *)&kind, 1);
    crypto_generichash_update(&state, (const unsigned char *)text.p, text.n);
    crypto_generichash_final(&state, hash, sizeof hash);
    p[0] = 'c';
    memcpy(p + 1, account->b + sizeof account->b - ACCOUNT, ACCOUNT);
    memcpy(p + 1 + ACCOUNT, place.p, place.n);
    memcpy(p + 1 + ACCOUNT + place.n, hash, HASH);
    return (struct kt_str){ p, n };
}

enum { BEGINNING = 8 }; /* letters and digits */

/* There are two of these for each token, so that their keys are short: no more than decides whether
 * a text is taken. Claims of one account stand together, among them those of texts that begin alike
 * (names of one series are made at one time), and among these those of a name and of the slug that
 * was made from it: one page to change instead of two, and often one that was changed before. */
struct kt_str
token_row_claim(struct kt_arena *arena, const struct uuid *org, const struct uuid *account,
                struct kt_str text, char kind)
{
    const struct kt_str alike = { text.p, without_suffix(text) };
    const uint32_t begin = sum_of_letters(alike, BEGINNING);
    const uint32_t whole = sum_of_letters(alike, SIZE_MAX);
    const char place[] = { (char)(begin >> 8), (char)begin, (char)(whole >> 8), (char)whole };
    const struct kt_str at = { place, sizeof place };
    return claim_at(arena, at, org, account, text, kind);
}

struct kt_str
token_row_claim_2(struct kt_arena *arena, const struct uuid *org, const struct uuid *account,
                  struct kt_str text, char kind)
{
    const uint32_t begin = sum_of_letters(text, BEGINNING);
    const char place[] = { (char)(begin >> 8), (char)begin };
    const struct kt_str at = { place, sizeof place };
    return claim_at(arena, at, org, account, text, kind);
}

struct kt_str
token_row_digest(struct kt_arena *arena, const unsigned char digest[DIGEST_BYTES])
{
    char *p = kt_arena_alloc(arena, 1 + DIGEST_BYTES);
    if (!p)
        return (struct kt_str){ NULL, 0 };
    p[0] = 'h';
    memcpy(p + 1, digest, DIGEST_BYTES);
    return (struct kt_str){ p, 1 + DIGEST_BYTES };
}

struct kt_str
token_row_used(struct kt_arena *arena, const unsigned char digest[INDEX_KEPT_BYTES])
{
    char *p = kt_arena_alloc(arena, 1 + INDEX_KEPT_BYTES);
    if (!p)
        return (struct kt_str){ NULL, 0 };
    p[0] = 'u';
    memcpy(p + 1, digest, INDEX_KEPT_BYTES);
    return (struct kt_str){ p, 1 + INDEX_KEPT_BYTES };
}

bool
token_row_read_used(const struct store_row *row, unsigned char ret_digest[INDEX_KEPT_BYTES],
                    uint32_t *ret_at_s)
{
    struct record_in in;
    *ret_at_s = 0;
    if (row->key.n != 1 + INDEX_KEPT_BYTES)
        return false;
    memcpy(ret_digest, row->key.p + 1, INDEX_KEPT_BYTES);
    if (!row->value.p)
        return true;
    record_open(&in, row->value);
    uint8_t format = record_u8(&in);
    *ret_at_s = record_u32(&in);
    return record_done(&in) && format == USED_FORMAT;
}

/* --- bytes -------------------------------------------------------------------------------- */

static void
put_actor(struct kt_buf *buf, const struct actor *actor)
{
    record_put_uuid(buf, &actor->id);
    record_put_text(buf, actor->name);
}

static struct actor
get_actor(struct record_in *in)
{
    struct actor a = { .id = record_uuid(in) };
    a.name = record_text(in);
    return a;
}

/* What the key says is not said again; a slug that is the name is left out. */
struct kt_str
token_row_encode(struct kt_arena *arena, const struct token_record *t)
{
    struct kt_buf buf;
    int flags = (t->expires_ms ? EXPIRES : 0) | (t->revoked_ms ? REVOKED : 0) |
                (t->has_old ? HAS_OLD : 0) | (t->key ? HAS_KEY : 0) |
                (t->nformer ? HAS_FORMER : 0);
    kt_buf_init(&buf, RECORD_MAX);
    record_put_u8(&buf, TOKEN_FORMAT);
    record_put_u8(&buf, (uint8_t)flags);
    record_put_text(&buf, t->name);
    record_put_text(&buf, kt_str_eq(t->slug, t->name) ? (struct kt_str){ NULL, 0 } : t->slug);
    record_put_scopes(&buf, t->scopes, t->nscopes);
    put_actor(&buf, &t->created_by);
    record_put_number(&buf, t->epoch);
    record_put_bytes(&buf, t->digest, sizeof t->digest);
    if (t->expires_ms)
        record_put_number(&buf, (uint64_t)t->expires_ms);
    if (t->revoked_ms) {
        record_put_number(&buf, (uint64_t)t->revoked_ms);
        put_actor(&buf, &t->revoked_by);
    }
    if (t->has_old) {
        record_put_bytes(&buf, t->old_digest, sizeof t->old_digest);
        record_put_number(&buf, (uint64_t)t->old_expires_ms);
    }
    if (t->key)
        record_put_u32(&buf, t->key);
    if (t->nformer)
        record_put_u8(&buf, (unsigned char)t->nformer);
    for (size_t i = 0; i < t->nformer; i++) {
        record_put_u8(&buf, t->former[i].old);
        record_put_bytes(&buf, t->former[i].digest, DIGEST_BYTES);
    }
    return record_finish(arena, &buf);
}

/* Organization, account, id. */
static bool
decode_key(struct kt_str key, struct token_record *t)
{
    const size_t head = 1 + sizeof(struct uuid);
    if (key.n != head + sizeof t->account.b + sizeof t->id.b)
        return false;
    memcpy(t->account.b, key.p + head, sizeof t->account.b);
    memcpy(t->id.b, key.p + head + sizeof t->account.b, sizeof t->id.b);
    t->created_ms = uuid_time_ms(&t->id);
    return true;
}

static bool
get_formers(struct record_in *in, struct token_record *t)
{
    t->nformer = record_u8(in);
    if (t->nformer == 0 || t->nformer > DIGEST_KEYS_MAX)
        return false;
    for (size_t i = 0; i < t->nformer; i++) {
        t->former[i].old = record_u8(in) != 0;
        record_bytes(in, t->former[i].digest, DIGEST_BYTES);
    }
    return true;
}

bool
token_decode(struct kt_arena *arena, struct kt_str key, struct kt_str value,
             struct token_record *ret)
{
    struct record_in in;
    struct token_record t = { .has_old = false };
    record_open(&in, value);
    if (!decode_key(key, &t) || record_u8(&in) != TOKEN_FORMAT)
        return false;
    uint8_t flags = record_u8(&in);
    t.name = record_text(&in);
    t.slug = record_text(&in);
    if (!t.slug.p)
        t.slug = t.name;
    t.scopes = record_scopes(&in, arena, TOKEN_SCOPES_MAX, &t.nscopes);
    t.created_by = get_actor(&in);
    uint64_t epoch = record_number(&in);
    t.epoch = (uint32_t)epoch;
    record_bytes(&in, t.digest, sizeof t.digest);
    if (flags & EXPIRES)
        t.expires_ms = (int64_t)record_number(&in);
    if (flags & REVOKED) {
        t.revoked_ms = (int64_t)record_number(&in);
        t.revoked_by = get_actor(&in);
    }
    t.has_old = (flags & HAS_OLD) != 0;
    if (t.has_old) {
        record_bytes(&in, t.old_digest, sizeof t.old_digest);
        t.old_expires_ms = (int64_t)record_number(&in);
    }
    if ((flags & HAS_KEY) != 0)
        t.key = record_u32(&in);
    if ((flags & HAS_FORMER) != 0 && !get_formers(&in, &t))
        return false;
    if (!record_done(&in) || flags > FLAGS || epoch > UINT32_MAX)
        return false;
    *ret = t;
    return true;
}

/* --- reading ------------------------------------------------------------------------------ */

int
token_row_load(struct call *call, const struct account_record *a, const struct uuid *id,
           struct token_record *ret, struct store_row *ret_row)
{
    struct kt_str key = token_row_key(call->arena, &a->org, &a->id, id);
    struct store_row row;
    int status = store_get_one(call, call->svc->store, key, &row);
    if (status != KT_OK)
        return status;
    if (!token_decode(call->arena, row.key, row.value, ret))
        return fail_record(call, 't');
    *ret_row = row;
    return KT_OK;
}

int
token_row_holder(struct call *call, struct kt_str key, struct store_row *ret_row,
                 struct uuid *ret_id)
{
    int status = store_get_one(call, call->svc->store, key, ret_row);
    if (status != KT_OK)
        return status;
    struct record_in in;
    record_open(&in, ret_row->value);
    *ret_id = record_uuid(&in);
    return record_done(&in) ? KT_OK : fail_record(call, 'c');
}
