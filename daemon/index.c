/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* What readers pass through, and the life of the index. */
#include "config.h"

#include "daemon/index_private.h"

#include <stdlib.h>
#include <string.h>

enum { TOUCH_SECONDS = 60 };

const struct index_account *
index_account_at(const struct index *index, uint32_t account)
{
    return account_at(index, account);
}

const struct index_scopes *
index_scopes_at(const struct index *index, uint32_t scopes)
{
    return index->scopes[scopes / SCOPES_CHUNK][scopes % SCOPES_CHUNK];
}

static bool
same_digest(const struct index_record *r, const unsigned char *digest)
{
    uint64_t a[2], b[2];
    memcpy(a, r->digest, sizeof(a));
    memcpy(b, digest, sizeof(b));
    return ((a[0] ^ b[0]) | (a[1] ^ b[1])) == 0;
}

/* Inline: this is most of what a reader does, and it is shorter without a slot to report. */
static inline struct index_record *
find(const struct index *index, const struct index_table *t, const unsigned char *digest,
     uint32_t *ret_slot)
{
    uint64_t hash = hash_of(digest);
    uint32_t mask = mask_of(t), tag = tag_of(t, hash);
    for (uint32_t at = (uint32_t)hash & mask;; at = next_slot(t, at)) {
        uint32_t slot = atomic_load_explicit(&t->slots[at], memory_order_acquire);
        if (slot == 0)
            return NULL;
        if ((slot & ~mask) != tag || is_tombstone(t, slot))
            continue;
        struct index_record *r = record_at(index, (slot & mask) - 1);
        if (!same_digest(r, digest))
            continue;
        if (ret_slot != NULL)
            *ret_slot = at;
        return r;
    }
}

struct index_record *
index_lookup(const struct index *index, const struct index_table *t, const unsigned char *digest,
             uint32_t *ret_slot)
{
    return find(index, t, digest, ret_slot);
}

static enum index_verdict
verdict(const struct index_record *r, const struct index_account *account, int64_t now_ms)
{
    if (atomic_load_explicit(&r->state, memory_order_acquire) != LIVE)
        return INDEX_REVOKED;
    if (atomic_load_explicit(&account->epoch, memory_order_acquire) > r->epoch)
        return INDEX_REVOKED;
    if ((atomic_load_explicit(&account->flags, memory_order_acquire) & INDEX_ACCOUNT_ENDED) != 0)
        return INDEX_REVOKED;
    int64_t expires = atomic_load_explicit(&r->expires_ms, memory_order_acquire);
    return expires != 0 && expires <= now_ms ? INDEX_EXPIRED : INDEX_LIVE;
}

void
index_each_live(const struct index *index, int64_t now_ms,
                void (*each)(void *, const struct index_record *), void *ctx)
{
    for (uint32_t i = 0; i < index->next_record; i++) {
        const struct index_record *r = record_at(index, i);
        if (verdict(r, account_at(index, r->account), now_ms) == INDEX_LIVE)
            each(ctx, r);
    }
}

enum index_verdict
index_find(const struct index *index, const unsigned char digest[INDEX_DIGEST_BYTES],
           int64_t now_ms, struct index_hit *ret)
{
    const struct index_table *t = atomic_load_explicit(&index->table, memory_order_acquire);
    const struct index_record *r = find(index, t, digest, NULL);
    if (r == NULL)
        return INDEX_UNKNOWN;
    const struct index_account *account = account_at(index, r->account);
    if (ret != NULL) {
        ret->record = r;
        ret->account = account;
        ret->text = atomic_load_explicit(&account->text, memory_order_acquire);
        ret->scopes = index_scopes_at(index, r->scopes);
    }
    return verdict(r, account, now_ms);
}

void
index_prefetch(const struct index *index, const unsigned char digest[INDEX_KEPT_BYTES])
{
    const struct index_table *t = atomic_load_explicit(&index->table, memory_order_acquire);
    __builtin_prefetch((const void *)&t->slots[(uint32_t)hash_of(digest) & mask_of(t)]);
}

void
index_prefetch_record(const struct index *index, const unsigned char digest[INDEX_KEPT_BYTES])
{
    const struct index_table *t = atomic_load_explicit(&index->table, memory_order_acquire);
    uint64_t hash = hash_of(digest);
    uint32_t mask = mask_of(t), tag = tag_of(t, hash);
    for (uint32_t at = (uint32_t)hash & mask;; at = next_slot(t, at)) {
        uint32_t slot = atomic_load_explicit(&t->slots[at], memory_order_acquire);
        if (slot == 0)
            return;
        if ((slot & ~mask) == tag && !is_tombstone(t, slot)) {
            __builtin_prefetch(record_at(index, (slot & mask) - 1));
            return;
        }
    }
}

bool
index_touch(const struct index_hit *hit, uint32_t now_s)
{
    /* The member is atomic; only the way to it is const. */
    struct index_record *r = (struct index_record *)(uintptr_t)hit->record;
    uint32_t before = atomic_load_explicit(&r->last_used, memory_order_relaxed);
    if (now_s < before || now_s - before < TOUCH_SECONDS)
        return false;
    return atomic_compare_exchange_strong_explicit(&r->last_used, &before, now_s,
                                                   memory_order_relaxed, memory_order_relaxed);
}

uint32_t
index_last_used(const struct index *index, const unsigned char digest[INDEX_KEPT_BYTES])
{
    const struct index_table *t = atomic_load_explicit(&index->table, memory_order_acquire);
    const struct index_record *r = find(index, t, digest, NULL);
    return r == NULL ? 0 : atomic_load_explicit(&r->last_used, memory_order_relaxed);
}

void
index_give_up(struct index *index, void *memory)
{
    if (index->retire != NULL)
        index->retire(index->ctx, memory);
    else
        free(memory);
}

struct index *
index_new(void (*retire)(void *ctx, void *memory), void *ctx)
{
    if (sodium_init() < 0)
        return NULL;
    struct index *index = calloc(1, sizeof(*index));
    if (index == NULL)
        return NULL;
    index->retire = retire;
    index->ctx = ctx;
    crypto_shorthash_keygen(index->map_key);
    struct index_table *t = index_table_new(BITS_MIN);
    if (t == NULL) {
        free(index);
        return NULL;
    }
    atomic_init(&index->table, t);
    atomic_init(&index->slots, (size_t)1 << BITS_MIN);
    atomic_init(&index->bytes, sizeof(*index) + index_table_bytes(BITS_MIN));
    return index;
}

void
index_free(struct index *index)
{
    if (index == NULL)
        return;
    for (size_t i = 0; i < counted(&index->naccounts); i++)
        free((void *)(uintptr_t)atomic_load(&account_at(index, (uint32_t)i)->text));
    for (size_t i = 0; i < counted(&index->nscopes); i++)
        free((void *)(uintptr_t)index_scopes_at(index, (uint32_t)i));
    for (size_t i = 0; i < RECORD_CHUNKS; i++)
        free(index->records[i]);
    for (size_t i = 0; i < ACCOUNT_CHUNKS; i++)
        free(index->accounts[i]);
    for (size_t i = 0; i < SCOPES_CHUNKS; i++)
        free(index->scopes[i]);
    free(index->unused.v);
    free(index->young.v);
    free(index->old.v);
    free(index->account_map.slots);
    free(index->scopes_map.slots);
    free(table_of(index));
    free(index);
}

void
index_stats(const struct index *index, struct index_stats *ret)
{
    ret->records = counted(&index->nrecords);
    ret->slots = counted(&index->slots);
    ret->accounts = counted(&index->naccounts);
    ret->scope_lists = counted(&index->nscopes);
    ret->bytes = counted(&index->bytes);
    ret->growths = counted(&index->growths);
}
