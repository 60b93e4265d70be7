/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* How long a thread computes before another one has its turn. */
#ifndef SLICE_H
#define SLICE_H

enum { SLICE_NS = 100 * 1000 };

/* Asks the scheduler for slices of SLICE_NS for the calling thread, which gets no more of a
 * processor by it, and no less. When it wakes it has one sooner: it does not wait until a thread
 * that computes has used up a slice, which takes milliseconds. When it is one that computes, as
 * the committer is, others wait less for it. Linux has this since 6.12; where it has not, or does
 * not allow it, nothing changes. Policy and nice stay what the operator has made them. */
void slice_ask_for_short(void);

#endif
