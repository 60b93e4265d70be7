/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* What the daemon counts of its own work. Whoever does the work counts it where it is done, without
 * a lock; daemon/ops/metrics.c gives the numbers their names and prints them. All counters start at
 * 0 with the process and only rise, unless they say how many there are now. */
#ifndef METRICS_H
#define METRICS_H

#include "daemon/request.h"

#include <stdatomic.h>

enum {
    METRICS_LISTENERS_MAX = 16,
    METRICS_OPS = KT_OP_COUNT + 1, /* the last row: requests that named no operation */
    METRICS_BUCKETS = 11           /* of durations, besides the one without an upper end */
};

struct metrics;

/* Upper ends of the buckets, ms, rising. */
extern const int64_t metrics_bucket_ms[METRICS_BUCKETS];

/* Requests of one operation through one door. */
struct metrics_requests {
    uint64_t kinds[KT_KIND_COUNT];      /* answers, by enum kt_kind */
    uint64_t took[METRICS_BUCKETS + 1]; /* answers, by duration: each in one bucket only */
    uint64_t took_ms;                   /* all durations together */
};

/* Connections of one listener, which owns this and counts in it. Any thread. */
struct metrics_listener {
    const char *name; /* what clients connect to */
    enum door door;
    _Atomic size_t open;        /* now */
    _Atomic uint64_t accepted;  /* let in */
    _Atomic uint64_t full;      /* turned away: max_connections */
    _Atomic uint64_t crowded;   /* turned away: max_connections_per_peer */
    _Atomic uint64_t evicted;   /* let in, and closed to make room for others */
};

/* For so many loops. NULL: no memory. */
struct metrics *metrics_new(size_t loops);
void metrics_free(struct metrics *); /* NULL allowed */

int64_t metrics_started_ms(const struct metrics *); /* wall clock, when it was made */

/* Has a listener printed; borrowed until metrics_free(). Main thread, before the first
 * listener is started. */
void metrics_add_listener(struct metrics *, const struct metrics_listener *);
const struct metrics_listener *metrics_listener_at(const struct metrics *, size_t i); /* or NULL */

/* Counts a request whose answer is being sent, in call.svc->metrics unless that is NULL. On its
 * home loop, once for each, before request_done(). */
void metrics_answered(const struct request *);

/* Counts a request whose caller was answered before it came home; taken: its change may have been
 * made. Any thread. */
void metrics_abandoned(struct metrics *, bool taken); /* NULL allowed */
uint64_t metrics_abandonments(const struct metrics *, bool taken);

/* The sum over all loops; what is counted meanwhile may be in it or not. op: enum kt_op_id, or
 * KT_OP_COUNT. Any thread. */
void metrics_requests(const struct metrics *, enum door, size_t op, struct metrics_requests *ret);

/* The certificates were read again: taken over, or kept because something is wrong. Main thread. */
void metrics_reloaded(struct metrics *, bool taken);
void metrics_reloads(const struct metrics *, uint64_t *ret_taken, uint64_t *ret_kept);

#endif
