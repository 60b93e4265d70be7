/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/model/token_row.h"

#include "daemon/model/record.h"
#include "daemon/service.h"

enum { TOKEN_FORMAT_1 = 1, TOKEN_FORMAT = 2, RECORD_MAX = 60 * 1024 };

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

/* kind: s for a slug, n for a name. */
struct kt_str
token_row_claim(struct kt_arena *arena, const struct uuid *org, const struct uuid *account,
          struct kt_str text, char kind)
{
    struct kt_str rest = key_text(arena, text, kind);
    return rest.p ? token_row_key_of(arena, 'c', org, account, rest.p, rest.n) : rest;
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

/* --- bytes -------------------------------------------------------------------------------- */

static void
put_actor(struct kt_buf *buf, const struct actor *actor)
{
    record_put_uuid(buf, &actor->id);
    record_put_str(buf, actor->name);
}

static struct actor
get_actor(struct record_in *in)
{
    struct actor a = { .id = record_uuid(in) };
    a.name = record_str(in);
    return a;
}

struct kt_str
token_row_encode(struct kt_arena *arena, const struct token_record *t)
{
    struct kt_buf buf;
    kt_buf_init(&buf, RECORD_MAX);
    record_put_u8(&buf, TOKEN_FORMAT);
    record_put_uuid(&buf, &t->id);
    record_put_uuid(&buf, &t->account);
    record_put_str(&buf, t->name);
    record_put_str(&buf, t->slug);
    record_put_strs(&buf, t->scopes, t->nscopes);
    record_put_i64(&buf, t->created_ms);
    put_actor(&buf, &t->created_by);
    record_put_i64(&buf, t->expires_ms);
    record_put_i64(&buf, t->revoked_ms);
    put_actor(&buf, &t->revoked_by);
    record_put_u32(&buf, t->epoch);
    record_put_bytes(&buf, t->digest, sizeof t->digest);
    record_put_u8(&buf, t->has_old);
    if (t->has_old) {
        record_put_bytes(&buf, t->old_digest, sizeof t->old_digest);
        record_put_i64(&buf, t->old_expires_ms);
    }
    record_put_u32(&buf, t->key);
    record_put_u8(&buf, (unsigned char)t->nformer);
    for (size_t i = 0; i < t->nformer; i++) {
        record_put_u8(&buf, t->former[i].old);
        record_put_bytes(&buf, t->former[i].digest, DIGEST_BYTES);
    }
    return record_finish(arena, &buf);
}

static bool
get_formers(struct record_in *in, struct token_record *t)
{
    t->key = record_u32(in);
    t->nformer = record_u8(in);
    if (t->nformer > DIGEST_KEYS_MAX)
        return false;
    for (size_t i = 0; i < t->nformer; i++) {
        t->former[i].old = record_u8(in) != 0;
        record_bytes(in, t->former[i].digest, DIGEST_BYTES);
    }
    return true;
}

bool
token_decode(struct kt_arena *arena, struct kt_str value, struct token_record *ret)
{
    struct record_in in;
    struct token_record t = { .has_old = false };
    record_open(&in, value);
    unsigned format = record_u8(&in);
    if (format != TOKEN_FORMAT && format != TOKEN_FORMAT_1)
        return false;
    t.id = record_uuid(&in);
    t.account = record_uuid(&in);
    t.name = record_str(&in);
    t.slug = record_str(&in);
    t.scopes = record_strs(&in, arena, TOKEN_SCOPES_MAX, &t.nscopes);
    t.created_ms = record_i64(&in);
    t.created_by = get_actor(&in);
    t.expires_ms = record_i64(&in);
    t.revoked_ms = record_i64(&in);
    t.revoked_by = get_actor(&in);
    t.epoch = record_u32(&in);
    record_bytes(&in, t.digest, sizeof t.digest);
    t.has_old = record_u8(&in) != 0;
    if (t.has_old) {
        record_bytes(&in, t.old_digest, sizeof t.old_digest);
        t.old_expires_ms = record_i64(&in);
    }
    if (format == TOKEN_FORMAT && !get_formers(&in, &t))
        return false;
    if (!record_done(&in))
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
    if (!key.p)
        return fail_memory(call);
    struct store_row row;
    int status = store_get(call, call->svc->store, &key, 1, &row);
    if (status != KT_OK)
        return status;
    if (!row.value.p)
        return KT_NOT_FOUND;
    if (!token_decode(call->arena, row.value, ret))
        return account_bad_record(call, 't');
    *ret_row = row;
    return KT_OK;
}

/* The row of a claim, and the token that has it. KT_NOT_FOUND without a refusal: it is free. */
int
token_row_holder(struct call *call, struct kt_str key, struct store_row *ret_row,
                 struct uuid *ret_id)
{
    if (!key.p)
        return fail_memory(call);
    int status = store_get(call, call->svc->store, &key, 1, ret_row);
    if (status != KT_OK)
        return status;
    if (!ret_row->value.p)
        return KT_NOT_FOUND;
    struct record_in in;
    record_open(&in, ret_row->value);
    *ret_id = record_uuid(&in);
    return record_done(&in) ? KT_OK : account_bad_record(call, 'c');
}
