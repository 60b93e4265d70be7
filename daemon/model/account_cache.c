/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/model/account_cache.h"

#include <pthread.h>
#include <stdlib.h>

enum { WAYS = 4, SETS = ACCOUNT_CACHE_MAX / WAYS };

/* Behind it stand slug, key and value. */
struct entry {
    struct uuid org;
    uint64_t revision;
    size_t nslug, nkey, nvalue;
    char bytes[];
};

/* A set of a set-associative cache: the accounts whose names have the same hash. The lock guards
 * the rest and is held while one row is copied. */
struct set {
    pthread_mutex_t lock;
    unsigned next; /* the next to be written over */
    struct entry *ways[WAYS];
};

struct account_cache {
    struct set sets[SETS];
};

struct account_cache *
account_cache_new(void)
{
    struct account_cache *cache = calloc(1, sizeof *cache);
    for (size_t i = 0; cache && i < SETS; i++)
        pthread_mutex_init(&cache->sets[i].lock, NULL);
    return cache;
}

void
account_cache_free(struct account_cache *cache)
{
    if (!cache)
        return;
    for (size_t i = 0; i < SETS; i++) {
        pthread_mutex_destroy(&cache->sets[i].lock);
        for (size_t way = 0; way < WAYS; way++)
            free(cache->sets[i].ways[way]);
    }
    free(cache);
}

/* FNV-1a, not keyed: accounts whose names are made to collide only have to be looked up in the
 * store again, and share at most one set with those of others. */
static struct set *
set_of(struct account_cache *cache, const struct uuid *org, struct kt_str slug)
{
    uint64_t h = 0xcbf29ce484222325;
    for (size_t i = 0; i < sizeof org->b; i++)
        h = (h ^ org->b[i]) * 0x100000001b3;
    for (size_t i = 0; i < slug.n; i++)
        h = (h ^ (unsigned char)slug.p[i]) * 0x100000001b3;
    return &cache->sets[(h ^ h >> 32) % SETS];
}

static struct entry **
find(struct set *set, const struct uuid *org, struct kt_str slug)
{
    for (size_t way = 0; way < WAYS; way++) {
        const struct entry *e = set->ways[way];
        if (e && e->nslug == slug.n && memcmp(e->bytes, slug.p, slug.n) == 0 &&
            uuid_compare(&e->org, org) == 0)
            return &set->ways[way];
    }
    return NULL;
}

bool
account_cache_get(struct account_cache *cache, struct kt_arena *arena, const struct uuid *org,
                  struct kt_str slug, struct store_row *ret)
{
    struct set *set = set_of(cache, org, slug);
    struct store_row row = { .revision = 0 };
    pthread_mutex_lock(&set->lock);
    struct entry **at = find(set, org, slug);
    if (at) {
        const struct entry *e = *at;
        const char *key = e->bytes + e->nslug;
        row.key = kt_arena_str(arena, (struct kt_str){ key, e->nkey });
        row.value = kt_arena_str(arena, (struct kt_str){ key + e->nkey, e->nvalue });
        row.revision = e->revision;
    }
    pthread_mutex_unlock(&set->lock);
    if (!row.key.p || !row.value.p)
        return false;
    *ret = row;
    return true;
}

static struct entry *
entry_new(const struct uuid *org, struct kt_str slug, const struct store_row *row)
{
    size_t n = slug.n + row->key.n + row->value.n;
    struct entry *e = n <= ACCOUNT_CACHE_ROW_MAX ? malloc(sizeof *e + n) : NULL;
    if (!e)
        return NULL;
    *e = (struct entry){ *org, row->revision, slug.n, row->key.n, row->value.n };
    memcpy(e->bytes, slug.p, slug.n);
    memcpy(e->bytes + slug.n, row->key.p, row->key.n);
    memcpy(e->bytes + slug.n + row->key.n, row->value.p, row->value.n);
    return e;
}

static void
replace(struct account_cache *cache, const struct uuid *org, struct kt_str slug,
        struct entry *take_entry)
{
    struct set *set = set_of(cache, org, slug);
    pthread_mutex_lock(&set->lock);
    struct entry **at = find(set, org, slug), *old = NULL;
    if (!at && take_entry)
        at = &set->ways[set->next++ % WAYS];
    if (at) {
        old = *at;
        *at = take_entry;
    }
    pthread_mutex_unlock(&set->lock);
    free(old);
}

void
account_cache_put(struct account_cache *cache, const struct uuid *org, struct kt_str slug,
                  const struct store_row *row)
{
    replace(cache, org, slug, entry_new(org, slug, row));
}

void
account_cache_drop(struct account_cache *cache, const struct uuid *org, struct kt_str slug)
{
    replace(cache, org, slug, NULL);
}
