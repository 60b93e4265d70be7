/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Work for the thread of an event loop, and waiting until it is done: for tests that look at what
 * belongs to a loop. */
#ifndef TURN_H
#define TURN_H

#include "daemon/loop.h"

#include <semaphore.h>

struct turn {
    struct loop_task task;
    sem_t done;
    void (*run)(void *ctx);
    void *ctx;
};

static inline void
turn_run(struct loop *loop, struct loop_task *task)
{
    (void)loop;
    struct turn *turn = (struct turn *)task;
    if (turn->run)
        turn->run(turn->ctx);
    sem_post(&turn->done);
}

/* Runs it on the loop and waits; NULL: only a turn is waited for. From any thread but the loop's. */
static inline void
turn_on(struct loop *loop, void (*run)(void *ctx), void *ctx)
{
    struct turn turn = { .task.run = turn_run, .run = run, .ctx = ctx };
    sem_init(&turn.done, 0, 0);
    loop_post(loop, &turn.task);
    while (sem_wait(&turn.done) != 0)
        ;
    sem_destroy(&turn.done);
}

/* Returns when the loop has read what was written to its descriptors before: each task is posted
 * after the turn of the one before it, and between two turns the loop looks at its descriptors. */
static inline void
turn_settle(struct loop *loop)
{
    for (int i = 0; i < 3; i++)
        turn_on(loop, NULL, NULL);
}

#endif
