/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* A bounded pool of threads for what may block: first in, first out. */
#ifndef WORKER_H
#define WORKER_H

#include "daemon/request.h"

struct workers;

/* n threads, at most queue_max waiting requests; each taken request goes to run(). NULL: errno. */
struct workers *workers_new(size_t n, size_t queue_max, void (*run)(struct request *));

/* False: the queue is full, or the pool stops (the request stays the caller's). Any thread. */
bool workers_push(struct workers *, struct request *);

/* Past the bound, for requests that were admitted before (a conflict runs again). False: the pool
 * stops. Any thread. */
bool workers_push_always(struct workers *, struct request *);

/* Takes no more, runs what is queued, then ends and joins the threads. NULL allowed. */
void workers_stop(struct workers *);

/* The same, then frees: nobody may push any more. NULL allowed. */
void workers_free(struct workers *);

size_t workers_waiting(struct workers *); /* requests in the queue; any thread */

/* How long the one that has been at its request for longest has been so, those that may last not
 * counted; 0: all are idle. Any thread. */
int64_t workers_busy_ms(const struct workers *, int64_t mono_ms);

#endif
