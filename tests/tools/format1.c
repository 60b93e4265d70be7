/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "tests/tools/format1.h"

#include "daemon/model/record.h"
#include "daemon/model/token_row.h"

enum { FORM_FIRST = 1, FORM_KEYED = 2, RECORD_MAX = 60 * 1024 };

static void
put_form(struct kt_buf *buf, bool keyed)
{
    record_put_u8(buf, keyed ? FORM_KEYED : FORM_FIRST);
}

static void
put_scopes(struct kt_buf *buf, const struct kt_str v[], size_t n)
{
    record_put_u32(buf, (uint32_t)n);
    for (size_t i = 0; i < n; i++)
        record_put_str(buf, v[i]);
}

static void
put_actor(struct kt_buf *buf, const struct actor *actor)
{
    record_put_uuid(buf, &actor->id);
    record_put_str(buf, actor->name);
}

static void
put_formers(struct kt_buf *buf, const struct token_record *t)
{
    record_put_u32(buf, t->key);
    record_put_u8(buf, (uint8_t)t->nformer);
    for (size_t i = 0; i < t->nformer; i++) {
        record_put_u8(buf, t->former[i].old);
        record_put_bytes(buf, t->former[i].digest, DIGEST_BYTES);
    }
}

struct kt_str
format1_token(struct kt_arena *arena, const struct token_record *t, bool keyed)
{
    struct kt_buf buf;
    kt_buf_init(&buf, RECORD_MAX);
    put_form(&buf, keyed);
    record_put_uuid(&buf, &t->id);
    record_put_uuid(&buf, &t->account);
    record_put_str(&buf, t->name);
    record_put_str(&buf, t->slug);
    put_scopes(&buf, t->scopes, t->nscopes);
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
    if (keyed)
        put_formers(&buf, t);
    return record_finish(arena, &buf);
}

struct kt_str
format1_verdict(struct kt_arena *arena, const struct verdict_record *v, bool keyed)
{
    struct kt_buf buf;
    kt_buf_init(&buf, RECORD_MAX);
    put_form(&buf, keyed);
    record_put_u8(&buf, v->revoked);
    record_put_uuid(&buf, &v->org);
    record_put_uuid(&buf, &v->account);
    record_put_uuid(&buf, &v->token);
    record_put_i64(&buf, v->expires_ms);
    record_put_u32(&buf, v->epoch);
    put_scopes(&buf, v->scopes, v->nscopes);
    if (keyed)
        record_put_u32(&buf, v->key);
    return record_finish(arena, &buf);
}

struct kt_str
format1_claim(struct kt_arena *arena, const struct uuid *org, const struct token_record *t,
              char kind)
{
    struct kt_str rest = key_text(arena, kind == 's' ? t->slug : t->name, kind);
    return token_row_key_of(arena, 'c', org, &t->account, rest.p, rest.n);
}
