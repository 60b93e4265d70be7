/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The inside of the keeper, for its own files: keeper.c is the thread and what it does in turn,
 * keeper_uses.c and keeper_keys.c are two of those things. Everything here is called by that thread
 * alone. */
#ifndef KEEPER_PRIVATE_H
#define KEEPER_PRIVATE_H

#include "daemon/keeper.h"

#include "daemon/commit.h"
#include "daemon/model/reseal.h"
#include "daemon/model/token_rekey.h"
#include "daemon/request.h"
#include "daemon/store.h"

#include <pthread.h>

enum {
    KEEPER_TOGETHER = PURGE_BATCHES_MAX, /* batches that are committed together */
    KEEPER_PAUSE_MS = 20,                /* between two pieces of work that wrote something */
    KEEPER_PASS_MAX_MS = 10 * 60 * 1000  /* between two passes over everything */
};

struct keeper {
    struct service *svc;
    struct loop *const *loops;
    struct keeper_options options;
    struct timeguard guard;
    unsigned char boot[TIMEGUARD_BOOT_BYTES];
    int64_t used_at, pass_at; /* monotonic: when the next ones are due */
    struct kt_arena arena;
    struct call call;
    struct request jobs[KEEPER_TOGETHER];
    struct errand errand;
    const struct digest_keys *sealed;  /* keys under whose current one everything is sealed */
    const struct digest_keys *sealing; /* keys that the pass is for */
    struct reseal reseal;
    int64_t seal_at; /* monotonic: not before */
    /* Digests made anew, whose uses may still be noted under the old one. */
    struct rekey moves[KEEPER_TOGETHER];
    size_t nmoves;
    bool removed; /* from the index, since loops were last waited for */
    pthread_t thread;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t wake;
    size_t flying;                /* jobs at the committer */
    struct keeper_options wanted; /* become options when the thread begins its next turn */
    bool quiet;                   /* every loop has gone round */
    bool stop;
};

/* --- for all of them ---------------------------------------------------------------------- */

/* Waits. True: the thread is to end. */
bool keeper_rest(struct keeper *, int64_t ms);

/* Empties the arena and begins a call of its own. */
void keeper_begin(struct keeper *);

/* Commits n batches, at most KEEPER_TOGETHER; returns how many of them failed. */
size_t keeper_commit(struct keeper *, struct batch *const batches[], size_t n);

/* Whether there are other daemons of the store. */
bool keeper_is_shared(const struct keeper *);

/* Waits until nobody can be looking at what the index gave up: every loop has gone round, every
 * worker has let go. */
void keeper_wait_for_readers(struct keeper *);

/* --- keeper_uses.c ------------------------------------------------------------------------ */

/* Writes down every use that was noted until now. */
void keeper_flush_uses(struct keeper *);

/* --- keeper_keys.c ------------------------------------------------------------------------ */

/* Gives tokens that were recognised by a retired key their new digests. */
void keeper_rekey(struct keeper *);

/* Seals records anew with the current key, for a while. */
void keeper_reseal(struct keeper *);

/* Whether there may be records to seal anew. */
bool keeper_is_sealing(const struct keeper *);

#endif
