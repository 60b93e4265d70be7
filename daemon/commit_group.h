/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* One turn of the committer: batches that are applied together, with one sync, and what becomes of
 * their requests. On the committer's thread. */
#ifndef COMMIT_GROUP_H
#define COMMIT_GROUP_H

#include "daemon/commit_journal.h"
#include "daemon/request.h"
#include "daemon/store.h"

#include <pthread.h>

enum { COMMIT_GROUP_MAX = 512 }; /* batches of one sync */

/* Finished requests, in order. */
struct finished {
    struct request *first, **last;
};

/* Work of the daemon's own is told at once instead. False: the request is abandoned, and nobody
 * will hear of what has come of it. */
bool finished_add(struct finished *, struct request *);

struct commit_group {
    struct service *svc;
    void (*again)(struct request *);
    void (*done_with)(struct request *list);
    struct request *requests[COMMIT_GROUP_MAX]; /* n of them, for whoever calls run to set */
    struct batch *batches[COMMIT_GROUP_MAX + 1]; /* and one of the committer's own */
    struct kaiten_outcome outcomes[COMMIT_GROUP_MAX + 1];
    size_t n, nendings;
    struct finished done;
    struct journal_entry unsent[COMMIT_GROUP_MAX]; /* secrets that were made and told to nobody */
    size_t nunsent;
    struct commit_journal journal;
    pthread_mutex_t index; /* of whoever writes there, while nothing else is waited for */
    size_t promised; /* tokens of the group that the store is at work on; guarded by index */
};

/* again() and done() as of committer_new(). NULL: no memory. */
struct commit_group *commit_group_new(struct service *, void (*again)(struct request *),
                                      void (*done)(struct request *list));
void commit_group_free(struct commit_group *); /* NULL allowed */

/* As of committer_take_index(). Any thread. */
bool commit_group_take_index(struct commit_group *, size_t n);
void commit_group_give_index(struct commit_group *);

/* Applies the batches of the n requests, at least one, and sends every one of them on. */
void commit_group_run(struct commit_group *);

#endif
