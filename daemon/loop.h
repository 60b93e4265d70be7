/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* One libevent loop and its thread. A connection lives and dies on the loop it was given to. */
#ifndef LOOP_H
#define LOOP_H

#include "daemon/request.h"

struct event_base;
struct loop;

/* n loops, numbered from 0, not yet running. NULL: no memory or descriptors (errno). */
struct loop **loops_new(size_t n);

/* Starts the thread of each loop, which asks the scheduler for short slices. 0 or an errno. */
int loops_start(struct loop **);

/* Asks every loop to end once its event list is empty of work, joins, frees. Main thread. */
void loops_stop(struct loop **);

size_t loops_count(struct loop *const *);

/* Runs the task on the loop, soon, in the order of calls from one thread. Any thread. The wake-up
 * costs one write for as many tasks as are waiting. */
void loop_post(struct loop *, struct loop_task *);

/* Has overdue() called with the request once its deadline has passed, unless loop_unwatch() comes
 * first; the same overdue() for all requests of a loop. Nothing happens when it is watched already,
 * or not. On the loop. */
void loop_watch(struct request *, void (*overdue)(struct request *));
void loop_unwatch(struct request *);

/* Brings a finished request home: request_finish() runs on rq->home, for no more than LOOP_SLICE of
 * them in one turn. Any thread. */
void loop_answer(struct request *rq);

/* A list of finished requests (linked by ->next), grouped by home, one wake-up per loop. */
void loop_answer_all(struct request *list);

/* Runs done(ctx) after every loop has passed through its event dispatcher once: whatever a loop
 * was reading before is no longer read. Any thread; done runs on one of the loops. */
void loops_barrier(struct loop *const *, void (*done)(void *ctx), void *ctx);

/* Runs the task at the end of this turn of the loop, before it waits again. On the loop. */
void loop_defer(struct loop *, struct loop_task *);

/* Has run() called with the request at the end of this turn or of a later one, together with others
 * (linked by ->next) but never more than LOOP_SLICE of them: what is answered at once never waits
 * for many of those that take longer. One run() for all requests of a loop. On the loop. */
enum { LOOP_SLICE = 16 };
void loop_later(struct loop *, struct request *, void (*run)(struct request *list));

/* Monotonic ms (clock_mono_ms), read once per turn. On the loop. */
int64_t loop_now_ms(struct loop *);

/* One word for whoever keeps connections: what belongs to all of them. ended() runs after the
 * loop's thread has ended and before its event base goes. On the loop. */
void loop_set_local(struct loop *, void *local, void (*ended)(void *local));
void *loop_local(const struct loop *);

struct event_base *loop_base(struct loop *);
unsigned loop_number(const struct loop *);
bool loop_is_here(const struct loop *); /* does the calling thread run this loop */

/* Memory of the loop for LOOP_GROUP inline requests at a time, see pipeline_run(), and for what
 * they read. */
enum { LOOP_GROUP = 16 };
struct request *loop_request(struct loop *);
struct kt_arena *loop_arena(struct loop *);

/* Scratch for reads, LOOP_SCRATCH bytes; what is left of a message must be copied away before the
 * handler returns. Wiped by who puts a secret in. */
enum { LOOP_SCRATCH = 64 * 1024 };
char *loop_scratch(struct loop *);

#endif
