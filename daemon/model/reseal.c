/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/model/reseal.h"

#include "daemon/index.h"
#include "daemon/model/account.h"
#include "daemon/model/digest.h"
#include "daemon/model/verdict.h"
#include "daemon/service.h"
#include "daemon/timeguard.h"

#include <pthread.h>

enum { ROWS = RESEAL_BATCHES_MAX * BATCH_CONDS_MAX };

/* Not the kept answers, which are sealed once more inside with a key of the same time. */
static const char spaces[] = "acehmrstux";

/* --- a pass ------------------------------------------------------------------------------- */

void
reseal_begin(struct reseal *r)
{
    *r = (struct reseal){ .space = spaces };
    store_walk_begin(&r->walk, *r->space);
}

struct piece {
    struct call *call;
    struct reseal *reseal;
    struct batch **batches;
    size_t n;
};

static int
copy_row(struct piece *piece, const struct store_row *row)
{
    struct batch *b = piece->n == 0 ? NULL : piece->batches[piece->n - 1];
    if (!b || b->nconds == BATCH_CONDS_MAX)
        b = piece->batches[piece->n++] = batch_new(piece->call->arena);
    struct store_row copy = { .key = kt_arena_str(piece->call->arena, row->key),
                              .value = kt_arena_str(piece->call->arena, row->value),
                              .revision = row->revision };
    if (!b || !copy.key.p || !copy.value.p)
        return fail_memory(piece->call);
    batch_if_at(b, &copy);
    batch_set(b, copy.key, copy.value);
    return KT_OK;
}

static int
look_at(void *ctx, const struct store_row *row)
{
    struct piece *piece = ctx;
    struct reseal *r = piece->reseal;
    if (row->sealed_by == 0)
        return KT_OK;
    r->found++;
    return copy_row(piece, row);
}

int
reseal_step(struct call *call, struct reseal *r, struct batch *ret_batches[RESEAL_BATCHES_MAX],
            size_t *ret_n, bool *ret_done)
{
    struct piece piece = { .call = call, .reseal = r, .batches = ret_batches };
    bool last;
    int status = store_walk_piece(call, &r->walk, ROWS, look_at, &piece, &last);
    *ret_n = piece.n;
    if (status == KT_OK && last)
        store_walk_begin(&r->walk, *++r->space);
    *ret_done = *r->space == '\0';
    return status;
}

/* --- counting ----------------------------------------------------------------------------- */

struct counting {
    struct call *call;
    const struct digest_keys *keys;
    struct reseal_needs *needs;
    size_t n;
};

/* What an ended token was told apart by is of no use to anybody; but a key that is taken out does
 * not come back with the right time. */
static int
count_token(struct counting *c, const struct store_row *row)
{
    struct index_hit hit;
    struct verdict_record v;
    kt_arena_reset(c->call->arena);
    if (row->key.n != 1 + DIGEST_BYTES || !verdict_decode(c->call->arena, row->value, &v))
        return fail_record(c->call, 'h');
    const unsigned char *digest = (const unsigned char *)row->key.p + 1;
    pthread_rwlock_rdlock(c->call->svc->index_guard);
    bool live = index_find(c->call->svc->index, digest, clock_sure_ms(), &hit) == INDEX_LIVE;
    pthread_rwlock_unlock(c->call->svc->index_guard);
    for (size_t i = 0; live && i < c->n; i++)
        if (v.key == 0 || v.key == digest_keys_tag(c->keys, i))
            c->needs[i].tokens++;
    return KT_OK;
}

static int
count_row(void *ctx, const struct store_row *row)
{
    struct counting *c = ctx;
    if (row->sealed_by < c->n)
        c->needs[row->sealed_by].records++;
    return row->key.p[0] == 'h' ? count_token(c, row) : KT_OK;
}

int
reseal_count(struct call *call, struct reseal_needs ret[], size_t n)
{
    struct kt_arena arena;
    struct call own = *call;
    struct counting c = { &own, call->svc->keys, ret, n };
    memset(ret, 0, n * sizeof *ret);
    if (c.n > digest_keys_count(c.keys))
        c.n = digest_keys_count(c.keys);
    kt_arena_init(&arena, call->arena->cap);
    own.arena = &arena;
    own.deadline_ms = INT64_MAX;
    int status = KT_OK;
    for (const char *space = STORE_SPACES; *space && status == KT_OK; space++) {
        const char end = (char)(*space + 1);
        const struct store_range range = { { space, 1 }, { &end, 1 }, false, 0 };
        status = store_scan(&own, call->svc->store, &range, count_row, &c);
    }
    kt_arena_done(&arena);
    if (status != KT_OK) /* the log has the cause */
        return fail_cause(call, KT_UNAVAILABLE, NULL, "what depends on the keys cannot be counted");
    return KT_OK;
}
