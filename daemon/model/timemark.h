/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The row of the high-water mark of time: "mclock". */
#ifndef TIMEMARK_H
#define TIMEMARK_H

#include "daemon/call.h"
#include "daemon/store.h"
#include "daemon/timeguard.h"

/* mark_ms is 0 when there is none. 0 or a kind. */
int timemark_read(struct call *, struct timeguard_mark *ret);

/* Adds it to the batch. On failure the batch has failed. */
void timemark_put(struct batch *, const struct timeguard_mark *);

/* The same where several daemons write it: only if the row has no later mark, and is still as it
 * was read. 0 or a kind. */
int timemark_propose(struct call *, const struct timeguard_mark *, struct batch *);

/* Writes it at once. Before the committer starts. 0 or a kind. */
int timemark_write(struct call *, const struct timeguard_mark *);

#endif
