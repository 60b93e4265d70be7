/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* When tokens were last used, where several daemons know of it: the latest use stays. */
#ifndef USES_H
#define USES_H

#include "daemon/call.h"
#include "daemon/store.h"
#include "daemon/used.h"

enum {
    USES_MAX = KAITEN_BATCH_WRITES_MAX, /* notes at a time */
    USES_BATCHES_MAX = USES_MAX / BATCH_CONDS_MAX
};

/* What makes the rows say what the notes say, of those that say less, if they are still as they
 * were read. At most USES_MAX notes. 0 or a kind. */
int uses_propose(struct call *, const struct used_note notes[], size_t n,
                 struct batch *ret[USES_BATCHES_MAX], size_t *ret_n);

#endif
