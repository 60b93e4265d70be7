/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/model/load.h"

#include "client/proto/bigend.h"
#include "daemon/grow.h"
#include "daemon/model/account.h"
#include "daemon/model/digest.h"
#include "daemon/model/endings.h"
#include "daemon/model/idmap.h"
#include "daemon/model/record.h"
#include "daemon/model/token_row.h"
#include "daemon/model/verdict.h"
#include "daemon/service.h"

#include <pthread.h>
#include <stdlib.h>

enum {
    TOGETHER_IN_INDEX = 128,  /* tokens that a thread adds, or has used, in one go */
    PART_ARENA_MAX = 64 << 20 /* the largest lists of scopes that so many can have */
};

/* The row of a digest, with texts that outlive it. */
struct found {
    unsigned char digest[DIGEST_BYTES];
    struct verdict_record verdict;
};

struct use {
    unsigned char digest[INDEX_KEPT_BYTES];
    uint32_t at_s;
};

/* Tokens whose rows name a secret that was replaced. */
struct stale {
    struct stale_row {
        unsigned char digest[DIGEST_BYTES], old_digest[DIGEST_BYTES];
    } *rows;
    size_t n, room;
    struct idmap by_token;
};

/* Reading, authenticating and decoding rows is most of the work and goes on side by side; the index
 * has one writer at a time. */
struct loading {
    struct call *call;
    struct index *index;
    struct endings *endings; /* NULL: there is no journal */
    struct stale *stale;
    pthread_mutex_t *lock;   /* of the three above */
    bool shared;             /* others write the store */
    struct found *found;     /* room for TOGETHER_IN_INDEX */
    size_t nfound;
    struct use *uses;        /* the same */
    size_t nuses;
    size_t seen;             /* tokens of this part */
    uint32_t first;          /* four bytes of a digest: where the part begins */
    bool *reserved;          /* the table has its size; under the lock */
    uint32_t scopes;         /* number of the list that the token before had, and one; 0: none */
    struct dead *dead;       /* secrets that have ended, or shall */
    size_t ndead, dead_room;
};

struct dead {
    struct uuid org, account, token;
    unsigned char digest[DIGEST_BYTES];
    int64_t said; /* of it by the journal */
    bool revoked; /* so says its row */
};

static bool
add_dead(struct loading *l, const unsigned char *digest, const struct verdict_record *v,
         int64_t said)
{
    if (!grow(&l->dead, l->ndead, &l->dead_room, sizeof *l->dead))
        return false;
    struct dead *dead = &l->dead[l->ndead++];
    *dead = (struct dead){ v->org, v->account, v->token, { 0 }, said, v->revoked };
    memcpy(dead->digest, digest, sizeof dead->digest);
    return true;
}

static int
load_account(void *ctx, const struct store_row *row)
{
    struct loading *l = ctx;
    struct account_record a;
    uint32_t number;
    if (!account_decode(row->value, &a))
        return fail_record(l->call, 'a');
    if (l->endings && endings_of_account(l->endings, &a.id) > a.epoch)
        endings_note_risen(l->endings);
    const struct index_account_text text = { a.org_ext, a.slug, a.external_id, a.name };
    if (index_account_put(l->index, &a.id, &a.org, &text, a.epoch, &number) == INDEX_NO_MEMORY)
        return fail_memory(l->call);
    return KT_OK;
}

/* Tokens of an account that was deleted stay known as revoked until they are purged. */
static bool
account_number(struct index *index, const struct verdict_record *v, uint32_t *ret)
{
    static const struct index_account_text gone = { KT_LIT(""), KT_LIT(""), KT_LIT(""),
                                                    KT_LIT("") };
    if (index_account_find(index, &v->account, ret))
        return true;
    if (index_account_put(index, &v->account, &v->org, &gone, UINT32_MAX, ret) == INDEX_NO_MEMORY)
        return false;
    index_account_end(index, *ret, UINT32_MAX);
    return true;
}

static bool
is_list(const struct index_scopes *known, const struct verdict_record *v)
{
    bool same = known->list.n == v->nscopes;
    for (size_t i = 0; i < v->nscopes && same; i++)
        same = kt_str_eq(known->list.v[i], v->scopes[i]);
    return same;
}

/* Most tokens have the scopes of the one before. */
static bool
scopes_number(struct loading *l, const struct verdict_record *v, uint32_t *ret)
{
    bool known = l->scopes != 0 && is_list(index_scopes_at(l->index, l->scopes - 1), v);
    if (known)
        *ret = l->scopes - 1;
    else if (index_scopes_put(l->index, v->scopes, v->nscopes, ret) == INDEX_NO_MEMORY)
        return false;
    l->scopes = *ret + 1;
    return true;
}

static bool
add(struct loading *l, const unsigned char *digest, const struct verdict_record *v)
{
    struct index *index = l->index;
    struct index_token t = { .id = v->token,
                             .epoch = v->epoch,
                             .expires_ms = v->expires_ms,
                             .revoked = v->revoked };
    return account_number(index, v, &t.account) &&
           scopes_number(l, v, &t.scopes) &&
           index_add(index, digest, &t) != INDEX_NO_MEMORY;
}

/* What the journal and the row say of the secret's end. Under the lock. */
static bool
compare(struct loading *l, const unsigned char *digest, const struct verdict_record *v)
{
    if (v->revoked && !endings_note_digest(l->endings, digest))
        return false;
    int64_t end = v->expires_ms == 0 ? ENDINGS_NOTHING : v->expires_ms;
    int64_t said = endings_of_digest(l->endings, digest);
    if (!v->revoked && said < end)
        endings_note_risen(l->endings);
    return (!v->revoked && said == ENDINGS_NOTHING) || add_dead(l, digest, v, said);
}

/* Under the lock. */
static bool
add_found(struct loading *l, const struct found *f)
{
    uint32_t number;
    if (l->shared && !index_account_find(l->index, &f->verdict.account, &number))
        return true;
    return add(l, f->digest, &f->verdict) &&
           (!l->endings || compare(l, f->digest, &f->verdict));
}

/* Digests are as good as random and come in order: the place of one says how many there will be.
 * The table that they need in the end is made at once, instead of each size on the way to it. The
 * index makes it half as large again as it is told, so it is told less; a guess costs room or time,
 * and nothing else. Under the lock. */
static void
reserve(struct loading *l)
{
    enum { ENOUGH = 4096 };
    const uint32_t at = (uint32_t)kt_get_be(l->found[l->nfound - 1].digest, 4);
    if (*l->reserved || l->seen < ENOUGH || at <= l->first)
        return;
    *l->reserved = true;
    uint64_t all = ((uint64_t)l->seen << 32) / (at - l->first);
    if (all < INDEX_RECORDS_MAX)
        (void)index_reserve(l->index, (size_t)(all * 2 / 3));
}

/* Where one of them goes in the table is as good as anywhere: the memory for all of them is fetched
 * before the first is added, and the lock is taken once. */
static int
add_all_found(struct loading *l)
{
    bool added = true;
    l->seen += l->nfound;
    pthread_mutex_lock(l->lock);
    if (l->nfound > 0)
        reserve(l);
    for (size_t i = 0; i < l->nfound; i++)
        index_prefetch(l->index, l->found[i].digest);
    for (size_t i = 0; i < l->nfound && added; i++)
        added = add_found(l, &l->found[i]);
    pthread_mutex_unlock(l->lock);
    l->nfound = 0;
    kt_arena_reset(l->call->arena);
    return added ? KT_OK : fail_memory(l->call);
}

static bool
is_view(struct kt_str scope, struct kt_str row)
{
    uintptr_t at = (uintptr_t)scope.p, from = (uintptr_t)row.p;
    return at >= from && at < from + row.n;
}

/* Most scopes are constants, and all others views into the row. */
static bool
keep_scopes(struct kt_arena *arena, struct kt_str row, struct verdict_record *v)
{
    size_t views = 0;
    for (size_t i = 0; i < v->nscopes; i++)
        views += is_view(v->scopes[i], row);
    if (views == 0)
        return true;
    struct kt_str *own = kt_arena_calloc(arena, v->nscopes, sizeof *own);
    for (size_t i = 0; own && i < v->nscopes; i++) {
        own[i] = is_view(v->scopes[i], row) ? kt_arena_str(arena, v->scopes[i]) : v->scopes[i];
        if (!own[i].p)
            return false;
    }
    v->scopes = own;
    return own != NULL;
}

static int
load_digest(void *ctx, const struct store_row *row)
{
    struct loading *l = ctx;
    struct found *f = &l->found[l->nfound];
    if (row->key.n != 1 + DIGEST_BYTES ||
        !verdict_decode(l->call->arena, row->value, &f->verdict))
        return fail_record(l->call, 'h');
    if (!keep_scopes(l->call->arena, row->value, &f->verdict))
        return fail_memory(l->call);
    memcpy(f->digest, row->key.p + 1, DIGEST_BYTES);
    return ++l->nfound == TOGETHER_IN_INDEX ? add_all_found(l) : KT_OK;
}

/* All tokens are there by now, and each thread has those of its own part: no lock is needed. What
 * belongs to no digest says nothing. */
static int
note_all_uses(struct loading *l)
{
    for (size_t i = 0; i < l->nuses; i++)
        index_prefetch(l->index, l->uses[i].digest);
    for (size_t i = 0; i < l->nuses; i++)
        index_prefetch_record(l->index, l->uses[i].digest);
    for (size_t i = 0; i < l->nuses; i++)
        (void)index_set_used(l->index, l->uses[i].digest, l->uses[i].at_s);
    l->nuses = 0;
    return KT_OK;
}

static int
load_use(void *ctx, const struct store_row *row)
{
    struct loading *l = ctx;
    struct use *use = &l->uses[l->nuses];
    if (!token_row_read_used(row, use->digest, &use->at_s))
        return fail_record(l->call, 'u');
    return ++l->nuses == TOGETHER_IN_INDEX ? note_all_uses(l) : KT_OK;
}

/* --- tokens of secrets that have ended ------------------------------------------------------ */

enum { TOGETHER = 64 };

static bool
add_stale(struct stale *s, const struct token_record *t)
{
    if (!grow(&s->rows, s->n, &s->room, sizeof *s->rows))
        return false;
    int64_t *at = idmap_add(&s->by_token, t->id.b, (int64_t)s->n);
    if (!at || *at != (int64_t)s->n)
        return at != NULL;
    struct stale_row *row = &s->rows[s->n++];
    memcpy(row->digest, t->digest, sizeof row->digest);
    memcpy(row->old_digest, t->has_old ? t->old_digest : t->digest, sizeof row->old_digest);
    return true;
}

/* What the token's own row says. One that has the token alive was put back from an older time, and
 * would let it have a new secret. One that names a secret that was replaced may be of such a time,
 * too. */
static bool
compare_token(struct loading *l, const struct dead *dead, const struct token_record *t)
{
    bool added = true;
    bool current = memcmp(t->digest, dead->digest, DIGEST_BYTES) == 0;
    bool its = current || token_has_secret(t, dead->digest);
    if (t->revoked_ms != 0)
        return true;
    pthread_mutex_lock(l->lock);
    if (dead->said == ENDINGS_REVOKED || (dead->said == ENDINGS_TOKEN && its))
        endings_note_risen(l->endings);
    else if (dead->revoked ? its : current)
        added = add_stale(l->stale, t);
    pthread_mutex_unlock(l->lock);
    return added;
}

/* A secret that its token's row does not know is the one that came after those. Without it the row
 * was once put back with its whole store, and what was replaced since has ended again. */
static void
look_at_live(void *ctx, const struct index_record *r)
{
    struct loading *l = ctx;
    const int64_t *at = idmap_find(&l->stale->by_token, r->token.b);
    const struct stale_row *row = at ? &l->stale->rows[*at] : NULL;
    if (row && memcmp(r->digest, row->digest, sizeof r->digest) != 0 &&
        memcmp(r->digest, row->old_digest, sizeof r->digest) != 0)
        endings_note_risen(l->endings);
}

static int
look_at_dead(struct loading *l, const struct dead dead[], size_t n)
{
    struct kt_str keys[TOGETHER];
    struct store_row rows[TOGETHER];
    struct token_record t;
    kt_arena_reset(l->call->arena);
    for (size_t i = 0; i < n; i++) {
        keys[i] = token_row_key(l->call->arena, &dead[i].org, &dead[i].account, &dead[i].token);
        if (!keys[i].p)
            return fail_memory(l->call);
    }
    int status = store_get(l->call, l->call->svc->store, keys, n, rows);
    for (size_t i = 0; i < n && status == KT_OK; i++) {
        if (!rows[i].value.p)
            continue;
        if (!token_decode(l->call->arena, keys[i], rows[i].value, &t))
            return fail_record(l->call, 't');
        if (!compare_token(l, &dead[i], &t))
            return fail_memory(l->call);
    }
    return status;
}

static int
look_at_all_dead(struct loading *l)
{
    int status = KT_OK;
    for (size_t i = 0; i < l->ndead && status == KT_OK; i += TOGETHER)
        status = look_at_dead(l, l->dead + i, l->ndead - i < TOGETHER ? l->ndead - i : TOGETHER);
    free(l->dead);
    return status;
}

/* --- parts of a space --------------------------------------------------------------------- */

struct part {
    struct loading loading;
    struct call call;
    struct kt_arena arena;
    char space;           /* whose keys continue with a digest */
    unsigned first, last; /* second byte of the keys: first <= byte < last */
    pthread_t thread;
    int status;
};

static int
load_digests(struct loading *l, const struct store_range *range)
{
    struct found found[TOGETHER_IN_INDEX];
    l->found = found;
    int status = store_scan(l->call, l->call->svc->store, range, load_digest, l);
    if (status == KT_OK)
        status = add_all_found(l);
    int looked = look_at_all_dead(l);
    return status == KT_OK ? looked : status;
}

static int
load_uses(struct loading *l, const struct store_range *range)
{
    struct use uses[TOGETHER_IN_INDEX];
    l->uses = uses;
    int status = store_scan(l->call, l->call->svc->store, range, load_use, l);
    return status == KT_OK ? note_all_uses(l) : status;
}

static void *
load_part(void *arg)
{
    struct part *p = arg;
    const char from[2] = { p->space, (char)p->first }, to[2] = { p->space, (char)p->last };
    const char end = (char)(p->space + 1);
    /* The ends are those of the space itself. */
    const struct store_range range = { { from, p->first == 0 ? 1 : 2 },
                                       p->last == 256 ? (struct kt_str){ &end, 1 }
                                                      : (struct kt_str){ to, 2 },
                                       false, 0 };
    p->status = (p->space == 'h' ? load_digests : load_uses)(&p->loading, &range);
    return NULL;
}

static void
begin_part(struct part *p, const struct loading *l, char space, size_t i, size_t n)
{
    *p = (struct part){ .loading = *l, .call = *l->call, .space = space };
    kt_arena_init(&p->arena, PART_ARENA_MAX);
    p->call.arena = &p->arena;
    p->loading.call = &p->call;
    p->first = (unsigned)(i * 256 / n);
    p->last = (unsigned)((i + 1) * 256 / n);
    p->loading.first = (uint32_t)p->first << 24;
}

/* A thread that cannot be had is done without: its part is loaded here. */
static int
load_space(const struct loading *l, char space, size_t n)
{
    struct part parts[LOAD_THREADS_MAX];
    bool own[LOAD_THREADS_MAX] = { false };
    int status = KT_OK;
    for (size_t i = 0; i < n; i++) {
        begin_part(&parts[i], l, space, i, n);
        own[i] = i + 1 < n && pthread_create(&parts[i].thread, NULL, load_part, &parts[i]) == 0;
        if (!own[i])
            load_part(&parts[i]);
    }
    for (size_t i = 0; i < n; i++) {
        if (own[i])
            pthread_join(parts[i].thread, NULL);
        if (parts[i].status != KT_OK)
            status = parts[i].status;
        kt_arena_done(&parts[i].arena);
    }
    return status;
}

int
load_index(struct call *call, struct index *index, struct endings *endings, size_t threads)
{
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    struct stale stale = { .n = 0 };
    bool reserved = false;
    struct loading l = { .call = call, .index = index, .endings = endings, .lock = &lock,
                         .stale = &stale, .reserved = &reserved,
                         .shared = store_has_outsiders(call->svc->store) };
    const struct store_range accounts = { KT_LIT("a"), KT_LIT("b"), false, 0 };
    int status = store_scan(call, call->svc->store, &accounts, load_account, &l);
    if (status != KT_OK)
        return status;
    const size_t n = threads < LOAD_THREADS_MAX ? threads : LOAD_THREADS_MAX;
    status = load_space(&l, 'h', n);
    if (status == KT_OK && stale.n != 0)
        index_each_live(index, call->now_ms, look_at_live, &l);
    free(stale.rows);
    idmap_done(&stale.by_token);
    return status == KT_OK ? load_space(&l, 'u', n) : status;
}
