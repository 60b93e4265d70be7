/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/index.h"

#include <assert.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
    RECORD_CHUNK = 1 << 16,
    RECORD_CHUNKS = INDEX_RECORDS_MAX / RECORD_CHUNK,
    ACCOUNT_CHUNK = 1 << 12,
    ACCOUNT_CHUNKS = INDEX_ACCOUNTS_MAX / ACCOUNT_CHUNK,
    SCOPES_CHUNK = 1 << 10,
    SCOPES_CHUNKS = INDEX_SCOPE_LISTS_MAX / SCOPES_CHUNK,
    BITS_MIN = 10, /* 2 to this many slots at first */
    BITS_MAX = 28,
    LOAD_PERCENT = 60,
    CACHE_LINE = 64,
    HUGE_PAGE = 2 << 20,
    TOUCH_SECONDS = 60
};

_Static_assert(sizeof(struct index_record) == CACHE_LINE, "a record is one cache line");
_Static_assert((UINT64_C(1) << BITS_MAX) * LOAD_PERCENT / 100 >= INDEX_RECORDS_MAX,
               "the largest table takes all records");

enum state { LIVE = 0, REVOKED = 1, REMOVED = 2 };

/* A slot is 0 (free), or has a record's number plus one in its lower bits and the upper bits of the
 * digest above them: nearly every slot of another digest is told apart without touching its record.
 * All ones below and zeros above is a tombstone. */
struct table {
    uint32_t bits;
    _Atomic uint32_t slots[];
};

/* Numbers of records in a vector that grows. */
struct numbers {
    uint32_t *v;
    size_t n, room;
};

/* Writer's map from contents to a number; 0 is free, else the number plus one. */
struct map {
    uint32_t *slots;
    size_t size, n;
};

struct index {
    _Atomic(struct table *) table;
    struct index_record *records[RECORD_CHUNKS];
    struct index_account *accounts[ACCOUNT_CHUNKS];
    const struct index_scopes **scopes[SCOPES_CHUNKS];

    /* All below is the writer's, except that anybody may read the statistics. */
    void (*retire)(void *ctx, void *memory);
    void *ctx;
    size_t taken; /* slots that are not free: records and tombstones */
    uint32_t next_record;
    uint32_t round; /* of index_sweep_begin() */
    struct numbers unused, young, old; /* records: usable; removed since, and before */
    struct map account_map, scopes_map;
    unsigned char map_key[crypto_shorthash_KEYBYTES];
    atomic_size_t nrecords, naccounts, nscopes, slots, bytes, growths;
};

static void
count(atomic_size_t *counter, size_t n)
{
    atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static void
uncount(atomic_size_t *counter, size_t n)
{
    atomic_fetch_sub_explicit(counter, n, memory_order_relaxed);
}

static size_t
counted(const atomic_size_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

/* For free(3); n is a multiple of the cache line. */
static void *
aligned(size_t n, bool huge)
{
    void *p = aligned_alloc(huge ? HUGE_PAGE : CACHE_LINE, n);
    if (p != NULL && huge)
        (void)madvise(p, n, MADV_HUGEPAGE);
    return p;
}

static void
give_up(struct index *index, void *memory)
{
    if (index->retire != NULL)
        index->retire(index->ctx, memory);
    else
        free(memory);
}

static struct index_record *
record_at(const struct index *index, uint32_t number)
{
    return &index->records[number / RECORD_CHUNK][number % RECORD_CHUNK];
}

static struct index_account *
account_at(const struct index *index, uint32_t number)
{
    return &index->accounts[number / ACCOUNT_CHUNK][number % ACCOUNT_CHUNK];
}

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

/* The hash table. A digest is keyed, so its bytes are as good as random to everybody outside. */

static uint64_t
hash_of(const unsigned char *digest)
{
    uint64_t h;
    memcpy(&h, digest, sizeof(h));
    return h;
}

static uint32_t
mask_of(const struct table *t)
{
    return (UINT32_C(1) << t->bits) - 1;
}

static uint32_t
tag_of(const struct table *t, uint64_t hash)
{
    return (uint32_t)(hash >> 32) & ~mask_of(t);
}

static uint32_t
next_slot(const struct table *t, uint32_t at)
{
    return (at + 1) & mask_of(t);
}

static bool
is_tombstone(const struct table *t, uint32_t slot)
{
    return (slot & mask_of(t)) == mask_of(t);
}

static bool
same_digest(const struct index_record *r, const unsigned char *digest)
{
    uint64_t a[2], b[2];
    memcpy(a, r->digest, sizeof(a));
    memcpy(b, digest, sizeof(b));
    return ((a[0] ^ b[0]) | (a[1] ^ b[1])) == 0;
}

/* The record of a digest, or NULL; ret_slot (may be NULL) is where it was found. */
static struct index_record *
find(const struct index *index, const struct table *t, const unsigned char *digest,
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

/* A free slot for a digest that is not in the table; tombstones stay. */
static void
place(struct table *t, const unsigned char *digest, uint32_t number, memory_order order)
{
    uint64_t hash = hash_of(digest);
    uint32_t at = (uint32_t)hash & mask_of(t);
    while (atomic_load_explicit(&t->slots[at], memory_order_relaxed) != 0)
        at = next_slot(t, at);
    atomic_store_explicit(&t->slots[at], tag_of(t, hash) | (number + 1), order);
}

static size_t
table_bytes(uint32_t bits)
{
    size_t n = sizeof(struct table) + (sizeof(uint32_t) << bits);
    return (n + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
}

static struct table *
table_new(uint32_t bits)
{
    size_t n = table_bytes(bits);
    struct table *t = aligned(n, n > HUGE_PAGE);
    if (t == NULL)
        return NULL;
    memset(t, 0, n);
    t->bits = bits;
    return t;
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

static struct table *
table_of(const struct index *index)
{
    return atomic_load_explicit(&index->table, memory_order_relaxed);
}

/* Another table without tombstones, with room for n more records. */
static enum index_status
table_replace(struct index *index, size_t n, size_t top)
{
    struct table *old = table_of(index);
    size_t records = counted(&index->nrecords) + n;
    uint32_t bits = BITS_MIN;
    /* Half as much again: the next replacement is then as far away as this one was costly. */
    while (bits < BITS_MAX && !is_enough(bits, records + records / 2, top))
        bits++;
    struct table *fresh = is_enough(bits, records, top) ? table_new(bits) : NULL;
    if (fresh == NULL)
        return INDEX_NO_MEMORY;
    for (uint32_t i = 0; i < index->next_record; i++) {
        const struct index_record *r = record_at(index, i);
        if (atomic_load_explicit(&r->state, memory_order_relaxed) != REMOVED)
            place(fresh, r->digest, i, memory_order_relaxed);
    }
    index->taken = counted(&index->nrecords);
    atomic_store_explicit(&index->table, fresh, memory_order_release);
    atomic_store_explicit(&index->slots, (size_t)1 << bits, memory_order_relaxed);
    count(&index->bytes, table_bytes(bits));
    uncount(&index->bytes, table_bytes(old->bits));
    count(&index->growths, 1);
    give_up(index, old);
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

/* False: no memory; the number is never used again then, which costs its record. */
static bool
numbers_add(struct numbers *list, uint32_t number)
{
    if (list->n == list->room) {
        size_t room = list->room == 0 ? 64 : 2 * list->room;
        uint32_t *v = reallocarray(list->v, room, sizeof(*v));
        if (v == NULL)
            return false;
        list->v = v;
        list->room = room;
    }
    list->v[list->n++] = number;
    return true;
}

void
index_quiesced(struct index *index)
{
    for (size_t i = 0; i < index->old.n; i++)
        (void)numbers_add(&index->unused, index->old.v[i]);
    struct numbers empty = index->old;
    empty.n = 0;
    index->old = index->young;
    index->young = empty;
}

enum index_status
index_add(struct index *index, const unsigned char digest[INDEX_DIGEST_BYTES],
          const struct index_token *token)
{
    assert(token->account < counted(&index->naccounts));
    assert(token->scopes < counted(&index->nscopes));
    if (find(index, table_of(index), digest, NULL) != NULL)
        return INDEX_PRESENT;
    if (index_reserve(index, 1) != INDEX_OK)
        return INDEX_NO_MEMORY;
    uint32_t number = index->unused.n > 0 ? index->unused.v[--index->unused.n]
                                          : index->next_record++;
    struct index_record *r = record_at(index, number);
    memcpy(r->digest, digest, INDEX_KEPT_BYTES);
    r->token = token->id;
    r->account = token->account;
    r->scopes = token->scopes;
    r->epoch = token->epoch;
    r->round = index->round;
    atomic_store_explicit(&r->expires_ms, token->expires_ms, memory_order_relaxed);
    atomic_store_explicit(&r->last_used, token->last_used, memory_order_relaxed);
    atomic_store_explicit(&r->state, token->revoked ? REVOKED : LIVE, memory_order_relaxed);

    place(table_of(index), digest, number, memory_order_release);
    index->taken++;
    count(&index->nrecords, 1);
    return INDEX_OK;
}

static bool
is_earlier(int64_t a, int64_t b)
{
    return a != 0 && (b == 0 || a < b);
}

enum index_status
index_merge(struct index *index, const unsigned char digest[INDEX_DIGEST_BYTES],
            const struct index_token *token, enum index_news *ret_news, int64_t *ret_until_ms)
{
    struct index_record *r = find(index, table_of(index), digest, NULL);
    *ret_news = INDEX_NEWS_NONE;
    *ret_until_ms = 0;
    if (r == NULL) {
        enum index_status added = index_add(index, digest, token);
        if (added == INDEX_OK && token->revoked)
            *ret_news = INDEX_NEWS_REVOKED;
        return added;
    }
    r->round = index->round;
    *ret_until_ms = atomic_load_explicit(&r->expires_ms, memory_order_relaxed);
    bool known = atomic_load_explicit(&r->state, memory_order_relaxed) != LIVE;
    if (token->revoked && !known) {
        atomic_store_explicit(&r->state, REVOKED, memory_order_release);
        *ret_news = INDEX_NEWS_REVOKED;
    } else if (!known && is_earlier(token->expires_ms, *ret_until_ms)) {
        atomic_store_explicit(&r->expires_ms, token->expires_ms, memory_order_release);
        *ret_news = INDEX_NEWS_EARLIER;
    }
    return INDEX_PRESENT;
}

enum index_status
index_revoke(struct index *index, const unsigned char digest[INDEX_DIGEST_BYTES])
{
    struct index_record *r = find(index, table_of(index), digest, NULL);
    if (r == NULL)
        return INDEX_ABSENT;
    atomic_store_explicit(&r->state, REVOKED, memory_order_release);
    return INDEX_OK;
}

enum index_status
index_set_expiry(struct index *index, const unsigned char digest[INDEX_DIGEST_BYTES],
                 int64_t expires_ms)
{
    struct index_record *r = find(index, table_of(index), digest, NULL);
    if (r == NULL)
        return INDEX_ABSENT;
    atomic_store_explicit(&r->expires_ms, expires_ms, memory_order_release);
    return INDEX_OK;
}

enum index_status
index_set_used(struct index *index, const unsigned char digest[INDEX_KEPT_BYTES],
               uint32_t last_used)
{
    struct index_record *r = find(index, table_of(index), digest, NULL);
    if (r == NULL)
        return INDEX_ABSENT;
    if (atomic_load_explicit(&r->last_used, memory_order_relaxed) < last_used)
        atomic_store_explicit(&r->last_used, last_used, memory_order_relaxed);
    return INDEX_OK;
}

static enum index_status
take_out(struct index *index, const unsigned char *digest)
{
    struct table *t = table_of(index);
    uint32_t at, mask = mask_of(t);
    struct index_record *r = find(index, t, digest, &at);
    if (r == NULL)
        return INDEX_ABSENT;
    uint32_t number = (atomic_load_explicit(&t->slots[at], memory_order_relaxed) & mask) - 1;
    atomic_store_explicit(&r->state, REMOVED, memory_order_release);
    atomic_store_explicit(&t->slots[at], mask, memory_order_release);
    uncount(&index->nrecords, 1);
    (void)numbers_add(&index->young, number);
    return INDEX_OK;
}

enum index_status
index_remove(struct index *index, const unsigned char digest[INDEX_DIGEST_BYTES])
{
    return take_out(index, digest);
}

void
index_sweep_begin(struct index *index)
{
    index->round++;
}

static void
sweep_accounts(struct index *index)
{
    for (uint32_t i = 0; i < counted(&index->naccounts); i++)
        if (account_at(index, i)->round != index->round)
            index_account_end(index, i, UINT32_MAX);
}

size_t
index_sweep(struct index *index)
{
    size_t gone = 0;
    for (uint32_t i = 0; i < index->next_record; i++) {
        const struct index_record *r = record_at(index, i);
        if (r->round == index->round ||
            atomic_load_explicit(&r->state, memory_order_relaxed) == REMOVED)
            continue;
        (void)take_out(index, r->digest);
        gone++;
    }
    sweep_accounts(index);
    return gone;
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

enum index_verdict
index_find(const struct index *index, const unsigned char digest[INDEX_DIGEST_BYTES],
           int64_t now_ms, struct index_hit *ret)
{
    const struct table *t = atomic_load_explicit(&index->table, memory_order_acquire);
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
index_prefetch(const struct index *index, const unsigned char digest[INDEX_DIGEST_BYTES])
{
    const struct table *t = atomic_load_explicit(&index->table, memory_order_acquire);
    __builtin_prefetch((const void *)&t->slots[(uint32_t)hash_of(digest) & mask_of(t)]);
}

void
index_prefetch_record(const struct index *index, const unsigned char digest[INDEX_DIGEST_BYTES])
{
    const struct table *t = atomic_load_explicit(&index->table, memory_order_acquire);
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
index_last_used(const struct index *index, const unsigned char digest[INDEX_DIGEST_BYTES])
{
    const struct table *t = atomic_load_explicit(&index->table, memory_order_acquire);
    const struct index_record *r = find(index, t, digest, NULL);
    return r == NULL ? 0 : atomic_load_explicit(&r->last_used, memory_order_relaxed);
}

/* The writer's maps. Their keys come from outside, hence the keyed hash. */

static uint64_t
map_hash(const struct index *index, const void *p, size_t n)
{
    uint64_t h;
    crypto_shorthash((unsigned char *)&h, p, n, index->map_key);
    return h;
}

static void
map_place(struct map *m, uint64_t hash, uint32_t number)
{
    size_t at = hash & (m->size - 1);
    while (m->slots[at] != 0)
        at = (at + 1) & (m->size - 1);
    m->slots[at] = number + 1;
}

/* Room for one more. hash gives the hash of what a number stands for. */
static bool
map_reserve(struct index *index, struct map *m,
            uint64_t (*hash)(const struct index *, uint32_t number))
{
    if (m->n < m->size * LOAD_PERCENT / 100)
        return true;
    struct map fresh = { NULL, m->size == 0 ? 64 : 2 * m->size, m->n };
    fresh.slots = calloc(fresh.size, sizeof(*fresh.slots));
    if (fresh.slots == NULL)
        return false;
    for (uint32_t i = 0; i < m->n; i++)
        map_place(&fresh, hash(index, i), i);
    count(&index->bytes, (fresh.size - m->size) * sizeof(*fresh.slots));
    free(m->slots);
    *m = fresh;
    return true;
}

/* Makes sure that chunk i of a directory is there. */
static bool
have_chunk(struct index *index, void *directory, size_t i, size_t chunk_bytes)
{
    void *chunk;
    char *place = (char *)directory + i * sizeof(chunk);
    memcpy(&chunk, place, sizeof(chunk));
    if (chunk != NULL)
        return true;
    chunk = calloc(1, chunk_bytes);
    if (chunk == NULL)
        return false;
    memcpy(place, &chunk, sizeof(chunk));
    count(&index->bytes, chunk_bytes);
    return true;
}

static uint64_t
account_hash(const struct index *index, uint32_t number)
{
    return map_hash(index, account_at(index, number)->id.b, sizeof(struct uuid));
}

bool
index_account_find(const struct index *index, const struct uuid *id, uint32_t *ret)
{
    const struct map *m = &index->account_map;
    if (m->size == 0)
        return false;
    for (size_t at = map_hash(index, id->b, sizeof(id->b)) & (m->size - 1); m->slots[at] != 0;
         at = (at + 1) & (m->size - 1)) {
        if (uuid_compare(&account_at(index, m->slots[at] - 1)->id, id) == 0) {
            *ret = m->slots[at] - 1;
            return true;
        }
    }
    return false;
}

static struct kt_str
copy_text(char **to, struct kt_str s)
{
    struct kt_str copy = { *to, s.n };
    if (s.p == NULL)
        return s;
    memcpy(*to, s.p, s.n);
    (*to)[s.n] = '\0';
    *to += s.n + 1;
    return copy;
}

/* One block of memory, for free(3). */
static struct index_account_text *
text_new(const struct index_account_text *from, size_t *ret_bytes)
{
    const size_t lengths[] = { from->org_ext.n, from->slug.n, from->ext_id.n, from->name.n };
    size_t n = sizeof(*from);
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        if (lengths[i] > INDEX_TEXT_MAX)
            return NULL;
        n += lengths[i] + 1;
    }
    struct index_account_text *text = n > INDEX_TEXT_MAX ? NULL : malloc(n);
    if (text == NULL)
        return NULL;
    char *p = (char *)(text + 1);
    text->org_ext = copy_text(&p, from->org_ext);
    text->slug = copy_text(&p, from->slug);
    text->ext_id = copy_text(&p, from->ext_id);
    text->name = copy_text(&p, from->name);
    *ret_bytes = n;
    return text;
}

static size_t
text_bytes(const struct index_account_text *text)
{
    return sizeof(*text) + text->org_ext.n + text->slug.n + text->ext_id.n + text->name.n + 4;
}

enum index_status
index_account_put(struct index *index, const struct uuid *id, const struct uuid *org,
                  const struct index_account_text *from, uint32_t epoch, uint32_t *ret)
{
    size_t n = counted(&index->naccounts), bytes;
    if (index_account_find(index, id, ret)) {
        account_at(index, *ret)->round = index->round;
        return INDEX_PRESENT;
    }
    if (n >= INDEX_ACCOUNTS_MAX ||
        !have_chunk(index, index->accounts, n / ACCOUNT_CHUNK,
                    ACCOUNT_CHUNK * sizeof(struct index_account)) ||
        !map_reserve(index, &index->account_map, account_hash))
        return INDEX_NO_MEMORY;
    struct index_account_text *text = text_new(from, &bytes);
    if (text == NULL)
        return INDEX_NO_MEMORY;
    struct index_account *account = account_at(index, (uint32_t)n);
    account->id = *id;
    account->org = *org;
    account->round = index->round;
    atomic_store_explicit(&account->epoch, epoch, memory_order_relaxed);
    atomic_store_explicit(&account->flags, 0, memory_order_relaxed);
    atomic_store_explicit(&account->text, text, memory_order_release);
    map_place(&index->account_map, account_hash(index, (uint32_t)n), (uint32_t)n);
    index->account_map.n++;
    count(&index->naccounts, 1);
    count(&index->bytes, bytes);
    *ret = (uint32_t)n;
    return INDEX_OK;
}

enum index_status
index_account_rename(struct index *index, uint32_t number, const struct index_account_text *from)
{
    size_t bytes;
    struct index_account_text *text = text_new(from, &bytes);
    if (text == NULL)
        return INDEX_NO_MEMORY;
    struct index_account *account = account_at(index, number);
    const struct index_account_text *old =
        atomic_exchange_explicit(&account->text, text, memory_order_acq_rel);
    count(&index->bytes, bytes);
    uncount(&index->bytes, text_bytes(old));
    give_up(index, (void *)(uintptr_t)old);
    return INDEX_OK;
}

void
index_account_set_epoch(struct index *index, uint32_t number, uint32_t epoch)
{
    struct index_account *account = account_at(index, number);
    if (epoch > atomic_load_explicit(&account->epoch, memory_order_relaxed))
        atomic_store_explicit(&account->epoch, epoch, memory_order_release);
}

void
index_account_end(struct index *index, uint32_t number, uint32_t epoch)
{
    index_account_set_epoch(index, number, epoch);
    atomic_fetch_or_explicit(&account_at(index, number)->flags, INDEX_ACCOUNT_ENDED,
                             memory_order_release);
}

/* Lists of scopes. Their forms for the wires are made once, when a list is first seen. */

static size_t
put_msgpack(const struct kt_str v[], size_t n, char *out)
{
    size_t at = 0;
    if (n < 16) {
        out[at++] = (char)(0x90 | n);
    } else {
        out[at++] = (char)0xdc;
        out[at++] = (char)(n >> 8);
        out[at++] = (char)n;
    }
    for (size_t i = 0; i < n; i++) {
        if (v[i].n < 32) {
            out[at++] = (char)(0xa0 | v[i].n);
        } else if (v[i].n < 256) {
            out[at++] = (char)0xd9;
            out[at++] = (char)v[i].n;
        } else {
            out[at++] = (char)0xda;
            out[at++] = (char)(v[i].n >> 8);
            out[at++] = (char)v[i].n;
        }
        memcpy(out + at, v[i].p, v[i].n);
        at += v[i].n;
    }
    return at;
}

static size_t
put_json_string(struct kt_str s, char *out)
{
    static const char hex[] = "0123456789abcdef";
    size_t at = 0;
    out[at++] = '"';
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c >= ' ' && c != '"' && c != '\\') {
            out[at++] = (char)c;
            continue;
        }
        memcpy(out + at, "\\u00", 4);
        out[at + 4] = hex[c >> 4];
        out[at + 5] = hex[c & 15];
        at += 6;
    }
    out[at++] = '"';
    return at;
}

static size_t
put_json(const struct kt_str v[], size_t n, char *out)
{
    size_t at = 0;
    out[at++] = '[';
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            out[at++] = ',';
        at += put_json_string(v[i], out + at);
    }
    out[at++] = ']';
    return at;
}

static struct index_scopes *
scopes_new(const struct kt_str v[], size_t n, size_t *ret_bytes)
{
    size_t text = 0;
    for (size_t i = 0; i < n; i++) {
        if (v[i].n > INDEX_TEXT_MAX || (text += v[i].n) > INDEX_TEXT_MAX)
            return NULL;
    }
    if (n > INDEX_TEXT_MAX / 4)
        return NULL;
    /* At the worst JSON has 6 bytes for one and 3 around it, MessagePack 3 in front. */
    size_t bytes = sizeof(struct index_scopes) + n * sizeof(struct kt_str) + (text + n) +
                   (6 * text + 3 * n + 2) + (text + 3 * n + 3);
    struct index_scopes *s = malloc(bytes);
    if (s == NULL)
        return NULL;
    struct kt_str *list = (struct kt_str *)(s + 1);
    char *p = (char *)(list + n);
    for (size_t i = 0; i < n; i++)
        list[i] = copy_text(&p, v[i]);
    s->list = (struct kt_strlist){ list, n, KT_SET };
    s->json = (struct kt_str){ p, put_json(v, n, p) };
    p += s->json.n;
    s->msgpack = (struct kt_str){ p, put_msgpack(v, n, p) };
    *ret_bytes = bytes;
    return s;
}

/* The MessagePack form says everything that a list says, and nothing twice. */
static uint64_t
scopes_hash(const struct index *index, uint32_t number)
{
    const struct index_scopes *s = index_scopes_at(index, number);
    return map_hash(index, s->msgpack.p, s->msgpack.n);
}

static bool
scopes_find(const struct index *index, struct kt_str msgpack, uint32_t *ret)
{
    const struct map *m = &index->scopes_map;
    if (m->size == 0)
        return false;
    for (size_t at = map_hash(index, msgpack.p, msgpack.n) & (m->size - 1); m->slots[at] != 0;
         at = (at + 1) & (m->size - 1)) {
        if (kt_str_eq(index_scopes_at(index, m->slots[at] - 1)->msgpack, msgpack)) {
            *ret = m->slots[at] - 1;
            return true;
        }
    }
    return false;
}

enum index_status
index_scopes_put(struct index *index, const struct kt_str scopes[], size_t n, uint32_t *ret)
{
    size_t number = counted(&index->nscopes), bytes;
    struct index_scopes *s = scopes_new(scopes, n, &bytes);
    if (s == NULL)
        return INDEX_NO_MEMORY;
    if (scopes_find(index, s->msgpack, ret)) {
        free(s);
        return INDEX_OK;
    }
    if (number >= INDEX_SCOPE_LISTS_MAX ||
        !have_chunk(index, index->scopes, number / SCOPES_CHUNK, SCOPES_CHUNK * sizeof(s)) ||
        !map_reserve(index, &index->scopes_map, scopes_hash)) {
        free(s);
        return INDEX_NO_MEMORY;
    }
    index->scopes[number / SCOPES_CHUNK][number % SCOPES_CHUNK] = s;
    map_place(&index->scopes_map, scopes_hash(index, (uint32_t)number), (uint32_t)number);
    index->scopes_map.n++;
    count(&index->nscopes, 1);
    count(&index->bytes, bytes);
    *ret = (uint32_t)number;
    return INDEX_OK;
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
    struct table *t = table_new(BITS_MIN);
    if (t == NULL) {
        free(index);
        return NULL;
    }
    atomic_init(&index->table, t);
    atomic_init(&index->slots, (size_t)1 << BITS_MIN);
    atomic_init(&index->bytes, sizeof(*index) + table_bytes(BITS_MIN));
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
