/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The same request sent twice is done once: the answer to a mutation that came with an idempotency
 * key is kept for a while, sealed, in the same batch as the mutation itself. Whoever reads the
 * store cannot open it: the seal needs the digest key and the caller's own key. */
#ifndef IDEMPOTENCY_H
#define IDEMPOTENCY_H

#include "daemon/request.h"

enum {
    IDEMPOTENCY_KEY_MAX = 255,             /* bytes; visible ASCII */
    IDEMPOTENCY_KEPT_MS = 10 * 60 * 1000   /* how long an answer can be had again */
};

struct inflight;

/* The keys whose requests are at work now. NULL: no memory. Any thread. */
struct inflight *inflight_new(void);
void inflight_free(struct inflight *); /* NULL allowed */

/* Before run(): KT_OK and *ret_replayed when the answer is there already and has been put into
 * rq->out; KT_OK otherwise when the operation may run; or a refusal: another body came with the
 * same key (422), the first request is still at work (409), the key is malformed (422). Blocks. */
int idempotency_begin(struct request *rq, bool *ret_replayed) __attribute__((warn_unused_result));

/* After run(): adds the sealed answer to the batch, which is there. 0 or a kind. */
int idempotency_record(struct request *rq) __attribute__((warn_unused_result));

/* With the end of the request; does nothing for one that holds no key. */
void idempotency_end(struct request *rq);

#endif
