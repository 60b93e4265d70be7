/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* What nobody asks for, done by one thread in the background, through the committer like everything
 * else: when tokens were last used is written down, what has been dead for long enough is purged,
 * the high-water mark of time is kept, the journal made smaller, and what the store could not say
 * whether it has it is done again. It works in small pieces and waits in between, so that requests
 * do not. Of several daemons on one store one purges at a time, and the latest use and the latest
 * mark of all of them stay. */
#ifndef KEEPER_H
#define KEEPER_H

#include "daemon/model/purge.h"
#include "daemon/timeguard.h"

struct keeper;
struct loop;
struct service;

struct keeper_options {
    struct purge_options purge;
    int64_t used_ms; /* how often uses are written down */
};

/* Starts the thread. loops: whose turns are waited for before memory of the index is used again.
 * NULL: errno. */
struct keeper *keeper_new(struct service *, struct loop *const *loops,
                          const struct keeper_options *, const struct timeguard *);

/* Other options from now on. Any thread. */
void keeper_set_options(struct keeper *, const struct keeper_options *);

/* Writes down the last uses and the mark, ends and joins. Before the committer and the loops end.
 * NULL allowed. */
void keeper_free(struct keeper *);

#endif
