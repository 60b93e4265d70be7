/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/model/migrate.h"

#include "daemon/log.h"
#include "daemon/model/record.h"
#include "daemon/model/token_row.h"
#include "daemon/model/verdict.h"
#include "daemon/service.h"
#include "daemon/store_walk.h"

enum {
    FORMAT_KEYED = 2, /* like format 1, and with what is known of the key; rows of the same store */
    PIECE = KAITEN_BATCH_WRITES_MAX, /* rows that are looked at together, and their claims */
    ARENA_MAX = 64 << 20 /* the largest rows that a piece can have, read and written */
};

/* --- bytes of format 1 -------------------------------------------------------------------- */

static const struct kt_str *
old_scopes(struct record_in *in, struct kt_arena *arena, size_t *ret_n)
{
    size_t n = record_u32(in);
    struct kt_str *v = n <= TOKEN_SCOPES_MAX ? kt_arena_calloc(arena, n, sizeof *v) : NULL;
    if (!v) {
        in->ok = false;
        n = 0;
    }
    for (size_t i = 0; i < n; i++)
        v[i] = record_str(in);
    *ret_n = n;
    return v;
}

static struct actor
old_actor(struct record_in *in)
{
    struct actor a = { .id = record_uuid(in) };
    a.name = record_str(in);
    return a;
}

static void
old_formers(struct record_in *in, struct token_record *t)
{
    t->key = record_u32(in);
    t->nformer = record_u8(in);
    if (t->nformer > DIGEST_KEYS_MAX) {
        in->ok = false;
        t->nformer = 0;
    }
    for (size_t i = 0; i < t->nformer; i++) {
        t->former[i].old = record_u8(in) != 0;
        record_bytes(in, t->former[i].digest, DIGEST_BYTES);
    }
}

static bool
old_token(struct kt_arena *arena, struct kt_str value, struct token_record *ret)
{
    struct record_in in;
    struct token_record t = { .has_old = false };
    record_open(&in, value);
    uint8_t format = record_u8(&in);
    t.id = record_uuid(&in);
    t.account = record_uuid(&in);
    t.name = record_str(&in);
    t.slug = record_str(&in);
    t.scopes = old_scopes(&in, arena, &t.nscopes);
    t.created_ms = record_i64(&in);
    t.created_by = old_actor(&in);
    t.expires_ms = record_i64(&in);
    t.revoked_ms = record_i64(&in);
    t.revoked_by = old_actor(&in);
    t.epoch = record_u32(&in);
    record_bytes(&in, t.digest, sizeof t.digest);
    t.has_old = record_u8(&in) != 0;
    if (t.has_old) {
        record_bytes(&in, t.old_digest, sizeof t.old_digest);
        t.old_expires_ms = record_i64(&in);
    }
    if (format == FORMAT_KEYED)
        old_formers(&in, &t);
    *ret = t;
    return record_done(&in);
}

static bool
old_verdict(struct kt_arena *arena, struct kt_str value, struct verdict_record *ret)
{
    struct record_in in;
    record_open(&in, value);
    uint8_t format = record_u8(&in);
    ret->revoked = record_u8(&in) != 0;
    ret->org = record_uuid(&in);
    ret->account = record_uuid(&in);
    ret->token = record_uuid(&in);
    ret->expires_ms = record_i64(&in);
    ret->epoch = record_u32(&in);
    ret->scopes = old_scopes(&in, arena, &ret->nscopes);
    ret->key = format == FORMAT_KEYED ? record_u32(&in) : 0;
    return record_done(&in);
}

static struct kt_str
old_claim(struct kt_arena *arena, const struct uuid *org, const struct token_record *t,
          struct kt_str text, char kind)
{
    struct kt_str rest = key_text(arena, text, kind);
    return rest.p ? token_row_key_of(arena, 'c', org, &t->account, rest.p, rest.n) : rest;
}

/* --- pieces of a space -------------------------------------------------------------------- */

struct piece {
    struct call *call;
    struct store_row rows[PIECE]; /* copies of what is to be rewritten */
    size_t n;
    struct batch *batches[PIECE];
    size_t nbatches, done;
};

/* old: of the rows that are seen only those of format 1. */
static int
keep(struct piece *p, const struct store_row *row, bool old)
{
    if (old && (row->value.n == 0 || (row->value.p[0] != 1 && row->value.p[0] != FORMAT_KEYED)))
        return KT_OK;
    struct store_row *copy = &p->rows[p->n++];
    copy->key = kt_arena_str(p->call->arena, row->key);
    copy->value = kt_arena_str(p->call->arena, row->value);
    copy->revision = row->revision;
    return copy->key.p && copy->value.p ? KT_OK : fail_memory(p->call);
}

static int
keep_old(void *ctx, const struct store_row *row)
{
    return keep(ctx, row, true);
}

static int
keep_all(void *ctx, const struct store_row *row)
{
    return keep(ctx, row, false);
}

static struct batch *
add_batch(struct piece *p, const struct store_row *row)
{
    struct batch *b = batch_new(p->call->arena);
    if (!b)
        return NULL;
    batch_if_at(b, row);
    p->batches[p->nbatches++] = b;
    return b;
}

static int
apply(struct piece *p)
{
    struct kaiten_outcome outcomes[PIECE];
    char why[256] = "";
    if (p->nbatches == 0)
        return KT_OK;
    enum kaiten_status status = store_apply(p->call->svc->store, p->batches, p->nbatches,
                                            outcomes, why, sizeof why);
    for (size_t i = 0; i < p->nbatches && status == KAITEN_DONE; i++) {
        if (p->batches[i]->failed)
            return fail_memory(p->call);
        status = outcomes[i].status;
    }
    if (status != KAITEN_DONE)
        return fail_cause(p->call, KT_UNAVAILABLE, NULL,
                          "the store cannot be brought up to date (status %d): %s", (int)status,
                          why);
    p->done += p->nbatches;
    return KT_OK;
}

/* All rows of a space, piece by piece: rewrite() makes batches for what was kept, of the space
 * changed. */
static int
each_piece(struct call *call, char space, int (*keep_row)(void *, const struct store_row *),
           int (*rewrite)(struct piece *), char changed)
{
    struct piece p = { .call = call };
    struct store_walk walk;
    bool last = false;
    int status = KT_OK;
    store_walk_begin(&walk, space);
    while (!last && status == KT_OK) {
        kt_arena_reset(call->arena);
        p.n = p.nbatches = 0;
        status = store_walk_piece(call, &walk, PIECE, keep_row, &p, &last);
        if (status == KT_OK && p.n != 0)
            status = rewrite(&p);
        if (status == KT_OK)
            status = apply(&p);
    }
    if (status == KT_OK)
        log_line(LOG_LEVEL_NOTICE, "store.migrated", "space=%c rows=%zu", changed, p.done);
    return status;
}

/* --- tokens and their claims -------------------------------------------------------------- */

struct old {
    struct token_record token;
    struct uuid org;
    struct kt_str name; /* key of the claim on it */
};

static int
read_tokens(struct piece *p, struct old old[])
{
    for (size_t i = 0; i < p->n; i++) {
        struct old *o = &old[i];
        if (!old_token(p->call->arena, p->rows[i].value, &o->token))
            return fail_record(p->call, 't');
        memcpy(o->org.b, p->rows[i].key.p + 1, sizeof o->org.b);
        o->name = old_claim(p->call->arena, &o->org, &o->token, o->token.name, 'n');
        if (!o->name.p)
            return fail_memory(p->call);
    }
    return KT_OK;
}

static void
move_claim(struct piece *p, struct batch *b, const struct old *o, struct kt_str from, char kind)
{
    struct kt_arena *arena = p->call->arena;
    struct kt_str text = kind == 's' ? o->token.slug : o->token.name;
    struct kt_str id = { (const char *)o->token.id.b, sizeof o->token.id.b };
    batch_delete(b, from);
    batch_set(b, token_row_claim(arena, &o->org, &o->token.account, text, kind),
              kt_arena_str(arena, id));
}

/* A name may have become another token's. */
static int
rewrite_tokens(struct piece *p)
{
    struct kt_arena *arena = p->call->arena;
    struct old *old = kt_arena_calloc(arena, p->n, sizeof *old);
    struct kt_str keys[PIECE];
    struct store_row names[PIECE];
    int status = old ? read_tokens(p, old) : fail_memory(p->call);
    if (status != KT_OK)
        return status;
    for (size_t i = 0; i < p->n; i++)
        keys[i] = old[i].name;
    status = store_get(p->call, p->call->svc->store, keys, p->n, names);
    for (size_t i = 0; i < p->n && status == KT_OK; i++) {
        const struct old *o = &old[i];
        struct batch *b = add_batch(p, &p->rows[i]);
        if (!b)
            return fail_memory(p->call);
        batch_set(b, p->rows[i].key, token_row_encode(arena, &o->token));
        move_claim(p, b, o, old_claim(arena, &o->org, &o->token, o->token.slug, 's'), 's');
        struct kt_str id = { (const char *)o->token.id.b, sizeof o->token.id.b };
        if (names[i].value.p && kt_str_eq(names[i].value, id))
            move_claim(p, b, o, o->name, 'n');
    }
    return status;
}

/* --- digests ------------------------------------------------------------------------------ */

static int
rewrite_verdicts(struct piece *p)
{
    for (size_t i = 0; i < p->n; i++) {
        struct verdict_record v;
        if (!old_verdict(p->call->arena, p->rows[i].value, &v))
            return fail_record(p->call, 'h');
        struct batch *b = add_batch(p, &p->rows[i]);
        if (!b)
            return fail_memory(p->call);
        batch_set(b, p->rows[i].key, verdict_encode(p->call->arena, &v));
    }
    return KT_OK;
}

/* With memory of its own, which each piece gives back. */
static int
migrate(struct call *call, int (*steps)(struct call *))
{
    struct kt_arena arena;
    struct call own = *call;
    own.arena = &arena;
    kt_arena_init(&arena, ARENA_MAX);
    int status = steps(&own);
    kt_arena_done(&arena);
    return status;
}

static int
token_steps(struct call *call)
{
    int status = each_piece(call, 't', keep_old, rewrite_tokens, 't');
    return status == KT_OK ? each_piece(call, 'h', keep_old, rewrite_verdicts, 'h') : status;
}

int
migrate_tokens(struct call *call)
{
    return migrate(call, token_steps);
}

/* --- claims of format 2 ------------------------------------------------------------------- */

struct holder {
    struct token_record token;
    struct uuid org;
    struct batch *batch; /* NULL: nothing of it has to move */
};

/* What is not where it was has moved before, or belongs to another token. */
static int
move_claims_2(struct piece *p, struct holder holders[], char kind)
{
    struct kt_arena *arena = p->call->arena;
    struct kt_str from[PIECE];
    struct store_row claims[PIECE];
    for (size_t i = 0; i < p->n; i++) {
        const struct token_record *t = &holders[i].token;
        from[i] = token_row_claim_2(arena, &holders[i].org, &t->account,
                                    kind == 's' ? t->slug : t->name, kind);
        if (!from[i].p)
            return fail_memory(p->call);
    }
    int status = store_get(p->call, p->call->svc->store, from, p->n, claims);
    for (size_t i = 0; i < p->n && status == KT_OK; i++) {
        struct holder *h = &holders[i];
        const struct token_record *t = &h->token;
        struct kt_str id = { (const char *)t->id.b, sizeof t->id.b };
        struct kt_str to = token_row_claim(arena, &h->org, &t->account,
                                           kind == 's' ? t->slug : t->name, kind);
        if (!claims[i].value.p || !kt_str_eq(claims[i].value, id) || kt_str_eq(from[i], to))
            continue;
        if (!h->batch)
            h->batch = add_batch(p, &p->rows[i]);
        if (!h->batch)
            return fail_memory(p->call);
        batch_delete(h->batch, from[i]);
        batch_set(h->batch, to, kt_arena_str(arena, id));
    }
    return status;
}

static int
rewrite_claims(struct piece *p)
{
    struct kt_arena *arena = p->call->arena;
    struct holder *holders = kt_arena_calloc(arena, p->n, sizeof *holders);
    if (!holders)
        return fail_memory(p->call);
    for (size_t i = 0; i < p->n; i++) {
        const struct store_row *row = &p->rows[i];
        if (!token_decode(arena, row->key, row->value, &holders[i].token))
            return fail_record(p->call, 't');
        memcpy(holders[i].org.b, row->key.p + 1, sizeof holders[i].org.b);
    }
    int status = move_claims_2(p, holders, 's');
    return status == KT_OK ? move_claims_2(p, holders, 'n') : status;
}

static int
claim_steps(struct call *call)
{
    return each_piece(call, 't', keep_all, rewrite_claims, 'c');
}

int
migrate_claims(struct call *call)
{
    return migrate(call, claim_steps);
}
