/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Which tokens were used lately: noted by whoever accepts one, at most once a minute for each (see
 * index_touch), and written down in batches by the keeper. Several lists, so that event loops do
 * not wait for one another. */
#ifndef USED_H
#define USED_H

#include "daemon/index.h"

enum {
    USED_LISTS = 16,
    USED_LIST_MAX = 1 << 16 /* notes of a list; what comes beyond is not written down this time */
};

struct used;

struct used_note {
    unsigned char digest[INDEX_KEPT_BYTES];
    uint32_t at_s; /* seconds since 1970 */
};

struct used *used_new(void); /* NULL: no memory */
void used_free(struct used *);

/* Any thread. */
void used_add(struct used *, const unsigned char digest[INDEX_KEPT_BYTES], uint32_t at_s);

/* Takes the notes of a list, oldest first; the caller frees them. NULL: there are none. */
struct used_note *used_take(struct used *, size_t list, size_t *ret_n);

/* Notes that found no room since the last call. */
size_t used_lost(struct used *);

#endif
