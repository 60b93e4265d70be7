/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Rows that somebody else may have written, on their way into the index and the revocation journal.
 *
 * Rows are decoded by whoever has read them, and applied by the committer. They may come twice, out
 * of order, or late: nothing that has ended is revived by them. */
#ifndef FEED_H
#define FEED_H

#include "daemon/call.h"
#include "daemon/store.h"

struct feed_change;
struct feed_news;

/* Spaces that the index is made from; the changes of these are followed. */
#define FEED_SPACES "ahu"

enum {
    FEED_ARENA_MAX = 512 * 1024 * 1024, /* bytes of the rows of one feed */
    FEED_NEWS_MAX = 16 * 1024           /* endings that wait for the journal */
};

/* One thread at a time. */
struct feed {
    struct kt_arena arena;
    struct feed_change *v;
    size_t n, room;
    uint64_t ends; /* svc->ends before the store was asked for the rows */
    struct feed_news *news; /* endings that the index did not know */
    size_t nnews, news_room;
};

void feed_init(struct feed *);
void feed_clear(struct feed *); /* keeps its memory, and news */
void feed_done(struct feed *);

/* The news go to another feed, which has none. */
void feed_move_news(struct feed *from, struct feed *to);

/* Takes a copy of a row, or of its absence, of one of the FEED_SPACES; call is for what is wrong
 * with it. 0 or a kind, of which the log knows nothing yet. */
int feed_add(struct call *, struct feed *, const struct store_row *);

/* The account of these ids is gone: what comes with it is known as revoked. 0 or a kind. */
int feed_add_ended(struct call *, struct feed *, const struct uuid *org,
                   const struct uuid *account);

/* Tells the index all of it, accounts first. Tokens of accounts that the index does not know are
 * left out, and so is what lives and the index does not know, when something has ended since the
 * store was asked (svc->ends): it may be just that. Whoever asks for one of them asks the store.
 * room: committer_take_index() says that all of it can be added; else nothing is. By whoever has
 * the index from there. */
void feed_apply(struct service *, struct feed *, bool room);

/* How much there is for the journal. */
size_t feed_news(const struct feed *);

/* Finds out of the secrets that have died whether their tokens have, too; what cannot be found out
 * is not so. Blocks. */
void feed_look(struct call *, struct feed *);

/* Tells the journal what has ended. What is refused too early does no harm, so this comes last. On
 * the committer's thread. */
void feed_write_down(struct service *, const struct feed *);

#endif
