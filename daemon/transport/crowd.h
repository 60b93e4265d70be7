/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* How many connections each peer of a listener has, so that none has more than its share. */
#ifndef CROWD_H
#define CROWD_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CROWD_BUCKETS = 256 };

struct crowd_node;

struct crowd {
    pthread_mutex_t lock; /* nothing else is locked while it is held */
    struct crowd_node *buckets[CROWD_BUCKETS];
};

/* From zeros. */
void crowd_init(struct crowd *);

/* Whatever is counted then is forgotten. */
void crowd_done(struct crowd *);

/* Counts one more connection of the peer with this key. False, and nothing is counted: it has max
 * already, or there is no memory. Any thread. */
bool crowd_enter(struct crowd *, uint64_t key, size_t max);

/* One connection less, of a peer that has entered. Any thread. */
void crowd_leave(struct crowd *, uint64_t key);

#endif
