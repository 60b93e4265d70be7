/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "plugins/storage-bdb/bdb.h"

#include <string.h>

/* Each mint asks for the revision of its account, which hardly ever changes: a look into the tree
 * and a lock on its page each time. Nobody but apply() writes, so what it has read stays true until
 * it writes the row or takes back what it wrote. */

static struct bdb_known *
place_of(struct bdb *bdb, struct kaiten_bytes key)
{
    uint32_t hash = bdb_sum(key.p, key.n) * UINT32_C(0x9e3779b1);
    return &bdb->known[hash >> 16 & (BDB_KNOWN - 1)];
}

static bool
is_of(const struct bdb_known *known, struct kaiten_bytes key)
{
    return known->n == key.n && memcmp(known->key, key.p, key.n) == 0;
}

bool
bdb_known_get(struct bdb *bdb, struct kaiten_bytes key, uint64_t *ret_revision)
{
    const struct bdb_known *known = place_of(bdb, key);
    *ret_revision = known->revision;
    return is_of(known, key);
}

void
bdb_known_put(struct bdb *bdb, struct kaiten_bytes key, uint64_t revision)
{
    struct bdb_known *known = place_of(bdb, key);
    if (key.n > sizeof known->key)
        return;
    known->n = key.n;
    memcpy(known->key, key.p, key.n);
    known->revision = revision;
}

void
bdb_known_forget(struct bdb *bdb, struct kaiten_bytes key)
{
    struct bdb_known *known = place_of(bdb, key);
    if (is_of(known, key))
        known->n = 0;
}

void
bdb_known_forget_all(struct bdb *bdb)
{
    for (size_t i = 0; i < BDB_KNOWN; i++)
        bdb->known[i].n = 0;
}
