/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* What the verification index learns from a batch. For the holder of the index: see
 * committer_take_index(). */
#ifndef COMMIT_INDEX_H
#define COMMIT_INDEX_H

#include <stdbool.h>

struct batch;
struct index;
struct service;

/* Everything that can fail, before the store is asked: what became durable can always be told to
 * the index then. False: no memory. */
bool commit_index_prepare(struct index *, struct batch *);

/* The batch is durable. */
void commit_index_publish(struct service *, const struct batch *);

/* Nobody can tell whether the batch is durable: what it was to end ends here in any case, and
 * nothing begins. */
void commit_index_publish_ends(struct service *, const struct batch *);

#endif
