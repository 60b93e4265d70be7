/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Numbers by id: of 16 bytes that nobody can aim, like the beginning of a keyed digest. */
#ifndef IDMAP_H
#define IDMAP_H

#include <stddef.h>
#include <stdint.h>

enum { IDMAP_ID_BYTES = 16 };

/* All zeros: an empty one. The id of zeros cannot be kept. */
struct idmap {
    struct idmap_slot *slots;
    size_t size, used;
};

/* Frees what is in it. */
void idmap_done(struct idmap *);

/* Good until the next idmap_add(). NULL: it is not there. */
int64_t *idmap_find(const struct idmap *, const unsigned char id[IDMAP_ID_BYTES]);

/* The same, but adds an id that is not there, with this value. NULL: no memory. */
int64_t *idmap_add(struct idmap *, const unsigned char id[IDMAP_ID_BYTES], int64_t value);

#endif
