/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/model/token.h"

#include "daemon/model/audit.h"
#include "daemon/model/record.h"
#include "daemon/model/slug.h"
#include "daemon/model/token_row.h"
#include "daemon/model/tokentext.h"
#include "daemon/model/verdict.h"
#include "daemon/principal.h"
#include "daemon/service.h"
#include "daemon/used.h"

/* --- reading ------------------------------------------------------------------------------ */

/* Whether the end of its epoch revoked the token, and nothing did before. */
static bool
ended_with_epoch(const struct account_record *a, const struct token_record *t)
{
    return t->revoked_ms == 0 && t->epoch < a->epoch;
}

/* The request that ended the epoch may be older than the last token that it ended. */
static int64_t
end_of(const struct account_end *end, int64_t created_ms)
{
    return end->at_ms > created_ms ? end->at_ms : created_ms;
}

int
token_load(struct call *call, const struct account_record *a, struct kt_str slug,
           struct token_record *ret, struct store_row *ret_row)
{
    struct uuid id;
    struct store_row claim;
    struct account_end end;
    struct kt_str key = token_row_claim(call->arena, &a->org, &a->id, slug, 's');
    int status = token_row_holder(call, key, &claim, &id);
    if (status == KT_OK)
        status = token_row_load(call, a, &id, ret, ret_row);
    if (status == KT_OK && !kt_str_eq(ret->slug, slug))
        return KT_NOT_FOUND; /* the claim knows the slug by a hash */
    if (status != KT_OK || !ended_with_epoch(a, ret))
        return status;
    status = account_epoch_end(call, a, ret->epoch, &end);
    ret->revoked_ms = end_of(&end, ret->created_ms);
    ret->revoked_by = end.by;
    return status;
}

struct scan {
    struct call *call;
    int (*each)(void *ctx, const struct token_record *);
    void *ctx;
};

static int
scan_row(void *ctx, const struct store_row *row)
{
    struct scan *s = ctx;
    struct token_record t;
    if (!token_decode(s->call->arena, row->key, row->value, &t))
        return fail_record(s->call, 't');
    return s->each(s->ctx, &t);
}

int
token_scan(struct call *call, const struct account_record *a, const struct cursor *below,
           uint64_t limit, int (*each)(void *, const struct token_record *), void *ctx)
{
    struct kt_str prefix = token_row_key_of(call->arena, 't', &a->org, &a->id, NULL, 0);
    struct kt_str to = list_bound(call->arena, prefix, below);
    if (!prefix.p || !to.p)
        return fail_memory(call);
    struct scan s = { call, each, ctx };
    const struct store_range range = { prefix, to, true, limit };
    return store_scan(call, call->svc->store, &range, scan_row, &s);
}

/* --- proposing ---------------------------------------------------------------------------- */

/* What the row of a digest says while its secret is good. */
static struct verdict_record
verdict_until(const struct uuid *org, const struct token_record *t, int64_t expires_ms)
{
    return (struct verdict_record){
        .org = *org,
        .account = t->account,
        .token = t->id,
        .expires_ms = expires_ms,
        .epoch = t->epoch,
        .key = t->key,
        .scopes = t->scopes,
        .nscopes = t->nscopes,
    };
}

static void
put_verdict(struct batch *b, const unsigned char digest[DIGEST_BYTES],
            const struct verdict_record *v)
{
    batch_set(b, token_row_digest(b->arena, digest), verdict_encode(b->arena, v));
}

/* What the secret's digest was before: with the secret it ends under those names, too. */
static void
put_formers(struct batch *b, struct effect *e, const struct token_record *t, bool old)
{
    unsigned char(*former)[DIGEST_BYTES] =
        kt_arena_alloc(b->arena, sizeof *former * DIGEST_KEYS_MAX);
    if (!former) {
        b->failed = true;
        return;
    }
    for (size_t i = 0; i < t->nformer; i++)
        if (t->former[i].old == old)
            memcpy(former[e->nformer++], t->former[i].digest, DIGEST_BYTES);
    e->former = (const unsigned char(*)[DIGEST_BYTES])former;
}

/* The row keeps the instant of the end, from which on it is kept for a while and then purged. */
static struct effect *
revoke_digest(struct call *call, struct batch *b, const struct uuid *org,
              const struct token_record *t, const unsigned char digest[DIGEST_BYTES],
              int64_t expires_ms)
{
    bool earlier = expires_ms != 0 && expires_ms < call->now_ms;
    struct verdict_record v = verdict_until(org, t, earlier ? expires_ms : call->now_ms);
    v.revoked = true;
    put_verdict(b, digest, &v);
    struct effect *e = batch_effect(b, EFFECT_REVOKE);
    memcpy(e->digest, digest, DIGEST_BYTES);
    e->until_ms = t->expires_ms;
    put_formers(b, e, t, memcmp(digest, t->digest, DIGEST_BYTES) != 0);
    return e;
}

/* The same, and the token has no other. account: lives as long as the batch. */
static void
revoke_with_token(struct call *call, struct batch *b, const struct account_record *account,
                  const struct token_record *t, const unsigned char digest[DIGEST_BYTES],
                  int64_t expires_ms)
{
    struct effect *e = revoke_digest(call, b, &account->org, t, digest, expires_ms);
    e->account = account;
    e->token = t->id;
    e->whole = true;
}

static void
add_digest(struct batch *b, const struct account_record *a, const struct token_record *t,
           uint32_t last_used)
{
    const struct verdict_record v = verdict_until(&a->org, t, t->expires_ms);
    put_verdict(b, t->digest, &v);
    struct effect *e = batch_effect(b, EFFECT_TOKEN);
    e->account = a;
    e->scopes = t->scopes;
    e->nscopes = t->nscopes;
    e->token = t->id;
    e->epoch = t->epoch;
    e->expires_ms = t->expires_ms;
    memcpy(e->digest, t->digest, DIGEST_BYTES);
    if (last_used == 0)
        return;
    e->last_used = last_used;
    token_put_used(b, t->digest, last_used);
}

static struct kt_secret *
draw(const struct service *svc, struct batch *b, struct token_record *t)
{
    struct kt_secret *secret = token_text_make(NULL);
    if (!secret)
        return NULL;
    b->keys = svc->keys;
    digest_token(b->keys, kt_secret_view(secret), t->digest);
    t->key = digest_keys_tag(b->keys, 0);
    return secret;
}

static struct refusal
slug_taken(struct kt_str slug, bool derived)
{
    if (derived)
        return (struct refusal){ .kind = KT_OK };
    return (struct refusal){ KT_CONFLICT, "CreateToken.SlugConflict", "Token with slug \"", slug,
                             "\" already exists for this service account" };
}

static struct refusal
name_taken(struct kt_str name)
{
    return (struct refusal){ KT_CONFLICT, "CreateToken.Conflict", "Token \"", name,
                             "\" could not be created due to a conflicting record" };
}

/* Tokens that the end of an epoch revoked still stand in the claims on their names, since one batch
 * cannot take back a million. Only accounts that had such an end pay for the look. */
static int
if_name_free(struct call *call, struct batch *b, const struct account_record *a,
             struct kt_str key, struct kt_str name)
{
    struct uuid id;
    struct token_record holder;
    struct store_row claim, row;
    int status = KT_NOT_FOUND;
    if (a->epoch > ACCOUNT_EPOCH_FIRST && call->on_loop)
        return CALL_WOULD_BLOCK;
    if (a->epoch > ACCOUNT_EPOCH_FIRST)
        status = token_row_holder(call, key, &claim, &id);
    if (status == KT_OK)
        status = token_row_load(call, a, &id, &holder, &row);
    if (status == KT_OK && ended_with_epoch(a, &holder))
        batch_if_at(b, &claim);
    else if (status == KT_OK || status == KT_NOT_FOUND)
        batch_if_absent(b, key, name_taken(name));
    return status == KT_NOT_FOUND ? KT_OK : status;
}

static int
claim(struct call *call, struct batch *b, const struct account_record *a,
      const struct token_record *t, bool slug_derived)
{
    struct kt_str id = kt_arena_str(call->arena, (struct kt_str){ (const char *)t->id.b, 16 });
    struct kt_str slug = token_row_claim(call->arena, &a->org, &a->id, t->slug, 's');
    struct kt_str name = token_row_claim(call->arena, &a->org, &a->id, t->name, 'n');
    batch_if_absent(b, slug, slug_taken(t->slug, slug_derived));
    int status = if_name_free(call, b, a, name, t->name);
    batch_set(b, slug, id);
    batch_set(b, name, id);
    return status;
}

int
token_propose_create(struct call *call, const struct account_record *a,
                     const struct store_row *row, const struct token_wish *wish,
                     struct token_made *ret)
{
    struct token_record t = {
        .id = uuid_v7(call->now_ms),
        .account = a->id,
        .name = wish->name,
        .slug = wish->slug.p ? wish->slug : slug_derive(call->arena, wish->name, NULL),
        .scopes = wish->scopes,
        .nscopes = wish->nscopes,
        .created_by = actor_of(call),
        .expires_ms = wish->expires_ms,
        .epoch = a->epoch,
    };
    t.created_ms = uuid_time_ms(&t.id);
    struct batch *b = batch_new(call->arena);
    struct account_record *account = kt_arena_alloc(call->arena, sizeof *account);
    if (!t.slug.p || !b || !account)
        return fail_memory(call);
    *account = *a;
    batch_if_at(b, row);
    int status = claim(call, b, a, &t, wish->slug.p == NULL);
    if (status != KT_OK)
        return status;
    struct kt_secret *secret = draw(call->svc, b, &t);
    if (!secret)
        return fail_memory(call);
    batch_set(b, token_row_key(call->arena, &a->org, &a->id, &t.id),
              token_row_encode(call->arena, &t));
    add_digest(b, account, &t, 0);
    *ret = (struct token_made){ b, t, secret };
    return KT_OK;
}

/* Row and secret of one instant: the token's row is looked at before and after. */
int
token_current_load(struct call *call, const struct token_record *t, const struct store_row *row,
                   struct token_current *ret)
{
    struct store *store = call->svc->store;
    struct verdict_record v;
    struct store_row again;
    struct kt_str key = token_row_digest(call->arena, t->digest);
    int status = key.p ? store_get(call, store, &key, 1, &ret->row) : fail_memory(call);
    if (status != KT_OK)
        return status;
    if (ret->row.value.p) {
        if (!verdict_decode(call->arena, ret->row.value, &v))
            return fail_record(call, 'h');
        ret->ends_ms = v.revoked ? call->now_ms : v.expires_ms;
        return KT_OK;
    }
    status = store_get(call, store, &row->key, 1, &again);
    if (status != KT_OK)
        return status;
    if (!again.value.p || again.revision != row->revision)
        return KT_NOT_FOUND;
    return fail_cause(call, KT_INTERNAL, NULL,
                      "the row of a token is older than the store: it names a secret that is not "
                      "there; revokeAll of its account ends the one that is");
}

/* The secret that is being replaced: dead now, or at the end of the grace, never later than it
 * would have been. */
static void
retire_digest(struct call *call, struct batch *b, const struct token_found *found,
              int64_t grace_ms, struct token_record *next)
{
    const struct uuid *org = &found->account.org;
    const struct token_record *t = &found->token;
    int64_t end = call->now_ms + grace_ms;
    if (t->expires_ms != 0 && t->expires_ms < end)
        end = t->expires_ms;
    if (found->now.ends_ms != 0 && found->now.ends_ms < end)
        end = found->now.ends_ms;
    next->has_old = end > call->now_ms;
    next->nformer = 0;
    if (!next->has_old) {
        revoke_digest(call, b, org, t, t->digest, end);
        return;
    }
    memcpy(next->old_digest, t->digest, DIGEST_BYTES);
    next->old_expires_ms = end;
    const struct verdict_record v = verdict_until(org, t, end);
    put_verdict(b, t->digest, &v);
    struct effect *e = batch_effect(b, EFFECT_EXPIRY);
    memcpy(e->digest, t->digest, DIGEST_BYTES);
    e->expires_ms = end;
    e->until_ms = t->expires_ms;
    put_formers(b, e, t, false);
    for (size_t i = 0; i < t->nformer; i++) {
        if (t->former[i].old)
            continue;
        next->former[next->nformer] = t->former[i];
        next->former[next->nformer++].old = true;
    }
}

int
token_propose_rotate(struct call *call, const struct token_found *found, int64_t grace_ms,
                     struct token_made *ret)
{
    const struct token_record *t = &found->token;
    struct token_record next = *t;
    struct batch *b = batch_new(call->arena);
    struct account_record *account = kt_arena_alloc(call->arena, sizeof *account);
    struct kt_secret *secret = b && account ? draw(call->svc, b, &next) : NULL;
    if (!secret)
        return fail_memory(call);
    *account = found->account;
    b->urgent = true; /* it ends a secret */
    /* A secret of an account that is gone would be good for nothing. */
    batch_if_at(b, &found->account_row);
    batch_if_at(b, &found->row);
    batch_if_at(b, &found->now.row); /* what the journal ends again it ends in this row alone */
    /* Also when it has expired: nobody remembers it from here on, and a clock may be set back. */
    if (t->has_old)
        revoke_digest(call, b, &account->org, t, t->old_digest, t->old_expires_ms);
    retire_digest(call, b, found, grace_ms, &next);
    add_digest(b, account, &next, token_last_used(call->svc, t));
    batch_set(b, found->row.key, token_row_encode(call->arena, &next));
    audit_put(call, b, "token.rotate", &account->id, &t->id);
    *ret = (struct token_made){ b, next, secret };
    return KT_OK;
}

int
token_propose_revoke(struct call *call, const struct token_found *found, struct batch **ret_batch)
{
    const struct token_record *t = &found->token;
    struct token_record dead = *t;
    struct batch *b = batch_new(call->arena);
    struct account_record *account = kt_arena_alloc(call->arena, sizeof *account);
    if (!b || !account)
        return fail_memory(call);
    *account = found->account;
    dead.revoked_ms = call->now_ms;
    dead.revoked_by = actor_of(call);
    b->urgent = true;
    /* Once the account's epoch has ended, the name may be another token's. */
    batch_if_at(b, &found->account_row);
    batch_if_at(b, &found->row);
    batch_set(b, found->row.key, token_row_encode(call->arena, &dead));
    batch_delete(b, token_row_claim(call->arena, &account->org, &account->id, t->name, 'n'));
    revoke_with_token(call, b, account, t, t->digest, t->expires_ms);
    if (t->has_old)
        revoke_with_token(call, b, account, t, t->old_digest, t->old_expires_ms);
    audit_put(call, b, "token.revoke", &t->account, &t->id);
    *ret_batch = b;
    return KT_OK;
}

/* --- use ---------------------------------------------------------------------------------- */

void
token_note_use(const struct service *svc, const struct index_hit *hit, int64_t now_ms)
{
    const uint32_t now_s = (uint32_t)(now_ms / 1000);
    if (index_touch(hit, now_s))
        used_add(svc->used, hit->record->digest, now_s);
}

uint32_t
token_last_used(const struct service *svc, const struct token_record *t)
{
    pthread_rwlock_rdlock(svc->index_guard);
    uint32_t last = index_last_used(svc->index, t->digest);
    uint32_t old = t->has_old ? index_last_used(svc->index, t->old_digest) : 0;
    pthread_rwlock_unlock(svc->index_guard);
    return last > old ? last : old;
}

void
token_put_used(struct batch *b, const unsigned char digest[INDEX_KEPT_BYTES], uint32_t at_s)
{
    struct kt_buf value;
    kt_buf_init(&value, 16);
    record_put_u8(&value, USED_FORMAT);
    record_put_u32(&value, at_s);
    batch_set(b, token_row_used(b->arena, digest), record_finish(b->arena, &value));
}

/* --- views -------------------------------------------------------------------------------- */

static bool
copy_scopes(struct kt_arena *arena, const struct token_record *t, struct kt_strlist *ret)
{
    struct kt_str *v = kt_arena_calloc(arena, t->nscopes, sizeof *v);
    if (!v)
        return false;
    for (size_t i = 0; i < t->nscopes; i++) {
        v[i] = kt_arena_str(arena, t->scopes[i]);
        if (!v[i].p)
            return false;
    }
    *ret = (struct kt_strlist){ v, t->nscopes, KT_SET };
    return true;
}

static struct kt_time
optional_time(int64_t ms)
{
    return ms == 0 ? KT_NO_TIME : (struct kt_time){ ms };
}

bool
token_view(struct call *call, const struct token_record *t, struct kt_token *ret)
{
    struct kt_arena *arena = call->arena;
    const int64_t used_s = token_last_used(call->svc, t);
    struct kt_token v = {
        .id = uuid_text(arena, &t->id),
        .name = kt_arena_str(arena, t->name),
        .slug = kt_arena_str(arena, t->slug),
        .service_account_id = uuid_text(arena, &t->account),
        .expires_at = optional_time(t->expires_ms),
        .created_at = { t->created_ms },
        .created_by = actor_view(arena, &t->created_by),
        .revoked_at = optional_time(t->revoked_ms),
        .revoked_by = t->revoked_ms ? actor_view(arena, &t->revoked_by) : NULL,
        .last_used_at = optional_time(used_s * 1000),
    };
    bool whole = v.id.p && v.name.p && v.slug.p && v.service_account_id.p && v.created_by &&
                 (!t->revoked_ms || v.revoked_by) && copy_scopes(arena, t, &v.scopes);
    if (whole)
        *ret = v;
    return whole;
}

bool
token_views_init(struct call *call, struct token_views *views, size_t room)
{
    *views = (struct token_views){
        .v = kt_arena_calloc(call->arena, room, sizeof *views->v),
        .epochs = kt_arena_calloc(call->arena, room, sizeof *views->epochs),
    };
    return views->v && views->epochs;
}

int
token_views_add(struct call *call, struct token_views *views, const struct token_record *t)
{
    if (!token_view(call, t, &views->v[views->n]))
        return fail_memory(call);
    views->epochs[views->n++] = ended_with_epoch(views->account, t) ? t->epoch : 0;
    return KT_OK;
}

int
token_views_finish(struct call *call, struct token_views *views)
{
    uint32_t known = 0;
    struct account_end end = { .at_ms = 0 };
    const struct kt_user *by = NULL;
    for (size_t i = 0; i < views->n; i++) {
        uint32_t epoch = views->epochs[i];
        if (epoch == 0)
            continue;
        if (epoch != known) {
            int status = account_epoch_end(call, views->account, epoch, &end);
            by = status == KT_OK ? actor_view(call->arena, &end.by) : NULL;
            if (!by)
                return status == KT_OK ? fail_memory(call) : status;
            known = epoch;
        }
        views->v[i].revoked_at.ms = end_of(&end, views->v[i].created_at.ms);
        views->v[i].revoked_by = by;
    }
    return KT_OK;
}
