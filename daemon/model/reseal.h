/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Records that a retired key has sealed are sealed anew with the current one, in a pass over the
 * store that goes in steps; and what still depends on a retired key is counted. */
#ifndef RESEAL_H
#define RESEAL_H

#include "daemon/call.h"
#include "daemon/store_walk.h"

enum { RESEAL_BATCHES_MAX = 64 };

struct reseal {
    const char *space; /* the one that is being looked at */
    struct store_walk walk;
    size_t found;      /* rows of this pass that a retired key had sealed */
};

/* Begins a pass. */
void reseal_begin(struct reseal *);

/* The next step: *ret_n batches in the call's arena; each is conditional on what it seals anew.
 * *ret_done: the pass is over after these; when it has found nothing there is nothing left, but for
 * kept answers, which are not sealed anew: the purge removes them minutes later. 0 or a kind.
 * Keeper. */
int reseal_step(struct call *, struct reseal *, struct batch *ret_batches[RESEAL_BATCHES_MAX],
                size_t *ret_n, bool *ret_done);

/* What depends on key i of those in force. */
struct reseal_needs {
    size_t records; /* sealed with it */
    size_t tokens;  /* not surely ended, and their digest was made with it, or may have been */
};

/* Goes through the whole store. 0 or a kind. Worker; blocks for as long as the store is large. */
int reseal_count(struct call *, struct reseal_needs ret[], size_t n);

#endif
