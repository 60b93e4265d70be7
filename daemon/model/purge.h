/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* What has been dead for long enough is taken out of the store: tokens that were revoked or have
 * expired, with their claims on slug and name; what ended an account or an epoch, once it has no
 * tokens left; answers that were kept for an idempotency key; audit records.
 *
 * One pass goes through the store in steps. Each reads a bounded piece and proposes batches that
 * are conditional on what was read, so that nothing that lives, or has changed, can be purged. A
 * pass that is broken off is begun anew some time. */
#ifndef PURGE_H
#define PURGE_H

#include "daemon/call.h"
#include "daemon/store.h"

enum { PURGE_BATCHES_MAX = 128 };

struct purge_options {
    int64_t retention_ms; /* of tokens that have ended; 0: for ever */
    int64_t audit_ms;     /* of audit records; 0: for ever */
};

struct purge;

/* Begins a pass; now_ms: the time that has surely passed. NULL: no memory. */
struct purge *purge_new(const struct purge_options *, int64_t now_ms);
void purge_free(struct purge *); /* NULL allowed */

/* The next step: *ret_n batches in the call's arena, which the caller has reset and keeps until
 * they are committed; *ret_done: the pass is over after these. 0 or a kind. */
int purge_step(struct call *, struct purge *, struct batch *ret_batches[PURGE_BATCHES_MAX],
               size_t *ret_n, bool *ret_done);

/* A batch of the last step was not committed: what depends on it waits for the next pass. */
void purge_missed(struct purge *);

#endif
