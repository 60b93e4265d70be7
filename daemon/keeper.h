/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* What nobody asks for, done by one thread in the background, through the committer like everything
 * else. It writes down when tokens were last used, purges what has been dead for long enough, keeps
 * the high-water mark of time, makes anew what retired keys have made, and repeats endings of which
 * the store could not say whether it has them. It works in small pieces and waits between them, so
 * that requests do not have to. Of several daemons on one store one purges at a time; of their uses
 * and marks the latest stays. */
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
