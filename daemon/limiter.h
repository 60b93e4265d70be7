/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Token buckets in a table of fixed size, for all threads at once. A bucket is one number: the time
 * at which it will be full again (the generic cell rate algorithm, ITU-T I.371 annex A). It is
 * taken from with one compare-and-swap.
 *
 * A bucket that is full is the same as none, so it alone gives up its place, and nobody gets rid of
 * what he owes by having others come. When no place is free, all who come new share one bucket per
 * set of places: they may be refused sooner than they should, never later. */
#ifndef LIMITER_H
#define LIMITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    LIMITER_WAYS = 8,       /* places that a key may have */
    LIMITER_PLACES = 65536  /* buckets of a table of the daemon's, of 16 bytes each */
};

struct limiter;

/* How fast, in the table's own terms; all zeros: no limit. */
struct limiter_rate {
    int64_t interval_ns; /* from one to the next, when it goes on and on */
    int64_t window_ns;   /* how far ahead of that a burst may be */
};

/* requests in each period_ms, burst of them at once; each at least 1. Rounded so that never more
 * than that are admitted; what is longer than some thirty years is that long. */
struct limiter_rate limiter_rate(uint32_t requests, uint32_t period_ms, uint32_t burst);

/* places: a power of two, LIMITER_WAYS at least. NULL: no memory. */
struct limiter *limiter_new(size_t places);
void limiter_free(struct limiter *); /* NULL allowed; no other thread may be in it */

/* The key of something, by a secret of the table, so that nobody can aim at another's place. Two
 * things of one length have the same key by a chance of one in 2^64. Any thread. */
uint64_t limiter_key(const struct limiter *, const void *what, size_t n);

/* Takes one, or says in how many nanoseconds (> 0) there will be one to take; then nothing was
 * taken. now_ns: CLOCK_BOOTTIME; other threads may have been told of a later one. Any thread; may
 * wait for a moment when the key is new. */
int64_t limiter_take(struct limiter *, uint64_t key, struct limiter_rate, int64_t now_ns);

/* The same, but takes nothing. */
int64_t limiter_wait(const struct limiter *, uint64_t key, struct limiter_rate, int64_t now_ns);

/* Puts back what limiter_take() has just taken; nothing for who has no place of his own. */
void limiter_give_back(struct limiter *, uint64_t key, struct limiter_rate);

/* How many found no place. Any thread. */
uint64_t limiter_crowded(const struct limiter *);

int64_t limiter_now_ns(void); /* CLOCK_BOOTTIME */

#endif
