/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "plugins/storage-postgres/pg.h"

#include <stdlib.h>
#include <string.h>

/* FNV-1a, then mixed, since keys often differ in their last bytes only. Part of the format: daemons
 * of different builds must agree. */
uint64_t
pg_hash(struct kaiten_bytes bytes)
{
    const unsigned char *p = bytes.p;
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < bytes.n; i++)
        h = (h ^ p[i]) * UINT64_C(0x100000001b3);
    h ^= h >> 32;
    h *= UINT64_C(0x9e3779b97f4a7c15);
    return h ^ h >> 29;
}

int
pg_compare(struct kaiten_bytes a, struct kaiten_bytes b)
{
    size_t least = a.n < b.n ? a.n : b.n;
    int order = least ? memcmp(a.p, b.p, least) : 0;
    return order ? order : (a.n > b.n) - (a.n < b.n);
}

/* --- chains --------------------------------------------------------------------------------- */

/* Keys by their hash alone: two that share one are only written one after the other for nothing. */
struct written {
    uint64_t hash;
    unsigned batch; /* one that writes it; UINT32_MAX: the place is free */
};

struct table {
    struct written *places;
    size_t mask;
};

static struct written *
table_find(const struct table *t, uint64_t hash)
{
    size_t i = hash & t->mask;
    while (t->places[i].batch != UINT32_MAX && t->places[i].hash != hash)
        i = (i + 1) & t->mask;
    return &t->places[i];
}

static bool
table_init(struct table *t, const struct kaiten_batch *batches, size_t n)
{
    size_t keys = 0, room = 16;
    for (size_t i = 0; i < n; i++)
        keys += batches[i].nwrites;
    while (room < keys * 2)
        room *= 2;
    t->places = malloc(room * sizeof *t->places);
    t->mask = room - 1;
    for (size_t i = 0; t->places && i < room; i++)
        t->places[i].batch = UINT32_MAX;
    return t->places != NULL;
}

/* The first batch of a chain stands for it. */
static unsigned
chain_of(unsigned chains[], unsigned i)
{
    while (chains[i] != i)
        i = chains[i] = chains[chains[i]];
    return i;
}

static void
chain_join(unsigned chains[], unsigned a, unsigned b)
{
    a = chain_of(chains, a);
    b = chain_of(chains, b);
    if (a < b)
        chains[b] = a;
    else
        chains[a] = b;
}

bool
pg_plan(const struct kaiten_batch *batches, size_t n, unsigned chains[])
{
    struct table t;
    for (unsigned i = 0; i < n; i++)
        chains[i] = i;
    if (n == 1)
        return true;
    if (!table_init(&t, batches, n))
        return false;
    for (unsigned i = 0; i < n; i++)
        for (size_t k = 0; k < batches[i].nwrites; k++) {
            uint64_t hash = pg_hash(batches[i].writes[k].key);
            struct written *w = table_find(&t, hash);
            if (w->batch == UINT32_MAX)
                *w = (struct written){ hash, i };
            else
                chain_join(chains, w->batch, i);
        }
    for (unsigned i = 0; i < n; i++)
        for (size_t k = 0; k < batches[i].nconds; k++) {
            struct written *w = table_find(&t, pg_hash(batches[i].conds[k].key));
            if (w->batch != UINT32_MAX)
                chain_join(chains, w->batch, i);
        }
    for (unsigned i = 0; i < n; i++)
        chains[i] = chain_of(chains, i);
    free(t.places);
    return true;
}

/* --- batches as parameters ------------------------------------------------------------------ */

enum {
    CONDS_MAX = PG_TOGETHER_MAX * KAITEN_BATCH_CONDS_MAX,
    WRITES_MAX = PG_TOGETHER_MAX * KAITEN_BATCH_WRITES_MAX
};

struct numbered {
    const struct kaiten_cond *cond;
    int32_t number;
    bool alone; /* the row is written, too */
};

/* What one statement does, in the order that locks are taken in. Each key is written once: several
 * batches share none that one of them writes. */
struct ordered {
    struct numbered conds[CONDS_MAX];
    const struct kaiten_write *sets[WRITES_MAX];
    const struct kaiten_write *deletes[WRITES_MAX];
    size_t nconds, nsets, ndeletes;
};

struct lock {
    int64_t number;
    bool alone;
};

static int
cond_compare(const void *a, const void *b)
{
    const struct numbered *x = a, *y = b;
    int order = pg_compare(x->cond->key, y->cond->key);
    return order ? order : x->number - y->number;
}

static int
write_compare(const void *a, const void *b)
{
    const struct kaiten_write *const *x = a, *const *y = b;
    return pg_compare((*x)->key, (*y)->key);
}

static int
lock_compare(const void *a, const void *b)
{
    const struct lock *x = a, *y = b;
    return (x->number > y->number) - (x->number < y->number);
}

/* The last write of a key is what remains of several. */
static bool
is_overtaken(const struct kaiten_batch *batch, size_t write)
{
    for (size_t i = write + 1; i < batch->nwrites; i++)
        if (pg_compare(batch->writes[i].key, batch->writes[write].key) == 0)
            return true;
    return false;
}

static bool
is_written(const struct kaiten_batch *batch, struct kaiten_bytes key)
{
    for (size_t i = 0; i < batch->nwrites; i++)
        if (pg_compare(batch->writes[i].key, key) == 0)
            return true;
    return false;
}

static void
add_batch(struct ordered *o, const struct kaiten_batch *batch, size_t place)
{
    for (size_t i = 0; i < batch->nconds; i++)
        o->conds[o->nconds++] =
            (struct numbered){ &batch->conds[i], (int32_t)(place * KAITEN_BATCH_CONDS_MAX + i),
                               is_written(batch, batch->conds[i].key) };
    for (size_t i = 0; i < batch->nwrites; i++) {
        const struct kaiten_write *w = &batch->writes[i];
        if (is_overtaken(batch, i))
            continue;
        if (w->type == KAITEN_SET)
            o->sets[o->nsets++] = w;
        else
            o->deletes[o->ndeletes++] = w;
    }
}

static bool
is_same_cond(const struct numbered *a, const struct numbered *b)
{
    return a->cond->type == b->cond->type && a->alone == b->alone &&
           (a->cond->type != KAITEN_AT || a->cond->revision == b->cond->revision) &&
           pg_compare(a->cond->key, b->cond->key) == 0;
}

/* What many ask of one row, the account that they mint for, is asked once: of the same conditions
 * the least number is left, which is the one that is told when they fail. */
static void
ask_once(struct ordered *o)
{
    size_t kept = 0;
    for (size_t i = 0; i < o->nconds; i++)
        if (kept == 0 || !is_same_cond(&o->conds[kept - 1], &o->conds[i]))
            o->conds[kept++] = o->conds[i];
    o->nconds = kept;
}

static void
order(struct ordered *o, const struct kaiten_batch *const batches[], size_t n)
{
    o->nconds = o->nsets = o->ndeletes = 0;
    for (size_t i = 0; i < n; i++)
        add_batch(o, batches[i], i);
    qsort(o->conds, o->nconds, sizeof *o->conds, cond_compare);
    qsort(o->sets, o->nsets, sizeof *o->sets, write_compare);
    qsort(o->deletes, o->ndeletes, sizeof *o->deletes, write_compare);
    ask_once(o);
}

/* A queue for each row that has to stay as it is: in order, each number once, alone if any key of
 * it is written. */
static void
put_locks(struct pg_params *p, const struct ordered *o)
{
    struct lock locks[CONDS_MAX];
    size_t n = 0, last = 0;
    for (size_t i = 0; i < o->nconds; i++)
        if (o->conds[i].cond->type != KAITEN_ABSENT)
            locks[n++] = (struct lock){ (int64_t)pg_hash(o->conds[i].cond->key),
                                        o->conds[i].alone };
    qsort(locks, n, sizeof *locks, lock_compare);
    for (size_t i = 1; i < n; i++) {
        if (locks[i].number == locks[last].number)
            locks[last].alone |= locks[i].alone;
        else
            locks[++last] = locks[i];
    }
    n = n > 0 ? last + 1 : 0;
    pg_put_int8_array(p, n);
    for (size_t i = 0; i < n; i++)
        pg_add_int8(p, locks[i].number);
    pg_put_bool_array(p, n);
    for (size_t i = 0; i < n; i++)
        pg_add_bool(p, locks[i].alone);
}

/* -2: absent, -1: present, else the revision; 0 for one that no row can have. */
static int64_t
wanted(const struct kaiten_cond *cond)
{
    if (cond->type == KAITEN_ABSENT)
        return -2;
    if (cond->type == KAITEN_PRESENT)
        return -1;
    return cond->revision <= INT64_MAX ? (int64_t)cond->revision : 0;
}

static void
put_conds(struct pg_params *p, const struct ordered *o)
{
    pg_put_bytes_array(p, o->nconds);
    for (size_t i = 0; i < o->nconds; i++)
        pg_add_bytes(p, o->conds[i].cond->key);
    pg_put_int8_array(p, o->nconds);
    for (size_t i = 0; i < o->nconds; i++)
        pg_add_int8(p, wanted(o->conds[i].cond));
    pg_put_int4_array(p, o->nconds);
    for (size_t i = 0; i < o->nconds; i++)
        pg_add_int4(p, o->conds[i].number);
    pg_put_bool_array(p, o->nconds);
    for (size_t i = 0; i < o->nconds; i++)
        pg_add_bool(p, o->conds[i].alone);
}

/* Keys that are set and that must be new. */
static void
put_fresh(struct pg_params *p, const struct ordered *o)
{
    const struct kaiten_bytes *fresh[CONDS_MAX];
    size_t n = 0;
    for (size_t i = 0; i < o->nconds; i++)
        if (o->conds[i].cond->type == KAITEN_ABSENT)
            fresh[n++] = &o->conds[i].cond->key;
    pg_put_bytes_array(p, n);
    for (size_t i = 0; i < n; i++)
        pg_add_bytes(p, *fresh[i]);
}

void
pg_put_batches(struct pg_params *p, const struct kaiten_batch *const batches[], size_t n,
               const unsigned char id[16])
{
    struct ordered o;
    order(&o, batches, n);
    pg_put_uuid(p, id);
    put_locks(p, &o);
    put_conds(p, &o);
    put_fresh(p, &o);
    pg_put_bytes_array(p, o.nsets);
    for (size_t i = 0; i < o.nsets; i++)
        pg_add_bytes(p, o.sets[i]->key);
    pg_put_bytes_array(p, o.nsets);
    for (size_t i = 0; i < o.nsets; i++)
        pg_add_bytes(p, o.sets[i]->value);
    pg_put_bytes_array(p, o.ndeletes);
    for (size_t i = 0; i < o.ndeletes; i++)
        pg_add_bytes(p, o.deletes[i]->key);
    pg_put_bool(p, batches[0]->flags & KAITEN_BATCH_URGENT);
}

size_t
pg_batch_bytes(const struct kaiten_batch *batch)
{
    size_t n = 0;
    for (size_t i = 0; i < batch->nconds; i++)
        n += batch->conds[i].key.n;
    for (size_t i = 0; i < batch->nwrites; i++)
        n += batch->writes[i].key.n + batch->writes[i].value.n;
    return n;
}
