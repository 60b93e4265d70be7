/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* What accounts and lists of scopes have in common: from what is known to its number, and the
 * memory of both. */
#include "config.h"

#include "daemon/index_private.h"

#include <stdlib.h>
#include <string.h>

uint64_t
index_map_hash(const struct index *index, const void *p, size_t n)
{
    uint64_t h;
    crypto_shorthash((unsigned char *)&h, p, n, index->map_key);
    return h;
}

static size_t
next_of(const struct index_map *m, size_t at)
{
    return (at + 1) & (m->size - 1);
}

static void
place(struct index_map *m, uint64_t hash, uint32_t number)
{
    size_t at = hash & (m->size - 1);
    while (m->slots[at] != 0)
        at = next_of(m, at);
    m->slots[at] = number + 1;
}

bool
index_map_find(const struct index *index, const struct index_map *m, uint64_t hash,
               bool (*same)(const struct index *, uint32_t number, const void *key),
               const void *key, uint32_t *ret)
{
    if (m->size == 0)
        return false;
    for (size_t at = hash & (m->size - 1); m->slots[at] != 0; at = next_of(m, at)) {
        if (same(index, m->slots[at] - 1, key)) {
            *ret = m->slots[at] - 1;
            return true;
        }
    }
    return false;
}

bool
index_map_reserve(struct index *index, struct index_map *m,
                  uint64_t (*hash)(const struct index *, uint32_t number))
{
    if (m->n < m->size * LOAD_PERCENT / 100)
        return true;
    struct index_map fresh = { NULL, m->size == 0 ? 64 : 2 * m->size, m->n };
    fresh.slots = calloc(fresh.size, sizeof(*fresh.slots));
    if (fresh.slots == NULL)
        return false;
    for (uint32_t i = 0; i < m->n; i++)
        place(&fresh, hash(index, i), i);
    count(&index->bytes, (fresh.size - m->size) * sizeof(*fresh.slots));
    free(m->slots);
    *m = fresh;
    return true;
}

void
index_map_add(struct index_map *m, uint64_t hash)
{
    place(m, hash, (uint32_t)m->n);
    m->n++;
}

bool
index_have_chunk(struct index *index, void *directory, size_t i, size_t chunk_bytes)
{
    void *chunk;
    char *where = (char *)directory + i * sizeof(chunk);
    memcpy(&chunk, where, sizeof(chunk));
    if (chunk != NULL)
        return true;
    chunk = calloc(1, chunk_bytes);
    if (chunk == NULL)
        return false;
    memcpy(where, &chunk, sizeof(chunk));
    count(&index->bytes, chunk_bytes);
    return true;
}

struct kt_str
index_copy_text(char **to, struct kt_str s)
{
    struct kt_str copy = { *to, s.n };
    if (s.p == NULL)
        return s;
    memcpy(*to, s.p, s.n);
    (*to)[s.n] = '\0';
    *to += s.n + 1;
    return copy;
}
