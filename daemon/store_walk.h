/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* All rows of a space in pieces, each of them a scan of its own, so that nobody waits for the
 * whole: what is written in between behind the last row that was seen is seen, too. */
#ifndef STORE_WALK_H
#define STORE_WALK_H

#include "daemon/call.h"
#include "daemon/store.h"

struct store_walk {
    char space;
    char next[KAITEN_KEY_MAX]; /* the first key of the next piece */
    size_t nnext;
};

/* space: one of STORE_SPACES. */
void store_walk_begin(struct store_walk *, char space);

/* Up to limit rows, from 1; *ret_last: there are none behind them. each() is that of store_scan();
 * if it ends the piece, what it returned is the result, and the next one begins behind its row. It
 * may call store_walk_skip(). 0 or a kind. Blocks. */
int store_walk_piece(struct call *, struct store_walk *, size_t limit,
                     int (*each)(void *ctx, const struct store_row *), void *ctx, bool *ret_last)
    __attribute__((warn_unused_result));

/* The next piece begins behind all keys that begin with the first n bytes of the last row's. */
void store_walk_skip(struct store_walk *, size_t n);

#endif
