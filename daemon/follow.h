/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The follower: one thread that keeps the index up to date with a store that others write, too.
 *
 * It asks the store every few milliseconds what has changed (a notice of the plugin makes it ask at
 * once), tells the index, and then says how old the view is at most: everything
 * that was committed before the question was sent is in the index. Whoever judges a token looks at
 * that, see token_judge_digest(). A lost notice costs one interval; a store that does not answer
 * costs the view, and never a wrong answer.
 *
 * When the store's history is another one (a standby took over, a copy was put back), or the last
 * position is too old, everything is read again. Memory decides nothing until that is done; what
 * the index or the journal know as ended stays so, and what the store lacks of the journal's
 * endings is done again there first. Where the journal cannot explain the store, it is
 * quarantined. */
#ifndef FOLLOW_H
#define FOLLOW_H

#include <stdint.h>

struct call;
struct follower;
struct service;

struct follow_options {
    int64_t poll_ms;      /* between two questions */
    int64_t staleness_ms; /* a view older than this decides nothing */
};

/* Sets svc->fresh and svc->follower. NULL: no memory. */
struct follower *follower_new(struct service *, const struct follow_options *);

/* Takes the position that changes are followed from: before the index is filled. 0 or a kind. */
int follower_mark(struct call *, struct follower *);

/* Starts the thread, once the committer is there. 0 or an errno. */
int follower_start(struct follower *);

/* Ends and joins the thread; before the committer ends. */
void follower_stop(struct follower *);

/* NULL allowed. */
void follower_free(struct follower *);

struct follow_stats {
    int64_t age_ms;       /* of the view; -1: nobody knows */
    int64_t staleness_ms; /* the bound */
    uint64_t polls, failures, rows, rereads;
};

/* Any thread. */
void follower_stats(const struct follower *, struct follow_stats *ret);

#endif
