/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/model/idmap.h"

#include <stdlib.h>
#include <string.h>

/* Open addressing, at most half full. */
struct idmap_slot {
    unsigned char id[IDMAP_ID_BYTES]; /* all zeros: free */
    int64_t value;
};

void
idmap_done(struct idmap *map)
{
    free(map->slots);
    *map = (struct idmap){ .size = 0 };
}

static const unsigned char none[IDMAP_ID_BYTES];

/* Its slot, or the one that it would get. */
static struct idmap_slot *
slot_of(const struct idmap *map, const unsigned char id[IDMAP_ID_BYTES])
{
    uint64_t at;
    memcpy(&at, id + IDMAP_ID_BYTES - sizeof at, sizeof at);
    for (at &= map->size - 1;; at = (at + 1) & (map->size - 1)) {
        struct idmap_slot *slot = &map->slots[at];
        if (memcmp(slot->id, id, IDMAP_ID_BYTES) == 0 || memcmp(slot->id, none, sizeof none) == 0)
            return slot;
    }
}

static int
grow(struct idmap *map)
{
    struct idmap old = *map;
    map->size = old.size == 0 ? 1024 : 2 * old.size;
    map->slots = calloc(map->size, sizeof *map->slots);
    if (!map->slots) {
        *map = old;
        return -1;
    }
    for (size_t i = 0; i < old.size; i++)
        if (memcmp(old.slots[i].id, none, sizeof none) != 0)
            *slot_of(map, old.slots[i].id) = old.slots[i];
    free(old.slots);
    return 0;
}

int64_t *
idmap_find(const struct idmap *map, const unsigned char id[IDMAP_ID_BYTES])
{
    if (map->size == 0)
        return NULL;
    struct idmap_slot *slot = slot_of(map, id);
    return memcmp(slot->id, none, sizeof none) == 0 ? NULL : &slot->value;
}

int64_t *
idmap_add(struct idmap *map, const unsigned char id[IDMAP_ID_BYTES], int64_t value)
{
    if (map->used * 2 >= map->size && grow(map) != 0)
        return NULL;
    struct idmap_slot *slot = slot_of(map, id);
    if (memcmp(slot->id, none, sizeof none) == 0) {
        memcpy(slot->id, id, IDMAP_ID_BYTES);
        slot->value = value;
        map->used++;
    }
    return &slot->value;
}
