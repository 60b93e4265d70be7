/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* THE COMMITTER: one thread that takes all waiting batches, applies them with one sync, tells the
 * index, and only then sends the requests home to be answered. */
#ifndef COMMIT_H
#define COMMIT_H

#include "daemon/request.h"

struct committer;
struct service;

/* Starts the thread. again() gets requests whose conditions failed because the world had changed;
 * done() those that are finished, well or not, linked by ->next. NULL: errno. */
struct committer *committer_new(struct service *, void (*again)(struct request *),
                                void (*done)(struct request *list));

/* Hands over requests with batches, linked by ->next: one wake-up for all of them. Never blocks on
 * the store. Once the committer was stopped they are refused by way of done(). Any thread. */
void committer_push(struct committer *, struct request *list);

/* How the thread is getting on. Any thread. */
struct committer_load {
    size_t waiting;   /* requests with batches that it has not begun with */
    int64_t busy_ms;  /* how long it has been at what it does now; 0: it has nothing to do, or
                         rests */
};
void committer_load(const struct committer *, int64_t mono_ms, struct committer_load *ret);

/* Whether it has been at one thing for longer than a request may take: waiting for it is in vain
 * then. Any thread. */
bool committer_is_stuck(const struct committer *, int64_t mono_ms);

/* Whether as many requests are waiting as may (queue_max of the service): ask before a request of a
 * caller is pushed. Any thread. */
bool committer_is_full(const struct committer *);

/* Runs something else on the committer's thread, which alone may write the journal: after the group
 * that is at work, before the batches that wait. The memory is the caller's again when run() is
 * called, which may free it. Once the committer was stopped nothing is run any more. Any thread. */
struct errand {
    struct errand *next;
    void (*run)(struct errand *);
};
void committer_run(struct committer *, struct errand *);

/* The index, for a moment, to whoever has something to write there: what the committer does with it
 * has to end first, and what the store does does not, so that an ending is not kept waiting by a
 * group of mints. n: tokens that the caller may add, beside those that the group at work was
 * promised room for. False: it may add none. In any case the index is the caller's until
 * committer_give_index(). Any thread but an event loop. */
bool committer_take_index(struct committer *, size_t n);
void committer_give_index(struct committer *);

/* Has the thread rest between two groups until committer_go_on(): nothing is applied meanwhile, and
 * what is the thread's own, the journal for one, is the caller's. One caller at a time has that,
 * the others wait. False: not by the deadline (clock_mono_ms), and then it does not rest.
 * Workers. */
bool committer_pause(struct committer *, int64_t deadline_ms);
void committer_go_on(struct committer *);

/* Applies what is waiting, then ends and joins the thread. NULL allowed. */
void committer_stop(struct committer *);

/* The same, then frees it: nobody may push any more. NULL allowed. */
void committer_free(struct committer *);

#endif
