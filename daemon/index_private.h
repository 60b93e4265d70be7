/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The inside of the index, for its own files. index.c is what readers pass through, and stays one
 * file so that the compiler sees all of that path; the others are the writer's alone. */
#ifndef INDEX_PRIVATE_H
#define INDEX_PRIVATE_H

#include "daemon/index.h"

#include <sodium.h>
#include <string.h>

enum {
    RECORD_CHUNK = 1 << 16,
    RECORD_CHUNKS = INDEX_RECORDS_MAX / RECORD_CHUNK,
    ACCOUNT_CHUNK = 1 << 12,
    ACCOUNT_CHUNKS = INDEX_ACCOUNTS_MAX / ACCOUNT_CHUNK,
    SCOPES_CHUNK = 1 << 10,
    SCOPES_CHUNKS = INDEX_SCOPE_LISTS_MAX / SCOPES_CHUNK,
    BITS_MIN = 10, /* 2 to this many slots at first */
    LOAD_PERCENT = 60
};

enum state { LIVE = 0, REVOKED = 1, REMOVED = 2 };

/* A slot is 0 (free), or has a record's number plus one in its lower bits and the upper bits of the
 * digest above them: nearly every slot of another digest is told apart without touching its record.
 * All ones below and zeros above is a tombstone. */
struct index_table {
    uint32_t bits;
    _Atomic uint32_t slots[];
};

/* Numbers of records in a vector that grows. */
struct index_numbers {
    uint32_t *v;
    size_t n, room;
};

/* Writer's map from contents to a number; 0 is free, else the number plus one. */
struct index_map {
    uint32_t *slots;
    size_t size, n;
};

struct index {
    _Atomic(struct index_table *) table;
    struct index_record *records[RECORD_CHUNKS];
    struct index_account *accounts[ACCOUNT_CHUNKS];
    const struct index_scopes **scopes[SCOPES_CHUNKS];

    /* All below is the writer's, except that anybody may read the statistics. */
    void (*retire)(void *ctx, void *memory);
    void *ctx;
    size_t taken; /* slots that are not free: records and tombstones */
    uint32_t next_record;
    uint32_t round; /* of index_sweep_begin() */
    struct index_numbers unused, young, old; /* records: usable; removed since, and before */
    struct index_map account_map, scopes_map;
    unsigned char map_key[crypto_shorthash_KEYBYTES];
    atomic_size_t nrecords, naccounts, nscopes, slots, bytes, growths;
};

/* Statistics. */

static inline void
count(atomic_size_t *counter, size_t n)
{
    atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static inline void
uncount(atomic_size_t *counter, size_t n)
{
    atomic_fetch_sub_explicit(counter, n, memory_order_relaxed);
}

static inline size_t
counted(const atomic_size_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

/* Numbers to what they stand for. */

static inline struct index_record *
record_at(const struct index *index, uint32_t number)
{
    return &index->records[number / RECORD_CHUNK][number % RECORD_CHUNK];
}

static inline struct index_account *
account_at(const struct index *index, uint32_t number)
{
    return &index->accounts[number / ACCOUNT_CHUNK][number % ACCOUNT_CHUNK];
}

/* The hash table. A digest is keyed, so its bytes are as good as random to everybody outside. */

static inline uint64_t
hash_of(const unsigned char *digest)
{
    uint64_t h;
    memcpy(&h, digest, sizeof(h));
    return h;
}

static inline uint32_t
mask_of(const struct index_table *t)
{
    return (UINT32_C(1) << t->bits) - 1;
}

static inline uint32_t
tag_of(const struct index_table *t, uint64_t hash)
{
    return (uint32_t)(hash >> 32) & ~mask_of(t);
}

static inline uint32_t
next_slot(const struct index_table *t, uint32_t at)
{
    return (at + 1) & mask_of(t);
}

static inline bool
is_tombstone(const struct index_table *t, uint32_t slot)
{
    return (slot & mask_of(t)) == mask_of(t);
}

static inline struct index_table *
table_of(const struct index *index)
{
    return atomic_load_explicit(&index->table, memory_order_relaxed);
}

/* index.c: the record of a digest, or NULL; ret_slot (may be NULL) is where it was found. */
struct index_record *index_lookup(const struct index *, const struct index_table *,
                                  const unsigned char *digest, uint32_t *ret_slot);

/* Frees memory that readers may still be looking at, once none of them can. */
void index_give_up(struct index *, void *memory);

/* index_table.c: for free(3); NULL: no memory. */
struct index_table *index_table_new(uint32_t bits);
size_t index_table_bytes(uint32_t bits);

/* A free slot for a digest that is not in the table; tombstones stay. There is room. */
void index_table_place(struct index_table *, const unsigned char *digest, uint32_t number,
                       memory_order);

/* index_map.c: its keys come from outside, hence the keyed hash. */
uint64_t index_map_hash(const struct index *, const void *, size_t n);

/* The number of what same() says is key, among those of this hash. */
bool index_map_find(const struct index *, const struct index_map *, uint64_t hash,
                    bool (*same)(const struct index *, uint32_t number, const void *key),
                    const void *key, uint32_t *ret);

/* Room for one more. hash gives the hash of what a number stands for. False: no memory. */
bool index_map_reserve(struct index *, struct index_map *,
                       uint64_t (*hash)(const struct index *, uint32_t number));

/* Numbers are given one after another. */
void index_map_add(struct index_map *, uint64_t hash);

/* Makes sure that chunk i of a directory of chunks is there. False: no memory. */
bool index_have_chunk(struct index *, void *directory, size_t i, size_t chunk_bytes);

/* Copies s and a NUL to *to, which moves on; NULL stays NULL. */
struct kt_str index_copy_text(char **to, struct kt_str);

#endif
