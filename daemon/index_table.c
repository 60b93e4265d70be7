/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The hash table and the room for records: how both grow. */
#include "config.h"

#include "daemon/index_private.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
    BITS_MAX = 28,
    CACHE_LINE = 64,
    HUGE_PAGE = 2 << 20
};

_Static_assert(sizeof(struct index_record) == CACHE_LINE, "a record is one cache line");
_Static_assert((UINT64_C(1) << BITS_MAX) * LOAD_PERCENT / 100 >= INDEX_RECORDS_MAX,
               "the largest table takes all records");

/* For free(3); n is a multiple of the cache line. C11 (7.22.3.1) wants one of the alignment; the
 * rest is never touched. */
static void *
aligned(size_t n, bool huge)
{
    const size_t alignment = huge ? HUGE_PAGE : CACHE_LINE;
    void *p = aligned_alloc(alignment, (n + alignment - 1) / alignment * alignment);
    if (p != NULL && huge)
        (void)madvise(p, n, MADV_HUGEPAGE);
    return p;
}

size_t
index_table_bytes(uint32_t bits)
{
    size_t n = sizeof(struct index_table) + (sizeof(uint32_t) << bits);
    return (n + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
}

struct index_table *
index_table_new(uint32_t bits)
{
    size_t n = index_table_bytes(bits);
    struct index_table *t = aligned(n, n > HUGE_PAGE);
    if (t == NULL)
        return NULL;
    memset(t, 0, n);
    t->bits = bits;
    return t;
}

void
index_table_place(struct index_table *t, const unsigned char *digest, uint32_t number,
                  memory_order order)
{
    uint64_t hash = hash_of(digest);
    uint32_t at = (uint32_t)hash & mask_of(t);
    while (atomic_load_explicit(&t->slots[at], memory_order_relaxed) != 0)
        at = next_slot(t, at);
    atomic_store_explicit(&t->slots[at], tag_of(t, hash) | (number + 1), order);
}

static size_t
capacity(uint32_t bits)
{
    return ((size_t)1 << bits) * LOAD_PERCENT / 100;
}

/* Whether a table of this size takes so many records, and numbers so high. */
static bool
is_enough(uint32_t bits, size_t records, size_t top)
{
    return records <= capacity(bits) && top + 2 < (size_t)1 << bits;
}

/* Another table without tombstones, with room for n more records. */
static enum index_status
table_replace(struct index *index, size_t n, size_t top)
{
    struct index_table *old = table_of(index);
    size_t records = counted(&index->nrecords) + n;
    uint32_t bits = BITS_MIN;
    /* Half as much again: the next replacement is then as far away as this one was costly. */
    while (bits < BITS_MAX && !is_enough(bits, records + records / 2, top))
        bits++;
    struct index_table *fresh = is_enough(bits, records, top) ? index_table_new(bits) : NULL;
    if (fresh == NULL)
        return INDEX_NO_MEMORY;
    for (uint32_t i = 0; i < index->next_record; i++) {
        const struct index_record *r = record_at(index, i);
        if (atomic_load_explicit(&r->state, memory_order_relaxed) != REMOVED)
            index_table_place(fresh, r->digest, i, memory_order_relaxed);
    }
    index->taken = counted(&index->nrecords);
    atomic_store_explicit(&index->table, fresh, memory_order_release);
    atomic_store_explicit(&index->slots, (size_t)1 << bits, memory_order_relaxed);
    count(&index->bytes, index_table_bytes(bits));
    uncount(&index->bytes, index_table_bytes(old->bits));
    count(&index->growths, 1);
    index_give_up(index, old);
    return INDEX_OK;
}

static enum index_status
chunks_until(struct index *index, size_t top)
{
    for (size_t i = 0; i * RECORD_CHUNK < top; i++) {
        if (index->records[i] != NULL)
            continue;
        size_t n = RECORD_CHUNK * sizeof(struct index_record);
        /* A small installation does not pay for whole huge pages. */
        index->records[i] = aligned(n, i > 0);
        if (index->records[i] == NULL)
            return INDEX_NO_MEMORY;
        count(&index->bytes, n);
    }
    return INDEX_OK;
}

enum index_status
index_reserve(struct index *index, size_t n)
{
    size_t fresh = n > index->unused.n ? n - index->unused.n : 0;
    if (fresh > INDEX_RECORDS_MAX - index->next_record)
        return INDEX_NO_MEMORY;
    size_t top = index->next_record + fresh;
    if (chunks_until(index, top) != INDEX_OK)
        return INDEX_NO_MEMORY;
    if (is_enough(table_of(index)->bits, index->taken + n, top))
        return INDEX_OK;
    return table_replace(index, n, top);
}
