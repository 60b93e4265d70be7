/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* A bounded pool of threads for what may block: first in, first out. */
#ifndef WORKER_H
#define WORKER_H

#include "daemon/request.h"

struct workers;

/* n threads, at most queue_max waiting requests; each taken request goes to run(). NULL: errno. */
struct workers *workers_new(size_t n, size_t queue_max, void (*run)(struct request *));

/* False: the queue is full (the request stays the caller's). Any thread. */
bool workers_push(struct workers *, struct request *);

/* Past the bound, for requests that were admitted before (a conflict runs again). Any thread. */
void workers_push_always(struct workers *, struct request *);

/* Runs what is queued, then ends and joins the threads. */
void workers_free(struct workers *);

size_t workers_waiting(struct workers *);

#endif
